"""Small tables with the troubles that people's own tables have, several in each."""

import datetime
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, Phase, assume, settings
from hypothesis import strategies as st

from truefit.case import Case
from truefit.task import make_case

# What an example costs is a fit and an export, so there are few; the same ones on every run.
SAME = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # to shrink an example takes as many fits again
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

ODD_NAMES = (
    *("score", "mark", "low", "error", "feature", "target", "rows", "index", "self", "window"),
    *("cost_$_per_$", "$a_{b$", "a|b", "`tick`", "*bold*", "_x_", "a,b;c"),
    *(
        "<script>alert(1)</script>",
        "Größe (m²)",
        "面积",
        "2nd",
        "class",
        "None",
        "nan",
        "{x}",
        "%s",
    ),
    *("a  b", "![x](y)", "[x](y)", "what is odd", "n" * 150),
)
# A table may have them, and a model must not take them.
REFUSED_NAMES = ("prediction", 'a"b', "\\frac")
ODD_TEXTS = (
    *("$40K - $60K", "Less than $40K", "$a_{b$", "<b>", "a|b", "`", "**", "\\", "missing", "rare"),
    *("absent", "nan", "None", "True", "1", "面积", "a\nb", "![x](y)", '"', "'", ",", "w " * 60),
)


def _numbers(rng: np.random.Generator, kind: str, n: int) -> np.ndarray:
    return {
        "plain": lambda: rng.normal(size=n),
        "heavy": lambda: np.exp(np.clip(rng.standard_cauchy(n), -60, 60)),
        "tiny": lambda: 1e-10 * rng.random(n),
        "huge": lambda: 1e30 * rng.normal(size=n),
        "near 2^53": lambda: 2**53 - rng.integers(0, n, n),
        "constant": lambda: np.full(n, 7.0),
        "two values": lambda: rng.integers(0, 2, n),
        "mostly zero": lambda: np.where(rng.random(n) < 0.9, 0.0, rng.gamma(2, size=n)),
        "one apart": lambda: np.where(np.arange(n) == 3, 1e9, 0.0),
    }[kind]()


NUMBERS = (
    *("plain", "heavy", "tiny", "huge", "near 2^53", "constant", "two values", "mostly zero"),
    "one apart",
)
TEXTS = ("few", "one each", "constant", "odd")


def _texts(rng: np.random.Generator, kind: str, n: int) -> list[str]:
    if kind == "one each":
        return [f"text {i}" for i in range(n)]
    names = {"few": ["a", "b", "c"], "constant": ["a"], "odd": ODD_TEXTS}[kind]
    return [names[i] for i in rng.integers(0, len(names), n)]


@st.composite
def columns(draw, n: int, known: tuple = ODD_NAMES + REFUSED_NAMES) -> dict[str, pd.Series]:
    """Up to four columns of any name and kind, some with gaps, some with nothing but gaps."""
    names = draw(st.lists(st.sampled_from(known), min_size=1, max_size=4, unique=True))
    rng, found = np.random.default_rng(draw(st.integers(0, 99))), {}
    for name in names:
        kind = draw(st.sampled_from(NUMBERS + TEXTS))
        made = _numbers(rng, kind, n) if kind in NUMBERS else _texts(rng, kind, n)
        values = pd.Series(made, dtype=None if kind in NUMBERS else "str")
        gaps = draw(st.sampled_from([0.0, 0.0, 0.1, 0.95, 1.0]))
        found[name] = values.mask(rng.random(n) < gaps) if gaps else values
    return found


