"""Intervals keep their promise, probabilities are put right, and costs choose the threshold."""

import math
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from scipy.special import expit
from scipy.stats import binomtest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.stats.multitest import multipletests
from traitlets.config import Config

from truefit.evaluation import bootstrap_weights
from truefit.evaluation import uncertainty as un
from truefit.evaluation.explain import on_scale
from truefit.project import InputError
from truefit.task import BinaryClassification, Costs, Regression
from truefit.training import fit_recalibration, recalibrate

NUMBER = Regression(table="t.csv", target="y")
LOGGED = NUMBER.model_copy(update={"log_target": True})
CLASS = BinaryClassification(table="t.csv", target="y", positive="bad")
PRICED = CLASS.model_copy(update={"costs": Costs(false_positive=1, false_negative=5)})


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


def classes(probabilities, seed=0):
    """Truths that are positive with the probability given."""
    drawn = np.random.default_rng(seed).random(len(probabilities)) < probabilities
    return pd.Series(np.where(drawn, "bad", "good"))


def distorted(n, slope, intercept, seed=0):
    """Probabilities whose log-odds must be multiplied and shifted to be right, and truths."""
    z = np.random.default_rng(seed).normal(-0.5, 1.2, size=n)
    return classes(expit(slope * z + intercept), seed + 1), expit(z)


# ------------------------------------------------------------------------------------ intervals


@pytest.mark.parametrize("case", [NUMBER, LOGGED])
@pytest.mark.parametrize(("n", "confidence"), [(19, 0.95), (50, 0.8), (37, 0.9), (100, 0.55)])
def test_exchangeable_rows_are_covered_as_often_as_promised(case, n, confidence):
    rng = np.random.default_rng(n)
    repeats = 4000
    residuals = rng.standard_t(2, size=(repeats, n + 1))  # heavy tails: no matter
    hits = 0
    for row in residuals:
        y, p = (np.exp(row), np.ones(n + 1)) if case.log_target else (row, np.zeros(n + 1))
        width = un.conformal_width(pd.Series(y[:n]), p[:n], case, confidence=confidence)
        low, high = un.prediction_interval(p[n:], width, case)
        hits += bool(low[0] <= y[n] <= high[0])
    exact = math.ceil(round((n + 1) * confidence, 9)) / (n + 1)
    assert confidence <= exact <= confidence + 1 / (n + 1)
    # Four standard deviations of a binomial.
    assert hits / repeats == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / repeats))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=60), st.sampled_from([0.51, 0.6, 0.7, 0.75])
)
@settings(max_examples=60, deadline=None)
def test_the_width_is_the_smallest_residual_that_keeps_the_promise(residuals, confidence):
    y = pd.Series(residuals)
    width = un.conformal_width(y, np.zeros(len(y)), NUMBER, confidence=confidence)
    sizes = np.abs(residuals)
    needed = (len(y) + 1) * confidence - 1e-9
    assert width in sizes and (sizes <= width).sum() >= needed
    assert (sizes < width).sum() < needed


def test_a_logged_target_gets_a_factor_and_another_a_distance():
    y, p = pd.Series(np.r_[np.full(30, 200.0), np.full(30, 50.0)]), np.full(60, 100.0)
    width = un.conformal_width(y, p, LOGGED, confidence=0.9)
    assert width == pytest.approx(math.log(2))
    low, high = un.prediction_interval(np.array([10.0]), width, LOGGED)
    assert (low[0], high[0]) == (pytest.approx(5), pytest.approx(20))
    width = un.conformal_width(y, p, NUMBER, confidence=0.9)
    low, high = un.prediction_interval(np.array([10.0]), width, NUMBER)
    assert (low[0], high[0]) == (-90, 110)


@pytest.mark.parametrize(
    ("n", "confidence", "needed"), [(18, 0.95, 19), (98, 0.99, 99), (0, 0.9, 9)]
)
def test_too_few_rows_are_said_in_one_sentence(n, confidence, needed):
    y = pd.Series(np.arange(n, dtype=float))
    with pytest.raises(InputError, match=f"at least {needed} training rows.*gives {n}; lower"):
        un.conformal_width(y, np.zeros(n), NUMBER, confidence=confidence)
    more = pd.Series(np.arange(needed, dtype=float))
    assert math.isfinite(un.conformal_width(more, np.zeros(needed), NUMBER, confidence=confidence))


