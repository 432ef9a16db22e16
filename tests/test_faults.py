"""Whatever happens to the service, its files or its clients, no answer is wrong."""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from service import COMMAND, MODELS, Service, copy_models, models, rows, until, write
from test_operations import BAD_BUNDLES, change_manifest, logged

from truefit.bundle import Bundle
from truefit.serving import keys

CASE, OTHER = "machines", "ridge"  # the case whose bundle is changed, and its other model
N = 40  # different rows that a load sends
QUICK = ("--watch", "0.05")
PAUSE = 0.003  # seconds between an answer and the next request of a client


@cache
def other_models(tmp: Path) -> Path:
    """A folder with another bundle of the case."""
    write(tmp, CASE, OTHER)
    return tmp


@pytest.fixture
def other(tmp_path_factory) -> Path:
    """A folder with another bundle of the case; not to be changed."""
    return other_models(tmp_path_factory.getbasetemp() / "other") / CASE / "bundle"


def expected(folder: Path) -> dict[str, list[float]]:
    """What a bundle says to each row, by its version: computed here, not by the service."""
    bundle = Bundle(folder)
    columns = bundle.inputs
    return {
        bundle.version: [
            bundle.score({c.name: [row[c.name]] for c in columns}).item() for row in rows(CASE, N)
        ]
    }


