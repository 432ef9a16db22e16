"""The service described as OpenAPI 3.1, and that description as a page without a script.

The schemas are those of the types that the service reads and writes; see `truefit.serving.schemas`.
"""

import json
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from msgspec.json import schema_components

from truefit.serving import schemas, v2

JSON = "application/json"
POSTED = (400, 403, 404, 408, 413, 415, 422, 503)  # what may be wrong with a request with a body
PROBLEM = "application/problem+json"
TEXT = {"type": "string"}
COMPONENTS = "#/components/schemas/"
KINDS = (  # what is taken and answered, whichever cases there are
    schemas.Cases, schemas.Description, schemas.Explanation, schemas.Comparison,
    schemas.RolledBack, schemas.Fault, schemas.Live, schemas.Ready, schemas.Server, schemas.Model,
    schemas.ModelReady, schemas.Inference, v2.Request,
)  # fmt: skip
PROBLEMS = {
    400: "The body is not JSON.",
    401: "The key is missing or wrong.",
    403: "A page of another site sent the request, or what it asks for needs a service with keys.",
    404: "There is no such case, or none with this version.",
    408: "The body takes too long to arrive.",
    409: "There is no bundle to go back to.",
    413: "The body or its answer is too large, or there are too many rows.",
    415: "The body is not `application/json`, or does not say so, or is compressed.",
    421: "The service does not go by the name that the request has as its `Host`.",
    422: "The body is JSON, and not what the case takes: `detail` says what is wrong, "
    "`row` and `column` where.",
    503: "The service cannot answer now; it can be asked again.",
}
INTRODUCTION = """\
Predictions of exported models. A record is an object by column name, with every column in it.

Every answer has the header `x-request-id`: the request's own, where it sends one. What goes wrong
is answered as `application/problem+json` (RFC 9457)."""
KEYS = """\
What is under `/v1` and `/v2`, but for its health, needs a key, as `Authorization: Bearer KEY`."""
PRIVATE = """\
All but `/health/live` and `/health/ready` needs a key, as `Authorization: Bearer KEY`."""
STYLE = (Path(__file__).parent / "page" / "page.css").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:8000"  # in examples; a person puts their own in its place


def document(
    cases: Sequence[schemas.Description],
    *,
    keys: bool,
    private: bool = False,
    max_rows: int = 10_000,
) -> dict:
    """Describe the service for the cases it serves.

    Parameters
    ----------
    cases : sequence of Description
        Each as ``GET /v1/cases/{case}`` answers.
    keys : bool
        Whether the service wants a key under ``/v1`` and ``/v2``.
    private : bool
        Whether it wants one for all but its health.
    max_rows : int
        The most records of one request.

    Returns
    -------
    dict
        An OpenAPI 3.1 document.
    """
    paths = {
        "/v1/cases": {
            "get": _operation(
                "Cases", "cases", "Which cases are served", _answer(schemas.Cases, "The cases.")
            )
        }
    }
    for case in cases:
        name, at = case.case, f"/v1/cases/{case.case}"
        typical = _typical(case)
        record = _ref(schemas.named(name, "record"))
        many = {"type": "array", "items": record, "minItems": 1, "maxItems": max_rows}
        paths[at] = {
            "get": _operation(
                name,
                f"{name}_description",
                "What the model takes, and what it predicts",
                _answer(schemas.Description, "The description."),
                problems=(404,),
            )
        }
        paths[f"{at}/predict"] = {
            "post": _operation(
                name,
                f"{name}_predict",
                "Predict for one record, or for many",
                _answer(schemas.named(name, "answer"), "The predictions, in the records' order."),
                problems=POSTED,
                description=f"One record, or an array of 1 to {max_rows} records.",
                requestBody=_body({"oneOf": [record, many]}, typical),
            )
        }
        paths[f"{at}/explain"] = {
            "post": _operation(
                name,
                f"{name}_explain",
                "What moved a prediction",
                _answer(schemas.Explanation, "The contributions, the largest first."),
                problems=POSTED,
                description="How one record's prediction differs from the prediction for a row of "
                "typical values, by column. The contributions add up to the difference.",
                requestBody=_body(record, typical),
            )
        }
        paths[f"{at}/comparison"] = {
            "get": _operation(
                name,
                f"{name}_comparison",
                "How champion and challenger compare",
                _answer(schemas.Comparison, "The comparison, without labels."),
                problems=(404,),
                description="While a challenger answers a share of the requests (`--canary`) or "
                "scores it beside the champion (`--shadow`). `/comparison` shows it to people.",
            )
        }
        paths[f"{at}/rollback"] = {
            "post": _operation(
                name,
                f"{name}_rollback",
                "Go back to the bundle before this one",
                _answer(schemas.RolledBack, "The bundle that answers now."),
                problems=(403, 404, 409) if keys else (403,),
            )
        }
    paths |= _inference_protocol(cases) | _health_and_metrics()
    if keys:
        for path, methods in paths.items():
            for described in methods.values() if _needs_key(path, private) else ():
                described["security"] = [{"key": []}]
                described["responses"]["401"] = _problem_answer(401)
    said_of_keys = PRIVATE if private else KEYS
    security = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Truefit",
            "version": "1",
            "description": f"{INTRODUCTION}\n\n{said_of_keys}" if keys else INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "Cases"},
            *(
                {"name": c.case, "x-displayName": c.title}
                | ({"description": c.about} if c.about else {})
                for c in cases
            ),
            {
                "name": "Open Inference Protocol",
                "description": "Version 2, over REST: one tensor a column, of shape [n] or "
                "[n, 1]; null is a gap.",
            },
            {"name": "Operations", "description": "Health and metrics."},
        ],
        "paths": paths,
        "components": {
            "schemas": _components(cases),
            "responses": {
                f"problem_{status}": {
                    "description": text,
                    "headers": _headers(),
                    "content": {PROBLEM: {"schema": _ref(schemas.Fault)}},
                }
                for status, text in PROBLEMS.items()
            },
            **({"securitySchemes": security} if keys else {}),
        },
    }


