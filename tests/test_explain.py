"""Explanations add up, agree with the definition and the libraries, and read as sentences."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from lightgbm import LGBMClassifier, LGBMRegressor
from shapley_reference import exact_shapley, tree_contributions
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.inspection import partial_dependence as sklearn_partial_dependence
from sklearn.inspection import permutation_importance as sklearn_importance
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from traitlets.config import Config
from xgboost import XGBRegressor

from truefit.case import Order
from truefit.evaluation import explain as ex
from truefit.metrics import predictions
from truefit.task import BinaryClassification, Regression

NUMBER = Regression(table="t.csv", target="y", units={"y": "US dollars", "a": "square feet"})
LOGGED = NUMBER.model_copy(update={"log_target": True})
CLASS = BinaryClassification(table="t.csv", target="y", positive="bad")
OTHER = CLASS.model_copy(update={"positive": "good"})
CASES = [NUMBER, LOGGED, CLASS, OTHER]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        yield InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
        InteractiveShell.clear_instance()


@pytest.fixture
def shown(shell):
    """What reaches the notebook, one output for each figure that is shown."""
    with capture_output() as captured:
        yield captured


def said(shown):
    """The texts of the figures shown, for those who cannot see them."""
    return [output.metadata["image/png"]["alt"] for output in shown.outputs]


class Formula(RegressorMixin, BaseEstimator):
    """A model that is a known function of its columns."""

    def __init__(self, function=None):
        self.function = function

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.asarray(self.function(X), dtype=float)


def table(case, n=200, seed=0):
    """Numbers and texts with gaps, a constant column, an empty one, and a target."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "a": rng.normal(10, 2, size=n),
            "b": rng.integers(0, 5, size=n),
            "home": rng.choice(["own", "rent", "other"], size=n),
            "gap": np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n)),
            "flat": 3,
            "yes": rng.random(n) < 0.5,
            "empty": np.full(n, np.nan),
        }
    )
    frame["text"] = pd.Series(rng.choice(["x", None], size=n), dtype=object)
    signal = frame["a"] - 10 + frame["b"] * (frame["home"] == "own") + frame["gap"].fillna(0)
    noisy = signal + rng.normal(size=n)
    if case.task == "classification":
        y = pd.Series(np.where(noisy > 1, "bad", "good"))
    else:
        y = np.exp(noisy / 5) if case.log_target else noisy
    return frame.assign(y=y)


def preparation(*, trees=False):
    gaps = [] if trees else [SimpleImputer(), StandardScaler()]
    texts = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="?", missing_values=pd.NA),
        OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    )
    numbers = make_pipeline(*gaps) if gaps else "passthrough"
    return ColumnTransformer(
        [("numbers", numbers, ["a", "b", "gap", "flat", "yes"]), ("texts", texts, ["home"])]
    )


def fit(case, train, estimator, *, trees=False):
    pipeline = make_pipeline(preparation(trees=trees), estimator)
    if case.log_target:
        pipeline = TransformedTargetRegressor(pipeline, func=np.log, inverse_func=np.exp)
    return pipeline.fit(train.drop(columns="y"), train["y"])


def boosted(case, train):
    kind = (
        HistGradientBoostingClassifier
        if case.task == "classification"
        else HistGradientBoostingRegressor
    )
    return fit(case, train, kind(max_iter=30, random_state=0), trees=True)


def additive(case, train):
    return fit(
        case, train, LogisticRegression() if case.task == "classification" else LinearRegression()
    )


# ------------------------------------------------------------------------------------ the scale


@given(st.floats(1e-5, 1 - 1e-5))
def test_the_scale_has_a_way_back(value):
    for case in CASES:
        assert case.scale.back(ex.on_scale(value, case)) == pytest.approx(value)


def test_the_scale_is_finite_at_the_ends():
    assert np.isfinite(ex.on_scale(np.array([0.0, 1.0]), CLASS)).all()
    assert np.isfinite(ex.on_scale(np.array([0.0, np.inf]), LOGGED)).all()


@given(st.floats(1e-250, 1e250), st.floats(1, 1e30))
def test_round_values_are_few_and_inside(low, ratio):
    high = low * ratio
    found = ex.round_values(low, high)
    assert len(found) <= 12 and all(low <= v <= high for v in found)
    assert len(found) >= 2 or ratio < 1.5 or high < 1.5 * low


