"""Rows that a model answered, window by window, and the rows that it is known by."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd

from truefit import expressions
from truefit.bundle import Bundle
from truefit.case import ABSENT, Case
from truefit.metrics import truth
from truefit.monitoring.density import UsualRows, fit_usual

NO_LIVE_ROWS = (
    "give time and production_from, raise data_prep.production_share, or watch a service's log"
)
FEW_AT_A_TIME = 5  # rows; with fewer at the median time, a time is no window


@dataclass(frozen=True)
class Traffic:
    """Rows that a model answered, in the order of their time; all parts share one RangeIndex."""

    rows: pd.DataFrame  # the columns that the model takes, as far as known; a gap is None or NaN
    answers: pd.DataFrame  # score: prediction or probability of the positive class; low and high
    truth: pd.Series  # the target, or 1 for the positive class and 0; NaN while it is not known
    windows: pd.Series  # the name of each row's window; they follow in order of first appearance
    ids: pd.Series  # what a person finds a row by
    notes: tuple[str, ...] = ()  # what was left out or is odd, in sentences

    def take(self, at: Sequence[int] | np.ndarray) -> Self:
        """Some of the rows, by position or by a mask."""
        return replace(
            self,
            rows=self.rows.loc[at].reset_index(drop=True),
            answers=self.answers.loc[at].reset_index(drop=True),
            truth=self.truth.loc[at].reset_index(drop=True),
            windows=self.windows.loc[at].reset_index(drop=True),
            ids=self.ids.loc[at].reset_index(drop=True),
        )

    def window(self, name: str) -> "Traffic":
        """The rows of one window."""
        return self.take((self.windows == name).to_numpy())

    @property
    def names(self) -> list[str]:
        """The windows, in their order."""
        return list(self.windows.unique())


@dataclass(frozen=True)
class Baseline:
    """What is usual, to compare a window with.

    Parameters
    ----------
    bundle : Bundle
        The model, whose manifest has the range and the categories of each column.
    rows : DataFrame
        The columns that the model takes, of the training rows and the test rows.
    held : Traffic
        The test rows with their answers, which tell what errors are usual.
    usual : UsualRows
        Tells rows that are unlike any in training.
    clock : frozenset of str
        Columns that tell the time. They differ from window to window whatever happens, so they
        are not compared.
    """

    bundle: Bundle
    rows: pd.DataFrame
    held: Traffic
    usual: UsualRows
    clock: frozenset[str]

    def unlike(self, traffic: Traffic) -> np.ndarray:
        """Which rows are unlike any in training."""
        return self.usual.unlike(traffic.rows.drop(columns=self.clock, errors="ignore"))

    @cached_property
    def held_unlike(self) -> np.ndarray:
        """Which of the test rows are."""
        return self.unlike(self.held)

    def columns(self, traffic: Traffic) -> list:
        """The columns of the manifest to compare: known in the traffic, and telling no time."""
        known = [c for c in self.bundle.inputs if c.name in traffic.rows]
        return [c for c in known if c.name not in self.clock]


def baseline(
    bundle: Bundle,
    case: Case,
    train: pd.DataFrame,
    test: pd.DataFrame,
    *,
    components: int,
    seed: int,
) -> Baseline:
    """What is usual for a model: its training rows, and its answers to the test rows.

    Parameters
    ----------
    bundle : Bundle
    case : Case
        Its block in ``params.yaml``.
    train, test : DataFrame
        From the step data_prep.
    components : int
        Most normal distributions in the mixture that describes usual rows.
    seed : int
        Of that mixture.
    """
    clock = clock_columns(case)
    held = answered(bundle, case, test, pd.Series("test rows", index=range(len(test))))
    learned = model_rows(bundle, train)
    telling = [c for c in held.rows if c not in clock]
    usual = fit_usual(learned[telling], held.rows[telling], components=components, seed=seed)
    rows = pd.concat([learned, held.rows], ignore_index=True)
    return Baseline(bundle, rows, held, usual, clock)


def replay(
    bundle: Bundle, case: Case, production: pd.DataFrame, *, window_rows: int, seed: int
) -> Traffic:
    """The live rows of a case, as if they were sent now, window by window, labels known.

    A window is what the case's block says; without a word there, rows with the same time. Where
    hardly any rows share a time, and without a time, a window is ``window_rows`` rows, and the
    last one takes what is left beyond whole ones. Without a time the rows come in a random order,
    because that of a file says nothing certain about when they were.

    Returns
    -------
    Traffic
        A note says how many labels cannot be used, and where there is no live row at all.

    Raises
    ------
    InputError
        If the block's expressions do not work on the live rows.
    """
    if production.empty:
        nothing = answered(bundle, case, production, pd.Series(dtype="str"))
        return replace(nothing, notes=(f"{case.table} has no live rows: {NO_LIVE_ROWS}",))
    if not (case.window or case.time):
        production = production.sample(frac=1, random_state=seed)
    found = answered(bundle, case, *in_windows(production, case, window_rows))
    unusable = int((production[case.target].notna() & ~has_label(production, case)).sum())
    if not unusable:
        return found
    said = f"{case.target} is not above 0 in {unusable:,} of the live rows, and so has no logarithm"
    return replace(found, notes=(f"{said}; these count as not labelled",))


def has_label(frame: pd.DataFrame, case: Case) -> pd.Series:
    """Which rows have a target that a prediction can be compared with."""
    return case.has_label(frame[case.target])


def in_windows(frame: pd.DataFrame, case: Case, window_rows: int) -> tuple[pd.DataFrame, pd.Series]:
    """Rows in the order of their windows, and the name of each row's window; see `replay`."""
    frame = frame.reset_index(drop=True)
    keys = _window_keys(frame, case, window_rows)
    keys = keys.sort_values(list(keys), kind="stable")
    names = keys.apply(lambda row: "-".join(_plain(v) for v in row), axis=1)
    return frame.loc[keys.index].reset_index(drop=True), names.reset_index(drop=True)


