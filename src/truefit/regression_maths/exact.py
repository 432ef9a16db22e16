"""What is true, to hold solvers against: least squares in rational arithmetic, without rounding."""

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np

# More digits than a float64 has (17) would not be its own.
ALL_DIGITS = 17.0


class ExactFit(NamedTuple):
    """The least-squares solution as fractions; roots to 40 digits, as decimals."""

    coef: list[Fraction]
    standard_errors: list[Decimal]
    residual_sd: Decimal
    r_squared: Fraction
    rss: Fraction


def exact_least_squares(X: Iterable[Sequence], y: Iterable, *, centred: bool = True) -> ExactFit:
    """Solve the normal equations in fractions, where nothing is ever rounded.

    Parameters
    ----------
    X : rows of n_features numbers each, of full rank
        Anything a Fraction can be made of: float, int, decimal text, Decimal.
    y : n_samples numbers, more than n_features
    centred : bool
        Whether R² counts from the mean of y; False for a model without an intercept.

    Returns
    -------
    ExactFit
        A few seconds for a hundred rows of ten features: this is a reference, not a solver.

    Examples
    --------
    >>> exact_least_squares([[1, 1], [1, 2], [1, 4]], ["0.1", "0.2", "0.5"]).coef
    [Fraction(-1, 20), Fraction(19, 140)]
    """
    rows = [[Fraction(v) for v in row] for row in _plain(X)]
    target = [Fraction(v) for v in _plain(y)]
    columns = [list(column) for column in zip(*rows, strict=True)]
    n_features = len(columns)
    normal = [
        [_dot(column, other) for other in columns]
        + [_dot(column, target)]
        + [Fraction(i == j) for j in range(n_features)]
        for i, column in enumerate(columns)
    ]
    _eliminate(normal)
    coef = [row[n_features] for row in normal]
    residual = [t - _dot(row, coef) for row, t in zip(rows, target, strict=True)]
    rss = _dot(residual, residual)
    origin = sum(target, Fraction()) / len(target) if centred else Fraction()
    away = [t - origin for t in target]
    variance = rss / (len(rows) - n_features)
    return ExactFit(
        coef=coef,
        standard_errors=[
            _root(variance * normal[j][n_features + 1 + j]) for j in range(n_features)
        ],
        residual_sd=_root(variance),
        r_squared=1 - rss / _dot(away, away),
        rss=rss,
    )


def correct_digits(found: Any, exact: Any) -> float:
    """The number of correct decimal digits of the worst component: −log10 of its relative error.

    Parameters
    ----------
    found : number or sequence of numbers
    exact : number or sequence of numbers
        Numbers, or decimal texts. Where it is 0, the error itself counts.

    Returns
    -------
    float
        At most 17, the digits of a float64; 0 if nothing is right.

    Examples
    --------
    >>> round(correct_digits(3.1416, "3.14159265358979"), 1)
    5.6
    """
    worst = Fraction(0)
    pairs = zip(np.ravel(_plain(found)).tolist(), np.ravel(_plain(exact)).tolist(), strict=True)
    for value, truth in pairs:
        if not np.isfinite(float(value)):
            return 0.0
        truth = Fraction(truth)
        worst = max(worst, abs(Fraction(value) - truth) / (abs(truth) or 1))
    if worst == 0:
        return ALL_DIGITS
    with localcontext(prec=20):
        lost = -(Decimal(worst.numerator) / Decimal(worst.denominator)).log10()
    return float(min(max(lost, Decimal(0)), Decimal(ALL_DIGITS)))


def polynomial(x: Iterable, degree: int) -> np.ndarray:
    """The columns 1, x, x², … of a polynomial, exact: an array of fractions.

    Parameters
    ----------
    x : n_samples numbers or decimal texts
    degree : int

    Returns
    -------
    ndarray of shape (n_samples, degree + 1), of Fraction
        ``least_squares`` takes it as it is, with 32 digits; ``.astype(float)`` rounds it.
    """
    return np.array([[Fraction(v) ** k for k in range(degree + 1)] for v in _plain(x)])


def _eliminate(rows: list[list[Fraction]]) -> None:
    """Gauss–Jordan elimination in place: the left square becomes the identity."""
    for k in range(len(rows)):
        pivot = next((i for i in range(k, len(rows)) if rows[i][k] != 0), None)
        if pivot is None:
            raise ValueError("the columns of X depend on each other: the solution is not unique")
        rows[k], rows[pivot] = rows[pivot], rows[k]
        rows[k] = [value / rows[k][k] for value in rows[k]]
        for i, row in enumerate(rows):
            if i != k and row[k] != 0:
                rows[i] = [a - row[k] * b for a, b in zip(row, rows[k], strict=True)]


def _dot(a: list[Fraction], b: list[Fraction]) -> Fraction:
    return sum((x * y for x, y in zip(a, b, strict=True)), Fraction())


def _root(value: Fraction) -> Decimal:
    with localcontext(prec=40):
        return (Decimal(value.numerator) / Decimal(value.denominator)).sqrt()


def _plain(values: Any) -> Any:
    """Python's own numbers: a Fraction cannot be made of NumPy's."""
    return values.tolist() if hasattr(values, "tolist") else values
