"""Fewer digits: the same model in numbers that take less room."""

import logging
import tempfile
from pathlib import Path

from onnx import TensorProto
from sklearn.base import BaseEstimator
from sklearn.neural_network import MLPClassifier, MLPRegressor

from truefit.export.models import pipelines, to_onnx
from truefit.export.variants import Variant, as_bytes

FEWER = ("float32", "float16")


def fewer_digits(model: BaseEstimator, of: str, case: str) -> list[Variant]:
    """A fitted model with its estimators in fewer digits.

    What prepares the columns stays in float64, so that every tree sees the same numbers; and its
    thresholds are rounded down, so that every row takes the same turns.

    Parameters
    ----------
    model : estimator
    of, case : str
        Its name and that of the case.

    Returns
    -------
    list of Variant
        ``float32``, and ``float16`` if that makes another graph: trees have none.
    """
    classes, found = tuple(getattr(model, "classes_", ())), {}
    for precision in FEWER:
        content = as_bytes(to_onnx(model, case, precision))
        found.setdefault(content, Variant(of, precision, content, classes))
    return list(found.values())


def int8(model: BaseEstimator, of: str, case: str) -> Variant | None:
    """A perceptron whose matrices are bytes, by ONNX Runtime's dynamic quantisation.

    Each matrix is stored as int8 with one scale; each layer's input is rounded to 256 steps
    between the least and the largest number of the *batch*, so a row's answer depends on the rows
    that it is sent with. Of the eight bits of a weight, seven are used: two products of all eight
    may exceed the sixteen bits in which a processor without VNNI adds them, and it would then
    answer otherwise than one that has it.

    Returns
    -------
    Variant or None
        None if the model is no perceptron.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    if not all(isinstance(p[-1], MLPRegressor | MLPClassifier) for p in pipelines(model)):
        return None
    graph = to_onnx(model, case, "float32")
    narrow = {t.name for t in graph.graph.initializer if t.data_type == TensorProto.FLOAT}
    layers = [n.name for n in graph.graph.node if n.op_type == "MatMul" and n.input[1] in narrow]
    if not layers:
        return None
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a step for graphs of other kinds
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "int8.onnx"
            quantize_dynamic(
                graph,
                file,
                nodes_to_quantize=layers,
                weight_type=QuantType.QInt8,
                reduce_range=True,
            )
            content = file.read_bytes()
    finally:
        logging.disable(before)
    classes = tuple(getattr(model, "classes_", ()))
    return Variant(of, "int8", content, classes, depends_on_batch=True)
