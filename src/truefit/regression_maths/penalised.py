"""Least squares with a penalty: ridge by one SVD, the elastic net and the lasso by descent.

The intercept is never penalised. A sample weight stands for that many equal rows.
"""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import solve_triangular
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning

from truefit.regression_maths.estimator_input import validated, validated_X

EPS = np.finfo(float).eps


class Path(NamedTuple):
    """Solutions for many penalties: one row of ``coef`` and one intercept for each alpha."""

    alphas: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray


class _Centred:
    """The data without their weighted means, each row times the root of its weight.

    So neither the intercept nor the weights appear in the problem any more.
    """

    def __init__(
        self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None, fit_intercept: bool
    ):
        n_samples, n_features = X.shape
        self.total = float(n_samples) if weight is None else float(weight.sum())
        self.X_mean, self.y_mean = np.zeros(n_features), 0.0
        # The second time takes away what the first mean lost by rounding: a constant column becomes
        # zero, and not a column of nothing but rounding.
        for _ in range(2 * fit_intercept):
            X_shift, y_shift = (np.average(v, axis=0, weights=weight) for v in (X, y))
            X, y = X - X_shift, y - y_shift
            self.X_mean, self.y_mean = self.X_mean + X_shift, self.y_mean + y_shift
        root = np.ones(n_samples) if weight is None else np.sqrt(weight)
        self.X = np.asfortranarray(X * root[:, None])
        self.y = y * root

    def intercept(self, coef: np.ndarray) -> np.ndarray:
        return self.y_mean - coef @ self.X_mean


# Ridge


class SVDRidge(RegressorMixin, BaseEstimator):
    """Ridge regression from the singular values of the centred X.

    Minimises ‖y − X coef − intercept‖² + alpha ‖coef‖², as scikit-learn's ``Ridge`` does. With an
    alpha of 0, it is least squares; of many solutions it then takes the shortest.

    Parameters
    ----------
    alpha : float, 0 or more
    fit_intercept : bool

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    effective_dof_ : float
        See `effective_degrees_of_freedom`.

    References
    ----------
    A. E. Hoerl and R. W. Kennard, "Ridge regression: biased estimation for nonorthogonal problems",
    Technometrics 12 (1), 1970.
    """

    def __init__(self, alpha: float = 1.0, fit_intercept: bool = True):
        self.alpha = alpha
        self.fit_intercept = fit_intercept

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X of shape (n_samples, n_features) and y; see `validated` for the errors."""
        X, y, sample_weight = validated(self, X, y, sample_weight)
        alphas = _not_negative("alpha", [self.alpha])
        data = _Centred(X, y, sample_weight, self.fit_intercept)
        factors = _factors(data.X)
        self.coef_ = _ridge(data, factors, alphas)[0]
        self.intercept_ = float(data.intercept(self.coef_))
        self.effective_dof_ = float(_dof(factors[1], alphas)[0])
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of shape (n_samples,)."""
        return validated_X(self, X) @ self.coef_ + self.intercept_


def ridge_path(
    X: Any,
    y: Any,
    alphas: Sequence[float],
    *,
    fit_intercept: bool = True,
    sample_weight: Any = None,
) -> Path:
    """The ridge solutions for many penalties, from one singular value decomposition.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    alphas : sequence of n_alphas floats, 0 or more
    fit_intercept : bool
    sample_weight : array-like of shape (n_samples,), optional

    Returns
    -------
    Path
        ``coef`` has the shape (n_alphas, n_features).

    Raises
    ------
    DataError, ValueError
        As `SVDRidge` does.
    """
    X, y, sample_weight = validated(SVDRidge(), X, y, sample_weight)
    data, alphas = _Centred(X, y, sample_weight, fit_intercept), _not_negative("alpha", alphas)
    coef = _ridge(data, _factors(data.X), alphas)
    return Path(alphas, coef, data.intercept(coef))


