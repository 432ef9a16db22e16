"""Why does a model say what it says: which columns it needs, how it uses them, and for one row.

Everything here works on the raw columns and asks a model nothing but predictions, so it fits any
model; what looks inside one says so. Effects are measured on the scale that the model learns on,
where they add up: logarithms for a logged target, log-odds for classes, else the number itself.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from sklearn.base import BaseEstimator, OneToOneFeatureMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from truefit import expressions, figures
from truefit.case import Case
from truefit.data_prep.explore import as_numbers
from truefit.digits import agreed, number, significant
from truefit.metrics import HIGHER_IS_BETTER, predictions, truth
from truefit.scales import round_values

AT_ONCE = 20_000  # rows in one call of a model
ROUNDING = 1e-12  # a smaller contribution, of the largest prediction, is an error of rounding


def on_scale(p: np.ndarray, case: Case) -> np.ndarray:
    """Predictions on the scale where effects add up.

    Parameters
    ----------
    p : ndarray
        In the target's unit, or probabilities of the positive class.

    Returns
    -------
    ndarray of the same shape
        Logarithms for a logged target; log-odds for classes, of probabilities clipped to 10⁻⁶
        from 0 and 1; else ``p`` itself.
    """
    return case.scale.to(p)


def feature_columns(frame: pd.DataFrame, case: Case) -> list[str]:
    """The raw columns that can have a say.

    All but the target, the row's name, and the time and the dropped columns unless a feature of
    the case's block is computed from them.
    """
    used = {*expressions.columns_of(case.features.values())}
    silent = {case.id, case.time, *case.drop_columns} - used - set(case.clusters)
    return [c for c in frame.columns if c != case.target and c not in silent]


# --------------------------------------------------------------------------- all rows together


def _with(frame: pd.DataFrame, column: str, values: Any) -> pd.DataFrame:
    """Rows with other values in a column; `assign` takes no column called self."""
    changed = frame.copy()
    changed[column] = values
    return changed


def permutation_importance(
    model: BaseEstimator, test: pd.DataFrame, case: Case, *, repeats: int, seed: int
) -> pd.DataFrame:
    """How much worse the predictions get when a column's values are dealt out anew.

    Breiman, Random Forests, Machine Learning 45, 2001. The error is the main metric's: the RMSE
    (of the logarithm for a logged target), or 1 − ROC AUC.

    It says what this model needs, not what matters in the world; and columns that go together
    share: where one is shuffled, the model reads the other, so both can look needless while
    together they are not. `related_columns` names them. The rows that shuffling makes may exist
    nowhere, such as a house with a garage for two cars and no square foot of it.

    Parameters
    ----------
    model : estimator
        Fitted.
    test : DataFrame
        Rows with their target that the model was not fitted on.
    repeats : int
        How often each column is shuffled.
    seed : int
        Of the shuffles.

    Returns
    -------
    DataFrame
        Indexed by raw column, the largest first, with ``importance`` (mean increase of the error)
        and ``spread`` (standard deviation over the repeats). A column that the model does not
        read has 0.
    """
    X, actual, rng = test.drop(columns=case.target), test[case.target], np.random.default_rng(seed)
    columns, base = feature_columns(test, case), predictions(model, X, case)
    orders = [rng.permutation(len(X)) for _ in range(repeats)]
    # Only rows whose value changes need a new prediction; of most columns that is a part.
    jobs = [
        (column, repeat, np.flatnonzero(codes[order] != codes))
        for column in columns
        for codes in [pd.factorize(X[column])[0]]
        for repeat, order in enumerate(orders)
    ]
    errors = np.zeros((len(columns), repeats))
    place = {column: i for i, column in enumerate(columns)}
    for batch in _batches(jobs, [len(rows) for _, _, rows in jobs]):
        frames = [
            _with(X.take(rows), column, X[column].take(orders[repeat][rows]).array)
            for column, repeat, rows in batch
            if len(rows)
        ]
        new = predictions(model, pd.concat(frames), case) if frames else base[:0]
        ends = np.cumsum([len(rows) for _, _, rows in batch])
        for (column, repeat, rows), part in zip(batch, np.split(new, ends[:-1]), strict=True):
            p = base.copy()
            p[rows] = part
            errors[place[column], repeat] = _error(actual, p, case)
    increase = errors - _error(actual, base, case)
    size = max(case.scale.unit, np.abs(errors).max(initial=0))
    increase[np.abs(increase) < ROUNDING * size] = 0
    found = pd.DataFrame(
        {
            "importance": increase.mean(axis=1),
            "spread": increase.std(axis=1, ddof=1) if repeats > 1 else np.nan,
        },
        index=columns,
    )
    # By value, and by name among equals.
    return found.iloc[np.lexsort((found.index, -agreed(found["importance"])))]


def _batches(jobs: list, sizes: list[int]) -> list[list]:
    """Jobs in turn, as many together as make a good call of a model."""
    batches, size = [[]], 0
    for job, rows in zip(jobs, sizes, strict=True):
        if batches[-1] and size + rows > AT_ONCE:
            batches.append([])
            size = 0
        batches[-1].append(job)
        size += rows
    return [b for b in batches if b]


def _error(y: pd.Series, p: np.ndarray, case: Case) -> float:
    """The main error: the smaller the better."""
    name = case.main_metric
    value = float(case.metrics[name](truth(y, case), p, np.ones((1, len(p))))[0])
    return 1 - value if name in HIGHER_IS_BETTER else value


def related_columns(
    frame: pd.DataFrame, case: Case, columns: Sequence[str], *, least: float = 0.7
) -> dict[str, dict[str, float]]:
    """The columns that each column goes with, by Spearman's rank correlation.

    Parameters
    ----------
    frame : DataFrame
        Rows with their raw columns.
    columns : sequence of str
        The columns to ask about. One of unordered texts has no ranks, and goes with none.
    least : float
        A smaller correlation, without its sign, is left out.

    Returns
    -------
    dict from column to dict from other column to its correlation, the closest first
    """
    numbers = as_numbers(frame.drop(columns=case.target), case)
    found = {}
    for column in columns:
        if column not in numbers or len(numbers) < 3:
            found[column] = {}
            continue
        others = numbers.drop(columns=column)
        # Ranks among the rows where both are known; a constant has no correlation.
        by_other = {c: _spearman(numbers[column], others[c]) for c in others}
        close = {c: r for c, r in by_other.items() if abs(r) > least}
        found[column] = dict(sorted(close.items(), key=lambda i: (-round(abs(i[1]), 9), i[0])))
    return found


def _spearman(a: pd.Series, b: pd.Series) -> float:
    known = (a.notna() & b.notna()).to_numpy()
    first, second = a[known].rank().to_numpy(), b[known].rank().to_numpy()
    if known.sum() < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def plot_importance(importance: pd.DataFrame, case: Case, *, most: int = 12) -> None:
    """The columns that the predictions need most, with the spread over the shuffles."""
    shown = importance.iloc[:most].iloc[::-1]
    fig, ax = figures.new(height=1.1 + 0.26 * len(shown))
    ax.barh(range(len(shown)), shown["importance"], color=figures.SKY)
    ax.errorbar(
        shown["importance"],
        range(len(shown)),
        xerr=shown["spread"].fillna(0),
        fmt="none",
        ecolor="#333333",
        lw=1,
        capsize=2,
    )
    ax.set_yticks(range(len(shown)), shown.index)
    ax.grid(axis="y", visible=False)
    ax.set(xlabel=case.importance_words, title="What the predictions need most")
    first = ", ".join(
        f"{c} {significant(v, 2)}" for c, v in importance["importance"].iloc[:3].items()
    )
    figures.show(
        fig,
        f"The {case.importance_words} when a column is shuffled, of {len(shown)} columns; the "
        f"largest: {first}.",
    )


class Dependence(NamedTuple):
    """How predictions move with one column."""

    column: str
    grid: pd.Series  # the values tried, of shape (n_points,)
    lines: np.ndarray  # of shape (n_rows, n_points), on the scale of `on_scale`
    mean: np.ndarray  # of shape (n_points,): the partial dependence
    data: pd.Series  # the column's known values


def partial_dependence(
    model: BaseEstimator,
    test: pd.DataFrame,
    case: Case,
    column: str,
    *,
    points: int = 20,
    rows: int = 60,
    seed: int,
) -> Dependence:
    """What the model would say of some rows if one column had other values.

    Each line is one row (individual conditional expectation; Goldstein and others, Peeking Inside
    the Black Box, Journal of Computational and Graphical Statistics 24, 2015), their mean the
    partial dependence (Friedman, Greedy Function Approximation, Annals of Statistics 29, 2001).
    Lines that are not parallel show that the effect hangs on other columns. It is the model that
    is asked, not the world: a line says what the model expects elsewhere, not what a change does.

    Parameters
    ----------
    column : str
        A raw column.
    points : int
        How many values are tried at most: quantiles of a number from 1 to 99 %, each a value that
        occurs; of texts the most frequent, in their order if they have one.
    rows : int
        How many rows are followed, drawn at random.
    seed : int
        Of the draw.

    Returns
    -------
    Dependence
        With an empty grid for a column without a known value.
    """
    X, known = test.drop(columns=case.target), np.flatnonzero(test[column].notna())
    values = X[column].iloc[known]
    drawn = np.random.default_rng(seed).permutation(len(X))[: min(rows, len(X))]
    sample = X.take(np.sort(drawn))
    # Positions of values, rather than values, so that the column keeps its type.
    at = _grid(values, case, points)
    grid = values.take(at).reset_index(drop=True)
    index = np.repeat(np.arange(len(sample)), len(grid))
    frame = _with(sample.take(index), column, values.take(np.tile(at, len(sample))).array)
    said = on_scale(_predict(model, frame, case), case) if len(grid) else np.empty(0)
    lines = said.reshape(len(sample), len(grid))
    return Dependence(column, grid, lines, lines.mean(axis=0), values)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _grid(values: pd.Series, case: Case, points: int) -> np.ndarray:
    """Where in ``values`` the ones to try stand."""
    if not len(values):
        return np.empty(0, dtype=int)
    if _is_number(values):
        asked = np.linspace(0.01, 0.99, points)
        numbers = values.to_numpy(dtype=float)
        chosen = np.unique(np.quantile(numbers, asked, method="inverted_cdf"))
        return np.array([int(np.argmax(numbers == v)) for v in chosen])
    texts = values.astype(object).map(str).to_numpy()
    names, first, counts = np.unique(texts, return_index=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:points]
    order = case.order_of(values.name)
    if order:
        rank = {v: i for i, v in enumerate(order)}
        frequent = sorted(frequent, key=lambda i: (rank.get(names[i], len(rank)), names[i]))
    return first[np.asarray(frequent)]


def plot_dependence(found: Sequence[Dependence], case: Case) -> None:
    """Partial dependences of up to four columns, with the rows they are the mean of."""
    drawn = [d for d in found if len(d.grid)][:4]
    if not drawn:
        return
    down = (len(drawn) + 1) // 2
    fig, axes = figures.new(
        height=2.7 * down + 0.3, nrows=down, ncols=min(2, len(drawn)), sharey=True, squeeze=False
    )
    for ax in axes.flat[len(drawn) :]:
        ax.set_visible(False)
    words = []
    for ax, d in zip(axes.flat, drawn, strict=False):
        numeric = _is_number(d.grid)
        at = d.grid.to_numpy(dtype=float) if numeric else np.arange(len(d.grid))
        marker = "" if numeric and len(at) > 1 else "o"
        ax.plot(at, d.lines.T, color=figures.GREY, alpha=0.35, lw=0.6)
        ax.plot(at, d.mean, color=figures.BLUE, lw=2.6, marker=marker, ms=4)
        if numeric:
            marks = d.data.to_numpy(dtype=float)
            marks = marks[(marks >= at[0]) & (marks <= at[-1])]
            marks = marks[figures.some(len(marks))]
            ax.plot(
                marks,
                np.full(len(marks), 0.015),
                "|",
                color="#333333",
                ms=6,
                mew=0.6,
                alpha=0.5,
                transform=ax.get_xaxis_transform(),
            )
            ax.xaxis.set_major_locator(MaxNLocator(5))
        else:
            ax.set_xticks(at, [str(v) for v in d.grid], rotation=60 if len(at) > 5 else 0)
        ax.set_xlabel(case.label(d.column))
        # The axis has the unit; a year alone is written without a comma.
        unit = "year" if case.unit(d.column) == "year" else ""
        values = [_shown(v, unit) for v in d.grid]
        highest, lowest = int(np.argmax(agreed(d.mean))), int(np.argmin(agreed(d.mean)))
        words.append(
            f"{d.column}, from {in_unit(d.mean[lowest], case)} at {values[lowest]} to "
            f"{in_unit(d.mean[highest], case)} at {values[highest]}"
        )
    lines = np.concatenate([d.lines.ravel() for d in drawn])
    ends = np.quantile(lines, [0.01, 0.99])
    reach = max(float(np.ptp(ends)), 1e-9 * np.abs(ends).max()) or 1e-9
    _nice_ticks(axes[0, 0], case, ends[0] - 0.05 * reach, ends[1] + 0.05 * reach)
    for ax in axes[:, 0]:
        ax.set_ylabel(case.prediction_words)
    fig.suptitle("What the model would say at other values", x=0.01, ha="left", fontweight="bold")
    figures.show(
        fig,
        "Partial dependence, each line a row and the bold one their mean: "
        + "; ".join(words)
        + ".",
    )


def _nice_ticks(ax: Axes, case: Case, low: float, high: float) -> None:
    """An axis in log or log-odds, labelled in the target's unit or in probabilities."""
    ax.set_ylim(low, high)
    scale = case.scale
    values = scale.ticks(low, high)
    if len(values) > 1:
        ax.set_yticks(scale.to(np.array(values)), [scale.tick_label(v) for v in values])
    else:
        ax.yaxis.set_major_formatter(lambda v, _: significant(float(scale.back(v)), 3))


