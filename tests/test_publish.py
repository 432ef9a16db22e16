"""A run changes all of its files or none, whatever is in the way and whenever it is stopped."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
import pytest
from conftest import environment, run_truefit, versioned_copy
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from truefit import project
from truefit.notebook import publish as module
from truefit.notebook.publish import publish, undo
from truefit.project import InputError

# One of each kind of file, in the order in which they are published; the second is new.
NAMES = (
    "data/loans/train.parquet",
    "models/loans/bundle/manifest.json",
    "reports/loans/03_training.html",
    "reports/loans/03_training.ipynb",
)
NEW_ONE = NAMES[1]


@pytest.fixture
def top(tmp_path, monkeypatch):
    """A project with results, and new ones that wait in its staging folder."""
    top = tmp_path / "project"
    (top / "notebooks").mkdir(parents=True)
    monkeypatch.setenv(project.ROOT_VARIABLE, str(top))
    return filled(top)


def filled(top):
    for name in (*NAMES, "reports/loans/leaderboard.csv", "params.yaml"):
        write(top / name, "old")
    for name in NAMES:
        write(staging(top) / name, "new")
    (top / NEW_ONE).unlink()
    undo(staging(top), top)  # as every run does before anything else
    return top


def staging(top):
    return top / ".staging" / "loans-03_training"


def write(file, text):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def content(top):
    """The text of every file, by its path."""
    files = (f for f in top.rglob("*") if f.is_file())
    return {f.relative_to(top).as_posix(): f.read_text(encoding="utf-8") for f in files}


OLD = dict.fromkeys((*NAMES, "reports/loans/leaderboard.csv", "params.yaml"), "old")
NEW = OLD | dict.fromkeys(NAMES, "new")
del OLD[NEW_ONE]


def test_every_file_is_new_and_what_the_run_did_not_make_stays(top):
    publish(staging(top), top)
    assert content(top) == NEW
    assert not list((top / ".staging").iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_with_a_folder_in_its_place_no_file_changes_until_it_is_gone(top, name):
    (top / name).unlink(missing_ok=True)
    write(top / name / "inside.txt", "mine")
    before = content(top / "data") | content(top / "models") | content(top / "reports")
    with pytest.raises(InputError, match=f"^{name} is a folder.*move the folder away, and run"):
        publish(staging(top), top)
    assert content(top / "data") | content(top / "models") | content(top / "reports") == before
    assert not list((top / ".staging").iterdir())


def test_with_a_file_where_a_folder_must_be_no_file_changes(top):
    for folder in ("models/loans/bundle", "models/loans"):
        (top / folder).rmdir()
    write(top / "models" / "loans", "mine")
    with pytest.raises(InputError, match="^models/loans is no folder.*needed for manifest.json"):
        publish(staging(top), top)
    assert content(top) == OLD | {"models/loans": "mine"}


def test_what_is_written_without_a_run_is_refused_in_the_same_way(top):
    (top / "reports" / "index.html").mkdir()
    with pytest.raises(InputError, match="^reports/index.html is a folder"):
        project.write_text("the front page", "reports", "index.html")
    assert not list((top / "reports" / "index.html").iterdir())


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_without_the_right_to_write_no_file_changes(top):
    (top / "reports" / "loans").chmod(0o555)
    with pytest.raises(InputError, match="html cannot be written: you have no right"):
        publish(staging(top), top)
    assert content(top) == OLD


def traced(call, act):
    """Make a call, and act on the number of each line of the module when it begins; how many."""
    begun = 0

    def trace(frame, event, _):
        nonlocal begun
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            begun += 1
            act(begun)
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return begun


def lines(top):
    """How many lines of the module run when all goes well."""
    begun = traced(lambda: publish(staging(top), top), lambda _: None)
    assert content(top) == NEW
    return begun


def state(top):
    """Whether all files are old or all are new; else what they are."""
    now = {name: text for name, text in content(top).items() if ".staging" not in name}
    return "old" if now == OLD else "new" if now == NEW else now


def raising(at, number):
    """Raise a signal in this process when the line of a number begins."""
    return lambda line: line == at and signal.raise_signal(number)


def test_interrupted_anywhere_it_leaves_all_files_old_or_all_new(top):
    found = []
    for at in range(1, lines(top) + 1):
        filled(top)
        with pytest.raises(KeyboardInterrupt):
            traced(lambda: publish(staging(top), top), raising(at, signal.SIGINT))
        found.append(state(top))
    assert {*found} == {"old", "new"}
    assert found == sorted(found, reverse=True)


def killed(call, at):
    """Whether another process, that is killed at a line, did not come to the end of the call."""
    if child := os.fork():
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    traced(call, raising(at, signal.SIGKILL))
    os._exit(0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system starts processes otherwise")
def test_killed_anywhere_and_killed_again_it_is_whole_when_the_next_run_begins(top):
    found = []
    for at in range(1, lines(top) + 1, 2):
        filled(top)
        assert killed(lambda: publish(staging(top), top), at)
        killed(lambda: undo(staging(top), top), at % 20 + 1)
        undo(staging(top), top)
        found.append(state(top))
    assert {*found} == {"old", "new"}
    assert found == sorted(found, reverse=True)
    assert [f.name for f in (top / ".staging").iterdir()] in ([], [staging(top).name])


def once_moved(top, act):
    """Act once, when the first file is in its place."""
    done = []
    return lambda _: not done and state_of(top, NAMES[0]) == "new" and done.append(act())


def state_of(top, name):
    return (top / name).read_text(encoding="utf-8")


def test_what_comes_in_the_way_of_a_new_file_in_the_middle_changes_nothing(top):
    def block():
        (top / NEW_ONE).parent.rmdir()
        write((top / NEW_ONE).parent, "mine")

    with pytest.raises(InputError, match="^models/loans/bundle cannot be .*no file$"):
        traced(lambda: publish(staging(top), top), once_moved(top, block))
    assert content(top) == OLD | {"models/loans/bundle": "mine"}


def test_a_file_that_cannot_be_put_back_is_kept_until_it_can(top):
    blocked = top / NAMES[-1]

    def block():
        blocked.unlink()
        (blocked / "inside").mkdir(parents=True)

    sentence = f"^{NAMES[-1]} cannot be written .*put back is in .staging"
    with pytest.raises(InputError, match=sentence):
        traced(lambda: publish(staging(top), top), once_moved(top, block))
    with pytest.raises(InputError, match=sentence):
        undo(staging(top), top)
    (blocked / "inside").rmdir()
    blocked.rmdir()
    undo(staging(top), top)
    assert state(top) == "old"


def test_a_folder_of_another_file_system_is_published_and_put_back_to(top, tmp_path):
    other = Path("/dev/shm")
    if not other.is_dir() or other.stat().st_dev == top.stat().st_dev:
        pytest.skip("there is no other file system to write to")
    with tempfile.TemporaryDirectory(dir=other) as folder:
        (top / "data" / "loans").rename(tmp_path / "away")
        write(Path(folder, "train.parquet"), "old")
        (top / "data" / "loans").symlink_to(folder)
        with pytest.raises(KeyboardInterrupt):
            traced(
                lambda: publish(staging(top), top),
                once_moved(top, lambda: signal.raise_signal(signal.SIGINT)),
            )
        assert state_of(top, NAMES[0]) == "old"
        for name in NAMES:
            write(staging(top) / name, "new")
        publish(staging(top), top)
        assert [state_of(top, name) for name in NAMES] == ["new"] * len(NAMES)
        assert [f.name for f in Path(folder).iterdir()] == ["train.parquet"]


BOOK = """\
from truefit import project
with project.writing("data", "loans", "train.parquet") as partial:
    partial.write_bytes(b"rows")
