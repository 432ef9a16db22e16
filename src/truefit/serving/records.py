"""Read records from a request, strictly: every column there, of its type, and only once."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from itertools import count
from math import isfinite
from typing import Any

import msgspec

from truefit.manifest import Column
from truefit.project import InputError
from truefit.serving import schemas
from truefit.serving.limits import check_values
from truefit.serving.problems import Problem, shown

# msgspec's messages end in the place, if it is not the whole body: "… - at `$[3].speed`".
PLACE = re.compile(r"^(?P<what>.*) - at `\$(?:\[(?P<row>\d+)\])?(?:\.(?P<column>.*))?`$", re.S)
GOT = re.compile(r"^Expected `(?P<wanted>.*)`, got `(?P<got>.*)`$", re.S)
FIELD = re.compile(r"^Object (?P<what>.*?) field `(?P<name>.*)`$", re.S)
SURROGATE = re.compile(r"[\ud800-\udfff]")
WORDS = {"str": "a text", "bool": "true or false", "null": "null", "array": "a list"}
WORDS |= {"object": "an object", "int": "a number", "float": "a number"}


class Records:
    """Reads the records of one case.

    Parameters
    ----------
    inputs : sequence of Column
        Of the bundle.
    id : str or None
        The column that names a row; a record may have it.

    Raises
    ------
    InputError
        If a column has a name that cannot be a key of a record.
    """

    def __init__(self, inputs: Sequence[Column], id: str | None):
        self._inputs = {column.name: column for column in inputs}
        self._known = {*self._inputs, id}
        self._has_id = id is not None and id not in self._inputs
        try:
            row = schemas.record("Row", inputs, id)
        except ValueError:
            raise InputError(
                "a column whose name has a quotation mark, a backslash or a control character "
                "cannot be served; rename it in the table"
            ) from None
        self._one, self._many = msgspec.json.Decoder(row), msgspec.json.Decoder(list[row])

    def read(self, body: bytes, most: int) -> tuple[list[Sequence], int, list | None]:
        """The columns of a body with one record or an array of them.

        Parameters
        ----------
        body : bytes
            JSON.
        most : int
            Records allowed.

        Returns
        -------
        columns : list of sequences
            In the order of the inputs, each with n_samples values.
        n_samples : int
        ids : list or None
            If the records name themselves.

        Raises
        ------
        Problem
            400 for what is not JSON, 413 for too many records, 422 for wrong ones.
        """
        check_values(body, most, len(self._inputs))
        many = body.lstrip()[:1] == b"["
        try:
            rows = self._many.decode(body) if many else [self._one.decode(body)]
        except msgspec.ValidationError as error:
            raise self._problem(str(error), many) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise self._unreadable(body, many) or not_json(error) from None
        if not rows:
            raise Problem(422, "the list of records is empty; send at least one record")
        if len(rows) > most:
            raise too_many(len(rows), most)
        values = [msgspec.structs.astuple(row) for row in rows]
        columns: list[Sequence] = list(zip(*values, strict=True))
        ids = columns.pop() if self._has_id else ()
        named = sum(v is not msgspec.UNSET for v in ids)
        # Each key has a colon; so if there are no more of them than keys, no key came twice.
        if body.count(b":") > len(self._inputs) * len(rows) + named and (
            repeated := repeated_key(body)
        ):
            row, column, _ = repeated
            place = f"row {row}: " if many else ""
            said = f"{place}the column {column} is there twice; send it once"
            raise Problem(422, said, row=row if many else None, column=column)
        if not named:
            return columns, len(rows), None
        return columns, len(rows), [None if v is msgspec.UNSET else v for v in ids]

    def _problem(self, message: str, many: bool) -> Problem:
        what, row, column = message, None, None
        # What a single record has too much of has no place, and any name that a client chose.
        if (many or "unknown" not in message) and (found := PLACE.match(message)):
            what, row, column = found.groups()
            row = None if row is None else int(row) + 1
        place = f"row {row}: " if row else ""
        if got := GOT.match(what):
            return self._wrong_type(place, row, column, got["wanted"], got["got"])
        if what.endswith("out of range"):
            said = f"{place}{shown(column or '')} has a number beyond all limits"
            return Problem(422, said, row=row, column=column)
        field = FIELD.match(what)
        name = field["name"]
        if field["what"].startswith("missing"):
            known = self._inputs.get(name)
            hint = ", or null if it is not known" if known and known.nullable else ""
            said = f"{place}the column {name} is missing; send its value{hint}"
            return Problem(422, said, row=row, column=name)
        said = f"{place}the column {shown(name)} is not known to this model; leave it out"
        return Problem(422, said, row=row, column=shown(name))

    def _unreadable(self, body: bytes, many: bool) -> Problem | None:
        found = lax(body)
        for n, row in enumerate(found if isinstance(found, list) else [found], 1):
            for column, value in row.items() if isinstance(row, dict) else ():
                if column in self._known and (
                    problem := unreadable(value, n if many else None, column)
                ):
                    return problem
        return None

    def _wrong_type(
        self, place: str, row: int | None, name: str | None, wanted: str, got: str
    ) -> Problem:
        if name is None:
            what = f"{place}a record" if place else "the body"
            said = f"{what} must be an object with a value for each column"
            return Problem(422, said, row=row)
        if got == "null":
            said = f"{place}{name} must not be null: no training row was without it"
        else:
            kind = " or ".join(
                said for type, said in (("str", "a text"), ("float", "a number")) if type in wanted
            )
            null = " or null" if "null" in wanted else ""
            said = f"{place}{name} must be {kind}{null}, and is {WORDS.get(got, got)}"
        return Problem(422, said, row=row, column=name)


def not_json(error: Exception) -> Problem:
    """What to say of a body that is no JSON."""
    if isinstance(error, UnicodeDecodeError):
        return Problem(400, "the body is not UTF-8; encode it so")
    if isinstance(error, RecursionError):
        return Problem(400, "the body is nested too deeply; a record has no depth")
    why = str(error).removeprefix("JSON is malformed: ")
    return Problem(
        400,
        f"the body is not JSON: {why[:1].lower()}{why[1:]}; NaN and Infinity are no JSON either: "
        "send null for what is not known",
    )


def too_many(n: int, most: int) -> Problem:
    """What to say of a batch beyond the limit."""
    return Problem(413, f"{n} rows are too many for one request; send at most {most} at a time")


# Where the strict parser says only that something is wrong, the standard library's, which is
# slower, says where.


def lax(body: bytes) -> Any:
    """The body as the standard library reads it, with NaN and what is not Unicode; else None."""
    try:
        return json.loads(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None


def unreadable(value: Any, row: int | None, column: str) -> Problem | None:
    """What to say of a value that only `lax` reads."""
    if isinstance(value, float) and not isfinite(value):
        why = f"is {json.dumps(value)}, which JSON does not have; what is not known is null"
    elif isinstance(value, str) and SURROGATE.search(value):
        why = "has a text that is not valid Unicode; encode it in UTF-8"
    else:
        return None
    return Problem(400, f"{f'row {row}: ' if row else ''}{column} {why}", row=row, column=column)


def repeated_key(body: bytes) -> tuple[int, str, dict] | None:
    """The first object that has a key twice, of which a parser would take the last.

    Returns
    -------
    number : int
        Of the object, from 1, in the order in which they end.
    key : str
    object : dict
    """
    number, repeated = count(1), []

    def check(pairs: list[tuple[str, Any]]) -> dict:
        n, found = next(number), dict(pairs)
        if len(found) < len(pairs) and not repeated:
            key = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
            repeated.append((n, key, found))
        return found

    try:  # whole numbers may be too long for it, and are not looked at
        json.loads(body, object_pairs_hook=check, parse_int=float)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from None
    return repeated[0] if repeated else None