# --------------------------------------------------------------------------- one row at a time


class Shapley(NamedTuple):
    """What each column adds to the prediction of some rows."""

    values: pd.DataFrame  # rows explained × raw columns, on the scale of `on_scale`
    base: float  # the mean prediction over the background; base + a row's sum = its prediction
    errors: pd.DataFrame | None  # standard errors of `values`; None where they are exact


def shapley_values(
    model: BaseEstimator,
    rows: pd.DataFrame,
    background: pd.DataFrame,
    case: Case,
    *,
    permutations: int,
    seed: int,
) -> Shapley:
    """What each column adds to a prediction: interventional Shapley values, by sampling.

    One starts from a background row, gives its columns the values of the row to be explained, one
    by one in a random order, and notes how the prediction moves at each. A column's value is the
    mean of its moves (Štrumbelj and Kononenko, Explaining Prediction Models and Individual
    Predictions with Feature Contributions, Knowledge and Information Systems 41, 2014; Lundberg
    and Lee, A Unified Approach to Interpreting Model Predictions, NIPS 2017). Each order is
    walked backwards, too, which cancels much of the chance (Mitchell and others, Sampling
    Permutations for Shapley Value Estimation, JMLR 23, 2022). However few the walks are, each ends
    at the row explained, so base + sum = prediction up to rounding. A column that the model does
    not read has exactly 0.

    Parameters
    ----------
    model : estimator
        Fitted.
    rows, background : DataFrame
        Raw columns; a target is left aside.
    permutations : int
        Walks for each row, at least 4. Half of them are the other half backwards; every background
        row serves the same number of pairs, so that it is rounded up to the next number for which
        that is possible. With fewer pairs than background rows, as many rows are drawn.
    seed : int
        Of the orders and of the background rows.

    Returns
    -------
    Shapley
        The standard errors are over the pairs of walks, and contain the choice of the background
        rows.
    """
    X, B = (f.drop(columns=case.target, errors="ignore") for f in (rows, background))
    B, columns = B[X.columns], feature_columns(X, case)
    rng, pairs = np.random.default_rng(seed), max(2, math.ceil(permutations / 2))
    B = B.take(rng.permutation(len(B))[:pairs])
    pairs = math.ceil(pairs / len(B)) * len(B)
    orders = [rng.permutation(len(columns)) for _ in range(pairs)]
    base = on_scale(_predict(model, B, case), case)
    ends = on_scale(_predict(model, X, case), case)
    pool = pd.concat([B, X], ignore_index=True)
    codes = np.column_stack([pd.factorize(pool[c])[0] for c in columns])
    walks = np.stack([walk for order in orders for walk in (order, order[::-1])])
    values = np.empty((len(X), len(columns)))
    errors = np.empty_like(values)
    starts = np.repeat(np.arange(pairs) % len(B), 2)
    for i in range(len(X)):
        moves = _walk(model, case, pool, columns, codes, walks, starts, len(B) + i, base, ends[i])
        by_pair = moves.reshape(pairs, 2, -1).mean(axis=1)
        values[i] = by_pair.mean(axis=0)
        errors[i] = by_pair.std(axis=0, ddof=1) / math.sqrt(pairs)
    frame = pd.DataFrame(values, index=X.index, columns=columns)
    spread = pd.DataFrame(errors, index=X.index, columns=columns)
    return Shapley(frame, float(base.mean()), spread)


