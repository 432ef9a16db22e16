"""What the service answers, as types: its routes write them, and `openapi` describes them.

Fields are in the order in which they are written. A member that may be missing is UNSET then.
"""

from collections.abc import Sequence
from types import GenericAlias
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, defstruct

from truefit.bundle import LARGEST
from truefit.manifest import Column, Interval, Target

Id = str | int | float | None  # of a row, as the client sent it
Value = float | str | None
Role = Literal["champion", "challenger"]
Count = Annotated[int, Meta(ge=0)]
Numbers = dict[str, float]  # by the name of the quantile


class Answer(Struct, forbid_unknown_fields=True):
    """An object of these members and no others."""


# Cases


class Summary(Answer):
    """A case that is served."""

    case: str
    title: str
    task: str
    target: str
    version: str


class Cases(Answer):
    """The cases that are served."""

    cases: list[Summary]


class Input(Struct, kw_only=True, omit_defaults=True):
    """One column of a record; more members may come."""

    name: str
    type: Literal["number", "text"]
    unit: str = ""
    missing_share: Annotated[float, Meta(description="in training")]
    minimum: Annotated[float | None, Meta(description="in training")] = None
    maximum: Annotated[float | None, Meta(description="in training")] = None
    categories: Annotated[tuple[str, ...] | None, Meta(description="in training")] = None
    absent: Annotated[bool, Meta(description="null means that there is none")] = False
    typical: Annotated[Value, Meta(description="null where it is missing")] = None
    influence: Annotated[
        float,
        Meta(
            description="mean absolute change of the prediction when the column takes its "
            "typical value"
        ),
    ]
    nullable: bool


class Description(Struct, kw_only=True):
    """What a model takes and predicts; more members may come."""

    case: str
    title: str
    about: str | None
    task: Literal["regression", "classification"]
    target: Target
    classes: tuple[str, ...] | None
    positive: str | None
    threshold: float | None
    interval: Interval | None
    id: str | None
    model: str
    version: str
    training_rows: int
    inputs: list[Input]
    previous: str | None = None


class RolledBack(Answer):
    """The bundle that answers again."""

    case: str
    version: Annotated[str, Meta(description="of the bundle that answers now")]


# Predictions


class Heading(Answer, kw_only=True):
    """What was asked, and who answered."""

    case: str
    version: Annotated[str, Meta(description="of the bundle that answered")]
    request_id: str
    model_role: Annotated[
        Role | UnsetType, Meta(description="of that bundle, while there is a challenger")
    ] = UNSET


class Warned(Answer):
    """A value that is unlike any in training."""

    column: str
    value: float | str
    reason: Annotated[str, Meta(description="why the prediction is to be taken with care")]


class Contribution(Answer):
    """How far one column moved a prediction."""

    column: str
    value: Value
    typical: Value
    contribution: Annotated[float, Meta(description="in the unit of the prediction")]


class Explanation(Heading, kw_only=True):
    """What moved a prediction."""

    prediction: Annotated[
        float, Meta(description="for a classification the probability of the positive class")
    ]
    typical: Annotated[float, Meta(description="the prediction for a row of typical values")]
    contributions: list[Contribution]


def named(case: str, what: str) -> str:
    """The name of a case's own type: of ASCII, as OpenAPI wants it, whatever the case's is of."""
    plain = "".join(c if c.isascii() else f"-{ord(c):x}" for c in case)
    return f"{plain}.{what}"


def record(name: str, inputs: Sequence[Column | Input], id: str | None) -> type[Any]:
    """The type of a record, by this name.

    Its fields are ``f0``, ``f1`` and so on, renamed to the columns, and ``id`` where a record may
    name itself.

    Raises
    ------
    ValueError
        If a column has a name that msgspec cannot take as a key.
    """
    fields: list[tuple] = [(f"f{i}", _cell(column)) for i, column in enumerate(inputs)]
    names = {f"f{i}": column.name for i, column in enumerate(inputs)}
    if id is not None and id not in names.values():
        meta = Meta(description="comes back with the answer")
        fields.append(("id", Annotated[Id | UnsetType, meta], UNSET))
        names["id"] = id
    return defstruct(name, fields, rename=names, forbid_unknown_fields=True, gc=False)


def _cell(column: Column | Input) -> Any:
    """The type of a value, with what is known of its column for people."""
    said = [column.unit] if column.unit else []
    if column.minimum is not None:
        said.append(f"{column.minimum:.12g} to {column.maximum:.12g} in training")
    if column.categories:
        known = (c for c in column.categories if not (column.absent and c == "absent"))
        said.append("in training: " + ", ".join(known))
    if column.nullable:
        said.append("null where there is none" if column.absent else "null if not known")
    kind = float if column.type == "number" else str
    # Limits are the service's own to check: it says more than the parser would.
    if kind is float:
        limits = {"minimum": -LARGEST, "maximum": LARGEST}
    else:  # an empty text is a gap
        limits = {} if column.nullable else {"minLength": 1}
    meta = Meta(description="; ".join(said), examples=[column.typical], extra_json_schema=limits)
    return Annotated[kind | None if column.nullable else kind, meta]


def _number(about: Description) -> list[tuple]:
    fields: list[tuple] = [
        ("prediction", Annotated[float, Meta(description=about.target.unit or None)])
    ]
    if about.interval:
        end = f"end of the interval of {100 * about.interval.confidence:g} % confidence"
        fields += [
            ("low", Annotated[float, Meta(description=f"lower {end}")]),
            ("high", Annotated[float, Meta(description=f"upper {end}")]),
        ]
    return fields


