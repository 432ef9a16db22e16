"""Does a classifier treat groups of people alike: rates by group, and how far apart they are.

The figures are fairlearn's. A group that has no row to take a rate of, such as one without a
positive row, has no such rate: it is blank, and left out of what compares the groups, where
fairlearn by itself takes 0.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from truefit.evaluation.slices import members
from truefit.evaluation.uncertainty import wilson
from truefit.metrics import AT_ONCE, truth
from truefit.project import InputError
from truefit.task import BinaryClassification
from truefit.verdicts import Conclusion

FEWEST_ROWS = 20  # a smaller group is pooled, and not compared with others
DRAWS = 2000  # of groups dealt at random
RATES = ("selection_rate", "true_positive_rate", "false_positive_rate")
MEASURES = (
    "demographic parity difference",
    "demographic parity ratio",
    "equalized odds difference",
    "equal opportunity difference",
)


def group_fairness(
    test: pd.DataFrame,
    p: np.ndarray,
    case: BinaryClassification,
    labels: pd.DataFrame,
    *,
    confidence: float,
) -> pd.DataFrame:
    """What each group of the protected slices gets.

    Parameters
    ----------
    test : DataFrame of shape (n_samples, n_columns)
        Rows that nothing was fitted on, with the target.
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class; from ``case.threshold`` on a row is called positive.
    case : BinaryClassification
    labels : DataFrame of shape (n_samples, n_slices)
        From `truefit.evaluation.slices.slice_labels`. Groups of fewer than 20 rows are pooled.
    confidence : float
        Of Wilson's intervals of the three rates (Wilson, Probable Inference, the Law of
        Succession, and Statistical Inference, JASA 22, 1927), which hold for few rows, too, where
        resamples of a rate of 0 or 1 would all be alike.

    Returns
    -------
    DataFrame
        Indexed by ``slice`` and ``group``: ``rows``, ``base_rate`` (the share of the positive
        class), ``selection_rate`` (the share called positive), ``true_positive_rate``,
        ``false_positive_rate``, ``precision``, ``mean_probability``, and ``<rate>_low`` and
        ``<rate>_high`` of the three rates. NaN where there is nothing to take a share of.

    Raises
    ------
    InputError
        If the case is a regression.
    """
    from fairlearn.metrics import MetricFrame

    actual, called = _calls(test, p, case)
    tables = {}
    for name in _protected(case, labels):
        groups = members(labels[name], FEWEST_ROWS)
        # On the positions of the rows, because two of the figures need more than the calls.
        place = np.arange(len(actual))
        frame = MetricFrame(
            metrics={
                "rows": lambda i, _: len(i),
                "base_rate": lambda i, _: actual[i].mean(),
                **{rate: _fairlearn(rate, actual, called) for rate in (*RATES, "precision")},
                "mean_probability": lambda i, _: np.asarray(p, dtype=float)[i].mean(),
            },
            y_true=place,
            y_pred=place,
            sensitive_features=_named(groups),
        )
        table = frame.by_group.loc[list(groups)].astype(float).astype({"rows": int})
        for rate in RATES:
            ends = [_wilson(called[m], actual[m], rate, confidence) for m in groups.values()]
            table[f"{rate}_low"], table[f"{rate}_high"] = np.array(ends).T
        tables[name] = table.rename_axis("group")
    return pd.concat(tables, names=["slice"]) if tables else pd.DataFrame()


def fairness_summary(
    test: pd.DataFrame,
    p: np.ndarray,
    case: BinaryClassification,
    labels: pd.DataFrame,
    weights: np.ndarray,
    *,
    confidence: float,
    seed: int = 0,
) -> pd.DataFrame:
    """How far apart the groups of each protected slice are.

    The differences are those between the highest and the lowest group; the ratio is the lowest
    selection rate by the highest, which the four-fifths rule wants at 0.8 or more. The equalized
    odds difference is the larger one of the differences of the two error rates, and equal
    opportunity asks for the true positive rate alone (Hardt and others, Equality of Opportunity
    in Supervised Learning, 2016). Groups of few rows differ by chance, the more so the more groups
    there are, so what random groups of the same sizes would give stands beside each figure. A
    small difference is no proof of fairness, and where base rates differ, not all can be 0 at
    once.

    Parameters
    ----------
    test, p, case, labels
        See `group_fairness`. Groups of fewer than 20 rows, pooled or not, are left out.
    weights : ndarray of shape (n_resamples + 1, n_samples)
        From `bootstrap_weights`: the first row ones.
    confidence : float
        Of the bias-corrected bootstrap intervals (Efron and Tibshirani, An Introduction to the
        Bootstrap, 1993, chapter 14): in resamples, groups lie further apart than in the sample.
    seed : int
        Of the random groups.

    Returns
    -------
    DataFrame
        Indexed by ``slice`` and ``measure``: ``value``, ``low``, ``high``, ``by_chance`` (the mean
        over random groups; for the two about odds dealt within each class) and ``beyond_chance``:
        ``yes`` if random groups come as far apart in fewer than 1 − confidence of all draws, else
        ``no``. Blank where fewer than two groups can be compared.

    Raises
    ------
    InputError
        If the case is a regression.
    """
    actual, called = _calls(test, p, case)
    rows = {}
    for number, name in enumerate(_protected(case, labels)):
        groups = members(labels[name], FEWEST_ROWS)
        large = [m for m in groups.values() if m.sum() >= FEWEST_ROWS]
        values = _measures(*_rates_of_resamples(actual, called, large, weights))
        # Each slice has its own stream, whatever other slices there are before it.
        rng = np.random.default_rng([seed, number])
        chance = _measures(*_rates_of_random_groups(actual, called, large, rng))
        for measure, found, drawn in zip(MEASURES, values, chance, strict=True):
            rows[name, measure] = _row(found, drawn, measure, confidence)
    columns = ["value", "low", "high", "by_chance", "beyond_chance"]
    index = pd.MultiIndex.from_tuples(list(rows), names=["slice", "measure"]) if rows else None
    return pd.DataFrame(list(rows.values()), index=index, columns=columns)


def _protected(case: BinaryClassification, labels: pd.DataFrame) -> list[str]:
    for name in case.protected:
        if name not in labels:
            raise InputError(
                f"params.yaml: {name!r} is protected, and must be among the slices; add it there"
            )
    return case.protected


def _calls(
    test: pd.DataFrame, p: np.ndarray, case: BinaryClassification
) -> tuple[np.ndarray, np.ndarray]:
    return truth(test[case.target], case), (np.asarray(p) >= case.threshold).astype(float)


def _named(groups: dict[str, np.ndarray]) -> np.ndarray:
    names = np.empty(len(next(iter(groups.values()))), dtype=object)
    for name, member in groups.items():
        names[member] = name
    return names


def _of(rate: str, called: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The rows that a rate is a share of."""
    if rate == "true_positive_rate":
        return actual == 1
    if rate == "false_positive_rate":
        return actual == 0
    return called == 1 if rate == "precision" else np.ones(len(actual), dtype=bool)