@st.composite
def tables(draw, task: str, rows: tuple[int, ...] = (24, 60)) -> tuple[pd.DataFrame, dict]:
    """A table as `read_table` gives it, and the keys of its block."""
    n = draw(st.sampled_from(rows))
    frame = pd.DataFrame(draw(columns(n)))
    target = draw(st.sampled_from([n for n in ODD_NAMES if n not in frame]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    block = {"table": "t.csv", "target": target, "task": task}
    if task == "classification":
        positive, other = draw(st.sampled_from([("yes", "no"), ("$1 to $2", "<b>"), ("1", "0")]))
        few = draw(st.sampled_from([5, n // 2, n - 5]))
        frame[target] = pd.Series(np.where(rng.permutation(n) < few, positive, other), dtype="str")
        block |= {"positive": positive}
        if draw(st.booleans()):
            block |= {"costs": {"false_positive": 1, "false_negative": 30}}
    else:
        kind = draw(st.sampled_from([k for k in NUMBERS if k != "constant"]))
        frame[target] = pd.Series(_numbers(rng, kind, n), dtype="float64")
        block |= {"log_target": bool((frame[target] > 0).all()) and draw(st.booleans())}
    return frame, block


class Parts(NamedTuple):
    """Rows to train with and to test with, those that came later, and the block of their case."""

    train: pd.DataFrame
    test: pd.DataFrame
    live: pd.DataFrame
    case: Case


LIVE = ("as usual", "none", "one", "without labels", "one answer", "foreign")


@st.composite
def parts(draw, n: int = 100) -> Parts:
    """A table that a model can learn from, without an error perhaps, and live rows of any kind."""
    frame = pd.DataFrame(draw(columns(n, ODD_NAMES)))
    rng, target = np.random.default_rng(draw(st.integers(0, 99))), "y $t_"
    task = draw(st.sampled_from(["regression", "classification"]))
    kind = draw(st.sampled_from(["exact", *(k for k in NUMBERS if k != "constant")]))
    first = frame.iloc[:, 0].rank().fillna(0) / n
    more = {"positive": "<y>"} if task == "classification" else {}
    case = make_case(table="t.csv", target=target, task=task, **more)
    if task == "classification":
        noisy = first + 0.1 * (kind != "exact") * rng.normal(size=n)
        limit = noisy.quantile(draw(st.sampled_from([0.12, 0.5, 0.88])))
        frame[target] = pd.Series(np.where(noisy > limit, "<y>", "$n_"), dtype="str")
    else:
        frame[target] = 2 * first + 1 if kind == "exact" else _numbers(rng, kind, n).astype(float)
        log = bool((frame[target] > 0).all()) and draw(st.booleans())
        case = case.model_copy(update={"log_target": log})
    dealt = np.split(rng.permutation(n), [n * 3 // 5, n * 4 // 5])
    train, test, later = (frame.iloc[part].reset_index(drop=True) for part in dealt)
    assume(train[target].nunique() > 1 and (train.nunique() > 1).sum() > 1)
    return Parts(train, test, _came(draw(st.sampled_from(LIVE)), later, target), case)


def fitted(parts: Parts, model: str):
    """A candidate of the shelf, fitted on the rows to train with."""
    from truefit import training

    X, y = parts.train.drop(columns=parts.case.target), parts.train[parts.case.target]
    return training.build(model, parts.train, parts.case, min_category_rows=3, seed=0).fit(X, y)


def write_bundle(folder: Path, parts: Parts, model, name: str = "t"):
    """Export a fitted model as the notebook does, with intervals of no width for a number."""
    import cases

    from truefit import export
    from truefit.data_prep import infer_schema

    with mock.patch("truefit.data_prep.schema.checksums", lambda case: {}):  # there is no file
        schema = infer_schema(parts.train, parts.case)
    interval = {"confidence": 0.9, "kind": "distance", "width": 0.0}
    if parts.case.log_target:
        interval |= {"kind": "factor", "width": 1.0}
    more = {"name": name, "reference": export.reference(model, parts.test, schema, parts.case)}
    if parts.case.task == "regression":
        more["interval"] = interval
    return cases.write_bundle(folder, model, parts.case, schema, **more)


def _came(kind: str, rows: pd.DataFrame, target: str) -> pd.DataFrame:
    """Live rows of a kind."""
    if kind in ("none", "one"):
        return rows.head(int(kind == "one"))
    if kind == "one answer":
        return rows[rows[target] == rows[target].iloc[0]]
    came = rows.copy()
    if kind == "without labels":
        came[target] = rows[target].where(rows.index < 0)
    if kind == "foreign":
        for name in [c for c in rows if c != target]:
            number = pd.api.types.is_numeric_dtype(rows[name])
            came[name] = rows[name].astype(float) * 1e3 if number else "never seen " + rows[name]
    return came


# ---------------------------------------------------------------- whole tables, for every step


def names(n: int = 200) -> tuple[pd.DataFrame, dict]:
    """Columns called like those that the code makes, or like code; a target near 1e-10."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(rng.normal(size=(n, len(ODD_NAMES))), columns=list(ODD_NAMES))
    frame["面积"] = rng.choice(["a", "b", None], n)
    frame["predicted"] = 1e-10 * (5 + frame["score"] + frame["$a_{b$"] + 0.3 * rng.normal(size=n))
    slices = {"面积": [], "cost_$_per_$": []}
    return frame, {"target": "predicted", "task": "regression", "slices": slices}


def values(n: int = 200) -> tuple[pd.DataFrame, dict]:
    """Values of all kinds that Parquet knows, odd texts, heavy tails; zeros in the target."""
    rng = np.random.default_rng(2)
    size = rng.normal(size=n)
    day = datetime.date(2020, 1, 1)
    frame = pd.DataFrame(
        {
            "size": size,
            "income": [ODD_TEXTS[i % len(ODD_TEXTS)] for i in rng.integers(0, 99, n)],
            "words": [f"{ODD_TEXTS[i % 7]} {i}" for i in range(n)],
            "unsigned": rng.integers(0, 2**60, n).astype("uint64"),
            "half": size.astype("float16"),
            "large": 2**53 - rng.integers(0, n, n),
            "heavy": _numbers(rng, "heavy", n),
            "nothing": np.full(n, np.nan),
            "same": "always",
            "flag": rng.random(n) < 0.5,
            "day": [day + datetime.timedelta(int(i)) for i in rng.integers(0, 900, n)],
            "clock": [datetime.time(int(i) % 24) for i in range(n)],
            "lasting": pd.to_timedelta(rng.integers(0, 99, n), "h"),
            "bytes": [b"x" * (i % 3) for i in range(n)],
            "pair": [{"a": i % 3, "b": "x"} for i in range(n)],
            "several": [[i % 2] * (i % 3) for i in range(n)],
        }
    )
    sales = np.where(rng.random(n) < 0.4, 0.0, np.exp(3 * size + rng.normal(size=n)))
    slices = {"income": [], "heavy": []}
    return frame.assign(sales=sales), {"target": "sales", "task": "regression", "slices": slices}


def separable(n: int = 200) -> tuple[pd.DataFrame, dict]:
    """Few positive rows, and a column that tells them without an error; people and costs."""
    rng = np.random.default_rng(3)
    bad = rng.permutation(n) < 30
    frame = pd.DataFrame(
        {
            "sum_$": np.where(bad, 1e6, 1.0) * (1 + rng.random(n)),
            "who": rng.choice(["$1 to $2", "<b>"], n),
            "noise": rng.normal(size=n),
            "status": np.where(bad, "bad & $", "good"),
        }
    )
    block = {"target": "status", "task": "classification", "positive": "bad & $"}
    block |= {"slices": {"who": []}, "protected": ["who"]}
    return frame, block | {"costs": {"false_positive": 1, "false_negative": 20}}


def own_split(folder: Path) -> tuple[Path, dict]:
    """Train and test files, no live rows; one column, few rows, a logged target."""
    rng = np.random.default_rng(4)
    for name, n in {"train": 60, "test": 30}.items():
        x = rng.integers(0, 40, n)
        y = np.exp(0.1 * x + 0.1 * rng.normal(size=n))
        pd.DataFrame({"x": x, "y": y}).to_csv(folder / f"{name}.csv", index=False)
    return folder, {"target": "y", "task": "regression", "log_target": True}