for name in ("test.parquet", "production.parquet", "schema.json"):
    project.write_text(name, "data", "loans", name)"""


def test_dvc_runs_the_stage_once_nothing_is_in_the_way(tmp_path):
    copy = versioned_copy(tmp_path / "copy")
    cells = [new_markdown_cell("# Rows"), new_code_cell(BOOK)]
    book = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    nbformat.write(book, copy / "notebooks" / "01_data_prep.ipynb")
    data, reports = copy / "data" / "loans", copy / "reports" / "loans"
    for name in ("schema.json", "test.parquet"):
        write(data / name, "old")
    (data / "production.parquet").mkdir()
    refused = run_truefit("run", "01_data_prep", "--case", "loans", cwd=copy)
    assert refused.returncode == 1
    assert refused.stderr.endswith(
        "\ntruefit: data/loans/production.parquet is a folder, and a file of this name is to be "
        "written: move the folder away, and run again; this run has changed no file\n"
    )
    assert content(data) == {"schema.json": "old", "test.parquet": "old"}
    assert not reports.exists()
    (data / "production.parquet").rmdir()
    subprocess.run(["dvc", "repro", "data_prep@loans"], cwd=copy, env=environment(), check=True)
    assert len(content(data)) == 4
    assert {*content(reports)} == {"01_data_prep.html", "01_data_prep.ipynb"}


def test_a_run_that_could_not_write_its_page_does_not_begin(clone):
    page = "reports/loans/01_data_prep.ipynb"
    (clone / page).mkdir(parents=True)
    refused = run_truefit("run", "01_data_prep", "--case", "loans", cwd=clone)
    assert refused.stderr.startswith(f"truefit: {page} is a folder")
    assert not (clone / ".staging").exists()
