"""The one language of a case's block: expressions over columns, parsed and never run as code.

Features, the conditions (``when``) of rules and of tests of behaviour, the changes of such tests,
and the windows of the monitor are written in it:

- columns, in backticks where a name is not a plain word: ``area``, ```living area```;
- numbers, and texts in quotes: ``4000``, ``'yes'``;
- ``+ - * / // %``; ``a // b`` is ``a / b`` rounded down, ``a % b`` is ``a - (a // b) * b``;
- ``< <= > >= == !=``, ``in [..]`` and ``not in [..]``, between two numbers or two texts;
- ``and``, ``or`` and ``not`` between conditions; ``&`` and ``|`` are other spellings of ``and`` and
  ``or``, and bind as loosely, ``~`` is one of ``not``;
- the functions of `FUNCTIONS`, and of pandas' spellings those in `METHODS`, ``a.notna()`` and
  ``a.isin([..])``.

**What is not known.** A value is unknown where the table has a gap, where something is divided by
zero, and where a result is not finite. Whatever is computed from an unknown value is unknown, a
comparison and a ``not`` too, unless the other operand settles it: ``and`` is false if one operand
is, ``or`` is true if one is. ``missing(x)`` asks whether a value is unknown, ``fill(x, y)`` puts
another in its place. A rule or a test applies to the rows in which its condition is true: not to
those in which it is unknown.

A condition counts as a number, 1 if true and 0 if not, where a number is asked for. Features and
changes compute in float32, as an exported bundle does, so that a feature has the same value to the
last bit before and after the export. Conditions and windows take the table's own int64 and
float64, so that two dates such as 20170601 and 20170602 differ.
"""

import ast
import keyword
import re
import warnings
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from enum import StrEnum
from functools import reduce
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from truefit.project import InputError


class Kind(StrEnum):
    """What a value may be; a condition may stand where a number is asked for."""

    NUMBER = "a number"
    TEXT = "a text"
    CONDITION = "a condition"


class Operation(NamedTuple):
    """What an expression may do: how it is done with arrays, and what it takes and gives.

    ``operands`` is how many it takes; None for two and more. Where ``takes`` is None, any kind is
    right, as long as all operands are texts or none is; where ``gives`` is None, the result is what
    they are.
    """

    compute: Callable[..., np.ndarray]
    operands: int | None
    takes: Kind | None = Kind.NUMBER
    gives: Kind | None = Kind.NUMBER


def _known(*operands: np.ndarray) -> np.ndarray:
    return ~np.any([pd.isna(o) for o in operands], axis=0)


def _where_known(compute: Callable, unknown: float | None = np.nan) -> Callable:
    """An operation that is done where all operands are known."""

    def computed(*operands: np.ndarray) -> np.ndarray:
        operands = np.broadcast_arrays(*operands)
        known = _known(*operands)
        found = np.full(known.shape, unknown)
        found[known] = compute(*(o[known] for o in operands))
        return found

    return computed


def _whole(*operands: np.ndarray) -> bool:
    return all(o.dtype.kind == "i" for o in operands)


def _in_64_bits(compute: Callable) -> Callable:
    """Arithmetic that goes on in float64 where a result would not fit into int64."""

    def computed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if _whole(a, b):
            wide = a.astype(np.float64)
            if np.any(np.abs(compute(wide, b)) >= 2.0**63):
                return compute(wide, b)
        return compute(a, b)

    return computed


def _divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    unknown = np.full(np.broadcast(a, b).shape, np.nan, np.result_type(a, b, np.float32))
    return np.divide(a, b, where=b != 0, out=unknown)


