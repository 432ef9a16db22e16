"""The Open Inference Protocol, version 2, over REST.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
Tensors are JSON; the extension for binary ones is not offered.
"""

import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from truefit.manifest import Column
from truefit.serving import schemas
from truefit.serving.limits import Size, check_values
from truefit.serving.problems import Problem, shown
from truefit.serving.records import WORDS, lax, not_json, repeated_key, too_many, unreadable
from truefit.serving.served import Answers, Served

WHOLE = {f"INT{n}": (-(2 ** (n - 1)), 2 ** (n - 1) - 1) for n in (8, 16, 32, 64)}
WHOLE |= {f"UINT{n}": (0, 2**n - 1) for n in (8, 16, 32, 64)}
NUMBERS = {"BOOL", "FP16", "FP32", "FP64", "BF16", *WHOLE}
DATATYPES: dict[str, schemas.Datatype] = {"number": "FP64", "text": "BYTES"}


_data_schema = {
    "type": "array",
    "items": {"type": ["number", "string", "boolean", "null"]},
    "minItems": 1,
}
_kinds_of_data = Meta(
    description="BYTES for texts; for numbers FP64 or another one",
    extra_json_schema={"enum": [*sorted(NUMBERS), "BYTES"]},
)


class _Extended(msgspec.Struct, kw_only=True):
    """What may have members that the protocol does not name; none of them is looked at."""

    parameters: Annotated[Raw, Meta(extra_json_schema={"type": ["object", "null"]})] = (
        msgspec.field(default_factory=Raw)
    )


class Tensor(_Extended, kw_only=True):
    """An input of an inference request."""

    name: Annotated[str, Meta(description="of a column")]
    shape: schemas.Shape
    datatype: Annotated[str, _kinds_of_data]
    data: Annotated[Raw, Meta(extra_json_schema=_data_schema)]


class Wanted(_Extended, kw_only=True):
    """An output that a request asks for."""

    name: str


class Request(_Extended, kw_only=True):
    """An inference request; parameters are not looked at, here and in its parts."""

    id: str | None = None
    inputs: Annotated[list[Tensor], Meta(extra_json_schema={"minItems": 1})]
    outputs: Annotated[
        list[Wanted] | None, Meta(description="those to answer with; all, if it is missing")
    ] = None


_request = msgspec.json.Decoder(Request)
_kinds = {"number": float | None, "text": str | None, "truth value": bool | None}
_values = {name: msgspec.json.Decoder(list[kind]) for name, kind in _kinds.items()}
_nested = {name: msgspec.json.Decoder(list[tuple[kind]]) for name, kind in _kinds.items()}


