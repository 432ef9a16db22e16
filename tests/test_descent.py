"""The ways downhill: their gradients, their safe rates, and the minimum that they all reach."""

import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from sklearn.datasets import load_diabetes
from sklearn.exceptions import ConvergenceWarning

from truefit.regression_maths.descent import (
    conjugate_gradients,
    finite_differences,
    gradient,
    gradient_descent,
    largest_rate,
    loss,
    stochastic_gradient_descent,
)
from truefit.regression_maths.inputs import DataError

SCALINGS = ["sum", "mean", "half_mean"]
each_scaling = pytest.mark.parametrize("scaling", SCALINGS)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=30, deadline=None)


def digits(found, expected):
    """Correct digits of the worst entry: its relative error as a logarithm."""
    error = np.abs(np.asarray(found) - expected) / np.abs(expected)
    return float(-np.log10(max(error.max(), 1e-17)))


def problem(seed=0, n_samples=60, n_features=4, spread=1.0):
    """Rows whose columns differ in length by the factor ``spread``, and their exact minimiser.

    The numbers are small integers, so that solving in float64 loses nothing that would matter.
    """
    rng = np.random.default_rng(seed)
    X = rng.integers(-9, 10, (n_samples, n_features)) * np.geomspace(1, spread, n_features)
    y = X @ rng.uniform(1, 2, n_features) + rng.integers(-5, 6, n_samples)
    return X, y, np.linalg.lstsq(X, y)[0]


@each_scaling
def test_the_gradient_is_that_of_the_loss(scaling):
    X, y, _ = problem()
    coef = np.array([0.5, -1.0, 2.0, 0.1])
    found = gradient(X, y, coef, scaling=scaling)
    assert digits(finite_differences(lambda b: loss(X, y, b, scaling=scaling), coef), found) > 10
    far = check_grad(
        lambda b: loss(X, y, b, scaling=scaling),
        lambda b: gradient(X, y, b, scaling=scaling),
        coef,
    )
    assert far < 1e-5 * np.linalg.norm(found)


def test_finite_differences_hold_for_a_function_that_is_no_parabola():
    place = np.array([0.3, -2.0, 40.0])
    found = finite_differences(lambda b: np.sin(b[0]) * np.exp(b[1]) + np.log(b[2]) ** 3, place)
    sine, power, log = np.sin(0.3), np.exp(-2.0), np.log(40.0)
    expected = [np.cos(0.3) * power, sine * power, 3 * log**2 / 40]
    assert digits(found, np.array(expected)) > 10


def test_the_loss_is_the_rss_times_its_factor_along_a_whole_path():
    X, y, best = problem()
    path = np.array([best, np.zeros(4)])
    rss = [((y - X @ b) ** 2).sum() for b in path]
    for scaling, factor in zip(SCALINGS, (1, 1 / 60, 1 / 120), strict=True):
        assert loss(X, y, path, scaling=scaling) == pytest.approx(np.multiply(rss, factor))


def test_an_unknown_scaling_is_named():
    X, y, best = problem()
    with pytest.raises(ValueError, match="scaling is 'total'; it must be one of sum, mean"):
        loss(X, y, best, scaling="total")


# Safe rates


def test_the_rates_of_the_scalings_are_as_one_to_n_to_two_n():
    X, _, _ = problem()
    rates = [largest_rate(X, scaling=scaling) for scaling in SCALINGS]
    assert rates / rates[0] == pytest.approx([1, 60, 120], rel=1e-14)
    steepest = np.linalg.eigvalsh(X.T @ X / 60)[-1]
    assert rates[2] == pytest.approx(2 / steepest, rel=1e-12)
    assert largest_rate(np.zeros((3, 2))) == np.inf


