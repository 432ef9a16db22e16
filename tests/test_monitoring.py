"""The monitor speaks where something changed, says what, and is silent where nothing did."""

from dataclasses import replace
from functools import cache
from itertools import product

import cases
import numpy as np
import pandas as pd
import pytest
import service
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from truefit import digits, monitoring
from truefit.bundle import Bundle
from truefit.case import Window
from truefit.monitoring import faults, statistics
from truefit.monitoring.traffic import Baseline, Traffic
from truefit.project import InputError

CHOSEN = cases.PARAMS.monitoring
RESAMPLES = 30
WINDOWS = {"homes": 1, "loans": 2, "machines": 2}  # that the held-out rows are enough for


def block(name: str):
    return cases.PARAMS.cases[name]


@cache
def bundle(name: str) -> Bundle:
    return Bundle(service.models() / name / "bundle")


@cache
def usual(name: str) -> Baseline:
    parts = cases.train(name), cases.held_out(name)
    return monitoring.baseline(
        bundle(name), block(name), *parts, components=2, seed=CHOSEN.seed
    )  # fmt: skip


@cache
def live(name: str) -> Traffic:
    options = {"window_rows": CHOSEN.window_rows, "seed": CHOSEN.seed}
    return monitoring.replay(bundle(name), block(name), cases.live(name), **options)


@cache
def findings(name: str) -> pd.DataFrame:
    return monitoring.watch(usual(name), live(name), block(name), CHOSEN)


def of(found: pd.DataFrame, **wanted) -> pd.DataFrame:
    for column, value in wanted.items():
        found = found[found[column] == value]
    return found


# Three tables


def test_windows_follow_the_calendar_of_the_case():
    assert live("machines").names == [str(month) for month in range(13, 36)]
    quarters = [f"{year}-{quarter}" for year in (2009, 2010) for quarter in (1, 2, 3, 4)]
    assert live("homes").names == quarters[:7]
    assert live("homes").windows.value_counts()["2010-3"] == 8
    assert live("loans").windows.value_counts().to_dict() == {"1": 150, "2": 250}


def test_prices_that_fall_are_seen_at_once_and_named():
    bias = of(findings("machines"), rule="bias").set_index("window")
    assert bias["value"].loc[["13", "20", "30"]].to_list() == pytest.approx(
        [-0.04, -0.25, -0.53], abs=0.06
    )
    assert bias["light"].loc["14":"15"].to_list() == ["amber", "red"]
    assert (bias["light"].loc["15":] == "red").all()
    assert "lower than predicted" in bias["reason"]["15"]
    assert monitoring.advice(findings("machines"), "15") == (True, bias["reason"]["15"])


def test_the_prices_themselves_show_nothing_in_the_first_month():
    (target,) = of(findings("machines"), rule="target", window="13")["light"]
    assert target == "green"


@pytest.mark.parametrize(("column", "latest"), [("hd", 20), ("speed", 27)])
def test_larger_disks_and_faster_processors_are_named(column, latest):
    drift = of(findings("machines"), rule="drift", subject=column)
    first = drift[drift["light"] == "red"].iloc[0]
    assert int(first["window"]) <= latest
    assert f"{column} has become larger" in first["reason"]


def test_house_prices_after_2008_raise_no_alarm():
    board = monitoring.lights(live("homes"), findings("homes"))
    assert (board["labels"].iloc[:6] == "green").all()
    assert (board["predictions"].iloc[:6] == "green").all()
    advised = [monitoring.advice(findings("homes"), w) for w in live("homes").names]
    assert not any(a.retrain for a in advised)


def test_held_out_applicants_raise_no_alarm():
    assert "red" not in set(findings("loans")["light"])


def test_nothing_is_concluded_from_eight_rows():
    assert of(findings("homes"), window="2010-3").empty
    board = monitoring.lights(live("homes"), findings("homes")).loc["2010-3"]
    assert (board["rows"], board["labelled"], board["light"]) == (8, 8, "")


