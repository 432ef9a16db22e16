"""Fitted models, with all their preparation, as graphs."""

import json
from functools import singledispatch

import numpy as np
import onnx
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBModel, XGBRegressor

from truefit.case import OUTPUTS
from truefit.export.graph import Graph, NoCounterpartError, Precision
from truefit.export.steps import prepared
from truefit.export.trees import Forest, Tree, ensemble, trees_of
from truefit.library_internals import boosting_start, kernel_factor, remembered_rows
from truefit.project import InputError
from truefit.scales import EDGE
from truefit.task import gives_probabilities
from truefit.training.neighbours import STEPS, NeighboursClassifier, NeighboursRegressor
from truefit.training.preparation import TargetScale
from truefit.training.recalibrated import Recalibrated

LIGHTGBM_ZERO = float(np.float32(1e-35))


def pipelines(model: BaseEstimator) -> list[Pipeline]:
    """The fitted pipelines that a model is made of: one, or the members of a blend."""
    if isinstance(model, TransformedTargetRegressor):
        return pipelines(model.regressor_)
    if isinstance(model, Recalibrated):
        return pipelines(model.estimator_)
    if isinstance(model, VotingRegressor | VotingClassifier):
        return [p for member in model.estimators_ for p in pipelines(member)]
    return [model]


def input_columns(model: BaseEstimator) -> dict[str, str]:
    """The raw columns the fitted model reads, each once, in order: ``number`` or ``text``."""
    found: dict[str, str] = {}
    for pipeline in pipelines(model):
        for kind, _, columns in pipeline[0].transformers_:
            if kind != "remainder":
                of_text = kind in {"ordered", "category"}
                found |= dict.fromkeys(columns, "text" if of_text else "number")
    return found


def to_onnx(model: BaseEstimator, name: str, precision: Precision = "float64") -> onnx.ModelProto:
    """The fitted model with all its preparation as one ONNX graph.

    Parameters
    ----------
    model : estimator
        From `truefit.training.build` or `truefit.training.build_blend`, fitted; a classifier may
        be inside a `truefit.training.recalibrated.Recalibrated`.
    name : str
        Of the graph.
    precision : str, optional
        Of the estimators: ``float64`` for what scikit-learn answers, ``float32``, or ``float16``
        for large constants stored so. What prepares the columns is always as in the pipeline.

    Returns
    -------
    ModelProto
        One input of shape (n_samples, 1) for each raw column: float32 with NaN for a gap, or
        string with ``""`` for one. One output in float64: ``prediction`` of shape (n_samples, 1)
        in the target's own unit, or ``probability`` of shape (n_samples, 2), in the order of the
        classes.

    Raises
    ------
    InputError
        If the estimator has no counterpart in ONNX, or a column is called like an output.
    """
    columns = input_columns(model)
    for column in sorted(OUTPUTS.intersection(columns)):
        raise InputError(
            f"{name}: a column cannot be called {column!r}, as an output is; rename it"
        )
    graph = Graph(columns, precision)
    try:
        found = answer(model, graph)
    except NoCounterpartError as error:
        raise InputError(
            f"the model {error} of {name} has no counterpart in ONNX; take it off the candidates "
            "in params.yaml"
        ) from None
    if not gives_probabilities(model):
        return graph.finish(name, "prediction", found, 1)
    other = graph.op("Sub", graph.constant(1.0), found)
    return graph.finish(name, "probability", graph.concat([other, found]), 2)


@singledispatch
def answer(model: BaseEstimator, graph: Graph) -> str:
    """A number, or the probability of the second class, of shape (n_samples, 1)."""
    raise NoCounterpartError(type(model).__name__)


@answer.register
def _(model: Pipeline, graph: Graph) -> str:
    x, estimator = prepared(graph, model[0]), model[-1]
    if graph.precision == "float64":
        return estimated(estimator, graph, x)
    # Which rows are nearest hangs on the last digits of a distance.
    nearest = isinstance(estimator, NeighboursRegressor | NeighboursClassifier)
    with graph.of_estimator(counted_finely=nearest):
        found = estimated(estimator, graph, x if nearest else graph.single(x))
    return graph.double(found)


