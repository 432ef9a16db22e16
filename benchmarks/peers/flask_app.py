"""A model behind Flask, as tutorials show it. ``MODEL`` in the environment is its file."""

import os

import joblib
import pandas as pd
from flask import Flask, request

app = Flask(__name__)
model = joblib.load(os.environ["MODEL"])


@app.post("/predict")
def predict():
    return {"predictions": model.predict(pd.DataFrame(request.get_json())).tolist()}


@app.get("/constant")
def constant():
    return "OK"
