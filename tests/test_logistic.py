"""Logistic regression against forty digits, against other libraries, and where it has no answer."""

import itertools
import warnings

import mpmath as mp
import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss as reference_log_loss
from sklearn.utils.estimator_checks import parametrize_with_checks

from truefit.regression_maths import logistic
from truefit.regression_maths.logistic import (
    NewtonLogistic,
    NoEstimateWarning,
    log_loss,
    softmax,
    softmax_regression,
)

CANCER = load_breast_cancer()
X, Y = CANCER.data[:, :4], CANCER.target
WEIGHT = np.arange(len(Y)) % 3
IRIS, SPECIES = load_iris(return_X_y=True)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def coefficients(model):
    return np.append(model.coef_[0], model.intercept_)


def digits(found, reference):
    """Correct digits of the worst number, against numbers of forty digits."""
    errors = [abs((mp.mpf(float(f)) - r) / r) for f, r in zip(found, reference, strict=True)]
    return float(-mp.log10(max(*errors, mp.mpf(10) ** -17)))


def forty_digits(start, alpha=0, weight=None, rows=X, labels=Y):
    """Coefficients, intercept and standard errors by Newton's method with the normal equations.

    It starts where the solver under test ended, but goes on until a step changes nothing in the
    thirtieth digit: a wrong start takes more steps, and ends in the same place.
    """
    weight = np.ones(len(rows), int) if weight is None else weight
    with mp.workdps(40):
        rows = [[mp.mpf(v) for v in (*row, 1.0)] for row in rows.tolist()]
        place, size = mp.matrix([mp.mpf(float(v)) for v in start]), len(start)
        for _ in range(20):
            slope, curvature = mp.matrix(size, 1), mp.matrix(size, size)
            for row, label, w in zip(rows, labels.tolist(), weight.tolist(), strict=True):
                p = 1 / (1 + mp.exp(-mp.fdot(row, place)))
                for i in range(size):
                    slope[i] += w * row[i] * (label - p)
                    for j in range(size):
                        curvature[i, j] += w * p * (1 - p) * row[i] * row[j]
            for j in range(size - 1):
                slope[j] -= alpha * place[j]
                curvature[j, j] += alpha
            step = mp.lu_solve(curvature, slope)
            place += step
            if max(abs(s / v) for s, v in zip(step, place, strict=True)) < mp.mpf(10) ** -20:
                inverse = curvature**-1
                return list(place), [mp.sqrt(inverse[j, j]) for j in range(size)]
    raise AssertionError("forty digits were not reached")


# To the last digits


@pytest.mark.parametrize(
    ("alpha", "weight"), [(0.0, None), (1.0, None), (0.0, WEIGHT)], ids=["plain", "ridge", "weight"]
)
def test_all_coefficients_have_thirteen_digits_on_data_as_they_are(alpha, weight):
    model = NewtonLogistic(alpha).fit(X, Y, weight)
    exact, errors = forty_digits(coefficients(model), alpha, weight)
    assert digits(coefficients(model), exact) > 13
    assert digits([*model.standard_errors_, model.intercept_standard_error_], errors) > 12


def test_rows_far_on_the_wrong_side_cost_no_digits():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(800, 2))
    labels = rows[:, 0] * 6 + rng.logistic(size=800) > 0
    rows[:2], labels[:2] = [[11.0, 0.0], [11.0, 0.5]], False
    model = NewtonLogistic().fit(rows, labels)
    assert model.decision_function(rows)[:2].min() > 35
    exact, _ = forty_digits(coefficients(model), rows=rows, labels=labels.astype(int))
    assert digits(coefficients(model), exact) > 13


def test_a_column_of_large_numbers_that_differ_little_costs_no_more_digits_than_the_shift():
    near = NewtonLogistic().fit(X, Y)
    far = NewtonLogistic().fit(X + 2.0**20, Y)
    # The shift rounds X to 2**-32; what was exact before it comes out alike.
    same = NewtonLogistic().fit(X + 2.0**20 - 2.0**20, Y)
    assert far.coef_ == pytest.approx(same.coef_, rel=1e-12)
    assert far.coef_ == pytest.approx(near.coef_, rel=1e-6)