def effective_degrees_of_freedom(
    X: Any, alphas: Sequence[float], *, fit_intercept: bool = True
) -> np.ndarray:
    """How many free coefficients a ridge regression is worth: Σ s² / (s² + alpha).

    The sum is over the singular values s of the centred X; the intercept is not counted. See
    T. Hastie, R. Tibshirani and J. Friedman, "The Elements of Statistical Learning", 2009,
    equation 3.50.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    alphas : sequence of n_alphas floats, 0 or more
    fit_intercept : bool

    Returns
    -------
    ndarray of shape (n_alphas,)

    Examples
    --------
    >>> X = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]
    >>> effective_degrees_of_freedom(X, [0.0, 2.0]).round(6).tolist()
    [2.0, 1.0]
    """
    X, y, _ = validated(SVDRidge(), X, np.zeros(len(X)))
    data = _Centred(X, y, None, fit_intercept)
    return _dof(_factors(data.X)[1], _not_negative("alpha", alphas))


def _factors(X: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition, without the values that are only rounding."""
    U, s, Vt = np.linalg.svd(X, full_matrices=False)
    kept = s > max(X.shape) * EPS * s.max(initial=0.0)
    return U[:, kept], s[kept], Vt[kept]


def _ridge(data: _Centred, factors: tuple, alphas: np.ndarray) -> np.ndarray:
    U, s, Vt = factors
    shrunk = 1 / (s**2 + alphas[:, None])
    coef = (s * shrunk * (U.T @ data.y)) @ Vt
    # What the decomposition rounded away stands in the gradient; one more step brings it back.
    downhill = (data.y - coef @ data.X.T) @ data.X - alphas[:, None] * coef
    return coef + (shrunk * (downhill @ Vt.T)) @ Vt


def _dof(s: np.ndarray, alphas: np.ndarray) -> np.ndarray:
    return (s**2 / (s**2 + alphas[:, None])).sum(axis=1)


# The elastic net


class ElasticNetDescent(RegressorMixin, BaseEstimator):
    """Elastic net by cyclic coordinate descent; the lasso where ``l1_ratio`` is 1.

    Minimises RSS / (2 n_samples) + alpha l1_ratio ‖coef‖₁ + alpha (1 − l1_ratio)/2 ‖coef‖², as
    scikit-learn's ``ElasticNet`` does. Descent is quick to find which coefficients are zero, and
    slow to find the others' last digits; these solve linear equations, so now and then a step is
    taken towards the solution of the equations, as far as no coefficient changes its sign.

    Parameters
    ----------
    alpha : float, 0 or more
    l1_ratio : float from 0 to 1
    fit_intercept : bool
    tol : float
        How far the optimality conditions may be violated: for each feature as a share of
        ‖x_j‖ ‖y‖ / n_samples, both centred, so that the scale of a column does not matter. With 0,
        it goes on until only the rounding of the residuals is left.
    max_iter : int
        The number of sweeps over all features.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    n_iter_ : int
        The sweeps that were made.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models
    via coordinate descent", Journal of Statistical Software 33 (1), 2010.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        l1_ratio: float = 1.0,
        fit_intercept: bool = True,
        tol: float = 1e-12,
        max_iter: int = 10_000,
    ):
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X of shape (n_samples, n_features) and y; see `validated` for the errors.

        Warns
        -----
        ConvergenceWarning
            If ``max_iter`` sweeps were not enough to meet ``tol``.
        """
        X, y, sample_weight = validated(self, X, y, sample_weight)
        data = _Centred(X, y, sample_weight, self.fit_intercept)
        net = _ElasticNet(data, self.alpha, self.l1_ratio)
        self.coef_, self.n_iter_ = net.solve(np.zeros(X.shape[1]), self.tol, self.max_iter)
        self.intercept_ = float(data.intercept(self.coef_))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predictions of shape (n_samples,)."""
        return validated_X(self, X) @ self.coef_ + self.intercept_


def alpha_max(
    X: Any,
    y: Any,
    *,
    l1_ratio: float = 1.0,
    fit_intercept: bool = True,
    sample_weight: Any = None,
) -> float:
    """The smallest alpha for which every coefficient of the elastic net is zero.

    Parameters are those of `elastic_net_path`; ``l1_ratio`` must be above 0.
    """
    X, y, sample_weight = validated(SVDRidge(), X, y, sample_weight)
    return _alpha_max(_Centred(X, y, sample_weight, fit_intercept), l1_ratio)