@answer.register
def _(model: TransformedTargetRegressor, graph: Graph) -> str:
    scale = model.transformer_
    if not isinstance(scale, TargetScale):
        raise NoCounterpartError(f"{type(model).__name__} with {type(scale).__name__}")
    value = answer(model.regressor_, graph)
    value = graph.op("Mul", value, graph.constant(scale.scale_))
    value = graph.op("Add", value, graph.constant(scale.mean_))
    return graph.op("Exp", value) if scale.log else value


@answer.register
def _(model: VotingRegressor | VotingClassifier, graph: Graph) -> str:
    if getattr(model, "voting", "soft") != "soft":
        raise NoCounterpartError(f"{type(model).__name__} with hard votes")
    members = [answer(member, graph) for member in model.estimators_]
    weights = np.ones(len(members)) if model.weights is None else np.array(model.weights)
    share = graph.constant([weights / weights.sum()])
    return graph.total(graph.op("Mul", graph.concat(members), share))


@answer.register
def _(model: Recalibrated, graph: Graph) -> str:
    one = graph.constant(1.0)
    p = answer(model.estimator_, graph)
    p = p if model.place_ else graph.op("Sub", one, p)
    p = graph.op("Clip", p, graph.constant(EDGE), graph.constant(1 - EDGE))
    log_odds = graph.op("Log", graph.op("Div", p, graph.op("Sub", one, p)))
    scaled = graph.op("Mul", log_odds, graph.constant(model.slope))
    found = graph.op("Sigmoid", graph.op("Add", scaled, graph.constant(model.intercept)))
    return found if model.place_ else graph.op("Sub", one, found)


@singledispatch
def estimated(model: BaseEstimator, graph: Graph, x: str) -> str:
    """What an estimator makes of the prepared columns; see `answer`."""
    if is_regressor(model) and hasattr(model, "coef_") and hasattr(model, "intercept_"):
        return _linear(graph, x, np.ravel(model.coef_)[:, None], model.intercept_)
    raise NoCounterpartError(type(model).__name__)


def _linear(graph: Graph, x: str, weights: np.ndarray, intercept: np.ndarray) -> str:
    product = graph.product(x, weights)
    return graph.op("Add", product, graph.constant(np.atleast_2d(intercept)))


@estimated.register
def _(model: LogisticRegression, graph: Graph, x: str) -> str:
    return graph.op("Sigmoid", _linear(graph, x, model.coef_.T, model.intercept_))


@estimated.register
def _(model: MLPRegressor | MLPClassifier, graph: Graph, x: str) -> str:
    if model.activation != "relu" or model.out_activation_ not in {"identity", "logistic"}:
        raise NoCounterpartError(f"{type(model).__name__} with {model.activation}")
    for weights, intercept in zip(model.coefs_[:-1], model.intercepts_[:-1], strict=True):
        x = graph.op("Relu", _linear(graph, x, weights, intercept))
    x = _linear(graph, x, model.coefs_[-1], model.intercepts_[-1])
    return graph.op("Sigmoid", x) if model.out_activation_ == "logistic" else x


# Distances


def _squared_distances(graph: Graph, x: str, rows: np.ndarray) -> str:
    """To each of some rows, of shape (n_samples, n_rows)."""
    rows = graph.rounded(rows)
    lengths = graph.total(graph.op("Mul", x, x))
    lengths = graph.op("Add", lengths, graph.constant((rows**2).sum(axis=1)[None, :]))
    twice = graph.product(x, 2 * rows.T)
    return graph.op("Max", graph.op("Sub", lengths, twice), graph.constant(0.0))


