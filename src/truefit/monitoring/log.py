"""Read what a running service keeps of its requests, and the labels that come later.

The service may be writing at the same moment. Nothing here creates, changes or locks a file of its
log, and what cannot be read is said and does not keep the rest from being read.
"""

import errno
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import msgspec
import numpy as np
import pandas as pd

from truefit.bundle import Bundle
from truefit.case import ABSENT, Case
from truefit.data_prep.read import EXACT_IN_FLOAT, read_table
from truefit.monitoring.traffic import Traffic
from truefit.project import InputError
from truefit.serving.request_log import PAUSE, SCHEMA

DAYS = "????-??-??.sqlite"
# How people read a period: ISO 8601, but for the hour.
PERIODS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}
# Two threads of a service answer, so entries lie out of order by moments, however good its clock.
JITTER = 1.0  # seconds
AT_ONCE = 5_000  # rows kept as they were decoded; beyond them they become a table, a tenth as large
TRIES = 5  # to read a file that a service opens or closes at that moment
HELD = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL}
HELD |= {sqlite3.SQLITE_READONLY}  # a reader without the right to put a writer's notes in order
SHOWN = 3  # ids in a sentence
SHADOW = ""  # the column of a challenger's scores, while a log is read; no input is called so
BY_REQUEST = ("request_id", "row")  # what names a row where the client did not


@dataclass(frozen=True)
class Logged(Traffic):
    """Traffic of a log, in which a row has a name of the service's own, too."""

    requests: pd.Series | None = None  # request id, a slash, and the row's number in the request
    shadow: pd.Series | None = None  # scores of a challenger beside the answers; NaN without one
    challenger: str | None = None  # its version

    def take(self, at: Sequence[int] | np.ndarray) -> Self:
        """Some of the rows, by position or by a mask."""
        own = {name: getattr(self, name).loc[at].reset_index(drop=True)
               for name in ("requests", "shadow")}  # fmt: skip
        return replace(super().take(at), **own)


@dataclass(frozen=True)
class Labels:
    """What became of some rows."""

    source: str
    by: str  # the column that names the rows, or "request_id"
    values: pd.Series  # number by name; the target, or 1 for the positive class and 0
    contradictory: frozenset[str] = frozenset()  # names whose labels differ
    notes: tuple[str, ...] = ()


class _Shadow(msgspec.Struct, gc=False):
    """What a challenger said to the same rows."""

    version: str
    outputs: dict[str, list]


class _Entry(msgspec.Struct, array_like=True, gc=False):
    """A request as it is written; see `truefit.serving.request_log`."""

    time: datetime
    request_id: str
    version: str
    rows: int
    ids: list | None
    inputs: dict[str, list]
    outputs: dict[str, list]
    role: str | None = None  # the first schema ends before
    shadow: _Shadow | None = None


# One entry after another: the lists of many at once would keep Python's collector of garbage busy
# for ten times as long as it takes to make them.
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder(_Entry).decode


# The log


def read_log(folder: Path, case_name: str, bundle: Bundle, case: Case, *, every: str) -> Logged:
    """The rows that a service answered with a bundle, in the order of their time.

    Parameters
    ----------
    folder : Path
        That ``truefit serve --log`` writes; the case's entries are in a folder of its name there.
    case_name : str
    bundle : Bundle
        Rows that another version answered are left out.
    case : Case
        Its block in ``params.yaml``.
    every : str
        ``hour``, ``day``, ``week`` or ``month``: the period, in UTC, that makes a window.

    Returns
    -------
    Logged
        Without truth, which `join` brings. A column that was masked in any request is not there.
        The notes say what was left out, and what is odd.

    Raises
    ------
    InputError
        If there is no such log, or no row in it that can be used.
    """
    source = Path(folder) / case_name
    gathered = _Gathered(bundle, case)
    files = _files(Path(folder), case_name)
    for file in files:
        gathered.read(file)
    if not gathered.n:
        raise InputError(gathered.why_empty(source, case_name))
    return gathered.traffic(PERIODS[every])


def _files(folder: Path, case_name: str) -> list[Path]:
    if not folder.is_dir():
        raise InputError(
            f"there is no log in {folder}; name the folder that `truefit serve --log` writes"
        )
    try:
        files = sorted((folder / case_name).glob(DAYS))
        others = sorted(f.parent.name for f in folder.glob(f"*/{DAYS}"))
    except OSError as error:
        raise InputError(f"the log {folder} cannot be read: {error.strerror}") from None
    if not files:
        there = f"; it has {', '.join(dict.fromkeys(others))}" if others else ""
        if any(folder.glob(DAYS)):
            there = "; it is the log of one case: name the folder above"
        raise InputError(f"the log {folder} has no day of {case_name}{there}")
    return files


