"""What errors are to be expected before labels come, and how that fares when they have come."""

from itertools import product

import cases
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import cross_val_predict

from truefit.monitoring import estimate
from truefit.monitoring.traffic import Traffic
from truefit.task import BinaryClassification, Regression

NUMBER = Regression(table="t.csv", target="y")
CLASS = BinaryClassification(table="t.csv", target="y", positive="bad")
probabilities = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=7)


def traffic(truth, score, windows=None, rows=None):
    score = pd.Series(score, dtype=float)
    index = score.index
    return Traffic(
        pd.DataFrame(index=index) if rows is None else rows.reset_index(drop=True),
        pd.DataFrame({"score": score}),
        pd.Series(truth, index, dtype=float),
        pd.Series("now" if windows is None else windows, index),
        pd.Series(index),
    )


@settings(max_examples=50)
@given(probabilities)
def test_probabilities_expect_what_all_outcomes_give_on_average(p):
    p = np.array(p)
    brier = accuracy = 0.0
    for outcome in product([0, 1], repeat=len(p)):
        truth = np.array(outcome)
        chance = np.prod(np.where(truth == 1, p, 1 - p))
        brier += chance * np.mean((truth - p) ** 2)
        accuracy += chance * np.mean((p >= 0.5) == truth)
    assert np.isclose(estimate.expected_losses(p).mean(), brier)
    assert np.isclose(estimate.expected_accuracy(p), accuracy)


@settings(max_examples=50)
@given(st.lists(st.floats(0.01, 0.99), min_size=2, max_size=8))
def test_the_expected_area_counts_each_pair_of_rows(p):
    won = total = 0.0
    for i, j in product(range(len(p)), repeat=2):
        if i != j:
            weight = p[i] * (1 - p[j])
            total += weight
            won += weight * (1.0 if p[i] > p[j] else 0.5 if p[i] == p[j] else 0.0)
    assert np.isclose(estimate.expected_auc(np.array(p)), won / total, atol=1e-9)


@pytest.mark.parametrize("p", [[1.0, 1.0], [0.0], [0.3]])
def test_without_a_pair_there_is_no_area(p):
    assert np.isnan(estimate.expected_auc(np.array(p)))


def test_calibrated_probabilities_know_their_figures():
    rng = np.random.default_rng(4)
    p = rng.beta(2, 5, 4000)
    truth = (rng.random(4000) < p).astype(float)
    from sklearn.metrics import roc_auc_score

    assert abs(estimate.expected_auc(p) - roc_auc_score(truth, p)) < 0.03
    assert abs(estimate.expected_losses(p).mean() - np.mean((truth - p) ** 2)) < 0.01


def test_a_loss_model_knows_which_rows_are_hard():
    rng = np.random.default_rng(5)
    rows = pd.DataFrame({"size": rng.random(3000), "kind": rng.choice(["easy", "hard"], 3000)})
    scores = rng.random(3000)
    loss = np.abs(rng.normal(size=3000)) * np.where(rows["kind"] == "hard", 3, 1)
    model = estimate.fit_losses(rows, scores, loss, seed=0)
    said = pd.Series(model.estimate(rows, scores)).groupby(rows["kind"]).mean()
    real = pd.Series(loss).groupby(rows["kind"]).mean()
    assert np.allclose(said, real, rtol=0.1)
    # A column that is masked, a category that nobody knew, an empty column, no row at all.
    for other in (rows[["size"]], rows.assign(kind="new"), rows.assign(size=None)):
        assert np.isfinite(model.estimate(other, scores)).all()
    assert model.estimate(rows.head(0), scores[:0]).shape == (0,)


def test_windows_without_labels_have_an_estimate_alone():
    nan = np.nan
    found = estimate.by_window(
        traffic([1, 5, nan, 8, nan, nan], [2, 2, 3, 4, 5, 6], list("aabbcc")),
        NUMBER, np.array([1.0, 2, 3, 4, 5, 6]), confidence=0.95,
    )  # fmt: skip
    assert found["labelled"].tolist() == [2, 1, 0] and found["estimated"].tolist() == [
        1.5,
        3.5,
        5.5,
    ]
    assert found.loc["a", "real"] == 2 and found.loc[["b", "c"], "real"].isna().all()
    assert found.loc["a", "low"] < 2 < found.loc["a", "high"]
    judged = estimate.agreement(found)
    assert judged.windows == judged.inside == 1 and judged.ratio == 2 / 1.5
    assert np.isnan(judged.correlation)
    assert estimate.agreement(found.loc[["b", "c"]]) is None


def test_losses_are_what_the_rules_look_at():
    one, half = traffic([np.e, 1.0], [1.0, np.e]), traffic([1, 0], [0.75, 0.5])
    logged = NUMBER.model_copy(update={"log_target": True})
    assert np.allclose(estimate.losses(one, logged), 1)
    assert np.allclose(estimate.losses(one, NUMBER), np.e - 1)
    assert np.allclose(estimate.losses(half, CLASS), [0.0625, 0.25])


def test_the_interval_of_the_real_error_covers_it_as_often_as_it_says():
    rng = np.random.default_rng(6)
    drawn = traffic(rng.exponential(size=40_000), np.zeros(40_000), np.repeat(np.arange(400), 100))
    found = estimate.by_window(drawn, NUMBER, np.ones(40_000), confidence=0.9)
    assert 0.84 < estimate.agreement(found).inside / 400 < 0.94  # the errors are skewed


def test_it_cannot_see_prices_fall():
    """The estimate stays where it was, while the real error grows fivefold."""
    case, train, live = (f("machines") for f in (cases.PARAMS.cases.get, cases.train, cases.live))
    inputs = [c for c in train if c not in (case.target, case.time, *case.drop_columns)]
    held_out = cross_val_predict(
        cases.built("machines", "ridge"), train.drop(columns=case.target), train[case.target], cv=3
    )
    loss = estimate.losses(traffic(train[case.target].to_numpy(), held_out), case)
    model = estimate.fit_losses(train[inputs], held_out, loss, seed=0)
    score = cases.fitted("machines", "ridge").predict(live.drop(columns=case.target))
    drawn = traffic(live[case.target].to_numpy(), score, live["trend"].to_numpy(), live[inputs])
    found = estimate.by_window(drawn, case, model.estimate(drawn.rows, score), confidence=0.95)
    assert abs(found.loc[13, "real"] / found.loc[13, "estimated"] - 1) < 0.3
    assert found.loc[30, "real"] > 4 * found.loc[30, "estimated"]
    assert found["estimated"].max() < 1.5 * found.loc[13, "estimated"]
