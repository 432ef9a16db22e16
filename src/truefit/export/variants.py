"""Variants of a model: how large, how quick, how good, and how far astray each is."""

import gzip
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
import pandas as pd
from sklearn.base import BaseEstimator

from truefit import figures, project
from truefit.bundle import open_session, run_session
from truefit.case import Case
from truefit.digits import significant, to_spread
from truefit.export.models import to_onnx
from truefit.export.parity import difference, straddling_rows
from truefit.metrics import AT_ONCE, LABELS, predictions, truth

BENCHMARK = ("benchmarks", "compression.json")
SAME_SIZE = 0.01  # a share by which a file may differ from the one that was measured
ON_EDGE = 3  # rows that are moved onto the edges of trees …
EDGES = 300  # … and so many thresholds for each


class Variant(NamedTuple):
    """A model as it is, or what was made of one to be smaller or quicker."""

    of: str  # the candidate that it was made of
    done: str  # what was done to it; empty for the candidate as it is
    content: bytes  # of its graph
    classes: tuple[str, ...] = ()
    # The estimator whose answers the graph gives; None where digits were taken from the graph.
    model: BaseEstimator | None = None
    # Whether a row's answer depends on the rows that it is sent with.
    depends_on_batch: bool = False

    @property
    def name(self) -> str:
        """What it is called in a table and in the manifest."""
        return f"{self.of}, {self.done}" if self.done else self.of


class Scorer:
    """A graph that predicts as an estimator of scikit-learn does.

    Parameters
    ----------
    variant : Variant
    at_once : int, optional
        How many rows are sent together; all if not given.
    """

    def __init__(self, variant: Variant, at_once: int | None = None):
        self.classes_ = np.array(variant.classes)
        self._session, self._at_once = open_session(variant.content), at_once

    def _found(self, X: pd.DataFrame) -> np.ndarray:
        columns = {i.name: X[i.name].to_numpy() for i in self._session.get_inputs()}
        step = self._at_once or len(X)
        parts = [
            run_session(self._session, {c: v[first : first + step] for c, v in columns.items()})
            for first in range(0, len(X), step)
        ]
        return np.concatenate([next(iter(part.values())) for part in parts])

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Give numbers, of shape (n_samples,), or the more probable classes."""
        found = self._found(X)
        return self.classes_[found.argmax(axis=1)] if len(self.classes_) else found.ravel()

    def predict_proba(self, X: pd.DataFrame) -> np.ndarray:
        """Give the probabilities, of shape (n_samples, 2), in the order of the classes."""
        return self._found(X)


def as_bytes(graph: onnx.ModelProto) -> bytes:
    """A graph as a file holds it."""
    return graph.SerializeToString(deterministic=True)


def exactly(model: BaseEstimator, of: str, case: str, done: str = "") -> Variant:
    """A fitted model as a graph that gives its answers.

    Parameters
    ----------
    model : estimator
        Fitted.
    of, done : str
        See `Variant`.
    case : str
        Its name, which is the graph's.
    """
    classes = tuple(getattr(model, "classes_", ()))
    return Variant(of, done, as_bytes(to_onnx(model, case)), classes, model)


def answers(variant: Variant, rows: pd.DataFrame, case: Case) -> np.ndarray:
    """Predictions, or probabilities of the positive class, of shape (n_samples,)."""
    scorer = Scorer(variant, at_once=1 if variant.depends_on_batch else None)
    return predictions(scorer, rows, case)


def edge_rows(model: BaseEstimator, rows: pd.DataFrame) -> pd.DataFrame:
    """Some of the rows, each moved onto the edges of the model's trees; see `straddling_rows`."""
    some = rows.head(ON_EDGE)
    made = [straddling_rows(model, some.iloc[[i]], most=EDGES) for i in range(len(some))]
    return pd.concat(made, ignore_index=True)


