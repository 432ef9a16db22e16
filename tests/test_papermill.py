"""Plain papermill runs the notebooks, without this project's own runner."""

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import copy_project

from truefit import params
from truefit.notebook import STEPS, WITHOUT_CASE, notebook_of

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def papermill(copy, step, *parameters):
    """Run a notebook of a copy from the folder beside it; it must succeed."""
    source = copy / "notebooks" / f"{notebook_of(step)}.ipynb"
    run = subprocess.run(
        ["papermill", source, "out.ipynb", *parameters],
        cwd=copy.parent,
        env={**os.environ, "PATH": PATH, "TRUEFIT_PROJECT": str(copy)},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
    )
    assert run.returncode == 0, run.stderr[-3000:]


def test_notebooks_run_through_plain_papermill_from_anywhere(tmp_path):
    copy = copy_project(tmp_path / "clone")
    quick = params.load(copy / "params.yaml").quick
    for step in STEPS:
        case = [] if step in WITHOUT_CASE else ["-p", "case", "loans"]
        papermill(copy, step, *case, "-y", json.dumps(quick.get(step, {})))
    assert (copy / "models" / "loans" / "bundle" / "model.onnx").is_file()
