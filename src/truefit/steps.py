"""The steps from a table to a model in production, in their order, and the names of what they make.

All that Truefit knows of a step, beside its notebook, its code and its parameters, stands here.
"""

import posixpath
from collections.abc import Iterable
from typing import NamedTuple


class Step(NamedTuple):
    """One step; its name is its key in `STEPS`."""

    number: str  # of its notebook
    title: str  # what its page shows, for the front page
    has_case: bool = True  # without, it is about no table of a user's and runs once, not per case
    unless_passed: str = ""  # what becomes of it where the gate failed; empty before the gate


STEPS = {
    "data_prep": Step("01", "the table, what is wrong with it, and the split"),
    "regression_maths": Step(
        "02", "what a linear model computes, each formula with numbers beside it", has_case=False
    ),
    "training": Step("03", "the candidates, compared on the same folds"),
    "evaluation": Step("04", "the winner on the test rows, and the gate"),
    "export": Step(
        "05", "the bundle, and the proof that it answers the same", unless_passed="not exported"
    ),
    "serving": Step(
        "06", "what the service promises, refuses, costs and counts",
        unless_passed="nothing to serve",
    ),
    "monitoring": Step(
        "07", "the live rows, window by window: what changed, and whether it matters",
        unless_passed="nothing to watch",
    ),
    "maintenance": Step(
        "08", "what waiting costs, the challenger, and the way back",
        unless_passed="nothing to keep",
    ),
}  # fmt: skip
WITHOUT_CASE = {name for name, step in STEPS.items() if not step.has_case}


def notebook_of(step: str) -> str:
    """The file name of a step's notebook, without suffix: ``03_training`` for ``training``."""
    return f"{STEPS[step].number}_{step}"


def label_of(step: str) -> str:
    """The name of a step for people: ``03 training``."""
    return notebook_of(step).replace("_", " ")


def page_of(step: str, case: str | None = None) -> str:
    """The address of a run's page from ``reports/``: ``ames/03_training.html``."""
    return posixpath.join(case or "", f"{notebook_of(step)}.html")


def name_of_run(step: str, case: str | None = None) -> str:
    """A run in one word: ``ames-03_training``."""
    return "-".join(filter(None, (case, notebook_of(step))))


def claims_of_run(step: str, case: str | None = None) -> str:
    """The file in ``reports/claims`` with what a run found out about the claims in its notebook."""
    return f"{name_of_run(step, case)}.json"


def all_runs(cases: Iterable[str]) -> list[tuple[str, str | None]]:
    """Every step with every case, in order; a step without a case once, with None."""
    named = list(cases)
    return [(s, c) for s in STEPS for c in ([None] if s in WITHOUT_CASE else named)]
