"""Why answers take as long as they do: a queue, simulated and by formula, and what was measured.

The notebook on serving shows it; the service itself imports nothing from here.
"""

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axis import Axis

from truefit import figures, project
from truefit.digits import significant

BENCHMARK = ("benchmarks", "serving.json")
BATCHES = 50  # of arrivals, whose means say how sure the mean of all is
OWN = "Truefit"  # what the benchmark calls this service
TICKS = (1, 10, 100, 1000, 10_000, 100_000)

# A queue with one server. The unit of time is what serving one request takes on average.


def simulate(utilisation: float, arrivals: int, seed: int, *, constant: bool = False) -> np.ndarray:
    """How long each request is in the system, waiting and being served.

    Requests come independently of each other and are served one at a time, in the order they came.
    A request waits as long as the one before it did, plus the time that one was served, minus the
    time between the two (Lindley, The Theory of Queues with a Single Server, 1952).

    Parameters
    ----------
    utilisation : float
        The share of time in which the server is busy: between 0 and 1.
    arrivals : int
    seed : int
    constant : bool
        Whether each request takes equally long to serve, rather than an exponential time.

    Returns
    -------
    ndarray of shape (arrivals,)
        In mean service times.
    """
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1 / utilisation, arrivals)
    service = np.ones(arrivals) if constant else rng.exponential(1.0, arrivals)
    path = np.concatenate([[0.0], np.cumsum(service[:-1] - gaps[1:])])
    return path - np.minimum.accumulate(path) + service


def mean_time(utilisation: float) -> float:
    """The mean time in the system of an M/M/1 queue, in mean service times."""
    return 1 / (1 - utilisation)


def quantile_time(utilisation: float, q: float) -> float:
    """A quantile of the time in the system of an M/M/1 queue, which is exponential."""
    return -math.log(1 - q) * mean_time(utilisation)


