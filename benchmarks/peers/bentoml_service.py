"""A model behind BentoML, as its documentation shows it. ``MODEL`` is the model's file."""

import os

import bentoml
import joblib
import pandas as pd


@bentoml.service(workers=1)
class Prices:
    def __init__(self):
        self.model = joblib.load(os.environ["MODEL"])

    @bentoml.api
    def predict(self, rows: pd.DataFrame) -> list[float]:
        return self.model.predict(rows).tolist()
