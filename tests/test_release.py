"""What a release says of itself is the same everywhere, and CI runs what people are told to run."""

import re
import tomllib

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CITATION = YAML(typ="safe").load(ROOT / "CITATION.cff")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
# What version 1.2.0 of the format asks for.
NEEDED = {"cff-version", "message", "title", "authors"}


def newest_entry():
    """The newest version in the changelog, and its date; None before its release."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    version, date = re.search(r"(?m)^## (\S+) \((.+)\)$", changelog).groups()
    return version, None if date == "unreleased" else date


def test_the_version_is_the_same_for_pip_for_readers_and_for_those_who_cite():
    version, date = newest_entry()
    assert version == CITATION["version"] == PROJECT["version"]
    assert date == (str(CITATION["date-released"]) if "date-released" in CITATION else None)


def test_the_citation_has_what_its_format_asks_for():
    assert {*CITATION} >= NEEDED and CITATION["cff-version"] == "1.2.0"
    assert CITATION["license"] == PROJECT["license"] and CITATION["type"] == "software"
    assert CITATION["authors"] and all("name" in author for author in CITATION["authors"])


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda file: file.name)
def test_ci_runs_the_commands_that_people_are_told_and_names_no_index(workflow):
    text = workflow.read_text(encoding="utf-8")
    assert "://" not in text and "index-url" not in text
    pages = ("README.md", "CONTRIBUTING.md", "Makefile")
    told = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
    steps = [s for job in YAML(typ="safe").load(text)["jobs"].values() for s in job["steps"]]
    commands = [line for step in steps for line in step.get("run", "").splitlines()]
    # Its own names for what a person calls by another: the Python, and a folder on Windows.
    asked = [re.sub(r"^(bash|python) ", "", c).replace("*", "bin") for c in commands]
    assert asked and [command for command in asked if command not in told] == []


def test_ci_tries_every_python_from_the_oldest_that_may_be_used():
    (install,) = (file for file in WORKFLOWS if file.name == "install.yml")
    matrix = YAML(typ="safe").load(install)["jobs"]["quick"]["strategy"]["matrix"]
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]
    systems = {*matrix["os"], *(entry["os"] for entry in matrix["include"])}
    assert {name.partition("-")[0] for name in systems} == {"ubuntu", "macos", "windows"}
