"""Every figure and every function of a lesson takes any table, and shows its texts as they are."""

import contextlib
import io
import warnings
from unittest import mock

import numpy as np
import odd_tables
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from truefit import data_prep, evaluation, figures, training
from truefit.data_prep import explore
from truefit.metrics import predictions, scores, truth
from truefit.project import InputError
from truefit.task import Regression, make_case

pytestmark = pytest.mark.filterwarnings("error")
# Each example draws several figures.
cheap = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
regressions = odd_tables.tables("regression")
classifications = odd_tables.tables("classification")


@pytest.fixture(autouse=True, scope="module")
def coarse():
    """Figures of few pixels, which are as hard to lay out as others."""
    with mock.patch.object(figures, "DPI", 10), contextlib.redirect_stdout(io.StringIO()):
        yield


def case_of(table, block):
    named = [c for c in table if c != block["target"]][:2]
    return make_case(**block, slices={name: [] for name in named})


@cheap
@given(made=regressions | classifications)
def test_any_table_is_explored_and_described(made):
    frame, case = made[0], case_of(*made)
    shown = figures.table(explore.overview(frame, case), "columns")
    assert len(shown._frame) == frame.shape[1]
    explore.plot_missing(explore.missing_values(frame, case), len(frame))
    explore.plot_target(frame, case)
    strength = explore.relations(frame, case)
    assert strength["explained"].between(0, 1).all()
    if len(strength):
        explore.plot_relations(strength, frame, case)
    line = explore.robust_line(frame, case, strength)
    explore.plot_outliers(frame, case, line, explore.outliers(frame, case, line))
    explore.plot_correlations(frame, case, explore.correlated_groups(frame, case))
    with mock.patch.object(data_prep.schema, "checksums", lambda _: {}):
        schema = data_prep.infer_schema(frame, case)
    assert data_prep.check(frame, schema).empty
    assert {c["role"] for c in schema["columns"].values()} <= {
        *("target", "dropped", "number", "category")
    }


@cheap
@given(made=regressions | classifications, share=st.sampled_from([0.1, 0.25, 0.5]))
def test_the_leaks_are_measured_on_any_target(made, share):
    frame, case = made[0], case_of(*made)
    y = explore.target_numbers(frame, case).to_numpy()
    X = explore.as_numbers(frame, case).dropna(axis=1).to_numpy()
    how = {"test_share": share, "seed": 1}
    found = (
        *data_prep.leak_by_scaling(X, y, **how),
        *data_prep.leak_by_selection(y, noise_columns=30, repeats=2, keep=10, **how),
    )
    assert not np.isinf(found).any()


def test_a_rare_class_that_no_row_has_leaks_nothing():
    found = data_prep.leak_by_selection(np.zeros(200), noise_columns=50, test_share=0.25, seed=1)
    assert np.isnan(found).all()


def predicted(draw_from, frame, case):
    """Predictions that are perfect, constant, or off by some noise."""
    actual, rng = truth(frame[case.target], case), np.random.default_rng(0)
    if case.task == "classification":
        ways = {"perfect": actual, "constant": np.full(len(actual), 0.3)}
        return (ways | {"noisy": rng.random(len(actual))})[draw_from]
    noise = rng.lognormal(sigma=0.1, size=len(actual))
    middle = np.exp(np.log(actual).mean()) if case.log_target else actual.mean()
    return {
        "perfect": actual,
        "constant": np.full(len(actual), middle),
        "noisy": actual * noise,
    }[draw_from]


ways = st.sampled_from(["perfect", "constant", "noisy"])


@cheap
@given(made=regressions | classifications, way=ways)
def test_any_predictions_are_judged(made, way):
    frame, case = made[0], case_of(*made)
    y, p = frame[case.target], predicted(way, frame, case)
    for name, expected in evaluation.reference_scores(y, p, case).items():
        assert np.isclose(scores(y, p, case)[name], expected, rtol=1e-9, atol=1e-12), name
    weights = evaluation.bootstrap_weights(len(frame), 50, 1)
    every = {"winner": p, "dummy": predicted("constant", frame, case)}
    found = evaluation.intervals(y, every, weights, case, confidence=0.9)
    gaps = evaluation.differences(y, every, weights, case, winner="winner", confidence=0.9)
    evaluation.metric_table(found["winner"], "metrics")
    evaluation.difference_table(gaps["dummy"], "differences")
    labels = evaluation.slice_labels(frame, case, frame)
    by_slice = evaluation.error_by_slice(frame, p, case, labels, weights, confidence=0.9)
    evaluation.plot_slices(by_slice, case)
    evaluation.slice_table(by_slice, "slices")
    evaluation.worst_slices(frame, p, case, seed=1, confidence=0.9)
    worst = evaluation.worst_rows(frame, p, case, 5, evaluation.telling_columns(frame, case, 2))
    worst.insert(3, "what is odd", evaluation.oddities(frame.iloc[:5], frame, case))
    figures.table(worst, "worst rows")
    if case.task == "classification":
        evaluation.plot_probabilities(y, p, case)
    else:
        evaluation.plot_residuals(y, p, case)


@cheap
@given(made=regressions, way=ways)
def test_an_interval_holds_any_prediction(made, way):
    frame, case = made[0], case_of(*made)
    y, p = frame[case.target], predicted(way, frame, case)
    width = evaluation.conformal_width(y, p, case, confidence=0.9)
    low, high = evaluation.prediction_interval(p, width, case)
    assert ((low <= p) & (p <= high)).all()
    evaluation.plot_intervals(y, p, low, high, case)
    found = evaluation.coverage(y, low, high, case, promised=0.9, confidence=0.9)
    assert found["covered"].iloc[0] >= 0.9  # of the very rows that gave the width
    curve = evaluation.coverage_curve(y, p, y, p, case, confidence=0.9)
    assert (curve["covered"] >= curve.index - 1e-9).all()
    evaluation.plot_coverage(curve)