def later(name: str, **changed: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """What the monitor finds in two windows of unchanged rows, the second not labelled yet."""
    before, traffic = unchanged(name, 1, 2)
    first = traffic.windows == "0"
    usual_parts = {"rows": traffic.rows, "truth": traffic.truth}
    parts = {p: changed.get(p, was).where(first, was) for p, was in usual_parts.items()}
    parts["truth"] = parts["truth"].where(first)
    return monitoring.watch(before, replace(traffic, **parts), block(name), CHOSEN)


def test_what_the_last_labels_said_holds_until_others_come():
    found = later("homes", truth=unchanged("homes", 1, 2)[1].truth * 0.8)
    assert of(found, window="1", light="red").empty
    assert monitoring.light(found, "1") == "red"
    retrain, reason = monitoring.advice(found, "1")
    assert retrain and reason == f"{monitoring.headline(found, '0')} (in 0, the newest with labels)"
    assert "% lower than predicted" in reason


def test_labels_of_rows_that_were_broken_are_no_reason_to_retrain():
    traffic = unchanged("homes", 1, 2)[1]
    rows = traffic.rows.assign(overall_qual=np.nan)
    found = later("homes", rows=rows, truth=traffic.truth * 0.8)
    retrain, reason = monitoring.advice(found, "1")
    assert not retrain and reason.startswith("mend the data first: overall_qual has gone missing")


def test_what_is_amber_has_a_reason():
    amber = findings("machines").query("window == '13' and found")
    assert monitoring.light(findings("machines"), "13") == "amber"
    reason = monitoring.advice(findings("machines"), "13").reason
    assert reason.removeprefix("nothing to do yet: ") in set(amber["reason"])


# Silence


def unchanged(name: str, seed: int, windows: int) -> tuple[Baseline, Traffic]:
    """Rows that nothing was fitted on, dealt at random: some are usual, some come as windows."""
    before, rows = usual(name), usual(name).held
    order = np.random.default_rng(seed).permutation(len(rows.rows))
    half = len(order) // 2
    held, come = rows.take(order[:half]), rows.take(order[half:])
    learned = before.rows.iloc[: -len(order)]
    known = pd.concat([learned, held.rows], ignore_index=True)
    names = pd.Series(np.arange(len(come.rows)) * windows // len(come.rows)).astype(str)
    return Baseline(before.bundle, known, held, before.usual, before.clock), replace(
        come, windows=names
    )


def test_unchanged_rows_raise_alarms_no_more_often_than_promised():
    looked, alarmed, without_adjustment = 0, 0, 0
    for (name, windows), seed in product(WINDOWS.items(), range(RESAMPLES)):
        found = monitoring.watch(*unchanged(name, seed, windows), block(name), CHOSEN)
        by_window = found.groupby("window")
        looked += windows
        alarmed += by_window["found"].any().sum()
        without_adjustment += (by_window["p"].min() <= CHOSEN.false_alarms).sum()
    # What chance alone makes of the promise in one test of a thousand.
    most = stats.binom.ppf(0.999, looked, CHOSEN.false_alarms)
    assert alarmed <= most
    assert without_adjustment > 2 * most  # so it is the adjustment that keeps the silence


# Speech


def plant(name: str, **changed: pd.DataFrame | pd.Series) -> pd.DataFrame:
    """What the monitor finds where one window of unchanged rows has a fault."""
    before, traffic = unchanged(name, 1, 1)
    return monitoring.watch(before, replace(traffic, **changed), block(name), CHOSEN)


def rows_of(name: str) -> pd.DataFrame:
    return unchanged(name, 1, 1)[1].rows


def worst(found: pd.DataFrame) -> tuple[str, str]:
    """The light and the headline of the only window."""
    lights = found["light"].map(["green", "amber", "red"].index)
    return ["green", "amber", "red"][lights.max()], monitoring.headline(found, found["window"][0])


@pytest.mark.parametrize("column", ["gr_liv_area", "total_bsmt_sf", "lot_frontage"])
def test_a_unit_that_changed_is_found_and_named(column):
    square = block("homes").unit(column) == "square feet"
    rows = rows_of("homes")
    rows = rows.assign(**{column: (rows[column] * 0.3048 ** (2 if square else 1)).round(1)})
    light, said = worst(found := plant("homes", rows=rows))
    assert light == "red"
    assert said == (
        f"{column} is probably given in square metres instead of square feet"
        if square
        else f"{column} is probably given in metres instead of feet"
    )
    assert not monitoring.advice(found, "0").retrain


@pytest.mark.parametrize(
    ("name", "column", "old"),
    [("homes", "ms_zoning", "RL"), ("loans", "home", "rent"), ("machines", "premium", "yes")],
)
def test_a_category_that_was_renamed_is_found_and_named(name, column, old):
    rows = rows_of(name)
    rows = rows.assign(**{column: rows[column].replace(old, "Renamed")})
    light, said = worst(found := plant(name, rows=rows))
    assert (light, said) == ("red", f"{column}: {old!r} has probably been renamed 'Renamed'")
    assert not monitoring.advice(found, "0").retrain


@pytest.mark.parametrize(
    ("name", "column"), [("homes", "overall_qual"), ("loans", "job"), ("machines", "hd")]
)
def test_a_column_that_went_missing_is_found_and_named(name, column):
    rows = rows_of(name)
    empty = np.nan if pd.api.types.is_numeric_dtype(rows[column]) else None
    found = plant(name, rows=rows.assign(**{column: empty}))
    assert worst(found) == ("red", f"{column} has gone missing: it is empty in every row")
    assert monitoring.advice(found, "0").reason.startswith("mend the data first")


@pytest.mark.parametrize("name", ["homes", "machines"])
def test_prices_ten_percent_up_are_found_and_named(name):
    truth = unchanged(name, 1, 1)[1].truth
    light, said = worst(found := plant(name, truth=truth * 1.1))
    assert light == "red"
    assert said.startswith(f"{block(name).target} is ") and said.endswith("% higher than predicted")
    (bias,) = of(found, rule="bias")["effect"]
    assert np.expm1(bias) == pytest.approx(0.1, abs=0.03)
    assert monitoring.advice(found, "0").retrain


def test_a_risk_that_rose_is_found_and_named():
    truth = unchanged("loans", 1, 1)[1].truth.copy()
    flipped = truth.index[truth == 0][::4]  # one good loan in four turns bad
    truth[flipped] = 1
    found = plant("loans", truth=truth)
    (bias,) = of(found, rule="bias").itertuples()
    assert worst(found)[0] == "red" and bias.found
    assert bias.reason.startswith("'bad' is higher by ")
    assert bias.reason.endswith(" of the rows than predicted")


@pytest.mark.parametrize("name", cases.NAMES)
def test_labels_that_were_shuffled_are_found_and_named(name):
    truth = unchanged(name, 1, 1)[1].truth
    mixed = truth.sample(frac=1, random_state=3).set_axis(truth.index)
    light, said = worst(found := plant(name, truth=mixed))
    assert light == "red"
    assert "labels were probably joined with the wrong rows" in said
    assert not monitoring.advice(found, "0").retrain  # what a new model would learn is wrong


@pytest.mark.parametrize("name", cases.NAMES)
def test_the_faults_that_the_notebook_plants_are_found_by_the_rules_it_names(name):
    before, rng = usual(name), np.random.default_rng(4)
    planted = list(faults.plant(before, block(name), lambda w: drawn(before, rng, w), rng))
    assert [f.rule for f in planted] == ["drift", "unseen", "missing", "bias", "ranking"]
    trial = faults.together([fault.window for fault in planted])
    found = monitoring.watch(before, trial, block(name), CHOSEN)
    for fault in planted:
        (hit,) = of(found, window=fault.name, rule=fault.rule, subject=fault.subject)["found"]
        assert hit, fault.name


def drawn(before: Baseline, rng: np.random.Generator, name: str) -> Traffic:
    return faults.unchanged(before, 300, rng, name)


def test_the_rows_to_look_at_are_those_that_show_it():
    before, traffic = unchanged("homes", 1, 1)
    rows = traffic.rows.copy()
    rows.loc[3:20, "kitchen_qual"] = "Superb"
    found = monitoring.watch(before, replace(traffic, rows=rows), block("homes"), CHOSEN)
    (hit,) = of(found, rule="unseen", subject="kitchen_qual").itertuples()
    assert hit.look == tuple(traffic.ids[3:8])
    assert hit.value == pytest.approx(18 / len(rows))


# The rules


def bias_when_ruled(windows: list[int], **change) -> pd.DataFrame:
    """What a changed rule finds in the prices of some months."""
    bias = CHOSEN.rules.bias.model_copy(update=change)
    chosen = CHOSEN.model_copy(update={"rules": CHOSEN.rules.model_copy(update={"bias": bias})})
    whole = live("machines")
    some = whole.take(whole.windows.isin(map(str, windows)).to_numpy())
    return of(monitoring.watch(usual("machines"), some, block("machines"), chosen), rule="bias")


def test_patience_turns_amber_into_red_when_it_lasts():
    bias = bias_when_ruled([13, 14, 15, 16, 17, 18], red=9.0, patience=4)
    assert bias["light"].to_list() == ["green"] + ["amber"] * 3 + ["red"] * 2
    assert bias["in_a_row"].to_list() == [0, 1, 2, 3, 4, 5]


def test_a_large_effect_is_red_at_once():
    assert bias_when_ruled([14], red=0.03, patience=99)["light"].to_list() == ["red"]
    assert bias_when_ruled([14], red=0.3, patience=99)["light"].to_list() == ["amber"]


def test_what_is_too_small_to_matter_is_not_found_however_certain():
    bias = bias_when_ruled([14, 15, 16, 26], amber=0.3, red=0.5)
    assert (bias["q"] < 1e-6).all() and bias["found"].to_list() == [False, False, False, True]


def test_what_comes_later_does_not_change_what_was_said():
    whole, traffic = findings("machines"), live("machines")
    early = traffic.take(traffic.windows.isin(traffic.names[:3]).to_numpy())
    said = monitoring.watch(usual("machines"), early, block("machines"), CHOSEN)
    pd.testing.assert_frame_equal(said, whole.iloc[: len(said)])


def test_labels_that_have_not_come_are_not_judged():
    late = replace(live("loans"), truth=live("loans").truth.where(live("loans").windows != "2"))
    found = monitoring.watch(usual("loans"), late, block("loans"), CHOSEN)
    assert set(of(found, window="2")["group"]) == {"inputs", "predictions"}
    board = monitoring.lights(late, found)
    assert (board["labelled"]["2"], board["labels"]["2"]) == (0, "")


def test_columns_that_tell_the_time_are_not_compared():
    assert not {"mo_sold", "yr_sold"} & set(findings("homes")["subject"])
    assert {"year_built", "gr_liv_area"} <= set(findings("homes")["subject"])


def test_columns_masked_in_a_log_are_left_out():
    masked = replace(live("loans"), rows=live("loans").rows.drop(columns=["age", "home"]))
    found = monitoring.watch(usual("loans"), masked, block("loans"), CHOSEN)
    assert not {"age", "home"} & set(found["subject"])
    assert "income" in set(found["subject"])


def test_a_block_without_windows_has_one_for_each_time():
    case = block("machines").model_copy(update={"window": None})
    traffic = monitoring.replay(
        bundle("machines"), case, cases.live("machines"), window_rows=99, seed=0
    )
    assert traffic.names == live("machines").names


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("nothing", "names 'nothing', which is not a column"),
        ("trend +", "cannot be read"),
        ("3", "says nothing about a row"),
        ("1 / (trend - trend)", "is unknown in"),
    ],
)
def test_a_window_that_does_not_work_is_refused_in_a_sentence(by, said):
    case = block("machines").model_copy(update={"window": Window(name="month", by=[by])})
    with pytest.raises(InputError, match=said):
        monitoring.replay(bundle("machines"), case, cases.live("machines"), window_rows=9, seed=0)