def _walk(
    model: BaseEstimator,
    case: Case,
    pool: pd.DataFrame,
    columns: list[str],
    codes: np.ndarray,
    walks: np.ndarray,
    starts: np.ndarray,
    target: int,
    base: np.ndarray,
    end: float,
) -> np.ndarray:
    """The move of the prediction at each column on each walk, of shape (n_walks, n_columns)."""
    n_walks, n_columns = walks.shape
    differs = codes[starts] != codes[target]  # at a column of equal values nothing moves
    changes = np.take_along_axis(differs, walks, axis=1)
    # The states that need a prediction: after each change but the last, which ends at the row.
    left = changes[:, ::-1].cumsum(axis=1)[:, ::-1]
    asked = np.argwhere(changes & (left > 1))
    step_of = np.empty_like(walks)  # when a column gets its new value
    np.put_along_axis(step_of, walks, np.broadcast_to(np.arange(n_columns), walks.shape), axis=1)
    said = np.empty(len(asked))
    for first in range(0, len(asked), AT_ONCE):
        walk, step = asked[first : first + AT_ONCE].T
        new = step_of[walk] <= step[:, None]
        index = np.where(new, target, starts[walk][:, None])
        # Columns that have no say come with the row explained.
        frame = _mixed(pool, columns, index, target)
        said[first : first + len(walk)] = on_scale(predictions(model, frame, case), case)
    states = np.full((n_walks, n_columns), np.nan)
    states[tuple(asked.T)] = said
    states[changes & (left == 1)] = end
    moves = np.zeros((n_walks, n_columns))
    now = base[starts]
    size = max(case.scale.unit, float(np.abs(now).max()), abs(end))
    for step in range(n_columns):
        moved = changes[:, step]
        gain = np.where(moved, states[:, step] - now, 0.0)
        # A column that the model does not read gets nothing, though sums round.
        gain[np.abs(gain) < ROUNDING * size] = 0.0
        moves[np.arange(n_walks), walks[:, step]] = gain
        now = np.where(moved, states[:, step], now)
    return moves


