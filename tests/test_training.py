"""Candidates learn from raw columns, from nothing but the rows they are fitted on."""

from functools import cache

import numpy as np
import pandas as pd
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression

from truefit import data_prep, training
from truefit.metrics import predictions, scores
from truefit.project import InputError
from truefit.task import BinaryClassification, Regression
from truefit.training import Found, Task

each_model = pytest.mark.parametrize(("task", "model"), small.MODELS)
CLUSTERED = {"n_clusters": 4}  # where the preparation makes use of them


def built(task, model, rows=None):
    """A candidate as it is after a search that liked clusters, not fitted."""
    own = CLUSTERED if training.SHELF[task, model].preparation == "scaled" else {}
    rows = small.table(task) if rows is None else rows
    return training.built(model, rows, small.CASES[task], own, small.SETTINGS)


@cache
def fitted(task, model):
    rows = small.table(task)
    return built(task, model).fit(rows.drop(columns="y"), rows["y"])


# The candidates


@each_model
def test_a_candidate_answers_other_rows_in_the_targets_own_unit(task, model):
    rows = small.table(task, 400).iloc[150:].drop(columns="y")
    p = predictions(fitted(task, model), rows, small.CASES[task])
    assert p.shape == (250,) and np.isfinite(p).all()
    y = small.table(task)["y"]
    if task == "classification":
        assert ((p >= 0) & (p <= 1)).all()
    else:
        assert 0.5 * y.min() < np.median(p) < y.max()


@each_model
def test_a_candidate_answers_empty_cells_and_categories_never_seen(task, model):
    case, rows = small.CASES[task], small.table(task).head(20).drop(columns="y")
    texts, found = ["grade", "kind"], fitted(task, model)
    unseen, empty, blank = (rows.assign(**dict.fromkeys(texts, v)) for v in ("?!", None, ""))
    nothing = pd.DataFrame(np.nan, rows.index, rows.columns).astype(dict.fromkeys(texts, "str"))
    for odd in (unseen, empty, blank, nothing):
        assert np.isfinite(predictions(found, odd, case)).all()
    assert (predictions(found, empty, case) == predictions(found, blank, case)).all()
    assert len(set(predictions(found, nothing, case))) == 1


@each_model
def test_rows_held_out_change_no_prediction(task, model):
    case, rows = small.CASES[task], small.table(task)
    here, there = rows.iloc[::2], rows.iloc[1::2]
    changed = there.copy()
    for column, kind in data_prep.column_roles(rows, case)["role"].items():
        if kind == "number":
            changed[column] = -1000.0 - there[column]
        elif kind in {"ordered", "category"}:
            changed[column] = there[column].map("new {}".format, na_action="ignore")
    found = []
    for held_out in (there, changed):
        # Only the columns' roles may be read from these rows.
        made = built(task, model, pd.concat([here, held_out]))
        made.fit(here.drop(columns="y"), here["y"])
        found.append(predictions(made, here, case))
    assert (found[0] == found[1]).all()


def test_a_model_that_is_not_on_the_shelf_is_an_error_that_lists_the_shelf():
    for task, name in (("regression", "logistic"), ("classification", "linear")):
        with pytest.raises(InputError) as caught:
            built_by_name(task, name)
        listed = ", ".join(small.SHELVES[task])
        assert str(caught.value) == (
            f"params.yaml: no model {name!r} for a {task}; the shelf has {listed}"
        )


def built_by_name(task, name):
    return training.built(name, small.table(task), small.CASES[task], {}, small.SETTINGS)


def test_plain_least_squares_gives_textbook_predictions():
    rng = np.random.default_rng(1)
    rows = pd.DataFrame(rng.normal(size=(60, 4)) * [1, 1e3, 1e-3, 5], columns=list("abcd"))
    rows["b"] = np.exp(rows["b"] / 1e3)  # with a long tail, which a textbook does not log
    rows["y"] = rows.to_numpy() @ [2, 3, 500, 0.1] + rng.normal(size=60)
    case, X = Regression(table="t", target="y"), rows.drop(columns="y")
    made = training.build("linear", rows, case, min_category_rows=1, seed=0).fit(X, rows["y"])
    # Centred, because the normal equations of the raw columns are ill-conditioned.
    Z = (X - X.mean()) / X.std()
    textbook = LinearRegression().fit(Z, rows["y"])
    assert np.abs(made.predict(X) / textbook.predict(Z) - 1).max() < 1e-9
    assert made.score(X, rows["y"]) == pytest.approx(textbook.score(Z, rows["y"]), abs=1e-9)


