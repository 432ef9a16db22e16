"""What a search and a candidate can teach: curves, traces, and what each model costs."""

import json
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from sklearn.base import BaseEstimator
from sklearn.model_selection import learning_curve, validation_curve

from truefit import figures, project
from truefit.case import Case
from truefit.metrics import HIGHER_IS_BETTER, LABELS, predictions, scores
from truefit.training.search import ALL_ROWS, Found, Task, deal

SHARES = (0.1, 0.2, 0.4, 0.7, 1.0)  # of the training rows, in a learning curve
LEAST_ROWS = 6  # that a curve begins with, of each class half as many
BENCHMARK = ("benchmarks", "models.json")


def _scorer(case: Case) -> Callable[[BaseEstimator, pd.DataFrame, pd.Series], float]:
    """The main metric, as scikit-learn wants it: of a model and rows."""
    metric = case.main_metric
    return lambda model, X, y: scores(y, predictions(model, X, case), case)[metric]


def learning(
    models: Mapping[str, BaseEstimator],
    train: pd.DataFrame,
    case: Case,
    *,
    folds: int,
    seed: int,
    shares: Sequence[float] = SHARES,
) -> pd.DataFrame:
    """How each model's score changes with the number of rows that it learns from.

    Returns
    -------
    DataFrame
        One row for each model and size: ``model``, ``rows``, and the main metric's mean over the
        folds on the rows fitted (``own``) and on those held out (``held``), with its standard
        deviation (``spread``), and that of the step from the size before (``step_spread``).
    """
    X, y = train.drop(columns=case.target), train[case.target]
    dealt = _mixed(deal(y, case, folds=folds, seed=seed), y, case, seed)
    most = min(len(fit) for fit, _ in dealt)
    rows = []
    for name, model in models.items():
        sizes, own, held = learning_curve(
            model,
            X,
            y,
            train_sizes=sorted({min(most, max(LEAST_ROWS, int(s * most))) for s in shares}),
            cv=dealt,
            scoring=_scorer(case),
            error_score="raise",
        )
        rows += [
            (name, int(n), a.mean(), b.mean(), b.std(ddof=1), step.std(ddof=1))
            for n, a, b, step in zip(
                sizes, own, held, np.diff(held, axis=0, prepend=np.nan), strict=True
            )
        ]
    columns = ["model", "rows", "own", "held", "spread", "step_spread"]
    return pd.DataFrame(rows, columns=columns)


