"""What the notebook on serving shows: its requests, its queue, its pickles, its tables."""

import asyncio
import json
import pickle
import pickletools
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import cases
import httpx
import numpy as np
import odd_tables
import pandas as pd
import pytest
import service
import small
from conftest import ROOT
from hypothesis import given, settings

from truefit import training
from truefit.bundle import Bundle
from truefit.manifest import Column
from truefit.project import InputError
from truefit.serving import create_app, lesson, waiting
from truefit.serving.app import Limits, Service
from truefit.serving.metrics import Metrics
from truefit.serving.store import Store

MOST = 30  # rows that the service of these tests answers
each_case = pytest.mark.parametrize("name", cases.NAMES)


def bundle(name):
    return Bundle(service.models() / name / "bundle")


def ask(requests, models=None):
    """Send requests to the application, in this process."""

    async def send():
        metrics = Metrics()
        store = Store(models or service.models(), lambda event, **fields: None, lambda case: None)
        app = create_app(Service(store, metrics, Limits(rows=MOST), lambda event, **fields: None))
        inside = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=inside, base_url="http://localhost") as client:
            answers = [
                await client.request(method, path, **more) for method, path, more in requests
            ]
        metrics.serve(store.current)
        return answers, metrics.text().decode()

    return asyncio.run(send())


def predict(name, content):
    (answer,), text = ask([("POST", f"/v1/cases/{name}/predict", {"json": content})])
    return answer, text


def rows(name, n=MOST):
    return cases.live(name).head(n).reset_index(drop=True)


def test_the_service_imports_nothing_of_the_lesson():
    program = (
        "import sys, truefit.serving.app, truefit.serving.server\n"
        "print(sorted({'pandas', 'matplotlib', 'truefit.serving.lesson', 'truefit.serving.waiting'}"
        ".intersection(sys.modules)))"
    )
    run = [sys.executable, "-c", program]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "[]\n"


# Requests


@each_case
def test_rows_sent_as_records_get_the_answers_of_the_bundle(name):
    served = bundle(name)
    asked = lesson.records(rows(name), served.inputs, served.manifest.id)
    answer, _ = predict(name, json.loads(json.dumps(asked, allow_nan=False)))
    assert answer.status_code == 200
    found = answer.json()["predictions"]
    positive = served.manifest.decision["positive"]
    said = [p["probabilities"][positive] if positive else p["prediction"] for p in found]
    assert said == served.score(rows(name)).tolist()
    if served.manifest.id:
        assert [p["id"] for p in found] == rows(name)[served.manifest.id].tolist()


@each_case
def test_records_as_tensors_get_the_same_answers(name):
    served = bundle(name)
    asked = lesson.records(rows(name), served.inputs)
    sent = {"json": lesson.tensors(asked, served.inputs)}
    (answer,), _ = ask([("POST", f"/v2/models/{name}/infer", sent)])
    outputs = {o["name"]: o["data"] for o in answer.json()["outputs"]}
    said = outputs[served.manifest.output]
    assert said == served.score(rows(name)).tolist()


def test_a_thing_that_a_row_has_not_is_sent_as_null():
    asked = lesson.records(rows("homes", 1), bundle("homes").inputs)[0]
    assert rows("homes", 1)["alley"][0] == "absent" and asked["alley"] is None


NUMBER = Column("n", "number", minimum=1, maximum=3, typical=2)
TEXT = Column("t", "text", categories=("a", "b"), typical="b")
MAYBE = Column("m", "text", missing_share=0.5, categories=("c",), typical="c")


def test_only_a_gap_that_would_be_refused_is_filled():
    table = pd.DataFrame({"n": [1, np.nan], "t": ["a", None], "m": [None, None]})
    filled, n_filled = lesson.fill_required(table, [NUMBER, TEXT, MAYBE])
    assert n_filled == 1
    assert lesson.records(filled, [NUMBER, TEXT, MAYBE]) == [
        {"n": 1, "t": "a", "m": None},
        {"n": 2, "t": "b", "m": None},
    ]


