"""Ridge, lasso and elastic net against rational arithmetic, scikit-learn, and their own laws."""

import math
import warnings
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import ElasticNet, LinearRegression, Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from truefit.regression_maths.inputs import DataError
from truefit.regression_maths.penalised import (
    ElasticNetDescent,
    SVDRidge,
    alpha_max,
    effective_degrees_of_freedom,
    elastic_net_path,
    kkt_violation,
    ridge_path,
)

X, Y = load_diabetes(return_X_y=True)
N_FEATURES = X.shape[1]
WEIGHT = np.arange(len(Y)) % 4
ESTIMATORS = [SVDRidge(), ElasticNetDescent(alpha=0.1, l1_ratio=0.7)]
each_estimator = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=25, deadline=None)


def digits(found, exact):
    """Correct digits of the worst number, against fractions that are not zero."""
    errors = [abs((Fraction(float(f)) - e) / e) for f, e in zip(found, exact, strict=True)]
    return -math.log10(max(*errors, Fraction(1, 10**17)))


def exact_equations(weight=None):
    """XᵀX and Xᵀy of the diabetes data as fractions; the last column of X is the intercept's."""
    weight = np.ones(len(Y), int) if weight is None else weight
    rows = [[Fraction(v) for v in (*row, 1.0, t)] for row, t in zip(X.tolist(), Y, strict=True)]
    normal = [[Fraction(0)] * (N_FEATURES + 2) for _ in range(N_FEATURES + 1)]
    for row, w in zip(rows, weight.tolist(), strict=True):
        for i in range(N_FEATURES + 1):
            for j in range(N_FEATURES + 2):
                normal[i][j] += w * row[i] * row[j]
    return normal


@pytest.fixture(scope="module")
def equations():
    return exact_equations()


def solved(matrix, right):
    """The solution of linear equations in fractions, by elimination."""
    rows = [[*row, r] for row, r in zip(matrix, right, strict=True)]
    for i, pivot in enumerate(rows):
        for k, row in enumerate(rows):
            if k != i:
                share = row[i] / pivot[i]
                rows[k] = [a - share * b for a, b in zip(row, pivot, strict=True)]
    return [row[-1] / row[i] for i, row in enumerate(rows)]


def exact_net(normal, coef, alpha, l1_ratio, n_samples):
    """The elastic net with the zeros and signs of ``coef``, proven to be the minimum.

    Zeros and signs leave linear equations; that their solution has these signs, and meets the
    conditions at the zeros, is then checked without rounding, so a wrong guess cannot pass.
    """
    signs = [int(s) for s in np.sign(coef)] + [0]
    l1, l2 = (Fraction(alpha * n_samples) * Fraction(v) for v in (l1_ratio, 1 - l1_ratio))
    used = [j for j in range(N_FEATURES + 1) if j == N_FEATURES or signs[j]]
    ridge = [0 if j == N_FEATURES else l2 for j in range(N_FEATURES + 1)]
    matrix = [[normal[i][j] + (ridge[i] if i == j else 0) for j in used] for i in used]
    solution = [Fraction(0)] * (N_FEATURES + 1)
    right = [normal[i][-1] - l1 * signs[i] for i in used]
    for j, value in zip(used, solved(matrix, right), strict=True):
        solution[j] = value
    for j in range(N_FEATURES):
        pull = normal[j][-1] - sum(a * b for a, b in zip(normal[j][:-1], solution, strict=True))
        assert solution[j] * signs[j] > 0 or (signs[j] == 0 and abs(pull) <= l1)
    return solution


# Ridge


@pytest.mark.parametrize("alpha", [0.0, 0.001, 1.0, 100.0])
def test_ridge_has_thirteen_digits(equations, alpha):
    model = SVDRidge(alpha).fit(X, Y)
    matrix = [row[:-1] for row in equations]
    matrix = [
        [v + Fraction(alpha) * (i == j < N_FEATURES) for j, v in enumerate(row)]
        for i, row in enumerate(matrix)
    ]
    exact = solved(matrix, [row[-1] for row in equations])
    assert digits([*model.coef_, model.intercept_], exact) > 13


def test_ridge_with_weights_is_that_of_scikit_learn():
    for alpha in (0.01, 10.0):
        for fit_intercept in (True, False):
            expected = Ridge(alpha, fit_intercept=fit_intercept, solver="svd")
            expected.fit(X, Y, WEIGHT)
            found = SVDRidge(alpha, fit_intercept).fit(X, Y, WEIGHT)
            assert found.coef_ == pytest.approx(expected.coef_, rel=1e-11)
            assert found.predict(X) == pytest.approx(expected.predict(X), rel=1e-12)


