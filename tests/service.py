"""The real service in a process of its own, on bundles of quick models, with a client."""

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

import cases
import httpx

from truefit import export
from truefit.serving.metrics import FRESH

MODELS = {"homes": "ridge", "loans": "logistic", "machines": "hist_gradient_boosting"}
INTERVAL = {"confidence": 0.9, "kind": "factor", "width": 1.25}
COMMAND = [str(Path(sys.executable).with_name("truefit")), "serve"]


@cache
def models() -> Path:
    """A folder of bundles, one for each shipped case; not to be changed."""
    folder = Path(tempfile.mkdtemp(prefix="truefit-models-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, model in MODELS.items():
        write(folder, name, model)
    return folder


def write(folder: Path, name: str, model: str) -> None:
    """Export a model of a shipped case to where a service finds it."""
    case, fitted = cases.PARAMS.cases[name], cases.fitted(name, model)
    schema = cases.schema(name)
    said = {"name": name, "winner": model, "interval": INTERVAL if not case.positive else None}
    said["reference"] = export.reference(fitted, cases.held_out(name), schema, case)
    cases.write_bundle(folder / name / "bundle", fitted, case, schema, **said)


def copy_models(target: Path) -> Path:
    """A copy of the bundles to change."""
    return Path(shutil.copytree(models(), target / "models"))


def rows(name: str, n: int) -> list[dict]:
    """Live rows of a case, as a client sends them."""
    return [dict(row) for row in _rows(name)[:n]]


@cache
def _rows(name: str) -> list[dict]:
    inputs = [i["name"] for i in manifest(name)["inputs"]]
    frame = cases.live(name)[inputs].replace({"absent": None})
    return json.loads(frame.to_json(orient="records", double_precision=15))


@cache
def _manifest(name: str) -> bytes:
    return (models() / name / "bundle" / "manifest.json").read_bytes()


def manifest(name: str) -> dict:
    """Of a bundle in `models`."""
    return json.loads(_manifest(name))


class Service:
    """A running ``truefit serve``.

    Parameters
    ----------
    folder : Path
        For its log file, and for its request log unless the options say otherwise.
    options : str
        Of the command; ``--models`` is `models()` unless given.
    """

    def __init__(self, folder: Path, *options: object, models_folder: Path | None = None, **popen):
        self.folder = folder
        self.log = folder / "service.log"
        given = [*map(str, options)]
        if "--log" not in given and "--no-log" not in given:
            given += ["--log", str(folder / "request-log")]
        if "--drain" not in given:
            given += ["--drain", "0"]
        command = [*COMMAND, "--models", str(models_folder or models()), "--port", "0", *given]
        with self.log.open("wb") as out:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=out, stderr=subprocess.STDOUT, **popen
            )
        atexit.register(self.process.kill)  # if a test fails before it stops this
        self.port = self.wait_for("listening")["port"]
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def events(self, name: str | None = None) -> list[dict]:
        """What it has logged so far."""
        text = self.log.read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.split("\n") if line.startswith("{")]
        return [line for line in lines if name in (None, line["event"])]

    def wait_for(self, event: str, times: int = 1, seconds: float = 30) -> dict:
        """The event, as soon as it has been logged this often."""
        end = time.monotonic() + seconds
        while len(found := self.events(event)) < times:
            ended = getattr(self, "process", None) is not None and self.process.poll() is not None
            if time.monotonic() > end or (ended and len(self.events(event)) < times):
                raise AssertionError(f"no {event!r} in:\n{self.log.read_text(encoding='utf-8')}")
            time.sleep(0.02)
        return found[times - 1]

    def predict(self, case: str, records: object, **more) -> httpx.Response:
        """Ask for predictions."""
        return self.client.post(f"/v1/cases/{case}/predict", json=records, **more)

    def post(self, path: str, body: bytes, **headers: str) -> httpx.Response:
        """Send any bytes."""
        headers = {"content-type": "application/json"} | headers
        return self.client.post(path, content=body, headers=headers)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over the label sets that have these labels."""
        from prometheus_client.parser import text_string_to_metric_families

        time.sleep(FRESH)  # what was written for another may be as old
        total = 0.0
        for family in text_string_to_metric_families(self.client.get("/metrics").text):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    total += sample.value
        return total

    def stop(self, sign: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.client.close()
        if self.process.poll() is None:
            os.kill(self.process.pid, sign)
        return self.process.wait(timeout=30)


def until(happened, seconds: float = 10) -> None:
    """Wait for what a service does in its own time."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def errors(document: dict, schema: dict, value: object) -> list[str]:
    """What a value is against a schema of an OpenAPI document."""
    import jsonschema
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    resource = DRAFT202012.create_resource(document)
    registry = Registry().with_resource("urn:document", resource)
    absolute = json.loads(json.dumps(schema).replace('"#/', '"urn:document#/'))
    found = jsonschema.Draft202012Validator(absolute, registry=registry).iter_errors(value)
    return [error.message for error in found]
