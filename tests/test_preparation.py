"""The preparation turns raw columns into numbers, as each estimator needs them."""

import numpy as np
import pandas as pd
import pytest
import small
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import skew
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from truefit import training
from truefit.params import Compute
from truefit.project import InputError
from truefit.task import Regression
from truefit.training import (
    Clusters,
    Features,
    FillText,
    LogSkewed,
    MergeRare,
    RoundToFloat32,
    TargetScale,
)

CASE = Regression(table="t", target="y")
KINDS = ["plain", "scaled", "filled", "native"]


def prepared(rows, case, kind, **more):
    """What an estimator sees of the rows that it is fitted on, by the names of its columns."""
    step = training.prepare(rows, case, kind=kind, min_category_rows=1, **more)
    found = step.fit_transform(rows.drop(columns="y"))
    return pd.DataFrame(found, columns=step.get_feature_names_out(), index=rows.index)


@pytest.mark.parametrize("kind", KINDS)
def test_ordered_categories_become_their_ranks_in_the_blocks_order(kind):
    rows, case = small.table("regression"), small.CASES["regression"]
    step = training.prepare(rows, case, kind=kind, min_category_rows=1)
    step.fit(rows.drop(columns="y"))
    meets = pd.DataFrame({"grade": ["low", "middle", "high", None, "", "Superb"]}, dtype="str")
    ranks = step.named_transformers_["ordered"].transform(meets).ravel()
    order = {"absent": 0, "low": 1, "middle": 2, "high": 3}  # none of a thing is below all
    seen = rows["grade"].fillna("absent").map(order)
    # The last value is not in the order, so its rank is not known.
    expected = np.array([1, 2, 3, 0, 0, np.nan if kind == "native" else seen.median()])
    if kind in {"plain", "scaled"}:
        expected = (expected - seen.mean()) / seen.std(ddof=0)
    assert ranks == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_have_the_scale_and_the_gaps_that_the_estimator_can_take(kind):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"y": 1.0, "a": 1.7e9 + rng.normal(size=200), "b": rng.normal(size=200)})
    rows.loc[:50, "b"] = np.nan
    found = prepared(rows, CASE, kind).to_numpy()
    rounded = rows[["a", "b"]].astype("float32").astype(float)
    if kind == "native":
        assert np.array_equal(found, rounded, equal_nan=True)
    elif kind == "filled":
        assert found[51:] == pytest.approx(rounded.to_numpy()[51:])
        assert set(found[:51, 1]) == {np.float32(rows["b"].median())}
    else:
        assert found.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
        assert found[:, 1].std() == pytest.approx(1)
        assert len(set(found[:51, 1])) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_scaled_preparation_logs_long_tails_and_makes_clusters(kind):
    rows, case = small.table("regression"), small.CASES["regression"]
    rows = rows.assign(tail=np.exp(rows["size"] * 2), gaps=0.0)
    found = prepared(rows, case, kind, n_clusters=4)
    clusters = [c for c in found if c.startswith("cluster")]
    correlation = np.corrcoef(found["number__tail"], rows["size"])[0, 1]
    if kind == "scaled":
        assert len(clusters) == 4 and (found[clusters].sum(axis=1) == 1).all()
        assert correlation > 0.9
    else:
        assert not clusters and correlation < 0.7
    assert not any(c.startswith("cluster") for c in prepared(rows, case, kind))


def test_a_table_of_true_and_false_can_be_prepared():
    flags = np.arange(20) % 3 == 0
    for kind in KINDS:
        found = prepared(pd.DataFrame({"y": 1.0, "flag": flags}), CASE, kind)["number__flag"]
        assert found.nunique() == 2 and found[0] > found[1]


def test_a_column_to_cluster_must_be_of_numbers():
    for name, column in (("kind", "kind"), ("no", "no such")):
        case = small.CASES["regression"].model_copy(update={"clusters": ["east", column]})
        with pytest.raises(InputError) as caught:
            prepared(small.table("regression"), case, "scaled", n_clusters=3)
        assert str(caught.value) == (
            f"params.yaml: clusters names {column!r}, which is not a column of numbers"
        ), name


