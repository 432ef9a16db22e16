"""What the notebook on serving shows: requests good and bad, counters, and what a pickle can do.

The service itself imports nothing from here.
"""

import json
import math
import pickle
import pickletools
import re
from collections.abc import Container, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from truefit import figures
from truefit.bundle import LARGEST, Bundle
from truefit.case import ABSENT
from truefit.digits import number, significant
from truefit.manifest import Column
from truefit.project import InputError

# What differs from run to run, or from processor to processor, where nobody has changed anything.
UNSTABLE = {"version", "model_version"}
LIST = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")  # without objects and other lists


def check_origin(bundle: Bundle, model: Path) -> None:
    """Check that a bundle was exported from a model's file, if its manifest says from which.

    Raises
    ------
    InputError
        If it was exported from another.
    """
    known = bundle.manifest.sha256.get(f"../{model.name}")
    if known not in (None, sha256(model.read_bytes()).hexdigest()):
        raise InputError(
            f"the bundle of {bundle.manifest.case} was exported from another model than "
            f"{model.name} is now; run the export again"
        )


# Requests


def fill_required(rows: pd.DataFrame, inputs: Sequence[Column]) -> tuple[pd.DataFrame, int]:
    """Put the typical value where a cell is empty and a service would refuse that.

    Returns
    -------
    rows : DataFrame
    n_filled : int
        Rows in which a cell was filled.
    """
    typical = {c.name: c.typical for c in inputs if not c.nullable}
    gaps = rows[list(typical)].isna()
    filled = {n: v for n, v in typical.items() if gaps[n].any()}
    return rows.fillna(filled), int(gaps.any(axis=1).sum())


def records(rows: pd.DataFrame, inputs: Sequence[Column], id: str | None = None) -> list[dict]:
    """Rows as a client sends them: an object by column name for each, None for a gap.

    Parameters
    ----------
    rows : DataFrame
    inputs : sequence of Column
        Of the bundle.
    id : str, optional
        The column that names a row, which is sent along if the rows have it.
    """
    columns = {c.name: [_plain(v, c) for v in rows[c.name].tolist()] for c in inputs}
    if id is not None and id in rows and id not in columns:
        columns = {id: rows[id].tolist()} | columns
    return [dict(zip(columns, v, strict=True)) for v in zip(*columns.values(), strict=True)]


def _plain(value: Any, column: Column) -> Any:
    if pd.isna(value) or (column.absent and value == ABSENT):
        return None
    return int(value) if isinstance(value, bool) else value


def tensors(asked: Sequence[Mapping], inputs: Sequence[Column]) -> dict:
    """Records as a request of the Open Inference Protocol: a tensor for each column."""
    kinds = {"number": "FP64", "text": "BYTES"}
    return {
        "inputs": [
            {"name": c.name, "shape": [len(asked), 1], "datatype": kinds[c.type],
             "data": [record[c.name] for record in asked]}
            for c in inputs
        ]
    }  # fmt: skip


class Asked(NamedTuple):
    """A request, and what is wrong with it."""

    what: str
    method: str
    path: str
    content: bytes
    kind: str = "application/json"


