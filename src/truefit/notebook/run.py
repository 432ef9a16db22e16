"""Run one notebook for one case: all of its files come out, or none."""

import json
import os
import platform
import posixpath
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from truefit import forked, params, project
from truefit.library_internals import import_jsonschema
from truefit.notebook.normalise import normalise
from truefit.notebook.publish import publish, undo
from truefit.project import InputError, TruefitError
from truefit.steps import Step, all_runs, step_of

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


def run(
    step: str,
    case: str | None = None,
    changes: Mapping[str, str] | None = None,
    *,
    quick: bool = False,
    progress: bool | None = None,
) -> Path:
    """Execute the notebook of a step for a case and publish all that it made.

    The files that the notebook writes, its report and the executed notebook are collected in a
    staging folder, and moved to their places when the last cell has succeeded: all of them or, if
    one cannot be moved, none. So is the list of the claims that the notebook puts to the test, if
    it does.

    Parameters
    ----------
    step : str
        ``training`` or ``03_training``.
    case : str, optional
        A block under ``cases:`` in ``params.yaml``; None for a step that is about none.
    changes : mapping from name to text, optional
        Parameters of the step to change, each written as in ``params.yaml``. They win over what
        the case's block says, as that does over the step's section.
    quick : bool, optional
        Take the smaller parameters under ``quick:`` in ``params.yaml``; ``changes`` come on top.
    progress : bool, optional
        Whether to draw a bar by cell on the terminal; if not given, when there is a terminal.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError, GateError
        If the table, the parameters or the model are not what the step can work with; if the step
        needs a case and got none, or takes none and got one; or if a file cannot be written.
    NotebookError
        If a cell fails otherwise; the message has the cell's error and where the partial
        notebook lies.
    """
    known, top = step_of(step), project.root()
    page = known.page(case)
    staging = top / ".staging" / known.run_name(case)
    undo(staging, top)
    report = top / "reports" / page
    for file in (report, report.with_suffix(".ipynb")):  # before the work, rather than after it
        project.require_writable(file)
    about, notebook = _run_staged(known, case, changes, staging, quick, progress)

    from truefit.notebook.render import render

    html = render(
        notebook,
        title_context=about,
        home=_from(page, "index.html"),
        source=f"{known.notebook}.ipynb",
        links=_links(known, case),
    )
    (staging / "reports" / page).write_text(html, encoding="utf-8", newline="\n")
    _write_claims(notebook, page, Path("reports", "claims", known.claims(case)), staging)
    publish(staging, top)
    return report


def run_aside(
    step: str,
    case: str | None,
    changes: Mapping[str, str],
    page: Path,
    *,
    progress: bool | None = None,
) -> dict[str, str]:
    """Execute the notebook of a step as `run` does, and write its page alone, to any place.

    Nothing in the project changes. The page has no links, because nothing lies beside it.

    Parameters
    ----------
    step, case, changes, progress
        As for `run`.
    page : Path
        To be written, whole or not at all.

    Returns
    -------
    dict
        What the notebook would have written to ``reports/`` beside its page: the text of each file
        by its path there.

    Raises
    ------
    InputError
        If the page cannot be written there, too.
    """
    if page.is_dir() or not page.parent.is_dir():
        what = "a folder" if page.is_dir() else f"in {page.parent}, which is no folder"
        raise InputError(f"the page {page} cannot be written: it is {what}")
    known = step_of(step)
    # Of this process alone: another may do the same, or run the stage.
    staging = project.root() / ".staging" / f"{known.run_name(case)}-{os.getpid()}"
    try:
        about, notebook = _run_staged(known, case, changes, staging, False, progress)
    except KeyboardInterrupt:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    reports = staging / "reports"
    found = {
        file.relative_to(reports).as_posix(): file.read_text(encoding="utf-8")
        for file in reports.rglob("*.*")
        if file.suffix not in (".html", ".ipynb")
    }
    shutil.rmtree(staging)

    from truefit.notebook.render import render

    html = render(notebook, title_context=about, home=None)
    try:
        with project.replacing(page) as partial:
            partial.write_text(html, encoding="utf-8", newline="\n")
    except OSError as error:
        raise InputError(f"the page {page} cannot be written: {error.strerror}") from None
    return found


def _run_staged(
    step: Step,
    case: str | None,
    changes: Mapping[str, str] | None,
    staging: Path,
    quick: bool,
    progress: bool | None,
) -> tuple[str, Any]:
    """Execute a notebook, all of whose files go to a fresh folder; what it is about, and itself."""
    settings = params.load()
    about = _about(step, case, settings)
    defaults = settings.section(step.name, case, quick=quick)
    values = params.override(step.name, defaults, dict(changes or {}))
    top = project.root()
    shutil.rmtree(staging, ignore_errors=True)
    executed = (staging / "reports" / step.page(case)).with_suffix(".ipynb")
    executed.parent.mkdir(parents=True)
    shown = sys.stderr.isatty() if progress is None else progress
    given = ({} if case is None else {"case": case}) | values
    _execute(top / "notebooks" / f"{step.notebook}.ipynb", executed, given, staging, shown)
    return about, normalise(executed, top, staging)


