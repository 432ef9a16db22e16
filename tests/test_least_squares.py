"""Least squares against certified results, rational arithmetic, statsmodels, and its own laws."""

import subprocess
import sys
import warnings
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import project
from truefit.regression_maths import (
    DataError,
    LeastSquares,
    RankWarning,
    least_squares,
    least_squares_blocks,
    least_squares_file,
)
from truefit.regression_maths.certified import read_certified
from truefit.regression_maths.exact import correct_digits, exact_least_squares

CERTIFIED = {
    data.name: data for data in read_certified(project.path("data", "raw", "nist_strd.json"))
}
each_certified = pytest.mark.parametrize("data", CERTIFIED.values(), ids=CERTIFIED.keys())

HOUSES = np.array([[1000 + 500 * i, 3 + i] for i in range(10)])
PRICES = np.arange(200_000, 650_001, 50_000)

properties = settings(max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def regression(seed: int = 0, rows: int = 30, columns: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, columns))
    return X, X @ rng.standard_normal(columns) + rng.standard_normal(rows)


def of_condition(condition: float, rows: int = 25, columns: int = 5) -> np.ndarray:
    rng = np.random.default_rng(int(np.log10(condition)))
    left = np.linalg.qr(rng.standard_normal((rows, columns)))[0]
    right = np.linalg.qr(rng.standard_normal((columns, columns)))[0]
    return left * np.geomspace(1, 1 / condition, columns) @ right


def with_ones(X) -> np.ndarray:
    return np.column_stack([np.ones(len(X)), X])


def assert_same(a: LeastSquares, b: LeastSquares, rtol: float = 1e-11) -> None:
    size = np.abs(b.coef).max()
    np.testing.assert_allclose(a.coef, b.coef, rtol=rtol, atol=rtol * size)
    for name in ("standard_errors", "residual_sd", "rss", "intercept_standard_error"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=rtol, err_msg=name)
    np.testing.assert_allclose(a.intercept, b.intercept, rtol=rtol, atol=rtol * size)
    np.testing.assert_allclose(a.r_squared, b.r_squared, rtol=rtol)
    largest = np.abs(b.covariance).max()
    np.testing.assert_allclose(a.covariance, b.covariance, rtol=rtol, atol=rtol * largest)
    assert (a.n_samples, a.dof, a.rank) == (b.n_samples, b.dof, b.rank)
    assert a.condition == pytest.approx(b.condition, rel=1e-5)


# --- Certified sets -------------------------------------------------------------------------------


@each_certified
def test_certified_results_are_found_to_fourteen_digits(data):
    fit = least_squares(data.X, data.y)
    assert correct_digits(fit.coef, data.coef) >= 14
    assert correct_digits(fit.standard_errors, data.standard_errors) >= 14
    assert correct_digits(fit.residual_sd, data.residual_sd) >= 14
    assert correct_digits(fit.r_squared, data.r_squared) >= 14
    assert fit.rank == data.X.shape[1] and fit.identified.all() and not fit.dependencies


@each_certified
def test_an_own_intercept_is_the_column_of_ones(data):
    if data.has_intercept:
        whole = least_squares(data.X, data.y)
        fit = least_squares(data.X[:, 1:], data.y, fit_intercept=True)
        np.testing.assert_allclose([fit.intercept, *fit.coef], whole.coef, rtol=4e-16)
        errors = [fit.intercept_standard_error, *fit.standard_errors]
        np.testing.assert_allclose(errors, whole.standard_errors, rtol=1e-14)
        assert fit.r_squared == pytest.approx(whole.r_squared, rel=1e-15)


@each_certified
def test_float64_data_reach_all_that_float64_data_hold(data):
    X, y = data.X.astype(float), data.y.astype(float)
    truth = exact_least_squares(X, y, centred=data.has_intercept)
    fit = least_squares(X, y)
    cap = correct_digits(truth.coef, data.coef)
    assert correct_digits(fit.coef, data.coef) >= cap - 0.5
    assert correct_digits(fit.coef, truth.coef) >= 15
    assert correct_digits(fit.standard_errors, truth.standard_errors) >= 14
    assert correct_digits(fit.r_squared, truth.r_squared) >= 14


@each_certified
def test_our_copy_agrees_with_itself_in_rational_arithmetic(data):
    truth = exact_least_squares(data.X, data.y, centred=data.has_intercept)
    assert correct_digits(truth.coef, data.coef) >= 14
    assert correct_digits(truth.standard_errors, data.standard_errors) >= 14
    assert correct_digits(truth.residual_sd, data.residual_sd) >= 14
    assert correct_digits(truth.r_squared, data.r_squared) >= 14


def test_our_copy_agrees_with_the_copies_of_others():
    norris = Path(scipy.stats.__file__).parent / "tests/data/nist_linregress/Norris.dat"
    y, x = np.loadtxt(norris, skiprows=60).T
    ours = CERTIFIED["Norris"]
    np.testing.assert_array_equal(ours.X[:, 1].astype(float), x)
    np.testing.assert_array_equal(ours.y.astype(float), y)
    longley = sm.datasets.longley.load_pandas()
    ours = CERTIFIED["Longley"]
    np.testing.assert_array_equal(ours.X[:, 1:].astype(float), longley.exog.to_numpy())
    np.testing.assert_array_equal(ours.y.astype(float), longley.endog.to_numpy())


def test_our_copy_agrees_with_the_definitions():
    noint, one, two = (CERTIFIED[name] for name in ("NoInt1", "Wampler1", "Wampler2"))
    assert noint.X[:, 0].tolist() == list(range(60, 71))
    assert noint.y.tolist() == list(range(130, 141))
    for data, base in ((one, Fraction(1)), (two, Fraction(1, 10))):
        assert data.X[:, 1].tolist() == list(range(21))
        assert data.y.tolist() == [sum((base * x) ** k for k in range(6)) for x in range(21)]


