"""A copy of the project to run in, so that no test touches the project itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
NEEDED = (
    *("dvc.yaml", "requirements.txt", ".dvcignore", ".gitignore", "data/raw/ames.csv"),
    *("data/raw/nist_strd.json",),
    # Of the evidence that the scorecard runs, a little, so that a pipeline in a copy stays quick.
    *("tests/conftest.py", "tests/test_expressions.py"),
    *(f"benchmarks/{name}.json" for name in ("compression", "models", "serving", "solver")),
)


SLOWEST = ("test_pipeline.py", "test_bad_input.py", "test_papermill.py", "test_search.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the slowest files begin."""
    place = {name: i for i, name in enumerate(SLOWEST)}
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
    return target


def write_params(target: Path) -> Path:
    """Write the project's params.yaml with the tests' own cases in place of the user's."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["cases"] = yaml.load(TESTS / "cases.yaml")
    yaml.dump(params, target)
    return target


def change_params(copy: Path, change: Callable[[dict], object]) -> None:
    """Edit params.yaml as a person would: the change is a function of its content."""
    yaml = YAML()
    params = yaml.load(copy / "params.yaml")
    change(params)
    yaml.dump(params, copy / "params.yaml")


def quicken(copy: Path) -> Path:
    """Make a copy's own parameters the quick ones."""

    def change(params: dict) -> None:
        for step, values in params["quick"].items():
            params[step].update(values)

    change_params(copy, change)
    return copy


def run_truefit(*arguments: str, cwd: Path, env: dict | None = None, **more):
    """Run the command ``truefit`` as a person would, from a directory."""
    return subprocess.run(
        [Path(sys.executable).with_name("truefit"), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=600,
        **more,
    )


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
