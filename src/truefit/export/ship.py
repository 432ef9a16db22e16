"""Which variant ships: by a rule that stands in ``params.yaml``, and through the gate once more."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from truefit import evaluation, figures
from truefit.case import Case
from truefit.export.variants import Scorer, Variant, answers, kilobytes
from truefit.metrics import HIGHER_IS_BETTER, predictions
from truefit.params import Export
from truefit.verdicts import Ships


def judge_variants(table: pd.DataFrame, winner: str, case: Case, settings: Export) -> pd.DataFrame:
    """Add what the rule in ``params.yaml`` says of each variant of the winner.

    Parameters
    ----------
    table : DataFrame
        From `compare`.
    winner : str
    case : Case
    settings : Export
        With ``largest_change`` and ``largest_loss``.

    Returns
    -------
    DataFrame
        With ``ships``: whether the variant may, in words; empty for a variant of another model.
    """
    better_up = case.main_metric in HIGHER_IS_BETTER
    loss = -table["gap_low"] if better_up else table["gap_high"]
    allowed = settings.largest_loss * abs(table.loc[winner, "value"])
    reasons = {
        Ships.OF_ANOTHER_MODEL: table["of"] != winner,
        Ships.CHANGES: table["change"] > settings.largest_change,
        Ships.LOSES: loss > allowed,
        # What was measured of it holds for rows that are sent alone.
        Ships.DEPENDS: table["depends_on_batch"],
    }
    words = np.select(list(reasons.values()), list(reasons), Ships.YES)
    # The winner as it is always qualifies.
    return table.assign(ships=np.where(table.index == winner, Ships.YES, words))


def smallest(table: pd.DataFrame) -> str:
    """The variant that ships: of those that may, the one with the smallest file."""
    return str(table.loc[table["ships"] == Ships.YES, "bytes"].idxmin())


def judge_again(
    variant: Variant,
    dummy: BaseEstimator,
    test: pd.DataFrame,
    case: Case,
    weights: np.ndarray,
    verdict: dict,
) -> tuple[dict, dict]:
    """The metrics of what ships, and what the gate says of it: not of the model it was made of.

    Parameters
    ----------
    variant : Variant
    dummy : estimator
        That the gate compares with.
    test : DataFrame
        Rows that nothing was fitted on, with their target.
    case : Case
    weights : ndarray of shape (n_resamples + 1, n_samples)
        From `truefit.evaluation.bootstrap_weights`.
    verdict : dict
        Of the winner, from `truefit.evaluation.judge`.

    Returns
    -------
    metrics : dict
        By metric: ``value``, ``low`` and ``high``.
    verdict : dict
        With its own headline, checks, and whether it passed.
    """
    features, name = test.drop(columns=case.target), variant.name
    predicted = {
        name: answers(variant, features, case),
        "dummy": predictions(dummy, features, case),
    }
    confidence = verdict["headline"]["confidence"]
    found = evaluation.intervals(test[case.target], predicted, weights, case, confidence=confidence)
    gaps = evaluation.differences(
        test[case.target], predicted, weights, case, winner=name, confidence=confidence
    )
    judged = evaluation.judge(
        found[name],
        gaps["dummy"],
        case,
        main_metric=case.main_metric,
        behaviour=evaluation.check_behaviour(Scorer(variant), test, case),
    )
    quality = evaluation.rounded(found[name])
    headline = {**verdict["headline"], **quality[case.main_metric]}
    return quality, {**verdict, "headline": headline, **judged}


def plot_variants(table: pd.DataFrame, winner: str, limit: float) -> None:
    """The size of each variant of the winner against how far it goes astray."""
    own = table[(table["of"] == winner) & (table.index != winner)]
    fig, ax = figures.new(height=3.4)
    for name, row in own.iterrows():
        ships = row["ships"] == Ships.YES
        colour, marker = (figures.BLUE, "o") if ships else (figures.GREY, "s")
        x, y = max(row["change"], 1e-9), row["bytes"] / 1000
        ax.plot(x, y, marker, color=colour, ls="")
        ax.annotate(
            name.partition(", ")[2], (x, y), (0, 6), textcoords="offset points", ha="center"
        )
    size = table.loc[winner, "bytes"] / 1000
    ax.axhline(size, color=figures.GREY, lw=1, ls=":", label=f"{winner} as it is")
    if limit > 0:
        ax.axvline(limit, color=figures.ORANGE, label="largest change allowed")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.margins(0.15)
    ax.set(
        xlabel="largest change of any prediction",
        ylabel="size of the file, kB",
        title="Small is easy; small and the same is not",
    )
    ax.legend(loc="lower left")
    few = "; ".join(f"{n.partition(', ')[2]} {kilobytes(r['bytes'])} kB" for n, r in own.iterrows())
    figures.show(
        fig,
        f"Variants of {winner} by size and largest change: {few}; as it is "
        f"{kilobytes(table.loc[winner, 'bytes'])} kB.",
        colours=48,
    )