@few
@given(seeds, st.sampled_from(SCALINGS), st.sampled_from([0.0, 0.5, 0.9]))
def test_just_below_the_largest_rate_the_path_comes_closer_and_just_above_it_flees(
    seed, scaling, momentum
):
    X, y, best = problem(seed, n_samples=12, n_features=3)
    values, vectors = np.linalg.eigh(X.T @ X)
    assume(values[1] < 0.9 * values[2] and values[0] > 1e-3 * values[2])
    limit = largest_rate(X, scaling=scaling, momentum=momentum)
    given = {"scaling": scaling, "momentum": momentum, "start": best + vectors[:, -1]}
    below = gradient_descent(X, y, rate=0.99 * limit, steps=4000, **given)
    assert np.linalg.norm(below[-1] - best) < 1e-6
    with pytest.warns(ConvergenceWarning, match="gradient descent diverges: after 4000 steps"):
        above = gradient_descent(X, y, rate=1.002 * limit, steps=4000, **given)
    assert np.linalg.norm(above[-1] - best) > 3


@each_scaling
def test_gradient_descent_reaches_the_minimum_to_thirteen_digits(scaling):
    X, y, best = problem()
    path = gradient_descent(
        X, y, rate=largest_rate(X, scaling=scaling) / 2, steps=300, scaling=scaling
    )
    assert path.shape == (301, 4)
    assert (path[0] == 0).all()
    assert digits(path[-1], best) > 13


def test_the_first_steps_are_those_of_the_formula():
    X, y, _ = problem()
    path = gradient_descent(X, y, rate=0.01, steps=2, momentum=0.7, scaling="mean")
    first = -0.01 * gradient(X, y, np.zeros(4), scaling="mean")
    second = first - 0.01 * gradient(X, y, first, scaling="mean") + 0.7 * first
    assert path[1:] == pytest.approx(np.array([first, second]), rel=1e-14)


def test_momentum_saves_steps_on_a_long_valley():
    X, y, best = problem(spread=30.0)
    path = {}
    for momentum in (0.0, 0.9):
        rate = largest_rate(X, momentum=momentum) / 2
        path[momentum] = gradient_descent(X, y, rate=rate, steps=400, momentum=momentum)
    distance = {m: np.linalg.norm(p[-1] - best) for m, p in path.items()}
    assert distance[0.9] < 1e-3 * distance[0.0]


def test_an_overflow_is_one_warning_and_leaves_nothing_to_be_taken_for_an_answer():
    X, y, _ = problem()
    limit = largest_rate(X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        path = gradient_descent(X, y, rate=10 * limit, steps=1000)
    assert [w.category for w in caught] == [ConvergenceWarning]
    said = str(caught[0].message)
    assert f"the rate is {10 * limit:.3g}, and must stay below {limit:.3g}" in said
    lost = np.isnan(path).any(axis=1)
    assert f"at step {lost.argmax()}:" in said
    assert lost[-1] and lost[lost.argmax() :].all() and np.isfinite(path[~lost]).all()


def test_momentum_that_overshoots_at_a_safe_rate_is_no_divergence():
    X, y, best = problem()
    rate = 0.95 * largest_rate(X, momentum=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = gradient_descent(X, y, rate=rate, steps=1, momentum=0.9, start=best + 1e-3)
    assert loss(X, y, path[1]) > loss(X, y, path[0])


# Conjugate gradients


@few
@given(seeds, st.integers(1, 7))
def test_conjugate_gradients_end_after_as_many_steps_as_features(seed, n_features):
    X, y, best = problem(seed, n_samples=40, n_features=n_features)
    path = conjugate_gradients(X, y)
    assert len(path) <= n_features + 1
    assert np.abs(path[-1] - best).max() < 1e-11 * np.abs(best).max()


def test_conjugate_gradients_reach_the_minimum_to_thirteen_digits():
    X, y, best = problem()
    path = conjugate_gradients(X, y, steps=10)
    assert digits(path[-1], best) > 13
    assert digits(path[3], best) < 8
    falling = loss(X, y, path[:5])
    assert (np.diff(falling) < 0).all()


def test_two_different_eigenvalues_take_two_steps():
    Q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(30, 6)))
    X = Q * [1.0, 1.0, 1.0, 3.0, 3.0, 3.0]
    y = np.arange(30.0)
    assert digits(conjugate_gradients(X, y, steps=2)[-1], np.linalg.lstsq(X, y)[0]) > 12


def test_conjugate_gradients_stay_where_there_is_nothing_to_gain():
    X, y, best = problem()
    assert len(conjugate_gradients(X, np.zeros(60))) == 1
    again = conjugate_gradients(X, y, steps=50)
    assert len(again) < 12
    assert digits(again[-1], best) > 13


