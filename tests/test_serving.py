"""The service's own API: right answers, and one sentence for each wrong question."""

import json
import re
import socket
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache

import cases
import numpy as np
import pytest
import service as running
from cases import ROOT
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from truefit.bundle import LARGEST, Bundle
from truefit.serving.served import Served, contributions

CASES = list(running.MODELS)
MEMBERS = {"type", "title", "status", "detail", "request_id", "row", "column", "error"}
# What an answer never says: where the service lies, and what it is made of.
HERE = "|".join(re.escape(str(path)) for path in (ROOT, sys.prefix, tempfile.gettempdir()))
INSIDE = re.compile(rf"{HERE}|Traceback|\.py\b|msgspec|starlette|onnx|Error\b|object at 0x")
often = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@cache
def bundle(case: str) -> Bundle:
    return Bundle(running.models() / case / "bundle")


def typical(case: str) -> dict:
    return {column.name: column.typical for column in bundle(case).inputs}


def written(record: dict, **values: str) -> str:
    """A record as JSON, with some values as they stand."""
    pairs = {name: json.dumps(value) for name, value in record.items()} | values
    return "{" + ", ".join(f"{json.dumps(name)}: {text}" for name, text in pairs.items()) + "}"


def columns(records: list[dict]) -> dict[str, list]:
    return {name: [record[name] for record in records] for name in records[0]}


def outcome(service, case: str, body: str | bytes, **headers):
    body = body if isinstance(body, bytes) else body.encode()
    return service.post(f"/v1/cases/{case}/predict", body, **headers)


def predicted(answer) -> list[dict]:
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def refused(answer, status: int, *said: str, **where) -> dict:
    """Check a problem document, and that it says something."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem.keys() <= MEMBERS
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert not INSIDE.search(answer.text)
    for words in said:
        assert words in problem["detail"], problem["detail"]
    assert {name: problem.get(name) for name in where} == where
    return problem


def talk(service, *parts: bytes, pause: float = 0.0, seconds: float = 5.0) -> bytes:
    """Send bytes as they are, and return what comes back until the service closes or is silent."""
    with socket.create_connection(("127.0.0.1", service.port), timeout=seconds) as connection:
        said = b""
        with suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
                time.sleep(pause)
        with suppress(TimeoutError, ConnectionError):
            while more := connection.recv(65_536):
                said += more
        return said


def head(*lines: str, close: bool = True) -> bytes:
    """A request's head."""
    lines = [*lines, "host: localhost"] + ["connection: close"] * close
    lines += ["content-type: application/json"] * lines[0].startswith("POST")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    """A service with small limits."""
    options = ("--no-log", "--max-rows", 20, "--max-body", 1, "--timeout", 2)
    started = running.Service(tmp_path_factory.mktemp("strict"), *options)
    yield started
    started.stop()


# Right answers


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("n", [1, 3, 40, 300])
def test_an_answer_is_what_the_bundle_says(service, case, n):
    # One row, a few, many in one array, and so many that a thread answers them.
    records = running.rows(case, n)
    answer = service.predict(case, records if n > 1 else records[0])
    found, own = predicted(answer), bundle(case)
    scores = own.score(columns(records))
    said = answer.json()
    assert (said["case"], said["version"]) == (case, own.version)
    assert said["request_id"] == answer.headers["x-request-id"]
    if own.manifest.task == "classification":
        assert [f["probabilities"]["bad"] for f in found] == scores.tolist()
        assert all(sum(f["probabilities"].values()) == pytest.approx(1) for f in found)
        assert [f["prediction"] for f in found] == [own.manifest.called(p) for p in scores]
    else:
        assert [f["prediction"] for f in found] == scores.tolist()
        ends = np.transpose(own.manifest.ends(scores)).tolist()
        assert [[f["low"], f["high"]] for f in found] == ends