def compare(
    variants: Mapping[str, Variant],
    test: pd.DataFrame,
    more: pd.DataFrame,
    case: Case,
    extent: float,
    weights: np.ndarray,
    *,
    confidence: float,
) -> pd.DataFrame:
    """Hold each variant against the model that it was made of.

    Parameters
    ----------
    variants : mapping from name to Variant
        With each model as it is, by its name alone.
    test : DataFrame
        Rows that nothing was fitted on, with their target.
    more : DataFrame
        Rows without a known target, on which only the change is looked at. Rows on the edges of
        the trees of the model as it is are added.
    case : Case
    extent : float
        From the least to the largest target in training; see `truefit.export.difference`.
    weights : ndarray of shape (n_resamples + 1, n_samples)
        From `truefit.evaluation.bootstrap_weights`.
    confidence : float
        Of the intervals.

    Returns
    -------
    DataFrame
        Indexed by name: ``of``; ``bytes`` and ``gzipped`` of the file; the main metric's ``value``,
        ``low`` and ``high``; ``gap``, ``gap_low`` and ``gap_high``, by which it is above that of
        the model as it is, paired; ``change``, the largest of any prediction; and
        ``depends_on_batch``.
    """
    metric, found, rows = case.main_metric, {}, {}
    features = test.drop(columns=case.target)
    everything = {}
    for name, variant in variants.items():
        if variant.of not in everything:
            edge = edge_rows(variants[variant.of].model, features)
            everything[variant.of] = pd.concat([features, more, edge], ignore_index=True)
        said = answers(variant, everything[variant.of], case)
        scores = _resampled(metric, test[case.target], said[: len(test)], weights, case)
        found[name] = said, scores
        said_before, scores_before = found[variant.of]
        tail = (1 - confidence) / 2
        value, gap = (
            (v[0], *np.nanquantile(v[1:], [tail, 1 - tail]))
            for v in (scores, scores - scores_before)
        )
        change = float(difference(said_before, said, case, extent).max())
        size = len(variant.content), len(gzip.compress(variant.content, mtime=0))
        rows[name] = (variant.of, *size, *value, *gap, change, variant.depends_on_batch)
    columns = ["of", "bytes", "gzipped", "value", "low", "high", "gap", "gap_low", "gap_high"]
    columns += ["change", "depends_on_batch"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def _resampled(
    metric: str, y: pd.Series, p: np.ndarray, weights: np.ndarray, case: Case
) -> np.ndarray:
    """One metric for every resample; see `truefit.metrics.resample`."""
    actual, score, rows = truth(y, case), case.metrics[metric], max(1, AT_ONCE // len(y))
    parts = [weights[first : first + rows] for first in range(0, len(weights), rows)]
    return np.concatenate([score(actual, p, part.astype(float)) for part in parts])


def timings(case: str, sizes: Mapping[str, int]) -> pd.DataFrame:
    """Milliseconds of one row and of a batch, from the committed results of a benchmark.

    A report must not measure a time. What the benchmark does not know is NaN, and so is a file
    that differs in size from the one it measured: it holds another model of the same name.

    Parameters
    ----------
    case : str
    sizes : mapping from name to int
        In bytes.

    Returns
    -------
    DataFrame
        Indexed by name: ``one_row_ms`` and ``batch_ms``.
    """
    file = project.path(*BENCHMARK)
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found, rows = known.get("cases", {}).get(case, {}), {}
    for name, size in sizes.items():
        row = found.get(name, {})
        same = abs(row.get("bytes", 0) - size) <= SAME_SIZE * size
        rows[name] = [row[k] if same else np.nan for k in ("one_row_ms", "batch_ms")]
    return pd.DataFrame.from_dict(rows, orient="index", columns=["one_row_ms", "batch_ms"])


def variants_table(
    table: pd.DataFrame, times: pd.DataFrame, case: Case, caption: str
) -> figures.Shown:
    """The variants for people, to the digits that hold on every machine."""
    metric, shown = LABELS[case.main_metric], {}
    for name, row in table.iterrows():
        spread, made = row["high"] - row["low"], name != row["of"]
        value, low, high = (to_spread(row[k], spread) for k in ("value", "low", "high"))
        gap = [to_spread(row[k], spread / 10, "+") for k in ("gap", "gap_low", "gap_high")]
        one, batch = times.loc[name]
        shown[name] = {
            "kB": kilobytes(row["bytes"]),
            "gzipped": kilobytes(row["gzipped"]),
            "1 row, ms": "–" if np.isnan(one) else significant(one, 2),
            "10,000 rows, ms": "–" if np.isnan(batch) else significant(batch, 2),
            metric: f"{value} ({low} to {high})",
            "difference": f"{gap[0]} ({gap[1]} to {gap[2]})" if made else "",
            "largest change": at_most(row["change"], case) if made else "",
            "may ship": row["ships"],
        }
    return figures.table(pd.DataFrame.from_dict(shown, orient="index"), caption)


def kilobytes(size: float) -> str:
    """A size in thousands of bytes, to two digits."""
    return significant(size / 1000, 2)


def at_most(change: float, case: Case) -> str:
    """A change of a prediction; a tiny one as the power of ten that it is below."""
    if change == 0:
        return "none"
    if change < 1e-4:
        return f"below {10.0 ** np.ceil(np.log10(change)):.0e}"
    return case.change_label(change)