def _needs_key(path: str, private: bool) -> bool:
    if private:
        return not path.startswith("/health")
    return path.startswith(("/v1", "/v2")) and not path.startswith("/v2/health")


def _operation(
    tag: str, name: str, summary: str, answers: dict, *, problems: tuple[int, ...] = (), **more: Any
) -> dict:
    """One method of a path; ``answers`` are those that went well."""
    said = {"tags": [tag], "operationId": name, "summary": summary}
    problems_said = {str(status): _problem_answer(status) for status in (*problems, 421)}
    return said | more | {"responses": answers | problems_said}


def _problem_answer(status: int) -> dict:
    return {"$ref": f"#/components/responses/problem_{status}"}


# Schemas


def _components(cases: Sequence[schemas.Description]) -> dict:
    """The schemas of all that is taken and answered, by name, from the types of the service."""
    own = (
        kind
        for about in cases
        for kind in (
            schemas.record(schemas.named(about.case, "record"), about.inputs, about.id),
            schemas.predictions(about),
        )
    )
    _, found = schema_components((*KINDS, *own), ref_template=f"{COMPONENTS}{{name}}")
    return _merged(found)


def _merged(schema: Any) -> Any:
    """Schemas in which a choice of types is one type with several names, as people write it."""
    if isinstance(schema, list):
        return [_merged(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: _merged(part) for key, part in schema.items()}
    choices = schema.get("anyOf")
    if not isinstance(choices, list):  # a column may have this name
        return schema
    if all("type" in c for c in choices) and sum(len(c) > 1 for c in choices) < 2:
        del schema["anyOf"]
        for choice in choices:
            schema |= choice
        schema["type"] = [choice["type"] for choice in choices]
    return schema


def _ref(kind: type | str) -> dict:
    """A reference to the schema of a type, or to the one of this name."""
    return {"$ref": COMPONENTS + (kind if isinstance(kind, str) else kind.__name__)}


def _headers() -> dict:
    return {"x-request-id": {"description": "To find it in the log.", "schema": TEXT}}


def _answer(kind: type | str, description: str) -> dict:
    return _content(JSON, _ref(kind), description)


def _content(media: str, schema: dict, description: str) -> dict:
    content = {media: {"schema": schema}}
    return {"200": {"description": description, "headers": _headers(), "content": content}}


def _body(schema: dict, example: object) -> dict:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _typical(case: schemas.Description) -> dict:
    return {column.name: column.typical for column in case.inputs}


# The Open Inference Protocol, and what an operator asks for


def _inference_protocol(cases: Sequence[schemas.Description]) -> dict:
    tag = "Open Inference Protocol"
    model = {
        "name": "case",
        "in": "path",
        "required": True,
        "schema": TEXT | {"enum": [case.case for case in cases]},
    }
    versions = {"examples": [case.version for case in cases]}
    version = model | {"name": "version", "schema": TEXT | versions}
    paths = {
        "/v2": {
            "get": _operation(tag, "server", "The server", _answer(schemas.Server, "Its name."))
        },
        "/v2/health/live": {
            "get": _operation(tag, "v2_live", "Alive", _answer(schemas.Live, "It is."))
        },
        "/v2/health/ready": {
            "get": _operation(
                tag, "v2_ready", "Ready", _answer(schemas.Ready, "It is."), problems=(503,)
            )
        },
    }
    for at, parameters, suffix in (
        ("/v2/models/{case}", [model], ""),
        ("/v2/models/{case}/versions/{version}", [model, version], "_of_version"),
    ):
        paths[at] = {
            "get": _operation(
                tag,
                f"model{suffix}",
                "What a model takes",
                _answer(schemas.Model, "Its tensors."),
                problems=(404,),
                parameters=parameters,
            )
        }
        paths[f"{at}/ready"] = {
            "get": _operation(
                tag,
                f"model_ready{suffix}",
                "Whether a model is ready",
                _answer(schemas.ModelReady, "It is."),
                problems=(404, 503),
                parameters=parameters,
            )
        }
        paths[f"{at}/infer"] = {
            "post": _operation(
                tag,
                f"infer{suffix}",
                "Predict",
                _answer(schemas.Inference, "The outputs."),
                problems=POSTED,
                parameters=parameters,
                requestBody=_body(_ref(v2.Request), _tensors(cases[0]) if cases else {}),
            )
        }
    return paths


def _tensors(case: schemas.Description) -> dict:
    """A row of typical values as the inference protocol writes it."""
    return {
        "inputs": [
            {
                "name": column.name,
                "shape": [1],
                "datatype": v2.DATATYPES[column.type],
                "data": [column.typical],
            }
            for column in case.inputs
        ]
    }


def _health_and_metrics() -> dict:
    return {
        "/health/live": {
            "get": _operation(
                "Operations", "live", "Alive", _answer(schemas.Live, "The process answers.")
            )
        },
        "/health/ready": {
            "get": _operation(
                "Operations",
                "ready",
                "Ready for requests",
                _answer(schemas.Ready, "It is."),
                problems=(503,),
            )
        },
        "/metrics": {
            "get": _operation(
                "Operations",
                "metrics",
                "Metrics for Prometheus",
                _content("text/plain", TEXT, "In Prometheus' text format."),
            )
        },
    }


# The page


def page(document: dict) -> str:
    """The document for people: one page that needs no script and no other file."""
    info = document["info"]
    sections, contents = [], []
    for number, tag in enumerate(document["tags"], 1):
        name = escape(tag.get("x-displayName", tag["name"]))
        contents.append(f'<li><a href="#s{number}">{name}</a></li>')
        operations = "".join(
            _section(document, path, method, found)
            for path, methods in document["paths"].items()
            for method, found in methods.items()
            if tag["name"] in found["tags"]
        )
        about = _prose(tag["description"]) if tag.get("description") else ""
        sections.append(
            f'<section aria-labelledby="s{number}"><h2 id="s{number}">{name}</h2>'
            f"{about}{operations}</section>"
        )
    problem = _ref(schemas.Fault)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(info["title"])}: the API</title>
