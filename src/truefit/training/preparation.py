"""Everything between the raw columns and the estimator, as steps of one scikit-learn pipeline.

The exported bundle takes numbers as float32. So every number here is rounded to float32 before
an estimator learns from it: a tree never learns to tell apart what the bundle could not. All
arithmetic after that is in float64.
"""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    OneToOneFeatureMixin,
    TransformerMixin,
)
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from truefit import expressions
from truefit.case import ABSENT, Case
from truefit.data_prep.clean import column_roles
from truefit.project import InputError

MISSING, RARE = "missing", "rare"
UNSEEN = 1e-6  # a share of a standard deviation that a textbook's digits do not show
SKEWED = 1.0  # a column whose skewness is above this is logged for a linear model
# What an estimator needs beside numbers: `plain` has no gaps and one scale; `scaled` has few long
# tails, too; `filled` has no gaps; `native` leaves numbers as they are.
Preparation = Literal["plain", "scaled", "filled", "native"]


class RoundToFloat32(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Round numbers to the nearest float32 and keep them as float64; NaN stays NaN.

    Parameters
    ----------
    tolerance : float
        A column is left as it is when rounding moves no value by more than this share of the
        column's standard deviation. With 0 every column is rounded, as trees need it: a threshold
        may lie between a number and its rounding.

    Attributes
    ----------
    rounded_ : ndarray of bool, of shape (n_features,)
        Which columns are rounded.
    """

    def __init__(self, tolerance: float = 0.0):
        self.tolerance = tolerance

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn which columns rounding would change."""
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        known = np.ma.masked_invalid(X)
        moved = np.ma.abs(known - X.astype(np.float32)).max(axis=0)
        self.rounded_ = ~np.ma.filled(moved <= self.tolerance * known.std(axis=0), False)
        if self.tolerance == 0:
            self.rounded_[:] = True
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give ``X`` as an array of float64, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        X = X.copy()  # that of a table of true and false is read-only, even with copy=True
        X[:, self.rounded_] = X[:, self.rounded_].astype(np.float32)
        return X


class FillText(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give an empty text a value: ``"absent"`` in some columns, ``"missing"`` in the others.

    Parameters
    ----------
    fill : sequence of str
        The value for each column of ``X``.
    """

    def __init__(self, fill: Sequence[str] = ()):
        self.fill = fill

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the number of columns; there is nothing else to learn."""
        validate_data(self, X, skip_check_array=True)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give ``X`` as an array of str objects, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        values = np.array(X, dtype=object)
        empty = pd.isna(values) | (values == "")
        return np.where(empty, np.array(self.fill, dtype=object), values)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")


class MergeRare(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give the rare categories of a column, and those never seen, one name: ``"rare"``.

    Parameters
    ----------
    min_rows : int
        A category seen in fewer rows is rare.

    Attributes
    ----------
    frequent_ : list of ndarray of str
        The categories of each column that keep their names, in alphabetical order.
    """

    def __init__(self, min_rows: int = 1):
        self.min_rows = min_rows

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Count the categories of each column."""
        X = validate_data(self, X, dtype=object)
        counted = [np.unique(column.astype(str), return_counts=True) for column in X.T]
        self.frequent_ = [names[counts >= self.min_rows] for names, counts in counted]
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give ``X`` as an array of str objects, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=object, reset=False)
        kept = np.column_stack(
            [np.isin(c.astype(str), known) for c, known in zip(X.T, self.frequent_, strict=True)]
        )
        return np.where(kept, X, RARE)


class KeepInRange(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Move numbers beyond the range seen in training to its ends.

    A weight that was learned within a range says nothing beyond it, and a sum of weights can go
    far astray there: a house twice as large as any other would come out at several times its
    price.

    Attributes
    ----------
    low_, high_ : ndarray of shape (n_features,)
    """

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the range of each column."""
        X = validate_data(self, X, dtype=np.float64)
        self.low_, self.high_ = X.min(axis=0), X.max(axis=0)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give ``X`` with every number inside the range."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.clip(X, self.low_, self.high_)


class LogSkewed(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give columns with a long tail to the right their logarithm, ``log(1 + x)``.

    Parameters
    ----------
    limit : float
        A column without negative numbers whose skewness is above this is logged.

    Attributes
    ----------
    logged_ : ndarray of bool, of shape (n_features,)
    """

    def __init__(self, limit: float = SKEWED):
        self.limit = limit

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Measure the skewness of each column."""
        X = validate_data(self, X, dtype=np.float64)
        centred = X - X.mean(axis=0)
        spread = np.sqrt((centred**2).mean(axis=0))
        cubed = (centred**3).mean(axis=0)
        skewness = np.divide(cubed, spread**3, where=spread > 0, out=np.zeros_like(cubed))
        self.logged_ = (skewness > self.limit) & (X.min(axis=0) >= 0)
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give ``X`` with some columns logged; a negative live value counts as 0 in those."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False).copy()
        X[:, self.logged_] = np.log1p(np.maximum(X[:, self.logged_], 0))
        return X


class Features(TransformerMixin, BaseEstimator):
    """Compute new columns from old ones by the expressions of the case's block.

    Parameters
    ----------
    columns : sequence of str
        What the columns of ``X`` are called in the expressions.
    formulas : sequence of (str, str)
        A name and an expression for each new column; see `truefit.expressions`.
    """

    def __init__(self, columns: Sequence[str] = (), formulas: Sequence[tuple[str, str]] = ()):
        self.columns = columns
        self.formulas = formulas

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Learn the number of columns; there is nothing else to learn."""
        validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan")
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give the new columns as float64, of shape (n_samples, n_formulas); NaN if not known."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False)
        values = dict(zip(self.columns, X.T, strict=True))
        made = [expressions.evaluate(expressions.parse(f), values) for _, f in self.formulas]
        return np.column_stack([np.broadcast_to(m, len(X)) for m in made]).astype(np.float64)

    def get_feature_names_out(self, input_features: ArrayLike | None = None) -> np.ndarray:
        """The names of the new columns."""
        return np.array([name for name, _ in self.formulas], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")


class Clusters(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Say which of the K-Means clusters a row lies in, as columns of 0 and 1.

    The columns are put on one scale first. The distances are computed in float32, as an exported
    bundle computes them, so that both find the same nearest centre.

    Parameters
    ----------
    n_clusters : int
        At most as many as there are different rows.
    seed : int

    Attributes
    ----------
    mean_, scale_ : ndarray of float32, of shape (n_features,)
    centres_ : ndarray of float32, of shape (n_clusters, n_features)
        On the common scale.
    """

    def __init__(self, n_clusters: int = 8, seed: int = 0):
        self.n_clusters = n_clusters
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the centres."""
        X = validate_data(self, X, dtype=np.float32)
        self.mean_ = X.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = X.std(axis=0, dtype=np.float64)
        self.scale_ = np.where(spread > 0, spread, 1).astype(np.float32)
        Z = (X - self.mean_) / self.scale_
        count = min(self.n_clusters, len(np.unique(Z, axis=0)))
        found = KMeans(count, n_init=4, random_state=self.seed).fit(Z.astype(np.float64))
        # The order of clusters that K-Means finds says nothing.
        centres = np.round(found.cluster_centers_, 4).astype(np.float32)
        self.centres_ = centres[np.lexsort(centres.T[::-1])]
        return self

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Give an array of 0 and 1, of shape (n_samples, n_clusters)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float32, reset=False)
        Z = (X - self.mean_) / self.scale_
        squared = (Z[:, None, :] - self.centres_[None, :, :]) ** 2
        return np.eye(len(self.centres_))[squared.sum(axis=2).argmin(axis=1)]

    @property
    def _n_features_out(self) -> int:
        return len(self.centres_)


class TargetScale(TransformerMixin, BaseEstimator):
    """Put a target on one scale: its logarithm if asked, then mean 0 and standard deviation 1.

    So that a penalty, a margin or a learning rate means the same for every table.

    Parameters
    ----------
    log : bool
        Whether to take the logarithm first.

    Attributes
    ----------
    mean_, scale_ : float
        Of the target, or of its logarithm.
    """

    def __init__(self, log: bool = False):
        self.log = log

    def fit(self, y: ArrayLike, _: None = None) -> Self:
        """Measure the target, an array of shape (n_samples,) or (n_samples, 1)."""
        values = self._logged(y)
        self.mean_ = float(values.mean())
        self.scale_ = float(values.std()) or 1.0
        return self

    def transform(self, y: ArrayLike) -> np.ndarray:
        """Give the target on the common scale."""
        check_is_fitted(self)
        return (self._logged(y) - self.mean_) / self.scale_

    def inverse_transform(self, z: ArrayLike) -> np.ndarray:
        """Give values in the target's own unit."""
        check_is_fitted(self)
        values = self.mean_ + self.scale_ * np.asarray(z, dtype=np.float64)
        return np.exp(values) if self.log else values

    def _logged(self, y: ArrayLike) -> np.ndarray:
        values = np.asarray(y, dtype=np.float64)
        return np.log(values) if self.log else values


def split_columns(frame: pd.DataFrame, case: Case) -> dict[str, list[str]]:
    """The columns to learn from, by kind: ``number``, ``ordered`` and ``category``."""
    roles = column_roles(frame, case)["role"]
    return {k: list(roles.index[roles == k]) for k in ("number", "ordered", "category")}


def prepare(
    frame: pd.DataFrame,
    case: Case,
    *,
    kind: Preparation,
    min_category_rows: int,
    n_clusters: int = 0,
    seed: int = 0,
) -> ColumnTransformer:
    """The preparation of the raw columns, not yet fitted.

    Numbers and ordered categories become numbers; other categories become columns of 0 and 1; the
    features of the case's block are computed. What else happens depends on the estimator.

    Parameters
    ----------
    frame : DataFrame
        Training rows; only the roles of the columns are read from it, no value.
    case : Case
        Its block in ``params.yaml``.
    kind : str
        ``plain`` for least squares as in a textbook: gaps get the median, and all one scale (mean
        0, standard deviation 1). ``scaled`` for other estimators that add columns up or measure
        distances: numbers are kept in the range seen in training, long tails get the logarithm,
        and the clusters of the case's block join.
        ``filled`` for trees that take no gaps. ``native`` for trees that do.
    min_category_rows : int
        A category seen in fewer rows is merged with the other rare ones of its column.
    n_clusters : int, optional
        Of the columns under ``clusters``; with 0 there are none.
    seed : int, optional
        Of K-Means.

    Raises
    ------
    InputError
        If a feature's expression, or a column to cluster, is not over columns of numbers.
    """

    def fill(columns: list[str]) -> FillText:
        return FillText([ABSENT if c in case.absent else MISSING for c in columns])

    kinds = split_columns(frame, case)
    made = features(frame, case)
    # One category that a training fold never saw, or a misspelt one, is NaN: not known.
    ranks = OrdinalEncoder(
        categories=[case.order_of(c) for c in kinds["ordered"]],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
    )
    # The median is one more number, and is rounded like the others. A column that is empty in one
    # training fold stays a column.
    median = SimpleImputer(strategy="median", keep_empty_features=True)
    gaps = [] if kind == "native" else [median]
    scale = [StandardScaler()] if kind in {"plain", "scaled"} else []
    tails = [KeepInRange(), LogSkewed()] if kind == "scaled" else []
    rare = MergeRare(min_category_rows)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    numbers = make_pipeline(
        *gaps, RoundToFloat32(UNSEEN if kind == "plain" else 0.0), *tails, *scale
    )
    steps: list[tuple[str, Any, Sequence[str]]] = [
        ("number", numbers, kinds["number"]),
        ("ordered", make_pipeline(fill(kinds["ordered"]), ranks, *gaps, *scale), kinds["ordered"]),
        ("category", make_pipeline(fill(kinds["category"]), rare, one_hot), kinds["category"]),
        ("feature", make_pipeline(made, *gaps, RoundToFloat32(), *tails, *scale), made.columns),
    ]
    if kind == "scaled" and n_clusters and case.clusters:
        # The clusters find the columns as they are, not the gaps that a scale would move.
        found = make_pipeline(median, Clusters(n_clusters, seed))
        steps.append(("cluster", found, _cluster_columns(frame, case)))
    return ColumnTransformer([s for s in steps if s[2]])


def features(frame: pd.DataFrame, case: Case) -> Features:
    """The step that computes the features of the case's block, after checking them.

    Raises
    ------
    InputError
        If an expression reads something that is not a column of numbers, or what a live row cannot
        have: the target.
    """
    for name, text in case.features.items():
        for column in expressions.columns_of([text]):
            if column in (case.target, case.id):
                raise InputError(
                    f"params.yaml: the feature {name!r} reads {column!r}, which is not to be "
                    "learned from"
                )
        expressions.check(expressions.parse(text), text, frame, of_numbers=True)
        if name in frame:
            raise InputError(
                f"params.yaml: the feature {name!r} is called like a column; choose another name"
            )
    return Features(expressions.columns_of(case.features.values()), list(case.features.items()))


def _cluster_columns(frame: pd.DataFrame, case: Case) -> list[str]:
    for column in case.clusters:
        if column not in frame or not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(
                f"params.yaml: clusters names {column!r}, which is not a column of numbers"
            )
    return case.clusters
