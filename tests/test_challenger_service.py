"""A challenger beside the champion: who answers, what is kept, and that nothing else changes."""

import atexit
import json
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from math import sqrt
from pathlib import Path

import numpy as np
import onnx
import pytest
import service as running
from conftest import run_truefit
from hypothesis import given, settings
from hypothesis import strategies as st
from service import Service, copy_models, errors, models, rows, until

from truefit import cli
from truefit.bundle import Bundle
from truefit.serving import request_log, trial
from truefit.serving.challenger import Comparison, Newest, Pair, apart
from truefit.serving.metrics import Metrics
from truefit.serving.request_log import Entry, RequestLog
from truefit.serving.served import Answers, Served
from truefit.serving.store import Store
from truefit.serving.trial import Trial, key_of, position

CASE = "machines"
RIVAL = "ridge"  # the champion is a boosting
often = settings(max_examples=30, deadline=None)


@cache
def rival() -> Path:
    """The folder of another model's bundle for `CASE`; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="truefit-rival-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    running.write(folder, CASE, RIVAL)
    return folder / CASE / "bundle"


def place(target: Path) -> Path:
    """A copy of the bundles, with a challenger for `CASE`."""
    folder = copy_models(target)
    shutil.copytree(rival(), folder / CASE / "challenger")
    return folder


def start(folder: Path, *options: object) -> Service:
    return Service(folder, "--watch", "0.05", *options, models_folder=place(folder))


def change(bundle: Path, **members) -> None:
    """Change members of a manifest."""
    path = bundle / "manifest.json"
    said = json.loads(path.read_bytes()) | members
    path.write_text(json.dumps(said), encoding="utf-8")


def undescribed(service: Service, method: str, path: str, said: dict) -> list[str]:
    """What an answer has that the OpenAPI document does not allow."""
    document = service.client.get("/openapi.json").json()
    content = document["paths"][path][method]["responses"]["200"]["content"]
    return errors(document, content["application/json"]["schema"], said)


def columns(records: list[dict]) -> dict[str, list]:
    return {name: [record[name] for record in records] for name in records[0]}


def fit_for_all(bundle: Path, least: float) -> None:
    """Let a model of `CASE` give no number where it predicted less than ``least``."""
    graph = onnx.load(bundle / "model.onnx")
    for node in graph.graph.node:
        node.output[:] = ["raw" if name == "prediction" else name for name in node.output]
    kind = graph.graph.output[0].type.tensor_type.elem_type
    graph.graph.initializer.append(onnx.helper.make_tensor("least", kind, [1], [least]))
    add = onnx.helper.make_node
    graph.graph.node.extend([
        add("Sub", ["raw", "least"], ["above"]), add("Sqrt", ["above"], ["root"]),
        add("Mul", ["root", "root"], ["square"]), add("Add", ["square", "least"], ["prediction"]),
    ])  # fmt: skip
    content = graph.SerializeToString()
    (bundle / "model.onnx").write_bytes(content)
    change(bundle, sha256={"model.onnx": sha256(content).hexdigest()})


def logged(folder: Path, case: str = CASE, view: str = "requests") -> list[dict]:
    found = []
    for file in sorted(folder.glob(f"{case}/*.sqlite")):
        with closing(sqlite3.connect(file)) as connection:
            connection.row_factory = sqlite3.Row
            if connection.execute("PRAGMA user_version").fetchone()[0]:  # else it is being made
                found += map(dict, connection.execute(f"SELECT * FROM {view} ORDER BY time"))
    return found


# Who meets whom


@often
@given(st.text(max_size=20), st.binary(max_size=50))
def test_a_key_has_one_place_between_0_and_1(case, key):
    assert 0 <= position(case, key) < 1
    assert position(case, key) == position(case, key)


def test_places_are_the_same_in_every_process_and_for_ever():
    asked = [("homes", b"id\x0017"), ("machines", b""), ("x", b"row\0{}")]
    said = [position(*one) for one in asked]
    assert said == PLACES
    script = f"from truefit.serving.trial import position\nprint([position(*o) for o in {asked}])"
    for seed in ("0", "12345"):
        done = subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed},
            capture_output=True, encoding="utf-8", check=True,
        )  # fmt: skip
        assert json.loads(done.stdout) == said


PLACES = [0.9340115715223213, 0.7135902661749144, 0.6816855085417114]


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_a_share_is_the_share_of_ids_and_of_cases_alone(share):
    n = 20_000
    places = np.array([position("homes", f"id\0{i}".encode()) for i in range(n)])
    five_sigma = 5 * sqrt(share * (1 - share) / n)
    assert abs((places < share).mean() - share) < five_sigma
    # Another case draws other rows, and a larger share keeps those of a smaller one.
    others = np.array([position("loans", f"id\0{i}".encode()) for i in range(n)])
    both = ((places < share) & (others < share)).mean()
    assert abs(both - share**2) < 5 * sqrt(share**2 / n)


@cache
def served(case: str = CASE) -> Served:
    return Served(Bundle(models() / case / "bundle"))


def key(body: str, case: str = CASE, request_id: str | None = None) -> bytes:
    read, _, ids = served(case).records.read(body.encode(), 100)
    return key_of(served(case), read, ids, request_id)


@often
@given(st.randoms(use_true_random=False), st.integers(0, 50))
def test_what_decides_is_the_row_and_not_how_it_is_written(random, n):
    record = rows(CASE, 51)[n]
    shuffled = random.sample([*record.items()], len(record))
    floats = {k: float(v) if isinstance(v, int) else v for k, v in shuffled}
    assert key(json.dumps(record)) == key(json.dumps(floats, indent=random.choice([None, 1, 3])))
    other = record | {"speed": record["speed"] + 1}
    assert key(json.dumps(record)) != key(json.dumps(other))


def test_an_id_decides_before_a_request_id_and_that_before_the_row():
    record, other = rows("homes", 2)

    def said(found: object, request_id: str | None = None) -> bytes:
        return key(json.dumps(found), "homes", request_id)

    named = said(record | {"pid": 7}, "r")
    assert named == said(other | {"pid": 7.0}) == said(other | {"pid": "7"}, "s")
    assert said(record, "r") == said(other, "r") != said(record, "s")
    assert said(record) != said(other) and said(record) == said([record, other])
    # The first id that there is decides for all of a request.
    assert said([record | {"pid": None}, other | {"pid": 7}, record | {"pid": 8}]) == named
    assert said(record | {"pid": None}) == said(record)


# Canary


@pytest.fixture(scope="module")
def canary(tmp_path_factory):
    service = start(tmp_path_factory.mktemp("canary"), "--canary", 0.3)
    yield service
    service.stop()


def test_a_canary_answers_its_share_and_says_who_it_is(canary):
    sent = rows(CASE, 200)
    known = {"champion": served().bundle, "challenger": Bundle(rival())}
    roles = Counter()
    for record in sent:
        said = canary.predict(CASE, record).json()
        one = known[said["model_role"]]
        assert said["version"] == one.version
        assert said["predictions"][0]["prediction"] == one.score(columns([record]))[0]
        again = canary.predict(CASE, [record, sent[0]]).json()
        assert again["model_role"] == said["model_role"]
        roles[said["model_role"]] += 1
    assert abs(roles["challenger"] / 200 - 0.3) < 5 * sqrt(0.3 * 0.7 / 200)
    by = {r: canary.metric("truefit_requests_by_role_total", case=CASE, role=r) for r in roles}
    assert by == {role: 2 * n for role, n in roles.items()}
    assert canary.metric("truefit_rows_total", case=CASE) == 600
    assert canary.metric("truefit_predictions_count", case=CASE) == 3 * roles["champion"]
    path = f"/v1/cases/{CASE}/comparison"
    found = canary.client.get(path).json()
    assert undescribed(canary, "get", path, found) == []
    assert (found["mode"], found["share"], found["shadow"]) == ("canary", 0.3, None)
    assert found["challenger"]["failed"] == 0
    for role, n in roles.items():
        assert (found[role]["requests"], found[role]["rows"]) == (2 * n, 3 * n)
        assert found[role]["version"] == known[role].version
        assert found[role]["seconds"]["q50"] > 0 and found[role]["predictions"]["q95"] > 0
    until(lambda: len(logged(canary.folder / "request-log")) == 400)
    kept = logged(canary.folder / "request-log")
    assert Counter(r["role"] for r in kept) == {role: 2 * n for role, n in roles.items()}
    assert all(r["version"] == known[r["role"]].version and r["shadow"] is None for r in kept)
    for api, body in (("predict", sent), ("explain", sent[0])):
        asked = f"/v1/cases/{CASE}/{api}"
        said = canary.client.post(asked, json=body).json()
        assert said["model_role"] and undescribed(canary, "post", asked, said) == []


def test_the_same_row_meets_the_same_model_by_every_way_and_after_a_restart(canary, tmp_path):
    sent = rows(CASE, 40)
    roles = [canary.predict(CASE, record).json()["model_role"] for record in sent]
    assert len({*roles}) == 2
    again = start(tmp_path, "--canary", 0.3, "--no-log")
    for record, role in zip(sent, roles, strict=True):
        assert again.predict(CASE, record).json()["model_role"] == role
        explained = again.client.post(f"/v1/cases/{CASE}/explain", json=record).json()
        predicted = again.predict(CASE, record).json()
        assert (explained["model_role"], explained["version"]) == (role, predicted["version"])
        one = predicted["predictions"][0]["prediction"]
        assert explained["prediction"] == pytest.approx(one, rel=1e-4)
        infer = again.client.post(f"/v2/models/{CASE}/infer", json={"inputs": tensors(record)})
        assert infer.json()["parameters"] == {"model_role": role}
        assert infer.json()["model_version"] == predicted["version"]
    # With a request id of its own, the row no longer matters; and who names a version gets it.
    for name in ("a", "b", "c", "d", "e"):
        said = {again.predict(CASE, r, headers={"x-request-id": name}).json()["version"]
                for r in sent}  # fmt: skip
        body = {"id": name, "inputs": tensors(sent[0])}
        infer = again.client.post(f"/v2/models/{CASE}/infer", json=body).json()
        assert said == {infer["model_version"]}
    path = f"/v2/models/{CASE}/versions/{served().version}/infer"
    for record in sent:
        infer = again.client.post(path, json={"inputs": tensors(record)}).json()
        assert infer["model_version"] == served().version and "parameters" not in infer
    again.stop()


def tensors(record: dict) -> list[dict]:
    return [
        {"name": n, "datatype": "BYTES" if isinstance(v, str) else "FP64", "shape": [1, 1],
         "data": [v]} for n, v in record.items()
    ]  # fmt: skip


def test_where_there_is_no_challenger_nothing_is_new(canary, tmp_path):
    plain = start(tmp_path, "--no-log")  # a challenger lies there, and nobody asked for it
    for one, case in ((canary, "loans"), (plain, CASE)):
        said = one.predict(case, rows(case, 2)).json()
        assert said.keys() == {"case", "version", "request_id", "predictions"}
        assert said["version"] == served(case).version
        found = one.client.get(f"/v1/cases/{case}/comparison").json()
        assert found["challenger"] is found["shadow"] is found["since"] is None
        assert found["champion"]["version"] == served(case).version
        assert one.metric("truefit_requests_by_role_total", case=case) == 0
        assert one.metric("truefit_challenger_info", case=case) == 0
    assert found["reason"] == "the service was started without --shadow and without --canary"
    missing = plain.client.get("/v1/cases/none/comparison")
    assert missing.status_code == 404
    plain.stop()


def test_what_the_challenger_cannot_answer_the_champion_does(tmp_path):
    sent = rows(CASE, 60)
    scores = Bundle(rival()).score(columns(sent))
    least = Bundle(rival()).score({c.name: [c.typical] for c in served().bundle.inputs})[0] - 1
    folder = place(tmp_path)
    fit_for_all(folder / CASE / "challenger", least)
    service = Service(tmp_path, "--canary", 1, models_folder=folder)
    for record, score in zip(sent, scores, strict=True):
        said = service.predict(CASE, record)
        answered = said.json()["predictions"][0]["prediction"]
        if score < least:
            assert said.json()["model_role"] == "champion"
            assert answered == served().bundle.score(columns([record]))[0]
        else:
            assert said.json()["model_role"] == "challenger"
            assert answered == pytest.approx(score, rel=1e-4)
    failed = int((scores < least).sum())
    assert 0 < failed < 60
    # What neither can answer is the request's fault.
    assert service.predict(CASE, sent[0] | {"speed": 1e39}).status_code == 422
    assert service.metric("truefit_challenger_failed_total", case=CASE) == failed
    found = service.client.get(f"/v1/cases/{CASE}/comparison").json()
    assert found["challenger"]["failed"] == failed
    assert len(service.events("challenger failed")) == 1
    service.stop()


# Shadow


def test_a_shadow_scores_all_and_answers_nothing(tmp_path):
    service = start(tmp_path, "--shadow", 1)
    sent = rows(CASE, 300)
    first, second = served().bundle, Bundle(rival())
    parts = [sent[:1], sent[1:4], sent[4:50], sent[50:]]
    for part in parts:
        said = service.predict(CASE, part).json()
        assert (said["version"], said["model_role"]) == (first.version, "champion")
        scores = first.score(columns(part))
        assert [p["prediction"] for p in said["predictions"]] == scores.tolist()
    path = f"/v1/cases/{CASE}/comparison"
    until(lambda: (service.client.get(path).json()["shadow"] or {}).get("rows") == 300)
    found = service.client.get(path).json()
    assert undescribed(service, "get", path, found) == []
    champion, challenger = (
        np.concatenate([b.score(columns(p)) for p in parts]) for b in (first, second)
    )
    shadow, difference = found["shadow"], challenger - champion
    assert (shadow["requests"], shadow["dropped"], found["challenger"]["requests"]) == (4, 0, 0)
    far = np.abs(difference) / np.maximum(champion, challenger)
    for name, values, largest in (
        ("difference", difference, np.abs(difference).max()), ("apart", far, far.max())
    ):  # fmt: skip
        assert shadow[name]["mean"] == pytest.approx(values.mean())
        assert shadow[name]["largest"] == pytest.approx(largest)
        assert shadow[name]["q95"] == pytest.approx(np.quantile(values, 0.95))
    assert shadow["correlation"] == pytest.approx(np.corrcoef(champion, challenger)[0, 1])
    assert shadow["called_differently"] is None
    assert np.allclose(shadow["pairs"], np.stack([champion, challenger], axis=1))
    for role, scores in (("champion", champion), ("challenger", challenger)):
        assert found[role]["predictions"]["q50"] == pytest.approx(np.median(scores))
    assert service.metric("truefit_shadow_difference_count", case=CASE) == 300
    within = service.metric("truefit_shadow_difference_bucket", case=CASE, le="0.1")
    assert within == (far <= 0.1).sum()
    info = {"case": CASE, "version": second.version}
    assert service.metric("truefit_challenger_info", **info) == 1
    assert service.metric("truefit_predictions_count", case=CASE) == 300
    assert service.stop() == 0
    kept = logged(tmp_path / "request-log", view="predictions")
    assert [r["prediction"] for r in kept] == champion.tolist()
    assert [r["shadow_prediction"] for r in kept] == challenger.tolist()
    assert {(r["role"], r["version"], r["shadow_version"]) for r in kept} == {
        ("champion", first.version, second.version)}  # fmt: skip
    assert all(r["shadow_low"] < r["shadow_prediction"] < r["shadow_high"] for r in kept)


def test_a_threshold_alone_calls_rows_differently(tmp_path):
    folder = copy_models(tmp_path)
    shutil.copytree(folder / "loans" / "bundle", folder / "loans" / "challenger")
    change(folder / "loans" / "challenger", threshold=0.6)
    service = Service(tmp_path, "--shadow", 0.5, models_folder=folder)
    sent = rows("loans", 100)
    for record in sent:
        service.predict("loans", record)
    path = "/v1/cases/loans/comparison"
    drawn = sum(position("loans", key(json.dumps(r), "loans")) < 0.5 for r in sent)
    until(lambda: (service.client.get(path).json()["shadow"] or {}).get("requests") == drawn)
    found = service.client.get(path).json()["shadow"]
    service.stop()
    kept = logged(tmp_path / "request-log", "loans", "predictions")
    scored = [r for r in kept if r["shadow_version"]]
    assert found["pairs"] == [[r["probability"]] * 2 for r in scored]
    other = sum(r["prediction"] != r["shadow_prediction"] for r in scored)
    assert found["called_differently"] == pytest.approx(other / len(scored)) and other > 0
    assert len(kept) == 100 and len(scored) == drawn and 25 < drawn < 75
    assert all(r["shadow_probability"] == r["probability"] for r in scored)
    positive = running.manifest("loans")["positive"]
    assert all((r["shadow_prediction"] == positive) == (r["probability"] >= 0.6) for r in scored)


class Slow:
    """A challenger that waits until it is told to go on."""

    def __init__(self, pair: Pair):
        self.waiting = True
        answer = pair.challenge

        def challenge(*given):
            until(lambda: not self.waiting)
            return answer(*given)

        pair.challenge = challenge


def in_process(folder: Path, mode: str, log: RequestLog | None = None):
    events = []
    metrics = Metrics()
    store = Store(place(folder), lambda e, **f: events.append((e, f)), lambda case: None, True)
    return Trial(mode, 1.0, store, metrics, lambda e, **f: None, log), store, metrics, events


def test_what_the_challenger_has_no_time_for_is_dropped_and_kept_without_it(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "WAITING", 5)
    monkeypatch.setattr(request_log, "PAUSE", 0.01)
    log = RequestLog(tmp_path / "log", lambda n: None, lambda e, **f: None)
    shadow, store, metrics, _ = in_process(tmp_path, "shadow", log)
    pair = store.pairs[CASE]
    slow, one = Slow(pair), [[v] for v in rows(CASE, 1)[0].values()]
    for i in range(20):
        started = time.perf_counter()
        turn = shadow.answer(pair, one, 1, b"")
        entry = Entry(CASE, datetime.now(UTC), str(i), "v", 1, None, {}, turn.answers.outputs)
        shadow.shadow(turn, one, entry, 100)
        assert time.perf_counter() - started < 0.5
    assert pair.found.dropped == 15
    assert b'truefit_shadow_dropped_total{case="machines"} 15.0' in metrics.text()
    slow.waiting = False
    shadow.close()
    log.close()
    kept = logged(tmp_path / "log")
    assert sorted(int(r["request_id"]) for r in kept) == [*range(20)]
    assert sum(r["shadow"] is not None for r in kept) == 5 == pair.found.shadowed


def test_the_newest_numbers_stay():
    newest, seen = Newest(7), []
    for n in (1, 3, 0, 9, 2, 7, 1, 20):
        values = np.arange(len(seen), len(seen) + n, dtype=float)
        newest.add(values)
        seen += values.tolist()
        assert newest.values().tolist() == seen[-7:]
    assert newest.quantiles()["q50"] == seen[-4]


def test_the_correlation_of_parts_is_that_of_the_whole():
    rng = np.random.default_rng(0)
    first = 1e6 + rng.normal(size=500)
    second, found = first + rng.normal(size=500), Comparison(classes=False)
    for part in np.split(np.arange(500), [1, 2, 50, 400]):
        one, other = (Answers({"prediction": [*s[part]]}, s[part], []) for s in (first, second))
        found.both(one, other, (0.1, 0.2))
    whole = np.corrcoef(first, second)[0, 1]
    assert found._shadow().correlation == pytest.approx(whole, rel=1e-6)
    same = Comparison(classes=False)
    same.both(*[Answers({"prediction": [2.0]}, np.array([2.0]), [])] * 2, (0.1, 0.1))
    assert same._shadow().correlation is None
    zeros = apart(np.zeros(2), np.array([0.0, 3.0]), classes=False)
    assert zeros.tolist() == [0, 1]


# Which challengers are taken


def other_inputs(bundle: Path) -> None:
    shutil.rmtree(bundle)
    shutil.copytree(models() / "loans" / "bundle", bundle)
    change(bundle, case=CASE)


UNFIT = {
    "damaged": (lambda f: (f / "model.onnx").write_bytes(b"x"), "its checksum differs"),
    "half": (lambda f: (f / "manifest.json").write_bytes(b"{"), "is damaged"),
    "no model": (lambda f: (f / "model.onnx").unlink(), "it has no model.onnx"),
    "another case": (lambda f: change(f, case="homes"), "is the bundle of 'homes'"),
    "other inputs": (other_inputs, "it takes other inputs than the champion"),
    "another target": (lambda f: change(f, target={"name": "rent"}), "it predicts rent, and"),
    "unit": (lambda f: change(f, target=running.manifest(CASE)["target"] | {"unit": "euro"}),
             "it predicts in 'euro'"),
    "interval": (lambda f: change(f, interval=None), "states an interval"),
}  # fmt: skip


@pytest.mark.parametrize("fault", UNFIT)
def test_an_unfit_challenger_is_refused_with_one_event(fault, tmp_path):
    damage, said = UNFIT[fault]
    shadow, store, _, events = in_process(tmp_path, "canary")
    assert [e for e, _ in events] == ["challenger loaded"] and CASE in store.pairs
    damage(tmp_path / "models" / CASE / "challenger")
    for _ in range(4):
        store.look()
    (_, (event, fields)) = events
    assert event == "challenger refused" and fields["case"] == CASE and said in fields["reason"]
    assert store.pairs == {} and store.current[CASE].version == served().version
    found = shadow.said(store.current[CASE])
    assert found["challenger"] is None and "the log of the service says more" in found["reason"]
    assert str(tmp_path) not in str(found)
    # It is as good as new when it is whole again.
    shutil.rmtree(tmp_path / "models" / CASE / "challenger")
    store.look()
    shutil.copytree(rival(), tmp_path / "models" / CASE / "challenger")
    for _ in range(3):
        store.look()
    assert [e for e, _ in events[2:]] == ["challenger loaded"] and CASE in store.pairs
    shadow.close()


def test_other_classes_are_refused(tmp_path):
    folder = copy_models(tmp_path)
    shutil.copytree(folder / "loans" / "bundle", folder / "loans" / "challenger")
    classes = running.manifest("loans")["classes"]
    (other,) = {*classes} - {running.manifest("loans")["positive"]}
    change(folder / "loans" / "challenger", positive=other)
    events = []
    store = Store(folder, lambda e, **f: events.append((e, f["reason"])), lambda case: None, True)
    assert store.pairs == {} and store.current.keys() == set(running.MODELS)
    assert events == [
        ("challenger refused", "it knows other classes than the champion, or looks for another one")
    ]


def test_columns_may_lie_in_another_order(tmp_path):
    """The graph's inputs as well, as another export may have them."""
    folder = place(tmp_path)
    bundle = folder / CASE / "challenger"
    graph = onnx.load(bundle / "model.onnx")
    turned = [*graph.graph.input][::-1]
    del graph.graph.input[:]
    graph.graph.input.extend(turned)
    content = graph.SerializeToString()
    (bundle / "model.onnx").write_bytes(content)
    inputs = json.loads((bundle / "manifest.json").read_bytes())["inputs"][::-1]
    change(bundle, inputs=inputs, sha256={"model.onnx": sha256(content).hexdigest()})
    store = Store(folder, lambda e, **f: None, lambda case: None, True)
    sent = rows(CASE, 30)
    said = store.pairs[CASE].challenge([*columns(sent).values()], 30)
    assert said.scores == pytest.approx(Bundle(rival()).score(columns(sent)))


