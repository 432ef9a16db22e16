"""Metrics of models on rows that nothing was fitted on, and differences, with intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from truefit import figures
from truefit.case import Case
from truefit.digits import to_spread
from truefit.metrics import HIGHER_IS_BETTER, LABELS, resample, truth
from truefit.verdicts import Conclusion

# Digits kept in files: what a sum on another processor would not change.
DIGITS = 6
# What `better` says, in words that a reader cannot take for their opposite.
COMPARED = {
    Conclusion.YES: "better",
    Conclusion.NO: "worse",
    Conclusion.UNCLEAR: "not clear",
}


def reference_scores(y: pd.Series, p: np.ndarray, case: Case) -> dict[str, float]:
    """Every metric as scikit-learn computes it, to check ours against."""

    return case.reference_scores(truth(y, case), p)


def bootstrap_weights(n_samples: int, resamples: int, seed: int) -> np.ndarray:
    """Resamples of the rows, with replacement, as counts.

    The first row is the sample itself: ones. One set of resamples serves every model and metric,
    so that differences between models are paired.

    Returns
    -------
    ndarray of uint16, of shape (resamples + 1, n_samples)
    """
    rng, shares = np.random.default_rng(seed), np.full(n_samples, 1 / n_samples)
    weights = np.ones((resamples + 1, n_samples), dtype=np.uint16)
    for counts in weights[1:]:
        counts[:] = rng.multinomial(n_samples, shares)
    return weights


def intervals(
    y: pd.Series,
    predicted: Mapping[str, np.ndarray],
    weights: np.ndarray,
    case: Case,
    *,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """Every model's metrics with percentile bootstrap intervals.

    Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Returns
    -------
    dict from model to DataFrame
        Indexed by metric, with ``value``, ``low`` and ``high``.
    """
    values = _all(y, predicted, weights, case)
    return {name: _summary(found, confidence) for name, found in values.items()}


def differences(
    y: pd.Series,
    predicted: Mapping[str, np.ndarray],
    weights: np.ndarray,
    case: Case,
    *,
    winner: str,
    confidence: float,
) -> dict[str, pd.DataFrame]:
    """The winner's metrics minus each model's, paired row by row.

    Both models meet the same rows in every resample, so what a hard row does to both cancels. The
    winner is not better than itself, so a dummy that wins does not pass the gate.

    Returns
    -------
    dict from model to DataFrame
        Indexed by metric, with ``value``, ``low``, ``high`` and ``better``: ``yes`` or ``no`` if
        the whole interval lies on one side of 0, ``unclear`` if it does not.
    """
    values = _all(y, predicted, weights, case)
    tables = {}
    for name in predicted:
        gap = {m: values[winner][m] - values[name][m] for m in case.metrics}
        table = _summary(gap, confidence)
        sign = np.array([1 if m in HIGHER_IS_BETTER else -1 for m in table.index])
        worst = np.where(sign > 0, table["low"], -table["high"])
        finest = np.where(sign > 0, table["high"], -table["low"])
        table["better"] = above_zero(worst, finest)
        tables[name] = table
    return tables


def above_zero(low: Any, high: Any) -> np.ndarray:
    """Whether each interval lies above 0 as a whole: no if it lies below, else it is unclear."""
    found = [Conclusion.YES, Conclusion.NO]
    return np.select([low > 0, high < 0], found, Conclusion.UNCLEAR)


def _all(
    y: pd.Series, predicted: Mapping[str, np.ndarray], weights: np.ndarray, case: Case
) -> dict[str, dict[str, np.ndarray]]:
    return {name: resample(y, p, weights, case) for name, p in predicted.items()}


def _summary(found: Mapping[str, np.ndarray], confidence: float) -> pd.DataFrame:
    tail = (1 - confidence) / 2
    rows = {
        # A resample without a single positive row has no ROC AUC; the others speak for it.
        name: (values[0], *np.nanquantile(values[1:], [tail, 1 - tail]))
        for name, values in found.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["value", "low", "high"])


def rounded(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """A table of metrics as nested dicts, rounded to the digits that every machine agrees on."""
    return {
        name: {k: float(f"{v:.{DIGITS}g}") for k, v in row.items()}
        for name, row in table.to_dict("index").items()
    }


def metric_table(metrics: pd.DataFrame, caption: str) -> figures.Shown:
    """Metrics with their intervals, for people."""
    return figures.table(_digits(metrics, ""), caption)


def difference_table(gaps: pd.DataFrame, caption: str) -> figures.Shown:
    """Differences with their intervals, for people."""
    return figures.table(in_verdicts(_digits(gaps, "+")), caption)


def in_verdicts(gaps: pd.DataFrame) -> pd.DataFrame:
    """Differences with what ``better`` says in the words of `COMPARED`."""
    shown = gaps.assign(better=gaps["better"].map(COMPARED))
    return shown.rename(columns={"better": "the first is", "p_value": "p-value"})


def _digits(table: pd.DataFrame, sign: str) -> pd.DataFrame:
    """Each metric to the digits that its interval deserves."""
    shown = table.astype(object)
    for name, row in table.iterrows():
        for end in ("value", "low", "high"):
            shown.loc[name, end] = to_spread(row[end], row["high"] - row["low"], sign)
    return shown.rename(index=LABELS)


def simple_rival(winner: str, candidates: Mapping[str, object], case: Case) -> str:
    """The simple model that the winner must be worth more than.

    That is the linear model of the task; the dummy where the winner is that model itself, or
    where it is not among the candidates.
    """
    linear = case.linear_model
    return linear if linear in candidates and winner != linear else "dummy"


def telling_columns(test: pd.DataFrame, case: Case, most: int = 4) -> list[str]:
    """The features that go with the target best, to show beside a row."""
    from truefit.data_prep.explore import relations

    return list(relations(test, case).index[:most])


def worst_rows(
    test: pd.DataFrame, p: np.ndarray, case: Case, most: int, extra: Sequence[str] = ()
) -> pd.DataFrame:
    """The rows the winner gets most wrong.

    Wrong by ratio for a logged target, by difference for another number, and by how sure the
    model was of the wrong class in a classification.
    """
    actual = truth(test[case.target], case)
    error = case.distances(actual, p)
    order = np.argsort(-np.abs(error), kind="stable")[:most]
    more = [c for c in extra if c != case.target]
    heads = [case.target, case.predicted_words, case.distance_words]
    values = [test[case.target].to_numpy(), p, error, *(test[c].to_numpy() for c in more)]
    shown = pd.concat([pd.Series(v, index=test.index) for v in values], axis=1).iloc[order]
    # A column of the table may be called as one of these is.
    shown.columns = [*heads, *(f"{c}, the column" if c in heads else c for c in more)]
    shown.index = test[case.id].iloc[order] if case.id else order + 1
    return shown
