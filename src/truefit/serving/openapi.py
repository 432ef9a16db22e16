"""The service described as OpenAPI 3.1, and that description as a page without a script."""

import json
import re
import shlex
from collections.abc import Iterable, Iterator
from html import escape
from pathlib import Path
from typing import Any

LARGEST = (2 - 2**-23) * 2.0**127  # a larger number would be infinite to the model
JSON = "application/json"
POSTED = (400, 403, 404, 408, 413, 415, 422, 503)  # what may be wrong with a request with a body
PROBLEM = "application/problem+json"
ROLES = ["champion", "challenger"]
# Of the Open Inference Protocol
DATATYPES = ["FP64", "BYTES", "FP32", "FP16", "BF16", "BOOL"]
DATATYPES += [f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)]
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
    cases: list[dict], *, keys: bool, private: bool = False, max_rows: int = 10_000
) -> dict:
    """Describe the service for the cases it serves.

    Parameters
    ----------
    cases : list of dict
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
                "Cases", "cases", "Which cases are served", _answer(_list_of_cases(), "The cases.")
            )
        }
    }
    schemas = {
        "problem": _problem(), "description": _description(), "comparison": _comparison(),
    }  # fmt: skip
    for case in cases:
        name, at = case["case"], f"/v1/cases/{case['case']}"
        typical = _typical(case)
        schemas[f"{name}.record"] = _record(case)
        schemas[f"{name}.answer"] = _predictions(case)
        record = {"$ref": f"#/components/schemas/{name}.record"}
        many = {"type": "array", "items": record, "minItems": 1, "maxItems": max_rows}
        paths[at] = {
            "get": _operation(
                name,
                f"{name}_description",
                "What the model takes, and what it predicts",
                _answer({"$ref": "#/components/schemas/description"}, "The description."),
                problems=(404,),
            )
        }
        paths[f"{at}/predict"] = {
            "post": _operation(
                name,
                f"{name}_predict",
                "Predict for one record, or for many",
                _answer(
                    {"$ref": f"#/components/schemas/{name}.answer"},
                    "The predictions, in the records' order.",
                ),
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
                _answer(_explanation(), "The contributions, the largest first."),
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
                _answer(
                    {"$ref": "#/components/schemas/comparison"}, "The comparison, without labels."
                ),
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
                _answer(_rolled_back(), "The bundle that answers now."),
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
                {"name": c["case"], "x-displayName": c["title"]}
                | ({"description": c["about"]} if c.get("about") else {})
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
            "schemas": schemas,
            "responses": {
                f"problem_{status}": {
                    "description": text,
                    "headers": _headers(),
                    "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/problem"}}},
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


def _text(description: str = "", **more: Any) -> dict:
    return {"type": "string"} | ({"description": description} if description else {}) | more


def _number(description: str = "", **more: Any) -> dict:
    return {"type": "number"} | ({"description": description} if description else {}) | more


def _texts(*names: str) -> dict:
    return {name: _text() for name in names}


def _loose(properties: dict, *required: str) -> dict:
    """An object that has these properties, and may have others."""
    return {"type": "object", "properties": properties, "required": [*required]}


def _object(properties: dict, *, optional: tuple[str, ...] = (), **more: Any) -> dict:
    """An object of these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    } | more


def _array(items: dict, **more: Any) -> dict:
    return {"type": "array", "items": items} | more


def _headers() -> dict:
    return {"x-request-id": {"description": "To find it in the log.", "schema": _text()}}


def _answer(schema: dict, description: str, kind: str = JSON) -> dict:
    content = {kind: {"schema": schema}}
    return {"200": {"description": description, "headers": _headers(), "content": content}}


def _body(schema: dict, example: object) -> dict:
    return {"required": True, "content": {JSON: {"schema": schema, "example": example}}}


