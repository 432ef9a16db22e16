"""A small student that a large model teaches."""

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator

from truefit.case import Case
from truefit.export.variants import Variant, answers, exactly
from truefit.metrics import truth
from truefit.training import build, prepare
from truefit.training.neighbours import NeighboursRegressor

# What a student may be: one tree that a person can read, or something larger.
STUDENTS = {
    "decision_tree": {"max_depth": 8, "min_samples_leaf": 5},
    "hist_gradient_boosting": {"max_iter": 150, "learning_rate": 0.1, "max_leaf_nodes": 8},
}
DIGITS = 6  # of what a teacher says, so that a student is the same on every processor
RARE_BELOW = 10  # rows, for a category that the student knows
NEIGHBOURS = 5  # among which a row finds the other half of a made row
LABELS, REAL, MADE = "student of the labels", "student", "student with made rows"


def made_rows(X: pd.DataFrame, case: Case, count: int, *, seed: int) -> pd.DataFrame:
    """Rows that nobody has seen, like those that somebody has.

    Each takes every column from a training row or from one of its nearest neighbours, as a coin
    decides (after Bucilă, Caruana and Niculescu-Mizil, Model Compression, 2006, section 3).

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_columns)
        Training rows without their target.
    case : Case
    count : int
        How many to make.
    seed : int

    Returns
    -------
    DataFrame of shape (count, n_columns)
    """
    if not count:
        return X.iloc[:0]
    preparation = prepare(X, case, kind="scaled", min_category_rows=RARE_BELOW)
    Z = preparation.fit_transform(X)
    known = NeighboursRegressor(min(NEIGHBOURS + 1, len(X))).fit(Z, np.zeros(len(Z)))
    nearest = known.kneighbors(Z, return_distance=False)[:, 1:]
    rng = np.random.default_rng(seed)
    one = rng.integers(len(X), size=count)
    other = nearest[one, rng.integers(nearest.shape[1], size=count)]
    coin = rng.random((count, X.shape[1])) < 0.5
    columns = {
        c: X[c].array.take(np.where(coin[:, j], one, other)) for j, c in enumerate(X.columns)
    }
    return pd.DataFrame(columns)


def taught(
    X: pd.DataFrame,
    said: np.ndarray,
    case: Case,
    classes: tuple[str, ...] = (),
    *,
    student: str = "decision_tree",
    seed: int,
) -> BaseEstimator:
    """The student, fitted on what a teacher says.

    Parameters
    ----------
    X : DataFrame
        Raw columns.
    said : ndarray of shape (n_samples,)
        Numbers; or probabilities of the positive class, of which the student learns each row
        twice: as positive with the weight p, and as negative with 1 − p. So it comes near to the
        least cross-entropy to the teacher.
    case : Case
    classes : tuple of str
        The two, in a classification.
    student : str
        One of ``STUDENTS``.
    seed : int
        See `truefit.training.build`.
    """
    settings = STUDENTS[student]
    made = build(student, X, case, min_category_rows=RARE_BELOW, seed=seed, params=settings)
    X, y, weights = case.soft_lesson(X, said, classes)
    if weights is None:
        return made.fit(X, y)
    return made.fit(X, y, **{f"{made.steps[-1][0]}__sample_weight": weights})


def students(
    teacher: Variant,
    train: pd.DataFrame,
    case: Case,
    name: str,
    *,
    made: int,
    seed: int,
    student: str = "decision_tree",
) -> dict[str, Variant]:
    """The same student, taught in three ways.

    Parameters
    ----------
    teacher : Variant
        The winner as it is.
    train : DataFrame
        Training rows with their target.
    case : Case
    name : str
        Of the case.
    made : int
        How many rows to make; see `made_rows`.
    seed : int
        Of the made rows and of the students.
    student : str
        One of ``STUDENTS``.

    Returns
    -------
    dict from name to Variant
        Taught by the labels, by the winner on the training rows, and by the winner on those and
        on made ones (Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network,
        2015).
    """
    X = train.drop(columns=case.target)
    more = pd.concat([X, made_rows(X, case, made, seed=seed)], ignore_index=True)
    said = np.array([float(f"{v:.{DIGITS}g}") for v in answers(teacher, more, case)])
    lessons = {
        LABELS: (X, truth(train[case.target], case)),
        REAL: (X, said[: len(X)]),
        MADE: (more, said),
    }
    found = {}
    for done, (rows, lesson) in lessons.items():
        model = taught(rows, lesson, case, teacher.classes, student=student, seed=seed)
        variant = exactly(model, teacher.of, name, done)
        found[variant.name] = variant
    return found
