"""Numbers for people: to the digits they deserve, the same on every machine."""

import math
from typing import Any

import numpy as np


def number(value: float, spec: str) -> str:
    """A number for people: with a real minus sign, and never a negative zero.

    Examples
    --------
    >>> number(-0.04, ".1f"), number(-1234.5, ",.1f")
    ('0.0', '−1,234.5')
    """
    text = format(value, spec)
    # A zero that rounding made negative would differ between machines, and mean nothing.
    zero = math.isfinite(value) and not any(c in text for c in "123456789")
    return text.lstrip("+-") if zero else text.replace("-", "−")


def significant(value: float, digits: int = 4) -> str:
    """A number to so many significant digits, never in powers of ten: 0.1094, 12.89, 12,890.

    Examples
    --------
    >>> significant(0.109371), significant(12893.7), significant(12893.7, 2)
    ('0.1094', '12,890', '13,000')
    """
    if not math.isfinite(value) or value == 0:
        return number(value, ",.0f")
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return number(round(value, decimals), f",.{max(0, decimals)}f")


def percent(value: float) -> str:
    """A share for people; of one below a tenth, a decimal.

    Examples
    --------
    >>> percent(0.0421), percent(0.421)
    ('4.2 %', '42 %')
    """
    return f"{number(100 * value, '.1f' if 0 < value < 0.1 else '.0f')} %"


def r_squared(value: float, decimals: int = 2) -> str:
    """An R² for people. It has no lower end, and far below 0 its digits say nothing."""
    return number(value, f".{decimals}f") if not value < -99 else "below −99"


def agreed(values: Any, digits: int = 9) -> np.ndarray:
    """Values rounded to the decimals on which processors agree, to be put in order.

    Where all are below 1, those of the largest count, so that a target near 10⁻¹⁰ keeps its order.

    Examples
    --------
    >>> agreed([2.0, 0.1 + 0.2, 0.3]).tolist()
    [2.0, 0.3, 0.3]
    """
    values = np.asarray(values, dtype=float)
    largest = np.abs(values[np.isfinite(values)]).max(initial=0)
    return np.round(values / (min(1.0, largest) or 1.0), digits)


def to_spread(value: float, spread: float, sign: str = "") -> str:
    """A number to the digits it deserves: two digits of the spread it is known with.

    Examples
    --------
    >>> to_spread(12.3456, spread=0.21), to_spread(12.3456, spread=0.21, sign="+")
    ('12.35', '+12.35')
    """
    decimals = 1 - math.floor(math.log10(spread)) if 0 < spread < math.inf else 3
    return number(round(value, decimals), f"{sign},.{max(0, decimals)}f")