def _divide_and_floor(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if _whole(a, b) and np.all(b != 0):
        return np.floor_divide(a, b)
    return np.floor(_divide(a, b))


def _both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((a == 0) | (b == 0), 0, a * b)


def _either(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.where((a == 1) | (b == 1), 1, a + b)


def _among(a: np.ndarray, *listed: np.ndarray) -> np.ndarray:
    return reduce(_either, [_where_known(np.equal)(a, one) for one in listed])


def _compared(compare: Callable) -> Operation:
    return Operation(_where_known(compare), 2, None, Kind.CONDITION)


def _asked(of_texts: Callable[[str, str], bool]) -> Operation:
    """A question about two texts."""
    return Operation(_where_known(np.frompyfunc(of_texts, 2, 1)), 2, Kind.TEXT, Kind.CONDITION)


# The names are those of ONNX's operators where there is one.
OPERATIONS = {
    "Add": Operation(_in_64_bits(np.add), 2),
    "Sub": Operation(_in_64_bits(np.subtract), 2),
    "Mul": Operation(_in_64_bits(np.multiply), 2),
    "Div": Operation(_divide, 2),
    "FloorDiv": Operation(_divide_and_floor, 2),
    "Mod": Operation(lambda a, b: a - _divide_and_floor(a, b) * b, 2),
    "Neg": Operation(np.negative, 1),
    "Less": _compared(np.less),
    "LessOrEqual": _compared(np.less_equal),
    "Greater": _compared(np.greater),
    "GreaterOrEqual": _compared(np.greater_equal),
    "Equal": _compared(np.equal),
    "In": Operation(_among, None, None, Kind.CONDITION),
    "And": Operation(lambda *o: reduce(_both, o), None, Kind.CONDITION, Kind.CONDITION),
    "Or": Operation(lambda *o: reduce(_either, o), None, Kind.CONDITION, Kind.CONDITION),
    "Not": Operation(lambda a: 1 - a, 1, Kind.CONDITION, Kind.CONDITION),
    "Min": Operation(np.minimum, 2),
    "Max": Operation(np.maximum, 2),
    "Sqrt": Operation(np.sqrt, 1),
    # In float64: float32 logarithms differ from library to library.
    "Log1p": Operation(lambda a: np.log(a.astype(np.float64) + 1), 1),
    "Missing": Operation(pd.isna, 1, None, Kind.CONDITION),
    "Fill": Operation(lambda a, b: np.where(pd.isna(a), b, a), 2, None, None),
    "StartsWith": _asked(str.startswith),
    "EndsWith": _asked(str.endswith),
    "Contains": _asked(lambda text, part: part in text),
    "Lower": Operation(
        _where_known(np.frompyfunc(str.lower, 1, 1), unknown=None), 1, Kind.TEXT, Kind.TEXT
    ),
}
FUNCTIONS = {
    "minimum": "Min",
    "maximum": "Max",
    "sqrt": "Sqrt",
    "log1p": "Log1p",
    "missing": "Missing",
    "fill": "Fill",
    "starts_with": "StartsWith",
    "ends_with": "EndsWith",
    "contains": "Contains",
    "lower": "Lower",
}
# As blocks have them that were written for pandas: `town.str.startswith('B')`.
METHODS = {
    "str.startswith": "starts_with",
    "str.endswith": "ends_with",
    "str.contains": "contains",
    "str.lower": "lower",
    "isna": "missing",
    "isnull": "missing",
}
SIGNS = {
    "Add": "+",
    "Sub": "-",
    "Mul": "*",
    "Div": "/",
    "FloorDiv": "//",
    "Mod": "%",
    "Neg": "-",
    "Less": "<",
    "LessOrEqual": "<=",
    "Greater": ">",
    "GreaterOrEqual": ">=",
    "Equal": "==",
    "In": "in",
    "And": "and",
    "Or": "or",
    "Not": "not",
}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "Add",
    ast.Sub: "Sub",
    ast.Mult: "Mul",
    ast.Div: "Div",
    ast.FloorDiv: "FloorDiv",
    ast.Mod: "Mod",
    ast.USub: "Neg",
    ast.Lt: "Less",
    ast.LtE: "LessOrEqual",
    ast.Gt: "Greater",
    ast.GtE: "GreaterOrEqual",
    ast.Eq: "Equal",
    ast.And: "And",
    ast.Or: "Or",
    ast.Not: "Not",
    ast.Invert: "Not",
}


class Column(NamedTuple):
    """A column, by its name."""

    name: str


class Constant(NamedTuple):
    """A number or a text."""

    value: float | str


class Call(NamedTuple):
    """One of `OPERATIONS`, with its operands."""

    operation: str
    operands: tuple


Node = Column | Constant | Call
PARTS = (
    "columns, numbers, texts in quotes, + - * / // %, comparisons, in [..], and, or, not, and "
    f"{', '.join(FUNCTIONS)}"
)
LARGEST = float(np.finfo(np.float32).max)
LONGEST = 200  # characters of an expression in an error
DEEPEST = 200  # operations inside each other, well within Python's own limit
MOST_PARTS = 10_000  # the middle of a < b < c counts twice, because it is computed twice
MOST_LISTED = 12  # columns in a sentence
# A text in quotes, which stays as it is; a column in backticks; what pandas writes for and, or.
SPELLING = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|`(?P<column>[^`]+)`|(?P<sign>[&|])"""
)
PATTERN = re.compile(r"[.^$*+?{}\[\]\\|()]")  # what makes a regular expression of a text


def parse(text: str) -> Node:
    """Parse an expression.

    Parameters
    ----------
    text : str
        An expression as the module describes it.

    Raises
    ------
    InputError
        If the text is none.

    Examples
    --------
    >>> parse("fill(area, 0) / 2")  # doctest: +NORMALIZE_WHITESPACE
    Call(operation='Div',
         operands=(Call(operation='Fill',
                        operands=(Column(name='area'), Constant(value=0))),
                   Constant(value=2)))
    """
    try:
        with warnings.catch_warnings():
            # Of "1 is 1", Python warns; the sentence below says more.
            warnings.simplefilter("ignore", SyntaxWarning)
            reader = _Reader(text)
            return reader.node(ast.parse(reader.spelt, mode="eval").body)
    except (SyntaxError, ValueError):  # a null byte is a ValueError
        raise _refusal(text, "cannot be read; look at its parentheses and operators") from None
    except (RecursionError, MemoryError):
        raise _refusal(text, "is nested too deeply; split it") from None


def _refusal(text: str, why: str) -> InputError:
    return InputError(f"params.yaml: the expression {_shown(text)} {why}")


def _shown(text: str) -> str:
    """An expression for a sentence, which must stay one."""
    return repr(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


class _Reader:
    """Turns Python's syntax tree of one expression into nodes, as far as the language goes."""

    def __init__(self, text: str):
        self.text = text
        self.named: list[str] = []  # the columns in backticks
        self.stem = "_"  # of words that stand for them; no word of the expression begins so
        while self.stem in text:
            self.stem += "_"
        self.spelt = SPELLING.sub(self._spelt, text).strip()
        self.depth = self.parts = 0

    def _spelt(self, found: re.Match) -> str:
        if found["text"]:
            return found["text"]
        if found["sign"]:
            return " and " if found["sign"] == "&" else " or "
        self.named.append(found["column"])
        return f" {self.stem}{len(self.named) - 1} "

    def node(self, found: ast.expr) -> Node:
        """The node of a part of the expression, and of all its parts."""
        self.depth, self.parts = self.depth + 1, self.parts + 1
        if self.depth > DEEPEST or self.parts > MOST_PARTS:
            raise RecursionError
        made = self._node(found)
        self.depth -= 1
        return made

    def _node(self, found: ast.expr) -> Node:
        match found:
            case ast.Name(id=name):
                return Column(self._unmasked(name).strip("`"))
            case ast.Constant(value=str() as value):
                return Constant(value)
            case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
                return self._number(value)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return Call(OPERATORS[type(op)], (self.node(left), self.node(right)))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
                return Call(OPERATORS[type(op)], (self.node(operand),))
            case ast.BoolOp(op=op, values=values):
                return Call(OPERATORS[type(op)], tuple(self.node(v) for v in values))
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                pairs = pairwise([left, *comparators])
                made = [self._comparison(*p, op, found) for p, op in zip(pairs, ops, strict=True)]
                return made[0] if len(made) == 1 else Call("And", tuple(made))
            case ast.Call(func=ast.Name(id=name), args=operands, keywords=[]) if name in FUNCTIONS:
                return self._function(name, [self.node(o) for o in operands])
            case ast.Call(func=ast.Attribute(), keywords=[]):
                return self._method(found)
        raise self._unknown(found)

    def _number(self, value: float) -> Constant:
        if abs(value) > LARGEST:
            raise _refusal(self.text, f"holds a number above {LARGEST:.3g}, the largest of float32")
        return Constant(value if abs(value) < 2**63 else float(value))

    def _comparison(
        self, left: ast.expr, right: ast.expr, op: ast.cmpop, found: ast.Compare
    ) -> Node:
        match op, right:
            case ((ast.In() | ast.NotIn()), ast.List(elts=[_, *_]) | ast.Tuple(elts=[_, *_])):
                return self._membership(left, right.elts, isinstance(op, ast.NotIn))
            case ast.NotEq(), _:
                return Call("Not", (Call("Equal", (self.node(left), self.node(right))),))
            case _ if type(op) in OPERATORS:
                return Call(OPERATORS[type(op)], (self.node(left), self.node(right)))
        raise self._unknown(found)

    def _membership(self, left: ast.expr, listed: list[ast.expr], outside: bool) -> Node:
        found = Call("In", tuple(self.node(o) for o in (left, *listed)))
        return Call("Not", (found,)) if outside else found

    def _function(self, name: str, operands: list[Node]) -> Call:
        operation = FUNCTIONS[name]
        if len(operands) != OPERATIONS[operation].operands:
            raise InputError(
                f"params.yaml: in the expression {_shown(self.text)}, {name} takes "
                f"{OPERATIONS[operation].operands} operand(s), not {len(operands)}"
            )
        return Call(operation, tuple(operands))

    def _method(self, found: ast.Call) -> Node:
        match found.func:
            case ast.Attribute(value=ast.Attribute(value=of, attr="str"), attr=attr):
                name = f"str.{attr}"
            case ast.Attribute(value=of, attr=name):
                pass
        match name, found.args:
            case "isin", [ast.List(elts=[_, *_] as listed)]:
                return self._membership(of, listed, outside=False)
            case "notna" | "notnull", []:
                return Call("Not", (Call("Missing", (self.node(of),)),))
            case "str.contains", [ast.Constant(value=str() as part)] if PATTERN.search(part):
                raise _refusal(
                    self.text,
                    f"looks for the pattern {part!r}, and there are no patterns; write "
                    "contains(..) to look for the text itself",
                )
            case _ if name in METHODS:
                return self._function(METHODS[name], [self.node(o) for o in (of, *found.args)])
        raise self._unknown(found)

    def _unmasked(self, text: str) -> str:
        return re.sub(rf"{self.stem}(\d+)", lambda m: f"`{self.named[int(m[1])]}`", text)

    def _unknown(self, found: ast.expr) -> InputError:
        why = f"has {_shown(self._unmasked(ast.unparse(found)))}, which is not one of {PARTS}"
        match found:
            case ast.Call(func=ast.Name(id=name)) if name not in FUNCTIONS:
                close = get_close_matches(name, FUNCTIONS, 1)
                why += f"; did you mean {close[0]}?" if close else ""
        return _refusal(self.text, why)


