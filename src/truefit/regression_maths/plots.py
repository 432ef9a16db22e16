"""The figures of the notebook on the mathematics of regression."""

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from truefit import figures
from truefit.figures import BLUE, GREY, ORANGE, SKY, new
from truefit.regression_maths.descent import loss
from truefit.regression_maths.penalised import Path

GREEN = "#009E73"
show = partial(figures.show, colours=48)  # these are drawings of lines


def line_with_residuals(x: np.ndarray, y: np.ndarray, line: np.ndarray, axes: tuple) -> None:
    """Points, a line given by its value at each x, and the residuals as upright strokes."""
    figure, ax = new()
    ax.vlines(x, y, line, color=ORANGE, linewidth=1, label="residual")
    ax.plot(x, y, "o", color=BLUE, markersize=4, label="house")
    order = np.argsort(x)
    ax.plot(x[order], line[order], color=GREY, label="line")
    ax.set(xlabel=axes[0], ylabel=axes[1], title="Each residual is an upright distance")
    ax.legend()
    show(figure, f"{len(x)} points around a rising line, each tied to it by an upright stroke.")


def loss_bowl(X: np.ndarray, y: np.ndarray, spans: tuple, labels: tuple, title: str) -> None:
    """Contours of the RSS over two coefficients, and the lowest point."""
    figure, ax = new(height=3.8)
    _contours(ax, X, y, spans)
    best = np.linalg.lstsq(X, y)[0]
    ax.plot(*best, "o", color=ORANGE, label="lowest point")
    ax.set(xlabel=labels[0], ylabel=labels[1], title=title)
    ax.legend(frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    show(
        figure, f"Closed rings around one lowest point: the loss over {labels[0]} and {labels[1]}."
    )


def loss_valley(X: np.ndarray, y: np.ndarray, spans: tuple, solutions: Mapping) -> None:
    """Contours of a loss whose lowest points form a line, and some solutions on it."""
    figure, ax = new(height=3.8)
    _contours(ax, X, y, spans)
    places = np.array(list(solutions.values()))
    ax.axline(places[0], places[1], color=BLUE, linewidth=2, label="the valley's floor")
    for marker, (name, place) in zip("os+", solutions.items(), strict=True):
        ax.plot(*place, marker, color=ORANGE, fillstyle="none", markersize=9, label=name)
    ax.set(xlim=spans[0], ylim=spans[1])
    ax.set(
        xlabel="coefficient of area, dollars per square foot",
        ylabel="coefficient of rooms, dollars per room",
        title="No bowl but a valley: every point on its floor fits alike",
    )
    ax.legend(frameon=True, facecolor="white", edgecolor="none", framealpha=1)
    show(figure, "Contours that run straight and parallel; the named solutions lie on one line.")


def _contours(ax: Axes, X: np.ndarray, y: np.ndarray, spans: tuple) -> None:
    first, second = (np.linspace(*span, 120) for span in spans)
    places = np.stack(np.meshgrid(first, second), axis=-1).reshape(-1, 2)
    heights = loss(X, y, places, scaling="mean").reshape(len(second), len(first))
    lowest = heights.min()
    levels = lowest + (heights.max() - lowest) * np.linspace(0, 1, 8)[1:] ** 2
    ax.contour(first, second, heights, levels=levels, colors=GREY, linewidths=0.8)


def projection(column: np.ndarray, y: np.ndarray) -> None:
    """A target with two samples, its projection onto one column, and the residual."""
    figure, ax = new(5.2, 3.8)
    fitted = column * (column @ y) / (column @ column)
    ends = np.outer([-0.2, 1.4], column * np.linalg.norm(fitted) / np.linalg.norm(column))
    ax.plot(ends[:, 0], ends[:, 1], color=GREY, label="all multiples of the column")
    arrow = {"arrowstyle": "->", "linewidth": 2}
    for start, end, colour in ((0 * y, y, BLUE), (0 * y, fitted, GREEN), (fitted, y, ORANGE)):
        ax.annotate("", end, start, arrowprops=arrow | {"color": colour})
    ax.annotate("y", y, xytext=(4, 4), textcoords="offset points", color=BLUE)
    ax.annotate("Xβ, the shadow", fitted, xytext=(8, -10), textcoords="offset points", color=GREEN)
    ax.annotate("residual", (fitted + y) / 2, xytext=(6, 2), textcoords="offset points")
    ax.set(xlabel="first sample", ylabel="second sample", title="Least squares drops a plumb line")
    ax.set(xlim=(-0.5, 3.2), ylim=(-0.4, 2.9))
    ax.set_aspect("equal")
    ax.legend(loc="lower right")
    show(figure, "The residual meets the line of the column's multiples at a right angle.")


def digits(frame: pd.DataFrame) -> None:
    """Correct digits of solvers against the condition number, and the two rules."""
    figure, ax = new(height=4)
    for marker, name in zip("os^vD", frame, strict=False):
        ax.plot(frame.index, frame[name], marker=marker, markersize=4, label=name)
    exponent = np.log10(frame.index.to_numpy())
    rules = {"16 − log κ": 16 - exponent, "16 − 2 log κ": 16 - 2 * exponent}
    for style, (name, rule) in zip((":", "--"), rules.items(), strict=True):
        ax.plot(frame.index, np.maximum(rule, 0), style, color=GREY, label=name)
    ax.set_xscale("log")
    ax.set(xlabel="condition number κ", ylabel="correct digits", ylim=(-0.5, 17.5))
    ax.set_title("What each way of solving keeps")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(
        figure,
        "The normal equations and Cholesky lose two digits for each power of ten of the condition "
        "number, QR and SVD one, and least_squares none.",
    )


def loss_by_step(excess: Mapping[str, np.ndarray], title: str, every: int = 1) -> None:
    """The loss above its minimum for several ways down, at every so manyth step."""
    figure, ax = new()
    for style, (name, values) in zip(("-", "--", ":", "-."), excess.items(), strict=False):
        steps, shown = np.arange(0, len(values), every), values[::every]
        # What is lower is nothing but rounding.
        ax.plot(steps, np.where(shown > 1e-13 * values[0], shown, np.nan), style, label=name)
    ax.set_yscale("log")
    ax.set(xlabel="step", ylabel="loss above the minimum", title=title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    names = "; ".join(excess)
    show(figure, f"Curves of the loss above its minimum on a logarithmic scale, for {names}.")


def paths(
    X: np.ndarray, y: np.ndarray, ways: Mapping[str, np.ndarray], spans: tuple, title: str
) -> None:
    """The ways of several methods over the contours of the loss."""
    figure, ax = new(height=4.2)
    _contours(ax, X, y, spans)
    widths = (0.8, 1.2, 2)  # what comes later lies on top
    for marker, width, (name, path) in zip("os^", widths, ways.items(), strict=True):
        ax.plot(*path.T, marker=marker, markersize=2.5 * width, linewidth=width, label=name)
    ax.plot(*next(iter(ways.values()))[0], "kX", markersize=8, label="start")
    ax.plot(*np.linalg.lstsq(X, y)[0], "k*", markersize=10, label="minimum")
    ax.set(xlabel="first coefficient", ylabel="second coefficient", title=title)
    ax.set(xlim=spans[0], ylim=spans[1])
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(figure, f"Paths over the contours of the loss towards its minimum: {', '.join(ways)}.")


def bands(x: np.ndarray, y: np.ndarray, grid: np.ndarray, shown: pd.DataFrame, axes: tuple) -> None:
    """A fitted line with the interval of its mean and the interval of a new value."""
    figure, ax = new()
    ax.fill_between(
        grid, shown["new_low"], shown["new_high"], color=SKY, alpha=0.25, label="a new house"
    )
    ax.fill_between(
        grid, shown["mean_low"], shown["mean_high"], color=BLUE, alpha=0.4, label="the mean"
    )
    ax.plot(grid, shown["fitted"], color=BLUE)
    ax.plot(x, y, "o", color=GREY, markersize=3)
    ax.set(xlabel=axes[0], ylabel=axes[1], title="Sure of the line, less sure of a house")
    ax.legend(loc="upper left")
    show(figure, "A narrow band around the line, for the mean, inside a wide one, for a new house.")


def influence(leverage: np.ndarray, residuals: np.ndarray, cook: np.ndarray) -> None:
    """Studentised residuals against leverage; the area of a point is its Cook's distance."""
    figure, ax = new()
    ax.scatter(leverage, residuals, s=12 + 900 * cook / cook.max(), alpha=0.5, color=BLUE)
    worst = int(np.argmax(cook))
    ax.annotate(
        "most influential",
        (leverage[worst], residuals[worst]),
        xytext=(-12, 22),
        textcoords="offset points",
        ha="right",
        arrowprops={"arrowstyle": "-", "color": GREY},
    )
    ax.axhline(0, color=GREY, linewidth=0.8)
    ax.margins(0.12)
    ax.set(xlabel="leverage", ylabel="studentised residual", title="Influence needs both")
    show(figure, "Bubbles grow with leverage and with the size of the residual.")


def coin(theta: np.ndarray, curves: Mapping[str, np.ndarray], marks: Mapping[str, float]) -> None:
    """Prior, likelihood and posterior of a coin's chance of heads, each scaled to reach 1."""
    figure, ax = new()
    for style, (name, values) in zip((":", "--", "-"), curves.items(), strict=True):
        ax.plot(theta, values / values.max(), style, label=name)
    for marker, (name, place) in zip("ovs", marks.items(), strict=True):
        ax.plot([place, place], [0, 1], color=GREY, linewidth=1)
        label = f"{name}, {place:.3g}"
        ax.plot(place, 0, marker, color="k", clip_on=False, zorder=3, label=label)
    ax.set(xlabel="chance of heads θ", ylabel="relative to its highest value", ylim=(0, 1.05))
    ax.set_title("Three throws, three answers")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(
        figure,
        "The likelihood rises to its end at 1; the posterior peaks between it and the prior.",
    )


def bias_variance(frame: pd.DataFrame) -> None:
    """The parts of ridge's error over alpha."""
    figure, ax = new()
    ax.plot(frame.index, frame["bias2"], "--", color=ORANGE, label="squared bias")
    ax.plot(frame.index, frame["variance"], ":", color=BLUE, label="variance")
    ax.plot(frame.index, frame["error"], color=GREEN, label="their sum")
    ax.axvline(frame["error"].idxmin(), color=GREY, linewidth=1, label="smallest error")
    ax.set_xscale("log")
    ax.set(
        xlabel="penalty alpha",
        ylabel="squared units of y",
        title="A little bias buys a lot less variance",
        ylim=(0, 1.3 * frame["error"].iloc[0]),
    )
    ax.legend()
    show(figure, "Bias rises with the penalty, variance falls, and their sum has a lowest point.")


def coefficient_paths(path: Path, names: Sequence[str], title: str) -> None:
    """Coefficients over the penalty, for columns of standard deviation 1."""
    figure, ax = new(height=4)
    for j, name in enumerate(names):
        style = ("-", "--", ":", "-.")[j % 4]
        ax.plot(path.alphas, path.coef[:, j], style, label=name)
    ax.set_xscale("log")
    ax.invert_xaxis()
    ax.set(
        xlabel="penalty alpha, from strong to weak",
        ylabel="progress of disease per standard deviation",
    )
    ax.set_title(title)
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1), fontsize=8)
    show(
        figure, "Lines of coefficients that leave zero as the penalty falls; some come back to it."
    )


