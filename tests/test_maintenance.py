"""What waiting costs, replayed without looking ahead, and what a challenger must show."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from cases import PARAMS, built, fitted, held_out, live, train
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import maintenance
from truefit.case import Limit
from truefit.maintenance.staleness import _joined
from truefit.metrics import scores, truth

CHOICE, WATCHING = PARAMS.maintenance, PARAMS.monitoring
RULE, LEVEL = WATCHING.rules.bias, WATCHING.false_alarms


def history(name, production=None, *, most=CHOICE.windows, least_rows=WATCHING.least_rows):
    rows = live(name) if production is None else production
    return maintenance.history(
        train(name), held_out(name), rows, PARAMS.cases[name],
        window_rows=WATCHING.window_rows, least_rows=least_rows, most=most,
    )  # fmt: skip


def bench(name, model, past=None):
    past = history(name) if past is None else past
    return maintenance.Bench(built(name, model), past, PARAMS.cases[name], folds=2, seed=0)


def policies(window="window"):
    return maintenance.usual_policies(CHOICE.every, CHOICE.newest, RULE, window)


def replay(on, chosen):
    return {p.name: maintenance.follow(p, on, false_alarms=LEVEL) for p in chosen}


def bill(name, replayed, past):
    case = PARAMS.cases[name]
    y, predicted = past.live[case.target], {n: r.predictions for n, r in replayed.items()}
    draws = maintenance.resampled(predicted, y, case, resamples=300, seed=0)
    return draws, maintenance.costs(replayed, draws, case, confidence=0.95)


# The history


def test_the_history_has_every_row_once_in_the_order_of_its_windows():
    past = history("homes")
    assert len(past.rows) == len(train("homes")) + len(held_out("homes")) + len(live("homes"))
    assert past.rows["pid"].is_unique and (np.diff(past.windows) >= 0).all()
    assert set(past.live["pid"]) == set(live("homes")["pid"])
    quarters = past.rows["yr_sold"] * 4 + (past.rows["mo_sold"] + 2) // 3
    assert quarters.is_monotonic_increasing
    # Eight sales of July 2010 are too few for a window of their own.
    assert past.names[-2:] == ["2010-1", "2010-2 to 2010-3"] and past.names[past.first] == "2009-1"


def test_more_windows_than_allowed_are_joined_with_their_neighbours_on_both_sides():
    past = history("machines", most=8)
    assert len(past.names) - past.first == 8 and past.together == 3
    assert past.names[past.first - 1 :][:2] == ["10 to 12", "13 to 15"]


def test_where_no_live_row_has_a_label_the_test_rows_are_replayed():
    for rows in (live("loans").iloc[:0], live("loans").assign(status=None)):
        past = history("loans", rows)
        assert len(past.rows) == len(train("loans")) + len(held_out("loans"))
        assert past.live["amount"].tolist() == held_out("loans")["amount"].tolist()


def test_a_live_row_that_breaks_a_rule_is_predicted_and_never_learned_from():
    palace = live("homes").iloc[[0]].assign(gr_liv_area=9000, pid=1)
    past = history("homes", pd.concat([live("homes"), palace], ignore_index=True))
    assert 1 in set(past.live["pid"])
    assert 1 not in set(past.to_learn((0, len(past.names)))["pid"])


@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 50), st.integers(1, 4))
def test_joined_windows_are_neighbours_and_have_rows_enough(sizes, least, together):
    numbers = _joined(sizes, least, together)
    assert len(numbers) == len(sizes) and numbers[0] == 0
    assert set(np.diff(numbers)) <= {0, 1}
    rows = np.bincount(numbers, weights=sizes)
    assert (rows >= least).all() or len(rows) == 1
    if least == 1:
        assert (np.bincount(numbers)[:-1] == together).all()


# Staleness


def test_a_replay_knows_nothing_of_what_comes_later():
    past = history("machines", most=8)
    now = past.first + 4
    later = past.windows >= now
    turned = past.rows["price"].where(~later, past.rows["price"].to_numpy()[::-1])
    changed = replace(
        past,
        rows=past.rows.assign(price=turned),
        learned=past.learned.assign(price=turned[past.learned.index]),
    )
    known = past.windows[past.windows >= past.first] <= now  # its own inputs are known, too
    as_it_was = replay(bench("machines", "ridge", past), policies())
    with_other_labels = replay(bench("machines", "ridge", changed), policies())
    differ = []
    for name, found in as_it_was.items():
        other = with_other_labels[name].predictions
        np.testing.assert_array_equal(found.predictions[known], other[known])
        differ.append(not np.array_equal(found.predictions, other))
    assert differ == [False] + [True] * (len(differ) - 1)  # all but the frozen one learn later


def test_an_alarm_comes_when_the_labels_have_come_and_not_before():
    past = history("homes")
    raised = past.first + 2
    doubled = past.rows["sale_price"] * np.where(past.windows >= raised, 2, 1)
    past = replace(
        past,
        rows=past.rows.assign(sale_price=doubled),
        learned=past.learned.assign(sale_price=doubled[past.learned.index]),
    )
    policy = maintenance.Policy("alarm", 1, None, RULE)
    found = maintenance.follow(policy, bench("homes", "ridge", past), false_alarms=LEVEL)
    # The new model knows the new level and nothing else, so there is no second alarm.
    assert found.retrained == [raised + 1]


def test_on_computers_the_window_matters_more_than_the_frequency():
    past, case = history("machines"), PARAMS.cases["machines"]
    chosen = {p.name: p for p in policies("month")}
    replayed = replay(
        bench("machines", "lightgbm", past),
        [chosen[n] for n in (
            "never", "every 3 months, on all history", "each month, on all history",
            "every 3 months, on the newest 6 months", "each month, on the newest 6 months",
            "when bias is amber, on the newest 6 months",
        )],
    )  # fmt: skip
    draws, table = bill("machines", replayed, past)
    frozen, seldom, often, recent, both, alarm = table["value"]
    assert 0.3 < frozen < 0.4 and 0.15 < seldom < 0.2
    assert recent < often < seldom  # newest rows, quarterly, beat all rows, monthly
    assert both <= 0.11 and alarm <= 0.11
    assert (table["better"][1:] == "yes").all() and table["gain_low"][1:].min() > 0.1
    asked = {"worth": CHOICE.worth, "confidence": 0.95}
    chosen = maintenance.sensible(table, draws, case, **asked)
    assert table.loc[chosen, "value"] <= 0.11
    assert maintenance.worth_it(draws, "never", case, **asked)[1:].all()


@pytest.mark.parametrize(("name", "model"), [("homes", "ridge"), ("loans", "logistic")])
def test_where_nothing_changes_no_alarm_is_raised_and_retraining_is_not_worth_it(name, model):
    past, case = history(name), PARAMS.cases[name]
    replayed = replay(bench(name, model, past), policies())
    draws, table = bill(name, replayed, past)
    assert [len(replayed[p.name].retrained) for p in policies() if p.rule] == [0, 0]
    asked = {"worth": CHOICE.worth, "confidence": 0.95}
    assert not maintenance.worth_it(draws, "never", case, **asked).any()
    assert maintenance.sensible(table, draws, case, **asked) == "never"
    # The signs of the table are those of the metric itself, whichever way it counts.
    values = {
        n: scores(past.live[case.target], r.predictions, case)[case.main_metric]
        for n, r in replayed.items()
    }
    sign = 1 if case.positive else -1
    expected = [sign * (v - values["never"]) for v in values.values()]
    np.testing.assert_allclose(table["gain"], expected, atol=1e-12)


def test_a_policy_does_not_learn_from_windows_that_lack_a_class():
    past = history("loans")
    only_good = past.learned["status"].where(past.windows[past.learned.index] < past.first, "good")
    past = replace(past, learned=past.learned.assign(status=only_good))
    found = maintenance.follow(
        maintenance.Policy("newest", 1, 1), bench("loans", "logistic", past), false_alarms=LEVEL
    )
    assert found.retrained == []


@settings(max_examples=30)
@given(st.integers(0, 10_000))
def test_unchanged_errors_are_seldom_red_and_a_bias_is(seed):
    rng = np.random.default_rng(seed)
    usual, windows = rng.normal(0, 0.1, 500), list(rng.normal(0, 0.1, (6, 150)))
    asked = {"unit": 1.0, "false_alarms": 1e-6}
    assert not maintenance.bias_is_red(windows, usual, RULE, **asked)
    red = [*windows, rng.normal(-RULE.red - 0.1, 0.1, 150)]
    assert maintenance.bias_is_red(red, usual, RULE, **asked)
    # A smaller one is red when it has been there as often as patience says, and not before.
    middle = (RULE.amber + RULE.red) / 2
    small = [rng.normal(middle, 0.02, 150) for _ in range(RULE.patience)]
    assert not maintenance.bias_is_red([*windows, *small[:-1]], usual, RULE, **asked)
    assert maintenance.bias_is_red([*windows, *small], usual, RULE, **asked)


def test_alarms_are_as_seldom_as_promised():
    rng = np.random.default_rng(1)
    sensitive = RULE.model_copy(update={"amber": 0.0, "red": 0.0})
    hits = [
        maintenance.bias_is_red(
            [rng.normal(size=100)], rng.normal(size=400), sensitive, unit=1, false_alarms=0.05
        )
        for _ in range(600)
    ]
    # A third of the promise: the monitor asks three groups of questions, and this is of one.
    assert 0.05 / 3 / 3 < np.mean(hits) < 0.05


def test_the_mean_error_of_a_frozen_model_shows_the_price_level_falling():
    on = bench("machines", "hist_gradient_boosting")
    case, past = PARAMS.cases["machines"], on.history
    frozen = on.predictions((0, past.first))
    table = maintenance.mean_errors(frozen, past, case, confidence=0.95)
    assert table["rows"].sum() == len(past.live)
    assert -0.08 < table.loc["13", "mean"] < -0.01 and -0.35 < table.loc["20", "mean"] < -0.2
    assert (table["high"] < 0).all()
    y = truth(past.live["price"], case)
    windows = np.asarray(past.windows)[np.asarray(past.windows) >= past.first]
    by_hand = pd.Series(np.log(y / frozen)).groupby(windows).mean()
    np.testing.assert_allclose(table["mean"], by_hand)


def test_the_inputs_that_moved_are_named_and_unchanged_ones_are_not():
    moved = maintenance.input_drift(history("machines"), ["hd", "speed", "screen", "cd"], 6)
    assert moved.index[0] == "hd" and (moved["q"] < 1e-6).all()
    columns = ["age", "income", "home", "amount"]
    assert (maintenance.input_drift(history("loans"), columns, 6)["q"] > LEVEL).all()


# The challenger


@pytest.fixture(scope="module")
def months():
    """The model of the first year, a new one of months 27 to 32, and the three months after."""
    past = history("machines")
    on = bench("machines", "hist_gradient_boosting", past)
    judged = past.rows[past.windows >= len(past.names) - 2]
    span = past.newest(6, len(past.names) - 2)
    return (
        fitted("machines", "hist_gradient_boosting"),
        on.fitted(span),
        past.to_learn(span),
        judged,
    )


def challenge(champion, challenger, learned, judged, case=PARAMS.cases["machines"]):
    return maintenance.challenge(
        champion, challenger, learned, judged, case, resamples=300, confidence=0.95, seed=0
    )


def test_a_challenger_that_is_better_and_passes_the_gate_is_promoted(months):
    found = challenge(*months)
    assert found.promote and found.gate["passed"]
    assert found.difference.loc["rmse_log", "high"] < -0.3
    assert found.reasons[-1] == "it passes the gate" and "better beyond chance" in found.reasons[0]


ALIKE = [
    b.model_copy(update={"expect": "same", "name": "all alike", "share": 1.0})
    for b in PARAMS.cases["machines"].behaviour
]


@pytest.mark.parametrize(
    ("stricter", "culprit"),
    [
        ({"gate": [Limit(metric="rmse_log", at_most=0.03)]}, "RMSE of the logarithm at most 0.03"),
        ({"behaviour": ALIKE}, "all alike"),
    ],
)
def test_a_challenger_that_beats_the_champion_and_fails_the_gate_stays_out(
    months, stricter, culprit
):
    case = PARAMS.cases["machines"].model_copy(update=stricter)
    found = challenge(*months, case)
    assert found.difference.loc["rmse_log", "better"] == "yes"
    assert not found.promote and len(found.reasons) == 1 and culprit in found.reasons[0]


def test_a_challenger_that_is_not_better_stays_out_though_it_passes_the_gate(months):
    _, good, learned, judged = months
    found = challenge(good, good, learned, judged)
    assert found.gate["passed"] and not found.promote
    (reason,) = found.reasons
    assert reason.startswith("it is not better beyond chance: RMSE of the logarithm minus")


def test_a_champion_that_is_better_is_kept_and_all_reasons_are_given(months):
    old, good, learned, judged = months
    found = challenge(good, old, learned, judged)
    assert found.difference.loc["rmse_log", "better"] == "no"
    failed = [c["check"] for c in found.gate["checks"] if not c["passed"]]
    assert not found.promote and len(found.reasons) == 1 + len(failed) > 1


# Canary and shadow


@pytest.mark.parametrize(
    ("share", "better", "together"),
    [(0.1, 0.1, 0.5), (0.3, 0.2, 0.9), (0.5, 0.1, 0.9), (1, 0.1, 0.5), (1, 0.1, 0.9)],
)
def test_the_rows_needed_show_the_difference_as_often_as_asked(share, better, together):
    rows = maintenance.rows_needed(share, better=better, together=together)
    seen = maintenance.chance_to_see(
        rows, share, better=better, together=together, trials=600, seed=0
    )
    assert abs(seen - 0.8) < 0.06


def test_a_canary_needs_more_rows_than_shadow_and_a_smaller_one_more_still():
    needed = [
        maintenance.rows_needed(share, better=0.1, together=0.9) for share in (1, 0.5, 0.1, 0.01)
    ]
    assert needed == sorted(needed) and needed[2] > 10 * needed[0]
    assert maintenance.rows_needed(0.5, better=0.2, together=0.9) < needed[1] / 3