@each_case
def test_each_bad_request_is_refused_with_a_sentence_of_its_own(name):
    served = bundle(name)
    record = lesson.records(rows(name, 1), served.inputs)[0]
    bad = lesson.bad_requests(name, record, served.inputs, MOST)
    answers, _ = ask(
        [(b.method, b.path, {"content": b.content, "headers": {"content-type": b.kind}})
         for b in bad]
    )  # fmt: skip
    status = {b.what: a.status_code for b, a in zip(bad, answers, strict=True)}
    assert set(status.values()) == {400, 404, 405, 413, 415, 422}
    assert (status["no JSON"], status["too many rows"], status["another method"]) == (400, 413, 405)
    sentences = [a.json()["detail"] for a in answers]
    assert len(set(sentences)) == len(sentences)
    first = served.inputs[0].name
    assert first in sentences[[b.what for b in bad].index("a column left out")]


def test_a_table_of_optional_texts_has_bad_requests_too():
    bad = {b.what: b for b in lesson.bad_requests("mine", {"m": "c"}, [MAYBE], MOST)}
    assert "a number beyond all limits" not in bad and "a gap where training had none" not in bad
    assert json.loads(bad["a column of the wrong type"].content) == {"m": 7}


@each_case
def test_odd_values_are_warned_of_and_no_others(name):
    served = bundle(name)
    odd = lesson.odd_values(served.inputs)
    assert len(odd) == 3
    answer, _ = predict(name, {c.name: c.typical for c in served.inputs} | odd)
    assert {w["column"] for w in answer.json()["predictions"][0]["warnings"]} == set(odd)


@pytest.mark.parametrize(
    ("inputs", "odd"),
    [
        ([NUMBER, TEXT], {"n": 5, "t": "never seen"}),
        ([TEXT, MAYBE], {"t": "never seen"}),
        ([Column("k", "number", minimum=4, maximum=4)], {"k": 5}),
        ([Column("k", "number")], {}),
    ],
)
def test_odd_values_are_made_as_far_as_the_columns_allow(inputs, odd):
    assert lesson.odd_values(inputs) == odd


@pytest.mark.usefixtures("coarse_figures")
@settings(odd_tables.SAME, max_examples=4)
@given(parts=odd_tables.parts())
def test_the_lesson_asks_a_service_of_any_table(parts):
    model = "ridge" if parts.case.task == "regression" else "logistic"
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "weather", "bundle")
        served = odd_tables.write_bundle(
            place, parts, odd_tables.fitted(parts, model), name="weather"
        )
        sent, _ = lesson.fill_required(parts.test, served.inputs)
        asked = lesson.records(sent, served.inputs)
        odd = {c.name: c.typical for c in served.inputs} | lesson.odd_values(served.inputs)
        bad = lesson.bad_requests("weather", asked[0], served.inputs, MOST)
        path = "/v1/cases/weather"
        requests = [("POST", f"{path}/predict", {"json": rows}) for rows in (asked, odd)]
        requests.append(("POST", f"{path}/explain", {"json": asked[0]}))
        requests += [
            (b.method, b.path, {"content": b.content, "headers": {"content-type": b.kind}})
            for b in bad
        ]
        (said, warned, why, *refused), text = ask(requests, Path(folder))
    assert {a.status_code for a in (said, warned, why)} == {200}
    found = [w["column"] for w in warned.json()["predictions"][0]["warnings"]]
    assert found == [c.name for c in served.inputs if c.name in lesson.odd_values(served.inputs)]
    assert all(400 <= a.status_code < 500 for a in refused)
    lesson.plot_contributions(lesson.largest(why.json()), "$")
    counts = lesson.bins(text)
    assert sum(counts) == len(asked) + 1
    lesson.plot_bins(counts)


def test_odd_values_and_bad_requests_are_odd_and_bad_whatever_names_and_ranges_a_table_has():
    largest = Column("favourite_colour", "number", minimum=-3e38, maximum=3e38, typical=0)
    text = Column("t", "text", categories=("never seen",), typical="never seen")
    assert lesson.odd_values([largest, text]) == {"t": "never seen_"}
    record = {"favourite_colour": 1, "t": "never seen"}
    bad = {b.what: b for b in lesson.bad_requests("weather", record, [largest, text], MOST)}
    assert len(json.loads(bad["a column too many"].content)) == 3
    assert "/weather/" not in bad["a case that is not served"].path