# --- Digits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", [10.0**k for k in range(2, 15)])
@pytest.mark.parametrize("noise", [0, 1])
def test_the_solution_is_exact_but_for_its_rounding(condition, noise):
    X = of_condition(condition)
    rng = np.random.default_rng(1)
    y = X @ rng.standard_normal(5) + noise * rng.standard_normal(len(X))
    truth, fit = exact_least_squares(X, y), least_squares(X, y)
    assert fit.method == "qr"
    assert correct_digits(fit.coef, truth.coef) >= 15
    if noise:
        assert correct_digits(fit.standard_errors, truth.standard_errors) >= 14
        assert correct_digits(fit.rss, truth.rss) >= 14


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e12])
def test_weights_keep_the_digits(condition):
    X, roots = of_condition(condition), [Fraction(1 + i % 7, 2) for i in range(25)]
    y = np.random.default_rng(1).standard_normal(25)
    fit = least_squares(X, y, sample_weight=[float(root**2) for root in roots])
    rows = [[Fraction(v) * root for v in row] for row, root in zip(X, roots, strict=True)]
    truth = exact_least_squares(rows, [Fraction(v) * r for v, r in zip(y, roots, strict=True)])
    assert correct_digits(fit.coef, truth.coef) >= 15
    assert correct_digits(fit.standard_errors, truth.standard_errors) >= 14
    assert correct_digits(fit.rss, truth.rss) >= 14


def test_r_squared_keeps_its_digits_where_it_is_all_but_nothing():
    X, y = regression(3, 50, 1)
    y -= X[:, 0] * (X[:, 0] @ y) / (X[:, 0] @ X[:, 0]) * (1 - 1e-2)
    truth = exact_least_squares(X, y, centred=False)
    assert truth.r_squared < 1e-6
    assert correct_digits(least_squares(X, y).r_squared, truth.r_squared) >= 12


def test_texts_decimals_and_large_integers_are_taken_exactly():
    x = ["0.1", "0.2", "0.30000000000000000001", "0.7"]
    y = ["1.1", "1.2", "1.30000000000000000001", "1.7"]
    for kind in (str, Decimal, Fraction):
        X = np.array([[kind("1"), kind(v)] for v in x], dtype=object)
        fit = least_squares(X, np.array([kind(v) for v in y], dtype=object))
        np.testing.assert_array_equal(fit.coef, [1, 1])
        assert fit.rss < 1e-60
    large = np.array([[2**53 + 1], [2**53 + 1003], [2**53 + 8000]])
    for dtype in (np.int64, np.uint64, object):
        fit = least_squares(large.astype(dtype), np.array([1, 1003, 8000]), fit_intercept=True)
        assert fit.coef == [1] and fit.intercept == -(2.0**53)
    top = np.array([2**64 - 1, 2**64 - 2**20, 2**64 - 2**22], dtype=np.uint64)
    y = np.array([2**22 - 1, 2**22 - 2**20, 0])
    assert least_squares(top.reshape(-1, 1), y, fit_intercept=True).coef == [1]
    fit = least_squares(-large, np.array([8000, 6998, 1]), fit_intercept=True)
    assert fit.coef == [1] and fit.intercept == 2.0**53 + 8001
    y = np.array([2**60 + 1, 2**60 + 2, 2**60 + 3])
    assert least_squares(np.array([[1], [2], [3]]), y, fit_intercept=True).coef == [1]


# --- The fast way ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many():
    X, y = regression(5, 30_011, 8)  # not a whole number of blocks or of runs
    return X, y, np.random.default_rng(1).uniform(0.5, 2, len(y)).round(3)


@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("offset", [0, 1e3])
def test_both_ways_agree(many, fit_intercept, weighted, offset):
    X, y, weight = many
    X, y = X + offset * np.arange(8), y + offset
    if not fit_intercept and offset:
        X = X[:, :2]  # more such columns are all but parallel
    given = {"sample_weight": weight if weighted else None, "fit_intercept": fit_intercept}
    fast, slow = (least_squares(X, y, method=m, **given) for m in ("cholesky", "qr"))
    assert (fast.method, slow.method) == ("cholesky", "qr")
    assert_same(fast, slow, 1e-9 if offset else 1e-12)


@pytest.mark.parametrize("kind", ["F", "frame", "float32", "int32", "int64", "bool", "strided"])
def test_both_ways_take_every_kind_of_numbers(many, kind):
    X, y, _ = many
    X = {
        "F": lambda: np.asfortranarray(X),
        "frame": lambda: pd.DataFrame(X, columns=list("abcdefgh")),
        "float32": lambda: X.astype(np.float32),
        "int32": lambda: (X * 10).astype(np.int32),
        "int64": lambda: (X * 10).astype(np.int64),
        "bool": lambda: X > 0,
        "strided": lambda: np.repeat(X, 2, axis=1)[:, ::2],
    }[kind]()
    fast, slow = (least_squares(X, y, fit_intercept=True, method=m) for m in ("cholesky", "qr"))
    assert (fast.method, slow.method) == ("cholesky", "qr")
    assert_same(fast, slow)
    plain = least_squares(np.asarray(X).astype(float), y, fit_intercept=True, method="qr")
    np.testing.assert_array_equal(slow.coef, plain.coef)
    assert fast.names == (list("abcdefgh") if kind == "frame" else [f"x{j}" for j in range(8)])