# A few rows at a time


def test_averaging_a_noisy_path_brings_it_nearer_to_the_minimum():
    X, y = load_diabetes(return_X_y=True)
    X, y = X[:, :4] * 20, y - y.mean()
    best = np.linalg.lstsq(X, y)[0]
    distances = []
    for seed in range(5):
        found = stochastic_gradient_descent(
            X, y, rate=0.3, decay=0.6, epochs=30, seed=seed, average_from=442
        )
        assert found.path.shape == found.average.shape == (30 * 442 + 1, 4)
        distances.append([np.linalg.norm(p[-1] - best) for p in (found.path, found.average)])
    last, mean = np.mean(distances, axis=0)
    assert mean < 0.5 * last
    assert mean < 0.05 * np.linalg.norm(best)


def test_where_every_row_agrees_a_constant_rate_reaches_the_minimum_to_thirteen_digits():
    X, _, _ = problem()
    coef = np.array([1.0, -2.0, 3.0, 0.5])
    rate = 1 / (X**2).sum(axis=1).max()
    found = stochastic_gradient_descent(X, X @ coef, rate=rate, decay=0.0, epochs=60, seed=1)
    assert digits(found.path[-1], coef) > 13


def test_one_batch_of_all_rows_is_gradient_descent():
    X, y, best = problem()
    found = stochastic_gradient_descent(
        X, y, rate=0.01, decay=0.0, epochs=50, batch_size=60, seed=3, start=best + 1
    )
    expected = gradient_descent(X, y, rate=0.01, steps=50, start=best + 1)
    assert found.path == pytest.approx(expected, rel=1e-12)


def test_the_rate_decays_the_average_is_the_mean_and_the_seed_is_the_path():
    X, y, _ = problem(n_samples=7)
    given = {"rate": 0.005, "decay": 0.75, "epochs": 2, "batch_size": 3, "average_from": 2}
    path, average = stochastic_gradient_descent(X, y, seed=5, **given)
    assert len(path) == 2 * 3 + 1
    order = np.random.default_rng(5).permutation(7)
    second = gradient(X[order[3:6]], y[order[3:6]], path[1])
    assert path[2] == pytest.approx(path[1] - 0.005 / 2**0.75 * second, rel=1e-13)
    assert (average[:3] == path[:3]).all()
    assert average[-1] == pytest.approx(path[2:].mean(axis=0), rel=1e-13)
    assert (stochastic_gradient_descent(X, y, seed=5, **given).path == path).all()
    assert (stochastic_gradient_descent(X, y, seed=6, **given).path != path).any()


def test_a_stochastic_overflow_is_one_warning():
    X, y, _ = problem()
    with pytest.warns(ConvergenceWarning, match="too large for a float64 at step") as caught:
        found = stochastic_gradient_descent(X, y, rate=50, decay=0.0, epochs=20, seed=0)
    assert len(caught) == 1
    assert np.isnan(found.path[-1]).all() and np.isnan(found.average[-1]).all()


# Bad input


@pytest.mark.parametrize("solve", [conjugate_gradients, gradient_descent])
@pytest.mark.parametrize(
    ("X", "y", "start", "said"),
    [
        ([[1.0, np.nan]], [1.0], None, "X contains NaN in row 0, column 'x1'"),
        ([[1.0, 2.0]], [np.inf], None, "y contains infinity in row 0"),
        ([[1.0, 2.0]], [1.0, 2.0], None, r"X has the shape \(1, 2\) and y has \(2,\)"),
        ([1.0, 2.0], [1.0, 2.0], None, r"X has the shape \(2,\)"),
        (np.empty((0, 2)), [], None, r"X has the shape \(0, 2\)"),
        ([[1.0, 2.0]], [1.0], [0.0], r"start has the shape \(1,\), but X has 2 columns"),
    ],
)
def test_bad_input_ends_in_one_sentence(solve, X, y, start, said):
    given = {"rate": 0.1, "steps": 3} if solve is gradient_descent else {}
    with pytest.raises(DataError, match=said):
        solve(X, y, start=start, **given)