class Load:
    """Clients on connections of their own, which ask again and again and check each answer.

    Parameters
    ----------
    service : Service
    *folders : Path
        Bundles that may answer; each answer names its own.
    """

    def __init__(
        self, service: Service, *folders: Path, clients: int = 4, name: str = "", key: str = ""
    ):
        self.service, self.name, self.key = service, name, key
        self.expected = {v: s for f in folders for v, s in expected(f).items()}
        self.answered: dict[str, str] = {}  # version by request id
        self.unanswered: set[str] = set()
        self.wrong: list = []
        self._bodies = [json.dumps([row]).encode() for row in rows(CASE, N)]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(i,)) for i in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        try:
            self.wait(50)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait(self, more: int) -> None:
        """Until so many more requests are answered."""
        end, deadline = len(self.answered) + more, time.monotonic() + 30
        while len(self.answered) < end:
            assert not self.wrong and time.monotonic() < deadline, self.wrong
            time.sleep(0.01)

    def wait_for_version(self, version: str) -> None:
        """Until it is this one that answers."""
        deadline = time.monotonic() + 30
        while True:
            self.wait(1)
            if next(reversed(self.answered.values())) == version:
                return
            assert time.monotonic() < deadline, "the other bundle goes on answering"

    def _ask(self, client: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        for i in itertools.count():
            if self._stop.wait(PAUSE):
                break
            id, row = f"{self.name}{client}-{i}", (i + client) % N
            headers = {"authorization": f"Bearer {self.key}", "x-request-id": id}
            headers["content-type"] = "application/json"
            try:
                path = f"/v1/cases/{CASE}/predict"
                connection.request("POST", path, self._bodies[row], headers)
                answer = connection.getresponse()
                content = answer.read()
            except ConnectionRefusedError:
                self.unanswered.add(id)
                break
            except (OSError, http.client.HTTPException):
                self.unanswered.add(id)
                connection.close()
                continue
            self._check(id, row, answer.status, content)
        connection.close()

    def _check(self, id: str, row: int, status: int, content: bytes) -> None:
        said = json.loads(content)
        right = status == 200 and said["request_id"] == id and said["version"] in self.expected
        if right and said["predictions"][0]["prediction"] == self.expected[said["version"]][row]:
            self.answered[id] = said["version"]
        else:
            self.wrong.append((id, status, content[:300]))


def bundle_of(folder: Path) -> Path:
    return folder / CASE / "bundle"


# Ending


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_ending_under_load_loses_no_answer(sign, tmp_path):
    running = Service(tmp_path, "--drain", "0.5")
    with Load(running, bundle_of(models())) as load:
        load.wait(300)
        os.kill(running.process.pid, sign)
        running.wait_for("stopping")
        assert running.client.get("/health/ready").status_code == 503
        assert running.process.wait(15) == 0
    assert load.wrong == []
    found = [row["request_id"] for row in logged(running, CASE)]
    assert len(found) > 300 and sorted(found) == sorted(load.answered)
    assert "Traceback" not in running.log.read_text(encoding="utf-8")


def test_what_is_in_flight_is_finished(tmp_path):
    running = Service(tmp_path, "--drain", "0")
    many = rows(CASE, 50) * 10
    with socket.create_connection(("127.0.0.1", running.port)) as raw:
        body = json.dumps(many).encode()
        raw.sendall(post("/v1/cases/machines/predict", body)[:-1])
        time.sleep(0.2)
        os.kill(running.process.pid, signal.SIGTERM)
        running.wait_for("stopping")
        time.sleep(0.3)
        raw.sendall(body[-1:])
        status, said = answer_of(raw)
        assert status == 200 and len(said["predictions"]) == len(many)
    assert running.process.wait(15) == 0
    assert len(logged(running, CASE)) == len(many)


def test_a_killed_service_comes_back_to_a_whole_request_log(tmp_path):
    running = Service(tmp_path)
    with Load(running, bundle_of(models()), name="first") as first:
        first.wait(200)
        old = set(first.answered)
        time.sleep(0.6)  # entries are written within a fraction of it
        running.process.kill()
        running.process.wait()
    again = Service(tmp_path, "--port", running.port)
    with Load(again, bundle_of(models()), name="second") as second:
        second.wait(100)
    assert (again.port, again.stop()) == (running.port, 0)
    assert first.wrong == second.wrong == [] and second.unanswered == set()
    found = [row["request_id"] for row in logged(again, CASE)]
    assert old | second.answered.keys() <= set(found)
    assert len(found) == len(set(found))
    assert set(found) <= first.answered.keys() | first.unanswered | second.answered.keys()


# New bundles


def put_slowly(source: Path, target: Path) -> None:
    """Byte by byte over the old ones, as a copy over a slow network would come."""
    for name in ("model.onnx", "manifest.json"):
        content = (source / name).read_bytes()
        step = len(content) // 20 + 1
        with (target / name).open("wb") as file:
            for first in range(0, len(content), step):
                file.write(content[first : first + step])
                file.flush()
                time.sleep(0.02)


def put_by_renaming_files(source: Path, target: Path) -> None:
    for name in ("model.onnx", "manifest.json"):
        shutil.copy(source / name, target / f".{name}")
        os.replace(target / f".{name}", target / name)


def put_by_renaming_the_folder(source: Path, target: Path) -> None:
    case = target.parent
    shutil.copytree(source, case.with_name(f".{CASE}-new") / "bundle")
    case.rename(case.with_name(f".{CASE}-old"))
    case.with_name(f".{CASE}-new").rename(case)


def link(target: Path, name: Path) -> None:
    """In one step, as Kubernetes does."""
    new = name.with_name(f".{name.name}-new")
    new.symlink_to(target)
    os.replace(new, name)


def put_as_kubernetes(source: Path, target: Path) -> None:
    """The case's folder is a link through ..data, which alone is changed."""
    case = target.parent
    shutil.copytree(source, case.with_name("..2") / CASE / "bundle")
    link(Path("..2"), case.with_name("..data"))


def as_a_volume(folder: Path) -> None:
    """Lay a folder of models out as Kubernetes does."""
    (folder / "..1").mkdir()
    for case in MODELS:
        (folder / case).rename(folder / "..1" / case)
        (folder / case).symlink_to(Path("..data", case))
    link(Path("..1"), folder / "..data")


PUTS = [put_slowly, put_by_renaming_files, put_by_renaming_the_folder, put_as_kubernetes]


@pytest.mark.parametrize("put", PUTS)
def test_a_new_bundle_is_swapped_in_under_load(put, tmp_path, other):
    folder = copy_models(tmp_path)
    if put is put_as_kubernetes:
        as_a_volume(folder)
    running = Service(tmp_path, *QUICK, models_folder=folder)
    with Load(running, bundle_of(models()), other) as load:
        before = Bundle(bundle_of(models())).version
        assert set(load.answered.values()) == {before}
        put(other, folder / CASE / "bundle")
        loaded = running.wait_for("bundle loaded")
        assert (loaded["case"], loaded["before"]) == (CASE, before)
        load.wait_for_version(loaded["version"])
        load.wait(100)
    assert load.wrong == [] and load.unanswered == set()
    assert set(list(load.answered.values())[-100:]) == {loaded["version"]}
    assert running.metric("truefit_model_info", case=CASE, version=loaded["version"]) == 1
    assert running.metric("truefit_model_info", case=CASE) == 1
    if put is not put_slowly:
        assert running.metric("truefit_bundles_refused_total") == 0
    described = running.client.get(f"/v1/cases/{CASE}").json()
    assert (described["previous"], described["model"]) == (before, OTHER)
    running.stop()
    assert {r["request_id"]: r["version"] for r in logged(running, CASE)} == load.answered


def test_the_folder_of_models_may_be_a_link(tmp_path, other):
    one, two = copy_models(tmp_path / "1"), copy_models(tmp_path / "2")
    shutil.copytree(other, bundle_of(two), dirs_exist_ok=True)
    link(one, tmp_path / "current")
    running = Service(tmp_path, *QUICK, models_folder=tmp_path / "current")
    link(two, tmp_path / "current")
    assert running.wait_for("bundle loaded")["version"] == Bundle(other).version
    assert running.predict("loans", rows("loans", 1)).status_code == 200
    running.stop()


def test_a_corrupt_bundle_is_refused_and_the_old_one_goes_on(tmp_path, other):
    folder = copy_models(tmp_path)
    running, target = Service(tmp_path, *QUICK, models_folder=folder), bundle_of(folder)
    faults = {k: v for k, v in BAD_BUNDLES.items() if k != "half a manifest"}
    with Load(running, bundle_of(models()), other) as load:
        before = Bundle(target).version
        for times, (damage, said) in enumerate(faults.values(), 1):
            shutil.rmtree(target)
            shutil.copytree(other, tmp_path / "new")
            damage(tmp_path / "new")
            (tmp_path / "new").rename(target)
            event = running.wait_for("bundle refused", times)
            assert said in event["reason"] and event["level"] == "error"
            assert (event["case"], event["version"]) == (CASE, before)
        time.sleep(0.3)  # several looks more
        assert len(running.events("bundle refused")) == len(faults)
        assert running.metric("truefit_bundles_refused_total", case=CASE) == len(faults)
        assert running.metric("truefit_bundles_refused_total") == len(faults)
        load.wait(100)
        assert set(load.answered.values()) == {before}
        shutil.rmtree(target)
        shutil.copytree(other, target)
        load.wait_for_version(running.wait_for("bundle loaded")["version"])
    assert load.wrong == [] and load.unanswered == set()
    assert "Traceback" not in running.log.read_text(encoding="utf-8")
    running.stop()


def test_a_bundle_that_is_mended_in_place_is_taken(tmp_path, other):
    """By a copy that keeps the time of each file, as rsync does; the sizes are the same, too."""
    folder = copy_models(tmp_path)
    running, target = Service(tmp_path, *QUICK, models_folder=folder), bundle_of(folder)
    put_by_renaming_files(other, target)
    running.wait_for("bundle loaded")
    good = (target / "model.onnx").read_bytes()
    for times, content in enumerate((bytes(len(good)), good), 1):
        (target / "model.onnx").write_bytes(content)
        os.utime(target / "model.onnx", ns=(10**18, 10**18))
        change_manifest(target, title="Another")
        os.utime(target / "manifest.json", ns=(10**18, 10**18))
        running.wait_for(("bundle refused", "bundle loaded")[times - 1], times)
    running.stop()


def test_cases_come_and_stay(tmp_path):
    folder = copy_models(tmp_path)
    (folder / "loans").rename(tmp_path / "loans")
    running = Service(tmp_path, *QUICK, models_folder=folder)
    assert running.predict("loans", rows("loans", 1)).status_code == 404
    (folder / "loans").mkdir()  # the folder first, its files later
    time.sleep(0.3)
    shutil.copytree(tmp_path / "loans" / "bundle", folder / "loans" / "bundle")
    assert running.wait_for("bundle loaded")["case"] == "loans"
    assert running.predict("loans", rows("loans", 1)).status_code == 200
    assert {c["case"] for c in running.client.get("/v1/cases").json()["cases"]} == set(MODELS)
    assert running.metric("truefit_bundles_refused_total", case="loans") == 0
    shutil.rmtree(folder)
    time.sleep(0.5)
    for name in MODELS:
        assert running.predict(name, rows(name, 1)).status_code == 200
    assert running.client.get("/health/ready").status_code == 200
    running.stop()


def test_rolling_back_and_forth_under_load(tmp_path, other):
    folder = copy_models(tmp_path)
    key = keys.make("operator", tmp_path / "keys")
    running = Service(tmp_path, *QUICK, "--keys", tmp_path / "keys", models_folder=folder)
    running.client.headers["authorization"] = f"Bearer {key}"

    def roll_back(case: str = CASE):
        return running.client.post(f"/v1/cases/{case}/rollback")

    first, second = Bundle(bundle_of(folder)).version, Bundle(other).version
    assert roll_back().status_code == 409 and roll_back("nothing").status_code == 404
    put_by_renaming_files(other, bundle_of(folder))
    running.wait_for("bundle loaded")
    with Load(running, bundle_of(models()), other, key=key) as load:
        for version in [first, second] * 4:
            answer = roll_back()
            assert (answer.status_code, answer.json()) == (200, {"case": CASE, "version": version})
            assert running.predict(CASE, rows(CASE, 1)).json()["version"] == version
        assert roll_back().json()["version"] == first
        time.sleep(0.3)  # several looks: the files are still those of the second
        load.wait(100)
    assert load.wrong == [] and load.unanswered == set()
    assert set(load.answered.values()) == {first, second}
    described = running.client.get(f"/v1/cases/{CASE}").json()
    assert (described["version"], described["previous"]) == (first, second)
    assert running.metric("truefit_model_info", case=CASE, version=first) == 1
    put_by_renaming_files(other, bundle_of(folder))  # the same once more is nothing new
    assert running.wait_for("bundle stays rolled back")["version"] == second
    assert running.predict(CASE, rows(CASE, 1)).json()["version"] == first
    change_manifest(bundle_of(folder), title="Another try")
    third = running.wait_for("bundle loaded", 2)
    assert third["before"] == first and third["version"] not in (first, second)
    assert len(running.events("bundle rolled back")) == 9
    put_by_renaming_files(other, bundle_of(folder))  # now it is
    assert running.wait_for("bundle loaded", 3)["version"] == second
    running.stop()


def test_nobody_rolls_back_a_service_without_keys(tmp_path, other):
    folder = copy_models(tmp_path)
    running = Service(tmp_path, *QUICK, models_folder=folder)
    put_by_renaming_files(other, bundle_of(folder))
    loaded = running.wait_for("bundle loaded")
    assert running.client.post(f"/v1/cases/{CASE}/rollback").status_code == 403
    assert running.predict(CASE, rows(CASE, 1)).json()["version"] == loaded["version"]
    running.stop()


# The disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of a few hundred kilobytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", folder]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only who may mount a file system can fill one")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def lost(running: Service) -> float:
    return running.metric("truefit_request_log_lost_total")


def test_a_full_disk_costs_log_entries_and_no_prediction(tmp_path, small_disk):
    running = Service(tmp_path, "--log", small_disk)
    statuses, sent = set(), rows("homes", 20)

    def ask() -> bool:
        statuses.add(running.predict("homes", sent).status_code)
        return lost(running) > 20

    until(ask)
    assert statuses == {200}
    (failed,) = running.events("request log fails")
    assert failed["level"] == "error" and "full" in failed["reason"]
    # A person makes room: the old file goes elsewhere.
    for file in (small_disk / "homes").iterdir():
        file.unlink()
    until(
        lambda: running.predict(CASE, rows(CASE, 1)) and running.events("request log works again")
    )
    before = lost(running)
    running.predict("homes", sent[:2])
    running.stop()
    assert len(running.events("request log fails")) == 1 and before > 20
    assert len(logged(running, "homes", small_disk)) % 20 == 2


@pytest.mark.parametrize("fault", ["deleted", "replaced by a file"])
def test_a_lost_log_folder_costs_entries_at_most_and_comes_back(fault, tmp_path):
    running, folder = Service(tmp_path), tmp_path / "request-log"
    running.predict("loans", rows("loans", 1))
    until(lambda: list(folder.glob("loans/*.sqlite")))
    time.sleep(0.3)
    shutil.rmtree(folder)
    if fault != "deleted":
        folder.write_bytes(b"")
        for _ in range(3):
            assert running.predict("loans", rows("loans", 1)).status_code == 200
            time.sleep(0.3)
        until(lambda: lost(running) == 3)
        assert len(running.events("request log fails")) == 1
        folder.unlink()
    answer = running.predict("loans", rows("loans", 5))
    running.stop()
    assert {r["request_id"] for r in logged(running, "loans")} == {answer.json()["request_id"]}
    assert len(running.events("request log works again")) == (fault != "deleted")


def test_the_service_goes_on_when_nobody_can_take_its_log_lines(tmp_path):
    """As on a full disk, or behind a reader that has gone."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "--models", models(), "--no-log", "--drain", "0", "--port", port]
        process = subprocess.Popen(
            [*map(str, command)], cwd=tmp_path, stdout=full, stderr=subprocess.PIPE
        )

    def alive() -> bool:
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200
        return False

    until(alive, 30)
    assert all(alive() for _ in range(50))
    process.terminate()
    assert (process.wait(10), process.stderr.read()) == (0, b"")


# Clients


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: localhost", "content-type: application/json"]
    lines += [f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """A service that waits a second for a client."""
    running = Service(tmp_path_factory.mktemp("impatient"), "--timeout", "1")
    yield running
    running.stop()


def connect(running: Service, **options: int) -> socket.socket:
    raw = socket.socket()
    for name, value in options.items():
        raw.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    raw.settimeout(10)
    raw.connect(("127.0.0.1", running.port))
    return raw


def answer_of(raw: socket.socket) -> tuple[int, dict]:
    answer = http.client.HTTPResponse(raw)
    answer.begin()
    return answer.status, json.loads(answer.read())


def last_words(raw: socket.socket) -> bytes:
    """What still comes until the service closes the connection."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while part := raw.recv(65_536):
            said += part
    raw.close()
    return said


@pytest.mark.parametrize("where", ["before the head", "in the head", "in the body", "second body"])
def test_a_client_that_is_too_slow_is_sent_away(where, impatient):
    whole = post(f"/v1/cases/{CASE}/predict", json.dumps(rows(CASE, 1)).encode())
    raw, started = connect(impatient), time.monotonic()
    if where == "second body":
        raw.sendall(whole)
        assert answer_of(raw)[0] == 200
        started = time.monotonic()
    start = {"before the head": 0, "in the head": 20}.get(where, len(whole) - 30)
    raw.sendall(whole[:start])
    for i in range(start, start + 6):  # a byte now and then does not help
        time.sleep(0.1)
        if where != "before the head":
            raw.sendall(whole[i : i + 1])
    said = last_words(raw)
    assert said.startswith(b"HTTP/1.1 408 ") and said.count(b"HTTP/1.1") == 1
    assert 0.8 < time.monotonic() - started < 3
    assert impatient.client.get("/health/live").status_code == 200


def test_an_early_answer_is_not_followed_by_another(impatient):
    """The body of a request that was refused still comes, and too slowly."""
    raw = connect(impatient)
    raw.sendall(post("/v1/cases/nothing/predict", b"x" * 1000)[:-10])
    said = last_words(raw)
    assert said.startswith(b"HTTP/1.1 404 ") and said.count(b"HTTP/1.1") == 1


def test_a_client_that_does_not_read_its_answer_is_left(tmp_path):
    """The answer is larger than what the kernel takes off the service's hands."""
    running = Service(tmp_path, "--no-log", "--timeout", "3", "--max-rows", "15000")
    descriptors = Path(f"/proc/{running.process.pid}/fd")
    if not descriptors.exists():
        pytest.skip("open connections are counted in /proc")
    before = len(list(descriptors.iterdir()))
    raw = connect(running, SO_RCVBUF=4096)
    odd = {k: v if isinstance(v, str) else 9e9 for k, v in rows(CASE, 1)[0].items()}  # warnings
    raw.sendall(post(f"/v1/cases/{CASE}/predict", json.dumps([odd] * 15_000).encode()))
    answered = running.wait_for("request")
    assert answered["status"] == 200 and len(list(descriptors.iterdir())) == before + 1
    until(lambda: len(list(descriptors.iterdir())) == before)
    raw.close()
    running.stop()


def test_a_client_that_asks_for_http_2_is_answered_in_http_1(impatient):
    """As Java's client does by default, and curl --http2."""
    body = json.dumps(rows(CASE, 1)).encode()
    asks = ("connection: Upgrade, HTTP2-Settings", "upgrade: h2c", "http2-settings: AAMAAABkAAQ")
    whole = post(f"/v1/cases/{CASE}/predict", body, *asks)
    for cut in (len(whole), len(whole) - len(body), 60):  # in one piece, or in two
        raw = connect(impatient)
        for _ in range(2):
            raw.sendall(whole[:cut])
            time.sleep(0.05)
            raw.sendall(whole[cut:])
            status, said = answer_of(raw)
            assert status == 200 and len(said["predictions"]) == 1
        raw.close()


def test_it_is_no_proxy(impatient):
    raw = connect(impatient)
    raw.sendall(b"CONNECT example.org:443 HTTP/1.1\r\nhost: example.org\r\n\r\n")
    said = last_words(raw)
    assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1") == 1


def test_clients_that_go_away_leave_nothing_behind(impatient):
    body = json.dumps(rows("homes", 50) * 40).encode()
    whole = post("/v1/cases/homes/predict", body)
    for i in range(60):
        raw = connect(impatient)
        raw.sendall(whole[: len(whole) * (i % 4 + 1) // 4])  # every fourth goes before its answer
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # reset, not end
        raw.close()
    until(lambda: impatient.metric("truefit_requests_in_flight") == 1)
    assert impatient.predict("homes", rows("homes", 1)).status_code == 200
    assert impatient.metric("truefit_requests_total", status="500") == 0
    assert not [e for e in impatient.events() if e["level"] == "error"]


def test_five_hundred_idle_connections_disturb_nobody(impatient):
    idle = [connect(impatient) for _ in range(500)]
    for _ in range(20):
        assert impatient.predict("loans", rows("loans", 1)).status_code == 200
    assert all(last_words(raw).startswith(b"HTTP/1.1 408 ") for raw in idle)


# Memory


def resident(running: Service) -> float:
    """Megabytes."""
    status = Path(f"/proc/{running.process.pid}/status").read_text(encoding="utf-8")
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def exchange(running: Service, requests: list[bytes]) -> list[int]:
    """The statuses of requests that are sent one behind the other without waiting."""
    with connect(running) as raw, raw.makefile("rb") as answers:
        sending = threading.Thread(target=raw.sendall, args=(b"".join(requests),))
        sending.start()
        statuses = []
        for _ in requests:
            statuses.append(int(answers.readline().split()[1]))
            length = 0
            while (line := answers.readline()) != b"\r\n":
                name, _, value = line.lower().partition(b":")
                length = int(value) if name == b"content-length" else length
            answers.read(length)
        sending.join()
    return statuses


def test_memory_stays_flat(tmp_path):
    if not Path("/proc/self/status").exists():
        pytest.skip("the size of a process is read from /proc")
    running = Service(tmp_path)
    mixed = []
    for name in MODELS:
        path, some = f"/v1/cases/{name}/predict", rows(name, 20)
        mixed += [post(path, json.dumps(row).encode()) for row in some[:10]]
        mixed += [post(path, json.dumps(some).encode()), post(path, b"[{]"), post(path, b"{}")]
        mixed += [post(path, json.dumps(some[0] | {"no": i}).encode()) for i in range(3)]
        mixed += [post(path.replace("predict", "explain"), json.dumps(some[0]).encode())]
        mixed += [post(f"/v2/models/{name}/infer", b'{"inputs": []}')]
    for path in ("v1/cases", "v1/cases/homes", "nothing", "metrics", "health/live", ""):
        mixed.append(f"GET /{path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
    expected, sizes, n = exchange(running, mixed), [], 0
    assert set(expected) == {200, 400, 404, 422}
    while n < 4000:
        assert exchange(running, mixed * 10) == expected * 10
        n += len(mixed) * 10
        sizes.append(resident(running))
    warm = len(sizes) // 4
    assert max(sizes[warm:]) - sizes[warm] < 15, sizes
    assert np.median(sizes[-warm:]) < 150
    running.stop()


def test_large_bodies_leave_no_memory_behind(tmp_path):
    running = Service(tmp_path, "--no-log")
    body = json.dumps(rows("homes", 50) * 100).encode()
    sizes = []
    for _ in range(8):
        assert exchange(running, [post("/v1/cases/homes/predict", body)]) == [200]
        sizes.append(resident(running))
    assert sizes[-1] - sizes[3] < 30, sizes
    running.stop()
