"""A case: one table and what is to be learned from it, as its block in ``params.yaml`` says.

What all kinds of task have in common stands here; each kind is a class of `truefit.task`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from truefit.digits import significant

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from truefit.metrics import Metric
    from truefit.scales import Scale

# What the answers of a model are called; no column that it takes may be.
OUTPUTS = {"prediction", "label", "probability"}
NOT_AN_ID = OUTPUTS | {"low", "high"}  # columns of a table of predictions
# What a cell says when a thing is absent, rather than unknown. See Case.absent.
ABSENT = "absent"
# A decimal number as people write it. Not "nan", "inf" or "1_000", which Python would accept, and
# not "007", which is a name made of digits: its leading zeros carry meaning.
INTEGER = r"[+-]?(?:0|[1-9][0-9]*)"
NUMBER = rf"(?:{INTEGER}(?:\.[0-9]*)?|[+-]?\.[0-9]+)(?:[eE][+-]?[0-9]+)?"


class Strict(BaseModel):
    """A part of ``params.yaml``: no key that is not known, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class DropRule(Strict):
    """Rows that are not to be learned from, and why."""

    when: str
    reason: str


class BlankRule(Strict):
    """Values known to be wrong: they become missing, and why."""

    column: str
    when: str
    reason: str


class Order(Strict):
    """Columns whose text values have an order, lowest first."""

    order: list[str] = Field(min_length=2)
    columns: list[str] = Field(min_length=1)


