"""Twice the digits of float64, as the unevaluated sum of two: a high part and a low part.

A number is a pair (high, low) with ``high`` the float64 nearest to it and ``low`` what is missing,
which gives about 32 decimal digits. All functions work on arrays element by element.

The error-free transformations are those of Knuth (TwoSum, 1969) and Dekker (TwoProduct, 1971); to
sum the errors in float64 beside the sum is the method of Ogita, Rump and Oishi, "Accurate sum and
dot product", SIAM Journal on Scientific Computing 26, 2005.
"""

from decimal import Decimal, InvalidOperation
from fractions import Fraction
from numbers import Rational, Real
from typing import Any

import numpy as np

# Dekker's constant: the product with it cuts the 53 bits of a float64 into 26 and 27.
_SPLITTER = 2.0**27 + 1
# Decimal exponents of a float64, with room on both sides; beyond, a text is a mistake, and the
# exact integer it stands for could fill the memory.
_EXPONENTS = (-400, 310)


def two_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``a + b`` rounded, and the exact error of the rounding.

    Examples
    --------
    >>> two_sum(1.0, 1e-20)
    (1.0, 1e-20)
    """
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def two_product(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``a * b`` rounded, and the exact error of the rounding, for factors below 1e150 or so."""
    product = a * b
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    error = ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low
    return product, error


def _split(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scaled = _SPLITTER * a
    high = scaled - (scaled - a)
    return high, a - high


def add(
    a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The sum of two pairs."""
    total, error = two_sum(a[0], b[0])
    return two_sum(total, error + (a[1] + b[1]))


def sum_last_axis(high: np.ndarray, low: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The sum of pairs along the last axis, in a tree: halves are added until one is left."""
    while (length := high.shape[-1]) > 1:
        half = length // 2
        total, error = two_sum(high[..., :half], high[..., half : 2 * half])
        error += low[..., :half] + low[..., half : 2 * half]
        if length % 2:
            total = np.concatenate([total, high[..., -1:]], axis=-1)
            error = np.concatenate([error, low[..., -1:]], axis=-1)
        high, low = total, error
    return two_sum(high[..., 0], low[..., 0])


def pair_of(value: Any) -> tuple[float, float]:
    """A number, or a decimal written as text, as a pair.

    Parameters
    ----------
    value : text, Decimal, Fraction, int or float
        A decimal text is taken for exactly what it says: ``"0.1"`` is one tenth.

    Raises
    ------
    ValueError
        If it is no number.
    OverflowError
        If it is too large for float64.

    Examples
    --------
    >>> pair_of(0.1), pair_of("0.1")
    ((0.1, 0.0), (0.1, -5.551115123125783e-18))
    """
    exact = _exact(value)
    high = float(exact)
    return high, float(exact - Fraction(high))


def _exact(value: Any) -> Fraction:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str | bytes | Decimal):
        value = value.decode() if isinstance(value, bytes) else value
        try:
            value = Decimal(value)
        except InvalidOperation:
            raise ValueError(f"{value!r} is no number") from None
        if value.is_finite() and value and not _EXPONENTS[0] < value.adjusted():
            return Fraction(0)
        if value.is_finite() and value.adjusted() >= _EXPONENTS[1]:
            raise OverflowError(f"{value} is too large for float64")
    if isinstance(value, Real | Rational | Decimal):
        return Fraction(value)
    raise ValueError(f"{value!r} is no number")