@pytest.mark.parametrize("model", ["svm", "mlp", "lasso", "elastic_net", "hist_gradient_boosting"])
def test_a_target_in_another_unit_gives_the_same_predictions_in_that_unit(model):
    case = small.CASES["regression"].model_copy(update={"log_target": False})
    rows = small.table("regression")
    found = []
    for unit in (1, 1000):
        changed = rows.assign(y=rows["y"] * unit)
        made = training.built(model, changed, case, {}, small.SETTINGS)
        made.fit(changed.drop(columns="y"), changed["y"])
        found.append(made.predict(rows.drop(columns="y")) / unit)
        assert np.corrcoef(found[-1], rows["y"])[0, 1] > 0.6
    assert np.abs(found[1] / found[0] - 1).max() < 1e-3


# The comparison


NAMES = ["dummy", "linear", "ridge", "decision_tree", "k_nearest_neighbors"]
CLASSES = ["dummy", "logistic", "decision_tree"]


@pytest.fixture(scope="module")
def results():
    return {
        task: small.search(names, task)
        for task, names in (("regression", NAMES), ("classification", CLASSES))
    }


@pytest.mark.parametrize("task", small.CASES)
def test_every_row_is_predicted_out_of_fold_and_scored_with_its_fold(task, results):
    rows, case = small.table(task), small.CASES[task]
    oof = training.out_of_fold(results[task], rows, case, small.SETTINGS)
    assert oof.index.equals(rows.index) and oof.notna().all(axis=None)
    assert oof["fold"].value_counts().to_dict() == {1: 50, 2: 50, 3: 50}
    table = training.fold_scores(oof, rows, case).set_index(["model", "fold"])
    assert len(table) == 3 * len(oof.columns.drop("fold"))
    for (model, fold), row in table.iterrows():
        part = oof["fold"] == fold
        found = scores(rows["y"][part], oof.loc[part, model].to_numpy(), case)
        assert row.to_dict() == pytest.approx(found, rel=1e-12)
    board = training.leaderboard(table.reset_index(), case)
    assert board.index[-1] == "dummy"
    lead = training.lead_by_fold(table.reset_index(), board, case)
    assert (lead.loc["dummy"] > 0).all() and list(lead.index) == list(board.index[1:])


@pytest.mark.parametrize("task", small.CASES)
def test_blended_predictions_are_the_weighted_mean_on_the_scale_of_learning(task, results):
    rows, case, found = small.table(task), small.CASES[task], results[task]
    there = (np.log, np.exp) if task == "regression" else (np.asarray, np.asarray)
    oof = training.out_of_fold(found, rows, case, small.SETTINGS)
    for fold, part in oof.groupby("fold"):
        weights = training.blend_weights(found, rows, case, small.SETTINGS, fold)
        assert_weights(weights)
        if weights:
            mean = there[1](sum(w * there[0](part[n]) for n, w in weights.items()))
            assert part["blend"].to_numpy() == pytest.approx(np.asarray(mean), rel=1e-9)
        else:  # one candidate outweighs the others
            assert any((part["blend"] == part[n]).all() for n in part.columns.drop("blend"))
    weights = training.blend_weights(found, rows, case, small.SETTINGS)
    assert_weights(weights)
    assert len(weights) > 1
    X = rows.drop(columns="y")
    models = training.final_models(found, rows, case, small.SETTINGS)
    p = {n: predictions(models[n].fit(X, rows["y"]), X, case) for n in [*weights, "blend"]}
    mean = there[1](sum(w * there[0](p[n]) for n, w in weights.items()))
    assert p["blend"] == pytest.approx(mean, rel=1e-9)


def assert_weights(weights):
    assert not weights or sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert all(w >= 0.05 for w in weights.values())
    assert "dummy" not in weights and len(weights) <= small.SETTINGS.blend