def _column(column: dict) -> dict:
    """The schema of one input column."""
    kind = "number" if column["type"] == "number" else "string"
    said = [column["unit"]] if column.get("unit") else []
    if column.get("minimum") is not None:
        said.append(f"{column['minimum']:.12g} to {column['maximum']:.12g} in training")
    if column.get("categories"):
        said.append("in training: " + ", ".join(_categories(column)))
    if column["nullable"]:
        said.append("null where there is none" if column.get("absent") else "null if not known")
    if kind == "number":
        limits = {"minimum": -LARGEST, "maximum": LARGEST}
    else:  # an empty text is a gap
        limits = {} if column["nullable"] else {"minLength": 1}
    return {
        "type": [kind, "null"] if column["nullable"] else kind,
        **limits,
        "description": "; ".join(said),
        "examples": [column.get("typical")],
    }


def _categories(column: dict) -> list[str]:
    return [c for c in column["categories"] if not (column.get("absent") and c == "absent")]


def _record(case: dict) -> dict:
    columns = {column["name"]: _column(column) for column in case["inputs"]}
    if not case["id"] or case["id"] in columns:
        return _object(columns)
    identity = {"type": ["string", "number", "null"], "description": "comes back with the answer"}
    return _object({case["id"]: identity} | columns, optional=(case["id"],))


def _typical(case: dict) -> dict:
    return {column["name"]: column.get("typical") for column in case["inputs"]}


def _heading() -> dict:
    return {
        "case": _text(),
        "version": _text("of the bundle that answered"),
        "model_role": _text("of that bundle, while there is a challenger", enum=ROLES),
        "request_id": _text(),
    }


def _warning() -> dict:
    return _object(
        {
            "column": _text(),
            "value": {"type": ["number", "string"]},
            "reason": _text("why the prediction is to be taken with care"),
        }
    )


def _predictions(case: dict) -> dict:
    """The answer to predict; what is in it depends on the task."""
    unit = case["target"].get("unit")
    identity = {"id": {"type": ["string", "number", "null"]}} if case["id"] else {}
    if case["classes"]:
        chance = {"type": "number", "minimum": 0, "maximum": 1}
        said = {
            "prediction": _text(
                f"{case['positive']} from a probability of {case['threshold']:.3g} on",
                enum=case["classes"],
            ),
            "probabilities": _object(dict.fromkeys(case["classes"], chance)),
        }
    else:
        said = {"prediction": _number(unit or "")}
        if case["interval"]:
            end = f"end of the interval of {100 * case['interval']['confidence']:g} % confidence"
            said |= {"low": _number(f"lower {end}"), "high": _number(f"upper {end}")}
    one = _object(identity | said | {"warnings": _array(_warning())}, optional=("id",))
    return _object(_heading() | {"predictions": _array(one)}, optional=("model_role",))


def _explanation() -> dict:
    value = {"type": ["number", "string", "null"]}
    contribution = _object(
        {
            "column": _text(),
            "value": value,
            "typical": value,
            "contribution": _number("in the unit of the prediction"),
        }
    )
    return _object(
        _heading()
        | {
            "prediction": _number("for a classification the probability of the positive class"),
            "typical": _number("the prediction for a row of typical values"),
            "contributions": _array(contribution),
        },
        optional=("model_role",),
    )