def test_a_prediction_that_failed_counts_as_missed():
    y, p = pd.Series(np.zeros(100)), np.zeros(100)
    p[:3] = np.nan, np.inf, -np.inf
    assert un.conformal_width(y, p, NUMBER, confidence=0.95) == 0
    with pytest.raises(InputError, match="finite prediction"):
        un.conformal_width(y, p, NUMBER, confidence=0.99)


def table(n, seed=0):
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.normal(size=n), "b": rng.normal(size=n)})
    return frame.assign(y=3 * frame["a"] + rng.normal(size=n))


def linear():
    return make_pipeline(
        make_column_transformer((StandardScaler(), ["a", "b"])), LinearRegression()
    )


def test_a_true_split_gives_about_the_width_that_is_right():
    train = table(4000)
    width = un.split_conformal_demo(linear(), train, NUMBER, confidence=0.9, seed=1)
    assert width == pytest.approx(1.645, abs=0.12)  # of a normal error
    again = un.split_conformal_demo(linear(), train, NUMBER, confidence=0.9, seed=1)
    assert width == again
    assert width != un.split_conformal_demo(linear(), train, NUMBER, confidence=0.9, seed=2)
    few = un.split_conformal_demo(linear(), train[:40], NUMBER, confidence=0.95, seed=1)
    assert few == np.inf  # of ten residuals none is large enough for 95 %


def test_coverage_counts_and_names_the_slice_that_is_let_down():
    n = 600
    y = pd.Series(np.random.default_rng(0).normal(size=n), index=np.arange(n) + 7)
    bad = np.arange(n) < 100
    low, high = np.where(bad, -0.5, -1.96), np.where(bad, 0.5, 1.96)
    slices = pd.DataFrame(
        {
            "kind": np.where(bad, "worse", "other"),
            "gap": [None, np.nan, *["x"] * (n - 2)],
            "one": "same",
            "few": [*"abcdefg", *["rest"] * (n - 7)],
        }
    )
    found = un.coverage(y, low, high, NUMBER, promised=0.95, confidence=0.95, slices=slices)
    assert list(found.index) == [
        *("all rows", "kind: other", "kind: worse", "gap: x", "gap: missing"),
        *("few: rest", "few: others (7 values)"),
    ]
    assert list(found["rows"]) == [600, 500, 100, 598, 2, 593, 7]
    inside = (low <= y) & (y <= high)
    assert found.loc["kind: worse", "covered"] == inside[bad].mean()
    assert found.loc["kind: other", "too_low"] == "no"
    assert found.loc["all rows", "too_low"] == found.loc["kind: worse", "too_low"] == "yes"
    assert found.loc["kind: worse", "width"] == 1
    assert (found["low"] <= found["covered"]).all() and (found["covered"] <= found["high"]).all()
    alone = un.coverage(y, low, high, NUMBER, promised=0.95, confidence=0.95)
    pd.testing.assert_frame_equal(alone, found[:1])


def test_a_truth_on_the_very_end_is_inside():
    y = pd.Series([0.1 + 0.2, 3.0])
    found = un.coverage(
        y, np.array([0.0, 3.0]), np.array([0.3, 3.0]), NUMBER, promised=0.9, confidence=0.9
    )
    assert found.loc["all rows", "covered"] == 1


def test_the_width_for_a_logged_target_is_a_share_of_the_prediction():
    p = np.array([10.0, 1000.0])
    low, high = un.prediction_interval(p, math.log(1.1), LOGGED)
    found = un.coverage(pd.Series(p), low, high, LOGGED, promised=0.9, confidence=0.9)
    assert found.loc["all rows", "width"] == pytest.approx(1.1 - 1 / 1.1)


