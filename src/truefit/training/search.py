"""Search the settings of each candidate, nested, so that no score was ever tuned on.

A search sees the rows of all outer folds but one, and tries settings on inner folds of those
rows. What it found is fitted to all of them and scored on the fold that it never saw. One more
search sees all rows; its finding is the model to use, and the outer scores say what to expect of
it (Varma and Simon, Bias in error estimation when using cross-validation for model selection,
2006).
"""

import gc
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import joblib
import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator
from threadpoolctl import threadpool_limits

from truefit import closure, project
from truefit.case import Case
from truefit.metrics import HIGHER_IS_BETTER, LABELS, truth
from truefit.params import Compute, Space, Training
from truefit.project import InputError
from truefit.training.preparation import Preparation, prepare
from truefit.training.shelf import OF_PREPARATION, SHELF, build, candidate, estimator, target_scale

ALL_ROWS = 0  # the number of the fold that holds nothing out
MOST_ROUNDS = 1000  # of boosting, in a search
PATIENCE = 20  # rounds without a better score on the rows held out, after which boosting stops
STARTUP = 3  # trials before TPE and the pruner trust what they have seen
DIGITS = 3  # significant ones of a setting: what a person would write down
WAIT = 10  # seconds for a Dask cluster to answer
STORE = ".searches"
# Keys of a case's block, and of the section, that change no search. A test holds them to it.
OF_OTHERS = {
    *("table", "title", "about", "source", "caution", "units", "map", "drop_rows", "blank"),
    *("drop_repeats", "slices", "protected", "behaviour", "gate"),
}
OF_THE_CHOICE = {"regression", "classification", "blend", "choose"}


class Task(NamedTuple):
    """One search: which model, on which rows."""

    model: str
    fold: int  # the outer fold that the search never sees, from 1; or ALL_ROWS


class Found(NamedTuple):
    """What a search found."""

    params: dict[str, Any]
    # One row a trial: number, the settings, score (of the main metric, over the inner folds),
    # rounds, and state: complete, pruned (given up), or failed (it could not be fitted).
    trials: list[dict[str, Any]]
    inner: np.ndarray  # of shape (n_fit,): each row predicted by a model that did not fit it
    held: np.ndarray  # of shape (n_held,): the outer fold predicted
    error: str = ""  # why the candidate could not be fitted; then all else is empty


def main_metric(case: Case) -> str:
    """The metric that decides which candidate wins."""
    return case.main_metric