def _about(step: Step, case: str | None, settings: params.Params) -> str:
    """What a run is about, to stand above the title of its page."""
    if case is not None and not step.of_a_case:
        raise InputError(f"{step.notebook} takes no case; run it without one")
    if case is not None:
        return settings.case(case).title or case
    if not step.of_a_case:
        return "For every case"
    raise InputError(f"{step.notebook} needs a case; known: {', '.join(settings.cases)}")


def _from(page: str, other: str) -> str:
    """The address of another page as a page must write it; both are given from ``reports/``."""
    return posixpath.relpath(other, posixpath.dirname(page) or ".")


def _links(step: Step, case: str | None) -> list[tuple[str, str]]:
    """Label and address of the pages beside a run's own, whose address is left empty."""
    # From a page without a case, no page of a case is the next one.
    here, runs = step.page(case), all_runs([] if case is None else [case])
    return [(s.label, "" if s == step else _from(here, s.page(c))) for s, c in runs]


def _write_claims(notebook: Any, page: str, file: Path, staging: Path) -> None:
    """Write the list of a notebook's claims, for the front page, among the staged files."""
    from truefit.notebook.claims import claims_of

    found = [asdict(c) | {"page": page, "anchor": c.anchor} for c in claims_of(notebook)]
    # Most notebooks have none and make no file. But one that has lost its last claim must empty
    # the list that an earlier run left.
    if not found and not (project.root() / file).exists():
        return
    target = staging / file
    target.parent.mkdir()
    text = json.dumps(found, ensure_ascii=False, indent=1) + "\n"
    target.write_text(text, encoding="utf-8", newline="\n")


def _execute(source: Path, target: Path, values: dict, staging: Path, progress: bool) -> None:
    import_jsonschema()
    # Imported before the variables are pinned, or papermill's bar would take them for its own.
    import papermill
    import tqdm.auto  # noqa: F401
    from nbclient.exceptions import DeadKernelError
    from nbformat.reader import NotJSONError
    from papermill.exceptions import PapermillExecutionError
    from traitlets.config import Config

    bar = f"{source.stem} {values.get('case', '')}".rstrip()
    places = {project.STAGING_VARIABLE: str(staging), **_terminal(progress)}
    # Not what cells write, which is in the notebook, but what a kernel says that is told to stop,
    # or that dies: nobody needs the one, and the other is the only trace.
    with tempfile.TemporaryFile() as said, pinned_environment(**places):
        try:
            papermill.execute_notebook(
                source,
                target,
                values,
                kernel_name="python3",
                progress_bar={"desc": bar} if progress else False,
                request_save_on_cell_execute=False,
                record_timing=False,
                coalesce_streams=True,
                kernel_manager_class=_manager(said),
                config=Config({"KernelManager": _connection()}),
            )
        except NotJSONError:
            shutil.rmtree(staging)
            raise InputError(
                f"notebooks/{source.name} is no notebook: it is not JSON, perhaps for the marks of "
                "a merge; mend it, or take it from git again"
            ) from None
        except PapermillExecutionError as error:
            raise _explained(error, source.stem, staging, target) from None
        except DeadKernelError:
            said.seek(0)
            last = said.read().decode("utf-8", "replace").strip()[-1000:]
            raise NotebookError(
                f"the process that runs {source.stem} died; perhaps there was not enough memory"
                + (f". Its last words:\n{last}" if last else "")
            ) from None


def _connection() -> dict[str, str]:
    """How to talk to a kernel, by options of its manager; in a pinned environment."""
    if TRANSPORT == "tcp":
        return {"transport": TRANSPORT}
    # A folder of this run's own: by default the sockets lie where the run was started, and a second
    # run that is started there would take the same.
    return {"transport": TRANSPORT, "ip": str(Path(os.environ["JUPYTER_RUNTIME_DIR"], "kernel"))}


def _manager(said: IO[bytes]) -> type:
    """A kernel manager whose kernel writes its own messages to a file."""
    from jupyter_client import AsyncKernelManager

    waiting = forked.kernel()

    class Manager(AsyncKernelManager):
        # pyrefly: ignore[bad-override-mutable-attribute]
        async def start_kernel(self, **more: Any) -> None:
            if waiting:
                made = {"kernel_id": str(uuid4()), "kernel_spec": self.kernel_spec}
                self.provisioner = _provisioner(waiting)(parent=self, **made)
            await super().start_kernel(stderr=said, **more)

    return Manager


def _provisioner(waiting: forked.Kernel) -> type:
    """What makes a kernel of the process that waits to become one, rather than to start another."""
    from jupyter_client.provisioning import LocalProvisioner

    class Provisioner(LocalProvisioner):
        async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
            arguments = cmd[cmd.index("ipykernel_launcher") + 1 :]
            given: dict[str, Any] = {name: kwargs.get(name) for name in ("cwd", "env", "stderr")}
            self.process = waiting.begin(arguments, **given)
            # pyrefly: ignore[bad-override-mutable-attribute]
            self.pid = self.pgid = waiting.process.pid
            return self.connection_info

    return Provisioner


def _terminal(progress: bool) -> dict[str, str]:
    """Where a long cell may draw a bar of its own; see `project.terminal`."""
    if progress and POSIX and sys.stderr.isatty():
        return {project.TERMINAL_VARIABLE: os.ttyname(sys.stderr.fileno())}
    return {}


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