@pytest.mark.parametrize("case", CASES)
def test_a_row_in_a_batch_is_answered_as_if_alone(service, case):
    records = running.rows(case, 25)
    records[7] = {n: 1e9 if isinstance(v, int | float) else v for n, v in records[7].items()}
    alone = [predicted(service.predict(case, record))[0] for record in records]
    together = predicted(service.predict(case, records))
    assert [f["warnings"] for f in together] == [f["warnings"] for f in alone]
    assert alone[7]["warnings"]
    for name in alone[0].keys() - {"warnings", "probabilities"}:
        values = [[f[name] for f in found] for found in (together, alone)]
        assert values[0] == values[1] or values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("name", [None, "", "pid:1", 7, 2.5, 10**30, "☃\x00"])
def test_a_record_is_called_what_its_client_calls_it(service, name):
    record = typical("homes")
    assert "id" not in predicted(service.predict("homes", record))[0]
    (found,) = predicted(service.predict("homes", {"pid": name} | record))
    assert found["id"] == name
    found = predicted(service.predict("homes", [record, record | {"pid": name}]))
    assert [f["id"] for f in found] == [None, name]


def test_a_name_must_be_a_text_or_a_number(service):
    said = "row 2: pid must be a text or a number or null, and is true or false"
    records = [typical("homes"), typical("homes") | {"pid": True}]
    refused(service.predict("homes", records), 422, said, row=2, column="pid")


@pytest.mark.parametrize("n", [1, 9])
@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("age", 17, "17 is below 18, the smallest in training"),
        ("age", 68.5, "68.5 is above 68, the largest in training"),
        ("seniority", -1e-400, None),
        ("age", 18, None),
        ("age", 68, None),
        ("income", None, None),
        ("income", 123_456.789, "123456.789 is above 905, the largest in training"),
        ("job", "pirate", "pirate is a category that training did not see"),
        ("job", "fixed ", "fixed  is a category that training did not see"),
        ("job", "fixed\x00", "fixed\x00 is a category that training did not see"),
        ("job", "Ü" * 99, "Ü" * 59 + "… is a category that training did not see"),
    ],
)
def test_a_value_unlike_any_in_training_is_answered_with_a_warning(
    service, n, column, value, reason
):
    records = [typical("loans")] * (n - 1) + [typical("loans") | {column: value}]
    found = predicted(service.predict("loans", records))
    warning = {"column": column, "value": value, "reason": reason}
    assert [f["warnings"] for f in found] == [[]] * (n - 1) + [[warning] if reason else []]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1E2", 100), ("-0", 0), ("-0.0", 0), ("1e-400", 0), ("0.1e3", 100), ("100.0", 100),
     ("1" + "0" * 30, 1e30), ("3.4028234663852886e38", LARGEST)],
)  # fmt: skip
def test_a_number_is_read_however_it_is_written(service, text, value):
    (found,) = predicted(outcome(service, "loans", written(typical("loans"), price=text)))
    expected = bundle("loans").score(columns([typical("loans") | {"price": value}]))
    assert found["probabilities"]["bad"] == expected[0]


@often
@given(data=st.data())
def test_neither_the_order_of_keys_nor_how_they_are_written_matters(service, data):
    record = typical("machines")
    pairs = data.draw(st.permutations(list(record.items())))
    space = data.draw(st.sampled_from(["", " ", "\n\t", "\r\n "]))

    def key(name: str) -> str:
        escaped = data.draw(st.sets(st.integers(0, len(name) - 1)))
        return "".join(f"\\u{ord(c):04x}" if i in escaped else c for i, c in enumerate(name))

    body = ",".join(f'{space}"{key(n)}"{space}:{space}{json.dumps(v)}' for n, v in pairs)
    body = f"{space}{{{body}{space}}}{space}"
    assert predicted(outcome(service, "machines", body)) == predicted(
        service.predict("machines", record)
    )


