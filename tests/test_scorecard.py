"""The ML Test Score is what its evidence says, whatever stands in the text."""

import ast
import json
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from truefit import cli, scorecard
from truefit.scorecard import MOST, Entry, ScorecardError, Section, judge, meaning, read

SECTIONS = read()
ENTRIES = [entry for section in SECTIONS for entry in section.tests]
EVIDENCE = {id for entry in ENTRIES for id in entry.evidence}


def functions(file: Path) -> set[str]:
    """The test functions of a file, without running it."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_there_are_28_tests_in_four_sections():
    assert len(SECTIONS) == 4 and len(ENTRIES) == len({e.name for e in ENTRIES}) == 28
    assert all(e.evidence and e.commands and e.asks.endswith("?") for e in ENTRIES)


@pytest.mark.parametrize("file", sorted({id.split("::")[0] for id in EVIDENCE}))
def test_all_evidence_exists(file):
    ids = (id.split("[")[0] for id in EVIDENCE)
    wanted = {id.split("::")[1] for id in ids if id.startswith(f"{file}::")}
    assert wanted <= functions(ROOT / file)


@pytest.mark.parametrize("command", sorted({c for e in ENTRIES for c in e.commands}))
def test_a_command_is_one_that_there_is(command, capsys):
    program, *words = shlex.split(command)
    if program == "truefit":
        with pytest.raises(SystemExit, match="^0$") if "--help" in words else _nothing():
            cli._parser().parse_args(words)
    elif program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in words)
    elif program == "pytest":
        files = [ROOT / word for word in words if word.startswith("tests/")]
        assert files and all(file.is_file() for file in files)
        if "-k" in words:
            parts = words[words.index("-k") + 1].split(" or ")
            names = {name for file in files for name in functions(file)}
            assert all(any(part in name for name in names) for part in parts)
    else:
        assert program in {"curl", "dvc"}


def _nothing():
    import contextlib

    return contextlib.nullcontext()


# Marks


def sections(**first) -> list[Section]:
    """Four sections whose tests have one evidence each, of which the first is changed."""
    plain = {"asks": "?", "does": "x", "commands": []}
    made = [
        [
            Entry(**({"name": f"{s}{i}", "evidence": [f"t.py::test_{s}{i}"]} | plain))
            for i in range(7)
        ]
        for s in "abcd"
    ]
    made[0][0] = made[0][0].model_copy(update=first)
    return [Section(name=s, tests=tests) for s, tests in zip("abcd", made, strict=True)]


def passed(made: list[Section]) -> dict[str, str]:
    return {id: "passed" for s in made for e in s.tests for id in e.evidence}


def test_everything_automated_is_the_highest_score():
    made = sections()
    judged = judge(made, passed(made))
    assert (judged["score"], judged["most"]) == (7, MOST)
    assert {t["mark"] for s in judged["sections"] for t in s["tests"]} == {"automated"}


def test_what_people_must_do_counts_half():
    made = sections(people="the review")
    judged = judge(made, passed(made))
    assert judged["score"] == 6.5 and judged["sections"][0]["tests"][0]["mark"] == "manual"


@pytest.mark.parametrize("outcome", ["failed", "skipped", "missing", None])
@pytest.mark.parametrize("people", ["", "the review"])
def test_one_evidence_that_did_not_pass_is_a_test_that_is_missing(outcome, people):
    made = sections(people=people, evidence=["t.py::test_x", "t.py::test_y"])
    found = passed(made) | {"t.py::test_y": outcome}
    if outcome is None:
        del found["t.py::test_y"]
    judged = judge(made, found)
    assert judged["score"] == 6 and judged["sections"][0]["tests"][0]["mark"] == "missing"
    assert scorecard.unproven(judged) == [f"t.py::test_y ({outcome or 'missing'})"]


def test_a_text_without_evidence_is_worth_nothing():
    made = sections(evidence=[])
    assert judge(made, passed(made))["sections"][0]["points"] == 6


def test_the_lowest_section_is_the_score():
    made = sections()
    found = passed(made) | {f"t.py::test_c{i}": "failed" for i in range(5)}
    judged = judge(made, found)
    assert [s["points"] for s in judged["sections"]] == [7, 7, 2, 7]
    assert (judged["score"], judged["means"]) == (2, meaning(1.5))


def test_each_range_of_the_papers_table_has_its_words():
    scores = [0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5, 5, 5.5, 7]
    words = [meaning(score) for score in scores]
    assert len(set(words)) == 6
    for first, second in ((1, 2), (3, 4), (5, 6), (7, 8), (9, 10)):
        assert words[first] == words[second] != words[first - 1]


# Evidence


TESTS = """
import os
import pytest

