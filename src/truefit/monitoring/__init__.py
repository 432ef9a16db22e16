"""Watch a model in production: inputs, predictions, and labels when they come."""

from truefit.monitoring.log import join, read_labels, read_log
from truefit.monitoring.rules import (
    GROUPS,
    Advice,
    advice,
    headline,
    light,
    lights,
    measure_inputs,
    watch,
)
from truefit.monitoring.shadow import challenger_gain
from truefit.monitoring.traffic import Baseline, Traffic, answered, baseline, errors, replay

__all__ = [
    "GROUPS",
    "Advice",
    "Baseline",
    "Traffic",
    "advice",
    "answered",
    "baseline",
    "challenger_gain",
    "errors",
    "headline",
    "join",
    "light",
    "lights",
    "measure_inputs",
    "read_labels",
    "read_log",
    "replay",
    "watch",
]