def test_an_axis_of_prices_has_round_prices():
    assert ex.round_values(30_000, 650_000) == [50_000, 100_000, 200_000, 500_000]
    assert ex.round_values(0, 5) == ex.round_values(1, np.inf) == []


def test_the_columns_that_have_a_say():
    case = NUMBER.model_copy(
        update={
            "id": "id",
            "time": "sold",
            "drop_columns": {"ads": "because", "kept": "used"},
            "features": {"age": "sold - built", "twice": "kept * 2"},
        }
    )
    frame = pd.DataFrame(columns=["id", "sold", "built", "ads", "kept", "y"])
    assert ex.feature_columns(frame, case) == ["sold", "built", "kept"]
    assert ex.feature_columns(frame, case.model_copy(update={"features": {}})) == ["built"]


# ----------------------------------------------------------------------------------- importance


@pytest.mark.parametrize("case", CASES, ids=["number", "logged", "class", "other"])
def test_importance_is_about_scikit_learns(case):
    train, test = table(case, 300), table(case, 150, seed=1)
    model = boosted(case, train)
    found = ex.permutation_importance(model, test, case, repeats=16, seed=0)

    def scorer(model, X, y):
        return -ex._error(y, predictions(model, X, case), case)

    X = test.drop(columns="y")
    known = sklearn_importance(model, X, test["y"], scoring=scorer, n_repeats=16, random_state=1)
    expected = pd.DataFrame(
        {"mean": known.importances_mean, "sd": known.importances_std}, index=X.columns
    ).loc[found.index]
    error = 4 * expected["sd"] * math.sqrt(2 / 16) + 1e-12
    assert ((found["importance"] - expected["mean"]).abs() <= error).all()
    assert found["spread"].sum() == pytest.approx(expected["sd"].sum(), rel=0.4)
    assert found["importance"].is_monotonic_decreasing
    assert (found.loc[["flat", "empty", "text"]] == 0).all(axis=None)
    again = ex.permutation_importance(model, test, case, repeats=16, seed=0)
    pd.testing.assert_frame_equal(found, again, check_exact=True)


def test_batches_of_any_size_give_the_same(monkeypatch):
    train = table(NUMBER)
    model = boosted(NUMBER, train)
    whole = ex.permutation_importance(model, train, NUMBER, repeats=2, seed=0)
    monkeypatch.setattr(ex, "AT_ONCE", 50)
    parts = ex.permutation_importance(model, train, NUMBER, repeats=2, seed=0)
    pd.testing.assert_frame_equal(whole, parts)


def test_a_model_that_reads_nothing_needs_nothing():
    train = table(NUMBER)
    model = DummyRegressor().fit(train.drop(columns="y"), train["y"])
    found = ex.permutation_importance(model, train, NUMBER, repeats=1, seed=0)
    assert (found["importance"] == 0).all()
    assert list(found.index) == sorted(found.index)


def test_columns_that_go_together_are_named():
    frame = table(NUMBER)
    frame["double"], frame["other_way"] = 2 * frame["a"] ** 3, -frame["a"]
    found = ex.related_columns(frame, NUMBER, ["a", "b", "home", "flat", "empty"])
    assert found["a"] == {"double": pytest.approx(1), "other_way": pytest.approx(-1)}
    assert found["b"] == found["home"] == found["flat"] == found["empty"] == {}


def test_ranks_are_compared_as_pandas_does():
    frame = table(NUMBER)
    frame["noisy"] = frame["gap"] + 0.3 * frame["a"]
    known = frame["noisy"].corr(frame["gap"], method="spearman")
    found = ex.related_columns(frame, NUMBER, ["noisy"], least=0.7)
    assert found["noisy"] == {"gap": pytest.approx(known)}


# ----------------------------------------------------------------------------------- dependence


def test_dependence_is_scikit_learns():
    train = table(NUMBER)
    model = boosted(NUMBER, train)
    found = ex.partial_dependence(model, train, NUMBER, "a", rows=len(train), seed=0)
    known = sklearn_partial_dependence(
        model,
        train.drop(columns="y"),
        ["a"],
        custom_values={"a": found.grid.to_numpy()},
        kind="both",
        method="brute",
    )
    assert found.mean == pytest.approx(known["average"][0])
    assert found.lines == pytest.approx(known["individual"][0])
    assert found.grid.isin(train["a"]).all() and len(found.grid) == 20


