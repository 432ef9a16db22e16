"""Plain papermill runs the notebooks, without this project's own runner, and shows the same."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from conftest import environment

from truefit import params
from truefit.notebook.normalise import normalise
from truefit.notebook.run import PINNED, PINNED_ON_X86
from truefit.steps import all_runs

# Each in a kernel of its own, as from the command line; but papermill is imported once for all.
REST = """
import json, sys
from papermill import execute_notebook
for source, target, given in json.load(sys.stdin):
    execute_notebook(source, target, given, progress_bar=False)
"""
CASE = "loans"
OTHER = {"OPENBLAS_CORETYPE": "Sandybridge"}  # another kind of processor


def run(copy, command, **more):
    """Run a command in the folder beside a copy of the project; it must succeed."""
    ran = subprocess.run(
        command,
        cwd=copy.parent,
        env=environment(**PINNED, **(PINNED_ON_X86 | OTHER), TRUEFIT_PROJECT=str(copy)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        **more,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


def shown(notebook):
    """What the cells show, but for the pictures; the kernel may print a text in pieces."""
    outputs = [cell.get("outputs", ()) for cell in notebook.cells]
    printed = ["".join(o.get("text", "") for o in of_cell) for of_cell in outputs]
    displayed = [o["data"] for of_cell in outputs for o in of_cell if "data" in o]
    return printed, [{k: v for k, v in d.items() if k != "image/png"} for d in displayed]


def test_notebooks_run_through_plain_papermill_from_anywhere_and_show_the_same(finished, tmp_path):
    copy = Path(shutil.copytree(finished, tmp_path / "clone", symlinks=True))
    for folder in (".searches", "models", "data/homes", f"data/{CASE}"):
        shutil.rmtree(copy / folder)
    settings, books = params.load(copy / "params.yaml"), []
    for step, case in all_runs([CASE]):
        source = copy / "notebooks" / f"{step.notebook}.ipynb"
        values = settings.section(step.name, case).model_dump()
        books.append((str(source), f"{step}.ipynb", ({"case": case} if case else {}) | values))
    source, target, given = books[0]
    words = json.dumps({k: v for k, v in given.items() if k != "case"})
    run(copy, ["papermill", source, target, "-p", "case", CASE, "-y", words])
    run(copy, [sys.executable, "-c", REST], input=json.dumps(books[1:]))
    assert (copy / "models" / CASE / "bundle" / "model.onnx").is_file()
    for step, case in all_runs([CASE]):
        page = (finished / "reports" / step.page(case)).with_suffix(".ipynb")
        ran = normalise(tmp_path / f"{step}.ipynb", copy, copy / ".staging")
        assert shown(ran) == shown(nbformat.read(page, as_version=4)), step
