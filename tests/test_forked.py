"""Stages that `truefit repro` forks with the libraries imported: they fail and stop like others.

That they make the same bytes as under ``dvc repro`` is for test_pipeline.py.
"""

import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import nbformat
import pytest
from conftest import BIN, environment, run_truefit, versioned_copy

from truefit import forked
from truefit.notebook.run import PINNED

pytestmark = pytest.mark.skipif(not forked.AVAILABLE, reason="stages are forked on Linux alone")
CELL = """
import os, time
from pathlib import Path
if case == "homes":
    Path("kernel").write_text(str(os.getpid()))
    time.sleep(60)
if case == "loans":
    1 / 0
os.kill(os.getpid(), 9)
"""


@pytest.fixture(scope="module")
def top(tmp_path_factory):
    """A project whose first notebook waits for one case, fails for another and dies for a third."""
    copy = versioned_copy(tmp_path_factory.mktemp("forked") / "copy")
    file = copy / "notebooks" / "01_data_prep.ipynb"
    notebook = nbformat.read(file, as_version=4)
    given = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    notebook.cells = [*given, nbformat.v4.new_code_cell(CELL)]
    nbformat.write(notebook, file)
    return copy


def test_what_fails_says_why(top):
    done = run_truefit("repro", "data_prep@loans", "data_prep@machines", cwd=top)
    assert done.returncode == 1
    assert "1 / 0" in done.stdout and "ZeroDivisionError: division by zero" in done.stdout
    assert "truefit: the process that runs 01_data_prep died" in done.stdout
    assert "Traceback" not in done.stdout
    assert done.stderr.startswith("truefit: failed: data_prep@")


def test_a_notebook_that_cannot_be_read_ends_its_stage(tmp_path):
    """The process that waits to become its kernel never does."""
    copy = versioned_copy(tmp_path / "copy")
    (copy / "notebooks" / "01_data_prep.ipynb").write_text("{", encoding="utf-8")
    done = run_truefit("repro", "data_prep@homes", cwd=copy, timeout=60)
    assert done.returncode == 1
    assert "truefit: notebooks/01_data_prep.ipynb is no notebook: it is not JSON" in done.stdout
    assert "Traceback" not in done.stdout


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_told_to_stop_it_ends_the_kernel_too(top, name):
    found = top / "kernel"
    found.unlink(missing_ok=True)
    process = subprocess.Popen(
        [BIN / "truefit", "repro", "data_prep@homes"],
        cwd=top,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: found.exists() and found.read_text())
    kernel = int(found.read_text())
    with open(f"/proc/{kernel}/stat", encoding="utf-8") as file:
        stage = int(file.read().rpartition(")")[2].split()[1])
    process.send_signal(getattr(signal, name))
    if name == "SIGKILL":  # nobody is left to tell the stage, which would come to its end
        os.killpg(stage, signal.SIGKILL)
    _, complaint = process.communicate(timeout=60)  # which the server has open, too
    if name != "SIGKILL":
        assert process.returncode == 130
        assert complaint == "truefit: interrupted; what was finished before is kept\n"
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in (kernel, stage)))


def wait_until(fulfilled):
    deadline = time.monotonic() + 60
    while not fulfilled():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_each_library_is_there_and_starts_no_thread():
    assert [name for name in forked.LIBRARIES if not find_spec(name)] == []
    program = (
        f"import {', '.join(forked.LIBRARIES)}\n"
        "from pathlib import Path\n"
        "for file in Path('/proc/self/task').glob('*/comm'): print(file.read_text(), end='')"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **PINNED},
        capture_output=True,
        text=True,
        check=True,
    )
    # Arrow's allocator has one, and sees to it that a fork finds it at rest.
    others = [name for name in done.stdout.split() if name != "jemalloc_bg_thd"]
    assert (len(others), done.stderr) == (1, "")
