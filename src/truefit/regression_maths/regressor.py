"""`least_squares` with the interface of a scikit-learn estimator."""

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

from truefit.regression_maths.estimator_input import validated, validated_X
from truefit.regression_maths.least_squares import Method, least_squares


class LeastSquaresRegressor(RegressorMixin, BaseEstimator):
    """Ordinary least squares to the last digit, and fast on many rows; see `least_squares`.

    Parameters
    ----------
    fit_intercept : bool
    method : {"auto", "cholesky", "qr"}

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,)
    intercept_ : float
    rank_ : int
        The number of independent columns, the intercept's among them.
    result_ : LeastSquares
        Standard errors, R² and what else the fit is worth; which columns depend on each other.
    """

    def __init__(self, *, fit_intercept: bool = True, method: Method = "auto"):
        self.fit_intercept = fit_intercept
        self.method = method

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LeastSquaresRegressor":
        """Fit on X of shape (n_samples, n_features) and y of shape (n_samples,).

        Raises
        ------
        DataError
            One sentence that names the row and the column that cannot be used.
        """
        X, y, weight = validated(self, X, y, sample_weight)
        self.result_ = least_squares(
            X,
            y,
            sample_weight=weight,
            columns=getattr(self, "feature_names_in_", None),
            fit_intercept=self.fit_intercept,
            method=self.method,
        )
        self.coef_, self.intercept_ = self.result_.coef, self.result_.intercept
        self.rank_ = self.result_.rank
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Fitted values, of shape (n_samples,)."""
        return validated_X(self, X) @ self.coef_ + self.intercept_
