"""From measurements to lights: what was found, how bad it is, why, and which rows to look at.

Each rule asks two questions of a window. Could it be chance? And is it large enough to matter? The
first is answered for all rules, columns and windows together, or the many questions alone would
raise alarms; the second by the thresholds in ``params.yaml``.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from truefit.case import Case
from truefit.manifest import Column
from truefit.monitoring import diagnosis
from truefit.monitoring import statistics as st
from truefit.monitoring.traffic import Baseline, Traffic, errors
from truefit.params import Monitoring, Rule
from truefit.verdicts import Light

GROUPS = {
    "inputs": ("missing", "unseen", "out_of_range", "drift", "unlike"),
    "predictions": ("predictions",),
    "labels": ("target", "bias", "error", "coverage", "ranking"),
}
GROUP_OF = {rule: group for group, rules in GROUPS.items() for rule in rules}
LIGHTS = (Light.GREEN, Light.AMBER, Light.RED)
LOOK = 5  # rows to look at
NO_ERROR = 1e-9  # a mean error, in the unit of a bias, that is as good as none
RETRAIN = ("bias", "error", "coverage")  # what a model of newer rows would mend


class Advice(NamedTuple):
    """What to do, and why."""

    retrain: bool
    reason: str


class _Asked(NamedTuple):
    """One question to one window."""

    window: str
    rule: str
    subject: str
    rows: int
    compared: st.Compared


def watch(baseline: Baseline, traffic: Traffic, case: Case, settings: Monitoring) -> pd.DataFrame:
    """What the rules say of each window.

    Parameters
    ----------
    baseline : Baseline
    traffic : Traffic
        Windows with fewer rows, or labels, than ``settings.least_rows`` are not judged.
    case : Case
        Its block in ``params.yaml``.
    settings : Monitoring
        Rules and the rate of false alarms.

    Returns
    -------
    DataFrame
        One row for each window, rule and subject: ``window``, ``group``, ``rule``, ``subject``
        (the column, or the target), ``rows``, ``value`` and ``usual`` (the figure compared),
        ``effect`` (how far apart, in the rule's own measure), ``p``, ``q`` (adjusted for all the
        questions of the group in all windows so far, and for there being three groups),
        ``found``, ``in_a_row`` (windows up to this one in which it was found), ``light``
        (``green``, ``amber`` or ``red``), ``fault`` (True if the data are wrong rather than the
        world new), ``reason`` and ``look`` (ids of rows).
    """
    asked = []
    for name in traffic.names:
        window = traffic.window(name)
        asked += _ask_inputs(name, baseline, window, settings)
        asked += _ask_predictions(name, baseline, window, settings)
        asked += _ask_labels(name, baseline, window, case, settings)
    columns = ["window", "rule", "subject", "rows", "value", "usual", "effect", "p"]
    found = pd.DataFrame([(*a[:-1], *a.compared) for a in asked], columns=columns)
    found = lit(found, {n: getattr(settings.rules, n) for n in GROUP_OF}, settings.false_alarms)
    told = [
        _told(a, baseline, traffic, case) if hit else ("", False, ())
        for a, hit in zip(asked, found["found"], strict=True)
    ]
    told = pd.DataFrame(told, columns=["reason", "fault", "look"], index=found.index)
    return found.join(told)


def lit(asked: pd.DataFrame, rules: Mapping[str, Rule], false_alarms: float) -> pd.DataFrame:
    """Turn effects and p-values into lights.

    Parameters
    ----------
    asked : DataFrame
        ``window``, ``rule``, ``subject``, ``effect`` and ``p`` of each question, windows in order.
    rules : mapping from name to Rule
    false_alarms : float

    Returns
    -------
    DataFrame
        With ``group``, ``q``, ``found``, ``in_a_row`` and ``light``; see `watch`.
    """
    found = asked.copy()
    found.insert(1, "group", found["rule"].map(GROUP_OF))
    found["q"] = _adjusted(found)
    amber, red, patience = (
        found["rule"].map({name: getattr(rule, part) for name, rule in rules.items()})
        for part in ("amber", "red", "patience")
    )
    large = found["effect"].abs()
    found["found"] = (found["q"] <= false_alarms) & (large >= amber)
    found["in_a_row"] = _count_in_a_row(found)
    is_red = found["found"] & ((large >= red) | (found["in_a_row"] >= patience))
    found["light"] = np.select([is_red, found["found"]], [Light.RED, Light.AMBER], Light.GREEN)
    return found


def lights(traffic: Traffic, findings: pd.DataFrame) -> pd.DataFrame:
    """The worst light of each window, by group and over all.

    Returns
    -------
    DataFrame
        Indexed by window, in order: ``rows``, ``labelled``, one column for each group and
        ``light``; empty where nothing could be judged.
    """
    worst = findings.assign(level=findings["light"].map(LIGHTS.index))
    worst = worst.pivot_table(index="window", columns="group", values="level", aggfunc="max")
    worst = worst.reindex(index=traffic.names, columns=list(GROUPS))
    worst["light"] = worst.max(axis=1)
    board = worst.map(lambda level: Light.NOT_JUDGED if pd.isna(level) else LIGHTS[int(level)])
    labelled = traffic.truth.notna().groupby(traffic.windows).sum().reindex(traffic.names)
    board.insert(0, "labelled", labelled)
    board.insert(0, "rows", traffic.windows.value_counts().reindex(traffic.names))
    return board.rename_axis(index="window", columns=None)


def headline(findings: pd.DataFrame, window: str) -> str:
    """What is most worth knowing of a window, in a sentence: what explains the rest comes first."""
    here = findings[(findings["window"] == window) & findings["found"]]
    return "nothing unusual was found" if here.empty else _foremost(here)["reason"]


def _foremost(found: pd.DataFrame) -> pd.Series:
    """The finding that is most worth knowing."""
    causes = ["missing", "unseen", "ranking", "bias", "error", "coverage", "drift"]
    order = {rule: i for i, rule in enumerate(causes)}
    rank = found.assign(
        level=-found["light"].map(LIGHTS.index),
        no_fault=~found["fault"],
        cause=found["rule"].map(order).fillna(len(order)),
        size=-found["effect"].abs(),
    )
    return rank.sort_values(["no_fault", "level", "cause", "size"], kind="stable").iloc[0]


def standing(findings: pd.DataFrame, window: str) -> pd.DataFrame:
    """What is known when a window ends: its own findings, and those of the newest labels.

    Labels come late. Until those of the window have come, what the last ones said holds on; a
    monitor that forgot it would never speak of errors.
    """
    here = (findings["window"] == window).to_numpy()
    labels = (findings["group"] == "labels").to_numpy()
    so_far = np.arange(len(findings)) <= np.flatnonzero(here).max(initial=-1)
    last = findings["window"][labels & so_far].iloc[-1:]
    return findings[here | labels & findings["window"].isin(last).to_numpy()]


def light(findings: pd.DataFrame, window: str) -> Light:
    """The worst light of what is `standing` when a window ends."""
    found = map(Light, standing(findings, window)["light"])
    return max(found, key=LIGHTS.index, default=Light.NOT_JUDGED)


def advice(findings: pd.DataFrame, window: str) -> Advice:
    """Whether a model of newer rows is what helps in a window, and why or why not."""
    known = standing(findings, window)
    found, red = known[known["found"]], known[known["light"] == Light.RED]
    worse = red[red["rule"].isin(RETRAIN)]
    # Labels are off for what was wrong with the inputs at their time, even if that is mended now.
    at = findings["window"].isin(known["window"]) & (findings["light"] == Light.RED)
    faults = findings[at & findings["fault"]]

    def why(some: pd.DataFrame) -> str:
        first = _foremost(some)
        late = f" (in {first['window']}, the newest with labels)"
        return first["reason"] + late * (first["window"] != window)

    if len(faults):
        return Advice(False, f"mend the data first: {why(faults)}")
    if len(worse):
        return Advice(True, why(worse))
    if len(red):
        return Advice(False, f"look, but do not retrain for it: {why(red)}")
    if len(found):
        return Advice(False, f"nothing to do yet: {why(found)}")
    return Advice(False, "nothing that a new model would mend")


def measure_inputs(baseline: Baseline, traffic: Traffic, settings: Monitoring) -> pd.DataFrame:
    """Every measure of every column in every window.

    Returns
    -------
    DataFrame
        ``window``, ``column``, ``rows``; the shares ``missing``, ``unseen`` and ``out_of_range``;
        ``psi`` and ``psi_by_chance``, which the index of unchanged rows exceeds with the
        probability ``settings.false_alarms`` at this number of rows; ``test``, its ``distance``
        and ``p``.
    """
    rows = []
    for name in traffic.names:
        window = traffic.window(name).rows
        for column in baseline.columns(traffic):
            values, usual = window[column.name], baseline.rows[column.name]
            known = int(values.notna().sum())
            odd = {
                "missing": float(values.isna().mean()),
                "unseen": float(_is_unseen(column, values).mean()),
                "out_of_range": float(_is_outside(column, values).mean()),
            }
            drift = {}
            if known >= settings.least_rows and usual.notna().any():
                counts = st.binned(usual, values)
                chance = st.chance_psi(counts[0], known, settings.resamples, settings.seed)
                test, compared = st.compare_values(usual, values)
                limit = float(np.quantile(chance, 1 - settings.false_alarms))
                drift = {
                    "psi": float(st.psi(*counts)), "psi_by_chance": limit,
                    "test": test, "distance": compared.effect, "p": compared.p,
                }  # fmt: skip
            rows.append(
                {"window": name, "column": column.name, "rows": len(values), **odd, **drift}
            )
    return pd.DataFrame(rows)


# The questions


def _ask_inputs(
    name: str, baseline: Baseline, window: Traffic, settings: Monitoring
) -> Iterator[_Asked]:
    n, held = len(window.rows), baseline.held.rows
    if n < settings.least_rows:
        return
    for column in baseline.columns(window):
        values, usual = window.rows[column.name], baseline.rows[column.name]
        gaps = values.isna().to_numpy()
        yield _shares(name, "missing", column.name, gaps, usual.isna().to_numpy(), two_sided=True)
        odd, rule = (
            (_is_outside, "out_of_range") if column.type == "number" else (_is_unseen, "unseen")
        )
        # Of rows that nothing was learned from, or none could lie outside.
        yield _shares(name, rule, column.name, odd(column, values), odd(column, held[column.name]))
        if n - gaps.sum() >= settings.least_rows and usual.notna().any():
            _, compared = st.compare_values(usual, values)
            yield _Asked(name, "drift", column.name, n, compared)
    yield _shares(name, "unlike", "the row", baseline.unlike(window), baseline.held_unlike)


def _ask_predictions(
    name: str, baseline: Baseline, window: Traffic, settings: Monitoring
) -> Iterator[_Asked]:
    usual, scores = baseline.held.answers["score"], window.answers["score"]
    if len(scores) >= settings.least_rows:
        _, compared = st.compare_values(usual, scores)
        yield _Asked(name, "predictions", "the prediction", len(scores), compared)


def _ask_labels(
    name: str, baseline: Baseline, window: Traffic, case: Case, settings: Monitoring
) -> Iterator[_Asked]:
    held, window = _labelled(baseline.held), _labelled(window)
    n, subject = len(window.truth), case.target
    if n < settings.least_rows:
        return
    usual, off = (errors(t, case).to_numpy() for t in (held, window))
    _, compared = st.compare_values(case.labels(held.truth), case.labels(window.truth))
    yield _Asked(name, "target", subject, n, compared)
    compared = st.compare_means(usual, off)
    compared = compared._replace(effect=compared.effect / case.error_unit(held.truth))
    yield _Asked(name, "bias", subject, n, compared)
    losses = [case.losses(e) for e in (usual, off)]
    compared = st.compare_means(*losses, larger=True)
    # A model that makes no errors to speak of would be red for a difference of rounding.
    growth = compared.effect / max(compared.usual, NO_ERROR * case.error_unit(held.truth))
    yield _Asked(name, "error", subject, n, compared._replace(effect=growth))
    if "low" in window.answers:
        yield _shares(name, "coverage", subject, _outside(window), _outside(held))
    pairs = [(t.truth.to_numpy(), t.answers["score"].to_numpy()) for t in (held, window)]
    compared = st.compare_ranking(*pairs, classes=case.ranks_classes)
    yield _Asked(name, "ranking", subject, n, compared)


def _shares(
    name: str, rule: str, subject: str, here: np.ndarray, usual: np.ndarray, **more: bool
) -> _Asked:
    counts = int(here.sum()), len(here), int(usual.sum()), len(usual)
    return _Asked(name, rule, subject, len(here), st.compare_shares(*counts, **more))


def _labelled(traffic: Traffic) -> Traffic:
    return traffic.take(traffic.truth.notna().to_numpy())


def _is_outside(column: Column, values: pd.Series) -> np.ndarray:
    if column.type != "number":
        return np.zeros(len(values), dtype=bool)
    return st.out_of_range(column, values)


def _is_unseen(column: Column, values: pd.Series) -> np.ndarray:
    return st.unseen(column, values) if column.type == "text" else np.zeros(len(values), dtype=bool)


def _outside(traffic: Traffic) -> np.ndarray:
    low, high = traffic.answers["low"], traffic.answers["high"]
    return ((traffic.truth < low) | (traffic.truth > high)).to_numpy()


# What becomes of the answers


def _adjusted(found: pd.DataFrame) -> pd.Series:
    """Adjusted p-values: of a window's questions, with those of the windows before it.

    Those of later windows do not count, because they were not known when it was judged.
    """
    q = pd.Series(1.0, index=found.index)
    order = pd.Series(pd.factorize(found["window"])[0], found.index)
    for _, group in found.groupby("group"):
        for i in sorted(order[group.index].unique()):
            so_far = group[order[group.index] <= i]
            adjusted = pd.Series(st.false_discovery(so_far["p"].to_numpy()), so_far.index)
            now = so_far.index[order[so_far.index] == i]
            q[now] = np.minimum(1.0, len(GROUPS) * adjusted[now])
    return q


def _count_in_a_row(found: pd.DataFrame) -> list[int]:
    """For each finding, the windows up to its own in which the same was found; 0 if it was not."""
    running: dict[tuple, int] = {}
    counts = []
    for rule, subject, hit in zip(found["rule"], found["subject"], found["found"], strict=True):
        running[rule, subject] = running.get((rule, subject), 0) + 1 if hit else 0
        counts.append(running[rule, subject])
    return counts


def _told(
    asked: _Asked, baseline: Baseline, traffic: Traffic, case: Case
) -> tuple[str, bool, tuple]:
    window = traffic.window(asked.window)
    reason, fault = diagnosis.tell(
        asked.rule, asked.subject, asked.compared, baseline, window, case
    )
    look = window.ids.iloc[_most_telling(asked, baseline, window, case)[:LOOK]]
    return reason, fault, tuple(look)


def _most_telling(asked: _Asked, baseline: Baseline, window: Traffic, case: Case) -> np.ndarray:
    """Positions of the rows that show best what was found."""
    rule, subject = asked.rule, asked.subject
    if rule in ("drift", "missing", "unseen", "out_of_range"):
        values, usual = window.rows[subject], baseline.rows[subject]
        if rule == "drift":
            return _furthest(usual, values)
        if rule == "missing":
            more = asked.compared.value > asked.compared.usual
            return np.flatnonzero(values.isna() if more else values.notna())
        (column,) = (c for c in baseline.bundle.inputs if c.name == subject)
        odd = _is_unseen if rule == "unseen" else _is_outside
        return np.flatnonzero(odd(column, values))
    if rule == "unlike":
        return np.flatnonzero(baseline.unlike(window))
    if rule == "predictions":
        return _furthest(baseline.held.answers["score"], window.answers["score"])
    if rule == "target":
        return _furthest(case.labels(baseline.held.truth), case.labels(window.truth))
    if rule == "coverage":
        return np.flatnonzero(_outside(window))
    off = errors(window, case)
    if rule == "bias":  # those that lie most to the side where all lie
        off = off * np.sign(asked.compared.effect)
        return off.dropna().sort_values(ascending=False, kind="stable").index.to_numpy()
    return off.abs().dropna().sort_values(ascending=False, kind="stable").index.to_numpy()


def _furthest(usual: pd.Series, values: pd.Series) -> np.ndarray:
    """Positions of the values that a change is made of, the most telling first."""
    if st.is_many(usual):
        away = (values.astype(float) - usual.median()).abs()
        return away.dropna().sort_values(ascending=False, kind="stable").index.to_numpy()
    most = st.values_of_change(usual.dropna(), values.dropna()).index[0]
    return np.flatnonzero(values == most)
