"""Least squares by going downhill: gradient descent and its relatives, with the way they took.

The loss is RSS(coef) = ‖y − X coef‖² times a factor. There is no intercept: centre X and y, or give
X a column of ones. Whatever the factor, the minimiser is the same; the rates that are safe are not.
"""

import warnings
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from truefit.regression_maths.inputs import DataError, column_names, refuse_not_finite

# "sum" is the RSS itself, "mean" is RSS / n_samples, "half_mean" is RSS / (2 n_samples).
Scaling = Literal["sum", "mean", "half_mean"]


class StochasticPath(NamedTuple):
    """Where stochastic gradient descent was after each step, and the mean of those places."""

    path: np.ndarray
    average: np.ndarray


def loss(X: np.ndarray, y: np.ndarray, coef: np.ndarray, *, scaling: Scaling = "half_mean") -> Any:
    """The loss at one place, or at each place of a path.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    coef : ndarray of shape (n_features,) or (n_places, n_features)
    scaling : {"sum", "mean", "half_mean"}

    Returns
    -------
    float, or ndarray of shape (n_places,)
    """
    residuals = y - np.asarray(coef) @ np.asarray(X).T
    return _factor(scaling, len(X)) * (residuals**2).sum(axis=-1)


def gradient(
    X: np.ndarray, y: np.ndarray, coef: np.ndarray, *, scaling: Scaling = "half_mean"
) -> np.ndarray:
    """The gradient of `loss`: 2 Xᵀ(X coef − y) times the factor of the scaling.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    coef : ndarray of shape (n_features,)
    scaling : {"sum", "mean", "half_mean"}

    Returns
    -------
    ndarray of shape (n_features,)
    """
    return 2 * _factor(scaling, len(X)) * (X.T @ (X @ coef - y))


def largest_rate(X: np.ndarray, *, scaling: Scaling = "half_mean", momentum: float = 0.0) -> float:
    """The rate from which on `gradient_descent` diverges: 2 (1 + momentum) / λ_max.

    λ_max is the largest eigenvalue of the loss's Hessian, 2 XᵀX times the factor of the scaling.
    The bound with momentum is that of Polyak (1964).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    scaling : {"sum", "mean", "half_mean"}
    momentum : float in [0, 1)

    Returns
    -------
    float
        Infinity if X is zero, where nothing can diverge.

    Examples
    --------
    >>> float(largest_rate(np.array([[2.0, 0.0], [0.0, 1.0]]), scaling="sum"))
    0.25
    """
    steepest = 2 * _factor(scaling, len(X)) * np.linalg.norm(X, 2) ** 2
    return 2 * (1 + momentum) / steepest if steepest else np.inf


