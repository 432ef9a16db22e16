"""Numbers that people can read, and read alike everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from truefit.digits import number, significant


@pytest.mark.parametrize(
    ("value", "spec", "text"),
    [
        (-1.5, ".1f", "−1.5"),
        (-0.04, ".1f", "0.0"),
        (0.04, "+.1f", "0.0"),
        (1.25, "+.2f", "+1.25"),
        (-1e-7, ".1e", "−1.0e−07"),
        (1234.5, ",.0f", "1,234"),
        (-0.001, ".0%", "0%"),
        (float("-inf"), ".2f", "−inf"),
        (float("nan"), ".2f", "nan"),
    ],
)
def test_a_number_has_a_real_minus_and_zero_has_no_sign(value, spec, text):
    assert number(value, spec) == text


@given(st.floats(-1e6, 1e6), st.integers(0, 5))
def test_a_number_that_is_shown_can_be_read_again(value, decimals):
    text = number(value, f",.{decimals}f")
    assert "-" not in text and float(text.replace("−", "-").replace(",", "")) == round(
        value, decimals
    )
    assert not (text.startswith("−") and float(text[1:].replace(",", "")) == 0)


@given(st.floats(1e-6, 1e9) | st.floats(-1e9, -1e-6))
def test_significant_digits_say_the_number_to_four_digits_in_full(value):
    text = significant(value)
    assert "e" not in text
    assert float(text.replace("−", "-").replace(",", "")) == pytest.approx(value, rel=6e-4)