def bad_requests(
    case: str, record: Mapping, inputs: Sequence[Column], most_rows: int
) -> list[Asked]:
    """Requests that a service must refuse, each made from a good record.

    Parameters
    ----------
    case : str
    record : mapping
        From `records`.
    inputs : sequence of Column
    most_rows : int
        That the service answers at a time.
    """
    first, path = inputs[0], f"/v1/cases/{case}/predict"
    other = _no_such("weather", {case})
    unknown = _no_such("favourite_colour", record)
    body = json.dumps(record)
    a_number = next((c.name for c in inputs if c.type == "number"), None)
    required = next((c.name for c in inputs if not c.nullable), None)
    again = json.dumps({first.name: record[first.name]})[1:]
    wrong = "many" if first.type == "number" else 7
    bodies = {
        "no JSON": body[:-1],
        "NaN, which is no JSON": a_number and json.dumps(record | {a_number: math.nan}),
        "a column left out": json.dumps({k: v for k, v in record.items() if k != first.name}),
        "a column too many": json.dumps(record | {unknown: "blue"}),
        "a column of the wrong type": json.dumps(record | {first.name: wrong}),
        "a gap where training had none": required and json.dumps(record | {required: None}),
        "a number beyond all limits": a_number and json.dumps(record | {a_number: 1e300}),
        "a column twice": f"{body[:-1]}, {again}",
        "no rows": "[]",
        "too many rows": json.dumps([record] * (most_rows + 1)),
    }
    asked = [Asked(k, "POST", path, v.encode()) for k, v in bodies.items() if v]
    return [
        *asked,
        Asked("another kind of content", "POST", path, b"a,b\n1,2\n", "text/csv"),
        Asked("a case that is not served", "POST", f"/v1/cases/{other}/predict", body.encode()),
        Asked("another method", "GET", path, b""),
    ]


def _no_such(name: str, known: Container[str]) -> str:
    """The name, or one like it, that is not among those that are known."""
    while name in known:
        name += "_"
    return name


def odd_values(inputs: Sequence[Column]) -> dict[str, Any]:
    """Values unlike any in training: one above, one below, one text, as far as columns allow."""
    ranged = [c for c in inputs if c.type == "number" and c.minimum is not None]
    found: dict[str, Any] = {}
    for column, sign in zip(ranged, (1, -1), strict=False):
        end = column.maximum if sign > 0 else column.minimum
        value = end + sign * (column.maximum - column.minimum or 1.0)
        if abs(value) <= LARGEST:  # or the service would refuse it
            found[column.name] = value
    texts = [c for c in inputs if c.type == "text"]
    return found | {c.name: _no_such("never seen", c.categories or ()) for c in texts[:1]}


def shown(value: Any, most: int = 6) -> str:
    """A request or an answer as JSON for people, in Markdown.

    Objects are cut after ``most`` members and lists after two, numbers have five digits, and what
    differs from run to run is left out.
    """
    text = json.dumps(_short(value, most), indent=1, ensure_ascii=False)
    text = LIST.sub(lambda found: "[" + re.sub(r",\n\s+", ", ", found[1]) + "]", text)
    return f"```json\n{text}\n```"


def _short(value: Any, most: int) -> Any:
    if isinstance(value, Mapping):
        kept = {k: "…" if k in UNSTABLE else _short(v, most) for k, v in value.items()}
        more = len(kept) - most
        return kept if more <= 1 else dict(list(kept.items())[:most]) | {"…": f"{more} more"}
    if isinstance(value, list):
        kept = [_short(v, most) for v in value[:2]]
        return kept + ([f"… {len(value) - 2} more"] if len(value) > 2 else [])
    return float(f"{value:.5g}") if isinstance(value, float) else value


# What is seen from outside


def counted(text: str, name: str) -> pd.DataFrame:
    """One metric of a Prometheus text: a column for each label, and ``value``."""
    from prometheus_client.parser import text_string_to_metric_families

    return pd.DataFrame(
        {**sample.labels, "value": sample.value}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )


def bins(text: str) -> list[int]:
    """How many predictions lie in each bin of the histogram ``truefit_predictions``."""
    upto = counted(text, "truefit_predictions_bucket")["value"]
    return upto.diff().fillna(upto.iloc[0]).astype(int).tolist()


def plot_bins(counts: Sequence[int]) -> None:
    """The share of the predictions in each bin between the deciles of the test rows."""
    shares = [n / sum(counts) for n in counts]
    fig, ax = figures.new(height=2.6)
    ax.bar(range(1, len(shares) + 1), shares, color=figures.SKY)
    ax.axhline(1 / len(shares), color=figures.ORANGE, label="if nothing changes")
    ax.set_xticks(range(1, len(shares) + 1))
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.set(
        xlabel="bin, from the lowest predictions to the highest",
        ylabel="share of the predictions",
        title="Where the predictions lie, by the deciles of the test rows",
    )
    ax.legend()
    said = ", ".join(f"{share:.0%}" for share in shares)
    figures.show(fig, f"Bars with the share of the predictions in each bin: {said}.", colours=48)


