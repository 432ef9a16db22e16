"""What a service shows and watches beside the answers: which columns matter, which answers come."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from truefit.case import Case
from truefit.export.models import input_columns
from truefit.metrics import predictions

ROWS = 200  # enough to order the columns; the scores of SVMs take time


def reference(model: BaseEstimator, rows: pd.DataFrame, schema: dict, case: Case) -> dict:
    """How much each column moves the predictions, and how the predictions are distributed.

    Parameters
    ----------
    model : estimator
        Fitted.
    rows : DataFrame of shape (n_samples, n_columns)
        That the model has not seen.
    schema : dict
        From `truefit.data_prep.infer_schema`; with the typical value of each column.
    case : Case
        Its block in ``params.yaml``.

    Returns
    -------
    dict
        ``influence``: by column, the mean absolute change of the prediction (in the target's
        unit, or of the positive class's probability) when the column of each row takes its
        typical value; over at most 200 rows, evenly spread. ``deciles``: the numbers that part
        the predictions of all rows into tenths; nine, unless many predictions are equal.
    """
    said = predictions(model, rows, case)
    some = rows.iloc[:: -(-len(rows) // ROWS)]
    before = predictions(model, some, case)
    influence = {}
    for column in input_columns(model):
        usual = some.copy()
        usual[column] = schema["columns"][column].get("typical", np.nan)
        after = predictions(model, usual, case)
        influence[column] = _short(np.abs(after - before).mean())
    return {
        "influence": influence,
        "deciles": sorted({_short(v) for v in np.quantile(said, np.arange(1, 10) / 10)}),
    }


def _short(value: float) -> float:
    return float(f"{value:.4g}")
