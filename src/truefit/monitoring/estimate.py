"""How large the errors are, estimated while no label has come.

Both ways hold only while a row with the same inputs still has the same chances. Where the world
behind the inputs changes, they go on saying what was true before.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score

from truefit.bundle import Bundle
from truefit.case import Case
from truefit.metrics import truth
from truefit.monitoring.traffic import Traffic, errors, model_rows

LEAST_LABELS = 2  # for an interval


def losses(traffic: Traffic, case: Case) -> pd.Series:
    """The loss of each row, NaN while it has no label.

    The absolute error (of the logarithm where the model learns that) or, in a classification, the
    squared error of the probability, whose mean is the Brier score.
    """
    return case.losses(errors(traffic, case))


# Classes: the probabilities themselves say how often they will be wrong.


def expected_losses(p: np.ndarray) -> np.ndarray:
    """The squared error that each probability expects of itself: p (1 − p).

    With probability p the truth is 1, and the squared error (1 − p)²; else it is p².
    """
    return p * (1 - p)


def expected_accuracy(p: np.ndarray, threshold: float = 0.5) -> float:
    """The share of right calls that the probabilities expect, a row being called 1 from there."""
    return float(np.where(p >= threshold, p, 1 - p).mean())


def expected_auc(p: np.ndarray) -> float:
    """The ROC AUC that the probabilities expect of themselves; NaN where they are all 0 or 1.

    Each row stands among the positives with weight p and among the negatives with weight 1 − p; of
    its pair with itself, which counts half in that, nothing remains.
    """
    p = np.asarray(p, dtype=float)
    itself = float((p * (1 - p)).sum())
    pairs = float(p.sum() * (1 - p).sum())
    if pairs - itself <= 1e-12:
        return np.nan
    both = np.repeat([1, 0], len(p))
    over_all = roc_auc_score(both, np.r_[p, p], sample_weight=np.r_[p, 1 - p])
    return float((over_all * pairs - itself / 2) / (pairs - itself))


# Numbers: a second model learns how large the first one's errors are.


@dataclass(frozen=True)
class LossModel:
    """Says how large the loss of a row will be on average; made by `fit_losses`."""

    _names: list[str]
    _codes: Mapping[str, Mapping[str, int]]
    _trees: HistGradientBoostingRegressor

    def estimate(self, rows: pd.DataFrame, scores: np.ndarray) -> np.ndarray:
        """The loss to expect of each row, from its columns and the model's answer to it.

        Columns that are not there count as gaps.
        """
        if not len(rows):
            return np.empty(0)
        return np.maximum(self._trees.predict(self._numbers(rows, scores)), 0.0)

    def _numbers(self, rows: pd.DataFrame, scores: np.ndarray) -> np.ndarray:
        columns = [np.asarray(scores, dtype=float)]
        for name in self._names:
            values = rows[name] if name in rows else pd.Series(np.nan, index=rows.index)
            if name in self._codes:
                values = values.astype(object).map(self._codes[name])
            columns.append(pd.to_numeric(values, errors="coerce").to_numpy(dtype=float))
        return np.column_stack(columns)


def fit_losses(rows: pd.DataFrame, scores: np.ndarray, loss: np.ndarray, *, seed: int) -> LossModel:
    """Learn how large the loss of a row is.

    Parameters
    ----------
    rows : DataFrame of shape (n_samples, n_columns)
        Training rows, as the model takes them.
    scores, loss : ndarray of shape (n_samples,)
        Their out-of-fold predictions and what those lost. The errors of a model on the rows that
        it was fitted to would be too small.
    seed : int

    Returns
    -------
    LossModel
        Few small trees: an error is mostly noise, and what can be learned of its size is little.
    """
    codes = {
        c: {text: i for i, text in enumerate(rows[c].value_counts().index)}
        for c in rows
        if not pd.api.types.is_numeric_dtype(rows[c])
    }
    trees = HistGradientBoostingRegressor(
        learning_rate=0.05, max_depth=3, min_samples_leaf=30, early_stopping=False,
        random_state=seed,
    )  # fmt: skip
    model = LossModel(list(rows), codes, trees)
    trees.fit(model._numbers(rows, scores), loss)
    return model


def out_of_fold(bundle: Bundle, train: pd.DataFrame, scores: pd.Series, case: Case) -> Traffic:
    """The training rows with the answers of models that had not seen them, as one window."""
    rows = model_rows(bundle, train)
    actual = pd.Series(truth(train[case.target], case), rows.index)
    answers = pd.DataFrame({"score": scores.to_numpy(dtype=float)})
    windows = pd.Series("training rows", rows.index)
    return Traffic(rows, answers, actual, windows, pd.Series(rows.index))


# Beside the truth


def by_window(
    traffic: Traffic, case: Case, estimated: np.ndarray, confidence: float
) -> pd.DataFrame:
    """The mean loss of each window: estimated, and real as far as labels have come.

    Parameters
    ----------
    traffic : Traffic
    case : Case
    estimated : ndarray of shape (n_samples,)
        The loss to expect of each row.
    confidence : float
        Of the interval of the real mean, by Student's t.

    Returns
    -------
    DataFrame
        Indexed by window: ``rows``, ``labelled``, ``estimated``, ``real``, ``low`` and ``high``;
        the last three NaN with fewer than two labels.
    """
    found = {}
    real = losses(traffic, case)
    for name in traffic.names:
        here = (traffic.windows == name).to_numpy()
        known = real[here].dropna()
        row = [int(here.sum()), len(known), float(estimated[here].mean()), *[np.nan] * 3]
        if len(known) >= LEAST_LABELS:
            half = stats.t.ppf((1 + confidence) / 2, len(known) - 1) * known.sem()
            row[3:] = known.mean(), known.mean() - half, known.mean() + half
        found[name] = row
    columns = ["rows", "labelled", "estimated", "real", "low", "high"]
    return pd.DataFrame.from_dict(found, orient="index", columns=columns)


class Agreement(NamedTuple):
    """How well an estimate did, over the windows whose labels came."""

    windows: int
    inside: int  # windows in which the estimate lies inside the interval of the real mean
    ratio: float  # of the mean real loss and the mean estimated one; NaN if that is none
    correlation: float  # over the windows; NaN with fewer than three


def agreement(table: pd.DataFrame) -> Agreement | None:
    """Judge an estimate; None while no window has labels.

    Parameters
    ----------
    table : DataFrame
        From `by_window`.
    """
    known = table.dropna(subset=["real"])
    if known.empty:
        return None
    inside = int(known["estimated"].between(known["low"], known["high"]).sum())
    weights = known["labelled"]
    means = [np.average(known[name], weights=weights) for name in ("real", "estimated")]
    ratio = float(means[0] / means[1]) if means[1] > 0 else np.nan
    moved = min(known["real"].std(), known["estimated"].std()) if len(known) > 2 else 0.0
    correlation = float(known["real"].corr(known["estimated"])) if moved > 0 else np.nan
    return Agreement(len(known), inside, ratio, correlation)
