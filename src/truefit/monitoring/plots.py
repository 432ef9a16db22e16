"""Figures of what a monitor sees."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Ellipse, Patch
from matplotlib.ticker import PercentFormatter

from truefit import figures
from truefit.case import Case
from truefit.digits import number, significant
from truefit.monitoring.rules import LIGHTS
from truefit.verdicts import Light

# With a sign in each, for those who cannot tell the colours apart.
COLOURS = {
    Light.GREEN: "#7FCDB0",
    Light.AMBER: "#F0B840",
    Light.RED: figures.ORANGE,
    Light.NOT_JUDGED: "#EEEEEE",
}
SIGNS = {Light.GREEN: "", Light.AMBER: "!", Light.RED: "!!", Light.NOT_JUDGED: "·"}
NAMES = {
    Light.GREEN: "as usual",
    Light.AMBER: "! amber",
    Light.RED: "!! red",
    Light.NOT_JUDGED: "· not judged",
}
MOST_COLUMNS = 24  # in a figure
MOST_LABELS = 16  # windows named along an axis
TEXT = {"ha": "center", "va": "center", "fontsize": 8}


def plot_board(findings: pd.DataFrame, windows: Sequence[str], order: Sequence[str]) -> None:
    """The worst light of each rule in each window."""
    level = findings["light"].map(LIGHTS.index)
    worst = findings.assign(level=level).groupby(["rule", "window"])["level"].max().unstack()
    worst = worst.reindex(index=list(order), columns=list(windows))
    lights = worst.map(lambda v: Light.NOT_JUDGED if pd.isna(v) else LIGHTS[int(v)])
    fig, ax = figures.new(height=0.9 + 0.24 * len(order))
    for y, rule in enumerate(lights.index):
        for x, window in enumerate(lights.columns):
            light = lights.loc[rule, window]
            ax.barh(y, 0.92, left=x - 0.46, height=0.86, color=COLOURS[light])
            ax.text(x, y, SIGNS[light], **TEXT)
    ax.set_yticks(range(len(order)), [rule.replace("_", " ") for rule in order])
    _name_windows(ax, windows)
    ax.invert_yaxis()
    ax.grid(False)
    ax.set(title="The lights of each rule, window by window", xlim=(-0.6, len(windows) - 0.4))
    patches = [Patch(color=COLOURS[light], label=name) for light, name in NAMES.items()]
    fig.legend(handles=patches, loc="outside lower center", ncols=4)
    said = "; ".join(
        f"{rule.replace('_', ' ')} in {', '.join(red)}"
        for rule, row in lights.iterrows()
        if (red := [str(w) for w in row.index[row == Light.RED]])
    )
    figures.show(fig, f"A board of rules and windows. Red: {said or 'none'}.", colours=64)


def plot_drift(findings: pd.DataFrame, windows: Sequence[str], most: int = MOST_COLUMNS) -> None:
    """How far each column lies from the usual in each window; a sign where a rule found it.

    Parameters
    ----------
    findings : DataFrame
        From `truefit.monitoring.watch`.
    windows : sequence of str
    most : int
        Columns to show: those that are furthest from the usual in any window.
    """
    drift = findings[findings["rule"] == "drift"]
    far = drift.pivot(index="subject", columns="window", values="effect")
    far = far.reindex(columns=list(windows)).astype(float)
    far = far.loc[far.max(axis=1).sort_values(ascending=False, kind="stable").index[:most]]
    if far.empty:
        return
    lights = drift[drift["found"]].set_index(["subject", "window"])["light"]
    fig, ax = figures.new(height=1.1 + 0.2 * len(far))
    image = ax.imshow(far, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    for (column, window), light in lights.items():
        if column in far.index:
            at = list(windows).index(window), far.index.get_loc(column)
            dark = far.loc[column, window] > 0.6
            ax.text(*at, SIGNS[light], color="white" if dark else "black", **TEXT)
    ax.set_yticks(range(len(far)), far.index, fontsize=8)
    _name_windows(ax, windows)
    ax.grid(False)
    ax.set(title="How far each column is from the usual")
    fig.colorbar(image, ax=ax, label="distance", shrink=0.6, pad=0.01)
    top = far.max(axis=1).head(3)
    said = ", ".join(f"{c} ({d:.2f})" for c, d in top.items())
    figures.show(
        fig,
        f"A map of {len(far)} columns and {len(windows)} windows. Furthest from the usual: {said}.",
    )


def plot_chance_psi(drawn: pd.DataFrame, limit: float, bins: int, usual_rows: int) -> None:
    """What the population stability index of unchanged rows is, by the size of the window.

    Parameters
    ----------
    drawn : DataFrame of shape (n_resamples, n_sizes)
        The index of windows drawn from unchanged rows; its columns are the rows of a window.
    limit : float
        The threshold of folklore.
    bins, usual_rows : int
        Of the index, and of the rows compared with.
    """
    sizes = drawn.columns.to_numpy()
    low, middle, high, rare = (drawn.quantile(q) for q in (0.05, 0.5, 0.95, 0.99))
    fig, ax = figures.new(height=3.2)
    ax.fill_between(
        sizes, low, high, color=figures.SKY, alpha=0.4, lw=0, label="nine windows of ten"
    )
    ax.plot(sizes, middle, color=figures.BLUE, label="median")
    mean = (bins - 1) * (1 / sizes + 1 / usual_rows)
    ax.plot(sizes, mean, color="black", lw=1, ls=":", label="mean, by the formula")
    ax.plot(sizes, rare, color=figures.BLUE, ls="--", label="exceeded by one in a hundred")
    ax.axhline(limit, color=figures.ORANGE, label=f"the threshold of folklore, {limit:g}")
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="rows of the window",
        ylabel="PSI",
        title="PSI of a column that has not changed",
    )
    ax.set_xticks(sizes, [f"{n:,}" for n in sizes])
    ax.set_yticks([0.001, 0.01, 0.1, 1], ["0.001", "0.01", "0.1", "1"])
    ax.minorticks_off()
    ax.legend(loc="lower left", fontsize=8)
    figures.show(
        fig,
        f"The index of unchanged rows falls with the rows of the window: its median from "
        f"{middle.iloc[0]:.2g} at {sizes[0]:,} rows to {middle.iloc[-1]:.2g} at {sizes[-1]:,}. The "
        f"threshold of {limit:g} is a straight line across.",
        colours=64,
    )


def plot_em(points: np.ndarray, fits: dict[str, tuple]) -> None:
    """Mixtures of normal distributions over points in two dimensions, and how EM got there.

    Parameters
    ----------
    points : ndarray of shape (n_samples, 2)
    fits : dict
        By title: means of shape (k, 2) and covariances of shape (k, 2, 2), and the
        log-likelihoods of all steps.
    """
    fig, axes = figures.new(height=3.1, ncols=len(fits) + 1)
    for ax, (title, (means, covariances, _)) in zip(axes, fits.items(), strict=False):
        ax.scatter(*points.T, s=5, color=figures.GREY, alpha=0.5, lw=0)
        ax.scatter(*means.T, s=36, marker="x", color=figures.ORANGE)
        for mean, covariance in zip(means, covariances, strict=True):
            sizes, axes_of = np.linalg.eigh(covariance)
            angle = np.degrees(np.arctan2(axes_of[1, 1], axes_of[0, 1]))
            height, width = 4 * np.sqrt(sizes)  # two standard deviations to each side
            ax.add_patch(
                Ellipse(mean, width, height, angle=angle, fill=False, color=figures.ORANGE)
            )
        ax.set(title=title, xticks=[], yticks=[])
        ax.set_aspect("equal", adjustable="datalim")
        ax.grid(False)
    for title, (_, _, path) in fits.items():
        # The first guess is so far off that the rest would look flat beside it.
        axes[-1].plot(range(2, len(path) + 1), path[1:], marker="o", ms=3, label=title)
    axes[-1].set(xlabel="step (logarithmic)", ylabel="log-likelihood", title="It only rises",
                 xscale="log")  # fmt: skip
    axes[-1].set_xticks([2, 5, 10, 20, 50, 100], [2, 5, 10, 20, 50, 100])
    axes[-1].minorticks_off()
    axes[-1].legend(loc="center right", fontsize=8)
    said = "; ".join(
        f"{t}: {number(p[0], '.0f')} to {number(p[-1], '.0f')} in {len(p)} steps"
        for t, (*_, p) in fits.items()
    )
    figures.show(fig, f"Ellipses around groups of points, and the log-likelihood. {said}.")


def plot_places(usual: np.ndarray, window: np.ndarray, unlike: np.ndarray, name: str) -> None:
    """Rows along the first direction and by their distance along the small ones.

    Parameters
    ----------
    usual, window : ndarray of shape (n_samples, n_directions + 1)
        From `truefit.monitoring.density.UsualRows.places`.
    unlike : ndarray of bool
        Which rows of the window are unlike the usual ones.
    name : str
        Of the window.
    """
    fig, axes = figures.new(height=3.3, ncols=2)
    second = min(1, usual.shape[1] - 1)
    pairs = [(0, second, "second direction"), (0, usual.shape[1] - 1, "along all small directions")]
    for ax, (x, y, label) in zip(axes, pairs, strict=True):
        ax.scatter(usual[:, x], usual[:, y], s=6, color=figures.GREY, alpha=0.35, lw=0,
                   label="test rows")  # fmt: skip
        here = window[~unlike], window[unlike]
        ax.scatter(here[0][:, x], here[0][:, y], s=10, color=figures.BLUE, alpha=0.8, lw=0,
                   label=f"window {name}")  # fmt: skip
        ax.scatter(here[1][:, x], here[1][:, y], s=22, color=figures.ORANGE, marker="x", lw=1.2,
                   label="unlike the usual")  # fmt: skip
        ax.set(xlabel="first direction", ylabel=label)
    axes[0].set(title="Where the rows lie")
    axes[1].set(title="And how far off all relations")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    figures.show(
        fig,
        f"Test rows and those of window {name} along directions of the table, in units of the "
        f"spread; {int(unlike.sum())} of {len(unlike)} are marked as unlike.",
    )


def plot_predictions(usual: pd.Series, scores: pd.Series, windows: pd.Series, label: str) -> None:
    """The middle of the predictions in each window, beside the usual one."""
    names = list(windows.unique())
    levels = [0.1, 0.25, 0.5, 0.75, 0.9]
    found = scores.groupby(windows, sort=False).quantile(levels).unstack().loc[names]
    x = np.arange(len(names))
    fig, ax = figures.new(height=3.0)
    low, *_, high = usual.quantile(levels)
    ax.axhspan(low, high, color=figures.GREY, alpha=0.15, lw=0, label="usual: 8 of 10")
    ax.axhline(usual.median(), color=figures.GREY, lw=1, label="usual: median")
    ax.vlines(x, found[0.1], found[0.9], color=figures.SKY, lw=3, label="8 of 10")
    ax.vlines(x, found[0.25], found[0.75], color=figures.BLUE, lw=6, alpha=0.5, label="half")
    ax.plot(x, found[0.5], "o", ms=4, color=figures.BLUE, label="median")
    _name_windows(ax, names)
    ax.yaxis.set_major_formatter(lambda v, _: f"{v:,.10g}")
    ax.set(ylabel=label, title="What the model predicts")
    fig.legend(loc="outside lower center", ncols=5)
    ends = found[0.5].iloc[[0, -1]]
    figures.show(
        fig,
        f"Predictions by window: the median is {significant(ends.iloc[0])} in the first and "
        f"{significant(ends.iloc[-1])} in the last, usually {significant(usual.median())}.",
        colours=64,
    )


def plot_labels(findings: pd.DataFrame, windows: Sequence[str], case: Case) -> None:
    """What the labels say of each window: bias, error, and coverage or ranking."""
    titles = {
        "bias": "Mean error: bias",
        "error": case.loss_words[0].upper() + case.loss_words[1:],
        "coverage": "Outside the interval",
        "ranking": "Order of the truths",
    }
    there = [rule for rule in titles if (findings["rule"] == rule).any()][:3]
    if not there:
        return
    fig, axes = figures.new(height=2.9, ncols=len(there), squeeze=False)
    for ax, rule in zip(axes[0], there, strict=True):
        found = findings[findings["rule"] == rule].set_index("window").reindex(list(windows))
        x = np.arange(len(windows))
        ax.axhline(found["usual"].median(), color=figures.GREY, lw=1, ls="--", label="usual")
        ax.plot(x, found["value"], color=figures.BLUE, lw=1)
        for light in LIGHTS:
            at = (found["light"] == light).to_numpy()
            ax.scatter(x[at], found["value"][at], s=30, color=COLOURS[light], label=light,
                       edgecolors="#555555", lw=0.5, zorder=3)  # fmt: skip
        if rule == "coverage":
            ax.yaxis.set_major_formatter(PercentFormatter(1))
        _name_windows(ax, windows, most=6)
        ax.set(title=titles[rule])
    handles, names = axes[0][0].get_legend_handles_labels()
    fig.legend(handles, names, loc="outside lower center", ncols=4)
    said = []
    for rule in there:
        values = findings[findings["rule"] == rule]["value"]
        ends = [significant(values.iloc[i], 2) for i in (0, -1)]
        said.append(f"{titles[rule]} from {ends[0]} in the first to {ends[1]} in the last window")
    figures.show(fig, f"Three lines over the windows: {'; '.join(said)}.", colours=64)


def plot_estimate(table: pd.DataFrame, usual: float, label: str) -> None:
    """The mean loss of each window: estimated, and real with its interval.

    Parameters
    ----------
    table : DataFrame
        From `truefit.monitoring.estimate.by_window`.
    usual : float
        The mean loss of the test rows.
    label : str
    """
    x = np.arange(len(table))
    fig, ax = figures.new(height=3.0)
    ax.axhline(usual, color=figures.GREY, lw=1, ls="--", label="test rows")
    ax.plot(x, table["estimated"], "o-", ms=4, color=figures.ORANGE, label="estimated")
    known = table["real"].notna().to_numpy()
    ends = [table["real"] - table["low"], table["high"] - table["real"]]
    ax.errorbar(x[known], table["real"][known], [e[known] for e in ends], fmt="s", ms=4,
                color=figures.BLUE, lw=1, capsize=2, label="real, with interval")  # fmt: skip
    _name_windows(ax, list(table.index))
    ax.set_ylim(bottom=0)
    ax.set(ylabel=label, title="What was expected before the labels came, and what they said")
    fig.legend(loc="outside lower center", ncols=3)
    said = f"The estimate goes from {significant(table['estimated'].iloc[0], 2)} to "
    said += significant(table["estimated"].iloc[-1], 2)
    if known.any():
        real = table["real"][known]
        said += f", the real one from {significant(real.iloc[0], 2)} to "
        said += significant(real.iloc[-1], 2)
    figures.show(fig, f"{said}.", colours=64)


def _name_windows(ax: Axes, windows: Sequence[str], most: int = MOST_LABELS) -> None:
    step = -(-len(windows) // most)
    names = [str(name)[:14] for name in windows][::step]
    turned = {"rotation": 45, "ha": "right"} if sum(map(len, names)) > 80 * most / 16 else {}
    ax.set_xticks(range(0, len(windows), step), names, fontsize=8, **turned)
    ax.set_xlabel("window")