@estimated.register
def _(model: NeighboursRegressor | NeighboursClassifier, graph: Graph, x: str) -> str:
    if model.effective_metric_ != "euclidean" or model.weights not in {"uniform", "distance"}:
        raise NoCounterpartError(f"{type(model).__name__} by {model.effective_metric_}")
    rows, targets = remembered_rows(model)
    distances = _squared_distances(graph, x, rows)
    steps = graph.constant(STEPS)
    distances = graph.op("Round", graph.op("Mul", distances, steps))
    k = graph.constant([min(model.n_neighbors, len(rows))], np.int64)
    squared, nearest = graph.op("TopK", distances, k, outputs=2, axis=1, largest=0)
    values = graph.op(
        "Gather", graph.constant(np.ravel(targets).astype(np.float64)), nearest, axis=0
    )
    if model.weights == "uniform":
        return graph.op("ReduceMean", values, graph.constant([1], np.int64), keepdims=1)
    zero, one = graph.constant(0.0), graph.constant(1.0)
    # Rows like this one outweigh all others.
    same = graph.number(graph.op("Equal", squared, zero))
    any_same = graph.op("Greater", graph.total(same), zero)
    distance = graph.op("Sqrt", graph.op("Div", squared, steps))
    weights = graph.op("Where", any_same, same, graph.op("Div", one, distance))
    weighted = graph.total(graph.op("Mul", weights, values))
    return graph.op("Div", weighted, graph.total(weights))


def _margin(graph: Graph, x: str, model: SVR | SVC) -> str:
    if model.kernel != "rbf":
        raise NoCounterpartError(f"{type(model).__name__} with the kernel {model.kernel}")
    squared = _squared_distances(graph, x, model.support_vectors_)
    kernel = graph.op("Exp", graph.op("Mul", squared, graph.constant(-kernel_factor(model))))
    return _linear(graph, kernel, np.ravel(model.dual_coef_)[:, None], model.intercept_)


@estimated.register
def _(model: SVR, graph: Graph, x: str) -> str:
    return _margin(graph, x, model)


@estimated.register
def _(model: CalibratedClassifierCV, graph: Graph, x: str) -> str:
    (fitted,) = model.calibrated_classifiers_
    if model.method != "sigmoid" or not isinstance(fitted.estimator, SVC):
        raise NoCounterpartError(f"{type(model).__name__} of {type(fitted.estimator).__name__}")
    (sigmoid,) = fitted.calibrators
    margin = _margin(graph, x, fitted.estimator)
    scaled = graph.op("Mul", margin, graph.constant(-sigmoid.a_))
    return graph.op("Sigmoid", graph.op("Sub", scaled, graph.constant(sigmoid.b_)))


# Trees


@estimated.register
def _(
    model: DecisionTreeRegressor | DecisionTreeClassifier | Forest,
    graph: Graph,
    x: str,
) -> str:
    return ensemble(graph, x, trees_of(model))


@estimated.register
def _(
    model: HistGradientBoostingRegressor | HistGradientBoostingClassifier, graph: Graph, x: str
) -> str:
    if model.loss not in {"squared_error", "log_loss"}:
        raise NoCounterpartError(f"{type(model).__name__} with the loss {model.loss}")
    start = graph.constant(np.reshape(boosting_start(model), (1, 1)))
    score = graph.op("Add", ensemble(graph, x, trees_of(model)), start)
    return graph.op("Sigmoid", score) if gives_probabilities(model) else score


@estimated.register
def _(model: LGBMRegressor | LGBMClassifier, graph: Graph, x: str) -> str:
    # LightGBM takes a number next to 0 for 0.
    small = graph.op("LessOrEqual", graph.op("Abs", x), graph.constant(LIGHTGBM_ZERO))
    x = graph.op("Where", small, graph.constant(0.0), x)
    score = ensemble(graph, x, trees_of(model))
    return graph.op("Sigmoid", score) if gives_probabilities(model) else score


@estimated.register
def _(model: XGBRegressor | XGBClassifier, graph: Graph, x: str) -> str:
    # XGBoost adds its trees up in float32, one after another, and starts from its base score.
    trees = [_base(model), *trees_of(model)]
    score = graph.number(ensemble(graph, graph.single(x), trees, strict=True))
    return graph.op("Sigmoid", score) if gives_probabilities(model) else score


def _base(model: XGBModel) -> Tree:
    """The base score, as a tree of one leaf."""
    learner = json.loads(model.get_booster().save_raw("json"))["learner"]
    (score,) = json.loads(learner["learner_model_param"]["base_score"])
    score = np.float32(score)
    if learner["objective"]["name"] == "binary:logistic":
        score = -np.log(1 / score - 1)  # in float32, too
    none, no = np.full(1, -1), np.zeros(1, np.float32)
    return Tree(no.astype(int), no, none, none, no > 0, np.full(1, score, np.float32))
