"""Rates of groups of people, and how far they lie apart, against fairlearn and by hand."""

import warnings

import numpy as np
import pandas as pd
import pytest
from fairlearn import metrics as fairlearn
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit.evaluation import bootstrap_weights
from truefit.evaluation.fairness import MEASURES, fairness_summary, group_fairness
from truefit.project import InputError
from truefit.task import Costs, make_case

BLOCK = {
    "table": "t.csv",
    "target": "y",
    "task": "classification",
    "positive": "bad",
    "slices": {"group": []},
    "protected": ["group"],
}
CASE = make_case(**BLOCK)
LIBRARY = {
    "demographic parity difference": fairlearn.demographic_parity_difference,
    "demographic parity ratio": fairlearn.demographic_parity_ratio,
    "equalized odds difference": fairlearn.equalized_odds_difference,
    "equal opportunity difference": fairlearn.equal_opportunity_difference,
}


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def people(n=600, seed=0, sizes=(0.5, 0.3, 0.2), apart=0.0):
    """Rows of three groups; ``apart`` is added to what is said of the first one."""
    rng = np.random.default_rng(seed)
    group = rng.choice(list("abc"), n, p=sizes)
    p = np.clip(rng.random(n) + apart * (group == "a"), 0, 1)
    y = np.where(rng.random(n) < 0.5, "bad", "good")
    return pd.DataFrame({"y": y}), p, pd.DataFrame({"group": group})


def summary(frame, p, labels, resamples=100, case=CASE, **more):
    weights = bootstrap_weights(len(frame), resamples, 1)
    return fairness_summary(frame, p, case, labels, weights, **({"confidence": 0.95} | more))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(-0.5, 0.5))
def test_the_summary_is_fairlearns_to_the_last_bit(seed, apart):
    frame, p, labels = people(seed=seed, apart=apart)
    found = summary(frame, p, labels, resamples=20).loc["group"]
    actual, called = (frame["y"] == "bad").astype(int), (p >= 0.5).astype(int)
    for name, library in LIBRARY.items():
        assert found.loc[name, "value"] == library(
            actual, called, sensitive_features=labels["group"]
        ), name


def test_resamples_are_fairlearns_with_weights():
    frame, p, labels = people(200)
    weights = bootstrap_weights(len(frame), 30, 1)
    actual, called = (frame["y"] == "bad").astype(int), (p >= 0.5).astype(int)
    for row in range(1, 6):
        # A resample in the first row is the value of the summary.
        mine = fairness_summary(frame, p, CASE, labels, weights[row:], confidence=0.9)
        for name, library in LIBRARY.items():
            expected = library(
                actual, called, sensitive_features=labels["group"], sample_weight=weights[row]
            )
            assert mine.loc[("group", name), "value"] == pytest.approx(expected, rel=1e-12)


def test_rates_by_group_by_hand_and_by_the_costs():
    costly = make_case(
        **BLOCK, costs=Costs(false_positive=1, false_negative=4)
    )  # calls from 0.2 on
    frame, p, labels = people()
    for case, threshold in ((CASE, 0.5), (costly, 0.2)):
        found = group_fairness(frame, p, case, labels, confidence=0.95)
        assert list(found.index) == [("group", g) for g in "abc"]
        for (_, group), row in found.iterrows():
            member = (labels["group"] == group).to_numpy()
            y, called = (frame["y"] == "bad").to_numpy()[member], p[member] >= threshold
            assert row["rows"] == member.sum()
            assert row["base_rate"] == pytest.approx(y.mean())
            assert row["selection_rate"] == pytest.approx(called.mean())
            assert row["true_positive_rate"] == pytest.approx(called[y].mean())
            assert row["false_positive_rate"] == pytest.approx(called[~y].mean())
            assert row["precision"] == pytest.approx(y[called].mean())
            assert row["mean_probability"] == pytest.approx(p[member].mean())
            for rate in ("selection_rate", "true_positive_rate", "false_positive_rate"):
                assert row[f"{rate}_low"] < row[rate] < row[f"{rate}_high"]


def test_an_interval_of_few_rows_does_not_collapse():
    frame = pd.DataFrame({"y": ["bad"] * 3 + ["good"] * 27})
    p, labels = np.r_[np.ones(3), np.zeros(27)], pd.DataFrame({"group": ["a"] * 30})
    row = group_fairness(frame, p, CASE, labels, confidence=0.95).iloc[0]
    # Wilson's interval of 3 of 3: n / (n + z²) to 1.
    assert row["true_positive_rate"] == row["true_positive_rate_high"] == 1
    assert row["true_positive_rate_low"] == pytest.approx(3 / (3 + 1.959963984540054**2))


def test_a_group_without_a_positive_row_is_blank_and_not_taken_for_0():
    frame, p, labels = people(sizes=(0.4, 0.4, 0.2))
    frame.loc[labels["group"] == "c", "y"] = "good"
    found = group_fairness(frame, p, CASE, labels, confidence=0.95).loc[("group", "c")]
    assert np.isnan(found["true_positive_rate"]) and np.isnan(found["true_positive_rate_low"])
    assert found["precision"] == 0 and found["base_rate"] == 0
    told = summary(frame, p, labels).loc["group"]
    two = (labels["group"] != "c").to_numpy()
    expected = fairlearn.equal_opportunity_difference(
        (frame["y"] == "bad")[two], (p >= 0.5)[two], sensitive_features=labels["group"][two]
    )
    assert told.loc["equal opportunity difference", "value"] == pytest.approx(expected)
    none = group_fairness(frame, p * 0, CASE, labels, confidence=0.95)
    assert none["precision"].isna().all() and (none["selection_rate"] == 0).all()
    assert np.isnan(summary(frame, p * 0, labels).loc[("group", MEASURES[1]), "value"])


