"""Nearest neighbours whose choice does not hang on the last bits of a distance."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from truefit.library_internals import remembered_rows

STEPS = 1e6  # squared distances are told apart to so many steps in 1
AT_ONCE = 1000  # rows whose distances are held in memory


class _EarlierFirst:
    """Of rows equally far away, those that came earlier in training are the nearer ones.

    In a table of few different values many rows are equally far from a new one. Which of them are
    the nearest would be decided by rounding errors, and differently in a copy of the model.
    """

    n_neighbors: int

    def kneighbors(
        self,
        X: ArrayLike | None = None,
        n_neighbors: int | None = None,
        return_distance: bool = True,
    ) -> tuple[np.ndarray, np.ndarray] | np.ndarray:
        """Find the nearest training rows, nearest first; see `sklearn.neighbors`."""
        check_is_fitted(self)
        known, _ = remembered_rows(self)
        X = known if X is None else validate_data(self, X, dtype=np.float64, reset=False)
        # A model that is fitted again, on fewer rows, has no more neighbours than these.
        count = min(n_neighbors or self.n_neighbors, len(known))
        parts = [_nearest(X[i : i + AT_ONCE], known, count) for i in range(0, len(X), AT_ONCE)]
        steps, nearest = (np.concatenate(part) for part in zip(*parts, strict=True))
        return (np.sqrt(steps / STEPS), nearest) if return_distance else nearest


def _nearest(X: np.ndarray, known: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Squared distances in steps, and the numbers of the known rows."""
    rows = len(known)
    steps = np.rint(euclidean_distances(X, known, squared=True) * STEPS)
    # One whole number for both: the distance first, and then the place.
    steps = np.minimum(steps, 2**62 // rows).astype(np.int64)
    keys = np.partition(steps * rows + np.arange(rows), count - 1, axis=1)[:, :count]
    return np.divmod(np.sort(keys, axis=1), rows)


class NeighboursRegressor(_EarlierFirst, KNeighborsRegressor):
    """`sklearn.neighbors.KNeighborsRegressor` that breaks ties by the order of the rows."""


class NeighboursClassifier(_EarlierFirst, KNeighborsClassifier):
    """`sklearn.neighbors.KNeighborsClassifier` that breaks ties by the order of the rows."""
