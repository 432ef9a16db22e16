"""Logistic regression by Newton's method, for two classes and for several.

A sample weight stands for that many equal rows.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import qr, solve, solve_triangular
from scipy.optimize import linprog
from scipy.special import expit, logsumexp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from truefit.regression_maths.estimator_input import validated, validated_X
from truefit.regression_maths.inputs import column_names

EPS = np.finfo(float).eps
# Where there is no estimate: the penalty that gives one after all, on columns of a size near 1.
LAST_RESORT = 1e-4
SEPARATED = (
    "a plane separates the classes{}, so that no estimate without a penalty exists: the "
    "coefficients would grow without end"
)


class NoEstimateWarning(UserWarning):
    """The likelihood has no maximum, or many; the coefficients given are those of a penalty."""


class _NoEstimateError(Exception):
    """Why there is none."""


class SoftmaxFit(NamedTuple):
    """The result of `softmax_regression`; ``loss`` is the mean log-loss without the penalty."""

    classes: np.ndarray
    coef: np.ndarray
    intercept: np.ndarray
    loss: float


def log_loss(y: np.ndarray, scores: np.ndarray, sample_weight: np.ndarray | None = None) -> float:
    """The mean of −log p(y), from log-odds rather than probabilities, so that it never overflows.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        0 or 1.
    scores : ndarray of shape (n_samples,)
        The log-odds of 1, which `NewtonLogistic.decision_function` gives.
    sample_weight : ndarray of shape (n_samples,), optional

    Returns
    -------
    float
    """
    margins = np.where(np.asarray(y) == 1, scores, -np.asarray(scores, dtype=float))
    return float(np.average(np.logaddexp(0, -margins), weights=sample_weight))


def softmax(U: np.ndarray) -> np.ndarray:
    """Each row of scores as probabilities: exp(u) over the sum of exp(u), for scores of any size.

    Parameters
    ----------
    U : ndarray of shape (..., n_classes)

    Returns
    -------
    ndarray of shape (..., n_classes)

    Examples
    --------
    >>> softmax(np.array([1000.0, 1000.0])).tolist()
    [0.5, 0.5]
    """
    # The same number off every score changes no ratio, and keeps exp from overflowing.
    odds = np.exp(U - np.max(U, axis=-1, keepdims=True))
    return odds / odds.sum(axis=-1, keepdims=True)


class NewtonLogistic(ClassifierMixin, BaseEstimator):
    """Logistic regression for two classes by iteratively reweighted least squares.

    Minimises Σ log(1 + exp(−s η)) + alpha/2 ‖coef‖², where η = X coef + intercept, and s is 1 for
    the second class and −1 for the first: with alpha = 1/C, it is scikit-learn's
    ``LogisticRegression(C=C)``. Each Newton step is a weighted least-squares problem, solved by QR.

    Parameters
    ----------
    alpha : float, 0 or more
        The penalty on the coefficients; the intercept is not penalised.
    fit_intercept : bool
    tol : float
        It stops after a step that changes η by less than this, as a root mean square weighted with
        p (1 − p). As each step squares the error, rounding is what then remains.
    max_iter : int

    Attributes
    ----------
    classes_ : ndarray of shape (2,)
    coef_ : ndarray of shape (1, n_features)
    intercept_ : ndarray of shape (1,)
    standard_errors_ : ndarray of shape (n_features,)
        From the inverse of the Fisher information, or of the Hessian if there is a penalty.
    intercept_standard_error_ : float
        NaN without an intercept.
    loss_ : float
        The mean log-loss, without the penalty.
    n_iter_ : int
    exists_ : bool
        Whether there is one estimate. If not, it was said in a `NoEstimateWarning`; the
        coefficients are then those of a small penalty, and the standard errors are NaN.

    References
    ----------
    P. J. Green, "Iteratively reweighted least squares for maximum likelihood estimation, and some
    robust and resistant alternatives", Journal of the Royal Statistical Society B 46 (2), 1984.
    A. Albert and J. A. Anderson, "On the existence of maximum likelihood estimates in logistic
    regression models", Biometrika 71 (1), 1984.
    """

    def __init__(
        self,
        alpha: float = 0.0,
        fit_intercept: bool = True,
        tol: float = 1e-10,
        max_iter: int = 60,
    ):
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.max_iter = max_iter

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to X of shape (n_samples, n_features) and the labels y of two classes.

        Raises
        ------
        DataError
            As `validated`.
        ValueError
            If there are not exactly two classes.

        Warns
        -----
        NoEstimateWarning
            If there is no penalty, and the classes can be separated, or a column follows from
            others: no estimate exists then, or many do.
        ConvergenceWarning
            If ``max_iter`` steps were not enough to meet ``tol``.
        """
        _check_settings(self.alpha, self.max_iter)
        names = column_names(X) if hasattr(X, "columns") else None
        X, y, sample_weight = validated(self, X, y, sample_weight, classifier=True)
        self.classes_ = _two_classes(y)
        problem = _Problem(X, y == self.classes_[1], sample_weight, self.alpha, self.fit_intercept)
        self.exists_ = True
        try:
            if not self.alpha:
                problem.refuse_dependent_columns(names or column_names(X))
            place, self.n_iter_ = problem.solve(self.tol, self.max_iter)
        except _NoEstimateError as reason:
            self.exists_ = False
            problem.penalise(LAST_RESORT)
            place, self.n_iter_ = problem.solve(self.tol, self.max_iter)
            warnings.warn(
                f"{reason}; those given are for a penalty of {LAST_RESORT} on scaled columns; set "
                "a penalty, alpha above 0",
                NoEstimateWarning,
                stacklevel=2,
            )
        place, errors = problem.in_original_units(place), problem.standard_errors(place)
        errors = errors if self.exists_ else np.full_like(errors, np.nan)
        self.coef_, self.intercept_ = place[None, 1:], place[:1]
        self.intercept_standard_error_, self.standard_errors_ = float(errors[0]), errors[1:]
        self.loss_ = log_loss(y == self.classes_[1], self._scores(X), sample_weight)
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """The log-odds of the second class, of shape (n_samples,)."""
        return self._scores(validated_X(self, X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """The probabilities of both classes, of shape (n_samples, 2)."""
        scores = self.decision_function(X)
        return np.column_stack([expit(-scores), expit(scores)])

    def predict(self, X: Any) -> np.ndarray:
        """The likelier class of each row, of shape (n_samples,)."""
        positive = self.decision_function(X) > 0
        return self.classes_[positive.astype(int)]

    def _scores(self, X: np.ndarray) -> np.ndarray:
        return X @ self.coef_[0] + self.intercept_[0]


def softmax_regression(
    X: Any,
    y: Any,
    *,
    alpha: float,
    sample_weight: Any = None,
    tol: float = 1e-10,
    max_iter: int = 60,
) -> SoftmaxFit:
    """Logistic regression for any number of classes, by Newton's method.

    Minimises Σ −log softmax(X coefᵀ + intercept)_y + alpha/2 ‖coef‖², which is scikit-learn's
    ``LogisticRegression`` with C = 1/alpha. The intercepts are those whose sum is 0.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
    y : array-like of shape (n_samples,)
    alpha : float above 0
        Without a penalty, the same number could be added to a column of ``coef`` for all classes.
    sample_weight : array-like of shape (n_samples,), optional
    tol, max_iter
        See `NewtonLogistic`; the Hessian has (n_classes (n_features + 1))² numbers.

    Returns
    -------
    SoftmaxFit
        ``coef`` has the shape (n_classes, n_features), ``intercept`` (n_classes,).

    Raises
    ------
    DataError, ValueError
        As `validated`, or if alpha is not above 0 or there is only one class.

    Warns
    -----
    ConvergenceWarning
        If ``max_iter`` steps were not enough to meet ``tol``.
    """
    _check_settings(alpha, max_iter, above=True)
    X, y, weight = validated(NewtonLogistic(), X, y, sample_weight, classifier=True)
    check_classification_targets(y)
    classes, codes = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"y has only one class, {classes[0]!r}; at least two are needed")
    weight = np.ones(len(X)) if weight is None else weight
    problem = _Softmax(X, np.eye(len(classes))[codes], weight, alpha)
    place = problem.solve(tol, max_iter)
    coef = place[:, 1:] / problem.scale
    intercept = place[:, 0] - coef @ problem.centre
    loss = float(problem.log_loss(place) / weight.sum())
    return SoftmaxFit(classes, coef, intercept - intercept.mean(), loss)


def _check_settings(alpha: float, max_iter: int, *, above: bool = False) -> None:
    if max_iter < 1:
        raise ValueError(f"max_iter is {max_iter}; it must be 1 or more")
    if not (alpha > 0 or (alpha == 0 and not above)) or np.isinf(alpha):
        least = "above 0" if above else "0 or more"
        raise ValueError(f"alpha is {alpha}; it must be {least}, and finite")


def _two_classes(y: np.ndarray) -> np.ndarray:
    check_classification_targets(y)
    classes = np.unique(y)
    if len(classes) > 2:
        kind = type_of_target(y, input_name="y")
        raise ValueError(
            f"Only binary classification is supported. The type of the target is {kind}: it has "
            f"{len(classes)} classes; softmax_regression takes them"
        )
    if len(classes) < 2:
        raise ValueError(f"y has only one class, {classes[0]!r}; two are needed")
    return classes


def _coordinates(
    X: np.ndarray, weight: np.ndarray, centred: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """A centre and a scale for each column, so that it has a mean near 0 and a size near 1.

    A scale that is a power of two, and a centre of few digits, leave nearly all of X as exact as it
    was.
    """
    mean = np.average(X, axis=0, weights=weight) * centred
    size = np.sqrt(np.average((X - mean) ** 2, axis=0, weights=weight))
    scale = np.where(size > 0, 2.0 ** np.frexp(size)[1], 1.0)
    grid = scale / 16
    return np.round(mean / grid) * grid, scale


def _downhill(
    loss: Callable[[np.ndarray], float], place: np.ndarray, step: np.ndarray
) -> np.ndarray:
    """The place after a step, halved until the loss does not rise."""
    # At the minimum, a loss may seem to rise by its rounding.
    limit = loss(place) * (1 + 1e-13)
    for _ in range(60):
        if loss(place + step) <= limit:
            return place + step
        step = step / 2
    return place


def _warn_of_last_step(change: float, tol: float, iterations: int) -> None:
    warnings.warn(
        f"after {iterations} Newton steps, the last one changed the scores by {change:.1e} where "
        f"tol is {tol:.1e}; raise max_iter",
        ConvergenceWarning,
        stacklevel=4,
    )


class _Problem:
    """Two classes, in good coordinates; the first column is the intercept's.

    Only margins matter, s η, which are large where a row is on the right side.
    """

    def __init__(
        self,
        X: np.ndarray,
        positive: np.ndarray,
        weight: np.ndarray | None,
        alpha: float,
        fit_intercept: bool,
    ):
        self.weight = np.ones(len(X)) if weight is None else weight
        self.centre, self.scale = _coordinates(X, self.weight, fit_intercept)
        Z = np.column_stack([np.full(len(X), float(fit_intercept)), (X - self.centre) / self.scale])
        self.signed = Z * np.where(positive, 1.0, -1.0)[:, None]
        self.used = np.arange(Z.shape[1])[not fit_intercept :]
        self.penalty = np.r_[0.0, np.sqrt(alpha) / self.scale]
        self.alpha, self.fit_intercept = alpha, fit_intercept

    def penalise(self, alpha: float) -> None:
        """Penalise the coefficients of the scaled columns, so that units do not matter."""
        self.alpha, self.penalty = alpha, np.r_[0.0, np.full(len(self.scale), np.sqrt(alpha))]

    def refuse_dependent_columns(self, names: list[str]) -> None:
        """Raise a `_NoEstimateError` if the columns leave more than one solution."""
        columns = self.signed[:, self.used]
        # The intercept is the longest, and so is never the column that is named.
        length = np.linalg.norm(columns, axis=0) * np.where(self.used, 1.0, 0.5)
        R, order = qr(columns / np.where(length > 0, length, 1), mode="r", pivoting=True)[:2]
        pivots = np.zeros(len(order))
        pivots[: len(R)] = np.abs(np.diag(R[: len(order)]))
        dependent = order[pivots <= max(columns.shape) * EPS * pivots[0]]
        if len(dependent):
            name = names[self.used[dependent[0]] - 1]
            raise _NoEstimateError(
                f"column {name!r} is constant, or follows from the other columns, so that many "
                "coefficients fit equally well"
            )

    def solve(self, tol: float, max_iter: int) -> tuple[np.ndarray, int]:
        """Newton's method from zero, with steps halved until the loss falls.

        The decrement is the length of a step in units of the standard errors.
        """
        place, total = np.zeros(self.signed.shape[1]), np.sqrt(self.weight.sum())
        for iteration in range(1, max_iter + 1):
            step, decrement, proven = self.newton(place)
            if step is None:
                break
            place = _downhill(self.loss, place, step)
            if decrement <= tol * total:
                break
            if not proven and iteration > 10:
                self.refuse_complete_separation(place)
        if not proven:
            self.refuse_separation()
        if not decrement <= tol * total:
            _warn_of_last_step(decrement / total, tol, iteration)
        return place, iteration

    def newton(self, place: np.ndarray) -> tuple[np.ndarray | None, float, bool]:
        """A step, its length, and whether it proves that there is a minimum."""
        Q, R, target = self.least_squares(place)
        # The length of a column, however short, costs QR no digits.
        length = np.maximum(np.linalg.norm(R, axis=0), np.finfo(float).tiny)
        rounding = EPS * np.linalg.cond(R / length)
        if not rounding < 1:
            return None, np.inf, False
        rotated, step = Q.T @ target, np.zeros_like(place)
        step[self.used] = solve_triangular(R, rotated)
        decrement = float(np.linalg.norm(rotated))
        proven = self.alpha > 0 or self.exists(
            self.newton_weights(place),
            (Q[: len(self.signed)] ** 2).sum(axis=1),
            10 * (decrement + rounding * np.linalg.norm(np.abs(Q).T @ np.abs(target))),
        )
        return step, decrement, proven

    def least_squares(self, place: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Q and R of the weighted least-squares problem that a Newton step is, and its target.

        A row has the weight p (1 − p), and the residual (1 − p) / (p (1 − p)), where p is the
        probability of the row's own class. Written with its margin m, root weight times residual
        is exp(−m/2), which keeps all digits where p is nearly 1. A row far on the wrong side has
        a tiny weight and a huge residual: sorted by size, the rows keep their digits apart (Powell
        and Reid, "On applying Householder transformations to linear least squares problems", 1969).
        """
        margins, root = self.signed @ place, np.sqrt(self.newton_weights(place))
        rows = np.vstack([root[:, None] * self.signed, np.diag(self.penalty)])[:, self.used]
        order = np.argsort(-np.abs(rows).max(axis=1))
        Q, R = np.linalg.qr(rows[order])
        Q[order] = Q.copy()
        return Q, R, np.r_[np.sqrt(self.weight) * np.exp(-margins / 2), -self.penalty * place]

    def newton_weights(self, place: np.ndarray) -> np.ndarray:
        margins = self.signed @ place
        return self.weight * expit(margins) * expit(-margins)

    def loss(self, place: np.ndarray) -> float:
        margins = self.signed @ place
        penalty = ((self.penalty * place) ** 2).sum() / 2
        return self.weight @ np.logaddexp(0, -margins) + penalty

    @staticmethod
    def exists(w: np.ndarray, leverages: np.ndarray, decrement: float) -> bool:
        """Whether a short Newton step proves that the classes overlap, so that a minimum exists.

        If the direction d separated them, no margin would fall along it. With w = p (1 − p) and
        a = √w |Zd|, the gradient along d would be Σ (1 − p) |Zd| ≥ Σ √w a ≥ min √w ‖a‖, but it is
        at most the decrement times ‖a‖. So the decrement would be min √w at least. Rows whose
        leverages sum to a half at most hold at most half of ‖a‖², and may be left out.
        """
        order = np.argsort(w)
        kept = w[order[np.searchsorted(np.cumsum(leverages[order]), 0.5) :]]
        return bool(len(kept)) and decrement < np.sqrt(kept[0] / 2)

    def refuse_complete_separation(self, place: np.ndarray) -> None:
        """Raise a `_NoEstimateError` if every row is on the right side, beyond all rounding."""
        rounding = 4 * len(place) * EPS * (np.abs(self.signed) @ np.abs(place))
        if (self.signed @ place > rounding).all():
            raise _NoEstimateError(SEPARATED.format(""))

    def refuse_separation(self) -> None:
        """Raise a `_NoEstimateError` if a plane separates the classes, rows on the plane allowed.

        The linear program of K. Konis, "Linear programming algorithms for detecting separated data
        in binary logistic regression models", University of Oxford, 2007: the largest sum of
        margins along a direction in which none is negative.
        """
        signed = self.signed[:, self.used]
        signed = signed / np.abs(signed).max(axis=1, keepdims=True, initial=EPS)
        precise = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        found = linprog(
            -signed.sum(axis=0), -signed, np.zeros(len(signed)), bounds=(-1, 1), options=precise
        )
        if found.status:
            return
        margins = signed @ found.x
        if margins.min() >= -1e-9 and margins.max() > 1e-6:
            on_it = ", but for rows that lie on it" if margins.min() < 1e-6 else ""
            raise _NoEstimateError(SEPARATED.format(on_it))

    def in_original_units(self, place: np.ndarray) -> np.ndarray:
        coef = place[1:] / self.scale
        return np.r_[math.fsum([place[0], *(-coef * self.centre)]), coef]

    def standard_errors(self, place: np.ndarray) -> np.ndarray:
        _, R, _ = self.least_squares(place)
        if not np.diag(R).all():
            return np.full(len(place), np.nan)
        back = np.diag(np.r_[1.0, 1 / self.scale])
        back[0, 1:] = -self.centre / self.scale
        roots = solve_triangular(R, back[:, self.used].T, trans="T", check_finite=False)
        errors = np.linalg.norm(roots, axis=0)
        return errors if self.fit_intercept else np.r_[np.nan, errors[1:]]


class _Softmax:
    """Several classes, in good coordinates; a place has a row for each class."""

    def __init__(self, X: np.ndarray, classes: np.ndarray, weight: np.ndarray, alpha: float):
        self.centre, self.scale = _coordinates(X, weight)
        self.Z = np.column_stack([np.ones(len(X)), (X - self.centre) / self.scale])
        self.classes, self.weight = classes, weight
        self.penalty = np.r_[0.0, alpha / self.scale**2]

    def solve(self, tol: float, max_iter: int) -> np.ndarray:
        """Newton's method from zero."""
        place = np.zeros((self.classes.shape[1], self.Z.shape[1]))
        total = np.sqrt(self.weight.sum())
        for _ in range(max_iter):
            P = softmax(self.Z @ place.T)
            slope = self.gradient(place, P)
            step = solve(self.hessian(P), -slope.ravel(), assume_a="pos").reshape(place.shape)
            decrement = np.sqrt(max(-(slope * step).sum(), 0.0))
            place = _downhill(self.loss, place, step)
            if decrement <= tol * total:
                return place
        _warn_of_last_step(decrement / total, tol, max_iter)
        return place

    def log_loss(self, place: np.ndarray) -> float:
        U = self.Z @ place.T
        return self.weight @ (logsumexp(U, axis=1) - (U * self.classes).sum(axis=1))

    def loss(self, place: np.ndarray) -> float:
        return self.log_loss(place) + (self.penalty * place**2).sum() / 2

    def gradient(self, place: np.ndarray, P: np.ndarray) -> np.ndarray:
        return (self.weight[:, None] * (P - self.classes)).T @ self.Z + self.penalty * place

    def hessian(self, P: np.ndarray) -> np.ndarray:
        n_classes, n_columns = P.shape[1], self.Z.shape[1]
        H = np.empty((n_classes, n_columns, n_classes, n_columns))
        for k in range(n_classes):
            for m in range(n_classes):
                w = self.weight * P[:, k] * ((k == m) - P[:, m])
                H[k, :, m] = self.Z.T @ (w[:, None] * self.Z) + (k == m) * np.diag(self.penalty)
        # The loss does not change with the sum of the intercepts: this keeps it where it is.
        H[:, 0, :, 0] += self.weight.sum()
        return H.reshape(n_classes * n_columns, -1)
