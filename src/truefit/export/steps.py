"""The steps between the raw columns and the estimator, as operations of a graph."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import numpy as np
from onnx import TensorProto
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler

from truefit import expressions
from truefit.export.graph import Graph, NoCounterpartError
from truefit.training import (
    RARE,
    Clusters,
    Features,
    FillText,
    KeepInRange,
    LogSkewed,
    MergeRare,
    RoundToFloat32,
)

NO_COLUMN, UNSEEN = -1, -2  # codes of a text that has no column of its own, and of one not known


def prepared(graph: Graph, preparation: ColumnTransformer) -> str:
    """The prepared columns in float64, of shape (n_samples, n_prepared)."""
    blocks = []
    for kind, step, columns in preparation.transformers_:
        if kind != "remainder":
            steps = [s for _, s in getattr(step, "steps", make_pipeline(step).steps)]
            blocks.append(_block(graph, graph.concat(list(columns)), steps))
    return graph.concat(blocks)


def _block(graph: Graph, raw: str, steps: list) -> str:
    match steps:
        case [FillText() as fill, MergeRare() as rare, OneHotEncoder() as encoder]:
            return _one_hot(graph, raw, fill, rare, encoder)
        case [FillText() as fill, OrdinalEncoder() as encoder, *rest]:
            x = _ranks(graph, raw, fill, encoder)
        case rest:
            x = graph.widened(raw)
    for step in rest:
        if type(step) not in STEPS:
            raise NoCounterpartError(type(step).__name__)
        x = STEPS[type(step)](graph, x, step)
    return x


def _marked(graph: Graph, raw: str, columns: int) -> str:
    """Texts with the number of their column in front, so that one table serves all columns."""
    return graph.op("StringConcat", graph.constant([[f"{j}:" for j in range(columns)]], str), raw)


def _table(tables: Sequence[dict]) -> tuple[list, list]:
    pairs = [(f"{j}:{text}", v) for j, table in enumerate(tables) for text, v in table.items()]
    return [key for key, _ in pairs], [value for _, value in pairs]


def _one_hot(
    graph: Graph, raw: str, fill: FillText, rare: MergeRare, encoder: OneHotEncoder
) -> str:
    tables, others, owner = [], [], []
    for j, (frequent, categories) in enumerate(
        zip(rare.frequent_, encoder.categories_, strict=True)
    ):
        place = {text: len(owner) + i for i, text in enumerate(categories)}
        other = place.get(RARE, NO_COLUMN)
        table = {text: place.get(text, NO_COLUMN) for text in frequent}
        tables.append({**table, "": table.get(fill.fill[j], other)})
        others.append(other)
        owner += [j] * len(categories)
    keys, values = _table(tables)
    marked = _marked(graph, raw, len(tables))
    codes = graph.op(
        "LabelEncoder", marked, keys_strings=keys, values_int64s=values, default_int64=UNSEEN
    )
    unseen = graph.op("Equal", codes, graph.constant(UNSEEN, np.int64))
    codes = graph.op("Where", unseen, graph.constant([others], np.int64), codes)
    # To each prepared column the code of its raw one, which is equal to its own place or not.
    codes = graph.op("Gather", codes, graph.constant(owner, np.int64), axis=1)
    return graph.double(graph.op("Equal", codes, graph.constant([np.arange(len(owner))], np.int64)))


def _ranks(graph: Graph, raw: str, fill: FillText, encoder: OrdinalEncoder) -> str:
    tables = []
    for own, categories in zip(fill.fill, encoder.categories_, strict=True):
        ranks = {text: float(i) for i, text in enumerate(categories)}
        tables.append(ranks | {"": ranks.get(own, np.nan)})
    keys, values = _table(tables)
    marked = _marked(graph, raw, len(tables))
    return graph.widened(
        graph.op(
            "LabelEncoder", marked, keys_strings=keys, values_floats=values, default_float=np.nan
        )
    )


# Numbers


def _impute(graph: Graph, x: str, step: SimpleImputer) -> str:
    if step.add_indicator or len(step.statistics_) != step.n_features_in_:
        raise NoCounterpartError("SimpleImputer with an indicator")
    return graph.op("Where", graph.op("IsNaN", x), graph.constant([step.statistics_]), x)


def _round(graph: Graph, x: str, step: RoundToFloat32) -> str:
    rounded = graph.widened(graph.single(x))
    if step.rounded_.all():
        return rounded
    return graph.op("Where", graph.constant([step.rounded_], np.bool_), rounded, x)


def _keep_in_range(graph: Graph, x: str, step: KeepInRange) -> str:
    below = graph.op("Min", x, graph.constant([step.high_]))
    return graph.op("Max", below, graph.constant([step.low_]))


def _log_skewed(graph: Graph, x: str, step: LogSkewed) -> str:
    if not step.logged_.any():
        return x
    one = graph.constant(1.0)
    positive = graph.op("Max", x, graph.constant(0.0))
    above = graph.op("Add", positive, one)
    # What rounding took from 1 + x is put back: log(u) * x / (u - 1), and x itself where u is 1
    # (Goldberg, What Every Computer Scientist Should Know About Floating-Point Arithmetic, 1991,
    # theorem 4).
    lost = graph.op("Equal", above, one)
    ratio = graph.op("Div", positive, graph.op("Sub", above, one))
    logged = graph.op("Mul", graph.op("Log", above), ratio)
    logged = graph.op("Where", lost, positive, logged)
    return graph.op("Where", graph.constant([step.logged_], np.bool_), logged, x)


def _scale(graph: Graph, x: str, step: StandardScaler) -> str:
    centred = graph.op("Sub", x, graph.constant([step.mean_]))
    return graph.op("Div", centred, graph.constant([step.scale_]))


def _clusters(graph: Graph, x: str, step: Clusters) -> str:
    # In float32 and in the same order as in the step itself, for the same distances to the bit.
    single = np.float32
    centred = graph.op("Sub", graph.single(x), graph.constant([step.mean_], single))
    z = graph.op("Div", centred, graph.constant([step.scale_], single))
    distances: Any = None
    for j, centres in enumerate(step.centres_.T):
        apart = graph.op("Sub", graph.column(z, j), graph.constant([centres], single))
        square = graph.op("Mul", apart, apart)
        distances = square if distances is None else graph.op("Add", distances, square)
    nearest = graph.op("ArgMin", distances, axis=1, keepdims=1)
    places = graph.constant([np.arange(len(step.centres_))], np.int64)
    return graph.double(graph.op("Equal", nearest, places))


# Features


def _features(graph: Graph, x: str, step: Features) -> str:
    raw = graph.single(x)
    columns = {name: graph.column(raw, j) for j, name in enumerate(step.columns)}
    made = [formula(graph, expressions.parse(text), columns) for _, text in step.formulas]
    return graph.widened(graph.concat(made))


def formula(graph: Graph, node: expressions.Node, columns: dict[str, str]) -> str:
    """An expression in float32, equal to `expressions.evaluate` to the last bit.

    Parameters
    ----------
    graph : Graph
    node : Node
        From `expressions.parse`.
    columns : dict from column to the name of its values
        In float32, of shape (n_samples, 1); at least one.
    """
    value = _value(graph, node, columns)
    # What is not finite leaves a difference with itself that is not 0.
    zero, nan = (graph.constant(v, np.float32) for v in (0, np.nan))
    finite = graph.op("Equal", graph.op("Sub", value, value), zero)
    value = graph.op("Where", finite, value, nan)
    if expressions.columns(node):
        return value
    return graph.op("Expand", value, graph.op("Shape", next(iter(columns.values()))))


def _value(graph: Graph, node: expressions.Node, columns: dict[str, str]) -> str:
    match node:
        case expressions.Column(name):
            return columns[name]
        case expressions.Constant(value):
            return graph.constant([[np.float32(value)]], np.float32)
    operands = [_value(graph, operand, columns) for operand in node.operands]
    return OPERATIONS.get(node.operation, _plain(node.operation))(graph, *operands)


def _plain(kind: str) -> Callable[..., str]:
    return lambda graph, *operands: graph.op(kind, *operands)


def _where_known(graph: Graph, value: str, *operands: str) -> str:
    missing = [graph.op("IsNaN", operand) for operand in operands]
    either = graph.op("Or", *missing)
    return graph.op("Where", either, graph.constant(np.nan, np.float32), value)


def _with_gaps(kind: str) -> Callable[..., str]:
    """An operation whose result is not known where an operand is not."""

    def operation(graph: Graph, a: str, b: str) -> str:
        found = graph.op(kind, a, b)
        if kind not in {"Min", "Max"}:
            found = graph.op("Cast", found, to=TensorProto.FLOAT)
        return _where_known(graph, found, a, b)

    return operation


def _divide(graph: Graph, a: str, b: str) -> str:
    zero, nan = (graph.constant(v, np.float32) for v in (0, np.nan))
    return graph.op("Where", graph.op("Equal", b, zero), nan, graph.op("Div", a, b))


def _divide_and_floor(graph: Graph, a: str, b: str) -> str:
    return graph.op("Floor", _divide(graph, a, b))


def _remainder(graph: Graph, a: str, b: str) -> str:
    return graph.op("Sub", a, graph.op("Mul", _divide_and_floor(graph, a, b), b))


def _both(graph: Graph, a: str, b: str) -> str:
    zero = graph.constant(0, np.float32)
    false = graph.op("Or", graph.op("Equal", a, zero), graph.op("Equal", b, zero))
    return graph.op("Where", false, zero, graph.op("Mul", a, b))


def _either(graph: Graph, a: str, b: str) -> str:
    one = graph.constant(1, np.float32)
    true = graph.op("Or", graph.op("Equal", a, one), graph.op("Equal", b, one))
    return graph.op("Where", true, one, graph.op("Add", a, b))


def _of_all(two: Callable[..., str]) -> Callable[..., str]:
    return lambda graph, *operands: reduce(lambda a, b: two(graph, a, b), operands)


def _not(graph: Graph, a: str) -> str:
    return graph.op("Sub", graph.constant(1, np.float32), a)


def _among(graph: Graph, a: str, *listed: str) -> str:
    equal = _with_gaps("Equal")
    return _of_all(_either)(graph, *(equal(graph, a, one) for one in listed))


def _log1p(graph: Graph, a: str) -> str:
    above = graph.op("Add", graph.widened(a), graph.constant(1.0))
    return graph.op("Cast", graph.op("Log", above), to=TensorProto.FLOAT)


def _missing(graph: Graph, a: str) -> str:
    return graph.op("Cast", graph.op("IsNaN", a), to=TensorProto.FLOAT)


def _fill(graph: Graph, a: str, b: str) -> str:
    return graph.op("Where", graph.op("IsNaN", a), b, a)


GAPPED = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Min", "Max")
OPERATIONS: dict[str, Callable[..., str]] = {
    **{kind: _with_gaps(kind) for kind in GAPPED},
    "Div": _divide,
    "FloorDiv": _divide_and_floor,
    "Mod": _remainder,
    "And": _of_all(_both),
    "Or": _of_all(_either),
    "Not": _not,
    "In": _among,
    "Log1p": _log1p,
    "Missing": _missing,
    "Fill": _fill,
}
STEPS: dict[type, Callable[..., str]] = {
    SimpleImputer: _impute,
    RoundToFloat32: _round,
    KeepInRange: _keep_in_range,
    LogSkewed: _log_skewed,
    StandardScaler: _scale,
    Features: _features,
    Clusters: _clusters,
}