<link rel="icon" href="data:,">
<style>
{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the text</a>
<header class="bar">
<a class="home" href="./">{escape(info["title"])}</a>
<nav aria-label="Sections"><ul>{"".join(contents)}<li><a href="#errors">Errors</a></li></ul></nav>
<a href="openapi.json">OpenAPI {escape(document["openapi"].removesuffix(".0"))}</a>
</header>
<main id="main" class="docs">
<header class="title"><h1>The API</h1>{_prose(info["description"])}</header>
{"".join(sections)}
<section aria-labelledby="errors"><h2 id="errors">Errors</h2>
{_table("Members of a problem", _rows(document, problem))}
</section>
</main>
</body>
</html>
"""


def _prose(text: str) -> str:
    """Paragraphs, with code between backquotes."""
    return "".join(f"<p>{_inline(paragraph)}</p>" for paragraph in text.split("\n\n"))


def _inline(text: str) -> str:
    parts = escape(text).split("`")
    return "".join(f"<code>{p}</code>" if n % 2 else p for n, p in enumerate(parts))


def _section(document: dict, path: str, method: str, found: dict) -> str:
    """One operation: what it takes, an example, what it answers."""
    said = [
        f'<h3 id="{escape(found["operationId"])}">{escape(found["summary"])}</h3>'
        f'<p class="path"><b>{method.upper()}</b> <code>{escape(path)}</code></p>',
        _prose(found["description"]) if "description" in found else "",
    ]
    if parameters := found.get("parameters"):
        rows = [(p["name"], _words(document, p["schema"]), "", _sample(p)) for p in parameters]
        said.append(_table("In the path", rows))
    if body := found.get("requestBody"):
        said.append(_fold("The body", _rows(document, body["content"][JSON]["schema"])))
    example = escape(_curl(path, method, found))
    said.append(f'<pre tabindex="0" role="group" aria-label="Example">{example}</pre>')
    statuses = []
    for status, answer in sorted(found["responses"].items()):
        answer = _resolved(document, answer)
        text = _inline(answer["description"])
        statuses.append(f'<tr><th scope="row">{status}</th><td>{text}</td></tr>')
        if status == "200" and (content := answer["content"].get(JSON)):
            said.append(_fold("The answer", _rows(document, content["schema"])))
    said.append(
        '<table class="statuses"><thead class="hidden"><tr><th scope="col">Status</th>'
        f'<th scope="col">When</th></tr></thead><tbody>{"".join(statuses)}</tbody></table>'
    )
    return "".join(said)


def _curl(path: str, method: str, found: dict) -> str:
    """An example request, to be run in a terminal."""
    for p in found.get("parameters", []):
        path = path.replace(f"{{{p['name']}}}", _sample(p))
    parts = [f"curl {shlex.quote(ADDRESS + path)}"]
    if "security" in found:
        parts.append('-H "authorization: Bearer $TRUEFIT_KEY"')
    if "requestBody" in found:
        example = found["requestBody"]["content"][JSON]["example"]
        data = shlex.quote(json.dumps(example, ensure_ascii=False, indent=1))
        parts += [f"-H 'content-type: {JSON}'", f"-d {data}"]
    elif method == "post":
        parts.append("-X POST")
    return " \\\n  ".join(parts)


def _sample(parameter: dict) -> str:
    schema = parameter["schema"]
    return next(iter(schema.get("enum") or schema.get("examples") or ["…"]))


def _resolved(document: dict, found: dict) -> dict:
    while "$ref" in found or "anyOf" in found:
        if "anyOf" in found:  # the first is what there is, the others say that it may be missing
            found = found["anyOf"][0]
            continue
        at, *keys = document, *found["$ref"].removeprefix("#/").split("/")
        for key in keys:
            at = at[key]
        found = at
    return found


def _words(document: dict, schema: dict) -> str:
    """The type of a value in words."""
    if "anyOf" in schema:
        return " or ".join(_words(document, choice) for choice in schema["anyOf"])
    kind = schema.get("type", "object")
    words = " or ".join(kind) if isinstance(kind, list) else kind
    if "items" in schema:
        item = _words(document, _resolved(document, schema["items"]))
        words = words.replace("array", f"array of {item}s")
    if "enum" in schema:
        words = " or ".join(schema["enum"])
    return words


def _rows(document: dict, schema: dict, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, meaning and example of every member, those of members too."""
    schema = _resolved(document, schema)
    if "oneOf" in schema:  # one record, or an array of them
        schema = _resolved(document, schema["oneOf"][0])
    for name, member in schema.get("properties", {}).items():
        said, words = member.get("description", ""), _words(document, member)
        member = _resolved(document, member)
        if name not in schema.get("required", ()):
            said = "; ".join(filter(None, (said, "may be missing")))
        example = json.dumps(member["examples"][0]) if member.get("examples") else ""
        yield prefix + name, words, said, example
        inner = _resolved(document, member.get("items", member))
        if "properties" in inner:
            yield from _rows(document, inner, prefix + name + ("[]." if "items" in member else "."))


def _table(caption: str, rows: Iterable[tuple[str, str, str, str]], shown: bool = True) -> str:
    body = "".join(
        f'<tr><th scope="row"><code>{_breakable(name)}</code></th><td>{escape(kind)}</td><td>'
        + "; ".join(
            filter(None, (_inline(said), example and f"such as <code>{escape(example)}</code>"))
        )
        + "</td></tr>"
        for name, kind, said, example in rows
    )
    head = "".join(f'<th scope="col">{h}</th>' for h in ("Name", "Type", "Meaning"))
    hidden = "" if shown else ' class="hidden"'
    return (
        f'<table class="members"><caption{hidden}>{escape(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _breakable(name: str) -> str:
    """A name that a narrow column may break, between its words only."""
    return re.sub(r"([_.])", r"\1<wbr>", escape(name))


def _fold(caption: str, rows: Iterable[tuple[str, str, str, str]]) -> str:
    table = _table(caption, rows, shown=False)
    return f"<details><summary>{escape(caption)}</summary>{table}</details>"