def test_a_gap_that_the_challenger_never_saw_is_not_asked_of_it(tmp_path):
    bundle = shutil.copytree(models() / "homes" / "bundle", tmp_path / "homes")
    inputs = running.manifest("homes")["inputs"]
    gapped = next(i for i in inputs if i.get("missing_share", 0) > 0)
    gapped |= {"missing_share": 0.0, "absent": False}
    change(bundle, inputs=inputs)
    pair = Pair(served("homes"), Served(Bundle(bundle)))
    record = served("homes").typical_row()
    assert len(pair.challenge([*record.values()], 1).scores) == 1
    with pytest.raises(ValueError, match="a gap"):
        pair.challenge([*(record | {gapped["name"]: [None]}).values()], 1)


def test_a_challenger_comes_goes_and_becomes_the_champion_while_the_service_runs(tmp_path):
    folder = copy_models(tmp_path)
    service = Service(tmp_path, "--watch", "0.05", "--canary", 1, models_folder=folder)
    record, home = rows(CASE, 1)[0], folder / CASE
    assert "model_role" not in service.predict(CASE, record).json()
    (home / "challenger").symlink_to(rival(), target_is_directory=True)
    loaded = service.wait_for("challenger loaded")
    said = service.predict(CASE, record).json()
    assert (said["model_role"], said["version"]) == ("challenger", loaded["version"])
    (home / "challenger").unlink()
    assert service.wait_for("challenger left")["reason"] == "its files are gone"
    assert service.predict(CASE, record).json()["version"] == served().version
    shutil.copytree(rival(), home / "challenger")
    service.wait_for("challenger loaded", times=2)
    # It wins: its files take the champion's place.
    shutil.copytree(rival(), home / "new")
    (home / "bundle").rename(home / "old")
    (home / "new").rename(home / "bundle")
    assert service.wait_for("challenger left", times=2)["reason"] == "it is the champion now"
    said = service.predict(CASE, record).json()
    assert said["version"] == loaded["version"] and "model_role" not in said
    found = service.client.get(f"/v1/cases/{CASE}/comparison").json()
    assert "it is the champion now" in found["reason"]
    service.stop()
    assert len(service.events("challenger refused")) == 0