@pytest.mark.parametrize("case", CASES)
def test_a_description_tells_how_to_ask(service, case):
    found = service.client.get(f"/v1/cases/{case}").json()
    own = bundle(case).manifest
    assert (found["case"], found["version"], found["previous"]) == (
        case,
        bundle(case).version,
        None,
    )
    assert (found["task"], found["target"]["name"]) == (own.task, own.target.name)
    assert [column["name"] for column in found["inputs"]] == [c.name for c in own.inputs]
    for said, column in zip(found["inputs"], own.inputs, strict=True):
        assert said["nullable"] == column.nullable
        assert said.get("typical") == column.typical
        assert said.get("minimum") == column.minimum
        assert tuple(said.get("categories", ())) == (column.categories or ())
        assert said["influence"] >= 0
    record = {column["name"]: column.get("typical") for column in found["inputs"]}
    assert predicted(service.predict(case, record))[0]["warnings"] == []
    listed = service.client.get("/v1/cases").json()["cases"]
    assert [c["case"] for c in listed] == CASES or sorted(CASES) == [c["case"] for c in listed]
    assert all(c.items() <= (found | {"target": found["target"]["name"]}).items() for c in listed
               if c["case"] == case)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_contributions_add_up(service, case):
    record, usual = running.rows(case, 1)[0], typical(case)
    answer = service.client.post(f"/v1/cases/{case}/explain", json=record)
    said = answer.json()
    assert answer.status_code == 200, answer.text
    assert said["prediction"] == pytest.approx(bundle(case).score(columns([record]))[0], rel=1e-6)
    assert said["typical"] == pytest.approx(bundle(case).score(columns([usual]))[0], rel=1e-6)
    moved = said["contributions"]
    assert sum(c["contribution"] for c in moved) == pytest.approx(
        said["prediction"] - said["typical"], abs=1e-6 * abs(said["typical"])
    )
    assert {c["column"] for c in moved} == {n for n in record if record[n] != usual[n]}
    assert all(
        (c["value"], c["typical"]) == (record[c["column"]], usual[c["column"]]) for c in moved
    )
    sizes = [abs(c["contribution"]) for c in moved]
    assert sizes == sorted(sizes, reverse=True)


def test_contributions_add_up_where_few_digits_are_kept(tmp_path):
    """In float32 the same row is answered a little differently among others."""
    folder, case = tmp_path / "bundle", cases.PARAMS.cases["loans"]
    model = cases.fitted("loans", "svm")
    cases.write_bundle(folder, model, case, cases.schema("loans"), precision="float32")
    served = Served(Bundle(folder))
    for record in running.rows("loans", 10):
        found = contributions(served, record)
        moved = sum(c.contribution for c in found["contributions"])
        assert moved == pytest.approx(found["prediction"] - found["typical"], abs=1e-15)


def test_a_typical_row_has_nothing_to_explain(service):
    answer = service.client.post("/v1/cases/loans/explain", json=[typical("loans")]).json()
    assert answer["contributions"] == []
    assert answer["prediction"] == answer["typical"]


def test_one_record_is_explained_at_a_time(service):
    answer = service.client.post("/v1/cases/loans/explain", json=[typical("loans")] * 2)
    refused(answer, 422, "one record is explained at a time, and these are 2")
    answer = service.client.post("/v1/cases/loans/explain", json=typical("loans") | {"age": 1e39})
    refused(answer, 422, "age is 1e+39", column="age")


# Wrong values

VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([10**400, -(10**400), 1e39, LARGEST, -1.01 * LARGEST]),
    st.text(max_size=20), st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.none(), max_size=2),
)  # fmt: skip


def allowed(column, value) -> bool:
    """Whether a record may have a value: the rule, said in another way than the service says it."""
    if value is None:
        return column.nullable
    if column.type == "text":
        return isinstance(value, str) and (value != "" or column.nullable)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and -LARGEST <= value <= LARGEST


@pytest.mark.parametrize("case", ["loans", "homes"])
@often
@given(data=st.data())
def test_any_value_in_any_place_is_answered_or_refused_by_the_rule(service, case, data):
    n = data.draw(st.integers(1, 7))
    row = data.draw(st.integers(0, n - 1))
    column = data.draw(st.sampled_from(bundle(case).inputs))
    value = data.draw(VALUES)
    records = [typical(case)] * n
    records[row] = records[row] | {column.name: value}
    answer = service.predict(case, records)
    if allowed(column, value):
        found = predicted(answer)
        scores = bundle(case).score(columns(records)).tolist()
        assert [f.get("probabilities", {}).get("bad", f["prediction"]) for f in found] == (
            pytest.approx(scores)
        )
    else:
        said = f"row {row + 1}: {column.name} "
        refused(answer, 422, said, row=row + 1, column=column.name)
        alone = refused(service.predict(case, records[row]), 422, column.name, column=column.name)
        assert alone["detail"].removeprefix("row 1: ") == answer.json()["detail"].removeprefix(
            f"row {row + 1}: "
        )


