"""Everything between the raw columns and the estimator, as steps of one scikit-learn pipeline.

The exported bundle takes numbers as float32. So every number here is rounded to float32 before
an estimator learns from it: a tree never learns to tell apart what the bundle could not. All
arithmetic after that is in float64.
"""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.utils.validation import check_is_fitted, validate_data

from truefit.data_prep.clean import column_roles
from truefit.params import ABSENT, Case

MISSING, RARE = "missing", "rare"


class RoundToFloat32(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Round numbers to the nearest float32 and keep them as float64; NaN stays NaN."""

    def fit(self, X, y=None):
        """Learn the number of columns; there is nothing else to learn."""
        validate_data(self, X, dtype=np.float32, ensure_all_finite="allow-nan")
        return self

    def transform(self, X):
        """Give ``X`` as an array of float64, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        rounded = validate_data(
            self, X, dtype=np.float32, ensure_all_finite="allow-nan", reset=False
        )
        return rounded.astype(np.float64)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")


class FillText(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Give an empty text a value: ``"absent"`` in some columns, ``"missing"`` in the others.

    Parameters
    ----------
    fill : sequence of str
        The value for each column of ``X``.
    """

    def __init__(self, fill=()):
        self.fill = fill

    def fit(self, X, y=None):
        """Learn the number of columns; there is nothing else to learn."""
        validate_data(self, X, skip_check_array=True)
        return self

    def transform(self, X):
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

    def __init__(self, min_rows=1):
        self.min_rows = min_rows

    def fit(self, X, y=None):
        """Count the categories of each column."""
        X = validate_data(self, X, dtype=object)
        counted = [np.unique(column.astype(str), return_counts=True) for column in X.T]
        self.frequent_ = [names[counts >= self.min_rows] for names, counts in counted]
        return self

    def transform(self, X):
        """Give ``X`` as an array of str objects, of shape (n_samples, n_features)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=object, reset=False)
        kept = np.column_stack(
            [np.isin(c.astype(str), known) for c, known in zip(X.T, self.frequent_, strict=True)]
        )
        return np.where(kept, X, RARE)


def split_columns(frame: pd.DataFrame, case: Case) -> dict[str, list[str]]:
    """The columns to learn from, by kind: ``number``, ``ordered`` and ``category``."""
    roles = column_roles(frame, case)["role"]
    return {k: list(roles.index[roles == k]) for k in ("number", "ordered", "category")}


def prepare(
    frame: pd.DataFrame, case: Case, *, for_trees: bool, min_category_rows: int
) -> ColumnTransformer:
    """The preparation of the raw columns, not yet fitted.

    Numbers and ordered categories become numbers; other categories become columns of 0 and 1.
    A linear model also needs gaps filled (with the median) and one common scale (mean 0,
    standard deviation 1). Histogram gradient boosting takes gaps and scales as they are.

    Parameters
    ----------
    frame : DataFrame
        Training rows; only the roles of the columns are read from it, no value.
    case : Case
        Its block in ``params.yaml``.
    for_trees : bool
        Whether the estimator is made of trees that take missing values.
    min_category_rows : int
        A category seen in fewer rows is merged with the other rare ones of its column.
    """

    def fill(columns: list[str]) -> FillText:
        return FillText([ABSENT if c in case.absent else MISSING for c in columns])

    kinds = split_columns(frame, case)
    # One category that a training fold never saw, or a misspelt one, is NaN: not known.
    ranks = OrdinalEncoder(
        categories=[case.order_of(c) for c in kinds["ordered"]],
        handle_unknown="use_encoded_value",
        unknown_value=np.nan,
    )
    # The median is one more number, and is rounded like the others. A column that is empty in one
    # training fold stays a column.
    gaps = [] if for_trees else [SimpleImputer(strategy="median", keep_empty_features=True)]
    scale = [] if for_trees else [StandardScaler()]
    rare = MergeRare(min_category_rows)
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    steps = [
        ("number", make_pipeline(*gaps, RoundToFloat32(), *scale), kinds["number"]),
        ("ordered", make_pipeline(fill(kinds["ordered"]), ranks, *gaps, *scale), kinds["ordered"]),
        ("category", make_pipeline(fill(kinds["category"]), rare, one_hot), kinds["category"]),
    ]
    return ColumnTransformer([s for s in steps if s[2]])