def deal(y: pd.Series, case: Case, *, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Deal rows into folds: for each the rows to fit and the rows held out, by position."""
    return list(case.folds(y, folds=folds, seed=seed))


def search(
    model: str,
    rows: pd.DataFrame,
    held: pd.DataFrame,
    case: Case,
    space: Mapping[str, Space],
    settings: Training,
    *,
    seed: int,
    shared: Any = None,
) -> Found:
    """Search the settings of a candidate on some rows, and predict others with what was found.

    Parameters
    ----------
    model : str
        On the shelf.
    rows : DataFrame
        To search and to fit with, target included.
    held : DataFrame
        To predict; the search does not see them. May be empty.
    case : Case
        Its block in ``params.yaml``.
    space : mapping from parameter to Space
        What may change. With one parameter a grid is tried, with more TPE draws (Bergstra and
        others, Algorithms for Hyper-Parameter Optimization, 2011), and a trial is given up when
        its running mean is worse than the median of those before it.
    settings : Training
        ``trials``, ``fewer_trials``, ``inner_folds``, ``min_category_rows`` and ``seed``
        (of the models).
    seed : int
        Of the inner folds and of the draws.
    shared : optional
        A word for these rows, this case, these settings and this seed: searches of other models
        that are given the same one share what was prepared.

    Raises
    ------
    Exception
        Whatever the estimator raises when it cannot be fitted.
    """
    if not case.clusters:
        space = {name: values for name, values in space.items() if name != "n_clusters"}
    bench = _Bench(model, _folds(shared, rows, held, case, settings, seed))
    trials, best, failure = [], None, None
    most = min(settings.trials, settings.fewer_trials.get(model, settings.trials))
    for params, study, trial in _proposals(model, case.shelf, space, most, seed):
        try:
            outcome = bench.score(params, trial)
            state = "pruned" if outcome is None else "complete"
        except Exception as error:  # one setting that cannot be fitted says nothing of the others
            outcome, state, failure = None, "failed", failure or error
        if study is not None:
            # Optuna takes a pruned trial with the last value that was reported.
            study.tell(trial, *_verdict(outcome))
        score, inner, rounds = outcome or (np.nan, None, None)
        trials.append({**params, "score": bench.sign * score, "rounds": rounds, "state": state})
        if outcome is not None and (best is None or score < best[0]):
            best = (score, inner, params if rounds is None else {**params, bench.rounds: rounds})
    if best is None:
        raise failure
    _, inner, params = best
    return Found(params, trials, inner, bench.predict_held(params) if len(held) else np.empty(0))


def _finite(predicted: np.ndarray) -> np.ndarray:
    if not np.isfinite(predicted).all():
        raise ValueError("it predicts what is not a finite number")
    return predicted


def built(
    model: str, rows: pd.DataFrame, case: Case, params: Mapping[str, Any], settings: Training
) -> BaseEstimator:
    """A candidate with the settings that a search has found, not yet fitted."""
    return build(
        model,
        rows,
        case,
        min_category_rows=settings.min_category_rows,
        seed=settings.seed,
        params=params,
    )


class _Folds:
    """The rows of a search: what is fitted and what is predicted, prepared once for all models."""

    def __init__(
        self, rows: pd.DataFrame, held: pd.DataFrame, case: Case, settings: Training, seed: int
    ):
        self.case, self.settings, self.y = case, settings, rows[case.target]
        self.inner = deal(self.y, case, folds=settings.inner_folds, seed=seed)
        self._rows, self._held = (part.drop(columns=case.target) for part in (rows, held))
        self._kind: Preparation | None = None
        self._prepared: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    def prepared(
        self, fold: int | None, kind: Preparation, params: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        """What to fit and what to predict, of an inner fold; with None, all rows and those held."""
        if kind != self._kind:  # keep what models of one kind need, or large tables fill the memory
            self._kind, self._prepared = kind, {}
        own = {k: v for k, v in params.items() if k in OF_PREPARATION}
        key = repr((fold, sorted(own.items())))
        if key not in self._prepared:
            fit, held = self._rows, self._held
            if fold is not None:
                fit, held = (self._rows.iloc[part] for part in self.inner[fold])
            step = prepare(
                self._rows,
                self.case,
                kind=kind,
                min_category_rows=self.settings.min_category_rows,
                seed=self.settings.seed,
                **own,
            )
            self._prepared[key] = step.fit_transform(fit), step.transform(held)
        return self._prepared[key]


# Of the last search in this process: the next one is often of another model on the same rows.
_last: tuple[Any, _Folds] | None = None


def _folds(shared: Any, *rows_and_more: Any) -> _Folds:
    """The folds of a search; those of the last one, if both were told the same word."""
    global _last
    if shared is None or _last is None or _last[0] != shared:
        _last = shared, _Folds(*rows_and_more)
    return _last[1]


class _Bench:
    """Tries settings of one model on the folds of a search."""

    def __init__(self, model: str, folds: _Folds):
        self.model, self.folds, self.case = model, folds, folds.case
        self.candidate = candidate(model, self.case.shelf)
        self.rounds = self.candidate.rounds
        self.sign = -1.0 if self.case.main_metric in HIGHER_IS_BETTER else 1.0

    def score(self, params: Mapping[str, Any], trial: Any) -> tuple | None:
        """The mean error over the folds, all rows predicted, and rounds; None if given up."""
        y, folds = self.folds.y, self.folds.inner
        metric = self.case.metrics[self.case.main_metric]
        inner, errors, rounds = np.full(len(y), np.nan), [], []
        for step, (fit, held) in enumerate(folds):
            Z, Z_held = self.folds.prepared(step, self.candidate.preparation, params)
            scale = _scale(y.iloc[fit], self.case)
            targets = (scale.transform(y.iloc[part].to_numpy()) for part in (fit, held))
            fitted, stopped = fit_stopping_early(
                self._estimator(params), self.rounds, Z, next(targets), Z_held, next(targets)
            )
            inner[held] = self._predict(fitted, Z_held, scale)
            actual = truth(y.iloc[held], self.case)
            errors.append(self.sign * metric(actual, inner[held], np.ones((1, len(held))))[0])
            rounds.append(stopped)
            if trial is not None and step + 1 < len(folds):
                trial.report(float(np.mean(errors)), step)
                if trial.should_prune():
                    return None
        count = None if self.rounds is None else max(1, round(float(np.mean(rounds))))
        return float(np.mean(errors)), inner, count

    def predict_held(self, params: Mapping[str, Any]) -> np.ndarray:
        """The rows that the search does not see, by a model that was fitted on all that it sees."""
        Z, Z_held = self.folds.prepared(None, self.candidate.preparation, params)
        scale = _scale(self.folds.y, self.case)
        fitted = self._estimator(params).fit(Z, scale.transform(self.folds.y.to_numpy()))
        return self._predict(fitted, Z_held, scale)

    def _estimator(self, params: Mapping[str, Any]) -> BaseEstimator:
        return estimator(self.model, self.case.shelf, params, self.folds.settings.seed)

    def _predict(self, fitted: BaseEstimator, Z: np.ndarray, scale: Any) -> np.ndarray:
        found = scale.inverse_transform(self.case.answers(fitted, Z))
        # A view of one column, or float32, would be another file than the same numbers read back.
        return _finite(np.array(found, dtype=float))


def _scale(y: pd.Series, case: Case) -> BaseEstimator:
    """The scale on which a model learns, fitted."""
    return target_scale(case).fit(y.to_numpy())


def fit_stopping_early(
    model: BaseEstimator,
    rounds: str | None,
    X: np.ndarray,
    y: np.ndarray,
    X_held: np.ndarray,
    y_held: np.ndarray,
) -> tuple[BaseEstimator, int | None]:
    """Fit; boosting stops when rows held out stop gaining.

    Returns
    -------
    model : estimator
        Fitted.
    rounds : int or None
        How many rounds were best on the rows held out; None if the model is not boosted.
    """
    if rounds is None:
        return model.fit(X, y), None
    model.set_params(**{rounds: MOST_ROUNDS})
    if hasattr(model, "n_iter_no_change"):  # scikit-learn's
        model.set_params(early_stopping=True, n_iter_no_change=PATIENCE)
        model.fit(X, y, X_val=X_held, y_val=y_held)
        return model, max(1, int(np.argmax(model.validation_score_)))
    if hasattr(model, "early_stopping_rounds"):  # XGBoost's
        model.set_params(early_stopping_rounds=PATIENCE)
        model.fit(X, y, eval_set=[(X_held, y_held)], verbose=False)
        return model, model.best_iteration + 1
    from lightgbm import early_stopping

    stop = early_stopping(PATIENCE, verbose=False)
    # Of eval_X and eval_y, which it prefers, it takes no classes that are texts.
    model.fit(X, y, eval_set=[(X_held, y_held)], callbacks=[stop])
    return model, model.best_iteration_


def _proposals(
    model: str, task: str, space: Mapping[str, Space], trials: int, seed: int
) -> Iterator[tuple[dict[str, Any], Any, Any]]:
    """The settings to try, one after another, each with Optuna's study and trial if it has one."""
    if len(space) < 2:
        shelf = candidate(model, task).settings
        grids = {name: grid(s, trials, shelf.get(name)) for name, s in space.items()}
        for values in next(iter(grids.values()), [None]):
            yield dict.fromkeys(grids, values), None, None
        return
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=STARTUP),
    )
    # The first trial is what an expert would take, so that a short search is no gamble.
    study.enqueue_trial(_start(candidate(model, task).settings, space))
    for _ in range(trials):
        trial = study.ask()
        yield {name: _draw(trial, name, s) for name, s in space.items()}, study, trial


