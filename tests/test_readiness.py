"""What a system in production needs beyond right functions: features that pay, answers that agree.

Each of these is evidence for a test of the ML Test Score; see `truefit.scorecard`.
"""

import json
import os
import re
import subprocess
import sys
import time
import tracemalloc
from collections import defaultdict
from importlib.metadata import distributions
from inspect import getsource
from pathlib import Path

import cases
import numpy as np
import onnx
import pandas as pd
import pytest
import small
from conftest import ROOT, write_params
from ruamel.yaml import YAML
from scipy.stats import false_discovery_control, spearmanr
from service import Service, models, rows
from test_expressions import MEANING
from test_operations import logged

from truefit import data_prep, evaluation, export, expressions, params, training
from truefit.bundle import Bundle, open_session
from truefit.case import Case
from truefit.evaluation.resampled import corrected_t
from truefit.metrics import predictions, scores, truth
from truefit.serving.served import Served

QUICK = {"homes": "ridge", "loans": "logistic", "machines": "hist_gradient_boosting"}
FEATURES = [(name, feature) for name in QUICK for feature in cases.PARAMS.cases[name].features]


def without(name: str, *features: str) -> Case:
    case = cases.PARAMS.cases[name]
    left = {k: v for k, v in case.features.items() if k not in features}
    return case.model_copy(update={"features": left})


def losses(case: Case, name: str) -> np.ndarray:
    """By fold of the training rows: the RMSE of the logarithm, or the log loss."""
    rows, found = cases.train(name), []
    for fit, held in training.deal(rows[case.target], case, folds=3, seed=1):
        seen, other = rows.iloc[fit], rows.iloc[held]
        model = training.built(QUICK[name], rows, case, {}, cases.PARAMS.training)
        model.fit(seen.drop(columns=case.target), seen[case.target])
        p = predictions(model, other, case)
        y = truth(other[case.target], case)
        if case.task == "regression":
            found.append(np.sqrt(np.mean(np.log(y / p) ** 2)))
        else:
            p = np.clip(p, 1e-6, 1 - 1e-6)
            found.append(-np.mean(np.log(np.where(y == 1, p, 1 - p))))
    return np.array(found)


@pytest.fixture(scope="module")
def usual() -> dict[str, np.ndarray]:
    """The losses with every feature."""
    return {name: losses(cases.PARAMS.cases[name], name) for name in QUICK}


# Features


@pytest.mark.parametrize(("name", "feature"), FEATURES)
def test_no_feature_does_harm(name, feature, usual):
    more = losses(without(name, feature), name) - usual[name]
    gain = corrected_t(more, test_share_ratio=1 / 2, confidence=0.95)
    assert gain.high > 0  # the loss does not clearly fall when the feature is left out


def test_every_feature_but_one_tells_something_of_the_target():
    chances = []
    for name, feature in FEATURES:
        case, rows = cases.PARAMS.cases[name], cases.train(name)
        node = expressions.parse(case.features[feature])
        read = {c: rows[c].to_numpy(np.float32) for c in expressions.columns(node)}
        y, values = truth(rows[case.target], case), expressions.evaluate(node, read)
        chances.append(spearmanr(values, y, nan_policy="omit").pvalue)
    adjusted = false_discovery_control(chances)
    silent = [pair for pair, p in zip(FEATURES, adjusted, strict=True) if p > 0.05]
    assert silent == [("loans", "assets_missing")]


@pytest.mark.parametrize("name", QUICK)
def test_features_cost_few_operations_and_ask_for_no_more_columns(name):
    case, rows = cases.PARAMS.cases[name], cases.train(name)
    used = {c for t in case.features.values() for c in expressions.columns(expressions.parse(t))}
    assert used <= set(rows.columns)
    sizes = []
    for chosen in (case, without(name, *case.features)):
        model = training.built("decision_tree", rows, chosen, {}, cases.PARAMS.training)
        model.fit(rows.drop(columns=case.target), rows[case.target])
        graph = export.to_onnx(model, name)
        sizes.append(len(graph.graph.node))
    assert 0 < sizes[0] - sizes[1] <= 20 * len(case.features)


