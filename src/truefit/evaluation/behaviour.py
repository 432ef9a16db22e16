"""Does a model do what anybody would expect of it: tests of what it says, not of how often it errs.

After Ribeiro and others, Beyond Accuracy: Behavioral Testing of NLP Models with CheckList, 2020. A
row is changed in one respect and the two predictions are compared, or rows of a kind that leaves
no doubt are predicted.
"""

import math
from difflib import get_close_matches

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from truefit import expressions
from truefit.case import Behaviour, Case
from truefit.digits import number, to_spread
from truefit.metrics import predictions
from truefit.project import InputError

TOLERANCE = 1e-9  # relative; what is nearer is the same prediction
NO_ROW = "no row to test on"


def check_behaviour(model: BaseEstimator, test: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Run each test in the case's ``behaviour``.

    A row that the change leaves as it is, such as one whose value is not known, tests nothing and
    is not counted. A test that applies to no row can neither pass nor fail: it says so, and stops
    nothing.

    Parameters
    ----------
    model : estimator
        Fitted on the raw columns.
    test : DataFrame of shape (n_samples, n_columns)
        Rows that nothing was fitted on.
    case : Case
        A change is a number, a new text, or for a column of numbers an expression; see
        `truefit.expressions`. All changes of one test start from the row as it was.

    Returns
    -------
    DataFrame
        One row for each test: ``test`` (its name), ``kind`` (``invariance``, ``directional`` or
        ``minimum functionality``), ``rows`` (how many it applies to), ``held`` (the share of them
        on which it held), ``asked`` (the share on which it must), ``passed`` (bool) and ``worst``
        (the largest violation in words).

    Raises
    ------
    InputError
        If a condition, a column, a value or an expression does not fit the table.
    """
    columns = ["test", "kind", "rows", "held", "asked", "passed", "worst"]
    found = [_run(model, test, case, asked) for asked in case.behaviour]
    return pd.DataFrame(found, columns=columns)


def behaviour_checks(table: pd.DataFrame) -> list[dict]:
    """What `check_behaviour` found, as checks of the gate.

    Returns
    -------
    list of dict
        ``check``, ``passed`` and ``reason``, one for each test; see `truefit.evaluation.judge`.
    """
    checks = []
    for row in table.itertuples():
        reason = NO_ROW
        if row.rows:
            kept = round(row.held * row.rows)
            # Cut off, not rounded, so that a share below the limit never reads as the limit.
            held = math.floor(1000 * kept / row.rows) / 10
            reason = (
                f"it held on {kept:,} of {row.rows:,} rows, {held:g} %, where "
                f"{number(100 * row.asked, '.6g')} % were asked"
            )
            reason += f"; at worst, {row.worst}" if not row.passed else ""
        checks.append({"check": row.test, "passed": bool(row.passed), "reason": reason})
    return checks


def _run(model: BaseEstimator, test: pd.DataFrame, case: Case, asked: Behaviour) -> dict:
    hit = np.ones(len(test), dtype=bool)
    if asked.when is not None:
        hit = expressions.condition(asked.when, test).to_numpy()
    # The whole table decides on types, so that no row's prediction hangs on the other rows.
    changed, differs = _changed(test, case, asked)
    hit = hit & differs
    kind = {None: "minimum functionality", "same": "invariance"}.get(asked.expect, "directional")
    row = {"test": asked.name, "kind": kind, "rows": int(hit.sum()), "asked": asked.share}
    if not hit.any():
        return row | {"held": math.nan, "passed": True, "worst": NO_ROW}
    features = test.drop(columns=case.target, errors="ignore")
    before = predictions(model, features[hit], case)
    after = before
    if asked.change:
        after = predictions(model, changed[features.columns][hit], case)
    excess = _excess(asked, before, after)
    kept = int((excess <= 0).sum())
    worst = ""
    if kept < len(excess):
        # Nine digits, so that two rows which err alike come in the same order on every machine.
        place = int(np.argmax([float(f"{v:.9g}") for v in excess]))
        name = _name(test, case, int(np.flatnonzero(hit)[place]))
        worst = f"{name}: {_in_words(asked, before[place], after[place], case)}"
    return row | {
        "held": kept / len(excess),
        "passed": kept >= asked.share * len(excess) - 1e-9,
        "worst": worst,
    }


def _excess(asked: Behaviour, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How far each row goes beyond what is allowed, relative to it; at most 0 where it holds."""
    if asked.at_least is not None:
        gap, size = asked.at_least - after, np.full(len(after), abs(asked.at_least))
    elif asked.at_most is not None:
        gap, size = after - asked.at_most, np.full(len(after), abs(asked.at_most))
    else:
        gap = {"same": np.abs(after - before), "not_lower": before - after}.get(
            asked.expect, after - before
        )
        size = np.maximum(np.abs(before), np.abs(after))
    beyond = np.where(gap <= TOLERANCE * size, 0.0, gap)
    # A prediction that is no number holds nothing.
    return np.where(np.isnan(gap), np.inf, beyond)


def _name(test: pd.DataFrame, case: Case, place: int) -> str:
    if case.id in test:
        return f"{case.id} {test[case.id].iloc[place]}"
    return f"row {place + 1:,}"


def _in_words(asked: Behaviour, before: float, after: float, case: Case) -> str:
    unit = f" {case.unit(case.target)}" if case.unit(case.target) else ""
    if asked.expect is None:
        ends = {"at least": asked.at_least, "at most": asked.at_most}
        end, limit = next((end, limit) for end, limit in ends.items() if limit is not None)
        shown = _shown(after, abs(after - limit))
        return f"{shown}{unit}, where {end} {number(limit, ',.12g')} was asked"
    gap = abs(after - before)
    return f"{_shown(before, gap)}{unit} before, {_shown(after, gap)} after"


def _shown(value: float, gap: float) -> str:
    # To two digits of the difference, and never to those that processors disagree on.
    spread = max(gap, 1e-6 * abs(value)) if math.isfinite(gap) else abs(value) / 100
    return to_spread(value, spread) if math.isfinite(value) else "no number"


def _changed(test: pd.DataFrame, case: Case, asked: Behaviour) -> tuple[pd.DataFrame, np.ndarray]:
    """The table with every row changed, and in which rows that makes a difference."""
    if not asked.change:
        return test, np.ones(len(test), dtype=bool)
    new, differs = {}, np.zeros(len(test), dtype=bool)
    for column, value in asked.change.items():
        if column not in test or column == case.target:
            raise InputError(
                f"params.yaml: the behaviour {asked.name!r} changes {column!r}, which is "
                + _why_not(column, test, case)
            )
        if pd.api.types.is_numeric_dtype(test[column]):
            new[column], other = _new_numbers(test, column, value)
        else:
            new[column], other = _new_texts(test, column, value, case, asked.name)
        differs |= other
    changed = test.copy()
    for column, values in new.items():  # assign takes no column called self
        changed[column] = values
    return changed, differs


def _why_not(column: str, test: pd.DataFrame, case: Case) -> str:
    if column == case.target:
        return "the target, and a model never sees it; change a feature"
    close = get_close_matches(column, [str(c) for c in test.columns], n=1)
    known = [str(c) for c in test.columns if c != case.target]
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    return f"not a column; {hint}"


def _new_numbers(
    test: pd.DataFrame, column: str, value: str | int | float
) -> tuple[pd.Series, np.ndarray]:
    old = test[column].to_numpy(dtype=float, na_value=np.nan)
    if isinstance(value, str):
        found = expressions.numbers(value, test).astype(float)
    else:
        found = np.full(len(test), float(value))
    with np.errstate(over="ignore"):  # models compute in float32, in which the two may be equal
        a, b = old.astype(np.float32), found.astype(np.float32)
    differs = (a != b) & ~(np.isnan(a) & np.isnan(b))
    # What does not change keeps its own digits.
    found = pd.Series(np.where(differs, found, old), index=test.index)
    whole = pd.api.types.is_integer_dtype(test[column]) and (found == np.floor(found)).all()
    if whole and found.abs().max() < 2**53:
        found = found.astype(test[column].dtype, errors="ignore")
    return found, differs


def _new_texts(
    test: pd.DataFrame, column: str, value: str | int | float, case: Case, name: str
) -> tuple[pd.Series, np.ndarray]:
    whole = isinstance(value, float) and float(value).is_integer()
    text = str(int(value)) if whole else str(value)
    order = case.order_of(column)
    if order and text not in order:
        raise InputError(
            f"params.yaml: the behaviour {name!r} sets {column} to {text!r}, which is not in its "
            f"order: {', '.join(order)}"
        )
    found = pd.Series(text, index=test.index, dtype=test[column].dtype)
    return found, (test[column] != text).fillna(True).to_numpy(dtype=bool)
