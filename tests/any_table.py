"""All notebooks on any table, one after another in this process, with the smallest parameters.

A run of the pipeline starts a kernel for each step, which costs more than the steps do on a small
table. Here one IPython shell runs the cells of them all, in the order of the pipeline, and says
where they stopped::

    python tests/any_table.py prices.csv --target price
    python tests/any_table.py loans.parquet --target bad --positive yes --set 'missing: ["?"]'
    python tests/any_table.py prices.csv --target price --params '{export: {folds: 3}}'
"""

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import nbformat
import pandas as pd
from conftest import ROOT, SMALLEST, change_params, write_params

from truefit import figures, params, project
from truefit.steps import STEPS, step_of

CASE = "any"
SPACES = {
    "regression": {"ridge": {"alpha": {"low": 0.1, "high": 10}}},
    "classification": {"logistic": {"C": {"low": 0.1, "high": 10}}},
}
CASE_STEPS = tuple(step.name for step in STEPS if step.of_a_case)


class Outcome(NamedTuple):
    """How far one step came."""

    step: str
    ended: str  # ran; refused, with an expected sentence; or failed
    why: str  # the sentence, or the cell and its traceback
    said: str  # all that the cells have shown, warnings included
    seconds: float  # of the processor

    def __str__(self) -> str:
        return f"{self.step:12} {self.ended}, {self.seconds:.1f} s {self.why}".rstrip()


def run(
    table: pd.DataFrame | Path,
    block: Mapping[str, Any],
    folder: Path,
    *,
    steps: Sequence[str] = CASE_STEPS,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
    pass_gate: bool = True,
) -> list[Outcome]:
    """Run steps on a table until one of them stops.

    Parameters
    ----------
    table : DataFrame or Path
        A file or folder as the block's ``table`` may name it. A DataFrame becomes Parquet.
    block : mapping
        The keys of the case's block but ``table``.
    folder : Path
        For a small project of its own. It may be one in which earlier steps have run.
    steps : sequence of str, optional
        In the order in which they run.
    changes : mapping from section to values, optional
        Other parameters than the smallest.
    pass_gate : bool, optional
        Let the model pass the gate whatever the verdict, so that the steps behind it run, too.

    Returns
    -------
    list of Outcome
        One for each step that was started. Only the last one can have ended otherwise than ``ran``.
    """
    _make_project(table, block, folder, changes or {})
    found = []
    with _set_up(folder):
        for step in steps:
            found.append(_run_step(step))
            if found[-1].ended != "ran":
                break
            if step == "evaluation" and pass_gate:
                _pass_gate(folder / "reports" / "gate" / f"{CASE}.json")
    return found