@dataclass
class _Day:
    """What one file has, as it is read."""

    columns: dict[str, list]  # the values of the newest rows
    tables: list[pd.DataFrame] = field(default_factory=list)  # of the rows before
    times: list[datetime] = field(default_factory=list)  # of each entry, in the order written
    requests: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    # Of an entry that was written when a second model had answered: its version.
    challengers: list[str | None] = field(default_factory=list)
    ids: list = field(default_factory=list)  # of each row
    n: int = 0
    lacking: dict[str, int] = field(default_factory=dict)  # rows without a column
    others: dict[str, tuple[int, set[str]]] = field(default_factory=dict)  # rows and columns
    damaged: int = 0  # places


class _Gathered:
    """The days read so far."""

    def __init__(self, bundle: Bundle, case: Case):
        self._bundle, self._case = bundle, case
        self._inputs = {column.name: column for column in bundle.inputs}
        self._answer, self._outputs = bundle.manifest.output, bundle.manifest.logged
        self.days: list[_Day] = []
        self.notes: list[str] = []

    @property
    def n(self) -> int:
        return sum(day.n for day in self.days)

    def read(self, file: Path) -> None:
        """Take all of a file that can be read."""
        why = ""
        try:
            try:
                day = self._day(file)
            except sqlite3.Error as error:
                why, day = str(error), self._day(file, lenient=True)
        except FileNotFoundError:
            self.notes.append(f"{file.name} was deleted before it was read")
            return
        except OSError as error:
            self.notes.append(f"{file.name} cannot be read ({error.strerror}), and is left out")
            return
        except _UnusableError as error:
            self.notes.append(f"{file.name} {error}, and is left out")
            return
        self.days.append(day)
        if why:
            kept = f"; {_count(day.n, 'row')} before the damage {_are(day.n)} kept"
            self.notes.append(f"{file.name} is damaged ({why}) and left out{kept if day.n else ''}")
        elif day.damaged:
            places = _count(day.damaged, "place")
            self.notes.append(f"{file.name} is damaged in {places}; what stood there is left out")
        elif not day.n and not day.others:
            self.notes.append(f"{file.name} has no entry")

    def _day(self, file: Path, lenient: bool = False) -> _Day:
        for _ in range(TRIES):
            day = _Day({name: [] for name in (*self._inputs, *self._outputs, SHADOW)})
            try:
                with _moments(file, lenient) as moments:
                    for moment in moments:
                        self._take(moment, day)
            except _ChangedError:
                time.sleep(PAUSE)
                continue
            except sqlite3.Error:
                if not lenient:
                    raise
            self._flush(day)
            return day
        raise _UnusableError("could not be opened while a service has it")

    def _take(self, moment: bytes, day: _Day) -> None:
        try:
            for written in _split(moment):
                self._take_entry(_decode(written), day)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            day.damaged += 1

    def _take_entry(self, entry: _Entry, day: _Day) -> None:
        if entry.version != self._bundle.version or not entry.inputs.keys() <= self._inputs.keys():
            rows, names = day.others.get(entry.version, (0, set()))
            day.others[entry.version] = rows + entry.rows, names | entry.inputs.keys()
            return
        if not self._is_whole(entry):
            day.damaged += 1
            return
        columns = day.columns
        for name, values in entry.inputs.items():
            columns[name] += values
        for name in self._inputs.keys() - entry.inputs.keys():
            columns[name] += [None] * entry.rows
            day.lacking[name] = day.lacking.get(name, 0) + entry.rows
        for name in self._outputs:
            columns[name] += entry.outputs[name]
        day.times.append(entry.time.astimezone(UTC))
        day.requests.append(entry.request_id)
        day.counts.append(entry.rows)
        shadow = entry.shadow
        columns[SHADOW] += shadow.outputs[self._answer] if shadow else [None] * entry.rows
        day.challengers.append(shadow.version if shadow else None)
        day.ids += entry.ids or [None] * entry.rows
        day.n += entry.rows
        if len(next(iter(columns.values()))) >= AT_ONCE:
            self._flush(day)

    def _is_whole(self, entry: _Entry) -> bool:
        lists = [*entry.inputs.values(), *([] if entry.ids is None else [entry.ids])]
        lists += [entry.outputs.get(name, ()) for name in self._outputs]
        lists += [entry.shadow.outputs.get(self._answer, ())] if entry.shadow else []
        return entry.time.tzinfo is not None and {*map(len, lists)} == {entry.rows}

    def _flush(self, day: _Day) -> None:
        """Turn the lists into a table."""
        day.tables.append(
            pd.DataFrame({name: self._values(name, found) for name, found in day.columns.items()})
        )
        day.columns = {name: [] for name in day.columns}

    def _values(self, name: str, found: list) -> pd.Series:
        if name in self._inputs and self._inputs[name].type == "text":
            texts = pd.Series(found, dtype="str")
            # An empty text is a gap, as in a table.
            return texts.mask(texts.isin(["", ABSENT] if name in self._case.absent else [""]))
        try:
            return pd.Series(np.array(found, dtype=np.float64))
        except (TypeError, ValueError):
            raise _UnusableError(f"has a text where {name} must be a number") from None

    def why_empty(self, source: Path, case_name: str) -> str:
        """Why there is no row."""
        others = self._others()
        if not others:
            return f"the log {source} has no entry to read: {'; '.join(self.notes)}"
        for rows, names in others.values():
            for name in sorted(names - self._inputs.keys()):
                return (
                    f"{source} is not a log of {case_name}: its {_count(rows, 'row')} have the "
                    f"column {name!r}, which the model does not take"
                )
        answered = ", ".join(f"{v} ({_count(rows, 'row')})" for v, (rows, _) in others.items())
        return (
            f"no row in {source} was answered by version {self._bundle.version}, which is the "
            f"bundle in {self._bundle.folder}; they were answered by {answered}; to watch another "
            f"version, run this in a clone after git checkout {case_name}@VERSION and dvc checkout "
            "(truefit registry lists them)"
        )

    def _others(self) -> dict[str, tuple[int, set[str]]]:
        """Rows and columns of each other version, the one with most rows first."""
        found: dict[str, tuple[int, set[str]]] = {}
        for day in self.days:
            for version, (rows, names) in day.others.items():
                before, known = found.get(version, (0, set()))
                found[version] = before + rows, known | names
        return dict(sorted(found.items(), key=lambda item: (-item[1][0], item[0])))

    def traffic(self, period: str) -> Logged:
        """All rows, sorted by time."""
        days = [day for day in self.days if day.n]
        counts = np.concatenate([day.counts for day in days])
        times = [moment for day in days for moment in day.times]
        windows = pd.Series([f"{moment:{period}}" for moment in times])
        requests = [request for day in days for request in day.requests]
        names = [f"{r}/{i + 1}" for r, n in zip(requests, counts, strict=True) for i in range(n)]
        own = [_name(id) for day in days for id in day.ids]
        ids = [name if id is None else id for id, name in zip(own, names, strict=True)]

        entry = np.repeat(np.arange(len(times)), counts)
        order = np.argsort(_seconds(times)[entry], kind="stable")
        table = pd.concat([table for day in days for table in day.tables], ignore_index=True)
        table = table.iloc[order].reset_index(drop=True)
        challengers = [version for day in days for version in day.challengers]
        challenger = next((v for v in reversed(challengers) if v), None)
        by_it = np.array([v == challenger for v in challengers])[entry[order]]
        lacking = {name: sum(day.lacking.get(name, 0) for day in days) for name in self._inputs}
        return Logged(
            rows=table[[name for name in self._inputs if not lacking[name]]],
            answers=table[list(self._outputs)].rename(columns=self._outputs),
            truth=pd.Series(np.nan, index=table.index),
            windows=windows[entry[order]].reset_index(drop=True),
            ids=pd.Series(ids, dtype="str")[order].reset_index(drop=True),
            notes=(*self.notes, *self._odd(days), *self._masked(lacking), *self._left_out()),
            requests=pd.Series(names, dtype="str")[order].reset_index(drop=True),
            shadow=table[SHADOW].where(by_it),
            challenger=challenger,
        )

    def _odd(self, days: list[_Day]) -> Iterator[str]:
        """A clock that ran backwards."""
        back = np.concatenate([_backwards(day) for day in days])
        if n := int((back > JITTER).sum()):
            yield (
                f"the service's clock ran backwards: {_count(n, 'request')} {_are(n)} dated before "
                f"one that was written earlier, by {back.max():,.0f} s at most; rows are sorted by "
                "their date"
            )

    def _masked(self, lacking: dict[str, int]) -> Iterator[str]:
        for name, rows in lacking.items():
            if rows:
                share = "every row" if rows == self.n else f"{rows:,} of {self.n:,} rows"
                yield f"{name} is masked in {share}, so it is not looked at"

    def _left_out(self) -> Iterator[str]:
        own = self._bundle.version
        for version, (rows, _) in self._others().items():
            why = f"version {version} answered, and not {own}, which is the bundle looked at"
            if version == own:
                why = "they have columns that the model does not take"
            yield f"{_count(rows, 'row')} {_are(rows)} left out, because {why}"


