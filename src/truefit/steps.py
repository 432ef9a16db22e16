"""The steps of the life cycle: all that is to be said of one stands in one place.

The runner, the command, the front page, the bar of every page and the stages in `dvc.yaml` follow
from `STEPS`.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass

from truefit.params import SECTIONS, Section
from truefit.project import InputError


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a notebook, the section of its parameters, and a page of each run.

    Attributes
    ----------
    number : str
        Of its notebook, which it keeps for ever.
    name : str
        Of its section in ``params.yaml``, of its module and of its stage.
    about : str
        What its page shows, for the front page.
    without : str
        For a step after the gate: what a case that fails there has instead.
    """

    number: str
    name: str
    about: str
    without: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def notebook(self) -> str:
        """The file name of its notebook, without suffix: ``03_training``."""
        return f"{self.number}_{self.name}"

    @property
    def label(self) -> str:
        """Its name for people: ``03 training``."""
        return self.notebook.replace("_", " ")

    @property
    def parameters(self) -> type[Section]:
        """The model of its section in ``params.yaml``."""
        return SECTIONS[self.name]

    @property
    def of_a_case(self) -> bool:
        """False if it is about no table of a user's, and runs once."""
        return self.parameters.of_a_case

    def page(self, case: str | None = None) -> str:
        """The address of a run's page from ``reports/``: ``ames/03_training.html``."""
        return posixpath.join(case or "", f"{self.notebook}.html")

    def run_name(self, case: str | None = None) -> str:
        """A run in one word: ``ames-03_training``."""
        return "-".join(filter(None, (case, self.notebook)))

    def claims(self, case: str | None = None) -> str:
        """The file in ``reports/claims`` with what a run found out about its notebook's claims."""
        return f"{self.run_name(case)}.json"


STEPS = (
    Step(number="01", name="data_prep", about="the table, what is wrong with it, and the split"),
    Step(
        number="02",
        name="regression_maths",
        about="what a linear model computes, each formula with numbers beside it",
    ),
    Step(number="03", name="training", about="the candidates, compared on the same folds"),
    Step(number="04", name="evaluation", about="the winner on the test rows, and the gate"),
    Step(
        number="05",
        name="export",
        about="the bundle, and the proof that it answers the same",
        without="not exported",
    ),
    Step(
        number="06",
        name="serving",
        about="what the service promises, refuses, costs and counts",
        without="nothing to serve",
    ),
    Step(
        number="07",
        name="monitoring",
        about="the live rows, window by window: what changed, and whether it matters",
        without="nothing to watch",
    ),
    Step(
        number="08",
        name="maintenance",
        about="what waiting costs, the challenger, and the way back",
        without="nothing to keep",
    ),
)


def step_of(name: str) -> Step:
    """The step that is called ``training`` or, by its notebook, ``03_training``.

    Raises
    ------
    InputError
        If there is none.
    """
    for step in STEPS:
        if name in (step.name, step.notebook):
            return step
    known = ", ".join(step.notebook for step in STEPS)
    raise InputError(f"there is no step {name!r}; the steps are {known}")


def all_runs(cases: Iterable[str]) -> list[tuple[Step, str | None]]:
    """Every step with every case, in order; a step without a case once, with None."""
    named = list(cases)
    return [(step, case) for step in STEPS for case in (named if step.of_a_case else [None])]