def test_a_version_that_was_rolled_back_does_not_come_back_as_challenger(tmp_path):
    _, store, _, events = in_process(tmp_path, "canary")
    home = tmp_path / "models" / CASE
    shutil.rmtree(home / "bundle")
    shutil.copytree(rival(), home / "bundle")
    for _ in range(3):
        store.look()
    store.roll_back(CASE)
    assert store.pairs == {}
    for _ in range(3):
        store.look()
    assert store.pairs == {} and store.current[CASE].version == served().version
    assert [f["reason"] for e, f in events if e == "challenger left"] == [
        "it is the champion now", "it was rolled back"]  # fmt: skip


def test_a_champion_that_was_just_swapped_in_answers_alone_until_the_pair_is_checked(tmp_path):
    canary, store, _, _ = in_process(tmp_path, "canary")
    change(tmp_path / "models" / CASE / "bundle", title="another version")
    for _ in range(2):
        store.look()
    assert canary.pair(store.current[CASE]).challenger.version == Bundle(rival()).version
    back = store.roll_back(CASE)
    assert canary.pair(back) is None and CASE in store.pairs
    store.look()
    assert canary.pair(back).challenger.version == Bundle(rival()).version
    canary.close()


# The options, and the log's older and newer files


def test_a_challenger_plays_one_part(tmp_path, capsys):
    both = ("serve", "--models", models(), "--no-log", "--shadow", 1, "--canary", 0.1)
    ended = run_truefit(*both, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        "truefit: --shadow and --canary are two ways to use a challenger; give one of them\n"
    )
    for option in ("--shadow", "--canary"):
        for value in ("0", "1.1", "-1", "nan", "inf", "all"):
            with pytest.raises(SystemExit):
                cli.main(["serve", f"{option}={value}"])
            assert f"argument {option}: invalid share" in capsys.readouterr().err


