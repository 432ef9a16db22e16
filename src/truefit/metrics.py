"""The figures that models are judged by, for one sample or for thousands of resamples at once.

Every metric is a function of the true values, the predictions and a matrix of weights, one row a
resample: how often each row of the table was drawn into it. A row of ones gives the metric
itself; scikit-learn's function of the same name gives the same number, which the tests assert.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from truefit.case import Case

if TYPE_CHECKING:
    import pandas as pd

AT_ONCE = 2_000_000  # weights in one computation, 16 MB, however many rows are tested
HIGHER_IS_BETTER = {"r2", "accuracy", "precision", "recall", "f1", "roc_auc", "average_precision"}
LABELS = {
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "r2": "R²",
    "rmse_log": "RMSE of the logarithm",
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "roc_auc": "ROC AUC",
    "average_precision": "average precision",
    "brier": "Brier score",
    "cost": "cost a row",
}


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return weights @ values / weights.sum(axis=1)


def _mse(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _mean((y - p) ** 2, w)


def _ratio(above: np.ndarray, below: np.ndarray, otherwise: float = 0.0) -> np.ndarray:
    """A quotient, and ``otherwise`` where it would be 0 / 0; scikit-learn takes 0 for most."""
    return np.divide(above, below, np.full(np.shape(above), otherwise), where=below > 0)


def _r2(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    error = _mse(y, p, w)
    from_mean = y - y.mean()  # squares of a large common part would drown the variance
    variance = _mean(from_mean**2, w) - _mean(from_mean, w) ** 2
    # A resample of a single value has no variance, and rounding may leave a trace of one.
    variance[variance <= 1e-13 * _mean(from_mean**2, w)] = 0
    return np.where(variance > 0, 1 - _ratio(error, variance), error == 0)


def _accuracy(y: np.ndarray, called: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _mean((y == called).astype(float), w)


def _precision(y: np.ndarray, called: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _ratio(w @ (y * called), w @ called)


def _recall(y: np.ndarray, called: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _ratio(w @ (y * called), w @ y)


def _f1(y: np.ndarray, called: np.ndarray, w: np.ndarray) -> np.ndarray:
    return _ratio(2 * (w @ (y * called)), w @ called + w @ y)


def _by_score(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weight of positives and of negatives at each distinct score, highest score first."""
    order = np.argsort(-p, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(p[order]) != 0])
    positives = np.add.reduceat(w[:, order] * y[order], starts, axis=1)
    negatives = np.add.reduceat(w[:, order] * (1 - y[order]), starts, axis=1)
    return positives, negatives


def _roc_auc(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    positives, negatives = _by_score(y, p, w)
    above = np.cumsum(positives, axis=1) - positives / 2  # a tie counts half
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _ratio((negatives * above).sum(axis=1), pairs, np.nan)  # no pair, nothing to order


def _average_precision(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
    positives, negatives = _by_score(y, p, w)
    found, called = np.cumsum(positives, axis=1), np.cumsum(positives + negatives, axis=1)
    return _ratio((positives * _ratio(found, called)).sum(axis=1), positives.sum(axis=1))


Metric = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]

REGRESSION: dict[str, Metric] = {
    "mse": _mse,
    "rmse": lambda y, p, w: np.sqrt(_mse(y, p, w)),
    "mae": lambda y, p, w: _mean(np.abs(y - p), w),
    "r2": _r2,
}
LOGGED: dict[str, Metric] = {
    "rmse_log": lambda y, p, w: np.sqrt(_mse(np.log(y), np.log(p), w)),
}
CALLS: dict[str, Metric] = {  # of classes called, not of probabilities
    "accuracy": _accuracy,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
}
PROBABILITIES: dict[str, Metric] = {
    "roc_auc": _roc_auc,
    "average_precision": _average_precision,
    "brier": _mse,
}


def of_calls(metric: Metric, threshold: float) -> Metric:
    """A metric of calls, as one of probabilities: a row is called positive from a threshold on.

    Examples
    --------
    >>> y, p = np.array([1.0, 0.0, 1.0]), np.array([0.9, 0.4, 0.3])
    >>> accuracy = of_calls(CALLS["accuracy"], threshold=0.5)
    >>> accuracy(y, p, np.array([[1, 1, 1], [0, 3, 0]])).round(3).tolist()  # the rows; a resample
    [0.667, 1.0]
    """
    return lambda y, p, w: metric(y, (p >= threshold).astype(float), w)


def cost(false_positive: float, false_negative: float, threshold: float) -> Metric:
    """What the wrong calls cost, a row on average.

    Examples
    --------
    >>> y, p = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.9, 0.7, 0.3, 0.1])
    >>> in_all = cost(false_positive=1, false_negative=5, threshold=0.5)
    >>> in_all(y, p, np.ones((1, 4))).tolist()  # one false positive, one false negative
    [1.5]
    """

    def metric(y: np.ndarray, p: np.ndarray, w: np.ndarray) -> np.ndarray:
        row = np.where(p >= threshold, (1 - y) * false_positive, y * false_negative)
        return _mean(row, w)

    return metric


def truth(y: pd.Series, case: Case) -> np.ndarray:
    """The true values as numbers; in a classification 1 is the positive class."""
    return case.truth(y).to_numpy()


def predictions(model: Any, X: pd.DataFrame, case: Case) -> np.ndarray:
    """Predictions in the target's unit, or probabilities of the positive class.

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    return np.asarray(case.answers(model, X), dtype=float)


def resample(y: pd.Series, p: np.ndarray, weights: np.ndarray, case: Case) -> dict[str, np.ndarray]:
    """Every metric for every resample.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        The target.
    p : ndarray of shape (n_samples,)
        See `predictions`.
    weights : ndarray of shape (n_resamples, n_samples)
        How often each row stands in each resample.

    Returns
    -------
    dict from name to ndarray of shape (n_resamples,)
    """
    actual, rows = truth(y, case), max(1, AT_ONCE // len(p))
    found = []
    for first in range(0, len(weights), rows):
        block = weights[first : first + rows].astype(float)
        found.append({name: metric(actual, p, block) for name, metric in case.metrics.items()})
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def scores(y: pd.Series, p: np.ndarray, case: Case) -> dict[str, float]:
    """Every metric of one set of predictions.

    Examples
    --------
    >>> import pandas as pd
    >>> from truefit.task import Regression
    >>> prices = Regression(table="prices.csv", target="price")
    >>> found = scores(pd.Series([10.0, 20.0]), np.array([11.0, 17.0]), prices)
    >>> {name: round(value, 3) for name, value in found.items()}
    {'mse': 5.0, 'rmse': 2.236, 'mae': 2.0, 'r2': 0.8}
    """
    ones = np.ones((1, len(p)))
    return {name: float(v[0]) for name, v in resample(y, p, ones, case).items()}
