"""What `least_squares` costs and how many digits it gets right, beside the solvers that people use.

``make bench-solver`` writes ``solver.json`` beside this file. The solvers take turns on one BLAS
thread; the figure to quote is the least CPU time of several rounds. Memory is measured in a fresh
process for each solver (Linux), as what it holds at its peak beyond the data.

The truth that coefficients are held against is exact, and comes from none of these solvers: the
numbers of a design are multiples of 2⁻⁵⁰ below 8, so that XᵀX and Xᵀy can be computed in integers.
"""

import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.linalg
from sklearn.linear_model import LinearRegression
from statsmodels.api import OLS
from threadpoolctl import threadpool_limits

from truefit import project
from truefit.regression_maths import least_squares, least_squares_file
from truefit.regression_maths.certified import read_certified
from truefit.regression_maths.exact import correct_digits, exact_least_squares

RESULT = Path(__file__).with_suffix(".json")
ROUNDS = 5
SLOW_ROUNDS = 1  # of statsmodels, whose ratio needs no second decimal
SIZES = ((1_000_000, 20), (100_000, 200))
CONDITIONS = (10, 1e3, 1e5)
FILE_ROWS, FILE_COLUMNS = 10_000_000, 20
GRID = 50  # numbers are multiples of 2**-GRID …
LARGEST = 8  # … and below this, which makes 53 bits and a sign
SLICE = 18  # bits: products of two slices have 36, and 2**16 of them can be added up in float64
ROWS = 2**14  # in a block while a design is made


# --- The solvers ----------------------------------------------------------------------------------


def with_ones(X: np.ndarray, intercept: bool) -> np.ndarray:
    """What a user gives a solver that knows no intercept."""
    return np.column_stack([np.ones(len(X)), X]) if intercept else X