def _start(settings: Mapping[str, Any], space: Mapping[str, Space]) -> dict[str, Any]:
    """The shelf's own settings, as far as they lie in the space."""
    found = {}
    for name, values in space.items():
        value = settings.get(name)
        if name in settings and _lies_in(value, values):
            plain = [_plain(choice) for choice in values.choices or []]
            found[name] = plain.index(value) if plain else value
    return found


def _lies_in(value: Any, space: Space) -> bool:
    if space.choices is not None:
        return value in [_plain(choice) for choice in space.choices]
    # A shelf may say "sqrt" where the space has a range.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and space.low <= value <= space.high


def _draw(trial: Any, name: str, space: Space) -> Any:
    if space.choices is not None:
        return _plain(space.choices[trial.suggest_int(name, 0, len(space.choices) - 1)])
    if space.integer:
        return trial.suggest_int(name, int(space.low), int(space.high), log=space.log)
    return _rounded(trial.suggest_float(name, space.low, space.high, log=space.log), space)


def grid(space: Space, points: int, shelf: Any = None) -> list[Any]:
    """At most so many values, evenly spread over the space (over its logarithm, if it says so).

    The shelf's own setting takes the place of the nearest value, so that a short search is no
    gamble.

    Examples
    --------
    >>> grid(Space(low=0.01, high=100, log=True), points=3)
    [0.01, 1.0, 100.0]
    >>> grid(Space(choices=["gini", "entropy"]), points=5)
    ['gini', 'entropy']
    """
    if space.choices is not None:
        choices = [_plain(choice) for choice in space.choices]
        places = np.linspace(0, len(choices) - 1, min(points, len(choices)))
        places = {int(p) for p in np.round(places)}
        if _lies_in(shelf, space):
            own = choices.index(shelf)
            places = places - {min(places, key=lambda p: abs(p - own))} | {own}
        return [choices[p] for p in sorted(places)]
    along, back = (np.log, np.exp) if space.log else (np.array, np.array)
    ends = along([float(space.low), float(space.high)])
    values = np.linspace(*ends, points) if points > 1 else np.array([ends.mean()])
    if _lies_in(shelf, space):
        values[np.argmin(np.abs(values - along(float(shelf))))] = along(float(shelf))
    if space.integer:
        return sorted({int(v) for v in np.round(back(values))})
    return [_rounded(v, space) for v in back(values)]


