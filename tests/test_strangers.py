"""What a stranger may try on a service, and does not get."""

import http.client
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psutil
import pytest
import service as running
from cases import ROOT
from conftest import run_truefit
from hypothesis import example, given
from hypothesis import strategies as st
from service import Service, copy_models, rows
from test_operations import change_manifest
from test_serving import bundle, often, outcome, predicted, refused, talk, typical, written
from test_v2 import infer, outputs, request

from truefit.serving import keys
from truefit.serving.limits import Size, check_values
from truefit.serving.problems import Problem

CASE = "machines"
PATH = f"/v1/cases/{CASE}/predict"
MB = 1_000_000


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A service with bodies and answers of a megabyte at most."""
    started = Service(
        tmp_path_factory.mktemp("small"), "--no-log", "--max-body", 1, "--max-rows", 5000
    )
    yield started
    started.stop()


# Answers that are larger than what was sent


def test_an_output_is_asked_for_once(service):
    wanted = [{"name": "low"}, {"name": "prediction"}]
    content = request(CASE, [typical(CASE)], outputs=wanted)
    assert list(outputs(infer(service, CASE, content))) == ["low", "prediction"]
    for repeated in (wanted + wanted, wanted * 5000):
        answer = infer(service, CASE, content | {"outputs": repeated})
        refused(answer, 422, "the output low is asked for twice; ask for it once")


def test_no_answer_is_larger_than_a_body_may_be(small):
    """A value of four bytes brings a warning of a hundred."""
    odd = {column.name: 9e9 for column in bundle(CASE).inputs if column.type == "number"}
    record = written(typical(CASE) | odd).replace(" ", "")
    body = f"[{','.join([record] * 5000)}]"
    assert len(body) < MB
    said = "the answer would be larger than 1,000,000 bytes; send fewer rows at a time"
    refused(outcome(small, CASE, body), 413, said)
    found = predicted(outcome(small, CASE, f"[{','.join([record] * 1000)}]"))
    assert [len(one["warnings"]) for one in found] == [len(odd)] * 1000
    # This protocol has no warnings, so its answer is small.
    answer = infer(small, CASE, request(CASE, [typical(CASE) | odd] * 5000))
    assert len(outputs(answer)["prediction"]) == 5000


@often
@given(st.lists(st.text(max_size=30), max_size=30), st.integers(0, 400))
@example(["ab"] * 3, 14)
def test_an_answer_is_written_to_its_limit_and_no_further(values, most):
    written = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    if len(written.encode()) > most and values:
        with pytest.raises(Problem, match="send fewer rows"):
            Size(most).listed(values.__getitem__, len(values))
    else:
        found = Size(most).listed(values.__getitem__, len(values))
        assert json.loads(bytes(found)) == values


@pytest.mark.parametrize(
    "body",
    [b"[" + b"[],"*300_000, b'{"speed": NaN, "x": [' + b"{},"*300_000,
     b'{"inputs": [], "parameters": {"x": [' + b"1,"*450_000,
     b'{"inputs": [{"shape": [' + b"1,"*450_000],
)  # fmt: skip
def test_a_body_that_would_grow_in_memory_is_not_parsed(small, body):
    """Whatever it is said to be: a few bytes of JSON may be a hundred once they are read."""
    for path in (PATH, f"/v2/models/{CASE}/infer", f"/v1/cases/{CASE}/explain"):
        problem = refused(small.post(path, body), 413)
        assert "more commas and brackets than 5,000 rows" in problem["detail"]


@often
@given(st.integers(1, 30), st.integers(1, 30), st.booleans(), st.text("a,[{", max_size=35))
def test_the_rows_of_a_request_are_never_too_many_values(rows, columns, nested, text):
    """As the own API has them, and as the inference protocol does, with some commas in texts."""
    record = {f"c{i}": None for i in range(columns)} | {"text": text}
    check_values(json.dumps([record] * rows).encode(), rows, columns + 1)
    data = [[text]] * rows if nested else [text] * rows
    tensor = {"name": "c", "shape": [rows, 1], "datatype": "BYTES", "data": data, "parameters": {}}
    check_values(
        json.dumps(
            {
                "inputs": [tensor] + [tensor | {"data": [[1]] * rows}] * columns,
                "outputs": [{"name": "prediction"}],
            }
        ).encode(),
        rows,
        columns + 1,
    )


# What needs no key


OPEN = ["/", "/docs", "/openapi.json", "/metrics", "/page.css", "/page.js", "/comparison"]
HEALTH = ["/health/live", "/health/ready"]


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A service that wants a key for predictions alone, and one that does for all; the key."""
    folder = tmp_path_factory.mktemp("locked")
    key, found = keys.make("reader", folder / "keys"), {}
    for name, more in (("keys", ()), ("private", ("--private",))):
        options = ("--no-log", "--keys", folder / "keys", *more)
        found[name] = Service(tmp_path_factory.mktemp(name), *options)
    yield found, {"authorization": f"Bearer {key}"}
    for service in found.values():
        service.stop()


