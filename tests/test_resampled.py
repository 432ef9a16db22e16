"""The corrected t-test over folds."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from truefit.evaluation.resampled import corrected_t, corrected_table, fold_differences_table
from truefit.task import BinaryClassification, Regression

NUMBER = Regression(table="t.csv", target="y")
CLASS = BinaryClassification(table="t.csv", target="y", positive="bad")
gaps = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20).filter(
    lambda v: np.std(v) > 1e-6 * np.abs(v).max()
)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@settings(deadline=None)
@given(gaps, st.floats(0.6, 0.99))
def test_without_shared_rows_it_is_the_plain_t_test(values, confidence):
    found = corrected_t(values, test_share_ratio=0, confidence=confidence)
    plain = ttest_1samp(values, 0)
    low, high = plain.confidence_interval(confidence)
    size = np.abs(values).max()
    assert found.mean == pytest.approx(np.mean(values), abs=1e-9 * size)
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-9, abs=1e-9 * size)
    assert found.p_value == pytest.approx(plain.pvalue, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(gaps, st.floats(0.01, 2))
def test_shared_rows_widen_the_interval_as_in_the_paper(values, ratio):
    plain = corrected_t(values, test_share_ratio=0, confidence=0.95)
    found = corrected_t(values, test_share_ratio=ratio, confidence=0.95)
    wider = math.sqrt((1 / len(values) + ratio) * len(values))
    assert found.high - found.low == pytest.approx((plain.high - plain.low) * wider)
    assert found.p_value >= plain.p_value
    assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_an_example_worked_by_hand():
    # Mean 2, variance 1, three folds: 2 / √(1/3 + 1/2) = 2.19089 with two degrees of freedom.
    mean, low, high, p = corrected_t([1, 2, 3], test_share_ratio=0.5, confidence=0.95)
    assert mean == 2
    reach = 4.302652729911275 * math.sqrt(5 / 6)
    assert (low, high) == pytest.approx((2 - reach, 2 + reach))
    t = 2 / math.sqrt(5 / 6)
    assert p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # Student's with two degrees, exactly


def test_folds_that_agree_and_folds_that_are_missing():
    same = corrected_t([0.1] * 3, test_share_ratio=1, confidence=0.9)
    assert same[:3] == pytest.approx((0.1, 0.1, 0.1)) and same.p_value == 0
    assert corrected_t([0.0] * 2, test_share_ratio=1, confidence=0.9) == (0, 0, 0, 1)
    one = corrected_t([0.3, math.nan], test_share_ratio=1, confidence=0.9)
    assert one.mean == 0.3 and math.isnan(one.low) and math.isnan(one.p_value)
    assert math.isnan(corrected_t([], test_share_ratio=1, confidence=0.9).mean)


def test_the_correction_keeps_its_promise_where_the_plain_test_does_not():
    # Two models that are equally good, a line each through noise, on 15 random splits of 50 rows.
    rng, wrong = np.random.default_rng(0), {0: 0, 1 / 4: 0}
    for _ in range(200):
        y, found = rng.normal(size=50), []
        designs = [np.column_stack([np.ones(50), rng.normal(size=50)]) for _ in range(2)]
        for _ in range(15):
            held, fit = np.split(rng.permutation(50), [10])
            lines = [np.linalg.lstsq(X[fit], y[fit])[0] for X in designs]
            a, b = (
                np.mean((y[held] - X[held] @ line) ** 2)
                for X, line in zip(designs, lines, strict=True)
            )
            found.append(a - b)
        for ratio in wrong:
            wrong[ratio] += corrected_t(found, test_share_ratio=ratio, confidence=0.9).p_value < 0.1
    # At most 10 % may be taken for a difference; three standard deviations of that are 6 %.
    assert wrong[1 / 4] <= 0.16 * 200
    assert wrong[0] > 0.18 * 200


def board_of(scores, metric):
    rows = [
        {"model": name, "fold": fold, metric: value}
        for name, values in scores.items()
        for fold, value in enumerate(values, 1)
    ]
    return pd.DataFrame(rows), pd.DataFrame(index=pd.Index(list(scores), name="model"))


@pytest.mark.parametrize(("case", "metric", "sign"), [(NUMBER, "rmse", -1), (CLASS, "roc_auc", 1)])
def test_better_goes_the_way_of_the_metric(case, metric, sign):
    scores = {
        "first": [5.0, 5.1, 5.2, 5.0],
        "near": [5.1, 5.0, 5.3, 4.9],
        "last": [5.0 - sign * 1.0, 5.1 - sign * 1.1, 5.2 - sign * 1.05, 5.0 - sign * 1.0],
    }
    results, board = board_of(scores, metric)
    found = fold_differences_table(
        results.sample(frac=1, random_state=0), board, case, confidence=0.95
    )
    assert list(found.index) == ["near", "last"]
    assert list(found["better"]) == ["unclear", "yes"]
    expected = corrected_t(
        np.subtract(scores["first"], scores["last"]), test_share_ratio=1 / 3, confidence=0.95
    )
    assert tuple(found.loc["last", ["value", "low", "high", "p_value"]]) == pytest.approx(expected)
    other = fold_differences_table(results, board, case, confidence=0.95, winner="last")
    assert other.loc["first", "better"] == "no"
    assert other.loc["first", "value"] == pytest.approx(-found.loc["last", "value"])


def test_two_folds_one_fold_and_one_model():
    results, board = board_of({"a": [1.0, 1.1], "b": [2.0, 2.2]}, "rmse")
    found = fold_differences_table(results, board, NUMBER, confidence=0.95)
    assert found.loc["b", "better"] == "unclear"  # two folds can hardly tell
    # One degree of freedom: Student's distribution is Cauchy's, s = 0.1 / √2, ratio 1.
    reach = math.tan(math.pi * 0.475) * 0.1 / math.sqrt(2) * math.sqrt(1.5)
    assert found.loc["b", "high"] - found.loc["b", "value"] == pytest.approx(reach)
    results, board = board_of({"a": [1.0], "b": [2.0]}, "rmse")
    assert (
        fold_differences_table(results, board, NUMBER, confidence=0.9)["better"].item() == "unclear"
    )
    results, board = board_of({"a": [1.0, 2.0]}, "rmse")
    alone = fold_differences_table(results, board, NUMBER, confidence=0.9)
    assert alone.empty and "better" in alone


def test_the_table_for_people_shows_the_digits_that_are_known():
    scores = {"a": [1.0, 1.1, 1.2], "b": [2.01, 2.1, 2.2], "c": [1.1, 1.1, 1.1], "d": [1, 1.1, 1.2]}
    results, board = board_of(scores, "rmse")
    found = fold_differences_table(results, board, NUMBER, confidence=0.95)
    lines = repr(corrected_table(found, "Leads")).splitlines()
    assert lines[0] == "Leads"
    assert lines[2].split() == ["b", "−1.003", "−1.026", "−0.981", "below", "0.001", "better"]
    assert lines[3].split() == ["c", "0.00", "−0.39", "+0.39", "1.000", "not", "clear"]
    assert lines[4].split() == ["d", "0.000", "0.000", "0.000", "1.000", "not", "clear"]
    results, board = board_of({"a": [1.0], "b": [2.0]}, "rmse")
    one = corrected_table(fold_differences_table(results, board, NUMBER, confidence=0.9), "One")
    assert repr(one).splitlines()[2].split() == ["b", "−1.000", "not", "clear"]
