"""Keep the code that `dvc.yaml` lists for each stage what the stage really executes.

``python -m truefit.dependencies``, a part of ``make tidy``, writes the lists. All else in
`dvc.yaml` is written by hand and stays.
"""

from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from truefit import project
from truefit.closure import PACKAGE, closure


def with_code_listed(text: str, top: Path) -> str:
    """A `dvc.yaml` whose stages list the files of this package that they execute, and no others.

    Parameters
    ----------
    text : str
        The file's content.
    top : Path
        The project, for its notebooks.
    """
    yaml, written = YAML(), StringIO()
    yaml.width, yaml.preserve_quotes = 1000, True
    yaml.indent(mapping=2, sequence=4, offset=2)
    document = yaml.load(text)
    for stage in document["stages"].values():
        stage = stage.get("do", stage)
        if sources := _sources(stage["cmd"].split(), top):
            others = [d for d in stage["deps"] if not d.startswith("src/")]
            stage["deps"][:] = sorted([*others, *_entries(PACKAGE, {*closure(*sources)})])
    yaml.dump(document, written)
    return written.getvalue()


def _sources(command: list[str], top: Path) -> list[Path]:
    """What a stage's command starts with; nothing for one whose list is written by hand.

    `cli.py` hands over to these, and imports what every other command needs, too.
    """
    if command[:2] == ["truefit", "run"]:
        return [top / "notebooks" / f"{command[2]}.ipynb", PACKAGE / "notebook" / "run.py"]
    return [PACKAGE / "index.py"] if command[:2] == ["truefit", "index"] else []


def _entries(folder: Path, files: set[Path]) -> list[str]:
    """The files below a folder, where a folder that is among them as a whole stands for its own."""
    own = {f for f in folder.rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    if own and own <= files:
        return [Path("src", folder.relative_to(PACKAGE.parent)).as_posix()]
    below = (_entries(f, files) for f in folder.iterdir() if f.is_dir() and own & files)
    here = [f for f in own & files if f.parent == folder]
    names = [Path("src", f.relative_to(PACKAGE.parent)).as_posix() for f in here]
    return names + [name for names in below for name in names]


if __name__ == "__main__":
    top = project.root()
    text = (top / "dvc.yaml").read_text(encoding="utf-8")
    (top / "dvc.yaml").write_text(with_code_listed(text, top), encoding="utf-8", newline="\n")