@pytest.mark.parametrize("name", QUICK)
def test_a_bundle_asks_for_no_column_that_is_forbidden(name):
    case = cases.PARAMS.cases[name]
    asked = {column.name for column in Bundle(models() / name / "bundle").inputs}
    used = {c for t in case.features.values() for c in expressions.columns(expressions.parse(t))}
    forbidden = {case.target, case.id, case.time, *case.drop_columns} - used
    assert asked and not asked & forbidden
    assert asked <= set(cases.live(name).columns)


def test_a_new_feature_is_one_line_of_the_block(tmp_path):
    file = write_params(tmp_path / "params.yaml")
    text = file.read_text(encoding="utf-8")
    line = "      hd_per_ram: hd / ram\n"
    assert text.count(line) == 1
    file.write_text(text.replace(line, f"{line}      area: screen * screen\n"), encoding="utf-8")
    before, case = cases.PARAMS.cases["machines"], params.load(file).cases["machines"]
    rows = cases.train("machines")
    X, y = rows.drop(columns="price"), rows["price"]
    old, new = (
        training.built("ridge", rows, c, {}, cases.PARAMS.training).fit(X, y)
        for c in (before, case)
    )
    said = predictions(new, rows, case)
    assert not np.allclose(said, predictions(old, rows, case), rtol=1e-6)
    schema = data_prep.infer_schema(rows, case)
    bundle = cases.write_bundle(tmp_path / "bundle", new, case, schema)
    assert export.parity(new, bundle, rows, case)["difference"].max() <= 1e-5


def test_every_function_that_a_feature_may_use_has_a_meaning_to_be_tested_against():
    assert MEANING.keys() == expressions.FUNCTIONS.keys()


# Models


@pytest.mark.parametrize(
    ("name", "offline", "live"), [("homes", "rmse_log", "mae"), ("loans", "roc_auc", "cost")]
)
def test_what_is_better_on_test_rows_is_better_on_live_rows(name, offline, live):
    """Where nothing drifts: the metric that chooses, and what a user pays for."""
    case = cases.PARAMS.cases[name]
    names = ["dummy", "k_nearest_neighbors", "decision_tree", "svm", QUICK[name]]
    later, _ = data_prep.clean(cases.live(name), case)
    found = [
        [scores(r[case.target], predictions(cases.fitted(name, m), r, case), case)[metric]
         for r, metric in ((cases.held_out(name), offline), (later, live))]
        for m in names
    ]  # fmt: skip
    tested, paid = np.array(found).T
    sign = -1 if offline == "roc_auc" else 1
    assert spearmanr(sign * tested, paid).statistic >= 0.8


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_all_settings_that_matter_are_searched(task):
    names = getattr(cases.PARAMS.training, task)
    spaces = getattr(cases.PARAMS.search_spaces, task)
    assert set(names) - set(spaces) <= {"dummy", "linear"}  # which have none


