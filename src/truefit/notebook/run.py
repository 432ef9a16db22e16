"""Run one notebook for one case: all of its files come out, or none."""

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from truefit import params, project
from truefit.notebook.normalise import normalise
from truefit.project import InputError, TruefitError

# Steps in their order, with the number of their notebook.
STEPS = {"data_prep": "01", "training": "03", "evaluation": "04", "export": "05"}

# What would make the same computation come out differently elsewhere, pinned. The reasons:
# threads change the order of sums, OpenBLAS and NumPy choose other kernels on other processors,
# and a person's own configuration changes figures and messages.
PINNED = {
    "PYTHONHASHSEED": "0",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "LANGUAGE": "en",
    "SOURCE_DATE_EPOCH": "0",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NO_COLOR": "1",
    "COLUMNS": "100",
    "TQDM_DISABLE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONWARNINGS": "",
    "JUPYTER_PREFER_ENV_PATH": "1",
    "MATPLOTLIBRC": str(Path(__file__).parents[1] / "figures.mplstyle"),
    "MPLBACKEND": "agg",
}
# Only where these kernels exist: an x86 processor with AVX2, which is every one since 2013.
PINNED_ON_X86 = {
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
FRESH_FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
# To a kernel through the file system, where there are such sockets: no TCP ports to race for, and
# no warning that they are not encrypted. The path of a socket may have about 100 characters, so
# its folder is /tmp, however long the path of this user's own temporary folder.
POSIX = os.name == "posix"
TRANSPORT = "ipc" if POSIX else "tcp"


class NotebookError(TruefitError):
    """A cell failed in a way that nobody expected."""


def notebook_of(step: str) -> str:
    """The file name of a step's notebook, without suffix: ``03_training`` for ``training``."""
    return f"{STEPS[step]}_{step}"


def run(
    step: str,
    case: str,
    changes: Mapping[str, str] | None = None,
    *,
    progress: bool | None = None,
) -> Path:
    """Execute the notebook of a step for a case and publish all that it made.

    The files that the notebook writes, its report and the executed notebook are collected in a
    staging folder, and moved to their places when the last cell has succeeded.

    Parameters
    ----------
    step : str
        ``training`` or ``03_training``.
    case : str
        A block under ``cases:`` in ``params.yaml``.
    changes : mapping from name to text, optional
        Parameters of the step to change, each written as in ``params.yaml``.
    progress : bool, optional
        Whether to draw a bar by cell on the terminal; if not given, when there is a terminal.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError, GateError
        If the table, the parameters or the model are not what the step can work with.
    NotebookError
        If a cell fails otherwise; the message has the cell's error and where the partial
        notebook lies.
    """
    name = _step(step)
    settings = params.load()
    block = settings.case(case)
    values = params.override(name, getattr(settings, name), dict(changes or {}))
    top, book = project.root(), notebook_of(name)
    staging = top / ".staging" / f"{case}-{book}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)

    executed = staging / "reports" / case / f"{book}.ipynb"
    executed.parent.mkdir(parents=True)
    shown = sys.stderr.isatty() if progress is None else progress
    _execute(
        top / "notebooks" / f"{book}.ipynb", executed, {"case": case, **values}, staging, shown
    )

    from truefit.notebook.render import render

    notebook = normalise(executed, top, staging)
    report = executed.with_suffix(".html")
    pages = [
        (notebook_of(s)[:2] + " " + s.replace("_", " "), f"{notebook_of(s)}.html") for s in STEPS
    ]
    links = [(label, "" if page == report.name else page) for label, page in pages]
    html = render(notebook, title_context=block.title or case, source=executed.name, links=links)
    report.write_text(html, encoding="utf-8", newline="\n")
    _publish(staging, top)
    return top / "reports" / case / report.name


def _step(step: str) -> str:
    known = {notebook_of(name): name for name in STEPS} | {name: name for name in STEPS}
    if step not in known:
        raise InputError(
            f"there is no step {step!r}; the steps are {', '.join(notebook_of(s) for s in STEPS)}"
        )
    return known[step]


def _execute(source: Path, target: Path, values: dict, staging: Path, progress: bool) -> None:
    # Imported before the variables are pinned, or papermill's bar would take them for its own.
    import papermill
    import tqdm.auto  # noqa: F401
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    try:
        with pinned_environment(**{project.STAGING_VARIABLE: str(staging)}):
            papermill.execute_notebook(
                source,
                target,
                values,
                kernel_name="python3",
                progress_bar={"desc": f"{source.stem} {values['case']}"} if progress else False,
                request_save_on_cell_execute=False,
                record_timing=False,
                coalesce_streams=True,
                # A kernel that is told to stop would report that as an error of its own.
                extra_arguments=["--log-level=50"],
                config=Config({"KernelManager": {"transport": TRANSPORT}}),
            )
    except PapermillExecutionError as error:
        raise _explained(error, source.stem, staging, target) from None


def _explained(error: Any, book: str, staging: Path, partial: Path) -> TruefitError:
    """The cell's own error in a few lines."""
    # An expected mistake is a sentence that needs neither a cell nor a traceback.
    for kind in (InputError, project.GateError):
        if error.ename == kind.__name__:
            shutil.rmtree(staging)
            return kind(error.evalue)
    where = partial.relative_to(project.root())
    lines = error.evalue.strip().splitlines() or [""]
    source = "\n".join(f"    {line}" for line in error.source.strip().splitlines()[-8:])
    return NotebookError(
        f"cell {error.exec_count} of {book} failed:\n{source}\n{error.ename}: {lines[0]}\n"
        f"The notebook up to there is {where}; nothing else was changed."
    )


@contextmanager
def pinned_environment(**more: str) -> Iterator[None]:
    """Pin what a kernel inherits, for the time of the block; see `PINNED`."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="truefit-", dir="/tmp" if POSIX else None) as fresh:
        os.environ.update(PINNED | more)
        if platform.machine() in ("x86_64", "AMD64"):
            os.environ.update(PINNED_ON_X86)
        os.environ.update(dict.fromkeys(FRESH_FOLDERS, fresh))
        os.environ[project.ROOT_VARIABLE] = str(project.root())
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _publish(staging: Path, top: Path) -> None:
    """Move every staged file to its place, each in one step, reports last."""
    files = sorted(f for f in staging.rglob("*") if f.is_file())
    files.sort(key=lambda f: f.relative_to(staging).parts[0] == "reports")
    for file in files:
        target = top / file.relative_to(staging)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
    shutil.rmtree(staging)