@pytest.mark.parametrize("case", CASES, ids=["number", "logged", "class", "other"])
def test_every_kind_of_column_can_be_followed_and_drawn(case, shown):
    train = table(case)
    model = boosted(case, train)
    found = {
        c: ex.partial_dependence(model, train, case, c, points=5, rows=20, seed=0)
        for c in train.columns.drop("y")
    }
    assert list(found["b"].grid) == [0, 1, 2, 3, 4] and found["b"].grid.dtype == train["b"].dtype
    assert set(found["home"].grid) == {"own", "rent", "other"}
    assert set(found["yes"].grid) == {True, False}
    assert list(found["flat"].grid) == [3] and list(found["text"].grid) == ["x"]
    assert found["empty"].lines.shape == (20, 0)
    assert all(d.lines.shape == (20, len(d.grid)) for d in found.values())
    ex.plot_dependence(list(found.values())[:4], case)
    ex.plot_dependence([found["empty"], found["flat"], found["text"], found["yes"]], case)
    ex.plot_dependence([found["empty"]], case)
    first, second = said(shown)
    assert "a, from" in first and "yes, from" in second


def test_ordered_texts_keep_their_order():
    order = Order(order=["low", "mid", "high"], columns=["q"])
    case = Regression(table="t.csv", target="y", ordinal=[order])
    frame = pd.DataFrame({"q": ["high", "low", "mid", "high"], "y": [3.0, 1.0, 2.0, 3.0]})
    model = Formula(lambda X: X["q"].map({"low": 1, "mid": 2, "high": 3})).fit(None, None)
    found = ex.partial_dependence(model, frame, case, "q", seed=0)
    assert list(found.grid) == ["low", "mid", "high"] and list(found.mean) == [1, 2, 3]


# -------------------------------------------------------------------------------------- Shapley


@pytest.mark.parametrize("case", CASES, ids=["number", "logged", "class", "other"])
@pytest.mark.parametrize("make", [boosted, additive])
def test_contributions_add_up_to_the_prediction(case, make):
    train, rows = table(case), table(case, 5, seed=1).drop(columns="y")
    rows.index = list("vwxyz")
    model = make(case, train)
    found = ex.shapley_values(model, rows, train, case, permutations=20, seed=0)
    expected = ex.on_scale(predictions(model, rows, case), case)
    assert found.base + found.values.sum(axis=1).to_numpy() == pytest.approx(expected, abs=1e-9)
    assert list(found.values.index) == list("vwxyz")
    assert (found.values[["flat", "empty", "text"]] == 0).all(axis=None)
    again = ex.shapley_values(model, rows, train, case, permutations=20, seed=0)
    pd.testing.assert_frame_equal(found.values, again.values, check_exact=True)


def test_the_base_is_the_mean_over_a_small_background():
    train = table(NUMBER)
    model, background = boosted(NUMBER, train), train[:7]
    found = ex.shapley_values(model, train[10:12], background, NUMBER, permutations=15, seed=0)
    assert found.base == pytest.approx(predictions(model, background, NUMBER).mean())


def small(seed, n=12, d=5):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(rng.normal(size=(n, d)), columns=list("abcdefghij")[:d])


def interacting(X):
    # Of three columns at once: walking each order backwards, too, makes pairs exact.
    return X["a"] * X["b"] * X["c"] + np.sin(X["c"]) + np.maximum(X["d"], X["a"]) + 0 * X["e"]


def by_definition(predict, row, background):
    return exact_shapley(lambda X: np.asarray(predict(X), dtype=float), row, background)


def test_sampled_values_converge_to_the_definition():
    background, row = small(0), small(1, 1)
    exact, base = by_definition(interacting, row, background)
    model = Formula(interacting).fit(None, None)
    far = []
    for permutations in (24, 2400):
        found = ex.shapley_values(model, row, background, NUMBER, permutations=permutations, seed=3)
        assert found.base == pytest.approx(base)
        far.append(float((found.values.iloc[0] - exact).abs().max()))
        assert ((found.values.iloc[0] - exact).abs() <= 4 * found.errors.iloc[0] + 1e-9).all()
    assert far[1] < 0.02 and far[1] <= far[0]
    assert found.values["e"].iloc[0] == 0