def findings(inner, rows):
    """Findings in which only the inner predictions matter."""
    outer = training.search.deal(rows["y"], CASE, folds=3, seed=small.SETTINGS.seed)
    table = {}
    for fold in range(4):
        fit, held = outer[fold - 1] if fold else (np.arange(len(rows)), [])
        for name, values in inner.items():
            table[Task(name, fold)] = Found({}, [], values[fit], values[held])
    return table


CASE = Regression(table="t", target="y")
MEMBERS = ["ridge", "lasso", "elastic_net", "svm", "mlp"]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.integers(0, 99), st.integers(2, 4))
def test_weights_are_found_again_add_up_and_leave_small_ones_out(shares, seed, most):
    rng = np.random.default_rng(seed)
    parts = {m: 100 + 3 * rng.normal(size=60) for m in MEMBERS[: len(shares)]}
    total = sum(shares) or 1
    real = {m: s / total for m, s in zip(parts, shares, strict=True)}
    rows = pd.DataFrame({"y": sum(w * parts[m] for m, w in real.items())})
    found = findings(parts | {"dummy": np.full(60, 100.0), "linear": rows["y"].to_numpy()}, rows)
    chosen = small.SETTINGS.model_copy(update={"blend": most})
    weights = training.blend_weights(found, rows, CASE, chosen)
    assert len(weights) == 0 or 2 <= len(weights) <= most
    assert sum(weights.values()) == pytest.approx(1 if weights else 0, abs=1e-12)
    assert all(w >= 0.05 - 1e-3 for w in weights.values())
    large = {m: w for m, w in real.items() if w > 1e-3}
    if 2 <= len(large) <= most and min(large.values()) > 0.06:
        assert weights == pytest.approx(large, abs=5e-3)
    if max(real.values()) > 0.97:
        assert weights == {}


def test_held_rows_play_no_part_in_the_weights_of_their_fold():
    rng = np.random.default_rng(0)
    parts = {m: 100 + rng.normal(size=60) for m in ("lasso", "ridge", "svm")}
    rows = pd.DataFrame({"y": 0.5 * parts["lasso"] + 0.5 * parts["svm"] + rng.normal(size=60)})
    found = findings(parts, rows)
    before = [training.blend_weights(found, rows, CASE, small.SETTINGS, f) for f in range(4)]
    _, held = training.search.deal(rows["y"], CASE, folds=3, seed=small.SETTINGS.seed)[0]
    changed = rows.copy()
    changed.loc[held, "y"] = parts["ridge"][held]
    for task in found:
        if task.fold == 1:
            found[task] = found[task]._replace(held=found[task].held * 7)
    after = [training.blend_weights(found, changed, CASE, small.SETTINGS, f) for f in range(4)]
    assert before[1] == after[1] and before[0] != after[0]


@pytest.mark.parametrize("most", [0, 1])
def test_no_blend_of_fewer_than_two(most, results):
    rows, case = small.table("regression"), small.CASES["regression"]
    chosen = small.SETTINGS.model_copy(update={"blend": most})
    found = results["regression"]
    assert training.blend_weights(found, rows, case, chosen) == {}
    assert "blend" not in training.out_of_fold(found, rows, case, chosen)
    assert "blend" not in training.final_models(found, rows, case, chosen)


@pytest.mark.parametrize(
    ("case", "metric", "order"),
    [
        (Regression(table="t", target="y"), "rmse", ["b", "c", "a"]),
        (Regression(table="t", target="y", log_target=True), "rmse_log", list("bca")),
        (
            BinaryClassification(table="t", target="y", positive="p"),
            "roc_auc",
            ["a", "c", "b"],
        ),
    ],
)
def test_the_leaderboard_has_the_best_mean_first(case, metric, order):
    values = {"a": (5.0, 7.0), "b": (1.0, 2.0), "c": (0.0, 9.0)}
    table = [{"model": m, "fold": i, metric: v[i]} for m, v in values.items() for i in (0, 1)]
    board = training.leaderboard(pd.DataFrame(table), case)
    assert list(board.index) == order and training.best(board) == order[0]
    assert board.loc["a", metric] == 6 and board.loc["a", f"{metric}_sd"] == pytest.approx(2**0.5)