def _comparison() -> dict:
    """Champion and challenger, as far as both are there."""
    numbers = {"type": ["object", "null"], "additionalProperties": {"type": "number"}}
    count = {"type": "integer", "minimum": 0}
    side = {
        "version": _text(),
        "model": _text(),
        "requests": count | {"description": "that it answered"},
        "rows": count,
        "predictions": numbers | {"description": "quantiles; in a shadow of rows both scored"},
        "seconds": numbers | {"description": "quantiles of the time for a request"},
    }
    more = ("requests", "rows", "predictions", "seconds")
    shadow = {
        "requests": count | {"description": "that both scored"},
        "rows": count,
        "dropped": count | {"description": "requests that the challenger had no time for"},
        "difference": numbers | {"description": "challenger minus champion, in the target's unit"},
        "apart": numbers | {"description": "how far, as a share of the larger prediction; for a "
                            "classification the difference of the probabilities"},
        "correlation": {"type": ["number", "null"]},
        "called_differently": {"type": ["number", "null"], "description": "share of the rows"},
        "pairs": _array(
            _array({"type": "number"}, minItems=2, maxItems=2),
            description="what champion and challenger said of the newest rows",
        ),
    }  # fmt: skip
    needed = ("requests", "rows", "dropped")
    nothing = {"type": ["object", "null"]}
    return _object(
        {
            "case": _text(),
            "request_id": _text(),
            "mode": {"type": ["string", "null"], "description": "shadow or canary"},
            "share": {"type": ["number", "null"], "description": "of the requests"},
            "since": {"type": ["string", "null"], "description": "when both were first there"},
            "champion": _object(side, optional=more),
            "challenger": _object(side | {"failed": count}) | nothing,
            "shadow": _object(shadow, optional=tuple(n for n in shadow if n not in needed))
            | nothing,
            "reason": {"type": ["string", "null"], "description": "why there is no challenger"},
        }
    )


def _rolled_back() -> dict:
    return _object({"case": _text(), "version": _text("of the bundle that answers now")})


def _list_of_cases() -> dict:
    case = _texts("case", "title", "task", "target", "version")
    return _object({"cases": _array(_object(case))})


def _description() -> dict:
    """What a model takes and predicts; more members may come."""
    column = {
        "name": _text(),
        "type": _text(enum=["number", "text"]),
        "unit": _text(),
        "nullable": {"type": "boolean"},
        "absent": {"type": "boolean", "description": "null means that there is none"},
        "minimum": _number("in training"),
        "maximum": _number("in training"),
        "categories": _array(_text(), description="in training"),
        "typical": {"type": ["number", "string"], "description": "null where it is missing"},
        "influence": _number(
            "mean absolute change of the prediction when the column takes its typical value"
        ),
    }
    needed = ("name", "type", "nullable")
    optional = tuple(name for name in column if name not in needed)
    maybe = {"type": ["string", "null"]}
    return {
        "type": "object",
        "properties": {
            "case": _text(),
            "title": _text(),
            "about": maybe,
            "task": _text(enum=["regression", "classification"]),
            "target": {"type": "object"},
            "classes": _array(_text(), type=["array", "null"]),
            "positive": maybe,
            "threshold": {"type": ["number", "null"]},
            "interval": {"type": ["object", "null"]},
            "id": maybe,
            "model": _text(),
            "version": _text(),
            "previous": maybe,
            "training_rows": {"type": "integer"},
            "inputs": _array(_object(column, optional=optional, additionalProperties=True)),
        },
        "required": ["case", "title", "task", "target", "version", "inputs"],
    }


def _problem() -> dict:
    return _object(
        {
            "type": _text(),
            "title": _text("what the status means"),
            "status": {"type": "integer"},
            "detail": _text("what is wrong, and where"),
            "request_id": _text(),
            "row": {"type": "integer", "description": "of the records, from 1"},
            "column": _text(),
            "error": _text("the detail once more, under /v2"),
        },
        optional=("row", "column", "error"),
    )


# The Open Inference Protocol, and what an operator asks for


