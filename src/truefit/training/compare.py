"""Compare candidates on the training rows alone, on folds that a seed fixes."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold, StratifiedKFold

from truefit import figures
from truefit.digits import significant, to_spread
from truefit.metrics import HIGHER_IS_BETTER, LABELS, predictions, scores
from truefit.params import Case
from truefit.training.shelf import unwrap


def main_metric(case: Case) -> str:
    """The metric that decides which candidate wins."""
    if case.task == "classification":
        return "roc_auc"
    return "rmse_log" if case.log_target else "rmse"


def cross_validate(
    models: Mapping[str, BaseEstimator], train: pd.DataFrame, case: Case, *, folds: int, seed: int
) -> pd.DataFrame:
    """Score every candidate on the same folds.

    Parameters
    ----------
    models : mapping from name to estimator
        Not fitted; each fold fits a clone, preparation included.
    train : DataFrame
        Training rows with their target.
    folds : int
        Number of folds; a classification keeps the classes' shares in each.
    seed : int
        Of the shuffle before the rows are dealt into folds.

    Returns
    -------
    DataFrame
        One row for each candidate and fold: ``model``, ``fold`` (from 1) and the metrics.
    """
    X, y = train.drop(columns=case.target), train[case.target]
    kind = StratifiedKFold if case.task == "classification" else KFold
    rows = []
    for fold, (fit, held) in enumerate(kind(folds, shuffle=True, random_state=seed).split(X, y), 1):
        for name, model in models.items():
            fitted = clone(model).fit(X.iloc[fit], y.iloc[fit])
            found = scores(y.iloc[held], predictions(fitted, X.iloc[held], case), case)
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
    metric = main_metric(case)
    return board.sort_values(metric, ascending=metric not in HIGHER_IS_BETTER, kind="stable")


def lead_by_fold(results: pd.DataFrame, board: pd.DataFrame, case: Case) -> pd.DataFrame:
    """How far the winner is ahead of each other candidate, fold by fold.

    Returns
    -------
    DataFrame
        Indexed by the other candidates in the order of the leaderboard, one column a fold, in the
        main metric; above 0 the winner is ahead, whichever way the metric counts.
    """
    metric = main_metric(case)
    by_fold = results.pivot(index="model", columns="fold", values=metric).loc[board.index]
    ahead = by_fold.iloc[0] - by_fold.iloc[1:]
    return ahead if metric in HIGHER_IS_BETTER else -ahead


def leaderboard_table(board: pd.DataFrame, folds: int, case: Case):
    """The leaderboard for people: mean ± standard deviation, the deciding metric first."""
    # The MSE is the square of the RMSE, and would only make the table wider.
    names = [m for m in board.columns if m in LABELS and m not in ("mse", main_metric(case))]
    shown = {
        LABELS[m]: [
            f"{to_spread(mean, spread)} ± {to_spread(spread, spread)}"
            for mean, spread in board[[m, f"{m}_sd"]].to_numpy()
        ]
        for m in (main_metric(case), *names)
    }
    return figures.table(
        pd.DataFrame(shown, index=board.index),
        f"Mean ± standard deviation over {folds} folds, best first",
    )


def best(board: pd.DataFrame) -> str:
    """The name of the winner: the first of the leaderboard."""
    return str(board.index[0])


def refit(
    models: Mapping[str, BaseEstimator], train: pd.DataFrame, case: Case
) -> dict[str, BaseEstimator]:
    """Fit every candidate on all training rows."""
    X, y = train.drop(columns=case.target), train[case.target]
    return {name: clone(model).fit(X, y) for name, model in models.items()}


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
    if not hasattr(pipeline[-1], "coef_"):
        return pd.DataFrame(columns=["weight"])
    weights = np.ravel(pipeline[-1].coef_)
    if case.task == "classification" and list(model.classes_).index(case.positive) == 0:
        weights = -weights  # scikit-learn counts towards its second class
    # Without the kind in front of it a name may stand twice: home_rent, and rent as a home.
    names = [n.partition("__")[2] for n in pipeline[0].get_feature_names_out()]
    found = pd.DataFrame({"weight": weights}, index=names)
    found.insert(0, "step", _steps(pipeline[0], case))
    if case.log_target or case.task == "classification":
        found["factor"] = np.exp(found["weight"])
    order = np.lexsort((found.index, -found["weight"].abs().round(9)))
    return found.iloc[order]


def _steps(preparation, case: Case) -> list[str]:
    """One standard deviation of each prepared number, with its unit; empty for a category."""
    steps = []
    for kind, step, columns in preparation.transformers_:
        if kind == "category":
            steps += [""] * len(step[-1].get_feature_names_out())
        elif kind != "remainder":
            units = ["ranks" if kind == "ordered" else case.unit(c) for c in columns]
            sizes = [significant(s, 3) for s in step[-1].scale_]
            steps += [f"{s} {u}".strip() for s, u in zip(sizes, units, strict=True)]
    return steps


def plot_folds(results: pd.DataFrame, board: pd.DataFrame, case: Case) -> None:
    """Every fold's score of every candidate, with the means."""
    metric = main_metric(case)
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