def chances(x: np.ndarray, y: np.ndarray, grid: np.ndarray, p: np.ndarray, label: str) -> None:
    """A logistic curve over its data; shares by tenths of the data beside it."""
    figure, ax = new()
    ax.plot(x, y, "|", color=GREY, markersize=8, label="tumour")
    tenths = np.array_split(np.argsort(x), 10)
    ax.plot(
        [x[t].mean() for t in tenths],
        [y[t].mean() for t in tenths],
        "o",
        color=ORANGE,
        label="share in a tenth of them",
    )
    ax.plot(grid, p, color=BLUE, label="fitted chance")
    ax.set(xlabel=label, ylabel="chance of malignant", title="A chance that stays between 0 and 1")
    ax.legend(loc="center right")
    show(figure, "An S-shaped curve from 0 to 1 that follows the shares seen in the data.")


def losses() -> None:
    """The losses of classification over the margin, and those of regression over the residual."""
    figure, (left, right) = new(height=3.6, ncols=2)
    margin, residual = np.linspace(-2, 3, 300), np.linspace(-3, 3, 300)
    left.plot(margin, np.logaddexp(0, -margin) / np.log(2), label="log-loss / log 2 (logistic)")
    left.plot(margin, np.maximum(0, 1 - margin), "--", label="hinge (SVM)")
    left.plot(margin, (1 - margin) ** 2, ":", label="squared")
    left.set(xlabel="margin s·η", ylabel="loss", ylim=(0, 4), title="Classification")
    right.plot(residual, residual**2, ":", label="squared")
    right.plot(residual, np.abs(residual), label="absolute")
    right.plot(residual, np.maximum(0, np.abs(residual) - 1), "--", label="ε-insensitive, ε = 1")
    right.set(xlabel="residual", ylim=(0, 4), title="Regression")
    for ax in (left, right):
        ax.legend(fontsize=8)
    show(
        figure,
        "Log-loss and hinge fall with the margin, the squared loss rises again beyond 1; of the "
        "losses of regression, the ε-insensitive one is flat around 0.",
    )


def boundaries(
    X: np.ndarray, y: np.ndarray, lines: Mapping, support: np.ndarray, labels: tuple
) -> None:
    """Two classes, the boundaries of several linear classifiers, and the support vectors."""
    figure, ax = new(height=4)
    for value, marker, colour, name in ((0, "o", SKY, "benign"), (1, "^", ORANGE, "malignant")):
        ax.plot(*X[y == value].T, marker, color=colour, markersize=4, label=name)
    ax.plot(*support.T, "o", color=GREY, fillstyle="none", markersize=9, label="support vector")
    spans = np.array([X.min(axis=0), X.max(axis=0)]).T
    first = np.linspace(*spans[0], 50)
    for style, (name, (intercept, coef)) in zip(("-", "--", ":"), lines.items(), strict=True):
        ax.plot(first, -(intercept + coef[0] * first) / coef[1], style, linewidth=2, label=name)
    ax.set(ylim=spans[1], xlabel=labels[0], ylabel=labels[1], title="One set of data, three losses")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    show(figure, "Two classes of points and three nearly parallel boundaries between them.")
