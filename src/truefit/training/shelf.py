"""The shelf: every candidate by its name in ``params.yaml``."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from functools import singledispatch
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier, LGBMRegressor
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, is_classifier
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import SVC, SVR
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

from truefit.case import Case
from truefit.project import InputError
from truefit.task import BinaryClassification, Regression
from truefit.training.neighbours import NeighboursClassifier, NeighboursRegressor
from truefit.training.preparation import Preparation, TargetScale, prepare
from truefit.training.recalibrated import Recalibrated

# Parameters of the preparation, which are tuned like those of the estimator.
OF_PREPARATION = {"n_clusters"}
BLEND = "blend"


class Candidate(NamedTuple):
    """A model on the shelf: what it is, the preparation it needs, and how it is fitted."""

    estimator: type[BaseEstimator]
    preparation: Preparation = "scaled"
    # What stands, before tuning. `seed` is added where the estimator takes a random_state.
    settings: Mapping[str, Any] = {}
    # The parameter with the number of boosting rounds, which early stopping chooses in a search.
    rounds: str | None = None


class TextLabels(XGBClassifier):
    """XGBoost's classifier for classes of any name; the original wants 0 and 1."""

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        eval_set: Sequence[tuple[ArrayLike, ArrayLike]] | None = None,
        **more: Any,
    ) -> Self:
        """Fit with the classes numbered in alphabetical order."""
        labels, numbers = np.unique(y, return_inverse=True)
        held = [(rows, np.searchsorted(labels, classes)) for rows, classes in eval_set or []]
        self.labels_ = np.arange(len(labels))  # what the original expects while it fits
        super().fit(X, numbers, eval_set=held or None, **more)
        self.labels_ = labels
        return self

    @property
    def classes_(self) -> np.ndarray:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.labels_

    def predict(self, X: ArrayLike, **more: Any) -> np.ndarray:
        """Predict the more probable class."""
        return self.labels_[self.predict_proba(X, **more).argmax(axis=1)]


class CalibratedSVC(CalibratedClassifierCV):
    """A support vector classifier, its margin turned into a probability on held-out folds.

    Platt, Probabilistic Outputs for Support Vector Machines, 1999.

    Parameters
    ----------
    C, gamma : float
        Of `sklearn.svm.SVC`.
    """

    def __init__(self, C: float = 1.0, gamma: float = 0.1):
        self.C = C
        self.gamma = gamma
        super().__init__(SVC(C=C, gamma=gamma), method="sigmoid", cv=3, ensemble=False)

    def set_params(self, **params: Any) -> Self:
        """Set ``C`` or ``gamma``."""
        for name, value in params.items():
            setattr(self, name, value)
        self.estimator = SVC(C=self.C, gamma=self.gamma)
        return self

    def get_params(self, deep: bool = True) -> dict[str, float]:
        """Give ``C`` and ``gamma``."""
        return {"C": self.C, "gamma": self.gamma}


FOREST = {"n_estimators": 100, "min_samples_leaf": 2, "max_features": 0.33}
BOOSTING = {"learning_rate": 0.05, "l2_regularization": 1.0, "early_stopping": False}
XGBOOST = {"learning_rate": 0.05, "tree_method": "hist", "n_jobs": 1}
LIGHTGBM = {
    "learning_rate": 0.05,
    "subsample": 0.7,
    "subsample_freq": 1,
    "verbose": -1,
    "n_jobs": 1,
    # The same sums in the same order, whatever the machine.
    "deterministic": True,
    "force_row_wise": True,
}
# On tables of some thousand rows L-BFGS is quicker and surer than stochastic steps.
NETWORK = {"solver": "lbfgs", "max_iter": 100, "alpha": 10.0, "hidden_layer_sizes": (32,)}