def _fairlearn(rate: str, actual: np.ndarray, called: np.ndarray) -> Callable[..., float]:
    """Fairlearn's rate of some rows, by their positions; NaN where there is none to take."""
    from fairlearn import metrics
    from sklearn.metrics import precision_score

    def figure(places: np.ndarray, _: Any) -> float:
        y, said = actual[places], called[places]
        if not _of(rate, said, y).any():
            return math.nan
        if rate == "precision":
            return precision_score(y, said, pos_label=1)
        return getattr(metrics, rate)(y, said, pos_label=1)

    return figure


def _wilson(
    called: np.ndarray, actual: np.ndarray, rate: str, confidence: float
) -> tuple[float, float]:
    hits = called[_of(rate, called, actual)]
    if not len(hits):
        return math.nan, math.nan
    return wilson(int(hits.sum()), len(hits), confidence)


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, np.full(np.shape(part), np.nan), where=whole > 0)


def _rates_of_resamples(
    actual: np.ndarray, called: np.ndarray, groups: list[np.ndarray], weights: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Selection, true positive and false positive rates, each (n_resamples, n_groups)."""
    member = np.column_stack(groups).astype(float) if groups else np.empty((len(actual), 0))
    parts, rows = [], max(1, AT_ONCE // len(actual))
    for first in range(0, len(weights), rows):
        block = weights[first : first + rows].astype(float)
        found = []
        for asked in (np.ones(len(actual)), actual, 1 - actual):
            found.append(_share((block * asked * called) @ member, (block * asked) @ member))
        parts.append(found)
    return tuple(np.vstack(part) for part in zip(*parts, strict=True))


def _rates_of_random_groups(
    actual: np.ndarray, called: np.ndarray, groups: list[np.ndarray], rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """The same rates where chance deals the rows to groups of the same sizes."""
    within = np.any(groups, axis=0) if groups else np.zeros(len(actual), dtype=bool)
    found = []
    for asked in (np.ones(len(actual)), actual, 1 - actual):
        sizes = np.array([int((m * asked).sum()) for m in groups], dtype=int)
        total = int((called * asked)[within].sum())
        if not len(sizes):
            found.append(np.empty((DRAWS, 0)))
            continue
        dealt = rng.multivariate_hypergeometric(sizes, total, size=DRAWS)
        found.append(_share(dealt.astype(float), np.broadcast_to(sizes, dealt.shape)))
    return tuple(found)


def _measures(
    selection: np.ndarray, true_positive: np.ndarray, false_positive: np.ndarray
) -> list[np.ndarray]:
    """`MEASURES` from rates of shape (n_resamples, n_groups)."""
    low, high = _ends(selection)
    hits, alarms = (np.subtract(*reversed(_ends(r))) for r in (true_positive, false_positive))
    # One of the two may be unknown, for want of rows of that class in two groups.
    odds = np.fmax(hits, alarms)
    return [high - low, _share(low, high), odds, hits]


def _ends(rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lowest and the highest of the known rates; NaN unless there are two to compare."""
    known = ~np.isnan(rates)
    low = np.min(np.where(known, rates, np.inf), axis=1, initial=np.inf)
    high = np.max(np.where(known, rates, -np.inf), axis=1, initial=-np.inf)
    enough = known.sum(axis=1) >= 2
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)


def _row(values: np.ndarray, drawn: np.ndarray, measure: str, confidence: float) -> tuple:
    value, resampled = values[0], values[1:][~np.isnan(values[1:])]
    drawn = drawn[~np.isnan(drawn)]
    if math.isnan(value) or not len(resampled) or not len(drawn):
        return float(value), math.nan, math.nan, math.nan, ""
    n, trace = len(resampled), 1e-12  # what rounding leaves of no difference
    below = (np.sum(resampled < value - trace) + np.sum(resampled <= value + trace)) / 2
    shift = norm.ppf(np.clip(below / n, 0.5 / n, 1 - 0.5 / n))
    tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
    low, high = np.quantile(resampled, norm.cdf(2 * shift + norm.ppf(tails)))
    sign = -1 if measure.endswith("ratio") else 1
    as_far = int(np.sum(sign * drawn >= sign * value - trace))
    beyond = (as_far + 1) / (len(drawn) + 1) < 1 - confidence
    found = Conclusion.YES if beyond else Conclusion.NO
    return float(value), float(low), float(high), float(drawn.mean()), found