def _plain(choice: Any) -> Any:
    return tuple(choice) if isinstance(choice, list) else choice


def _rounded(value: float, space: Space) -> float:
    # Rounding must not leave the space, whose limits may have more digits.
    return float(np.clip(float(f"{value:.{DIGITS}g}"), space.low, space.high))


def _verdict(outcome: tuple | None) -> tuple:
    from optuna.trial import TrialState

    return (None, TrialState.PRUNED) if outcome is None else (outcome[0],)


def check_spaces(
    names: Sequence[str], spaces: Mapping[str, Mapping[str, Space]], task: str
) -> None:
    """Every candidate must be on the shelf, and every space be of a parameter that a model has.

    Raises
    ------
    InputError
    """
    for name in names:
        candidate(name, task)
    for name, space in spaces.items():
        candidate(name, task)
        for key, values in space.items():
            estimator(name, task, {key: grid(values, 1)[0]}, 0)
            if key == candidate(name, task).rounds:
                raise InputError(
                    f"params.yaml: search_spaces names {key} of {name}, which early stopping "
                    "finds; leave it out"
                )
            if key in OF_PREPARATION and candidate(name, task).preparation != "scaled":
                raise InputError(
                    f"params.yaml: search_spaces names {key} of {name}, which makes no use of "
                    "clusters; leave it out"
                )


