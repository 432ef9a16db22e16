"""Fit the models that the peers serve, as plain scikit-learn pipelines.

Each peer's environment runs this for itself, with its own scikit-learn: ``fit.py TABLE FOLDER``.
Truefit's bundles are of the same estimators with the same settings, so that trees and leaves are
as many.
"""

import json
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

TARGET = "price"
NUMBERS = ["speed", "hd", "ram", "screen", "ads", "trend"]
CATEGORIES = ["cd", "multi", "premium"]
MANY_ROWS = 10_000
SETTINGS = {
    # scikit-learn's own defaults, said aloud because Truefit's shelf has others.
    "hist_gradient_boosting": {
        "learning_rate": 0.1,
        "l2_regularization": 0.0,
        "early_stopping": False,
        "max_features": 1.0,
        "max_iter": 100,
        "max_leaf_nodes": 31,
        "min_samples_leaf": 20,
    },
    "ridge": {"alpha": 20.0},
}


def pipelines() -> dict[str, TransformedTargetRegressor]:
    """The models by name, not fitted."""
    boosting = HistGradientBoostingRegressor(**SETTINGS["hist_gradient_boosting"], random_state=0)
    return {
        "hist_gradient_boosting": on_log(prepared(), boosting),
        "ridge": on_log(prepared(), Ridge(**SETTINGS["ridge"])),
    }


def prepared() -> ColumnTransformer:
    """As scikit-learn's guide prepares mixed columns; so rows may have gaps, as Truefit's may."""
    number = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    category = make_pipeline(
        SimpleImputer(strategy="most_frequent"),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    return ColumnTransformer([("number", number, NUMBERS), ("category", category, CATEGORIES)])


def on_log(preparation, estimator) -> TransformedTargetRegressor:
    return TransformedTargetRegressor(
        make_pipeline(preparation, estimator), func=np.log, inverse_func=np.exp
    )


def rows_to_ask(table: pd.DataFrame) -> pd.DataFrame:
    """Rows that are hardly ever alike, which the table's are: each column is drawn on its own."""
    random = np.random.default_rng(0)
    columns = table.drop(columns=TARGET)
    return pd.DataFrame({name: random.choice(columns[name], MANY_ROWS) for name in columns})


def main(table: str, folder: str) -> None:
    rows, target = pd.read_csv(table), Path(folder)
    for name, model in pipelines().items():
        model.fit(rows.drop(columns=TARGET), rows[TARGET])
        joblib.dump(model, target / f"{name}.joblib")
        answers = model.predict(rows_to_ask(rows)).tolist()
        (target / f"{name}.json").write_text(json.dumps(answers), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
