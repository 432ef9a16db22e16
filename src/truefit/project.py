"""Where the project lies, and how its files are written: whole or not at all.

A stage that the runner executes has its files collected in a staging folder
(``TRUEFIT_STAGING``) and published together when the notebook has succeeded: all, or none. A
notebook that a person runs by hand writes each file straight to its place, whole or not at all.
"""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

ROOT_VARIABLE = "TRUEFIT_PROJECT"
STAGING_VARIABLE = "TRUEFIT_STAGING"
# The terminal of the person who started the runner; a notebook's own output is no terminal.
TERMINAL_VARIABLE = "TRUEFIT_TERMINAL"


class TruefitError(Exception):
    """An expected mistake, said in one sentence: what is wrong, where, and what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this: a reader of the notebook needs the sentence, not the call stack.
        return [f"{type(self).__name__}: {self}"]


class InputError(TruefitError):
    """The table, the parameters or the command are not what the project can work with."""


class GateError(TruefitError):
    """The model did not pass the gate, so nothing after the gate may run."""


def root() -> Path:
    """The project's folder.

    It is the folder that ``TRUEFIT_PROJECT`` names; else the nearest folder at or above the
    working directory that holds ``params.yaml`` and ``notebooks``; else the checkout that the
    package was installed from. So a notebook runs from any directory.

    Raises
    ------
    InputError
        If there is no such folder.
    """
    named = os.environ.get(ROOT_VARIABLE)
    candidates = (
        [Path(named)]
        if named
        else [Path.cwd(), *Path.cwd().parents, Path(__file__).resolve().parents[2]]
    )
    for folder in candidates:
        if (folder / "params.yaml").is_file() and (folder / "notebooks").is_dir():
            return folder.resolve()
    raise InputError(
        f"no project found: {candidates[0]} has no params.yaml and notebooks folder; change into "
        f"a clone of Truefit, or name one in the environment variable {ROOT_VARIABLE}"
    )


def path(*parts: str) -> Path:
    """A file of the project, to read: the running stage's own new version if it has one."""
    staging = os.environ.get(STAGING_VARIABLE)
    if staging and Path(staging, *parts).exists():
        return Path(staging, *parts)
    return root().joinpath(*parts)


@contextmanager
def terminal() -> Iterator[IO[str] | None]:
    """The terminal to draw a bar on, or None if nobody watches."""
    named = os.environ.get(TERMINAL_VARIABLE)
    if named:
        with open(named, "w", encoding="utf-8") as file:
            yield file
    else:
        yield sys.stderr if sys.stderr.isatty() else None


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``target`` when the block succeeds."""
    # The suffix stays last, because writers choose their format by it.
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        yield partial
        with _explained(target):
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(*parts: str) -> Iterator[Path]:
    """Give a temporary path to write a file of the project to; see `replacing`."""
    target = Path(os.environ.get(STAGING_VARIABLE) or root()).joinpath(*parts)
    with _explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        yield partial


def write_text(text: str, *parts: str) -> None:
    """Write a text file of the project: UTF-8, LF, one newline at the end."""
    with writing(*parts) as partial:
        partial.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")


def publish(staging: Path, top: Path) -> None:
    """Put every file of a staging folder into its place below the project's, or none of them.

    What stood there before is kept beside the staging folder until all files are in place. So a
    failure is undone at once, and a process that was killed meanwhile by the next `undo`.

    Raises
    ------
    InputError
        If a file cannot take its place; then nothing has changed, and the staged files are gone.
    """
    files = _below(staging)
    before, partial = _before(staging), staging.with_name(f"{staging.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        for file in files:
            _check_place(top / file, top)
            if (top / file).exists():
                _link(top / file, partial / file)
        os.replace(partial, before)  # from here on there is something to undo
        for file in files:
            with _explained(top / file), replacing(top / file) as new:
                _link(staging / file, new)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        undo(staging, top)
        shutil.rmtree(staging, ignore_errors=True)
        raise
    os.replace(before, partial)  # in one step: half of it would undo half
    shutil.rmtree(partial)
    shutil.rmtree(staging)


def undo(staging: Path, top: Path) -> None:
    """Put back what stood in the project before a `publish` that did not come to its end."""
    before = _before(staging)
    if not before.is_dir():
        return
    for file in _below(staging):
        if (before / file).exists():
            _link(before / file, top / file)
        else:
            (top / file).unlink(missing_ok=True)
            for folder in file.parents[:-1]:
                with suppress(OSError):  # not empty, or not there
                    (top / folder).rmdir()
    shutil.rmtree(before)


def _before(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.before")


def _below(folder: Path) -> list[Path]:
    """The files below a folder, reports last."""
    files = sorted(f.relative_to(folder) for f in folder.rglob("*") if f.is_file())
    return sorted(files, key=lambda f: f.parts[0] == "reports")


def _check_place(target: Path, top: Path) -> None:
    """Nothing but a file may stand where a file is to be, and nothing but folders above it."""
    if target.is_dir():
        raise InputError(
            f"{target.relative_to(top)} cannot be written: it is a folder; move it away and run "
            "the step again, which has changed nothing"
        )
    for above in reversed(target.relative_to(top).parents[:-1]):
        if (top / above).exists() and not (top / above).is_dir():
            raise InputError(
                f"{target.relative_to(top)} cannot be written: {above} is a file; move it away "
                "and run the step again, which has changed nothing"
            )


def _link(source: Path, target: Path) -> None:
    """Let a file have a second name, or be there twice where a disk has no such names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    """Say in one sentence which file could not be written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{target} cannot be written: {error.strerror}; nothing was changed"
        ) from None
