"""Read a table as it was written: no text turned into a missing value, no row bent into shape."""

import csv
import hashlib
from collections.abc import Collection
from pathlib import Path
from re import fullmatch
from unicodedata import category

import numpy as np
import pandas as pd

from truefit import expressions, project
from truefit.case import ABSENT, INTEGER, NUMBER, Case
from truefit.project import InputError
from truefit.task import Regression

EXACT_IN_FLOAT = 2**53
LARGEST = float(np.finfo(np.float32).max)  # the exported model computes with such numbers
SUFFIXES = (".csv", ".parquet")
MOST_LISTED = 12  # columns or classes in a sentence


def collect(case: Case) -> dict[str, pd.DataFrame]:
    """Read the case's table, or the tables in its folder.

    Returns
    -------
    dict of DataFrame
        ``{"all": table}``; or, for a folder with a split of its own, the tables by name:
        ``train``, ``test`` and perhaps ``production``.

    Raises
    ------
    InputError
        If a file is not a table that the case describes.
    """
    tables: dict[str, pd.DataFrame] = {}
    for part, name in _files(case).items():
        train = tables.get("train")
        # Each of them alone may look like numbers where all together are texts.
        texts = () if train is None else list(train.select_dtypes("str"))
        found = read_table(project.root() / name, case, name=name, texts=texts)
        tables[part] = found if train is None else _as_in_train(found, train, name)
    if case.id and "train" in tables:
        both = set(tables["train"][case.id]).intersection(tables["test"][case.id])
        if both:
            raise InputError(
                f"{case.table}: the id {case.id} {min(both)!r} stands in train and in test, so the "
                "test would ask what the training has told"
            )
    return tables


def as_written(case: Case, tables: dict[str, pd.DataFrame]) -> Case:
    """The case with its positive class as the tables write it: 1, 1.0 and true mean the same.

    Raises
    ------
    InputError
        If no row is positive; the sentence lists the classes that there are.
    """
    return case.as_in([table[case.target] for table in tables.values()])


def _files(case: Case) -> dict[str, str]:
    """The files of a case in the project, by the part of the table that each holds."""
    source = project.root() / case.table
    if not source.is_dir():
        return {"all": Path(case.table).as_posix()}
    files = {}
    for part in ("train", "test", "production"):
        found = [part + suffix for suffix in SUFFIXES if (source / (part + suffix)).is_file()]
        if len(found) > 1:
            raise InputError(f"{case.table}: the folder has {' and '.join(found)}; keep one")
        if not found and part != "production":
            raise InputError(f"{case.table}: the folder needs a {part}.csv or {part}.parquet")
        if found:
            files[part] = Path(case.table, found[0]).as_posix()
    return files


def _as_in_train(frame: pd.DataFrame, train: pd.DataFrame, name: str) -> pd.DataFrame:
    """Give a part of the table the columns and types of its training rows, or say why not."""
    for column in sorted(set(frame) ^ set(train)):
        found, lacking = (name, "train") if column in frame else ("train", name)
        raise InputError(f"the column {column!r} is in {found}, and not in {lacking}")
    for column in train.select_dtypes("number"):
        if not pd.api.types.is_numeric_dtype(frame[column]):
            known = frame[column].dropna()
            for row in np.flatnonzero(~known.str.fullmatch(NUMBER)):
                raise InputError(
                    f"{name}: {column} is {known.iloc[row]!r} in row {known.index[row] + 1}, and a "
                    "number in every row of train"
                )
            frame[column] = frame[column].astype("float64")
    return frame[list(train)]


def checksums(case: Case) -> dict[str, str]:
    """The SHA-256 of each file that `collect` reads, by its path in the project."""
    return {
        name: hashlib.sha256((project.root() / name).read_bytes()).hexdigest()
        for name in sorted(_files(case).values())
    }


