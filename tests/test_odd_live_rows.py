"""The lessons on monitoring and maintenance, and their figures, whatever the table."""

import json
import tempfile
from pathlib import Path

import cases
import numpy as np
import odd_tables
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from truefit import maintenance, monitoring
from truefit.case import Window
from truefit.monitoring import estimate, faults, plots, statistics
from truefit.monitoring.density import fit_usual
from truefit.monitoring.prometheus import metrics_text
from truefit.monitoring.traffic import has_label, in_windows
from truefit.task import BinaryClassification, Regression

pytestmark = pytest.mark.usefixtures("coarse_figures")
few = settings(odd_tables.SAME, max_examples=4)
many = settings(odd_tables.SAME, max_examples=40)
CHOSEN = cases.PARAMS.monitoring.model_copy(update={"resamples": 100, "least_rows": 10})
NUMBER = Regression(table="t.csv", target="y")
MODELS = {
    "regression": ["ridge", "decision_tree", "k_nearest_neighbors", "lightgbm"],
    "classification": ["logistic", "decision_tree", "k_nearest_neighbors", "lightgbm"],
}


def watched(table, name):
    with tempfile.TemporaryDirectory() as folder:
        made = odd_tables.write_bundle(Path(folder), table, odd_tables.fitted(table, name))
    usual = monitoring.baseline(made, table.case, table.train, table.test, components=2, seed=0)
    live = monitoring.replay(made, table.case, table.live, window_rows=20, seed=0)
    return usual, live, monitoring.watch(usual, live, table.case, CHOSEN)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@few
@given(table=odd_tables.parts(), data=st.data())
def test_a_monitor_judges_any_live_rows_and_shows_what_it_found(table, data):
    case = table.case
    usual, live, findings = watched(table, data.draw(st.sampled_from(MODELS[case.task])))
    assert findings[["p", "q"]].map(lambda v: 0 <= v <= 1).all(axis=None)
    assert (findings["reason"] != "").equals(findings["found"])
    board = monitoring.lights(live, findings)
    assert list(board.index) == live.names and board["rows"].sum() == len(table.live)
    judged = [w for w in live.names if board.loc[w, "light"]]
    assert bool(judged) is (len(table.live) >= CHOSEN.least_rows)
    plots.plot_board(findings, live.names, list(monitoring.GROUPS["inputs"]))
    if judged:
        plots.plot_drift(findings, judged)
        measured = monitoring.measure_inputs(usual, live.window(judged[-1]), CHOSEN)
        assert len(measured) == len(usual.columns(live))
        assert monitoring.advice(findings, judged[-1]).reason
    of_labels = findings[findings["group"] == "labels"]
    plots.plot_labels(of_labels, judged, case)
    if len(table.live):
        scores = (t.answers["score"] for t in (usual.held, live))
        plots.plot_predictions(*scores, live.windows, "p")
        expected = estimate.losses(usual.held, case).mean()
        found = estimate.by_window(live, case, np.full(len(live.rows), expected), 0.95)
        plots.plot_estimate(found, expected, "loss")
    for line in metrics_text(findings, "t").splitlines():
        assert line.startswith("#") or np.isfinite(float(line.rpartition(" ")[2]))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@few
@given(table=odd_tables.parts())
def test_faults_are_planted_in_whatever_columns_there_are(table):
    usual, _, _ = watched(table, MODELS[table.case.task][0])
    rng = np.random.default_rng(0)
    planted = list(
        faults.plant(usual, table.case, lambda n: faults.unchanged(usual, 50, rng, n), rng)
    )
    assert {f.rule for f in planted} >= {"missing", "bias", "ranking"}
    trial = faults.together([f.window for f in planted])
    findings = monitoring.watch(usual, trial, table.case, CHOSEN)
    gone = next(f for f in planted if f.rule == "missing")
    here = findings[(findings["window"] == gone.name) & (findings["rule"] == "missing")]
    assert here.set_index("subject").loc[gone.subject, "value"] == 1


@many
@given(table=odd_tables.parts())
def test_any_rows_have_a_density_by_which_few_are_unlike(table):
    train, test = (rows.drop(columns=table.case.target) for rows in (table.train, table.test))
    usual = fit_usual(train, test, components=2, seed=0)
    assert usual.unlike(test).mean() <= usual.share
    foreign = pd.concat([table.live.drop(columns=table.case.target), test.iloc[:0]])
    assert np.isfinite(usual.score(foreign)).all()
    assert not usual.score(train.iloc[:, :0]).std() > 1e-9  # without a column all are alike


def test_a_table_all_of_whose_columns_tell_the_time_has_no_unlike_rows():
    rows = pd.DataFrame(index=range(40))
    assert not fit_usual(rows, rows, components=3, seed=0).unlike(rows).any()


VALUES = st.sampled_from([0.0, 1.0, 1.0 + 1e-16, -1e-15, 1e-300, 7.0, 2.0**53, -3e38])
SAMPLES = st.lists(VALUES, min_size=3, max_size=20).map(np.array)


@many
@given(usual=SAMPLES, window=SAMPLES, larger=st.booleans())
def test_a_comparison_of_any_numbers_is_a_number(usual, window, larger):
    found = statistics.compare_means(usual, window, larger=larger)
    assert 0 <= found.p <= 1
    if larger and found.effect < 0:
        assert found.p > 0.1  # what is smaller is no sign of what is larger
    _, found = statistics.compare_values(pd.Series(usual), pd.Series(window))
    assert 0 <= found.p <= 1 and 0 <= found.effect <= 1
    for classes in (True, False):
        truths = [(s > 0).astype(float) if classes else s for s in (usual, window)]
        pairs = zip(truths, (usual, window), strict=True)
        found = statistics.compare_ranking(*pairs, classes=classes)
        assert 0 <= found.p <= 1


