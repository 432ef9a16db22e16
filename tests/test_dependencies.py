"""dvc.yaml lists what each stage reads: all of it, and nothing else."""

from importlib.util import source_from_cache
from pathlib import Path

import pytest
from conftest import FINISHED, ROOT
from ruamel.yaml import YAML

from truefit.steps import STEPS, all_runs

# What the command line imports for other commands, and what stands for the installed libraries.
BESIDE = {"src/truefit/cli.py", "requirements.txt", "params.yaml"}
# What a stage keeps for its own next run.
OWN = (".searches/", ".staging/", "src/truefit.egg-info/")


@pytest.fixture(scope="module")
def stages():
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    return {name: s.get("do", s) for name, s in YAML(typ="safe").load(text)["stages"].items()}


@pytest.fixture(scope="module")
def opened(finished):
    """For each stage the files of the project that it has read, a case's own with ``${key}``."""
    found = {}
    for record in (finished.parent / "opened").iterdir():
        step, _, case = record.name.partition("@")
        for line in record.read_text(encoding="utf-8").splitlines():
            # The code is that of the project, where the copy's would be.
            tops = [top for top in (finished, ROOT) if Path(line).is_relative_to(top)]
            if not tops or ".venv" in Path(line).parts:
                continue
            name = _in_the_project(Path(line).relative_to(tops[0]))
            if tops[0] == finished or name.startswith("src/"):
                found.setdefault(step, set()).add(_of_a_case(name, case))
    return found


def _in_the_project(path):
    compiled = path.suffix == ".pyc"
    return Path(source_from_cache(str(path))).as_posix() if compiled else path.as_posix()


def _of_a_case(name, case):
    if case and name == f"tests/tables/{case}.csv":
        return "${item.table}"
    parts = ["${key}" if case and p.split(".")[0] == case else p for p in Path(name).parts]
    return "/".join(parts) + ("" if parts[-1] != "${key}" else Path(name).suffix)


def _listed(name, dependencies):
    return any(name == d or name.startswith(f"{d}/") for d in dependencies)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_stage_reads_nothing_that_it_does_not_list(step, stages, opened):
    made = [next(iter(o)) for o in stages[step.name].get("outs", [])]
    listed = [*stages[step.name]["deps"], *made, *BESIDE]
    read = {f for f in opened[step.name] if not f.startswith(OWN)}
    assert len(read) > 10
    assert {f for f in read if not _listed(f, listed)} == set()


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_stage_lists_no_data_that_it_does_not_read(step, stages, opened):
    data = [d for d in stages[step.name]["deps"] if not d.startswith("src/") and d not in BESIDE]
    assert data
    assert {d for d in data if d not in opened[step.name]} == set()


def test_every_stage_of_every_case_was_watched(finished):
    watched = {f.name for f in (finished.parent / "opened").iterdir()}
    runs = {f"{step}@{case}" if case else step.name for step, case in all_runs(FINISHED)}
    assert runs <= watched