def test_a_constant_column_counts_as_intercept_in_both_ways(many):
    X, y, _ = many
    X, y = with_ones(X), y + 5
    fast, slow = (least_squares(X, y, method=m) for m in ("cholesky", "qr"))
    assert (fast.method, slow.method) == ("cholesky", "qr")
    assert_same(fast, slow)
    assert fast.r_squared == pytest.approx(sm.OLS(y, X).fit().rsquared, rel=1e-12)
    X[-1, 0] = 2  # constant no more
    fast, slow = (least_squares(X, y, method=m) for m in ("cholesky", "qr"))
    assert_same(fast, slow)
    rss = ((y - fast.predict(X)) ** 2).sum()
    assert fast.r_squared == pytest.approx(1 - rss / (y @ y), rel=1e-12)


def test_the_fast_way_gives_up_where_it_would_lose_digits(many):
    X, y, _ = many
    near = np.column_stack([X, X[:, 0] + 1e-7 * X[:, 1] ** 2])
    fit = least_squares(near, y, method="cholesky")
    assert fit.method == "qr" and fit.condition > 3e5
    assert_same(fit, least_squares(near, y, method="qr"), 1e-15)
    with pytest.warns(RankWarning):
        twice = least_squares(np.column_stack([X, X[:, 0]]), y)
    assert twice.method == "qr" and twice.rank == 8
    with pytest.warns(RankWarning):
        assert least_squares(np.column_stack([X, 0 * y]), y).method == "qr"
    exact = least_squares(X, X @ np.ones(8), fit_intercept=True)
    np.testing.assert_allclose(exact.coef, 1, rtol=1e-14)


def test_the_fast_way_keeps_the_digits_of_a_well_made_design():
    X, y = regression(7, 30_000, 8)
    fast = least_squares(X, y, fit_intercept=True, method="cholesky")
    slow = least_squares(X, y, fit_intercept=True, method="qr")
    assert correct_digits(fast.coef, slow.coef) >= 14.5


def test_auto_is_accurate_for_small_data_and_fast_for_large(many):
    X, y, _ = many
    assert least_squares(X[:1000], y[:1000]).method == "qr"
    assert least_squares(X, y).method == "cholesky"
    assert least_squares(X[:1000], y[:1000], method="cholesky").method == "cholesky"


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_weight_of_two_is_the_row_twice_and_of_zero_no_row(method, fit_intercept):
    X, y = regression(2, 300)
    times = np.arange(300) % 3
    how = {"fit_intercept": fit_intercept, "method": method}
    weighted = least_squares(X, y, sample_weight=times, **how)
    repeated = least_squares(np.repeat(X, times, axis=0), np.repeat(y, times), **how)
    for name in ("coef", "intercept", "rss", "r_squared"):
        np.testing.assert_allclose(getattr(weighted, name), getattr(repeated, name), rtol=1e-12)
    dropped = least_squares(X[times > 0], y[times > 0], sample_weight=times[times > 0], **how)
    assert_same(weighted, dropped, 1e-12)
    assert weighted.n_samples == 200


def test_a_row_without_weight_has_no_influence_at_all():
    X, y = regression()
    w = np.r_[0.0, np.ones(29)]
    X[0], y[0] = 1e300, -1e300
    assert_same(least_squares(X, y, sample_weight=w), least_squares(X[1:], y[1:]), 1e-13)


# --- References -----------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_statsmodels_finds_the_same(method, weighted, fit_intercept):
    X, y = regression(4, 200)
    y += 10 * fit_intercept
    w = np.random.default_rng(0).uniform(0.1, 3, 200) if weighted else np.ones(200)
    fit = least_squares(X, y, sample_weight=w, fit_intercept=fit_intercept, method=method)
    theirs = sm.WLS(y, with_ones(X) if fit_intercept else X, weights=w).fit()
    assert fit.method == method
    at = slice(0 if fit_intercept else 1, None)
    for ours, reference in (
        (np.r_[fit.intercept, fit.coef][at], theirs.params),
        (np.r_[fit.intercept_standard_error, fit.standard_errors][at], theirs.bse),
        (fit.covariance[at, at], theirs.cov_params()),
        (fit.rss, theirs.ssr),
        (fit.residual_sd, np.sqrt(theirs.scale)),
        (fit.r_squared, theirs.rsquared),
        (fit.predict(X), theirs.fittedvalues),
        (fit.dof, theirs.df_resid),
    ):
        np.testing.assert_allclose(ours, reference, rtol=1e-10, atol=1e-14)
    if not fit_intercept:
        assert fit.intercept == fit.intercept_standard_error == 0
        assert not fit.covariance[0].any() and not fit.covariance[:, 0].any()


def test_the_condition_number_is_of_the_columns_at_length_one():
    X, y = regression()
    truth = np.linalg.cond(X / np.linalg.norm(X, axis=0))
    assert least_squares(X * [1, 1e9, 1e-9, 7], y).condition == pytest.approx(truth)


# --- Units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_units_change_nothing_but_their_own_coefficient(method, fit_intercept):
    X, y = regression(6, 300)
    how = {"fit_intercept": fit_intercept, "method": method}
    plain = least_squares(X, y, **how)
    scaled = least_squares(X * [1, 1e-8, 1, 1], y, **how)
    assert scaled.method == method and scaled.rank == plain.rank
    np.testing.assert_allclose(scaled.coef * [1, 1e-8, 1, 1], plain.coef, rtol=1e-12)
    np.testing.assert_allclose(
        scaled.standard_errors * [1, 1e-8, 1, 1], plain.standard_errors, rtol=1e-12
    )
    assert scaled.r_squared == pytest.approx(plain.r_squared, rel=1e-13)