def _mixed(pool: pd.DataFrame, columns: list[str], index: np.ndarray, other: int) -> pd.DataFrame:
    """Rows put together column by column from rows of a pool, with the columns' types."""
    place = {c: j for j, c in enumerate(columns)}
    rest = np.full(len(index), other)
    return pd.DataFrame(
        {c: pool[c].array.take(index[:, place[c]] if c in place else rest) for c in pool}
    )


def _predict(model: BaseEstimator, X: pd.DataFrame, case: Case) -> np.ndarray:
    parts = [X.iloc[i : i + AT_ONCE] for i in range(0, len(X), AT_ONCE)]
    return np.concatenate([predictions(model, part, case) for part in parts])


# ------------------------------------------------------------------------- inside some models


_Made = frozenset[str]  # the raw columns that a prepared column is made of


class _UntraceableError(Exception):
    """The preparation does something whose output columns cannot be counted."""


def exact_linear_shapley(
    model: BaseEstimator, rows: pd.DataFrame, background: pd.DataFrame, case: Case
) -> Shapley | None:
    """Shapley values of a linear model, read off its coefficients.

    In a model that adds up its columns a column's value is its coefficient times how far it lies
    from the background's mean (Lundberg and Lee, 2017, section 4.1); those of the prepared columns
    of one raw column are added.

    Parameters
    ----------
    rows, background : DataFrame
        Raw columns.

    Returns
    -------
    Shapley or None
        None where that does not hold: the model is not linear, or one of its columns is made of
        several raw ones, as a product of two is.
    """
    inside = _inside(model)
    if inside is None or not hasattr(inside[1], "coef_"):
        return None
    preparation, final = inside
    X, B = (f.drop(columns=case.target, errors="ignore") for f in (rows, background))
    weights = np.ravel(final.coef_) * case.to_scale(model)[0]
    try:
        made = _trace_all(preparation, X, len(weights))
    except _UntraceableError:
        return None
    if any(len(m) != 1 for m, w in zip(made, weights, strict=True) if w != 0):
        return None
    prepared, typical = (preparation.transform(f[X.columns]) for f in (X, B))
    if hasattr(prepared, "toarray"):
        prepared, typical = prepared.toarray(), typical.toarray()
    prepared, typical = np.asarray(prepared, dtype=float), np.asarray(typical, dtype=float)
    contributions = (prepared - typical.mean(axis=0)) * weights
    values = pd.DataFrame(0.0, index=X.index, columns=feature_columns(X, case))
    for j, m in enumerate(made):
        if weights[j] != 0:
            values[next(iter(m))] += contributions[:, j]
    base = float(on_scale(_predict(model, B, case), case).mean())
    return _if_complete(Shapley(values, base, None), model, X, case, tolerance=1e-7)


