"""Is a window different from what is usual, by how much, and could that be chance?

Each comparison gives an effect, which has a meaning of its own, and a p-value: how often unchanged
rows would show an effect at least as large. Small effects of many rows have small p-values, and
large effects of few rows large ones, so a rule needs both.
"""

import warnings
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from truefit.manifest import Column

FEW_VALUES = 10  # up to which a column of numbers is compared value by value
LEAST_EXPECTED = 5  # rows of a category in a window, for the chi-squared distribution to hold
BINS = 10  # of the population stability index
ROUNDING = 1e-13  # a share of the size of numbers that may be no more than their rounding


class Compared(NamedTuple):
    """A window beside the usual: the same figure of both, their distance, and its p-value."""

    value: float
    usual: float
    effect: float
    p: float


def compare_shares(
    found: int, rows: int, usual_found: int, usual_rows: int, *, two_sided: bool = False
) -> Compared:
    """Two shares, by Fisher's exact test; one-sided: larger than usual.

    Parameters
    ----------
    found, rows : int
        How many of how many rows of the window.
    usual_found, usual_rows : int
        The same of the baseline.
    """
    all_found, all_rows = found + usual_found, rows + usual_rows
    p = stats.hypergeom.sf(found - 1, all_rows, all_found, rows)
    if two_sided:
        p = min(1.0, 2 * min(p, stats.hypergeom.cdf(found, all_rows, all_found, rows)))
    value, usual = found / rows, usual_found / usual_rows
    return Compared(value, usual, abs(value - usual) if two_sided else value - usual, float(p))


def is_many(usual: pd.Series) -> bool:
    """Whether a column holds numbers of many values, which are compared by their order."""
    return pd.api.types.is_numeric_dtype(usual) and usual.nunique() > FEW_VALUES


def compare_values(usual: pd.Series, window: pd.Series) -> tuple[str, Compared]:
    """Two samples of one column, gaps left out.

    Numbers by the two-sample Kolmogorov–Smirnov test, with the largest distance between the two
    distribution functions as the effect; texts, and numbers of few values, by the chi-squared
    test of homogeneity (rare values together), with the total variation distance: the share of
    rows that would have to change. Both effects lie between 0 and 1.

    Returns
    -------
    test : str
        ``KS`` or ``chi-squared``.
    compared : Compared
        ``value`` and ``usual`` are the medians, or the shares of the value that moved most.
    """
    usual, window = usual.dropna(), window.dropna()
    if is_many(usual):
        found = stats.ks_2samp(usual, window.astype(float), method="asymp")
        middle = float(window.astype(float).median()), float(usual.median())
        return "KS", Compared(*middle, float(found.statistic), float(found.pvalue))
    return "chi-squared", _compare_categories(usual, window)


def _compare_categories(usual: pd.Series, window: pd.Series) -> Compared:
    _, counts = counts_by_value(usual, window)
    shares = counts / counts.sum(axis=1, keepdims=True)
    moved = shares[1] - shares[0]
    most = np.abs(moved).argmax()
    merged = _merge_rare(counts)
    p = 1.0
    if merged.shape[1] > 1:
        p = float(stats.chi2_contingency(merged, correction=False).pvalue)
    distance = min(1.0, float(np.abs(moved).sum() / 2))  # many small shares add up to a bit more
    return Compared(float(shares[1, most]), float(shares[0, most]), distance, p)


