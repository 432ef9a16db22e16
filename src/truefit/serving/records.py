"""Read records from a request, strictly: every column there, of its type, and only once."""

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from truefit.bundle import Column
from truefit.project import InputError
from truefit.serving.problems import Problem, shown

# msgspec's messages end in the place: "… - at `$[3].speed`".
PLACE = re.compile(
    r"^(?P<what>.*?)(?: - at `\$(?:\[(?P<row>\d+)\])?(?:\.(?P<column>.*?))?`)?$", re.S
)
GOT = re.compile(r"^Expected `(?P<wanted>.*)`, got `(?P<got>.*)`$", re.S)
FIELD = re.compile(r"field `(?P<name>.*)`$", re.S)
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
        kinds = {"number": float, "text": str}
        fields: list[tuple] = []
        for i, column in enumerate(inputs):
            kind = kinds[column.type]
            fields.append((f"f{i}", kind | None if column.nullable else kind))
        names = {f"f{i}": column.name for i, column in enumerate(inputs)}
        self._has_id = id is not None and id not in self._inputs
        if self._has_id:
            fields.append(("id", str | int | float | None | msgspec.UnsetType, msgspec.UNSET))
            names["id"] = id
        try:
            row = msgspec.defstruct(
                "Row", fields, rename=names, forbid_unknown_fields=True, gc=False
            )
        except ValueError:
            raise InputError(
                "a column whose name has a quotation mark, a backslash or a control character "
                "cannot be served; rename it in the table"
            ) from None
        self._one, self._many = msgspec.json.Decoder(row), msgspec.json.Decoder(list[row])
        self._colons = len(inputs) + sum(column.name.count(":") for column in inputs)
        self._id_colons = 1 + (id or "").count(":")

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
        try:
            if body.lstrip()[:1] == b"[":
                rows = self._many.decode(body)
            else:
                rows = [self._one.decode(body)]
        except msgspec.ValidationError as error:
            raise self._problem(str(error), body) from None
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise not_json(error) from None
        if not rows:
            raise Problem(422, "the list of records is empty; send at least one record")
        if len(rows) > most:
            raise too_many(len(rows), most)
        values = [msgspec.structs.astuple(row) for row in rows]
        columns = list(zip(*values, strict=True))
        ids = columns.pop() if self._has_id else ()
        named = sum(v is not msgspec.UNSET for v in ids)
        # Each key has a colon; so if there are no more of them than keys, no key came twice.
        if body.count(b":") != self._colons * len(rows) + self._id_colons * named:
            refuse_repeated_keys(body)
        if not named:
            return columns, len(rows), None
        return columns, len(rows), [None if v is msgspec.UNSET else v for v in ids]

    def _problem(self, message: str, body: bytes) -> Problem:
        found = PLACE.match(message)
        row = None if found["row"] is None else int(found["row"]) + 1
        column, what = found["column"], found["what"]
        place = f"row {row}: " if row else ""
        if got := GOT.match(what):
            return self._wrong_type(place, row, column, got["wanted"], got["got"])
        if what.startswith("Number out of range"):
            said = f"{place}{shown(column or '')} has a number beyond all limits"
            return Problem(422, said, row=row, column=column)
        name = (FIELD.search(what) or {"name": ""})["name"]
        if "missing" in what:
            known = self._inputs.get(name)
            hint = ", or null if it is not known" if known and known.nullable else ""
            said = f"{place}the column {name} is missing; send its value{hint}"
            return Problem(422, said, row=row, column=name)
        said = f"{place}the column {shown(name)} is not known to this model; leave it out"
        return Problem(422, said, row=row, column=shown(name))

    def _wrong_type(self, place: str, row: int | None, name: str | None, wanted: str, got: str):
        if name is None:
            said = f"{place or 'the body '}must be an object with a value for each column"
            if place:
                said = f"{place}a record must be an object with a value for each column"
            return Problem(422, said, row=row)
        known = self._inputs.get(name)
        if got == "null":
            said = f"{place}{name} must not be null: no training row was without it"
        else:
            kind = "a number" if "float" in wanted and "str" not in wanted else "a text"
            null = " or null" if known and known.nullable else ""
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


def refuse_repeated_keys(body: bytes) -> None:
    """Raise a Problem if an object has the same key twice, of which a parser would take the last.

    The standard library's parser is slower and says so only through this hook.
    """

    def check(pairs: list[tuple[str, Any]]) -> dict:
        found = dict(pairs)
        if len(found) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise Problem(
                422, f"the column {shown(twice)} is there twice in one object; send it once"
            )
        return found

    try:
        json.loads(body, object_pairs_hook=check)
    except (ValueError, RecursionError) as error:
        raise not_json(error) from None
