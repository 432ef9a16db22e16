"""What a bundle's manifest says, and what an answer of its model is, for each kind of task.

A service reads it, so nothing here is imported that takes long.
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from typing import Any, ClassVar, Literal

import msgspec
import numpy as np


class Column(msgspec.Struct, frozen=True):
    """One raw column that the model takes, as the training rows had it."""

    name: str
    type: Literal["number", "text"]
    unit: str = ""
    missing_share: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    absent: bool = False  # nothing in it means "has none", not "not known"
    typical: float | str | None = None  # the median, or the most frequent text
    influence: float = 0.0  # see `truefit.export.reference`

    @property
    def nullable(self) -> bool:
        """Whether training saw a row without a value here."""
        return self.absent or self.missing_share > 0


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is predicted."""

    name: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class Interval(msgspec.Struct, frozen=True):
    """The interval around a single prediction p: p / w to p * w, or p - w to p + w."""

    confidence: float
    kind: Literal["factor", "distance"]
    width: float


class Reading(msgspec.Struct, frozen=True):
    """How the training table was read."""

    separator: str
    missing: tuple[str, ...]


class Data(msgspec.Struct, frozen=True):
    """What the model was fitted on."""

    sha256: dict[str, str]
    training_rows: int


class Manifest(msgspec.Struct, frozen=True, tag_field="task"):
    """What stands in ``manifest.json``, as far as it is needed to score; see `truefit.export`.

    Each kind of task extends it by what an answer of its models is.
    """

    case: str
    title: str
    target: Target
    inputs: tuple[Column, ...]
    reading: Reading
    model: str
    data: Data
    sha256: dict[str, str]
    about: str = ""
    id: str | None = None
    deciles: tuple[float, ...] = ()

    task: ClassVar[Literal["regression", "classification"]]
    output: ClassVar[str]  # of the graph, and of an answer: what is scored

    @property
    def decision(self) -> dict[str, Any]:
        """What a client must know of classes and intervals."""
        return {"classes": None, "positive": None, "threshold": None, "interval": None}

    def scores(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predictions, or probabilities of the positive class, from what the graph gives."""
        raise NotImplementedError

    def ends(self, prediction: Any) -> tuple[Any, Any] | None:
        """The two ends of the interval around a prediction or an array of them, if it has one."""
        return None

    def answers(self, scores: np.ndarray) -> dict[str, list]:
        """The answers to rows by the names of `datatypes`, each of n_samples values."""
        raise NotImplementedError

    def rows(self, answers: Mapping[str, Sequence], row: Callable[..., Any], warnings: Any) -> list:
        """Answers row by row, each as ``row`` makes it, with these warnings to begin with."""
        raise NotImplementedError

    @property
    def datatypes(self) -> dict[str, Literal["BYTES", "FP64"]]:
        """The names of what an answer has, with their datatypes in the protocol v2."""
        raise NotImplementedError

    @property
    def logged(self) -> dict[str, str]:
        """What a reader of the log calls `output` and the ends of the interval."""
        raise NotImplementedError

    def fits(self, other: "Manifest") -> bool:
        """Whether another model's answers, of the same task, mean the same."""
        return True

    def check(self) -> None:
        """Raise ValueError if it does not say how its answers are to be read."""
        names = [column.name for column in self.inputs]
        if not names or len(set(names)) < len(names):
            raise ValueError


class RegressionManifest(Manifest, frozen=True, tag="regression"):
    """Of a model that predicts a number."""

    interval: Interval | None = None

    task = "regression"
    output = "prediction"

    @property
    def decision(self) -> dict[str, Any]:
        """The interval."""
        return super().decision | {"interval": self.interval}

    def scores(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Predictions in the target's unit."""
        return outputs[self.output].ravel()

    def ends(self, prediction: Any) -> tuple[Any, Any] | None:
        """See `Interval`.

        Examples
        --------
        >>> price = RegressionManifest(
        ...     case="homes",
        ...     title="Homes",
        ...     target=Target("price"),
        ...     inputs=(Column("area", "number"),),
        ...     reading=Reading(separator=",", missing=()),
        ...     model="ridge",
        ...     data=Data(sha256={}, training_rows=100),
        ...     sha256={},
        ...     interval=Interval(confidence=0.95, kind="factor", width=1.25),
        ... )
        >>> price.ends(100.0)
        (80.0, 125.0)
        """
        if self.interval is None:
            return None
        if self.interval.kind == "factor":
            return prediction / self.interval.width, prediction * self.interval.width
        return prediction - self.interval.width, prediction + self.interval.width

    def answers(self, scores: np.ndarray) -> dict[str, list]:
        """The predictions, and their intervals if there are any."""
        found = {"prediction": scores.tolist()}
        if ends := self.ends(scores):
            found |= {"low": ends[0].tolist(), "high": ends[1].tolist()}
        return found

    def rows(self, answers: Mapping[str, Sequence], row: Callable[..., Any], warnings: Any) -> list:
        """Each with a prediction, and its interval if there is any."""
        if self.interval is None:
            return [row(prediction=p, warnings=warnings) for p in answers["prediction"]]
        return [
            row(prediction=p, low=low, high=high, warnings=warnings)
            for p, low, high in zip(*answers.values(), strict=True)
        ]

    @property
    def datatypes(self) -> dict[str, Literal["BYTES", "FP64"]]:
        """All numbers."""
        names = ("prediction", "low", "high") if self.interval else ("prediction",)
        return dict.fromkeys(names, "FP64")

    @property
    def logged(self) -> dict[str, str]:
        """The ends keep their names."""
        return {"prediction": "score"} | {n: n for n in self.datatypes if n != "prediction"}

    def check(self) -> None:
        """Raise ValueError, too, if the ends of its interval are not in order."""
        super().check()
        # A model without errors has intervals of no width.
        least = {"factor": 1, "distance": 0}
        if self.interval and not self.interval.width >= least[self.interval.kind]:
            raise ValueError


class ClassificationManifest(Manifest, frozen=True, tag="classification", kw_only=True):
    """Of a model that gives the probabilities of two classes."""

    classes: tuple[str, str]
    positive: str
    threshold: float

    task = "classification"
    output = "probability"

    @property
    def place(self) -> int:
        """Of the positive one among the classes."""
        return self.classes.index(self.positive)

    @property
    def other(self) -> str:
        """The class that is not positive."""
        return self.classes[1 - self.place]

    @property
    def decision(self) -> dict[str, Any]:
        """The classes, which is positive, and from which probability on a row is called so."""
        own = {"classes": self.classes, "positive": self.positive, "threshold": self.threshold}
        return super().decision | own

    def scores(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Probabilities of the positive class."""
        return outputs[self.output][:, self.place]

    def called(self, probability: float) -> str:
        """The class that a row with this probability of the positive class is called."""
        return self.positive if probability >= self.threshold else self.other

    def answers(self, scores: np.ndarray) -> dict[str, list]:
        """The class that each row is called, and the probability of the positive one."""
        listed, other = scores.tolist(), self.other
        called = [self.positive if p >= self.threshold else other for p in listed]
        return {"prediction": called, "probability": listed}

    def rows(self, answers: Mapping[str, Sequence], row: Callable[..., Any], warnings: Any) -> list:
        """Each with a class and the probabilities of both."""
        positive, other = self.positive, self.other
        return [
            row(prediction=c, probabilities={positive: p, other: 1 - p}, warnings=warnings)
            for c, p in zip(answers["prediction"], answers["probability"], strict=True)
        ]

    @property
    def datatypes(self) -> dict[str, Literal["BYTES", "FP64"]]:
        """A text and a number."""
        return {"prediction": "BYTES", "probability": "FP64"}

    @property
    def logged(self) -> dict[str, str]:
        """The probability alone: the class follows from it."""
        return {"probability": "score"}

    def fits(self, other: Manifest) -> bool:
        """Whether the other knows the same classes, and looks for the same one."""
        same = isinstance(other, ClassificationManifest) and {*self.classes} == {*other.classes}
        return same and self.positive == other.positive

    def check(self) -> None:
        """Raise ValueError, too, if it does not say when a row is called positive."""
        super().check()
        if self.positive not in self.classes or not isfinite(self.threshold):
            raise ValueError
