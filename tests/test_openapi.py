"""The OpenAPI document is valid and exact; its page says all that is in it, without a script."""

import copy
import json
import os
import re
import shutil
import subprocess
from functools import cache

import cases
import msgspec
import pytest
from bs4 import BeautifulSoup
from openapi_spec_validator import validate
from service import COMMAND, Service, errors

from truefit.serving import openapi
from truefit.serving.schemas import Description

MOST = 50  # rows of a request
each_case = pytest.mark.parametrize("name", cases.NAMES)
each_lock = pytest.mark.parametrize("lock", ["open", "locked"])


@pytest.fixture(scope="module")
def services(tmp_path_factory):
    """One that everyone may ask, and one that wants a key; with the headers to send."""
    folder = tmp_path_factory.mktemp("locked")
    made = subprocess.run(
        [COMMAND[0], "key", "reader", "--keys", "keys"],
        cwd=folder, capture_output=True, encoding="utf-8", check=True,
    )  # fmt: skip
    running = {
        "open": Service(tmp_path_factory.mktemp("open"), "--no-log", "--max-rows", MOST),
        "locked": Service(folder, "--no-log", "--keys", folder / "keys"),
    }
    running["locked"].client.headers["authorization"] = f"Bearer {made.stdout.split()[-1]}"
    yield running
    for service in running.values():
        service.stop()


@pytest.fixture(scope="module")
def documents(services):
    return {lock: service.client.get("/openapi.json").json() for lock, service in services.items()}


def operations(document: dict):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def body_of(document: dict, path: str) -> tuple[dict, dict]:
    """The schema and the example of what is posted to a path."""
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return content["schema"], content["example"]


# The document


@each_lock
def test_the_document_is_valid(lock, documents):
    document = documents[lock]
    validate(document)
    assert document["openapi"].startswith("3.1")
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))


@each_lock
def test_each_operation_answers_its_example_as_described(lock, services, documents):
    document, client = documents[lock], services[lock].client
    for path, method, operation in operations(document):
        for p in operation.get("parameters", []):
            schema = p["schema"]
            path = path.replace(f"{{{p['name']}}}", (schema.get("enum") or schema["examples"])[0])
        if path.endswith("/rollback"):
            said, expected = client.post(path), "409" if lock == "locked" else "403"
        elif method == "post":
            _, example = body_of(document, path_of(document, operation))
            said, expected = client.post(path, json=example), "200"
        else:
            said, expected = client.get(path), "200"
        assert str(said.status_code) == expected, (path, said.text)
        described = operation["responses"][expected]
        if "$ref" in described:
            described = document["components"]["responses"][described["$ref"].split("/")[-1]]
        assert said.headers["x-request-id"] and "x-request-id" in described["headers"]
        ((kind, content),) = described["content"].items()
        assert said.headers["content-type"].partition(";")[0] == kind
        value = said.json() if "json" in kind else said.text
        assert errors(closed(document), content["schema"], value) == [], path


def closed(document: dict) -> dict:
    """A document that allows no member which it does not name."""

    def close(schema: dict) -> dict:
        return {"additionalProperties": False} | schema if "properties" in schema else schema

    return json.loads(json.dumps(document), object_hook=close)


def path_of(document: dict, wanted: dict) -> str:
    return next(p for p, _, operation in operations(document) if operation is wanted)


def test_keys_are_asked_for_where_the_document_says(services, documents):
    document, client = documents["locked"], services["locked"].client
    without = {"authorization": ""}
    for path, method, operation in operations(document):
        path = re.sub(r"{case}", "homes", path).replace("{version}", "x")
        status = client.request(method, path, headers=without).status_code
        assert (status == 401) == ("security" in operation) == ("401" in operation["responses"])
    assert "securitySchemes" not in documents["open"]["components"]


@each_case
def test_the_schema_of_a_record_takes_what_the_service_takes(name, services, documents):
    """Each change to a typical record is judged alike by the schema and by the service."""
    document, service = documents["open"], services["open"]
    path = f"/v1/cases/{name}/predict"
    schema, typical = body_of(document, path)
    columns = document["components"]["schemas"][f"{name}.record"]["properties"]
    bodies = [typical, [typical], [typical] * MOST, [typical] * (MOST + 1), [], None, 5, "row"]
    bodies += [typical | {"unheard_of": 1}, [typical, {}], [[typical]]]
    for column in [*columns][:3] + [*columns][-3:] + ["pid"] * (name == "homes"):
        left_out = {k: v for k, v in typical.items() if k != column}
        bodies += [left_out, *(left_out | {column: v} for v in VALUES)]
    taken = 0
    for body in bodies:
        status = service.post(path, json.dumps(body).encode()).status_code
        assert status in (200, 413, 422)
        assert (status == 200) == (errors(document, schema, body) == []), body
        taken += status == 200
    assert 0 < taken < len(bodies)


