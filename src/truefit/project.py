"""Where the project lies, and how its files are written: whole or not at all.

A stage that the runner executes has its files collected in a staging folder
(``TRUEFIT_STAGING``) and published together when the notebook has succeeded. A notebook that a
person runs by hand writes each file straight to its place, still whole or not at all.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


def require_writable(target: Path) -> None:
    """Make sure that a file can be written at ``target``, as far as that can be known before.

    Raises
    ------
    InputError
        If something is in the way; the sentence names it. A folder that is missing is not:
        whoever writes makes it.
    """
    if target.is_dir():
        raise InputError(
            f"{shown(target)} is a folder, and a file of this name is to be written: move the "
            "folder away, and run again"
        )
    above = next(folder for folder in target.parents if os.path.lexists(folder))
    if not above.is_dir():
        raise InputError(
            f"{shown(above)} is no folder, and one of this name is needed for {target.name}: move "
            "it away, and run again"
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise InputError(
            f"{shown(target)} cannot be written: you have no right to write in its folder; get it, "
            "and run again"
        )


def shown(file: Path) -> str:
    """A path as people know it: from the project's folder, if it lies in it."""
    return str(file.relative_to(root()) if file.is_relative_to(root()) else file)


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes ``target`` when the block succeeds."""
    # The suffix stays last, because writers choose their format by it.
    partial = target.with_name(f".partial-{os.getpid()}-{target.name}")
    try:
        yield partial
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(*parts: str) -> Iterator[Path]:
    """Give a temporary path to write a file of the project to; see `replacing`.

    Raises
    ------
    InputError
        If something is in the file's place; see `require_writable`.
    """
    target = Path(os.environ.get(STAGING_VARIABLE) or root()).joinpath(*parts)
    require_writable(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as partial:
        yield partial


def write_text(text: str, *parts: str) -> None:
    """Write a text file of the project: UTF-8, LF, one newline at the end."""
    with writing(*parts) as partial:
        partial.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
