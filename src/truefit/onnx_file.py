"""What the file of a model may hold: the operators that the export writes, and its own numbers.

ONNX Runtime would run more: loops, operators of other domains, numbers from any file that it can
read. So a file is looked through before it is run. It is a protobuf message, of which as much is
read here as that takes; what is not known is refused.
"""

import re
from collections.abc import Iterator

# What the export may write, by domain: it has no other.
OPERATORS = {
    "": [
        "Abs", "Add", "ArgMin", "Cast", "Clip", "Concat", "Div", "DynamicQuantizeLinear", "Equal",
        "Exp", "Expand", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "IsNaN",
        "Less", "LessOrEqual", "Log", "MatMul", "MatMulInteger", "Max", "Min", "Mul", "Neg", "Or",
        "ReduceMean", "ReduceSum", "Relu", "Round", "Shape", "Sigmoid", "Sqrt", "StringConcat",
        "Sub", "TopK", "Where",
    ],
    "ai.onnx.ml": ["LabelEncoder", "TreeEnsemble"],
}  # fmt: skip
DOMAINS = {kind: domain for domain, kinds in OPERATORS.items() for kind in kinds}
# The fields that the export writes, by their numbers in onnx.proto: which message is inside, if it
# matters what is.
OP_TYPE, DOMAIN = 4, 7  # of a node
FIELDS: dict[str, dict[int, str | None]] = {
    "model": dict.fromkeys((1, 2, 3, 8, 14)) | {7: "graph"},
    "graph": dict.fromkeys((2, 11, 12, 13)) | {1: "node", 5: "tensor"},
    "node": dict.fromkeys((1, 2, 3, OP_TYPE, DOMAIN)) | {5: "attribute"},
    "attribute": dict.fromkeys((1, 2, 3, 4, 7, 8, 9, 20)) | {5: "tensor"},
    "tensor": dict.fromkeys((1, 2, 4, 5, 6, 7, 8, 9, 10)),
}
WORDS = {
    ("tensor", 13): "numbers that lie in another file",
    ("tensor", 14): "numbers that lie in another file",
    ("graph", 15): "sparse numbers",
    ("attribute", 6): "a graph within the graph",
    ("attribute", 11): "graphs within the graph",
    ("model", 25): "functions of its own",
}
VARINT, BYTES = 0, 2  # kinds of fields; the others have a fixed size
SIZES = {1: 8, 5: 4}
_NUMBER = rb"[\x80-\xff]{0,9}[\x00-\x7f]"
# A list of numbers comes as one field after another, often a million of them: taken as one.
_NUMBERS = re.compile(rb"([\x00-\x7f])%b(?:\1%b)*" % (_NUMBER, _NUMBER))


class ForeignError(ValueError):
    """A file that the export did not write; the message completes "it has …"."""


def check(content: bytes) -> None:
    """Look through the file of a model.

    Parameters
    ----------
    content : bytes
        Of a ``.onnx`` file.

    Raises
    ------
    ForeignError
        If it has anything that the export does not write: another operator, a graph within the
        graph, numbers in another file, or bytes that are no ONNX.
    """
    _check(memoryview(content), "model")


def _check(content: memoryview, message: str) -> None:
    known = FIELDS[message]
    texts: dict[int, list[bytes]] = {OP_TYPE: [], DOMAIN: []}
    for number, kind, value in _fields(content):
        if number not in known:
            said = f"a field of a {message} that the export does not know ({number})"
            raise ForeignError(WORDS.get((message, number), said))
        inside, is_text = known[number], message == "node" and number in texts
        if (inside or is_text) and kind != BYTES:
            raise ForeignError("bytes that are no ONNX")
        if inside:
            _check(value, inside)
        elif is_text:
            texts[number].append(bytes(value))
    if message == "node":
        _check_operator(texts[OP_TYPE], texts[DOMAIN] or [b""])


def _check_operator(kinds: list[bytes], domains: list[bytes]) -> None:
    """Raise ForeignError unless one operator is named, and the export writes it."""
    if (len(kinds), len(domains)) != (1, 1):
        raise ForeignError("a node with no operator, or with several")
    kind, domain = (text.decode(errors="replace")[:60] for text in (*kinds, *domains))
    if DOMAINS.get(kind) != domain:
        where = f" of {domain}" if domain else ""
        raise ForeignError(f"the operator {kind}{where}, which the export does not write")


def _fields(content: memoryview) -> Iterator[tuple[int, int, memoryview]]:
    """The fields of a message: number, kind, and what is in it; numbers in a row come as one."""
    at, end = 0, len(content)
    while at < end:
        key, first = _varint(content, at)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            found = _NUMBERS.match(content, at)
            at = found.end() if found else _varint(content, first)[1]
        elif kind == BYTES:
            size, first = _varint(content, first)
            at = first + size
        elif kind in SIZES:
            at = first + SIZES[kind]
        else:
            raise ForeignError("bytes that are no ONNX")
        if at > end or not number:
            raise ForeignError("bytes that are no ONNX")
        yield number, kind, content[first:at]


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(content):
            break
        byte = content[at]
        value |= (byte & 127) << shift
        at += 1
        if byte < 128:
            return value, at
    raise ForeignError("bytes that are no ONNX")
