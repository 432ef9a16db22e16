"""Look at rows before a model does: statistics worth knowing and the figures that show them."""

from functools import singledispatch
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from truefit import figures
from truefit.case import ABSENT, Case
from truefit.data_prep.clean import column_roles
from truefit.project import InputError
from truefit.task import BinaryClassification, Regression
from truefit.verdicts import Conclusion

FEW_VALUES = 12  # up to this, a number is drawn as boxes, as a category is
MANY_POINTS = 400  # beyond this, points are drawn small and see-through
MOST_PAIRED = 3000  # rows whose slopes are taken in pairs: time and memory grow with the square


def target_numbers(frame: pd.DataFrame, case: Case) -> pd.Series:
    """The target as numbers: itself, or 1 for the positive class and 0 for the other."""
    return case.truth(frame[case.target])


def as_numbers(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The columns that have an order, as numbers: ordered categories by their rank from 0."""
    roles = column_roles(frame, case)["role"]
    numbers = frame[roles.index[roles == "number"]].astype("float64")
    ordered = {
        c: frame[c].map({v: float(i) for i, v in enumerate(case.order_of(c) or ())})
        for c in roles.index[roles == "ordered"]
    }
    return pd.concat([numbers, pd.DataFrame(ordered, index=numbers.index)], axis=1)


def overview(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """What each column holds, at a glance.

    Returns
    -------
    DataFrame
        Indexed by column, with ``kind``, ``unit``, ``different`` (how many values) and
        ``examples``.
    """
    rows = {}
    for name, values in frame.items():
        known = values.dropna()
        number = pd.api.types.is_numeric_dtype(values)
        if known.empty or name == case.id:
            examples = ""  # a name has no range
        elif number:
            examples = f"{known.min():.9g} to {known.max():.9g}"
        else:
            examples = ", ".join(figures.short(v) for v in known.value_counts().index[:4])
        kind = "number" if number else "text"
        rows[name] = (kind, case.unit(name), known.nunique(), examples)
    columns = ["kind", "unit", "different values", "range, or most frequent"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def ordered_medians(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """The typical target at each value of each ordered category.

    Returns
    -------
    DataFrame
        Indexed by column, with ``order`` (its values, lowest first), ``one way`` (``yes`` if the
        typical target never turns back along it) and ``0``, ``1``, …: the median of the target
        (the share of the positive class in a classification) at that rank, missing where no row
        has the value.
    """
    y = target_numbers(frame, case)
    rows = {}
    for rule in case.ordinal:
        for name in rule.columns:
            order = case.order_of(name)
            groups = y.groupby(frame[name])
            typical = groups.agg(case.typical)
            found = typical.reindex(order).to_numpy()
            steps = np.diff(found[~np.isnan(found)])
            one_way = (steps >= 0).all() or (steps <= 0).all()
            rows[name] = {
                "order": " < ".join(order),
                "one way": Conclusion.YES if one_way else Conclusion.NO,
            } | {str(i): v for i, v in enumerate(found)}
    return pd.DataFrame.from_dict(rows, orient="index")


def missing_values(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """Count the empty cells of each column that has any.

    Returns
    -------
    DataFrame
        Indexed by column, with ``missing`` (not known) and ``absent`` (has none), in rows.
    """
    missing = frame.isna().sum()
    absent = (frame == ABSENT).sum()
    numeric_absent = [c for c in case.absent if pd.api.types.is_numeric_dtype(frame[c])]
    absent[numeric_absent], missing[numeric_absent] = missing[numeric_absent], 0
    counts = pd.DataFrame({"missing": missing, "absent": absent})
    counts = counts[counts.sum(axis=1) > 0]
    return counts.iloc[np.lexsort((counts.index, -counts.sum(axis=1)))]


def plot_missing(counts: pd.DataFrame, n_rows: int) -> None:
    """Bars of the share of rows in which a column is empty."""
    if counts.empty:
        return figures.say("No cell of the table is empty, so there is nothing to draw.")
    n_columns, counts = len(counts), counts.head(figures.MOST_NAMES)
    share = counts[::-1] / n_rows * 100
    fig, ax = figures.new(height=0.9 + 0.21 * len(share))
    ax.barh(share.index, share["missing"], color=figures.ORANGE, label="missing: not known")
    bars = ax.barh(
        share.index,
        share["absent"],
        left=share["missing"],
        color=figures.SKY,
        label="absent: the thing is not there",
    )
    rows = counts[::-1].sum(axis=1)
    ax.bar_label(bars, [f" {n:,} rows" if n > 1 else " 1 row" for n in rows], fontsize=7.5)
    title = "Empty cells, by what they mean" + _of_all(len(counts), n_columns, "columns")
    ax.set(xlabel="share of the rows in %", title=title, xlim=(0, 112))
    ax.legend(loc="lower right")
    top = ", ".join(f"{c} {v:.1f} %" for c, v in share.sum(axis=1)[::-1].head(3).items())
    return figures.show(fig, f"Bars of the share of empty cells in {len(share)} columns: {top}.")


def _of_all(drawn: int, n: int, what: str) -> str:
    """A word in a title on what a figure leaves out, if it does."""
    return f" (the first {drawn} of {n:,} {what})" if drawn < n else ""


def plot_target(frame: pd.DataFrame, case: Case) -> None:
    """The target's distribution; before and after its logarithm if the case takes it."""
    _plot_target(case, frame)


@singledispatch
def _plot_target(case: Case, frame: pd.DataFrame) -> None:
    raise NotImplementedError


@_plot_target.register
def _(case: Regression, frame: pd.DataFrame) -> None:
    target = frame[case.target]
    panels = [(target, case.label(case.target))]
    if case.log_target:
        panels.append((np.log(target), f"natural logarithm of {case.target}"))
    fig, axes = figures.new(height=2.8, ncols=len(panels), squeeze=False)
    skews = [float(values.skew()) for values, _ in panels]
    for ax, (values, label), skew in zip(axes[0], panels, skews, strict=True):
        ax.hist(values, bins=40, color=figures.BLUE)
        ax.set(xlabel=label, ylabel="rows", title=f"skewness {skew:.2f}")
        ax.xaxis.set_major_locator(MaxNLocator(5))
    words = " and ".join(
        f"{label} with skewness {s:.2f}" for (_, label), s in zip(panels, skews, strict=True)
    )
    figures.show(fig, f"Histogram of {words}.")


@_plot_target.register
def _(case: BinaryClassification, frame: pd.DataFrame) -> None:
    counts = frame[case.target].value_counts().sort_index()
    fig, ax = figures.new(height=1.8)
    colours = [figures.ORANGE if c == case.positive else figures.BLUE for c in counts.index]
    bars = ax.barh(counts.index.astype(str), counts, color=colours)
    ax.bar_label(bars, [f" {n:,} ({n / len(frame):.1%})" for n in counts])
    ax.set(xlabel="rows", title=f"How often each {case.target} occurs")
    ax.margins(x=0.18)
    shares = ", ".join(f"{c} {n / len(frame):.1%}" for c, n in counts.items())
    figures.show(fig, f"Bars of the classes of {case.target}: {shares}.")


def relations(frame: pd.DataFrame, case: Case) -> pd.DataFrame:
    """How much of the target's ranking each feature alone explains.

    For a feature with an order, the square of Spearman's rank correlation; for a category,
    epsilon squared of the Kruskal-Wallis test: the share of the variance of the target's ranks
    that lies between the categories, corrected for their number. Both run from 0 (tells nothing)
    to 1 (tells the order completely), so they can stand in one list.

    Returns
    -------
    DataFrame
        Indexed by feature, strongest first, with ``explained`` and ``direction`` (``+``, ``−`` or
        empty for a category).
    """
    ranks = target_numbers(frame, case).rank()
    found = {}
    for name, values in as_numbers(frame, case).items():
        rho = values.rank().corr(ranks)
        found[name] = (rho**2, "+" if rho > 0 else "−")
    roles = column_roles(frame, case)["role"]
    for name in roles.index[roles == "category"]:
        groups = ranks.groupby(frame[name].fillna("missing"))
        # Where each row has a category of its own, or the target one value, nothing is explained.
        free, spread = ranks.count() - groups.ngroups, ranks.var()
        if free <= 0 or not spread > 0:
            found[name] = (0.0, "")
            continue
        within = (groups.transform("mean") - ranks).pow(2).sum() / free
        found[name] = (max(0.0, 1 - within / spread), "")
    table = pd.DataFrame.from_dict(found, orient="index", columns=["explained", "direction"])
    table = table.fillna({"explained": 0.0}).round(6)
    return table.iloc[np.lexsort((table.index, -table["explained"]))]


def plot_relations(strength: pd.DataFrame, frame: pd.DataFrame, case: Case) -> None:
    """The strongest relations as bars, and the four strongest as pictures."""
    top = strength.head(12)[::-1]
    fig, ax = figures.new(height=0.9 + 0.22 * len(top))
    bars = ax.barh(top.index, top["explained"] * 100, color=figures.BLUE)
    ax.bar_label(bars, [f" {d}" for d in top["direction"]])
    ax.set(
        xlabel="share of the target's ranking explained in %",
        title=f"What goes with {case.target} (+ rises with it, − falls)",
    )
    words = ", ".join(f"{c} {v:.0%}" for c, v in strength["explained"].head(4).items())
    figures.show(fig, f"Bars of the strongest single relations to {case.target}: {words}.")

    names = list(strength.index[:4])
    rows = -(-len(names) // 2)
    fig, axes = figures.new(height=2.7 * rows, nrows=rows, ncols=2, squeeze=False)
    for ax in axes.flat[len(names) :]:
        ax.set_visible(False)
    for ax, name in zip(axes.flat, names, strict=False):
        _plot_relation(ax, frame, name, case)
    figures.show(fig, f"The target {case.target} against each of {', '.join(names)}.")


def _plot_relation(ax: Axes, frame: pd.DataFrame, name: str, case: Case) -> None:
    ax.set_xlabel(case.label(name))
    quantity = pd.api.types.is_numeric_dtype(frame[name]) and frame[name].nunique() > FEW_VALUES
    _plot_against(case, ax, frame, name, quantity)


@singledispatch
def _plot_against(case: Case, ax: Axes, frame: pd.DataFrame, name: str, quantity: bool) -> None:
    """The target along one column, which is a quantity or has few values."""
    raise NotImplementedError


@_plot_against.register
def _(case: Regression, ax: Axes, frame: pd.DataFrame, name: str, quantity: bool) -> None:
    """Points for a quantity, else boxes."""
    ax.set_ylabel(case.label(case.target))
    ax.yaxis.set_major_formatter("{x:,.10g}")
    if quantity:
        size, alpha = (5, 0.35) if len(frame) > MANY_POINTS else (12, 0.7)
        drawn = frame.iloc[figures.some(len(frame))]
        ax.scatter(drawn[name], drawn[case.target], s=size, alpha=alpha, linewidths=0)
        return
    groups = _groups(frame[case.target], frame[name], case, ax)
    ax.boxplot(
        list(groups.values()),
        tick_labels=list(groups),
        flierprops={"markersize": 2},
        medianprops={"color": figures.ORANGE},
    )
    if len(groups) > 10:
        ax.tick_params(axis="x", rotation=90, labelsize=6.5)


@_plot_against.register
def _(case: BinaryClassification, ax: Axes, frame: pd.DataFrame, name: str, quantity: bool) -> None:
    """The share of the positive class: by tenths of the rows for a quantity."""
    y = target_numbers(frame, case)
    ax.set(ylabel=f"{case.positive} in %")
    if quantity:
        tenths = pd.qcut(frame[name], 10, duplicates="drop")
        share = y.groupby(tenths, observed=True).mean() * 100
        ax.plot([interval.mid for interval in share.index], share, "o-")
    else:
        groups = _groups(y, frame[name], case, ax)
        ax.bar(list(groups), [100 * rows.mean() for rows in groups.values()], width=0.6)
        ax.tick_params(axis="x", rotation=0 if len(groups) < 6 else 30)
    ax.set_ylim(0, None)


def _groups(y: pd.Series, column: pd.Series, case: Case, ax: Axes) -> dict[str, pd.Series]:
    """The target by the values of a column: in their order, or by the target's mean.

    Of too many values those with most rows, and the axis says so.
    """
    number = pd.api.types.is_numeric_dtype(column)
    column = column if number else column.fillna("missing")
    counts = column.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) > figures.MOST_NAMES:
        most = counts.index[: figures.MOST_NAMES]
        note = f": the {len(most)} with most rows of {len(counts):,}"
        ax.set_xlabel(f"{case.label(column.name)}{note}")
        y, column = y[column.isin(most)], column[column.isin(most)]
    groups = dict(list(y.groupby(column)))
    if number:
        texts = {value: f"{value:g}" for value in groups}
        if len({*texts.values()}) < len(texts):  # they differ in a digit that is not shown
            texts = {value: f"{value!r}" for value in groups}
        return {texts[value]: rows for value, rows in groups.items()}
    order = case.order_of(column.name) or []
    others = sorted(set(groups) - set(order), key=lambda v: (groups[v].mean(), v))
    return {value: groups[value] for value in [*order, *others] if value in groups}


def correlated_groups(frame: pd.DataFrame, case: Case, at_least: float = 0.7) -> list[list[str]]:
    """Groups of features that say nearly the same.

    Features are clustered by one minus the absolute rank correlation, average linkage, and the
    tree is cut at ``1 - at_least``.

    Returns
    -------
    list of lists of str
        Groups of two or more, largest first.
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    correlation = as_numbers(frame, case).corr("spearman").abs().fillna(0.0)
    if len(correlation) < 2:
        return []
    distance = (1 - correlation.to_numpy()).clip(0).round(9)
    np.fill_diagonal(distance, 0)
    labels = fcluster(
        linkage(squareform(distance, checks=False), "average"), 1 - at_least, "distance"
    )
    groups = [list(correlation.columns[labels == k]) for k in np.unique(labels)]
    return sorted((g for g in groups if len(g) > 1), key=lambda g: (-len(g), g))


def plot_correlations(frame: pd.DataFrame, case: Case, groups: list[list[str]]) -> None:
    """A heat map of the rank correlations within and between groups of features."""
    names = [name for group in groups for name in group]
    if not names:
        return figures.say("No two features are correlated strongly enough to form a group.")
    n_names, names = len(names), names[: figures.MOST_NAMES]
    correlation = as_numbers(frame, case)[names].corr("spearman")
    side = 1.6 + 0.27 * len(names)
    fig, ax = figures.new(width=min(7.2, side + 1.6), height=min(6.4, side))
    image = ax.imshow(correlation, vmin=-1, vmax=1, cmap="PuOr_r")
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    ax.set_yticks(range(len(names)), names, fontsize=8)
    ax.grid(False)
    ax.set_title(
        "A group of features\nthat say nearly the same"
        if len(groups) == 1
        else f"{len(groups)} groups of features that say nearly the same"
        + _of_all(len(names), n_names, "features")
    )
    fig.colorbar(image, label="rank correlation", shrink=0.8)
    words = "; ".join(" with ".join(g) for g in groups[: figures.MOST_NAMES])
    return figures.show(
        fig, f"Heat map of the rank correlations among {len(names)} features: {words}."
    )


class Line(NamedTuple):
    """A straight line from a feature to the target, or to its logarithm if the case takes it."""

    feature: str
    slope: float
    intercept: float


def robust_line(frame: pd.DataFrame, case: Case, strength: pd.DataFrame) -> Line | None:
    """A line that a few odd rows cannot bend, through the target and its strongest quantity.

    The quantity is the number with the strongest relation that has no gap and more than 20
    values. The method is Theil and Sen's, over at most 3,000 rows spread evenly. A target that is
    not known, or has no logarithm, plays no part.

    Parameters
    ----------
    strength : DataFrame
        From `relations`.

    Returns
    -------
    Line or None
        None for a classification, and where there is no such number.
    """
    from scipy.stats import theilslopes

    numbers = as_numbers(frame, case)
    names = [
        name
        for name in strength.index
        if name in numbers and numbers[name].notna().all() and numbers[name].nunique() > 20
    ]
    if case.why_no_line or not names:
        return None
    some = figures.some(len(frame), MOST_PAIRED)
    y, x = _on_line_scale(frame, case).iloc[some], numbers[names[0]].iloc[some]
    known = y.notna()
    if x[known].nunique() < 2:
        return None
    slope, intercept, *_ = theilslopes(y[known], x[known])
    return Line(names[0], float(slope), float(intercept))


def _on_line_scale(frame: pd.DataFrame, case: Case) -> pd.Series:
    y = target_numbers(frame, case)
    return case.learned(y.where(case.has_label(y)))


def outliers(frame: pd.DataFrame, case: Case, line: Line | None, most: int = 10) -> pd.DataFrame:
    """The rows furthest from the line.

    A row's score is its distance from the line in units of 1.4826 times the median distance,
    which is the standard deviation if the distances are normal.

    Returns
    -------
    DataFrame
        The rows with a score beyond 4, furthest first, ``most`` at most, with their ``mark`` in the
        figure, their ``score``, the ``feature`` and the ``target``, indexed by the id, or by the
        row's number from 1. Empty if there is no line, or if it goes through most of the rows.
    """
    if line is None:
        return pd.DataFrame(columns=["mark", "score", "feature", "target"])
    x = frame[line.feature]
    distance = _on_line_scale(frame, case) - (line.intercept + line.slope * x)
    usual = distance.abs().median()
    score = distance / (1.4826 * usual) if usual > 0 else 0 * distance
    found = pd.DataFrame({"score": score, "feature": x, "target": frame[case.target]})
    found.index = frame[case.id] if case.id else pd.RangeIndex(1, len(frame) + 1)
    found = found[found["score"].abs() > 4]
    found = found.iloc[np.argsort(-found["score"].abs().to_numpy(), kind="stable")[:most]]
    found.insert(0, "mark", range(1, len(found) + 1))
    return found


def plot_outliers(frame: pd.DataFrame, case: Case, line: Line | None, found: pd.DataFrame) -> None:
    """The rows, the line, and the rows furthest from it, marked."""
    if line is None:
        return figures.say(
            case.why_no_line or "No number without gaps has enough values to draw a line through."
        )
    name, target = line.feature, case.target
    ends = np.linspace(frame[name].min(), frame[name].max(), 200)
    expected = line.intercept + line.slope * ends
    drawn = frame.iloc[figures.some(len(frame))]
    all_rows = "all rows" if len(drawn) == len(frame) else f"{len(drawn):,} rows"
    fig, ax = figures.new()
    ax.scatter(drawn[name], drawn[target], s=7, alpha=0.4, linewidths=0, label=all_rows)
    ax.plot(ends, case.unlearned(expected), color=figures.GREY, label="line")
    ax.scatter(
        found["feature"],
        found["target"],
        s=38,
        facecolors="none",
        edgecolors=figures.ORANGE,
        linewidths=1.4,
        label="furthest from it",
    )
    for row in found.itertuples():
        place = (row.feature, row.target)
        ax.annotate(f"{row.mark}", place, xytext=(5, 4), textcoords="offset points", fontsize=8)
    if case.logarithmic:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter("{x:,.10g}")
    ax.set(xlabel=case.label(name), ylabel=case.label(target), title="Rows far from the line")
    ax.legend(loc="lower right")
    marked = ", ".join(str(i) for i in found.index) or "none"
    return figures.show(
        fig, f"Scatter of {target} against {name} with a line; rows far from it: {marked}."
    )


def plot_map(frame: pd.DataFrame, case: Case) -> None:
    """The target on the map, if the case has one."""
    if not case.map:
        return figures.say("This case has no map.")
    east, north = case.map
    for column in case.map:
        if not pd.api.types.is_numeric_dtype(frame[column]):
            raise InputError(f"params.yaml: map names {column!r}, which is not a column of numbers")
    fig, ax = figures.new(height=5.2)
    y = target_numbers(frame, case)
    low, high = y.quantile([0.02, 0.98])
    some = figures.some(len(frame))
    at, colour = frame.iloc[some], y.clip(low, high).iloc[some]
    points = ax.scatter(at[east], at[north], c=colour, s=9, cmap="viridis")
    if frame[north].abs().max() < 85:
        # One degree of longitude is shorter than one of latitude by the cosine of the latitude.
        ax.set_aspect(1 / np.cos(np.radians(frame[north].mean())))
    ax.set(
        xlabel=case.label(east),
        ylabel=case.label(north),
        title=f"{case.target} on the map",
    )
    ax.xaxis.set_major_formatter("{x:.2f}")
    fig.colorbar(points, label=case.label(case.target), format="{x:,.10g}", shrink=0.8)
    return figures.show(fig, f"Map of {len(frame)} rows coloured by {case.target}.")