def test_what_is_shown_is_short_and_the_same_on_every_run():
    answer = {"version": "8a7f", "values": [1.23456789, 2.0, 3.0], "a": 1, "b": 2, "c": 3}
    text = lesson.shown(answer, most=3)
    assert json.loads(text.removeprefix("```json\n").removesuffix("\n```")) == {
        "version": "…",
        "values": [1.2346, 2.0, "… 1 more"],
        "a": 1,
        "…": "2 more",
    }


def test_a_bundle_of_another_model_is_refused(tmp_path):
    served, model = bundle("loans"), tmp_path / "model.joblib"
    model.write_bytes(b"whatever")
    lesson.check_origin(served, model)  # this manifest does not say
    served.manifest.sha256["../model.joblib"] = "0" * 64
    with pytest.raises(InputError, match="run the export again"):
        lesson.check_origin(served, model)


# Answers


def test_counters_and_bins_are_read_from_the_metrics():
    asked = lesson.records(rows("homes"), bundle("homes").inputs)
    _, text = predict("homes", asked)
    seen = lesson.counted(text, "truefit_requests_total")
    assert seen.to_dict("records") == [{"case": "homes", "api": "v1", "status": "200", "value": 1}]
    counts = lesson.bins(text)
    limits = [0, *bundle("homes").manifest.deciles, np.inf]
    scores = bundle("homes").score(rows("homes"))
    assert counts == np.histogram(scores, limits)[0].tolist()


def test_the_largest_contributions_come_first_and_noise_is_left_out():
    parts = [("a", 1.5, -3.0), ("b", "x", 2.0), ("c", None, 1e-9)]
    explained = {
        "contributions": [
            {"column": c, "value": v, "typical": v, "contribution": moved} for c, v, moved in parts
        ]
    }
    table = lesson.largest(explained)
    assert table["value"].to_dict() == {"a": "1.5", "b": "x"}
    assert lesson.largest(explained, most=1).index.tolist() == ["a"]
    assert lesson.largest({"contributions": []}).empty


# Pickles


def test_a_trap_runs_its_code_when_loaded_and_not_when_looked_at(tmp_path):
    content = lesson.trap("import os; os.mkdir('caught')")
    (tmp_path / "model.pkl").write_bytes(content)
    assert lesson.named(content) == ["builtins.exec"]
    assert not (tmp_path / "caught").exists()
    program = "import pickle; pickle.load(open('model.pkl', 'rb'))"
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)
    assert (tmp_path / "caught").is_dir()


class Looking(pickle.Unpickler):
    """Loads a pickle, and notes what it fetches."""

    def __init__(self, file):
        super().__init__(file)
        self.fetched = []

    def find_class(self, module, name):
        self.fetched.append(f"{module}.{name}")
        return super().find_class(module, name)


@cache
def small_model(model):
    task = "regression"
    made = training.build(model, small.table(task), small.CASES[task], min_category_rows=4, seed=0)
    return made.fit(small.table(task).drop(columns="y"), small.table(task)["y"])


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("model", ["ridge", "hist_gradient_boosting"])
def test_the_names_found_are_those_that_loading_fetches(tmp_path, model, protocol):
    content = pickle.dumps(small_model(model), protocol=protocol)
    file = tmp_path / "model.pkl"
    file.write_bytes(content)
    with file.open("rb") as opened:
        looking = Looking(opened)
        looking.load()
    # Old protocols call what Python 2 called otherwise, and loading translates.
    found = [name.replace("__builtin__", "builtins") for name in lesson.named(content)]
    fetched = [name.replace("__builtin__", "builtins") for name in looking.fetched]
    if protocol >= 3:
        assert found == list(dict.fromkeys(fetched))
    assert len(set(found)) == len(set(fetched)) > 5
    assert max(op.proto for op, _, _ in pickletools.genops(content)) <= protocol


# The cluster


@pytest.mark.parametrize(
    ("replicas", "surge", "unavailable", "expected"),
    [
        (4, 0.25, 0.25, (3, 5)),
        (10, 0.25, 0.25, (8, 13)),
        (1, 0.25, 0.25, (1, 2)),
        (3, 1, 0, (3, 4)),
        (5, 0, 0.1, (4, 5)),  # both would be 0, and nothing would ever move
    ],
)
def test_a_rolling_update_counts_as_kubernetes_does(replicas, surge, unavailable, expected):
    assert lesson.rolling_update(replicas, surge, unavailable) == expected


