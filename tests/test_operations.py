"""What an operator relies on: starting, stopping, keys, metrics, logs and the log of requests."""

import json
import os
import queue
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import time
from bisect import bisect_left
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import onnx
import psutil
import pytest
from conftest import run_truefit
from prometheus_client.parser import text_string_to_metric_families
from service import COMMAND, MODELS, Service, manifest, models, rows, until

from truefit import cli
from truefit.serving import keys, request_log
from truefit.serving.metrics import FRESH
from truefit.serving.request_log import Entry, RequestLog

NOBODY = 65534
SECRET = "kJ8-secret-x2"


# Starting


def change_manifest(folder: Path, **members) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | members), encoding="utf-8")


def change_model(folder: Path, change) -> None:
    """Change the graph, and the manifest's checksum with it."""
    graph = onnx.load(folder / "model.onnx")
    change(graph)
    content = graph.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    change_manifest(folder, sha256={"model.onnx": sha256(content).hexdigest()})


def another_case(folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(models() / "loans" / "bundle", folder)


def other_schema(folder: Path) -> None:
    inputs = json.loads((folder / "manifest.json").read_bytes())["inputs"]
    change_manifest(folder, inputs=inputs[1:])


def unknown_operator(graph: onnx.ModelProto) -> None:
    graph.graph.node[0].op_type = "NoSuch"


def loop(graph: onnx.ModelProto) -> None:
    """A graph that never ends."""
    body = onnx.helper.make_graph([], "body", [], [])
    graph.graph.node.append(onnx.helper.make_node("Loop", ["", ""], [], body=body))


def numbers_elsewhere(folder: Path) -> None:
    """Numbers of the model in a file outside of its bundle, which no checksum covers."""

    def change(graph: onnx.ModelProto) -> None:
        tensor = graph.graph.initializer.add(name="x", data_type=onnx.TensorProto.FLOAT, dims=[1])
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="../../../x")

    change_model(folder, change)


def elsewhere(path: Path) -> None:
    """Put a link in the place of a file."""
    path.rename(path.parents[1] / path.name)
    path.symlink_to(path.parents[1] / path.name)


def newer_opset(graph: onnx.ModelProto) -> None:
    graph.opset_import[0].version = 99


def unreadable(path: Path) -> None:
    """Nobody can read a folder where a file should be, not even root."""
    path.unlink()
    path.mkdir()


BAD_BUNDLES = {
    "another model": (lambda f: (f / "model.onnx").write_bytes(b"x"), "its checksum differs"),
    "other columns": (other_schema, "takes or gives other columns"),
    "opset": (lambda f: change_model(f, newer_opset), "cannot be run by the installed ONNX"),
    "operator": (lambda f: change_model(f, unknown_operator), "has the operator NoSuch, which"),
    "a loop": (lambda f: change_model(f, loop), "has a graph within the graph"),
    "another file": (numbers_elsewhere, "has numbers that lie in another file"),
    "a link": (lambda f: elsewhere(f / "model.onnx"), "outside of the bundle"),
    "format": (lambda f: change_manifest(f, format=99), "has format 99, and this version reads"),
    "another case": (another_case, "is the bundle of 'loans', and lies where that of 'machines'"),
    "half a manifest": (lambda f: os.truncate(f / "manifest.json", 500), "is damaged (not whole)"),
    "no text": (lambda f: (f / "manifest.json").write_bytes(b"\xff"), "is damaged (not whole)"),
    "type": (lambda f: change_manifest(f, deciles=["x"]), "is damaged (Expected `float`"),
    "no model": (lambda f: (f / "model.onnx").unlink(), "it has no model.onnx"),
    "unreadable": (lambda f: unreadable(f / "model.onnx"), "cannot be read: it is no file"),
}


def refused(*options: object, cwd: Path) -> str:
    """The one sentence of a service that does not start."""
    ended = run_truefit("serve", "--port", "0", "--no-log", *options, cwd=cwd)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("truefit: ") and ended.stderr.count("\n") == 1, ended.stderr
    return ended.stderr


