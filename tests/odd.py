"""Small tables with the troubles that people's tables have, each with its block; for hypothesis."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from hypothesis import settings
from hypothesis import strategies as st

from truefit.params import Case

ROWS = 60  # to train with; a third of that to test with, and to be live
# What an example costs is a fit and an export, so there are few, and the same ones on every run.
few = settings(max_examples=6, deadline=None, derandomize=True, database=None)
many = settings(max_examples=60, deadline=None, derandomize=True, database=None)

# Names that the code uses itself, and names that other languages take for more than a name.
NAMES = ["score", "self", "row", "window", "truth", "low", "$a_1$ $b", "{x}", "a|b, <i>c</i>", "größe"]
MARKS = ["a", "$1_ - $2_", "<b>&", 'q"\\', "absent", "missing", "rare", "🙂\n", "nan"]


class Table(NamedTuple):
    """Rows to train with, to test with and that came later, and what is to be learned of them."""

    train: pd.DataFrame
    test: pd.DataFrame
    live: pd.DataFrame
    case: Case


def _column(kind: str, n: int, rng: np.random.Generator) -> np.ndarray | pd.Series:
    made = {
        "plain": lambda: rng.normal(size=n),
        "two values": lambda: rng.integers(0, 2, n),
        "near 2**53": lambda: 2**53 - 8 + rng.integers(0, 16, n),
        "tails": lambda: 1e30 * rng.standard_cauchy(n).clip(-1e6, 1e6),
        "tiny": lambda: 1e-300 * rng.normal(size=n),
        "one known": lambda: np.where(np.arange(n) < 2, np.arange(n), np.nan),
        "gaps": lambda: np.where(rng.random(n) < 0.5, np.nan, rng.normal(size=n)),
        "texts": lambda: pd.Series(rng.choice(MARKS, n), dtype="str"),
        "all different": lambda: pd.Series([f"u{rng.integers(1e9)}" for _ in range(n)], dtype="str"),
        "texts with gaps": lambda: pd.Series(rng.choice(["x", "y", None], n), dtype="str"),
    }
    return made[kind]()


KINDS = [
    *("plain", "two values", "near 2**53", "tails", "tiny", "one known", "gaps"),
    *("texts", "all different", "texts with gaps"),
]
TARGETS = ["exact", "noisy", "counts", "tiny", "huge", "mostly one", "logged", "class", "rare class"]
LIVE = ["as usual", "none", "one", "without labels", "one class or value", "foreign"]


def _target(kind: str, rows: pd.DataFrame, rng: np.random.Generator):
    """The target, which goes with the ranks of the first column."""
    n, signal = len(rows), rows.iloc[:, 0].rank().fillna(0).to_numpy() / len(rows)
    noisy = signal + 0.1 * rng.normal(size=n)
    if "class" in kind:
        share = 0.12 if kind == "rare class" else 0.5
        return pd.Series(np.where(noisy > np.quantile(noisy, 1 - share), "<y>", "$n_"), dtype="str")
    made = {
        "exact": lambda: 2 * signal + 1,
        "noisy": lambda: noisy,
        "counts": lambda: rng.poisson(1 + signal),
        "tiny": lambda: 1e-12 * noisy,
        "huge": lambda: 2**53 + (1e6 * noisy).astype("int64"),
        "mostly one": lambda: np.where(np.arange(n) % 9 == 0, noisy, 7.0),
        "logged": lambda: np.exp(3 * rng.standard_cauchy(n).clip(-20, 20)),
    }
    return made[kind]()


def _came(kind: str, rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Live rows of a kind."""
    if kind in ("none", "one"):
        return rows.head(int(kind == "one"))
    if kind == "without labels":
        return rows.assign(**{target: rows[target].where(rows.index < 0)})  # none
    if kind == "one class or value":
        return rows[rows[target] == rows[target].iloc[0]]
    if kind == "foreign":
        numbers = {c: rows[c].astype(float) * 1e3 for c in rows.select_dtypes("number")}
        texts = {c: "never seen " + rows[c] for c in rows.select_dtypes("str")}
        changed = rows.copy()
        for column, values in {**numbers, **texts}.items():
            changed[column] = rows[column] if column == target else values
        return changed
    return rows


@st.composite
def tables(draw) -> Table:
    """A table of one to three columns, a target that goes with the first, and its live rows."""
    kinds = draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=3, max_size=3, unique=True))
    target, came = draw(st.sampled_from(TARGETS)), draw(st.sampled_from(LIVE))
    rng, n = np.random.default_rng(draw(st.integers(0, 99))), ROWS * 5 // 3
    rows = pd.DataFrame({name: _column(k, n, rng) for name, k in zip(names, kinds, strict=False)})
    rows["y $t_"] = _target(target, rows, rng)
    case = Case(
        table="t.csv", target="y $t_", task="classification" if "class" in target else "regression",
        positive="<y>" if "class" in target else None, log_target=target == "logged",
    )  # fmt: skip
    order = rng.permutation(n)
    train, test, later = (
        rows.iloc[part].reset_index(drop=True) for part in np.split(order, [ROWS, ROWS * 4 // 3])
    )
    return Table(train, test, _came(came, later, case.target), case)