@often
@given(
    body=st.recursive(
        VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20
    )
)
def test_other_json_is_refused(service, body):
    refused(outcome(service, "machines", json.dumps(body)), 422)


@often
@given(name=st.text(st.characters(exclude_categories=["Cs"])), many=st.booleans())
def test_a_column_that_is_not_known_is_named(service, name, many):
    record = typical("machines")
    assume(name not in record and not INSIDE.search(name))
    record |= {name: 1}
    where = {"row": 2} if many else {}
    answer = service.predict("machines", [typical("machines"), record] if many else record)
    shown = name if len(name) <= 60 else name[:59] + "…"
    said = f"{'row 2: ' if many else ''}the column {shown} is not known to this model"
    refused(answer, 422, said, column=shown, **where)


@pytest.mark.parametrize(
    "name", ["missing", "missing required field `speed`", "x` - at `$[7].y", "a out of range", "$"]
)
def test_a_name_cannot_pass_for_something_else(service, name):
    record = typical("machines") | {name: 1}
    said = f"the column {name} is not known to this model; leave it out"
    assert refused(service.predict("machines", record), 422)["detail"] == said
    answer = service.predict("machines", [record])
    assert refused(answer, 422, row=1)["detail"] == f"row 1: {said}"


@pytest.mark.parametrize(
    ("column", "text", "status", "said"),
    [
        ("speed", "NaN", 400, "speed is NaN, which JSON does not have"),
        ("speed", "-Infinity", 400, "speed is -Infinity, which JSON does not have"),
        ("cd", r'"\ud800"', 400, "cd has a text that is not valid Unicode"),
        ("cd", r'"\udc00\ud800"', 400, "cd has a text that is not valid Unicode"),
        ("cd", b'"n\xff"', 400, "cd has a text that is not valid Unicode"),
        ("cd", b'"\xed\xa0\x80"', 400, "cd has a text that is not valid Unicode"),
        ("cd", b'"\xc0\x80"', 400, "cd has a text that is not valid Unicode"),
        ("cd", '"a\nb"', 400, "not JSON: invalid character"),
        ("speed", "033", 400, "not JSON: invalid number"),
        ("speed", "+1", 400, "not JSON"),
        ("speed", ".5", 400, "not JSON"),
        ("speed", "0x10", 400, "not JSON"),
        ("speed", "1e400", 422, "speed has a number beyond all limits"),
        ("speed", "1" + "0" * 400, 422, "speed has a number beyond all limits"),
        ("speed", "1" + "0" * 100_000, 422, "speed has a number beyond all limits"),
        ("speed", "-1e39", 422, "speed is -1e+39, and no number may be beyond 3.4e+38"),
        ("speed", '"33"', 422, "speed must be a number, and is a text"),
        ("speed", "true", 422, "speed must be a number, and is true or false"),
        ("speed", "[33]", 422, "speed must be a number, and is a list"),
        ("speed", "[" * 100_000, 422, "speed must be a number, and is a list"),
        ("speed", "null", 422, "speed must not be null: no training row was without it"),
        ("cd", "null", 422, "cd must not be null: no training row was without it"),
        ("cd", '""', 422, "cd must not be empty: no training row was"),
        ("cd", "1", 422, "cd must be a text, and is a number"),
        ("cd", '{"a": 1}', 422, "cd must be a text, and is an object"),
        ("speed", '33, "hd": 100', 422, "the column hd is there twice; send it once"),
        ("speed", r'33, "sp\u0065ed": 33', 422, "the column speed is there twice; send it once"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(service, column, text, status, said):
    usual = written(typical("machines")).encode()
    text = text if isinstance(text, bytes) else text.encode()
    wrong = written(typical("machines"), **{column: "@"}).encode().replace(b"@", text)
    about = "hd" if '"hd"' in str(text) else column
    where = {} if said.startswith("not JSON") else {"column": about}
    refused(outcome(service, "machines", wrong), status, said, **where)
    where |= {"row": 2} if where else {}
    answer = outcome(service, "machines", b"[" + usual + b", " + wrong + b"]")
    refused(answer, status, f"row 2: {said}" if where else said, **where)


def test_an_answer_beyond_all_numbers_is_refused(tmp_path):
    """A straight line goes on for ever, and the logarithm is undone at its end."""
    running.write(tmp_path / "models", "machines", "linear")
    steep = running.Service(tmp_path, models_folder=tmp_path / "models")
    records = running.rows("machines", 6)
    records[4]["hd"] = records[5]["hd"] = 3e38
    for sent, row in ((records, 5), (records[4], 1)):
        answer = steep.predict("machines", sent)
        assert answer.status_code == 422
        assert f"row {row}: the answer is beyond all numbers" in answer.json()["detail"]
    assert steep.predict("machines", records[:4]).status_code == 200
    steep.stop()


def test_texts_with_colons_are_no_repeated_keys(service):
    record = typical("loans") | {"job": '": ":', "home": ":"}
    assert len(predicted(service.predict("loans", [record] * 3))) == 3


@pytest.mark.parametrize("case", CASES)
def test_a_column_that_is_missing_is_named(service, case):
    for column in bundle(case).inputs:
        record = typical(case)
        del record[column.name]
        said = f"the column {column.name} is missing; send its value"
        problem = refused(service.predict(case, record), 422, said, column=column.name)
        assert ("or null" in problem["detail"]) == column.nullable
    refused(service.predict(case, [typical(case), record]), 422, f"row 2: {said}", row=2)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "not JSON: input data was truncated"),
        (b" \n", 400, "not JSON"),
        (b"NaN", 400, "not JSON"),
        (b"[NaN]", 400, "not JSON"),
        (b'{"speed": 1', 400, "not JSON"),
        (b"{'speed': 1}", 400, "not JSON"),
        (b'{"\xff": 1}', 400, "not UTF-8"),
        (b'{"\xff": NaN}', 400, "not UTF-8"),
        (b'{"\\ud800": NaN}', 400, "not JSON"),
        (b"\xef\xbb\xbf{}", 400, "not JSON"),
        ("{}".encode("utf-16"), 400, "not JSON"),
        (b"null", 422, "the body must be an object"),
        (b"1", 422, "the body must be an object"),
        (b'"speed"', 422, "the body must be an object"),
        (b"[]", 422, "the list of records is empty; send at least one"),
        (b"[1]", 422, "row 1: a record must be an object"),
        (b"[[]]", 422, "row 1: a record must be an object"),
        (b"[" * 100_000, 422, "row 1: a record must be an object"),
        (b'{"a":' * 100_000, 422, "the column a is not known"),
        (b"{}", 422, "the column speed is missing"),
        (b"{} {}", 422, "the column speed is missing"),
    ],
)
def test_a_body_that_holds_no_records_is_refused(service, body, status, said):
    refused(outcome(service, "machines", body), status, said)