def ours(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return least_squares(X, y, fit_intercept=intercept).coef


def linear_regression(X: np.ndarray, y: np.ndarray, intercept: bool, **more: Any) -> np.ndarray:
    return LinearRegression(fit_intercept=intercept, **more).fit(X, y).coef_


def linear_regression_tol0(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return linear_regression(X, y, intercept, tol=0)


def numpy_lstsq(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return np.linalg.lstsq(with_ones(X, intercept), y)[0][int(intercept) :]


def scipy_lstsq(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return scipy.linalg.lstsq(with_ones(X, intercept), y)[0][int(intercept) :]


def statsmodels_pinv(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return OLS(y, with_ones(X, intercept)).fit(method="pinv").params[int(intercept) :]


def statsmodels_qr(X: np.ndarray, y: np.ndarray, intercept: bool) -> np.ndarray:
    return OLS(y, with_ones(X, intercept)).fit(method="qr").params[int(intercept) :]


SOLVERS: dict[str, Callable[..., np.ndarray]] = {
    "least_squares": ours,
    "LinearRegression": linear_regression,
    "LinearRegression(tol=0)": linear_regression_tol0,
    "numpy.linalg.lstsq": numpy_lstsq,
    "scipy.linalg.lstsq": scipy_lstsq,
    "statsmodels OLS, pinv": statsmodels_pinv,
    "statsmodels OLS, qr": statsmodels_qr,
}
OURS, THEIRS, TOL0 = list(SOLVERS)[:3]


# --- Designs of a given condition number, and their exact solutions -------------------------------


class Design(NamedTuple):
    """How to make a design; the numbers are the same each time."""

    rows: int
    columns: int
    condition: float  # of the matrix, centred if there is an intercept, within a few percent
    intercept: bool  # then the columns have means of ±4, for a standard deviation of 1/2
    units: bool = False  # whether one column is in units 2**30 times as large

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """X and y, block by block: y depends on all columns, and has noise."""
        rng = np.random.default_rng(2)
        turn = np.linalg.qr(rng.standard_normal((self.columns, self.columns)))[0]
        spread = np.geomspace(1, 1 / self.condition, self.columns)
        mixing = 0.5 * (spread / np.sqrt(np.mean(spread**2)))[:, None] * turn.T
        mean = self.intercept * 4.0 * rng.choice([-1, 1], self.columns)
        coef = rng.standard_normal(self.columns) / np.sqrt(self.columns)
        for start in range(0, self.rows, ROWS):
            Z = rng.standard_normal((min(ROWS, self.rows - start), self.columns)) @ mixing
            y = 3.0 * self.intercept + Z @ coef + 0.1 * rng.standard_normal(len(Z))
            yield on_grid(np.clip(Z + mean, -7.9, 7.9)), on_grid(np.clip(y, -7.9, 7.9))

    def in_memory(self) -> tuple[np.ndarray, np.ndarray]:
        X, y = np.empty((self.rows, self.columns)), np.empty(self.rows)
        start = 0
        for X[start : start + ROWS], y[start : start + ROWS] in self.blocks():
            start += ROWS
        if self.units:
            X[:, 0] *= 2.0**-30
        return X, y

    def truth(self) -> list[Fraction]:
        coef = exact_coef(self.blocks(), self.intercept)
        return [coef[0] * 2**30 if self.units else coef[0], *coef[1:]]


def on_grid(values: np.ndarray) -> np.ndarray:
    return np.ldexp(np.rint(np.ldexp(values, GRID)), -GRID)


def exact_coef(blocks: Iterable[tuple[np.ndarray, np.ndarray]], intercept: bool) -> list[Fraction]:
    """The least-squares solution, to more than thirty digits, by the normal equations in integers.

    The equations are exact. They are solved by float64 Cholesky, refined with exact residuals
    until the steps are below 1e-30 of the solution.
    """
    gram = sum(integer_gram(np.column_stack([with_ones(X, intercept), y])) for X, y in blocks)
    normal, right = gram[:-1, :-1], gram[:-1, -1]
    unit = 2 ** (2 * GRID)
    factor = scipy.linalg.cho_factor((normal / unit).astype(float))
    precision = 2**160
    solution = np.array([0] * len(right), dtype=object)
    for _ in range(60):
        residual = right * precision - normal @ solution
        step = scipy.linalg.cho_solve(factor, (residual / (unit * precision)).astype(float))
        solution = solution + [int(Fraction(value) * precision) for value in step]
        size = (solution / precision).astype(float)
        if np.all(np.abs(step) < 1e-30 * np.abs(size)):
            return [Fraction(value, precision) for value in solution[int(intercept) :]]
    raise ArithmeticError("the refinement of the exact solution does not converge")


def integer_gram(Z: np.ndarray) -> np.ndarray:
    """ZᵀZ in units of 4**-GRID, exactly: in integers of any length.

    Each number is cut into three slices of `SLICE` bits. Sums of products of slices stay below
    2**53, and so float64 does not round them.
    """
    rest, slices = np.ldexp(Z, GRID), []
    assert len(Z) <= 2**16 and np.abs(Z).max() < LARGEST and (rest == np.rint(rest)).all()
    for place in (2, 1, 0):
        slices.append(np.rint(np.ldexp(rest, -SLICE * place)))
        rest = rest - np.ldexp(slices[-1], SLICE * place)
    gram = np.zeros((Z.shape[1],) * 2, dtype=object)
    for i, a in enumerate(slices):
        for j, b in enumerate(slices):
            gram += (a.T @ b).astype(np.int64).astype(object) * 2 ** (SLICE * (4 - i - j))
    return gram


def check_truth() -> None:
    """The exact solution is that of plain rational arithmetic, where that is feasible."""
    design = Design(300, 6, 1e3, intercept=True)
    X, y = design.in_memory()
    plain = exact_least_squares(with_ones(X, True), y).coef[1:]
    assert all(
        abs(a / b - 1) < Fraction(1, 10**28) for a, b in zip(design.truth(), plain, strict=True)
    )


# --- The measurements -----------------------------------------------------------------------------


def cpu_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def floor(X: np.ndarray, y: np.ndarray) -> None:
    """The least that a solver by XᵀX with one step of refinement has to compute."""
    X.T @ X
    residual = y - X @ np.ones(X.shape[1])
    residual @ X


def compare(design: Design) -> dict:
    """CPU seconds and correct digits of each solver for a design."""
    X, y = design.in_memory()
    truth = design.truth()
    seconds: dict[str, float] = {}
    digits: dict[str, float] = {}
    least = np.inf
    for turn in range(ROUNDS):
        least = min(least, cpu_seconds(lambda: floor(X, y))[0])
        for name, solve in SOLVERS.items():
            if (name == TOL0 and not design.units) or (
                name.startswith("statsmodels") and turn >= SLOW_ROUNDS
            ):
                continue
            spent, coef = cpu_seconds(lambda f=solve: f(X, y, design.intercept))
            seconds[name] = min(spent, seconds.get(name, np.inf))
            if not turn:
                digits[name] = correct_digits(coef, truth)
    return {
        **design._asdict(),
        "floor, CPU seconds": round(least, 4),
        "solvers": {
            name: {
                "CPU seconds": round(seconds[name], 4),
                "times ours": round(seconds[name] / seconds[OURS], 2),
                "correct digits": round(digits[name], 1),
            }
            for name in seconds
        },
    }


def memory_in_mb(call: Callable[[], Any]) -> float:
    """What a call holds at its peak beyond what the process holds before it."""
    # Return to the system what was freed, or the call could use it unseen; forget the peak so far.
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _status("VmRSS")
    call()
    return round(_status("VmHWM") - before, 1)


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def in_fresh_process(*arguments: Any) -> Any:
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout)


def memory_of_solver(name: str, rows: str, columns: str, intercept: str) -> float:
    design = Design(int(rows), int(columns), 10, bool(int(intercept)))
    X, y = design.in_memory()
    solve = SOLVERS[name]
    solve(X[:1000], y[:1000], design.intercept)  # what is loaded once is not counted
    return memory_in_mb(lambda: solve(X, y, design.intercept))


def memory_of_file(path: str) -> dict:
    small = Path(path).with_name("small.npy")
    np.save(small, np.random.default_rng(0).standard_normal((1000, FILE_COLUMNS + 1)))
    least_squares_file(small, -1)
    found: list = []
    memory = memory_in_mb(lambda: found.append(cpu_seconds(lambda: least_squares_file(path, -1))))
    seconds, fit = found[0]
    return {"seconds": seconds, "memory": memory, "coef": fit.coef.tolist(), "method": fit.method}


def file_of_rows() -> dict:
    """A file larger than one would want to load, fitted block by block."""
    design = Design(FILE_ROWS, FILE_COLUMNS, 1e3, intercept=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.npy"
        shape = (FILE_ROWS, FILE_COLUMNS + 1)
        header = {"descr": "<f8", "fortran_order": False, "shape": shape}

        def written() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            with path.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for X, y in design.blocks():
                    np.column_stack([X, y]).tofile(file)
                    yield X, y

        truth = exact_coef(written(), design.intercept)
        found = in_fresh_process("file", path)
        size = path.stat().st_size
    return {
        **design._asdict(),
        "MB on disk": round(size / 2**20),
        "CPU seconds": round(found["seconds"], 2),
        "extra peak MB": found["memory"],
        "correct digits": round(correct_digits(found["coef"], truth), 1),
        "method": found["method"],
    }


def nist() -> dict:
    """Correct digits of the worst coefficient on the certified sets.

    The cap is what the exact solution of the float64 design reaches: the rest is lost when the
    printed decimals are rounded to float64, before any solver sees them.
    """
    found = {}
    for data in read_certified(project.path("data", "raw", "nist_strd.json")):
        X, y = data.X.astype(float), data.y.astype(float)
        exact_of_floats = exact_least_squares(X, y, centred=data.has_intercept)
        fit = least_squares(data.X, data.y)
        digits = {
            "least_squares, decimals": correct_digits(fit.coef, data.coef),
            "exact solution of the float64 design": correct_digits(exact_of_floats.coef, data.coef),
        }
        for name, solve in SOLVERS.items():
            features = X[:, 1:] if data.has_intercept else X
            if name.startswith("LinearRegression"):
                model = LinearRegression(
                    fit_intercept=data.has_intercept, **({"tol": 0} if name == TOL0 else {})
                ).fit(features, y)
                coef = [model.intercept_] * data.has_intercept + list(model.coef_)
            else:
                coef = solve(X, y, False)
            digits[name] = correct_digits(coef, data.coef)
        statistics = {
            "standard errors": correct_digits(fit.standard_errors, data.standard_errors),
            "residual standard deviation": correct_digits(fit.residual_sd, data.residual_sd),
            "R²": correct_digits(fit.r_squared, data.r_squared),
        }
        found[data.name] = {
            "coefficients": {name: round(value, 1) for name, value in digits.items()},
            "least_squares, decimals": {k: round(value, 1) for k, value in statistics.items()},
        }
    return found


def unit_example() -> dict:
    """Two columns in everyday units: LinearRegression drops the one whose numbers are small."""
    rng = np.random.default_rng(0)
    revenue = 1e8 + 2e7 * rng.standard_normal(500)
    rate = 0.1 + 0.02 * rng.standard_normal(500)
    y = 0.01 * revenue + 5.2e6 * rate + 1.6e3 * rng.standard_normal(500)
    X = np.column_stack([revenue, rate])
    return {
        OURS: round(least_squares(X, y, fit_intercept=True).r_squared, 6),
        THEIRS: round(LinearRegression().fit(X, y).score(X, y), 6),
        TOL0: round(LinearRegression(tol=0).fit(X, y).score(X, y), 6),
    }


def summary(designs: list[dict]) -> dict:
    """Ours against LinearRegression, over all designs."""
    pairs = [(d["solvers"][OURS], d["solvers"][THEIRS]) for d in designs]
    return {
        "least times faster": min(theirs["times ours"] for _, theirs in pairs),
        "mean digits": {
            OURS: round(float(np.mean([a["correct digits"] for a, _ in pairs])), 1),
            THEIRS: round(float(np.mean([b["correct digits"] for _, b in pairs])), 1),
        },
    }


def measured() -> dict:
    check_truth()
    memory = {}
    for rows, columns in SIZES:
        for intercept in (False, True):
            key = f"{rows} x {columns}" + (", intercept" if intercept else "")
            memory[key] = {
                name: in_fresh_process("memory", name, rows, columns, int(intercept))
                for name in SOLVERS
                if name != TOL0
            }
            print(f"extra peak MB, {key}: {memory[key]}", flush=True)
    designs = []
    for size in SIZES:
        for condition in CONDITIONS:
            for intercept in (False, True):
                designs.append(compare(Design(*size, condition, intercept)))
                show(designs[-1])
    designs.append(compare(Design(*SIZES[0], 10, intercept=True, units=True)))
    show(designs[-1])
    return {
        "designs": designs,
        "summary": summary(designs),
        "extra peak MB": memory,
        "NIST, correct digits": nist(),
        "file": file_of_rows(),
        "units, R²": unit_example(),
    }


def show(design: dict) -> None:
    kind = f"condition {design['condition']:.0e}" + ", intercept" * design["intercept"]
    print(f"{design['rows']:,} × {design['columns']}, {kind}{', units' * design['units']}:")
    print(f"  {'floor':26} {design['floor, CPU seconds']:8.3f} s")
    for name, value in design["solvers"].items():
        print(
            f"  {name:26} {value['CPU seconds']:8.3f} s {value['times ours']:8.2f} × ours "
            f"{value['correct digits']:6.1f} digits",
            flush=True,
        )


def main() -> None:
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        if sys.argv[1:2] == ["memory"]:
            print(json.dumps(memory_of_solver(*sys.argv[2:])))
            return
        if sys.argv[1:2] == ["file"]:
            print(json.dumps(memory_of_file(*sys.argv[2:])))
            return
        found = measured()
    for key in ("summary", "NIST, correct digits", "file", "units, R²"):
        print(f"{key}: {json.dumps(found[key], indent=1, ensure_ascii=False)}")
    result = {
        "command": "make bench-solver",
        "python": platform.python_version(),
        "packages": {p: version(p) for p in ("numpy", "scipy", "scikit-learn", "statsmodels")},
        "cores": os.cpu_count(),
        "rounds": ROUNDS,
        "rounds of statsmodels": SLOW_ROUNDS,
        **found,
    }
    text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
    RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
