"""Put all files of a stage into their places, or none of them, whatever comes between."""

import os
import shutil
from contextlib import suppress
from pathlib import Path

from truefit import project
from truefit.project import InputError

# What lies beside a staging folder while its files take their places: what was there before, the
# same while it is incomplete, and the next file.
ENDS = (".before", ".partial", ".next")


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
    _, partial, new = (staging.with_name(staging.name + end) for end in ENDS)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with project.explained(staging):
            _swap(files, staging, top)
    except BaseException:
        undo(staging, top)
        new.unlink(missing_ok=True)
        raise
    finally:
        for folder in (partial, staging):
            shutil.rmtree(folder, ignore_errors=True)


def _swap(files: list[Path], staging: Path, top: Path) -> None:
    before, partial, new = (staging.with_name(staging.name + end) for end in ENDS)
    partial.mkdir()
    for file in files:
        _check_place(top / file, top)
        if (top / file).exists():
            _link(top / file, partial / file)
    os.replace(partial, before)  # from here on there is something to undo
    for file in files:
        with project.explained(top / file):
            _link(staging / file, new)
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            os.replace(new, top / file)
    os.replace(before, partial)  # in one step: half of it would undo half


def undo(staging: Path, top: Path) -> None:
    """Put back what stood in the project before a `publish` that did not come to its end."""
    before = staging.with_name(staging.name + ENDS[0])
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
