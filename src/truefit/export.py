"""Turn the winner into a bundle: the whole pipeline as ONNX, a manifest, and a model card."""

import copy
import hashlib
import itertools
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from truefit import figures
from truefit.bundle import FORMAT, Bundle
from truefit.digits import significant
from truefit.metrics import LABELS, predictions
from truefit.params import Case
from truefit.project import InputError
from truefit.training import RARE, FillText, MergeRare, RoundToFloat32, unwrap

OPSET = {"": 21, "ai.onnx.ml": 3}
OUTPUTS = {"prediction", "label", "probability"}
PACKAGES = ("truefit", "scikit-learn", "skl2onnx", "onnx", "onnxruntime")


def input_columns(model: BaseEstimator) -> dict[str, str]:
    """The raw columns the fitted model reads, in order, each ``number`` or ``text``."""
    preparation = unwrap(model)[0]
    return {
        column: "number" if kind == "number" else "text"
        for kind, _, columns in preparation.transformers_
        if kind != "remainder"
        for column in columns
    }


def to_onnx(model: BaseEstimator, name: str) -> onnx.ModelProto:
    """The fitted model with all its preparation as one ONNX graph.

    Parameters
    ----------
    model : estimator
        From `truefit.training.build`, fitted.
    name : str
        Of the graph.

    Returns
    -------
    ModelProto
        One input of shape (n_samples, 1) for each raw column: float32 with NaN for a gap, or
        string with ``""`` for one. Outputs: ``prediction`` of shape (n_samples, 1) in the
        target's own unit; or ``label`` of shape (n_samples,) and ``probability`` of shape
        (n_samples, n_classes).

    Raises
    ------
    InputError
        If the estimator has no counterpart in ONNX, or a column is called like an output.
    """
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType
    from skl2onnx.common.exceptions import MissingConverter, MissingShapeCalculator

    columns = input_columns(model)
    for column in sorted(OUTPUTS.intersection(columns)):
        raise InputError(
            f"{name}: a column cannot be called {column!r}, as an output is; rename it"
        )
    _register_converters()
    pipeline = _in_float32(unwrap(model))
    kinds = {"number": FloatTensorType, "text": StringTensorType}
    classifies = hasattr(model, "classes_")
    try:
        graph = convert_sklearn(
            pipeline,
            name=name,
            initial_types=[(f"x{i}", kinds[k]([None, 1])) for i, k in enumerate(columns.values())],
            target_opset=OPSET,
            options={id(pipeline): {"zipmap": False}} if classifies else None,
        )
    except (MissingConverter, MissingShapeCalculator):
        raise InputError(
            f"the model {type(pipeline[-1]).__name__} of {name} has no counterpart in ONNX; take "
            "it off the candidates in params.yaml"
        ) from None
    if isinstance(model, TransformedTargetRegressor):
        _append_exp(graph.graph)
    _rename(graph.graph, list(columns), ["label", "probability"] if classifies else ["prediction"])
    # The converter keeps the operator sets in a set, whose order changes from process to process.
    graph.opset_import.sort(key=lambda opset: opset.domain)
    onnx.checker.check_model(graph)
    return graph


def _in_float32(pipeline: Pipeline) -> Pipeline:
    """A copy of the fitted pipeline that a converter can follow to the letter.

    Its columns are called x0, x1 and so on, because a converter would bend other names. A tree's
    threshold is rounded down to float32: no float32 lies between the two, so every row goes the
    way it went; rounded to the nearest, the threshold could step over a row.
    """
    pipeline = copy.deepcopy(pipeline)
    names = (f"x{i}" for i in itertools.count())
    pipeline[0].transformers_ = [
        (kind, step, [next(names) for _ in columns])
        for kind, step, columns in pipeline[0].transformers_
        if kind != "remainder"
    ]
    for tree in _trees(pipeline):
        exact = tree.nodes["num_threshold"]
        nearest = exact.astype(np.float32)
        below = np.nextafter(nearest, np.float32(-np.inf))
        tree.nodes["num_threshold"] = np.where(nearest > exact, below, nearest)
    return pipeline


def _trees(pipeline: Pipeline) -> list:
    return [t for group in getattr(pipeline[-1], "_predictors", []) for t in group]