VALUES = [None, 0, -1.5, 1e38, -1e39, 1e300, True, "", "Zürich", "12", [], [1], {}]


@each_case
def test_every_column_is_described(name, services, documents):
    columns = documents["open"]["components"]["schemas"][f"{name}.record"]["properties"]
    for known in services["open"].client.get(f"/v1/cases/{name}").json()["inputs"]:
        said = columns[known["name"]]
        assert ("null" in said["type"]) == known["nullable"]
        for value in known.get("categories", []):
            assert value in said["description"]
        if "minimum" in known:
            assert f"{known['minimum']:.12g} to {known['maximum']:.12g}" in said["description"]
        assert known.get("unit", "") in said["description"]


# The page


@cache
def soup(html: str) -> BeautifulSoup:
    return BeautifulSoup(html, "html.parser")


@each_lock
def test_the_page_has_all_and_loads_nothing(lock, services, documents):
    document = documents[lock]
    answer = services[lock].client.get("/docs")
    page = soup(answer.text)
    assert page.find_all(["script", "img", "iframe", "object"]) == []
    assert [link["href"] for link in page.find_all("link")] == ["data:,"]
    assert "url(" not in page.style.text and "@import" not in page.style.text
    assert not [e for e in page.find_all(True) if e.has_attr("style")]
    text = page.get_text(" ")
    for path, method, operation in operations(document):
        place = page.find(id=operation["operationId"]).find_next(class_="path")
        assert place.get_text() == f"{method.upper()} {path}"
        for status in operation["responses"]:
            assert status in text
    codes = {code.get_text() for code in page.find_all("code")}
    for name in cases.NAMES:
        assert set(document["components"]["schemas"][f"{name}.record"]["properties"]) <= codes
    ids = [e["id"] for e in page.find_all(id=True)]
    assert len(ids) == len(set(ids))
    for link in page.find_all("a", href=re.compile("^#")):
        assert link["href"][1:] in ids


def test_the_examples_run_as_they_are_printed(services):
    if not shutil.which("curl") and os.environ.get("TRUEFIT_ALL_TOOLS") != "1":
        pytest.skip("curl is not installed")
    service = services["open"]
    ran = 0
    for example in soup(service.client.get("/docs").text).find_all("pre"):
        command = example.get_text().replace(openapi.ADDRESS, service.url)
        if "/rollback" in command:
            continue
        done = subprocess.run(
            ["bash", "-c", command + " --silent --fail-with-body"],
            capture_output=True, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout)
        ran += 1
    assert ran > 3 * len(cases.NAMES)


def described(word: str, name: str = "c") -> Description:
    """A case of this name whose manifest has this word everywhere."""
    column = {"name": word, "type": "text", "unit": word, "nullable": True, "typical": word}
    column["categories"] = [word]
    case = {
        "case": name, "title": word, "about": word, "task": "classification",
        "target": {"name": word}, "classes": [word, "b"], "positive": "b", "threshold": 0.5,
        "interval": None, "id": None, "model": word, "version": word, "training_rows": 1,
        "inputs": [column | {"missing_share": 0.1, "influence": 1.0}],
    }  # fmt: skip
    return msgspec.convert(case, Description)


def test_words_from_a_manifest_are_escaped():
    attack = "</style><script>alert(1)</script>"
    document = openapi.document([described(attack)], keys=False)
    validate(copy.deepcopy(document))
    page = soup(openapi.page(document))
    assert page.find_all("script") == []
    assert page.get_text().count(attack) > 8


def test_names_of_cases_are_of_any_alphabet():
    names = ["hä", "hö", "家", "h_"]
    document = openapi.document([described("word", name) for name in names], keys=False)
    validate(copy.deepcopy(document))
    known = document["components"]["schemas"]
    assert all(re.fullmatch(r"[\w.-]+", name, re.ASCII) for name in known)
    assert sum(name.endswith(".record") for name in known) == len(names)