def _if_complete(
    found: Shapley, model: BaseEstimator, X: pd.DataFrame, case: Case, *, tolerance: float
) -> Shapley | None:
    """The values if they add up to the predictions; else the model does more than was read off."""
    said = on_scale(_predict(model, X, case), case)
    gap = np.abs(found.base + found.values.sum(axis=1).to_numpy() - said)
    size = np.maximum(case.scale.unit or np.abs(said).max(initial=0), np.abs(said))
    return found if np.all(gap <= tolerance * size) else None


def _inside(model: BaseEstimator) -> tuple[Pipeline, Any] | None:
    """The fitted preparation and the final estimator, or None if the model is no pipeline."""
    inner = getattr(model, "regressor_", model)
    if not isinstance(inner, Pipeline) or len(inner) < 2:
        return None
    return inner[:-1], inner[-1]


def _trace_all(preparation: Pipeline, X: pd.DataFrame, n_out: int) -> list[_Made]:
    """What each prepared column is made of.

    Raises
    ------
    _UntraceableError
    """
    made = _trace(preparation, [frozenset([c]) for c in X.columns], n_out)
    if len(made) != n_out:
        raise _UntraceableError
    return made


def _trace(step: Any, made: list[_Made], n_out: int | None) -> list[_Made]:
    """What each column that a fitted step gives is made of, given what those it takes are."""
    if isinstance(step, str):
        return made if step == "passthrough" else []
    if isinstance(step, Pipeline):
        parts = [s for s in step if s != "passthrough"]
        for part, after in zip(parts, [*parts[1:], None], strict=True):
            made = _trace(part, made, n_out if after is None else _n_in(after))
        return made
    if isinstance(step, ColumnTransformer):
        return _trace_columns(step, made)
    if isinstance(step, OneHotEncoder):
        counts = _categories(step)
        if len(counts) == len(made) and n_out in (None, sum(counts)):
            return [m for m, count in zip(made, counts, strict=True) for _ in range(count)]
    # A fitted ColumnTransformer holds a function without a function for "passthrough".
    passed = isinstance(step, FunctionTransformer) and step.func is None
    if passed or isinstance(step, OneToOneFeatureMixin):
        return made
    if isinstance(step, SimpleImputer) and n_out == len(made):
        return made
    if hasattr(step, "formulas") and len(getattr(step, "columns", ())) == len(made):
        return [_formula(text, step.columns, made) for _, text in step.formulas]
    # Unknown: each of its columns may be made of each that it takes.
    n_out = n_out if n_out is not None else _n_names(step)
    return [_Made().union(*made)] * n_out