def test_chance_seldom_lets_anything_down():
    rng, flagged, whole = np.random.default_rng(1), 0, 0
    slices = pd.DataFrame({"s": np.repeat([f"v{i}" for i in range(20)], 30)})
    repeats = 300
    for _ in range(repeats):
        calibration, test = rng.normal(size=400), rng.normal(size=600)
        width = un.conformal_width(pd.Series(calibration), np.zeros(400), NUMBER, confidence=0.9)
        found = un.coverage(
            pd.Series(test), np.full(600, -width), np.full(600, width), NUMBER,
            promised=0.9, confidence=0.95, slices=slices, calibration_rows=400,
        )  # fmt: skip
        flagged += (found["too_low"][1:] == "yes").any()
        whole += found["too_low"].iloc[0] == "yes"
    limit = 0.05 + 3 * math.sqrt(0.05 * 0.95 / repeats)
    assert flagged / repeats < limit and whole / repeats < limit


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=60, deadline=None)
def test_wilson_is_scipys(n, share, confidence):
    hits = round(share * n)
    known = binomtest(hits, n).proportion_ci(confidence, method="wilson")
    assert un.wilson(hits, n, confidence) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize("n", [1, 7, 100, 4454])
def test_none_of_many_is_0_and_all_of_them_1(n):
    assert un.wilson(0, n, 0.95)[0] == 0 and un.wilson(n, n, 0.95)[1] == 1
    low, high = un.wilson(np.array([0, n]), np.array([n, n]), 0.95)
    assert (low[0], high[1]) == (0, 1) and high[0] == pytest.approx(1 - low[1])


@given(
    st.lists(st.floats(0, 1) | st.sampled_from([0.001, 0.01, 0.05]), min_size=1, max_size=20),
    st.sampled_from([0.9, 0.95, 0.99]),
)
@settings(max_examples=12, deadline=None)
def test_values_are_flagged_by_holms_rule_as_statsmodels_has_it(chances, confidence):
    adjusted = multipletests(chances, method="holm")[1]
    # On the limit itself the last bit decides.
    assume(np.abs(adjusted - (1 - confidence)).min() > 1e-9)
    flags = un._flags([1.0, *chances], confidence)
    assert flags == ["no", *np.where(adjusted < 1 - confidence, "yes", "no")]


def test_the_curve_of_coverage_leaves_out_what_the_rows_are_too_few_for(shown):
    rng = np.random.default_rng(0)
    y, z = pd.Series(rng.normal(size=30)), pd.Series(rng.normal(size=500))
    curve = un.coverage_curve(y, np.zeros(30), z, np.zeros(500), NUMBER, confidence=0.95)
    assert (curve.index[0], curve.index[-1]) == (0.5, 0.96)
    assert curve["covered"].is_monotonic_increasing and (curve["low"] < curve["high"]).all()
    inside = curve["covered"].between(curve["low"], curve["high"])
    assert inside.mean() > 0.5
    un.plot_coverage(curve)
    assert "from 50% to 96%" in said(shown)[0]


@pytest.mark.parametrize("case", [NUMBER, LOGGED])
@pytest.mark.parametrize("n", [1, 7, 300])
def test_intervals_are_drawn(case, n, shown):
    rng = np.random.default_rng(n)
    y, p = pd.Series(np.exp(rng.normal(size=n))), np.exp(rng.normal(size=n))
    un.plot_intervals(y, p, *un.prediction_interval(p, 0.5, case), case)
    [text] = said(shown)
    assert text.startswith(f"{min(n, 60)} predictions from ") and "lie outside" in text


# ---------------------------------------------------------------------------------- calibration


def test_a_distortion_is_found_and_undone():
    y, p = distorted(40_000, 0.6, -0.3)
    line = fit_recalibration(y, p, CLASS)
    assert line == pytest.approx((0.6, -0.3), abs=0.04)
    after = recalibrate(p, line)
    assert np.corrcoef(np.argsort(np.argsort(p)), np.argsort(np.argsort(after)))[0, 1] == 1
    again = fit_recalibration(y, after, CLASS)
    assert again == pytest.approx((1, 0), abs=1e-5)
    assert log_loss(y == "bad", after) < log_loss(y == "bad", p)


