"""The monitor's rules for Prometheus, and its findings as metrics that these rules judge.

The statistics need the rows, which Prometheus has not. So the monitor measures, and writes effect,
adjusted p-value and duration of each finding; thresholds and patience, which a person may want to
change and to be woken by, are rules in Prometheus's own language, made from ``params.yaml``.
"""

from collections.abc import Mapping
from io import StringIO

import pandas as pd
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from truefit.digits import number
from truefit.monitoring.rules import GROUP_OF, standing
from truefit.params import Monitoring
from truefit.verdicts import Light

# What each rule is about, after the words "{{ subject }} of {{ case }}".
ABOUT = {
    "missing": "is empty more or less often than usual",
    "unseen": "holds categories that training did not see",
    "out_of_range": "lies outside its range in training",
    "drift": "is distributed otherwise than in training",
    "unlike": "is unlike any in training more often than usual",
    "predictions": "is distributed otherwise than on the test rows",
    "target": "is distributed otherwise than on the test rows",
    "bias": "lies to one side of the predictions",
    "error": "is missed by more than usual",
    "coverage": "lies outside its interval more often than usual",
    "ranking": "is ordered worse by the predictions than usual",
}
FIGURES = {
    "effect": "How far a window is from the usual, in the rule's own measure.",
    "q": "Adjusted p-value: how surely it is no chance.",
    "in_a_row": "Windows up to the newest in which it was found.",
}
HEAD = """\
# The rules of the monitor, made from params.yaml: `truefit alerts` writes this file anew.
# They judge the metrics that `truefit monitor --metrics FILE` writes for the textfile collector of
# Prometheus's node exporter.
"""


def metrics_text(findings: pd.DataFrame, case: str) -> str:
    """What is known since the newest window that was judged, in Prometheus's text format.

    Parameters
    ----------
    findings : DataFrame
        From `watch`.
    case : str
    """
    registry = CollectorRegistry()
    newest = standing(findings, findings["window"].iloc[-1]) if len(findings) else findings
    for figure, about in FIGURES.items():
        name = f"truefit_monitor_{figure}"
        gauge = Gauge(name, about, ["case", "rule", "subject"], registry=registry)
        for row in newest.to_dict("records"):
            # Six digits: what every processor agrees on.
            value = float(f"{row[figure]:.6g}")
            gauge.labels(case, row["rule"], row["subject"]).set(value)
    return generate_latest(registry).decode()


def alert_rules(settings: Monitoring, own: Mapping[str, Monitoring] | None = None) -> str:
    """The rules of ``params.yaml`` as a file of Prometheus's rules, in YAML.

    Parameters
    ----------
    settings : Monitoring
        The section.
    own : mapping from case to Monitoring, optional
        The settings of each case; one that differs from the section has rules of its own.
    """
    from ruamel.yaml import YAML

    odd = {case: other for case, other in (own or {}).items() if other != settings}
    others = ',case!~"' + "|".join(odd) + '"' if odd else ""
    rules = [rule for name in GROUP_OF for rule in _alerts(name, settings, others)]
    for case, other in odd.items():
        rules += [r for name in GROUP_OF for r in _alerts(name, other, f',case="{case}"')]
    document = {"groups": [{"name": "monitor", "rules": [*rules, _stale()]}]}
    yaml, text = YAML(), StringIO()
    yaml.width = 1000  # an expression stays on one line
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.dump(document, text)
    return HEAD + text.getvalue()


def _alerts(name: str, settings: Monitoring, cases: str) -> list[dict]:
    """The rules of one name, for the cases that a matcher of labels takes."""
    rule, one = getattr(settings.rules, name), f'{{rule="{name}"{cases}}}'
    amber, red, level = (f"{v:g}" for v in (rule.amber, rule.red, settings.false_alarms))
    found = f"truefit_monitor_found{one}"
    is_red = f"{found} >= {red} or {found} and truefit_monitor_in_a_row{one} >= {rule.patience}"
    alert = "TruefitMonitor" + name.title().replace("_", "")
    about = f"{{{{ $labels.subject }}}} of {{{{ $labels.case }}}} {ABOUT[name]}"
    description = (
        f"The effect is {{{{ $value | humanize }}}}; amber begins at {amber}, red at {red} or in "
        f"the {_ordinal(rule.patience)} window in a row. The page that `truefit monitor` wrote "
        "says what probably happened, and which rows to look at."
    )
    effect, q = (f"truefit_monitor_{figure}{one}" for figure in ("effect", "q"))
    lights = {
        Light.RED: ("critical", is_red),
        Light.AMBER: ("warning", f"{found} unless ({is_red})"),
    }
    alerts = [
        {
            "alert": alert,
            "expr": expression,
            "labels": {"severity": severity, "light": light.value},
            "annotations": {"summary": about, "description": description},
        }
        for light, (severity, expression) in lights.items()
    ]
    measured = f"abs({effect}) >= {amber} and {q} <= {level}"
    record = {"record": "truefit_monitor_found", "expr": measured, "labels": {"rule": name}}
    return [record, *alerts]


def _stale() -> dict:
    return {
        "alert": "TruefitMonitorStopped",
        "expr": 'time() - node_textfile_mtime_seconds{file=~".*truefit.*"} > 2 * 24 * 3600',
        "labels": {"severity": "warning"},
        "annotations": {
            "summary": "The monitor has not run for two days",
            "description": "{{ $labels.file }} is too old: look at the job that runs it.",
        },
    }


def _ordinal(n: int) -> str:
    return {1: "first", 2: "second", 3: "third"}.get(n, f"{number(n, 'd')}th")
