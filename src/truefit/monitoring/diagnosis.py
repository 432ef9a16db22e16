"""What probably happened, in a sentence: a unit changed, a category renamed, labels mixed up."""

import numpy as np
import pandas as pd

from truefit.case import Case
from truefit.digits import percent, significant
from truefit.monitoring import statistics as st
from truefit.monitoring.traffic import Baseline, Traffic

# By unit: another that the same thing is told in, and the factor from the one to the other.
OTHER_UNITS = {
    "feet": [("metres", 0.3048), ("inches", 12)],
    "square feet": [("square metres", 0.3048**2)],
    "inches": [("centimetres", 2.54), ("feet", 1 / 12)],
    "metres": [("feet", 1 / 0.3048), ("centimetres", 100)],
    "square metres": [("square feet", 0.3048**-2)],
    "pounds": [("kilograms", 0.45359237)],
    "kilograms": [("pounds", 1 / 0.45359237), ("grams", 1000)],
    "miles": [("kilometres", 1.609344)],
    "kilometres": [("miles", 1 / 1.609344), ("metres", 1000)],
    "years": [("months", 12)],
    "months": [("years", 1 / 12)],
    "MB": [("GB", 1 / 1024), ("KB", 1024)],
    "GB": [("MB", 1024)],
    "MHz": [("GHz", 1 / 1000), ("kHz", 1000)],
}
BY_THOUSANDS = [("thousands", 1 / 1000), ("hundredths", 100), ("thousandths", 1000)]
CLOSE = 0.35  # how far the ratio of the medians may lie from a factor, as a logarithm
SAME = 0.15  # distance of two distributions up to which a changed unit explains a drift
MOST_LOST = 0.25  # of the rank correlation, below which labels say nothing about the rows


def tell(
    rule: str, subject: str, found: st.Compared, baseline: Baseline, window: Traffic, case: Case
) -> tuple[str, bool]:
    """Say what a rule found in a window.

    Returns
    -------
    reason : str
        A sentence, without a full stop.
    fault : bool
        Whether it looks like wrong data rather than a world that has changed.
    """
    if rule == "missing":
        return _missing(subject, found)
    if rule == "unseen":
        return _unseen(subject, found, baseline, window)
    if rule == "drift":
        return _drift(subject, found, baseline, window, case)
    if rule == "ranking":
        return _ranking(subject, found, case)
    return SENTENCES[rule](subject, found, case), False


def _missing(subject: str, found: st.Compared) -> tuple[str, bool]:
    if found.value == 1:
        return f"{subject} has gone missing: it is empty in every row", True
    said = (
        f"{subject} is empty in {percent(found.value)} of the rows, usually {percent(found.usual)}"
    )
    return said, found.value > found.usual


def _unseen(
    subject: str, found: st.Compared, baseline: Baseline, window: Traffic
) -> tuple[str, bool]:
    (column,) = (c for c in baseline.bundle.inputs if c.name == subject)
    values, usual = window.rows[subject], baseline.rows[subject]
    new = values[st.unseen(column, values)].value_counts().index[0]
    where = f"{percent(found.value)} of the rows"
    said = f"{subject} holds categories that training did not see in {where}"
    if old := _renamed(values, usual, new):
        return f"{subject}: {old!r} has probably been renamed {new!r}", True
    return f"{said}, {new!r} most often", False


def _renamed(values: pd.Series, usual: pd.Series, new: str) -> str | None:
    """The category that is gone and was about as frequent as the new one is."""
    share = (values == new).mean()
    gone = usual.value_counts(normalize=True)
    gone = gone[~gone.index.isin(set(values.dropna()))]
    width = 4 * np.sqrt(share * (1 - share) / len(values)) + 0.02
    near = gone[(gone - share).abs() <= width]
    return None if near.empty else (near - share).abs().sort_values(kind="stable").index[0]


