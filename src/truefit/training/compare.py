"""Compare candidates on the training rows alone, by what the searches found."""

import warnings
from collections.abc import Mapping
from functools import singledispatch

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from sklearn.base import BaseEstimator, clone
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import Pipeline

from truefit import figures
from truefit.case import Case
from truefit.digits import agreed, significant, to_spread
from truefit.metrics import HIGHER_IS_BETTER, LABELS, scores, truth
from truefit.params import Training
from truefit.task import BinaryClassification
from truefit.training.recalibrated import Recalibrated, fit_recalibration
from truefit.training.search import ALL_ROWS, Found, Task, built, deal
from truefit.training.shelf import BLEND, unwrap, with_target_scale

# What the others are measured by, and no part of a blend: the one knows nothing, the other has no
# penalty, and goes astray beyond the range that it has seen.
YARDSTICKS = {"dummy", "linear"}
LEAST_WEIGHT = 0.05  # a model that would have less in a blend is left out


def complete(found: Mapping[Task, Found]) -> list[str]:
    """The candidates that could be fitted everywhere."""
    failed = {task.model for task, f in found.items() if f.error}
    return [t.model for t in found if t.fold == ALL_ROWS and t.model not in failed]


def failures(found: Mapping[Task, Found]) -> dict[str, str]:
    """Why each of the other candidates was skipped."""
    return {task.model: f.error for task, f in reversed(found.items()) if f.error}


def out_of_fold(
    found: Mapping[Task, Found], train: pd.DataFrame, case: Case, settings: Training
) -> pd.DataFrame:
    """Every training row predicted by models that were neither tuned nor fitted on it.

    Returns
    -------
    DataFrame
        With the rows of ``train``: ``fold``, and for each candidate its prediction in the target's
        own unit, or the probability of the positive class. The blend, if there is one, weighs the
        others by what each search saw.
    """
    names = complete(found)
    outer = deal(train[case.target], case, folds=settings.folds, seed=settings.seed)
    blended = bool(blend_weights(found, train, case, settings))
    table = pd.DataFrame({"fold": np.zeros(len(train), dtype=int)}, index=train.index)
    for fold, (_, held) in enumerate(outer, 1):
        rows = train.index[held]
        table.loc[rows, "fold"] = fold
        for name in names:
            table.loc[rows, name] = found[Task(name, fold)].held
        if blended:
            weights = _weights(found, train, case, settings, fold)
            parts = [w * case.learned(np.asarray(table.loc[rows, n])) for n, w in weights.items()]
            table.loc[rows, BLEND] = case.unlearned(sum(parts))
    return table


def blend_weights(
    found: Mapping[Task, Found],
    train: pd.DataFrame,
    case: Case,
    settings: Training,
    fold: int = ALL_ROWS,
) -> dict[str, float]:
    """How much each candidate should count in a blend, by the inner folds of one fold's searches.

    Weights not below 0 that add up to 1 and come near the least squared error, on the scale that
    the models learn on (Breiman, Stacked regressions, 1996). The held rows play no part.

    Returns
    -------
    dict from name to float
        Largest first; empty where a blend of two or more makes no sense.
    """
    names = [n for n in complete(found) if n not in YARDSTICKS]
    if settings.blend < 2 or len(names) < 2:
        return {}
    weights = _weights(found, train, case, settings, fold)
    return weights if len(weights) > 1 else {}


def _weights(
    found: Mapping[Task, Found], train: pd.DataFrame, case: Case, settings: Training, fold: int
) -> dict[str, float]:
    """The weights of `blend_weights`, even where a single candidate outweighs all others."""
    names = [n for n in complete(found) if n not in YARDSTICKS]
    outer = deal(train[case.target], case, folds=settings.folds, seed=settings.seed)
    rows = outer[fold - 1][0] if fold != ALL_ROWS else np.arange(len(train))
    actual = truth(train[case.target].iloc[rows], case)
    target = case.learned(actual)
    seen = {n: case.learned(found[Task(n, fold)].inner) for n in names}
    while True:
        weights, _ = nnls(np.column_stack(list(seen.values())), target)
        share = dict(zip(seen, weights / max(weights.sum(), 1e-12), strict=True))
        order = sorted(seen, key=lambda n: -share[n])[: settings.blend]
        members = [n for n in order if share[n] >= LEAST_WEIGHT] or order[:1]
        if len(members) == len(seen):
            break
        seen = {n: seen[n] for n in members}  # what is left out leaves its weight to the others
    rounded = {n: round(float(share[n]), 3) for n in members[1:]}
    # Of rounded weights that add up to 0.999, a prediction would be a thousandth too low.
    return {members[0]: round(1 - sum(rounded.values()), 3), **rounded}