def test_errors_and_coefficients_are_those_of_statsmodels():
    expected = sm.GLM(Y, sm.add_constant(X), family=sm.families.Binomial(), freq_weights=WEIGHT + 1)
    expected = expected.fit(tol=1e-14)
    model = NewtonLogistic().fit(X, Y, WEIGHT + 1)
    assert np.append(model.intercept_, model.coef_) == pytest.approx(expected.params, rel=1e-8)
    errors = np.append(model.intercept_standard_error_, model.standard_errors_)
    assert errors == pytest.approx(expected.bse, rel=1e-8)
    assert -model.loss_ * (WEIGHT + 1).sum() == pytest.approx(expected.llf, rel=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 1000.0])
def test_with_a_penalty_it_is_the_regression_of_scikit_learn(alpha, fit_intercept):
    scaled = X / X.std(axis=0)
    expected = LogisticRegression(
        C=1 / alpha, fit_intercept=fit_intercept, solver="newton-cholesky", tol=1e-12, max_iter=500
    ).fit(scaled, CANCER.target_names[Y], WEIGHT)
    model = NewtonLogistic(alpha, fit_intercept).fit(scaled, CANCER.target_names[Y], WEIGHT)
    assert model.classes_.tolist() == expected.classes_.tolist()
    assert coefficients(model) == pytest.approx(coefficients(expected), rel=1e-7, abs=1e-9)
    assert model.predict_proba(scaled) == pytest.approx(expected.predict_proba(scaled), abs=1e-8)
    assert (model.predict(scaled) == expected.predict(scaled)).all()


def test_probabilities_keep_their_digits_where_they_are_tiny():
    model = NewtonLogistic().fit(X, Y)
    far = X.mean(axis=0) + np.outer([-100, 100], model.coef_[0]) / (model.coef_**2).sum()
    scores = model.decision_function(far)
    assert scores.min() < -90 and scores.max() > 90
    tiny = model.predict_proba(far).min(axis=1)
    assert tiny == pytest.approx(np.exp(-np.abs(scores)), rel=1e-12)


# Where there is no estimate


def separated(rows, labels):
    """Whether a line separates points of integers in the plane, points on the line allowed.

    If one does, then so does one through two of the points; integers make no rounding errors.
    """
    signed = [
        [int(v) * (1 if label else -1) for v in (1, *row)]
        for row, label in zip(rows, labels, strict=True)
    ]
    for (a, b, c), (d, e, f) in itertools.combinations(signed, 2):
        normal = b * f - c * e, c * d - a * f, a * e - b * d
        margins = [sum(u * v for u, v in zip(row, normal, strict=True)) for row in signed]
        if any(margins) and (min(margins) >= 0 or max(margins) <= 0):
            return True
    return False


