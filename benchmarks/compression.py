"""How long each variant of a model takes, beside the winner as it is.

``make bench-compression`` writes ``compression.json`` beside this file, from what the pipeline has
made. All variants of a case take turns on one thread, so that a busy machine slows all of them; the
figure to quote is the ratio to the winner as it is. What is timed is ONNX Runtime alone: a service
adds its own.
"""

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from truefit import export, params, project
from truefit.bundle import open_session
from truefit.export import Variant

RESULT = Path(__file__).with_suffix(".json")
BATCH = 10_000  # rows
ROUNDS, CALLS = 30, 20  # of single rows: each variant is called so often, so many times over
SLOW_ROUNDS = 7  # of batches, and of loading


def variants_of(name: str, parameters: params.Params) -> tuple[list[Variant], pd.DataFrame]:
    """The variants that the notebook shows, the winner first, and the test rows."""
    case, settings = parameters.case(name), parameters.export
    train, test = (
        pd.read_parquet(project.path("data", name, f"{n}.parquet")) for n in ("train", "test")
    )
    models = joblib.load(project.path("models", name, "candidates.joblib"))
    verdict = json.loads(project.path("reports", "gate", f"{name}.json").read_text("utf-8"))
    winner = verdict["headline"]["model"]
    found = export.own_variants(models[winner], winner, name)
    for kind in export.KINDS:
        pruned = export.prune(
            kind, winner, models, train, case, folds=settings.folds, seed=settings.seed
        )
        if pruned is not None:
            found |= export.pruned_variants(pruned, models[pruned.of], name)
    found |= export.students(
        found[winner], train, case, name, made=settings.made_rows, seed=settings.seed
    )
    return list(found.values()), test


def feed_of(session, rows: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows as the graph takes them."""
    feed = {}
    for i in session.get_inputs():
        text = i.type == "tensor(string)"
        values = (
            rows[i.name].astype(object).where(rows[i.name].notna(), "") if text else rows[i.name]
        )
        feed[i.name] = values.to_numpy(object if text else np.float32).reshape(-1, 1)
    return feed


def milliseconds(action: Callable[[], object], calls: int = 1) -> float:
    """The wall time of one call, the median of some."""
    found = []
    for _ in range(calls):
        start = time.perf_counter()
        action()
        found.append((time.perf_counter() - start) * 1000)
    return statistics.median(found)


def measure(variants: list[Variant], test: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The times of each variant, and their ratios to the first."""
    rng = np.random.default_rng(1)
    many = test.iloc[rng.integers(len(test), size=BATCH)]
    sessions = [open_session(v.content) for v in variants]
    ones = [feed_of(s, test.iloc[[0]]) for s in sessions]
    batches = [feed_of(s, many) for s in sessions]
    works = {
        "one_row_ms": (ROUNDS, CALLS, lambda i: sessions[i].run(None, ones[i])),
        "batch_ms": (SLOW_ROUNDS, 1, lambda i: sessions[i].run(None, batches[i])),
        "load_ms": (SLOW_ROUNDS, 1, lambda i: open_session(variants[i].content)),
    }
    found = [{"bytes": len(v.content)} for v in variants]
    for name, (rounds, calls, work) in works.items():
        for i in range(len(variants)):
            work(i)
        actions = [partial(work, i) for i in range(len(variants))]
        times = [[milliseconds(action, calls) for action in actions] for _ in range(rounds)]
        for i, row in enumerate(found):
            row[name] = float(f"{statistics.median(t[i] for t in times):.3g}")
            ratio = statistics.median(t[i] / t[0] for t in times)
            row[f"{name.removesuffix('_ms')}_ratio"] = round(ratio, 2)
    return {v.name: row for v, row in zip(variants, found, strict=True)}


def main() -> None:
    parameters, cases = params.load(), {}
    with threadpool_limits(1):
        for name in parameters.cases:
            cases[name] = measure(*variants_of(name, parameters))
            for variant, row in cases[name].items():
                print(f"{name:10} {variant:60} {row}")
    result = {
        "command": "make bench-compression",
        "python": platform.python_version(),
        "onnxruntime": version("onnxruntime"),
        "cores": os.cpu_count(),
        "batch": BATCH,
        "cases": cases,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
