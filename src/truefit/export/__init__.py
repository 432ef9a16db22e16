"""Turn the winner into a bundle: the whole pipeline as ONNX, a manifest, and a model card."""

from truefit.export.graph import OPSET
from truefit.export.manifest import as_json, manifest, model_card
from truefit.export.models import OUTPUTS, input_columns, pipelines, to_onnx
from truefit.export.parity import parity, plot_parity, straddling_rows
from truefit.export.reference import reference

__all__ = [
    "OPSET",
    "OUTPUTS",
    "as_json",
    "input_columns",
    "manifest",
    "model_card",
    "parity",
    "pipelines",
    "plot_parity",
    "reference",
    "straddling_rows",
    "to_onnx",
]