def standard_error(times: np.ndarray) -> float:
    """How sure the mean of times is that depend on each other, from the means of long batches."""
    means = times[: len(times) // BATCHES * BATCHES].reshape(BATCHES, -1).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(BATCHES))


def compare_queue(utilisations: Sequence[float], arrivals: int, seed: int) -> pd.DataFrame:
    """The simulated queue beside the formulas.

    Returns
    -------
    DataFrame
        Indexed by utilisation: ``formula``, ``simulated`` and ``error``, the mean time, that of the
        simulation and its standard error; ``p99_formula`` and ``p99_simulated``.
    """
    rows = {}
    for utilisation in utilisations:
        times = simulate(utilisation, arrivals, seed)
        mean, error = times.mean(), standard_error(times)
        p99 = quantile_time(utilisation, 0.99), np.quantile(times, 0.99)
        rows[utilisation] = (mean_time(utilisation), mean, error, *p99)
    columns = ["formula", "simulated", "error", "p99_formula", "p99_simulated"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def plot_queue(compared: pd.DataFrame) -> None:
    """Time in the system against utilisation, by formula and simulated."""
    fig, ax = figures.new(height=3.2)
    grid = np.linspace(0.02, 0.95, 200)
    ax.plot(grid, [quantile_time(u, 0.99) for u in grid], color=figures.ORANGE, label="p99")
    ax.plot(grid, [mean_time(u) for u in grid], color=figures.BLUE, label="mean")
    dots = {"ls": "", "marker": "o", "ms": 5}
    ax.plot(compared.index, compared["p99_simulated"], color=figures.ORANGE, **dots)
    ax.plot(compared.index, compared["simulated"], color=figures.BLUE, **dots, label="simulated")
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set(
        xlabel="utilisation of the server",
        ylabel="time in the system, service times",
        title="The last tenth of a server costs the most patience",
    )
    ax.legend()
    said = "; ".join(
        f"at {u:.0%} busy {r['formula']:.1f} and {r['p99_formula']:.1f}"
        for u, r in compared.iterrows()
    )
    figures.show(
        fig, f"Mean and 99th percentile of the time in the system both rise: {said}.", colours=48
    )


def chance_of_a_slow_one(asked: int | np.ndarray, q: float = 0.99) -> float | np.ndarray:
    """The chance that the slowest of independent answers is beyond the q-quantile of one."""
    return 1 - q**asked


def plot_fan_out(most: int = 100) -> None:
    """The chance of a slow page against the number of services that it asks."""
    n = np.arange(1, most + 1)
    fig, ax = figures.new(height=2.6)
    ax.plot(n, chance_of_a_slow_one(n), color=figures.BLUE)
    for some in (10, 50):
        chance = chance_of_a_slow_one(some)
        ax.plot(some, chance, "o", color=figures.ORANGE)
        ax.annotate(f"{some}: {chance:.0%}", (some, chance), (6, -12), textcoords="offset points")
    ax.yaxis.set_major_formatter("{x:.0%}")
    ax.set(
        xlabel="services that one page asks",
        ylabel="pages that wait for a p99",
        title="What is rare for one service is common for a page",
    )
    said = ", ".join(f"{chance_of_a_slow_one(k):.0%} with {k}" for k in (1, 10, 50, 100))
    figures.show(fig, f"The share of pages that meet a slow answer rises: {said}.", colours=48)


# What was measured: a report must not measure a time


def measured() -> dict:
    """The committed results of ``make bench-serving``; empty if there are none."""
    file = project.path(*BENCHMARK)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def layer_costs(found: dict) -> pd.DataFrame:
    """Microseconds for one row, by layer: ``p50`` and ``p99``."""
    rows = {n: v for n, v in found.get("layers", {}).items() if isinstance(v, dict)}
    return _frame(rows, ["p50", "p99"])


def under_load(found: dict) -> pd.DataFrame:
    """Microseconds by ``server`` and ``connections``: ``p50``, ``p90``, ``p99``; and ``rate``."""
    rows = [
        {"server": name, "connections": int(connections), **values}
        for name, of_server in found.get("load", {}).items()
        if isinstance(of_server, dict)
        for connections, values in of_server.items()
    ]
    columns = ["server", "connections", "p50", "p90", "p99", "rate"]
    return pd.DataFrame(rows, columns=columns).set_index(columns[:2]).astype(float)


def batching(found: dict) -> pd.DataFrame:
    """Microseconds for one row by server: alone in its request (``one``) and of many (``many``)."""
    model = found.get("load", {}).get("model")
    rows = {
        name: {
            "one": 1e6 / seen["requests per second"],
            "many": 1e6 / seen["rows per second"],
        }
        for name, seen in found.get("models", {}).get(model, {}).items()
    }
    return _frame(rows, ["one", "many"])


def _frame(rows: dict, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)


def plot_layers(costs: pd.DataFrame) -> None:
    """What each layer takes for one row."""
    if costs.empty:
        return
    shown = costs[::-1]
    fig, ax = figures.new(height=0.9 + 0.34 * len(shown))
    ax.barh(range(len(shown)), shown["p50"], color=figures.SKY, label="half of the calls (p50)")
    ax.plot(shown["p99"], range(len(shown)), "|", ms=12, mew=2, color=figures.ORANGE,
            label="99 of 100 calls (p99)")  # fmt: skip
    ax.set_yticks(range(len(shown)), shown.index)
    ax.set_xscale("log")
    _plain_ticks(ax.xaxis, shown["p50"].min() / 2, shown["p99"].max())
    ax.set(xlabel="microseconds for one row", title="What each layer costs")
    fig.legend(loc="outside lower center", ncols=2)
    said = "; ".join(f"{name} {p50:,.0f}" for name, p50 in costs["p50"].items())
    figures.show(fig, f"Median microseconds for one row: {said}.", colours=48)


def in_words(costs: pd.DataFrame) -> str:
    """The share of the pipeline in what a client waits for, here and behind Flask."""
    layers = {"ONNX Runtime: run": OWN, "scikit-learn: predict for a DataFrame": "Flask"}
    said = [
        f"behind {server} the pipeline takes {significant(costs.loc[layer, 'p50'], 2)} of "
        f"{significant(costs.loc[whole, 'p50'], 2)} µs"
        for layer, server in layers.items()
        if {layer, whole := f"{server} over HTTP: a prediction"} <= set(costs.index)
    ]
    return f"Of a prediction over HTTP, {', and '.join(said)}." if said else "Nothing was measured."


def plot_load(load: pd.DataFrame) -> None:
    """Median and p99 by the number of connections, for each server."""
    if load.empty:
        return
    fig, ax = figures.new(height=3.2)
    names = load.index.unique("server")
    for name, colour in zip(names, (figures.GREY, figures.BLUE), strict=False):
        part = load.loc[name]
        ax.plot(part.index, part["p99"], "o-", color=colour, label=f"{name}, p99")
        ax.plot(part.index, part["p50"], "o--", color=colour, label=f"{name}, p50")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log")
    counts = load.index.unique("connections")
    ax.set_xticks(counts, [str(c) for c in counts])
    _plain_ticks(ax.yaxis, load["p50"].min(), load["p99"].max())
    ax.set(
        xlabel="clients that ask without pause",
        ylabel="microseconds",
        title="More clients: the same work, more waiting",
    )
    ax.legend(fontsize="small")
    last = load.groupby("server", sort=False).last()
    said = "; ".join(f"{n} {r['p50']:,.0f} and {r['p99']:,.0f}" for n, r in last.iterrows())
    figures.show(
        fig,
        f"Median and p99 rise with the clients. In microseconds, with {counts.max()} clients: "
        f"{said}.",
        colours=48,
    )


def _plain_ticks(axis: Axis, low: float, high: float) -> None:
    """Powers of ten without exponents."""
    ticks = [t for t in TICKS if low / 10 < t < high * 10]
    axis.set_ticks(ticks, labels=[f"{t:,}" for t in ticks])
    axis.set_ticks([], minor=True)
