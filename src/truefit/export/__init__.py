"""Turn the winner into a bundle: the whole pipeline as ONNX, a manifest, and a model card."""

from truefit.export.distil import LABELS, MADE, REAL, STUDENTS, made_rows, students
from truefit.export.graph import OPSET
from truefit.export.made import own_variants, pruned_variants
from truefit.export.manifest import as_json, manifest, model_card
from truefit.export.models import input_columns, pipelines, to_onnx
from truefit.export.parity import (
    difference,
    parity,
    plot_parity,
    require_parity,
    straddling_rows,
)
from truefit.export.prune import KINDS, Pruned, lighter_blends, pick, plot_pruned, prune
from truefit.export.quantise import fewer_digits, int8
from truefit.export.reference import reference
from truefit.export.ship import judge_again, judge_variants, plot_variants, smallest
from truefit.export.variants import (
    Scorer,
    Variant,
    answers,
    as_bytes,
    at_most,
    compare,
    edge_rows,
    exactly,
    kilobytes,
    timings,
    variants_table,
)

__all__ = [
    "KINDS",
    "LABELS",
    "MADE",
    "OPSET",
    "REAL",
    "STUDENTS",
    "Pruned",
    "Scorer",
    "Variant",
    "answers",
    "as_bytes",
    "as_json",
    "at_most",
    "compare",
    "difference",
    "edge_rows",
    "exactly",
    "fewer_digits",
    "input_columns",
    "int8",
    "judge_again",
    "judge_variants",
    "kilobytes",
    "lighter_blends",
    "made_rows",
    "manifest",
    "model_card",
    "own_variants",
    "parity",
    "pick",
    "pipelines",
    "plot_parity",
    "plot_pruned",
    "plot_variants",
    "prune",
    "pruned_variants",
    "reference",
    "require_parity",
    "smallest",
    "straddling_rows",
    "students",
    "timings",
    "to_onnx",
    "variants_table",
]