@settings(max_examples=80, deadline=None)
@given(seeds, st.integers(5, 24), st.integers(0, 2))
def test_an_estimate_is_refused_exactly_where_none_exists(seed, n_samples, noise):
    rng = np.random.default_rng(seed)
    rows = rng.integers(-3, 4, (n_samples, 2))
    labels = rows @ rng.integers(-2, 3, 2) + noise * rng.integers(-2, 3, n_samples) > 0
    assume(labels.any() and not labels.all())
    assume(np.linalg.matrix_rank(np.c_[np.ones(n_samples), rows]) == 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if separated(rows, labels):
            refused(rows, labels)
            assert np.isfinite(NewtonLogistic(1e-3).fit(rows, labels).coef_).all()
        else:
            NewtonLogistic().fit(rows, labels)


def test_rounding_is_no_proof_that_classes_overlap():
    # Rows of both classes lie on the plane, with weights of size 1; those of the others vanish, and
    # their part of a Newton step is lost in the rounding.
    rows = [[0, -3], [2, 1], [-3, 1], [1, 0], [3, -2], [-2, 2], [1, 0], [0, 1], [-2, -2], [-3, 0]]
    rows, labels = [*rows, [2, -2], [2, -2]], [1, 1, 0, 0, 1, 0, 1, 0, 0, 0, 1, 1]
    assert separated(rows, labels)
    refused(rows, labels)


def refused(rows, labels, **given):
    with pytest.warns(NoEstimateWarning, match="a plane separates the classes") as caught:
        model = NewtonLogistic(**given).fit(rows, labels)
    assert not model.exists_ and np.isnan(model.standard_errors_).all()
    assert np.isfinite(model.coef_).all()
    said = str(caught[0].message)
    assert "\n" not in said and said.endswith("set a penalty, alpha above 0")
    return said


def test_all_thirty_columns_of_the_cancer_data_separate_its_classes():
    assert "but for" not in refused(CANCER.data, Y)


def test_a_category_of_one_class_is_separated_but_for_the_rest():
    rng = np.random.default_rng(0)
    rare = (np.arange(len(Y)) % 40 == 0) & (Y == 1)
    columns = np.column_stack([X, rare])
    assert "but for rows that lie on it" in refused(columns, Y)
    columns[np.flatnonzero(Y == 0)[0], 4] = 1
    model = NewtonLogistic().fit(columns, Y)
    assert np.isfinite(model.standard_errors_).all()
    # Not even where other columns are noise, and the units are very different.
    noise = rng.normal(size=(len(Y), 3)) * [1e-6, 1, 1e6]
    refused(np.column_stack([noise, rare]), Y)


def test_without_an_intercept_the_plane_goes_through_the_origin():
    rows, labels = np.array([[1.0], [2.0], [3.0], [4.0]]), [0, 0, 1, 1]
    refused(rows, labels)
    model = NewtonLogistic(fit_intercept=False).fit(rows, labels)
    assert model.intercept_ == 0 and np.isnan(model.intercept_standard_error_)
    refused(rows - 2.5, labels, fit_intercept=False)


@pytest.mark.parametrize("overlap", [1e-2, 1e-5, 1e-8, 1e-11])
def test_classes_that_hardly_overlap_have_an_estimate(overlap, monkeypatch):
    # That the classes overlap follows from Newton's own step; no linear program is needed.
    monkeypatch.setattr(logistic, "linprog", None)
    rows, labels = np.array([[-1.0], [-0.5], [overlap], [0.0], [0.5], [1.0]]), [0, 0, 0, 1, 1, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = NewtonLogistic().fit(rows, labels)
    p = model.predict_proba(rows)[:, 1] - labels
    assert abs(p.sum()) < 1e-12 and abs(p @ rows[:, 0]) < 1e-12 * overlap**0.5
    rows[2] = 0.0
    monkeypatch.undo()
    assert "but for rows that lie on it" in refused(rows, labels)


@few
@given(seeds)
def test_the_linear_program_alone_lets_overlapping_classes_pass(seed):
    rng = np.random.default_rng(seed)
    rows, labels = rng.normal(size=(60, 2)) * [1e-3, 1e3], rng.random(60) < 0.5
    assume(labels.any() and not labels.all())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic._Problem, "exists", lambda *_: False)
        unproven = NewtonLogistic().fit(rows, labels)
    assert coefficients(unproven) == pytest.approx(coefficients(NewtonLogistic().fit(rows, labels)))


def test_rows_far_away_are_no_separation():
    rng = np.random.default_rng(1)
    rows = np.append(rng.normal(size=60), [1e5, -1e5])[:, None]
    labels = np.append(rng.random(60) < 0.5, [True, False])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert NewtonLogistic().fit(rows, labels).coef_ > 0


@pytest.mark.parametrize(
    "more", [np.full(len(Y), 0.1), X[:, 0], X[:, 1] - 2 * X[:, 3], np.zeros(len(Y))]
)
def test_a_column_that_follows_from_others_is_named(more):
    table = pd.DataFrame(np.column_stack([more, X]), columns=["more", *"abcd"])
    with pytest.warns(NoEstimateWarning, match="'.*' is constant, or follows from the other"):
        NewtonLogistic().fit(table, Y)
    if np.ptp(more) == 0:
        with pytest.warns(NoEstimateWarning, match="column 'more' is constant"):
            NewtonLogistic().fit(table, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isfinite(NewtonLogistic(1.0).fit(table, Y).coef_).all()


def test_too_few_steps_are_a_warning_that_says_how_far_it_is():
    with pytest.warns(ConvergenceWarning, match=r"after 3 Newton steps, .* by \d\.\de-0\d where"):
        model = NewtonLogistic(max_iter=3, alpha=1.0).fit(X, Y)
    assert model.n_iter_ == 3
    with pytest.warns(ConvergenceWarning, match="after 3 Newton steps"):
        softmax_regression(IRIS, SPECIES, alpha=1.0, max_iter=3)


# Losses and several classes


def test_the_log_loss_is_finite_and_exact_at_any_score():
    scores = np.array([0.0, 3.0, -2.0, 800.0, -600.0, 40.0])
    y = np.array([1, 0, 1, 0, 0, 1])
    margins = np.where(y == 1, scores, -scores).tolist()
    exact = [mp.log1p(mp.exp(-m)) for m in margins]
    for row in range(6):
        assert digits([log_loss(y[[row]], scores[[row]])], exact[row : row + 1]) > 15
    weight = np.array([1, 2, 0, 3, 1, 1])
    expected = float(mp.fdot(exact, weight.tolist()) / 8)
    assert log_loss(y, scores, weight) == pytest.approx(expected, rel=1e-15)
    p = 1 / (1 + np.exp(-scores[:3]))
    assert log_loss(y[:3], scores[:3]) == pytest.approx(reference_log_loss(y[:3], p), rel=1e-14)


@few
@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=6), st.floats(-50, 50))
def test_softmax_is_a_probability_and_does_not_see_a_shift(scores, shift):
    P = softmax(np.array([scores, np.zeros(len(scores))]))
    assert np.isfinite(P).all() and P.sum(axis=1) == pytest.approx(1, rel=1e-14)
    assert P[1] == pytest.approx(1 / len(scores))
    small = np.array(scores) / 1e299
    expected = [mp.exp(s) for s in small.tolist()]
    assert digits(softmax(small), [e / mp.fsum(expected) for e in expected]) > 14
    assert softmax(small + shift) == pytest.approx(softmax(small), rel=1e-13)