def _drift(
    subject: str, found: st.Compared, baseline: Baseline, window: Traffic, case: Case
) -> tuple[str, bool]:
    usual, values = baseline.rows[subject].dropna(), window.rows[subject].dropna()
    if not pd.api.types.is_numeric_dtype(usual):
        most = st.values_of_change(usual, values).index
        gained, lost = most[0], most[-1]
        return f"{subject} has changed: more {gained!r}, fewer {lost!r}", False
    values = values.astype(float)
    if unit := _other_unit(usual, values, case.unit(subject)):
        known = case.unit(subject)
        was = f" instead of {known}" if known else ""
        return f"{subject} is probably given in {unit}{was}", True
    middle, expected = (float(s.median()) for s in (values, usual))
    if middle == expected:
        return f"{subject} has changed, though its median has not: {significant(middle)}", False
    way = "larger" if middle > expected else "smaller"
    unit = f" {case.unit(subject)}" if case.unit(subject) else ""
    said = f"{significant(middle)}{unit}, usually {significant(expected)}"
    return f"{subject} has become {way}: its median is {said}", False


def _other_unit(usual: pd.Series, values: pd.Series, unit: str) -> str | None:
    """The unit in which the values look like the usual ones, if there is such a unit."""
    middle, expected = values.median(), usual.median()
    if expected == 0 or middle == 0 or middle == expected:
        return None
    ratio = middle / expected
    for name, factor in OTHER_UNITS.get(unit, []) + BY_THOUSANDS:
        near = ratio > 0 and abs(np.log(ratio / factor)) <= CLOSE
        if near and _alike(usual * factor, values):
            return name if name not in dict(BY_THOUSANDS) else f"{name} of {unit or 'the unit'}"
    return None


def _alike(usual: pd.Series, values: pd.Series) -> bool:
    from scipy.stats import ks_2samp

    # 60 feet are 18.288 metres, and 18.3 with one decimal: many rows share such a value.
    decimals = next((d for d in (0, 1) if (values.round(d) == values).all()), 2)
    found = ks_2samp(usual.round(decimals), values.round(decimals), method="asymp")
    # What the last decimal still moves, a hundredth of the rows, is no other distribution.
    return found.statistic <= SAME or found.pvalue > 0.01


def _out_of_range(subject: str, found: st.Compared, case: Case) -> str:
    return (
        f"{subject} lies outside its range in training in {percent(found.value)} of the rows, "
        f"usually {percent(found.usual)}"
    )


def _unlike(subject: str, found: st.Compared, case: Case) -> str:
    return (
        f"{percent(found.value)} of the rows are unlike any in training, "
        f"usually {percent(found.usual)}"
    )


def _predictions(subject: str, found: st.Compared, case: Case) -> str:
    way = "higher" if found.value > found.usual else "lower"
    middle, usual = significant(found.value), significant(found.usual)
    return f"predictions are {way}: their median is {middle}, usually {usual}"


def _target(subject: str, found: st.Compared, case: Case) -> str:
    return case.shifted_words(subject, found.value, found.usual)


def _bias(subject: str, found: st.Compared, case: Case) -> str:
    return case.bias_words(subject, found.value - found.usual)


def _error(subject: str, found: st.Compared, case: Case) -> str:
    return f"predictions of {subject} miss by {percent(found.effect)} more than usual"


def _coverage(subject: str, found: st.Compared, case: Case) -> str:
    return (
        f"{percent(found.value)} of {subject} lie outside their interval, usually "
        f"{percent(found.usual)}"
    )


def _ranking(subject: str, found: st.Compared, case: Case) -> tuple[str, bool]:
    value, usual = significant(found.value, 2), significant(found.usual, 2)
    what = "twice the ROC AUC less 1" if case.ranks_classes else "their rank correlation"
    if found.value <= MOST_LOST:
        return (
            f"{subject} has next to nothing to do with the predictions ({what} is {value}, usually "
            f"{usual}): labels were probably joined with the wrong rows"
        ), True
    return f"predictions order {subject} worse ({what} is {value}, usually {usual})", False


SENTENCES = {
    "out_of_range": _out_of_range,
    "unlike": _unlike,
    "predictions": _predictions,
    "target": _target,
    "bias": _bias,
    "error": _error,
    "coverage": _coverage,
}