def test_good(): pass
def test_bad(): assert False
def test_skipped(): pytest.skip("a tool is missing")
@pytest.mark.parametrize("x", [1, 2])
def test_all_good(x): pass
@pytest.mark.parametrize("x", [1, 2])
def test_one_bad(x): assert x == 1
@pytest.mark.parametrize("x", [1, 2])
def test_of_two(x): assert x == 1
@pytest.mark.parametrize("x", [])
def test_of_no_case(x): pass
@pytest.fixture
def broken(): raise OSError
def test_not_prepared(broken): pass
@pytest.fixture
def left():
    yield
    raise OSError
def test_not_cleaned_up(left): pass
@pytest.mark.xfail
def test_known_to_fail(): assert False
def test_alone():
    assert not {k for k in os.environ if k.startswith(("PYTEST_ADD", "TRUEFIT_", "DVC_", "GIT_"))}
def test_not_asked_for(): open("ran", "w").close()
"""
EXPECTED = {
    **dict.fromkeys(["good", "all_good", "alone"], "passed"),
    **dict.fromkeys(["bad", "one_bad", "not_prepared", "not_cleaned_up"], "failed"),
    **dict.fromkeys(["skipped", "known_to_fail", "of_no_case"], "skipped"),
    "that_nobody_wrote": "missing",
}
CASES = {"1": "passed", "2": "failed", "3": "missing"}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with tests of its own."""
    top = tmp_path_factory.mktemp("project")
    (top / "notebooks").mkdir()
    (top / "params.yaml").touch()
    (top / "t").mkdir()
    (top / "t" / "test_some.py").write_text(TESTS, encoding="utf-8")
    (top / "t" / "test_broken.py").write_text("import nothing_like_it\n", encoding="utf-8")
    return top


def test_an_outcome_is_that_of_all_cases_of_a_function(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    monkeypatch.setenv("DVC_ROOT", "elsewhere")
    wanted = [f"t/test_some.py::test_{name}" for name in EXPECTED]
    other = ["t/test_broken.py::test_x", "t/test_nowhere.py::test_x"]
    one_case = {f"t/test_some.py::test_of_two[{x}]": found for x, found in CASES.items()}
    before = {**os.environ}
    found = scorecard.outcomes([*wanted, *other, *one_case])
    assert found == one_case | {
        **{id: EXPECTED[id.split("test_")[-1]] for id in wanted},
        other[0]: "failed",
        other[1]: "missing",
    }
    assert {**os.environ} == before and not (project / "ran").exists()


def test_what_failed_for_a_moment_is_run_once_more(project, monkeypatch, tmp_path):
    top = Path(shutil.copytree(project, tmp_path / "project"))
    once = """
from pathlib import Path

def test_once():
    if not (busy := Path("busy")).exists():
        busy.touch()
        raise AssertionError

def test_never():
    assert False
"""
    (top / "t" / "test_moment.py").write_text(once, encoding="utf-8")
    monkeypatch.chdir(top)
    ids = [f"t/test_moment.py::test_{name}" for name in ("once", "never")]
    assert scorecard.outcomes(ids) == {ids[0]: "passed", ids[1]: "failed"}


def test_a_broken_set_up_of_the_tests_is_one_sentence(project, monkeypatch, tmp_path):
    top = Path(shutil.copytree(project, tmp_path / "project"))
    (top / "t" / "conftest.py").write_text("import nothing_like_it\n", encoding="utf-8")
    monkeypatch.chdir(top)
    with pytest.raises(ScorecardError, match="could not be run") as refused:
        scorecard.outcomes(["t/test_some.py::test_good"])
    assert "\n" not in str(refused.value)


def test_the_page_and_the_figures_are_the_same_each_time(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    assert cli.main(["scorecard"]) == 0
    said = capsys.readouterr()
    assert said.out == "wrote reports/scorecard.html: 0 of 7\n"
    assert said.err.startswith("not counted: tests/") and said.err.count("\n") == 1
    files = [project / "reports" / name for name in (scorecard.PAGE, scorecard.RESULT)]
    before = [file.read_bytes() for file in files]
    assert cli.main(["scorecard"]) == 0
    assert [file.read_bytes() for file in files] == before
    page = before[0].decode("utf-8")
    assert page.count(">missing</span>") == 28 and str(project) not in page
    for entry in ENTRIES:
        assert entry.name in page
    assert json.loads(before[1])["score"] == 0
