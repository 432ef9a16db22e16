"""What one worker of ``truefit serve`` does, beside the servers that people use.

``make bench-serving`` writes ``serving.json`` beside this file. It needs wrk (Debian: wrk). Each
peer runs in an environment of its own under ``.bench/``, made from its list in ``peers/``, and
serves a plain scikit-learn pipeline that it fitted itself. Truefit serves a bundle of the same
estimator with the same settings, with everything on: checks, warnings, intervals, metrics, log of
requests and access log. All servers stand by at once and are loaded in turn, so that a busy machine
slows all of them; the figures to quote are medians, over the rounds, of the ratios in one round.
"""

import asyncio
import contextlib
import http.client
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from truefit import bundle, data_prep, export, params, training
from truefit.serving import create_app
from truefit.serving.app import Limits, Service
from truefit.serving.logs import say
from truefit.serving.metrics import Metrics
from truefit.serving.request_log import RequestLog
from truefit.serving.served import Served
from truefit.serving.store import Store

ROOT = Path(__file__).parents[1]
HERE = Path(__file__).parent
RESULT = Path(__file__).with_suffix(".json")
PEERS = HERE / "peers"
INSTALLED = ROOT / ".bench"
sys.path.insert(0, str(PEERS))
import fit  # noqa: E402

TABLE = ROOT / "data" / "raw" / "computers.csv"
CASE = "computers"
MODEL = "hist_gradient_boosting"  # of the layers and of the load
ROUNDS = 4
STARTS = 2  # of each server for each model
SECONDS = 2  # of load at a time
PATIENCE = 60  # seconds until a server must have answered
ONE_ROW = 100  # different rows that requests of one row ask for in turn
TOLERANCE = 1e-5  # relative, as at the export
CONNECTIONS = 16
LOADS = (1, 4, 16, 64)  # connections
CALLS = 2000  # of each layer
BUSY = 0.5  # processors at work for others, from which on ratios mislead

FLASK, OWN, V2 = "Flask", "Truefit", "Truefit, v2"
SYNC = "Flask, one thread"
GOALS = {
    "requests": {OWN: (">=", 50), V2: (">=", 40)},
    "latency": {OWN: ("<=", 3)},
    "rows": {OWN: (">=", 2.5)},
    "start": {OWN: ("<=", 1)},
    "memory": {OWN: ("<=", 120)},
}
LABELS = {
    "requests": f"one row, {CONNECTIONS} connections: requests per second, times Flask's",
    "latency": "one row, one connection: median latency, times a constant answer's",
    "rows": f"{fit.MANY_ROWS:,} rows in one request: rows per second, times Flask's",
    "start": "start to first answer, seconds",
    "memory": "memory of all its processes after the load, MB",
}


# --- How each of them is asked --------------------------------------------------------------------


def records(rows: pd.DataFrame) -> list[dict]:
    return rows.to_dict("records")


def tensors(rows: pd.DataFrame, **of_texts: Any) -> dict:
    """A request of the Open Inference Protocol: a tensor for each column."""
    inputs = []
    for name, values in rows.items():
        text = name in fit.CATEGORIES
        tensor = {"name": name, "shape": [len(rows), 1], "datatype": "BYTES" if text else "FP64"}
        inputs.append(tensor | {"data": values.tolist()} | (of_texts if text else {}))
    return {"inputs": inputs}


def named(answer: dict, output: str) -> list[float]:
    return next(o["data"] for o in answer["outputs"] if o["name"] == output)


class Api(NamedTuple):
    """One way to ask a server for predictions."""

    server: str
    path: str
    ask: Callable[[pd.DataFrame], Any]
    read: Callable[[Any], list[float]]
    constant: str  # the path of an answer that needs no work


APIS = {
    FLASK: Api(FLASK, "/predict", records, lambda a: a["predictions"], "/constant"),
    SYNC: Api(SYNC, "/predict", records, lambda a: a["predictions"], "/constant"),
    "MLflow": Api(
        "MLflow",
        "/invocations",
        lambda rows: {"dataframe_split": rows.to_dict("split", index=False)},
        lambda a: a["predictions"],
        "/ping",
    ),
    "MLServer": Api(
        "MLServer",
        "/v2/models/prices/infer",
        lambda rows: tensors(rows, parameters={"content_type": "str"}),
        lambda a: named(a, "predict"),
        "/v2/health/live",
    ),
    "BentoML": Api(
        "BentoML", "/predict", lambda rows: {"rows": records(rows)}, lambda a: a, "/livez"
    ),
    OWN: Api(
        OWN,
        f"/v1/cases/{CASE}/predict",
        records,
        lambda a: [p["prediction"] for p in a["predictions"]],
        "/health/live",
    ),
    V2: Api(
        OWN, f"/v2/models/{CASE}/infer", tensors, lambda a: named(a, "prediction"), "/health/live"
    ),
}
ASKED = {api.server: api for api in reversed(APIS.values())}  # the first one of each server