def _formula(text: str, columns: Sequence[str], made: list[_Made]) -> _Made:
    known = dict(zip(columns, made, strict=True))
    return _Made().union(*(known[c] for c in expressions.columns_of([text])))


def _n_in(step: Any) -> int | None:
    return getattr(step, "n_features_in_", None)


def _n_names(step: Any) -> int:
    try:
        return len(step.get_feature_names_out())
    except (AttributeError, ValueError):
        raise _UntraceableError from None


def _categories(step: OneHotEncoder) -> list[int]:
    """How many columns a fitted one-hot encoder makes of each that it takes."""
    if getattr(step, "infrequent_categories_", None) and any(
        i is not None for i in step.infrequent_categories_
    ):
        return []
    dropped = step.drop_idx_ if step.drop_idx_ is not None else [None] * len(step.categories_)
    return [len(c) - (d is not None) for c, d in zip(step.categories_, dropped, strict=True)]


def _trace_columns(step: ColumnTransformer, made: list[_Made]) -> list[_Made]:
    names = list(getattr(step, "feature_names_in_", []))
    found: list[_Made | None] = [None] * max(s.stop for s in step.output_indices_.values())
    for name, part, columns in step.transformers_:
        place = step.output_indices_[name]
        if place.stop == place.start:
            continue
        taken = [columns] if isinstance(columns, str | int) else columns
        if isinstance(taken, list | np.ndarray | pd.Index) and len(taken):
            taken = [names.index(c) if isinstance(c, str) else c for c in taken]
        chosen = [made[i] for i in np.arange(len(made))[taken]]
        given = _trace(part, chosen, place.stop - place.start)
        if len(given) != place.stop - place.start:
            raise _UntraceableError
        found[place] = given
    whole = [made for made in found if made is not None]
    if len(whole) < len(found):
        raise _UntraceableError
    return whole