def test_the_line_is_that_of_logistic_regression():
    y, p = distorted(500, 1.7, 0.4)
    z = on_scale(p, CLASS)
    reference = LogisticRegression(C=np.inf, tol=1e-10).fit(z[:, None], y == "bad")
    expected = (reference.coef_[0, 0], reference.intercept_[0])
    assert fit_recalibration(y, p, CLASS) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("p", [0.3, 0.0, 1.0])
def test_one_probability_for_all_becomes_the_base_rate(p):
    y = classes(np.full(400, 0.4))
    line = fit_recalibration(y, np.full(400, p), CLASS)
    assert recalibrate(np.array([p]), line) == pytest.approx((y == "bad").mean(), abs=1e-3)


def test_probabilities_that_know_nothing_are_flattened_not_turned_around():
    y, p = distorted(2000, -1.0, 0.0)
    line = fit_recalibration(y, p, CLASS)
    assert line.slope == 0
    assert recalibrate(p, line) == pytest.approx((y == "bad").mean(), abs=1e-3)


def test_classes_that_are_apart_or_missing_still_give_numbers():
    p = np.linspace(0.01, 0.99, 50)
    for y in (pd.Series(np.where(p > 0.5, "bad", "good")), pd.Series(["good"] * 50)):
        line = fit_recalibration(y, p, CLASS)
        after = recalibrate(np.r_[0.0, p, 1.0], line)
        assert np.isfinite(line).all() and ((after >= 0) & (after <= 1)).all()
        found = un.calibration_summary(y, p, bootstrap_weights(50, 100, 0), CLASS, confidence=0.9)
        assert np.isfinite(found.to_numpy()).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=30))
@settings(max_examples=80, deadline=None)
def test_any_probabilities_can_be_put_right(rows):
    p = np.array([r[0] for r in rows])
    y = pd.Series(["bad" if r[1] else "good" for r in rows])
    line = fit_recalibration(y, p, CLASS)
    after = recalibrate(p, line)
    assert np.isfinite(line).all() and line.slope >= 0
    assert (np.diff(after[np.argsort(p)]) >= 0).all()
    table = un.reliability(y, p, CLASS)
    assert table["rows"].sum() == len(rows) and table["said"].is_monotonic_increasing


def test_the_summary_is_what_each_resample_gives_by_itself():
    y, p = distorted(300, 0.8, 0.2)
    weights = bootstrap_weights(300, 200, 3)
    found = un.calibration_summary(y, p, weights, CLASS, confidence=0.9)
    z, actual = on_scale(p, CLASS), (y == "bad").to_numpy(dtype=float)
    slopes, briers = [], []
    for w in weights[1:]:
        one = LogisticRegression(C=np.inf, tol=1e-8).fit(z[:, None], actual, sample_weight=w)
        slopes.append(one.coef_[0, 0])
        briers.append(np.average((actual - p) ** 2, weights=w))
    assert found.loc["slope", ["low", "high"]].tolist() == pytest.approx(
        list(np.quantile(slopes, [0.05, 0.95])), abs=1e-3
    )
    assert found.loc["brier", ["low", "high"]].tolist() == pytest.approx(
        list(np.quantile(briers, [0.05, 0.95]))
    )
    table = un.reliability(y, p, CLASS)
    gap = np.average((table["said"] - table["happened"]).abs(), weights=table["rows"])
    assert found.loc["ece", "value"] == pytest.approx(gap)


def test_right_probabilities_show_what_is_expected_of_them():
    inside, repeats = np.zeros(4), 60
    for seed in range(repeats):
        y, p = distorted(500, 1.0, 0.0, seed=seed)
        found = un.calibration_summary(
            y, p, bootstrap_weights(500, 200, seed), CLASS, confidence=0.95
        )
        inside += found["if_perfect"].between(found["low"], found["high"]).to_numpy()
    assert (inside[[0, 1, 3]] / repeats > 0.85).all()


def test_two_thousand_resamples_take_about_a_second():
    y, p = distorted(1100, 0.9, 0.1)
    weights = bootstrap_weights(1100, 2000, 0)
    started = time.process_time()
    un.calibration_summary(y, p, weights, CLASS, confidence=0.95)
    assert time.process_time() - started < 4  # measured 0.9; a busy machine takes longer


