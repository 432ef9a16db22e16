"""Candidates learn from raw columns, from nothing but the rows they are fitted on."""

import cases
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import KFold, StratifiedKFold

from truefit import data_prep, training
from truefit.metrics import HIGHER_IS_BETTER, predictions, scores
from truefit.params import Case
from truefit.project import InputError
from truefit.training import FillText, MergeRare, RoundToFloat32

FOLDS = 3
each_case = pytest.mark.parametrize("name", cases.NAMES)
each_model = pytest.mark.parametrize(("name", "model"), cases.MODELS)


def crossed(name, *, seed=30, models=None):
    case = cases.PARAMS.cases[name]
    models = models or getattr(cases.PARAMS.training, case.task)
    built = {m: cases.built(name, m) for m in models}
    return training.cross_validate(built, cases.train(name), case, folds=FOLDS, seed=seed)


@pytest.fixture(scope="module")
def results():
    return {name: crossed(name) for name in cases.NAMES}


# The candidates


@each_model
def test_a_candidate_answers_live_rows_in_the_targets_own_unit(name, model):
    case = cases.PARAMS.cases[name]
    p = predictions(cases.fitted(name, model), cases.live(name), case)
    assert p.shape == (len(cases.live(name)),) and np.isfinite(p).all()
    y = cases.train(name)[case.target]
    if case.task == "classification":
        assert ((p >= 0) & (p <= 1)).all()
    else:
        assert 0.5 * y.min() < np.median(p) < y.max()


@each_model
def test_a_candidate_answers_empty_cells_and_categories_never_seen(name, model):
    case = cases.PARAMS.cases[name]
    rows = cases.held_out(name).head(20).drop(columns=case.target)
    texts = list(rows.columns[rows.dtypes == "str"])
    fitted = cases.fitted(name, model)
    unseen, empty, blank = (rows.assign(**dict.fromkeys(texts, v)) for v in ("?!", None, ""))
    nothing = pd.DataFrame(np.nan, rows.index, rows.columns).astype(dict.fromkeys(texts, "str"))
    for odd in (unseen, empty, blank, nothing):
        assert np.isfinite(predictions(fitted, odd, case)).all()
    assert (predictions(fitted, empty, case) == predictions(fitted, blank, case)).all()
    assert len(set(predictions(fitted, nothing, case))) == 1


@each_model
def test_rows_held_out_change_no_prediction(name, model):
    case, train = cases.PARAMS.cases[name], cases.train(name)
    here, there = train.iloc[::2], train.iloc[1::2]
    changed = there.copy()
    for column, kind in data_prep.column_roles(train, case)["role"].items():
        if kind == "number":
            changed[column] = -1000.0 - there[column]
        elif kind in {"ordered", "category"}:
            changed[column] = there[column].map("new {}".format, na_action="ignore")
    found = []
    for held_out in (there, changed):
        # Only the columns' roles may be read from these rows.
        table = pd.concat([here, held_out])
        built = training.build(model, table, case, min_category_rows=10, seed=1)
        built.fit(here.drop(columns=case.target), here[case.target])
        found.append(predictions(built, here, case))
    assert (found[0] == found[1]).all()


def test_a_model_that_is_not_on_the_shelf_is_an_error_that_lists_the_shelf():
    with pytest.raises(InputError, match="'logistic' for a regression.*dummy, linear, ridge"):
        cases.built("ames", "logistic")
    with pytest.raises(InputError, match="'forest' for a classification.*dummy, logistic, hist"):
        cases.built("credit", "forest")


@each_model
def test_the_same_fit_gives_the_same_file_in_another_process(name, model):
    assert cases.files(name, model)[0] == cases.files_of_another_process()[f"{name} {model}"][0]


# The comparison