def test_columns_that_differ_in_size_by_a_million_cost_no_digits(equations):
    # Powers of two, so that the scaled numbers, and their solution, are exact.
    scale = 2.0 ** np.arange(-10, 10, 2)
    exact = solved([row[:-1] for row in equations], [row[-1] for row in equations])
    assert digits(SVDRidge(0.0).fit(X * scale, Y).coef_ * scale, exact[:-1]) > 13


def test_a_path_is_the_ridges_of_its_alphas():
    alphas = [0.0, 0.1, 3.0, 1e6]
    for weight, fit_intercept in [(None, True), (WEIGHT, False)]:
        path = ridge_path(X, Y, alphas, fit_intercept=fit_intercept, sample_weight=weight)
        for alpha, coef, intercept in zip(*path, strict=True):
            single = SVDRidge(alpha, fit_intercept).fit(X, Y, weight)
            assert coef == pytest.approx(single.coef_, rel=1e-12)
            assert intercept == pytest.approx(single.intercept_, rel=1e-13, abs=1e-13)


def test_without_a_penalty_the_shortest_of_many_solutions_is_taken():
    twice = np.hstack([X, X])
    model = SVDRidge(0.0).fit(twice, Y)
    assert model.coef_ == pytest.approx(np.tile(SVDRidge(0.0).fit(X, Y).coef_ / 2, 2), rel=1e-9)
    assert model.effective_dof_ == pytest.approx(N_FEATURES, rel=1e-12)


def test_the_degrees_of_freedom_are_the_trace_of_the_matrix_that_smooths_y():
    alphas = np.array([0.0, 0.05, 2.0])
    found = effective_degrees_of_freedom(X, alphas)
    for alpha, dof in zip(alphas, found, strict=True):
        smooth = np.column_stack([SVDRidge(alpha).fit(X, e).predict(X) for e in np.eye(len(Y))])
        assert np.trace(smooth) - 1 == pytest.approx(dof, rel=1e-10)
        assert SVDRidge(alpha).fit(X, Y).effective_dof_ == dof


# Lasso and elastic net


@pytest.mark.parametrize(
    ("alpha", "l1_ratio", "at_least", "zeros"),
    [(0.1, 1.0, 13, 3), (1.0, 1.0, 12.5, 7), (0.01, 1.0, 12.5, 0), (0.01, 0.75, 13, 0)],
)
def test_lasso_and_net_have_their_digits(equations, alpha, l1_ratio, at_least, zeros):
    model = ElasticNetDescent(alpha, l1_ratio).fit(X, Y)
    exact = exact_net(equations, model.coef_, alpha, l1_ratio, len(Y))
    kept = np.append(model.coef_ != 0, True)
    assert (~kept).sum() == zeros
    found = np.append(model.coef_, model.intercept_)
    assert digits(found[kept], [e for e, k in zip(exact, kept, strict=True) if k]) > at_least


def test_the_lasso_with_weights_has_thirteen_digits():
    model = ElasticNetDescent(0.1).fit(X, Y, WEIGHT)
    exact = exact_net(exact_equations(WEIGHT), model.coef_, 0.1, 1.0, int(WEIGHT.sum()))
    kept = np.append(model.coef_ != 0, True)
    found = np.append(model.coef_, model.intercept_)
    assert digits(found[kept], [e for e, k in zip(exact, kept, strict=True) if k]) > 13


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l1_ratio", [0.2, 0.9, 1.0])
def test_the_net_is_that_of_scikit_learn(l1_ratio, fit_intercept):
    for weight in (None, WEIGHT.astype(float)):
        given = {"alpha": 0.02, "l1_ratio": l1_ratio, "fit_intercept": fit_intercept}
        expected = ElasticNet(**given, tol=1e-12, max_iter=100_000).fit(X, Y, weight)
        found = ElasticNetDescent(**given).fit(X, Y, weight)
        assert found.coef_ == pytest.approx(expected.coef_, rel=1e-6)
        assert found.intercept_ == pytest.approx(expected.intercept_, rel=1e-9)
        assert found.predict(X) == pytest.approx(expected.predict(X), rel=1e-7)


