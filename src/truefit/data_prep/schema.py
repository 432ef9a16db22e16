"""What the training rows look like, as JSON that people read; other rows checked against it."""

from typing import TYPE_CHECKING

import pandas as pd

from truefit.case import Case
from truefit.data_prep.clean import column_roles
from truefit.data_prep.read import checksums

if TYPE_CHECKING:
    from pandera.pandas import Column

UNSEEN = ("target", "time", "dropped")  # roles of columns that a model never sees


def infer_schema(train: pd.DataFrame, case: Case) -> dict:
    """Describe the training rows.

    Types, ranges and uniqueness are inferred with pandera; categories, missing shares and units
    are added.

    Returns
    -------
    dict
        ``{"source": {file: sha256}, "rows": n, "columns": {name: description}}``. A description
        has ``type`` (``integer``, ``number`` or ``text``), ``role`` (see `column_roles`),
        ``missing_share``, and, where they apply, ``unit``, ``minimum`` and ``maximum``,
        ``categories`` (in their order if they have one, else alphabetical), ``typical`` (the
        median, or the most frequent text) and ``unique``.
    """
    import pandera.pandas as pa

    inferred = pa.infer_schema(train)
    roles = column_roles(train, case)["role"]
    columns = {}
    for name, column in inferred.columns.items():
        kind = str(column.dtype)
        described = {
            "type": {"int64": "integer", "float64": "number"}.get(kind, "text"),
            "role": roles[name],
            "unit": case.unit(name),
            "missing_share": round(float(train[name].isna().mean()), 6),
            "unique": name == case.id or None,
        }
        known = train[name].dropna()
        if name == case.id or known.empty:
            pass  # a name has no range, and an empty column tells nothing
        elif described["type"] == "text":
            occur = set(known)
            order = case.order_of(name)
            described["categories"] = [v for v in order if v in occur] if order else sorted(occur)
            described["typical"] = known.mode().iloc[0]
        else:
            described |= {"minimum": known.min().item(), "maximum": known.max().item()}
            # Of two in the middle the lower: a value that occurs.
            described["typical"] = known.quantile(interpolation="lower").item()
        columns[name] = {k: v for k, v in described.items() if v not in (None, "")}
    return {"source": checksums(case), "rows": len(train), "columns": columns}


def check(frame: pd.DataFrame, schema: dict) -> pd.DataFrame:
    """Check rows against the schema of the training rows, with pandera.

    Only what a model sees, and the id, is checked: the target may be unknown, and time goes on.

    Returns
    -------
    DataFrame
        One row for each column and kind of violation: ``column``, ``violation``, ``rows`` (how
        many) and ``example`` (one value); empty if there is none.
    """
    import pandera.pandas as pa

    seen = {n: c for n, c in schema["columns"].items() if c["role"] not in UNSEEN}
    found = []
    for name in [n for n, c in seen.items() if c["type"] != "text" and n in frame]:
        numbers = pd.to_numeric(frame[name], errors="coerce")
        odd = frame.loc[numbers.isna() & frame[name].notna(), name]
        if len(odd):
            found.append((name, "not a number", len(odd), str(odd.iloc[0])))
            seen[name] = seen[name] | {"missing_share": 1.0}  # said once is enough
        frame = frame.copy()
        frame[name] = numbers  # assign takes no column called self
    contract = pa.DataFrameSchema({n: _to_pandera(c) for n, c in seen.items()})
    try:
        contract.validate(frame, lazy=True)
        cases = pd.DataFrame(columns=["column", "failure_case", "check"])
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
    for (column, violation), rows in cases.groupby(
        [cases["column"].fillna(cases["failure_case"]), "check"], sort=False
    ):
        example = rows["failure_case"].iloc[0]
        found.append((column, _in_words(violation, seen.get(column, {})), len(rows), str(example)))
    found = pd.DataFrame(found, columns=["column", "violation", "rows", "example"])
    return found.sort_values(["rows", "column"], ascending=[False, True], ignore_index=True)


def _to_pandera(column: dict) -> "Column":
    import pandera.pandas as pa

    checks = []
    if "minimum" in column:
        checks.append(pa.Check.in_range(column["minimum"], column["maximum"], error="range"))
    if "categories" in column:
        checks.append(pa.Check.isin(column["categories"], error="category"))
    return pa.Column(
        # A column of whole numbers may gain gaps, which makes it a column of floats.
        "str" if column["type"] == "text" else None,
        checks,
        nullable=column["missing_share"] > 0,
        unique=column.get("unique", False),
        coerce=False,
    )


def _in_words(violation: str, column: dict) -> str:
    if violation == "range":
        return f"outside {column['minimum']:g} to {column['maximum']:g}, the range in training"
    return {
        "category": "category not seen in training",
        "not_nullable": "missing, though never missing in training",
        "field_uniqueness": "repeats, though it names a row",
        "column_in_dataframe": "the column is not there",
    }.get(violation, violation)
