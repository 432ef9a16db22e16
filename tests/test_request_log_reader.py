"""The log of a real service, read back: whole, to the digit, and without touching it."""

import json
import os
import shutil
import signal
import sqlite3
import string
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from cases import PARAMS
from conftest import write_params
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from service import MODELS, Service, models, rows, until

from truefit.bundle import Bundle
from truefit.monitoring import challenger_gain, log
from truefit.project import InputError
from truefit.serving import request_log
from truefit.serving.request_log import SCHEMA, Entry, RequestLog

NOBODY = 65534
START = datetime(2026, 11, 21, 14, 30, tzinfo=UTC)


@cache
def bundle(name: str) -> Bundle:
    return Bundle(models() / name / "bundle")


def read(folder: Path, name: str = "machines", every: str = "day") -> log.Logged:
    found = log.read_log(folder, name, bundle(name), PARAMS.cases[name], every=every)
    parts = [found.rows, found.answers, found.truth, found.windows, found.ids, found.requests]
    assert all(part.index.equals(pd.RangeIndex(len(found.ids))) for part in parts)
    return found


def count(folder: Path, name: str) -> int:
    """How many rows a log has so far."""
    try:
        return len(read(folder, name).ids)
    except InputError:  # no file, or no entry yet
        return 0


def sentence(folder: Path, name: str = "machines") -> str:
    """What a log is refused with."""
    with pytest.raises(InputError) as refused:
        read(folder, name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def entry(n: int = 1, at: datetime = START, id: str = "r", name: str = "machines", **more):
    """What a service notes of a request with the first rows of a case."""
    sent = rows(name, n)
    columns = {column: [row[column] for row in sent] for column in sent[0]}
    outputs = {"prediction": [float(i) for i in range(n)]}
    outputs |= {"low": [0.5] * n, "high": [1.5] * n, "probability": [0.25] * n}
    given = {"version": bundle(name).version, "ids": None, "inputs": columns} | more
    return Entry(name, at, id, rows=n, outputs=outputs, **given)


@pytest.fixture
def keep(tmp_path, monkeypatch):
    """Write entries as a service does, in this order, and close the log; its folder."""
    monkeypatch.setattr(request_log, "PAUSE", 0.01)
    folder = tmp_path / "log"

    def write(*entries: Entry) -> Path:
        lost = []
        writer = RequestLog(folder, lost.append, lambda *_, **__: None, keep_days=10**6)
        for one in entries:
            writer.add(one)
        writer.close()
        assert not lost
        return folder

    return write


def day_of(folder: Path, day: str = "2026-11-21", name: str = "machines") -> Path:
    return folder / name / f"{day}.sqlite"


def listing(folder: Path) -> dict:
    """Every file with its content, its mode and owner, and when it was written."""
    files = {f: f.stat() for f in folder.rglob("*") if f.is_file()}
    return {f: (f.read_bytes(), s.st_mode, s.st_uid, s.st_mtime_ns) for f, s in files.items()}


# Right answers


def send(running: Service, name: str, records: list[dict], id: str) -> list[dict]:
    """Ask for predictions with an id for the request; nothing if they are refused."""
    answer = running.predict(name, records, headers={"x-request-id": id})
    return answer.json()["predictions"] if answer.status_code == 200 else []


def check(found: log.Logged, name: str, sent: dict[str, list[dict]], said: dict[str, list]) -> None:
    """Check that a log has what was sent and answered, by request."""
    own, at = bundle(name), dict(zip(found.requests, range(len(found.requests)), strict=True))
    assert at.keys() == {f"{r}/{i + 1}" for r, answers in said.items() for i in range(len(answers))}
    inputs, answers = found.rows.to_dict("list"), found.answers.to_dict("list")
    for request, predictions in said.items():
        for i, (record, told) in enumerate(zip(sent[request], predictions, strict=False)):
            row = at[f"{request}/{i + 1}"]
            for column in own.inputs:
                value, there = record[column.name], inputs[column.name][row]
                if value is None or value == "" or (column.absent and value == "absent"):
                    assert pd.isna(there)
                else:
                    assert there == value
            score = told["prediction"]
            if "probabilities" in told:
                score = told["probabilities"][own.manifest.positive]
            for output, value in {"score": score, **told}.items():
                if output in answers:
                    assert answers[output][row] == value


@pytest.mark.parametrize("name", MODELS)
def test_a_running_service_s_log_has_the_rows_as_sent_and_answered(name, service):
    id, batches = (
        bundle(name).manifest.id,
        {f"{name}-a": rows(name, 1), f"{name}-b": rows(name, 70)},
    )
    if id:
        batches[f"{name}-b"] = [r | {id: i} for i, r in enumerate(rows(name, 70))]
    said = {request: send(service, name, records, request) for request, records in batches.items()}
    folder = service.folder / "request-log"
    until(lambda: count(folder, name) == 71)
    found = read(folder, name)
    check(found, name, batches, said)
    assert list(found.rows) == [column.name for column in bundle(name).inputs]
    kinds = {column.name: column.type for column in bundle(name).inputs}
    assert all((found.rows[n].dtype == np.float64) == (k == "number") for n, k in kinds.items())
    assert {"low", "high"} <= set(found.answers) or bundle(name).manifest.task == "classification"
    assert found.ids[0] == f"{name}-a/1"
    assert found.ids[1:].tolist() == (
        [str(i) for i in range(70)] if id else [f"{name}-b/{i + 1}" for i in range(70)]
    )
    assert found.truth.isna().all() and found.notes == ()
    assert datetime.now(UTC) - datetime.fromisoformat(f"{found.names[-1]}T00Z") < timedelta(2)


def records_of(name: str) -> st.SearchStrategy:
    """Records that a service takes, usual or not."""
    fields = {}
    for column in bundle(name).inputs:
        if column.type == "number":
            values = st.floats(-1e6, 1e6) | st.integers(-(2**53), 2**53)
            values = values | st.just(column.typical)
        else:
            values = st.sampled_from(column.categories) | st.text(
                st.characters(exclude_categories=["Cs"]), min_size=not column.nullable, max_size=9
            )
        fields[column.name] = values | st.none() if column.nullable else values
    return st.fixed_dictionaries(fields)


@settings(
    max_examples=12, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(st.data())
def test_whatever_was_answered_is_read_to_the_digit(generated, data):
    name = data.draw(st.sampled_from(["loans", "machines"]))
    batches = data.draw(st.lists(st.lists(records_of(name), min_size=1, max_size=6), max_size=4))
    known = generated.setdefault(name, ({}, {}))
    for records in batches:
        request = f"g{len(known[0])}"
        known[0][request] = records
        known[1][request] = send(generated["service"], name, records, request)
    n = sum(map(len, known[1].values()))
    if n:
        folder = generated["service"].folder / "request-log"
        until(lambda: count(folder, name) == n)
        check(read(folder, name), name, *known)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A service of its own, and what was sent to it and answered."""
    running = Service(tmp_path_factory.mktemp("generated"))
    yield {"service": running}
    running.stop()


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        ("hour", ["2026-11-21 14:00", "2026-11-21 15:00", "2026-11-22 15:00", "2027-01-01 00:00"]),
        ("day", ["2026-11-21", "2026-11-22", "2027-01-01"]),
        ("week", ["2026-W47", "2026-W53"]),
        ("month", ["2026-11", "2027-01"]),
    ],
)
def test_windows_are_periods_that_people_name(keep, every, expected):
    hours = [0, 0.49, 0.5, 25]
    times = [START + timedelta(hours=h) for h in hours] + [datetime(2027, 1, 1, tzinfo=UTC)]
    found = read(keep(*(entry(2, t, f"r{i}") for i, t in enumerate(times))), every=every)
    assert found.names == expected
    assert found.requests.tolist() == [f"r{i}/{row}" for i in range(5) for row in (1, 2)]


def test_a_hundred_thousand_rows_take_seconds(keep):
    sent = entry(50)
    folder = keep(*(sent._replace(request_id=f"r{i}") for i in range(2000)))
    start = time.process_time()
    assert len(read(folder).ids) == 100_000
    assert time.process_time() - start < 5


def test_rows_can_be_taken_from_a_log(keep):
    found = read(keep(entry(3), entry(2, START + timedelta(days=1), "s")))
    assert found.window("2026-11-22").requests.tolist() == ["s/1", "s/2"]


# While it is written


def test_every_reading_of_a_log_being_written_has_whole_requests(tmp_path):
    """Requests of three rows; the service writes, and at last closes its files."""
    running, done, answered = Service(tmp_path), threading.Event(), []
    folder, records = tmp_path / "request-log", rows("machines", 3)

    def ask():
        while not done.is_set():
            request = f"q{len(answered)}"
            assert len(send(running, "machines", records, request)) == 3
            answered.append(request)

    client = threading.Thread(target=ask)
    client.start()
    try:
        until(lambda: count(folder, "machines"))
        before = 0
        for _ in range(40):
            found = read(folder)
            assert found.requests.tolist() == [
                f"q{i}/{row}" for i in range(len(found.ids) // 3) for row in (1, 2, 3)
            ]
            assert len(found.ids) >= before and found.notes == ()
            before = len(found.ids)
    finally:
        done.set()
        client.join()
    stopping = threading.Thread(target=running.stop)
    stopping.start()
    while stopping.is_alive():
        assert len(read(folder).ids) >= before
    assert len(read(folder).ids) == 3 * len(answered)


@pytest.fixture(scope="module")
def left():
    """Logs of seven rows as a service leaves them: running, stopped, killed, killed and copied."""
    top = Path(tempfile.mkdtemp(prefix="truefit-left-"))
    top.chmod(0o755)  # pytest's own folders are closed to others

    def start(name: str) -> Service:
        (top / name).mkdir()
        running = Service(top / name)
        send(running, "machines", rows("machines", 7), "r")
        until(lambda: count(top / name / "request-log", "machines") == 7)
        return running

    running = start("running")
    start("stopped").stop()
    start("killed").stop(signal.SIGKILL)
    shutil.copytree(top / "killed", top / "copied", ignore=shutil.ignore_patterns("*-shm"))
    yield top
    running.stop()
    shutil.rmtree(top)


STATES = {"running": 3, "stopped": 1, "killed": 3, "copied": 2}


@pytest.mark.parametrize("state", STATES)
def test_reading_changes_no_file_and_leaves_none(left, state):
    folder = left / state / "request-log"
    before = listing(folder)
    assert len(before) == STATES[state]
    assert len(read(folder).ids) == 7
    assert listing(folder) == before


def test_a_log_is_read_by_one_who_may_write_nowhere(left):
    """The logs become those of a user who may not write to them, and the service goes on.

    The interpreter may lie where only root can look, so the right to read is kept.
    """
    if os.getuid() != 0 or not (become := shutil.which("setpriv")):
        pytest.skip("only root, with setpriv, can become nobody")
    given = [f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    given += [f"--{kind}=-all,+dac_read_search" for kind in ("inh-caps", "ambient-caps")]
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from truefit import params\n"
        "from truefit.bundle import Bundle\n"
        "from truefit.monitoring.log import read_log\n"
        "case = params.load(Path(sys.argv[2])).cases['machines']\n"
        "for folder in sys.argv[4:]:\n"
        "    found = read_log(folder, 'machines', Bundle(Path(sys.argv[3])), case, every='day')\n"
        "    print(len(found.ids), found.notes)\n"
    )
    root = Path(__file__).parents[1]
    folders = [left / state / "request-log" for state in STATES]
    for path in (p for folder in folders for p in (folder, *folder.rglob("*"))):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o500 if path.is_dir() else 0o400)
    places = [root / "src", write_params(left / "params.yaml"), bundle("machines").folder]
    command = [become, *given, sys.executable, "-c", script, *places, *folders]
    done = subprocess.run([*map(str, command)], capture_output=True, encoding="utf-8", cwd="/")
    assert done.stdout == "7 ()\n" * len(STATES), done.stderr


# What is left out, and said


def test_rows_of_another_version_are_left_out(keep):
    found = read(keep(entry(2), entry(3, id="other", version="0123456789ab"), entry(1, id="s")))
    assert found.requests.tolist() == ["r/1", "r/2", "s/1"]
    assert found.notes == (
        "3 rows are left out, because version 0123456789ab answered, and not "
        f"{bundle('machines').version}, which is the bundle looked at",
    )


def test_rows_that_the_bundle_answered_as_a_challenger_are_its_own(keep):
    folder = keep(
        entry(1, role="challenger"),
        entry(1, id="s", version="other", shadow=(bundle("machines").version, {"prediction": [1]})),
    )
    assert read(folder).requests.tolist() == ["r/1"]


def test_an_entry_of_the_first_schema_is_read(keep):
    folder = keep(entry(2))
    with sqlite3.connect(day_of(folder)) as connection:
        ((text,),) = connection.execute("SELECT entries FROM moments")
        old = json.dumps([written[:7] for written in json.loads(text)])
        connection.execute("UPDATE moments SET entries = ?", (old,))
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    assert read(folder).requests.tolist() == ["r/1", "r/2"]


def test_a_log_without_the_bundle_s_answers_is_refused(keep):
    said = sentence(keep(entry(2, version="0123456789ab"), entry(1, version="ba9876543210")))
    assert f"answered by version {bundle('machines').version}" in said
    assert "git checkout machines@VERSION and dvc checkout" in said
    assert "0123456789ab (2 rows), ba9876543210 (1 row)" in said


@pytest.mark.parametrize("version", [None, "0123456789ab"])
def test_a_log_of_another_case_is_refused(keep, version):
    version = version or bundle("machines").version
    folder = keep(entry(4, name="loans", version=version))
    (folder / "loans").rename(folder / "machines")
    said = sentence(folder)
    assert "is not a log of machines: its 4 rows have the column 'age'" in said


def test_masked_columns_are_not_there(tmp_path):
    running = Service(tmp_path, "--mask", "hd", "--mask", "cd")
    send(running, "machines", rows("machines", 4), "r")
    running.stop()
    found = read(tmp_path / "request-log")
    inputs = [column.name for column in bundle("machines").inputs]
    assert list(found.rows) == [name for name in inputs if name not in ("hd", "cd")]
    assert sorted(found.notes) == [
        f"{name} is masked in every row, so it is not looked at" for name in ("cd", "hd")
    ]


def test_a_column_that_was_masked_for_a_time_would_look_like_gaps(keep):
    inputs = {name: values for name, values in entry(2).inputs.items() if name != "hd"}
    found = read(keep(entry(3), entry(2, id="s", inputs=inputs)))
    assert "hd" not in found.rows and len(found.rows) == 5
    assert found.notes == ("hd is masked in 2 of 5 rows, so it is not looked at",)


def test_a_clock_that_runs_backwards_loses_nothing(keep):
    minutes = [0, 1, 2, -10, -9, 3, 3]
    entries = [entry(1, START + timedelta(minutes=m), f"r{i}") for i, m in enumerate(minutes)]
    entries.append(entry(1, START + timedelta(seconds=179.5), "jitter"))
    found = read(keep(*entries))
    order = ("r3", "r4", "r0", "r1", "r2", "jitter", "r5", "r6")
    assert found.ids.tolist() == [f"{r}/1" for r in order]
    assert found.notes == (
        "the service's clock ran backwards: 2 requests are dated before one that was written "
        "earlier, by 720 s at most; rows are sorted by their date",
    )


def test_an_answer_that_waited_for_a_second_model_is_no_clock_running_backwards(keep):
    late = entry(1, START - timedelta(seconds=9), "late", shadow=("other", {"prediction": [1.0]}))
    found = read(keep(entry(), late, entry(id="s")))
    assert found.ids[0] == "late/1" and found.notes == ()


@pytest.mark.parametrize(("name", "metric"), [("machines", "rmse_log"), ("loans", "roc_auc")])
def test_a_challenger_in_shadow_is_compared_on_the_labelled_rows_of_both(keep, name, metric):
    rng, n, case = np.random.default_rng(2), 60, PARAMS.cases[name]
    target = np.exp(rng.normal(7, 0.3, n)) if not case.positive else (rng.random(n) < 0.4) * 1.0
    near, far = (target * np.exp(rng.normal(0, s, n)) for s in (0.05, 0.3))
    if case.positive:
        near, far = (np.clip(0.3 + 0.4 * target + rng.normal(0, s, n), 0, 1) for s in (0.1, 0.5))
    answer = "probability" if case.positive else "prediction"
    said = entry(n, name=name)
    said = said._replace(outputs=said.outputs | {answer: far.tolist()})
    older = said._replace(shadow=("older", {answer: near.tolist()}))
    newer = said._replace(request_id="s", shadow=("newer", {answer: near.tolist()}))
    found = read(keep(older, newer, said._replace(request_id="t")), name)
    assert found.challenger == "newer"
    assert found.shadow.notna().sum() == n
    truth = pd.Series(np.tile(target, 3)).where(np.arange(3 * n) % 4 > 0)
    labelled = replace(found, truth=truth)
    known, gap = challenger_gain(labelled, case, resamples=200, confidence=0.95, seed=1)
    assert known == 45
    assert gap.loc[metric, "better"] == "yes"
    assert challenger_gain(found, case, resamples=200, confidence=0.95, seed=1) is None


@pytest.mark.parametrize(
    ("id", "name"),
    [("h-1", "h-1"), (" h ", " h"), (7, "7"), (7.0, "7"), (2.5, "2.5"), (10**30, str(10**30)),
     (None, "r/1"), ("", "r/1")],
)  # fmt: skip
def test_a_row_is_called_what_its_client_calls_it(keep, id, name):
    found = read(keep(entry(1, ids={"name": [id]})))
    assert (found.ids[0], found.requests[0]) == (name, "r/1")


# Files that cannot be read


def cut(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])


def flip(file: Path) -> None:
    """Break the JSON of the last moment, as a bad disk may."""
    content = file.read_bytes()
    at = content.rindex(b'"prediction"')
    file.write_bytes(content[:at] + b"\0" + content[at + 1 :])


def newer(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()


def foreign(file: Path) -> None:
    file.unlink()
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE t (x)")
    connection.close()


DAMAGES = {
    "cut": (lambda file: cut(file, 0.7), "is damaged (database disk image is malformed)"),
    "no database": (lambda file: file.write_text("x" * 9999), "is damaged (file is not a data"),
    "one byte": (flip, "is damaged in 1 place; what stood there is left out"),
    "empty": (lambda file: file.write_bytes(b""), "has no entry"),
    "newer": (newer, f"has schema {SCHEMA + 1}, and this version of Truefit reads up to {SCHEMA}"),
    "foreign": (foreign, "is an SQLite file, but no log of requests"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_day_that_cannot_be_read_does_not_take_the_others_along(kind, keep):
    damage, said = DAMAGES[kind]
    folder = keep(entry(200), entry(4, START + timedelta(days=1), "next"))
    damage(day_of(folder))
    found = read(folder)
    assert found.ids.tolist() == [f"next/{i}" for i in range(1, 5)]
    (note,) = found.notes
    assert note.startswith(f"2026-11-21.sqlite {said}")
    day_of(folder, "2026-11-22").unlink()
    assert said in sentence(folder)


def test_what_stands_before_the_damage_is_kept(keep, monkeypatch):
    folder = keep(entry(150, id="first"))
    for id in ("second", "third"):
        keep(entry(150, id=id))
    whole = read(folder)
    cut(day_of(folder), 0.75)
    found = read(folder)
    assert found.requests.tolist() in (
        whole.requests.tolist()[:150], whole.requests.tolist()[:300])  # fmt: skip
    (note,) = found.notes
    assert note.endswith(f"left out; {len(found.ids)} rows before the damage are kept")


def test_entries_that_are_none_are_left_out(keep):
    folder = keep(entry(2))
    with sqlite3.connect(day_of(folder)) as connection:
        ((text,),) = connection.execute("SELECT entries FROM moments")
        (good,) = json.loads(text)
        short = [*good[:3], 5, *good[4:]]
        local = ["2026-11-21T14:30:00.000", *good[1:]]
        for wrong in (short, local, good[:4], {"time": 1}, 7):
            connection.execute("INSERT INTO moments VALUES (?)", (json.dumps([wrong]),))
    connection.close()
    found = read(folder)
    assert len(found.ids) == 2
    assert found.notes == (
        "2026-11-21.sqlite is damaged in 5 places; what stood there is left out",
    )


def test_there_must_be_a_log(keep, tmp_path):
    assert "there is no log in" in sentence(tmp_path / "nowhere")
    folder = keep(entry(1, name="loans"), entry(1, name="homes"))
    assert sentence(folder).endswith("has no day of machines; it has homes, loans")
    assert sentence(folder / "homes").endswith("it is the log of one case: name the folder above")
    (tmp_path / "empty").mkdir()
    assert sentence(tmp_path / "empty").endswith("has no day of machines")


# Labels


def table(folder: Path, name: str = "labels.csv", **columns) -> Path:
    frame, file = pd.DataFrame(columns), folder / name
    frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file)
    return file


def labelled(folder: Path, file: Path, name: str = "machines") -> log.Logged:
    case = PARAMS.cases[name]
    return log.join(read(folder, name), log.read_labels(file, bundle(name), case))


def wrong(folder: Path, file: Path, name: str = "machines") -> str:
    with pytest.raises(InputError) as refused:
        labelled(folder, file, name)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.fixture
def houses(keep):
    """A log of homes: three houses whose clients name them, and one that is asked for twice."""
    first = entry(3, name="homes", ids={"pid": [526301100, "526350040", 526351010.0]})
    again = entry(1, START + timedelta(days=1), "s", name="homes", ids={"pid": [526301100]})
    return keep(first, again)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_find_their_rows_by_the_client_s_id(suffix, houses, tmp_path):
    file = table(tmp_path, f"l.{suffix}", pid=[526350040, 526301100], sale_price=[1e5, 125000])
    found = labelled(houses, file, "homes")
    assert found.truth.tolist() == pytest.approx([125000, 1e5, np.nan, 125000], nan_ok=True)
    assert found.notes == (
        "1 labelled row was predicted more than once (526301100); each prediction has the label",
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_labels_find_their_rows_by_request_and_row(suffix, houses, tmp_path):
    columns = {"request_id": ["r", "s", "r"], "row": [3, 1, 1], "sale_price": [1, 2, 3]}
    found = labelled(houses, table(tmp_path, f"l.{suffix}", **columns), "homes")
    assert found.truth.tolist() == pytest.approx([3, np.nan, 1, 2], nan_ok=True)
    assert found.notes == ()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_classes_become_numbers(suffix, keep, tmp_path):
    folder = keep(entry(3, name="loans"))
    columns = {"request_id": ["r"] * 3, "row": [1, 2, 3], "status": ["bad", "good", None]}
    found = labelled(folder, table(tmp_path, f"l.{suffix}", **columns), "loans")
    assert found.truth.tolist() == pytest.approx([1, 0, np.nan], nan_ok=True)
    assert found.truth.dtype == np.float64
    assert found.notes == (f"1 row of {tmp_path}/l.{suffix} has no label yet",)


def test_a_label_may_be_late_for_all_rows(houses, tmp_path):
    file = table(tmp_path, pid=[526350040, 526301100], sale_price=[None, None])
    found = labelled(houses, file, "homes")
    assert found.truth.isna().all() and len(found.truth) == 4
    assert found.notes == (f"2 rows of {file} have no label yet",)


def test_labels_that_repeat_or_contradict_are_said(houses, tmp_path):
    ids = [526301100, 526350040, 526301100, 526350040, 526351010, 1, 2, 3, 4]
    file = table(tmp_path, pid=ids, sale_price=[7, 5, 7, 6, 9, 1, 1, 1, 1])
    found = labelled(houses, file, "homes")
    assert found.truth.tolist() == pytest.approx([7, np.nan, 9, 7], nan_ok=True)
    assert found.notes == (
        f"{file} repeats a label that is there already (526301100)",
        f"{file} has different labels for 1 row (526350040), which count as not labelled",
        f"4 labels of {file} are for rows that the log does not have, or that are left out "
        "(1, 2, 3, …)",
        "1 labelled row was predicted more than once (526301100); each prediction has the label",
    )


def test_labels_of_which_none_is_known_are_refused(houses, tmp_path):
    said = wrong(houses, table(tmp_path, pid=[1, 2], sale_price=[7, 5]), "homes")
    assert "none of the 2 rows" in said and "by pid is in the log" in said
    assert "526301100, 526350040, 526351010" in said


@pytest.mark.parametrize(
    ("name", "columns", "said"),
    [
        ("homes", {"pid": [1, 2], "sale_price": ["5", "much"]}, "sale_price is 'much' in row 2"),
        ("homes", {"pid": [1, 2], "sale_price": [5, -3]}, "sale_price is -3 in row 2, and must be"),
        ("homes", {"pid": [1], "sale_price": [0.0]}, "sale_price is 0 in row 1, and must be above"),
        ("homes", {"pid": ["1", None], "sale_price": [5, 6]}, "pid is missing in row 2"),
        ("homes", {"pid": [1], "price": [5]}, "has no column 'sale_price'"),
        ("homes", {"lot": [1], "sale_price": [5]}, "neither the column pid nor the columns"),
        ("homes", {"pid": [1], "sale_price": [1e300]}, "sale_price is 1e+300 in row 1"),
        ("loans", {"request_id": ["r"], "row": [1], "status": ["ugly"]},
         "status is 'ugly' in row 1, and must be bad or good"),
        ("loans", {"request_id": ["r"], "row": [0], "status": ["bad"]}, "row is '0' in row 1"),
        ("loans", {"request_id": ["r"], "row": ["x"], "status": ["bad"]}, "row is 'x' in row 1"),
        ("loans", {"row": [1], "status": ["bad"]}, "has not the columns request_id and row"),
    ],
)  # fmt: skip
def test_a_label_that_is_none_is_refused(name, columns, said, keep, tmp_path):
    file = table(tmp_path, **columns)
    refusal = wrong(keep(entry(1, name=name)), file, name)
    assert said in refusal and str(file) in refusal


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from([None, 1.5, 2.5])), min_size=1),
    st.lists(st.integers(0, 5), min_size=1),
)
def test_each_row_has_the_one_label_of_its_id(given_labels, asked):
    ids = pd.Series([string.ascii_letters[i] for i in asked], dtype="str")
    empty = pd.DataFrame(index=ids.index)
    traffic = log.Logged(empty, empty, ids.map(lambda _: np.nan), ids, ids, requests=ids)
    names = [string.ascii_letters[i] for i, _ in given_labels]
    values = pd.Series([v for _, v in given_labels], index=names, dtype="float64")
    known = {i: {v for j, v in given_labels if j == i and v} for i in range(6)}
    if any(known.values()) and not any(known[i] for i in asked):
        with pytest.raises(InputError):
            log.join(traffic, log._settled("labels", "pid", values))
        return
    found = log.join(traffic, log._settled("labels", "pid", values)).truth
    for i, label in zip(asked, found, strict=True):
        assert {label} == known[i] if len(known[i]) == 1 else np.isnan(label)
