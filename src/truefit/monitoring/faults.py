"""Windows in which nothing has changed, and faults to plant in one, to see whether they are found.

A monitor that never speaks and one that always does are equally useless, and on a quiet day both
look like a good one.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from truefit.case import Case
from truefit.manifest import Column
from truefit.monitoring import statistics as st
from truefit.monitoring.diagnosis import BY_THOUSANDS, OTHER_UNITS
from truefit.monitoring.traffic import Baseline, Traffic

RENAMED = " (new name)"


class Fault(NamedTuple):
    """What was done to a window, and the rule and the subject that should say so."""

    name: str
    rule: str
    subject: str
    window: Traffic


def unchanged(baseline: Baseline, rows: int, rng: np.random.Generator, name: str) -> Traffic:
    """A window of rows like the usual ones: drawn from the test rows, with replacement."""
    drawn = baseline.held.take(rng.integers(len(baseline.held.rows), size=rows))
    return renamed(drawn, name)


def renamed(window: Traffic, name: str) -> Traffic:
    """The same rows as a window of another name."""
    return replace(window, windows=pd.Series(name, index=window.windows.index))


def together(windows: list[Traffic]) -> Traffic:
    """Windows one after another."""

    def joined(part: str) -> pd.DataFrame | pd.Series:
        return pd.concat([getattr(w, part) for w in windows], ignore_index=True)

    parts = ("rows", "answers", "truth", "windows", "ids")
    return Traffic(**{part: joined(part) for part in parts})


def plant(
    baseline: Baseline, case: Case, draw: Callable[[str], Traffic], rng: np.random.Generator
) -> Iterator[Fault]:
    """One fault of each kind, as far as the table has columns for it, each in a window of its own.

    In columns that matter: among those that a fault can befall, the one that moves predictions
    most.

    Parameters
    ----------
    baseline : Baseline
    case : Case
    draw : callable
        Makes a window of unchanged rows of a name.
    rng : Generator
        That mixes up labels.
    """
    columns = sorted(baseline.columns(baseline.held), key=lambda c: -c.influence)
    yield from _in_columns(columns, baseline, case, draw)
    name = case.raised_words
    window = draw(name)
    yield Fault(name, "bias", case.target, replace(window, truth=case.raised(window.truth)))
    name = f"{case.target} mixed up"
    window = draw(name)
    mixed = pd.Series(rng.permutation(window.truth.to_numpy()), name=window.truth.name)
    yield Fault(name, "ranking", case.target, replace(window, truth=mixed))


def _in_columns(
    columns: list[Column], baseline: Baseline, case: Case, draw: Callable[[str], Traffic]
) -> Iterator[Fault]:
    """The faults that befall a column; those that matter most come first in ``columns``."""
    if found := _with_another_unit(columns, baseline, case):
        column, unit, factor = found
        name = f"{column.name} in {unit}"
        window = draw(name)
        values = window.rows[column.name].astype(float) * factor
        yield Fault(name, "drift", column.name, _changed(baseline, window, column.name, values))
    # Where most rows have none of a thing, there is no name that most of them have.
    if column := next((c for c in columns if c.type == "text" and c.typical is not None), None):
        most = str(column.typical)
        name = f"{column.name}: {most} renamed"
        window = draw(name)
        values = window.rows[column.name].replace({most: most + RENAMED})
        yield Fault(name, "unseen", column.name, _changed(baseline, window, column.name, values))
    # A service refuses rows that lack what no training row lacked, so such a fault is seen there.
    some = [c for c in columns if c.nullable and not c.absent and c.missing_share < 0.5] or columns
    for column in some[:1]:
        name = f"{column.name} gone"
        window = draw(name)
        gone = window.rows[column.name]
        values = gone.where(gone.isna())
        yield Fault(name, "missing", column.name, _changed(baseline, window, column.name, values))


def _with_another_unit(
    columns: list[Column], baseline: Baseline, case: Case
) -> tuple[Column, str, float] | None:
    """A column of numbers, and a unit that somebody might give it in: a known one if possible."""
    many = [
        c
        for c in columns
        if c.type == "number"
        and baseline.rows[c.name].nunique() > st.FEW_VALUES
        # What is zero in most rows looks the same in every unit.
        and baseline.rows[c.name].median() != 0
    ]
    for column in many:
        if known := OTHER_UNITS.get(case.unit(column.name)):
            unit, factor = known[0]
            return column, unit, factor
    if not many:
        return None
    of = case.unit(many[0].name)
    unit, factor = BY_THOUSANDS[0]
    return many[0], f"{unit} of {of}" if of else unit, factor


def _changed(baseline: Baseline, window: Traffic, column: str, values: pd.Series) -> Traffic:
    """The window with other values in a column, answered anew."""
    rows = window.rows.copy()
    rows[column] = values
    answers = pd.DataFrame({"score": baseline.bundle.score(rows)})
    if ends := baseline.bundle.manifest.ends(answers["score"]):
        answers["low"], answers["high"] = ends
    return replace(window, rows=rows, answers=answers)