# ------------------------------------------------------------------------------------ in words


def in_unit(value: float, case: Case) -> str:
    """A value of `on_scale`, in the target's unit or as a probability, to three digits."""
    return significant(float(case.scale.back(value)), 3)


def in_words(
    values: pd.Series, row: pd.Series, case: Case, base: float, prediction: float, most: int = 4
) -> str:
    """Why the model says what it says of one row, in sentences.

    Parameters
    ----------
    values : Series
        What each column adds, on the scale of `on_scale`: a row of `Shapley.values`.
    row : Series
        The row's raw columns.
    base : float
        `Shapley.base`.
    prediction : float
        In the target's unit, or the probability of the positive class.
    most : int
        How many columns are named, those with the largest effects.

    Returns
    -------
    str
        Markdown. Effects are percentages for a logged target, factors of the odds for classes,
        else differences in the target's unit.
    """
    said = case.explained(prediction, in_unit(base, case))
    order = _by_size(values)
    named = [c for c in order[:most] if case.effect(values[c])]
    sentences = [f"{_cell(c, row, case)} {case.effect(values[c])}." for c in named]
    rest = values.drop(named)
    if len(rest) > 1 and named:
        moved = case.effect(float(rest.sum()), many=True)
        sentences.append(f"The other columns together {moved or 'change next to nothing'}.")
    if not named:
        sentences.append("No column moves it by much.")
    return " ".join([said, *sentences])


