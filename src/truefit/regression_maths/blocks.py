"""Samples, read a block of rows at a time and as often as needed, from memory or from a file.

A solver that goes through blocks needs memory for one block, however many rows there are.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from truefit.regression_maths.double_double import pair_of
from truefit.regression_maths.inputs import DataError, check_weights, column_names


class Block(NamedTuple):
    """Some rows: float64, with low parts where float64 does not hold what was given."""

    X: np.ndarray  # (n_rows, n_features)
    y: np.ndarray  # (n_rows,)
    weight: np.ndarray | None = None
    X_low: np.ndarray | None = None
    y_low: np.ndarray | None = None


class Samples:
    """All rows, of which the columns' names and their number are known beforehand.

    Attributes
    ----------
    names : list of str
    n_samples : int or None
        None where only reading can tell.
    """

    def __init__(
        self,
        blocks: Callable[[int], Iterator[Block]],
        names: Sequence[str],
        n_samples: int | None = None,
    ):
        if not names:
            raise DataError("there is no column beside the target; there is nothing to fit")
        self.blocks = blocks
        self.names = list(names)
        self.n_samples = n_samples


def in_memory(
    X: Any,
    y: Any,
    sample_weight: Any = None,
    columns: Sequence[str] | None = None,
    *,
    first_row: int = 0,
) -> Samples:
    """The rows of a matrix or a table.

    Nothing is copied as a whole: a block is converted when it is its turn. `first_row` is the
    number of the first row in messages, where these rows are a part of more.

    Raises
    ------
    DataError
        If the shapes do not fit, or there are no rows or no columns.
    """
    if hasattr(X, "toarray"):
        raise DataError("X is sparse, which this solver does not take; give X.toarray()")
    X = X if hasattr(X, "iloc") else np.asarray(X)
    y = np.asarray(y)
    if X.ndim != 2:
        raise DataError(
            f"X has {X.ndim} dimensions where a matrix has 2; one feature alone is X.reshape(-1, 1)"
        )
    if y.ndim != 1:
        raise DataError(f"y has {y.ndim} dimensions where a target has 1; try y.ravel()")
    if len(X) != len(y):
        raise DataError(f"X has {len(X):,} rows and y has {len(y):,}; each row needs its target")
    if 0 in X.shape:
        raise DataError(
            f"X has {X.shape[0]} rows and {X.shape[1]} columns; there is nothing to fit"
        )
    names = column_names(X) if columns is None else list(columns)
    if len(names) != X.shape[1]:
        raise DataError(f"columns has {len(names)} names, but X has {X.shape[1]} columns")
    weight = None if sample_weight is None else _weights(sample_weight, len(y))

    def blocks(rows: int) -> Iterator[Block]:
        for start in range(0, len(y), rows):
            part = slice(start, start + rows)
            X_high, X_low = _pairs(_rows(X, part), "X", first_row + start, names)
            y_high, y_low = _pairs(y[part], "y", first_row + start)
            w = None if weight is None else weight[part]
            yield Block(X_high, y_high, w, X_low, y_low)

    return Samples(blocks, names, len(y))


def _rows(X: Any, part: slice) -> np.ndarray:
    """Some rows of a matrix or a table, as an array of one type."""
    if not hasattr(X, "iloc"):
        return X[part]
    table = X.iloc[part]
    values = np.asarray(table)
    if values.dtype == object and all(dtype.kind in "biuf" for dtype in table.dtypes):
        # Numbers of several types: as objects they would be read one by one.
        values = table.to_numpy(dtype=float, na_value=np.nan)
    return values


def from_arrays(
    read: Callable[[], Iterable[tuple]], columns: Sequence[str] | None = None
) -> Samples:
    """The rows of blocks that come from elsewhere, such as a database.

    Parameters
    ----------
    read : callable
        Called once for each pass; gives ``(X, y)`` or ``(X, y, sample_weight)``, block by block,
        the same each time.
    columns : sequence of str, optional
    """
    first = next(iter(read()), None)
    if first is None:
        raise DataError("there are no blocks: read() gave none")
    names = list(columns) if columns is not None else column_names(first[0])

    n_samples: list[int] = []  # in each pass that was finished

    def blocks(rows: int) -> Iterator[Block]:
        seen = 0
        for number, given in enumerate(read()):
            try:
                samples = in_memory(*given)
                if len(samples.names) != len(names):
                    raise DataError(f"X has {len(samples.names)} columns, and not {len(names)}")
                yield from samples.blocks(rows)
            except DataError as error:
                raise DataError(f"block {number}: {error}") from None
            seen += samples.n_samples or 0
        n_samples.append(seen)
        if not seen or seen != n_samples[0]:
            raise DataError(
                f"read() gave {n_samples[0]:,} rows the first time and {seen:,} later; it must "
                "start anew at each call, and give the same blocks"
            )

    return Samples(blocks, names)


def from_file(path: Path | str, target: str | int) -> Samples:
    """The rows of a file: ``.npy`` (float64, a row after the other), ``.parquet`` or ``.csv``.

    Parameters
    ----------
    path : Path or str
    target : str or int
        The column to be predicted, by its name, or by its number in an ``.npy`` file; every other
        column is a feature.

    Raises
    ------
    DataError
        If the kind of file is not known, it cannot be read, or it has no such column.
    """
    path = Path(path)
    readers = {".npy": _npy, ".parquet": _parquet, ".csv": _csv}
    if path.suffix not in readers:
        raise DataError(f"{path.name}: a file to fit is one of {', '.join(readers)}")
    if not path.is_file():
        raise DataError(f"{path} is not there")
    try:
        return readers[path.suffix](path, target)
    except DataError:
        raise
    except ValueError as error:  # of NumPy, pandas and Arrow alike
        why = str(error).splitlines()[0]
        raise DataError(f"{path.name} is no readable {path.suffix} file: {why}") from None


def _npy(path: Path, target: str | int) -> Samples:
    with path.open("rb") as file:
        version = np.lib.format.read_magic(file)
        reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
        shape, fortran, dtype = (reader or np.lib.format.read_array_header_2_0)(file)
        start = file.tell()
    if len(shape) != 2 or fortran or dtype != np.dtype("<f8"):
        raise DataError(
            f"{path.name} holds no matrix of float64 stored row by row; save it as such"
        )
    names = [f"x{j}" for j in range(shape[1])]
    if not isinstance(target, int) or not -shape[1] <= target < shape[1]:
        raise DataError(f"{path.name} has columns 0 to {shape[1] - 1}, and no column {target!r}")
    target %= shape[1]
    features = [j for j in range(shape[1]) if j != target]

    def blocks(rows: int) -> Iterator[Block]:
        # Read, not mapped: the pages of a mapped file would count as memory in use.
        with path.open("rb") as file:
            file.seek(start)
            while (part := np.fromfile(file, "<f8", rows * shape[1])).size:
                if part.size % shape[1]:
                    raise DataError(f"{path.name} ends in the middle of a row; write it anew")
                part = part.reshape(-1, shape[1])
                X = part[:, :-1] if target == shape[1] - 1 else part[:, features]
                yield Block(X, part[:, target].copy())

    return Samples(blocks, [names[j] for j in features], shape[0])


def _parquet(path: Path, target: str | int) -> Samples:
    import pyarrow.parquet as parquet

    names = parquet.read_schema(path).names
    features = _features(path, names, target)

    def blocks(rows: int) -> Iterator[Block]:
        with parquet.ParquetFile(path, pre_buffer=False) as file:
            batches = file.iter_batches(rows, use_threads=False)
            yield from _of_tables((b.to_pandas() for b in batches), features, target, rows)

    return Samples(blocks, features, parquet.read_metadata(path).num_rows)


def _csv(path: Path, target: str | int) -> Samples:
    import pandas as pd

    features = _features(path, list(pd.read_csv(path, nrows=0).columns), target)

    def blocks(rows: int) -> Iterator[Block]:
        with pd.read_csv(path, chunksize=rows) as chunks:
            yield from _of_tables(chunks, features, target, rows)

    return Samples(blocks, features)


def _of_tables(
    tables: Iterable, features: list[str], target: str | int, rows: int
) -> Iterator[Block]:
    start = 0
    for table in tables:
        samples = in_memory(table[features], table[target].to_numpy(), first_row=start)
        yield from samples.blocks(rows)
        start += len(table)


def _features(path: Path, names: list[str], target: str | int) -> list[str]:
    if target not in names:
        raise DataError(f"{path.name} has no column {target!r}; it has {', '.join(names)}")
    return [name for name in names if name != target]


def _weights(sample_weight: Any, n_samples: int) -> np.ndarray:
    try:
        weight = np.asarray(sample_weight, dtype=float)
    except (TypeError, ValueError):
        raise DataError("sample_weight holds something that is no number") from None
    check_weights(weight, n_samples)
    return weight


def _pairs(
    values: np.ndarray, what: str, start: int, names: Sequence[str] = ()
) -> tuple[np.ndarray, np.ndarray | None]:
    """Numbers of any kind as float64, with a low part if float64 does not hold them."""
    if values.dtype == np.float64:
        return values, None
    if values.dtype.kind in "iu" and values.dtype.itemsize == 8:
        # Cut into 32 bits and 32 bits, each of which float64 holds.
        high = (values >> 32).astype(float) * 2.0**32
        low = (values & 0xFFFFFFFF).astype(float)
        total = high + low
        rest = low - (total - high)
        return total, rest if rest.any() else None
    if values.dtype.kind in "biuf":
        high = values.astype(np.float64)
        if values.dtype.itemsize <= 8:
            return high, None
        rest = (values - high).astype(np.float64)
        return high, rest if rest.any() else None
    if values.dtype.kind in "OUS":
        return _parsed(values, what, start, names)
    raise DataError(f"{what} holds values of type {values.dtype}; numbers are needed")


def _parsed(
    values: np.ndarray, what: str, start: int, names: Sequence[str]
) -> tuple[np.ndarray, np.ndarray | None]:
    high, low = np.empty(values.shape), np.zeros(values.shape)
    for place in np.ndindex(values.shape):
        value = values[place]
        try:
            high[place], low[place] = pair_of(value)
        except (ValueError, OverflowError) as error:
            row, *column = place
            where = f"row {start + row}" + (f", column {names[column[0]]!r}" if column else "")
            raise DataError(
                f"{what} in {where}, counting rows from 0: {_shortened(value, error)}; "
                "numbers are needed"
            ) from None
    return high, low if low.any() else None


def _shortened(value: Any, error: Exception) -> str:
    if isinstance(error, OverflowError) and str(value) not in ("inf", "-inf"):
        return f"{str(value)[:20]}… is too large for float64"
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return f"{text if len(text) <= 40 else text[:39] + '…'} is no finite number"