def _class(about: Description) -> list[tuple]:
    classes = [*(about.classes or ())]
    called = Meta(
        description=f"{about.positive} from a probability of {about.threshold:.3g} on",
        extra_json_schema={"enum": classes},
    )
    each = {
        "properties": dict.fromkeys(classes, {"type": "number", "minimum": 0, "maximum": 1}),
        "required": classes,
        "additionalProperties": False,
    }
    return [
        ("prediction", Annotated[str, called]),
        ("probabilities", Annotated[dict, Meta(extra_json_schema=each)]),
    ]


# What an answer to one row says, by the kind of task.
ANSWERS = {"regression": _number, "classification": _class}


def prediction(about: Description) -> type[Any]:
    """The type of the answer to one row; what is in it depends on the task."""
    fields: list[tuple] = [("id", Id | UnsetType, UNSET)] if about.id is not None else []
    fields += ANSWERS[about.task](about)
    fields.append(("warnings", tuple[Warned, ...]))
    return defstruct(named(about.case, "prediction"), fields, bases=(Answer,), kw_only=True)


def predictions(about: Description) -> type[Any]:
    """The type of the answer to a request."""
    rows = GenericAlias(list, prediction(about))
    fields = [("predictions", rows)]
    return defstruct(named(about.case, "answer"), fields, bases=(Heading,), kw_only=True)


# Champion and challenger


class Side(Answer):
    """One of the two models, and what it has done while there were two."""

    version: str
    model: str
    requests: Annotated[Count | UnsetType, Meta(description="that it answered")] = UNSET
    rows: Count | UnsetType = UNSET
    predictions: Annotated[
        Numbers | None | UnsetType,
        Meta(description="quantiles; in a shadow of rows both scored"),
    ] = UNSET
    seconds: Annotated[
        Numbers | None | UnsetType, Meta(description="quantiles of the time for a request")
    ] = UNSET


class Challenger(Side, kw_only=True):
    """The challenger."""

    failed: Count


class Shadow(Answer):
    """How far apart the two are on rows that both scored."""

    requests: Annotated[int, Meta(ge=0, description="that both scored")]
    rows: Count
    dropped: Annotated[int, Meta(ge=0, description="requests that the challenger had no time for")]
    difference: Annotated[
        Numbers | UnsetType, Meta(description="challenger minus champion, in the target's unit")
    ] = UNSET
    apart: Annotated[
        Numbers | UnsetType,
        Meta(
            description="how far, as a share of the larger prediction; for a classification the "
            "difference of the probabilities"
        ),
    ] = UNSET
    correlation: float | None | UnsetType = UNSET
    called_differently: Annotated[
        float | None | UnsetType, Meta(description="share of the rows")
    ] = UNSET
    pairs: Annotated[
        list[Annotated[list[float], Meta(min_length=2, max_length=2)]] | UnsetType,
        Meta(description="what champion and challenger said of the newest rows"),
    ] = UNSET


class Comparison(Answer):
    """Champion and challenger, as far as both are there."""

    case: str
    request_id: str
    mode: Literal["shadow", "canary"] | None
    share: Annotated[float | None, Meta(description="of the requests")]
    since: Annotated[str | None, Meta(description="when both were first there")]
    champion: Side
    challenger: Challenger | None
    shadow: Shadow | None
    reason: Annotated[str | None, Meta(description="why there is no challenger")]


# The Open Inference Protocol

Datatype = Literal["BYTES", "FP64"]
Shape = Annotated[
    list[Annotated[int, Meta(extra_json_schema={"minimum": 1})]],
    Meta(extra_json_schema={"minItems": 1, "maxItems": 2}),
]


class Server(Answer):
    """The server."""

    name: str
    version: str
    extensions: list[str]


class Declared(Answer):
    """A tensor that a model takes or gives."""

    name: str
    datatype: Datatype
    shape: list[int]


class Model(Answer):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Declared]
    outputs: list[Declared]


class ModelReady(Answer):
    """Whether a model answers."""

    name: str
    ready: bool


class Answered(Answer):
    """Who answered, while there is a challenger."""

    model_role: Role


class Output(Answer):
    """A tensor of an answer."""

    name: Annotated[str, Meta(description="prediction, low, high or probability")]
    shape: Shape
    datatype: Datatype
    data: list[float | str]


class Inference(Answer, kw_only=True):
    """An answer to an inference request."""

    model_name: str
    model_version: str
    id: str
    parameters: Answered | UnsetType = UNSET
    outputs: list[Output]


# What an operator asks for, and what goes wrong


class Live(Answer):
    """The process answers."""

    live: bool


class Ready(Answer):
    """It may be sent requests."""

    ready: bool


class Fault(Answer):
    """What is wrong with a request, or with the service (RFC 9457)."""

    type: str
    title: Annotated[str, Meta(description="what the status means")]
    status: int
    detail: Annotated[str, Meta(description="what is wrong, and where")]
    request_id: str
    row: Annotated[int | UnsetType, Meta(description="of the records, from 1")] = UNSET
    column: str | UnsetType = UNSET
    error: Annotated[str | UnsetType, Meta(description="the detail once more, under /v2")] = UNSET
