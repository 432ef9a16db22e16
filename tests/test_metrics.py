"""Every metric is the one scikit-learn computes, weighted by how often a row was drawn."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import UndefinedMetricWarning

from truefit.metrics import HIGHER_IS_BETTER, predictions, resample, scores, truth
from truefit.task import BinaryClassification, Costs, Regression

NUMBER = Regression(table="t.csv", target="y", log_target=True)
CLASS = BinaryClassification(table="t.csv", target="y", positive="bad")
SKLEARN = {
    "mse": reference.mean_squared_error,
    "rmse": reference.root_mean_squared_error,
    "mae": reference.mean_absolute_error,
    "r2": reference.r2_score,
    "rmse_log": lambda y, p: reference.root_mean_squared_error(np.log(y), np.log(p)),
    "accuracy": lambda y, p: reference.accuracy_score(y, p >= 0.5),
    "precision": lambda y, p: reference.precision_score(y, p >= 0.5),
    "recall": lambda y, p: reference.recall_score(y, p >= 0.5),
    "f1": lambda y, p: reference.f1_score(y, p >= 0.5),
    "roc_auc": reference.roc_auc_score,
    "average_precision": reference.average_precision_score,
    "brier": reference.brier_score_loss,
}
# Eighths have exact sums and many ties, and 4/8 stands exactly on the threshold.
NUMBERS = st.integers(1, 64).map(lambda k: k / 8)
PROBABILITIES = st.integers(0, 8).map(lambda k: k / 8)


@st.composite
def tables(draw, y, p):
    """True values, predictions and three resamples, each of two rows or more."""
    n = draw(st.integers(2, 25))
    counts = st.lists(st.integers(0, 3), min_size=n, max_size=n).filter(lambda c: sum(c) > 1)
    true, predicted = (draw(st.lists(v, min_size=n, max_size=n)) for v in (y, p))
    weights = draw(st.lists(counts, min_size=3, max_size=3))
    return np.array(true), np.array(predicted), np.array(weights)


def assert_as_scikit_learn(labels, p, weights, case):
    y = truth(pd.Series(labels), case)
    found = resample(pd.Series(labels), p, weights.astype(float), case)
    assert set(found) == set(case.metrics)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        warnings.filterwarnings("ignore", "No positive class found")
        for row, counts in enumerate(weights):
            for name, values in found.items():
                expected = SKLEARN[name](np.repeat(y, counts), np.repeat(p, counts))
                assert np.isclose(values[row], expected, rtol=1e-9, equal_nan=True), name


@settings(max_examples=60, deadline=None)
@given(tables(NUMBERS, NUMBERS))
def test_regression_metrics_are_scikit_learns_on_the_rows_repeated(table):
    assert_as_scikit_learn(*table, NUMBER)


@settings(max_examples=40, deadline=None)
@given(tables(st.sampled_from(["good", "bad"]), PROBABILITIES))
def test_classification_metrics_are_scikit_learns_on_the_rows_repeated(table):
    assert_as_scikit_learn(*table, CLASS)


@pytest.mark.parametrize("case", [NUMBER, CLASS])
def test_scores_are_scikit_learns_on_a_thousand_rows(case):
    rng = np.random.default_rng(1)
    y, p = rng.integers(1, 1000, (2, 1000)) / 1000
    labels = y if case is NUMBER else np.where(y < 0.3, "bad", "good")
    for name, value in scores(pd.Series(labels), p, case).items():
        expected = SKLEARN[name](truth(pd.Series(labels), case), p)
        assert value == pytest.approx(expected, rel=1e-9), name


@pytest.mark.parametrize("offset", [1e6, 1.7e9])
def test_r2_keeps_its_digits_where_a_target_is_large_and_varies_little(offset):
    rng = np.random.default_rng(2)
    y = offset + rng.normal(size=200)
    p = y + 0.3 * rng.normal(size=200)
    found = scores(pd.Series(y), p, NUMBER)["r2"]
    assert found == pytest.approx(reference.r2_score(y, p), abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "p"),
    [
        (["good", "bad", "good"], [0.1, 0.4, 0.2]),  # no row is called positive
        (["good", "good", "good"], [0.1, 0.4, 0.2]),  # and none is
        (["good", "good", "good"], [0.9, 0.4, 0.2]),
        (["bad", "bad", "bad"], [0.9, 0.4, 0.2]),
        (["good", "bad", "bad"], [0.5, 0.5, 0.5]),  # a constant prediction, on the threshold
    ],
)
def test_classifications_at_the_edge_are_scored_as_by_scikit_learn(labels, p):
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # a reader of a report sees no warning
        assert_as_scikit_learn(labels, np.array(p), np.ones((1, 3), int), CLASS)


@pytest.mark.parametrize(("p", "r2"), [([2.0, 2.0, 2.0], 1), ([2.0, 2.0, 3.0], 0)])
def test_r2_of_a_constant_target_is_0_unless_every_row_is_right(p, r2):
    assert scores(pd.Series([2.0, 2.0, 2.0]), np.array(p), NUMBER)["r2"] == r2


@pytest.mark.parametrize(
    ("case", "y"), [(NUMBER, [1.0, 2.0, 4.0]), (CLASS, ["bad", "good", "bad"])]
)
def test_a_perfect_prediction_has_the_best_score_of_every_metric(case, y):
    y = pd.Series(y)
    for name, value in scores(y, truth(y, case), case).items():
        assert value == (1 if name in HIGHER_IS_BETTER else 0), name


@pytest.mark.parametrize("positive", ["bad", "good"])
def test_probabilities_are_those_of_the_positive_class(positive):
    y = pd.Series(["bad", "good", "good", "good"])
    X = pd.DataFrame({"x": range(4)})
    case = CLASS.model_copy(update={"positive": positive})
    share = {"bad": 0.25, "good": 0.75}[positive]
    assert predictions(DummyClassifier().fit(X, y), X, case).tolist() == [share] * 4


COSTS = st.tuples(st.integers(1, 9), st.integers(1, 9))


@settings(max_examples=60, deadline=None)
@given(tables(st.sampled_from(["good", "bad"]), PROBABILITIES), COSTS)
def test_costs_set_the_threshold_and_price_the_wrong_calls(table, costs):
    labels, p, weights = table
    refused, given_ = costs  # what a false positive and a false negative cost
    case = CLASS.model_copy(update={"costs": Costs(false_positive=refused, false_negative=given_)})
    assert case.threshold == pytest.approx(refused / (refused + given_))
    y = truth(pd.Series(labels), case)
    found = resample(pd.Series(labels), p, weights.astype(float), case)
    assert set(found) == set(SKLEARN) - {"mse", "rmse", "mae", "r2", "rmse_log"} | {"cost"}
    for row, counts in enumerate(weights):
        true, said = np.repeat(y, counts), np.repeat(p, counts)
        # A chance of exactly the threshold is a positive call.
        called = said * given_ >= (1 - said) * refused
        (_, wrong), (missed, _) = reference.confusion_matrix(true, called, labels=[0, 1])
        expected = (wrong * refused + missed * given_) / len(true)
        assert found["cost"][row] == pytest.approx(expected)
        for name in ("accuracy", "precision", "recall", "f1"):
            more = {} if name == "accuracy" else {"zero_division": 0}
            value = getattr(reference, f"{name}_score")(true, called, **more)
            assert found[name][row] == pytest.approx(value), name


def test_the_threshold_of_the_costs_is_the_cheapest_where_probabilities_are_right():
    rng = np.random.default_rng(3)
    p = rng.random(20_000)
    y = pd.Series(np.where(rng.random(20_000) < p, "bad", "good"))
    case = CLASS.model_copy(update={"costs": Costs(false_positive=1, false_negative=4)})
    assert case.threshold == 0.2 and CLASS.threshold == 0.5
    least = scores(y, p, case)["cost"]
    for moved in (-0.1, 0.1, 0.3):  # the same as another threshold
        assert least < scores(y, np.clip(p - moved, 0, 1), case)["cost"]