def written(node: Node) -> str:
    """An expression as a text, which `parse` turns into an equal node."""
    match node:
        case Column(name):
            plain = name.isidentifier() and not keyword.iskeyword(name)
            return name if plain else f"`{name}`"
        case Constant(value):
            return repr(value)
        case Call(operation, operands) if operation in SIGNS:
            signed = [isinstance(o, Call) and o.operation in SIGNS for o in operands]
            parts = [
                f"({written(o)})" if s else written(o)
                for o, s in zip(operands, signed, strict=True)
            ]
            sign = SIGNS[operation]
            if operation == "In":
                return f"{parts[0]} in [{', '.join(parts[1:])}]"
            return f" {sign} ".join(parts) if len(parts) > 1 else f"{sign} {parts[0]}"
    name = next(name for name, operation in FUNCTIONS.items() if operation == node.operation)
    return f"{name}({', '.join(map(written, node.operands))})"


def columns(node: Node) -> list[str]:
    """The columns an expression reads, each once, in order of appearance.

    Examples
    --------
    >>> columns(parse("sold - built + log1p(sold)"))
    ['sold', 'built']
    """
    if isinstance(node, Column):
        return [node.name]
    if isinstance(node, Constant):
        return []
    return list(dict.fromkeys(name for operand in node.operands for name in columns(operand)))