def test_what_follows_a_record_is_refused(service):
    record = written(typical("machines"))
    for more in ("x", record, ",", "]", "\x00"):
        refused(outcome(service, "machines", record + more), 400, "not JSON: trailing characters")


# Limits


def test_a_request_may_have_so_many_rows(strict):
    record = typical("machines")
    assert len(predicted(strict.predict("machines", [record] * 20))) == 20
    said = "21 rows are too many for one request; send at most 20 at a time"
    refused(strict.predict("machines", [record] * 21), 413, said)


def test_a_body_may_be_so_large(strict):
    record = written(typical("machines")).encode()
    assert len(predicted(outcome(strict, "machines", record + b" " * (10**6 - len(record)))))
    said = "the body is larger than 1,000,000 bytes; send fewer rows at a time"
    too_much = record + b" " * 10**6
    refused(outcome(strict, "machines", too_much), 413, said)
    # Without a length, it is counted as it comes.
    kind = {"content-type": "application/json"}
    parts = (too_much[i : i + 10_000] for i in range(0, len(too_much), 10_000))
    answer = strict.client.post("/v1/cases/machines/predict", content=parts, headers=kind)
    refused(answer, 413, said)


def test_so_much_may_come_at_once(strict):
    """Bodies on their way are in memory, too; a small one always finds room."""
    post = head("POST /v1/cases/machines/predict HTTP/1.1", "content-length: 999999")
    connections = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(3)]
    for connection in connections:
        connection.sendall(post + b" " * 100_000)
    assert predicted(strict.predict("machines", typical("machines")))
    # The third waits for its turn; nobody finishes, so in the end it is told to come again.
    answer = connections[2].recv(65_536)
    assert answer.startswith(b"HTTP/1.1 503 ") and b"retry-after: 1" in answer
    for connection in connections:
        connection.close()


