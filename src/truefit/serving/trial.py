"""Requests that meet a challenger: a share that it answers, or scores beside the champion."""

import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from hashlib import blake2b
from time import monotonic, perf_counter, sleep
from typing import Any, Literal, NamedTuple

import msgspec

from truefit.serving import schemas
from truefit.serving.challenger import CHALLENGER, CHAMPION, Pair
from truefit.serving.metrics import Metrics
from truefit.serving.request_log import Entry, RequestLog
from truefit.serving.served import Answers, Served, contributions
from truefit.serving.store import Store

Mode = Literal["canary", "shadow"]
PERSON = b"truefit canary"
WAITING = 1000  # requests that may wait for the challenger
BYTES = 8_000_000  # of their bodies, which are several times as large once they are read
PATIENCE = 0.02  # seconds that one waits at most for a moment without answers
PAUSE = 0.001  # seconds between two looks for one
END = 2.0  # seconds for what waits when the service stops
_canonical = msgspec.json.Encoder(order="sorted").encode


def position(case: str, key: bytes) -> float:
    """Where a key lies from 0 to below 1: evenly spread, and the same in every process."""
    digest = blake2b(case.encode() + b"\0" + key, digest_size=8, person=PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def key_of(
    served: Served, columns: Sequence[Sequence], ids: Sequence | None, request_id: str | None
) -> bytes:
    """What decides which model a request meets.

    One request meets one model. What decides is the first id among its rows; without any the
    request's own id, where the client sent one; else the content of its first row, in which the
    order of the columns and the way a number is written do not matter.
    """
    for id in ids or ():
        if id is not None:  # 7, 7.0 and "7" are one
            whole = isinstance(id, float) and id.is_integer()
            return b"id\0" + str(int(id) if whole else id).encode(errors="surrogatepass")
    if request_id:
        return b"request\0" + request_id.encode(errors="surrogatepass")
    names = (column.name for column in served.bundle.inputs)
    row = {n: 0.0 if v[0] == 0 else v[0] for n, v in zip(names, columns, strict=True)}  # not −0
    return b"row\0" + _canonical(row)


class Turn(NamedTuple):
    """Who answered a request while there is a challenger, and what."""

    pair: Pair
    role: str
    answers: Answers
    seconds: float
    drawn: bool  # to be scored by the challenger too

    @property
    def served(self) -> Served:
        """The model that answered."""
        return self.pair.challenger if self.role == CHALLENGER else self.pair.champion


class Trial:
    """Sends a share of the requests to the challengers of a store.

    Parameters
    ----------
    mode : str
        ``canary``: the challenger answers the share. ``shadow``: the champion answers all, and the
        challenger scores the share a moment later, in a thread.
    share : float
        Above 0, at most 1.
    store : Store
    metrics : Metrics
    say : callable
        Is told of the first failure of each challenger.
    log : RequestLog, optional
        Gets the entries of requests that were scored twice.
    """

    def __init__(
        self,
        mode: Mode,
        share: float,
        store: Store,
        metrics: Metrics,
        say: Callable[..., None],
        log: RequestLog | None = None,
    ):
        self.mode, self.share = mode, share
        self._store, self._metrics, self._say, self._log = store, metrics, say, log
        self._queue: queue.SimpleQueue[tuple | None] = queue.SimpleQueue()
        self._requests = self._bytes = 0  # that wait
        self._lock = threading.Lock()
        self._ends: float | None = None
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    def pair(self, served: Served) -> Pair | None:
        """The pair of a champion, if it has a challenger."""
        pair = self._store.pairs.get(served.manifest.case)
        # A champion that was swapped in this moment may be another kind of model.
        return pair if pair and pair.champion is served else None

    def draws(self, served: Served, key: bytes) -> bool:
        """Whether a request belongs to the share."""
        return position(served.manifest.case, key) < self.share

    def answer(self, pair: Pair, columns: Sequence[Sequence], n: int, key: bytes) -> Turn:
        """Let the challenger answer if it is its turn and it can, else the champion.

        Raises
        ------
        Problem
            As `Served.answer` of the champion.
        """
        drawn, canary = self.draws(pair.champion, key), self.mode == "canary"
        turn = self._by_challenger(pair, columns, n) if drawn and canary else None
        if turn is None:
            started = perf_counter()
            answers = pair.champion.answer(columns, n)
            turn = Turn(pair, CHAMPION, answers, perf_counter() - started, drawn and not canary)
            if drawn and canary:  # what neither can answer is the request's fault
                self.failed(pair)
        pair.found.answered(turn.role, turn.answers, turn.seconds, keep=canary)
        self._metrics.met(pair.champion.manifest.case, turn.role)
        return turn

    def _by_challenger(self, pair: Pair, columns: Sequence[Sequence], n: int) -> Turn | None:
        started = perf_counter()
        try:
            answers = pair.challenge(columns, n)
        except Exception:  # whatever is wrong with it, the champion can answer
            return None
        return Turn(pair, CHALLENGER, answers, perf_counter() - started, False)

    def explained(
        self, pair: Pair, columns: Sequence[Sequence], row: Mapping, key: bytes
    ) -> tuple[Served, dict]:
        """What moved a prediction, by the model that makes it; see `contributions`."""
        if self.mode == "canary" and self.draws(pair.champion, key):
            try:
                pair.challenge(columns, 1)
                return pair.challenger, contributions(pair.challenger, row)
            except Exception:  # whatever is wrong with it, the champion can answer
                self.failed(pair)
        return pair.champion, contributions(pair.champion, row)

    def failed(self, pair: Pair) -> None:
        """Count a request that the champion can answer and the challenger cannot."""
        case = pair.champion.manifest.case
        self._metrics.challenger_failed.labels(case).inc()
        if not pair.found.failed:
            self._say("challenger failed", level="error", case=case,
                      version=pair.challenger.version, reason="a row that the champion can answer; "
                      "further ones are counted in truefit_challenger_failed_total")  # fmt: skip
        pair.found.miss(failed=True)

    # In the shadow

    def shadow(self, turn: Turn, columns: Sequence, entry: Entry | None, size: int) -> None:
        """Let the challenger score what was answered, soon; it never waits and never fails.

        Parameters
        ----------
        turn : Turn
        columns : sequence of sequences
        entry : Entry or None
            For the log, which gets it when the challenger is done.
        size : int
            Bytes of the body.
        """
        with self._lock:  # requests come from two threads
            kept = self._requests < WAITING and self._bytes <= BYTES and self._ends is None
            if kept:
                self._requests += 1
                self._bytes += size
        if kept:
            self._queue.put((turn, columns, entry, size))
        else:
            self._drop(turn, entry)

    def _drop(self, turn: Turn, entry: Entry | None) -> None:
        self._metrics.shadow_dropped.labels(turn.pair.champion.manifest.case).inc()
        turn.pair.found.miss(failed=False)
        self._keep(entry)

    def _keep(self, entry: Entry | None) -> None:
        if self._log and entry:
            self._log.add(entry)

    def _work(self) -> None:
        while (found := self._queue.get()) is not None:
            self._give_way()
            turn, columns, entry, size = found
            if self._ends is not None and monotonic() > self._ends:
                self._drop(turn, entry)
            else:
                self._keep(self._scored(turn, columns, entry))
            with self._lock:
                self._requests -= 1
                self._bytes -= size

    def _give_way(self) -> None:
        """Wait for a moment in which nothing is answered: both would wait for each other."""
        until = monotonic() + PATIENCE
        while self._ends is None and self._metrics.in_flight and monotonic() < until:
            sleep(PAUSE)

    def _scored(self, turn: Turn, columns: Sequence, entry: Entry | None) -> Entry | None:
        """The entry, with what the challenger says."""
        pair, started = turn.pair, perf_counter()
        try:
            answers = pair.challenge(columns, len(turn.answers.scores))
            seconds = turn.seconds, perf_counter() - started
            far = pair.found.both(turn.answers, answers, seconds)
        except Exception:  # whatever is wrong with it, the champion has answered
            self.failed(pair)
            return entry
        self._metrics.differed(pair.champion.manifest.case, far)
        return entry and entry._replace(shadow=(pair.challenger.version, answers.outputs))

    def close(self) -> None:
        """Score what waits, for a moment, and stop."""
        self._ends = monotonic() + END
        self._queue.put(None)
        self._thread.join(timeout=2 * END)

    # For people

    def said(self, served: Served) -> dict[str, Any]:
        """The comparison of a champion with its challenger, if there is one."""
        case = served.manifest.case
        found: dict[str, Any] = {"mode": self.mode, "share": self.share}
        if pair := self.pair(served):
            return found | pair.found.said(pair) | {"reason": None}
        why = self._store.no_challenger.get(case, "none lies beside the champion")
        return found | nobody(served, why)


def nobody(served: Served, why: str) -> dict[str, Any]:
    """What the comparison says where there is no challenger."""
    champion = schemas.Side(version=served.version, model=served.manifest.model)
    return {
        "since": None, "champion": champion, "challenger": None, "shadow": None, "reason": why,
    }  # fmt: skip
