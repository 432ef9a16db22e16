"""What a solver takes: finite numbers in a matrix of samples, and one target for each sample."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from truefit.project import InputError


class DataError(InputError, ValueError):
    """Data that no solver can work with; the message names the row and the column."""


def column_names(X: Any) -> list[str]:
    """The names of a table's columns; ``x0``, ``x1``, … where it has none."""
    names = getattr(X, "columns", None)
    if names is None:
        return [f"x{j}" for j in range(np.shape(X)[1])]
    return [str(name) for name in names]


def refuse_not_finite(
    values: np.ndarray, what: str, names: Sequence[str] = (), first_row: int = 0
) -> None:
    """Raise a `DataError` if an array of numbers holds NaN or infinity, and say where.

    Parameters
    ----------
    values : ndarray of shape (n_samples,) or (n_samples, n_features)
    what : str
        The array's name in the message: ``X``, ``y`` or ``sample_weight``.
    names : sequence of str, optional
        Of the columns, if there are any.
    first_row : int, optional
        The number of the first of these rows, where they are a part of more.
    """
    # One sum shows whether it is worth looking: it is finite if every value is, bar an overflow.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values.sum()):
            return
    found = np.argwhere(~np.isfinite(values))
    if not len(found):
        return
    row, *column = found[0].tolist()
    value = values[tuple(found[0])]
    where = f"row {first_row + row}" + (f", column {names[column[0]]!r}" if column else "")
    kind = "NaN" if np.isnan(value) else "infinity"
    more = f" ({len(found) - 1:,} more like it)" if len(found) > 1 else ""
    raise DataError(
        f"{what} contains {kind} in {where}{more}, counting rows from 0; "
        "fill the gap, or leave the row out"
    )


def check_weights(weight: np.ndarray, n_samples: int) -> None:
    """Raise a `DataError` unless there is one weight for each row, finite and not below 0."""
    if weight.shape != (n_samples,):
        raise DataError(
            f"sample_weight has the shape {weight.shape}, but X has {n_samples:,} rows; "
            "give one weight for each row"
        )
    refuse_not_finite(weight, "sample_weight")
    if (weight < 0).any():
        row = int(np.argmax(weight < 0))
        raise DataError(
            f"sample_weight is {weight[row]:g} in row {row}, counting rows from 0; "
            "a weight is the number of times that a row counts, 0 or more"
        )