def test_without_live_rows_there_is_nothing_to_judge_and_a_note_says_so():
    traffic = monitoring.replay(
        bundle("loans"), block("loans"), cases.live("loans").iloc[:0], window_rows=9, seed=0
    )
    assert traffic.names == [] and "no live rows" in traffic.notes[0]
    assert monitoring.watch(usual("loans"), traffic, block("loans"), CHOSEN).empty


# The statistics


def test_half_of_a_hundred_rows_exceed_the_customary_limit_of_psi_by_chance_alone():
    tenths = np.full(10, 1000)
    by_chance = {n: statistics.chance_psi(tenths, n, 4000, 1) for n in (100, 1000)}
    assert (by_chance[100] > 0.1).mean() == pytest.approx(0.33, abs=0.08)
    assert (by_chance[1000] > 0.1).mean() == 0
    # For many rows the index is a chi-squared variable, divided by the number of rows.
    expected = stats.chi2(9).ppf(0.99) * (1 / 1000 + 1 / 10_000)
    assert np.quantile(by_chance[1000], 0.99) == pytest.approx(expected, rel=0.1)


def test_psi_is_zero_for_equal_shares_and_the_textbook_sum_for_others():
    assert statistics.psi([100, 200], [100, 200]) == 0
    a, b = np.array([3000, 5000, 2000]) / 10_000, np.array([2000, 5000, 3000]) / 10_000
    expected = ((b - a) * np.log(b / a)).sum()
    assert statistics.psi(10_000 * a, 10_000 * b) == pytest.approx(expected, rel=1e-3)