def answered(bundle: Bundle, case: Case, frame: pd.DataFrame, windows: pd.Series) -> Traffic:
    """Rows of a prepared table with the model's answers."""
    frame = frame.reset_index(drop=True)
    answers = pd.DataFrame({"score": bundle.score(frame) if len(frame) else np.empty(0)})
    if ends := bundle.manifest.ends(answers["score"]):
        answers["low"], answers["high"] = ends
    known = has_label(frame, case)
    actual = pd.Series(np.nan, index=frame.index)
    actual[known] = truth(frame.loc[known, case.target], case).astype(float)
    ids = frame[case.id] if case.id else pd.Series(frame.index + 1)
    return Traffic(model_rows(bundle, frame), answers, actual, windows, ids.rename("id"))


def model_rows(bundle: Bundle, frame: pd.DataFrame) -> pd.DataFrame:
    """The columns that the model takes, as a service gets them: what a row has none of is a gap."""
    rows = frame[[c.name for c in bundle.inputs]].reset_index(drop=True)
    for column in (c.name for c in bundle.inputs if c.absent):
        rows[column] = rows[column].where(rows[column] != ABSENT)
    return rows


def errors(traffic: Traffic, case: Case) -> pd.Series:
    """How far each truth lies above its prediction; NaN where no label has come.

    The logarithm of their ratio where the model learns the logarithm of the target, else their
    difference; in a classification the difference of truth (1 or 0) and probability.
    """
    return case.errors(traffic.truth, traffic.answers["score"])


def clock_columns(case: Case) -> frozenset[str]:
    """The columns that tell when a row came: the time, and what windows are made of."""
    by = case.window.by if case.window else []
    return frozenset([*expressions.columns_of(by), *([case.time] if case.time else [])])


def _window_keys(frame: pd.DataFrame, case: Case, window_rows: int) -> pd.DataFrame:
    if case.window:
        return pd.DataFrame({i: expressions.values(e, frame) for i, e in enumerate(case.window.by)})
    n = max(1, len(frame) // window_rows)
    block = np.minimum(np.arange(len(frame)) // window_rows, n - 1) + 1
    if not case.time:
        return pd.DataFrame({"block": block}, index=frame.index)
    times = frame[case.time].sort_values(kind="stable")
    if times.value_counts().median() < FEW_AT_A_TIME:
        times = times.groupby(block).transform("first")  # which names the window
    return pd.DataFrame({"time": times})


def _plain(value: object) -> str:
    # All digits of a number, or two dates such as 20170601 and 20170602 would be one window.
    return f"{value:.17g}" if isinstance(value, float) and value.is_integer() else str(value)
