"""The scale on which effects on a prediction add up, and the way back.

Of an amount that is learned as its logarithm, effects add up as logarithms: each multiplies. Of a
probability they add up as log-odds, and multiply the odds. Of any other number they add up as they
are.
"""

import math
from typing import ClassVar

import numpy as np

from truefit.digits import significant

EDGE = 1e-6  # a probability is taken for no closer to 0 or 1
PROBABILITIES = [0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99]


class Scale:
    """The target's own scale; the others extend it."""

    multiplies: ClassVar[bool] = False  # whether an effect is a factor, and so has no unit
    # What is large on it, if no prediction is; a number has no such thing.
    unit: ClassVar[float] = 0.0

    def to(self, p: np.ndarray) -> np.ndarray:
        """Predictions in the target's unit, or probabilities, on this scale; of the same shape."""
        return np.asarray(p, dtype=float)

    def back(self, values: np.ndarray) -> np.ndarray:
        """The way back from `to`."""
        return np.asarray(values, dtype=float)

    def ticks(self, low: float, high: float) -> list[float]:
        """Round values, in the target's unit, for an axis between two ends on this scale.

        Empty if the axis finds its own.
        """
        return []

    def tick_label(self, value: float) -> str:
        """How such a value is written."""
        return significant(value, 3)


class Logarithm(Scale):
    """Natural logarithms of a target above 0."""

    multiplies = True
    unit = 1.0

    def to(self, p: np.ndarray) -> np.ndarray:
        """Logarithms; what is not above 0, or infinite, counts as the nearest float that is."""
        ends = np.finfo(float)
        return np.log(np.clip(np.asarray(p, dtype=float), ends.tiny, ends.max))

    def back(self, values: np.ndarray) -> np.ndarray:
        """Exponentials."""
        return np.exp(np.asarray(values, dtype=float))

    def ticks(self, low: float, high: float) -> list[float]:
        """See `round_values`."""
        return round_values(*np.exp([low, high]))


class LogOdds(Scale):
    """Log-odds of a probability, taken for no closer to 0 or 1 than 10⁻⁶.

    Examples
    --------
    >>> log_odds = LogOdds().to([0.5, 0.8])
    >>> log_odds.round(3).tolist(), LogOdds().back(log_odds).round(3).tolist()
    ([0.0, 1.386], [0.5, 0.8])
    """

    multiplies = True
    unit = 1.0

    def to(self, p: np.ndarray) -> np.ndarray:
        """Log-odds."""
        p = np.clip(np.asarray(p, dtype=float), EDGE, 1 - EDGE)
        return np.log(p / (1 - p))

    def back(self, values: np.ndarray) -> np.ndarray:
        """Probabilities."""
        from scipy.special import expit

        return expit(np.asarray(values, dtype=float))

    def ticks(self, low: float, high: float) -> list[float]:
        """Probabilities that people know."""
        return [p for p in PROBABILITIES if low <= self.to(np.array(p)) <= high]

    def tick_label(self, value: float) -> str:
        """A probability as it is."""
        return f"{value:g}"


PLAIN, LOGARITHM, LOG_ODDS = Scale(), Logarithm(), LogOdds()


def round_values(low: float, high: float) -> list[float]:
    """Some round numbers from ``low`` to ``high``, for an axis of ratios; none below 0.

    Examples
    --------
    >>> round_values(70, 1500)
    [100.0, 200.0, 500.0, 1000.0]
    """
    if not 0 < low <= high < math.inf:
        return []
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for heads in ([1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7], []):
        found = [head * 10.0**ten for ten in tens for head in heads]
        found = [v for v in found or _evenly(low, high) if low <= v <= high]
        if len(found) >= 4:
            break
    return found[:: math.ceil(len(found) / 10) or 1]


def _evenly(low: float, high: float) -> np.ndarray:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(6).tick_values(low, high)