def test_equal_probabilities_share_a_bin():
    y = pd.Series(["bad", "good"] * 50)
    assert len(un.reliability(y, np.full(100, 0.5), CLASS)) == 1
    p = np.repeat([0.1, 0.9], 50)
    assert list(un.reliability(y, p, CLASS)["said"]) == pytest.approx([0.1, 0.9])
    spread = un.reliability(y, np.linspace(0, 1, 100), CLASS)
    assert list(spread["rows"]) == [10] * 10


def test_the_slice_whose_probabilities_are_wrong_is_named():
    rng = np.random.default_rng(0)
    p = rng.uniform(0.1, 0.6, size=1000)
    wrong = np.arange(1000) < 200
    y = classes(np.where(wrong, p + 0.3, p), 1)
    slices = pd.DataFrame({"kind": np.where(wrong, "wrong", "right")})
    found = un.calibration_by_slice(y, p, CLASS, slices=slices, confidence=0.95)
    assert list(found.index) == ["all rows", "kind: right", "kind: wrong"]
    assert found.loc["kind: wrong", "differs"] == "yes"
    assert found.loc["kind: right", "differs"] == "no"
    assert found.loc["kind: wrong", "said"] == pytest.approx(p[wrong].mean())
    sure = un.calibration_by_slice(
        pd.Series(["good"] * 20), np.zeros(20), CLASS, slices=None, confidence=0.95
    )
    assert list(sure["differs"]) == ["no"]


def test_calibration_is_drawn(shown):
    y, p = distorted(300, 0.5, 0.0)
    un.plot_reliability(y, p, CLASS, recalibration=fit_recalibration(y, p, CLASS))
    assert "before recalibration" in said(shown)[0]


# ---------------------------------------------------------------------------------------- costs


@given(
    st.lists(
        st.tuples(st.sampled_from(np.linspace(0, 1, 9)), st.booleans()), min_size=1, max_size=25
    )
)
@settings(max_examples=80, deadline=None)
def test_the_cost_of_each_threshold_is_counted(rows):
    p = np.array([r[0] for r in rows])
    y = pd.Series(["bad" if r[1] else "good" for r in rows])
    curve = un.cost_curve(y, p, PRICED)
    bad = (y == "bad").to_numpy()
    for threshold in [*np.linspace(0, 1, 33), *curve["threshold"]]:
        called = p >= threshold
        cost = np.mean(np.where(called, ~bad * 1.0, bad * 5.0))
        assert un.cost_at(curve, threshold) == pytest.approx(cost)
    assert len(curve) == len(np.unique(p)) + 1 and curve["best"].sum() == 1
    assert curve.loc[curve["best"], "cost"].iloc[0] == pytest.approx(curve["cost"].min())
    assert curve["cost"].iloc[0] == pytest.approx((~bad).mean())
    assert curve["cost"].iloc[-1] == pytest.approx(5 * bad.mean())


@pytest.mark.parametrize(("false_positive", "false_negative"), [(1, 5), (3, 1), (1, 1)])
def test_theory_finds_the_best_threshold_of_right_probabilities(false_positive, false_negative):
    costs = Costs(false_positive=false_positive, false_negative=false_negative)
    case = CLASS.model_copy(update={"costs": costs})
    p = np.random.default_rng(0).uniform(size=400_000)
    curve = un.cost_curve(classes(p, 1), p, case)
    best = un.best_threshold(curve)
    assert best == pytest.approx(case.threshold, abs=0.03)
    assert un.cost_at(curve, case.threshold) == pytest.approx(un.cost_at(curve, best), rel=2e-3)
    assert un.cost_at(curve, case.threshold) >= un.cost_at(curve, best)


def test_costs_are_drawn(shown):
    y, p = distorted(300, 1.0, 0.0)
    curve = un.cost_curve(y, p, PRICED)
    un.plot_costs(curve, PRICED)
    un.plot_costs(curve, PRICED, best=0.3)
    first, second = said(shown)
    assert "best here" in first and "best on out-of-fold rows" in second
