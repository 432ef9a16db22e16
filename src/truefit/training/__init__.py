"""Candidates by name, the preparation that each needs, and a comparison on fixed folds."""

from truefit.training.compare import (
    best,
    cross_validate,
    lead_by_fold,
    leaderboard,
    leaderboard_table,
    linear_effects,
    main_metric,
    plot_folds,
    refit,
)
from truefit.training.preparation import (
    RARE,
    FillText,
    MergeRare,
    RoundToFloat32,
    prepare,
    split_columns,
)
from truefit.training.shelf import SHELF, build, unwrap

__all__ = [
    "RARE",
    "SHELF",
    "FillText",
    "MergeRare",
    "RoundToFloat32",
    "best",
    "build",
    "cross_validate",
    "lead_by_fold",
    "leaderboard",
    "leaderboard_table",
    "linear_effects",
    "main_metric",
    "plot_folds",
    "prepare",
    "refit",
    "split_columns",
    "unwrap",
]
