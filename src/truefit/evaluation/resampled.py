"""Is the winner of a cross-validation better beyond chance, when its folds share training rows?"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import t as student

from truefit import figures
from truefit.case import Case
from truefit.digits import number, to_spread
from truefit.evaluation.intervals import above_zero, in_verdicts
from truefit.metrics import HIGHER_IS_BETTER


class CorrectedT(NamedTuple):
    """A mean difference over folds, its interval, and the chance of one as far from 0."""

    mean: float
    low: float
    high: float
    p_value: float


def corrected_t(
    by_fold_difference: Sequence[float] | np.ndarray, *, test_share_ratio: float, confidence: float
) -> CorrectedT:
    """The corrected resampled t-test of a difference over folds.

    The training rows of two folds are mostly the same ones, so their differences go together, and
    the plain t-test takes chance for skill. The variance of the mean is therefore
    ``(1/k + n_test/n_train) s²`` and not ``s²/k`` (Nadeau and Bengio, Inference for the
    Generalization Error, Machine Learning 52, 2003, section 5). It is an approximation, and a
    coarse one with few folds.

    Parameters
    ----------
    by_fold_difference : array-like of shape (n_folds,)
        What is not a number is left out.
    test_share_ratio : float
        Rows held out for each row fitted on; ``1 / (k - 1)`` for k folds.
    confidence : float
        Of the interval.

    Returns
    -------
    CorrectedT
        With fewer than two folds the interval is not known (NaN); where all folds agree exactly it
        is the mean itself, and the p-value 0, or 1 if there is no difference at all.
    """
    gaps = np.asarray(by_fold_difference, dtype=float)
    gaps = gaps[np.isfinite(gaps)]
    if len(gaps) < 2:
        mean = float(gaps[0]) if len(gaps) else math.nan
        return CorrectedT(mean, math.nan, math.nan, math.nan)
    mean, spread = float(gaps.mean()), float(gaps.std(ddof=1))
    if spread <= 1e-12 * np.abs(gaps).max():  # what rounding leaves of no spread
        return CorrectedT(mean, mean, mean, 0.0 if mean else 1.0)
    error = spread * math.sqrt(1 / len(gaps) + test_share_ratio)
    reach = float(student.ppf((1 + confidence) / 2, len(gaps) - 1)) * error
    chance = 2 * float(student.sf(abs(mean) / error, len(gaps) - 1))
    return CorrectedT(mean, mean - reach, mean + reach, chance)


def fold_differences_table(
    results: pd.DataFrame,
    board: pd.DataFrame,
    case: Case,
    *,
    confidence: float,
    winner: str | None = None,
) -> pd.DataFrame:
    """The winner's main metric minus each other candidate's, over the folds.

    Every pair is judged by itself: the more candidates, the likelier that one of them is beaten by
    chance. And the winner was chosen on these folds, so its lead is a little flattering.

    Parameters
    ----------
    results : DataFrame
        One row for each candidate and fold: ``model``, ``fold`` and the metrics; see
        `truefit.training.fold_scores`.
    board : DataFrame
        Indexed by model, best first; see `truefit.training.leaderboard`.
    case : Case
    confidence : float
        Of the intervals of `corrected_t`.
    winner : str, optional
        The first of ``board`` if not given.

    Returns
    -------
    DataFrame
        Indexed by the other candidates in the order of ``board``: ``value``, ``low``, ``high``,
        ``p_value`` and ``better``: ``yes`` or ``no`` if the whole interval lies on one side of 0,
        ``unclear`` if it does not.
    """

    metric = case.main_metric
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    winner = str(board.index[0]) if winner is None else winner
    by_fold = results.pivot(index="model", columns="fold", values=metric)
    rows = {}
    for name in board.index.drop(winner):
        gaps = (by_fold.loc[winner] - by_fold.loc[name]).to_numpy(dtype=float)
        # Of k folds each holds one k-th of the rows out.
        ratio = 1 / (len(gaps) - 1) if len(gaps) > 1 else math.inf
        found = corrected_t(gaps, test_share_ratio=ratio, confidence=confidence)
        worst, best = sorted((sign * found.low, sign * found.high))
        better = above_zero(worst, best).item()
        rows[name] = {"value": found.mean, **found._asdict(), "better": better}
    columns = ["value", "low", "high", "p_value", "better"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def corrected_table(gaps: pd.DataFrame, caption: str) -> figures.Shown:
    """What `fold_differences_table` found, for people: to the digits that the intervals deserve."""
    shown = gaps.astype(object)
    for name, row in gaps.iterrows():
        for end in ("value", "low", "high"):
            known = np.isfinite(row[end])
            shown.loc[name, end] = (
                to_spread(row[end], row["high"] - row["low"], "+") if known else ""
            )
        chance = row["p_value"]
        shown.loc[name, "p_value"] = (
            "" if np.isnan(chance) else "below 0.001" if chance < 0.001 else number(chance, ".3f")
        )
    return figures.table(in_verdicts(shown), caption)
