"""Score a whole table with a bundle: read by its rules, written whole or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd

from truefit import project
from truefit.bundle import LARGEST, Bundle
from truefit.case import ABSENT, Case
from truefit.data_prep.read import SUFFIXES, read_table
from truefit.project import InputError


def read_rows(bundle: Bundle, source: Path) -> pd.DataFrame:
    """Read rows to score, by the rules the training data were read by.

    Raises
    ------
    InputError
        If the file is not a table, a column is missing, or a number is none.
    """
    rules = Case(
        table=str(source),
        target=bundle.manifest.target.name,
        task="regression",
        separator=bundle.manifest.reading.separator,
        missing=list(bundle.manifest.reading.missing),
    )
    texts = [column.name for column in bundle.inputs if column.type == "text"]
    frame = read_table(source, rules, need_target=False, texts=texts)
    for column in bundle.inputs:
        name = column.name
        if name not in frame:
            raise InputError(f"{source} has no column {name!r}, which the model needs")
        if column.type == "number":
            known = pd.to_numeric(frame[name], errors="coerce").astype("float64")
            odd = frame[name].notna() & ~(known.abs() <= LARGEST)
            if odd.any():
                at = int(np.flatnonzero(odd)[0])
                raise InputError(
                    f"{source}: {name} is {frame[name].iloc[at]!r} in row {at + 1}, and must "
                    "be a number"
                )
            frame[name] = known
        elif column.absent:
            frame[name] = frame[name].fillna(ABSENT)
    return frame


def predict(bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """Predictions as a table: the id if there is one, and the answer.

    Returns
    -------
    DataFrame
        ``prediction`` in the target's unit, with ``low`` and ``high`` around it if the manifest
        has an interval; or ``prediction``, the class, and ``probability``, of the positive class,
        which is called from the manifest's threshold on.
    """
    found = pd.DataFrame(bundle.manifest.answers(bundle.score(frame)))
    name = bundle.manifest.id
    if name and name in frame:
        found.insert(0, name, frame[name].to_numpy())
    return found


def write_predictions(rows: pd.DataFrame, target: Path) -> None:
    """Write predictions as CSV or Parquet, whole or not at all.

    Raises
    ------
    InputError
        If the suffix names another format, or the file cannot be written there.
    """
    if target.suffix not in SUFFIXES:
        raise InputError(f"{target}: predictions can be written as {' or '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}")
    try:
        with project.replacing(target) as partial:
            if target.suffix == ".csv":
                rows.to_csv(partial, index=False, lineterminator="\n")
            else:
                rows.to_parquet(partial, index=False)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
