"""Figures of a winner's errors."""

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from truefit import figures
from truefit.metrics import truth
from truefit.task import BinaryClassification, Regression


def plot_residuals(y: pd.Series, p: np.ndarray, case: Regression) -> None:
    """Prediction against truth, and residual against prediction."""
    y, label = truth(y, case), case.label(case.target)
    with np.errstate(divide="ignore", over="ignore"):  # a prediction of 0, or beyond all numbers
        residual = case.errors(y, p)
    share = float(np.mean(np.abs(p - y) < 0.1 * np.abs(y)))
    words = (
        f"Left, {len(y)} predictions against the truth; right, residuals against predictions, "
        f"with a standard deviation of {residual.std():.3g}. {share:.0%} lie within 10 percent."
    )
    y, p, residual = (values[figures.some(len(y))] for values in (y, p, residual))
    fig, (left, right) = figures.new(height=3.3, ncols=2)
    left.scatter(p, y, s=8, alpha=0.5, linewidths=0)
    ends = [min(p.min(), y.min()), max(p.max(), y.max())]
    left.plot(ends, ends, color=figures.ORANGE, lw=1)
    left.set(xlabel=f"predicted {label}", ylabel=f"actual {label}", title="On the line is right")
    right.scatter(p, residual, s=8, alpha=0.5, linewidths=0)
    right.axhline(0, color=figures.ORANGE, lw=1)
    right.set(
        xlabel=f"predicted {label}",
        ylabel=case.distance_words if case.log_target else f"{case.distance_words} {label}",
        title="No pattern should be left",
    )
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_major_formatter(lambda v, _: f"{v:,.10g}")
        axis.set_major_locator(MaxNLocator(5))
    figures.show(fig, words)


def plot_probabilities(y: pd.Series, p: np.ndarray, case: BinaryClassification) -> None:
    """The calibration curve and the precision-recall curve."""
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import precision_recall_curve

    actual = truth(y, case)
    happened, said = calibration_curve(actual, p, n_bins=10, strategy="quantile")
    precision, recall, _ = precision_recall_curve(actual, p)
    fig, (left, right) = figures.new(height=3.3, ncols=2)
    left.plot([0, 1], [0, 1], color=figures.GREY, lw=1, ls="--", label="perfectly calibrated")
    left.plot(said, happened, "o-", label="winner, a tenth of the rows each")
    left.set(
        xlabel=f"{case.prediction_words}, as predicted",
        ylabel=f"share that turned out {case.positive}",
        title="Calibration",
    )
    left.legend(loc="upper left")
    right.plot(recall, precision, label="winner")
    right.axhline(actual.mean(), color=figures.GREY, lw=1, ls="--", label="by chance")
    right.set(xlabel="recall", ylabel="precision", title="Precision and recall", ylim=(0, 1.02))
    right.legend(loc="upper right")
    gap = float(np.abs(said - happened).max())
    figures.show(
        fig,
        f"Left, the calibration curve, at most {gap:.2f} from the diagonal; right, the "
        f"precision-recall curve, above the base rate of {actual.mean():.2f}.",
    )
