"""The mathematics of regression, as code: solvers that can be read, used and held to account.

`least_squares` is the one to use; the others show how a method works, at full accuracy.
"""

from truefit.regression_maths.descent import (
    conjugate_gradients,
    finite_differences,
    gradient,
    gradient_descent,
    largest_rate,
    loss,
    stochastic_gradient_descent,
)
from truefit.regression_maths.inputs import DataError
from truefit.regression_maths.least_squares import (
    Dependency,
    LeastSquares,
    RankWarning,
    least_squares,
    least_squares_blocks,
    least_squares_file,
)
from truefit.regression_maths.logistic import (
    NewtonLogistic,
    NoEstimateWarning,
    log_loss,
    softmax,
    softmax_regression,
)
from truefit.regression_maths.penalised import (
    ElasticNetDescent,
    SVDRidge,
    alpha_max,
    effective_degrees_of_freedom,
    elastic_net_path,
    kkt_violation,
    ridge_path,
)
from truefit.regression_maths.regressor import LeastSquaresRegressor

__all__ = [
    "DataError",
    "Dependency",
    "ElasticNetDescent",
    "LeastSquares",
    "LeastSquaresRegressor",
    "NewtonLogistic",
    "NoEstimateWarning",
    "RankWarning",
    "SVDRidge",
    "alpha_max",
    "conjugate_gradients",
    "effective_degrees_of_freedom",
    "elastic_net_path",
    "finite_differences",
    "gradient",
    "gradient_descent",
    "kkt_violation",
    "largest_rate",
    "least_squares",
    "least_squares_blocks",
    "least_squares_file",
    "log_loss",
    "loss",
    "ridge_path",
    "softmax",
    "softmax_regression",
    "stochastic_gradient_descent",
]
