"""How usual is a row: a mixture of normal distributions over a few directions of the table.

Each rule for a column looks at one column. A house of 3,000 square feet is usual, and so is one
with two rooms, but hardly a house with both. A density over all columns together sees that.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.mixture import GaussianMixture

from truefit.project import InputError

# How many directions of the largest spread the mixture sees one by one. All others count
# together: they are many, and no table has rows enough for a mixture over all of them.
DIRECTIONS = 4
# A direction in which the rows spread by less than this share of the largest is a fixed relation
# between columns up to rounding; divided by its spread, the rounding would drown all else.
LEAST_SPREAD = 0.02
ROWS_PER_COMPONENT = 10
DECIMALS = 9  # of a log density; beyond them processors differ, and a tie must stay a tie


@dataclass(frozen=True)
class UsualRows:
    """What usual rows look like; made by `fit_usual`.

    Attributes
    ----------
    limit : float
        The log density below which a row is unlike the usual ones.
    share : float
        Of rows that were held out, how many lie below the limit.
    components : int
        Normal distributions in the mixture.
    """

    limit: float
    share: float
    _table: "_Table"
    _space: "_Space"
    _mixture: GaussianMixture

    @property
    def components(self) -> int:
        return self._mixture.n_components

    def score(self, rows: pd.DataFrame) -> np.ndarray:
        """Log density of each row; the higher, the more usual.

        Parameters
        ----------
        rows : DataFrame of shape (n_samples, n_columns)
            Gaps are taken for typical values. Columns that are not there, such as those masked in
            a log, are taken for what goes best with the others.

        Returns
        -------
        ndarray of shape (n_samples,)
        """
        if not len(rows):
            return np.empty(0)
        return np.round(self._mixture.score_samples(self.places(rows)), DECIMALS)

    def unlike(self, rows: pd.DataFrame) -> np.ndarray:
        """Whether each row is less usual than all but a share of the rows held out."""
        return self.score(rows) < self.limit

    def places(self, rows: pd.DataFrame) -> np.ndarray:
        """Where the rows lie along the directions of the largest spread, the largest first.

        Returns
        -------
        ndarray of shape (n_samples, n_directions + 1)
            In units of the spread; the last column is the distance along all other directions.
        """
        absent = np.array([name not in rows for name in self._table.names])
        return self._space.places(self._table.numbers(rows), absent)


def fit_usual(
    rows: pd.DataFrame, held: pd.DataFrame, *, components: int, seed: int, share: float = 0.05
) -> UsualRows:
    """Learn what usual rows look like.

    The columns become numbers, these are turned into directions without correlation (principal
    components), and the rows' places along the four largest, with the distance along all others,
    are described by a mixture of normal distributions. EM fits it, and the Bayesian information
    criterion says how many distributions it has (Dempster, Laird and Rubin, Maximum Likelihood
    from Incomplete Data via the EM Algorithm, JRSS B 39, 1977).

    Parameters
    ----------
    rows : DataFrame of shape (n_samples, n_columns)
        Numbers and texts, None or NaN for a gap.
    held : DataFrame
        Other rows of the same kind, not among ``rows``: on the rows that a density was fitted to
        it is too high. If there are none, ``rows`` must do.
    components : int
        Most normal distributions in the mixture.
    seed : int
        Of the mixture's first guess.
    share : float, optional
        Of held-out rows that may count as unlike. With fewer than one in twenty, the limit would
        hang on a handful of rows, and would find fewer of the odd ones.

    Raises
    ------
    InputError
        If there are fewer than two rows.
    """
    if len(rows) < 2:
        raise InputError(f"{len(rows)} rows do not show what usual rows look like; bring more")
    table = _Table.of(rows)
    numbers = table.numbers(rows)
    space = _Space.of(numbers)
    places = space.places(numbers)
    most = max(1, min(components, len(rows) // ROWS_PER_COMPONENT))
    most = min(most, len(np.unique(places.round(DECIMALS), axis=0)))  # few, in a table of texts
    fits = [
        GaussianMixture(k, reg_covar=1e-3, random_state=seed).fit(places)
        for k in range(1, most + 1)
    ]
    best = min(fits, key=lambda mixture: mixture.bic(places))
    usual = UsualRows(-np.inf, share, table, space, best)
    scores = usual.score(held if len(held) else rows)
    limit = float(np.quantile(scores, share, method="lower"))
    return UsualRows(limit, share, table, space, best)


@dataclass(frozen=True)
class _Table:
    """How the columns of a table become numbers of about the same size."""

    typical: pd.Series  # of the columns of numbers
    rarity: dict[str, dict[str, float]]  # of each text: minus the logarithm of its share
    unknown: float  # the rarity of a text that no row had
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame) -> "_Table":
        numeric = [c for c in rows if pd.api.types.is_numeric_dtype(rows[c])]
        typical = rows[numeric].astype(float).median().fillna(0.0)
        texts = [c for c in rows if c not in typical]
        rarity = {
            c: (-np.log(pd.Series(_texts(rows[c])).value_counts(normalize=True))).to_dict()
            for c in texts
        }
        plain = cls(typical, rarity, float(np.log(2 * len(rows))), np.zeros(1), np.ones(1))
        raw = plain._raw(rows)
        spread = raw.std(axis=0)
        # A column that never changed says nothing of a row; the rule for its column watches it.
        spread[spread <= 1e-12 * np.abs(raw).max(axis=0)] = np.inf
        return cls(typical, rarity, plain.unknown, raw.mean(axis=0), spread)

    @property
    def names(self) -> list[str]:
        return [*self.typical.index, *self.rarity]

    def numbers(self, rows: pd.DataFrame) -> np.ndarray:
        """The rows as numbers, of shape (n_samples, n_columns)."""
        raw = (self._raw(rows) - self.centre) / self.spread
        # So that a few huge values do not make all others look alike; about linear near zero,
        # which keeps sums of columns nearly sums.
        return np.arcsinh(raw)

    def _raw(self, rows: pd.DataFrame) -> np.ndarray:
        # Without a column all rows are alike.
        columns = [] if self.names else [np.zeros(len(rows))]
        for name, typical in self.typical.items():
            values = pd.to_numeric(rows[name], errors="coerce") if name in rows else typical
            columns.append(np.broadcast_to(values, len(rows)).astype(float))
            columns[-1][np.isnan(columns[-1])] = typical
        for name, rarity in self.rarity.items():
            texts = _texts(rows[name]) if name in rows else [min(rarity, key=rarity.get)]
            rare = np.array([rarity.get(text, self.unknown) for text in texts])
            columns.append(np.broadcast_to(rare, len(rows)))
        # Room for squares.
        return np.clip(np.column_stack(columns), -1e100, 1e100)


def _texts(values: pd.Series) -> list[str]:
    return [v if isinstance(v, str) else "" for v in values.tolist()]


@dataclass(frozen=True)
class _Space:
    """The directions in which rows differ, each scaled to a spread of 1."""

    centre: np.ndarray
    directions: np.ndarray  # of shape (n_columns, n_directions), largest spread first
    rest: tuple[float, float]  # mean and spread of the last place

    @classmethod
    def of(cls, numbers: np.ndarray) -> "_Space":
        centre = numbers.mean(axis=0)
        _, sizes, axes = np.linalg.svd(numbers - centre, full_matrices=False)
        spread = sizes / np.sqrt(len(numbers))
        kept = spread > max(LEAST_SPREAD * spread[0], 1e-9)
        plain = cls(centre, (axes[kept] / spread[kept, None]).T, (0.0, 1.0))
        last = plain.places(numbers)[:, -1]
        return cls(centre, plain.directions, (float(last.mean()), float(last.std()) or 1.0))

    def places(self, numbers: np.ndarray, absent: np.ndarray | None = None) -> np.ndarray:
        along = (numbers - self.centre) @ self.directions
        if absent is not None and absent.any():
            there = (numbers - self.centre)[:, ~absent] @ self.directions[~absent]
            free = self.directions[absent]
            # Least squares: the values that put the row as near to the centre as the others let it.
            along = there - there @ np.linalg.pinv(free) @ free
        few, rest = along[:, :DIRECTIONS], along[:, DIRECTIONS:]
        distance = np.log((rest**2).mean(axis=1) + 1e-3) if rest.shape[1] else np.zeros(len(few))
        mean, spread = self.rest
        return np.column_stack([few, (distance - mean) / spread])