def read_table(
    source: Path,
    case: Case,
    *,
    name: str | None = None,
    need_target: bool = True,
    texts: Collection[str] = (),
) -> pd.DataFrame:
    """Read one CSV or Parquet file by the rules of a case.

    Text loses its trailing blanks. An empty cell, and a text listed in ``case.missing``, becomes
    missing; in a text column listed in ``case.absent`` an empty cell becomes ``"absent"``. A
    column is numeric when every known value in it is a decimal number, unless it holds names or
    ranks: a column in ``case.codes`` or ``case.ordinal``, or the classes to be predicted.

    Parameters
    ----------
    source : Path
        The file; its suffix says what it is.
    case : Case
        Its block in ``params.yaml``.
    name : str, optional
        What to call the file in a message; its path if not given.
    need_target : bool
        Whether the target column must be there. Rows to be scored have none.
    texts : collection of str
        More columns that stay text whatever they hold, beside ``case.codes``.

    Returns
    -------
    DataFrame
        Columns of dtype ``int64``, ``float64`` or ``str``.

    Raises
    ------
    InputError
        One sentence that names the file and the row or column at fault.
    """
    name = name or str(source)
    if not source.is_file():
        raise InputError(f"{name}: there is no such file")
    if source.suffix not in SUFFIXES:
        raise InputError(f"{name}: a table must be {' or '.join(SUFFIXES)}")
    if source.stat().st_size == 0:
        raise InputError(f"{name} is empty: it has neither a header nor rows")
    cells = (
        _read_csv(source, name, case) if source.suffix == ".csv" else _read_parquet(source, name)
    )
    _check_columns(cells, name, case, need_target)
    texts = {*texts, *case.text_columns}
    frame = pd.DataFrame({c: _column(cells[c], c, case, c in texts) for c in cells}, copy=False)
    _check_numbers(frame, name)
    _check_id(frame, name, case)
    return frame


def _read_csv(source: Path, name: str, case: Case) -> pd.DataFrame:
    # The csv module, because pandas pads a short row with missing values and says nothing.
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=case.separator, strict=True)
            header = [cell.strip() for cell in next(reader)]
            _check_header(header, name, case)
            rows = []
            for row in reader:
                if len(row) != len(header):
                    if not row:  # an empty line is no row
                        continue
                    raise InputError(
                        f"{name}, line {reader.line_num}: {len(row)} cells where the header has "
                        f"{len(header)}; mend the row, or quote the cell that holds a separator"
                    )
                rows.append(row)
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        reason = (
            "it is not UTF-8 text"
            if isinstance(error, UnicodeDecodeError)
            else str(error) or "it has no header"
        )
        raise InputError(f"{name} is not a CSV table: {reason}") from None
    if not rows:
        raise InputError(f"{name} has a header but no rows")
    return pd.DataFrame(rows, columns=header, dtype="str")


def _check_header(header: list[str], name: str, case: Case) -> None:
    if any("\0" in cell for cell in header):
        raise InputError(f"{name} is not a CSV table: it holds binary data")
    repeated = sorted({c for c in header if header.count(c) > 1})
    if repeated:
        raise InputError(f"{name}: the column name {repeated[0]!r} stands more than once")
    if "" in header:
        raise InputError(f"{name}: column {header.index('') + 1} has no name in the header")
    for number, cell in enumerate(header, 1):
        if any(category(sign) == "Cc" for sign in cell):
            raise InputError(
                f"{name}: the name of column {number}, {cell!r}, holds a line break or another "
                "sign that cannot be printed; rename it"
            )
    others = [s for s in ",;\t|" if s != case.separator and s in header[0]]
    if len(header) == 1 and others:
        raise InputError(
            f"{name} has a single column; if {others[0]!r} stands between its cells, say so with "
            "separator in the case's block"
        )


def _read_parquet(source: Path, name: str) -> pd.DataFrame:
    import pyarrow as pa
    import pyarrow.parquet

    try:
        # Without what pandas once noted about its own types and index: only what the file holds.
        # Whole numbers with gaps stay whole, as the text of a CSV cell would.
        table = pyarrow.parquet.read_table(source)
        frame = table.to_pandas(ignore_metadata=True, integer_object_nulls=True)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{name} is not a Parquet table: {str(error).splitlines()[0]}") from None
    if frame.empty:
        raise InputError(f"{name} has a header but no rows")
    frame.columns = [str(c).strip() for c in frame.columns]
    frame = frame.drop(columns=[c for c in frame.columns if c.startswith("__index_level_")])
    _check_header(list(frame.columns), name, Regression(table=name, target=""))
    return frame