# To add a model, add a line here and its name in params.yaml; what to tune, under search_spaces.
SHELF = {
    ("regression", "dummy"): Candidate(DummyRegressor),
    # The columns of 0 and 1 of one category add up to 1, so the matrix lacks full rank, and only
    # predictions are determined. They are, because the preparation has put all on one scale:
    # singular values below tol times the largest are rounding errors.
    ("regression", "linear"): Candidate(LinearRegression, "plain", {"tol": 1e-6}),
    ("regression", "ridge"): Candidate(Ridge, settings={"alpha": 20.0}),
    ("regression", "lasso"): Candidate(Lasso, settings={"alpha": 0.001, "max_iter": 5000}),
    ("regression", "elastic_net"): Candidate(
        ElasticNet, settings={"alpha": 0.002, "max_iter": 5000}
    ),
    ("regression", "k_nearest_neighbors"): Candidate(
        NeighboursRegressor, settings={"n_neighbors": 8, "weights": "distance"}
    ),
    ("regression", "svm"): Candidate(SVR, settings={"C": 8.0, "gamma": 0.001, "epsilon": 0.08}),
    ("regression", "decision_tree"): Candidate(
        DecisionTreeRegressor, "filled", {"max_depth": 8, "min_samples_leaf": 5}
    ),
    ("regression", "random_forest"): Candidate(RandomForestRegressor, "filled", FOREST),
    ("regression", "extra_trees"): Candidate(ExtraTreesRegressor, "filled", FOREST),
    ("regression", "hist_gradient_boosting"): Candidate(
        HistGradientBoostingRegressor,
        "native",
        BOOSTING | {"max_iter": 300, "max_leaf_nodes": 15},
        rounds="max_iter",
    ),
    ("regression", "xgboost"): Candidate(
        XGBRegressor,
        "native",
        XGBOOST | {"n_estimators": 300, "max_depth": 4},
        rounds="n_estimators",
    ),
    ("regression", "lightgbm"): Candidate(
        LGBMRegressor,
        "native",
        LIGHTGBM | {"n_estimators": 300, "num_leaves": 8},
        rounds="n_estimators",
    ),
    ("regression", "mlp"): Candidate(MLPRegressor, settings=NETWORK),
    ("classification", "dummy"): Candidate(DummyClassifier, settings={"strategy": "prior"}),
    ("classification", "logistic"): Candidate(
        LogisticRegression, settings={"C": 1.0, "max_iter": 1000}
    ),
    ("classification", "k_nearest_neighbors"): Candidate(
        NeighboursClassifier, settings={"n_neighbors": 30, "weights": "distance"}
    ),
    ("classification", "svm"): Candidate(CalibratedSVC, settings={"C": 1.0, "gamma": 0.02}),
    ("classification", "decision_tree"): Candidate(
        DecisionTreeClassifier, "filled", {"max_depth": 5, "min_samples_leaf": 20}
    ),
    ("classification", "random_forest"): Candidate(RandomForestClassifier, "filled", FOREST),
    ("classification", "extra_trees"): Candidate(ExtraTreesClassifier, "filled", FOREST),
    ("classification", "hist_gradient_boosting"): Candidate(
        HistGradientBoostingClassifier,
        "native",
        BOOSTING | {"max_iter": 120, "max_leaf_nodes": 7},
        rounds="max_iter",
    ),
    ("classification", "xgboost"): Candidate(
        TextLabels,
        "native",
        XGBOOST | {"n_estimators": 120, "max_depth": 3},
        rounds="n_estimators",
    ),
    ("classification", "lightgbm"): Candidate(
        LGBMClassifier,
        "native",
        LIGHTGBM | {"n_estimators": 120, "num_leaves": 7},
        rounds="n_estimators",
    ),
    ("classification", "mlp"): Candidate(MLPClassifier, settings=NETWORK),
}


def candidate(name: str, task: str) -> Candidate:
    """A model of the shelf.

    Raises
    ------
    InputError
        If the shelf has no such model for the task.
    """
    if (task, name) not in SHELF:
        known = [n for t, n in SHELF if t == task]
        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"the shelf has {', '.join(known)}"
        raise InputError(f"params.yaml: no model {name!r} for a {task}; {hint}")
    return SHELF[task, name]


def estimator(name: str, task: str, params: Mapping[str, Any], seed: int) -> BaseEstimator:
    """The estimator of a candidate, without its preparation.

    Raises
    ------
    InputError
        If it has no parameter of a name in ``params``.
    """
    chosen = candidate(name, task)
    known = chosen.estimator().get_params()
    own = {k: v for k, v in params.items() if k not in OF_PREPARATION}
    for key in own:
        if key not in known:
            close = get_close_matches(key, [*known, *OF_PREPARATION], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise InputError(
                f"params.yaml: {name} has no parameter {key!r}, which search_spaces names{hint}"
            )
    random = {"random_state": seed} if "random_state" in known else {}
    return chosen.estimator(**{**chosen.settings, **random, **own})


def build(
    name: str,
    frame: pd.DataFrame,
    case: Case,
    *,
    min_category_rows: int,
    seed: int,
    params: Mapping[str, Any] | None = None,
) -> BaseEstimator:
    """One candidate with all its preparation, not yet fitted.

    Parameters
    ----------
    name : str
        On the shelf.
    frame : DataFrame
        Training rows, for the roles of the columns.
    case : Case
        Its block in ``params.yaml``.
    min_category_rows : int
        See `prepare`.
    seed : int
        Of the estimator, if it makes random choices.
    params : mapping from name to value, optional
        Of the estimator or the preparation, beside what the shelf says.

    Returns
    -------
    estimator
        Raw columns in, the target in its own unit out. A pipeline; in a regression wrapped so that
        it learns the target, or its logarithm, on one scale.

    Raises
    ------
    InputError
        If the shelf has no such model for the case's task, or the model no such parameter.
    """
    params = params or {}
    own = {k: v for k, v in params.items() if k in OF_PREPARATION}
    preparation = prepare(
        frame,
        case,
        kind=candidate(name, case.shelf).preparation,
        min_category_rows=min_category_rows,
        seed=seed,
        **own,
    )
    return with_target_scale(
        make_pipeline(preparation, estimator(name, case.shelf, params, seed)), case
    )


@singledispatch
def target_scale(case: Case) -> BaseEstimator:
    """The scale on which a model learns the target, not yet fitted; that of classes is their own.

    A transformer of arrays of shape (n_samples,), with a way back.
    """
    raise NotImplementedError


@target_scale.register
def _(case: Regression) -> BaseEstimator:
    return TargetScale(case.log_target)


@target_scale.register
def _(case: BinaryClassification) -> BaseEstimator:
    return FunctionTransformer()


def with_target_scale(model: BaseEstimator, case: Case) -> BaseEstimator:
    """A regressor wrapped so that it learns the target on one scale; a classifier as it is."""
    if is_classifier(model):
        return model
    return TransformedTargetRegressor(model, transformer=target_scale(case), check_inverse=False)


def unwrap(model: BaseEstimator) -> BaseEstimator:
    """The fitted model inside one that learns another scale, or that was put right; else itself."""
    if isinstance(model, TransformedTargetRegressor):
        return model.regressor_
    return model.estimator_ if isinstance(model, Recalibrated) else model