def test_odds_are_compared_by_the_one_rate_that_two_groups_have():
    frame, p, labels = people()
    frame.loc[labels["group"] != "a", "y"] = "good"
    told = summary(frame, p, labels).loc["group", "value"]
    good = (frame["y"] == "good").to_numpy()
    alarms = [(p >= 0.5)[good & (labels["group"] == g)].mean() for g in "abc"]
    assert np.isnan(told["equal opportunity difference"])
    assert told["equalized odds difference"] == pytest.approx(np.ptp(alarms))


def test_what_chance_gives_leaves_out_the_groups_that_are_not_compared():
    frame, p, labels = people()
    labels["group"] = ["x"] * 10 + ["u"] * 300 + ["v"] * 290
    p = np.r_[np.ones(10), np.zeros(590)]
    assert summary(frame, p, labels).loc[("group", MEASURES[0]), "by_chance"] == 0


def test_small_groups_are_pooled_and_if_still_small_not_compared():
    frame, p, labels = people()
    labels["group"] = ["x"] * 5 + ["z"] * 6 + ["u"] * 300 + ["v"] * 289
    p = np.r_[np.ones(11), np.full(300, 0.6), np.zeros(289)]
    table = group_fairness(frame, p, CASE, labels, confidence=0.95)
    assert list(table.loc["group"].index) == ["u", "v", "others (2 values)"]
    assert table.loc[("group", "others (2 values)"), "rows"] == 11
    difference = summary(frame, np.r_[np.ones(11), np.zeros(589)], labels)
    assert difference.loc[("group", MEASURES[0]), "value"] == 0
    labels["group"] = ["x"] * 15 + ["z"] * 16 + ["u"] * 569
    pooled = summary(frame, np.r_[np.ones(31), np.zeros(569)], labels)
    assert pooled.loc[("group", MEASURES[0]), "value"] == 1


def test_one_group_has_nothing_to_be_compared_with():
    frame, p, labels = people()
    labels["group"] = "only"
    found = summary(frame, p, labels)
    assert found[["value", "low", "high", "by_chance"]].isna().all().all()
    assert (found["beyond_chance"] == "").all()
    assert len(group_fairness(frame, p, CASE, labels, confidence=0.95)) == 1


def test_groups_treated_alike_are_apart_by_chance_alone_and_others_are_not():
    yes = []
    for seed in range(40):
        frame, p, labels = people(seed=seed)
        found = summary(frame, p, labels, resamples=100, seed=seed)
        assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
        yes.append(found["beyond_chance"] == "yes")
    # Four figures that go together, of 40 tables: 5 % are expected.
    assert np.mean(yes) <= 0.15
    frame, p, labels = people(apart=0.4)
    found = summary(frame, p, labels)
    assert (found["beyond_chance"] == "yes").all()
    assert found.loc[("group", MEASURES[0]), "value"] > found["by_chance"].iloc[0] * 3
    assert found.loc[("group", MEASURES[1]), "value"] < found["by_chance"].iloc[1]


def test_what_chance_gives_is_what_shuffled_labels_give():
    frame, p, labels = people(120)
    by_chance = summary(frame, p, labels).loc["group", "by_chance"]
    rng, found = np.random.default_rng(7), {MEASURES[0]: [], MEASURES[3]: []}
    actual, called = (frame["y"] == "bad").to_numpy(), p >= 0.5
    group = labels["group"].to_numpy()
    for _ in range(400):
        shuffled = rng.permutation(group)
        found[MEASURES[0]].append(np.ptp([called[shuffled == g].mean() for g in "abc"]))
        inside = rng.permutation(group[actual])
        found[MEASURES[3]].append(np.ptp([called[actual][inside == g].mean() for g in "abc"]))
    for name, values in found.items():
        error = np.std(values) / np.sqrt(len(values))
        assert by_chance[name] == pytest.approx(np.mean(values), abs=4 * error)


def test_the_seed_reproduces_it():
    frame, p, labels = people()
    first = summary(frame, p, labels, seed=3)
    pd.testing.assert_frame_equal(first, summary(frame, p, labels, seed=3), check_exact=True)
    other = summary(frame, p, labels, seed=4)
    assert (other["by_chance"] != first["by_chance"]).any()
    assert (other[["value", "low", "high"]] == first[["value", "low", "high"]]).all().all()


def test_a_slice_that_is_not_there_is_told():
    frame, p, labels = people()
    with pytest.raises(InputError, match="'group' is protected, and must be among the slices"):
        summary(frame, p, labels[[]])
    free = make_case(**(BLOCK | {"protected": []}))
    assert group_fairness(frame, p, free, labels, confidence=0.9).empty
    assert summary(frame, p, labels, case=free).empty