@pytest.mark.parametrize("fault", BAD_BUNDLES)
def test_a_bad_bundle_at_the_start_is_one_sentence(fault, tmp_path):
    damage, said = BAD_BUNDLES[fault]
    folder = tmp_path / "models" / "machines" / "bundle"
    shutil.copytree(models() / "machines" / "bundle", folder)
    damage(folder)
    sentence = refused("--models", tmp_path / "models", cwd=tmp_path)
    assert said in sentence and "machines" in sentence


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_without_a_bundle_is_one_sentence(exists, tmp_path):
    folder = tmp_path / "models"
    if exists:
        (folder / "machines").mkdir(parents=True)
    assert f"{folder} has no bundle" in refused("--models", folder, cwd=tmp_path)


def test_wrong_options_are_one_sentence(tmp_path):
    (tmp_path / "damaged").write_text("reader 12ab\n", encoding="utf-8")
    (tmp_path / "empty").write_text("# none yet\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options, said in {
            ("--port", port): f"cannot listen on 127.0.0.1 port {port}: Address already in use",
            ("--port", 99999): "cannot listen on 127.0.0.1 port 99999",
            ("--host", "no such host"): "cannot listen on no such host",
            ("--mask", "shoe_size"): "--mask shoe_size: no model takes a column of that name",
            ("--keys", "missing"): "missing cannot be read: No such file",
            ("--keys", "damaged"): "line 1 is not a name and a SHA-256",
            ("--keys", "empty"): "empty has no key; make one with: truefit key NAME --keys empty",
            ("--keys", "binary"): "binary is no file of keys",
        }.items():
            assert said in refused("--models", models(), *options, cwd=tmp_path)
    ended = run_truefit("serve", "--models", models(), "--log", "damaged", cwd=tmp_path)
    assert ended.returncode == 1 and "the request log damaged cannot be made" in ended.stderr


def test_limits_must_be_numbers_above_zero(capsys):
    for limit in ("--max-rows", "--max-body", "--timeout", "--keep-days", "--drain", "--watch"):
        for value in ("-1", "nan", "inf", "many"):
            with pytest.raises(SystemExit) as ended:
                cli.main(["serve", f"{limit}={value}"])
            assert ended.value.code == 2
            assert f"argument {limit}: invalid number" in capsys.readouterr().err