@pytest.mark.parametrize("weight", [None, np.arange(150) % 3])
@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_softmax_regression_is_that_of_scikit_learn(alpha, weight):
    names = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
    expected = LogisticRegression(C=1 / alpha, solver="newton-cg", tol=1e-11, max_iter=1000)
    expected.fit(IRIS, names, weight)
    found = softmax_regression(IRIS, names, alpha=alpha, sample_weight=weight)
    assert found.classes.tolist() == expected.classes_.tolist()
    assert found.coef == pytest.approx(expected.coef_, abs=1e-7)
    intercept = expected.intercept_ - expected.intercept_.mean()
    assert found.intercept == pytest.approx(intercept, abs=1e-6)
    p = expected.predict_proba(IRIS)
    assert found.loss == pytest.approx(reference_log_loss(names, p, sample_weight=weight), rel=1e-6)


def test_softmax_regression_ends_where_its_slope_is_rounding():
    found = softmax_regression(IRIS, SPECIES, alpha=0.1)
    P = softmax(IRIS @ found.coef.T + found.intercept)
    residuals = P - np.eye(3)[SPECIES]
    assert np.abs(residuals.T @ IRIS + 0.1 * found.coef).max() < 1e-12
    assert np.abs(residuals.sum(axis=0)).max() < 1e-13
    assert abs(found.intercept.sum()) < 1e-13