def test_large_requests_wait_for_their_turn(strict):
    """Six at once, of which two find room, are all answered."""
    record = written(typical("machines")).encode()
    body = record + b" " * (999_000 - len(record))
    with ThreadPoolExecutor(6) as threads:
        answers = threads.map(lambda _: outcome(strict, "machines", body), range(6))
    assert [answer.status_code for answer in answers] == [200] * 6


def test_a_request_that_comes_too_slowly_is_given_up(strict):
    body = written(typical("machines")).encode()
    post = head("POST /v1/cases/machines/predict HTTP/1.1", f"content-length: {len(body)}")
    slow = [
        [post, body[:20]],  # the rest of the body does not come
        [b"GET /health/live HTT"],  # nor that of the head
        [post, *(body[i : i + 1] for i in range(40))],  # or it comes in drops
        [b"GET /health/live HTTP/1.1\r\n", *[b"a: b\r\n"] * 40],
        [post + body[:-1]],
    ]
    started = time.monotonic()
    with ThreadPoolExecutor(len(slow)) as threads:
        answers = list(threads.map(lambda parts: talk(strict, *parts, pause=0.07), slow))
    assert [answer[:13] for answer in answers] == [b"HTTP/1.1 408 "] * len(slow)
    assert time.monotonic() - started < 5
    assert predicted(strict.predict("machines", typical("machines")))


# HTTP


@pytest.mark.parametrize(
    ("kind", "right"),
    [
        ("application/json", True),
        ("Application/JSON ; charset=UTF-8", True),
        ("text/csv", False),
        ("text/plain", False),
        ("application/x-www-form-urlencoded", False),
        ("application/jsonx", False),
    ],
)
def test_a_body_is_json(service, kind, right):
    answer = service.post(
        "/v1/cases/loans/predict", written(typical("loans")).encode(), **{"content-type": kind}
    )
    if right:
        assert predicted(answer)
    else:
        refused(answer, 415, f"the body must be application/json, and is {kind}")


def test_a_compressed_body_is_refused(service):
    answer = outcome(service, "loans", "{}", **{"content-encoding": "gzip"})
    refused(answer, 415, "the body must not be compressed")


@pytest.mark.parametrize(
    ("sent", "kept"),
    [("a", True), ("9.Az_-", True), ("x" * 64, True), ("x" * 65, False), ("a b", False),
     ("", False), ('a"b', False), ("a\xe9", False), ("a\tb", False), ("../a", False)],
)  # fmt: skip
def test_an_answer_has_the_requests_id_if_that_is_sane(service, sent, kept):
    headers = {"x-request-id": sent.encode("latin-1")}
    answer = service.client.get("/v1/cases/none", headers=headers)
    found = refused(answer, 404)["request_id"]
    assert (found == sent) == kept
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found)