def test_a_private_service_tells_a_stranger_its_health_alone(locked):
    services, key = locked
    private, half_open = services["private"].client, services["keys"].client
    for path in (*OPEN, "/v2/health/live", "/nothing", "/v1/cases", "/v2"):
        assert private.get(path).status_code == 401
        assert private.post(path).status_code == 401
        status = 404 if path == "/nothing" else 200
        assert private.get(path, headers=key).status_code == status
    for path in HEALTH:
        assert private.get(path).status_code == 200
    for path in (*OPEN, *HEALTH):
        assert half_open.get(path).status_code == 200


def test_a_private_service_describes_itself_so(locked):
    services, key = locked
    document = services["private"].client.get("/openapi.json", headers=key).json()
    for path, methods in document["paths"].items():
        for said in methods.values():
            assert ("security" in said) == (path not in HEALTH)
    assert "All but `/health/live`" in document["info"]["description"]


def test_only_a_service_with_keys_is_private(tmp_path):
    done = run_truefit("serve", "--models", running.models(), "--private", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("truefit: --private lets in only who has a key; name their file")


def test_documents_follow_the_bundles_they_describe(tmp_path):
    """They are written once for each set of versions."""
    folder = copy_models(tmp_path)
    service = Service(tmp_path, "--no-log", "--watch", 0.05, models_folder=folder)
    paths = ("/openapi.json", "/docs")
    before = [service.client.get(path).text for path in paths]
    assert [service.client.get(path).text for path in paths] == before
    change_manifest(folder / CASE / "bundle", title="A new title")
    service.wait_for("bundle loaded")
    for path in paths:
        assert "A new title" in service.client.get(path).text
    service.stop()


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/metrics"])
def test_who_has_no_key_does_not_take_the_time_of_those_who_have(path, locked):
    """A document costs the service no more than four health checks; it did fifty and more."""
    service = locked[0]["keys"]
    process = psutil.Process(service.process.pid)

    def cost(path: str, n: int = 60) -> float:
        before = process.cpu_times()
        with closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
            for _ in range(n):
                connection.request("GET", path)
                connection.getresponse().read()
        after = process.cpu_times()
        return after.user - before.user + after.system - before.system

    cost(path, 1)
    assert cost(path) < 0.1 + 4 * cost("/health/live")


# Whose page asks, and by which name


FOREIGN = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.org",
           "127.0.0.1@evil.example", "evil.localhost", "", "a b", "127.1", "[::1"]  # fmt: skip
OWN = ["localhost", "LOCALHOST:80", "localhost.", "127.0.0.1", "127.0.0.1:8000", "10.0.0.7:8000",
       "[::1]", "[::1]:8000", "[2001:db8::7]"]  # fmt: skip


@pytest.mark.parametrize("host", FOREIGN)
def test_a_request_to_another_name_is_refused(service, host):
    """As it comes from a page that gave the service's address to a name of its own."""
    for path in ("/", "/metrics", "/health/live", "/v1/cases", "/nothing"):
        said = talk(
            service, f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode()
        )
        assert said.startswith(b"HTTP/1.1 421 ")
    refused(
        service.predict(CASE, typical(CASE), headers={"host": host}), 421, "does not go by the name"
    )


