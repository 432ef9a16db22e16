"""Decide by rules that were written down before: may the winner go on?"""

import pandas as pd

from truefit.case import Case
from truefit.digits import significant
from truefit.evaluation.behaviour import behaviour_checks
from truefit.metrics import LABELS
from truefit.project import GateError
from truefit.verdicts import Conclusion


def judge(
    metrics: pd.DataFrame,
    against_dummy: pd.DataFrame,
    case: Case,
    *,
    main_metric: str,
    behaviour: pd.DataFrame,
) -> dict:
    """The gate: may the winner go on?

    It must be better than a model that has learned nothing, beyond chance; of each limit in the
    case's block, the worse end of the metric's interval must keep it; and it must behave as the
    block expects (see `check_behaviour`).

    Returns
    -------
    dict
        ``passed`` (bool) and ``checks``: a list of ``{"check", "passed", "reason"}``.
    """
    gap = against_dummy.loc[main_metric]
    value, low, high = (significant(gap[end]) for end in ("value", "low", "high"))
    checks = [
        {
            "check": "better than the dummy",
            "passed": bool(gap["better"] == Conclusion.YES),
            "reason": f"{LABELS[main_metric]} differs from the dummy's by {value} "
            f"({low} to {high})",
        }
    ]
    for limit in case.gate:
        if limit.metric not in metrics.index:
            raise GateError(
                f"params.yaml: the gate of {case.table} asks for {limit.metric!r}, which is not "
                f"measured; known: {', '.join(metrics.index)}"
            )
        row = metrics.loc[limit.metric]
        if limit.at_most is not None:
            passed, asked, end = row["high"] <= limit.at_most, f"at most {limit.at_most}", "high"
        else:
            passed, asked, end = row["low"] >= limit.at_least, f"at least {limit.at_least}", "low"
        checks.append(
            {
                "check": f"{LABELS[limit.metric]} {asked}",
                "passed": bool(passed),
                "reason": f"the worse end of its interval is {significant(row[end])}",
            }
        )
    checks += behaviour_checks(behaviour)
    return {"passed": all(c["passed"] for c in checks), "checks": checks}


def require_pass(verdict: dict, name: str) -> None:
    """Stop with one sentence if the gate did not pass.

    Raises
    ------
    GateError
    """
    failed = [f"{c['check']}: {c['reason']}" for c in verdict["checks"] if not c["passed"]]
    if failed:
        raise GateError(
            f"the model of {name} did not pass the gate, so it is not exported "
            f"({'; '.join(failed)}); see reports/{name}/04_evaluation.html, then improve the model "
            "or change the gate in params.yaml"
        )
