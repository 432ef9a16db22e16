"""Expressions over columns of numbers, as in ``params.yaml``: parsed, and never run as code.

The arithmetic is that of float32, which is what an exported bundle computes with, so that a
feature has the same value to the last bit before and after the export.
"""

import ast
import warnings
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from truefit.project import InputError


class Operation(NamedTuple):
    """What an expression may do: how NumPy does it, and how many operands it takes."""

    compute: Callable[..., np.ndarray]
    operands: int


def _known(*operands: np.ndarray) -> np.ndarray:
    return ~np.any([np.isnan(o) for o in np.broadcast_arrays(*operands)], axis=0)


def _divide(a, b):
    return np.divide(a, b, where=b != 0, out=np.full(np.broadcast(a, b).shape, np.nan, np.float32))


def _compare(compare: Callable) -> Callable:
    def compared(a, b):
        return np.where(_known(a, b), compare(a, b), np.nan)

    return compared


# The names are those of ONNX's operators, which the export needs, but for Fill and Missing.
OPERATIONS = {
    "Add": Operation(np.add, 2),
    "Sub": Operation(np.subtract, 2),
    "Mul": Operation(np.multiply, 2),
    "Div": Operation(_divide, 2),
    "Neg": Operation(np.negative, 1),
    "Less": Operation(_compare(np.less), 2),
    "LessOrEqual": Operation(_compare(np.less_equal), 2),
    "Greater": Operation(_compare(np.greater), 2),
    "GreaterOrEqual": Operation(_compare(np.greater_equal), 2),
    "Equal": Operation(_compare(np.equal), 2),
    "Min": Operation(np.minimum, 2),
    "Max": Operation(np.maximum, 2),
    "Sqrt": Operation(np.sqrt, 1),
    # In float64: float32 logarithms differ from library to library.
    "Log1p": Operation(lambda a: np.log(a.astype(np.float64) + 1), 1),
    "Missing": Operation(np.isnan, 1),
    "Fill": Operation(lambda a, b: np.where(np.isnan(a), b, a), 2),
}
FUNCTIONS = {
    "minimum": "Min",
    "maximum": "Max",
    "sqrt": "Sqrt",
    "log1p": "Log1p",
    "missing": "Missing",
    "fill": "Fill",
}
OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "Add",
    ast.Sub: "Sub",
    ast.Mult: "Mul",
    ast.Div: "Div",
    ast.USub: "Neg",
    ast.Lt: "Less",
    ast.LtE: "LessOrEqual",
    ast.Gt: "Greater",
    ast.GtE: "GreaterOrEqual",
    ast.Eq: "Equal",
}


class Column(NamedTuple):
    """A column, by its name."""

    name: str


class Constant(NamedTuple):
    """A number."""

    value: float


class Call(NamedTuple):
    """One of `OPERATIONS`, with its operands."""

    operation: str
    operands: tuple


Node = Column | Constant | Call
LARGEST = float(np.finfo(np.float32).max)
LONGEST = 200  # characters of an expression in an error


def parse(text: str) -> Node:
    """Parse an expression.

    Parameters
    ----------
    text : str
        Columns and numbers, ``+ - * /``, comparisons, parentheses, and the functions of
        `FUNCTIONS`.

    Raises
    ------
    InputError
        If the text is none.

    Examples
    --------
    >>> parse("fill(area, 0) / 2")  # doctest: +NORMALIZE_WHITESPACE
    Call(operation='Div',
         operands=(Call(operation='Fill',
                        operands=(Column(name='area'), Constant(value=0.0))),
                   Constant(value=2.0)))
    """
    try:
        with warnings.catch_warnings():
            # Of "1 is 1", Python warns; the sentence below says more.
            warnings.simplefilter("ignore", SyntaxWarning)
            return _node(ast.parse(text.strip(), mode="eval").body, text)
    except (SyntaxError, ValueError):  # a null byte is a ValueError
        raise InputError(
            f"params.yaml: the expression {_shown(text)} cannot be read; look at its parentheses "
            "and operators"
        ) from None
    except (RecursionError, MemoryError):
        raise InputError(
            f"params.yaml: the expression {_shown(text)} is nested too deeply; split it"
        ) from None


def _shown(text: str) -> str:
    """An expression for a sentence, which must stay one."""
    return repr(text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…")


def _node(found: ast.expr, text: str) -> Node:
    match found:
        case ast.Name(id=name):
            return Column(name)
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool):
            if abs(value) > LARGEST:
                raise InputError(
                    f"params.yaml: the expression {_shown(text)} holds a number above "
                    f"{LARGEST:.3g}, the largest of float32"
                )
            return Constant(float(value))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return Call(OPERATORS[type(op)], (_node(left, text), _node(right, text)))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Call("Neg", (_node(operand, text),))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in OPERATORS:
            return Call(OPERATORS[type(op)], (_node(left, text), _node(right, text)))
        case ast.Call(func=ast.Name(id=name), args=operands, keywords=[]) if name in FUNCTIONS:
            operation = FUNCTIONS[name]
            if len(operands) != OPERATIONS[operation].operands:
                raise InputError(
                    f"params.yaml: in the expression {_shown(text)}, {name} takes "
                    f"{OPERATIONS[operation].operands} operand(s), not {len(operands)}"
                )
            return Call(operation, tuple(_node(o, text) for o in operands))
    raise InputError(
        f"params.yaml: the expression {_shown(text)} has {_shown(ast.unparse(found))}, which is "
        f"not one of columns, numbers, + - * /, comparisons and {', '.join(FUNCTIONS)}"
    )


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


def evaluate(node: Node, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The value of an expression, row by row.

    Parameters
    ----------
    node : Node
        From `parse`.
    values : mapping from column to ndarray of float32, of shape (n_samples,)
        NaN where a value is not known.

    Returns
    -------
    ndarray of float32
        NaN where the value is not known or not finite; a single number for an expression without
        columns.

    Examples
    --------
    >>> values = {"area": np.array([50, np.nan, 80], "float32")}
    >>> evaluate(parse("area > 60"), values).tolist()
    [0.0, nan, 1.0]
    """
    with np.errstate(all="ignore"):
        found = _value(node, values)
    return np.where(np.isfinite(found), found, np.float32(np.nan))


def _value(node: Node, values: Mapping[str, np.ndarray]) -> np.ndarray:
    if isinstance(node, Column):
        return np.asarray(values[node.name], dtype=np.float32)
    if isinstance(node, Constant):
        return np.asarray(node.value, dtype=np.float32)
    operands = [_value(operand, values) for operand in node.operands]
    return np.asarray(OPERATIONS[node.operation].compute(*operands), dtype=np.float32)


def check(node: Node, text: str, frame: pd.DataFrame) -> None:
    """An expression must be over columns of numbers that the table has.

    Raises
    ------
    InputError
    """
    for name in columns(node):
        if name not in frame:
            raise InputError(
                f"params.yaml: the expression {_shown(text)} names {name!r}, which is not a column"
            )
        if not pd.api.types.is_numeric_dtype(frame[name]):
            raise InputError(
                f"params.yaml: the expression {_shown(text)} names {name!r}, which is not a "
                "column of numbers"
            )