def _make_project(table, block, folder, changes) -> None:
    if isinstance(table, pd.DataFrame):
        file = folder / "table.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        table.to_parquet(file, index=False)
        table = file
    (folder / "notebooks").mkdir(parents=True, exist_ok=True)
    for name in ("benchmarks", "requirements.txt"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    write_params(folder / "params.yaml")

    def change(all_params):
        all_params["quick"] = {}
        all_params["search_spaces"] = SPACES
        all_params["cases"] = {CASE: {**block, "table": str(table.resolve())}}
        for section in (SMALLEST, changes):
            for name, values in section.items():
                all_params[name].update(values)

    change_params(folder, change)


def _pass_gate(file: Path) -> None:
    verdict = json.loads(file.read_text(encoding="utf-8"))
    for check in (verdict, *verdict["checks"]):
        check["passed"] = True
    file.write_text(json.dumps(verdict), encoding="utf-8")


@contextmanager
def _set_up(folder: Path) -> Iterator[None]:
    """The environment of a stage, whose searches stay in this process and figures are coarse."""
    alone = {project.ROOT_VARIABLE: str(folder), "MPLBACKEND": "agg", "LOKY_MAX_CPU_COUNT": "1"}
    with mock.patch.dict(os.environ, alone), mock.patch.object(figures, "DPI", 30):
        os.environ.pop(project.STAGING_VARIABLE, None)
        main = sys.modules["__main__"]
        try:
            yield
        finally:
            sys.modules["__main__"] = main  # which the shell has taken the place of


def _run_step(step: str) -> Outcome:
    """Execute the cells of one notebook in a namespace of their own, and render its page."""
    from IPython.core.interactiveshell import InteractiveShell
    from IPython.utils.capture import capture_output

    from truefit.notebook.render import render

    try:
        values = params.load().section(step, CASE).model_dump()
    except project.InputError as error:
        return Outcome(step, "refused", str(error), "", 0.0)
    started = time.process_time()

    def outcome(ended: str, why: str = "") -> Outcome:
        return Outcome(step, ended, why, _said(book), time.process_time() - started)

    shell = InteractiveShell.instance()
    sys.modules["__main__"] = shell.user_module
    shell.displayhook.do_full_cache = False  # it would collect garbage at each reset
    shell.reset(new_session=True, aggressive=False)
    book = nbformat.read(ROOT / "notebooks" / f"{step_of(step).notebook}.ipynb", as_version=4)
    for number, cell in enumerate(book.cells):
        if cell.cell_type != "code":
            continue
        with capture_output() as said:
            result = shell.run_cell(cell.source, store_history=False)
        cell.outputs = list(_outputs(said))
        error = result.error_before_exec or result.error_in_exec
        if isinstance(error, project.InputError | project.GateError):
            return outcome("refused", f"{type(error).__name__}: {error}")
        if error is not None:
            lines = "".join(traceback.format_exception(error))
            return outcome("failed", f"cell {number}\n{cell.source}\n{lines}")
        if "parameters" in cell.metadata.get("tags", ()):
            shell.user_ns.update(values, case=CASE)
    try:
        render(book, title_context=CASE)
    except project.TruefitError as error:
        return outcome("failed", f"the page: {error}")
    return outcome("ran")


def _outputs(said: Any) -> Iterator[nbformat.NotebookNode]:
    """What a cell has shown, as a notebook keeps it."""
    for name in ("stdout", "stderr"):
        if text := getattr(said, name):
            yield nbformat.v4.new_output("stream", name=name, text=text)
    for shown in said.outputs:
        data = {
            kind: b64encode(content).decode() if isinstance(content, bytes) else content
            for kind, content in shown.data.items()
        }
        yield nbformat.v4.new_output("display_data", data=data, metadata=shown.metadata or {})


def _said(book: nbformat.NotebookNode) -> str:
    """All that the cells have shown so far, as text."""
    shown = (o for cell in book.cells for o in cell.get("outputs", ()))
    return "\n".join(
        o.text if "text" in o else o.data.get("text/markdown", o.data.get("text/plain", ""))
        for o in shown
    )


def main() -> int:
    """Run the steps as the command line says; the exit code says whether any failed."""
    from ruamel.yaml import YAML

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("table", type=Path)
    parser.add_argument("--target", required=True)
    parser.add_argument("--positive", help="the class to detect: a classification")
    parser.add_argument("--set", default="{}", help="more keys of the block, as YAML")
    parser.add_argument("--params", default="{}", help="other parameters, by section, as YAML")
    parser.add_argument("--steps", default=",".join(CASE_STEPS))
    parser.add_argument("--folder", type=Path, help="keep the small project here")
    parser.add_argument("--show", action="store_true", help="what the notebooks said, too")
    given = parser.parse_args()
    yaml = YAML(typ="safe", pure=True)
    block = {"target": given.target, "task": "regression"}
    if given.positive is not None:
        block |= {"task": "classification", "positive": given.positive}
    block |= yaml.load(given.set)
    with tempfile.TemporaryDirectory() as folder:
        found = run(
            given.table,
            block,
            given.folder or Path(folder),
            steps=given.steps.split(","),
            changes=yaml.load(given.params),
        )
    for outcome in found:
        print(f"{outcome}\n{outcome.said}" if given.show else outcome)
    return any(outcome.ended == "failed" for outcome in found)


if __name__ == "__main__":
    sys.exit(main())
