"""A search never sees the rows that judge it, and finds the same however and wherever it runs."""

import fcntl
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import KFold, StratifiedKFold

from truefit import params, training
from truefit.metrics import predictions
from truefit.params import Compute, Space
from truefit.project import InputError
from truefit.training import Task
from truefit.training.search import MOST_ROUNDS, deal, fit_stopping_early, grid

HERE = Path(__file__).parent
TREES = {
    "max_depth": Space(low=1, high=6, integer=True),
    "min_samples_leaf": Space(low=1, high=60, log=True, integer=True),
}
SPACES = {"ridge": small.RIDGE, "decision_tree": TREES}
NAMES = ["dummy", "ridge", "decision_tree"]


@pytest.fixture(scope="module")
def found():
    return small.search(NAMES, spaces=SPACES)


def refusal(*arguments, **more):
    """The sentence that a search is refused with."""
    with pytest.raises(InputError) as caught:
        small.search(*arguments, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What a search may see


def test_rows_of_an_outer_fold_never_influence_what_is_found_without_them(found):
    rows, case = small.table("regression"), small.CASES["regression"]
    _, held = deal(rows["y"], case, folds=3, seed=small.SETTINGS.seed)[0]
    changed = rows.copy()
    changed.loc[held, "y"] *= np.linspace(0.2, 5, len(held))
    again = small.search(NAMES, rows=changed, spaces=SPACES)
    for name in NAMES:
        kept = {t: f for t, f in found.items() if t == Task(name, 1)}
        assert small.digest(kept) == small.digest({t: again[t] for t in kept})
        for fold in (0, 2, 3):  # there the rows are among those searched with
            assert not np.array_equal(found[name, fold].inner, again[name, fold].inner)


@pytest.mark.parametrize(
    ("task", "name"), [("regression", "ridge"), ("classification", "logistic")]
)
def test_inner_predictions_and_those_of_the_outer_fold_are_out_of_fold(task, name):
    rows, case, kind = small.table(task), small.CASES[task], StratifiedKFold
    if task == "regression":
        kind = KFold
    result = small.search([name], task)
    outer = kind(3, shuffle=True, random_state=small.SETTINGS.seed).split(rows, rows["y"])
    for fold, (fit, held) in enumerate(outer, 1):
        seen, model = rows.iloc[fit], training.built(name, rows, case, {}, small.SETTINGS)
        model.fit(seen.drop(columns="y"), seen["y"])
        expected = predictions(model, rows.iloc[held], case)
        assert result[name, fold].held == pytest.approx(expected, rel=1e-9)
        inner = kind(3, shuffle=True, random_state=small.SETTINGS.seed + 1000 * fold)
        for inside, out in inner.split(seen, seen["y"]):
            model.fit(seen.iloc[inside].drop(columns="y"), seen["y"].iloc[inside])
            expected = predictions(model, seen.iloc[out], case)
            assert result[name, fold].inner[out] == pytest.approx(expected, rel=1e-9)


def test_a_trial_is_scored_by_the_mean_over_the_inner_folds(found):
    rows, case, case_of = small.table("regression"), small.CASES["regression"], small.CASES
    result = found["ridge", 0]
    best = min(result.trials, key=lambda t: t["score"])
    assert result.params == {"alpha": best["alpha"]}
    wrong = (np.log(rows["y"]) - np.log(result.inner)).to_numpy() ** 2
    inner = deal(rows["y"], case, folds=3, seed=small.SETTINGS.seed)
    assert best["score"] == pytest.approx(np.mean([wrong[h].mean() ** 0.5 for _, h in inner]))
    result = small.search(["logistic"], "classification")["logistic", 0]
    y = small.table("classification")["y"]
    inner = deal(y, case_of["classification"], folds=3, seed=small.SETTINGS.seed)
    aucs = [roc_auc_score(y.iloc[h] == "bad", result.inner[h]) for _, h in inner]
    assert result.trials[0]["score"] == pytest.approx(np.mean(aucs))


# What a search tries


def test_a_space_of_one_parameter_is_a_grid_of_as_many_trials(found):
    tried = [t["alpha"] for t in found["ridge", 0].trials]
    assert tried == [0.1, 20.0, 46.4, 1000.0] or tried == [0.1, 2.15, 20.0, 1000.0]
    assert {t["state"] for t in found["ridge", 0].trials} == {"complete"}
    assert [t["alpha"] for t in found["ridge", 2].trials] == tried


@pytest.mark.parametrize("trials", [1, 2, 5])
def test_the_budget_is_counted_in_trials(trials):
    many = {"alpha": Space(choices=list(range(1, 20)))}
    spaces = {"ridge": many, "lasso": small.RIDGE, "decision_tree": TREES}
    result = small.search([*spaces, "dummy"], spaces=spaces, trials=trials, folds=2)
    for name in spaces:
        assert [len(result[name, f].trials) for f in range(3)] == [trials] * 3
    assert len(result["dummy", 0].trials) == 1


def test_the_first_trial_is_the_shelfs_setting_and_a_seed_repeats_the_others():
    spaces = {"decision_tree": TREES, "mlp": params.load().search_spaces.regression["mlp"]}
    first, again, other = (
        small.search(list(spaces), spaces=spaces, folds=2, seed=seed, trials=5)
        for seed in (1, 1, 2)
    )
    assert small.digest(first) == small.digest(again) != small.digest(other)
    for result in (first, other):
        start = result["mlp", 0].trials[0]
        assert (start["alpha"], start["hidden_layer_sizes"]) == (10.0, (32,))
        # The shelf's depth of 8 lies outside the space, its five rows a leaf inside.
        assert result["decision_tree", 0].trials[0]["min_samples_leaf"] == 5
    depths = [[t["max_depth"] for t in r["decision_tree", 0].trials] for r in (first, other)]
    assert depths[0] != depths[1]


def test_a_trial_that_falls_behind_is_given_up_and_reported():
    spaces = {"decision_tree": TREES}
    result = small.search(["dummy", "decision_tree"], spaces=spaces, trials=15, folds=2)
    states = [t["state"] for t in result["decision_tree", 0].trials]
    assert states[:3] == ["complete"] * 3 and "pruned" in states
    table = training.chosen_settings(result).loc["decision_tree"]
    assert (table["tried"], table["given up"]) == (15, states.count("pruned"))
    trace = training.trace(result, small.CASES["regression"])
    given_up = trace[trace["state"] == "pruned"]
    assert len(given_up) == states.count("pruned") and given_up["score"].isna().all()
    assert trace["best"].is_monotonic_decreasing and trace["best"].notna().all()


def number_of_rounds(model):
    step = training.unwrap(model)[-1]
    if hasattr(step, "get_booster"):
        return step.get_booster().num_boosted_rounds()
    return step.booster_.num_trees() if hasattr(step, "booster_") else step.n_iter_


@pytest.mark.parametrize("task", small.CASES)
@pytest.mark.parametrize("name", ["hist_gradient_boosting", "xgboost", "lightgbm"])
def test_early_stopping_finds_the_rounds_that_the_final_model_has(task, name):
    rows, case = small.table(task), small.CASES[task]
    parameter = training.SHELF[task, name].rounds
    result = small.search([name], task, folds=2, inner_folds=2)
    rounds = result[name, 0].params[parameter]
    assert 1 < rounds < MOST_ROUNDS / 2
    assert result[name, 0].trials[0]["rounds"] == rounds
    model = training.final_models(result, rows, case, small.SETTINGS)[name]
    assert number_of_rounds(model.fit(rows.drop(columns="y"), rows["y"])) == rounds


def test_early_stopping_stops_where_held_rows_gain_no_more():
    rng = np.random.default_rng(0)
    X, noise = rng.normal(size=(300, 4)), rng.normal(size=300)
    for name in ("hist_gradient_boosting", "xgboost", "lightgbm"):
        chosen = training.SHELF["regression", name]
        found = []
        for y in (noise, X[:, 0] + 0.1 * noise):
            model = chosen.estimator(**chosen.settings)
            parts = (X[:200], y[:200], X[200:], y[200:])
            found.append(fit_stopping_early(model, chosen.rounds, *parts)[1])
        assert found[0] < 20 < found[1], name  # nothing can be learned from noise


SPACE = st.builds(
    lambda low, factor, log, integer: Space(
        low=max(1, round(low)) if integer else low,
        high=max(1, round(low)) + round(factor) if integer else low * factor,
        log=log,
        integer=integer,
    ),
    st.floats(1e-4, 1e4),
    st.floats(1.5, 1e4),
    st.booleans(),
    st.booleans(),
)


@given(SPACE, st.integers(1, 12), st.floats(0, 1))
def test_a_grid_stays_in_its_space_within_its_budget_and_has_the_shelfs_setting(space, n, share):
    shelf = space.low + share * (space.high - space.low)
    shelf = min(int(shelf), space.high) if space.integer else shelf
    for values in (grid(space, n), grid(space, n, shelf), grid(space, n, "auto")):
        assert 1 <= len(values) <= n and len(set(values)) == len(values)
        assert values == sorted(values)
        assert space.low <= values[0] and values[-1] <= space.high
        assert all(type(v) is (int if space.integer else float) for v in values)
        if not space.integer:
            assert all(v == float(f"{v:.3g}") or v in (space.low, space.high) for v in values)
    assert min(abs(v - shelf) / abs(shelf) for v in grid(space, n, shelf)) < 0.0051


def test_settings_have_three_digits():
    spaces = {"elastic_net": {"alpha": Space(low=0.001, high=1.0, log=True),
                              "l1_ratio": Space(low=0.1, high=0.9)}}  # fmt: skip
    for trial in small.search(["elastic_net"], spaces=spaces, folds=2)["elastic_net", 0].trials:
        for key in ("alpha", "l1_ratio"):
            assert trial[key] == float(f"{trial[key]:.3g}")


# Wherever it runs


SCRIPT = """
import sys, small, test_search as t
from pathlib import Path
store = Path(sys.argv[1]) if len(sys.argv) > 1 else None
print(small.digest(small.search(t.NAMES, spaces=t.SPACES, store=store)))
"""
PINNED = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


def started(*arguments, **env):
    """A search in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, arguments)],
        cwd=HERE,
        env={**os.environ, **PINNED, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def test_several_workers_find_what_one_finds(found):
    process = started(LOKY_MAX_CPU_COUNT="2", PYTHONHASHSEED="7")
    assert process.communicate(timeout=120)[0].strip() == small.digest(found)


def test_an_interrupted_search_goes_on_where_it_was(found, tmp_path):
    process = started(tmp_path)
    while len(list(tmp_path.glob("[!.]*.joblib"))) < 3:
        assert process.poll() is None, "it ended before it could be interrupted"
        time.sleep(0.002)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    before = {f: f.stat().st_mtime_ns for f in tmp_path.glob("[!.]*.joblib")}
    assert 3 <= len(before) < len(found)
    resumed = small.search(NAMES, spaces=SPACES, store=tmp_path)
    assert small.digest(resumed) == small.digest(found)
    assert {f: f.stat().st_mtime_ns for f in before} == before
    assert len(list(tmp_path.iterdir())) == len(found)  # and nothing half-written is left
    again = small.search(NAMES, spaces=SPACES, store=tmp_path)
    assert small.digest(again) == small.digest(found)


def test_the_store_forgets_what_belongs_to_other_data_or_parameters(tmp_path):
    names = ["dummy", "ridge"]

    def kept():
        return {f.name for f in tmp_path.glob("*.joblib")}

    def searched(**more):
        small.search(names, **{"spaces": {"ridge": small.RIDGE}, "store": tmp_path, **more})
        return kept()

    first = searched()
    assert len(first) == 2 * 4
    # What changes no search: other words, candidates beside these, the choice at the end.
    assert searched(blend=0, choose="simplest", regression=["dummy"]) == first
    assert len(searched(spaces={"ridge": {"alpha": Space(low=1, high=2)}}) & first) == 4
    assert not searched(rows=small.table("regression").assign(size=0.5)) & first
    assert not searched(seed=4) & first
    assert searched() == first


def test_a_candidate_that_failed_is_tried_again(tmp_path):
    spaces = {"random_forest": {"max_features": Space(choices=[-1.0])}}
    names = ["dummy", "linear", "random_forest"]
    small.search(names, spaces=spaces, store=tmp_path)
    assert {f.name.split("-")[0] for f in tmp_path.iterdir()} == {"dummy", "linear"}


@pytest.fixture
def cluster(tmp_path):
    """A Dask scheduler; call what comes with it for a worker."""
    file, processes = tmp_path / "scheduler.json", []

    def start(kind, *more):
        command = [sys.executable, "-m", f"distributed.cli.dask_{kind}", "--no-dashboard"]
        processes.append(
            subprocess.Popen(
                [*command, "--scheduler-file", str(file), *more],
                cwd=tmp_path,
                env={**os.environ, **PINNED},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )

    start("scheduler", "--host", "127.0.0.1", "--port", "0")
    while not file.exists() or not file.read_text():
        assert processes[0].poll() is None
        time.sleep(0.05)
    yield json.loads(file.read_text())["address"], start
    for process in reversed(processes):
        process.kill()
        process.wait()


def test_a_dask_cluster_finds_what_this_machine_finds(found, cluster, monkeypatch):
    from distributed import Client

    address, start = cluster
    where = Compute(engine="dask", scheduler=address)
    monkeypatch.setattr("truefit.training.search.WAIT", 1)
    assert refusal(["dummy", "ridge"], where=where) == (
        f"params.yaml: the Dask scheduler at {address} has no worker after 1 seconds; start one "
        f"with: dask worker {address}"
    )
    monkeypatch.setattr("truefit.training.search.WAIT", 30)
    for _ in range(2):
        start("worker", "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1")
    with Client(address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=60)
        assert small.digest(small.search(NAMES, spaces=SPACES, where=where)) == small.digest(found)
        worked = client.run(
            lambda dask_worker: sum(
                seconds
                for key, seconds in dask_worker.digests_total.items()
                if key[0] == "execute" and "attempt" in key
            )
        )
    assert len(worked) == 2 and min(worked.values()) > 0


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "nowhere:x", "http://127.0.0.1:9"])
def test_a_scheduler_that_does_not_answer_is_one_sentence(address, capfd):
    start = time.monotonic()
    where = Compute(engine="dask", scheduler=address)
    sentence = refusal(["dummy", "ridge"], where=where)
    assert time.monotonic() - start < 15
    assert sentence.startswith(f"params.yaml: no Dask scheduler answers at {address} (")
    assert capfd.readouterr().err == ""


def test_the_bar_on_the_terminal_shows_the_best_so_far(monkeypatch):
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 120, 0, 0))
    monkeypatch.setenv("TRUEFIT_TERMINAL", os.ttyname(theirs))
    monkeypatch.setenv("TQDM_DISABLE", "1")  # as in a stage, for the notebook's own bars
    drawn = []

    def read():
        while not drawn or b"\x04" not in drawn[-1]:
            try:
                drawn.append(os.read(ours, 4096))
            except OSError:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    result = small.search(["dummy", "ridge"], spaces={"ridge": small.RIDGE})
    os.write(theirs, b"\x04")
    reader.join(5)
    os.close(ours)
    os.close(theirs)
    text = b"".join(drawn).decode()
    assert "searching" in text and "/8 [" in text
    score = min(t["score"] for f in range(4) for t in result["ridge", f].trials)
    assert f"best so far ridge, RMSE of the logarithm {score:.4f}" in text


# What cannot be


def test_a_setting_that_cannot_be_fitted_is_reported_and_the_search_goes_on():
    spaces = {"random_forest": {"max_features": Space(choices=[-1.0, 0.5])}}
    result = small.search(["dummy", "random_forest"], spaces=spaces, folds=2)
    trials = result["random_forest", 0].trials
    assert [t["state"] for t in trials] == ["failed", "complete"]
    assert result["random_forest", 0].params == {"max_features": 0.5}


def test_a_candidate_that_cannot_be_fitted_is_reported_and_skipped():
    spaces = {"random_forest": {"max_features": Space(choices=[-1.0])}}
    names, case = ["dummy", "random_forest", "linear"], small.CASES["regression"]
    result = small.search(names, spaces=spaces, folds=2)
    assert training.complete(result) == ["dummy", "linear"]
    (why,) = training.failures(result).values()
    assert why.startswith("InvalidParameterError: The 'max_features' parameter")
    rows, settings = small.table("regression"), small.SETTINGS.model_copy(update={"folds": 2})
    oof = training.out_of_fold(result, rows, case, settings)
    assert list(oof.columns) == ["fold", "dummy", "linear"]
    assert list(training.final_models(result, rows, case, settings)) == ["dummy", "linear"]


def test_it_is_fatal_only_if_no_candidate_can_be_fitted():
    spaces = {"random_forest": {"max_features": Space(choices=[-1.0])}}
    none = "no candidate could be fitted; "
    sentence = refusal(["dummy", "random_forest"], spaces=spaces)
    assert sentence.startswith(f"{none}random_forest says: InvalidParameterError: The 'max_feat")
    assert refusal(["dummy"]) == none + "dummy says: it is the only candidate"


def test_a_candidate_that_predicts_no_finite_number_is_skipped():
    # One row of a size that no other has; its logarithm is extended in a straight line.
    rows = small.table("regression").copy()
    rows.loc[7, "size"] = 1e7
    result = small.search(["dummy", "decision_tree", "linear"], rows=rows)
    assert training.failures(result) == {
        "linear": "ValueError: it predicts what is not a finite number"
    }


KNOWN = ", ".join(small.SHELVES["regression"])


@pytest.mark.parametrize(
    ("names", "spaces", "sentence"),
    [
        (["rigde"], {}, "no model 'rigde' for a regression; did you mean ridge?"),
        (["x"], {}, f"no model 'x' for a regression; the shelf has {KNOWN}"),
        (["dummy"], {"logistc": {}}, f"no model 'logistc' for a regression; the shelf has {KNOWN}"),
        (["dummy"], {"rigde": {}}, "no model 'rigde' for a regression; did you mean ridge?"),
        (
            ["ridge"],
            {"ridge": {"alhpa": Space(low=1, high=2)}},
            "ridge has no parameter 'alhpa', which search_spaces names; did you mean alpha?",
        ),
        (
            ["ridge"],
            {"ridge": {"zzz": Space(choices=["a"])}},
            "ridge has no parameter 'zzz', which search_spaces names",
        ),
        (
            ["xgboost"],
            {"xgboost": {"n_estimators": Space(low=10, high=200, integer=True)}},
            "search_spaces names n_estimators of xgboost, which early stopping finds; leave it out",
        ),
        (
            ["random_forest"],
            {"random_forest": {"n_clusters": Space(choices=[0, 5])}},
            "search_spaces names n_clusters of random_forest, which makes no use of clusters; "
            "leave it out",
        ),
    ],
)
def test_a_typo_in_a_model_or_a_parameter_is_one_sentence(names, spaces, sentence):
    assert refusal(names, spaces=spaces) == f"params.yaml: {sentence}"


@pytest.mark.parametrize(
    ("feature", "sentence"),
    [
        ("y / 2", "the feature 'mine' reads 'y', which is not to be learned from"),
        (
            "sise * 2",
            "the expression 'sise * 2' names 'sise', which is not a column; did you mean size?",
        ),
        ("kind * 2", "the expression 'kind * 2' names 'kind', which is not a column of numbers"),
    ],
)
def test_a_feature_that_cannot_be_is_one_sentence_before_anything_is_fitted(feature, sentence):
    case = small.CASES["regression"].model_copy(update={"features": {"mine": feature}})
    with pytest.raises(InputError) as caught:
        training.search_all(
            ["dummy"], small.table("regression"), case, {}, small.SETTINGS, Compute()
        )
    assert str(caught.value) == f"params.yaml: {sentence}"


def test_too_few_rows_for_the_folds_are_one_sentence():
    rows = small.table("regression").head(4)
    assert refusal(["dummy", "ridge"], rows=rows) == (
        "training: 4 rows are too few for 3 folds with 3 inner folds; ask for fewer"
    )
    rows = small.table("classification").sort_values("y").tail(80)  # 5 bad ones
    rows = pd.concat([rows[rows["y"] == "good"], rows[rows["y"] == "bad"].head(2)])
    assert refusal(["dummy", "logistic"], "classification", rows=rows) == (
        "training: 2 rows of class 'bad' are too few for 3 folds with 3 inner folds; ask for fewer"
    )


# A model of one's own


SHELF, SETTINGS = "src/truefit/training/shelf.py", "params.yaml"
ADDED = [
    (SHELF, "# To add a model", "from sklearn.linear_model import HuberRegressor"),
    (
        SHELF,
        '    ("regression", "ridge")',
        '    ("regression", "huber"): Candidate(HuberRegressor),',
    ),
    (SETTINGS, "    ridge:", "    huber:\n      alpha: {low: 0.01, high: 10, log: true}"),
]


def test_a_person_adds_a_model_in_a_few_lines(clone):
    assert sum(text.count("\n") + 1 for _, _, text in ADDED) < 10
    for name, place, text in ADDED:
        before = (clone / name).read_text(encoding="utf-8")
        after = before.replace(place, f"{text}\n{place}", 1)
        (clone / name).write_text(after, encoding="utf-8")
    script = """if True:
        import small
        from truefit import params, training
        space = params.load().search_spaces.regression
        found = small.search(["dummy", "huber"], spaces=space)
        rows, case = small.table("regression"), small.CASES["regression"]
        oof = training.out_of_fold(found, rows, case, small.SETTINGS)
        board = training.leaderboard(training.fold_scores(oof, rows, case), case)
        print(*board.index, len(found["huber", 0].trials), *found["huber", 0].params)
    """
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=clone,
        env={**os.environ, **PINNED, "PYTHONPATH": f"{clone / 'src'}{os.pathsep}{HERE}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "huber dummy 4 alpha\n", done.stderr


def test_a_model_may_have_fewer_trials_than_the_others():
    spaces = {"ridge": small.RIDGE, "lasso": small.RIDGE}
    found = small.search([*spaces], spaces=spaces, fewer_trials={"lasso": 2})
    tried = {task.model: len(result.trials) for task, result in found.items()}
    assert tried == {"ridge": 4, "lasso": 2}
    with pytest.raises(InputError, match="fewer_trials names laso, which is no candidate"):
        small.search(["ridge"], fewer_trials={"laso": 2})


def test_a_worker_imports_nothing_that_draws():
    script = "import sys, truefit.training.search; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "IPython", "papermill"} & set(run.stdout.split())
