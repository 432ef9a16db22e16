"""Certified results to hold a solver against: NIST's Statistical Reference Datasets."""

import json
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from truefit.regression_maths.exact import polynomial


class Certified(NamedTuple):
    """A data set as printed, and its results to 15 digits as NIST certifies them."""

    name: str
    source: str
    X: np.ndarray  # the whole design, of fractions: exactly the printed decimals and their powers
    y: np.ndarray  # of fractions
    has_intercept: bool  # the first column of X is then 1
    coef: list[str]
    standard_errors: list[str]
    residual_sd: str
    r_squared: str


def read_certified(path: Path) -> list[Certified]:
    """The sets in a JSON file; see data/raw/README.md for its origin."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [_certified(name, given) for name, given in content.items()]


def _certified(name: str, given: dict) -> Certified:
    first = 0 if given["intercept"] else 1
    if given["degree"] > 1 or len(given["x"][0]) == 1:
        X = polynomial([row[0] for row in given["x"]], given["degree"])[:, first:]
    else:
        X = np.array([[Fraction(1)] * (1 - first) + [Fraction(v) for v in r] for r in given["x"]])
    return Certified(
        name=name,
        source=given["source"],
        X=X,
        y=np.array([Fraction(value) for value in given["y"]]),
        has_intercept=given["intercept"],
        **{k: given[k] for k in ("coef", "standard_errors", "residual_sd", "r_squared")},
    )
