"""A bundle, with all that answering needs made once."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import isfinite
from typing import Any, NamedTuple

import numpy as np
from msgspec.structs import asdict

from truefit.bundle import LARGEST, Bundle
from truefit.manifest import Column
from truefit.project import InputError
from truefit.serving import schemas
from truefit.serving.problems import Problem, shown
from truefit.serving.records import Records

NONE = ()  # warnings of most rows: one for all
FEW = 4  # rows up to which a loop is quicker than NumPy


class Unlike(NamedTuple):
    """Values of a column that are unlike any in training.

    They may be as many as there are values, so each gets its sentence only when it is written.
    """

    column: Column
    kind: str  # below, above or unseen
    rows: Sequence[int]  # from 0, in order
    values: Sequence

    def warning(self, value: Any) -> schemas.Warned:
        """What the API says of one of them."""
        name = self.column.name
        return schemas.Warned(column=name, value=value, reason=self._reason(value))

    def _reason(self, value: Any) -> str:
        if self.kind == "unseen":
            return f"{shown(value)} is a category that training did not see"
        end, most = (
            (self.column.minimum, "smallest")
            if self.kind == "below"
            else (self.column.maximum, "largest")
        )
        return f"{value:.10g} is {self.kind} {end:.10g}, the {most} in training"


class Answers(NamedTuple):
    """What the model said to some rows, by output: lists of equal length."""

    outputs: dict[str, list]
    scores: np.ndarray
    unlike: list[Unlike]


class Served:
    """What answers the requests for one case.

    Parameters
    ----------
    bundle : Bundle

    Raises
    ------
    InputError
        If the bundle loads but cannot answer.
    """

    def __init__(self, bundle: Bundle):
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.version = bundle.version
        self.records = Records(bundle.inputs, self.manifest.id)
        self._prediction = schemas.prediction(self.description)
        self._seen = {c.name: frozenset(c.categories or ()) for c in bundle.inputs}
        try:  # a row as most are: the first answer costs more than the others, and shows what fails
            answered = np.isfinite(bundle.score(self.typical_row())).all()
        except Exception as error:  # ONNX Runtime has no common class of them
            answered, why = False, str(error).splitlines()[0][:200]
        else:
            why = "it gives no number"
        if not answered:
            raise InputError(
                f"{bundle.folder} cannot answer a typical row ({why}); export the bundle anew"
            )

    def typical_row(self) -> dict[str, list]:
        """One row with the typical value of each column."""
        return {c.name: [c.typical] for c in self.bundle.inputs}

    def answer(self, columns: Sequence[Sequence], n: int) -> Answers:
        """Predictions for checked columns, with a warning for each value unlike any in training.

        Parameters
        ----------
        columns : sequence of sequences
            In the order of the inputs, each with n values: numbers or texts, None for a gap.
        n : int
            At least 1.

        Raises
        ------
        Problem
            422 if a number is larger than the model can take or makes its answer infinite, or a
            text is empty that never was.
        """
        unlike: list[Unlike] = []
        feed: dict[str, Sequence] = {}
        for column, values in zip(self.bundle.inputs, columns, strict=True):
            if column.type == "number" and n > FEW:
                values = np.array(values, dtype=np.float64)
                unlike += _look_at_many(column, values)
            elif column.type == "number":
                unlike += _look_at_few(column, values)
            else:
                unlike += self._look_at_texts(column, values)
            feed[column.name] = values
        scores = self.bundle.score(feed)
        if not isfinite(scores.sum()):
            _refuse_infinite(scores)
        return Answers(self.manifest.answers(scores), scores, unlike)

    def _look_at_texts(self, column: Column, values: Sequence) -> list[Unlike]:
        seen = self._seen[column.name]
        if seen.issuperset(values):  # as nearly always
            return []
        if not column.nullable and "" not in seen and "" in values:  # a gap, as in a table
            row = values.index("") + 1
            said = f"row {row}: {column.name} must not be empty: no training row was"
            raise Problem(422, said, row=row, column=column.name)
        odd = [row for row, value in enumerate(values) if value and value not in seen]
        return [Unlike(column, "unseen", odd, [values[row] for row in odd])] if odd else []

    def predictions(self, answers: Answers, ids: list | None, some: slice) -> list:
        """The answers to some of the rows, row by row; see `truefit.serving.schemas.prediction`."""
        outputs = {name: values[some] for name, values in answers.outputs.items()}
        rows = self.manifest.rows(outputs, self._prediction, NONE)
        for unlike in answers.unlike:
            first, end = (bisect_left(unlike.rows, row) for row in (some.start, some.stop))
            for at in range(first, end):
                rows[unlike.rows[at] - some.start].warnings += (unlike.warning(unlike.values[at]),)
        for id, row in zip(ids[some], rows, strict=True) if ids else ():
            row.id = id
        return rows

    @cached_property
    def description(self) -> schemas.Description:
        """What a client must know to send a record."""
        m, inputs = self.manifest, [asdict(column) for column in self.bundle.inputs]
        for known, column in zip(inputs, self.bundle.inputs, strict=True):
            known |= {
                "typical": None if column.typical == "" else column.typical,
                "nullable": column.nullable,
            }
        return schemas.Description(
            case=m.case,
            title=m.title,
            about=m.about,
            task=m.task,
            target=m.target,
            **m.decision,
            id=m.id,
            model=m.model,
            version=self.version,
            training_rows=m.data.training_rows,
            inputs=[schemas.Input(**known) for known in inputs],
        )

    @cached_property
    def answer_type(self) -> type[Any]:
        """The type of an answer to a request; see `truefit.serving.schemas.predictions`."""
        return schemas.predictions(self.description)


def _look_at_few(column: Column, values: Sequence) -> list[Unlike]:
    low, high, found = column.minimum, column.maximum, []
    for row, value in enumerate(values):
        if value is None or (low is not None and low <= value <= high):
            continue
        if not abs(value) <= LARGEST:
            raise _too_large(column, row, value)
        if low is not None:
            found.append(Unlike(column, "below" if value < low else "above", [row], [value]))
    return found


def _look_at_many(column: Column, values: np.ndarray) -> list[Unlike]:
    with np.errstate(invalid="ignore"):
        beyond = np.abs(values) > LARGEST
        if beyond.any():
            at = int(beyond.argmax())
            raise _too_large(column, at, values[at].item())
        if column.minimum is None:
            return []
        odd = {"below": values < column.minimum, "above": values > column.maximum}
    return [
        Unlike(column, kind, np.flatnonzero(there).tolist(), values[there].tolist())
        for kind, there in odd.items()
        if there.any()
    ]


def _refuse_infinite(scores: np.ndarray) -> None:
    """Raise a Problem for the first answer that is no number; the sum alone may be infinite."""
    for at in np.flatnonzero(~np.isfinite(scores))[:1].tolist():
        said = f"row {at + 1}: the answer is beyond all numbers; look for a value far out of range"
        raise Problem(422, said, row=at + 1)


def _too_large(column: Column, row: int, value: float) -> Problem:
    said = f"row {row + 1}: {column.name} is {value:g}, and no number may be beyond {LARGEST:.1e}"
    return Problem(422, said, row=row + 1, column=column.name)


# Why an answer is what it is


def contributions(served: Served, row: Mapping[str, Any], pairs: int = 8) -> dict:
    """How far each column moved the answer from that for a typical row.

    Shapley values against one reference row, by sampling: columns take the row's values one after
    another, in a random order and then in the reverse of it; a column's contribution is the mean
    change when its turn comes. They add up exactly. Columns with the typical value have none.

    Parameters
    ----------
    row : mapping from name to value
        One record.
    pairs : int
        Orders to draw, each taken forwards and backwards.

    References
    ----------
    Štrumbelj and Kononenko, Explaining prediction models and individual predictions with feature
    contributions, Knowledge and Information Systems 41, 2014.
    """
    typical = {c.name: c.typical for c in served.bundle.inputs}
    others = [name for name in typical if row[name] != typical[name]]
    rng = np.random.default_rng(0)  # the same question gets the same answer
    orders = [o for _ in range(pairs) for p in [rng.permutation(len(others))] for o in (p, p[::-1])]
    steps = len(others) + 1
    ranks = np.array([np.argsort(order) for order in orders]).reshape(len(orders), len(others))
    taken = ranks[:, None, :] < np.arange(steps)[None, :, None]  # by order, step and column
    columns = {name: [value] * (len(orders) * steps) for name, value in typical.items()}
    for j, name in enumerate(others):
        columns[name] = [row[name] if t else typical[name] for t in taken[..., j].ravel()]
    scores = served.bundle.score(columns).reshape(len(orders), steps)
    # In float32 an answer depends, in its last digits, on its place among others.
    scores[:, [0, -1]] = scores[0, [0, -1]]
    changes = np.diff(scores, axis=1)
    moved = [
        (name, float(np.mean([changes[o, ranks[o, j]] for o in range(len(orders))])))
        for j, name in enumerate(others)
    ]
    moved.sort(key=lambda pair: -abs(pair[1]))
    return {
        "prediction": float(scores[0, -1]),
        "typical": float(scores[0, 0]),
        "contributions": [
            schemas.Contribution(column=n, value=row[n], typical=typical[n], contribution=c)
            for n, c in moved
        ],
    }
