"""A challenger beside the champion: is it better beyond chance, and does it pass the same gate?"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm
from sklearn.base import BaseEstimator

from truefit.case import Case
from truefit.digits import significant
from truefit.evaluation import bootstrap_weights, check_behaviour, differences, intervals, judge
from truefit.metrics import LABELS, predictions
from truefit.training import build
from truefit.verdicts import Conclusion

CHAMPION, CHALLENGER, DUMMY = "champion", "challenger", "dummy"


@dataclass(frozen=True)
class Challenge:
    """What came of a challenge."""

    promote: bool
    reasons: list[str]  # why, or all that stands against it
    metrics: Mapping[str, pd.DataFrame]  # of the champion, the challenger and the dummy
    difference: pd.DataFrame  # the challenger's metrics minus the champion's, paired
    gate: dict  # what `truefit.evaluation.judge` says of the challenger


def challenge(
    champion: BaseEstimator,
    challenger: BaseEstimator,
    learned: pd.DataFrame,
    rows: pd.DataFrame,
    case: Case,
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Challenge:
    """Let a challenger and the champion meet the same rows, and the challenger the gate.

    It is promoted if it is better beyond chance in the main metric, and if it passes the gate that
    the champion once passed. Both are asked because either alone can mislead: of two bad models
    one is better, and a model that is good enough may be no better than the one that is there.

    Parameters
    ----------
    champion, challenger : estimator
        Fitted; neither on any of ``rows``.
    learned : DataFrame
        What the challenger was fitted on; the dummy of the gate is fitted on the same.
    rows : DataFrame
        The newest labelled window, with the target.
    case : Case
        Its block in ``params.yaml``, with the gate's limits and the tests of behaviour.
    resamples : int
        Of the bootstrap over ``rows``.
    confidence : float
        Of the intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    Challenge
    """
    X, y = rows.drop(columns=case.target), rows[case.target]
    dummy = build(DUMMY, learned, case, min_category_rows=1, seed=seed)
    dummy.fit(learned.drop(columns=case.target), learned[case.target])
    models = {CHAMPION: champion, CHALLENGER: challenger, DUMMY: dummy}
    predicted = {name: predictions(model, X, case) for name, model in models.items()}
    weights, metric = bootstrap_weights(len(rows), resamples, seed), case.main_metric
    found = intervals(y, predicted, weights, case, confidence=confidence)
    gaps = differences(y, predicted, weights, case, winner=CHALLENGER, confidence=confidence)
    behaviour = check_behaviour(challenger, rows, case)
    gate = judge(found[CHALLENGER], gaps[DUMMY], case, main_metric=metric, behaviour=behaviour)
    gap = gaps[CHAMPION].loc[metric]
    value, low, high = (significant(gap[end], 3) for end in ("value", "low", "high"))
    told = f"{LABELS[metric]} minus the champion's is {value} ({low} to {high})"
    against = [] if gap["better"] == Conclusion.YES else [f"it is not better beyond chance: {told}"]
    against += [f"{c['check']}: {c['reason']}" for c in gate["checks"] if not c["passed"]]
    reasons = against or [f"it is better beyond chance: {told}", "it passes the gate"]
    return Challenge(not against, reasons, found, gaps[CHAMPION], gate)


def rows_needed(
    share: float, *, better: float, together: float, chance: float = 0.8, confidence: float = 0.95
) -> int:
    """Labelled rows, of both models together, until a difference between two models is likely seen.

    For normal errors of two models whose root mean squared errors differ by the share ``better``.
    In a canary each row is answered by one of the two; in shadow both answer every row, and what a
    hard row does to both cancels. The variance of a squared normal error is twice its mean squared.

    Parameters
    ----------
    share : float
        Of the rows that the challenger answers in a canary; 1 for shadow.
    better : float
        By which the challenger's root mean squared error is smaller, as a share.
    together : float
        Correlation of the errors of the two models on one row; matters in shadow only.
    chance : float
        With which the difference is to be seen.
    confidence : float
        Of the interval that must not contain 0.
    """
    ratio = (1 - better) ** 2  # of the mean squared errors
    if share == 1:
        variance = 2 + 2 * ratio**2 - 4 * together**2 * ratio
    else:
        variance = 2 * ratio**2 / share + 2 / (1 - share)
    z = norm.ppf((1 + confidence) / 2) + norm.ppf(chance)
    return math.ceil(variance * (z / (1 - ratio)) ** 2)


def chance_to_see(
    rows: int,
    share: float,
    *,
    better: float,
    together: float,
    trials: int,
    seed: int,
    confidence: float = 0.95,
) -> float:
    """How often so many labelled rows show which of two models is better, by trying it out.

    Parameters
    ----------
    rows : int
        Labelled rows in a trial.
    share, better, together, confidence : float
        As in `rows_needed`.
    trials : int
    seed : int
    """
    rng = np.random.default_rng(seed)
    z, seen = norm.ppf((1 + confidence) / 2), 0
    for _ in range(trials):
        common, own, other = rng.standard_normal((3, rows))
        champion = (math.sqrt(together) * common + math.sqrt(1 - together) * own) ** 2
        challenger = (math.sqrt(together) * common + math.sqrt(1 - together) * other) ** 2
        challenger = challenger * (1 - better) ** 2
        if share == 1:
            gap = champion - challenger
            error = gap.std(ddof=1) / math.sqrt(rows)
            seen += gap.mean() > z * error
        else:
            n = max(2, round(share * rows))
            new, old = challenger[:n], champion[n:]
            error = math.sqrt(new.var(ddof=1) / len(new) + old.var(ddof=1) / len(old))
            seen += old.mean() - new.mean() > z * error
    return seen / trials
