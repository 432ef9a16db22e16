"""A challenger beside the champion: whether it fits, and how the two compare."""

from collections.abc import Sequence
from datetime import UTC, datetime
from threading import Lock

import numpy as np
from msgspec.structs import replace

from truefit.project import InputError
from truefit.serving import schemas
from truefit.serving.served import Answers, Served

CHAMPION, CHALLENGER = "champion", "challenger"
PLACE = "challenger"  # of its bundle, in the folder of a case
NEWEST = 10_000  # rows that quantiles are taken of
TIMES = 1_000  # requests that quantiles of their times are taken of
PAIRS = 500  # predictions of both that are shown
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


class Pair:
    """A champion, and a challenger that can stand in for it.

    Parameters
    ----------
    champion, challenger : Served

    Raises
    ------
    InputError
        If the challenger takes or gives anything else than the champion does.
    """

    def __init__(self, champion: Served, challenger: Served):
        if why := _misfit(champion, challenger):
            raise InputError(why)
        self.champion, self.challenger = champion, challenger
        names = [column.name for column in champion.bundle.inputs]
        self._places = [names.index(column.name) for column in challenger.bundle.inputs]
        # Where the champion takes a gap, and the challenger has never seen one.
        self._full = [
            place
            for place, column in zip(self._places, challenger.bundle.inputs, strict=True)
            if champion.bundle.inputs[place].nullable and not column.nullable
        ]
        self.found = Comparison("probability" in champion.manifest.datatypes)

    def challenge(self, columns: Sequence[Sequence], n: int) -> Answers:
        """What the challenger says to columns in the order of the champion's inputs.

        Raises
        ------
        Exception
            Of any kind, if it cannot answer them all with numbers.
        """
        for place in self._full:
            if None in columns[place]:
                raise ValueError("a gap where its training had none")
        return self.challenger.answer([columns[place] for place in self._places], n)


def _misfit(champion: Served, challenger: Served) -> str | None:
    """What makes a challenger another kind of model than the champion, in a sentence."""
    own, other = champion.manifest, challenger.manifest
    known, taken = ({(c.name, c.type) for c in m.inputs} for m in (own, other))
    if known != taken:
        names = sorted({name for name, _ in known ^ taken})
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        return f"it takes other inputs than the champion: {', '.join(names[:3])}{more}"
    if type(own) is not type(other) or own.target.name != other.target.name:
        return f"it predicts {other.target.name}, and the champion {own.target.name}"
    if own.target.unit != other.target.unit:
        return f"it predicts in {other.target.unit!r}, and the champion in {own.target.unit!r}"
    if not own.fits(other):
        return "it knows other classes than the champion, or looks for another one"
    if own.datatypes != other.datatypes:
        return "one of them states an interval around its predictions, and the other does not"
    return None


class Newest:
    """The newest of many numbers."""

    def __init__(self, size: int):
        self._kept, self._seen = np.empty(size), 0

    def add(self, values: Sequence[float]) -> None:
        """Keep some, in place of the oldest."""
        values, size = values[-len(self._kept) :], len(self._kept)
        if len(values) == 1:  # NumPy takes longer
            self._kept[self._seen % size] = values[0]
        else:
            self._kept[np.arange(self._seen, self._seen + len(values)) % size] = values
        self._seen += len(values)

    def values(self) -> np.ndarray:
        """What is kept, the oldest first."""
        size = len(self._kept)
        if self._seen <= size:
            return self._kept[: self._seen].copy()
        return np.roll(self._kept, -(self._seen % size))

    def quantiles(self) -> dict[str, float] | None:
        """`QUANTILES` of what is kept, by name."""
        values = self.values()
        if not len(values):
            return None
        found = np.quantile(values, QUANTILES).tolist()
        return {f"q{100 * q:02.0f}": value for q, value in zip(QUANTILES, found, strict=True)}


class Side:
    """What one of the two models has done."""

    def __init__(self) -> None:
        self.requests = self.rows = 0  # that it answered
        self.scores, self.seconds = Newest(NEWEST), Newest(TIMES)

    def scored(self, scores: np.ndarray, seconds: float) -> None:
        """Keep the predictions for one request, and how long they took."""
        self.scores.add(scores)
        self.seconds.add((seconds,))

    def said(self, served: Served) -> dict:
        """For the comparison; the fields of `truefit.serving.schemas.Side`."""
        return {
            "version": served.version,
            "model": served.manifest.model,
            "requests": self.requests,
            "rows": self.rows,
            "predictions": self.scores.quantiles(),
            "seconds": self.seconds.quantiles(),
        }


