"""The steps of the life cycle: all that is to be said of one stands in one place.

The runner, the command, the front page, the bar of every page and the stages in `dvc.yaml` follow
from `STEPS`. In the path of a file, ``{case}`` stands for the name of the case, and ``{table}`` for
the file of its table.
"""

import posixpath
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from truefit.params import SECTIONS, Section
from truefit.project import InputError

VERDICT = "reports/gate/{case}.json"


class Plot(NamedTuple):
    """A table that DVC draws, one point a row."""

    file: str
    x: str
    y: str
    title: str


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step: a notebook, the section of its parameters, a stage, and a page of each run.

    Attributes
    ----------
    number : str
        Of its notebook, which it keeps for ever.
    name : str
        Of its section in ``params.yaml``, of its module and of its stage.
    does : str
        A sentence for its stage.
    about : str
        What its page shows, for the front page.
    without : str
        For a step after the gate: what a case that fails there has instead.
    reads : tuple of str
        The files that it reads beside its notebook and the verdict.
    makes : tuple of str
        The files that it makes beside its page, the executed notebook, the list of its claims,
        its metrics and its plots.
    metrics : tuple of str
        Files of figures that DVC compares.
    plots : tuple of Plot
        Tables that DVC draws.
    other_parameters : tuple of str
        Sections, or keys of one, that it reads beside its own.
    """

    number: str
    name: str
    does: str
    about: str
    without: str = ""
    reads: tuple[str, ...]
    makes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    plots: tuple[Plot, ...] = ()
    other_parameters: tuple[str, ...] = ()

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

    @property
    def gate(self) -> str | None:
        """The verdict that must be a pass before it runs; None for a step before the gate."""
        return VERDICT if self.without else None

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that it reads beside its notebook: with the verdict, if it comes after the gate."""
        return (*self.reads, self.gate) if self.gate else self.reads

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
    Step(
        number="01",
        name="data_prep",
        does="Read, check, explore and clean the table; split it into train, test and production "
        "rows.",
        about="the table, what is wrong with it, and the split",
        reads=("{table}",),
        makes=(
            "data/{case}/train.parquet",
            "data/{case}/test.parquet",
            "data/{case}/production.parquet",
            "data/{case}/schema.json",
        ),
    ),
    Step(
        number="02",
        name="regression_maths",
        does="Explain the mathematics of regression with numbers; put common claims to the test.",
        about="what a linear model computes, each formula with numbers beside it",
        reads=("benchmarks/solver.json", "data/raw/ames.csv", "data/raw/nist_strd.json"),
    ),
    Step(
        number="03",
        name="training",
        does="Compare the candidates on the same folds of the training rows; fit each on all of "
        "them.",
        about="the candidates, compared on the same folds",
        reads=("benchmarks/models.json", "data/{case}/schema.json", "data/{case}/train.parquet"),
        makes=(
            "models/{case}/model.joblib",
            "models/{case}/candidates.joblib",
            "models/{case}/out_of_fold.parquet",
            "reports/{case}/leaderboard.csv",
        ),
        plots=(
            Plot(
                "reports/{case}/folds.csv",
                x="score",
                y="model",
                title="{case}: each candidate on each outer fold",
            ),
            Plot(
                "reports/{case}/learning_curves.csv",
                x="rows",
                y="held",
                title="{case}: learning curves, on rows held out",
            ),
            Plot(
                "reports/{case}/trials.csv",
                x="trial",
                y="score",
                title="{case}: the trials of the searches",
            ),
        ),
        other_parameters=("search_spaces",),
    ),
    Step(
        number="04",
        name="evaluation",
        does="Measure the winner on the test rows, with intervals, and decide by the gate.",
        about="the winner on the test rows, and the gate",
        reads=(
            "data/{case}/schema.json",
            "data/{case}/test.parquet",
            "data/{case}/train.parquet",
            "models/{case}/candidates.joblib",
            "models/{case}/out_of_fold.parquet",
            "reports/{case}/folds.csv",
            "reports/{case}/leaderboard.csv",
        ),
        makes=(VERDICT,),
        metrics=("reports/{case}/metrics.json",),
    ),
    Step(
        number="05",
        name="export",
        does="Turn the winner, if it passed the gate, into a small bundle; prove that it answers "
        "the same.",
        about="the bundle, and the proof that it answers the same",
        without="not exported",
        reads=(
            "benchmarks/compression.json",
            "data/{case}/production.parquet",
            "data/{case}/schema.json",
            "data/{case}/test.parquet",
            "data/{case}/train.parquet",
            "models/{case}/candidates.joblib",
            "models/{case}/model.joblib",
            "reports/{case}/metrics.json",
        ),
        makes=(
            "models/{case}/bundle/model.onnx",
            "models/{case}/bundle/manifest.json",
            "models/{case}/bundle/MODEL_CARD.md",
        ),
    ),
    Step(
        number="06",
        name="serving",
        does="Ask the service for the case, in this process, and show what it promises and costs.",
        about="what the service promises, refuses, costs and counts",
        without="nothing to serve",
        reads=(
            "benchmarks/serving.json",
            "data/{case}/production.parquet",
            "data/{case}/schema.json",
            "models/{case}/bundle/MODEL_CARD.md",
            "models/{case}/bundle/manifest.json",
            "models/{case}/bundle/model.onnx",
            "models/{case}/model.joblib",
        ),
        other_parameters=("export.largest_change", "export.tolerance"),
    ),
    Step(
        number="07",
        name="monitoring",
        does="Replay the live rows window by window through the bundle; say what changed, and act "
        "on it.",
        about="the live rows, window by window: what changed, and whether it matters",
        without="nothing to watch",
        reads=(
            "data/{case}/production.parquet",
            "data/{case}/schema.json",
            "data/{case}/test.parquet",
            "data/{case}/train.parquet",
            "models/{case}/bundle/manifest.json",
            "models/{case}/bundle/model.onnx",
            "models/{case}/out_of_fold.parquet",
        ),
        makes=("reports/monitoring/{case}.json", "reports/monitoring/{case}.prom"),
    ),
    Step(
        number="08",
        name="maintenance",
        does="Measure what waiting to retrain costs; put a challenger beside the model that is "
        "served.",
        about="what waiting costs, the challenger, and the way back",
        without="nothing to keep",
        reads=(
            "data/{case}/production.parquet",
            "data/{case}/schema.json",
            "data/{case}/test.parquet",
            "data/{case}/train.parquet",
            "models/{case}/model.joblib",
        ),
        other_parameters=(
            "monitoring.false_alarms",
            "monitoring.least_rows",
            "monitoring.rules.bias",
            "monitoring.window_rows",
        ),
    ),
)


def step_of(name: str) -> Step:
    """The step that is called ``training`` or, by its notebook, ``03_training``.

    Raises
    ------
    InputError
        If there is none.

    Examples
    --------
    >>> step = step_of("03_training")
    >>> step.name, step.label, step.page("ames"), step.run_name("ames")
    ('training', '03 training', 'ames/03_training.html', 'ames-03_training')
    """
    for step in STEPS:
        if name in (step.name, step.notebook):
            return step
    known = ", ".join(step.notebook for step in STEPS)
    raise InputError(f"there is no step {name!r}; the steps are {known}")


def all_runs(cases: Iterable[str]) -> list[tuple[Step, str | None]]:
    """Every step with every case, in order; a step without a case once, with None.

    Examples
    --------
    >>> [step.run_name(case) for step, case in all_runs(["ames", "credit"])][:4]
    ['ames-01_data_prep', 'credit-01_data_prep', '02_regression_maths', 'ames-03_training']
    """
    named = list(cases)
    return [(step, case) for step in STEPS for case in (named if step.of_a_case else [None])]
