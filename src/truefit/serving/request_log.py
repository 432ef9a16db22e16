"""What was asked and answered, kept for monitoring: one SQLite file a case and day.

A request costs the service an entry in a queue; a thread writes. Whatever happens to the disk, the
predictions go on, and what could not be kept is counted. Nobody but the service's own user can look
into the folder.
"""

import queue
import re
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from truefit.project import InputError

SCHEMA = 2  # of the tables; a reader may refuse another
WAITING = 16_000_000  # bytes that may wait for the disk; beyond them entries are dropped
PAUSE = 0.05  # seconds in which entries gather …
MOMENT = 4_000_000  # … or until there are so many bytes of them: SQLite copies what it is given
DAY = re.compile(r"(\d{4}-\d\d-\d\d)\.sqlite(-\w+)?")  # names of files
EXACT = "CASE typeof(value) WHEN 'real' THEN json(printf('%!.17g', value)) ELSE value END"
# A file of an older schema has the same table and other views, so it needs new views alone.
TABLES = f"""
BEGIN IMMEDIATE;
-- What gathered in a moment, as a JSON array: one insert, however many requests there were. With
-- one for each, the thread that writes and the one that answers would wait for each other.
CREATE TABLE IF NOT EXISTS moments (entries TEXT NOT NULL) STRICT;
DROP VIEW IF EXISTS predictions;
DROP VIEW IF EXISTS requests;
-- A request that was answered.
CREATE VIEW requests AS
  SELECT
    value ->> 0 AS time,        -- when: UTC, ISO 8601
    value ->> 1 AS request_id,
    value ->> 2 AS version,     -- of the bundle that answered
    value ->> 3 AS rows,
    nullif(value -> 4, 'null') AS ids,  -- JSON: what the client calls the rows, if anything
    value -> 5 AS inputs,       -- JSON: a list of values for each column that is not masked
    value -> 6 AS outputs,      -- JSON: prediction, probability, low, high, as far as there are
    value ->> 7 AS role,        -- who answered: champion or challenger; NULL in schema 1
    nullif(value -> 8, 'null') AS shadow  -- JSON: version and outputs of a challenger that
                                          -- scored the rows as well
  FROM moments, json_each(entries);
-- The same, row by row, for people. Values are gathered by row first, because looking each one up
-- in its list takes minutes for a request of thousands of rows.
CREATE VIEW predictions AS
  SELECT time, request_id, version, each.key + 1 AS row,
    json_extract(each.value, '$.id') AS id,
    json_extract(each.value, '$.outputs.prediction') AS prediction,
    json_extract(each.value, '$.outputs.probability') AS probability,
    json_extract(each.value, '$.outputs.low') AS low,
    json_extract(each.value, '$.outputs.high') AS high,
    json_extract(each.value, '$.inputs') AS inputs,
    role,
    shadow ->> '$.version' AS shadow_version,
    json_extract(each.value, '$.shadow.prediction') AS shadow_prediction,
    json_extract(each.value, '$.shadow.probability') AS shadow_probability,
    json_extract(each.value, '$.shadow.low') AS shadow_low,
    json_extract(each.value, '$.shadow.high') AS shadow_high
  FROM requests, json_each((
    SELECT json_group_array(json(gathered)) FROM (
      SELECT json_object(
          'id', max(value) FILTER (WHERE part = 'id'),
          'inputs', json_group_object(name, value) FILTER (WHERE part = 'inputs'),
          'outputs', json_group_object(name, {EXACT}) FILTER (WHERE part = 'outputs'),
          'shadow', json_group_object(name, {EXACT}) FILTER (WHERE part = 'shadow')
        ) AS gathered
      FROM (
        SELECT 'id' AS part, 'id' AS name, v.key AS row, v.value AS value
          FROM json_each(requests.ids) AS v
        UNION ALL SELECT 'inputs', c.key, v.key, v.value
          FROM json_each(requests.inputs) AS c, json_each(c.value) AS v
        UNION ALL SELECT 'outputs', c.key, v.key, v.value
          FROM json_each(requests.outputs) AS c, json_each(c.value) AS v
        UNION ALL SELECT 'shadow', c.key, v.key, v.value
          FROM json_each(requests.shadow, '$.outputs') AS c, json_each(c.value) AS v)
      GROUP BY row ORDER BY row))) AS each;
PRAGMA user_version = {SCHEMA};
COMMIT;
"""