@pytest.mark.parametrize("name", ["credit", "computers"])
def test_a_fold_is_scored_by_a_model_fitted_on_the_others(name, results):
    case, train = cases.PARAMS.cases[name], cases.train(name)
    X, y = train.drop(columns=case.target), train[case.target]
    kind = StratifiedKFold if case.task == "classification" else KFold
    for model in results[name]["model"].unique()[:2]:
        mine = results[name][results[name]["model"] == model].drop(columns=["model", "fold"])
        for fold, (fit, held) in enumerate(kind(FOLDS, shuffle=True, random_state=30).split(X, y)):
            fitted = clone(cases.built(name, model)).fit(X.iloc[fit], y.iloc[fit])
            found = scores(y.iloc[held], predictions(fitted, X.iloc[held], case), case)
            assert mine.iloc[fold].to_dict() == pytest.approx(found, rel=1e-12)


def test_the_seed_reproduces_a_comparison_and_another_deals_other_folds(results):
    models = ["dummy", "logistic"]
    expected = results["credit"][results["credit"]["model"].isin(models)].reset_index(drop=True)
    pd.testing.assert_frame_equal(crossed("credit", models=models), expected, check_exact=True)
    assert not crossed("credit", models=models, seed=31).equals(expected)


@each_case
def test_all_candidates_meet_the_same_folds(name, results):
    # A model beside itself would score differently on other folds.
    model = cases.built(name, "dummy")
    found = training.cross_validate(
        {"a": model, "b": model}, cases.train(name), cases.PARAMS.cases[name], folds=FOLDS, seed=30
    )
    a, b = (found[found["model"] == m].drop(columns="model").reset_index(drop=True) for m in "ab")
    pd.testing.assert_frame_equal(a, b, check_exact=True)
    assert list(a["fold"]) == [1, 2, 3]
    dummy = results[name][results[name]["model"] == "dummy"].drop(columns="model")
    pd.testing.assert_frame_equal(a, dummy.reset_index(drop=True), check_exact=True)


@each_case
def test_every_candidate_has_learned_more_than_the_dummy(name, results):
    case = cases.PARAMS.cases[name]
    board = training.leaderboard(results[name], case)
    assert board.index[-1] == "dummy"
    metric = training.main_metric(case)
    sign = 1 if metric in HIGHER_IS_BETTER else -1
    by_fold = results[name].pivot(index="fold", columns="model", values=metric) * sign
    for model in board.index.drop("dummy"):
        assert (by_fold[model] > by_fold["dummy"]).all()


@pytest.mark.parametrize(
    ("case", "metric", "order"),
    [
        (Case(table="t", target="y", task="regression"), "rmse", ["b", "c", "a"]),
        (Case(table="t", target="y", task="regression", log_target=True), "rmse_log", list("bca")),
        (
            Case(table="t", target="y", task="classification", positive="p"),
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


def test_linear_effects_point_towards_what_is_predicted():
    rng = np.random.default_rng(0)
    homes = rng.choice(["own", "rent"], 300)
    rows = pd.DataFrame({"home": homes, "home_rent": rng.normal(size=300)})
    chance = 1 / (1 + np.exp(-3 * rows["home_rent"]))
    rows["y"] = np.where(rng.random(300) < chance, "bad", "good")
    for positive, sign in (("bad", 1), ("good", -1)):
        case = Case(table="t", target="y", task="classification", positive=positive)
        model = training.build("logistic", rows, case, min_category_rows=10, seed=0)
        found = training.linear_effects(model.fit(rows.drop(columns="y"), rows["y"]), case)
        assert found.index[0] == "home_rent"  # the number; the category has an effect of that name
        assert np.sign(found["weight"].iloc[0]) == sign
        assert found["factor"].iloc[0] == pytest.approx(np.exp(found["weight"].iloc[0]))
    trees = cases.fitted("credit", "hist_gradient_boosting")
    assert training.linear_effects(trees, cases.PARAMS.cases["credit"]).empty


# The preparation


def test_ordered_categories_become_their_ranks_in_the_blocks_order():
    case, train = cases.PARAMS.cases["ames"], cases.train("ames")
    model = cases.fitted("ames", "hist_gradient_boosting")
    columns = training.split_columns(train, case)["ordered"]
    step = training.unwrap(model)[0].named_transformers_["ordered"]
    ranks = step.transform(train[columns])
    for j, column in enumerate(columns):
        order = {value: rank for rank, value in enumerate(case.order_of(column))}
        expected = train[column].map(order).to_numpy(dtype=float)
        assert np.array_equal(ranks[:, j], expected, equal_nan=True), column
    unknown = pd.DataFrame([["Superb"] * len(columns), [None] * len(columns)], columns=columns)
    absent = [0.0 if c in case.absent else np.nan for c in columns]
    assert np.isnan(step.transform(unknown)[0]).all()
    assert np.array_equal(step.transform(unknown)[1], absent, equal_nan=True)


@pytest.mark.parametrize("for_trees", [True, False])
def test_numbers_are_scaled_for_linear_models_and_left_alone_for_trees(for_trees):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"y": 1.0, "a": 1.7e9 + rng.normal(size=200), "b": rng.normal(size=200)})
    rows.loc[:50, "b"] = np.nan
    case = Case(table="t", target="y", task="regression")
    step = training.prepare(rows, case, for_trees=for_trees, min_category_rows=1)
    found = step.fit_transform(rows)
    if for_trees:
        assert np.array_equal(found, rows[["a", "b"]].astype("float32"), equal_nan=True)
    else:
        assert found.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
        assert found[:, 1].std() == pytest.approx(1)
        assert len(set(found[:51, 1])) == 1


def test_a_number_known_in_few_rows_can_be_cross_validated(recwarn):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"y": rng.normal(size=60), "x": np.nan})
    rows.loc[:1, "x"] = [1.0, 2.0]
    case = Case(table="t", target="y", task="regression")
    models = {"ridge": training.build("ridge", rows, case, min_category_rows=1, seed=0)}
    # Some fold leaves the known rows out, and its column is empty.
    found = training.cross_validate(models, rows, case, folds=2, seed=1)
    assert found["rmse"].notna().all() and not recwarn.list