def _inference_protocol(cases: list[dict]) -> dict:
    tag = "Open Inference Protocol"
    model = {
        "name": "case",
        "in": "path",
        "required": True,
        "schema": _text(enum=[case["case"] for case in cases]),
    }
    versions = [c["version"] for c in cases]
    version = model | {"name": "version", "schema": _text(examples=versions)}
    shape = _array({"type": "integer", "minimum": 1}, minItems=1, maxItems=2)
    # Members that the protocol does not name are let through.
    extra = {"parameters": {"type": ["object", "null"]}}
    tensor = extra | {
        "name": _text("of a column"),
        "shape": shape,
        "datatype": _text("BYTES for texts; for numbers FP64 or another one", enum=DATATYPES),
        "data": _array({"type": ["number", "string", "boolean", "null"]}, minItems=1),
    }
    request = extra | {
        "id": {"type": ["string", "null"]},
        "inputs": _array(_loose(tensor, "name", "shape", "datatype", "data"), minItems=1),
        "outputs": _array(
            _loose(extra | {"name": _text()}, "name"),
            type=["array", "null"],
            description="those to answer with; all, if it is missing",
        ),
    }
    said = {
        "name": _text("prediction, low, high or probability"),
        "shape": shape,
        "datatype": _text(enum=["FP64", "BYTES"]),
        "data": _array({"type": ["number", "string"]}),
    }
    roles = _object({"model_role": _text("while there is a challenger", enum=ROLES)})
    response = _object(
        _texts("model_name", "model_version", "id")
        | {"parameters": roles, "outputs": _array(_object(said))},
        optional=("parameters",),
    )
    declared = _array(_object(_texts("name", "datatype") | {"shape": _array({"type": "integer"})}))
    metadata = _object(
        _texts("name", "platform")
        | {"versions": _array(_text()), "inputs": declared, "outputs": declared}
    )
    server = _object(_texts("name", "version") | {"extensions": _array(_text())})
    ready = _object({"name": _text(), "ready": {"type": "boolean"}})

    paths = {
        "/v2": {"get": _operation(tag, "server", "The server", _answer(server, "Its name."))},
        "/v2/health/live": {
            "get": _operation(tag, "v2_live", "Alive", _answer(_flag("live"), "It is."))
        },
        "/v2/health/ready": {
            "get": _operation(
                tag, "v2_ready", "Ready", _answer(_flag("ready"), "It is."), problems=(503,)
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
                _answer(metadata, "Its tensors."),
                problems=(404,),
                parameters=parameters,
            )
        }
        paths[f"{at}/ready"] = {
            "get": _operation(
                tag,
                f"model_ready{suffix}",
                "Whether a model is ready",
                _answer(ready, "It is."),
                problems=(404, 503),
                parameters=parameters,
            )
        }
        paths[f"{at}/infer"] = {
            "post": _operation(
                tag,
                f"infer{suffix}",
                "Predict",
                _answer(response, "The outputs."),
                problems=POSTED,
                parameters=parameters,
                requestBody=_body(_loose(request, "inputs"), _tensors(cases[0]) if cases else {}),
            )
        }
    return paths


def _flag(name: str) -> dict:
    return _object({name: {"type": "boolean"}})


def _tensors(case: dict) -> dict:
    """A row of typical values as the inference protocol writes it."""
    return {
        "inputs": [
            {
                "name": column["name"],
                "shape": [1],
                "datatype": "FP64" if column["type"] == "number" else "BYTES",
                "data": [column.get("typical")],
            }
            for column in case["inputs"]
        ]
    }


def _health_and_metrics() -> dict:
    return {
        "/health/live": {
            "get": _operation(
                "Operations", "live", "Alive", _answer(_flag("live"), "The process answers.")
            )
        },
        "/health/ready": {
            "get": _operation(
                "Operations",
                "ready",
                "Ready for requests",
                _answer(_flag("ready"), "It is."),
                problems=(503,),
            )
        },
        "/metrics": {
            "get": _operation(
                "Operations",
                "metrics",
                "Metrics for Prometheus",
                _answer(_text(), "In Prometheus' text format.", "text/plain"),
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
    problem = document["components"]["schemas"]["problem"]
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
    while "$ref" in found:
        at, *keys = document, *found["$ref"].removeprefix("#/").split("/")
        for key in keys:
            at = at[key]
        found = at
    return found


def _words(document: dict, schema: dict) -> str:
    """The type of a value in words."""
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
        member = _resolved(document, member)
        said = member.get("description", "")
        if name not in schema.get("required", ()):
            said = "; ".join(filter(None, (said, "may be missing")))
        example = json.dumps(member["examples"][0]) if member.get("examples") else ""
        yield prefix + name, _words(document, member), said, example
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
