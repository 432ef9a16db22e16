"""What was asked and answered, kept for monitoring: one SQLite file a case and day.

A request costs the service an entry in a queue; a thread writes. Whatever happens to the disk, the
predictions go on, and what could not be kept is counted.
"""

import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from truefit.project import InputError

SCHEMA = 1  # of the tables; a reader may refuse another
WAITING = 2_000_000  # values that may wait for the disk; beyond them entries are dropped
PAUSE = 0.2  # seconds in which entries gather
TABLES = f"""
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
PRAGMA user_version = {SCHEMA};
CREATE TABLE IF NOT EXISTS requests (
  time TEXT NOT NULL,         -- when it was answered: UTC, ISO 8601
  request_id TEXT NOT NULL,
  version TEXT NOT NULL,      -- of the bundle
  rows INTEGER NOT NULL,
  ids TEXT,                   -- JSON: what the rows are called by the client, if anything
  inputs TEXT NOT NULL,       -- JSON: a list of values for each column that is not masked
  outputs TEXT NOT NULL       -- JSON: prediction, probability, low, high, as far as there are
) STRICT;
-- The same, row by row, for people.
CREATE VIEW IF NOT EXISTS predictions AS
  SELECT time, request_id, version, each.key + 1 AS row,
    json_extract(ids, '$[' || each.key || ']') AS id,
    each.value AS prediction,
    json_extract(outputs, '$.probability[' || each.key || ']') AS probability,
    json_extract(outputs, '$.low[' || each.key || ']') AS low,
    json_extract(outputs, '$.high[' || each.key || ']') AS high,
    (SELECT json_group_object(c.key, json_extract(c.value, '$[' || each.key || ']'))
       FROM json_each(inputs) AS c) AS inputs
  FROM requests, json_each(outputs, '$.prediction') AS each;
"""


class Entry(NamedTuple):
    """One request that was answered."""

    case: str
    time: datetime
    request_id: str
    version: str
    rows: int
    ids: list | None
    inputs: dict[str, Any]  # columns by name
    outputs: dict[str, list]


class RequestLog:
    """Writes entries to ``<folder>/<case>/<day>.sqlite``.

    Parameters
    ----------
    folder : Path
    lost : callable
        Is called with the number of requests that could not be kept.
    say : callable
        Is told when the disk fails, and when it works again.
    mask : iterable of str
        Columns that are not kept.
    keep_days : int
        Files of days before are deleted.

    Raises
    ------
    InputError
        If the folder cannot be made.
    """

    def __init__(
        self,
        folder: Path,
        lost: Callable[[int], None],
        say: Callable[..., None],
        mask: Iterable[str] = (),
        keep_days: int = 30,
    ):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the request log {folder} cannot be made ({error.strerror}); name another folder "
                "with --log, or do without: --no-log"
            ) from None
        self.folder = folder
        self._lost, self._say = lost, say
        self._mask, self._keep_days = frozenset(mask), keep_days
        self._waiting = 0  # values in the queue
        self._queue: queue.SimpleQueue[Entry | None] = queue.SimpleQueue()
        self._open: dict[str, tuple[str, sqlite3.Connection]] = {}  # by case: day and file
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Keep an entry soon; it never waits and never fails."""
        if self._waiting > WAITING:
            self._lost(1)
            return
        self._waiting += entry.rows * len(entry.inputs)
        self._queue.put(entry)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        going = True
        while going:
            entries = [self._queue.get()]
            if entries[-1] is not None:
                # Many in one transaction cost the disk as much as one.
                threading.Event().wait(PAUSE)
                while entries[-1] is not None and not self._queue.empty():
                    entries.append(self._queue.get())
            going = entries[-1] is not None
            by_file = defaultdict(list)
            for entry in entries[: None if going else -1]:
                self._waiting -= entry.rows * len(entry.inputs)
                by_file[entry.case, entry.time.date().isoformat()].append(entry)
            for (case, day), some in by_file.items():
                self._write(case, day, some)
        for _, connection in self._open.values():
            connection.close()

    def _write(self, case: str, day: str, entries: list[Entry]) -> None:
        try:
            connection = self._connection(case, day)
            with connection:
                connection.executemany(
                    "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?)", map(self._record, entries)
                )
        except (sqlite3.Error, OSError) as error:
            self._lost(len(entries))
            if (opened := self._open.pop(case, None)) is not None:
                opened[1].close()
            if not self._failing:
                self._say("request log fails", level="error", case=case, reason=str(error))
            self._failing = True
        else:
            if self._failing:
                self._say("request log works again", case=case)
            self._failing = False

    def _record(self, entry: Entry) -> tuple:
        kept = {k: list(v) for k, v in entry.inputs.items() if k not in self._mask}
        return (
            entry.time.isoformat(timespec="milliseconds"),
            entry.request_id,
            entry.version,
            entry.rows,
            _json(entry.ids) if entry.ids else None,
            _json(kept),
            _json(entry.outputs),
        )

    def _connection(self, case: str, day: str) -> sqlite3.Connection:
        opened = self._open.get(case)
        if opened and opened[0] == day:
            return opened[1]
        if opened:
            self._open.pop(case)[1].close()
        folder = self.folder / case
        folder.mkdir(exist_ok=True)
        connection = sqlite3.connect(folder / f"{day}.sqlite", check_same_thread=False)
        try:
            connection.executescript(TABLES)
        except sqlite3.Error:
            connection.close()
            raise
        self._open[case] = day, connection
        self._delete_old(folder, day)
        return connection

    def _delete_old(self, folder: Path, day: str) -> None:
        first = (datetime.fromisoformat(day) - timedelta(days=self._keep_days)).date().isoformat()
        for file in folder.glob("????-??-??.sqlite*"):
            if file.name[:10] < first:
                file.unlink(missing_ok=True)


def now() -> datetime:
    """The time for an entry."""
    return datetime.now(UTC)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