def test_a_search_keeps_the_best_of_what_it_tried_the_usual_setting_first(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    space = {"max_depth": params.Space(low=2, high=8, integer=True),
             "min_samples_leaf": params.Space(low=2, high=40, integer=True)}  # fmt: skip
    found = small.search(["decision_tree"], spaces={"decision_tree": space}, trials=6, folds=2)
    usual = training.SHELF["regression", "decision_tree"].settings
    for result in found.values():
        complete = [t for t in result.trials if t["state"] == "complete"]
        best = min(complete, key=lambda t: t["score"])
        assert result.params == {k: best[k] for k in space}
        assert result.trials[0]["min_samples_leaf"] == usual["min_samples_leaf"]


def test_the_cost_of_an_old_model_is_known():
    """On machines, by the month: frozen, and fitted again on the six months before."""
    case, rows, live = (
        cases.PARAMS.cases["machines"],
        cases.train("machines"),
        cases.live("machines"),
    )
    frozen, error = cases.fitted("machines", "ridge"), {"frozen": [], "again": []}
    for month in (13, 24, 35):
        now = live[live["trend"] == month]
        before = pd.concat([rows, live])
        before = before[(before["trend"] < month) & (before["trend"] >= month - 6)]
        again = training.built("ridge", before, case, {}, cases.PARAMS.training)
        again.fit(before.drop(columns="price"), before["price"])
        for name, model in (("frozen", frozen), ("again", again)):
            p = predictions(model, now, case)
            error[name].append(scores(now["price"], p, case)["rmse_log"])
    assert error["frozen"][0] < error["frozen"][1] < error["frozen"][2]
    assert error["frozen"][2] > 3 * error["again"][2]
    assert all(again <= frozen for frozen, again in zip(*error.values(), strict=True))


@pytest.mark.parametrize("name", QUICK)
def test_no_important_slice_is_much_worse_than_the_whole(name):
    case, test = cases.PARAMS.cases[name], cases.held_out(name)
    p = predictions(cases.fitted(name, QUICK[name]), test, case)
    labels = evaluation.slice_labels(test, case, cases.train(name))
    weights = evaluation.bootstrap_weights(len(test), 200, 1)
    table = evaluation.error_by_slice(test, p, case, labels, weights, confidence=0.95)
    assert set(table.index.get_level_values("slice")) >= set(case.slices)
    large = table[table["rows"] >= 30]
    assert len(large) >= 5
    assert (large["error"] <= 2 * large["elsewhere"]).all()


# The pipeline


def searched() -> str:
    """A search on one core, down to the last bit."""
    return small.digest(small.search(["ridge"], spaces={"ridge": small.RIDGE}, folds=2))


def test_a_search_finds_the_same_in_another_process(monkeypatch):
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    other = subprocess.run(
        [sys.executable, "-c", f"import small\n{getsource(searched)}\nprint(searched())"],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "77", "TZ": "Asia/Tokyo"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert other.stdout.strip() == searched()


def test_a_table_becomes_answers_over_http(tmp_path, monkeypatch):
    """Every step on a small table, each fed with what the one before it made."""
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    table = small.table("regression", 320)
    table.to_csv(tmp_path / "t.csv", index=False)
    case = small.CASES["regression"].model_copy(update={"table": str(tmp_path / "t.csv")})
    settings = small.SETTINGS.model_copy(update={"folds": 2, "inner_folds": 2, "trials": 2})

    tables = data_prep.collect(case)
    development, live = data_prep.set_aside(tables, case, production_share=0.2, seed=1)
    cleaned, _ = data_prep.clean(development, case)
    train, test = data_prep.split(cleaned, case, test_share=0.25, seed=1)
    schema = data_prep.infer_schema(train, case)
    assert len(train) + len(test) + len(live) == len(table)

    names = ["dummy", "ridge", "decision_tree"]
    spaces = {"ridge": small.RIDGE}
    found = training.search_all(names, train, case, spaces, settings, params.Compute())
    oof = training.out_of_fold(found, train, case, settings)
    results = training.fold_scores(oof, train, case)
    winner = training.winner_of(results, training.leaderboard(results, case), case, settings)
    assert winner == "ridge"
    finals = training.final_models(found, train, case, settings)
    fitted = training.fit_all(finals, oof, train, case)

    said = {name: predictions(model, test, case) for name, model in fitted.items()}
    weights = evaluation.bootstrap_weights(len(test), 200, 1)
    options = {"confidence": 0.95}
    metrics = evaluation.intervals(test["y"], said, weights, case, **options)[winner]
    gaps = evaluation.differences(test["y"], said, weights, case, winner=winner, **options)
    verdict = evaluation.judge(
        metrics, gaps["dummy"], case, main_metric=case.main_metric,
        behaviour=evaluation.check_behaviour(fitted[winner], test, case),
    )  # fmt: skip
    evaluation.require_pass(verdict, "t")
    verdict["headline"] = {"confidence": 0.95}
    reference = export.reference(fitted[winner], test, schema, case)
    bundle = cases.write_bundle(
        tmp_path / "models" / "t" / "bundle", fitted[winner], case, schema,
        verdict=verdict, reference=reference,
    )  # fmt: skip
    assert export.parity(fitted[winner], bundle, live, case)["difference"].max() <= 1e-5

    running = Service(tmp_path, models_folder=tmp_path / "models")
    inputs = live[[column.name for column in bundle.inputs]].replace({"absent": None})
    records = json.loads(inputs.to_json(orient="records", double_precision=15))
    answer = running.predict("t", records)
    running.stop()
    assert answer.status_code == 200, answer.text
    answered = [p["prediction"] for p in answer.json()["predictions"]]
    assert answered == pytest.approx(predictions(fitted[winner], live, case), rel=1e-5)
    assert len(logged(running, "t")) == len(live)


@pytest.mark.parametrize("name", ["homes", "loans"])
def test_each_step_of_an_exported_model_can_be_looked_at_for_one_row(name):
    model = cases.fitted(name, QUICK[name])
    graph, row = cases.onnx_bytes(model), cases.held_out(name).iloc[[0]]
    opened = onnx.load_from_string(graph)
    inferred = onnx.shape_inference.infer_shapes(opened)
    known = {v.name for v in inferred.graph.output}
    opened.graph.output.extend(v for v in inferred.graph.value_info if v.name not in known)
    bundle = Bundle(models() / name / "bundle")
    session = open_session(opened.SerializeToString())
    feed = {
        i.name: row[i.name].to_numpy(np.float32 if "float" in i.type else object).reshape(-1, 1)
        for i in session.get_inputs()
    }
    for column in bundle.inputs:
        if column.type == "text":
            feed[column.name] = np.array([[row[column.name].fillna("").item()]], dtype=object)
    names = [o.name for o in session.get_outputs()]
    steps = dict(zip(names, session.run(names, feed), strict=True))
    assert len(steps) >= 0.9 * len(opened.graph.node)
    (pipeline,) = export.models.pipelines(model)
    prepared = np.ravel(pipeline[:-1].transform(row))
    shown = [np.ravel(v) for v in steps.values() if v.size == len(prepared)]
    assert any(
        v.dtype.kind == "f" and np.allclose(v, prepared, rtol=1e-5, atol=1e-6) for v in shown
    )


# In production


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A service that has answered the first live rows of each case."""
    service = Service(tmp_path_factory.mktemp("readiness"))
    for name in QUICK:
        assert service.predict(name, rows(name, 100)).status_code == 200
    service.stop()
    return service


@pytest.mark.parametrize("name", QUICK)
def test_what_the_service_logged_is_what_training_computes(name, running):
    case = cases.PARAMS.cases[name]
    said = [r["prediction"] if case.positive is None else r["probability"]
            for r in logged(running, name)]  # fmt: skip
    expected = predictions(cases.fitted(name, QUICK[name]), cases.live(name).head(100), case)
    assert said == pytest.approx(expected, rel=1e-5)


def test_the_libraries_that_run_are_those_of_the_lock():
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    locked = defaultdict(set)  # some have another version for another Python
    for name, version in re.findall(r"^([a-z0-9.-]+)(?:\[.*\])?==([^\s;]+)", lock, re.MULTILINE):
        locked[name].add(version)
    running = {
        re.sub(r"[-_.]+", "-", found.name).lower(): found.version for found in distributions()
    }
    assert len(locked) > 100 and locked.keys() & running.keys() >= {"numpy", "onnxruntime"}
    assert {n: v for n, v in running.items() if n in locked and v not in locked[n]} == {}


def test_a_change_of_any_library_runs_every_stage_again():
    stages = YAML(typ="safe").load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    for name, stage in stages.items():
        if name != "index":  # which computes nothing
            assert "requirements.txt" in stage.get("do", stage)["deps"], name


def test_a_fit_takes_little_more_than_its_estimator():
    rows, case = cases.train("machines"), cases.PARAMS.cases["machines"]
    X, y = rows.drop(columns="price"), rows["price"]
    model = training.built("hist_gradient_boosting", rows, case, {}, cases.PARAMS.training)
    (pipeline,) = export.models.pipelines(model.fit(X, y))
    Z, bare = pipeline[:-1].transform(X), pipeline[-1]
    assert least(lambda: model.fit(X, y)) < 3 * least(lambda: bare.fit(Z, np.log(y)))


def test_an_answer_takes_little_more_than_its_model():
    bundle = Bundle(models() / "homes" / "bundle")
    served, typical = Served(bundle), Served(bundle).typical_row()
    body = json.dumps([{k: v for k, (v,) in typical.items()}]).encode()

    def answer():
        columns, _, ids = served.records.read(body, 1)
        return served.predictions(served.answer(columns, 1), ids, slice(None))

    alone = least(lambda: [bundle.score(typical) for _ in range(100)])
    assert least(lambda: [answer() for _ in range(100)]) < 5 * alone


def test_answers_leave_no_memory_behind():
    served = Served(Bundle(models() / "machines" / "bundle"))
    columns = list(served.typical_row().values())
    for _ in range(50):
        served.answer(columns, 1)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(2000):
        served.answer(columns, 1)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 20_000  # ten bytes an answer


def least(work) -> float:
    """CPU seconds, of the quickest of three."""
    found = []
    for _ in range(3):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)