# The queue


def test_the_simulation_is_the_rule_applied_request_by_request():
    times = waiting.simulate(0.8, 500, seed=3)
    rng = np.random.default_rng(3)
    gaps, service_times = rng.exponential(1 / 0.8, 500), rng.exponential(1.0, 500)
    waited, expected = 0.0, []
    for i in range(500):
        if i:
            waited = max(0.0, waited + service_times[i - 1] - gaps[i])
        expected.append(waited + service_times[i])
    assert times == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_the_simulated_queue_agrees_with_the_formulas(seed):
    compared = waiting.compare_queue([0.3, 0.5, 0.8, 0.9], 500_000, seed)
    off = (compared["simulated"] - compared["formula"]).abs()
    assert (off < 5 * compared["error"]).all()
    assert (compared["error"] < 0.06 * compared["formula"]).all()
    ratio = compared["p99_simulated"] / compared["p99_formula"]
    assert ratio.between(0.8, 1.2).all()


def test_constant_service_halves_the_waiting():
    times = waiting.simulate(0.5, 500_000, seed=1, constant=True)
    assert times.mean() == pytest.approx(1 + (waiting.mean_time(0.5) - 1) / 2, rel=0.02)


def test_the_standard_error_sees_that_times_depend_on_each_other():
    times = [waiting.simulate(0.7, 20_000, seed) for seed in range(200)]
    means = [t.mean() for t in times]
    errors = [waiting.standard_error(t) for t in times[:20]]
    assert np.mean(errors) == pytest.approx(np.std(means), rel=0.2)


def test_the_slowest_of_ten_is_often_slow():
    assert waiting.chance_of_a_slow_one(1) == pytest.approx(0.01)
    assert waiting.chance_of_a_slow_one(10) == pytest.approx(0.0956, abs=1e-4)


# The benchmark


FOUND = {
    "layers": {
        "model": "m",
        "unit": "microseconds",
        "ONNX Runtime: run": {"p50": 20.0, "p99": 30.0},
        "Truefit over HTTP: a prediction": {"p50": 180.0, "p99": 290.0},
    },
    "load": {
        "model": "m",
        "unit": "microseconds; answers per second",
        "Truefit": {
            "1": {"p50": 180, "p90": 200, "p99": 290, "rate": 5000},
            "16": {"p50": 2500, "p90": 2700, "p99": 3100, "rate": 6400},
        },
    },
    "models": {"m": {"Truefit": {"requests per second": 5000, "rows per second": 200_000}}},
}


def test_the_benchmark_is_read_into_tables():
    assert waiting.layer_costs(FOUND).loc["ONNX Runtime: run", "p99"] == 30
    assert waiting.under_load(FOUND).loc[("Truefit", 16), "rate"] == 6400
    assert waiting.batching(FOUND).loc["Truefit"].tolist() == [200.0, 5.0]
    said = waiting.in_words(waiting.layer_costs(FOUND))
    assert said == "Of a prediction over HTTP, behind Truefit the pipeline takes 20 of 180 µs."


def test_without_a_benchmark_nothing_is_shown_and_nothing_fails(monkeypatch, clone):
    (clone / "benchmarks" / "serving.json").unlink(missing_ok=True)
    monkeypatch.chdir(clone)
    found = waiting.measured()
    assert found == {}
    for table in (waiting.layer_costs(found), waiting.under_load(found), waiting.batching(found)):
        assert table.empty
    waiting.plot_layers(waiting.layer_costs(found))
    waiting.plot_load(waiting.under_load(found))
    assert waiting.in_words(waiting.layer_costs(found)) == "Nothing was measured."


def test_the_committed_benchmark_has_all_that_the_notebook_shows(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = waiting.measured()
    costs = waiting.layer_costs(found)
    assert "Truefit" in waiting.in_words(costs) and "Flask" in waiting.in_words(costs)
    assert set(waiting.under_load(found).index.unique("server")) == {"Flask", "Truefit"}
    assert {"Flask", "Truefit", "Truefit, v2"} <= set(waiting.batching(found).index)