def columns_of(texts: Iterable[str]) -> list[str]:
    """The columns that some expressions read, each once, in order of appearance.

    Raises
    ------
    InputError
        If a text is no expression.
    """
    return list(dict.fromkeys(name for text in texts for name in columns(parse(text))))


def evaluate(
    node: Node, values: Mapping[str, np.ndarray], dtype: type | None = np.float32
) -> np.ndarray:
    """The value of an expression, row by row.

    Parameters
    ----------
    node : Node
        From `parse`, and of kinds that fit the values; see `check`.
    values : mapping from column to ndarray of shape (n_samples,)
        NaN where a number is not known, None where a text is not.
    dtype : type, optional
        In which numbers are computed; None for that of the values.

    Returns
    -------
    ndarray
        NaN where the value is not known or not finite, None for a text that is not known; 1 and 0
        for a condition; a single value for an expression without columns.

    Examples
    --------
    >>> values = {"area": np.array([50, np.nan, 80], "float32")}
    >>> evaluate(parse("area > 60"), values).tolist()
    [0.0, nan, 1.0]
    """
    with np.errstate(all="ignore"):
        found = _value(node, values, dtype)
    if found.dtype.kind != "f":
        return found
    return np.where(np.isfinite(found), found, found.dtype.type(np.nan))