def _rename(graph: onnx.GraphProto, inputs: list[str], outputs: list[str]) -> None:
    """Give inputs and outputs their names, and all between them names that no column can have."""
    mark = "/"
    while any(name.startswith(mark) for name in inputs):
        mark += "/"
    names = dict(zip((i.name for i in graph.input), inputs, strict=True))
    names |= dict(zip((o.name for o in graph.output), outputs, strict=True))
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
    for value in (*graph.initializer, *graph.value_info):
        value.name = mark + value.name
    for node in graph.node:
        for ends in (node.input, node.output):
            # An empty name stands for an optional input that is not given.
            ends[:] = [names.get(end, end and mark + end) for end in ends]


def _append_exp(graph: onnx.GraphProto) -> None:
    """Turn the logarithm that the model learned into the target's own unit."""
    output, name = graph.output[0], "exponential"
    graph.node.append(onnx.helper.make_node("Exp", [output.name], [name], name=name))
    output.name = name


def _register_converters() -> None:
    from skl2onnx import update_registered_converter

    def same_shape(operator) -> None:
        kind = type(operator.inputs[0].type)
        operator.outputs[0].type = kind([None, operator.raw_operator.n_features_in_])

    for step, convert in (
        (RoundToFloat32, _convert_round),
        (FillText, _convert_fill),
        (MergeRare, _convert_rare),
        (StandardScaler, _convert_scale),
    ):
        update_registered_converter(
            step, f"Truefit{step.__name__}", same_shape, convert, overwrite=True
        )


def _convert_round(scope, operator, container) -> None:
    # The graph's numbers are float32 from the start.
    container.add_node(
        "Identity",
        operator.inputs[0].full_name,
        operator.outputs[0].full_name,
        name=scope.get_unique_operator_name("RoundToFloat32"),
    )


def _convert_scale(scope, operator, container) -> None:
    # Two float32 numbers hold a mean to twice the digits. Subtracted in turn they keep the digits
    # of a column whose values are large and close together, such as a time in seconds.
    scaler = operator.raw_operator
    coarse = scaler.mean_.astype(np.float32)
    source = operator.inputs[0].full_name
    for op, values in (
        ("Sub", coarse),
        ("Sub", (scaler.mean_ - coarse).astype(np.float32)),
        ("Div", scaler.scale_.astype(np.float32)),
    ):
        constant, result = (scope.get_unique_variable_name(n) for n in ("constant", "scaled"))
        container.add_initializer(constant, onnx.TensorProto.FLOAT, [1, len(values)], list(values))
        container.add_node(
            op,
            [source, constant],
            operator.outputs[0].full_name if op == "Div" else result,
            name=scope.get_unique_operator_name(op),
            op_version=14,
        )
        source = result


def _convert_fill(scope, operator, container) -> None:
    empty, fill, is_empty = (
        scope.get_unique_variable_name(n) for n in ("empty", "fill", "is_empty")
    )
    values = list(operator.raw_operator.fill)
    text = onnx.TensorProto.STRING
    container.add_initializer(empty, text, [1], [b""])
    container.add_initializer(fill, text, [1, len(values)], [v.encode() for v in values])
    source = operator.inputs[0].full_name
    container.add_node(
        "Equal",
        [source, empty],
        is_empty,
        name=scope.get_unique_operator_name("IsEmpty"),
        op_version=19,
    )
    container.add_node(
        "Where",
        [is_empty, fill, source],
        operator.outputs[0].full_name,
        name=scope.get_unique_operator_name("FillText"),
        op_version=16,
    )


def _convert_rare(scope, operator, container) -> None:
    columns = []
    for j, frequent in enumerate(operator.raw_operator.frequent_):
        known = list(frequent) or [RARE]  # an encoder must have a key
        index, column, renamed = (
            scope.get_unique_variable_name(n) for n in ("j", "column", "renamed")
        )
        container.add_initializer(index, onnx.TensorProto.INT64, [1], [j])
        container.add_node(
            "Gather",
            [operator.inputs[0].full_name, index],
            column,
            axis=1,
            op_version=13,
            name=scope.get_unique_operator_name("Gather"),
        )
        container.add_node(
            "LabelEncoder",
            column,
            renamed,
            op_domain="ai.onnx.ml",
            op_version=2,
            name=scope.get_unique_operator_name("MergeRare"),
            keys_strings=known,
            values_strings=known,
            default_string=RARE,
        )
        columns.append(renamed)
    container.add_node(
        "Concat",
        columns,
        operator.outputs[0].full_name,
        axis=1,
        op_version=13,
        name=scope.get_unique_operator_name("Concat"),
    )


