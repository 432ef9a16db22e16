"""Keep the stages in `dvc.yaml` what the steps are, and the code they list what they execute.

``python -m truefit.dependencies``, a part of ``make tidy``, writes the stage of each step anew, and
lists the code of the stage ``index``. All else in `dvc.yaml` is written by hand and stays.
"""

import json
import re
from io import StringIO
from pathlib import Path
from textwrap import indent
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap

from truefit import project
from truefit.closure import PACKAGE, closure
from truefit.steps import STEPS, Step

# A stage as it is written here, be it of a step that has gone.
OF_A_STEP = re.compile(
    r"(?m)^  \w+:\n(?: {4}.*\n)*? {4,6}cmd: truefit run \w+(?: --case \S+)?\n(?: {4}.*\n)*\n?"
)
# How the files of `truefit.steps` are written in a stage that is made for each case.
EACH = {"case": "${key}", "table": "${item.table}"}


def with_stages(text: str, top: Path) -> str:
    """A `dvc.yaml` with a stage for each step as it is now.

    Parameters
    ----------
    text : str
        The file's content.
    top : Path
        The project, for its notebooks.
    """
    written = "".join(f"{indent(_dumped({s.name: _stage(s, top)}), '  ')}\n" for s in STEPS)
    text = re.sub(r"(?m)^stages:\n", lambda found: found[0] + written, OF_A_STEP.sub("", text))
    document = _yaml().load(text)
    index = document["stages"]["index"]
    others = [d for d in index["deps"] if not d.startswith("src/")]
    index["deps"][:] = sorted([*others, *_code(PACKAGE / "index.py")])
    return _dumped(document)


def _stage(step: Step, top: Path) -> dict[str, Any]:
    """The stage of a step, for all cases if it is about one."""
    notebook = f"notebooks/{step.notebook}.ipynb"
    case = EACH["case"] if step.of_a_case else None
    read = [file.format(**EACH) for file in step.inputs]
    code = _code(top / notebook, PACKAGE / "notebook" / "run.py")
    page = f"reports/{step.page(case)}"
    made = [file.format(**EACH) for file in step.makes] + [page, page.replace(".html", ".ipynb")]
    if _has_claims(top / notebook):
        made.insert(0, f"reports/claims/{step.claims(case)}")
    stage: dict[str, Any] = {
        "desc": step.does,
        "cmd": f"truefit run {step.notebook}" + (f" --case {case}" if case else ""),
        "deps": sorted([*read, notebook, "requirements.txt", *code]),
        "params": [*([f"cases.{case}"] if case else []), step.name, *step.other_parameters],
        "outs": [_out(file) for file in made],
    }
    if step.metrics:
        stage["metrics"] = [_out(file.format(**EACH)) for file in step.metrics]
    if step.plots:
        stage["plots"] = [_plot(**plot._asdict()) for plot in step.plots]
    return {"foreach": "${cases}", "do": stage} if step.of_a_case else stage


def _has_claims(notebook: Path) -> bool:
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return any("claim" in cell["metadata"].get("tags", ()) for cell in cells)


def _out(file: str) -> dict[str, CommentedMap]:
    """What DVC is to know of a file that a stage makes."""
    # DVC keeps tables and models, git what a person may want to read.
    cached = file.startswith("models/") or file.endswith(".parquet")
    flags = CommentedMap({"persist": True} if cached else {"cache": False, "persist": True})
    flags.fa.set_flow_style()
    return {file: flags}


def _plot(file: str, x: str, y: str, title: str) -> dict[str, dict[str, Any]]:
    drawn = {"template": "scatter", "x": x, "y": y, "title": title.format(**EACH)}
    return {file.format(**EACH): {"cache": False, "persist": True, **drawn}}


def _code(*sources: Path) -> list[str]:
    """What sources execute of this package, as a stage lists it.

    `cli.py` hands over to these, and imports what every other command needs, too.
    """
    return _entries(PACKAGE, {*closure(*sources)})


def _entries(folder: Path, files: set[Path]) -> list[str]:
    """The files below a folder, where a folder that is among them as a whole stands for its own."""
    own = {f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    if own and own <= files:
        return [Path("src", folder.relative_to(PACKAGE.parent)).as_posix()]
    below = (_entries(f, files) for f in folder.iterdir() if f.is_dir() and own & files)
    here = [f for f in own & files if f.parent == folder]
    names = [Path("src", f.relative_to(PACKAGE.parent)).as_posix() for f in here]
    return names + [name for names in below for name in names]


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width, yaml.preserve_quotes = 1000, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml


def _dumped(content: Any) -> str:
    written = StringIO()
    _yaml().dump(content, written)
    return written.getvalue()


if __name__ == "__main__":
    top = project.root()
    text = (top / "dvc.yaml").read_text(encoding="utf-8")
    (top / "dvc.yaml").write_text(with_stages(text, top), encoding="utf-8", newline="\n")
