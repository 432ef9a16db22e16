"""How sure is a single prediction: intervals for numbers, calibration and costs for classes.

Both learn from out-of-fold predictions: of each training row, made by a model that was tuned and
fitted on the other folds. So no row judges a model that has seen it, and the test rows stay free
to check the promise.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter
from scipy.stats import betabinom, binom, norm
from scipy.stats.distributions import rv_frozen
from sklearn.base import BaseEstimator, clone

from truefit import figures
from truefit.case import Case
from truefit.digits import agreed, significant
from truefit.evaluation.explain import on_scale
from truefit.metrics import AT_ONCE, LABELS, predictions, truth
from truefit.project import InputError
from truefit.scales import round_values
from truefit.task import BinaryClassification
from truefit.training import Recalibration, log_odds_lines, recalibrate
from truefit.verdicts import Conclusion

FEWEST_ROWS = 10  # values of a slice with fewer rows are pooled
# Decimals of a probability that count. Beyond them processors differ, and a tie must stay a tie.
DECIMALS = 9
CALIBRATION_LABELS = {
    "slope": "calibration slope",
    "intercept": "calibration intercept",
    "ece": "expected calibration error",
    "brier": LABELS["brier"],
}


# ---------------------------------------------------------------- numbers: conformal prediction


def conformal_width(y: pd.Series, oof: np.ndarray, case: Case, *, confidence: float) -> float:
    """How far a new truth lies from its prediction at most, with the confidence asked.

    It is the ceil((n + 1) · confidence)-th smallest of the n absolute out-of-fold residuals. Had
    the residuals been made by the very model that predicts, on rows that it has not seen, a new
    row would lie within that width with at least this probability, whatever the distribution and
    the model: its residual is equally likely to have each rank among the n + 1 (split conformal
    prediction; Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World, 2005; Lei and
    others, Distribution-Free Predictive Inference for Regression, JASA 113, 2018).

    Here the residuals come from the models of the folds (cross-conformal; Vovk, Cross-conformal
    predictors, Annals of Mathematics and Artificial Intelligence 74, 2015), and a model of all
    rows predicts. So that theorem does not apply. What is proven is weaker, and about a relative
    that predicts with the models of the folds: CV+ covers at least 2 · confidence − 1, less a
    term that shrinks with the rows (Barber and others, Predictive inference with the jackknife+,
    Annals of Statistics 49, 2021). What is true in practice: where leaving out a fold hardly
    changes a prediction, the coverage is about what was asked, and rather above it, because the
    models of the folds have seen fewer rows. `coverage` checks it on the test rows.

    The promise is for new rows on average, not for each kind of row, and holds as long as new
    rows come from where the old ones came from.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        The target of the training rows.
    oof : ndarray of shape (n_samples,)
        Their out-of-fold predictions, in the target's unit.
    confidence : float
        Of the interval, for instance 0.95.

    Returns
    -------
    float
        On the scale that the model learns on: a difference of logarithms for a logged target, so
        that the interval is p / f to p · f with f = exp(width); else in the target's unit.

    Raises
    ------
    InputError
        If there are too few rows for a finite width: 19 are needed for 95 %, 99 for 99 %.

    Examples
    --------
    >>> from truefit.task import Regression
    >>> y = pd.Series([10.0, 12.0, 9.0, 15.0])
    >>> block = Regression(table="t.csv", target="y")
    >>> conformal_width(y, np.array([11.0, 12.5, 9.0, 13.0]), block, confidence=0.8)
    2.0
    """
    found = _width(_residuals(y, oof, case), confidence)
    if not math.isfinite(found):
        needed = math.ceil(round(confidence / (1 - confidence), DECIMALS))
        raise InputError(
            f"params.yaml: an interval of {confidence:.4g} around a prediction takes at least "
            f"{needed} training rows with a finite prediction, and {case.table} gives {len(y)}; "
            "lower evaluation.confidence, or bring more rows"
        )
    return found


def _residuals(y: pd.Series, p: np.ndarray, case: Case) -> np.ndarray:
    found = np.abs(on_scale(truth(y, case), case) - on_scale(p, case))
    return np.where(np.isnan(found), np.inf, found)  # a prediction that failed is the worst


def _rank(n_samples: int, confidence: float) -> int:
    # 100 · 0.55 is a bit more than 55 in binary, which would be one rank too many.
    return math.ceil(round((n_samples + 1) * confidence, DECIMALS))


def _width(residuals: np.ndarray, confidence: float) -> float:
    rank = _rank(len(residuals), confidence)
    return float(np.sort(residuals)[rank - 1]) if rank <= len(residuals) else math.inf


def prediction_interval(p: np.ndarray, width: float, case: Case) -> tuple[np.ndarray, np.ndarray]:
    """The intervals around predictions: p / f to p · f for a logged target, else p ± width.

    Parameters
    ----------
    p : ndarray of shape (n_samples,)
        In the target's unit.
    width : float
        From `conformal_width`.

    Returns
    -------
    low, high : ndarray of shape (n_samples,)
        In the target's unit.
    """
    p = np.asarray(p, dtype=float)
    if case.logarithmic:
        with np.errstate(over="ignore"):
            return p * np.exp(-width), p * np.exp(width)
    return p - width, p + width


def shipped_interval(width: float, case: Case, confidence: float) -> dict:
    """What a service must know to put an interval around a prediction.

    Returns
    -------
    dict
        ``confidence``; ``kind``: ``factor`` (from p / width to p · width) or ``distance`` (p ±
        width); and ``width``, rounded to the digits that every machine agrees on.
    """
    kind, value = ("factor", math.exp(min(width, 700))) if case.logarithmic else ("distance", width)
    return {"confidence": confidence, "kind": kind, "width": float(f"{value:.6g}")}


def split_conformal_demo(
    model: BaseEstimator,
    train: pd.DataFrame,
    case: Case,
    *,
    confidence: float,
    share: float = 0.25,
    seed: int,
) -> float:
    """The width as the theorem has it: a part of the rows is kept away from the model.

    A clone of the model is fitted on the other rows, and the rows kept give the residuals. The
    promise is then exact, for this clone; the price is that it has learned from fewer rows.

    Parameters
    ----------
    train : DataFrame
        Training rows with their target.
    share : float
        Of the rows, kept for the residuals.
    seed : int
        Of the choice of rows.

    Returns
    -------
    float
        As `conformal_width`; infinite if too few rows are kept.
    """
    order = np.random.default_rng(seed).permutation(len(train))
    kept = max(1, round(share * len(train)))
    calibration, fit = train.iloc[np.sort(order[:kept])], train.iloc[np.sort(order[kept:])]
    fitted = clone(model).fit(fit.drop(columns=case.target), fit[case.target])
    p = predictions(fitted, calibration.drop(columns=case.target), case)
    return _width(_residuals(calibration[case.target], p, case), confidence)


def coverage(
    y: pd.Series,
    low: np.ndarray,
    high: np.ndarray,
    case: Case,
    *,
    promised: float,
    confidence: float,
    slices: pd.DataFrame | None = None,
    calibration_rows: int | None = None,
) -> pd.DataFrame:
    """How many truths lie in their intervals, over all rows and by slice.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        The target.
    low, high : ndarray of shape (n_samples,)
        From `prediction_interval`.
    promised : float
        The coverage that was asked for.
    confidence : float
        Of the statements about the coverage.
    slices : DataFrame of shape (n_samples, n_slices), optional
        A label for each row in each slice. Values with fewer than 10 rows are pooled.
    calibration_rows : int, optional
        How many residuals the width was chosen from. Their luck is then taken into account: the
        number of rows covered is beta-binomial rather than binomial (Vovk, Conditional Validity
        of Inductive Conformal Predictors, Machine Learning 92, 2013).

    Returns
    -------
    DataFrame
        Indexed by ``all rows`` and ``slice: value``, with ``rows``, ``covered`` (a share),
        ``low`` and ``high`` (its Wilson interval), ``width`` (mean; for a logged target as a
        share of the prediction, else in the target's unit) and ``too_low``: ``yes`` if the
        coverage is below the promise beyond chance, by an exact one-sided test; over the values
        of the slices together with Holm's correction, because among many values some always
        look bad.
    """
    actual = truth(y, case)
    low, high = np.asarray(low, dtype=float), np.asarray(high, dtype=float)
    # A truth on the very end is inside, whatever the last bit says.
    slack = 1e-9 * np.maximum(np.abs(low), np.abs(high))
    inside = (low - slack <= actual) & (actual <= high + slack)
    width = high - low
    if case.logarithmic:
        width = width / np.sqrt(low) / np.sqrt(high)
    rows, chances = {}, []
    for name, member in groups(slices, len(actual)):
        n, hits = int(member.sum()), int(inside[member].sum())
        rows[name] = (n, hits / n, *wilson(hits, n, confidence), width[member].mean())
        chances.append(_chance(n, promised, calibration_rows).cdf(hits))
    found = pd.DataFrame.from_dict(
        rows, orient="index", columns=["rows", "covered", "low", "high", "width"]
    )
    found["too_low"] = _flags(chances, confidence)
    return found


def _chance(n_samples: int, promised: float, calibration_rows: int | None) -> rv_frozen:
    """The distribution of how many of some rows are covered if the promise is kept exactly."""
    if calibration_rows is None:
        return binom(n_samples, promised)
    rank = min(_rank(calibration_rows, promised), calibration_rows)
    return betabinom(n_samples, rank, calibration_rows + 1 - rank)


def _flags(chances: list[float], confidence: float) -> list[Conclusion]:
    """``yes`` where chance is ruled out: for all rows by itself, for the values by Holm's rule.

    Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian Journal of
    Statistics 6, 1979. The `multipletests` of statsmodels says the same and collects the garbage
    of the whole process at each call, which takes a third of a second.
    """
    every, *parts = chances
    flags, left = [Conclusion.NO] * len(parts), len(parts)
    for i in np.argsort(np.round(parts, 12), kind="stable"):
        if parts[i] * left >= 1 - confidence:
            break
        flags[i], left = Conclusion.YES, left - 1
    return [Conclusion.YES if every < 1 - confidence else Conclusion.NO, *flags]


def groups(slices: pd.DataFrame | None, n_samples: int) -> Iterator[tuple[str, np.ndarray]]:
    """All rows, then each value of each slice, with a name and the rows as ndarray of bool.

    The rows of values with fewer than 10 rows are pooled under one name. An empty label is
    ``missing``. A slice of a single value says nothing beyond all rows, and is left out.
    """
    yield "all rows", np.ones(n_samples, dtype=bool)
    for column in [] if slices is None else slices.columns:
        labels = slices[column].astype(object)
        labels = labels.where(labels.notna(), "missing").astype(str).to_numpy()
        values, counts = np.unique(labels, return_counts=True)
        if len(values) < 2:
            continue
        # Labels of bands come in order of appearance in an ordered category; else alphabetically.
        dtype = slices[column].dtype
        if isinstance(dtype, pd.CategoricalDtype) and dtype.ordered:
            rank = {str(v): i for i, v in enumerate(dtype.categories)}
            order = np.argsort([rank.get(v, len(rank)) for v in values], kind="stable")
            values, counts = values[order], counts[order]
        few = values[counts < FEWEST_ROWS]
        for value in values[counts >= FEWEST_ROWS]:
            yield f"{column}: {value}", labels == value
        if len(few):
            name = few[0] if len(few) == 1 else f"others ({len(few)} values)"
            yield f"{column}: {name}", np.isin(labels, few)


def wilson(
    hits: int | np.ndarray, n_samples: int | np.ndarray, confidence: float
) -> tuple[Any, Any]:
    """Wilson's interval of a share.

    Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22, 1927.

    Parameters
    ----------
    hits, n_samples : int or ndarray
        How many of how many; at least one.

    Returns
    -------
    low, high : float or ndarray

    Examples
    --------
    >>> low, high = wilson(8, 10, confidence=0.95)
    >>> round(float(low), 3), round(float(high), 3)
    (0.49, 0.943)
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(hits, n_samples, 1 - confidence, method="wilson")
    # None of many is 0, where the last bits make it 3e-18.
    return np.round(low, 15), np.round(high, 15)


def coverage_curve(
    y_train: pd.Series,
    oof: np.ndarray,
    y: pd.Series,
    p: np.ndarray,
    case: Case,
    *,
    confidence: float,
) -> pd.DataFrame:
    """The measured coverage for each confidence that could be asked for, from 50 to 99 %.

    Parameters
    ----------
    y_train, oof : Series and ndarray of shape (n_train,)
        Targets and out-of-fold predictions of the training rows.
    y, p : Series and ndarray of shape (n_samples,)
        Targets and predictions of other rows.
    confidence : float
        Of the range that chance alone would give.

    Returns
    -------
    DataFrame
        Indexed by ``asked``, with ``covered`` and ``low`` and ``high``, between which an exact
        promise would lie by chance. A confidence that the training rows are too few for is left
        out.
    """
    calibration, tail = _residuals(y_train, oof, case), (1 - confidence) / 2
    measured, rows = _residuals(y, p, case), {}
    trace = 1e-12 * min(1.0, np.abs(on_scale(p, case)).max())  # what rounding leaves of no residual
    for asked in np.arange(50, 100) / 100:
        width = _width(calibration, asked)
        if math.isfinite(width):
            chance = _chance(len(measured), asked, len(calibration))
            ends = chance.ppf([tail, 1 - tail]) / len(measured)
            rows[asked] = (float(np.mean(measured <= width * (1 + 1e-9) + trace)), *ends)
    found = pd.DataFrame.from_dict(rows, orient="index", columns=["covered", "low", "high"])
    return found.rename_axis("asked")


def plot_coverage(curve: pd.DataFrame) -> None:
    """The confidence asked for against the share of truths inside; see `coverage_curve`."""
    fig, ax = figures.new(height=3.6)
    asked = curve.index.to_numpy(dtype=float)
    ax.fill_between(
        asked, curve["low"], curve["high"], color=figures.GREY, alpha=0.25, lw=0, label="chance"
    )
    ax.plot(asked, asked, color=figures.GREY, lw=1, ls="--", label="as promised")
    ax.plot(asked, curve["covered"], color=figures.BLUE, label="measured")
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.set(
        xlabel="confidence asked for",
        ylabel="truths inside their interval",
        title="Do the intervals keep their promise?",
    )
    ax.legend(loc="upper left")
    gap = (curve["covered"] - asked).abs()
    outside = float(np.mean((curve["covered"] < curve["low"]) | (curve["covered"] > curve["high"])))
    figures.show(
        fig,
        f"The measured coverage against the confidence asked for, from {asked.min():.0%} to "
        f"{asked.max():.0%}: at most {gap.max():.1%} from the promise, and outside of what chance "
        f"gives for {outside:.0%} of the confidences.",
    )


def plot_intervals(
    y: pd.Series,
    p: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    case: Case,
    *,
    most: int = 60,
) -> None:
    """Some predictions from the lowest to the highest, with intervals and truths.

    Parameters
    ----------
    y : Series of shape (n_samples,)
    p, low, high : ndarray of shape (n_samples,)
        In the target's unit.
    most : int
        How many rows are drawn, evenly from the lowest prediction to the highest.
    """
    actual, (p, low, high) = truth(y, case), (np.asarray(v, dtype=float) for v in (p, low, high))
    order = np.argsort(agreed(on_scale(p, case)), kind="stable")
    picked = order[np.unique(np.linspace(0, len(order) - 1, most).round().astype(int))]
    at = np.arange(len(picked))
    missed = (actual[picked] < low[picked]) | (actual[picked] > high[picked])
    fig, ax = figures.new(height=3.6)
    ax.vlines(at, low[picked], high[picked], color=figures.SKY, lw=2.5, label="interval")
    ax.plot(at, p[picked], "_", color=figures.BLUE, ms=6, mew=1.5, label="prediction")
    ax.plot(at[~missed], actual[picked][~missed], "o", color="#222222", ms=3, label="truth")
    ax.plot(
        at[missed], actual[picked][missed], "X", color=figures.ORANGE, ms=7, label="truth, missed"
    )
    if case.logarithmic:
        ax.set_yscale("log")
        ax.minorticks_off()
        ticks = round_values(low[picked].min(), high[picked].max())
        ax.set_yticks(ticks, [significant(t, 3) for t in ticks])
    else:
        ax.yaxis.set_major_formatter(lambda v, _: significant(v, 3))
    ax.set(
        xlabel=f"{len(picked)} rows, lowest prediction first",
        ylabel=case.label(case.target),
        title="Predictions with their intervals",
        xticks=[],
    )
    ax.legend(loc="upper left", ncols=2)
    figures.show(
        fig,
        f"{len(picked)} predictions from {significant(float(p[picked].min()), 3)} to "
        f"{significant(float(p[picked].max()), 3)} with their intervals; {int(missed.sum())} of "
        "the truths lie outside.",
    )


# ------------------------------------------------------------- classes: calibration and costs


def calibration_summary(
    y: pd.Series,
    p: np.ndarray,
    weights: np.ndarray,
    case: BinaryClassification,
    *,
    confidence: float,
) -> pd.DataFrame:
    """Are probabilities what they say, in four figures.

    The calibration slope and intercept are those of `fit_recalibration`, here whatever their
    sign. The expected calibration error is the mean distance between what was said and what
    happened over ten bins of equally many rows (Naeini and others, Obtaining Well Calibrated
    Probabilities Using Bayesian Binning, 2015). It is above 0 for perfect probabilities, too,
    because a share of some rows is never exactly right, and a resample adds as much again; so its
    interval is the bias-corrected one, and ``if_perfect`` says how much of it is chance.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        The target.
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class.
    weights : ndarray of shape (n_resamples + 1, n_samples)
        From `bootstrap_weights`: the first row ones.
    confidence : float
        Of the bootstrap intervals (Efron and Tibshirani, An Introduction to the Bootstrap, 1993,
        chapters 13 and 14).

    Returns
    -------
    DataFrame
        Indexed by ``slope``, ``intercept``, ``ece`` and ``brier``, with ``value``, ``low``,
        ``high`` and ``if_perfect``: what to expect where the probabilities are right.
    """
    actual, z = truth(y, case), on_scale(p, case)
    p = np.asarray(p, dtype=float)
    bins = _bins(p, 10)
    member = (bins[:, None] == np.arange(bins.max() + 1)).astype(float)
    start = tuple(log_odds_lines(actual, z, np.ones((1, len(z))), (1.0, 0.0))[0])
    parts, rows = [], max(1, AT_ONCE // len(p))
    for first in range(0, len(weights), rows):
        w = weights[first : first + rows].astype(float)
        gaps = np.abs(w @ (member * (actual - p)[:, None]))
        error, brier = gaps.sum(axis=1) / w.sum(axis=1), w @ (actual - p) ** 2 / w.sum(axis=1)
        parts.append(np.column_stack([log_odds_lines(actual, z, w, start), error, brier]))
    # Of a normal deviation with a known variance, the mean size is √(2/π) times its spread.
    spread = np.sqrt(member.T @ (p * (1 - p)))
    perfect = [1.0, 0.0, math.sqrt(2 / math.pi) * spread.sum() / len(p), float(np.mean(p - p**2))]
    found = {}
    for name, values, ideal in zip(CALIBRATION_LABELS, np.vstack(parts).T, perfect, strict=True):
        tails = np.array([(1 - confidence) / 2, (1 + confidence) / 2])
        if name == "ece":
            tails = _bias_corrected(values, tails)
        found[name] = (values[0], *np.quantile(values[1:], tails), ideal)
    return pd.DataFrame.from_dict(
        found, orient="index", columns=["value", "low", "high", "if_perfect"]
    )


def _bias_corrected(values: np.ndarray, tails: np.ndarray) -> np.ndarray:
    """The quantiles to take where resamples lie to one side of the value, as an error's do."""
    drawn, n = values[1:], len(values) - 1
    below = np.mean(drawn < values[0]) + np.mean(drawn == values[0]) / 2
    shift = norm.ppf(np.clip(below, 0.5 / n, 1 - 0.5 / n))
    return norm.cdf(2 * shift + norm.ppf(tails))


def _bins(p: np.ndarray, bins: int) -> np.ndarray:
    """The bin of each row, from 0: about equally many rows in each, equal values in one."""
    _, inverse, counts = np.unique(np.round(p, DECIMALS), return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts + 1) / 2  # the mean rank of a value, from 0
    places = np.minimum((middle / len(p) * bins).astype(int), bins - 1)
    return np.unique(places, return_inverse=True)[1][inverse]


def calibration_words(summary: pd.DataFrame) -> pd.DataFrame:
    """What `calibration_summary` found, with names for people."""
    return summary.rename(index=CALIBRATION_LABELS, columns={"if_perfect": "if perfect"})


def reliability(
    y: pd.Series,
    p: np.ndarray,
    case: BinaryClassification,
    *,
    bins: int = 10,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """What was said against what happened, in bins of about equally many rows.

    Parameters
    ----------
    y : Series of shape (n_samples,)
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class. Equal ones share a bin, so there may be fewer bins.

    Returns
    -------
    DataFrame
        One row for each bin, lowest first: ``rows``, ``said`` (the mean probability),
        ``happened`` (the share of the positive class), ``low`` and ``high`` (Wilson's interval).
    """
    actual, p = truth(y, case), np.asarray(p, dtype=float)
    by_bin = pd.DataFrame({"said": p, "happened": actual}).groupby(_bins(p, bins))
    found = by_bin.mean()
    found.insert(0, "rows", by_bin.size())
    found["low"], found["high"] = wilson(
        by_bin["happened"].sum().to_numpy(), found["rows"].to_numpy(), confidence
    )
    return found.rename(index=lambda i: i + 1)


def plot_reliability(
    y: pd.Series,
    p: np.ndarray,
    case: BinaryClassification,
    *,
    recalibration: Recalibration,
    bins: int = 10,
    confidence: float = 0.95,
) -> None:
    """What was said against what happened, before and after recalibration.

    Parameters
    ----------
    y : Series of shape (n_samples,)
        Of rows that the recalibration was not fitted on.
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class, before.
    """
    fig, axes = figures.new(height=3.4, ncols=2, sharex=True, sharey=True)
    words = []
    for ax, name, said in zip(
        axes, ("before", "after"), (p, recalibrate(p, recalibration)), strict=True
    ):
        table = reliability(y, said, case, bins=bins, confidence=confidence)
        ax.plot([0, 1], [0, 1], color=figures.GREY, lw=1, ls="--")
        reach = [table["happened"] - table["low"], table["high"] - table["happened"]]
        ax.errorbar(
            table["said"], table["happened"], np.clip(reach, 0, None), fmt="o", ms=4, lw=1.2
        )
        outside = (table["said"] < table["low"]) | (table["said"] > table["high"])
        ax.set(
            xlabel=f"probability of {case.positive}, as predicted",
            title=f"{name.capitalize()} recalibration",
        )
        words.append(f"{name} recalibration, in {int(outside.sum())} of {len(table)} bins")
    axes[0].set_ylabel(f"share that turned out {case.positive}")
    figures.show(
        fig,
        "What was said against what happened: " + ", and ".join(words) + f", what was said lies "
        f"outside the {confidence:.4g} interval of what happened.",
    )


def calibration_by_slice(
    y: pd.Series,
    p: np.ndarray,
    case: BinaryClassification,
    *,
    slices: pd.DataFrame | None,
    confidence: float,
) -> pd.DataFrame:
    """What was said against what happened, over all rows and by slice.

    Parameters
    ----------
    y : Series of shape (n_samples,)
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class.
    slices : DataFrame of shape (n_samples, n_slices), or None
        A label for each row in each slice. Values with fewer than 10 rows are pooled.

    Returns
    -------
    DataFrame
        Indexed by ``all rows`` and ``slice: value``, with ``rows``, ``said`` (the mean
        probability), ``happened`` (the share of the positive class), ``low`` and ``high``
        (Wilson's interval) and ``differs``: ``yes`` if the two differ beyond chance, by the
        variance that right probabilities would have (Spiegelhalter, Probabilistic Prediction in
        Patient Management and Clinical Trials, Statistics in Medicine 5, 1986), over the values of
        the slices together with Holm's correction.
    """
    actual, p = truth(y, case), np.asarray(p, dtype=float)
    rows, chances = {}, []
    for name, member in groups(slices, len(actual)):
        n, hits, said = int(member.sum()), int(actual[member].sum()), p[member]
        rows[name] = (n, said.mean(), hits / n, *wilson(hits, n, confidence))
        # Counts are whole, so half a row is no difference.
        gap = max(0.0, abs(hits - said.sum()) - 0.5)
        spread = max(math.sqrt(np.sum(said * (1 - said))), 1e-9)
        chances.append(2 * norm.sf(gap / spread))
    found = pd.DataFrame.from_dict(
        rows, orient="index", columns=["rows", "said", "happened", "low", "high"]
    )
    found["differs"] = _flags(chances, confidence)
    return found


def cost_curve(y: pd.Series, p: np.ndarray, case: BinaryClassification) -> pd.DataFrame:
    """What the wrong calls cost, a row on average, for every threshold that calls differently.

    Parameters
    ----------
    y : Series of shape (n_samples,)
    p : ndarray of shape (n_samples,)
        Probabilities of the positive class.
    case : BinaryClassification
        With ``costs``.

    Returns
    -------
    DataFrame
        Lowest threshold first, where every row is called positive, to one beyond the highest
        probability, where none is: ``threshold`` (a row is called positive from it on), ``cost``
        and ``best`` (True for the cheapest; among equals, for the one closest to the theory). The
        best on some rows was chosen with their luck, so it looks better there than it is.
    """
    actual, costs = truth(y, case), case.costs
    assert costs is not None
    values, inverse = np.unique(np.round(np.asarray(p, dtype=float), DECIMALS), return_inverse=True)
    positive = np.bincount(inverse, actual, len(values))
    negative = np.bincount(inverse, 1 - actual, len(values))
    missed = np.r_[0, np.cumsum(positive)]
    alarms = negative.sum() - np.r_[0, np.cumsum(negative)]
    cost = (missed * costs.false_negative + alarms * costs.false_positive) / len(actual)
    nobody = 1.0 if values[-1] < 1 else 1.0 + 10.0**-DECIMALS
    found = pd.DataFrame({"threshold": np.r_[values, nobody], "cost": cost})
    level = np.round(cost / max(costs.false_positive, costs.false_negative), 12)
    away = np.where(level == level.min(), np.abs(found["threshold"] - case.threshold), np.inf)
    found["best"] = np.arange(len(found)) == int(np.argmin(np.round(away, DECIMALS)))
    return found


def best_threshold(curve: pd.DataFrame) -> float:
    """The cheapest threshold of a `cost_curve`."""
    return float(curve.loc[curve["best"], "threshold"].iloc[0])


def cost_at(curve: pd.DataFrame, threshold: float) -> float:
    """The cost of calling a row positive from this threshold on; see `cost_curve`."""
    at = np.searchsorted(curve["threshold"], round(threshold, DECIMALS), side="left")
    return float(curve["cost"].iloc[min(at, len(curve) - 1)])


def plot_costs(
    curve: pd.DataFrame, case: BinaryClassification, *, best: float | None = None
) -> None:
    """The cost of every threshold, with the theory's choice and the best one.

    Parameters
    ----------
    curve : DataFrame
        From `cost_curve`.
    best : float, optional
        A threshold chosen on other rows, such as the out-of-fold ones; by default the curve's own.
    """
    own = best is None
    best = best_threshold(curve) if own else best
    everybody, nobody = curve["cost"].iloc[0], curve["cost"].iloc[-1]
    fig, ax = figures.new(height=3.4)
    # A threshold below the lowest probability calls everybody, too.
    ax.step([0, *curve["threshold"]], [everybody, *curve["cost"]], where="pre", color=figures.BLUE)
    for cost, who in ((everybody, "everybody"), (nobody, "nobody")):
        ax.axhline(cost, color=figures.GREY, lw=1, ls=":")
        ax.annotate(
            f"call {who} {case.positive}",
            (1, cost),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            color="#555555",
        )
    chosen = "best here" if own else "best on out-of-fold rows"
    marks = ((case.threshold, "theory", figures.ORANGE, "o"), (best, chosen, "#222222", "D"))
    for at, name, colour, shape in marks:
        label = f"{name}: {significant(at, 2)}"
        ax.plot([at], [cost_at(curve, at)], shape, color=colour, ms=7, label=label)
    ax.set(
        xlabel=f"probability of {case.positive} from which on a row is called so",
        ylabel=LABELS["cost"],
        title="What wrong calls cost",
        xlim=(0, 1),
        ylim=(0, None),
    )
    ax.legend(loc="lower right")
    figures.show(
        fig,
        f"The cost a row for every threshold: {significant(cost_at(curve, case.threshold), 3)} at "
        f"{significant(case.threshold, 2)}, which theory chooses, "
        f"{significant(cost_at(curve, best), 3)} at {significant(best, 2)}, {chosen}; "
        f"{significant(everybody, 3)} if everybody is called {case.positive}, and "
        f"{significant(nobody, 3)} if nobody is.",
    )
