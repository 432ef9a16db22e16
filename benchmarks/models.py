"""How good the shelf's models are on splits that others use; writes ``benchmarks/models.json``.

The split is scikit-learn's ``train_test_split(test_size=0.2, random_state=42)`` on all rows of the
table, in a classification stratified by class. Cleaning rules touch the training rows alone: no
test row is dropped, and where a figure leaves rows out, the figure with all rows stands beside it.
Candidates are chosen by cross-validation on the training rows.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from truefit import data_prep, evaluation, params, project, training
from truefit.case import Case
from truefit.metrics import predictions
from truefit.params import Compute

RESULTS = Path(__file__).with_suffix(".json")
SEED, TEST_SHARE = 42, 0.2
RESAMPLES, CONFIDENCE = 2000, 0.95
LINEAR = ("linear", "ridge", "lasso", "elastic_net", "logistic")
DEFAULTS = "hist_gradient_boosting at scikit-learn's defaults"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--trials", type=int, default=16)
    arguments.add_argument("--folds", type=int, default=3)
    arguments.add_argument("--only", help="one of the tasks")
    chosen = arguments.parse_args()
    settings = params.load()
    step = settings.training.model_copy(
        update={"trials": chosen.trials, "fewer_trials": {}, "folds": 5}
        | {"inner_folds": chosen.folds, "blend": 6}
    )
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    for name, make in TASKS.items():
        if chosen.only in (None, name):
            results[name] = measure(name, *make(settings.cases), settings, step)
            print(table(name, results[name]), flush=True)
            with project.replacing(RESULTS) as partial:
                partial.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def ames(cases: dict[str, Case]) -> tuple:
    """All rows, split at random; the five largest houses are left out of the training."""
    case = cases["ames"]
    train, test = halves(case)
    usual = test["gr_liv_area"] <= 4000
    return case, train, {"without sales above 4,000 square feet": test[usual], "all rows": test}


def ames_later(cases: dict[str, Case]) -> tuple:
    """Sales to 2008, tested on those of 2009 and 2010."""
    case = cases["ames"]
    table = data_prep.collect(case)["all"]
    later = table[case.time] >= case.production_from
    return case, data_prep.clean(table[~later], case)[0], {"2009 and 2010": table[later]}


def credit(cases: dict[str, Case]) -> tuple:
    """All rows, split at random."""
    case = cases["credit"]
    train, test = halves(case)
    return case, train, {"all rows": test}


def computers(cases: dict[str, Case]) -> tuple:
    """Months 1 to 12, tested on all later months, frozen."""
    case = cases["computers"]
    table = data_prep.collect(case)["all"]
    later = table[case.time] >= case.production_from
    return case, data_prep.clean(table[~later], case)[0], {"months 13 to 35": table[later]}


def computers_with_trend(cases: dict[str, Case]) -> tuple:
    """The same, and the month is a feature."""
    case = cases["computers"]
    return computers(
        {"computers": case.model_copy(update={"features": case.features | {"month": case.time}})}
    )


TASKS = {
    "ames": ames,
    "ames_later": ames_later,
    "credit": credit,
    "computers": computers,
    "computers_with_trend": computers_with_trend,
}


def halves(case: Case) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The training rows, cleaned, and the test rows, as they came."""
    table = data_prep.collect(case)["all"]
    classes = table[case.target] if case.task == "classification" else None
    train, test = train_test_split(table, test_size=TEST_SHARE, random_state=SEED, stratify=classes)
    return data_prep.clean(train, case)[0], test