def elastic_net_path(
    X: Any,
    y: Any,
    alphas: Sequence[float] | None = None,
    *,
    l1_ratio: float = 1.0,
    fit_intercept: bool = True,
    sample_weight: Any = None,
    tol: float = 1e-12,
    max_iter: int = 10_000,
) -> Path:
    """Elastic nets from the strongest penalty to the weakest, each started at the one before.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    alphas : sequence of n_alphas floats, optional
        A hundred from `alpha_max` down to a thousandth of it if left out.
    l1_ratio : float from 0 to 1
    fit_intercept : bool
    sample_weight : array-like of shape (n_samples,), optional
    tol, max_iter
        For each alpha; see `ElasticNetDescent`.

    Returns
    -------
    Path
        ``alphas`` fall; ``coef`` has the shape (n_alphas, n_features).

    Raises
    ------
    DataError, ValueError
        As `ElasticNetDescent` does; also if ``alphas`` is left out where ``l1_ratio`` is 0.

    Warns
    -----
    ConvergenceWarning
        For each alpha that ``max_iter`` sweeps were not enough for.
    """
    X, y, sample_weight = validated(ElasticNetDescent(), X, y, sample_weight)
    data = _Centred(X, y, sample_weight, fit_intercept)
    if alphas is None:
        alphas = np.geomspace(1, 1e-3, 100) * _alpha_max(data, l1_ratio)
    alphas, coef = np.sort(np.asarray(alphas, dtype=float))[::-1], [np.zeros(X.shape[1])]
    for alpha in alphas:
        coef.append(_ElasticNet(data, alpha, l1_ratio).solve(coef[-1], tol, max_iter)[0])
    coef = np.array(coef[1:])
    return Path(alphas, coef, data.intercept(coef))


def kkt_violation(
    X: np.ndarray,
    y: np.ndarray,
    coef: np.ndarray,
    intercept: float = 0.0,
    *,
    alpha: float,
    l1_ratio: float = 1.0,
    sample_weight: np.ndarray | None = None,
) -> np.ndarray:
    """How far each coefficient is from the optimality conditions of the elastic net.

    With g = Xᵀ(y − X coef − intercept) / n_samples − alpha (1 − l1_ratio) coef and the threshold
    t = alpha l1_ratio, a minimum has g_j = t sign(coef_j) where coef_j ≠ 0, and |g_j| ≤ t where
    it is 0 (Karush, Kuhn and Tucker); a minimum over the intercept has residuals of mean 0.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    coef : ndarray of shape (n_features,)
    intercept : float
    alpha, l1_ratio : float
    sample_weight : ndarray of shape (n_samples,), optional

    Returns
    -------
    ndarray of shape (n_features,)
        Zero, but for rounding, at the minimum; in units of y times those of the column.
    """
    X, coef = np.asarray(X, dtype=float), np.asarray(coef, dtype=float)
    residuals = np.asarray(y) - X @ coef - intercept
    weight = np.ones(len(X)) if sample_weight is None else np.asarray(sample_weight)
    downhill = (weight * residuals) @ X / weight.sum() - alpha * (1 - l1_ratio) * coef
    return _violation(downhill, coef, alpha * l1_ratio)


def _violation(downhill: np.ndarray, coef: np.ndarray, threshold: float) -> np.ndarray:
    """`downhill` is minus the gradient of all but the absolute values."""
    at_zero = np.maximum(np.abs(downhill) - threshold, 0)
    return np.where(coef == 0, at_zero, np.abs(downhill - threshold * np.sign(coef)))


