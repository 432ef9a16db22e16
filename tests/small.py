"""Two small tables on which every model of the shelf is quick, with settings to match."""

from functools import cache

import joblib
import numpy as np
import pandas as pd

from truefit import training
from truefit.params import Compute, Space, Training
from truefit.task import BinaryClassification, Regression
from truefit.training import SHELF

COMMON = {"table": "t.csv", "target": "y", "clusters": ["east", "north"], "absent": ["grade"]}
COMMON |= {"features": {"product": "size * fill(gaps, 0)"}}
ORDER = [{"order": ["low", "middle", "high"], "columns": ["grade"]}]
CASES = {
    "regression": Regression(log_target=True, ordinal=ORDER, **COMMON),
    "classification": BinaryClassification(positive="bad", ordinal=ORDER, **COMMON),
}
SHELVES = {task: [m for t, m in SHELF if t == task] for task in CASES}
SETTINGS = Training(
    seed=3,
    folds=3,
    inner_folds=3,
    trials=4,
    fewer_trials={},
    min_category_rows=4,
    blend=3,
    choose="best",
    **SHELVES,
)
RIDGE = {"alpha": Space(low=0.1, high=1000, log=True)}
MODELS = [(task, m) for task, m in SHELF]


@cache
def table(task, n=150):
    """Numbers, gaps, an order, a category, two coordinates; the target ``y`` depends on most."""
    rng = np.random.default_rng(5)
    rows = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "gaps": np.where(rng.random(n) < 0.1, np.nan, rng.gamma(2, size=n)),
            "grade": rng.choice(["low", "middle", "high", None], n),
            "kind": rng.choice(["a", "b", "c"], n, p=[0.5, 0.4, 0.1]),
            "east": rng.random(n),
            "north": rng.random(n),
        }
    ).astype({"grade": "str", "kind": "str"})
    log = 0.5 * rows["size"] + 0.3 * rows["gaps"].fillna(1) + 0.4 * (rows["grade"] == "high")
    log = log + 0.3 * (rows["kind"] == "a") + np.sin(6 * rows["east"]) / 3
    noisy = log + 0.3 * rng.normal(size=n)
    if task == "regression":
        return rows.assign(y=np.exp(8 + noisy))
    return rows.assign(y=np.where(noisy > noisy.median(), "bad", "good")).astype({"y": "str"})


def search(names, task="regression", *, rows=None, spaces=None, store=None, where=None, **changes):
    """What `training.search_all` finds on a small table."""
    return training.search_all(
        names,
        table(task) if rows is None else rows,
        CASES[task],
        spaces or {},
        SETTINGS.model_copy(update=changes),
        where or Compute(),
        store=store,
    )


def digest(found):
    """Of every bit of what was found."""
    parts = [
        (*task, f.params, f.trials, f.inner.tobytes(), f.held.tobytes(), f.error)
        for task, f in found.items()
    ]
    return joblib.hash(parts)