@cheap
@given(made=classifications, way=ways)
def test_any_probabilities_are_calibrated_and_priced(made, way):
    frame, case = made[0], case_of(*made)
    y, p = frame[case.target], predicted(way, frame, case)
    line = training.fit_recalibration(y, p, case)
    assert np.isfinite(line).all() and line.slope >= 0
    evaluation.plot_reliability(y, p, case, recalibration=line)
    weights = evaluation.bootstrap_weights(len(frame), 50, 1)
    evaluation.calibration_summary(y, p, weights, case, confidence=0.9)
    evaluation.calibration_by_slice(
        y, p, case, slices=evaluation.slice_labels(frame, case, frame), confidence=0.9
    )
    if case.costs:
        curve = evaluation.cost_curve(y, p, case)
        evaluation.plot_costs(curve, case)
        assert np.isclose(evaluation.cost_at(curve, case.threshold), scores(y, p, case)["cost"])


def fitted(frame, case):
    """A linear model on all rows, or None where there is no column to learn from."""
    name = "ridge" if case.task == "regression" else "logistic"
    if not any(training.split_columns(frame, case).values()):
        return None
    model = training.build(name, frame, case, min_category_rows=5, seed=1)
    return model.fit(frame.drop(columns=case.target), frame[case.target])


@cheap
@given(made=regressions | classifications)
def test_a_linear_model_of_any_table_is_explained(made):
    frame, case = made[0], case_of(*made)
    if (model := fitted(frame, case)) is None:
        return
    importance = evaluation.permutation_importance(model, frame, case, repeats=2, seed=1)
    evaluation.plot_importance(importance, case)
    top = list(importance.index[:3])
    evaluation.related_columns(frame, case, top)
    evaluation.plot_dependence(
        [evaluation.partial_dependence(model, frame, case, c, points=5, seed=1) for c in top], case
    )
    row, background = frame.iloc[[3]], frame.iloc[:10]
    why = evaluation.shapley_values(model, row, background, case, permutations=4, seed=1)
    answer = predictions(model, row.drop(columns=case.target), case)[0]
    whole, size = why.base + why.values.iloc[0].sum(), abs(why.base) + why.values.abs().max().max()
    assert abs(whole - evaluation.on_scale(answer, case)) <= 1e-8 * size
    values = why.values.iloc[0]
    evaluation.plot_shapley(values, row.iloc[0], case, base=why.base, prediction=answer)
    assert case.target in evaluation.in_words(values, row.iloc[0], case, why.base, answer) or (
        case.task == "classification"
    )
    figures.table(training.linear_effects(model, case), "effects")


@cheap
@given(made=regressions | classifications)
def test_curves_are_drawn_of_any_table(made):
    frame, case = made[0], case_of(*made)
    if (model := fitted(frame, case)) is None:
        return
    how = {"folds": 2, "seed": 1}
    curves = training.learning({"a": model}, frame, case, **how)
    assert curves["rows"].nunique() >= 2 and curves[["own", "held"]].notna().all(axis=None)
    training.plot_learning(curves, case)
    tree = training.build("decision_tree", frame, case, min_category_rows=5, seed=1)
    curve = training.validation(tree, "max_depth", [1, 20], frame, case, **how)
    training.plot_validation(curve, case, "decision_tree")
    better = curve["own"].iloc[-1] - curve["own"].iloc[0]
    sign = 1 if case.main_metric == "roc_auc" else -1
    assert sign * better >= -1e-9 * abs(curve["own"].iloc[0])


@cheap
@given(made=regressions | classifications, ways=st.lists(ways, min_size=2, max_size=3))
def test_any_candidates_are_compared(made, ways):
    frame, case = made[0], case_of(*made)
    half = np.arange(len(frame)) % 2 + 1
    oof = pd.DataFrame(
        {f"m{i}": predicted(way, frame, case) for i, way in enumerate(ways)}, index=frame.index
    )
    results = training.fold_scores(oof.assign(fold=half), frame, case)
    board = training.leaderboard(results, case)
    training.plot_folds(results, board, case)
    training.leaderboard_table(board, 2, case)
    figures.table(training.lead_by_fold(results, board, case), "lead", ".4f")
    table = evaluation.fold_differences_table(results, board, case, confidence=0.9)
    evaluation.corrected_table(table, "differences")
    assert training.one_standard_error(results, board, case, list(oof)) in oof
    assert set(case.metrics) <= set(board)


def test_a_figure_shows_a_part_of_very_many_values_and_says_so():
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"user": [f"user {i}" for i in range(6000)], "y": rng.random(6000)})
    case = Regression(table="t.csv", target="y")
    strength = explore.relations(frame, case)
    with mock.patch.object(figures, "show") as show:
        explore.plot_relations(strength, frame, case)
    ax = show.call_args_list[1].args[0].axes[0]
    assert len(ax.get_xticks()) == figures.MOST_NAMES
    assert "the 40 with most rows of 6,000" in ax.get_xlabel()


def test_a_map_of_something_else_than_degrees_is_drawn_and_one_of_texts_refused():
    frame = pd.DataFrame({"e": [1e6, 2e6, 3e6], "n": [5e6, 6e6, 7e6], "t": list("abc"), "y": 1.0})
    keys = {"table": "t.csv", "target": "y", "task": "regression"}
    explore.plot_map(frame, make_case(**keys, map=["e", "n"]))
    with pytest.raises(InputError, match="map names 't', which is not a column of numbers"):
        explore.plot_map(frame, make_case(**keys, map=["e", "t"]))


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
