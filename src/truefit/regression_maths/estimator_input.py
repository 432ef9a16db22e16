"""How an estimator reads its input: scikit-learn's rules, with messages that name the cell."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from truefit.regression_maths.inputs import (
    DataError,
    check_weights,
    column_names,
    refuse_not_finite,
)

# What a conversion to float64 raises: a text, an object, an integer beyond 1.8e308.
NOT_READ = (ValueError, TypeError, OverflowError)


def validated(
    estimator: BaseEstimator,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    *,
    classifier: bool = False,
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """What `fit` works with: finite numbers, and only rows that count.

    A weight stands for that many equal rows, so that a row of weight 0 is left out here, and no
    estimator sees it. Columns and their names are remembered in the estimator, as scikit-learn
    does.

    Parameters
    ----------
    estimator : BaseEstimator
    X : array-like or table of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    sample_weight : array-like of shape (n_samples,), optional
    classifier : bool
        Whether ``y`` holds labels, which may be texts, rather than numbers.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features), float64, C or Fortran order
    y : ndarray of shape (n_samples,), float64 unless these are labels
    sample_weight : ndarray of shape (n_samples,), or None

    Raises
    ------
    DataError
        If a cell is missing, infinite, a text or too large for a float64, or a weight is negative,
        or all weights are 0.
    ValueError, TypeError
        From scikit-learn, if the shapes or types do not fit together.
    """
    try:
        numbers, target = validate_data(estimator, X, y, dtype=np.float64, y_numeric=not classifier)
        target = target if classifier else target.astype(np.float64, copy=False)
    except NOT_READ:
        _name_the_cell(X, "X", n_dim=2)
        _name_the_cell(y, "y", n_dim=1, labels=classifier)
        raise
    # scikit-learn lets a missing value through where it stands among objects or texts.
    if classifier:
        _name_the_cell(y, "y", n_dim=1, labels=True)
    else:
        refuse_not_finite(target, "y")
    if sample_weight is None:
        return numbers, target, None
    weight = _weights(sample_weight, len(numbers))
    counts = weight > 0
    if counts.all():
        return numbers, target, weight
    return numbers[counts], target[counts], weight[counts]


def validated_X(estimator: BaseEstimator, X: Any) -> np.ndarray:  # noqa: N802 (X is the field's)
    """What `predict` works with: finite numbers in the columns that `fit` saw.

    Raises
    ------
    NotFittedError, DataError, ValueError, TypeError
        As `validated`, and if the estimator is not fitted or the columns are others.
    """
    check_is_fitted(estimator)
    try:
        return validate_data(estimator, X, dtype=np.float64, reset=False)
    except NOT_READ:
        _name_the_cell(X, "X", n_dim=2)
        raise


def _weights(sample_weight: Any, n_samples: int) -> np.ndarray:
    try:
        weight = check_array(
            sample_weight, ensure_2d=False, dtype=np.float64, input_name="sample_weight"
        )
    except NOT_READ:
        _name_the_cell(sample_weight, "sample_weight", n_dim=1)
        raise
    check_weights(weight, n_samples)
    if not weight.any():
        raise DataError(f"every sample_weight, rows 0 to {n_samples - 1}, is zero: no row is left")
    return weight


def _name_the_cell(values: Any, what: str, n_dim: int, labels: bool = False) -> None:
    """Raise a `DataError` at the first cell that is no finite number, if there is one."""
    cells = _cells(values)
    if n_dim == 1 and cells.ndim == 2 and cells.shape[1] == 1:
        cells = cells[:, 0]
    if cells.ndim != n_dim:
        return
    names = column_names(values) if n_dim == 2 else ()
    if cells.dtype.kind in "OUS":
        cells = _missing(cells) if labels else _numbers(cells, what, names)
    if cells.dtype.kind in "fiub":
        refuse_not_finite(cells.astype(np.float64), what, names)


def _cells(values: Any) -> np.ndarray:
    """An array of cells as they were given: NumPy turns a list with a text into texts."""
    try:
        cells = np.asarray(values)
        return np.asarray(values, dtype=object) if cells.dtype.kind in "OUS" else cells
    except (ValueError, TypeError):
        # A ragged list, or a sparse matrix: there is no cell to name.
        return np.empty(())


def _missing(cells: np.ndarray) -> np.ndarray:
    """NaN where a label is missing, 0 elsewhere."""
    return np.where(pd.isna(cells), np.nan, 0.0)


def _numbers(cells: np.ndarray, what: str, names: Sequence[str]) -> np.ndarray:
    """Objects as float64, or as they are if one of them is neither number nor text."""
    numbers = np.empty(cells.shape)
    for place, cell in np.ndenumerate(cells):
        try:
            missing = pd.api.types.is_scalar(cell) and pd.isna(cell)
            numbers[place] = np.nan if missing else float(cell)
        except TypeError:
            return cells
        except (ValueError, OverflowError) as error:
            raise DataError(_not_a_number(cell, place, what, names, error)) from None
    return numbers


def _not_a_number(
    cell: Any, place: tuple[int, ...], what: str, names: Sequence[str], error: Exception
) -> str:
    row, *column = place
    where = f"row {row}" + (f", column {names[column[0]]!r}" if column else "")
    if isinstance(error, OverflowError):
        return (
            f"{what} contains an integer too large for a float64 in {where}, counting rows from 0; "
            "numbers end at 1.8e308"
        )
    text = str(cell) if len(str(cell)) <= 40 else f"{str(cell)[:40]}…"
    return (
        f"{what} contains the text {text!r} in {where}, counting rows from 0; "
        "a number belongs there: mend it, or encode the texts as numbers"
    )
