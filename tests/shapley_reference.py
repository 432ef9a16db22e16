"""Shapley values by their definition, and by the trees' own libraries, to compare ours with."""

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from xgboost import DMatrix, XGBModel

from truefit.case import Case
from truefit.evaluation import explain


def exact_shapley(
    predict: Callable[[pd.DataFrame], np.ndarray], row: pd.DataFrame, background: pd.DataFrame
) -> tuple[pd.Series, float]:
    """Interventional Shapley values by their definition, and the mean over the background.

    Shapley, A Value for n-Person Games, 1953. Exact, and 2ⁿ predictions for each background row.

    Parameters
    ----------
    predict : callable
        From a DataFrame to values, on the scale where effects are to add up.
    row : DataFrame of one row
    background : DataFrame
    """
    n = background.shape[1]
    subsets = [s for size in range(n + 1) for s in combinations(range(n), size)]
    worth = {}
    for subset in subsets:
        rows = background.copy()
        for j in subset:
            rows.isetitem(j, [row.iloc[0, j]] * len(rows))
        worth[subset] = float(np.mean(predict(rows)))
    values = np.zeros(n)
    for subset in subsets:
        share = 1 / (n * math.comb(n - 1, len(subset))) if len(subset) < n else 0.0
        for j in set(range(n)) - set(subset):
            values[j] += share * (worth[tuple(sorted((*subset, j)))] - worth[subset])
    return pd.Series(values, index=background.columns), worth[()]


def tree_contributions(
    model: BaseEstimator, rows: pd.DataFrame, case: Case
) -> tuple[pd.DataFrame, float]:
    """Contributions in XGBoost's or LightGBM's trees by their own TreeSHAP, and their base.

    Lundberg and others, From Local Explanations to Global Understanding with Explainable AI for
    Trees, Nature Machine Intelligence 2, 2020. A column that is not known is averaged over as the
    training rows went through each tree, so the values differ somewhat from those that average
    over background rows.
    """
    preparation, trees = explain._inside(model)
    X = rows.drop(columns=case.target, errors="ignore")
    prepared = preparation.transform(X)
    if isinstance(trees, XGBModel):
        found = trees.get_booster().predict(
            DMatrix(prepared), pred_contribs=True, validate_features=False
        )
    else:
        found = trees.booster_.predict(prepared, pred_contrib=True)
    factor, offset = case.to_scale(model)
    names = [" & ".join(m) for m in explain._trace_all(preparation, X, prepared.shape[1])]
    values = pd.DataFrame(0.0, index=X.index, columns=list(dict.fromkeys(names)))
    for j, name in enumerate(names):
        values[name] += factor * np.asarray(found[:, j], dtype=float)
    return values, factor * float(found[0, -1]) + offset