class Limit(Strict):
    """What the gate asks of one metric: the worse end of its interval must keep the limit."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_side(self) -> "Limit":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


class Behaviour(Strict):
    """What a model must do when a row changes, or with rows of a kind, on a share of the rows.

    After Ribeiro and others, Beyond Accuracy: Behavioral Testing of NLP Models with CheckList,
    2020: an invariance test (``same``), a directional test (``not_lower``, ``not_higher``), or a
    minimum-functionality test (``at_least``, ``at_most``).
    """

    name: str
    when: str | None = None
    change: dict[str, str | int | float] = {}
    expect: Literal["same", "not_lower", "not_higher"] | None = None
    at_least: float | None = None
    at_most: float | None = None
    share: float = Field(default=1.0, gt=0, le=1)

    @field_validator("change", mode="before")
    @classmethod
    def _values(cls, change: Any) -> Any:
        # Pydantic would say of each type in turn that it is not this one.
        for column, value in change.items() if isinstance(change, dict) else ():
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise ValueError(f"{column} is {value!r}, which is neither a number nor a text")
        return change

    @model_validator(mode="after")
    def _one_kind(self) -> "Behaviour":
        asked = [v for v in (self.expect, self.at_least, self.at_most) if v is not None]
        if len(asked) != 1:
            raise ValueError(f"{self.name!r} must say one of expect, at_least and at_most")
        if (self.expect is None) != (not self.change):
            raise ValueError(f"{self.name!r} must have both change and expect, or neither")
        return self


class Window(Strict):
    """What live rows are looked at together: those for which all expressions agree."""

    name: str
    by: list[str] = Field(min_length=1)


class Case(Strict):
    """One table and what is to be learned from it: a block under ``cases:``.

    Only ``table``, ``target`` and ``task`` have no default. The keys and the methods that differ
    by task are those of its kinds, `truefit.task.Regression` and
    `truefit.task.BinaryClassification`.
    """

    table: str
    target: str
    task: str
    title: str = ""
    about: str = ""
    source: str = ""
    caution: str = ""
    id: str | None = None
    time: str | None = None
    production_from: int | float | str | None = None
    learn_from: int | float | str | None = None
    window: Window | None = None
    separator: str = Field(default=",", min_length=1, max_length=1)
    missing: list[str] = []
    absent: list[str] = []
    codes: list[str] = []
    ordinal: list[Order] = []
    drop_rows: list[DropRule] = []
    drop_repeats: str | None = None
    blank: list[BlankRule] = []
    drop_columns: dict[str, str] = {}
    features: dict[str, str] = {}
    clusters: list[str] = []
    units: dict[str, str] = {}
    slices: dict[str, list[float]] = {}
    behaviour: list[Behaviour] = []
    map: list[str] = Field(default=[], max_length=2)
    gate: list[Limit] = []

    @field_validator("production_from", "learn_from", mode="before")
    @classmethod
    def _number_or_text(cls, value: Any) -> Any:
        # Pydantic would say of each type in turn that it is not this one. A date without quotes
        # would stop DVC, and a table holds texts.
        if isinstance(value, date):
            raise ValueError(f"{value} needs quotes, because YAML takes it for more than a text")
        if isinstance(value, bool | dict | list):
            raise ValueError(f"{value!r} is neither a number nor a text")
        return value

    @field_validator("slices")
    @classmethod
    def _rising(cls, slices: dict[str, list[float]]) -> dict[str, list[float]]:
        for column, limits in slices.items():
            if limits != sorted(set(limits)):
                raise ValueError(f"the limits of {column}, {limits}, must rise")
        return slices

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if wrong := [*self.contradictions()]:
            raise ValueError("; ".join(wrong))
        return self

    def contradictions(self, unusable: Iterable[str] = ()) -> Iterator[str]:
        """What keys of a block do not agree on, but for keys that say nothing that can be used."""
        for keys, at_odds, said in _AGREE:
            if not {*keys} & {*unusable} and at_odds(self):
                yield said

    def unit(self, column: str) -> str:
        """The column's unit in words, empty if it has none."""
        return self.units.get(column, "")

    def label(self, column: str) -> str:
        """The column with its unit, for an axis."""
        return f"{column}, {self.unit(column)}" if self.unit(column) else column

    def order_of(self, column: str) -> list[str] | None:
        """The column's values from lowest to highest, or None if they have no order.

        A house that has none of a thing stands below every quality of it.

        Examples
        --------
        >>> from truefit.task import Regression
        >>> ranks = [Order(order=["poor", "good"], columns=["pool", "kitchen"])]
        >>> homes = Regression(table="t.csv", target="y", ordinal=ranks, absent=["pool"])
        >>> homes.order_of("kitchen"), homes.order_of("pool"), homes.order_of("street")
        (['poor', 'good'], ['absent', 'poor', 'good'], None)
        """
        for rule in self.ordinal:
            if column in rule.columns:
                return [ABSENT, *rule.order] if column in self.absent else rule.order
        return None

    # What differs by task. Each kind says it in its own way; see `truefit.task`.

    shelf: ClassVar[str]  # whose models, settings and search spaces it takes
    linear_model: ClassVar[str]  # the simple one that a winner must be worth more than
    ranks_classes: ClassVar[bool]  # whether rankings are compared by ROC AUC, else by Spearman's ρ
    tendencies: ClassVar[tuple[str, ...]]  # what `tendency` gives
    typical: ClassVar[Literal["mean", "median"]]  # what a group of rows is drawn by

    @property
    def main_metric(self) -> str:
        """The metric that decides which candidate wins."""
        raise NotImplementedError

    @property
    def error_metric(self) -> str:
        """The error that a slice is judged by: one that is defined for any rows."""
        raise NotImplementedError

    @property
    def metrics(self) -> dict[str, "Metric"]:
        """The metrics that fit, by name; see `truefit.metrics`."""
        raise NotImplementedError

    @property
    def scale(self) -> "Scale":
        """The scale on which effects on a prediction add up."""
        raise NotImplementedError

    @property
    def logarithmic(self) -> bool:
        """Whether what counts is the ratio of two amounts of the target, not their difference."""
        return False

    # Of the table

    @property
    def text_columns(self) -> set[str]:
        """The columns whose cells stay texts, though they may look like numbers."""
        return {*self.codes, *(c for rule in self.ordinal for c in rule.columns)}

    def as_written(self, classes: Iterable[str]) -> Self:
        """This case with its classes as the table writes them, if it has any."""
        return self

    def as_in(self, targets: Sequence["pd.Series"]) -> Self:
        """This case with its classes as these columns write them; an error if none is meant."""
        return self

    def of_labels(self, table: str) -> Self:
        """The case of a table that has labels alone: how it is read, no word of other columns."""
        needed = {name for name, key in type(self).model_fields.items() if key.is_required()}
        kept = {name: getattr(self, name) for name in {*needed, "separator", "missing"}}
        return type(self)(**kept | {"table": table})

    def truth(self, y: "pd.Series") -> "pd.Series":
        """The target as numbers, of shape (n_samples,); of two classes, 1 is the positive one."""
        raise NotImplementedError

    def has_label(self, y: "pd.Series") -> "pd.Series":
        """Which rows have a target that a prediction can be compared with."""
        return y.notna()

    def check_known(self, target: "pd.Series") -> None:
        """Raise InputError if a known value of the target is none, such as a text for a number."""

    def check_classes(self, y: "pd.Series", purpose: str) -> None:
        """Raise InputError if a class has too few rows for a purpose, such as "learn from"."""

    def check_target(self, target: "pd.Series") -> None:
        """Raise InputError if what varies in the target cannot be learned."""

    def strata(self, y: "pd.Series") -> "pd.Series | None":
        """By what rows are split so that each part has the same shares; None if by nothing."""
        return None

    def folds(
        self, y: "pd.Series", *, folds: int, seed: int
    ) -> "Iterator[tuple[np.ndarray, np.ndarray]]":
        """Positions of rows to fit and of rows held out, for each fold."""
        raise NotImplementedError

    def counts(self, y: "pd.Series") -> dict[str, int]:
        """How many rows there are of what each fold must have some of."""
        return {"rows": len(y)}

    def lacks_rows(self, y: "pd.Series", least: int) -> str:
        """Why rows cannot be learned from or judged by, but for their number; empty if they can."""
        return ""

    # Of models

    def answers(self, model: Any, X: Any) -> "np.ndarray":
        """What a fitted estimator says of rows, as `truth` has it; of shape (n_samples,)."""
        raise NotImplementedError

    def direction(self, model: Any) -> float:
        """−1 where the estimator counts towards the class that is not positive, else 1."""
        return 1.0

    def to_scale(self, model: Any) -> tuple[float, float]:
        """Factor and offset from what the estimator adds up to `scale`."""
        return self.direction(model), 0.0

    def learned(self, values: "np.ndarray") -> "np.ndarray":
        """Truths or predictions on the scale where errors are alike: the logarithm, or as is."""
        return values

    def unlearned(self, values: "np.ndarray") -> "np.ndarray":
        """The way back from `learned`."""
        return values

    def voting(self, members: list[tuple[str, Any]], weights: list[float]) -> Any:
        """The weighted mean of estimators, not yet fitted."""
        raise NotImplementedError

    def soft_lesson(
        self, X: "pd.DataFrame", said: "np.ndarray", classes: Sequence[str]
    ) -> "tuple[pd.DataFrame, np.ndarray, np.ndarray | None]":
        """Rows, targets and weights by which a student learns what a teacher said of ``X``."""
        raise NotImplementedError

    def decision(self, classes: Sequence[str]) -> dict[str, Any]:
        """What a manifest says of the classes and of how a row is called one of them."""
        return {"classes": None, "positive": None, "threshold": None}

    # Of errors

    def errors(self, actual: Any, p: Any) -> Any:
        """Actual minus predicted, row by row: of the logarithms for a logged target.

        Parameters
        ----------
        actual, p : array of shape (n_samples,)
            As `truth` and `truefit.metrics.predictions` give them.

        Returns
        -------
        array of shape (n_samples,)
            In the target's unit, in logarithms, or in probability; NaN where a truth is.
        """
        return self.learned(actual) - self.learned(p)

    def losses(self, errors: Any) -> Any:
        """What each error counts in the monitor, whose mean is named `loss_words`."""
        raise NotImplementedError

    def mean_error(self, squares: Any) -> Any:
        """The `error_metric` of rows whose squared errors have this mean."""
        raise NotImplementedError

    def mean_square(self, error: Any) -> Any:
        """The way back from `mean_error`."""
        raise NotImplementedError

    def error_unit(self, actual: "pd.Series") -> float:
        """What errors are large against: a logarithm and a probability need no unit."""
        return 1.0

    def size(self, p: "np.ndarray", extent: float) -> "np.ndarray":
        """What the change of a prediction is divided by; ``extent`` is the range of the target."""
        raise NotImplementedError

    def tendency(self, errors: "np.ndarray", actual: "np.ndarray", p: "np.ndarray") -> dict:
        """In which way rows are missed on average, by the names in `tendencies`."""
        raise NotImplementedError

    def reference_scores(self, actual: "np.ndarray", p: "np.ndarray") -> dict[str, float]:
        """Every metric as scikit-learn computes it."""
        raise NotImplementedError

    def distances(self, actual: "np.ndarray", p: "np.ndarray") -> "np.ndarray":
        """By what the rows that are most wrong are found; named `distance_words`."""
        return self.errors(actual, p)

    # In words

    @property
    def predicted_words(self) -> str:
        """What a column of predictions is called."""
        return "predicted"

    @property
    def prediction_words(self) -> str:
        """What a prediction is, for an axis."""
        return self.label(self.target)

    @property
    def task_words(self) -> str:
        """What is learned, for the model card."""
        return self.task

    @property
    def distance_words(self) -> str:
        """What `distances` are."""
        raise NotImplementedError

    @property
    def loss_words(self) -> str:
        """What the mean of `losses` is called."""
        raise NotImplementedError

    @property
    def why_no_line(self) -> str:
        """Why the target cannot lie on a line against a column; empty if it can."""
        return ""

    @property
    def importance_words(self) -> str:
        """What a column's importance is measured in."""
        raise NotImplementedError

    @property
    def effect_words(self) -> str:
        """What an effect is an effect on, for an axis."""
        raise NotImplementedError

    @property
    def raised_words(self) -> str:
        """How much `raised` raises the target."""
        raise NotImplementedError

    @property
    def unit_words(self) -> str:
        """What an error is one of."""
        raise NotImplementedError

    def explained(self, prediction: float, typical: str) -> str:
        """What a model says of a row, and on average, in sentences."""
        raise NotImplementedError

    def effect(self, value: float, *, many: bool = False) -> str:
        """What an effect of one or many columns does; empty if it would show as nothing."""
        raise NotImplementedError

    def effect_label(self, size: float) -> str:
        """An effect, short enough for a bar."""
        raise NotImplementedError

    def change_label(self, change: float) -> str:
        """A change of a prediction, as `size` measures it."""
        raise NotImplementedError

    # Of live rows

    def labels(self, truth: "pd.Series") -> "pd.Series":
        """True values as they are compared between windows: classes as texts."""
        return truth

    def as_target(self, truth: "pd.Series") -> "pd.Series":
        """The target as a table has it, from true values as numbers."""
        return truth

    def label_fault(self, labels: "pd.Series", classes: Sequence[str]) -> "tuple[pd.Series, str]":
        """Which labels, as a table has them, are none, and what they must be."""
        raise NotImplementedError

    def raised(self, truth: "pd.Series") -> "pd.Series":
        """True values that have risen as `raised_words` says, to try the monitor with."""
        raise NotImplementedError

    def shifted_words(self, subject: str, value: float, usual: float) -> str:
        """That the target is not as usual, in words."""
        way = "higher" if value > usual else "lower"
        middle, before = significant(value), significant(usual)
        return f"{subject} is {way}: its median is {middle}, usually {before}"

    def bias_words(self, subject: str, off: float) -> str:
        """That a target is higher or lower than predicted, in words."""
        raise NotImplementedError


# What the keys of every block must agree on: which keys, when they do not, and how to say it.
_AGREE: list[tuple[tuple[str, ...], Callable[[Case], bool], str]] = [
    (
        ("time", "production_from"),
        lambda c: (c.time is None) != (c.production_from is None),
        "time and production_from go together",
    ),
    (
        ("learn_from", "time"),
        lambda c: c.learn_from is not None and c.time is None,
        "learn_from needs time and production_from",
    ),
    (
        ("map",),
        lambda c: len(c.map) == 1,
        "map takes two columns: east-west first, north-south second",
    ),
]
