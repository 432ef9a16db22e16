"""The shelf: every candidate by its name in ``params.yaml``."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline

from truefit.params import Case
from truefit.project import InputError
from truefit.training.preparation import prepare


class Candidate(NamedTuple):
    """A model on the shelf: what it is, and the preparation it needs."""

    make: Callable[[int], BaseEstimator]  # from a seed
    for_trees: bool = False


# To add a model, add a line here and its name in params.yaml.
SHELF = {
    ("regression", "dummy"): Candidate(lambda seed: DummyRegressor()),
    # The columns of 0 and 1 of one category add up to 1, so the matrix lacks full rank, and only
    # predictions are determined. They are, because the preparation has put all on one scale:
    # singular values below tol times the largest are rounding errors.
    ("regression", "linear"): Candidate(lambda seed: LinearRegression(tol=1e-6)),
    ("regression", "ridge"): Candidate(lambda seed: RidgeCV(alphas=np.logspace(-2, 4, 25))),
    ("regression", "hist_gradient_boosting"): Candidate(
        lambda seed: HistGradientBoostingRegressor(
            learning_rate=0.06,
            max_iter=300,
            max_leaf_nodes=15,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        ),
        for_trees=True,
    ),
    ("classification", "dummy"): Candidate(lambda seed: DummyClassifier(strategy="prior")),
    ("classification", "logistic"): Candidate(lambda seed: LogisticRegression(max_iter=1000)),
    ("classification", "hist_gradient_boosting"): Candidate(
        lambda seed: HistGradientBoostingClassifier(
            learning_rate=0.05,
            max_iter=120,
            max_leaf_nodes=7,
            l2_regularization=1.0,
            early_stopping=False,
            random_state=seed,
        ),
        for_trees=True,
    ),
}


def build(
    name: str, frame: pd.DataFrame, case: Case, *, min_category_rows: int, seed: int
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

    Returns
    -------
    estimator
        Raw columns in, the target in its own unit out. A pipeline; for a logged target, wrapped
        so that it learns the logarithm.

    Raises
    ------
    InputError
        If the shelf has no such model for the case's task.
    """
    if (case.task, name) not in SHELF:
        known = ", ".join(n for task, n in SHELF if task == case.task)
        raise InputError(f"params.yaml: no model {name!r} for a {case.task}; the shelf has {known}")
    candidate = SHELF[case.task, name]
    pipeline = make_pipeline(
        prepare(frame, case, for_trees=candidate.for_trees, min_category_rows=min_category_rows),
        candidate.make(seed),
    )
    if case.log_target:
        return TransformedTargetRegressor(pipeline, func=np.log, inverse_func=np.exp)
    return pipeline


def unwrap(model: BaseEstimator) -> BaseEstimator:
    """The fitted pipeline inside a model that learns the logarithm; else the model itself."""
    return model.regressor_ if isinstance(model, TransformedTargetRegressor) else model