def build_blend(
    weights: Mapping[str, float],
    found: Mapping[Task, Found],
    train: pd.DataFrame,
    case: Case,
    settings: Training,
) -> BaseEstimator:
    """The weighted mean of candidates, each with its preparation and settings, not yet fitted."""
    members = []
    for name in weights:
        model = built(name, train, case, found[Task(name, ALL_ROWS)].params, settings)
        members.append((name, getattr(model, "regressor", model)))
    return with_target_scale(case.voting(members, list(weights.values())), case)


def final_models(
    found: Mapping[Task, Found], train: pd.DataFrame, case: Case, settings: Training
) -> dict[str, BaseEstimator]:
    """Every candidate with the settings found on all rows, and the blend; not yet fitted."""
    models = {
        name: built(name, train, case, found[Task(name, ALL_ROWS)].params, settings)
        for name in complete(found)
    }
    weights = blend_weights(found, train, case, settings)
    return models | ({BLEND: build_blend(weights, found, train, case, settings)} if weights else {})


def fit_all(
    models: Mapping[str, BaseEstimator], oof: pd.DataFrame, train: pd.DataFrame, case: Case
) -> dict[str, BaseEstimator]:
    """Fit every candidate on all training rows.

    Parameters
    ----------
    models : mapping from name to estimator
        From `final_models`.
    oof : DataFrame
        From `out_of_fold`, by which the probabilities of a classifier are put right.
    train : DataFrame
        Training rows with their target.

    Returns
    -------
    dict from name to estimator
        Fitted clones; in a classification each is a `Recalibrated`.
    """
    X, y = train.drop(columns=case.target), train[case.target]
    fitted = {}
    for name, model in models.items():
        model = _put_right(case, model, y, oof[name].to_numpy())
        with warnings.catch_warnings():
            # The network stops after a fixed number of steps on purpose: early is a penalty, too.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted[name] = clone(model).fit(X, y)
    return fitted


@singledispatch
def _put_right(case: Case, model: BaseEstimator, y: pd.Series, p: np.ndarray) -> BaseEstimator:
    return model


@_put_right.register
def _(
    case: BinaryClassification, model: BaseEstimator, y: pd.Series, p: np.ndarray
) -> BaseEstimator:
    line = fit_recalibration(y, p, case)
    return Recalibrated(model, line.slope, line.intercept, case.positive)


