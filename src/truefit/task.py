"""The kinds of task: for each a class, which knows its keys, its figures and its words.

What depends on whether a number or a class is predicted stands here, and no other module asks for
it: they ask the case. A new kind is one class more, and one that extends `Regression` or
`BinaryClassification` says only what differs. What each method is for, `truefit.case.Case` says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator
from typing_extensions import override

from truefit import scales
from truefit.case import NUMBER, Case, Strict
from truefit.digits import number, percent, significant
from truefit.metrics import CALLS, LOGGED, PROBABILITIES, REGRESSION, Metric, cost, of_calls
from truefit.project import InputError

if TYPE_CHECKING:
    import pandas as pd

MIN_CLASS_ROWS = 5  # of each class, so that each of five folds has one
MOST_LISTED = 12  # classes in a sentence
HIGHER = 0.1  # by which a target rises in a made fault, as a share of it
MORE = 0.2  # of the rows turned positive there


class Regression(Case):
    """A number is predicted, by the model that misses it least, or its logarithm."""

    task: Literal["regression"] = "regression"
    log_target: bool = False

    shelf = "regression"
    linear_model = "linear"
    ranks_classes = False
    tendencies = ("bias",)
    typical = "median"
    # What the notebooks ask of any case.
    positive: ClassVar[None] = None
    costs: ClassVar[None] = None
    protected: ClassVar[tuple] = ()

    @property
    @override
    def main_metric(self) -> str:
        return "rmse_log" if self.log_target else "rmse"

    @property
    @override
    def error_metric(self) -> str:
        return self.main_metric

    @property
    @override
    def metrics(self) -> dict[str, Metric]:
        return REGRESSION | (LOGGED if self.log_target else {})

    @property
    @override
    def logarithmic(self) -> bool:
        return self.log_target

    @property
    @override
    def scale(self) -> scales.Scale:
        return scales.LOGARITHM if self.log_target else scales.PLAIN

    @override
    def truth(self, y: pd.Series) -> pd.Series:
        return y.astype("float64")

    @override
    def has_label(self, y: pd.Series) -> pd.Series:
        return y.notna() & (y > 0) if self.log_target else y.notna()

    @override
    def check_known(self, target: pd.Series) -> None:
        from pandas.api.types import is_numeric_dtype

        if is_numeric_dtype(target):
            return
        odd = target[~target.str.fullmatch(NUMBER)]  # none, if all are of too many digits
        for value in [*odd, *target][:1]:
            raise InputError(
                f"{self.table}: the target {self.target} holds {value!r}, which is not a number; "
                "list such texts under missing, or say task: classification"
            )

    @override
    def check_target(self, target: pd.Series) -> None:
        if self.log_target and (target <= 0).any():
            raise InputError(
                f"{self.table}: the target {self.target} is {target.min()} in a row, and only "
                "positive numbers have a logarithm; leave log_target out, or drop the row by a rule"
            )

    @override
    def folds(
        self, y: pd.Series, *, folds: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.model_selection import KFold

        return KFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)

    @override
    def answers(self, model: Any, X: Any) -> np.ndarray:
        return np.ravel(model.predict(X))

    @override
    def to_scale(self, model: Any) -> tuple[float, float]:
        # A model may learn the target, or its logarithm, on another scale still.
        transformer = getattr(model, "transformer_", None)
        if transformer is None:
            return 1.0, 0.0
        ends = np.ravel(transformer.inverse_transform(np.array([[0.0], [1.0]])))
        low, high = self.scale.to(ends)
        return float(high - low), float(low)

    @override
    def learned(self, values: Any) -> Any:
        return np.log(values) if self.log_target else values

    @override
    def unlearned(self, values: np.ndarray) -> np.ndarray:
        return np.exp(values) if self.log_target else values

    @override
    def voting(self, members: list[tuple[str, Any]], weights: list[float]) -> Any:
        from sklearn.ensemble import VotingRegressor

        return VotingRegressor(members, weights=weights)

    @override
    def soft_lesson(
        self, X: pd.DataFrame, said: np.ndarray, classes: Sequence[str]
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        return X, said, None

    @override
    def losses(self, errors: Any) -> Any:
        return np.abs(errors)

    @override
    def mean_error(self, squares: Any) -> Any:
        return np.sqrt(np.maximum(squares, 0))

    @override
    def mean_square(self, error: Any) -> Any:
        return error**2

    @override
    def error_unit(self, actual: pd.Series) -> float:
        return 1.0 if self.log_target else float(actual.std()) or 1.0

    @override
    def size(self, p: np.ndarray, extent: float) -> np.ndarray:
        return np.maximum(np.abs(p), 0 if self.log_target else extent)

    @override
    def tendency(self, errors: np.ndarray, actual: np.ndarray, p: np.ndarray) -> dict:
        return {"bias": errors.mean()}

    @override
    def reference_scores(self, actual: np.ndarray, p: np.ndarray) -> dict[str, float]:
        from sklearn import metrics as reference

        found = {
            "mse": reference.mean_squared_error(actual, p),
            "rmse": reference.root_mean_squared_error(actual, p),
            "mae": reference.mean_absolute_error(actual, p),
            "r2": reference.r2_score(actual, p),
        }
        if self.log_target:
            found["rmse_log"] = reference.root_mean_squared_error(np.log(actual), np.log(p))
        return found

    @property
    @override
    def distance_words(self) -> str:
        return "log(actual / predicted)" if self.log_target else "actual − predicted"

    @property
    @override
    def loss_words(self) -> str:
        return "mean absolute error"

    @property
    @override
    def importance_words(self) -> str:
        if self.log_target:
            return "increase of the RMSE of the logarithm"
        return f"increase of the RMSE, {self.unit(self.target) or 'in units of ' + self.target}"

    @property
    @override
    def effect_words(self) -> str:
        return self.target if self.log_target else self.label(self.target)  # a factor has no unit

    @property
    @override
    def raised_words(self) -> str:
        return f"{self.target} {100 * HIGHER:.0f} % higher"

    @property
    @override
    def unit_words(self) -> str:
        return "of the logarithm" if self.log_target else "of the prediction"

    @override
    def explained(self, prediction: float, typical: str) -> str:
        unit = f" {self.unit(self.target)}" if self.unit(self.target) else ""
        return (
            f"The model expects {self.target} to be {significant(prediction, 3)}{unit} here. "
            f"Averaged over rows of the training data it expects {typical}{unit}."
        )

    @override
    def effect(self, value: float, *, many: bool = False) -> str:
        if self.log_target:
            change = abs(math.expm1(min(value, 700))) * 100
            shown = number(change, ".0f" if change >= 0.95 else ".1f")
            size = "" if shown == "0.0" else f"{shown} %"
        else:
            amount = f"{significant(abs(value), 2)} {self.unit(self.target)}".strip()
            size = "" if value == 0 else amount
        ending = "" if many else "s"
        return f"{'raise' if value > 0 else 'lower'}{ending} it by {size}" if size else ""

    @override
    def effect_label(self, size: float) -> str:
        if self.log_target:
            return f"{number(math.expm1(min(size, 700)) * 100, '+.1f')} %"
        sign = "+" if size > 0 else ""
        return f"{sign}{significant(size, 3)}"

    @override
    def change_label(self, change: float) -> str:
        return f"{significant(100 * change, 2)} %"

    @override
    def label_fault(self, labels: pd.Series, classes: Sequence[str]) -> tuple[pd.Series, str]:
        from pandas.api.types import is_numeric_dtype

        if not is_numeric_dtype(labels):
            return ~labels.str.lstrip().str.fullmatch(NUMBER).eq(True), "be a number"
        return (labels <= 0) & self.log_target, "be above 0"

    @override
    def raised(self, truth: pd.Series) -> pd.Series:
        return truth + HIGHER * truth.abs()

    @override
    def bias_words(self, subject: str, off: float) -> str:
        way = "higher" if off > 0 else "lower"
        size = percent(abs(np.expm1(off))) if self.log_target else significant(abs(off))
        return f"{subject} is {size} {way} than predicted"


class Costs(Strict):
    """What a wrong answer costs, in any unit; only the ratio of the two decides."""

    false_positive: float = Field(gt=0)
    false_negative: float = Field(gt=0)


class BinaryClassification(Case):
    """The probability of the positive one of two classes is predicted."""

    task: Literal["classification"] = "classification"
    positive: str = Field(description="the class to be detected")
    protected: list[str] = []
    costs: Costs | None = None

    shelf = "classification"
    linear_model = "logistic"
    ranks_classes = True
    tendencies = ("said", "happened")
    typical = "mean"
    # What the notebooks ask of any case.
    log_target: ClassVar[bool] = False

    @field_validator("positive", mode="before")
    @classmethod
    def _a_class(cls, value: Any) -> Any:
        # A class is the text of a cell; in YAML, 1 and true are none.
        if isinstance(value, date | dict | list):
            raise ValueError(f"{value!r} is neither a text, a number, true nor false")
        if isinstance(value, bool):
            return "true" if value else "false"
        return str(value) if isinstance(value, int | float) else value

    @override
    def contradictions(self, unusable: Iterable[str] = ()) -> Iterator[str]:
        yield from super().contradictions(unusable)
        if not {"protected", "slices"} & {*unusable}:
            for name in self.protected:
                if name not in self.slices:
                    yield f"{name!r} is protected, and must be among the slices"

    @property
    def threshold(self) -> float:
        """The probability from which on a row is called positive.

        Where the probabilities are right, calling a row positive pays as soon as its chance of
        being positive, times what a false negative costs, exceeds its chance of being negative
        times what a false positive costs (Elkan, The Foundations of Cost-Sensitive Learning,
        2001). Without costs both count the same.
        """
        if self.costs is None:
            return 0.5
        return self.costs.false_positive / (self.costs.false_positive + self.costs.false_negative)

    @property
    @override
    def main_metric(self) -> str:
        return "roc_auc"

    @property
    @override
    def error_metric(self) -> str:
        return "brier"  # ROC AUC is not defined for rows of one class

    @property
    @override
    def metrics(self) -> dict[str, Metric]:
        called = {n: of_calls(m, self.threshold) for n, m in CALLS.items()}
        costs = self.costs
        if costs is None:
            return called | PROBABILITIES
        in_all = cost(costs.false_positive, costs.false_negative, self.threshold)
        return called | PROBABILITIES | {"cost": in_all}

    @property
    @override
    def scale(self) -> scales.Scale:
        return scales.LOG_ODDS

    @property
    @override
    def text_columns(self) -> set[str]:
        return super().text_columns | {self.target}

    @override
    def as_written(self, classes: Iterable[str]) -> BinaryClassification:
        # 1, 1.0 and true mean the same, however they are written.
        if self.positive in (known := [*classes]):
            return self
        meant = [c for c in known if _meaning(c) == _meaning(self.positive)]
        return self.model_copy(update={"positive": meant[0]}) if len(meant) == 1 else self

    @override
    def as_in(self, targets: Sequence[pd.Series]) -> BinaryClassification:
        import pandas as pd

        counts = pd.concat(targets).astype("str").value_counts()
        found = self.as_written(counts.index)
        if len(counts) and found.positive not in counts.index:
            listed = [f"{name!r} ({n:,} rows)" for name, n in counts.head(MOST_LISTED).items()]
            more = f" and {len(counts) - MOST_LISTED:,} more" * (len(counts) > MOST_LISTED)
            raise InputError(
                f"{self.table}: the target {self.target} is never {found.positive!r}, which "
                f"positive names; its classes are {', '.join(listed)}{more}"
            )
        return found

    @override
    def truth(self, y: pd.Series) -> pd.Series:
        return (y == self.positive).astype("float64")

    @override
    def check_classes(self, y: pd.Series, purpose: str) -> None:
        positive = int((y == self.positive).sum())
        for what, found in ((repr(self.positive), positive), ("the other", len(y) - positive)):
            if found < MIN_CLASS_ROWS:
                raise InputError(
                    f"{self.table}: the target {self.target} is {what} in {found} of the rows to "
                    f"{purpose}; at least {MIN_CLASS_ROWS} are needed"
                )

    @override
    def check_target(self, target: pd.Series) -> None:
        classes = sorted(target.astype("str").unique())
        if len(classes) > 2:
            raise InputError(
                f"{self.table}: the target {self.target} has {len(classes)} classes, and two are "
                "supported; for a number, say task: regression"
            )

    @override
    def strata(self, y: pd.Series) -> pd.Series:
        return y

    @override
    def folds(
        self, y: pd.Series, *, folds: int, seed: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        from sklearn.model_selection import StratifiedKFold

        return StratifiedKFold(folds, shuffle=True, random_state=seed).split(np.zeros(len(y)), y)

    @override
    def counts(self, y: pd.Series) -> dict[str, int]:
        return {f"rows of class {k!r}": n for k, n in y.value_counts().items()}

    @override
    def lacks_rows(self, y: pd.Series, least: int) -> str:
        positive = int((y == self.positive).sum())
        rarer = min(positive, len(y) - positive)
        return f"{rarer} are of the rarer class" if rarer < least else ""

    @override
    def answers(self, model: Any, X: Any) -> np.ndarray:
        return model.predict_proba(X)[:, list(model.classes_).index(self.positive)]

    @override
    def direction(self, model: Any) -> float:
        return -1.0 if list(model.classes_).index(self.positive) == 0 else 1.0

    @override
    def voting(self, members: list[tuple[str, Any]], weights: list[float]) -> Any:
        from sklearn.ensemble import VotingClassifier

        return VotingClassifier(members, weights=weights, voting="soft")

    @override
    def soft_lesson(
        self, X: pd.DataFrame, said: np.ndarray, classes: Sequence[str]
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray | None]:
        import pandas as pd

        # Each row twice: as positive with the weight p, and as negative with 1 − p.
        (other,) = (c for c in classes if c != self.positive)
        y = np.repeat([self.positive, other], len(X))
        return pd.concat([X, X], ignore_index=True), y, np.r_[said, 1 - said]

    @override
    def decision(self, classes: Sequence[str]) -> dict[str, Any]:
        names = [str(c) for c in classes]
        # From which probability of the positive class on a row is called positive.
        return {"classes": names, "positive": self.positive, "threshold": self.threshold}

    @override
    def losses(self, errors: Any) -> Any:
        return errors**2

    @override
    def mean_error(self, squares: Any) -> Any:
        return squares

    @override
    def mean_square(self, error: Any) -> Any:
        return error

    @override
    def size(self, p: np.ndarray, extent: float) -> np.ndarray:
        return np.ones(len(p))

    @override
    def tendency(self, errors: np.ndarray, actual: np.ndarray, p: np.ndarray) -> dict:
        return {"said": p.mean(), "happened": actual.mean()}

    @override
    def reference_scores(self, actual: np.ndarray, p: np.ndarray) -> dict[str, float]:
        from sklearn import metrics as reference

        called = p >= self.threshold
        found = {
            "accuracy": reference.accuracy_score(actual, called),
            "precision": reference.precision_score(actual, called, zero_division=0),
            "recall": reference.recall_score(actual, called),
            "f1": reference.f1_score(actual, called),
            "roc_auc": reference.roc_auc_score(actual, p),
            "average_precision": reference.average_precision_score(actual, p),
            "brier": reference.brier_score_loss(actual, p),
        }
        if self.costs is not None:
            (_, alarms), (missed, _) = reference.confusion_matrix(
                actual, called, labels=[0, 1], normalize="all"
            )
            found["cost"] = self.costs.false_positive * alarms + self.costs.false_negative * missed
        return found

    @override
    def distances(self, actual: np.ndarray, p: np.ndarray) -> np.ndarray:
        return np.abs(actual - p)  # how sure the model was of the wrong class

    @property
    @override
    def predicted_words(self) -> str:
        return self.prediction_words

    @property
    @override
    def prediction_words(self) -> str:
        return f"probability of {self.positive}"

    @property
    @override
    def task_words(self) -> str:
        called = f"called from a probability of {significant(self.threshold, 3)} on"
        return f"{self.task}; the positive class is `{self.positive}`, {called}"

    @property
    @override
    def distance_words(self) -> str:
        return "distance"

    @property
    @override
    def loss_words(self) -> str:
        return "Brier score"

    @property
    @override
    def why_no_line(self) -> str:
        return "The target is a class, so there is no line for a row to be far from."

    @property
    @override
    def importance_words(self) -> str:
        return "loss of ROC AUC"

    @property
    @override
    def effect_words(self) -> str:
        return f"odds of {self.positive}"

    @property
    @override
    def raised_words(self) -> str:
        return f"{self.target} {self.positive} in {100 * MORE:.0f} % more rows"

    @property
    @override
    def unit_words(self) -> str:
        return "of the probability"

    @override
    def explained(self, prediction: float, typical: str) -> str:
        return (
            f"The model gives a probability of {significant(prediction, 3)} that this is "
            f"{self.positive}. Averaged over rows of the training data it says {typical}."
        )

    @override
    def effect(self, value: float, *, many: bool = False) -> str:
        factor = math.exp(min(abs(value), 700))
        shown = number(factor, ".1f") if factor < 10 else significant(factor, 2)
        up, down = ("multiply", "divide") if many else ("multiplies", "divides")
        words = f"{up if value > 0 else down} the odds of {self.positive} by {shown}"
        return "" if shown == "1.0" else words

    @override
    def effect_label(self, size: float) -> str:
        return f"× {significant(math.exp(min(size, 700)), 3)}"

    @override
    def change_label(self, change: float) -> str:
        return significant(change, 2)

    @override
    def labels(self, truth: pd.Series) -> pd.Series:
        return truth.map({1.0: "yes", 0.0: "no"})

    @override
    def as_target(self, truth: pd.Series) -> pd.Series:
        import pandas as pd

        return pd.Series(np.where(truth == 1, self.positive, f"not {self.positive}"))

    @override
    def label_fault(self, labels: pd.Series, classes: Sequence[str]) -> tuple[pd.Series, str]:
        return ~labels.isin(classes), f"be {' or '.join(classes)}"

    @override
    def raised(self, truth: pd.Series) -> pd.Series:
        truth = truth.copy()
        zeros = np.flatnonzero(truth == 0)
        truth.iloc[zeros[: round(MORE * len(truth))]] = 1.0
        return truth

    @override
    def shifted_words(self, subject: str, value: float, usual: float) -> str:
        return f"the share of {self.positive!r} in {subject} is not the usual one"

    @override
    def bias_words(self, subject: str, off: float) -> str:
        way = "higher" if off > 0 else "lower"
        return f"{self.positive!r} is {way} by {percent(abs(off))} of the rows than predicted"


def gives_probabilities(model: Any) -> bool:
    """Whether an estimator that is fitted tells classes apart."""
    return hasattr(model, "classes_")


# By the name of the task in ``params.yaml``.
KINDS: dict[str, type[Case]] = {"regression": Regression, "classification": BinaryClassification}


def make_case(**block: Any) -> Case:
    """A case from the keys of its block; ``task`` says of which kind.

    Raises
    ------
    KeyError, pydantic.ValidationError
        If there is no such kind, or its block cannot be this one.

    Examples
    --------
    >>> loans = make_case(
    ...     table="loans.csv",
    ...     target="status",
    ...     task="classification",
    ...     positive="bad",
    ...     costs={"false_positive": 1.0, "false_negative": 4.0},
    ... )
    >>> loans.threshold, loans.main_metric
    (0.2, 'roc_auc')
    """
    return KINDS[block["task"]](**block)


def _meaning(written: str) -> str | float:
    """What a class means: 1, 1.0 and true the same, any other text itself."""
    text = written.strip().lower()
    if text in ("true", "false"):
        return float(text == "true")
    try:
        return float(text)
    except ValueError:
        return written