def test_ids_are_different(service):
    ids = [service.client.get("/health/live").headers["x-request-id"] for _ in range(20)]
    assert len(set(ids)) == 20


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("HEAD", "/v1/cases", 200, None),
        ("HEAD", "/health/ready", 200, None),
        ("HEAD", "/v1/cases/none", 404, None),
        ("HEAD", "/v1/cases/loans/predict", 405, "POST"),
        ("GET", "/v1/cases/loans/predict", 405, "POST"),
        ("PUT", "/v1/cases/loans/predict", 405, "POST"),
        ("OPTIONS", "/v1/cases/loans/predict", 405, "POST"),
        ("POST", "/v1/cases", 405, "GET, HEAD"),
        ("DELETE", "/v1/cases/loans", 405, "GET, HEAD"),
        ("TRACE", "/", 405, "GET, HEAD"),
        ("POST", "/v1/cases/none/predict", 404, None),
        ("GET", "/v1/cases/", 404, None),
        ("GET", "/v1/cases/%ff%00", 404, None),
        ("GET", "/v1/cases/%2e%2e/%2e%2e", 404, None),
        ("GET", "/v1/cases/loans%2Fpredict", 405, "POST"),
        ("GET", "/v1/c%61ses/lo%61ns?a=%ff", 200, None),
        ("GET", "/page.js/../page.css", 404, None),
        ("PURGE", "/nothing", 404, None),
    ],
)
def test_methods_and_paths(service, method, path, status, allowed):
    said = talk(service, head(f"{method} {path} HTTP/1.1"))
    lines, _, body = said.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n")[1:])
    assert int(said[9:12]) == status
    assert headers.get("allow") == allowed
    assert headers["x-request-id"]
    if method == "HEAD":
        assert body == b""
        assert int(headers["content-length"]) > 0
    else:
        assert len(body) == int(headers["content-length"])
    if status >= 400:
        assert headers["content-type"] == "application/problem+json"
        assert not INSIDE.search(body.decode())


@pytest.mark.parametrize(
    "request_",
    [
        b"nonsense\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        head("BREW / HTTP/1.1"),
        head("GET / HTTP/7.4"),
        head("GET /\u00e9 HTTP/1.1"),
        head("GET / HTTP/1.1", "a: b", " folded"),
        head("GET / HTTP/1.1", "x: " + "a" * 70_000),
        head("GET /" + "a" * 70_000 + " HTTP/1.1"),
        head("GET / HTTP/1.1", *["x-many: 1"] * 10_000),
        head("POST / HTTP/1.1", "content-length: -3"),
        head("POST / HTTP/1.1", "content-length: 3", "content-length: 4"),
        head("POST / HTTP/1.1", "content-length: " + "9" * 30),
        head("POST / HTTP/1.1", "content-length: 3", "transfer-encoding: chunked") + b"0\r\n\r\n",
        head("POST / HTTP/1.1", "transfer-encoding: chunked") + b"zz\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_service_goes_on(service, request_):
    said = talk(service, request_)
    assert said == b"" or said.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 405 "))
    assert not INSIDE.search(said.decode("latin-1"))
    assert service.client.get("/health/ready").status_code == 200


def test_requests_may_come_one_behind_another(service):
    body = written(typical("machines")).encode()
    post = f"POST /v1/cases/machines/predict HTTP/1.1\r\ncontent-length: {len(body)}"
    said = talk(
        service,
        head("GET /health/live HTTP/1.1", "x-request-id: one", close=False)
        + head(post, "x-request-id: two", close=False) + body
        + head("GET /v1/cases/none HTTP/1.1", "x-request-id: three"),
    )  # fmt: skip
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"200", b"200", b"404"]
    assert re.findall(rb"x-request-id: (\w+)", said) == [b"one", b"two", b"three"]


def test_a_client_may_ask_before_it_sends_a_body(service):
    body = written(typical("machines")).encode()
    post = ["POST /v1/cases/machines/predict HTTP/1.1", "expect: 100-continue"]
    said = talk(service, head(*post, f"content-length: {len(body)}"), body, pause=0.1)
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"100", b"200"]
    said = talk(service, head(*post, "content-length: 99999999"))
    assert re.findall(rb"HTTP/1.1 (\d+)", said) == [b"413"]


def test_a_client_may_go_away(service):
    body = written(typical("machines")).encode()
    post = ["POST /v1/cases/machines/predict HTTP/1.1", f"content-length: {len(body)}"]
    for part in (b"", body[:10], body):
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(head(*post) + part)
    assert predicted(service.predict("machines", typical("machines")))
    # One that lost its body is done with when the service hears of it: soon, not at once. What
    # is left is the request that asks.
    running.until(lambda: service.metric("truefit_requests_in_flight") == 1)
    assert service.events("failed") == []