def test_more_columns_than_rows_are_solved_to_the_last_digits():
    rng = np.random.default_rng(3)
    wide = rng.normal(size=(40, 120))
    y = wide[:, :4] @ [3.0, -2.0, 1.0, 4.0] + rng.normal(size=40)
    model = ElasticNetDescent(0.3, tol=0).fit(wide, y)
    assert (model.coef_[:4] != 0).all() and (model.coef_ == 0).sum() > 80
    assert kkt_violation(wide, y, model.coef_, model.intercept_, alpha=0.3).max() < 1e-14


def test_a_tolerance_of_zero_is_met_when_only_rounding_is_left():
    model = ElasticNetDescent(0.1, tol=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(X, Y).n_iter_ < 100


def test_the_scale_of_a_column_decides_nothing_without_a_penalty():
    scale = np.array([1e-8, 1e8, 1, 1, 1, 1, 1, 1, 1e4, 1e-4])
    found = ElasticNetDescent(0.0).fit(X * scale, Y).coef_ * scale
    assert found == pytest.approx(LinearRegression(tol=0).fit(X, Y).coef_, rel=1e-10)


def test_a_constant_column_gets_nothing_and_changes_nothing():
    more = np.column_stack([X, np.full(len(Y), 0.1)])
    for alpha in (0.0, 0.1):
        for model in (ElasticNetDescent(alpha), SVDRidge(alpha)):
            without = model.fit(X, Y).coef_
            found = model.fit(more, Y).coef_
            assert found[-1] == 0
            assert found[:-1] == pytest.approx(without, rel=1e-9)


def test_a_constant_target_is_all_intercept():
    for model in (ElasticNetDescent(0.0), ElasticNetDescent(), SVDRidge()):
        model.fit(X, np.full(len(Y), 0.1))
        assert model.coef_ == pytest.approx(np.zeros(N_FEATURES), abs=1e-14)
        assert model.intercept_ == pytest.approx(0.1, rel=1e-15)


def test_alpha_max_is_the_smallest_that_leaves_nothing():
    for l1_ratio, weight in [(1.0, None), (0.3, WEIGHT)]:
        limit = alpha_max(X, Y, l1_ratio=l1_ratio, sample_weight=weight)
        for factor, nothing in [(1 + 1e-12, True), (1 - 1e-9, False)]:
            model = ElasticNetDescent(limit * factor, l1_ratio).fit(X, Y, weight)
            assert (model.coef_ == 0).all() == nothing
    assert alpha_max(X, Y, fit_intercept=False) == pytest.approx(np.abs(X.T @ Y).max() / len(Y))


def test_a_path_is_the_nets_of_its_alphas_from_the_strongest_on():
    path = elastic_net_path(X, Y, [0.01, 1.0, 0.1], l1_ratio=0.8, sample_weight=WEIGHT)
    assert path.alphas.tolist() == [1.0, 0.1, 0.01]
    for alpha, coef, intercept in zip(*path, strict=True):
        single = ElasticNetDescent(alpha, 0.8).fit(X, Y, WEIGHT)
        assert coef == pytest.approx(single.coef_, rel=1e-9)
        assert intercept == pytest.approx(single.intercept_, rel=1e-12)


def test_a_path_of_its_own_begins_with_nothing_and_lets_features_in():
    path = elastic_net_path(X, Y)
    assert len(path.alphas) == 100
    assert path.alphas[[0, -1]] == pytest.approx(alpha_max(X, Y) * np.array([1, 1e-3]))
    counts = (path.coef != 0).sum(axis=1)
    assert counts[0] <= 1 and counts[1] > 0 and counts[-1] == N_FEATURES


def test_the_violation_is_zero_at_the_minimum_and_the_missing_slope_elsewhere():
    alpha, l1_ratio = 0.1, 0.9
    model = ElasticNetDescent(alpha, l1_ratio).fit(X, Y, WEIGHT)
    given = {"alpha": alpha, "l1_ratio": l1_ratio, "sample_weight": WEIGHT}
    at = kkt_violation(X, Y, model.coef_, model.intercept_, **given)
    assert at.max() < 1e-13
    moved = model.coef_.copy()
    moved[2] += 1.0
    curvature = np.average(X[:, 2] ** 2, weights=WEIGHT) + alpha * (1 - l1_ratio)
    off = kkt_violation(X, Y, moved, model.intercept_, **given)
    assert off[2] == pytest.approx(curvature, rel=1e-10)
    # From zero, only the part of the slope beyond the threshold counts.
    start = kkt_violation(X, Y - Y.mean(), np.zeros(N_FEATURES), alpha=0.5)
    slopes = np.abs(X.T @ (Y - Y.mean())) / len(Y)
    assert start == pytest.approx(np.maximum(slopes - 0.5, 0), rel=1e-10)
    assert 0 < (start == 0).sum() < N_FEATURES


def test_too_few_sweeps_are_a_warning_that_says_how_far_it_is():
    # Nearly as many features as rows, and hardly a penalty.
    rng = np.random.default_rng(1)
    wide = rng.normal(size=(30, 60))
    y = wide[:, 0] + rng.normal(size=30)
    with pytest.warns(ConvergenceWarning) as caught:
        model = ElasticNetDescent(1e-4, max_iter=5).fit(wide, y)
    assert model.n_iter_ == 5
    violation = kkt_violation(wide, y, model.coef_, model.intercept_, alpha=1e-4)
    centred, target = wide - wide.mean(axis=0), y - y.mean()
    units = np.linalg.norm(centred, axis=0) * np.linalg.norm(target) / 30
    said = f"after 5 sweeps the optimality conditions are violated by {max(violation / units):.1e}"
    assert [str(w.message).startswith(said) for w in caught] == [True]
    # More coefficients than equations, and no intercept.
    with pytest.warns(ConvergenceWarning, match="after 2 sweeps"):
        ElasticNetDescent(1e-6, fit_intercept=False, max_iter=2).fit(wide, y)


# Laws


@st.composite
def tables(draw):
    """A few rows of small integers, with weights; the columns are seldom dependent."""
    rng = np.random.default_rng(draw(seeds))
    rows = rng.integers(-5, 6, (draw(st.integers(8, 20)), 3)).astype(float)
    return rows, rng.integers(-9, 10, len(rows)).astype(float), rng.integers(0, 4, len(rows)), rng


def same(a, b):
    assert a.coef_ == pytest.approx(b.coef_, rel=1e-9, abs=1e-11)
    assert a.intercept_ == pytest.approx(b.intercept_, rel=1e-9, abs=1e-11)


@each_estimator
@few
@given(tables())
def test_weights_are_repeated_rows_and_the_order_of_rows_does_not_matter(estimator, table):
    rows, y, weight, rng = table
    weight[:2] = 1, 2
    kind, given = type(estimator), estimator.get_params()
    weighted = kind(**given).fit(rows, y, weight)
    same(weighted, kind(**given).fit(rows.repeat(weight, axis=0), y.repeat(weight)))
    order = rng.permutation(len(rows))
    same(weighted, kind(**given).fit(rows[order], y[order], weight[order]))
    kept = weight > 0
    same(weighted, kind(**given).fit(rows[kept], y[kept], weight[kept]))


@few
@given(tables(), st.sampled_from([SVDRidge(0.0), ElasticNetDescent(0.0)]))
def test_without_a_penalty_a_column_twice_as_long_has_half_the_coefficient(table, estimator):
    rows, y, _, rng = table
    rows[:4] = [[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]]
    scale = 2.0 ** rng.integers(-10, 11, 3)
    kind, given = type(estimator), estimator.get_params()
    found, plain = kind(**given).fit(rows * scale, y), kind(**given).fit(rows, y)
    assert found.coef_ * scale == pytest.approx(plain.coef_, rel=1e-8, abs=1e-9)


@few
@given(tables(), st.floats(0.01, 2), st.floats(0, 1))
def test_no_other_coefficients_have_a_smaller_loss(table, alpha, l1_ratio):
    rows, y, _, rng = table
    model = ElasticNetDescent(alpha, l1_ratio).fit(rows, y)

    def loss(coef, intercept):
        penalty = l1_ratio * np.abs(coef).sum() + (1 - l1_ratio) / 2 * coef @ coef
        return ((y - rows @ coef - intercept) ** 2).mean() / 2 + alpha * penalty

    least = loss(model.coef_, model.intercept_)
    for size in (1e-3, 1e-1):
        away = rng.normal(size=4) * size
        assert loss(model.coef_ + away[:3], model.intercept_ + away[3]) >= least - 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_of_two_columns_that_say_the_same_one_gets_the_weight(seed):
    rng = np.random.default_rng(seed)
    X, y = load_diabetes(return_X_y=True)
    X = np.column_stack([X, X[:, 2] + 1e-4 * rng.standard_normal(len(y))])
    model = ElasticNetDescent(alpha=0.1).fit(X, y)
    assert kkt_violation(X, y, model.coef_, model.intercept_, alpha=0.1).max() < 1e-10
    assert np.abs(model.coef_).sum() < 3000


@parametrize_with_checks([*ESTIMATORS, SVDRidge(0.0), ElasticNetDescent()])
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


# Bad input


TABLE = pd.DataFrame({"area": [50.0, 60.0, 80.0, 70.0], "rooms": [2.0, 2.0, 3.0, 4.0]})
RENT = [500.0, 600.0, 800.0, 720.0]


def changed(value, column="rooms", row=2):
    table = TABLE.astype(object)
    table.loc[row, column] = value
    return table


@each_estimator
@pytest.mark.parametrize(
    ("rows", "y", "weight", "said"),
    [
        (changed(np.nan), RENT, None, "X contains NaN in row 2, column 'rooms'"),
        (changed(None), RENT, None, "X contains NaN in row 2, column 'rooms'"),
        (changed(pd.NA), RENT, None, "X contains NaN in row 2, column 'rooms'"),
        (changed(-np.inf), RENT, None, "X contains infinity in row 2, column 'rooms'"),
        (changed("big"), RENT, None, "X contains the text 'big' in row 2, column 'rooms'"),
        (changed(10**400), RENT, None, "integer too large for a float64 in row 2, column 'rooms'"),
        ([[1, 2], [3, 10**400]], [1, 2], None, "too large for a float64 in row 1, column 'x1'"),
        ([[1, 2], ["b", 3]], [1, 2], None, "X contains the text 'b' in row 1, column 'x0'"),
        (TABLE, [1, np.nan, 2, 3], None, "y contains NaN in row 1"),
        (TABLE, [1, None, 2, 3], None, "y contains NaN in row 1"),
        (TABLE, [1, 2, 3, np.inf], None, "y contains infinity in row 3"),
        (TABLE, [1, 2, "3 EUR", 4], None, "y contains the text '3 EUR' in row 2"),
        (TABLE, [1, 10**400, 2, 3], None, "y contains an integer too large for a float64 in row 1"),
        (TABLE, RENT, [1, 1, -2, 1], "sample_weight is -2 in row 2"),
        (TABLE, RENT, [1, np.nan, 1, 1], "sample_weight contains NaN in row 1"),
        (TABLE, RENT, [1, "x", 1, 1], "sample_weight contains the text 'x' in row 1"),
        (TABLE, RENT, [0, 0, 0, 0], "every sample_weight, rows 0 to 3, is zero"),
        (TABLE, RENT, [1, 2], r"sample_weight has the shape \(2,\), but X has 4 rows"),
    ],
)
def test_a_bad_cell_is_named_in_one_sentence(estimator, rows, y, weight, said):
    with pytest.raises(DataError, match=said) as caught:
        type(estimator)().fit(rows, y, weight)
    assert "\n" not in str(caught.value)


@each_estimator
@pytest.mark.parametrize(
    ("rows", "y", "said"),
    [
        (TABLE, RENT[:3], "inconsistent numbers of samples: \\[4, 3\\]"),
        (TABLE[:0], [], "0 sample\\(s\\)"),
        (TABLE, None, "requires y to be passed"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(estimator, rows, y, said):
    with pytest.raises(ValueError, match=said):
        type(estimator)().fit(rows, y)


@each_estimator
def test_predictions_want_the_columns_of_the_fit_and_numbers_in_them(estimator):
    model = type(estimator)()
    with pytest.raises(NotFittedError):
        model.predict(TABLE)
    model.fit(TABLE, RENT)
    with pytest.raises(DataError, match="X contains the text 'q' in row 2, column 'area'"):
        model.predict(changed("q", "area"))
    with pytest.raises(ValueError, match="feature names"):
        model.predict(TABLE.rename(columns={"area": "size"}))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (SVDRidge(-1.0), "alpha is -1; it must be 0 or more"),
        (SVDRidge(np.nan), "alpha is nan"),
        (ElasticNetDescent(-0.5), "alpha is -0.5"),
        (ElasticNetDescent(l1_ratio=1.5), "l1_ratio is 1.5; it must be from 0 to 1"),
        (ElasticNetDescent(max_iter=0), "max_iter is 0; it must be 1 or more"),
    ],
)
def test_settings_out_of_range_are_refused(model, said):
    with pytest.raises(ValueError, match=said):
        model.fit(TABLE, RENT)
    with pytest.raises(ValueError, match="l1_ratio is 0"):
        elastic_net_path(TABLE, RENT, l1_ratio=0)
