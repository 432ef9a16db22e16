"""Many requests that nobody thought of: from the OpenAPI document, and from the manifests.

``TRUEFIT_FUZZ`` says how many; ``make fuzz-serving`` sends 100,000.
"""

import http.client
import json
import os
from collections.abc import Callable
from functools import cache
from math import isfinite

import psutil
import pytest
import service as running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_serving import CASES, INSIDE, MEMBERS, VALUES, allowed, bundle, columns

from truefit.bundle import LARGEST

schemathesis = pytest.importorskip("schemathesis")

QUICK = "TRUEFIT_FUZZ" not in os.environ
REQUESTS = 1000 if QUICK else int(os.environ["TRUEFIT_FUZZ"])
FROM_SCHEMA = 0.05  # of them; the rest, which are quicker to make, come from the manifests
GROWTH = 30_000_000  # bytes that the process may grow by after the first tenth
TOKENS = [*b'{}[]",:\\-+.eE0 19\x00\xff\xc3\n', *(b"NaN", b"null", b"true", b"1e999", b"\\ud800")]
TOKENS += [b'"speed":1,', b'"":', b"\\u0000", b"/**/", b"\xef\xbb\xbf", b"Infinity", b"[" * 2000]
JSON = {"content-type": "application/json"}


def repeat(n: int, check: Callable, **strategies) -> None:
    """Check n examples, some hundreds at a time, because Hypothesis remembers all of a run."""
    while n > 0:
        chosen = settings(
            max_examples=min(n, 500),
            deadline=None,
            database=None,
            derandomize=QUICK,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        chosen(given(**strategies)(check))()
        n -= 500


class Fuzzed:
    """Sends requests to a service, checks every answer, and watches its memory."""

    def __init__(self, service):
        self.service, self.process = service, psutil.Process(service.process.pid)
        self.connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
        self.statuses: dict[int, int] = {}
        self.sent, self.first = 0, 0

    def post(self, path: str, body: bytes) -> tuple[int, dict]:
        self.connection.request("POST", path, body, JSON)
        answer = self.connection.getresponse()
        return answer.status, self.check(answer.status, answer.headers, answer.read())

    def check(self, status: int, headers, content: bytes) -> dict:
        self.sent += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self.sent == max(200, REQUESTS // 10):
            self.first = self.process.memory_info().rss
        assert status < 500 or status == 503, content
        assert headers["x-request-id"]
        if status < 400:
            return json.loads(content) if headers["content-type"] == "application/json" else {}
        assert headers["content-type"] == "application/problem+json"
        problem = json.loads(content)
        assert problem.keys() <= MEMBERS and problem["status"] == status
        said = problem["detail"]  # which may quote a name or a path
        assert "not known" in said or "there is no" in said or not INSIDE.search(said)
        return problem

    def calm(self) -> None:
        """Nothing failed, nothing is left over, and the memory is what it was."""
        log = self.service.log.read_bytes()
        assert b'"event":"failed"' not in log and b"Traceback" not in log
        running.until(lambda: self.service.metric("truefit_requests_in_flight") == 1)
        assert self.service.metric("truefit_request_log_lost_total") == 0
        grown = self.process.memory_info().rss - self.first
        print(f"{self.sent} requests, {self.statuses}; grown by {grown / 1e6:.1f} MB")
        assert not self.first or grown < GROWTH


@pytest.fixture(scope="module")
def fuzzed(service):
    found = Fuzzed(service)
    yield found
    found.calm()


# From the OpenAPI document


def test_requests_from_the_openapi_document(service, fuzzed):
    schema = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    modes = schemathesis.GenerationMode
    operations = [found.ok() for found in schema.get_all_operations()]
    plans = [(o, modes.POSITIVE) for o in operations]
    plans += [(o, m) for o in operations for m in modes if o.body or list(o.path_parameters)]
    plans = sorted(set(plans), key=lambda plan: (plan[0].label, plan[1].value))
    each = max(1, int(REQUESTS * FROM_SCHEMA / sum(bool(o.body) for o, _ in plans)))
    for operation, mode in plans:
        ask_by_schema(fuzzed, operation, mode, each if operation.body else min(each, 20))


def ask_by_schema(fuzzed, operation, mode, n: int) -> None:
    right = mode == schemathesis.GenerationMode.POSITIVE

    def ask(case):
        answer = case.call()
        fuzzed.check(answer.status_code, _first(answer.headers), answer.content)
        assert str(answer.status_code) in operation.definition.raw["responses"]
        operation.validate_response(answer)
        if right and operation.path.startswith("/v1"):
            assert answer.status_code in {200, 403}, answer.text

    repeat(n, ask, case=operation.as_strategy(generation_mode=mode))


def _first(headers) -> dict:
    return {name: value if isinstance(value, str) else value[0] for name, value in headers.items()}


# From the manifests


@cache
def live(case: str) -> list[dict]:
    return running.rows(case, 70)


@st.composite
def bodies(draw, case: str) -> bytes:
    """Live rows with something wrong in them, or not."""
    n = draw(st.sampled_from([1, 1, 1, 2, 5, 70]))
    pairs = [[(json.dumps(k), json.dumps(v)) for k, v in row.items()] for row in live(case)[:n]]
    for _ in range(draw(st.sampled_from([0, 1, 1, 1, 2, 3]))):
        row = draw(st.sampled_from(pairs))
        at = draw(st.integers(0, len(row) - 1)) if row else 0
        kinds = ["fitting"] * 8 + ["value"] * 6 + ["id", "drop", "again", "more", "shuffle"]
        what = draw(st.sampled_from(kinds))
        if what in {"id", "more"} or not row:
            name = "pid" if what == "id" else draw(st.text(max_size=5))
            row.insert(at, (json.dumps(name), json.dumps(draw(VALUES))))
        elif what == "value":
            row[at] = (row[at][0], json.dumps(draw(VALUES)))
        elif what == "fitting":
            number = st.floats(-LARGEST, LARGEST) | st.integers(-(10**38), 10**38)
            value = draw(st.text() if row[at][1].startswith('"') else number)
            row[at] = (row[at][0], json.dumps(value, ensure_ascii=draw(st.booleans())))
        elif what == "drop":
            del row[at]
        elif what == "again":
            row.append(row[at])
        else:
            row.reverse()
    texts = ["{" + ",".join(f"{k}:{v}" for k, v in row) + "}" for row in pairs]
    body = (texts[0] if n == 1 else "[" + ",".join(texts) + "]").encode(errors="surrogatepass")
    if draw(st.integers(0, 3)) == 0:
        body = draw(scratched(body))
    return body


@st.composite
def scratched(draw, body: bytes) -> bytes:
    """A body with bytes put in, taken out, or replaced."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        token = draw(st.sampled_from(TOKENS))
        token = bytes([token]) if isinstance(token, int) else token
        body = body[:at] + token + body[at + draw(st.integers(0, 3)) :]
    return body


def read(case: str, body: bytes) -> list[dict] | None:
    """The records of a body, or None if it must be refused: said anew, with another parser."""

    def once(pairs: list) -> dict:
        if len(dict(pairs)) < len(pairs):
            raise ValueError
        return dict(pairs)

    def whole(text: str) -> float:
        return int(text) if len(text) < 4300 else float(text)

    try:
        text = body.decode()
        found = json.loads(
            text, object_pairs_hook=once, parse_int=whole, parse_constant=lambda _: 1 / 0
        )
        json.dumps(found, ensure_ascii=False).encode()  # not if a surrogate is alone
    except (ValueError, RecursionError, ZeroDivisionError):
        return None
    records = found if isinstance(found, list) else [found]
    inputs, id = bundle(case).inputs, bundle(case).manifest.id
    names = {column.name for column in inputs}
    for record in records:
        if not isinstance(record, dict) or record.keys() - {id} != names:
            return None
        name = record.get(id)
        if isinstance(name, bool | list | dict) or (isinstance(name, float) and not isfinite(name)):
            return None
        if not all(allowed(column, record[column.name]) for column in inputs):
            return None
    return records or None


@pytest.mark.parametrize("case", CASES)
def test_requests_from_the_manifests(fuzzed, case):
    each = int(REQUESTS * (1 - FROM_SCHEMA) / len(CASES) * 0.75)
    names = [column.name for column in bundle(case).inputs]

    def ask(body):
        status, said = fuzzed.post(f"/v1/cases/{case}/predict", body)
        records = read(case, body)
        assert (status == 200) == (records is not None), (said, body)
        if records:
            found = said["predictions"]
            rows = [{name: record[name] for name in names} for record in records]
            scores = bundle(case).score(columns(rows)).tolist()
            known = "probabilities" in found[0]
            told = [f["probabilities"]["bad"] if known else f["prediction"] for f in found]
            assert told == scores

    repeat(each, ask, body=bodies(case))


@st.composite
def tensors(draw, case: str) -> bytes:
    """An inference request with something wrong in it, or not."""
    n = draw(st.sampled_from([1, 2, 70]))
    rows = live(case)[:n]
    inputs = [
        {"name": c.name, "shape": [n, 1], "datatype": "FP64" if c.type == "number" else "BYTES",
         "data": [row[c.name] for row in rows]}
        for c in bundle(case).inputs
    ]  # fmt: skip
    for _ in range(draw(st.sampled_from([0, 1, 1, 2]))):
        tensor = draw(st.sampled_from(inputs))
        member = draw(st.sampled_from(["value", "value", "value", "datatype", "shape", "data"]))
        if member == "value" and isinstance(tensor["data"], list) and tensor["data"]:
            tensor["data"][draw(st.integers(0, len(tensor["data"]) - 1))] = draw(VALUES)
        elif member == "datatype":
            tensor["datatype"] = draw(st.sampled_from(["INT8", "UINT64", "BOOL", "FP16", "X"]))
        elif member != "value":
            tensor[member] = draw(st.lists(VALUES, max_size=3) | VALUES)
    body = json.dumps({"inputs": inputs}).encode()
    return draw(scratched(body)) if draw(st.integers(0, 3)) == 0 else body


@pytest.mark.parametrize("case", CASES)
def test_requests_of_the_inference_protocol(fuzzed, case):
    each = int(REQUESTS * (1 - FROM_SCHEMA) / len(CASES) * 0.25)

    def ask(body):
        status, said = fuzzed.post(f"/v2/models/{case}/infer", body)
        if status >= 400:
            assert said["error"] == said["detail"]
            return
        sent = {tensor["name"]: tensor["data"] for tensor in json.loads(body)["inputs"]}
        given = {
            name: [v[0] if isinstance(v, list) else v for v in values]
            for name, values in sent.items()
        }
        assert all(
            allowed(c, v) or isinstance(v, bool) for c in bundle(case).inputs
            for v in given[c.name]
        )  # fmt: skip
        found = {output["name"]: output["data"] for output in said["outputs"]}
        scores = bundle(case).score(given).tolist()
        assert found["probability" if case == "loans" else "prediction"] == scores

    repeat(each, ask, body=tensors(case))