class Comparison:
    """What is known of a pair since its challenger came.

    Sums are of all rows, quantiles of the newest `NEWEST`. Several threads may add.

    Parameters
    ----------
    classes : bool
        Whether the predictions are probabilities.
    """

    def __init__(self, classes: bool):
        self.since = datetime.now(UTC)
        self.sides = {CHAMPION: Side(), CHALLENGER: Side()}
        self.failed = self.dropped = self.shadowed = 0  # requests
        self._classes = classes
        self._differences, self._apart = Newest(NEWEST), Newest(NEWEST)
        self._rows = self._called = 0
        self._sum = self._apart_sum = self._largest = self._apart_largest = 0.0
        self._means, self._squares = np.zeros(2), np.zeros((2, 2))  # for the correlation
        self._lock = Lock()

    def answered(self, role: str, answers: Answers, seconds: float, *, keep: bool) -> None:
        """Count an answer; keep what it says, unless only rows count that both score."""
        with self._lock:
            side = self.sides[role]
            side.requests += 1
            side.rows += len(answers.scores)
            if keep:
                side.scored(answers.scores, seconds)

    def miss(self, *, failed: bool) -> None:
        """Count a request that the challenger failed, or that was dropped."""
        with self._lock:
            self.failed += failed
            self.dropped += not failed

    def both(self, first: Answers, second: Answers, seconds: tuple[float, float]) -> np.ndarray:
        """Compare what champion and challenger say to the same rows.

        Returns
        -------
        ndarray
            How far they are apart; see `apart`.
        """
        scores = np.stack([first.scores, second.scores]).astype(np.float64)
        far, difference = apart(*scores, classes=self._classes), scores[1] - scores[0]
        said = zip(first.outputs["prediction"], second.outputs["prediction"], strict=True)
        called = sum(a != b for a, b in said) if self._classes else 0
        with self._lock:
            self.shadowed += 1
            for side, values, spent in zip(self.sides.values(), scores, seconds, strict=True):
                side.scored(values, spent)
            self._differences.add(difference)
            self._apart.add(far)
            self._sum += float(difference.sum())
            self._apart_sum += float(far.sum())
            self._largest = max(self._largest, float(np.abs(difference).max()))
            self._apart_largest = max(self._apart_largest, float(far.max()))
            self._called += called
            self._correlate(scores)
        return far

    def _correlate(self, scores: np.ndarray) -> None:
        """Add to means and sums of squares (Chan, Golub and LeVeque, 1983)."""
        n, before = scores.shape[1], self._rows
        means = scores.mean(axis=1)
        centred, moved = scores - means[:, None], means - self._means
        self._squares += centred @ centred.T + np.outer(moved, moved) * before * n / (before + n)
        self._means += moved * n / (before + n)
        self._rows += n

    def said(self, pair: Pair) -> dict:
        """The comparison for the API: fields of `truefit.serving.schemas.Comparison`."""
        with self._lock:
            champion, challenger = self.sides[CHAMPION], self.sides[CHALLENGER]
            return {
                "since": self.since.isoformat(timespec="seconds"),
                "champion": schemas.Side(**champion.said(pair.champion)),
                "challenger": schemas.Challenger(
                    **challenger.said(pair.challenger), failed=self.failed
                ),
                "shadow": self._shadow() if self.shadowed or self.dropped else None,
            }

    def _shadow(self) -> schemas.Shadow:
        n = self._rows
        found = schemas.Shadow(requests=self.shadowed, rows=n, dropped=self.dropped)
        if not n:
            return found
        difference = {"mean": self._sum / n, "largest": self._largest}
        far = {"mean": self._apart_sum / n, "largest": self._apart_largest}
        pairs = np.stack([side.scores.values()[-PAIRS:] for side in self.sides.values()], axis=1)
        spread = np.sqrt(np.diag(self._squares)).prod()
        return replace(
            found,
            difference=difference | self._differences.quantiles(),
            apart=far | self._apart.quantiles(),
            correlation=self._squares[0, 1].item() / spread.item() if spread > 0 else None,
            called_differently=self._called / n if self._classes else None,
            pairs=pairs.tolist(),
        )


def apart(first: np.ndarray, second: np.ndarray, *, classes: bool) -> np.ndarray:
    """How far predictions are apart: probabilities as such, others in shares of the larger one."""
    difference = np.abs(second - first)
    if classes:
        return difference
    larger = np.maximum(np.abs(first), np.abs(second))
    return np.divide(difference, larger, out=np.zeros(len(larger)), where=larger > 0)