@given(st.integers(0, 10**6), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_sampled_values_are_exact_where_columns_add_up(seed, d):
    weights = np.random.default_rng(seed).normal(size=d)
    background, row = small(seed, 4, d), small(seed + 1, 1, d)

    def predict(X):
        return (X**2 * weights).sum(axis=1)

    exact, base = by_definition(predict, row, background)
    assert base + exact.sum() == pytest.approx(float(predict(row).iloc[0]))
    sampled = ex.shapley_values(
        Formula(predict).fit(None, None), row, background, NUMBER, permutations=8, seed=seed
    )
    assert sampled.values.iloc[0].tolist() == pytest.approx(exact.tolist(), abs=1e-9)
    direct = weights * (row.iloc[0] ** 2 - (background**2).mean())
    assert exact.tolist() == pytest.approx(direct.tolist(), abs=1e-9)


def test_two_columns_that_do_the_same_get_the_same():
    background, row = small(0, 6, 3).assign(b=lambda f: f["a"]), small(1, 1, 3)
    row["b"] = row["a"]
    exact, _ = by_definition(lambda X: X["a"] * X["b"] * X["c"], row, background)
    assert exact["a"] == pytest.approx(exact["b"], abs=1e-12)
    model = Formula(lambda X: X["a"] * X["b"] * X["c"]).fit(None, None)
    found = ex.shapley_values(model, row, background, NUMBER, permutations=6000, seed=0)
    assert found.values["a"].iloc[0] == pytest.approx(found.values["b"].iloc[0], abs=0.02)


def test_a_product_of_two_is_shared_by_hand():
    background = pd.DataFrame({"a": [0.0], "b": [0.0]})
    exact, base = by_definition(
        lambda X: X["a"] * X["b"] + 5, pd.DataFrame({"a": [2.0], "b": [3.0]}), background
    )
    assert (exact["a"], exact["b"], base) == (3, 3, 5)


# --------------------------------------------------------------------------------- inside models


@pytest.mark.parametrize("case", CASES, ids=["number", "logged", "class", "other"])
def test_coefficients_give_what_sampling_gives(case):
    train, rows = table(case), table(case, 4, seed=1)
    model = additive(case, train)
    exact = ex.exact_linear_shapley(model, rows, train[:20], case)
    sampled = ex.shapley_values(model, rows, train[:20], case, permutations=40, seed=0)
    assert exact.base == pytest.approx(sampled.base)
    pd.testing.assert_frame_equal(exact.values, sampled.values, atol=1e-9)


def test_a_column_made_of_several_is_refused():
    train = table(NUMBER).drop(columns=["gap", "empty"])
    X, y = train.drop(columns="y"), train["y"]

    def product(X):
        return np.asarray(X["a"] * X["b"])[:, None]

    for step in (PCA(2), FunctionTransformer(product, validate=False)):
        model = make_pipeline(make_column_transformer((step, ["a", "b"])), LinearRegression())
        assert ex.exact_linear_shapley(model.fit(X, y), train[:3], train, NUMBER) is None
    alone = make_pipeline(make_column_transformer((StandardScaler(), ["a"])), LinearRegression())
    assert ex.exact_linear_shapley(alone.fit(X, y), train[:3], train, NUMBER) is not None
    for model in (DummyRegressor().fit(X, y), boosted(NUMBER, table(NUMBER))):
        assert ex.exact_linear_shapley(model, table(NUMBER)[:3], train, NUMBER) is None


class Standard(TransformerMixin, BaseEstimator):
    """A target on a scale of its own."""

    def fit(self, y):
        self.mean_, self.sd_ = np.log(y).mean(), np.log(y).std()
        return self

    def transform(self, y):
        return (np.log(y) - self.mean_) / self.sd_

    def inverse_transform(self, z):
        return np.exp(z * self.sd_ + self.mean_)


def test_a_target_on_another_scale_is_brought_back():
    train, rows = table(LOGGED), table(LOGGED, 4, seed=1)
    X, y = train.drop(columns="y"), train["y"]
    pipeline = make_pipeline(preparation(), LinearRegression())
    model = TransformedTargetRegressor(pipeline, transformer=Standard(), check_inverse=False)
    found = ex.exact_linear_shapley(model.fit(X, y), rows, train, LOGGED)
    expected = ex.on_scale(predictions(model, rows, LOGGED), LOGGED)
    assert found.base + found.values.sum(axis=1).to_numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("library", "case"),
    [("xgboost", NUMBER), ("xgboost", LOGGED), *(("lightgbm", c) for c in CASES)],
)
def test_sampling_agrees_with_the_trees_own_contributions(case, library):
    kinds = {
        "xgboost": XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1),
        "lightgbm": (LGBMClassifier if case.task == "classification" else LGBMRegressor)(
            n_estimators=20, num_leaves=7, verbose=-1, n_jobs=1
        ),
    }
    train = table(case, 400)
    model, rows = fit(case, train, kinds[library], trees=True), table(case, 6, seed=1)
    values, base = tree_contributions(model, rows, case)
    assert list(values.columns) == ["a", "b", "gap", "flat", "yes", "home"]
    expected = ex.on_scale(predictions(model, rows, case), case)
    assert base + values.sum(axis=1).to_numpy() == pytest.approx(expected, abs=1e-4)
    # Another question about the columns not known, so about the same answer only.
    sampled = ex.shapley_values(model, rows, train, case, permutations=200, seed=0)
    both = np.corrcoef(values.to_numpy().ravel(), sampled.values[values.columns].to_numpy().ravel())
    assert both[0, 1] > 0.95


