"""Run every notebook with small parameters through plain papermill, as a team's CI would."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from truefit import params, project
from truefit.notebook.run import PINNED, NotebookError
from truefit.project import InputError
from truefit.steps import STEPS, Step

READ = ("params.yaml", "notebooks", "data/raw", "benchmarks")  # by the notebooks


def run_quick() -> None:
    """Run all notebooks for all cases with the parameters under ``quick:``, in a copy.

    The cases run beside each other. The copy is thrown away at the end, so that the project's own
    results stay as they are.

    Raises
    ------
    NotebookError
        If a notebook fails; the message has the end of what papermill said.
    InputError
        If a block is wrong, once the other cases have run.
    """
    settings = params.load()
    with tempfile.TemporaryDirectory(prefix="truefit-") as folder:
        copy = Path(folder)
        for name in READ:
            source, target = project.root() / name, copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        chains = [[(step, None)] for step in STEPS if not step.of_a_case]
        of_a_case = [step for step in STEPS if step.of_a_case]
        chains += [[(step, case) for step in of_a_case] for case in settings.cases]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in pool.map(lambda chain: [_run(copy, settings, *run) for run in chain], chains):
                pass
    if settings.faults:
        raise InputError("; ".join(settings.faults.values()))


def _run(copy: Path, settings: params.Params, step: Step, case: str | None) -> None:
    from ruamel.yaml import YAML

    given = copy / f"{case}-{step}.yaml"
    chosen = settings.section(step.name, case, quick=True).model_dump()
    values = ({} if case is None else {"case": case}) | chosen
    YAML().dump(values, given)
    started = time.perf_counter()
    book = f"{step.notebook}.ipynb"
    found = subprocess.run(
        [
            *(Path(sys.executable).with_name("papermill"), "--no-progress-bar"),
            *(copy / "notebooks" / book, copy / f"{case}-{book}", "-f", given),
        ],
        env={**os.environ, **PINNED, project.ROOT_VARIABLE: str(copy)},
        capture_output=True,
        encoding="utf-8",
        errors="replace",
    )
    about = f"{step.label}{f', {case}' if case else ''}"
    if found.returncode:
        raise NotebookError(f"{about} failed:\n{found.stderr[-2000:]}")
    print(f"{about}: {time.perf_counter() - started:.0f} s", flush=True)