# --- How each of them is started ------------------------------------------------------------------


def ran(*command: Any, **more: Any) -> str:
    """What a command that must succeed prints."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **more)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def list_of(server: str) -> Path:
    """What a peer's environment holds."""
    return PEERS / f"{server.partition(',')[0].lower()}.txt"


def environment_of(server: str) -> Path:
    """The folder of commands of a peer's environment, which is made if its list has changed."""
    wanted = list_of(server)
    made = INSTALLED / wanted.stem
    stamp = made / wanted.name
    if not stamp.is_file() or stamp.read_bytes() != wanted.read_bytes():
        print(f"installing {server} …", flush=True)
        ran("uv", "venv", "--quiet", "--clear", "--python", sys.executable, made)
        python = ("--python", made / "bin" / "python", "--compile-bytecode")
        ran("uv", "pip", "install", "--quiet", *python, "--requirement", wanted)
        shutil.copy(wanted, stamp)
    return made / "bin"


def command_flask(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    # One worker with eight threads, as in the guides of those who run containers: with one thread,
    # which is quicker here, a health check waits for a prediction.
    serve, chosen = command_flask_sync(commands, folder, model, port)
    return [*serve, "--threads=8"], chosen


def command_flask_sync(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    serve = [commands / "gunicorn", f"--bind=127.0.0.1:{port}", "flask_app:app", "--workers=1"]
    return serve, {"MODEL": folder / f"{model}.joblib", "PYTHONPATH": PEERS}


def command_mlflow(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    saved = folder / model
    if not saved.exists():
        of_model = folder / f"{model}.joblib"
        ran(commands / "python", "-W", "ignore", PEERS / "save_mlflow.py", of_model, TABLE, saved)
    serve = [commands / "mlflow", "models", "serve", "--model-uri", saved, "--port", port]
    return [*serve, "--workers", 1, "--env-manager", "local"], {}


def command_mlserver(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    saved = folder / model
    saved.mkdir(exist_ok=True)
    shutil.copy(folder / f"{model}.joblib", saved / "model.joblib")
    settings = {
        "name": "prices",
        "implementation": "mlserver_sklearn.SKLearnModel",
        "parameters": {"uri": "./model.joblib", "content_type": "pd"},
    }
    (saved / "model-settings.json").write_text(json.dumps(settings), encoding="utf-8")
    ports = {"HTTP": port, "GRPC": free_port(), "METRICS": free_port()}
    # Its default hands each request to a second process; without that it answers sooner.
    chosen = {"MLSERVER_PARALLEL_WORKERS": 0, "MLSERVER_HOST": "127.0.0.1"}
    named = {f"MLSERVER_{name}_PORT": number for name, number in ports.items()}
    return [commands / "mlserver", "start", saved], chosen | named


def command_bentoml(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    serve = [commands / "bentoml", "serve", "bentoml_service:Prices", "--host", "127.0.0.1"]
    serve += ["--port", port, "--working-dir", PEERS]
    chosen = {"BENTOML_HOME": folder / "home", "BENTOML_DO_NOT_TRACK": "True"}
    return serve, chosen | {"MODEL": folder / f"{model}.joblib"}


def command_truefit(commands: Path, folder: Path, model: str, port: int) -> tuple[list, dict]:
    serve = [commands / "truefit", "serve", "--models", folder / model, "--port", port]
    return [*serve, "--log", folder / f"{model} log"], {}


COMMANDS = {
    FLASK: command_flask,
    SYNC: command_flask_sync,
    "MLflow": command_mlflow,
    "MLServer": command_mlserver,
    "BentoML": command_bentoml,
    OWN: command_truefit,
}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Server:
    """A server that runs, with the folder it may write to."""

    def __init__(self, name: str, commands: Path, folder: Path, model: str):
        self.port = free_port()
        command, chosen = COMMANDS[name](commands, folder, model, self.port)
        self._log = (folder / "log").open("ab")
        self._process = subprocess.Popen(
            [str(part) for part in command],
            cwd=folder,
            env={
                **os.environ,
                "PATH": f"{commands}:{os.environ['PATH']}",
                "HOME": str(folder),
                # Threads of OpenMP that wait for each other take more time than trees.
                "OMP_NUM_THREADS": "1",
                **{key: str(value) for key, value in chosen.items()},
            },
            stdout=self._log,
            stderr=self._log,
        )

    def ended(self) -> str | None:
        """The end of its log, if it is not running."""
        if self._process.poll() is None:
            return None
        return Path(self._log.name).read_text(encoding="utf-8", errors="replace")[-2000:]

    def post(self, path: str, body: bytes) -> bytes:
        """The body of a good answer.

        Raises
        ------
        OSError or http.client.HTTPException
            If there is no good answer.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with contextlib.closing(connection):
            return posted(connection, path, body)

    def processes(self) -> list[int]:
        """It and its descendants."""
        children: dict[int, list[int]] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has just ended
                fields = stat.read_text(encoding="utf-8").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
        found = [self._process.pid]
        for process in found:
            found += children.get(process, [])
        return found

    def memory(self) -> float:
        """MB of RSS; what processes share counts for each."""
        pages = 0
        for process in self.processes():
            pages += int(Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def processor_seconds(self) -> float:
        """Of all its processes, so far."""
        ticks = 0
        for process in self.processes():
            stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
            ticks += sum(map(int, stat.rpartition(")")[2].split()[11:13]))
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        for process in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._process.wait()
        self._log.close()


def posted(connection: http.client.HTTPConnection, path: str, body: bytes) -> bytes:
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    if answer.status != 200:
        raise http.client.HTTPException(f"{answer.status}: {content[:500]!r}")
    return content


def started(name: str, commands: Path, folder: Path, model: str, said: "Said") -> tuple:
    """A server, and the seconds from its start to its first answer, which must be right."""
    begin = time.perf_counter()
    server = Server(name, commands, folder, model)
    while time.perf_counter() - begin < PATIENCE:
        if log := server.ended():
            sys.exit(f"{name} did not start:\n{log}")
        try:
            answer = server.post(ASKED[name].path, said.bodies[name][0])
        except (OSError, http.client.HTTPException):
            time.sleep(0.005)
            continue
        seconds = time.perf_counter() - begin
        said.check(name, answer, 1)
        return server, seconds
    server.stop()
    sys.exit(f"{name} did not answer within {PATIENCE} seconds")


# --- The models -----------------------------------------------------------------------------------


class Said(NamedTuple):
    """What is asked of each API, and what a model answers to the first and to all of the rows."""

    bodies: dict[str, tuple[bytes, bytes]]
    truth: dict[str, np.ndarray]  # by server

    def check(self, api: str, answer: bytes, rows: int) -> None:
        found = np.array(APIS[api].read(json.loads(answer)), dtype=float).ravel()
        expected = self.truth[APIS[api].server][:rows]
        if found.shape != expected.shape or not np.allclose(found, expected, TOLERANCE, 0):
            sys.exit(f"{api} gives wrong answers: {found[:3]}…, not {expected[:3]}…")


def prepare_peer(commands: Path, folder: Path) -> dict[str, np.ndarray]:
    """Fit the models where they will be served; what they answer, by model."""
    ran(commands / "python", PEERS / "fit.py", TABLE, folder, env=one_thread())
    return {
        model: np.array(json.loads((folder / f"{model}.json").read_text(encoding="utf-8")))
        for model in fit.SETTINGS
    }


def prepare_truefit(folder: Path, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Write a bundle of each model; what the models answer before the export."""
    settings = params.load(ROOT / "params.yaml")
    # All nine columns, and nothing computed from them.
    plain = {"features": {}, "drop_columns": {}, "time": None, "production_from": None}
    case = settings.cases[CASE].model_copy(update=plain)
    schema = data_prep.infer_schema(table, case)
    verdict = {"headline": {"confidence": 0.95}, "passed": True, "checks": []}
    answers = {}
    for name, chosen in fit.SETTINGS.items():
        model = training.built(name, table, case, chosen, settings.training)
        model.fit(table.drop(columns=case.target), table[case.target])
        target = folder / name / CASE / "bundle"
        target.mkdir(parents=True)
        path = target / bundle.MODEL
        graph = export.to_onnx(model, CASE, precision="float32")  # as the pipeline ships them
        path.write_bytes(graph.SerializeToString(deterministic=True))
        content = export.manifest(
            model,
            schema,
            case,
            name=CASE,
            winner=name,
            metrics={},
            verdict=verdict,
            files={bundle.MODEL: path},
            interval={"confidence": 0.95, "kind": "factor", "width": 1.2},
            reference=export.reference(model, table, schema, case),
        )
        (target / bundle.MANIFEST).write_text(export.as_json(content), encoding="utf-8")
        answers[name] = model.predict(fit.rows_to_ask(table))
    return answers


def one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


# --- The measurements -----------------------------------------------------------------------------


def loaded(server: Server, path: str, bodies: Path | None, connections: int, seconds: int) -> dict:
    """What wrk saw: answers, seconds, and percentiles of the latency in microseconds."""
    out = ran(
        *("wrk", "--threads=1", f"--connections={connections}", f"--duration={seconds}s"),
        *(
            "--timeout=30s",
            f"--script={HERE / 'load.lua'}",
            f"http://127.0.0.1:{server.port}{path}",
        ),
        *([bodies] if bodies else []),
    )
    found = json.loads(out.splitlines()[-1])
    if found["failed"] or not found["answers"]:
        sys.exit(f"{path} failed under load: {found}")
    return found | {"rate": found["answers"] / found["seconds"]}


def rows_per_second(server: Server, path: str, body: bytes) -> float:
    """Of large requests, one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    with contextlib.closing(connection):
        posted(connection, path, body)
        begin, answers = time.perf_counter(), 0
        while (spent := time.perf_counter() - begin) < SECONDS:
            posted(connection, path, body)
            answers += 1
    return answers * fit.MANY_ROWS / spent


def measured(api: Api, server: Server, bodies: Path, many: bytes) -> dict[str, float]:
    """One turn of one API."""
    before = server.processor_seconds()
    busy = loaded(server, api.path, bodies, CONNECTIONS, SECONDS)
    spent = server.processor_seconds() - before
    alone = loaded(server, api.path, bodies, 1, SECONDS)
    constant = loaded(server, api.constant, None, 1, 1)
    return {
        "requests per second": busy["rate"],
        "processor time": spent / busy["answers"] * 1e6,
        "p50": alone["p50"],
        "p99": alone["p99"],
        "constant p50": constant["p50"],
        "rows per second": rows_per_second(server, api.path, many),
    }


def spread(values: list[float]) -> dict[str, float]:
    return {
        "median": short(statistics.median(values)),
        "least": short(min(values)),
        "most": short(max(values)),
    }


def short(value: float) -> float:
    """Three digits, which is more than the next run will repeat."""
    return float(f"{value:.3g}")


def summary(
    turns: list[dict[str, dict]], starts: dict[str, list], memory: dict[str, float]
) -> dict:
    """The table: for each API what was seen, and how it compares."""
    found = {}
    for name, api in APIS.items():
        mine = [turn[name] for turn in turns]
        flask = [turn[FLASK] for turn in turns]

        def against_flask(key: str, mine=mine, flask=flask) -> dict[str, float]:
            return spread([m[key] / f[key] for m, f in zip(mine, flask, strict=True)])

        seen = {key: short(statistics.median(m[key] for m in mine)) for key in mine[0]}
        found[name] = {
            "requests": against_flask("requests per second"),
            "latency": spread([m["p50"] / m["constant p50"] for m in mine]),
            "rows": against_flask("rows per second"),
            "start": spread(starts[api.server]),
            "memory": round(memory[api.server]),
            "requests per second": seen["requests per second"],
            "rows per second": seen["rows per second"],
            "processor time of one row, microseconds": seen["processor time"],
            "latency, microseconds": {k: seen[k] for k in ("p50", "p99", "constant p50")},
        }
    return found


@contextlib.contextmanager
def running(
    model: str, commands: dict[str, Path], folders: dict[str, Path], said: Said
) -> Iterator[tuple[dict[str, Server], dict[str, list[float]]]]:
    """All servers at once, and how long each took to start."""
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    servers: dict[str, Server] = {}
    try:
        for turn in range(STARTS):
            for name in COMMANDS:
                servers[name], took = started(name, commands[name], folders[name], model, said)
                seconds[name].append(took)
                if turn < STARTS - 1:
                    servers.pop(name).stop()
        yield servers, seconds
    finally:
        for server in servers.values():
            server.stop()


def compared(model: str, servers: dict[str, Server], said: Said, bodies: dict[str, Path]) -> list:
    """What each API did in each round."""
    for name, api in APIS.items():
        server = servers[api.server]
        said.check(name, server.post(api.path, said.bodies[name][1]), fit.MANY_ROWS)
    turns = []
    order = list(APIS.items())
    for number in range(ROUNDS):
        turn = {}
        for name, api in order:
            many = said.bodies[name][1]
            turn[name] = measured(api, servers[api.server], bodies[name], many)
        turns.append(turn)
        order = order[1:] + order[:1]
        print(f"{model}: round {number + 1} of {ROUNDS}", flush=True)
    return turns


def under_load(servers: dict[str, Server], bodies: dict[str, Path]) -> dict:
    """How long answers take when more and more clients ask at once."""
    found: dict[str, dict] = {FLASK: {}, OWN: {}}
    for connections in LOADS:
        for name, rows in found.items():
            seen = loaded(servers[name], APIS[name].path, bodies[name], connections, SECONDS)
            rows[connections] = {key: short(seen[key]) for key in ("p50", "p90", "p99", "rate")}
    return found


# --- What each layer costs ------------------------------------------------------------------------


def layers(folder: Path, table: pd.DataFrame, bodies: Path) -> dict[str, dict[str, float]]:
    """Microseconds for one row, from the model outwards to all but HTTP."""
    pipeline = fit.pipelines()[MODEL].fit(table.drop(columns=fit.TARGET), table[fit.TARGET])
    rows = fit.rows_to_ask(table)[:ONE_ROW]
    asked, frames = records(rows), [rows[i : i + 1] for i in range(ONE_ROW)]
    exported = bundle.Bundle(folder / MODEL / CASE / "bundle")
    columns = [{name: [value] for name, value in record.items()} for record in asked]
    session = bundle.open_session((exported.folder / bundle.MODEL).read_bytes())
    dtypes = {c.name: object if c.type == "text" else np.float32 for c in exported.inputs}
    feeds = [{n: np.array([one[n]], dtype) for n, dtype in dtypes.items()} for one in columns]
    singles = bodies.read_bytes().splitlines()
    with in_process(folder) as (served, app):
        calls = {
            "pandas: a record made a DataFrame": lambda i: pd.DataFrame([asked[i]]),
            "scikit-learn: predict for a DataFrame": lambda i: pipeline.predict(frames[i]),
            "ONNX Runtime: run": lambda i: session.run(["prediction"], feeds[i]),
            "bundle: score": lambda i: exported.score(columns[i]),
            "service: read, check, score, write": lambda i: answered(served, singles[i]),
            "service: all but HTTP": lambda i: asked_in_process(app, singles[i]),
        }
        return {name: asyncio.run(timed(call)) for name, call in calls.items()}


@contextlib.contextmanager
def in_process(folder: Path) -> Iterator[tuple[Served, Any]]:
    """The bundle as the service holds it, and the whole application, with all its logs."""
    with (folder / "stdout").open("w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
        metrics = Metrics()
        store = Store(folder / MODEL, say, lambda case: None)
        log = RequestLog(folder / "log in process", metrics.lost.inc, say)
        try:
            yield store.current[CASE], create_app(Service(store, metrics, Limits(), say, log))
        finally:
            log.close()


def answered(served: Served, body: bytes) -> bytes:
    columns, n, ids = served.records.read(body, 1)
    return msgspec.json.encode(served.predictions(served.answer(columns, n), ids, slice(0, n)))


async def asked_in_process(app: Any, body: bytes) -> None:
    """One request as a server for ASGI hands it on."""
    path = APIS[OWN].path
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
        ],
    }

    async def receive() -> dict:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict) -> None:
        assert message.get("status", 200) == 200

    await app(scope, receive, send)


async def timed(call: Callable[[int], Any]) -> dict[str, float]:
    """Percentiles of the wall time of a call, in microseconds."""
    spent = np.empty(CALLS)
    for i in range(-ONE_ROW, CALLS):  # the first ones warm up, and are overwritten
        begin = time.perf_counter_ns()
        found = call(i % ONE_ROW)
        if asyncio.iscoroutine(found):
            await found
        spent[i] = time.perf_counter_ns() - begin
    return {f"p{p}": short(float(np.percentile(spent, p)) / 1000) for p in (50, 99)}


def over_http(servers: dict[str, Server], bodies: dict[str, Path]) -> dict[str, dict[str, float]]:
    """The same row over one connection."""
    found = {}
    for name in (OWN, FLASK):
        api = APIS[name]
        for kind, path, body in (
            ("a constant answer", api.constant, None),
            ("a prediction", api.path, bodies[name]),
        ):
            seen = loaded(servers[name], path, body, 1, SECONDS)
            found[f"{name} over HTTP: {kind}"] = {p: short(seen[p]) for p in ("p50", "p99")}
    return found


# --- The result -----------------------------------------------------------------------------------


def show(model: str, found: dict[str, dict]) -> None:
    print(f"\n{model}\n{'':72}" + "".join(f"{name:>18}" for name in found) + "        goal")
    for key, label in LABELS.items():
        cells, goals = [], []
        for name, seen in found.items():
            value = seen[key]["median"] if isinstance(seen[key], dict) else seen[key]
            cells.append(f"{value:18.3g}")
            if name in GOALS[key]:
                how, goal = GOALS[key][name]
                met = value >= goal if how == ">=" else value <= goal
                goals.append(f"{how} {goal}{'' if met else ' missed'}")
        print(f"{label:72}{''.join(cells)}        {', '.join(goals)}")


def versions(server: str, commands: Path) -> dict[str, str]:
    """What runs in a peer's environment, as far as its list names it."""
    wanted = list_of(server).read_text(encoding="utf-8")
    names = [line for line in re.findall(r"^[\w-]+", wanted, re.M) if line != "joblib"]
    installed = ran("uv", "pip", "freeze", "--quiet", "--python", commands / "python")
    found = dict(line.split("==") for line in installed.splitlines() if "==" in line)
    return {name: found[name] for name in names}


def main() -> None:
    if not shutil.which("wrk"):
        sys.exit("wrk is missing, which makes the load; on Debian: apt-get install wrk")
    busy = os.getloadavg()[0]
    if busy > BUSY:
        print(f"others keep {busy:.1f} processors busy: run this again for figures to quote")
    table = pd.read_csv(TABLE)
    asked = fit.rows_to_ask(table)
    commands = {name: environment_of(name) for name in COMMANDS if name != OWN}
    commands[OWN] = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch, threadpool_limits(1):
        folders = {name: Path(scratch) / name.lower() for name in COMMANDS}
        truth = {}
        for name, folder in folders.items():
            folder.mkdir()
            made = prepare_truefit(folder, table) if name == OWN else None
            truth[name] = made or prepare_peer(commands[name], folder)
        bodies, lines = {}, {}
        for name, api in APIS.items():
            singles = [json.dumps(api.ask(asked[i : i + 1])).encode() for i in range(ONE_ROW)]
            bodies[name] = (singles[0], json.dumps(api.ask(asked)).encode())
            lines[name] = Path(scratch) / f"{name}.jsonl"
            lines[name].write_bytes(b"\n".join(singles) + b"\n")
        layer = layers(folders[OWN], table, lines[OWN])
        models = {}
        for model in fit.SETTINGS:
            said = Said(bodies, {name: found[model] for name, found in truth.items()})
            with running(model, commands, folders, said) as (servers, starts):
                turns = compared(model, servers, said, lines)
                memory = {name: server.memory() for name, server in servers.items()}
                if model == MODEL:
                    load = under_load(servers, lines)
                    http = over_http(servers, lines)
            models[model] = summary(turns, starts, memory)
            show(model, models[model])
    layer |= http
    for name, seen in layer.items():
        print(f"{name:44} {seen['p50']:8} µs, p99 {seen['p99']:8} µs")
    for name, seen in load.items():
        for connections, values in seen.items():
            print(f"{name:8} {connections:3} connections: {values}")
    result = {
        "command": "make bench-serving",
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "processors busy before": round(busy, 1),
        "rounds": ROUNDS,
        "starts": STARTS,
        "seconds of load": SECONDS,
        "versions": {n: versions(n, c) for n, c in commands.items() if n not in (OWN, SYNC)},
        "goals": {k: {n: " ".join(map(str, g)) for n, g in v.items()} for k, v in GOALS.items()},
        "settings": fit.SETTINGS,
        "models": models,
        "layers": {"model": MODEL, "unit": "microseconds"} | layer,
        "load": {"model": MODEL, "unit": "microseconds; answers per second"} | load,
    }
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