# ------------------------------------------------------------------------------------- in words


ROW = pd.Series({"a": 2100.0, "b": 3, "home": "own", "gap": np.nan, "year": 1975.0})


def test_a_price_is_explained_in_percent():
    case = LOGGED.model_copy(
        update={"absent": ["gap"], "units": LOGGED.units | {"year": "year", "b": "grade of 1 to 5"}}
    )
    values = pd.Series({"a": math.log(1.12), "b": -0.05, "gap": -0.02, "year": 0.03, "home": 1e-5})
    text = ex.in_words(values, ROW, case, math.log(165_000), 182_000, most=4)
    assert text == (
        "The model expects y to be 182,000 US dollars here. Averaged over rows of the training "
        "data it expects 165,000 US dollars. a (2,100 square feet) raises it by 12 %. b (3, grade "
        "of 1 to 5) lowers it by 5 %. year (1975) raises it by 3 %. gap (has none) lowers it "
        "by 2 %."
    )
    more = ex.in_words(values, ROW, case, math.log(165_000), 182_000, most=1)
    assert more.endswith("12 %. The other columns together lower it by 4 %.")


def test_a_class_is_explained_in_odds():
    values = pd.Series({"a": math.log(1.4), "home": -math.log(2.5), "b": 0.0, "gap": 0.001})
    text = ex.in_words(values, ROW, CLASS, math.log(0.25), 0.123, most=2)
    assert text == (
        "The model gives a probability of 0.123 that this is bad. Averaged over rows of the "
        "training data it says 0.200. home (own) divides the odds of bad by 2.5. a (2,100) "
        "multiplies the odds of bad by 1.4. The other columns together change next to nothing."
    )


def test_a_number_is_explained_in_its_unit():
    values = pd.Series({"a": 1234.0, "b": 0.0, "gap": -56.0})
    text = ex.in_words(values, ROW, NUMBER, 1000.0, 2178.0)
    assert "a (2,100 square feet) raises it by 1,200 US dollars." in text
    assert "gap (not known) lowers it by 56 US dollars." in text and "b (" not in text
    nothing = ex.in_words(pd.Series({"a": 0.0, "b": 0.0}), ROW, NUMBER, 5.0, 5.0)
    assert nothing.endswith("No column moves it by much.")


@pytest.mark.parametrize("case", CASES, ids=["number", "logged", "class", "other"])
def test_contributions_are_said_and_drawn_for_any_row(case, shown):
    train = table(case)
    model = boosted(case, train)
    p = predictions(model, train.drop(columns="y"), case)
    found = ex.shapley_values(model, train[:2], train, case, permutations=10, seed=0)
    for i, most in enumerate((2, 30)):
        values, row = found.values.iloc[i], train.iloc[i]
        assert "Averaged over rows" in ex.in_words(values, row, case, found.base, p[i], most=most)
        ex.plot_shapley(values, row, case, base=found.base, prediction=p[i], most=most)
        assert ("other columns" in said(shown)[i]) == (most == 2)
    ex.plot_shapley(values * 0, row, case, base=found.base, prediction=p[1])
    ex.plot_importance(ex.permutation_importance(model, train, case, repeats=1, seed=0), case)
    assert len(said(shown)) == 4


def test_two_columns_pairs_are_exact_whatever_the_orders():
    background, row = small(0, 3, 4), small(1, 1, 4)

    def predict(X):
        return X["a"] * X["b"] + np.maximum(X["c"], X["d"])

    exact, _ = by_definition(predict, row, background)
    model = Formula(predict).fit(None, None)
    found = ex.shapley_values(model, row, background, NUMBER, permutations=6, seed=0)
    assert found.values.iloc[0].tolist() == pytest.approx(exact.tolist(), abs=1e-12)
