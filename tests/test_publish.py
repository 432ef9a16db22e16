"""All of a stage's files come to their places, or none; whatever stands in the way."""

import os
from functools import partial
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import project
from truefit.notebook.publish import publish, undo
from truefit.project import InputError

OLD = {
    "data/mine/train.parquet": "old rows",
    "models/mine/model.joblib": "old model",
    "reports/mine/03.html": "old page",
}
NEW = {
    "data/mine/train.parquet": "new rows",
    "models/mine/bundle/model.onnx": "new graph",
    "models/mine/model.joblib": "new model",
    "reports/gate/mine.json": "new verdict",
    "reports/mine/03.html": "new page",
    "reports/mine/03.ipynb": "new notebook",
}


def write(top, files):
    for name, text in files.items():
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(text, encoding="utf-8")


def content(top):
    """Every file and folder below a project, hidden ones too."""
    return {
        f.relative_to(top).as_posix(): f.read_text("utf-8") if f.is_file() else None
        for f in top.rglob("*")
    }


def made(top):
    """A project with old files, and new ones staged."""
    write(top, OLD)
    staging = top / ".staging" / "mine-03"
    write(staging, NEW)
    return staging


def test_all_files_take_their_places_and_nothing_is_left(tmp_path):
    publish(made(tmp_path), tmp_path)
    assert {f: t for f, t in content(tmp_path).items() if t is not None} == OLD | NEW
    assert content(tmp_path / ".staging") == {}


@pytest.mark.parametrize("name", NEW)
def test_a_folder_in_the_place_of_any_file_leaves_all_as_it_was(tmp_path, name):
    staging = made(tmp_path)
    (tmp_path / name).unlink(missing_ok=True)
    write(tmp_path, {f"{name}/kept": "something of the user's"})
    before = {f: t for f, t in content(tmp_path).items() if not f.startswith(".staging/")}
    with pytest.raises(InputError) as caught:
        publish(staging, tmp_path)
    assert str(caught.value) == (
        f"{name} cannot be written: it is a folder; move it away and run the step again, which has "
        "changed nothing"
    )
    assert content(tmp_path) == before


def test_a_file_in_the_place_of_a_folder_leaves_all_as_it_was(tmp_path):
    staging = made(tmp_path)
    write(tmp_path, {"models/mine/bundle": "a file"})
    before = {f: t for f, t in content(tmp_path).items() if not f.startswith(".staging/")}
    with pytest.raises(InputError, match="models/mine/bundle is a file; move it away"):
        publish(staging, tmp_path)
    assert content(tmp_path) == before


def killed(last, *arguments):
    """Publish in a process that dies before one of its changes; whether it did."""
    process, done = os.fork(), 0
    if process:
        return bool(os.waitpid(process, 0)[1])

    def counted(real, *arguments, **more):
        nonlocal done
        done += 1
        return os._exit(9) if done > last else real(*arguments, **more)

    for name in ("link", "replace", "unlink", "rmdir", "mkdir"):
        setattr(os, name, partial(counted, getattr(os, name)))
    publish(*arguments)
    os._exit(0)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_files(tmp_path):
    for last in count():
        top = tmp_path / str(last)
        staging = made(top)
        if not (died := killed(last, staging, top)):
            break
        undo(staging, top)
        found = {f: t for f, t in content(top).items() if t is not None and f[0] != "."}
        assert found in (OLD, OLD | NEW), last
    assert died is False and last > 20


@settings(deadline=None)
@given(st.integers(0, 12))
def test_a_full_disk_at_any_moment_leaves_all_as_it_was(tmp_path_factory, last):
    top = tmp_path_factory.mktemp("project")
    staging = made(top)
    before = {f: t for f, t in content(top).items() if not f.startswith(".staging/")}
    done = 0

    def failing(*arguments, _real=os.replace):
        nonlocal done
        done += 1
        if done == last:
            raise OSError(28, "No space left on device")
        return _real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", failing)
        try:
            publish(staging, top)
        except InputError as error:
            assert "cannot be written: No space left on device" in str(error)
            assert content(top) == before
        else:
            found = {f: t for f, t in content(top).items() if t is not None}
            assert found == OLD | NEW


def test_a_file_of_the_project_that_cannot_take_its_place_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUEFIT_STAGING", str(tmp_path))
    (tmp_path / "reports" / "index.html" / "kept").mkdir(parents=True)
    with pytest.raises(InputError, match=r"index\.html cannot be written: Is a directory"):
        project.write_text("new", "reports", "index.html")
    assert not [f for f in Path(tmp_path, "reports").iterdir() if f.name != "index.html"]
