"""A classifier whose probabilities are put right by two numbers."""

from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.utils.validation import check_is_fitted

from truefit.case import Case
from truefit.metrics import truth
from truefit.scales import LOG_ODDS

# So weak that it decides only where the data do not: a class that is missing, or one probability.
PENALTY = 1e-4


class Recalibration(NamedTuple):
    """A straight line on log-odds: what a probability becomes is slope · log-odds + intercept."""

    slope: float
    intercept: float


def fit_recalibration(y: pd.Series, p: np.ndarray, case: Case) -> Recalibration:
    """The straight line on log-odds that makes probabilities right, as well as a line can.

    A logistic regression of the truth on the log-odds of the out-of-fold probabilities, without a
    penalty worth the name (Cox, Two Further Applications of a Model for Binary Regression,
    Biometrika 45, 1958; Platt, Probabilistic Outputs for Support Vector Machines, 1999). A slope
    of 1 and an intercept of 0 change nothing; a slope below 1 means that the model was too sure.

    A slope below 0 would turn the order of the rows around. It comes from a model that knows
    nothing, and the best line that does not is flat: the base rate for everybody.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        The target.
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class, clipped to 10⁻⁶ from 0 and 1.

    Returns
    -------
    Recalibration
    """
    actual, z = truth(y, case), LOG_ODDS.to(p)
    slope, intercept = log_odds_lines(actual, z, np.ones((1, len(z))), (1.0, 0.0))[0]
    if slope < 0:
        share = (actual.sum() + 0.5) / (len(actual) + 1)  # off 0 and 1
        return Recalibration(0.0, float(np.log(share / (1 - share))))
    return Recalibration(float(slope), float(intercept))


def recalibrate(p: np.ndarray, line: Recalibration) -> np.ndarray:
    """Probabilities after `fit_recalibration`; their order stays as it is.

    Parameters
    ----------
    p : ndarray of shape (n_samples,)

    Returns
    -------
    ndarray of shape (n_samples,)
    """
    return expit(line.slope * LOG_ODDS.to(p) + line.intercept)


def log_odds_lines(
    y: np.ndarray, z: np.ndarray, weights: np.ndarray, start: tuple[float, float]
) -> np.ndarray:
    """Slope and intercept of a logistic regression, for all resamples at once, by Newton's method.

    The step is halved where it would not lower the loss, so that it converges from any start.

    Returns
    -------
    ndarray of shape (n_resamples, 2)
    """
    design = np.column_stack([z, np.ones_like(z)])
    squares = np.column_stack([z**2, z, np.ones_like(z)])
    anchor = np.array([1.0, 0.0])  # where the data say nothing, change nothing

    def loss_of(line: np.ndarray, w: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        eta = line @ design.T
        small = np.exp(-np.abs(eta))
        loss = (w * (np.maximum(eta, 0) + np.log1p(small) - y * eta)).sum(axis=1)
        said = np.where(eta >= 0, 1.0, small) / (1 + small)
        return loss + PENALTY / 2 * ((line - anchor) ** 2).sum(axis=1), said

    lines = np.tile(np.asarray(start, dtype=float), (len(weights), 1))
    losses, said = loss_of(lines, weights)
    active = np.arange(len(weights))
    for _ in range(100):
        w = weights[active]
        slopes = (w * (said - y)) @ design + PENALTY * (lines[active] - anchor)
        a, b, c = ((w * said * (1 - said)) @ squares).T
        a, c = a + PENALTY, c + PENALTY
        bottom = a * c - b * b
        step = (
            np.column_stack(
                [c * slopes[:, 0] - b * slopes[:, 1], a * slopes[:, 1] - b * slopes[:, 0]]
            )
            / np.maximum(bottom, np.finfo(float).tiny)[:, None]
        )
        size, tried = np.ones(len(active)), lines[active] - step
        found, said = loss_of(tried, w)
        for _ in range(40):
            worse = ~(found <= losses[active] + 1e-12 * np.abs(losses[active]))
            if not worse.any():
                break
            size[worse] /= 2
            tried[worse] = lines[active][worse] - size[worse, None] * step[worse]
            found[worse], said[worse] = loss_of(tried[worse], w[worse])
        lines[active], losses[active] = tried, found
        going = np.abs(size[:, None] * step).max(axis=1) > 1e-9 * (1 + np.abs(tried).max(axis=1))
        active, said = active[going], said[going]
        if not len(active):
            break
    return lines


class Recalibrated(ClassifierMixin, BaseEstimator):
    """Stretch and shift the log odds of a classifier of two classes.

    The probability of the positive class becomes ``sigmoid(slope * logit(p) + intercept)``
    (Platt, Probabilistic Outputs for Support Vector Machines, 1999). What the two numbers are, is
    found elsewhere, on rows that the classifier was not fitted on.

    Parameters
    ----------
    estimator : estimator
        With ``predict_proba``.
    slope, intercept : float
        With 1 and 0 nothing changes.
    positive : str, optional
        The class whose probability is meant; the second in alphabetical order if not given.

    Attributes
    ----------
    estimator_ : estimator
        Fitted.
    classes_ : ndarray of shape (2,)
    """

    def __init__(
        self,
        estimator: BaseEstimator,
        slope: float = 1.0,
        intercept: float = 0.0,
        positive: str | None = None,
    ):
        self.estimator = estimator
        self.slope = slope
        self.intercept = intercept
        self.positive = positive

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Fit a copy of the estimator; ``slope`` and ``intercept`` stay as they are."""
        self.estimator_ = clone(self.estimator).fit(X, y)
        self.classes_ = self.estimator_.classes_
        return self

    @property
    def place_(self) -> int:
        """The column of `predict_proba` that holds the positive class."""
        return 1 if self.positive is None else list(self.classes_).index(self.positive)

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Give the probabilities, of shape (n_samples, 2), in the order of ``classes_``."""
        check_is_fitted(self)
        line = Recalibration(self.slope, self.intercept)
        found = recalibrate(self.estimator_.predict_proba(X)[:, self.place_], line)
        return np.column_stack([1 - found, found] if self.place_ else [found, 1 - found])

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Give the more probable class."""
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