def test_powers_of_two_change_no_digit():
    X, y = regression(6)
    units = np.ldexp(1.0, [0, -30, 17, 500])
    plain = least_squares(X, y, fit_intercept=True)
    scaled = least_squares(X * units, y * 2.0**-40, fit_intercept=True)
    np.testing.assert_array_equal(scaled.coef * units * 2.0**40, plain.coef)
    np.testing.assert_array_equal(scaled.standard_errors * units * 2.0**40, plain.standard_errors)
    assert scaled.intercept * 2.0**40 == plain.intercept
    assert scaled.r_squared == plain.r_squared and scaled.condition == plain.condition
    assert scaled.rss * 2.0**80 == plain.rss


@pytest.mark.parametrize("method", ["auto", "cholesky", "qr"])
@pytest.mark.parametrize("fit_intercept", [False, True])
@pytest.mark.parametrize("of_y", [1e-200, 1, 1e200])
def test_huge_and_tiny_columns_are_columns_like_others(method, fit_intercept, of_y):
    X, y = regression(6, 300)
    units = np.array([1e200, 1e-200 if of_y <= 1 else 1e-100, 1, 1e-9])
    plain = least_squares(X, y, fit_intercept=fit_intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = least_squares(X * units, y * of_y, fit_intercept=fit_intercept, method=method)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose(scaled.coef, plain.coef / units * of_y, rtol=1e-12)
        np.testing.assert_allclose(
            scaled.standard_errors, plain.standard_errors / units * of_y, rtol=1e-12
        )
    assert scaled.r_squared == pytest.approx(plain.r_squared, rel=1e-12)
    assert scaled.residual_sd == pytest.approx(plain.residual_sd * of_y, rel=1e-12)


# --- Rank -----------------------------------------------------------------------------------------


def deficient(X, y, **how) -> LeastSquares:
    with pytest.warns(RankWarning, match="depend on each other") as caught:
        fit = least_squares(X, y, **how)
    assert len(caught) == 1 and caught[0].filename == __file__, "the warning names the caller"
    return fit


def assert_minimum_norm(fit: LeastSquares, X, y) -> None:
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    middle, origin = (X.mean(axis=0), y.mean()) if fit.intercept else (0, 0)
    shortest = np.linalg.lstsq(X - middle, y - origin)[0]
    size = np.abs(shortest).max()
    np.testing.assert_allclose(fit.coef, shortest, rtol=1e-9, atol=1e-11 * size)


def test_ten_houses_whose_size_tells_their_rooms():
    fit = deficient(HOUSES, PRICES, fit_intercept=True)
    assert fit.rank == 2 and fit.dof == 8 and not fit.identified.any()
    assert np.isnan(fit.standard_errors).all() and fit.rss == pytest.approx(0, abs=1e-15)
    (dependency,) = fit.dependencies
    names = {"intercept": 1.0, "x0": HOUSES[:, 0], "x1": HOUSES[:, 1]}
    built = sum(value * names[name] for name, value in dependency.combination.items())
    np.testing.assert_allclose(built, names[dependency.column])
    assert_minimum_norm(fit, HOUSES, PRICES)
    np.testing.assert_allclose(fit.predict(HOUSES), PRICES, rtol=1e-14)
    assert "not identified" in str(fit) and "depend on each other" in str(fit)


def test_the_dummy_trap():
    kind = np.arange(12) % 3
    table = pd.DataFrame({name: kind == k for k, name in enumerate("abc")})
    table["size"] = np.arange(12) ** 2
    y = kind * 10.0 + table["size"]
    fit = deficient(table, y, fit_intercept=True)
    assert fit.rank == 4 and fit.identified.tolist() == [False] * 3 + [True]
    assert fit.coef[3] == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(fit.coef[:3], [-10, 0, 10], atol=1e-13)
    assert fit.intercept == pytest.approx(10)
    (dependency,) = fit.dependencies
    assert {dependency.column, *dependency.combination} == {"intercept", "a", "b", "c"}
    assert np.isfinite(fit.standard_errors[3])
    reference = sm.OLS(y, with_ones(table[["b", "c", "size"]]).astype(float)).fit()
    assert fit.rss == pytest.approx(reference.ssr, abs=1e-20)


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_a_dependent_column_leaves_the_others_their_errors(fit_intercept):
    X, y = regression(8, 40, 4)
    whole = least_squares(X, y, fit_intercept=fit_intercept)
    more = np.column_stack([X, X[:, 0] - 2 * X[:, 1]])
    fit = deficient(more, y, fit_intercept=fit_intercept)
    assert fit.identified.tolist() == [False, False, True, True, False]
    for name in ("coef", "standard_errors"):
        np.testing.assert_allclose(getattr(fit, name)[2:4], getattr(whole, name)[2:], rtol=1e-12)
    assert np.isnan(fit.standard_errors[[0, 1, 4]]).all()
    np.testing.assert_allclose(fit.predict(more), whole.predict(X), rtol=1e-12, atol=1e-13)
    assert (fit.rank, fit.dof) == (whole.rank, whole.dof)
    assert fit.residual_sd == pytest.approx(whole.residual_sd, rel=1e-13)
    assert fit.r_squared == pytest.approx(whole.r_squared, rel=1e-13)
    shown = str(fit.dependencies[0])
    assert fit.dependencies[0].column in shown and "x2" not in shown and "intercept" not in shown
    if not fit_intercept:
        assert_minimum_norm(fit, more, y)


def test_constant_and_zero_columns():
    X, y = regression(9, 20, 3)
    X[:, 1] = 7
    fit = deficient(X, y, fit_intercept=True)
    assert fit.rank == 3 and fit.identified.tolist() == [True, False, True]
    assert fit.coef[1] == pytest.approx(0, abs=1e-14)
    assert str(fit.dependencies[0]) == "x1 = 7 · intercept"
    assert least_squares(X, y).rank == 3, "without an intercept, it is one"
    X[:, 1] = 0
    for fit_intercept in (False, True):
        fit = deficient(X, y, fit_intercept=fit_intercept)
        assert fit.coef[1] == 0 and fit.identified.tolist() == [True, False, True]
        assert str(fit.dependencies[0]) == "x1 = 0"
    nothing = deficient(np.zeros((5, 2)), np.arange(5))
    assert nothing.rank == 0 and nothing.rss == 30 and not nothing.coef.any()
    mean = deficient(np.zeros((5, 2)), np.arange(5), fit_intercept=True)
    assert mean.intercept == 2 and mean.rss == 10


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("fit_intercept", [False, True])
def test_fewer_rows_than_columns(rows, fit_intercept):
    X, y = regression(10, rows, 5)
    fit = deficient(X, y, fit_intercept=fit_intercept)
    assert fit.rank == rows and fit.dof == 0 and np.isnan(fit.residual_sd)
    assert np.isnan(fit.standard_errors).all()
    assert len(fit.dependencies) == 5 + fit_intercept - rows
    np.testing.assert_allclose(fit.predict(X), y, rtol=1e-12)
    assert_minimum_norm(fit, X, y)


def test_a_wide_design():
    X, y = regression(11, 20, 60)
    fit = deficient(X, y)
    assert fit.rank == 20 and "more" in str(fit)
    assert_minimum_norm(fit, X, y)


def test_columns_that_are_close_are_not_taken_for_the_same():
    x = np.linspace(1, 2, 20)
    near = np.column_stack([x, x + 1e-13 * (np.arange(20) % 3), np.ones(20)])
    y = np.cos(7 * x)
    fit = least_squares(near, y)
    assert fit.rank == 3
    assert correct_digits(fit.coef, exact_least_squares(near, y).coef) >= 13


def test_sums_that_rounding_has_touched_are_dependent():
    X, y = regression(12, 200, 3)
    table = X * [1, 1e6, 1e-6]
    table = np.column_stack([table, table @ [0.1, 0.7e-6, 0.3e6]])
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(4)
        assert deficient(table[:, order], y).rank == 3


def test_an_exact_fit_and_a_constant_target():
    X, _ = regression()
    fit = least_squares(X, np.full(30, 3.0), fit_intercept=True)
    np.testing.assert_allclose(fit.coef, 0, atol=1e-30)
    assert fit.intercept == 3 and fit.rss < 1e-50 and np.isnan(fit.r_squared)
    fit = least_squares(X, np.zeros(30))
    assert not fit.coef.any() and np.isnan(fit.r_squared)
    square = least_squares(X[:4], X[:4] @ [1.0, 2, 3, 4])
    assert square.dof == 0 and np.isnan(square.residual_sd) and not square.dependencies
    np.testing.assert_allclose(square.coef, [1, 2, 3, 4], rtol=1e-13)


# --- Blocks and files -----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("weighted", [False, True])
def test_blocks_are_fitted_as_the_whole(many, method, weighted):
    X, y, w = many
    cuts = [0, 1, 2, 40, 9000, 9000 + 2**13, len(y)]  # single rows and more than a block of ours

    def read():
        for a, b in zip(cuts[:-1], cuts[1:], strict=True):
            yield (X[a:b], y[a:b], w[a:b]) if weighted else (X[a:b], y[a:b])

    whole = least_squares(
        X, y, sample_weight=w if weighted else None, fit_intercept=True, method=method
    )
    parts = least_squares_blocks(read, columns=list("abcdefgh"), fit_intercept=True, method=method)
    assert parts.names == list("abcdefgh") and parts.method == method
    assert_same(parts, whole, 1e-12)


@pytest.mark.parametrize("method", ["cholesky", "qr"])
def test_a_whole_block_may_be_without_weight(method):
    X, y = regression(0, 90)
    w = np.repeat([0.0, 1.0, 0.0], 30)
    blocks = [(X[k : k + 30], y[k : k + 30], w[k : k + 30]) for k in (0, 30, 60)]
    fit = least_squares_blocks(lambda: blocks, fit_intercept=True, method=method)
    assert_same(fit, least_squares(X[30:60], y[30:60], fit_intercept=True), 1e-12)


def test_blocks_are_fitted_the_fast_way_and_take_names_from_tables():
    X, y = regression(0, 100)
    table = pd.DataFrame(X, columns=list("abcd"))
    fit = least_squares_blocks(lambda: [(table[:60], y[:60]), (table[60:], y[60:])])
    assert fit.method == "cholesky" and fit.names == list("abcd")
    assert_same(fit, least_squares(X, y))


def test_the_kind_of_numbers_may_differ_from_block_to_block():
    X, y = regression(0, 40)
    X = (100 * X).round()
    read = [(X[:20].astype(int), y[:20]), (X[20:].astype(str), y[20:])]
    assert_same(least_squares_blocks(lambda: read), least_squares(X, y), 1e-14)


@pytest.mark.parametrize(("method", "fit_intercept"), [("auto", True), ("qr", False)])
@pytest.mark.parametrize("kind", ["npy", "parquet", "csv"])
def test_a_file_is_fitted_as_the_table_it_holds(tmp_path, many, kind, method, fit_intercept):
    X, y, _ = many
    table = pd.DataFrame(X[:10_000], columns=list("abcdefgh"))
    table.insert(3, "y", y[:10_000])
    path = tmp_path / f"rows.{kind}"
    if kind == "npy":
        np.save(path, np.ascontiguousarray(table))
        table.columns = [f"x{j}" for j in range(9)]
    elif kind == "parquet":
        table.to_parquet(path, row_group_size=3500)
    else:
        table.to_csv(path, index=False)
    target = 3 if kind == "npy" else "y"
    how = {"fit_intercept": fit_intercept, "method": method}
    fit = least_squares_file(path, target, **how)
    features = table.drop(columns=table.columns[3])
    whole = least_squares(features, table[table.columns[3]], **how)
    assert fit.names == list(features.columns)
    assert_same(fit, whole, 1e-12)


def test_the_target_of_an_array_may_be_any_column(tmp_path):
    X, y = regression()
    for place in (0, 2, 4, -1, -5):
        at = place % 5
        np.save(tmp_path / "rows.npy", np.insert(X, at, y, axis=1))
        fit = least_squares_file(tmp_path / "rows.npy", place)
        assert_same(fit, least_squares(X, y, fit_intercept=True), 1e-13)
        assert fit.names == [f"x{j}" for j in range(5) if j != at]


MEMORY = """
import sys, tracemalloc
import numpy as np
from truefit.regression_maths import least_squares, least_squares_file
path, method, *sizes = sys.argv[1:]
for rows in map(int, sizes):
    rows = np.random.default_rng(0).standard_normal((rows, 21))
    np.save(path, rows)
    X, y = rows[:, :20].copy(), rows[:, 20].copy()
    del rows
    least_squares(X[:500], y[:500], method=method)
    least_squares_file(path, -1, method=method)
    tracemalloc.start()
    least_squares(X, y, fit_intercept=True, method=method)
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.reset_peak()
    least_squares_file(path, -1, method=method)
    print(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
"""


@pytest.mark.parametrize(("method", "rows"), [("cholesky", 20_000), ("qr", 8_000)])
def test_memory_does_not_grow_with_the_rows(tmp_path, method, rows):
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "rows.npy", method, str(rows), str(4 * rows)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    peaks = np.array(done.stdout.split(), dtype=int).reshape(2, 2)
    assert (peaks[1] < 1.3 * peaks[0]).all()
    design = 4 * rows * 20 * 8
    assert (peaks[1] < 0.7 * design).all()


# --- Laws -----------------------------------------------------------------------------------------


@properties
@given(seeds, st.booleans(), st.sampled_from(["cholesky", "qr"]))
def test_the_order_of_rows_does_not_matter(seed, fit_intercept, method):
    X, y = regression(seed, 60)
    order = np.random.default_rng(seed).permutation(60)
    how = {"fit_intercept": fit_intercept, "method": method}
    rtol = 1e-10 if method == "cholesky" else 1e-14
    assert_same(least_squares(X[order], y[order], **how), least_squares(X, y, **how), rtol)


@properties
@given(seeds, st.integers(-20, 20), st.integers(-50, 50), st.sampled_from(["cholesky", "qr"]))
def test_scaling_and_shifting_a_column(seed, exponent, shift, method):
    X, y = regression(seed, 60)
    X = X.round(4)
    plain = least_squares(X, y, fit_intercept=True, method=method)
    moved = X.copy()
    moved[:, 1] = np.ldexp(X[:, 1] + shift, exponent)
    fit = least_squares(moved, y, fit_intercept=True, method=method)
    units = np.array([1, 2.0**exponent, 1, 1])
    size = np.abs(plain.coef).max()
    np.testing.assert_allclose(fit.coef * units, plain.coef, rtol=1e-9, atol=1e-9 * size)
    np.testing.assert_allclose(fit.standard_errors * units, plain.standard_errors, rtol=1e-9)
    np.testing.assert_allclose(
        fit.intercept, plain.intercept - shift * plain.coef[1], rtol=1e-9, atol=1e-8
    )
    assert fit.rss == pytest.approx(plain.rss, rel=1e-10)


@properties
@given(seeds, st.integers(2, 5), st.booleans())
def test_duplicating_all_rows_changes_no_coefficient(seed, times, fit_intercept):
    X, y = regression(seed)
    once = least_squares(X, y, fit_intercept=fit_intercept)
    often = least_squares(np.tile(X, (times, 1)), np.tile(y, times), fit_intercept=fit_intercept)
    np.testing.assert_array_equal(often.coef, once.coef)
    assert often.rss == pytest.approx(times * once.rss, rel=1e-14)
    assert often.r_squared == pytest.approx(once.r_squared, rel=1e-14)


@properties
@given(seeds, st.lists(st.integers(-3, 3), min_size=4, max_size=4).filter(any), st.booleans())
def test_a_dependent_column_leaves_the_predictions(seed, terms, fit_intercept):
    X, y = regression(seed)
    more = np.column_stack([X, X @ terms])
    fit = deficient(more, y, fit_intercept=fit_intercept)
    plain = least_squares(X, y, fit_intercept=fit_intercept)
    np.testing.assert_allclose(fit.predict(more), plain.predict(X), rtol=1e-10, atol=1e-11)
    assert fit.rank == plain.rank
    assert fit.identified[:4].tolist() == [not t for t in terms]


@properties
@given(seeds, st.booleans(), st.sampled_from(["cholesky", "qr"]))
def test_the_residual_is_orthogonal_to_the_columns(seed, fit_intercept, method):
    X, y = regression(seed)
    fit = least_squares(X, y, fit_intercept=fit_intercept, method=method)
    residual = y - fit.predict(X)
    np.testing.assert_allclose(X.T @ residual, 0, atol=1e-12)
    assert fit.rss == pytest.approx(residual @ residual, rel=1e-12)
    if fit_intercept:
        assert residual.sum() == pytest.approx(0, abs=1e-12)


# --- Bad input ------------------------------------------------------------------------------------


def refused(X, y, *words: str, **how) -> None:
    with pytest.raises(DataError) as caught:
        least_squares(X, y, **how)
    assert_says(caught, *words)


def assert_says(caught, *words: str) -> None:
    said = str(caught.value)
    assert all(word in said for word in words), said
    assert "\n" not in said and len(said) < 250


X3 = np.arange(12.0).reshape(6, 2) ** 2
Y3 = np.arange(6.0)


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("row", [0, 29_000])
def test_gaps_and_infinities_are_found_wherever_they_are(many, method, value, row):
    X, y, _ = many
    X, y = X.copy(), y.copy()
    X[row, 5] = value
    kind = "NaN" if np.isnan(value) else "infinity"
    refused(X, y, f"X contains {kind} in row {row}, column 'x5'", method=method)
    table = pd.DataFrame(X, columns=list("abcdefgh"))
    refused(table, y, f"row {row}, column 'f'", method=method, fit_intercept=True)
    X[row, 5], y[row] = 0, value
    refused(X, y, f"y contains {kind} in row {row}", method=method)


@pytest.mark.parametrize(
    ("X", "y", "words"),
    [
        (Y3, Y3, ["X has 1 dimensions", "X.reshape(-1, 1)"]),
        (X3[None], Y3, ["X has 3 dimensions"]),
        (X3, X3, ["y has 2 dimensions", "y.ravel()"]),
        (X3, Y3[:5], ["X has 6 rows and y has 5"]),
        (X3[:0], Y3[:0], ["0 rows and 2 columns", "nothing to fit"]),
        (X3[:, :0], Y3, ["6 rows and 0 columns", "nothing to fit"]),
        (X3 + 1j, Y3, ["X holds values of type complex128"]),
        (X3, Y3 + 1j, ["y holds values of type complex128"]),
        (scipy.sparse.csr_array(X3), Y3, ["X is sparse", "X.toarray()"]),
        (X3.astype("datetime64[D]"), Y3, ["X holds values of type datetime64"]),
        ([["1", "2"], ["3", "four"]], [1, 2], ["X in row 1, column 'x1'", "'four'"]),
        (pd.DataFrame({"a": [1, 2], "b": ["3", "x"]}), [1, 2], ["row 1, column 'b'", "'x'"]),
        ([[1], [2]], ["1", ""], ["y in row 1", "''"]),
        ([[1], [None]], [1, 2], ["X in row 1, column 'x0'", "None is no finite number"]),
        ([["1"], ["nan"]], [1, 2], ["X in row 1, column 'x0'", "'nan' is no finite number"]),
        ([["1"], ["inf"]], [1, 2], ["X in row 1, column 'x0'", "'inf' is no finite number"]),
        ([[1], [10**400]], [1, 2], ["X in row 1, column 'x0'", "too large for float64"]),
        ([[1], [-(10**400)]], [1, 2], ["X in row 1, column 'x0'", "too large for float64"]),
        ([["1"], ["1e999999999"]], [1, 2], ["X in row 1", "too large for float64"]),
        ([["1"], ["y" * 1000]], [1, 2], ["X in row 1", "…"]),
    ],
)
@pytest.mark.parametrize("method", ["cholesky", "qr"])
def test_what_does_not_fit_is_refused_in_one_sentence(X, y, words, method):
    refused(X, y, *words, method=method)


@pytest.mark.parametrize(
    ("weight", "words"),
    [
        ([1, 1, -1, 1, 1, 1], ["-1 in row 2", "0 or more"]),
        ([1, 1, 1, np.nan, 1, 1], ["NaN in row 3"]),
        ([1, 1, 1, 1, np.inf, 1], ["infinity in row 4"]),
        ([0] * 6, ["every sample_weight is 0"]),
        ([1, 2], ["shape (2,)", "6 rows"]),
        (np.ones((6, 1)), ["shape (6, 1)"]),
        (["a"] * 6, ["sample_weight holds something that is no number"]),
    ],
)
def test_weights_that_are_none_are_refused(weight, words):
    refused(X3, Y3, *words, sample_weight=weight)


def test_as_many_names_as_columns_are_needed():
    refused(X3, Y3, "columns has 1 names", "X has 2 columns", columns=["area"])


def test_a_damaged_file_is_refused(tmp_path):
    for kind, content in {"npy": b"nothing of it", "parquet": b"nothing of it", "csv": b""}.items():
        path = tmp_path / f"rows.{kind}"
        path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            least_squares_file(path, 0)
        assert_says(caught, f"rows.{kind} is no readable .{kind} file: ")
    path = tmp_path / "rows.npy"
    np.save(path, np.arange(60.0).reshape(20, 3) ** 2)
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(DataError) as caught:
        least_squares_file(path, 0)
    assert_says(caught, "rows.npy ends in the middle of a row")


def test_a_table_of_several_types_is_read_as_numbers():
    rng = np.random.default_rng(5)
    table = pd.DataFrame({"a": rng.random(40_000), "b": rng.random(40_000) < 0.5, "c": 7})
    table["c"] = pd.array(rng.integers(0, 9, 40_000), dtype="Int64")
    y = rng.random(40_000)
    fit = least_squares(table, y, fit_intercept=True)
    reference = least_squares(table.astype(float).to_numpy(), y, fit_intercept=True)
    np.testing.assert_array_equal(fit.coef, reference.coef)
    table.loc[123, "c"] = pd.NA
    refused(table, y, "NaN in row 123, column 'c'")


def test_an_unknown_method_is_refused():
    refused(X3, Y3, "'fast'", "auto, cholesky or qr", method="fast")


def test_blocks_that_do_not_fit_are_refused():
    for read, words in (
        ([], ["there are no blocks"]),
        ([(X3, Y3, 0 * Y3), (X3, Y3, 0 * Y3)], ["every sample_weight is 0"]),
        ([(X3, Y3), (X3[:0], Y3[:0])], ["block 1", "0 rows", "nothing to fit"]),
        ([(X3, Y3), (X3, Y3[:2])], ["block 1", "6 rows and y has 2"]),
        ([(X3, Y3), (X3[:, :1], Y3)], ["block 1", "1 column", "2"]),
        ([(X3, Y3), (np.where(X3 == 81, np.nan, X3), Y3)], ["NaN in row 10, column 'x1'"]),
        ([(X3, Y3), (X3.astype(str), ["1", "2", "3", "4", "5", "z"])], ["row 5", "'z'"]),
    ):
        with pytest.raises(DataError) as caught:
            least_squares_blocks(lambda given=read: given)
        assert_says(caught, *words)


def test_names_that_do_not_fit_the_blocks_are_refused():
    with pytest.raises(DataError) as caught:
        least_squares_blocks(lambda: [(X3, Y3)], columns=["a", "b", "c"])
    assert_says(caught, "3", "2")


@pytest.mark.parametrize("method", ["cholesky", "qr"])
@pytest.mark.parametrize("blocks", [1, 2, 3, 9])
def test_a_generator_that_runs_out_is_refused(blocks, method):
    once = iter([(X3, Y3)] * blocks)
    with pytest.raises(DataError) as caught:
        least_squares_blocks(lambda: once, method=method)
    assert_says(caught, "rows")


def test_files_that_do_not_fit_are_refused(tmp_path):
    table = pd.DataFrame({"a": ["1", "2", "x", "5"], "b": [1.0, 2, 3, np.nan], "y": [1, 2, 3, 4]})
    table.to_csv(tmp_path / "text.csv", index=False)
    table[["b", "y"]].to_csv(tmp_path / "gap.csv", index=False)
    table[["b", "y"]].to_parquet(tmp_path / "gap.parquet")
    (tmp_path / "empty.csv").write_text("a,y\n", encoding="utf-8")
    pd.DataFrame({"a": [], "y": []}, dtype=float).to_parquet(tmp_path / "empty.parquet")
    np.save(tmp_path / "matrix.npy", X3)
    np.save(tmp_path / "vector.npy", Y3)
    np.save(tmp_path / "small.npy", X3.astype(np.float32))
    np.save(tmp_path / "columns.npy", np.asfortranarray(X3))
    np.save(tmp_path / "empty.npy", X3[:0])
    np.save(tmp_path / "one.npy", X3[:, :1])
    for name, target, words in (
        ("rows.xlsx", "y", [".npy, .parquet, .csv"]),
        ("none.csv", "y", ["none.csv is not there"]),
        ("text.csv", "z", ["no column 'z'", "a, b, y"]),
        ("gap.parquet", "z", ["no column 'z'", "b, y"]),
        ("text.csv", "y", ["row 2, column 'a'", "'x'"]),
        ("gap.csv", "y", ["NaN in row 3, column 'b'"]),
        ("gap.parquet", "y", ["NaN in row 3, column 'b'"]),
        ("matrix.npy", 2, ["columns 0 to 1", "no column 2"]),
        ("matrix.npy", "y", ["columns 0 to 1", "no column 'y'"]),
        ("vector.npy", 0, ["no matrix of float64"]),
        ("small.npy", 0, ["no matrix of float64"]),
        ("columns.npy", 0, ["no matrix of float64"]),
        ("empty.npy", 0, ["nothing to fit"]),
        ("empty.csv", "y", ["nothing to fit"]),
        ("empty.parquet", "y", ["nothing to fit"]),
        ("one.npy", 0, ["nothing to fit"]),
    ):
        with pytest.raises(DataError) as caught:
            least_squares_file(tmp_path / name, target)
        assert_says(caught, *words)


def test_the_row_of_a_text_in_a_long_file_is_counted_from_the_first(tmp_path):
    table = pd.DataFrame({"a": np.arange(20_000).astype(str), "y": np.arange(20_000.0)})
    table.loc[19_000, "a"] = "x"
    table.to_csv(tmp_path / "rows.csv", index=False)
    table.to_parquet(tmp_path / "rows.parquet")
    for name in ("rows.csv", "rows.parquet"):
        for method in ("cholesky", "qr"):
            with pytest.raises(DataError) as caught:
                least_squares_file(tmp_path / name, "y", method=method)
            assert_says(caught, "row 19000, column 'a'", "'x'")


# --- The result -----------------------------------------------------------------------------------


def test_the_result_reads_as_a_table():
    data = CERTIFIED["Norris"]
    fit = least_squares(pd.DataFrame({"ozone": data.X[:, 1]}), data.y, fit_intercept=True)
    head, intercept, ozone, foot = str(fit).splitlines()
    assert head.split() == ["column", "coefficient", "standard", "error"]
    assert intercept.split() == ["intercept", "-0.2623230738", "0.232818"]
    assert ozone.split() == ["ozone", "1.002116818", "0.000429797"]
    assert foot.startswith("36 rows, rank 2, R² 0.999994, residual standard deviation 0.884796")
    assert "intercept" not in str(least_squares(data.X, data.y))