def _value(node: Node, values: Mapping[str, np.ndarray], dtype: type | None) -> np.ndarray:
    match node:
        case Column(name):
            found = np.asarray(values[name])
        case Constant(str() as value):
            found = np.asarray(value, dtype=object)
        case Constant(value):
            found = np.asarray(value if dtype is None else float(value))
        case Call(operation, operands):
            computed = [_value(operand, values, dtype) for operand in operands]
            found = np.asarray(OPERATIONS[operation].compute(*computed))
    if found.dtype == bool:
        found = found.astype(np.float32)
    return found if dtype is None or found.dtype == object else found.astype(dtype)


def check(node: Node, text: str, frame: pd.DataFrame, *, of_numbers: bool = False) -> Kind | None:
    """An expression must be over columns that the table has, of kinds that fit each other.

    Parameters
    ----------
    node : Node
        From `parse`.
    text : str
        What was parsed, for the sentence.
    frame : DataFrame
    of_numbers : bool
        Whether texts are refused, because an exported bundle cannot compute with them.

    Returns
    -------
    Kind or None
        What the expression is; None for a column without any known value, which fits everything.

    Raises
    ------
    InputError
    """
    kinds = {}
    for name in columns(node):
        if name not in frame:
            raise _refusal(text, f"names {name!r}, which is not a column; {_hint(name, frame)}")
        if of_numbers and not pd.api.types.is_numeric_dtype(frame[name]):
            raise _refusal(text, f"names {name!r}, which is not a column of numbers")
        kinds[name] = _kind_of(frame[name])
    if of_numbers and (texts := _texts(node)):
        raise _refusal(text, f"has the text {texts[0]!r}, and is to be made of numbers alone")
    return _kind(node, text, kinds)


def _hint(name: str, frame: pd.DataFrame) -> str:
    known = [str(c) for c in frame.columns]
    if close := get_close_matches(name, known, n=1):
        return f"did you mean {close[0]}?"
    listed, more = ", ".join(known[:MOST_LISTED]), len(known) - MOST_LISTED
    return f"a text needs quotes, and the columns are {listed}" + f" and {more} more" * (more > 0)


def _texts(node: Node) -> list[str]:
    if isinstance(node, Call):
        return [text for operand in node.operands for text in _texts(operand)]
    return [node.value] if isinstance(node, Constant) and isinstance(node.value, str) else []


