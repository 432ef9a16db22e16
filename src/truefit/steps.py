"""The steps of the life cycle: all that is to be said of one stands in one place."""

import posixpath
from collections.abc import Iterable
from typing import NamedTuple


class Step(NamedTuple):
    """What the runner and the front page must know of a step."""

    number: str  # of its notebook
    about: str  # what its page shows, for the front page
    without: str = ""  # for a step after the gate: what a case that fails there has instead
    of_a_case: bool = True  # False if it is about no table of a user's, and runs once


STEPS = {
    "data_prep": Step("01", "the table, what is wrong with it, and the split"),
    "regression_maths": Step(
        "02", "what a linear model computes, each formula with numbers beside it", of_a_case=False
    ),
    "training": Step("03", "the candidates, compared on the same folds"),
    "evaluation": Step("04", "the winner on the test rows, and the gate"),
    "export": Step("05", "the bundle, and the proof that it answers the same", "not exported"),
    "serving": Step(
        "06", "what the service promises, refuses, costs and counts", "nothing to serve"
    ),
    "monitoring": Step(
        "07",
        "the live rows, window by window: what changed, and whether it matters",
        "nothing to watch",
    ),
    "maintenance": Step(
        "08", "what waiting costs, the challenger, and the way back", "nothing to keep"
    ),
}
WITHOUT_CASE = {name for name, step in STEPS.items() if not step.of_a_case}


def notebook_of(step: str) -> str:
    """The file name of a step's notebook, without suffix: ``03_training`` for ``training``."""
    return f"{STEPS[step].number}_{step}"


def label_of(step: str) -> str:
    """The name of a step for people: ``03 training``."""
    return notebook_of(step).replace("_", " ")


def page_of(step: str, case: str | None = None) -> str:
    """The address of a run's page from ``reports/``: ``ames/03_training.html``."""
    return posixpath.join(case or "", f"{notebook_of(step)}.html")


def claims_of_run(step: str, case: str | None = None) -> str:
    """The file in ``reports/claims`` with what a run found out about the claims in its notebook."""
    return f"{run_of(step, case)}.json"


def run_of(step: str, case: str | None) -> str:
    """A run in one word: ``ames-03_training``."""
    return "-".join(filter(None, (case, notebook_of(step))))


def all_runs(cases: Iterable[str]) -> list[tuple[str, str | None]]:
    """Every step with every case, in order; a step without a case once, with None."""
    named = list(cases)
    return [(s, c) for s in STEPS for c in ([None] if s in WITHOUT_CASE else named)]