class _ElasticNet:
    """One elastic net: its data, and its two penalties in the units of the mean loss."""

    def __init__(self, data: _Centred, alpha: float, l1_ratio: float):
        if not 0 <= l1_ratio <= 1:
            raise ValueError(f"l1_ratio is {l1_ratio}; it must be from 0 to 1")
        (alpha,) = _not_negative("alpha", [alpha])
        self.X, self.y, self.total = data.X, data.y, data.total
        self.l1, self.l2 = alpha * l1_ratio, alpha * (1 - l1_ratio)
        self.squares = (self.X**2).sum(axis=0) / self.total
        # A violation in these units is a correlation. A column of zeros has none.
        length = np.sqrt(self.squares * (self.y @ self.y) / self.total)
        self.units = np.where(length > 0, length, np.inf)

    def solve(self, coef: np.ndarray, tol: float, max_iter: int) -> tuple[np.ndarray, int]:
        """Sweep until the conditions hold, with the equations' help after sweep 1, 2, 4, 8, …"""
        if max_iter < 1:
            raise ValueError(f"max_iter is {max_iter}; it must be 1 or more")
        coef = coef.copy()
        for sweep in range(1, max_iter + 1):
            self.descend(coef)
            violation = self.violation(coef)
            if sweep & (sweep - 1) == 0 or violation <= tol or sweep == max_iter:
                coef = self.polish(coef)
                violation = self.violation(coef)
            if violation <= max(tol, self.rounding(coef)):
                return coef, sweep
        warnings.warn(
            f"after {max_iter} sweeps the optimality conditions are violated by {violation:.1e} "
            f"where tol is {tol:.1e}; raise max_iter, or scale the columns",
            ConvergenceWarning,
            stacklevel=3,
        )
        return coef, max_iter

    def descend(self, coef: np.ndarray) -> None:
        """One sweep, in place. The residuals are made anew each time, so they cannot drift."""
        residuals = self.y - self.X @ coef
        for j in np.flatnonzero(self.squares):
            column, old = self.X[:, j], coef[j]
            pull = column @ residuals / self.total + self.squares[j] * old
            shrunk = max(abs(pull) - self.l1, 0.0) / (self.squares[j] + self.l2)
            coef[j] = np.copysign(shrunk, pull) if shrunk else 0.0
            if coef[j] != old:
                residuals += (old - coef[j]) * column

    def violation(self, coef: np.ndarray) -> float:
        violations = _violation(self.downhill(coef), coef, self.l1)
        return float((violations / self.units).max())

    def rounding(self, coef: np.ndarray) -> float:
        """The violation that may come from the rounding of the residuals, and cannot be mended."""
        size = self.y @ self.y
        terms = np.abs(coef) @ np.sqrt(self.squares * self.total / size) if size else 0.0
        return 2 * EPS * (1 + terms)

    def downhill(self, coef: np.ndarray) -> np.ndarray:
        return (self.y - self.X @ coef) @ self.X / self.total - self.l2 * coef

    def polish(self, coef: np.ndarray) -> np.ndarray:
        """The coefficients that are not zero from their equations; the same if that fails.

        With the signs s known, these are (X_AᵀX_A / n + l2) coef_A = X_Aᵀy / n − l1 s. One
        step from where we are solves them, and the shorter it is, the less it is rounded. As long
        as no coefficient changes its sign, the step goes down; it ends at the first that would,
        which becomes 0.
        """
        active = np.flatnonzero(coef)
        scale = np.sqrt(self.squares[active] + self.l2)
        A = self.X[:, active] / np.sqrt(self.total)
        R = np.linalg.qr(np.vstack([A, np.sqrt(self.l2) * np.eye(len(active))]) / scale, mode="r")
        if R.shape[0] < len(active) or (np.abs(np.diag(R)) < len(self.y) * EPS).any():
            return coef
        rest = (self.downhill(coef)[active] - self.l1 * np.sign(coef[active])) / scale
        step = solve_triangular(R, solve_triangular(R, rest, trans="T")) / scale
        shares = np.full(len(active), np.inf)  # of the step, until each coefficient is 0
        turning = step * coef[active] < 0 if self.l1 else np.zeros(len(active), dtype=bool)
        shares[turning] = -coef[active[turning]] / step[turning]
        share = min(1.0, shares.min(initial=np.inf))
        polished = coef.copy()
        polished[active] += share * step
        polished[active[shares <= share]] = 0.0
        return polished


def _alpha_max(data: _Centred, l1_ratio: float) -> float:
    if not 0 < l1_ratio <= 1:
        raise ValueError(f"l1_ratio is {l1_ratio}; only above 0, an alpha makes every coef zero")
    return float(np.abs(data.y @ data.X).max() / data.total / l1_ratio)


def _not_negative(name: str, values: Sequence[float]) -> np.ndarray:
    values = np.asarray(values, dtype=float)
    for value in values[~(values >= 0) | np.isinf(values)]:
        raise ValueError(f"{name} is {value:g}; it must be 0 or more, and finite")
    return values