OLD = """
PRAGMA user_version = 1;
CREATE TABLE moments (entries TEXT NOT NULL) STRICT;
CREATE VIEW requests AS SELECT value ->> 1 AS request_id FROM moments, json_each(entries);
CREATE VIEW predictions AS SELECT request_id FROM requests;
INSERT INTO moments VALUES ('[["2026-03-10T10:00:00.000+00:00","old","v",1,null,{"x":[1.0]},
{"prediction":[2.5]}]]');
"""


def write_log(folder: Path, days: list[str]) -> tuple[list, list]:
    lost, events = [], []
    log = RequestLog(folder, lost.append, lambda e, **f: events.append((e, f)), keep_days=10**6)
    for day in days:
        time = datetime.fromisoformat(f"{day}T12:00:00+00:00")
        outputs = {"prediction": [3.0]}
        log.add(Entry("c", time, "new", "v", 1, None, {"x": [1.0]}, outputs, "challenger"))
    log.close()
    return lost, events


def test_the_log_goes_on_in_a_file_of_the_older_schema(tmp_path):
    file = tmp_path / "c" / "2026-03-10.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD)
    assert write_log(tmp_path, ["2026-03-10"]) == ([], [])
    members = ("request_id", "prediction", "role", "shadow_prediction")
    found = [tuple(r[m] for m in members) for r in logged(tmp_path, "c", "predictions")]
    assert found == [("old", 2.5, None, None), ("new", 3.0, "challenger", None)]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (request_log.SCHEMA,)


def test_a_file_of_a_newer_schema_is_left_alone(tmp_path):
    file = tmp_path / "c" / "2026-03-10.sqlite"
    file.parent.mkdir()
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(OLD.replace("user_version = 1", "user_version = 99"))
    lost, events = write_log(tmp_path, ["2026-03-10", "2026-03-11"])
    assert lost == [1]
    assert [e for e, _ in events] == ["request log fails", "request log works again"]
    assert "has schema 99, which a newer version of Truefit writes" in events[0][1]["reason"]
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("SELECT count(*) FROM moments").fetchone() == (1,)