def test_a_number_known_in_few_rows_can_be_searched(recwarn):
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"y": np.exp(rng.normal(size=60)), "x": np.nan, "z": rng.normal(size=60)})
    rows.loc[:1, "x"] = [1.0, 2.0]
    case = small.CASES["regression"].model_copy(update={"features": {}, "clusters": []})
    # Some fold leaves the known rows out, and its column is empty.
    found = training.search_all(
        ["dummy", "ridge", "hist_gradient_boosting"], rows, case, {}, small.SETTINGS, Compute()
    )
    assert not training.failures(found) and not recwarn.list


# Each step


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


@given(st.lists(st.floats(-10, 1e6), min_size=2, max_size=30))
def test_log_skewed_logs_a_column_with_a_long_tail_to_the_right_alone(values):
    X = np.array(values)[:, None]
    step = LogSkewed().fit(X)
    found = step.transform(X).ravel()
    if step.logged_[0]:
        assert min(values) >= 0 and pd.Series(values).skew() > 0
        assert found == pytest.approx(np.log1p(values))
        assert step.transform([[-5.0]]) == 0  # a live value that training did not know
    else:
        assert np.array_equal(found, values)
    assert not LogSkewed().fit(-np.abs(X) - 1).logged_.any()


def test_log_skewed_measures_the_skewness_that_scipy_measures():
    X = np.random.default_rng(0).gamma(np.linspace(0.5, 12, 30), size=(300, 30))
    assert np.array_equal(LogSkewed(0.8).fit(X).logged_, skew(X) > 0.8)
    assert 0 < LogSkewed(0.8).fit(X).logged_.sum() < 30


def test_clusters_are_the_nearest_centres_and_do_not_hang_on_units():
    rng = np.random.default_rng(0)
    places = np.array([[0, 0], [10, 0], [0, 10], [10, 10]])
    true = rng.integers(0, 4, 200)
    X = places[true] + rng.normal(size=(200, 2))
    found = Clusters(4, seed=1).fit_transform(X)
    assert (found.sum(axis=1) == 1).all() and set(np.ravel(found)) == {0, 1}
    assert len(set(zip(true, found.argmax(axis=1), strict=True))) == 4
    assert np.array_equal(Clusters(4, seed=1).fit_transform(X * [1000, 1]), found)
    assert list(Clusters(4).fit(X).get_feature_names_out()) == [f"clusters{i}" for i in range(4)]
    few = Clusters(9).fit_transform(np.repeat(places, 3, axis=0))
    assert few.shape == (12, 4)  # no more clusters than there are different rows
    assert Clusters(3).fit_transform(np.ones((5, 2))).shape == (5, 1)


NUMBERS = st.floats(1e-3, 1e6)


@settings(deadline=None)
@given(st.lists(NUMBERS, min_size=1, max_size=30), st.booleans(), st.floats(1e-3, 1e3))
def test_the_target_scale_has_mean_0_and_spread_1_and_goes_back(values, log, unit):
    y = np.array(values)
    scale = TargetScale(log).fit(y)
    z = scale.transform(y)
    assert scale.inverse_transform(z) == pytest.approx(y, rel=1e-6)
    assert np.isfinite(z).all()
    if np.ptp(np.log(y)) > 0.01:
        assert z.mean() == pytest.approx(0, abs=1e-6) and z.std() == pytest.approx(1)
        # In another unit it is the same target.
        assert TargetScale(log).fit(y * unit).transform(y * unit) == pytest.approx(z, abs=1e-5)


STEPS = [
    RoundToFloat32(),
    FillText(["m", "a"]),
    MergeRare(2),
    LogSkewed(),
    Features(["a", "b"], [("sum", "a + b"), ("a_known", "1 - missing(a)")]),
    Clusters(2),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: type(step).__name__)
def test_a_step_follows_scikit_learns_conventions(step):
    X = pd.DataFrame({"a": ["1", "2", "2"], "b": ["3", "4", "4"]}, dtype=object)
    texts = isinstance(step, FillText | MergeRare)
    X = X if texts else X.astype(float)
    copy = clone(step)
    assert copy is not step and copy.get_params() == step.get_params()
    assert copy.set_params(**step.get_params()) is copy
    with pytest.raises(NotFittedError):
        copy.transform(X)
    assert copy.fit(X) is copy
    assert copy.transform(X).shape == X.shape
    names = {Features: ["sum", "a_known"], Clusters: ["clusters0", "clusters1"]}
    assert list(copy.get_feature_names_out()) == names.get(type(step), ["a", "b"])
    assert copy.n_features_in_ == 2
    if not isinstance(step, FillText):
        with pytest.raises(ValueError, match="feature"):
            copy.transform(X[["a"]])
