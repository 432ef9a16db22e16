"""Candidates by name, the preparation that each needs, and a search that compares them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from truefit.training.preparation import (
    RARE,
    Clusters,
    Features,
    FillText,
    KeepInRange,
    LogSkewed,
    MergeRare,
    RoundToFloat32,
    TargetScale,
    prepare,
    split_columns,
)
from truefit.training.recalibrated import (
    Recalibrated,
    Recalibration,
    fit_recalibration,
    log_odds_lines,
    recalibrate,
)
from truefit.training.search import (
    ALL_ROWS,
    STORE,
    Found,
    Task,
    built,
    check_spaces,
    deal,
    main_metric,
    search_all,
)
from truefit.training.shelf import BLEND, SHELF, Candidate, build, unwrap

if TYPE_CHECKING:
    from truefit.training.compare import (
        best,
        blend_weights,
        build_blend,
        complete,
        failures,
        final_models,
        fit_all,
        fold_scores,
        lead_by_fold,
        leaderboard,
        leaderboard_table,
        linear_effects,
        one_standard_error,
        out_of_fold,
        plot_folds,
        winner_of,
    )
    from truefit.training.study import (
        chosen_settings,
        cost_and_gain,
        learning,
        plot_learning,
        plot_trace,
        plot_validation,
        trace,
        validation,
    )

__all__ = [
    "ALL_ROWS",
    "BLEND",
    "RARE",
    "SHELF",
    "STORE",
    "Candidate",
    "Clusters",
    "Features",
    "FillText",
    "Found",
    "KeepInRange",
    "LogSkewed",
    "MergeRare",
    "Recalibrated",
    "Recalibration",
    "RoundToFloat32",
    "TargetScale",
    "Task",
    "best",
    "blend_weights",
    "build",
    "build_blend",
    "built",
    "check_spaces",
    "chosen_settings",
    "complete",
    "cost_and_gain",
    "deal",
    "failures",
    "final_models",
    "fit_all",
    "fit_recalibration",
    "fold_scores",
    "lead_by_fold",
    "leaderboard",
    "leaderboard_table",
    "learning",
    "linear_effects",
    "log_odds_lines",
    "main_metric",
    "one_standard_error",
    "out_of_fold",
    "plot_folds",
    "plot_learning",
    "plot_trace",
    "plot_validation",
    "prepare",
    "recalibrate",
    "search_all",
    "split_columns",
    "trace",
    "unwrap",
    "validation",
    "winner_of",
]


def __getattr__(name: str) -> Any:
    """What draws is imported when it is asked for: a worker of a search does without."""
    for module in ("compare", "study") if name in __all__ else ():
        found = import_module(f"{__name__}.{module}")
        if hasattr(found, name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
