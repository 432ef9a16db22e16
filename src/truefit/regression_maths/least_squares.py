"""Least squares to the last digit, and fast: numpy and scipy only.

Two ways lead to the solution, and both go through the rows block by block:

- *cholesky*: the Gram matrix XᵀX and its Cholesky factor, then one step of iterative refinement.
  Two passes over the rows. It squares the condition number, and so is used only while that is
  small (`CHOLESKY_LIMIT`).
- *qr*: the triangular factor R of the column-scaled matrix by Householder reflections, then
  refinement with R in the corrected semi-normal equations, RᵀR·δ = Xᵀ(y − Xβ). The residual, its
  product with Xᵀ and β itself are kept in twice the digits of float64, so that what comes out is
  the exact solution, rounded.

Sources: Å. Björck, "Iterative refinement of linear least squares solutions", BIT 7, 1967, and
"Stability analysis of the method of semi-normal equations", Linear Algebra and its Applications
88, 1987; J. Demmel, Y. Hida, E. J. Riedy and X. S. Li, "Extra-precise iterative refinement for
overdetermined least squares problems", ACM Transactions on Mathematical Software 35, 2009;
J. Demmel, L. Grigori, M. Hoemmen and J. Langou, "Communication-optimal parallel and sequential QR
and LU factorizations", SIAM Journal on Scientific Computing 34, 2012 (R block by block).
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.linalg import qr, solve_triangular

from truefit.regression_maths.blocks import Block, Samples, from_arrays, from_file, in_memory
from truefit.regression_maths.double_double import add, sum_last_axis, two_product, two_sum
from truefit.regression_maths.inputs import DataError, refuse_not_finite

Method = Literal["auto", "cholesky", "qr"]

# Below so many numbers in X, "auto" takes the accurate way at once: it costs some milliseconds.
LARGE = 200_000
# Beyond this condition number of the scaled columns, the Cholesky way loses digits that
# refinement in float64 does not bring back.
CHOLESKY_LIMIT = 3e5
# Exact standard errors cost n_samples · n_features² operations in double-double arithmetic.
EXACT_ERRORS_LIMIT = 4e8

_UNIT = 2.0**-53  # a rounded number is off by at most so much of itself
_GRAM_BLOCK = 2**17  # numbers in a block that is to stay in the processor's cache
_IN_CACHE = 2**15  # the same, where a block has several temporary arrays of its size
_RUN = 32  # rows summed in float64 before the sum is kept in twice the digits
_INTERCEPT = "intercept"


class RankWarning(UserWarning):
    """The columns depend on each other, so that not every coefficient is identified."""


@dataclass(frozen=True)
class Dependency:
    """A column that the others make up: ``column = Σ combination[name] · name``."""

    column: str
    combination: Mapping[str, float]

    def __str__(self) -> str:
        terms = [f"{value:.6g} · {name}" for name, value in self.combination.items()]
        return f"{self.column} = {' + '.join(terms) or '0'}".replace("+ -", "− ")


@dataclass(frozen=True)
class LeastSquares:
    """A fitted linear model and what it is worth.

    Attributes
    ----------
    coef : ndarray of shape (n_features,)
        In units of y per unit of the column.
    intercept : float
        In units of y; 0 without one.
    standard_errors : ndarray of shape (n_features,)
        Of the coefficients, in their units; NaN where the coefficient is not identified, or there
        are no degrees of freedom. By "qr" as good as the coefficients up to `EXACT_ERRORS_LIMIT`,
        and right to about 1e-16 times the condition number beyond it; by "cholesky" to about
        1e-16 times its square.
    intercept_standard_error : float
    residual_sd : float
        √(RSS / degrees of freedom), in units of y; NaN without degrees of freedom.
    rss : float
        The (weighted) residual sum of squares.
    r_squared : float
        1 − RSS/TSS. TSS counts from the (weighted) mean of y if the model has an intercept or a
        constant column, else from 0, as NIST certifies it. NaN if TSS is 0.
    covariance : ndarray of shape (n_features + 1, n_features + 1)
        Of the intercept and the coefficients; without an intercept its row and column are 0.
    n_samples : int
        Rows with a weight above 0.
    dof : int
        Degrees of freedom: n_samples − rank.
    rank : int
        The number of independent columns, the intercept's among them.
    condition : float
        Condition number (2-norm) of the independent columns, each scaled to length 1.
    names : list of str
        Of the columns.
    dependencies : list of Dependency
        Which columns the others make up; empty at full rank.
    identified : ndarray of bool, of shape (n_features,)
        Whether the data determine the coefficient. If not, it is that of the solution with the
        smallest Σ coef².
    method : "cholesky" or "qr"
    """

    coef: np.ndarray
    intercept: float
    standard_errors: np.ndarray
    intercept_standard_error: float
    residual_sd: float
    rss: float
    r_squared: float
    covariance: np.ndarray
    n_samples: int
    dof: int
    rank: int
    condition: float
    names: list[str]
    dependencies: list[Dependency]
    identified: np.ndarray
    method: str

    def predict(self, X: Any) -> np.ndarray:
        """Fitted values for rows of float64, of shape (n_samples,)."""
        return np.asarray(X, dtype=float) @ self.coef + self.intercept

    def __str__(self) -> str:
        lines = [f"{'column':20} {'coefficient':>20} {'standard error':>16}"]
        rows = zip(self.names, self.coef, self.standard_errors, self.identified, strict=True)
        if self.covariance[0, 0] or self.intercept:
            own = (_INTERCEPT, self.intercept, self.intercept_standard_error, True)
            rows = iter([own, *rows])
        for name, value, error, identified in rows:
            remark = "" if identified else "  not identified"
            lines.append(f"{name:20} {value:>20.10g} {error:>16.6g}{remark}")
        lines.append(
            f"{self.n_samples:,} rows, rank {self.rank}, R² {self.r_squared:.6g}, residual "
            f"standard deviation {self.residual_sd:.6g}, condition number {self.condition:.1e}"
        )
        return "\n".join([*lines, *([_warning(self.dependencies)] if self.dependencies else [])])


def least_squares(
    X: Any,
    y: Any,
    *,
    sample_weight: Any = None,
    columns: Sequence[str] | None = None,
    fit_intercept: bool = False,
    method: Method = "auto",
) -> LeastSquares:
    """The β that makes ‖y − Xβ‖² smallest.

    Parameters
    ----------
    X : array or DataFrame of shape (n_samples, n_features)
        Numbers of any kind. Decimal texts, Decimals, Fractions and large integers are taken for
        exactly what they say, with twice the digits of float64; floats as they are. Columns
        whose independence shows only beyond the 16th digit count as dependent all the same.
    y : array of shape (n_samples,)
    sample_weight : array of shape (n_samples,), optional
        Each row's squared residual counts so many times. At least one is above 0.
    columns : sequence of str, optional
        Names of the columns; those of a DataFrame if left out.
    fit_intercept : bool
        Whether to add a constant column. Without it X is the whole design, as in
        ``numpy.linalg.lstsq``.
    method : {"auto", "cholesky", "qr"}
        "auto" takes "qr" for small data and "cholesky" for large. Both leave "cholesky" for "qr"
        by themselves if the condition number is beyond `CHOLESKY_LIMIT`.

    Returns
    -------
    LeastSquares
        By "qr" correct to about 16 digits, given X and y as they are. If columns depend on each
        other: the solution of minimum norm (the intercept not counted), with a `RankWarning`.

    Raises
    ------
    DataError
        One sentence that names the row and the column, or the shapes, that do not fit.

    Examples
    --------
    >>> fit = least_squares([[1.0], [2.0], [3.0]], [3.0, 5.0, 7.0], fit_intercept=True)
    >>> fit.coef.tolist(), float(fit.intercept)
    ([2.0], 1.0)
    """
    return _solve(in_memory(X, y, sample_weight, columns), fit_intercept, method)


def least_squares_blocks(
    read: Callable[[], Iterable[tuple]],
    *,
    columns: Sequence[str] | None = None,
    fit_intercept: bool = False,
    method: Method = "auto",
) -> LeastSquares:
    """`least_squares` on blocks of rows, in memory for one block.

    Parameters
    ----------
    read : callable
        Called once for each pass (two, or a handful for "qr"); gives ``(X, y)`` or
        ``(X, y, sample_weight)``, block by block, the same each time.
    columns : sequence of str, optional
        Names of the columns.
    fit_intercept, method
        As in `least_squares`; "auto" is "cholesky" here.
    """
    return _solve(from_arrays(read, columns), fit_intercept, method)


def least_squares_file(
    path: Path | str, target: str | int, *, fit_intercept: bool = True, method: Method = "auto"
) -> LeastSquares:
    """`least_squares` on a file, in memory for some thousand rows: see `blocks.from_file`."""
    return _solve(from_file(path, target), fit_intercept, method)


def _solve(samples: Samples, fit_intercept: bool, method: Method) -> LeastSquares:
    if method not in ("auto", "cholesky", "qr"):
        raise DataError(f"method is {method!r}; it is auto, cholesky or qr")
    small = (samples.n_samples or LARGE) * len(samples.names) < LARGE
    if method == "cholesky" or (method == "auto" and not small):
        found = _by_cholesky(samples, fit_intercept)
        if found is not None:
            return found
    return _by_qr(samples, fit_intercept)


# --- The fast way ---------------------------------------------------------------------------------


def _by_cholesky(samples: Samples, fit_intercept: bool) -> LeastSquares | None:
    """The solution by the Gram matrix, or None where it would not be good enough."""
    rows = _RUN * max(2, _GRAM_BLOCK // (_RUN * len(samples.names)))
    first = next(samples.blocks(rows), None)
    if first is None:
        return None
    shift, origin = _shift(first) if fit_intercept else (None, 0.0)
    design = _Design(fit_intercept, shift)
    sums = _Sums(first, design, origin)
    for block in samples.blocks(rows):
        if block.X_low is not None or block.y_low is not None:
            return None
        sums.add(block)
    factors = sums.factor()
    if factors is None:
        return None
    R, scale, condition = factors
    refined = _refined(samples, rows, sums, factors)
    if refined is None:
        return None

    solution, rss = refined
    inverse = scale[:, None] * solve_triangular(R, np.eye(len(scale)))
    if shift is not None:
        solution[0] -= shift @ solution[1:]
        inverse[0] -= shift @ inverse[1:]
        plain = R / scale
        plain[:, 1:] += plain[:, :1] * shift
        condition = np.linalg.cond(_unit(plain))
    if fit_intercept:
        solution[0] += origin
    tss = sums.tss()
    return _result(
        samples.names,
        fit_intercept,
        solution,
        inverse,
        rss=rss,
        r_squared=1 - rss / tss if tss > 0 else np.nan,
        count=sums.count,
        condition=condition,
        method="cholesky",
    )


class _Sums:
    """What one pass over the rows adds up: XᵀX, Xᵀy and the sums of squares."""

    def __init__(self, first: Block, design: "_Design", origin: float):
        self.design, self.origin = design, origin
        self.level = first.X[0].copy()
        self.constant = self.level != 0  # columns that have one value so far
        size = first.X.shape[1] + design.fit_intercept
        self.gram, self.moment = np.zeros((size, size)), np.zeros(size)
        self.square = self.target = self.weight = 0.0
        self.count = 0

    def add(self, block: Block) -> None:
        X, y, w = self.design.of(block), block.y - self.origin, block.weight
        wy = y if w is None else y * w
        with np.errstate(over="ignore", invalid="ignore"):
            self.design.add_gram(self.gram, X, w)
            self.moment += self.design.moments(X, wy, run=len(wy)).sum(axis=0)
            self.square += wy @ y
            self.target += wy.sum()
        self.weight += len(y) if w is None else w.sum()
        self.count += len(y) if w is None else np.count_nonzero(w)
        if self.constant.any():
            self.constant &= (self.level == block.X).all(axis=0)

    def tss(self) -> float:
        """From the mean where there is an intercept or a constant column, else from 0."""
        centred = self.design.fit_intercept or self.constant.any()
        return self.square - self.target**2 / self.weight if centred else self.square

    def factor(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """R, scale and condition number, where RᵀR is the Gram matrix of the scaled columns."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scale = 1 / np.sqrt(np.diag(self.gram))
        # NaN, infinity and overflow all end up here; the other way tells them apart.
        if not all(np.isfinite(v).all() for v in (scale, self.gram, self.moment, self.square)):
            return None
        if self.count <= len(scale):
            return None
        try:
            R = np.linalg.cholesky(self.gram * scale * scale[:, None], upper=True)
        except np.linalg.LinAlgError:
            return None
        singular = np.linalg.svd(R, compute_uv=False)
        condition = singular[0] / singular[-1]
        return (R, scale, condition) if condition <= CHOLESKY_LIMIT else None