def _backwards(day: _Day) -> np.ndarray:
    """How many seconds each entry is dated before one that was written earlier."""
    seconds = _seconds(day.times)[[version is None for version in day.challengers]]
    return np.maximum.accumulate(seconds) - seconds


def _seconds(times: list[datetime]) -> np.ndarray:
    return np.array([moment.timestamp() for moment in times], dtype=np.float64)


def _name(id: object) -> str | None:
    """What a client calls a row, as a table of labels would have it."""
    if isinstance(id, float) and id.is_integer() and abs(id) < EXACT_IN_FLOAT:
        id = int(id)
    return None if id is None else str(id).rstrip() or None


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def _are(n: int) -> str:
    return "is" if n == 1 else "are"


# One file


class _UnusableError(Exception):
    """A file that is no log that can be read; the text goes on after the file's name."""


class _ChangedError(Exception):
    """A service opened or closed the file while it was read."""


@contextmanager
def _moments(file: Path, lenient: bool) -> Iterator[Iterator[bytes]]:
    """What was written together, one after another, from a state that no writer changes.

    Raises
    ------
    _UnusableError
        If the file is no log of a schema that is known.
    _ChangedError
        If it must be read again.
    sqlite3.Error
        If it is damaged; perhaps after some moments.
    OSError
        If it cannot be opened.
    """
    with _opened(file) as connection:
        if lenient:  # what is left of a file that was cut
            connection.execute("PRAGMA writable_schema = ON")
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema")]
        if schema > SCHEMA:
            raise _UnusableError(
                f"has schema {schema}, and this version of Truefit reads up to {SCHEMA}"
            )
        if tables and "moments" not in tables:
            raise _UnusableError("is an SQLite file, but no log of requests")
        query = "SELECT CAST(entries AS BLOB) FROM moments ORDER BY rowid"
        # Without tables it was made a moment ago.
        yield (moment for (moment,) in (connection.execute(query) if tables else ()))


