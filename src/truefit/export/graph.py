"""An ONNX graph that is written operation by operation.

Everything is computed in float64, as scikit-learn does, unless a step says otherwise, or fewer
digits are asked for; then the estimator has fewer, and what prepares its columns has not. The same
operation on the same operands is written once, so that the members of a blend share what they
prepare alike. Names are numbers in order of appearance, so that a model has one graph, whatever
process writes it.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from truefit.onnx_file import DOMAINS

OPSET = {"": 21, "ai.onnx.ml": 5}
TYPES = {"number": TensorProto.FLOAT, "text": TensorProto.STRING}
# The digits of an estimator's numbers. With float16 its large constants are stored so, and widened
# when the graph is loaded; all is counted in float32.
Precision = Literal["float64", "float32", "float16"]
LARGE = 256  # numbers in a constant that is worth storing in float16


class NoCounterpartError(Exception):
    """An estimator or a step that cannot be written as a graph; the message names it."""


class Graph:
    """A graph under construction.

    Parameters
    ----------
    inputs : mapping from column to kind
        ``number`` or ``text``; each an input of shape (n_samples, 1).
    precision : str, optional
        Of the estimators; see `of_estimator`.

    Attributes
    ----------
    kind : type
        In which numbers are counted now: ``float64`` or ``float32``.
    """

    def __init__(self, inputs: Mapping[str, str], precision: Precision = "float64"):
        self.inputs = dict(inputs)
        self.precision = precision
        self.kind: type = np.float64
        self._stored: type = np.float64
        # What is computed gets names that no column can have.
        self._mark = "/"
        while any(name.startswith(self._mark) for name in inputs):
            self._mark += "/"
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[Any, Any] = {}
        self._narrow: dict[str, str] = {}  # what is, or was, in float32: its name there

    @contextmanager
    def of_estimator(self, *, counted_finely: bool = False) -> Iterator[None]:
        """What is written meanwhile has the digits that were asked for.

        Parameters
        ----------
        counted_finely : bool
            Whether only the constants have fewer, and all is counted in float64.
        """
        before = self.kind, self._stored
        self._stored = np.dtype(self.precision).type
        self.kind = np.float64 if counted_finely or self.precision == "float64" else np.float32
        yield
        self.kind, self._stored = before

    def rounded(self, values: np.ndarray) -> np.ndarray:
        """Numbers in float64, as a large constant keeps them."""
        return np.asarray(values).astype(self._stored_as(values)).astype(np.float64)

    def _stored_as(self, values: Any) -> type:
        small = np.size(values) < LARGE or np.abs(values).max() > np.finfo(self._stored).max
        return self.kind if small else self._stored

    def constant(self, values: Any, dtype: Any = None) -> str:
        """An array of the given type; texts with ``dtype=str``; without one, as all is counted."""
        if dtype is None and self._stored_as(values) is not self.kind:
            stored = self.constant(values, self._stored)
            return self.op("Cast", stored, to=helper.np_dtype_to_tensor_dtype(np.dtype(self.kind)))
        dtype = dtype or self.kind
        values = np.asarray(values, dtype=object if dtype is str else dtype)
        content = repr(values.tolist()) if dtype is str else values.tobytes()
        key = ("constant", str(dtype), values.shape, content)
        if key not in self._known:
            name = f"{self._mark}c{len(self._constants)}"
            if dtype is str:
                encoded = [v.encode() for v in values.ravel()]
                tensor = helper.make_tensor(name, TensorProto.STRING, values.shape, encoded)
            else:
                tensor = numpy_helper.from_array(np.ascontiguousarray(values), name)
            self._constants.append(tensor)
            self._known[key] = name
        return self._known[key]

    def op(self, kind: str, *operands: str, outputs: int = 1, **attributes: Any) -> Any:
        """The name of an operation's result, or a tuple of names if it has several."""
        made = [helper.make_attribute(k, v) for k, v in sorted(attributes.items())]
        key = (kind, operands, *(a.SerializeToString(deterministic=True) for a in made))
        if key not in self._known:
            count = len(self._nodes)
            names = [f"{self._mark}{count}{'abc'[i] if i else ''}" for i in range(outputs)]
            node = helper.make_node(
                kind,
                operands,
                names,
                name=f"{kind} {count}",
                domain=DOMAINS[kind],  # or nobody would run it
            )
            node.attribute.extend(made)
            self._nodes.append(node)
            self._known[key] = names[0] if outputs == 1 else tuple(names)
        return self._known[key]

    def double(self, x: str) -> str:
        """Numbers or truth values as float64."""
        return self.op("Cast", x, to=TensorProto.DOUBLE)

    def widened(self, x: str) -> str:
        """Numbers in float32 as float64."""
        wide = self.double(x)
        self._narrow[wide] = x
        return wide

    def number(self, x: str) -> str:
        """Numbers or truth values, in the type in which all is counted."""
        return self.double(x) if self.kind is np.float64 else self.single(x)

    def single(self, x: str) -> str:
        """Numbers in float64 rounded to float32."""
        if x not in self._narrow:
            made = self.op("Cast", x, to=TensorProto.FLOAT)
            self._narrow |= {x: made, made: made}
        return self._narrow[x]

    def concat(self, parts: Sequence[str]) -> str:
        """Columns side by side."""
        return parts[0] if len(parts) == 1 else self.op("Concat", *parts, axis=1)

    def column(self, x: str, j: int) -> str:
        """One column of several, of shape (n_samples, 1)."""
        return self.op("Gather", x, self.constant([j], np.int64), axis=1)

    def total(self, x: str) -> str:
        """The sums of the rows, of shape (n_samples, 1)."""
        return self.op("ReduceSum", x, self.constant([1], np.int64), keepdims=1)

    def product(self, x: str, matrix: np.ndarray) -> str:
        """The matrix product of some columns and a constant.

        ONNX Runtime draws a division by one number, beside a product, into the product, where it
        keeps the number in float32. It does so beside a MatMul alone; one column needs none, and
        what stands beside others is not one number.
        """
        kind = "Mul" if len(matrix) == 1 else "MatMul"
        return self.op(kind, x, self.constant(matrix))

    def finish(self, name: str, output: str, result: str, width: int) -> onnx.ModelProto:
        """The whole graph, with one output of float64, of shape (n_samples, width)."""
        nodes = [*self._nodes, helper.make_node("Identity", [result], [output], name=output)]
        graph = helper.make_graph(
            nodes,
            name,
            [helper.make_tensor_value_info(n, TYPES[k], [None, 1]) for n, k in self.inputs.items()],
            [helper.make_tensor_value_info(output, TensorProto.DOUBLE, [None, width])],
            self._constants,
        )
        opsets = [helper.make_opsetid(domain, v) for domain, v in OPSET.items()]
        model = helper.make_model(graph, opset_imports=opsets, producer_name="truefit")
        # The oldest version of the format that has these operators, for older readers.
        model.ir_version = helper.find_min_ir_version_for(opsets)
        onnx.checker.check_model(model)
        return model