@settings(max_examples=40)
@given(
    st.integers(0, 60), st.integers(1, 60), st.integers(0, 60), st.integers(1, 60), st.booleans()
)
def test_shares_are_compared_as_fisher_did(found, rows, usual_found, usual_rows, two_sided):
    found, usual_found = min(found, rows), min(usual_found, usual_rows)
    p = statistics.compare_shares(found, rows, usual_found, usual_rows, two_sided=two_sided).p
    table = [[found, rows - found], [usual_found, usual_rows - usual_found]]
    if two_sided:
        sides = [stats.fisher_exact(table, side).pvalue for side in ("greater", "less")]
        assert p == pytest.approx(min(1, 2 * min(sides)))
    else:
        assert p == pytest.approx(stats.fisher_exact(table, "greater").pvalue)


@settings(max_examples=30)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=20, max_size=200), st.integers(0, 2**31))
def test_categories_are_compared_without_cells_too_rare_for_the_test(texts, seed):
    usual, window = pd.Series(list("abcd") * 40 + ["e"] * 3), pd.Series(texts)
    test, compared = statistics.compare_values(usual, window)
    assert test == "chi-squared"
    assert 0 <= compared.effect <= 1 and 0 <= compared.p <= 1
    mixed = window.sample(frac=1, random_state=seed % 2**31, ignore_index=True)
    assert statistics.compare_values(usual, mixed)[1] == compared  # the order tells nothing


def test_the_ranking_of_classes_is_that_of_the_roc_curve():
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(5)
    y = (rng.random(300) < 0.3).astype(float)
    p = np.round(0.5 * y + rng.random(300), 1)  # with ties
    value, variance = statistics._auc_order(y, p)
    assert value == pytest.approx(2 * roc_auc_score(y, p) - 1)
    drawn = [
        statistics._auc_order(y[at], p[at])[0] for at in rng.integers(0, 300, (400, 300))
    ]  # fmt: skip
    assert np.sqrt(variance) == pytest.approx(np.std(drawn), rel=0.15)


def test_larger_disks_are_not_taken_for_another_unit():
    told = of(findings("machines"), rule="drift")
    assert not told["fault"].any()


def test_a_share_is_told_to_the_digits_it_has():
    assert [digits.percent(v) for v in (0, 0.004, 0.083, 0.17, 1)] == [
        "0 %", "0.4 %", "8.3 %", "17 %", "100 %",
    ]  # fmt: skip