def test_the_slope_and_the_curvature_of_softmax_regression_are_those_of_its_loss():
    problem = logistic._Softmax(IRIS, np.eye(3)[SPECIES], np.arange(150) % 3 + 1.0, 0.7)
    place = np.random.default_rng(0).normal(size=(3, 5))

    def slope(flat):
        flat = flat.reshape(3, 5)
        return problem.gradient(flat, softmax(problem.Z @ flat.T)).ravel()

    flat = place.ravel()
    assert check_grad(lambda b: problem.loss(b.reshape(3, 5)), slope, flat) < 1e-4
    H = problem.hessian(softmax(problem.Z @ place.T))
    # The term that holds the sum of the intercepts is no part of the loss.
    H.reshape(3, 5, 3, 5)[:, 0, :, 0] -= problem.weight.sum()
    direction = np.random.default_rng(1).normal(size=15)
    change = (slope(flat + 1e-5 * direction) - slope(flat - 1e-5 * direction)) / 2e-5
    assert H @ direction == pytest.approx(change, rel=1e-6, abs=1e-5)


def test_two_classes_are_one_regression_with_half_the_slope_on_either_side():
    # softmax of (−u, u) is the logistic function of 2u, with two squares to pay for.
    found = softmax_regression(X / X.std(axis=0), Y, alpha=2.0)
    model = NewtonLogistic(1.0).fit(X / X.std(axis=0), Y)
    assert found.coef[1] - found.coef[0] == pytest.approx(model.coef_[0], rel=1e-10)
    assert np.diff(found.intercept) == pytest.approx(model.intercept_, rel=1e-10)
    assert found.loss == pytest.approx(model.loss_, rel=1e-12)


# Laws


@st.composite
def tables(draw):
    """Rows of small integers whose classes overlap, with weights."""
    rng = np.random.default_rng(draw(seeds))
    rows = rng.integers(-5, 6, (draw(st.integers(25, 40)), 2)).astype(float)
    labels, weight = rng.integers(0, 2, len(rows)), rng.integers(0, 4, len(rows))
    kept = weight > 0
    assume(np.linalg.matrix_rank(np.c_[np.ones(kept.sum()), rows[kept]]) == 3)
    assume(0 < labels[kept].sum() < kept.sum() and not separated(rows[kept], labels[kept]))
    return rows, labels, weight, rng


def same(a, b):
    assert coefficients(a) == pytest.approx(coefficients(b), rel=1e-10, abs=1e-12)
    assert a.standard_errors_ == pytest.approx(b.standard_errors_, rel=1e-9)
    assert a.loss_ == pytest.approx(b.loss_, rel=1e-10)


@few
@given(tables(), st.sampled_from([0.0, 0.5]))
def test_weights_are_repeated_rows_and_the_order_of_rows_does_not_matter(table, alpha):
    rows, labels, weight, rng = table
    weighted = NewtonLogistic(alpha).fit(rows, labels, weight)
    repeated = rows.repeat(weight, axis=0), labels.repeat(weight)
    same(weighted, NewtonLogistic(alpha).fit(*repeated))
    order = rng.permutation(len(rows))
    same(weighted, NewtonLogistic(alpha).fit(rows[order], labels[order], weight[order]))


@few
@given(tables())
def test_a_column_twice_as_long_has_half_the_coefficient_and_swapped_classes_other_signs(table):
    rows, labels, weight, rng = table
    scale = 2.0 ** rng.integers(-30, 31, 2)
    plain = NewtonLogistic().fit(rows, labels, weight)
    scaled = NewtonLogistic().fit(rows * scale, labels, weight)
    assert scaled.coef_ * scale == pytest.approx(plain.coef_, rel=1e-9, abs=1e-12)
    assert scaled.standard_errors_ * scale == pytest.approx(plain.standard_errors_, rel=1e-9)
    swapped = NewtonLogistic().fit(rows, 1 - labels, weight)
    assert coefficients(swapped) == pytest.approx(-coefficients(plain), rel=1e-9, abs=1e-12)