def _by_size(values: pd.Series) -> list[str]:
    """Columns by the size of their effect, and by name among equals."""
    scale = float(values.abs().max()) or 1.0
    return list(values.index[np.lexsort((values.index, -agreed(values.abs() / scale)))])


def _shown(value: Any, unit: str = "") -> str:
    if pd.isna(value):
        return "not known"
    if isinstance(value, bool | np.bool_ | str):
        return str(value)
    try:
        amount = float(value)
    except (TypeError, ValueError):
        return str(value)
    # A year has no comma.
    plain = unit == "year" and amount.is_integer()
    text = number(amount, ".0f") if plain else significant(amount, 4)
    text = number(amount, ",.0f") if amount.is_integer() and not plain else text
    if not unit or plain:
        return text
    # 1,200 square feet, 3 months of rent; but 5, grade from 1 to 10.
    first, *others = unit.split()
    if amount == 1 and first.endswith("s") and not first.endswith(("ss", "hes")):
        return " ".join([text, first[:-1], *others])
    return f"{text} {unit}" if first.endswith("s") or len(others) < 2 else f"{text}, {unit}"


def _cell(column: str, row: pd.Series, case: Case) -> str:
    """A column with its value in this row; a feature computed from others has none of its own."""
    if column not in row.index:
        return column
    value = row[column]
    if pd.isna(value) and column in case.absent:
        return f"{column} (has none)"
    return f"{column} ({_shown(value, case.unit(column))})"


def plot_shapley(
    values: pd.Series,
    row: pd.Series,
    case: Case,
    *,
    base: float,
    prediction: float,
    most: int = 8,
) -> None:
    """The largest contributions to one prediction, and all others together; see `in_words`."""
    order = _by_size(values)
    shown = [(_cell(c, row, case), float(values[c])) for c in order[:most]]
    if len(order) > most:
        rest = float(values[order[most:]].sum())
        shown.append((f"{len(order) - most} other columns", rest))
    names, sizes = zip(*shown[::-1], strict=True)
    fig, ax = figures.new(height=1.3 + 0.28 * len(shown))
    colours = [figures.BLUE if s >= 0 else figures.ORANGE for s in sizes]
    ax.barh(range(len(sizes)), sizes, color=colours)
    ax.axvline(0, color="#444444", lw=0.8)
    ax.set_yticks(range(len(names)), [n if len(n) <= 48 else n[:47] + "…" for n in names])
    ax.grid(axis="y", visible=False)
    reach = max(map(abs, sizes)) or 1.0
    ax.set_xlim(min(0, *sizes) - 0.3 * reach, max(0, *sizes) + 0.3 * reach)
    for i, size in enumerate(sizes):
        right = size >= 0
        ax.annotate(
            case.effect_label(size),
            (size, i),
            xytext=(3 if right else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if right else "right",
            fontsize=8.5,
        )
    multiplied = case.scale.multiplies
    factors = round_values(*np.exp(np.clip(ax.get_xlim(), -300, 300))) if multiplied else []
    if factors:
        ax.set_xticks(np.log(factors), [f"× {v:.6g}" for v in factors])
    else:
        ax.xaxis.set_major_locator(MaxNLocator(6))
        ax.xaxis.set_major_formatter(lambda v, _: significant(v, 3))
    unit = f" {case.unit(case.target)}" if case.unit(case.target) else ""
    said = f"{significant(prediction, 3)}{unit} instead of {in_unit(base, case)}{unit}"
    ax.set(
        xlabel=f"{'factor on the' if multiplied else 'difference in'} {case.effect_words}",
        title=f"Why {significant(prediction, 3)}, not {in_unit(base, case)}",
    )
    words = ", ".join(f"{n} {case.effect_label(s)}" for n, s in shown)
    figures.show(fig, f"What moves the prediction to {said}: {words}.")