def _check_columns(frame: pd.DataFrame, name: str, case: Case, need_target: bool) -> None:
    """Every column that the block names must be in the table."""
    columns_of = expressions.columns_of
    to_learn_from = {  # rows to be scored need not have these
        "target": [case.target],
        "id": [case.id] if case.id else [],
        "time": [case.time] if case.time else [],
        "drop_rows": columns_of(rule.when for rule in case.drop_rows),
        "blank": [c for r in case.blank for c in (r.column, *columns_of([r.when]))],
        "drop_columns": list(case.drop_columns),
        "window": columns_of(case.window.by if case.window else []),
        "when of behaviour": columns_of(test.when for test in case.behaviour if test.when),
    }
    always = {
        "absent": case.absent,
        "codes": case.codes,
        "ordinal": [c for rule in case.ordinal for c in rule.columns],
        "map": case.map,
        "features": columns_of(case.features.values()),
        "clusters": case.clusters,
        "slices": list(case.slices),
        "behaviour": [column for test in case.behaviour for column in test.change],
    }
    named = (to_learn_from if need_target else {}) | always
    for key, columns in named.items():
        for column in columns:
            if column not in frame.columns:
                raise InputError(
                    f"{name} has no column {column!r}, which {key} names; its columns are "
                    f"{_listed(frame.columns)}"
                )


def _listed(names: pd.Index) -> str:
    shown, more = ", ".join(names[:MOST_LISTED]), len(names) - MOST_LISTED
    return shown if more <= 0 else f"{shown} and {more} more"


def _column(values: pd.Series, column: str, case: Case, is_text: bool) -> pd.Series:
    if values.dtype.kind in "if" and not is_text:  # from Parquet, which brings its own types
        values = values.astype("int64" if values.dtype.kind == "i" else "float64")
        return values.mask(values.isin([float(t) for t in case.missing if fullmatch(NUMBER, t)]))
    if values.dtype.kind == "f":  # a code from Parquet with gaps: 20.0 is the code 20
        values = values.map(lambda v: f"{v:.0f}" if v.is_integer() else str(v), na_action="ignore")
    if values.dtype == object and values.map(lambda value: isinstance(value, bytes)).any():
        values = values.map(_text, na_action="ignore")
    text = values.astype("str").str.rstrip()
    text = text.mask(text.isin(["", *case.missing]))
    known = text.dropna().str.lstrip()
    if not is_text and len(known) and known.str.fullmatch(NUMBER).all():
        return _number(text, known)
    return text.fillna(ABSENT) if column in case.absent else text


def _text(value: bytes) -> str:
    """A text that Parquet keeps as bytes; what is no text, as hexadecimal digits."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"0x{value.hex()}"


def _number(text: pd.Series, known: pd.Series) -> pd.Series:
    if not known.str.fullmatch(INTEGER).all():
        return pd.to_numeric(text).astype("float64")
    if known.str.len().max() > 20:  # a sign and 19 digits: as many as 64 bits hold
        return text
    largest = max(abs(int(value)) for value in known)
    if len(known) == len(text):
        return text.astype("int64") if largest < 2**63 else text
    # With gaps it must be a float, which is exact only so far; a longer number is a name.
    return pd.to_numeric(text).astype("float64") if largest <= EXACT_IN_FLOAT else text


def _check_numbers(frame: pd.DataFrame, name: str) -> None:
    for column, values in frame.select_dtypes("float64").items():
        for row in np.flatnonzero(values.abs() > LARGEST):
            raise InputError(
                f"{name}: {column} is {values.iloc[row]:g} in row {row + 1}, and no number may be "
                f"beyond {LARGEST:.2g}; mend the cell, or leave it empty"
            )


def _check_id(frame: pd.DataFrame, name: str, case: Case) -> None:
    if not case.id or case.id not in frame:
        return
    ids = frame[case.id]
    if ids.isna().any():
        row = int(np.flatnonzero(ids.isna())[0]) + 1
        raise InputError(f"{name}: the id {case.id} is missing in row {row}")
    repeats = ids[ids.duplicated(keep=False)]
    if len(repeats):
        first = repeats.tolist()[0]
        rows = [int(i) + 1 for i in repeats.index[repeats == first][:3]]
        raise InputError(
            f"{name}: the id {case.id} repeats; {first!r} stands in rows "
            f"{', '.join(map(str, rows))}; every row needs an id of its own, or leave id out"
        )
