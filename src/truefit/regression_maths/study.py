"""Experiments of the notebook: problems made to order, and what becomes of solvers on them."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from truefit.regression_maths.exact import correct_digits, exact_least_squares
from truefit.regression_maths.least_squares import LeastSquares
from truefit.regression_maths.penalised import ridge_path

Solver = Callable[[np.ndarray, np.ndarray], np.ndarray]


def design_of_condition(
    condition: float, n_samples: int, n_features: int, rng: np.random.Generator
) -> np.ndarray:
    """A matrix with singular values from 1 down to 1/condition, evenly spaced in their logarithm.

    Returns
    -------
    ndarray of shape (n_samples, n_features)
    """
    U, _ = np.linalg.qr(rng.standard_normal((n_samples, n_features)))
    V, _ = np.linalg.qr(rng.standard_normal((n_features, n_features)))
    return U * np.geomspace(1, 1 / condition, n_features) @ V.T


def digits_by_condition(
    solvers: Mapping[str, Solver],
    conditions: Sequence[float],
    *,
    rng: np.random.Generator,
    n_samples: int = 20,
    n_features: int = 4,
    repeats: int = 3,
) -> pd.DataFrame:
    """Correct digits of each solver, against the solution in rational arithmetic.

    The target is the sum of the columns, with a noise as small as 1e-6 of it, so that what is seen
    is the error of solving the equations.

    Returns
    -------
    DataFrame
        Indexed by condition, a column for each solver: the mean over the repeats of the worst
        coefficient's digits; 0 where a solver gave up.
    """
    rows = []
    for condition in conditions:
        for _ in range(repeats):
            X = design_of_condition(condition, n_samples, n_features, rng)
            y = X.sum(axis=1)
            y += 1e-6 * np.linalg.norm(y) / np.sqrt(n_samples) * rng.standard_normal(n_samples)
            exact = exact_least_squares(X, y).coef
            found = {name: _digits(solve, X, y, exact) for name, solve in solvers.items()}
            rows.append({"condition": condition, **found})
    return pd.DataFrame(rows).groupby("condition").mean()


def _digits(solve: Solver, X: np.ndarray, y: np.ndarray, exact: list) -> float:
    try:
        return correct_digits(solve(X, y), exact)
    except np.linalg.LinAlgError:
        return 0.0


def bias_and_variance(
    X: np.ndarray,
    coef: np.ndarray,
    noise: float,
    alphas: Sequence[float],
    *,
    resamples: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Where the error of ridge comes from, when the truth is known and the target drawn anew.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features)
    coef : ndarray of shape (n_features,)
        The true coefficients.
    noise : float
        Standard deviation of the target around X·coef, in its units.
    alphas : sequence of n_alphas floats
    resamples : int
        How many targets are drawn; each is fitted at every alpha.

    Returns
    -------
    DataFrame
        Indexed by alpha: ``bias2``, the mean squared distance of the average prediction from the
        truth; ``variance``, that of a prediction from its average; ``error``, that of a
        prediction from the truth. All in squared units of the target.
    """
    truth = X @ coef
    fits = []
    for _ in range(resamples):
        y = truth + noise * rng.standard_normal(len(X))
        path = ridge_path(X, y, alphas)
        fits.append(path.coef @ X.T + path.intercept[:, None])
    predictions = np.array(fits)  # (resamples, n_alphas, n_samples)
    average = predictions.mean(axis=0)
    return pd.DataFrame(
        {
            "bias2": ((average - truth) ** 2).mean(axis=1),
            "variance": ((predictions - average) ** 2).mean(axis=(0, 2)),
            "error": ((predictions - truth) ** 2).mean(axis=(0, 2)),
        },
        index=pd.Index(alphas, name="alpha"),
    )


def interval_rows(fit: LeastSquares, x: np.ndarray, quantile: float) -> pd.DataFrame:
    """Fitted values of a line with an intercept, with the ends of both kinds of interval.

    Parameters
    ----------
    fit : LeastSquares
        With one feature and an intercept.
    x : ndarray of shape (n_samples,)
    quantile : float
        Of Student's t, for the confidence wanted.
    """
    D = np.column_stack([np.ones(len(x)), x])
    fitted = fit.predict(x[:, None])
    of_mean = np.sqrt(np.einsum("ij,jk,ik->i", D, fit.covariance, D))
    of_new = np.hypot(of_mean, fit.residual_sd)
    return pd.DataFrame(
        {
            "fitted": fitted,
            "mean_low": fitted - quantile * of_mean,
            "mean_high": fitted + quantile * of_mean,
            "new_low": fitted - quantile * of_new,
            "new_high": fitted + quantile * of_new,
        }
    )