def fold_scores(oof: pd.DataFrame, train: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Score every candidate on every outer fold.

    Returns
    -------
    DataFrame
        One row for each candidate and fold: ``model``, ``fold`` (from 1) and the metrics.
    """
    y, rows = train[case.target], []
    for fold, part in oof.groupby("fold"):
        for name in part.columns.drop("fold"):
            found = scores(y.loc[part.index], part[name].to_numpy(), case)
            rows.append({"model": name, "fold": fold, **found})
    return pd.DataFrame(rows)


def leaderboard(results: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The mean and the spread over folds of each candidate, best first.

    Returns
    -------
    DataFrame
        Indexed by model; for each metric its mean, and ``<metric>_sd``, the standard deviation
        over the folds.
    """
    by_model = results.drop(columns="fold").groupby("model", sort=False)
    board = by_model.mean().join(by_model.std(ddof=1).add_suffix("_sd"))
    metric = case.main_metric
    return board.sort_values(metric, ascending=metric not in HIGHER_IS_BETTER, kind="stable")


def lead_by_fold(results: pd.DataFrame, board: pd.DataFrame, case: Case) -> pd.DataFrame:
    """How far the winner is ahead of each other candidate, fold by fold.

    Returns
    -------
    DataFrame
        Indexed by the other candidates in the order of the leaderboard, one column a fold, in the
        main metric; above 0 the winner is ahead, whichever way the metric counts.
    """
    metric = case.main_metric
    by_fold = results.pivot(index="model", columns="fold", values=metric).loc[board.index]
    ahead = by_fold.iloc[0] - by_fold.iloc[1:]
    return ahead if metric in HIGHER_IS_BETTER else -ahead


def leaderboard_table(board: pd.DataFrame, folds: int, case: Case) -> figures.Shown:
    """The leaderboard for people: mean ± standard deviation, the deciding metric first."""
    # The MSE is the square of the RMSE, and would only make the table wider.
    names = [m for m in board.columns if m in LABELS and m not in ("mse", case.main_metric)]
    shown = {
        LABELS[m]: [
            f"{to_spread(mean, spread)} ± {to_spread(spread, spread)}"
            for mean, spread in board[[m, f"{m}_sd"]].to_numpy()
        ]
        for m in (case.main_metric, *names)
    }
    return figures.table(
        pd.DataFrame(shown, index=board.index),
        f"Mean ± standard deviation over {folds} folds, best first",
    )


def best(board: pd.DataFrame) -> str:
    """The name of the first of the leaderboard."""
    return str(board.index[0])


def one_standard_error(results: pd.DataFrame, board: pd.DataFrame, case: Case, order: list) -> str:
    """The simplest candidate that is within one standard error of the best.

    Breiman and others, Classification and Regression Trees, 1984, section 3.4.3; the standard
    error is that of the best one's mean over the folds.

    Parameters
    ----------
    results, board : DataFrame
        From `fold_scores` and `leaderboard`.
    order : list of str
        Candidates, simplest first; what is not in it comes last.
    """
    metric, folds = case.main_metric, results["fold"].nunique()
    sign = -1 if metric in HIGHER_IS_BETTER else 1
    limit = sign * board[metric].iloc[0] + board[f"{metric}_sd"].iloc[0] / np.sqrt(folds)
    near = [n for n in board.index if sign * board.loc[n, metric] <= limit]
    return min(near, key=lambda n: order.index(n) if n in order else len(order))


def winner_of(results: pd.DataFrame, board: pd.DataFrame, case: Case, settings: Training) -> str:
    """The candidate to use, as the step's parameter ``choose`` says."""
    if settings.choose == "simplest":
        return one_standard_error(results, board, case, getattr(settings, case.shelf))
    return best(board)


def linear_effects(model: BaseEstimator, case: Case) -> pd.DataFrame:
    """What each prepared column does to the prediction of a linear model.

    Returns
    -------
    DataFrame
        Indexed by prepared column, largest effect first, with ``step`` (one standard deviation of
        a number, in words), ``weight``, and ``factor``, its
        exponential, where effects multiply (a logged target, or odds). Empty for another model.
    """
    pipeline = unwrap(model)
    if not isinstance(pipeline, Pipeline) or not hasattr(pipeline[-1], "coef_"):
        return pd.DataFrame(columns=["weight"])
    weights = np.ravel(pipeline[-1].coef_)
    if isinstance(model, TransformedTargetRegressor):
        weights = weights * model.transformer_.scale_
    elif isinstance(model, Recalibrated):
        weights = weights * model.slope
    weights = weights * case.direction(model)  # scikit-learn counts towards its second class
    # Without the kind in front of it a name may stand twice: home_rent, and rent as a home.
    names = [n.partition("__")[2] for n in pipeline[0].get_feature_names_out()]
    found = pd.DataFrame({"weight": weights}, index=names)
    found.insert(0, "step", _steps(pipeline[0], case))
    if case.scale.multiplies:
        found["factor"] = np.exp(found["weight"])
    order = np.lexsort((found.index, -agreed(found["weight"].abs())))
    return found.iloc[order]


def _steps(preparation: ColumnTransformer, case: Case) -> list[str]:
    """One standard deviation of each prepared number, with its unit; empty for a category."""
    steps = []
    for kind, step, columns in preparation.transformers_:
        if kind in {"category", "cluster"}:
            steps += [""] * len(step[-1].get_feature_names_out())
        elif kind != "remainder":
            sizes = [significant(s, 3) for s in step[-1].scale_]
            units = [""] * len(sizes)
            if kind == "ordered":
                units = ["ranks"] * len(sizes)
            elif kind == "number":
                units = [case.unit(c) for c in columns]
            logged = step["logskewed"].logged_ if "logskewed" in step.named_steps else ()
            for j in np.flatnonzero(logged):
                units[j] = "of log(1 + x)"
            steps += [f"{s} {u}".strip() for s, u in zip(sizes, units, strict=True)]
    return steps


def plot_folds(results: pd.DataFrame, board: pd.DataFrame, case: Case) -> None:
    """Every fold's score of every candidate, with the means."""
    metric = case.main_metric
    names = list(board.index[::-1])
    fig, ax = figures.new(height=1.1 + 0.42 * len(names))
    for row, name in enumerate(names):
        values = results.loc[results["model"] == name, metric]
        ax.plot(values, np.full(len(values), row), "o", color=figures.SKY, alpha=0.8)
        ax.plot(board.loc[name, metric], row, "|", color=figures.ORANGE, ms=18, mew=2.5)
    ax.set_yticks(range(len(names)), names)
    ax.set(
        xlabel=f"{LABELS[metric]} on the fold held out",
        title="Each dot a fold, each bar a mean: "
        + ("right is better" if metric in HIGHER_IS_BETTER else "left is better"),
        ylim=(-0.6, len(names) - 0.4),
    )
    words = ", ".join(f"{n} {board.loc[n, metric]:.3f}" for n in board.index)
    figures.show(fig, f"Scores by fold of {len(names)} candidates; mean {LABELS[metric]}: {words}.")