def _mixed(
    dealt: list[tuple[np.ndarray, np.ndarray]], y: pd.Series, case: Case, seed: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Folds whose rows to fit are in random order, some of each class among the first.

    A tenth of the rows in file order could lack a class, and of a rare one even in random order.
    """
    rng, found = np.random.RandomState(seed), []
    for fit, held in dealt:
        order = rng.permutation(fit)
        if (strata := case.strata(y)) is not None:
            classes = strata.iloc[order].to_numpy()
            firsts = [np.flatnonzero(classes == c)[: LEAST_ROWS // 2] for c in strata.unique()]
            lead = np.concatenate(firsts)
            if lead.max() >= int(SHARES[0] * len(order)):
                order = np.r_[order[lead], np.delete(order, lead)]
        found.append((order, held))
    return found


def validation(
    model: BaseEstimator,
    parameter: str,
    values: Sequence,
    train: pd.DataFrame,
    case: Case,
    *,
    folds: int,
    seed: int,
) -> pd.DataFrame:
    """How a model's score changes with one parameter of its estimator.

    Returns
    -------
    DataFrame
        Indexed by value: the main metric's mean on the rows fitted (``own``) and held out
        (``held``).
    """
    X, y = train.drop(columns=case.target), train[case.target]
    name = next(p for p in model.get_params() if p.endswith(f"__{parameter}"))
    own, held = validation_curve(
        model,
        X,
        y,
        param_name=name,
        param_range=list(values),
        cv=deal(y, case, folds=folds, seed=seed),
        scoring=_scorer(case),
    )
    return pd.DataFrame(
        {"own": own.mean(axis=1), "held": held.mean(axis=1)}, index=pd.Index(values, name=parameter)
    )


def trace(found: Mapping[Task, Found], case: Case) -> pd.DataFrame:
    """Every trial of the searches on all rows.

    Returns
    -------
    DataFrame
        ``model``, ``trial`` (from 1), ``state``, ``score`` (NaN if given up) and ``best`` so far.
    """
    sign = 1 if case.main_metric in HIGHER_IS_BETTER else -1
    tables = []
    for task, result in found.items():
        if task.fold == ALL_ROWS and len(result.trials) > 1:
            table = pd.DataFrame(result.trials)
            score = table["score"].astype(float)
            tables.append(
                pd.DataFrame(
                    {
                        "model": task.model,
                        "trial": np.arange(1, len(table) + 1),
                        "state": table["state"],
                        "score": score,
                        "best": sign * (sign * score).cummax().ffill(),
                    }
                )
            )
    names = ["model", "trial", "state", "score", "best"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=names)


def chosen_settings(found: Mapping[Task, Found]) -> pd.DataFrame:
    """The settings that each search on all rows has found, in words, with what it tried."""
    rows = {}
    for task, result in found.items():
        if task.fold == ALL_ROWS and not result.error and result.trials:
            words = ", ".join(f"{k} {v}" for k, v in result.params.items())
            given_up = sum(t["state"] == "pruned" for t in result.trials)
            rows[task.model] = (len(result.trials), given_up, words or "as on the shelf")
    return pd.DataFrame.from_dict(rows, orient="index", columns=["tried", "given up", "settings"])


def cost_and_gain(board: pd.DataFrame, case: Case, name: str) -> pd.DataFrame:
    """What each candidate costs to fit beside what it gains over the dummy.

    The seconds come from the committed results of ``make bench-models``, because a report must
    not measure a time. Empty if they know no such case.

    Returns
    -------
    DataFrame
        Indexed by candidate, cheapest first: ``seconds``, the main metric, and ``gain``, the share
        of the way from the dummy to the best candidate.
    """
    file = project.path(*BENCHMARK)
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    seconds = pd.Series(known.get(name, {}).get("fit_cpu_seconds", {}), dtype=float)
    names = [n for n in board.index if n in seconds.index]
    metric = case.main_metric
    table = pd.DataFrame({"seconds": seconds[names], LABELS[metric]: board.loc[names, metric]})
    if "dummy" not in names:
        return table.iloc[:0]
    start, best = board.loc["dummy", metric], board[metric].iloc[0]
    table["gain"] = (table[LABELS[metric]] - start) / (best - start or 1.0)
    return table.sort_values("seconds", kind="stable")


def plot_learning(curves: pd.DataFrame, case: Case) -> None:
    """Learning curves, one panel a model."""
    names = list(dict.fromkeys(curves["model"]))
    fig, axes = figures.new(height=3.2, ncols=len(names), sharey=True, squeeze=False)
    for ax, name in zip(axes[0], names, strict=True):
        part = curves[curves["model"] == name]
        ax.plot(part["rows"], part["held"], "o-", color=figures.BLUE, label="rows held out")
        ax.fill_between(
            part["rows"],
            part["held"] - part["spread"],
            part["held"] + part["spread"],
            color=figures.SKY,
            alpha=0.3,
            lw=0,
        )
        ax.plot(part["rows"], part["own"], "s--", color=figures.ORANGE, label="rows fitted")
        ax.set(xlabel="rows to learn from", title=name, ylim=_window(curves, case))
    axes[0, 0].set_ylabel(LABELS[case.main_metric])
    axes[0, 0].legend()
    last = curves.groupby("model", sort=False).last()
    words = "; ".join(f"{n} {r['own']:.3f} and {r['held']:.3f}" for n, r in last.iterrows())
    figures.show(
        fig, f"Learning curves. With all rows, on rows fitted and held out: {words}.", colours=48
    )


def _window(curves: pd.DataFrame, case: Case) -> tuple[float, float]:
    """So much of the axis that one wild score with few rows does not hide the rest."""
    bands = [curves["held"] + sign * curves["spread"] for sign in (-1, 1)]
    values = np.r_[curves["own"], bands[0], bands[1]]
    full = curves.loc[curves.groupby("model")["rows"].idxmax(), "held"]
    if case.main_metric in HIGHER_IS_BETTER:
        return max(values.min(), 2 * full.min() - 1) - 0.01, min(values.max() + 0.01, 1.01)
    return 0.0, min(values.max(), 2.5 * full.max()) * 1.05


def plot_validation(curve: pd.DataFrame, case: Case, name: str) -> None:
    """A validation curve: too simple on the left, too supple on the right."""
    metric = case.main_metric
    held = curve["held"]
    best = held.idxmax() if metric in HIGHER_IS_BETTER else held.idxmin()
    fig, ax = figures.new(height=3.0)
    ax.plot(curve.index, held, "o-", color=figures.BLUE, label="rows held out")
    ax.plot(curve.index, curve["own"], "s--", color=figures.ORANGE, label="rows fitted")
    ax.axvline(best, color=figures.GREY, lw=1, ls=":", label="best on rows held out")
    ax.set(
        xlabel=f"{curve.index.name} of {name}",
        ylabel=LABELS[metric],
        title="Only rows held out tell when it is enough",
    )
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend()
    figures.show(
        fig,
        f"{LABELS[metric]} of {name} by {curve.index.name}; rows held out prefer {best}.",
        colours=48,
    )


def plot_trace(trials: pd.DataFrame, case: Case) -> None:
    """The best score so far, trial by trial."""
    fig, ax = figures.new(height=4.4)
    names = list(dict.fromkeys(trials["model"]))
    colours = [figures.BLUE, figures.ORANGE, figures.SKY, figures.GREY]
    styles = ["-", "--", ":", "-."]
    for i, name in enumerate(names):
        part = trials[trials["model"] == name]
        look = {"color": colours[i % 4], "ls": styles[i // 4 % 4]}
        ax.step(part["trial"], part["best"], where="post", label=name, **look)
        ax.plot(part["trial"], part["score"], "o", ms=3, alpha=0.4, color=look["color"])
    metric = case.main_metric
    ax.set(
        xlabel="trial",
        ylabel=f"{LABELS[metric]} on the inner folds",
        title="Each dot a trial, each line the best so far",
    )
    scores = trials["score"].dropna()
    ends = np.quantile(scores, [0, 0.9] if metric not in HIGHER_IS_BETTER else [0.1, 1])
    final = trials.groupby("model")["best"].last()  # no line may lie outside
    ends = min(ends[0], final.min()), max(ends[1], final.max())
    margin = 0.05 * (ends[1] - ends[0]) or 0.01
    ax.set_ylim(ends[0] - margin, ends[1] + margin)
    ax.legend(ncols=4, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    words = ", ".join(f"{n} {trials.loc[trials['model'] == n, 'best'].iloc[-1]:.4f}" for n in names)
    figures.show(fig, f"The trace of {len(names)} searches; the best scores: {words}.")
