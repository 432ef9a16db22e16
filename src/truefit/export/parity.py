"""Does the bundle answer as the model does?"""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from truefit import figures
from truefit.bundle import LARGEST, Bundle
from truefit.case import Case
from truefit.export.models import input_columns, pipelines
from truefit.export.trees import trees_of
from truefit.metrics import predictions
from truefit.project import InputError

SMALLEST = 1e-17  # difference that a figure tells from 0


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
    target = bundle.manifest.target
    known = target.maximum is not None and target.minimum is not None
    extent = target.maximum - target.minimum if known else 0.0
    gap = difference(expected, got, case, extent)
    return pd.DataFrame({"model": expected, "bundle": got, "difference": gap})


def difference(expected: np.ndarray, got: np.ndarray, case: Case, extent: float) -> np.ndarray:
    """How far two predictions of each row are apart; see `parity`.

    Parameters
    ----------
    expected, got : ndarray of shape (n_samples,)
    case : Case
    extent : float
        From the least to the largest target in training.

    Returns
    -------
    ndarray of shape (n_samples,)
        0 where both are equal, and infinite where only one of them is a number.
    """
    size = case.size(expected, extent)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = np.abs(got - expected) / size
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    return np.where(same, 0.0, np.nan_to_num(gap, nan=np.inf))


def require_parity(gap: np.ndarray | pd.Series, limit: float, name: str) -> None:
    """Stop with one sentence if a model and its graph differ by more than a limit.

    Parameters
    ----------
    gap : array of shape (n_samples,)
        From `difference`.
    limit : float
    name : str
        Of the model.

    Raises
    ------
    InputError
    """
    found = np.asarray(gap)
    if (found > limit).any():
        raise InputError(
            f"{name} and its graph differ by {found.max():.1e} in row {found.argmax() + 1} of "
            f"{len(found):,} that both have scored, and {limit:.1e} is allowed; raise "
            f"export.tolerance if that is near enough, or take {name} off the candidates in "
            "params.yaml"
        )


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
        Empty if neither the model nor a member of it has trees.
    """
    numbers = [c for c, kind in input_columns(model).items() if kind == "number"]
    found = sorted({edge for pipeline in pipelines(model) for edge in _edges(pipeline)})
    found = found[:: max(1, -(-len(found) // most))]
    near = [(c, v) for c, t in found for v in _neighbours(t)]
    copies = row.iloc[[0] * len(near)].reset_index(drop=True)
    copies = copies.astype(dict.fromkeys(numbers, "float64"))
    for column in {c for c, _ in near}:
        at = [i for i, (c, _) in enumerate(near) if c == column]
        copies.loc[at, column] = [near[i][1] for i in at]
    return copies


def _edges(pipeline: Pipeline) -> Iterator[tuple[str, float]]:
    """Raw columns of numbers, and the thresholds that trees compare them with."""
    start = 0
    for kind, step, columns in pipeline[0].transformers_:
        if kind == "number":
            for tree in trees_of(pipeline[-1]):
                for node in np.flatnonzero(tree.left >= 0):
                    place = tree.feature[node] - start
                    if 0 <= place < len(columns):
                        yield columns[place], float(tree.threshold[node])
        if kind != "remainder":
            start += len(step.get_feature_names_out(columns))


def _neighbours(threshold: float) -> list[float]:
    if not abs(threshold) < LARGEST:  # it parts what is known from what is missing
        return []
    single = np.float32(threshold)
    around = [np.nextafter(single, np.float32(s)) for s in (-np.inf, np.inf)]
    doubles = [np.nextafter(threshold, s) for s in (-np.inf, np.inf)]
    return [float(v) for v in (threshold, single, *around, *doubles)]


def plot_parity(table: pd.DataFrame, tolerance: float) -> None:
    """How far apart the model and the bundle are, row by row, against the tolerance."""
    fig, ax = figures.new(height=2.6)
    shown = table["difference"].clip(lower=SMALLEST)
    ax.hist(shown, bins=np.geomspace(SMALLEST, max(tolerance * 2, shown.max() * 1.1), 50))
    ax.axvline(tolerance, color=figures.ORANGE, label="tolerance")
    ax.set_xscale("log")
    ax.set(
        xlabel="difference between model and bundle (none at all: leftmost bar)",
        ylabel="rows",
        title="Every row, scored twice",
    )
    ax.legend(loc="upper left")
    figures.show(
        fig,
        f"Histogram of the differences between model and bundle in {len(table):,} rows; the "
        f"tolerance is {tolerance:.0e}.",
    )