def test_it_starts_within_a_second_and_loads_nothing_it_does_not_need(tmp_path):
    running = Service(tmp_path, "--no-log")
    assert running.predict("machines", rows("machines", 1)).status_code == 200
    spent = psutil.Process(running.process.pid).cpu_times()
    loaded = Path(f"/proc/{running.process.pid}/maps")
    if loaded.exists():  # compiled parts of what must not be there
        packages = ("/sklearn/", "/pandas/", "/scipy/", "/onnx/", "/pyarrow/")
        assert not any(p in loaded.read_text(encoding="utf-8") for p in packages)
    running.stop()
    assert spent.user + spent.system < 3  # about 1 on an idle machine
    script = (
        "import sys, truefit.serving, truefit.cli\n"
        "never = {'sklearn', 'pandas', 'joblib', 'onnx', 'scipy', 'dvc'}\n"
        "print(sorted(never & {name.partition('.')[0] for name in sys.modules}))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert found.stdout == "[]\n", found


def test_it_runs_as_nobody_where_nothing_can_be_written(tmp_path):
    """The interpreter may lie where only root can look, so the right to read is kept."""
    if os.getuid() != 0 or not (become := shutil.which("setpriv")):
        pytest.skip("only root, with setpriv, can become nobody")
    options = [*COMMAND[1:], "--models", models(), "--port", "0", "--no-log", "--drain", "0"]
    given = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    given += [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps")]
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o555)
    command = [become, *given, COMMAND[0], *options]
    with subprocess.Popen(map(str, command), cwd=folder, stdout=subprocess.PIPE) as process:
        port = json.loads(process.stdout.readline())["port"]
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        assert f"Uid:\t{NOBODY}\t" in status
        assert ask(port, rows("loans", 1)) == 200
        process.terminate()
        assert process.wait(30) == 0
    assert list(folder.iterdir()) == []


def ask(port: int, records: list) -> int:
    """The status of an answer of a service that the class Service did not start."""
    import httpx

    url = f"http://127.0.0.1:{port}/v1/cases/loans/predict"
    return httpx.post(url, json=records).status_code


# Stopping


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_readiness_ends_before_the_service_does(sign, tmp_path):
    running = Service(tmp_path, "--drain", "0.5")
    assert running.client.get("/health/ready").json() == {"ready": True}
    started = time.monotonic()
    os.kill(running.process.pid, sign)
    running.wait_for("stopping")
    not_ready = running.client.get("/health/ready")
    assert (not_ready.status_code, not_ready.headers["connection"]) == (503, "close")
    assert running.client.get("/v2/health/ready").status_code == 503
    assert running.client.get("/health/live").status_code == 200
    assert running.predict("machines", rows("machines", 1)).status_code == 200
    assert running.process.wait(10) == 0
    assert 0.5 < time.monotonic() - started < 4
    assert [e["event"] for e in running.events() if e["event"] != "request"] == [
        "listening", "stopping", "stopped"]  # fmt: skip
    assert len(logged(running, "machines")) == 1


def test_a_second_signal_ends_the_wait(tmp_path):
    running = Service(tmp_path, "--drain", "60")
    os.kill(running.process.pid, signal.SIGTERM)
    running.wait_for("stopping")
    assert running.stop() == 0


# Keys


def test_a_key_is_shown_once_and_kept_as_a_checksum(tmp_path):
    made = [run_truefit("key", name, "--keys", "keys", cwd=tmp_path) for name in ("ann", "bob")]
    assert {(m.returncode, m.stderr, m.stdout.count("\n")) for m in made} == {(0, "", 1)}
    file, (ann, bob) = tmp_path / "keys", (m.stdout.strip() for m in made)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = file.read_text(encoding="utf-8")
    assert written == "".join(
        f"{name} {sha256(key.encode()).hexdigest()}\n" for name, key in (("ann", ann), ("bob", bob))
    )
    for name, said in (("ann", "has a key named ann already"), ("a b", "is no name for a key")):
        again = run_truefit("key", name, "--keys", "keys", cwd=tmp_path)
        assert again.returncode == 1 and said in again.stderr and again.stdout == ""
    nowhere = run_truefit("key", "ann", "--keys", "no/folder", cwd=tmp_path)
    assert nowhere.returncode == 1 and "cannot be written" in nowhere.stderr
    assert file.read_text(encoding="utf-8") == written


def test_a_key_is_added_to_a_file_whose_last_line_was_cut_by_an_editor(tmp_path):
    path = tmp_path / "keys"
    ann = keys.make("ann", path)
    path.write_text(path.read_text(encoding="utf-8").rstrip("\n"), encoding="utf-8")
    bob = keys.make("bob", path)
    accepted = keys.Keys(path)
    assert accepted.accept(ann.encode()) and accepted.accept(bob.encode())


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service that wants a key, and the key."""
    folder = tmp_path_factory.mktemp("locked")
    key = keys.make("reader", folder / "keys")
    running = Service(folder, "--keys", folder / "keys")
    yield running, key
    running.stop()


def test_without_its_key_nobody_gets_an_answer(locked):
    running, key = locked
    closed = {
        "GET": [
            "/v1/cases",
            "/v1/cases/homes",
            "/v1/cases/homes/comparison",
            "/v2",
            "/v2/models/homes",
            "/v2/models/homes/ready",
        ],
        "POST": [f"/v1/cases/homes/{verb}" for verb in ("predict", "explain", "rollback")]
        + ["/v2/models/homes/infer"],
    }
    for method, paths in closed.items():
        for path in paths:
            for sent in (None, "", "Bearer", "Bearer x", f"Basic {key}", f"Bearer {key}x", key):
                headers = {} if sent is None else {"authorization": sent}
                answer = running.client.request(method, path, headers=headers)
                assert answer.status_code == 401 and answer.json()["status"] == 401
                assert answer.headers["www-authenticate"] == "Bearer"
    headers = {"authorization": f"Bearer {key}"}
    assert running.client.get("/v1/cases", headers=headers).status_code == 200
    assert running.predict("homes", rows("homes", 1), headers=headers).status_code == 200
    health = [f"{api}/health/{kind}" for api in ("", "/v2") for kind in ("live", "ready")]
    pages = ("/", "/comparison", "/page.css", "/page.js", "/shared.js", "/comparison.js", "/docs")
    for path in (*pages, "/openapi.json", "/metrics", *health):
        assert running.client.get(path).status_code == 200


def test_no_secret_comes_into_a_log(locked):
    running, key = locked
    known = {"authorization": f"Bearer {key}"}
    hidden = {"authorization": f"Bearer {SECRET}", "cookie": SECRET, "x-request-id": f"{SECRET} !"}
    record = rows("loans", 1)[0]
    text = next(i["name"] for i in manifest("loans")["inputs"] if i["type"] == "text")
    bodies = [record | {text: SECRET}, record | {SECRET: 1}, record | {"age": SECRET}, SECRET]
    for headers in (hidden, known):
        for body in bodies:
            running.predict("loans", body, headers=headers, params={"key": SECRET})
            running.client.post("/v1/cases/loans/explain", json=body, headers=headers)
            running.client.post("/v2/models/loans/infer", json={"id": SECRET}, headers=headers)
    with socket.create_connection(("127.0.0.1", running.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nbad header " + SECRET.encode() + b"\r\n\r\n")
        raw.recv(1000)
    written = running.log.read_text(encoding="utf-8")
    assert SECRET not in written and key not in written
    assert SECRET not in running.client.get("/metrics").text


# Logs and metrics


def test_each_line_of_the_log_is_json_and_says_what_was_asked(service):
    ids = {}
    for method, path, body in (
        ("GET", "/health/live", None),
        ("GET", "/no/such?path=1", None),
        ("DELETE", "/v1/cases", None),
        ("POST", "/v1/cases/homes/predict", rows("homes", 3)),
        ("POST", "/v1/cases/homes/predict", {"no": "column"}),
        ("POST", "/v1/cases/nothing/predict", {}),
        ("POST", "/v1/cases/loans/explain", rows("loans", 1)),
    ):
        answer = service.client.request(method, path, json=body)
        ids[answer.headers["x-request-id"]] = (method, path, answer.status_code)
    lines = [json.loads(line) for line in service.log.read_text(encoding="utf-8").splitlines()]
    asked = {line["request_id"]: line for line in lines if line["event"] == "request"}
    assert ids.keys() <= asked.keys() and len(ids) == 7
    members = ["time", "level", "event", "request_id", "method", "path", "status", "seconds"]
    members += ["case", "rows", "version"]
    for id, (method, path, status) in ids.items():
        line = asked[id]
        assert list(line) == members
        assert line["method"] == method and line["path"] == path.partition("?")[0]
        assert line["status"] == status and 0 < line["seconds"] < 10
        assert datetime.fromisoformat(line["time"]).tzinfo == UTC
    predicted = next(line for line in asked.values() if line["rows"] == 3)
    assert (predicted["case"], len(predicted["version"])) == ("homes", 12)


def families(running: Service) -> dict:
    time.sleep(FRESH)  # what was written for another may be as old
    text = running.client.get("/metrics").text
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_metrics_count_what_was_asked(tmp_path):
    running = Service(tmp_path, "--no-log")
    record, column = rows("machines", 1)[0], "speed"
    odd = [record | {column: 1e6}, record | {column: -1}, record | {"cd": "perhaps"}]
    answers = running.predict("machines", odd).json()["predictions"]
    answers += running.predict("machines", rows("machines", 200)).json()["predictions"]
    warned = Counter(
        (w["column"], w["reason"].split()[2]) for a in answers for w in a["warnings"]
    )  # fmt: skip
    running.predict("machines", {})
    running.predict("machines", [])
    running.post("/v1/cases/machines/predict", b"{")
    inputs = [{"name": n, "datatype": "BYTES" if isinstance(v, str) else "FP64", "shape": [1],
               "data": [v]} for n, v in record.items()]  # fmt: skip
    infer = running.client.post("/v2/models/machines/infer", json={"inputs": inputs}).json()
    scores = [a["prediction"] for a in answers]
    scores += next(o["data"] for o in infer["outputs"] if o["name"] == "prediction")

    def requests(**labels):
        return running.metric("truefit_requests_total", case="machines", **labels)

    assert (requests(api="v1", status="200"), requests(api="v2", status="200")) == (2, 1)
    assert (requests(status="422"), requests(status="400"), requests()) == (2, 1, 6)
    assert running.metric("truefit_request_seconds_count", case="machines", api="v1") == 5
    assert 0 < running.metric("truefit_request_seconds_sum", case="machines", api="v1") < 5
    assert running.metric("truefit_rows_total", case="machines") == len(scores) == 204
    assert running.metric("truefit_rows_total") == 204
    for kind in ("below", "above", "unseen"):
        assert running.metric("truefit_warnings_total", kind=kind) >= 1
    assert running.metric("truefit_warnings_total", column=column, kind="above") == 1
    assert running.metric("truefit_warnings_total") == sum(warned.values())
    assert running.metric("truefit_requests_in_flight") == 1  # that for the metrics
    version = running.client.get("/v1/cases/machines").json()["version"]
    said = {"case": "machines", "version": version, "model": MODELS["machines"]}
    assert running.metric("truefit_model_info", **said) == 1
    assert running.metric("truefit_model_info") == len(MODELS)

    deciles = manifest("machines")["deciles"]
    counts = Counter(bisect_left(deciles, score) for score in scores)
    buckets = [s for s in families(running)["truefit_predictions"].samples if "le" in s.labels]
    assert [float(s.labels["le"]) for s in buckets] == [*deciles, float("inf")]
    assert [s.value for s in buckets] == [sum(counts[j] for j in range(i + 1)) for i in range(10)]
    assert running.metric("truefit_predictions_count") == 204
    assert running.metric("truefit_predictions_sum") == pytest.approx(sum(scores))
    running.stop()


def test_metrics_are_all_there_from_the_first_scrape_and_a_tool_reads_them(service):
    service.predict("homes", rows("homes", 2))
    found = families(service)
    assert found.keys() >= {
        "truefit_requests", "truefit_request_seconds", "truefit_requests_in_flight",
        "truefit_predictions", "truefit_warnings", "truefit_rows", "truefit_model_info",
        "truefit_bundles_refused", "truefit_request_log_lost",
        "process_resident_memory_bytes", "process_start_time_seconds", "python_info",
    }  # fmt: skip
    for name in ("truefit_rows", "truefit_bundles_refused"):
        assert {s.labels["case"] for s in found[name].samples if "case" in s.labels} == set(MODELS)
    answer = service.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    if (promtool := shutil.which("promtool")) is None:
        pytest.skip("promtool is not installed")
    said = subprocess.run(
        [promtool, "check", "metrics"], input=answer.content, capture_output=True, timeout=30
    )
    assert (said.returncode, said.stdout, said.stderr) == (0, b"", b"")


def test_no_client_can_make_new_series(service):
    def sets() -> set:
        series = (s for f in families(service).values() for s in f.samples)
        return {(s.name, *sorted(s.labels.items())) for s in series}

    record = rows("loans", 1)[0]
    text = next(i["name"] for i in manifest("loans")["inputs"] if i["type"] == "text")

    def invent(n: int) -> None:
        for path in (f"/x{n}", f"/v1/cases/x{n}", f"/v2/models/loans/versions/{n}"):
            service.client.get(path, headers={"x-request-id": f"id-{n}"})
        service.client.request(f"M{n}X", "/health/live")
        service.predict("loans", record | {f"c{n}": n})
        service.predict("loans", record | {text: f"unseen {n}"})

    invent(0)
    before = sets()
    for n in range(1, 20):
        invent(n)
    assert sets() == before


# The log of requests


def logged(running: Service, case: str, folder: Path | None = None) -> list[dict]:
    """What the request log has of a case, from all its days."""
    found = []
    for file in sorted((folder or running.folder / "request-log").glob(f"{case}/*.sqlite")):
        connection = sqlite3.connect(file)
        connection.row_factory = sqlite3.Row
        assert connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        found += map(dict, connection.execute("SELECT * FROM predictions ORDER BY time, row"))
        connection.close()
    return found


@pytest.mark.parametrize("name", MODELS)
def test_the_request_log_has_the_rows_as_sent_and_answered(name, tmp_path):
    running = Service(tmp_path)
    id, sent = manifest(name)["id"], rows(name, 60)
    if id:
        sent = [row | {id: f"{i:04}"} for i, row in enumerate(sent)]
    answers = [running.predict(name, sent[:1]).json(), running.predict(name, sent[1:]).json()]
    running.predict(name, {"wrong": 1})
    assert running.stop() == 0
    found = logged(running, name)
    said = [p for a in answers for p in a["predictions"]]
    assert len(found) == len(said) == 60
    assert [(r["request_id"], r["row"]) for r in found] == [
        (a["request_id"], i + 1) for a in answers for i in range(len(a["predictions"]))
    ]
    assert {r["version"] for r in found} == {answers[0]["version"]}
    for row, record, answer in zip(found, sent, said, strict=True):
        kept = {k: v for k, v in record.items() if k != id}
        assert json.loads(row["inputs"]) == kept
        assert row["id"] == record.get(id) == answer.get("id")
        positive = manifest(name)["positive"]
        if positive:
            assert row["probability"] == answer["probabilities"][positive]
        assert (row["prediction"], row["low"], row["high"]) == (
            answer["prediction"], answer.get("low"), answer.get("high"))  # fmt: skip
    now = datetime.now(UTC)
    assert abs((datetime.fromisoformat(found[0]["time"]) - now).total_seconds()) < 60


def test_masked_columns_are_nowhere_in_the_request_log(tmp_path):
    texts = [i["name"] for i in manifest("homes")["inputs"] if i["type"] == "text"]
    running = Service(tmp_path, "--mask", texts[0], "--mask", "age", "--mask", "pid")
    homes = rows("homes", 1)[0] | {texts[0]: SECRET, texts[1]: "kept-value", "pid": SECRET}
    loans = rows("loans", 1)[0] | {"age": 31.41592653}
    for _ in range(2):
        assert running.predict("homes", homes).json()["predictions"][0]["id"] == SECRET
        assert running.predict("loans", loans).status_code == 200
    time.sleep(0.5)

    def written() -> bytes:
        files = (f for f in (tmp_path / "request-log").rglob("*") if f.is_file())
        return b"".join(f.read_bytes() for f in files)

    contents = [written()]  # the write-ahead log included
    running.stop()
    contents.append(written())
    for content in contents:
        assert b"kept-value" in content
        assert SECRET.encode() not in content and b"31.41592653" not in content
    (row,) = {r["inputs"] for r in logged(running, "loans")}
    assert json.loads(row).keys() == loans.keys() - {"age"}


def test_no_log_writes_nothing(tmp_path):
    running = Service(tmp_path, "--no-log")
    running.predict("loans", rows("loans", 1))
    running.stop()
    assert [f.name for f in tmp_path.iterdir()] == ["service.log"]


def entry(case: str = "c", day: str = "2026-03-10", id: str = "r", values: int = 1) -> Entry:
    time = datetime.fromisoformat(f"{day}T23:59:59.999+00:00")
    return Entry(case, time, id, "v", values, None, {"x": [1.0] * values},
                 {"prediction": [2.0] * values})  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """A request log's lost entries and events."""
    monkeypatch.setattr(request_log, "PAUSE", 0.01)
    return {"lost": [], "events": []}


def open_log(folder: Path, told: dict, **options) -> RequestLog:
    def say(event, **fields):
        told["events"].append((event, fields))

    return RequestLog(folder, told["lost"].append, say, **options)


def test_each_day_has_its_file_and_old_ones_go(tmp_path, told):
    for old in ("c/2026-03-07", "c/2026-03-08", "gone/2026-01-01"):
        (tmp_path / old).parent.mkdir(exist_ok=True)
        (tmp_path / f"{old}.sqlite").write_bytes(b"")
        (tmp_path / f"{old}.sqlite-wal").write_bytes(b"")
    (tmp_path / "c" / "notes.txt").write_bytes(b"a person's own")
    log = open_log(tmp_path, told, keep_days=2)
    for day in ("2026-03-10", "2026-03-11", "2026-03-10", "2026-03-11"):
        log.add(entry(day=day))
        log.add(entry("d", day=day))
        time.sleep(0.1)
    log.close()
    found = sorted(str(f.relative_to(tmp_path)) for f in tmp_path.rglob("*") if f.is_file())
    assert found == [
        "c/2026-03-10.sqlite", "c/2026-03-11.sqlite", "c/notes.txt",
        "d/2026-03-10.sqlite", "d/2026-03-11.sqlite",
    ]  # fmt: skip
    assert told == {"lost": [], "events": []}
    for file in tmp_path.rglob("*.sqlite"):
        assert sqlite3.connect(file).execute("SELECT count(*) FROM predictions").fetchone() == (2,)


@pytest.mark.parametrize(
    ("days", "today", "kept"),
    [
        # What is older than the days that are kept goes, also after a quiet time.
        (["03-01", "03-05", "03-08", "03-10"], "03-10", ["03-08", "03-10"]),
        (["03-01", "03-03", "03-05", "03-07", "03-10"], "03-10", ["03-07", "03-10"]),
        # A clock that is ahead of the newest row by more than that costs nothing …
        (["03-08", "03-09", "03-10"], "12-24", ["03-08", "03-09", "03-10"]),
        # … nor when it has written a row, or has for two days.
        (["03-08", "03-09", "03-10", "12-24"], "12-24", ["03-08", "03-09", "03-10", "12-24"]),
        (["03-09", "03-10", "12-24", "12-25"], "12-25", ["03-09", "03-10", "12-24", "12-25"]),
        # In time it is believed; and so is the right one again.
        (["03-09", "12-24", "12-26", "12-28"], "12-28", ["12-26", "12-28"]),
        (["03-01", "03-07", "03-10", "12-24"], "03-10", ["03-07", "03-10", "12-24"]),
        # Who asks once a week keeps a week more, and not everything.
        (["03-01", "03-08", "03-15", "03-22"], "03-22", ["03-15", "03-22"]),
    ],
)
def test_no_clock_costs_the_log(days, today, kept, tmp_path, told, monkeypatch):
    """Three days are kept."""
    files = [tmp_path / "c" / f"2026-{day}.sqlite" for day in days]
    (tmp_path / "c").mkdir()
    for file in files:
        file.write_bytes(b"")
    clock = datetime.fromisoformat(f"2026-{today}")
    monkeypatch.setattr("truefit.serving.request_log.now", lambda: clock)
    open_log(tmp_path, told, keep_days=3).close()
    assert [day for day, file in zip(days, files, strict=True) if file.exists()] == kept


def test_a_wrong_clock_at_the_start_costs_no_row(tmp_path):
    """The log ends months before the day on which the service starts and answers."""
    folder = tmp_path / "request-log" / "machines"
    folder.mkdir(parents=True)
    days = [folder / f"2020-01-0{n}.sqlite" for n in (1, 2, 3)]
    for day in days:
        day.write_bytes(b"")
    for _ in range(2):
        running = Service(tmp_path)
        assert running.predict("machines", rows("machines", 1)).status_code == 200
        running.stop()
        assert len([*folder.glob("*.sqlite")]) == 4 and all(day.exists() for day in days)


def modes(folder: Path) -> dict[str, str]:
    """Who may do what with the files of a log, by their names without the day."""
    paths = [folder, *folder.rglob("*")]
    return {p.name.rpartition(".")[2]: f"{stat.S_IMODE(p.stat().st_mode):o}" for p in paths}


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o277])
def test_nobody_else_can_read_the_log(umask, tmp_path):
    folder = tmp_path / "request-log"
    running = Service(tmp_path, umask=umask)
    running.predict("loans", rows("loans", 1))
    until(lambda: len([*folder.glob("loans/*")]) == 3)
    assert modes(folder) == {
        "request-log": "700", "loans": "700", "sqlite": "600", "sqlite-wal": "600",
        "sqlite-shm": "600",
    }  # fmt: skip
    assert running.stop() == 0 and len(logged(running, "loans")) == 1