def test_texts_that_have_nothing_in_common_are_at_a_distance_of_one_and_no_more():
    usual, window = (pd.Series([f"{k}{i}" for i in range(n)]) for k, n in (("a", 1), ("b", 6)))
    _, found = statistics.compare_values(usual, window)
    assert found.effect == 1


def test_a_perfect_model_that_goes_wrong_is_found_and_one_that_does_not_is_not():
    truth = np.arange(60.0)
    perfect = statistics.compare_ranking((truth > 9, truth), (truth > 9, truth), classes=True)
    assert perfect.p >= 0.5
    worse = statistics.compare_ranking((truth > 9, truth), (truth > 9, -truth), classes=True)
    assert worse.p < 1e-6 and worse.effect == 2


# Windows


def names_of(times, **more):
    frame = pd.DataFrame({"t": times})
    case = NUMBER.model_copy(update={"time": "t", "production_from": 0} | more)
    return in_windows(frame, case, window_rows=10)[1].unique().tolist()


def test_two_dates_as_whole_numbers_are_two_windows():
    assert names_of([20170601] * 30 + [20170602] * 30) == ["20170601", "20170602"]
    by = {"window": Window(name="day", by=["t"])}
    assert names_of([20170602, 20170601], **by) == ["20170601", "20170602"]


@pytest.mark.parametrize("times", [np.arange(95.0), [f"2020-{i:04d}" for i in range(95)]])
def test_where_hardly_any_rows_share_a_time_so_many_rows_are_a_window(times):
    found = names_of(times)
    assert len(found) == 9 and found == [str(times[i]).removesuffix(".0") for i in range(0, 90, 10)]


def test_a_live_row_without_a_logarithm_counts_as_not_labelled():
    frame = pd.DataFrame({"y": [1.0, 0.0, -2.0, np.nan]})
    assert has_label(frame, NUMBER).tolist() == [True, True, True, False]
    logged = NUMBER.model_copy(update={"log_target": True})
    assert has_label(frame, logged).tolist() == [True, False, False, False]


# Maintenance


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@few
@given(table=odd_tables.parts(), data=st.data())
def test_policies_are_replayed_and_a_challenger_is_judged_on_any_table(table, data):
    case = table.case
    model = odd_tables.fitted(table, data.draw(st.sampled_from(MODELS[case.task])))
    past = maintenance.history(
        table.train, table.test, table.live, case, window_rows=20, least_rows=10, most=3
    )
    assert len(past.live) == len(table.test if past.instead else table.live)
    bench = maintenance.Bench(model, past, case, folds=2, seed=0)
    usual = maintenance.usual_policies(2, 1, CHOSEN.rules.bias, "$w_")
    replayed = {p.name: maintenance.follow(p, bench, false_alarms=0.01) for p in usual}
    predicted = {n: r.predictions for n, r in replayed.items()}
    draws = maintenance.resampled(predicted, past.live[case.target], case, resamples=100, seed=0)
    table_of_costs = maintenance.costs(replayed, draws, case, confidence=0.9)
    maintenance.cost_table(table_of_costs, case, "costs")
    asked = {"worth": 0.02, "confidence": 0.9}
    assert maintenance.sensible(table_of_costs, draws, case, **asked) in predicted
    by_window = maintenance.by_window(replayed, past, case)
    maintenance.plot_by_window(by_window, replayed, past, case, "$w_")
    errors = maintenance.mean_errors(predicted["never"], past, case, confidence=0.9)
    maintenance.plot_mean_errors(errors, "mean", "$w_")
    columns = [c for c in past.rows if c != case.target]
    assert maintenance.input_drift(past, columns, 1)["distance"].between(0, 1).all()
    at = past.to_judge(case)
    span = (0, at)
    assume(bench.can_learn(span))
    result = maintenance.challenge(
        model, bench.fitted(span), past.to_learn(span), past.rows[past.windows >= at], case,
        resamples=100, confidence=0.9, seed=0,
    )  # fmt: skip
    json.dumps(result.gate)
    assert result.reasons


@pytest.mark.parametrize(
    ("values", "positive", "why"),
    [
        ([], None, "no live row has a label"),
        ([1.0], None, "only one live row has a label"),
        ([1.0, 2.0, np.nan], None, "only 2 live rows have a label"),
        (["n"] * 30, "y", "of the 30 live rows with a label, 0 are of the rarer class"),
        (["n"] * 30 + ["y"] * 5, "y", ""),
    ],
)
def test_live_rows_that_cannot_judge_a_model_leave_it_to_the_test_rows(values, positive, why):
    case = (
        BinaryClassification(table="t.csv", target="y", positive=positive) if positive else NUMBER
    )
    known = ["n", "y"] * 20 if positive else np.arange(40.0)
    train = pd.DataFrame({"x": np.arange(40.0), "y": known})
    live = pd.DataFrame({"x": np.arange(len(values), dtype=float), "y": values})
    past = maintenance.history(
        train, train.head(30), live, case, window_rows=20, least_rows=10, most=3
    )
    assert past.instead == why
    assert len(past.live) == (30 if why else len(values))