_encode = msgspec.json.Encoder().encode


class Entry(NamedTuple):
    """One request that was answered."""

    case: str
    time: datetime
    request_id: str
    version: str
    rows: int
    ids: dict[str, list] | None  # the column that names the rows
    inputs: dict[str, Any]  # columns by name
    outputs: dict[str, list]
    role: str = "champion"  # of the model that answered
    shadow: tuple[str, dict[str, list]] | None = None  # version and outputs of one that did not


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
        Files of days before are deleted, as far as the clock can be believed.

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
        self.folder = folder
        self._lost, self._say = lost, say
        try:
            _make_folder(folder)
        except OSError as error:
            raise InputError(
                f"the request log {folder} cannot be made ({error.strerror}); name another folder "
                "with --log, or do without: --no-log"
            ) from None
        self._close_to_others()
        self._mask, self._keep_days = frozenset(mask), keep_days
        self._waiting = 0  # bytes not yet written
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[str, date, bytes] | None] = queue.SimpleQueue()
        self._open: dict[str, tuple[Path, int, sqlite3.Connection]] = {}  # by case; with inode
        self._failing = False
        self._thread = threading.Thread(target=self._work, name="request-log", daemon=True)
        self._thread.start()

    def add(self, entry: Entry) -> None:
        """Keep an entry soon; it never waits and never fails."""
        record = self._record(entry)
        with self._lock:  # requests come from two threads
            kept = self._waiting <= WAITING
            if kept:
                self._waiting += len(record)
        if kept:
            self._queue.put((entry.case, entry.time.date(), record))
        else:
            self._lost(1)

    def close(self) -> None:
        """Write what waits, and stop."""
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        going = True
        self._delete_old(now().date())
        while going:
            entries = [self._queue.get()]
            if entries[-1] is not None:
                # Many in one transaction cost the disk as much as one.
                threading.Event().wait(PAUSE)
                size = len(entries[0][-1])
                while entries[-1] is not None and size < MOMENT and not self._queue.empty():
                    entries.append(self._queue.get())
                    size += len(entries[-1][-1]) if entries[-1] else 0
            going = entries[-1] is not None
            by_file = defaultdict(list)
            for case, day, record in filter(None, entries):
                by_file[case, day].append(record)
            for (case, day), records in by_file.items():
                self._write(case, day, records)
                with self._lock:
                    self._waiting -= sum(map(len, records))
        for *_, connection in self._open.values():
            connection.close()

    def _write(self, case: str, day: date, records: list[bytes]) -> None:
        moment = b"[%b]" % b",".join(records)
        try:
            connection = self._connection(case, day)
            with connection:
                connection.execute("INSERT INTO moments VALUES (CAST(? AS TEXT))", (moment,))
        except Exception as error:  # whatever it is, the next entries may go well
            self._lost(len(records))
            if (opened := self._open.pop(case, None)) is not None:
                opened[-1].close()
            if not self._failing:
                self._say("request log fails", level="error", case=case, reason=str(error))
            self._failing = True
        else:
            if self._failing:
                self._say("request log works again", case=case)
            self._failing = False

    def _record(self, entry: Entry) -> bytes:
        kept = {k: v for k, v in entry.inputs.items() if k not in self._mask}
        (ids,) = [v for k, v in (entry.ids or {}).items() if k not in self._mask] or [None]
        time = entry.time.isoformat(timespec="milliseconds")
        version, outputs = entry.shadow or (None, None)
        shadow = {"version": version, "outputs": outputs} if version else None
        return _encode(
            (time, entry.request_id, entry.version, entry.rows, ids, kept, entry.outputs,
             entry.role, shadow)
        )  # fmt: skip

    def _connection(self, case: str, day: date) -> sqlite3.Connection:
        file = self.folder / case / f"{day}.sqlite"
        if opened := self._open.get(case):
            # SQLite would go on writing to a file that was deleted, and nobody would find it.
            if opened[:2] == (file, _inode(file)):
                return opened[-1]
            self._open.pop(case)[-1].close()
        _make_folder(file.parent)
        # Its own, whatever the umask says; SQLite gives the files beside it the same mode.
        file.touch(0o600)
        file.chmod(0o600)
        connection = sqlite3.connect(file)
        try:
            _prepare(connection)
        except sqlite3.Error:
            connection.close()
            raise
        self._open[case] = file, _inode(file), connection
        self._delete_old(day)
        return connection

    def _files(self) -> list[tuple[date, Path]]:
        """The files of all cases, also of those that are asked no more, with their days."""
        found = []
        for file in sorted(self.folder.glob("*/*.sqlite*")):
            if name := DAY.fullmatch(file.name):
                with suppress(ValueError):  # no day of a calendar
                    found.append((date.fromisoformat(name[1]), file))
        return found

    def _delete_old(self, today: date) -> None:
        files = self._files()
        first = _first_to_keep({day for day, _ in files}, today, self._keep_days)
        for day, file in files:
            try:
                if day < first:
                    file.unlink(missing_ok=True)
            except OSError as error:
                said = {"file": str(file), "reason": error.strerror}
                self._say("old request log not deleted", level="error", **said)

    def _close_to_others(self) -> None:
        """Take from others what an earlier version let them read."""
        files = [file for _, file in self._files()]
        folders = {file.parent for file in files}
        if all(p in folders or (p.is_dir() and not [*p.iterdir()]) for p in self.folder.iterdir()):
            folders.add(self.folder)  # else it is a folder of other things, too
        for path in (*folders, *files):
            try:
                mode = 0o700 if path in folders else 0o600
                if not path.is_symlink() and path.stat().st_mode & 0o777 != mode:
                    path.chmod(mode)
            except OSError as error:
                said = {"file": str(path), "reason": error.strerror}
                self._say("request log open to others", level="error", **said)


