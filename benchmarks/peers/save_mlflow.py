"""Save a fitted model as MLflow's own folder, with its signature: ``MODEL TABLE FOLDER``."""

import sys

import joblib
import mlflow.sklearn
import pandas as pd
from fit import TARGET
from mlflow.models import infer_signature

model, rows = joblib.load(sys.argv[1]), pd.read_csv(sys.argv[2]).drop(columns=TARGET)
mlflow.sklearn.save_model(
    model,
    sys.argv[3],
    signature=infer_signature(rows, model.predict(rows[:1])),
    serialization_format="cloudpickle",
)
