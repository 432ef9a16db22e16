"""A copy of the project to run in, so that no test touches the project itself."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import NamedTemporaryFile
from textwrap import indent
from threading import Lock
from typing import NoReturn

import pytest
from filelock import FileLock
from hypothesis import settings
from ruamel.yaml import YAML

from truefit import forked
from truefit.cli import main

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
BIN = Path(sys.executable).parent
BLOCKS = (TESTS / "cases.yaml").read_text(encoding="utf-8")
CASES = re.findall(r"(?m)^(\w+):", BLOCKS)  # the names of the tests' own
FINISHED = ("homes", "loans")  # of these, the cases of the pipeline that runs for all tests
# As few fits as the notebooks allow: every cell runs, and no figure means much.
SMALLEST = {
    "data_prep": {"noise_columns": 100},
    "regression_maths": {"resamples": 20},
    "training": {
        "folds": 2,
        "inner_folds": 2,
        "trials": 2,
        "blend": 2,
        "regression": ["dummy", "ridge", "lightgbm"],
        "classification": ["dummy", "logistic", "lightgbm"],
    },
    "evaluation": {
        "resamples": 100,
        "worst_rows": 5,
        "repeats": 2,
        "explained_rows": 1,
        "permutations": 4,
    },
    "export": {"folds": 2, "made_rows": 100, "resamples": 100},
    "serving": {"rows": 20, "batch": 10, "arrivals": 500_000},
    "monitoring": {"resamples": 100, "components": 2},
    "maintenance": {"windows": 4, "newest": 2, "folds": 2, "resamples": 100},
}
NEEDED = (
    *("dvc.yaml", "requirements.txt", ".dvcignore", ".gitignore", "data/raw/ames.csv"),
    *("data/raw/nist_strd.json",),
    # Of the evidence that the scorecard runs, a little, so that a pipeline in a copy stays quick.
    *("tests/cases.yaml", "tests/conftest.py", "tests/test_expressions.py"),
    *(f"benchmarks/{name}.json" for name in ("compression", "models", "serving", "solver")),
)
# Files that run notebooks, pipelines, services, browsers or containers, or fit many models, the
# slowest first. They begin, so that neither process waits for the end of the other; `make check`
# leaves them out.
SLOW = [
    f"test_{name}.py"
    for name in (
        *("pipeline", "search", "container", "bad_input", "dependencies", "papermill", "any_table"),
        *("maintenance", "monitoring", "compress", "faults", "page", "fuzz", "export", "registry"),
        *("repro", "forked", "publish", "recipe", "monitor_command", "operations"),
        *("challenger_service", "serving_lesson", "serving", "request_log_reader", "v2"),
        *("least_squares", "alert_chain"),
        *("bundle", "readiness", "closure", "explain", "odd_live_rows", "odd_tables", "training"),
        *("uncertainty", "scorecard", "openapi", "alerts", "claims", "index", "params"),
    )
]

STARTING = Lock()  # the environment is changed for a moment when a process is forked
# A shell lets what a script starts in the background ignore Ctrl-C, and so would all that is
# started from here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Test processes share the cores, and most searches end before a worker would have started.
for variable in ("LOKY_MAX_CPU_COUNT", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
# The grammars that nbformat would make of it take a second; see truefit.library_internals.
sys.modules.setdefault("rfc3987_syntax", None)
# How long an example takes says more about what else the machine does than about the code.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the slow files unread where none of their tests is to run; some need a POSIX system."""
    left_out = config.getoption("markexpr") == "not slow" and collection_path.name in SLOW
    return left_out or None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the slow files, and let those begin."""
    place = {name: i for i, name in enumerate(SLOW)}
    for item in items:
        if item.path.name in place:
            item.add_marker(pytest.mark.slow)
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


def copy_project(target: Path, *, reports: bool = False) -> Path:
    """Copy what the pipeline reads to ``target``, and on request the committed reports."""
    target.mkdir(parents=True)
    for name in NEEDED:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    skip = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints", ".staging")
    for folder in ("notebooks", "src", "tests/tables", *(["reports"] if reports else [])):
        shutil.copytree(ROOT / folder, target / folder, ignore=skip)
    write_params(target / "params.yaml")
    artifacts = "".join(f"{n}: {{path: models/{n}/bundle, type: model}}\n" for n in CASES)
    replace_section(target / "dvc.yaml", "artifacts", artifacts)
    return target


def write_params(target: Path) -> Path:
    """Write the project's params.yaml with the tests' own cases in place of the user's."""
    shutil.copy(ROOT / "params.yaml", target)
    replace_section(target, "cases", BLOCKS)
    return target