def search_all(
    names: Sequence[str],
    train: pd.DataFrame,
    case: Case,
    spaces: Mapping[str, Mapping[str, Space]],
    settings: Training,
    compute: Compute,
    *,
    store: Path | None = None,
) -> dict[Task, Found]:
    """Search every candidate without each outer fold, and on all rows.

    Parameters
    ----------
    names : sequence of str
        Candidates on the shelf.
    train : DataFrame
        Training rows with their target.
    case : Case
        Its block in ``params.yaml``.
    spaces : mapping from model to its search space
        A model without one has its settings from the shelf.
    settings : Training
        The parameters of the step.
    compute : Compute
        On which machines; the result does not depend on it.
    store : Path, optional
        A folder in which each finding is kept as soon as it is there. A search that was
        interrupted goes on from them; those of other data, parameters or code are not looked at,
        and thrown away at the end.

    Returns
    -------
    dict from Task to Found
        In the order of ``names`` and folds. A candidate that could not be fitted somewhere has an
        ``error`` there.

    Raises
    ------
    InputError
        If a name or a space is not known, a feature or the folds do not fit the rows, no candidate
        but the dummy could be fitted, or the machines cannot be reached.
    """
    check_spaces(names, spaces, case.shelf)
    if unknown := settings.fewer_trials.keys() - {model for _, model in SHELF}:
        raise InputError(f"params.yaml: fewer_trials names {min(unknown)}, which is no candidate")
    _check_rows(train, case, settings)
    for name in names:
        built(name, train, case, {}, settings)
    outer = deal(train[case.target], case, folds=settings.folds, seed=settings.seed)
    tasks = [Task(n, f) for f in range(len(outer) + 1) for n in names]
    kept = _Kept(store, (train, case, settings, spaces))
    found = {task: kept.get(task) for task in tasks}
    missing = [task for task in tasks if found[task] is None]
    # One after another what shares its preparation; see `_Folds`.
    missing.sort(key=lambda task: (task.fold, candidate(task.model, case.shelf).preparation))

    run = uuid4()

    def job(task: Task) -> tuple:
        fit, held = outer[task.fold - 1] if task.fold else (np.arange(len(train)), [])
        space = spaces.get(task.model, {})
        seed = settings.seed + 1000 * task.fold
        shared = (run, task.fold)
        return task, train.iloc[fit], train.iloc[held], case, space, settings, seed, shared

    with _bar(len(tasks), case) as bar:
        for task, result in found.items():
            if result is not None:
                bar(task, result)
        with _workers(compute if missing else Compute()) as attempts:
            for task, result in attempts(job(task) for task in missing):
                kept.put(task, result)
                found[task] = result
                bar(task, result)
    kept.tidy()
    _check_some(found)
    return found


def _attempt(task: Task, *arguments: Any) -> tuple[Task, Found]:
    """One search in a worker; what the estimator raises is kept, and fatal to no other search."""
    *data, seed, shared = arguments
    # Threads change the order of sums, and here every core has a search of its own.
    with threadpool_limits(1), warnings.catch_warnings():
        # A worker's warnings would come out in some cell of the notebook, or none.
        warnings.simplefilter("ignore")
        try:
            return task, search(task.model, *data, seed=seed, shared=shared)
        except Exception as error:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            return task, Found({}, [], np.empty(0), np.empty(0), why)


