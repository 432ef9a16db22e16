"""Arithmetic in twice the digits of float64, held against fractions."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from truefit.regression_maths.double_double import add, pair_of, sum_last_axis, two_product, two_sum

# Far from overflow, and from numbers so small that the error of a product is none any more.
moderate = st.floats(-1e140, 1e140, allow_subnormal=False).filter(
    lambda v: abs(v) > 1e-140 or not v
)
everyday = st.floats(-1e6, 1e6).filter(lambda v: abs(v) > 1e-6 or not v)
pairs = st.tuples(everyday, st.floats(-1, 1)).map(lambda p: (p[0], p[0] * 2.0**-53 * p[1]))


def exact(*values) -> Fraction:
    return sum(Fraction(float(value)) for value in values)


@given(moderate, moderate)
def test_a_sum_and_its_error_are_exact(a, b):
    high, low = two_sum(a, b)
    assert high == a + b
    assert exact(high, low) == exact(a, b)


@given(moderate, moderate)
def test_a_product_and_its_error_are_exact(a, b):
    high, low = two_product(np.float64(a), np.float64(b))
    assert high == a * b
    assert exact(high, low) == exact(a) * exact(b)


def test_the_error_of_a_product_takes_all_bits():
    a = np.float64(1 + 2.0**-52)
    assert two_product(a, a) == (1 + 2.0**-51, 2.0**-104)
    a, b = np.float64(2**27 + 1), np.float64(2**27 - 1)
    assert exact(*two_product(a, b)) == 2**54 - 1


@given(pairs, pairs)
def test_pairs_add_up_to_twice_the_digits(a, b):
    found = add(a, b)
    wrong = abs(exact(*found) - exact(*a, *b))
    assert wrong <= Fraction(2) ** -104 * (abs(exact(*a)) + abs(exact(*b)))
    assert found[0] == found[0] + found[1], "the high part is the number, rounded"


@given(st.lists(pairs, min_size=1, max_size=70))
def test_a_long_sum_keeps_twice_the_digits(terms):
    high, low = np.array(terms).T
    total = sum_last_axis(high, low)
    size = sum(abs(exact(v)) for v in high)
    assert abs(exact(*total) - exact(*high, *low)) <= Fraction(2) ** -98 * size
    assert total[0] == total[0] + total[1]


def test_a_sum_survives_cancellation():
    values = np.array([[1e16, 1.0, -1e16], [1.0, 1e100, -1e100]])
    high, low = sum_last_axis(values, np.zeros((2, 3)))
    np.testing.assert_array_equal(high + low, [1.0, 1.0])


@pytest.mark.parametrize("length", range(1, 10))
def test_a_sum_of_any_length_takes_each_term_once(length):
    high = np.tile(2.0 ** np.arange(length), (2, 3, 1))
    total, rest = sum_last_axis(high, high * 2.0**-60)
    np.testing.assert_array_equal(total, np.full((2, 3), 2.0**length - 1))
    np.testing.assert_array_equal(rest, total * 2.0**-60)


@pytest.mark.parametrize(
    ("value", "truth"),
    [
        ("0.1", Fraction(1, 10)),
        (b"0.1", Fraction(1, 10)),
        (" -1.5e3 ", Fraction(-1500)),
        (Decimal("0.30000000000000000000001"), Fraction("0.30000000000000000000001")),
        (Fraction(1, 3), Fraction(1, 3)),
        (2**53 + 1, Fraction(2**53 + 1)),
        (np.int64(2**62 + 1), Fraction(2**62 + 1)),
        (0.1, Fraction(0.1)),
        (np.float32(0.1), Fraction(float(np.float32(0.1)))),
        (True, Fraction(1)),
        (np.True_, Fraction(1)),
        ("0", Fraction(0)),
        ("1e-5000", Fraction(0)),
        ("1e-1000000000000", Fraction(0)),
        ("1.7e308", Fraction("1.7e308")),
    ],
)
def test_a_number_is_taken_for_what_it_says(value, truth):
    high, low = pair_of(value)
    assert high == float(truth)
    assert abs(exact(high, low) - truth) <= Fraction(2) ** -105 * abs(truth)


@pytest.mark.parametrize("value", ["", "abc", "1,5", "nan", float("nan"), None, 1j, b"x", object()])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(ValueError):
        pair_of(value)


@pytest.mark.parametrize(
    "value", [10**400, "1e400", "1e1000000000000", Decimal("-1e999"), float("inf"), "-inf"]
)
def test_what_is_too_large_is_refused_at_once(value):
    with pytest.raises(OverflowError):
        pair_of(value)