def test_weights_of_any_size_take_no_more_steps():
    plain = NewtonLogistic().fit(X, Y)
    for factor in (1e-12, 1e12):
        heavy = NewtonLogistic().fit(X, Y, np.full(len(Y), factor))
        assert heavy.n_iter_ == plain.n_iter_
        assert coefficients(heavy) == pytest.approx(coefficients(plain), rel=1e-10)


# With no penalty, checks that fit separable classes meet, rightly, the refusal.
@pytest.mark.filterwarnings("ignore::truefit.regression_maths.logistic.NoEstimateWarning")
@parametrize_with_checks([NewtonLogistic(), NewtonLogistic(0.01, fit_intercept=False)])
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


# Bad input


ROWS = [[1.0, 5.0], [2.0, 4.0], [3.0, 6.0], [4.0, 1.0]]


@pytest.mark.parametrize("fit", [NewtonLogistic(1.0).fit, None], ids=["newton", "softmax"])
@pytest.mark.parametrize(
    ("rows", "y", "weight", "said"),
    [
        ([[1, np.nan], [2, 3]], [0, 1], None, "X contains NaN in row 0, column 'x1'"),
        ([[1, 2], [np.inf, 3]], [0, 1], None, "X contains infinity in row 1, column 'x0'"),
        ([[1, "u"], [2, 3]], [0, 1], None, "X contains the text 'u' in row 0, column 'x1'"),
        ([[1, 10**400], [2, 3]], [0, 1], None, "too large for a float64 in row 0, column 'x1'"),
        (ROWS, [0, 1, np.nan, 1], None, "y contains NaN in row 2"),
        (ROWS, ["a", None, "b", "a"], None, "y contains NaN in row 1"),
        (ROWS, ["a", np.nan, "b", "a"], None, "y contains NaN in row 1"),
        (ROWS, ["a", "b", "b", "a"], [1, 1, 1, -1], "sample_weight is -1 in row 3"),
        (ROWS, ["a", "b", "b", "a"], [0, 0, 0, 0], "every sample_weight, rows 0 to 3, is zero"),
        (ROWS, [1, 1, 1, 1], None, "y has only one class"),
        (ROWS, [0, 1, 0, 0], [1, 0, 1, 1], "y has only one class"),
        (ROWS, [0.5, 1.5, 2.5, 3.7], None, "Unknown label type: continuous"),
        (ROWS, [0, 1, 0], None, "inconsistent numbers of samples"),
        (np.empty((0, 2)), [], None, "0 sample"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(fit, rows, y, weight, said):
    with pytest.raises(ValueError, match=said):
        if fit:
            fit(rows, y, weight)
        else:
            softmax_regression(rows, y, alpha=1.0, sample_weight=weight)


def test_three_classes_are_sent_to_the_function_that_takes_them():
    with pytest.raises(ValueError, match="3 classes; softmax_regression takes them"):
        NewtonLogistic().fit(IRIS, SPECIES)


def test_a_penalty_below_zero_is_refused_and_so_is_none_for_several_classes():
    for alpha in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match=f"alpha is {alpha}; it must be 0 or more"):
            NewtonLogistic(alpha).fit(X, Y)
    with pytest.raises(ValueError, match="alpha is 0; it must be above 0"):
        softmax_regression(IRIS, SPECIES, alpha=0)
    with pytest.raises(ValueError, match="max_iter is 0"):
        NewtonLogistic(max_iter=0).fit(X, Y)


def test_predictions_want_a_fit():
    with pytest.raises(NotFittedError):
        NewtonLogistic().predict(X)