def test_what_others_could_read_in_a_log_they_no_longer_can(tmp_path, told):
    folder = tmp_path / "log"
    (folder / "c").mkdir(parents=True)
    for name in ("2026-03-10.sqlite", "2026-03-10.sqlite-wal", "notes.txt"):
        (folder / "c" / name).write_bytes(b"")
        (folder / "c" / name).chmod(0o644)
    open_log(folder, told, keep_days=10**6).close()
    expected = {"log": "700", "c": "700", "sqlite": "600", "sqlite-wal": "600", "txt": "644"}
    assert modes(folder) == expected
    # A folder that holds other things is left as it is.
    (folder / "other.txt").write_bytes(b"")
    folder.chmod(0o755)
    open_log(folder, told, keep_days=10**6).close()
    assert modes(folder) == expected | {"log": "755"} and told == {"lost": [], "events": []}


def test_logs_may_be_kept_for_ever(tmp_path, told):
    log = open_log(tmp_path, told, keep_days=10**12)
    log.add(entry())
    log.close()
    assert (tmp_path / "c" / "2026-03-10.sqlite").exists() and told["lost"] == []


def test_a_disk_that_hangs_costs_entries_and_no_memory(tmp_path, told, monkeypatch):
    """The writer is held inside SQLite, as by a dead network disk."""
    waiting, go_on = queue.Queue(), queue.Queue()

    def hang(*given):
        waiting.put(None)
        go_on.get()

    with monkeypatch.context() as patch:
        patch.setattr(RequestLog, "_write", hang)
        patch.setattr(request_log, "WAITING", 500_000)
        log = open_log(tmp_path, told)
        log.add(entry())
        waiting.get(timeout=10)
        for i in range(1000):
            log.add(entry(id=str(i), values=100))
        lost = len(told["lost"])
        assert 300 < lost < 700
        text = Entry("c", datetime.now(UTC), "r", "v", 1, None, {"x": ["y" * 10**6]}, {})
        for _ in range(50):
            log.add(text)
        assert len(told["lost"]) >= lost + 49  # a long text counts as what it is
        go_on.put(None)
    log.close()
    assert sqlite3.connect(tmp_path / "c" / "2026-03-10.sqlite").execute(
        "SELECT count(*) FROM requests"
    ).fetchone() == (1000 - lost,)


def test_an_entry_that_cannot_be_written_does_not_end_the_log(tmp_path, told):
    log = open_log(tmp_path, told)
    log.add(entry("c" * 300))  # no file system takes such a name
    time.sleep(0.3)
    log.add(entry())
    log.close()
    assert sum(told["lost"]) == 1
    assert [event for event, _ in told["events"]] == [
        "request log fails",
        "request log works again",
    ]