def gradient_descent(
    X: np.ndarray,
    y: np.ndarray,
    *,
    rate: float,
    steps: int,
    scaling: Scaling = "half_mean",
    momentum: float = 0.0,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Go down the gradient of all rows; with momentum, the heavy ball of Polyak (1964).

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    rate : float
        The gradient is multiplied by it; below `largest_rate`, the path ends in the minimum.
    steps : int
    scaling : {"sum", "mean", "half_mean"}
    momentum : float in [0, 1)
        The share of the last step that is taken again.
    start : ndarray of shape (n_features,), optional
        Zero if left out.

    Returns
    -------
    ndarray of shape (steps + 1, n_features)
        The start and the place after each step; NaN once a number was too large for a float64.

    Warns
    -----
    ConvergenceWarning
        If the path climbed because the rate is not below `largest_rate`.

    Raises
    ------
    DataError
        If shapes do not fit, or a number is missing or infinite.

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR
    Computational Mathematics and Mathematical Physics 4 (5), 1964.
    """
    X, y, place = _problem(X, y, start)
    path, last_step = [place], np.zeros_like(place)
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(steps):
            last_step = momentum * last_step - rate * gradient(X, y, place, scaling=scaling)
            place = place + last_step
            path.append(place)
    path = _without_overflow(np.array(path))
    _warn_if_it_climbed(X, y, path, rate, largest_rate(X, scaling=scaling, momentum=momentum))
    return path


def conjugate_gradients(
    X: np.ndarray, y: np.ndarray, *, steps: int | None = None, start: np.ndarray | None = None
) -> np.ndarray:
    """Minimise the RSS along directions that do not undo each other (CGLS).

    In exact arithmetic, the path ends in the minimum after as many steps as XᵀX has different
    eigenvalues, so after n_features at most. XᵀX itself is never formed.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    steps : int, optional
        At most; n_features if left out. Rounding may make a few more worth while.
    start : ndarray of shape (n_features,), optional
        Zero if left out.

    Returns
    -------
    ndarray of shape (at most steps + 1, n_features)
        The start and the place after each step, until the gradient is nothing but rounding.

    Raises
    ------
    DataError
        As `gradient_descent`.

    References
    ----------
    M. R. Hestenes and E. Stiefel, "Methods of conjugate gradients for solving linear systems",
    Journal of Research of the National Bureau of Standards 49 (6), 1952.
    """
    X, y, place = _problem(X, y, start)
    residuals = y - X @ place
    downhill = direction = X.T @ residuals
    rounding = np.finfo(float).eps * np.linalg.norm(X)
    path = [place]
    for _ in range(X.shape[1] if steps is None else steps):
        if np.linalg.norm(downhill) <= rounding * np.linalg.norm(residuals):
            break
        image = X @ direction
        stride = (downhill @ downhill) / (image @ image)
        place, residuals = place + stride * direction, residuals - stride * image
        path.append(place)
        before, downhill = downhill, X.T @ residuals
        direction = downhill + (downhill @ downhill) / (before @ before) * direction
    return np.array(path)


def stochastic_gradient_descent(
    X: np.ndarray,
    y: np.ndarray,
    *,
    rate: float,
    decay: float = 0.5,
    epochs: int,
    batch_size: int = 1,
    seed: int,
    average_from: int = 0,
    scaling: Literal["mean", "half_mean"] = "half_mean",
    start: np.ndarray | None = None,
) -> StochasticPath:
    """Go down the gradient of a few rows at a time, in a new random order in each epoch.

    Step t has the rate ``rate / t**decay``. For a decay in (1/2, 1] the path converges (Robbins
    and Monro, 1951), and for one in (1/2, 1) the mean of the path converges faster, at the best
    possible speed (Polyak and Juditsky, 1992). With a decay of 0, the path ends in a cloud around
    the minimum.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    rate, decay : float
    epochs : int
        How often each row is used.
    batch_size : int
        How many rows make a step; the last batch of an epoch may be smaller.
    seed : int
    average_from : int
        The step to average from; the first ones still remember the start.
    scaling : {"mean", "half_mean"}
        Of the loss of a batch, which is an unbiased estimate of the loss of all rows.
    start : ndarray of shape (n_features,), optional
        Zero if left out.

    Returns
    -------
    StochasticPath
        ``path`` and ``average``, both of shape (n_steps + 1, n_features). A row of ``average`` is
        the mean of the path from ``average_from`` to there; before, it is the path itself.

    Warns
    -----
    ConvergenceWarning
        If the path left the range of a float64; it is NaN from there on.

    Raises
    ------
    DataError
        As `gradient_descent`.

    References
    ----------
    H. Robbins and S. Monro, "A stochastic approximation method", Annals of Mathematical Statistics
    22 (3), 1951. B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by
    averaging", SIAM Journal on Control and Optimization 30 (4), 1992.
    """
    X, y, place = _problem(X, y, start)
    rng, path = np.random.default_rng(seed), [place]
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(epochs):
            order = rng.permutation(len(X))
            for first in range(0, len(X), batch_size):
                rows = order[first : first + batch_size]
                downhill = -gradient(X[rows], y[rows], place, scaling=scaling)
                place = place + rate / len(path) ** decay * downhill
                path.append(place)
    path = _without_overflow(np.array(path))
    if np.isnan(path[-1]).any():
        _warn_of_overflow(path, f"take a rate far below {rate:.3g}")
    return StochasticPath(path, _running_mean(path, average_from))


def finite_differences(function: Callable[[np.ndarray], float], place: np.ndarray) -> np.ndarray:
    """The gradient of a function from its values alone, to check a formula against.

    Central differences over h and 2h, combined so that the error is of order h⁴ (Richardson, 1911).
    With h = eps^(1/5), rounding and that error are of one size: about twelve digits are right.

    Parameters
    ----------
    function : callable
        From an ndarray of shape (n_features,) to a float.
    place : ndarray of shape (n_features,)

    Returns
    -------
    ndarray of shape (n_features,)
    """
    place = np.asarray(place, dtype=float)
    slopes = np.empty_like(place)
    for j, value in enumerate(place):
        h = np.finfo(float).eps ** 0.2 * max(1.0, abs(value))
        near, far = (
            (function(_moved(place, j, d)) - function(_moved(place, j, -d))) / (2 * d)
            for d in (h, 2 * h)
        )
        slopes[j] = near + (near - far) / 3
    return slopes


def _moved(place: np.ndarray, j: int, distance: float) -> np.ndarray:
    moved = place.copy()
    moved[j] += distance
    return moved


def _factor(scaling: Scaling, n_samples: int) -> float:
    factors = {"sum": 1.0, "mean": 1 / n_samples, "half_mean": 0.5 / n_samples}
    if scaling not in factors:
        raise ValueError(f"scaling is {scaling!r}; it must be one of {', '.join(factors)}")
    return factors[scaling]


def _problem(
    X: np.ndarray, y: np.ndarray, start: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = column_names(X) if np.ndim(X) == 2 else []
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    if X.ndim != 2 or y.shape != X.shape[:1] or not X.size:
        raise DataError(
            f"X has the shape {X.shape} and y has {y.shape}; "
            "a matrix with at least one row and column is needed, and one target for each row"
        )
    place = np.zeros(X.shape[1]) if start is None else np.asarray(start, dtype=float)
    if place.shape != X.shape[1:]:
        raise DataError(f"start has the shape {place.shape}, but X has {X.shape[1]} columns")
    refuse_not_finite(X, "X", names)
    refuse_not_finite(y, "y")
    refuse_not_finite(place, "start")
    return X, y, place


def _without_overflow(path: np.ndarray) -> np.ndarray:
    """NaN from the first place on that a float64 cannot hold: the way back is no way."""
    lost = np.maximum.accumulate(~np.isfinite(path).all(axis=1))
    path[lost] = np.nan
    return path


def _warn_if_it_climbed(
    X: np.ndarray, y: np.ndarray, path: np.ndarray, rate: float, limit: float
) -> None:
    # Momentum may carry the path uphill for a while at a safe rate: that is no divergence.
    if rate < limit:
        return
    if np.isnan(path[-1]).any():
        _warn_of_overflow(path, f"the rate is {rate:.3g}, and must stay below {limit:.3g}")
        return
    with np.errstate(over="ignore"):
        first, last = loss(X, y, path[[0, -1]], scaling="sum")
    if last > first:
        warnings.warn(
            f"gradient descent diverges: after {len(path) - 1} steps the loss is {last:.3g}, "
            f"from {first:.3g} at the start; the rate is {rate:.3g}, and must stay below "
            f"{limit:.3g}",
            ConvergenceWarning,
            stacklevel=3,
        )


def _warn_of_overflow(path: np.ndarray, advice: str) -> None:
    step = int(np.isnan(path).any(axis=1).argmax())
    warnings.warn(
        f"gradient descent diverged, and its numbers were too large for a float64 at step {step}: "
        f"{advice}",
        ConvergenceWarning,
        stacklevel=4,
    )


def _running_mean(path: np.ndarray, first: int) -> np.ndarray:
    average = path.copy()
    tail = average[first:]
    tail[:] = np.cumsum(path[first:], axis=0) / np.arange(1, len(tail) + 1)[:, None]
    return average