@contextmanager
def _opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection that leaves the file, and the files beside it, as they are."""
    before = _state(file)
    written, _, shared = before
    with ExitStack() as stack:
        if not written:
            # Nobody writes. Without this word SQLite would make files beside it.
            address = f"{file.absolute().as_uri()}?immutable=1"
        elif shared:
            # A reader that the writers know of, and that writes nothing itself.
            address = f"{file.absolute().as_uri()}?mode=ro&readonly_shm=1"
        else:
            # Nobody writes, but the last entries are still apart. SQLite puts them in their place
            # before it reads, so it gets a copy.
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="truefit-"))
            for part in (file, _beside(file, "-wal")):
                shutil.copyfile(part, Path(scratch, part.name))
            address = Path(scratch, file.name).as_uri()
        try:
            with closing(sqlite3.connect(address, uri=True)) as connection:
                yield connection
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            if (shared and code in HELD) or _state(file) != before:
                raise _ChangedError from None
            if code == sqlite3.SQLITE_CANTOPEN and not os.access(file, os.R_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
            raise
    if _state(file) != before:
        raise _ChangedError


def _state(file: Path) -> tuple:
    """What changes when a reader that asks for no lock could be disturbed."""
    written, shared = (_beside(file, end).exists() for end in ("-wal", "-shm"))
    found = file.stat()
    alone = (found.st_ino, found.st_size, found.st_mtime_ns)
    return written, None if written and shared else alone, shared


def _beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)


# Labels


def read_labels(path: Path, bundle: Bundle, case: Case) -> Labels:
    """What became of rows, from a table with a name of each row and the target.

    A row is named by the case's id, if clients send that, or by the columns ``request_id`` and
    ``row``. A row whose target is empty has no label yet.

    Parameters
    ----------
    path : Path
        A CSV or Parquet file, written as the training table was.
    bundle : Bundle
    case : Case
        Its block in ``params.yaml``.

    Raises
    ------
    InputError
        If the file is not such a table, or a label is none.
    """
    source, target, id = Path(path), case.target, bundle.manifest.id
    rules = case.of_labels(str(source))
    frame = read_table(source, rules, texts=[*([id] if id else []), *BY_REQUEST])
    by = next((n for n in ([id] if id else [], [*BY_REQUEST]) if n and {*n} <= {*frame}), None)
    if by is None:
        known = f"neither the column {id} nor" if id else "not"
        raise InputError(f"{source} has {known} the columns request_id and row, to name its rows")
    for column in by:
        for at in np.flatnonzero(frame[column].isna()):
            raise InputError(f"{source}: {column} is missing in row {at + 1}")
    if by == [*BY_REQUEST]:
        for at in np.flatnonzero(~frame["row"].str.fullmatch(r"[1-9][0-9]*")):
            raise InputError(
                f"{source}: row is {frame['row'].iloc[at]!r} in row {at + 1}, and must be the "
                "number of a row in its request, from 1"
            )
    names = frame[by[0]].str.cat([frame[c] for c in by[1:]], sep="/")
    values = _numbers(frame[target], source, case, bundle.manifest.decision["classes"])
    return _settled(str(source), by[0], values.set_axis(names))


def _numbers(labels: pd.Series, source: Path, case: Case, classes: tuple | None) -> pd.Series:
    """Labels as numbers, or an InputError for the first that is none."""
    wrong, must = case.label_fault(labels, classes or ())
    for at in np.flatnonzero(wrong & labels.notna()):
        value = labels.iloc[at]
        said = repr(value) if isinstance(value, str) else f"{value:g}"
        raise InputError(f"{source}: {case.target} is {said} in row {at + 1}, and must {must}")
    return case.truth(labels).where(labels.notna())


def _settled(source: str, by: str, values: pd.Series) -> Labels:
    """One label for each name, and what is to be said of the others."""
    notes = []
    if n := int(values.isna().sum()):
        notes.append(f"{_count(n, 'row')} of {source} {'has' if n == 1 else 'have'} no label yet")
    values = values.dropna()
    different = values.groupby(level=0).nunique()
    contradictory = different.index[different > 1]
    first = ~values.index.duplicated()
    again = ~first & ~values.index.isin(contradictory)
    if n := int(again.sum()):
        said = "a label that is there already" if n == 1 else "labels that are there already"
        notes.append(f"{source} repeats {said} ({_some(values.index[again])})")
    if len(contradictory):
        notes.append(
            f"{source} has different labels for {_count(len(contradictory), 'row')} "
            f"({_some(contradictory)}), which count as not labelled"
        )
    values = values[first & ~values.index.isin(contradictory)]
    return Labels(source, by, values, frozenset(contradictory), tuple(notes))


def join(traffic: Logged, labels: Labels) -> Logged:
    """Traffic with the labels that have come.

    Raises
    ------
    InputError
        If no label is for a row of the traffic.
    """
    names = traffic.ids if labels.by != BY_REQUEST[0] else traffic.requests
    assert names is not None
    given = labels.values.index.append(pd.Index(sorted(labels.contradictory), dtype="str"))
    unknown = given[~given.isin(names)]
    if len(given) and len(unknown) == len(given):
        raise InputError(
            f"none of the {_count(len(given), 'row')} that {labels.source} names by {labels.by} is "
            f"in the log; it has rows such as {_some(names)}"
        )
    notes = [*traffic.notes, *labels.notes]
    if n := len(unknown):
        notes.append(
            f"{_count(n, 'label')} of {labels.source} {_are(n)} for rows that the log does not "
            f"have, or that are left out ({_some(unknown)})"
        )
    labelled = names[names.isin(labels.values.index)]
    if n := int(labelled[labelled.duplicated()].nunique()):
        notes.append(
            f"{_count(n, 'labelled row')} {'was' if n == 1 else 'were'} predicted more than once "
            f"({_some(labelled[labelled.duplicated()])}); each prediction has the label"
        )
    return replace(traffic, truth=names.map(labels.values).astype("float64"), notes=tuple(notes))


def _some(names: pd.Series | pd.Index) -> str:
    """Up to three names."""
    found = list(dict.fromkeys(names))
    return ", ".join(found[:SHOWN]) + (", …" if len(found) > SHOWN else "")
