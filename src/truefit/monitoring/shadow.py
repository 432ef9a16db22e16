"""A challenger that scored the live rows in the shadow of the model, now that labels have come."""

import pandas as pd

from truefit.case import Case
from truefit.evaluation import bootstrap_weights, differences
from truefit.monitoring.traffic import Traffic

CHAMPION, CHALLENGER = "champion", "challenger"


def challenger_gain(
    traffic: Traffic, case: Case, *, resamples: int, confidence: float, seed: int
) -> tuple[int, pd.DataFrame] | None:
    """The challenger's metrics minus the champion's, paired row by row, with intervals.

    Parameters
    ----------
    traffic : Traffic
        Of a log; see `truefit.monitoring.read_log`.
    case : Case
    resamples : int
        Of the bootstrap over the rows.
    confidence : float
        Of the intervals.
    seed : int
        Of the bootstrap.

    Returns
    -------
    rows : int
        That both have scored, and whose truth is known.
    table : DataFrame
        As of `truefit.evaluation.differences`; or None instead of both, if there are no such rows,
        or of one class alone.
    """
    shadow = getattr(traffic, "shadow", None)
    if shadow is None:
        return None
    both = (shadow.notna() & traffic.truth.notna()).to_numpy()
    truth = traffic.truth[both]
    if len(truth) < 2 or case.lacks_rows(case.as_target(truth), 1):
        return None
    truth = case.as_target(truth)
    scores = {CHAMPION: traffic.answers["score"][both], CHALLENGER: shadow[both]}
    predicted = {name: score.to_numpy() for name, score in scores.items()}
    weights = bootstrap_weights(len(truth), resamples, seed)
    found = differences(
        truth, predicted, weights, case, winner=CHALLENGER, confidence=confidence
    )  # fmt: skip
    return len(truth), found[CHAMPION]
