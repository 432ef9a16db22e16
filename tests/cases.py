"""The tests' own cases, split and fitted once for all tests, and bundles made of any model."""

import hashlib
import io
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import joblib
import pandas as pd
from conftest import write_params
from threadpoolctl import threadpool_limits

from truefit import bundle, data_prep, export, params, training
from truefit.case import Case
from truefit.data_prep import Split

threadpool_limits(1)  # as in a stage; and several test processes share the cores

ROOT = Path(__file__).parents[1]
with TemporaryDirectory() as _folder:
    PARAMS = params.load(write_params(Path(_folder) / "params.yaml"))
NAMES = list(PARAMS.cases)
# Every candidate once for each task; a third table, whose prepared columns are few, has the fewest.
MODELS = [
    *(("homes", m) for m in PARAMS.training.regression),
    *(("loans", m) for m in PARAMS.training.classification),
    *(("machines", m) for m in ("dummy", "ridge", "hist_gradient_boosting")),
]
LEARNED = [(name, m) for name, m in MODELS if m != "dummy"]
# Members of a blend, with weights and settings that are not the shelf's.
BLENDS = {
    "homes": {
        "svm": (0.5, {"n_clusters": 15}),
        "xgboost": (0.3, {"max_depth": 2}),
        "ridge": (0.2, {"n_clusters": 15}),
    },
    "loans": {"extra_trees": (0.4, {}), "svm": (0.35, {}), "logistic": (0.25, {})},
    "machines": {"k_nearest_neighbors": (0.6, {}), "lightgbm": (0.4, {})},
}
VERDICT = {
    "headline": {"confidence": 0.95},
    "passed": True,
    "checks": [{"check": "better than the dummy", "passed": True, "reason": "by far"}],
}


@cache
def parts(name: str) -> tuple[Split, pd.DataFrame]:
    """Train and test rows of a case, and its live rows."""
    case, chosen = PARAMS.cases[name], PARAMS.data_prep
    development, live = data_prep.set_aside(
        data_prep.collect(case), case, production_share=chosen.production_share, seed=chosen.seed
    )
    cleaned, _ = data_prep.clean(development, case)
    return data_prep.split(cleaned, case, test_share=chosen.test_share, seed=chosen.seed), live


def train(name: str) -> pd.DataFrame:
    return parts(name)[0].train


def held_out(name: str) -> pd.DataFrame:
    return parts(name)[0].test


def live(name: str) -> pd.DataFrame:
    return parts(name)[1]


def built(name: str, model: str):
    """One candidate of a case with the shelf's settings, or the blend, not fitted."""
    rows, case, settings = train(name), PARAMS.cases[name], PARAMS.training
    if model != training.BLEND:
        return training.built(model, rows, case, {}, settings)
    weights = {member: weight for member, (weight, _) in BLENDS[name].items()}
    found = {
        training.Task(member, training.ALL_ROWS): training.Found(params, [], None, None)
        for member, (_, params) in BLENDS[name].items()
    }
    return training.build_blend(weights, found, rows, case, settings)


@cache
def fitted(name: str, model: str):
    """One candidate of a case, or the blend, fitted on its training rows."""
    rows, target = train(name), PARAMS.cases[name].target
    return built(name, model).fit(rows.drop(columns=target), rows[target])


@cache
def schema(name: str) -> dict:
    return data_prep.infer_schema(train(name), PARAMS.cases[name])


def write_bundle(
    folder: Path, model, case: Case, described: dict, precision: str = "float64", **more
) -> bundle.Bundle:
    """Export a fitted model as the notebook does."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / bundle.MODEL
    path.write_bytes(onnx_bytes(model, precision))
    said = {"name": "t", "winner": "m", "metrics": {}, "verdict": VERDICT} | more
    content = export.manifest(model, described, case, files={bundle.MODEL: path}, **said)
    (folder / bundle.MANIFEST).write_text(export.as_json(content), encoding="utf-8")
    return bundle.Bundle(folder)


def onnx_bytes(model, precision: str = "float64") -> bytes:
    return export.to_onnx(model, "t", precision).SerializeToString(deterministic=True)


def files(name: str, model: str) -> list[str]:
    """Checksums of one candidate's file, and of its graph unless it is the dummy."""
    fitted_model, file = fitted(name, model), io.BytesIO()
    joblib.dump(fitted_model, file, compress=3)
    contents = [file.getvalue()] + ([onnx_bytes(fitted_model)] if model != "dummy" else [])
    return [hashlib.sha256(content).hexdigest() for content in contents]


@cache
def files_of_another_process() -> dict[str, list[str]]:
    """`files` of every candidate, fitted in a process of its own that hashes texts otherwise."""
    script = "import cases, json; print(json.dumps({f'{n} {m}': cases.files(n, m) for n, m in %s}))"
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    found = subprocess.run(
        [sys.executable, "-c", script % MODELS],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": seed},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return json.loads(found.stdout)