def largest(explained: Mapping, most: int = 8) -> pd.DataFrame:
    """The contributions that matter, largest first.

    Parameters
    ----------
    explained : mapping
        An answer of ``/explain``.
    most : int

    Returns
    -------
    DataFrame
        Indexed by column: ``value``, ``typical``, ``contribution``. Those below a thousandth of
        all together are left out.
    """
    found = explained["contributions"]
    limit = sum(abs(c["contribution"]) for c in found) / 1000
    kept = [c for c in found if abs(c["contribution"]) > limit][:most]
    columns = ["column", "value", "typical", "contribution"]
    table = pd.DataFrame(kept, columns=columns).set_index("column")
    for name in ("value", "typical"):
        table[name] = [_cell(v) for v in table[name].tolist()]
    return table


def _cell(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else f"{value:,.10g}"


def plot_contributions(table: pd.DataFrame, unit: str) -> None:
    """How far each column moved one answer from that for a typical row."""
    if table.empty:
        return
    shown = table[::-1]
    fig, ax = figures.new(height=0.9 + 0.32 * len(shown))
    colours = [figures.BLUE if v > 0 else figures.ORANGE for v in shown["contribution"]]
    ax.barh(range(len(shown)), shown["contribution"], color=colours)
    ax.set_yticks(
        range(len(shown)),
        [f"{name} = {value[:24]}" for name, value in shown["value"].items()],
    )
    ax.axvline(0, color=figures.GREY, lw=1)
    ax.xaxis.set_major_formatter(lambda value, _: number(value, ",.10g"))
    ax.set(xlabel=f"contribution, {unit}", title="What moved the answer most")
    said = "; ".join(f"{n} {significant(v, 3)}" for n, v in table["contribution"].items())
    figures.show(fig, f"Bars of the contributions to one answer: {said}.", colours=48)


# What a pickle can do


def trap(code: str) -> bytes:
    """A pickle that runs Python code when somebody loads it."""

    class Trap:
        def __reduce__(self) -> tuple:
            return exec, (code,)

    return pickle.dumps(Trap())


def named(content: bytes) -> list[str]:
    """The functions and classes that a pickle names, in order, found without loading it.

    It reads what honest programs write. A pickle that is made to deceive can hide more, so the
    list shows what a pickle can do, and keeps nobody safe.
    """
    found, texts, memo, last = [], [], {}, None
    for op, argument, _ in pickletools.genops(content):
        if op.name in ("GLOBAL", "INST"):
            found.append(str(argument).replace(" ", "."))
        elif op.name == "STACK_GLOBAL":
            found.append(".".join(texts[-2:]))
        elif op.name == "MEMOIZE":
            memo[len(memo)] = last
            continue
        elif op.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = last
            continue
        elif op.name in ("GET", "BINGET", "LONG_BINGET"):
            argument = memo.get(argument)
        last = argument if isinstance(argument, str) else None
        texts += [last] if last is not None else []
    return list(dict.fromkeys(found))


# On a cluster


def rolling_update(replicas: int, surge: int | float, unavailable: int | float) -> tuple[int, int]:
    """The fewest pods that are ready, and the most that run, while Kubernetes updates them.

    Parameters
    ----------
    replicas : int
    surge, unavailable : int or float
        ``maxSurge`` and ``maxUnavailable``: a number of pods, or a share of them. Kubernetes rounds
        the first up and the second down; where both come to 0, one pod may be missing.
    """
    more = math.ceil(surge * replicas) if isinstance(surge, float) else surge
    fewer = math.floor(unavailable * replicas) if isinstance(unavailable, float) else unavailable
    if more == fewer == 0:
        fewer = 1
    return replicas - fewer, replicas + more