@pytest.mark.parametrize("host", OWN)
def test_addresses_and_localhost_are_always_names_of_it(service, host):
    assert predicted(service.predict(CASE, typical(CASE), headers={"host": host}))


def test_who_sends_no_host_is_no_browser(service):
    said = talk(service, b"GET /health/ready HTTP/1.0\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")


def test_a_service_goes_by_the_names_it_is_given(tmp_path):
    names = ("model.example.com", ".Cluster.local")
    given = [part for name in names for part in ("--host-name", name)]
    service = Service(tmp_path, "--no-log", *given)
    for host, status in {
        "model.example.com": 200, "MODEL.example.com:443": 200, "a.model.example.com": 421,
        "truefit.ns.svc.cluster.local": 200, "cluster.local": 421, "localhost": 200,
        "evilcluster.local": 421,
    }.items():  # fmt: skip
        answer = service.client.get("/v1/cases", headers={"host": host})
        assert answer.status_code == status, host
    service.stop()


@pytest.mark.parametrize("name", ["http://a.example", "a.example:80", "a b", "", "*", "*.example"])
def test_a_name_that_is_none_is_one_sentence(name, tmp_path):
    done = run_truefit("serve", "--models", running.models(), "--host-name", name, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"truefit: --host-name {name}: that is no name of a host" in done.stderr


@pytest.mark.parametrize("path", [PATH, f"/v1/cases/{CASE}/explain", f"/v2/models/{CASE}/infer"])
def test_a_page_of_another_site_leaves_no_row_in_the_log(path, service):
    """What browsers let a page send without asking first."""
    body = json.dumps(request(CASE, [typical(CASE)]) if "v2" in path else typical(CASE)).encode()
    right = {"content-type": "application/json"}
    rows_before = service.metric("truefit_rows_total", case=CASE)
    for status, headers in [
        (403, right | {"sec-fetch-site": "cross-site"}),
        (403, right | {"sec-fetch-site": "same-site"}),
        (403, {"sec-fetch-site": "cross-site", "origin": "http://evil.example"}),
        (415, {"content-type": "text/plain", "origin": "http://evil.example"}),
        (415, {"content-type": "text/plain;application/json"}),
        (415, {"content-type": "multipart/form-data; boundary=x"}),
        (415, {"origin": "null"}),  # a Blob without a type
        (415, {"sec-fetch-site": "none"}),
    ]:
        refused(service.client.post(path, content=body, headers=headers), status)
    assert service.metric("truefit_rows_total", case=CASE) == rows_before
    own = right | {"sec-fetch-site": "same-origin", "origin": service.url}
    assert service.client.post(path, content=body, headers=own).status_code == 200
    # Clients of the inference protocol send no type, and are no browsers.
    status = 200 if "v2" in path else 415
    assert service.client.post(path, content=body).status_code == status


def test_a_link_from_another_site_may_be_followed(service):
    for path in ("/", "/docs"):
        assert service.client.get(path, headers={"sec-fetch-site": "cross-site"}).is_success


# Memory


def peak(service: Service) -> float:
    """The most memory that a service ever had, in megabytes."""
    status = Path(f"/proc/{service.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / MB


def resources(file: str) -> str:
    return (ROOT / "deploy" / file).read_text(encoding="utf-8")


def test_the_largest_requests_at_once_stay_far_below_what_a_container_may_have(tmp_path):
    """As many rows as a request may have, in as many bytes, eight times at once."""
    if sys.platform != "linux":
        pytest.skip("the peak of a process is read from /proc")
    service = Service(tmp_path, "--timeout", 60)
    record = rows("homes", 1)[0]
    many = json.dumps([record] * 10_000).encode()
    body = many + b" " * (31 * MB - len(many))
    assert len(predicted(outcome(service, "homes", body))) == 10_000
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: outcome(service, "homes", body), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert peak(service) < 350, peak(service)
    service.stop()
    limit = 512 * 1024 * 1024 / MB
    assert "memory: 512Mi" in resources("kubernetes/base/deployment/deployment.yaml")
    assert "memory: 512M" in resources("compose.yaml") and limit > 350 * 1.4