def _refined(
    samples: Samples, rows: int, sums: _Sums, factors: tuple[np.ndarray, np.ndarray, float]
) -> tuple[np.ndarray, float] | None:
    """The solution after one or two steps of refinement, and its RSS; None if it did not settle."""
    R, scale, condition = factors
    design = sums.design
    solution = _semi_normal(R, scale * sums.moment)  # of the scaled columns
    before = np.abs(solution).max()
    for _ in range(3):
        rss, gradient = 0.0, _Sum((rows // _RUN, len(scale)))
        for block in samples.blocks(rows):
            X = design.of(block)
            residual = block.y - sums.origin - design.times(X, scale * solution)
            weighted = residual if block.weight is None else residual * block.weight
            rss += weighted @ residual
            gradient.add(design.moments(X, weighted))
        slope = scale * gradient.total()
        step = _semi_normal(R, slope)
        solution = solution + step
        now = np.abs(step).max()
        # The next step would shrink the error by as much again as this one did; there is no use in
        # that below the rounding of the residual, which the condition number enlarges.
        if now * now <= _UNIT * condition * before * np.abs(solution).max():
            return scale * solution, max(rss - step @ slope, 0.0)
        before = now
    return None


def _shift(first: Block) -> tuple[np.ndarray | None, float]:
    """What to subtract from the columns, if they are far from 0 for their spread, and from y."""
    middle = first.X.mean(axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        far = np.abs(middle) > 3 * first.X.std(axis=0)
    return (middle if far.any() else None), float(first.y.mean())


class _Design:
    """The matrix [1, X] or X of a block, without ever putting the ones there."""

    def __init__(self, fit_intercept: bool, shift: np.ndarray | None):
        self.fit_intercept, self.shift = fit_intercept, shift
        self._ones, self._shifts, self._buffer = np.ones(0), np.empty((0, 0)), np.empty((0, 0))

    def of(self, block: Block) -> np.ndarray:
        """The block's X, shifted if need be."""
        if self.shift is None:
            return block.X
        rows = len(block.X)
        if len(self._buffer) < rows:
            # The shift repeated: NumPy subtracts two arrays of one shape several times faster
            # than a short row from each row of a long array.
            self._shifts, self._buffer = np.tile(self.shift, (rows, 1)), np.empty(block.X.shape)
        return np.subtract(block.X, self._shifts[:rows], out=self._buffer[:rows])

    def add_gram(self, gram: np.ndarray, X: np.ndarray, weight: np.ndarray | None) -> None:
        """Add [1, X]ᵀ[1, X] of a block, or XᵀX."""
        wX = X if weight is None else X * weight[:, None]
        first = int(self.fit_intercept)
        gram[first:, first:] += wX.T @ X
        if self.fit_intercept:
            if len(self._ones) < len(X):
                self._ones = np.ones(len(X))
            ones = self._ones[: len(X)] if weight is None else weight
            sums = ones @ X
            gram[0, 0] += ones.sum()
            gram[0, 1:] += sums
            gram[1:, 0] += sums

    def moments(self, X: np.ndarray, vector: np.ndarray, run: int = _RUN) -> np.ndarray:
        """[1, X]ᵀ·vector, in pieces: one for each run of rows.

        A long sum loses digits as it grows; those of short runs can be added up without loss.
        """
        if not X.flags.c_contiguous or len(X) % run:
            run = len(X)  # stored by column, it is summed in several places at once anyway
        runs = vector.reshape(-1, 1, run)
        if run == len(X):
            pieces = (vector @ X)[None]
        else:
            pieces = np.matmul(runs, X.reshape(-1, run, X.shape[1]))[:, 0]
        if self.fit_intercept:
            return np.concatenate([runs.sum(axis=2), pieces], axis=1)
        return pieces

    def times(self, X: np.ndarray, solution: np.ndarray) -> np.ndarray:
        """[1, X]·solution."""
        return X @ solution[1:] + solution[0] if self.fit_intercept else X @ solution


class _Sum:
    """A sum of arrays in twice the digits, each added to the first rows of what is there."""

    def __init__(self, shape: tuple[int, int]):
        self._high, self._low = np.zeros(shape), np.zeros(shape)

    def add(self, pieces: np.ndarray) -> None:
        part = slice(len(pieces))
        self._high[part], error = two_sum(self._high[part], pieces)
        self._low[part] += error

    def total(self) -> np.ndarray:
        """The sum over the rows."""
        high, low = sum_last_axis(self._high.T, self._low.T)
        return high + low


def _semi_normal(R: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Solve RᵀR·x = right."""
    return solve_triangular(R, solve_triangular(R, right, trans="T"))


# --- The accurate way -----------------------------------------------------------------------------


def _by_qr(samples: Samples, fit_intercept: bool) -> LeastSquares:
    system = _System(samples, fit_intercept)
    R = system.triangle()
    basis, combinations = _independent(system, R)
    solution, squares = system.solve(R, basis)
    inverse = system.inverse(R, basis)
    condition = np.linalg.cond(_unit(R[:, basis])) if basis else np.nan

    # From the scaled columns of the basis back to all columns in their own units.
    width = system.width
    everything = np.zeros(width)
    everything[basis] = np.ldexp(solution, system.y_exponent - system.exponents[basis])
    spread = np.zeros((width, len(basis)))
    spread[basis] = np.ldexp(inverse, -system.exponents[basis][:, None])
    null = np.zeros((width, len(combinations)))
    for k, (column, values) in enumerate(combinations.items()):
        null[column, k] = 1
        null[basis[: len(values)], k] = -values  # the basis as it was when the column was found
    involved = np.abs(null) > 1e-10 * np.abs(null).max(axis=0, initial=0.0)  # not by rounding only
    null = np.where(involved, np.ldexp(null, -system.exponents[:, None]), 0.0)
    everything = _shortest(everything, null, free=int(fit_intercept))

    names = [_INTERCEPT] * int(fit_intercept) + samples.names
    result = _result(
        samples.names,
        fit_intercept,
        everything,
        spread,
        rss=squares["rss"],
        r_squared=_r_squared(**squares),
        count=system.count,
        condition=condition,
        method="qr",
        y_exponent=system.y_exponent,
        identified=~involved.any(axis=1),
        dependencies=[
            _dependency(names, column, null[:, k]) for k, column in enumerate(combinations)
        ],
    )
    if result.dependencies:
        warnings.warn(_warning(result.dependencies), RankWarning, stacklevel=4)
    return result


class _System:
    """The rows as a scaled design, ``[1, X]`` or X, and what is computed in passes over them.

    Each column, and y, is scaled by a power of two, which changes no digit: then nothing can
    overflow, and units do not matter.
    """

    def __init__(self, samples: Samples, fit_intercept: bool):
        self.samples, self.fit_intercept = samples, fit_intercept
        self.width = len(samples.names) + fit_intercept
        self.rows = max(64, _IN_CACHE // self.width)
        largest, y_largest = np.zeros(self.width), 0.0
        self.count, weight_sum, high, low = 0, 0.0, 0.0, 0.0
        level, constant, start = None, np.ones(len(samples.names), dtype=bool), 0
        for block in samples.blocks(self.rows):
            refuse_not_finite(block.X, "X", samples.names, start)
            refuse_not_finite(block.y, "y", (), start)
            start += len(block.y)
            used = slice(None) if block.weight is None else block.weight > 0
            X, y = block.X[used], block.y[used]
            if not len(y):
                continue
            level = X[0].copy() if level is None else level
            constant &= (level == X).all(axis=0) & (level != 0)
            largest[fit_intercept:] = np.maximum(largest[fit_intercept:], np.abs(X).max(axis=0))
            y_largest = max(y_largest, np.abs(y).max())
            self.count += len(y)
        if not self.count:
            why = "every sample_weight is 0, which leaves no row" if start else "there are no rows"
            raise DataError(f"{why}; there is nothing to fit")
        if fit_intercept:
            largest[0] = 1.0
        self.exponents = np.frexp(largest)[1]
        self.y_exponent = int(np.frexp(y_largest)[1])
        self.centre = 0.0
        if fit_intercept or constant.any():
            for _, _, y, y_low, w in self._blocks():
                weighted, error = two_product(y, w)
                part, rest = sum_last_axis(weighted, error + y_low * w)
                (high, low), weight_sum = add((high, low), (part, rest)), weight_sum + w.sum()
            self.centre = high / weight_sum

    def _blocks(self) -> Iterator[tuple[np.ndarray, ...]]:
        """Transposed scaled design, its low part, scaled y, its low part, weights."""
        for block in self.samples.blocks(self.rows):
            if block.weight is not None:
                # A row without weight may hold numbers so large that 0 times their square is NaN.
                used = block.weight > 0
                block = Block(*(None if part is None else part[used] for part in block))
            if not len(block.y):
                continue
            shape = (self.width, len(block.y))
            first = int(self.fit_intercept)
            X, low = np.empty(shape), np.zeros(shape)
            exponents = -self.exponents[first:, None]
            X[:first] = np.ldexp(1.0, -self.exponents[:first, None])
            np.ldexp(block.X.T, exponents, out=X[first:])
            if block.X_low is not None:
                np.ldexp(block.X_low.T, exponents, out=low[first:])
            y = np.ldexp(block.y, -self.y_exponent)
            y_low = 0.0 if block.y_low is None else np.ldexp(block.y_low, -self.y_exponent)
            weight = np.ones(len(y)) if block.weight is None else block.weight
            yield X, low if block.X_low is not None else None, y, y_low, weight

    def triangle(self) -> np.ndarray:
        """R of the QR factorisation of the weighted design, row by row of blocks."""
        R = np.zeros((0, self.width))
        for X, _, _, _, weight in _batched(self._blocks(), 4 * self.width):
            R = np.linalg.qr(np.vstack([R, (X * np.sqrt(weight)).T]), mode="r")
        return np.vstack([R, np.zeros((self.width - len(R), self.width))])

    def solve(
        self, R: np.ndarray, basis: list[int], column: int | None = None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Fit y, or a column of the design itself, by the columns of the basis.

        Returns
        -------
        solution : ndarray of shape (len(basis),)
        squares : dict
            ``rss``, ``ess`` and ``tss``: residual, explained and total sums of squares.
        """
        triangle = qr(R[:, basis], mode="economic")[1] if basis else np.zeros((0, 0))
        unit = np.linalg.norm(triangle, axis=0)
        triangle = triangle / unit
        high, low = np.zeros(len(basis)), np.zeros(len(basis))
        least, stalled = np.inf, 0
        for _ in range(60):
            gradient, squares = self._pass(basis, high, low, column)
            if not basis:
                break
            step = _semi_normal(triangle, gradient / unit) / unit
            largest = np.abs(step).max(initial=0.0)
            stalled = 0 if largest < least else stalled + 1
            least = min(least, largest)
            if stalled == 5:
                break  # at the level of rounding, or too close to dependence for any progress
            high, low = add((high, low), (step, np.zeros(len(basis))))
            close = np.abs(step) <= 2.0**-57 * np.abs(high)
            if (close | (np.abs(step) <= 2.0**-100 * np.abs(high).max())).all():
                break
        return high, squares

    def _pass(
        self, basis: list[int], high: np.ndarray, low: np.ndarray, column: int | None
    ) -> tuple[np.ndarray, dict[str, float]]:
        """Xᵀ(y − Xβ), rounded from twice the digits, and the sums of squares."""
        gradient = (np.zeros(len(basis)), np.zeros(len(basis)))
        rss = ess = tss = drift = weights = 0.0
        centre = self.centre if column is None else 0.0
        for X, X_low, y, y_low, weight in self._blocks():
            if column is not None:
                y = X[column]
                y_low = 0.0 if X_low is None else X_low[column]
            r, r_low = y.copy(), np.zeros(len(y)) + y_low
            for j, k in enumerate(basis):
                product, error = two_product(-X[k], high[j])
                r, more = two_sum(r, product)
                r_low += more + error - X[k] * low[j]
                if X_low is not None:
                    r_low -= X_low[k] * high[j]
            r, r_low = two_sum(r, r_low)
            weighted, error = two_product(r, weight)
            error += r_low * weight
            product, lost = two_product(X[basis], weighted)
            lost += X[basis] * error
            if X_low is not None:
                lost += X_low[basis] * weighted
            gradient = add(gradient, sum_last_axis(product, lost))
            away = (y - centre) + y_low
            rss += weighted @ r
            ess += weight @ (away - r) ** 2
            tss += weight @ away**2
            drift += weight @ away
            weights += weight.sum()
        # `centre` is a rounded mean; this takes its error out.
        tss = tss - drift**2 / weights if centre else tss
        return gradient[0] + gradient[1], {"rss": rss, "ess": ess, "tss": tss}

    def inverse(self, R: np.ndarray, basis: list[int]) -> np.ndarray:
        """A K with K·Kᵀ = (XᵀX)⁻¹ for the columns of the basis.

        W = X·R⁻¹, computed in twice the digits, is all but orthonormal. What it lacks is in
        M = WᵀW, which is so close to the identity that nothing is lost in factoring it.
        """
        size = len(basis)
        triangle = qr(R[:, basis], mode="economic")[1] if basis else np.zeros((0, 0))
        root = solve_triangular(triangle, np.eye(size)) if basis else triangle
        if not size or self.count * size**2 > EXACT_ERRORS_LIMIT:
            return root
        M = np.zeros((size, size))
        for X, X_low, _, _, weight in self._blocks():
            W, W_low = np.zeros((size, len(weight))), np.zeros((size, len(weight)))
            for j, k in enumerate(basis):
                product, error = two_product(root[j, j:, None], X[k])
                W[j:], more = two_sum(W[j:], product)
                W_low[j:] += more + error
                if X_low is not None:
                    W_low[j:] += root[j, j:, None] * X_low[k]
            W += W_low
            M += (W * weight) @ W.T
        return solve_triangular(np.linalg.cholesky(M), root.T, lower=True).T


def _batched(blocks: Iterator[tuple], least: int) -> Iterator[tuple]:
    """Blocks put together until they have `least` rows: a QR of few rows is mostly overhead."""
    held: list[tuple] = []
    for block in blocks:
        held.append(block)
        if sum(len(b[2]) for b in held) >= least:
            yield _joined(held)
            held = []
    if held:
        yield _joined(held)


def _joined(held: list[tuple]) -> tuple:
    if len(held) == 1:
        return held[0]
    return (
        np.concatenate([b[0] for b in held], axis=1),
        None,
        np.concatenate([b[2] for b in held]),
        None,
        np.concatenate([b[4] for b in held]),
    )


def _independent(system: _System, R: np.ndarray) -> tuple[list[int], dict[int, np.ndarray]]:
    """Sort the columns into a basis and those that depend on it.

    A column depends on the basis if changing every number in its last digit could make it do so:
    if its distance from the span is below the rounding of the terms that it is the sum of. The
    distance is computed in twice the digits, since R knows it only to within its own rounding.

    Returns
    -------
    basis : list of int
    combinations : dict from column to ndarray
        Its coefficients over the basis.
    """
    lengths = np.linalg.norm(R, axis=0)
    zero = [int(k) for k in np.flatnonzero(lengths == 0)]
    others = np.flatnonzero(lengths > 0)
    # The intercept goes first, so that a constant column is found to depend on it.
    leading = [0] if system.fit_intercept else []
    rest = [int(k) for k in others if k not in leading]
    projected = _unit(R)[:, leading + rest]
    if leading:
        projected = qr(projected, mode="r")[0][1:, 1:]
    triangle, order = qr(projected, mode="r", pivoting=True) if rest else (np.zeros((0, 0)), [])
    distances = np.zeros(len(rest))
    distances[: min(triangle.shape)] = np.abs(np.diag(triangle))
    basis, combinations = list(leading), dict.fromkeys(zero, np.zeros(0))
    room = min(system.count, system.width)
    for distance, place in zip(distances, order, strict=True):
        column = rest[place]
        if len(basis) >= room:
            combinations[column] = _least(R, basis, column)
        elif distance > 1e-11:
            basis.append(column)
        else:
            values, squares = system.solve(R, basis, column)
            terms = lengths[column] + np.abs(values) @ lengths[basis]
            if np.sqrt(squares["rss"]) <= 2 * _UNIT * terms:
                combinations[column] = values
            else:
                basis.append(column)
    return basis, combinations


def _least(R: np.ndarray, basis: list[int], column: int) -> np.ndarray:
    """A column's coefficients over the basis, to the digits that R has."""
    lengths = np.linalg.norm(R[:, basis], axis=0)
    return np.linalg.lstsq(R[:, basis] / lengths, R[:, column])[0] / lengths


def _unit(R: np.ndarray) -> np.ndarray:
    """R with columns of length 1, but for those that are 0."""
    lengths = np.linalg.norm(R, axis=0)
    return R / np.where(lengths > 0, lengths, 1)


def _shortest(solution: np.ndarray, null: np.ndarray, free: int) -> np.ndarray:
    """Of all solutions the one of smallest norm; the first `free` coefficients do not count."""
    if not null.shape[1]:
        return solution
    away = np.linalg.lstsq(null[free:], solution[free:], rcond=None)[0]
    return solution - null @ away


def _r_squared(rss: float, ess: float, tss: float) -> float:
    """From the smaller of the two shares of TSS, which is the one that keeps its digits."""
    if tss == 0:
        return np.nan
    return ess / tss if ess < rss else 1 - rss / tss


def _dependency(names: list[str], column: int, null: np.ndarray) -> Dependency:
    """Of a direction in which no prediction changes: the column in terms of the others."""
    terms = [int(j) for j in np.flatnonzero(null) if j != column]
    return Dependency(names[column], {names[j]: float(-null[j] / null[column]) for j in terms})


def _warning(dependencies: list[Dependency]) -> str:
    shown = "; ".join(str(d) for d in dependencies[:3])
    more = f"; and {len(dependencies) - 3} more" if len(dependencies) > 3 else ""
    return (
        f"columns depend on each other: {shown}{more}. Fitted values are determined, and "
        "predictions for rows with the same dependence; these coefficients are not: they are "
        "those of the solution of minimum norm. Leave out the columns named first, or use a "
        "penalty."
    )


def _result(
    names: list[str],
    fit_intercept: bool,
    solution: np.ndarray,
    inverse: np.ndarray,
    *,
    rss: float,
    r_squared: float,
    count: int,
    condition: float,
    method: str,
    y_exponent: int = 0,
    identified: np.ndarray | None = None,
    dependencies: Sequence[Dependency] = (),
) -> LeastSquares:
    """Assemble the result; the intercept, if there is one, comes first in what is given.

    `rss` is in units of 4 to the power of `y_exponent`, so that it cannot overflow.
    """
    rank = inverse.shape[1]
    identified = np.ones(len(solution), dtype=bool) if identified is None else identified
    inverse = np.where(identified[:, None], inverse, np.nan)
    if not fit_intercept:
        solution = np.concatenate([[0.0], solution])
        inverse = np.vstack([np.zeros(rank), inverse])
        identified = np.concatenate([[True], identified])
    dof = count - rank
    residual_sd = float(np.ldexp(np.sqrt(rss / dof), y_exponent)) if dof > 0 else np.nan
    largest = np.abs(inverse).max(axis=1, initial=0.0, keepdims=True)
    largest[largest == 0] = 1  # lengths of rows, computed so that no square overflows
    spread = largest[:, 0] * np.sqrt(((inverse / largest) ** 2).sum(axis=1))
    with np.errstate(over="ignore"):
        covariance = (residual_sd * inverse) @ (residual_sd * inverse).T
        rss = np.ldexp(rss, 2 * y_exponent)
    return LeastSquares(
        coef=solution[1:],
        intercept=float(solution[0]),
        standard_errors=residual_sd * spread[1:],
        intercept_standard_error=float(residual_sd * spread[0]),
        residual_sd=residual_sd,
        rss=float(rss),
        r_squared=float(r_squared),
        covariance=covariance,
        n_samples=int(count),
        dof=int(dof),
        rank=rank,
        condition=float(condition),
        names=list(names),
        dependencies=list(dependencies),
        identified=identified[1:],
        method=method,
    )