def read(body: bytes, served: Served, most: int) -> tuple[Request, list[Sequence], int]:
    """The request in a body, its columns in the order of the model's inputs, and their length.

    Raises
    ------
    Problem
        400 if it is no request of this protocol, 413 for too many rows, 422 if its tensors are
        not what the model takes.
    """
    check_values(body, most, len(served.bundle.inputs))
    try:
        request = _request.decode(body)
    except msgspec.ValidationError as error:
        why = _lower(str(error))
        if b'"binary_data_size"' in body:  # as tritonclient sends unless it is told otherwise
            why = "binary tensors are not taken; send JSON (in tritonclient: binary_data=False)"
        raise Problem(400, f"no inference request: {why}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(body, served, most) or not_json(error) from None
    # Each key has a colon; so if there are no more of them than keys, no key came twice.
    if body.count(b":") > _keys(request) and (repeated := repeated_key(body)):
        _, key, found = repeated
        name = shown(found["name"]) if found.keys() >= {"name", "datatype"} else None
        said = f"the input {name}" if name else "an object"
        raise Problem(422, f"{said} has the key {shown(key)} twice; send it once")
    _check_outputs(request, served)
    tensors = {}
    for tensor in request.inputs:
        if tensor.name in tensors:
            raise Problem(422, f"the input {shown(tensor.name)} is there twice; send it once")
        tensors[tensor.name] = tensor
    columns: list[Sequence] = []
    n = None
    for column in served.bundle.inputs:
        if column.name not in tensors:
            raise Problem(422, f"the input {column.name} is missing", column=column.name)
        values = _column(column, tensors.pop(column.name), most)
        n = len(values) if n is None else n
        if len(values) != n:
            raise Problem(
                422, f"the input {column.name} has {len(values)} rows, and others have {n}",
                column=column.name,
            )  # fmt: skip
        columns.append(values)
    for name in tensors:
        raise Problem(422, f"the input {shown(name)} is not known to this model; leave it out")
    return request, columns, n or 0


def _check_outputs(request: Request, served: Served) -> None:
    names = [wanted.name for wanted in request.outputs or ()]
    for name in names:
        if name not in outputs_of(served):
            known = ", ".join(outputs_of(served))
            raise Problem(422, f"there is no output {shown(name)}; there are {known}")
        if names.count(name) > 1:
            raise Problem(422, f"the output {name} is asked for twice; ask for it once")


def _keys(request: Request) -> int:
    """How many keys a request has at least; parameters and other extras are not counted."""
    own = 1 + (request.id is not None) + (request.outputs is not None)
    return own + 4 * len(request.inputs) + len(request.outputs or ())


def _unreadable(body: bytes, served: Served, most: int) -> Problem | None:
    """What to say of a body that is no JSON because of a value in a tensor's data."""
    known = {column.name for column in served.bundle.inputs}
    match lax(body):
        case {"inputs": [*tensors]}:
            for tensor in tensors:
                match tensor:
                    case {"name": str(name), "data": [*values]} if name in known:
                        if problem := _unreadable_value(values[:most], name):
                            return problem
    return None


def _unreadable_value(values: list, name: str) -> Problem | None:
    for row, value in enumerate(values, 1):
        value = value[0] if isinstance(value, list) and value else value
        if problem := unreadable(value, row, name):
            return problem
    return None


def _column(column: Column, tensor: Tensor, most: int) -> Sequence:
    name = column.name
    right = tensor.datatype in NUMBERS if column.type == "number" else tensor.datatype == "BYTES"
    if not right:
        said = f"the input {name} must be {DATATYPES[column.type]}, and is {shown(tensor.datatype)}"
        raise Problem(422, said, column=name)
    values = _data(column, tensor)
    if not (
        0 < len(tensor.shape) <= 2
        and tensor.shape[0] == len(values)
        and tensor.shape[1:] in ([], [1])
    ):
        raise Problem(
            422,
            f"the input {name} has the shape {shown(tensor.shape)} and {len(values)} values; it "
            "must be [n] or [n, 1] with n values",
            column=name,
        )
    if not values:
        raise Problem(422, "the inputs are empty; send at least one row")
    if len(values) > most:
        raise too_many(len(values), most)
    if not column.nullable and None in values:
        row = values.index(None) + 1
        said = f"row {row}: {name} must not be null: no training row was without it"
        raise Problem(422, said, row=row, column=name)
    return values


def _data(column: Column, tensor: Tensor) -> list:
    kind = "truth value" if tensor.datatype == "BOOL" else column.type
    try:
        try:
            values = _values[kind].decode(tensor.data)
        except msgspec.ValidationError:
            if not bytes(tensor.data).lstrip()[1:].lstrip().startswith(b"["):
                raise
            values = [value for (value,) in _nested[kind].decode(tensor.data)]
    except msgspec.ValidationError as error:
        at = re.search(r"\$\[(\d+)\]", str(error))
        row = int(at[1]) + 1 if at else None
        place = f"row {row}: " if row else ""
        if got := re.search(r"got `(\w+)`", str(error)):
            got = f"it has {WORDS.get(got[1], got[1])}"
        else:
            got = "it has a number beyond all limits" if "range" in str(error) else "one a row"
        said = f"{place}the data of {column.name} must be a list of {kind}s; {got}"
        raise Problem(422, said, row=row, column=column.name) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        values = lax(bytes(tensor.data)) or []
        raise _unreadable_value(values, column.name) or not_json(error) from None
    if tensor.datatype == "BOOL":
        return [None if value is None else float(value) for value in values]
    if tensor.datatype in WHOLE:
        _check_whole(column, tensor, values)
    return values


def _check_whole(column: Column, tensor: Tensor, values: list) -> None:
    low, high = WHOLE[tensor.datatype]
    for row, value in enumerate(values, 1):
        if value is not None and not (low <= value <= high and value.is_integer()):
            said = f"row {row}: {column.name} is {value:.12g}, which is no {tensor.datatype}"
            raise Problem(422, said, row=row, column=column.name)


def outputs_of(served: Served) -> dict[str, schemas.Datatype]:
    """The names of a model's outputs, with their datatypes."""
    return served.manifest.datatypes


def response(
    request: Request,
    served: Served,
    answers: Answers,
    request_id: str,
    role: schemas.Role | None,
    size: Size,
) -> schemas.Inference:
    """The answer, with the outputs that the request asks for."""
    wanted = [w.name for w in request.outputs or ()] or list(answers.outputs)
    types, n = outputs_of(served), len(answers.scores)
    return schemas.Inference(
        model_name=served.manifest.case,
        model_version=served.version,
        id=request.id or request_id,
        parameters=schemas.Answered(model_role=role) if role else msgspec.UNSET,
        outputs=[
            schemas.Output(
                name=name,
                shape=[n, 1],
                datatype=types[name],
                data=size.listed(answers.outputs[name].__getitem__, n),
            )
            for name in wanted
        ],
    )


def metadata(served: Served) -> schemas.Model:
    """What the model takes and gives."""
    takes = {column.name: DATATYPES[column.type] for column in served.bundle.inputs}
    return schemas.Model(
        name=served.manifest.case,
        versions=[served.version],
        platform="onnx",
        inputs=_declared(takes),
        outputs=_declared(outputs_of(served)),
    )


def _declared(tensors: dict[str, schemas.Datatype]) -> list[schemas.Declared]:
    return [
        schemas.Declared(name=name, datatype=kind, shape=[-1, 1]) for name, kind in tensors.items()
    ]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
