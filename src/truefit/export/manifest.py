"""What lies beside the graph: the manifest for programs, the model card for people."""

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from sklearn.base import BaseEstimator

from truefit.bundle import FORMAT
from truefit.case import ABSENT, NOT_AN_ID, Case
from truefit.digits import significant, to_spread
from truefit.export.graph import OPSET
from truefit.export.models import input_columns
from truefit.metrics import LABELS
from truefit.project import InputError

PACKAGES = ("truefit", "scikit-learn", "xgboost-cpu", "lightgbm", "onnx", "onnxruntime")


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
    interval: dict | None = None,
    reference: dict | None = None,
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
    interval : dict, optional
        Of a single prediction p: ``confidence``, ``width`` w and ``kind``, which is ``factor`` for
        p / w to p * w, or ``distance`` for p - w to p + w.
    reference : dict, optional
        From `truefit.export.reference`.
    """
    reference = reference or {"influence": {}, "deciles": []}
    inputs = []
    for column, kind in input_columns(model).items():
        known = {k: v for k, v in schema["columns"][column].items() if k not in ("role", "type")}
        if column in case.absent:
            known = _without_absent(known)
        inputs.append(
            {"name": column, "type": kind}
            | known
            | ({"absent": True} if column in case.absent else {})
            | {"influence": reference["influence"].get(column, 0)}
        )
    if case.id in NOT_AN_ID:
        raise InputError(f"{name}: the id cannot be called {case.id!r}, as an output is; rename it")
    target = schema["columns"][case.target]
    return {
        "format": FORMAT,
        "case": name,
        "title": case.title or name,
        "about": case.about,
        "task": case.task,
        "target": {
            "name": case.target,
            "unit": case.unit(case.target),
            **{end: target[end] for end in ("minimum", "maximum") if end in target},
        },
        "id": case.id,
        **case.decision(getattr(model, "classes_", ())),
        "interval": interval,
        "deciles": reference["deciles"],
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


def _without_absent(column: dict) -> dict:
    """A column as those who use the bundle see it: what has none is empty, as in the raw table."""
    found = {k: v for k, v in column.items() if v != ABSENT}
    if "categories" in found:
        found["categories"] = [v for v in found["categories"] if v != ABSENT]
    return found


def as_json(value: dict) -> str:
    """JSON that people can read and diff."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def model_card(manifest: dict, case: Case, *, test_rows: int) -> str:
    """The model card, in Markdown, after Mitchell et al., Model Cards for Model Reporting, 2019."""
    metrics = "\n".join(
        f"| {LABELS[m]} | {' | '.join(_metric(v))} |" for m, v in manifest["metrics"].items()
    )
    checks = "\n".join(
        f"- {'passed' if c['passed'] else 'failed'}: {c['check']} ({c['reason']})"
        for c in manifest["gate"]["checks"]
    )
    rules = [f"- Rows left out where `{r.when}`: {r.reason}." for r in case.drop_rows]
    rules += [f"- `{r.column}` blanked where `{r.when}`: {r.reason}." for r in case.blank]
    rules += [f"- `{column}` not learned from: {why}." for column, why in case.drop_columns.items()]
    rules += [f"- Repeated rows left out: {case.drop_repeats}."] if case.drop_repeats else []
    unit = f", in {case.unit(case.target)}" if case.unit(case.target) else ""
    kind = f"`{case.time}` before {case.production_from}" if case.time else "a random share"
    median = (
        "\n- The model learns the logarithm of the target. Its prediction is a typical value, near "
        "the median of what to expect, and below the mean."
        if case.logarithmic
        else ""
    )
    return f"""# Model card: {manifest["title"]}

{case.about}

| | |
|---|---|
| predicts | `{case.target}`{unit} |
| task | {case.task_words} |
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

- It knows only rows like those it was trained on. `manifest.json` lists the range and the
  categories of every column; outside them its answers are guesses.
- The intervals say how well the figures above are known. {_interval(manifest)}{median}
- It says what goes together in these data, not what causes what.
{f"- {case.caution}" if case.caution else ""}"""


def _metric(found: dict) -> tuple[str, str]:
    """A metric and its interval, to the digits that the interval deserves."""
    spread = found["high"] - found["low"]
    value, low, high = (to_spread(found[end], spread) for end in ("value", "low", "high"))
    return value, f"{low} to {high}"


def _interval(manifest: dict) -> str:
    interval = manifest["interval"]
    if interval is None:
        return "They are not\n  intervals of a single prediction."
    width = significant(interval["width"], 3)
    how = (
        f"the prediction divided by {width} to the prediction times {width}"
        if interval["kind"] == "factor"
        else f"{width} below it to {width} above it"
    )
    return (
        f"A single prediction\n  has an interval of its own, from {how},\n"
        f"  chosen so that it held {interval['confidence']:.0%} of the training rows, each "
        "predicted by a\n  model that had not seen it."
    )