def counts_by_value(usual: pd.Series, window: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """The values that occur, sorted, and how often each does: usual rows first, window second."""
    codes, values = pd.factorize(pd.concat([usual, window], ignore_index=True), sort=True)
    parts = codes[: len(usual)], codes[len(usual) :]
    return values, np.array([np.bincount(part, minlength=len(values)) for part in parts])


def _merge_rare(counts: np.ndarray) -> np.ndarray:
    """Columns of a contingency table, the rarest merged until each is expected often enough."""
    order = np.argsort(counts.sum(axis=0), kind="stable")
    counts = counts[:, order]
    expected = counts.sum(axis=0) * counts.sum(axis=1).min() / counts.sum()
    together = max(1, int(np.searchsorted(np.cumsum(expected), LEAST_EXPECTED)) + 1)
    together = max(together, int((expected < LEAST_EXPECTED).sum()))
    return np.column_stack([counts[:, :together].sum(axis=1), counts[:, together:]])


def values_of_change(usual: pd.Series, window: pd.Series) -> pd.Series:
    """By how much the share of each value is larger in the window, largest first."""
    values, counts = counts_by_value(usual, window)
    change = np.subtract(*(counts / counts.sum(axis=1, keepdims=True))[::-1])
    return pd.Series(change, values).sort_values(ascending=False, kind="stable")


# The population stability index


def psi(usual: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Population stability index of counts by bin, half a row added to each so that none is empty.

    Parameters
    ----------
    usual, window : ndarray of shape (..., n_bins)

    Returns
    -------
    ndarray of shape (...)

    Examples
    --------
    >>> float(psi([100, 100], [100, 100])), round(float(psi([100, 100], [150, 50])), 3)
    (0.0, 0.272)
    """
    a, b = (np.asarray(counts) + 0.5 for counts in (usual, window))
    a, b = a / a.sum(axis=-1, keepdims=True), b / b.sum(axis=-1, keepdims=True)
    return ((b - a) * np.log(b / a)).sum(axis=-1)


def binned(usual: pd.Series, window: pd.Series) -> np.ndarray:
    """Counts by bin, usual rows first: by tenths of these, or by value with one for new ones."""
    usual, window = usual.dropna(), window.dropna()
    if is_many(usual):
        limits = np.unique(np.quantile(usual, np.arange(1, BINS) / BINS))
        places = [np.searchsorted(limits, s.astype(float), side="left") for s in (usual, window)]
        return np.array([np.bincount(p, minlength=len(limits) + 1) for p in places])
    _, counts = counts_by_value(usual, window)
    known = counts[0] > 0
    return np.column_stack([counts[:, known], counts[:, ~known].sum(axis=1)])


def chance_psi(usual: np.ndarray, rows: int, resamples: int, seed: int) -> np.ndarray:
    """The index of windows in which nothing has changed, by drawing them.

    Parameters
    ----------
    usual : ndarray of int, of shape (n_bins,)
        Counts of the baseline.
    rows : int
        In a window.
    resamples : int
    seed : int

    Returns
    -------
    ndarray of shape (resamples,)
    """
    rng, n = np.random.default_rng(seed), int(usual.sum())
    shares = usual / n
    return psi(rng.multinomial(n, shares, resamples), rng.multinomial(rows, shares, resamples))


# Predictions and labels


def compare_means(usual: np.ndarray, window: np.ndarray, *, larger: bool = False) -> Compared:
    """Two means, by Welch's t-test; the effect is their difference."""
    side = "greater" if larger else "two-sided"
    value, expected = float(window.mean()), float(usual.mean())
    gap = value - expected
    # Where nothing varies but by rounding, there is no chance to ask about.
    size = max(np.abs(usual).max(), np.abs(window).max())
    if max(usual.std(), window.std()) <= ROUNDING * size:
        moved = (gap if larger else abs(gap)) > ROUNDING * size
        return Compared(value, expected, gap, float(not moved))
    with warnings.catch_warnings():
        # One side may vary by rounding alone; the other is what the error is taken from.
        warnings.simplefilter("ignore", RuntimeWarning)
        p = stats.ttest_ind(window, usual, equal_var=False, alternative=side).pvalue
    return Compared(value, expected, gap, float(p))


def compare_ranking(
    usual: tuple[np.ndarray, np.ndarray],
    window: tuple[np.ndarray, np.ndarray],
    *,
    classes: bool,
) -> Compared:
    """How well scores order the truths, and how much worse than usual.

    Spearman's rank correlation for numbers (its standard error after Bonett and Wright, 2000);
    twice the ROC AUC less 1 for two classes (after DeLong and others, 1988).

    Parameters
    ----------
    usual, window : pair of ndarray
        Truths and scores.
    classes : bool
        Whether the truths are 1 and 0.
    """
    order = _auc_order if classes else _rank_order
    (value, variance), (expected, usual_variance) = order(*window), order(*usual)
    lost, error = expected - value, np.sqrt(variance + usual_variance)
    z = lost / error if error > 0 else np.sign(lost) * np.inf if lost else 0.0
    to_scale = (lambda v: v) if classes else np.tanh
    value, expected = float(to_scale(value)), float(to_scale(expected))
    return Compared(value, expected, expected - value, float(stats.norm.sf(z)))


def _rank_order(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Fisher's z of the rank correlation, and its variance."""
    if min(np.ptp(truth), np.ptp(score)) == 0:
        rank = 0.0
    else:
        rank = float(np.clip(stats.spearmanr(truth, score).statistic, -0.9999, 0.9999))
    return float(np.arctanh(rank)), (1 + rank**2 / 2) / max(1, len(truth) - 3)


def _auc_order(truth: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Twice the area under the ROC curve less 1, and its variance."""
    above, below = score[truth == 1], score[truth == 0]
    if min(len(above), len(below)) < 2:
        return 0.0, np.inf  # nothing to order
    ranks = stats.rankdata(np.r_[above, below])
    wins = (ranks[: len(above)] - stats.rankdata(above)) / len(below)
    losses = 1 - (ranks[len(above) :] - stats.rankdata(below)) / len(above)
    variance = wins.var(ddof=1) / len(above) + losses.var(ddof=1) / len(below)
    return float(2 * wins.mean() - 1), 4 * float(variance)


def false_discovery(p: np.ndarray) -> np.ndarray:
    """Adjusted p-values of Benjamini and Hochberg, 1995: the share of false ones among the found.

    Found is what lies at or below a level; if nothing has changed, anything is found at most as
    often as the level says.

    Examples
    --------
    >>> false_discovery(np.array([0.01, 0.02, 0.5])).tolist()
    [0.03, 0.03, 0.5]
    """
    return stats.false_discovery_control(p) if len(p) else np.asarray(p)


def out_of_range(column: Column, values: pd.Series) -> np.ndarray:
    """Which numbers lie outside the range in training."""
    if column.minimum is None:
        return np.zeros(len(values), dtype=bool)
    values = values.astype(float)
    return ((values < column.minimum) | (values > column.maximum)).to_numpy()


def unseen(column: Column, values: pd.Series) -> np.ndarray:
    """Which texts are categories that training did not see."""
    known = set(column.categories or ())
    return (values.notna() & ~values.isin(known)).to_numpy(dtype=bool)