def _check_rows(train: pd.DataFrame, case: Case, settings: Training) -> None:
    """The folds must be dealt so that each has rows, and of a class some in each."""
    what, least = min(case.counts(train[case.target]).items(), key=lambda item: item[1])
    inside = least - -(-least // settings.folds)  # when the largest outer fold is held out
    if least < settings.folds or inside < settings.inner_folds:
        raise InputError(
            f"training: {least} {what} are too few for {settings.folds} folds with "
            f"{settings.inner_folds} inner folds; ask for fewer"
        )


def _check_some(found: Mapping[Task, Found]) -> None:
    errors = {task.model: f.error for task, f in found.items() if f.error}
    if not {task.model for task in found} - set(errors) - {"dummy"}:
        name, why = next(iter(errors.items()), ("dummy", "it is the only candidate"))
        raise InputError(f"no candidate could be fitted; {name} says: {why}")


Attempts = Callable[[Iterable[tuple]], Iterator[tuple[Task, Found]]]


@contextmanager
def _workers(compute: Compute) -> Iterator[Attempts]:
    """What carries out searches and gives each result as soon as it is there."""
    if compute.engine == "dask":
        with _cluster(compute.scheduler) as attempts:
            yield attempts
        return
    watched = {"initializer": _end_with_parent, "initargs": (os.getpid(),)}
    with joblib.parallel_config("loky", n_jobs=-1, inner_max_num_threads=1, **watched):
        # Without arrays in shared memory, whose folders outlive a kernel that is told to stop; so
        # would workers that wait for more.
        parallel = joblib.Parallel(return_as="generator_unordered", max_nbytes=None)
        try:
            yield lambda jobs: parallel(joblib.delayed(_attempt)(*job) for job in jobs)
        finally:
            executor = get_reusable_executor(reuse=True)
            getattr(executor, "terminate", executor.shutdown)()


def _end_with_parent(parent: int) -> None:
    """Make a worker end when the process that started it was killed and cannot tell it to."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster(scheduler: str) -> Iterator[Attempts]:
    """The workers of a Dask cluster, if all would find what this machine finds."""
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise InputError(
            "params.yaml: compute asks for dask, which is not installed; install truefit[dask]"
        ) from None
    try:
        client, why = Client(scheduler, timeout=WAIT, set_as_default=False), ""
    except (OSError, ValueError) as error:
        client, why = None, " ".join(str(error).split())
    if client is None:
        # Collected later, while another client starts, one that never opened would wait for ever.
        gc.collect()
        raise InputError(f"params.yaml: no Dask scheduler answers at {scheduler} ({why})")

    def attempts(jobs: Iterable[tuple]) -> Iterator[tuple[Task, Found]]:
        futures = [client.submit(_attempt, *job, pure=False) for job in jobs]
        for _, result in as_completed(futures, with_results=True, loop=client.loop):
            yield result

    with client:
        _check_workers(client, scheduler)
        yield attempts


def _check_workers(client: Any, scheduler: str) -> None:
    """There must be a worker, and each must have this code and these libraries."""
    try:
        client.submit(int, pure=False).result(timeout=WAIT)  # wakes a cluster that grows on demand
    except TimeoutError:
        raise InputError(
            f"params.yaml: the Dask scheduler at {scheduler} has no worker after {WAIT} seconds; "
            f"start one with: dask worker {scheduler}"
        ) from None
    try:
        found = client.run(_fingerprint)
    except Exception as error:  # whatever happens there when truefit is imported
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"params.yaml: a Dask worker cannot import truefit ({why})") from None
    for address, fingerprint in found.items():
        if fingerprint != _fingerprint():
            raise InputError(
                f"params.yaml: the Dask worker at {address} has another version of truefit or of a "
                "library than this machine, and might find something else"
            )


@contextmanager
def _bar(total: int, case: Case) -> Iterator[Callable[[Task, Found], None]]:
    """A bar on the terminal, if the runner or the process has one, with the best so far."""
    from tqdm import tqdm

    metric = case.main_metric
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    best = -np.inf
    with project.terminal() as file:
        bar = tqdm(
            total=total,
            file=file,
            disable=file is None,
            leave=False,
            unit="search",
            desc="searching",
            dynamic_ncols=True,
        )

        def step(task: Task, result: Found) -> None:
            nonlocal best
            score = max(
                (sign * t["score"] for t in result.trials if t["state"] == "complete"),
                default=-np.inf,
            )
            if score > best:
                best = score
                words = f"best so far {task.model}, {LABELS[metric]} {sign * best:.4f}"
                bar.set_postfix_str(words, refresh=False)
            bar.update()

        try:
            yield step
        finally:
            bar.close()


class _Kept:
    """Findings on disk, each in a file named after all that it depends on."""

    def __init__(self, folder: Path | None, inputs: tuple):
        self.folder, self.used = folder, set()
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        train, case, settings, spaces = inputs
        block = case.model_dump(exclude=OF_OTHERS)
        dumped = {m: {k: v.model_dump() for k, v in s.items()} for m, s in spaces.items()}
        own = settings.model_dump(exclude=OF_THE_CHOICE)
        self.common = joblib.hash((_fingerprint(), train, block, own))
        self.spaces = dumped

    def file(self, task: Task) -> Path:
        key = joblib.hash((self.common, task, self.spaces.get(task.model)))
        return self.folder / f"{task.model}-{task.fold}-{key}.joblib"

    def get(self, task: Task) -> Found | None:
        if self.folder is None or not (file := self.file(task)).exists():
            return None
        self.used.add(file)
        return joblib.load(file)

    def put(self, task: Task, found: Found) -> None:
        if self.folder is None or found.error:
            return
        file = self.file(task)
        with project.replacing(file) as partial:
            joblib.dump(found, partial)
        self.used.add(file)

    def tidy(self) -> None:
        if self.folder is not None:
            for file in set(self.folder.glob("*.joblib")) - self.used:
                file.unlink(missing_ok=True)


@cache
def _fingerprint() -> str:
    """Of all code and libraries that findings depend on."""
    here = Path(__file__)
    return repr((sys.version_info[:2], closure.digest(here), closure.libraries(here)))
