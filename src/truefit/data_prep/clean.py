"""Clean by rules that are written down, and decide what each column is for."""

import pandas as pd

from truefit.case import Case
from truefit.expressions import condition
from truefit.project import InputError


def clean(frame: pd.DataFrame, case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Apply the case's cleaning rules to rows that are to be learned from.

    Live rows are never cleaned: nobody mends a request by hand, so a model must meet them as
    they come.

    Returns
    -------
    cleaned : DataFrame
        What is left, with the index of ``frame``.
    log : DataFrame
        One row for each rule: ``rule``, ``rows`` (how many it touched) and ``reason``.

    Raises
    ------
    InputError
        If a rule is not a condition over the table's columns; see `truefit.expressions`.
    """
    log = []
    for rule in case.blank:
        hit = condition(rule.when, frame)
        log.append((f"blank {rule.column} when {rule.when}", int(hit.sum()), rule.reason))
        frame = frame.copy()
        frame[rule.column] = frame[rule.column].mask(hit)  # assign takes no column called self
    unknown = frame[case.target].isna()  # blanked ones among them
    if unknown.any():
        log.append(("drop rows without a target", int(unknown.sum()), "nothing to learn from"))
        frame = frame[~unknown]
    for rule in case.drop_rows:
        hit = condition(rule.when, frame)
        log.append((f"drop rows when {rule.when}", int(hit.sum()), rule.reason))
        frame = frame[~hit]
    if case.drop_repeats:
        hit = frame.duplicated()
        log.append(("drop rows that repeat", int(hit.sum()), case.drop_repeats))
        frame = frame[~hit]
    if frame.empty:
        raise InputError(f"{case.table}: the cleaning rules leave no row; look at drop_rows")
    return frame, pd.DataFrame(log, columns=["rule", "rows", "reason"])


def column_roles(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """What each column is for.

    Returns
    -------
    DataFrame
        Indexed by column, with ``role`` (``target``, ``id``, ``time``, ``dropped``, ``number``,
        ``ordered`` or ``category``) and ``why`` where a column is not learned from.
    """
    rows = {}
    for column in frame.columns:
        if column == case.target:
            rows[column] = ("target", "what is predicted")
        elif column == case.id:
            rows[column] = ("id", "names a row and says nothing about it")
        elif column == case.time:
            rows[column] = ("time", "orders rows; live rows lie beyond every time in training")
        elif column in case.drop_columns:
            rows[column] = ("dropped", case.drop_columns[column])
        elif frame[column].nunique() <= 1:
            rows[column] = ("dropped", "it has the same value in every row")
        elif case.order_of(column):
            rows[column] = ("ordered", "")
        elif pd.api.types.is_numeric_dtype(frame[column]):
            rows[column] = ("number", "")
        else:
            rows[column] = ("category", "")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["role", "why"])