def measure(name, case, train, tests, settings, step) -> dict:
    """Search on the training rows, fit, and score the test rows."""
    train = train.reset_index(drop=True)
    names = getattr(step, case.task)
    spaces = getattr(settings.search_spaces, case.task)
    store = project.root() / training.STORE / f"bench-{name}"
    started = time.perf_counter()
    found = training.search_all(names, train, case, spaces, step, Compute(), store=store)
    for model, why in training.failures(found).items():
        print(f"{model} could not be fitted: {why}", flush=True)
    oof = training.out_of_fold(found, train, case, step)
    board = training.leaderboard(training.fold_scores(oof, train, case), case)
    models, seconds = {}, {}
    for key, model in training.final_models(found, train, case, step).items():
        begun = time.process_time()
        models |= training.fit_all({key: model}, oof, train, case)
        seconds[key] = round(time.process_time() - begun, 2)
    plain = defaults(train, case, step)
    models[DEFAULTS] = plain.fit(train.drop(columns=case.target), train[case.target])
    metric, best = training.main_metric(case), training.best(board)
    linear = next(n for n in board.index if n in LINEAR)
    return {
        "task": TASKS[name].__doc__,
        "metric": metric,
        "best": best,
        "linear": linear,
        "searched_seconds": round(time.perf_counter() - started),
        "trials": step.trials,
        "training_rows": len(train),
        "cross_validated": {n: round(float(v), 5) for n, v in board[metric].items()},
        "fit_cpu_seconds": seconds,
        "tests": {part: scored(models, rows, case, best, linear) for part, rows in tests.items()},
    }


def defaults(train, case, step):
    """What a first try would give: the library's own settings, learned from the raw target."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
    from sklearn.pipeline import make_pipeline

    kind = (
        HistGradientBoostingClassifier
        if case.task == "classification"
        else HistGradientBoostingRegressor
    )
    plain = case.model_copy(update={"features": {}, "clusters": []})
    prepared = training.prepare(train, plain, kind="native", min_category_rows=1)
    model = make_pipeline(prepared, kind(random_state=step.seed))
    return training.shelf.on_scale(model, case)


def scored(models, rows, case, best, linear) -> dict:
    """Every model on some rows, and the ratio of the best to others, each with its interval."""
    y, X = rows[case.target], rows.drop(columns=case.target)
    predicted = {n: predictions(m, X, case) for n, m in models.items()}
    weights = evaluation.bootstrap_weights(len(rows), RESAMPLES, SEED)
    values = {n: evaluation.resample(y, p, weights, case) for n, p in predicted.items()}
    tail = 100 * (1 - CONFIDENCE) / 2
    wanted = [m for m in ("rmse_log", "rmse", "mae", "roc_auc", "brier") if m in case.metrics]
    figures = {
        n: {m: [float(f"{v:.6g}") for v in summary(found[m], tail)] for m in wanted}
        for n, found in values.items()
    }
    ratios = {
        f"{best} / {other}": {
            m: [round(float(v), 4) for v in summary(values[best][m] / values[other][m], tail)]
            for m in wanted
        }
        for other in dict.fromkeys([linear, *({"linear"} & set(models)), DEFAULTS])
        if other != best
    }
    return {"rows": len(rows), "models": figures, "ratios": ratios}


def summary(found: np.ndarray, tail: float) -> tuple:
    """The value and the ends of its interval."""
    return found[0], *np.nanpercentile(found[1:], [tail, 100 - tail])


def table(name: str, result: dict) -> str:
    """The result for a person at a terminal."""
    lines = [f"\n{name}: {result['task']}", f"searched in {result['searched_seconds']} s"]
    for part, test in result["tests"].items():
        lines.append(f"  {part} ({test['rows']} rows); best by cross-validation: {result['best']}")
        for model, figures in test["models"].items():
            words = "  ".join(
                f"{m} {v:.6g} ({low:.6g} to {high:.6g})" for m, (v, low, high) in figures.items()
            )
            spent = result["fit_cpu_seconds"].get(model, float("nan"))
            cv = result["cross_validated"].get(model, float("nan"))
            lines.append(f"    {model:24.24} cv {cv:.4f}  {spent:6.2f} s  {words}")
        for pair, ratios in test["ratios"].items():
            words = "  ".join(f"{m} {v} ({a} to {b})" for m, (v, a, b) in ratios.items())
            lines.append(f"    ratio {pair}: {words}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