FLOATS = st.floats(-1e38, 1e38) | st.just(float("nan")) | st.integers(-(2**40), 2**40).map(float)


@given(st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=20))
def test_round_to_float32_gives_the_nearest_float32(rows):
    X = np.array(rows)
    found = RoundToFloat32().fit_transform(X)
    assert found.dtype == np.float64
    assert np.array_equal(found, X.astype(np.float32), equal_nan=True)
    assert np.array_equal(RoundToFloat32().fit_transform(found), found, equal_nan=True)


TEXTS = st.sampled_from(["a", "b", "ü", "", None, "missing"])


@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=20))
def test_fill_text_fills_what_is_empty_and_nothing_else(rows):
    X = pd.DataFrame(rows, columns=["a", "b"], dtype="str")
    found = FillText(["missing", "absent"]).fit_transform(X)
    for row, filled in zip(rows, found, strict=True):
        assert list(filled) == [v or f for v, f in zip(row, ("missing", "absent"), strict=True)]


@given(
    st.lists(st.sampled_from("abcdé"), min_size=1, max_size=40),
    st.lists(st.sampled_from("abcdéxyz"), min_size=1, max_size=20),
    st.integers(1, 6),
)
def test_merge_rare_keeps_what_training_saw_often_enough(seen, met, min_rows):
    step = MergeRare(min_rows).fit(np.array(seen, dtype=object)[:, None])
    found = step.transform(np.array(met, dtype=object)[:, None]).ravel()
    assert list(found) == [v if seen.count(v) >= min_rows else "rare" for v in met]


@pytest.mark.parametrize("step", [RoundToFloat32(), FillText(["m", "a"]), MergeRare(2)])
def test_a_step_follows_scikit_learns_conventions(step):
    X = pd.DataFrame({"a": ["1", "2", "2"], "b": ["3", "4", "4"]}, dtype=object)
    if isinstance(step, RoundToFloat32):
        X = X.astype(float)
    copy = clone(step)
    assert copy is not step and copy.get_params() == step.get_params()
    assert copy.set_params(**step.get_params()) is copy
    with pytest.raises(NotFittedError):
        copy.transform(X)
    assert copy.fit(X) is copy
    assert copy.transform(X).shape == X.shape
    assert list(copy.get_feature_names_out()) == ["a", "b"] and copy.n_features_in_ == 2
    if not isinstance(step, FillText):
        with pytest.raises(ValueError, match="feature"):
            copy.transform(X[["a"]])