def replace_section(file: Path, name: str, content: str) -> None:
    """Replace what stands below one of the outermost keys of a YAML file, and keep the rest."""
    text = file.read_text(encoding="utf-8")
    section = f"{name}:\n{indent(content, '  ')}\n"
    text, found = re.subn(rf"(?ms)^{name}:$.*?(?=^\w|\Z)", lambda _: section, text)
    assert found == 1, f"{file} has {found} times {name}:"
    file.write_text(text, encoding="utf-8")


def change_params(copy: Path, change: Callable[[dict], object]) -> None:
    """Edit params.yaml as a person would: the change is a function of its content."""
    yaml = YAML()
    params = yaml.load(copy / "params.yaml")
    change(params)
    yaml.dump(params, copy / "params.yaml")


def quicken(copy: Path) -> Path:
    """Make a copy's own parameters the smallest ones."""

    def change(params: dict) -> None:
        for step, values in SMALLEST.items():
            params[step].update(values)

    change_params(copy, change)
    return copy


def environment(**changes: str) -> dict[str, str]:
    """This environment with Truefit's own commands first on the path."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **changes}


def run_truefit(*arguments: str, cwd: Path, env: dict | None = None, timeout: float = 600):
    """Run the command ``truefit`` as a person would, from a directory.

    It is forked as stages are under ``truefit repro``: to start Python and import the libraries
    each time would take longer than the tests. Only what runs a pipeline, a service or another copy
    of the code is started.
    """
    words = [*map(str, arguments)]
    with STARTING:
        whole = {**os.environ, **(env or {})}
    if forked.AVAILABLE and words[0] not in ("repro", "serve") and "PYTHONPATH" not in (env or {}):
        return _forked(words, cwd, whole, timeout)
    return subprocess.run(
        [BIN / "truefit", *words],
        cwd=cwd,
        env=whole,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=timeout,
    )


def _forked(words: list[str], cwd: Path, env: dict, timeout: float) -> subprocess.CompletedProcess:
    with NamedTemporaryFile() as out, NamedTemporaryFile() as err:
        with STARTING:
            process = forked.start(
                main, words, cwd=str(cwd), env=env, stdout=out.name, stderr=err.name
            )
        try:
            code = process.wait(timeout)
        finally:
            process.kill()
        said = [Path(file.name).read_text(encoding="utf-8") for file in (out, err)]
    return subprocess.CompletedProcess(["truefit", *words], code, *said)


def versioned_copy(target: Path) -> Path:
    """A copy of the project, with quick parameters, that git and DVC take for their own."""
    quicken(copy_project(target))
    subprocess.run(["git", "init", "--quiet", target], check=True)
    subprocess.run(["dvc", "init", "--quiet"], cwd=target, env=environment(), check=True)
    return target


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project whose quick pipeline has run, for all tests to read, none to change.

    The first process that wants it makes it, on all cores; another waits until it is whole. The
    folder ``opened`` beside it has, for each stage, the files that its processes have read.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    copy, whole = shared / "finished", shared / "finished.whole"
    with FileLock(shared / "finished.lock"):
        if not whole.exists():
            for folder in (copy, opened := shared / "opened"):
                shutil.rmtree(folder, ignore_errors=True)
            opened.mkdir()
            versioned_copy(copy)
            change_params(copy, lambda p: [p["cases"].pop(c) for c in CASES if c not in FINISHED])
            watched = {"PYTHONPATH": str(TESTS / "recorder"), "TRUEFIT_OPENED": str(opened)}
            subprocess.run(
                ["truefit", "repro", "--force"],
                cwd=copy,
                env=environment(PYTHONHASHSEED="1", **watched),
                check=True,
            )
            whole.touch()
    return copy


def missing(what: str) -> NoReturn:
    """Skip a test that can't run here; with TRUEFIT_ALL_TOOLS=1 it fails."""
    end = pytest.fail if os.environ.get("TRUEFIT_ALL_TOOLS") == "1" else pytest.skip
    end(f"{what}; see CONTRIBUTING.md")


def tool(*names: str) -> str:
    """The path of a program that pip doesn't install everywhere, under the first name it has."""
    path = environment()["PATH"]
    found = next(filter(None, (shutil.which(name, path=path) for name in names)), None)
    return found or missing(f"{names[0]} is not installed")


@pytest.fixture
def clone(tmp_path):
    """A copy of the project without data, models or reports."""
    return copy_project(tmp_path / "clone")


@pytest.fixture
def truefit():
    """The command ``truefit``; see `run_truefit`."""
    return run_truefit


@pytest.fixture
def coarse_figures(monkeypatch):
    """Figures of few pixels, where a test asks only that they can be drawn."""
    from truefit import figures

    monkeypatch.setattr(figures, "DPI", 20)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service of all shipped cases, for the tests of one file; see `service.Service`."""
    from service import Service

    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.stop()
