"""Make an executed notebook say the same bytes wherever and whenever it ran."""

import re
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from typing import Any

from truefit.library_internals import import_jsonschema

KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
CELL_METADATA = ("tags", "jupyter")


def normalise(file: Path, top: Path, staging: Path) -> Any:
    """Rewrite an executed notebook without what changes from run to run.

    Times, papermill's notes, random ids, addresses of objects and the folders of this machine go;
    source, outputs and execution counts stay.

    Parameters
    ----------
    file : Path
        The notebook; it is written anew.
    top, staging : Path
        The project's folder and the run's staging folder, which outputs must not name.

    Returns
    -------
    NotebookNode
    """
    import_jsonschema()
    import nbformat

    notebook = nbformat.read(file, as_version=4)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    )
    replace = _replacer(top, staging)
    for position, cell in enumerate(notebook.cells):
        cell.id = f"cell-{position:03d}"
        cell.metadata = nbformat.from_dict(
            {k: v for k, v in cell.metadata.items() if k in CELL_METADATA and v}
        )
        for output in cell.get("outputs", []):
            if "text" in output:
                output.text = replace(output.text)
            for kind, content in output.get("data", {}).items():
                if isinstance(content, str) and not kind.startswith("image/"):
                    output.data[kind] = replace(content)
            if output.output_type == "error":
                output.traceback = [replace(line) for line in output.traceback]
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    text = nbformat.writes(notebook)
    file.write_text(text.rstrip("\n") + "\n", encoding="utf-8", newline="\n")
    return notebook


def _replacer(top: Path, staging: Path) -> Callable[[str], str]:
    # The most specific folder first, so that a path is cut at the right place.
    folders = [
        (str(staging) + "/", ""),
        (str(top) + "/", ""),
        (sysconfig.get_path("purelib"), "site-packages"),
        (sysconfig.get_path("stdlib"), "lib"),
        (sys.prefix, "env"),
        (str(Path.home()), "~"),
    ]
    patterns = [
        (re.compile(r"\S*ipykernel_\d+[/\\]\d+\.py"), "cell"),
        (re.compile(r"\b0x[0-9a-f]{8,16}\b"), "0x…"),
    ]

    def replace(text: str) -> str:
        for folder, short in folders:
            text = text.replace(folder, short)
        for pattern, short in patterns:
            text = pattern.sub(short, text)
        return text

    return replace
