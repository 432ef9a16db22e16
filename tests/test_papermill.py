"""Plain papermill runs the notebooks, without this project's own runner."""

import json
import subprocess
import sys

from conftest import SMALLEST, copy_project, environment

from truefit.notebook import STEPS, WITHOUT_CASE, notebook_of

# Each in a kernel of its own, as from the command line; but papermill is imported once for all.
REST = """
import json, sys
from papermill import execute_notebook
for source, given in json.load(sys.stdin):
    execute_notebook(source, "out.ipynb", given, progress_bar=False)
"""


def run(copy, command, **more):
    """Run a command in the folder beside a copy of the project; it must succeed."""
    ran = subprocess.run(
        command,
        cwd=copy.parent,
        env=environment(TRUEFIT_PROJECT=str(copy)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        **more,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]


def test_notebooks_run_through_plain_papermill_from_anywhere(tmp_path):
    copy = copy_project(tmp_path / "clone")
    books = []
    for step in STEPS:
        case = {} if step in WITHOUT_CASE else {"case": "loans"}
        source = str(copy / "notebooks" / f"{notebook_of(step)}.ipynb")
        books.append((source, case | SMALLEST[step]))
    source, given = books.pop(0)
    values = json.dumps({k: v for k, v in given.items() if k != "case"})
    run(copy, ["papermill", source, "out.ipynb", "-p", "case", "loans", "-y", values])
    run(copy, [sys.executable, "-c", REST], input=json.dumps(books))
    assert (copy / "models" / "loans" / "bundle" / "model.onnx").is_file()