def _kind_of(values: pd.Series) -> Kind | None:
    if pd.api.types.is_bool_dtype(values):
        return Kind.CONDITION
    if pd.api.types.is_numeric_dtype(values):
        return Kind.NUMBER
    return Kind.TEXT if values.notna().any() else None


def _kind(node: Node, text: str, kinds: Mapping[str, Kind | None]) -> Kind | None:
    match node:
        case Column(name):
            return kinds[name]
        case Constant(value):
            return Kind.TEXT if isinstance(value, str) else Kind.NUMBER
    found = [_kind(operand, text, kinds) for operand in node.operands]
    operation = OPERATIONS[node.operation]
    name = SIGNS.get(node.operation) or written(node).partition("(")[0]
    for operand, kind in zip(node.operands, found, strict=True):
        if operation.takes and not _fits(kind, operation.takes):
            raise InputError(
                f"params.yaml: in the expression {_shown(text)}, {name} takes {operation.takes}, "
                f"and {_shown(written(operand))} is {kind}"
            )
    known = [kind for kind in found if kind]
    is_text = [kind is Kind.TEXT for kind in known]
    if operation.takes is None and len(set(is_text)) > 1:
        first = found.index(known[0])
        other = found.index(known[is_text.index(not is_text[0])])
        a, b = (_shown(written(node.operands[i])) for i in (first, other))
        raise InputError(
            f"params.yaml: in the expression {_shown(text)}, {name} takes two of a kind, and {a} "
            f"is {found[first]}, {b} is {found[other]}; a text needs quotes"
        )
    if operation.gives or not known:
        return operation.gives
    return known[0] if len(set(known)) == 1 else Kind.NUMBER  # a condition counts as one


def _fits(kind: Kind | None, asked: Kind) -> bool:
    return kind in (None, asked) or (asked is Kind.NUMBER and kind is Kind.CONDITION)


def _arrays(node: Node, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    return {name: _array(frame[name]) for name in columns(node)}


def _array(values: pd.Series) -> np.ndarray:
    """A column as `evaluate` takes it: int64, float64, or texts."""
    if _kind_of(values) is Kind.TEXT:
        return values.astype(object).where(values.notna(), None).to_numpy()
    if values.dtype.kind == "i" and values.notna().all():
        return values.to_numpy(np.int64)
    return values.to_numpy(np.float64, na_value=np.nan)


def condition(text: str, frame: pd.DataFrame) -> pd.Series:
    """The rows in which a condition is true, and neither false nor unknown.

    Returns
    -------
    Series of bool, with the index of ``frame``

    Raises
    ------
    InputError
        If the text is not a condition over the table's columns.
    """
    node = parse(text)
    kind = check(node, text, frame)
    if kind is not Kind.CONDITION or not columns(node):
        raise _refusal(text, "is not a condition on rows, such as a > 1 or missing(a)")
    return pd.Series(evaluate(node, _arrays(node, frame), None) == 1, index=frame.index)


def numbers(text: str, frame: pd.DataFrame) -> np.ndarray:
    """The number that an expression gives in each row, as float32; NaN where it is not known.

    Raises
    ------
    InputError
        If the text is not an expression over the table's columns that gives numbers.
    """
    node = parse(text)
    if check(node, text, frame) is Kind.TEXT:
        raise _refusal(text, "is a text, and a number is asked for")
    return np.broadcast_to(evaluate(node, _arrays(node, frame)), len(frame))


def values(text: str, frame: pd.DataFrame) -> pd.Series:
    """What an expression is in each row: numbers, texts, or true and false, all of them known.

    Raises
    ------
    InputError
        If the text is not an expression over the table's columns, or unknown in a row.
    """
    node = parse(text)
    kind = check(node, text, frame)
    if not columns(node):
        raise _refusal(text, "says nothing about a row, because it names no column")
    found = pd.Series(evaluate(node, _arrays(node, frame), None), index=frame.index)
    if unknown := int(found.isna().sum()):
        raise _refusal(
            text, f"is unknown in {unknown:,} of the rows; use columns without gaps, or fill"
        )
    return found.astype(bool) if kind is Kind.CONDITION else found