def one_metric(case, **values):
    """Scores of the main metric by fold, made by hand, and their leaderboard."""
    metric = case.main_metric
    table = [{"model": m, "fold": i, metric: x} for m, v in values.items() for i, x in enumerate(v)]
    table = pd.DataFrame(table)
    return table, training.leaderboard(table, case)


LOSS = Regression(table="t", target="y")
GAIN = BinaryClassification(table="t", target="y", positive="p")


@pytest.mark.parametrize(
    ("case", "scores", "simplest", "best"),
    [
        # The best has mean 2 and standard deviation 2: a standard error of 1 on four folds.
        (LOSS, {"a": [2.9] * 4, "b": [2.5] * 4, "c": [1, 1, 1, 5]}, "a", "c"),
        (LOSS, {"a": [3.1] * 4, "b": [2.5] * 4, "c": [1, 1, 1, 5]}, "b", "c"),
        (LOSS, {"a": [3.1] * 4, "b": [3.2] * 4, "c": [1, 1, 1, 5]}, "c", "c"),
        (LOSS, {"a": [1.0] * 4, "b": [1.0] * 4, "c": [9] * 4}, "a", "a"),
        (GAIN, {"a": [-2.9] * 4, "b": [-2.5] * 4, "c": [-1, -1, -1, -5]}, "a", "c"),
        (GAIN, {"a": [-3.1] * 4, "b": [-2.5] * 4, "c": [-1, -1, -1, -5]}, "b", "c"),
        # What is not in the order, such as a blend, is the least simple.
        (LOSS, {"blend": [1.5, 1.5, 1.5, 1.6], "c": [1, 1, 1, 5], "b": [1.54] * 4}, "b", "blend"),
    ],
)
def test_the_simplest_within_one_standard_error(case, scores, simplest, best):
    table, board = one_metric(case, **scores)
    order = {"regression": ["a", "b", "c"], "classification": ["a", "b", "c"]}
    assert training.one_standard_error(table, board, case, order[case.task]) == simplest
    for choose, expected in (("simplest", simplest), ("best", best)):
        chosen = small.SETTINGS.model_copy(update={"choose": choose, **order})
        assert training.winner_of(table, board, case, chosen) == expected


def test_linear_effects_point_towards_what_is_predicted():
    rng = np.random.default_rng(0)
    homes = rng.choice(["own", "rent"], 300)
    rows = pd.DataFrame({"home": homes, "home_rent": rng.normal(size=300)})
    chance = 1 / (1 + np.exp(-3 * rows["home_rent"]))
    rows["y"] = np.where(rng.random(300) < chance, "bad", "good")
    for positive, sign in (("bad", 1), ("good", -1)):
        case = BinaryClassification(table="t", target="y", positive=positive)
        model = training.build("logistic", rows, case, min_category_rows=10, seed=0)
        found = training.linear_effects(model.fit(rows.drop(columns="y"), rows["y"]), case)
        assert found.index[0] == "home_rent"  # the number; the category has an effect of that name
        assert np.sign(found["weight"].iloc[0]) == sign
        assert found["factor"].iloc[0] == pytest.approx(np.exp(found["weight"].iloc[0]))
    trees = fitted("classification", "hist_gradient_boosting")
    assert training.linear_effects(trees, small.CASES["classification"]).empty


def test_only_a_linear_model_has_linear_effects():
    rows, case = small.table("regression"), small.CASES["regression"]
    found = training.linear_effects(fitted("regression", "ridge"), case)
    assert found.index[0] in {"size", "product", "gaps"} and (found["factor"] > 0).all()
    assert found["step"].notna().all() and found["weight"].notna().all()
    voted = training.build_blend(
        {"linear": 0.5, "ridge": 0.5},
        {Task(n, 0): Found({}, [], None, None) for n in ("linear", "ridge")},
        rows,
        case,
        small.SETTINGS,
    ).fit(rows.drop(columns="y"), rows["y"])
    for other in (fitted("regression", "svm"), fitted("regression", "mlp"), voted):
        assert training.linear_effects(other, case).empty
