"""Publish the files of a run as one step: all of them are new, or all are what they were.

Before the first file is replaced, the ones that stand in the places are kept in a folder beside
the staged files, with a list of all places. Until the list is gone, the step can be undone: by
`publish` itself if it cannot go on, or by `restore` in the next run if the process was killed.
"""

import errno
import json
import os
import shutil
from pathlib import Path

from truefit import project
from truefit.project import InputError

LIST = "published.json"  # each file to be published, and whether there was one in its place


def publish(staging: Path, top: Path) -> None:
    """Move every staged file to its place, reports last, and remove the staging folder.

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
    files = sorted(f.relative_to(staging).as_posix() for f in staging.rglob("*") if f.is_file())
    files.sort(key=lambda name: name.startswith("reports/"))
    try:
        for name in files:
            project.require_writable(top / name)
        _keep(files, staging, top)
        for name in files:
            _move(staging / name, top / name)
        (_kept(staging) / LIST).unlink()  # from here on, all of them are new
    except OSError as error:
        restore(staging, top)
        raise InputError(f"{_reason(error)}, so no file of this run was changed") from None
    except BaseException:
        restore(staging, top)
        raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    shutil.rmtree(_kept(staging))


def restore(staging: Path, top: Path) -> None:
    """Undo what `publish` has begun and not finished, if there is such a thing.

    Raises
    ------
    InputError
        If a file cannot be put back; the next call tries again.
    """
    kept = _kept(staging)
    try:
        if (kept / LIST).is_file():
            for name, existed in json.loads((kept / LIST).read_text(encoding="utf-8")).items():
                if existed and os.path.lexists(kept / name):  # else it has been put back
                    _move(kept / name, top / name)
                elif not existed and os.path.lexists(top / name):
                    (top / name).unlink()
            (kept / LIST).unlink()
    except OSError as error:
        raise InputError(
            f"{_reason(error)}; the files as they were before the last run are in "
            f"{project.shown(kept)}, and the next run puts them back"
        ) from None
    shutil.rmtree(kept, ignore_errors=True)


def _kept(staging: Path) -> Path:
    return staging.with_name(f"{staging.name}.before")


def _keep(files: list[str], staging: Path, top: Path) -> None:
    """Keep what is about to be replaced; the list comes last, when all else is there."""
    kept = _kept(staging)
    existed = {name: os.path.lexists(top / name) for name in files}
    for name in (name for name in files if existed[name]):
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(top / name, kept / name, follow_symlinks=False)
        except OSError:  # another file system, or one that knows no hard links
            shutil.copy2(top / name, kept / name, follow_symlinks=False)
    kept.mkdir(exist_ok=True)
    with project.replacing(kept / LIST) as partial:
        partial.write_text(json.dumps(existed), encoding="utf-8")


def _move(source: Path, target: Path) -> None:
    """Move a file to its place in one step, even where that is on another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with project.replacing(target) as partial:
            shutil.copy2(source, partial, follow_symlinks=False)
        source.unlink()


def _reason(error: OSError) -> str:
    file = error.filename2 or error.filename
    where = project.shown(Path(file)) if file else "a file"
    return f"{where} cannot be written ({error.strerror})"