def _first_to_keep(days: set[date], today: date, keep_days: int) -> date:
    """The first day that is kept, by a clock that may be wrong.

    A clock that is wrong by years when the service starts must not cost the log. So where the days
    of the log jump by more than are kept, they are counted from the day before the jump, until the
    log has borne the clock out for as long as days are kept.

    Parameters
    ----------
    days : set of date
        That the log has.
    today : date
        By the clock.
    keep_days : int
    """
    known = believed = today
    for day in sorted((day for day in days if day <= today), reverse=True):
        if (known - day).days > keep_days:
            if (today - known).days < keep_days:
                believed = day
            break
        known = day
    return date.fromordinal(max(1, believed.toordinal() - keep_days))


def _make_folder(folder: Path) -> None:
    """Make a folder that its owner alone can look into, unless it is there already."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        folder.mkdir(mode=0o700)
        folder.chmod(0o700)  # which a umask may have taken from


def now() -> datetime:
    """The time for an entry."""
    return datetime.now(UTC)


def _prepare(connection: sqlite3.Connection) -> None:
    """Make the table and the views, or put the views of this schema in place of an older one's."""
    connection.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;")
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found > SCHEMA:
        raise sqlite3.DatabaseError(
            f"the file of this day has schema {found}, which a newer version of Truefit writes, "
            f"and this one writes {SCHEMA}"
        )
    if found < SCHEMA:
        connection.executescript(TABLES)


def _inode(file: Path) -> int | None:
    try:
        return file.stat().st_ino
    except OSError:
        return None
