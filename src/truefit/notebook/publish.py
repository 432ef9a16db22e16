"""Publish the files of a run as one step: all of them are new, or all are what they were.

What stands in their places is kept beside the staging folder until the last of them is new. So a
failure is undone at once, and what a process that was killed has left, by `undo` in the next run.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from truefit import project
from truefit.project import InputError


def publish(staging: Path, top: Path) -> None:
    """Put every staged file into its place, reports last, and remove the staging folder.

    Parameters
    ----------
    staging : Path
        The new files, each with its path from ``top``.
    top : Path
        The project. What lies there and is not replaced stays.

    Raises
    ------
    InputError
        If a file cannot take its place; the sentence names it. Then all are what they were, and
        the staged ones are gone: the next run makes them again.
    """
    files, before, partial = _files(staging), _before(staging), _partial(staging)
    try:
        with _explained():
            for file in files:
                project.require_writable(top / file)
            partial.mkdir()
            for file in files:
                if os.path.lexists(top / file):
                    _link(top / file, partial / file)
            os.replace(partial, before)  # from here on there is something to undo,
            for file in files:
                _link(staging / file, top / file)
            os.replace(before, partial)  # and from here on nothing
    except BaseException as error:
        undo(staging, top)
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, InputError):
            raise InputError(f"{error}; this run has changed no file") from None
        raise
    shutil.rmtree(partial)
    shutil.rmtree(staging)


def undo(staging: Path, top: Path) -> None:
    """Put back what `publish` has begun to replace, if it did not come to its end.

    The staged files, which say what it was about to replace, must still be there.

    Raises
    ------
    InputError
        If a file cannot be put back; the next call tries again.
    """
    before, partial = _before(staging), _partial(staging)
    if before.is_dir():
        with _explained(f"; what is to be put back is in {project.shown(before)}"):
            for file in _files(staging):
                if os.path.lexists(before / file):
                    _link(before / file, top / file)
                elif os.path.lexists(top / file):
                    (top / file).unlink()
                for left in (top / file).parent.glob(f".partial-*-{escape(file.name)}"):
                    left.unlink()
            os.replace(before, partial)  # in one step: with half of it, half would be undone
    shutil.rmtree(partial, ignore_errors=True)


def _before(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.before")


def _partial(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.partial")


def _files(staging: Path) -> list[Path]:
    files = sorted(f.relative_to(staging) for f in staging.rglob("*") if f.is_file())
    return sorted(files, key=lambda file: file.parts[0] == "reports")


def _link(source: Path, target: Path) -> None:
    """Put a file into another place, too, in one step: by a second name, where a disk has those."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with project.replacing(target) as partial:
        try:
            os.link(source, partial, follow_symlinks=False)
        except OSError:
            shutil.copy2(source, partial, follow_symlinks=False)


@contextmanager
def _explained(more: str = "") -> Iterator[None]:
    """Say what the system does not allow in one sentence that names the file."""
    try:
        yield
    except OSError as error:
        file = error.filename2 or error.filename
        where = project.shown(Path(file)) if file else "a file of the run"
        raise InputError(f"{where} cannot be written ({error.strerror}){more}") from None
