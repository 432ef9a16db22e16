"""Run the pipeline on all cores: stages that need not wait for each other run side by side.

DVC runs one stage after another. What has changed, and what is recorded, is still for DVC to say
(`truefit.stages`), so that ``dvc repro`` and ``truefit repro`` can take turns in a project.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from truefit import forked, project
from truefit.project import TruefitError
from truefit.stages import Stages, opened

LOOK = 0.05  # seconds between two looks at what runs
GRACE = 20  # seconds that a stage has to end when it is told to
MEASURED = ("benchmarks", "pipeline.json")
POSIX = os.name == "posix"


class ReproError(TruefitError):
    """A stage failed."""


class _Run(NamedTuple):
    process: subprocess.Popen | forked.Forked
    said: IO[bytes]
    began: float  # on the monotonic clock


def repro(targets: Collection[str] = (), *, jobs: int | None = None, force: bool = False) -> None:
    """Run what has changed of the pipeline, or all of it.

    What needs a stage that failed does not run; all else does, so that a mistake in one case stops
    no other. A signal to stop ends what runs, which leaves nothing behind. What was finished is
    recorded either way.

    Parameters
    ----------
    targets : collection of str
        Stages to run, with those that they need; all if none is given.
    jobs : int, optional
        At most so many stages at once; if not given, as many as there are cores. What comes out
        does not depend on it.
    force : bool, optional
        Run what has not changed, too.

    Raises
    ------
    ReproError
        If a stage failed.
    StageError
        If the stages cannot be told, or another DVC is at work.
    """
    with opened(targets) as stages, _stoppable():
        _Pipeline(stages, jobs or cores(), force).run()


def cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Pipeline:
    """What waits, what runs and what has become of the rest."""

    def __init__(self, stages: Stages, jobs: int, force: bool):
        self.stages, self.jobs, self.force = stages, jobs, force
        self.ahead = _seconds_ahead(stages.needs)
        self.waiting = list(stages.needs)
        self.running: dict[str, _Run] = {}
        self.failed: list[str] = []
        self.dropped: list[str] = []  # because what they need failed
        self.display = _Display(len(stages.needs))

    def run(self) -> None:
        try:
            while self.running or self.waiting:
                self._start()
                time.sleep(LOOK)
                self._collect()
                self.display.show(self.running)
        except BaseException:
            self._stop()
            raise
        finally:
            forked.stop()
            self.display.close()
        if self.failed:
            rest = f"; not run for it: {', '.join(self.dropped)}" if self.dropped else ""
            raise ReproError(f"failed: {', '.join(self.failed)}{rest}; the reason stands above")

    def _ready(self) -> list[str]:
        """What need not wait any longer; first that after which most is to come."""
        coming = {*self.waiting, *self.running}
        ready = [name for name in self.waiting if not self.stages.needs[name] & coming]
        return sorted(ready, key=lambda name: -self.ahead[name])

    def _start(self) -> None:
        while len(self.running) < self.jobs and (ready := self._ready()):
            name, others = ready[0], ready[1:]
            self.waiting.remove(name)
            if commands := self.stages.begin(name, force=self.force):
                beside = [*self.running, *others[: self.jobs - len(self.running) - 1]]
                self.running[name] = self._run(name, commands, beside)
                self.display.started(name)
            else:
                self.display.skipped()

    def _run(self, name: str, commands: list[str], beside: list[str]) -> _Run:
        said, place = tempfile.NamedTemporaryFile(), self.stages.place(name)  # noqa: SIM115
        # Cores are shared out by how much is to come after each stage; joblib reads the variable.
        share = self.ahead[name] / sum(self.ahead[other] for other in [name, *beside])
        # One more than its share: when the others have ended, the longest must not be left to few.
        place["env"]["LOKY_MAX_CPU_COUNT"] = str(min(cores(), int(cores() * share) + 1))
        if arguments := _own(commands):
            from truefit.cli import main

            process = forked.start(main, arguments, stdout=said.name, stderr=said.name, **place)
        else:
            if POSIX:
                place["process_group"] = 0  # of its own, so that it is told to stop by us alone
            line = commands[0] if len(commands) == 1 else " && ".join(f"({c})" for c in commands)
            process = subprocess.Popen(
                line, shell=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said, **place
            )
        return _Run(process, said, time.monotonic())

    def _collect(self) -> None:
        """Record what has come to its end, and show what it said."""
        for name in [n for n, run in self.running.items() if run.process.poll() is not None]:
            process, said, began = self.running.pop(name)
            if process.returncode == 0:
                self.stages.finish(name)
            else:
                self._fail(name)
            said.seek(0)
            words = said.read().decode("utf-8", "replace").strip()
            said.close()
            self.display.ended(name, time.monotonic() - began, process.returncode, words)

    def _fail(self, name: str) -> None:
        """Drop what waits for a stage that failed, and what waits for that."""
        self.failed.append(name)
        lost = {name}
        for other in list(self.waiting):  # those that it needs stand before it
            if self.stages.needs[other] & lost:
                lost.add(other)
                self.waiting.remove(other)
                self.dropped.append(other)

    def _stop(self) -> None:
        """Tell what runs to end, and wait until it has."""
        for run in self.running.values():
            _tell(run.process, "SIGINT")
        deadline = time.monotonic() + GRACE
        for run in self.running.values():
            try:
                run.process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _tell(run.process, "SIGKILL")
                run.process.wait()


def _own(commands: list[str]) -> list[str]:
    """The arguments of ``truefit``, if that is all that a stage runs, without help of a shell."""
    words = commands[0].split()
    plain = len(commands) == 1 and all(re.fullmatch(r"[\w./@=-]+", word) for word in words)
    return words[1:] if forked.AVAILABLE and plain and words[0] == "truefit" else []


def _tell(process: subprocess.Popen | forked.Forked, name: str) -> None:
    if not POSIX:
        process.terminate()
    elif process.poll() is None:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(process.pid, getattr(signal, name))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Take a signal to end, or a terminal that is closed, for Ctrl-C."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    names = [n for n in ("SIGTERM", "SIGHUP") if hasattr(signal, n)]
    before = {n: signal.signal(getattr(signal, n), stop) for n in names}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _seconds_ahead(needs: Mapping[str, set[str]]) -> dict[str, float]:
    """For each stage the seconds from its start to the end of all that follows, at the least.

    By what ``make bench-pipeline`` has measured; a stage of a new case takes as long as that of
    the slowest other. Only the order of work hangs on it.
    """
    file = project.path(*MEASURED)
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    measured: dict[str, float] = known.get("stages of the whole pipeline, seconds", {})

    def seconds(name: str) -> float:
        step = name.partition("@")[0]
        alike = [s for other, s in measured.items() if other.partition("@")[0] == step]
        return measured.get(name, max(alike, default=1.0))

    ahead: dict[str, float] = {}
    for name in reversed(needs):  # those that need a stage stand after it
        after = [ahead[other] for other in ahead if name in needs[other]]
        ahead[name] = seconds(name) + max(after, default=0.0)
    return ahead


class _Display:
    """A line for each stage that has run; on a terminal, one more says what runs now."""

    def __init__(self, total: int):
        self.total, self.past, self.unchanged = total, 0, 0
        self.began = time.monotonic()
        self.live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self.shown = ""

    def started(self, name: str) -> None:
        if not self.live:
            print(f"{self._place()} {name} starts", flush=True)

    def skipped(self) -> None:
        self.past += 1
        self.unchanged += 1

    def ended(self, name: str, seconds: float, code: int | None, words: str) -> None:
        self.past += 1
        self._erase()
        ended = f"took {_clock(seconds)}" if code == 0 else f"failed after {_clock(seconds)}"
        print(f"{self._place()} {name} {ended}")
        for line in words.splitlines():
            print(f"    {line}")
        sys.stdout.flush()

    def show(self, running: Mapping[str, _Run]) -> None:
        """Say what runs."""
        if not self.live:
            return
        now = time.monotonic()
        names = ", ".join(f"{n} {_clock(now - run.began)}" for n, run in running.items())
        line = f"{self._place()} {_clock(now - self.began)} {names}"
        line = line[: shutil.get_terminal_size().columns - 1]
        if line != self.shown:
            self._erase()
            print(line, end="", flush=True)
            self.shown = line

    def close(self) -> None:
        self._erase()
        ran = self.past - self.unchanged
        print(
            f"{ran} of {self.total} stages run, {self.unchanged} unchanged, "
            f"in {_clock(time.monotonic() - self.began)}"
        )

    def _place(self) -> str:
        return f"[{self.past:{len(str(self.total))}} of {self.total}]"

    def _erase(self) -> None:
        if self.shown:
            print("\r\x1b[2K", end="")
            self.shown = ""


def _clock(seconds: float) -> str:
    """Minutes and seconds: ``1:05``."""
    return "{}:{:02}".format(*divmod(round(seconds), 60))