def parity(model: BaseEstimator, bundle: Bundle, rows: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Score rows with the model and with the bundle.

    Returns
    -------
    DataFrame
        With ``model``, ``bundle`` and ``difference``: absolute for a probability; for a number
        relative to the model's prediction, or to the range of the target in training where that
        is larger and the target may pass through 0, so that 0 is a prediction like any other.
    """
    expected = predictions(model, rows, case)
    got = bundle.score(rows)
    gap = np.abs(got - expected)
    if case.task == "regression":
        target = bundle.manifest["target"]
        spread = 0 if case.log_target else target["maximum"] - target["minimum"]
        gap = gap / np.maximum(np.abs(expected), spread)
    return pd.DataFrame({"model": expected, "bundle": got, "difference": gap})


def straddling_rows(model: BaseEstimator, row: pd.DataFrame, most: int = 2000) -> pd.DataFrame:
    """Copies of a row with one number moved onto a tree's threshold, or next to it.

    Around each threshold: the number itself and its neighbours in float64, which the bundle
    cannot tell apart, and its neighbours in float32, which it can.

    Parameters
    ----------
    model : estimator
        Fitted.
    row : DataFrame of one row
        Raw columns.
    most : int
        How many thresholds, spread evenly over all.

    Returns
    -------
    DataFrame
        Empty if the model has no trees.
    """
    pipeline = unwrap(model)
    numbers = [c for c, kind in input_columns(model).items() if kind == "number"]
    found = sorted(
        {
            (numbers[node["feature_idx"]], float(node["num_threshold"]))
            for tree in _trees(pipeline)
            for node in tree.nodes
            if not node["is_leaf"] and node["feature_idx"] < len(numbers)
        }
    )
    found = found[:: max(1, -(-len(found) // most))]
    near = [(c, v) for c, t in found for v in _neighbours(t)]
    copies = row.iloc[[0] * len(near)].reset_index(drop=True)
    copies = copies.astype(dict.fromkeys(numbers, "float64"))
    for column in {c for c, _ in near}:
        at = [i for i, (c, _) in enumerate(near) if c == column]
        copies.loc[at, column] = [near[i][1] for i in at]
    return copies


def _neighbours(threshold: float) -> list[float]:
    if not np.isfinite(threshold):  # it parts what is known from what is missing
        return []
    single = np.float32(threshold)
    around = [np.nextafter(single, np.float32(s)) for s in (-np.inf, np.inf)]
    doubles = [np.nextafter(threshold, s) for s in (-np.inf, np.inf)]
    return [float(v) for v in (threshold, single, *around, *doubles)]


def manifest(
    model: BaseEstimator,
    schema: dict,
    case: Case,
    *,
    name: str,
    winner: str,
    metrics: dict,
    verdict: dict,
    files: dict[str, Path],
) -> dict:
    """All that a service, or a person, must know to use the bundle without this project.

    Parameters
    ----------
    model : estimator
        The winner, fitted.
    schema : dict
        From `truefit.data_prep.infer_schema`.
    case : Case
        Its block in ``params.yaml``.
    name, winner : str
        Of the case and of the model on the shelf.
    metrics, verdict : dict
        On the test rows, and what the gate said of them.
    files : dict from name to Path
        Whose checksums are written down.
    """
    inputs = []
    for column, kind in input_columns(model).items():
        known = {k: v for k, v in schema["columns"][column].items() if k not in ("role", "type")}
        inputs.append(
            {"name": column, "type": kind}
            | known
            | ({"absent": True} if column in case.absent else {})
        )
    if case.id in OUTPUTS:
        raise InputError(f"{name}: the id cannot be called {case.id!r}, as an output is; rename it")
    classes = [str(c) for c in getattr(model, "classes_", [])]
    target = schema["columns"][case.target]
    return {
        "format": FORMAT,
        "case": name,
        "title": case.title or name,
        "task": case.task,
        "target": {
            "name": case.target,
            "unit": case.unit(case.target),
            **{end: target[end] for end in ("minimum", "maximum") if end in target},
        },
        "id": case.id,
        "classes": classes or None,
        "positive": case.positive,
        "inputs": inputs,
        "reading": {"separator": case.separator, "missing": case.missing},
        "model": winner,
        "opset": OPSET,
        "versions": {package: version(package) for package in PACKAGES},
        "data": {"sha256": schema["source"], "training_rows": schema["rows"]},
        "sha256": {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in files.items()},
        "metrics": metrics,
        "gate": verdict,
    }


def as_json(value: dict) -> str:
    """JSON that people can read and diff."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def model_card(manifest: dict, case: Case, *, test_rows: int) -> str:
    """The model card, in Markdown, after Mitchell et al., Model Cards for Model Reporting, 2019."""
    metrics = "\n".join(
        f"| {LABELS[m]} | {significant(v['value'])} | "
        f"{significant(v['low'])} to {significant(v['high'])} |"
        for m, v in manifest["metrics"].items()
    )
    checks = "\n".join(
        f"- {'passed' if c['passed'] else 'failed'}: {c['check']} ({c['reason']})"
        for c in manifest["gate"]["checks"]
    )
    rules = [f"- Rows left out where `{r.when}`: {r.reason}." for r in case.drop_rows]
    rules += [f"- `{r.column}` blanked where `{r.when}`: {r.reason}." for r in case.blank]
    rules += [f"- `{column}` not learned from: {why}." for column, why in case.drop_columns.items()]
    rules += [f"- Repeated rows left out: {case.drop_repeats}."] if case.drop_repeats else []
    positive = f"; the positive class is `{case.positive}`" if case.positive else ""
    unit = f", in {case.unit(case.target)}" if case.unit(case.target) else ""
    kind = f"`{case.time}` before {case.production_from}" if case.time else "a random share"
    median = (
        "\n- The model learns the logarithm of the target. Its prediction is a typical value, near "
        "the median of what to expect, and below the mean."
        if case.log_target
        else ""
    )
    return f"""# Model card: {manifest["title"]}

{case.about}

| | |
|---|---|
| predicts | `{case.target}`{unit} |
| task | {case.task}{positive} |
| model | {manifest["model"]}, with all preparation inside |
| inputs | {len(manifest["inputs"])} raw columns, listed in manifest.json |
| trained on | {manifest["data"]["training_rows"]:,} rows ({kind}) |
| tested on | {test_rows:,} rows of the same kind that nothing was fitted on |

## Data

Source: {case.source or "not stated"}.

{chr(10).join(rules) or "No row was left out."}

## Quality on the test rows

| metric | value | {manifest["gate"]["headline"]["confidence"]:.0%} interval |
|---|---|---|
{metrics}

## Gate: {"passed" if manifest["gate"]["passed"] else "failed"}

{checks}

## What to know before using it

- It has seen rows like those it was trained on. `manifest.json` lists the range and the categories
  of every column; outside them its answers are guesses.
- The intervals say how well the figures above are known. They are not intervals of a single
  prediction.{median}
- It says what goes together in these data, not what causes what.
{f"- {case.caution}" if case.caution else ""}"""


def plot_parity(table: pd.DataFrame, tolerance: float) -> None:
    """How far apart the model and the bundle are, row by row, against the tolerance."""
    fig, ax = figures.new(height=2.6)
    shown = table["difference"].clip(lower=1e-9)
    ax.hist(shown, bins=np.geomspace(1e-9, max(tolerance * 2, shown.max() * 1.1), 50))
    ax.axvline(tolerance, color=figures.ORANGE, label="tolerance")
    ax.set_xscale("log")
    ax.set(
        xlabel="difference between model and bundle", ylabel="rows", title="Every row, scored twice"
    )
    ax.legend(loc="upper left")
    figures.show(
        fig,
        f"Histogram of the differences between model and bundle in {len(table):,} rows; the "
        f"tolerance is {tolerance:.0e}.",
    )
