"""The ML Test Score: 28 tests of what a system needs in production, marked by evidence.

E. Breck, S. Cai, E. Nielsen, M. Salib, D. Sculley, The ML Test Score: A Rubric for ML Production
Readiness and Technical Debt Reduction, IEEE Big Data, 2017.

What Truefit does for each test stands in ``scorecard.yaml``, with the tests of ours that prove it.
A mark comes from running them, never from the text.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from truefit import project
from truefit.digits import number
from truefit.project import TruefitError

if TYPE_CHECKING:
    from pytest import CollectReport, TestReport

SOURCE = Path(__file__).with_suffix(".yaml")
RESULT = "scorecard.json"  # under reports/
PAGE = "scorecard.html"
TITLE = "The ML Test Score"
POINTS = {"automated": 1.0, "manual": 0.5, "missing": 0.0}
BADGES = {"automated": "pass", "manual": "warn", "missing": "fail"}
MOST = 7.0  # points of a section
# Up to which score, and what that means: table V of the paper in our words.
MEANINGS = (
    (0, "a study, rather than something to put into production"),
    (1, "not untested, but it may well fail where nobody has looked"),
    (2, "the first steps towards production are made; more must follow"),
    (3, "tested well enough, though more of it could run by itself"),
    (5, "tests and monitoring run by themselves, and are enough for what a company depends on"),
    (MOST, "tests and monitoring run by themselves to a degree that is seldom seen"),
)
# What a person, a hook of git, DVC or another pytest has set, and would change what a test does.
FOREIGN = ("DVC_", "GIT_", "PYTEST_", "TRUEFIT_")
OWN = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "LOKY_MAX_CPU_COUNT": "1"}

Outcome = Literal["passed", "failed", "skipped", "missing"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Entry(_Strict):
    """One of the 28 tests."""

    name: str
    asks: str  # the paper's test in our words
    does: str  # what Truefit does
    commands: list[str]  # that show it
    evidence: list[str]  # node ids: of one case, or of a function, all of whose cases must pass
    people: str = ""  # what only people can do: with it, the test is manual at best


class Section(_Strict):
    """A quarter of the tests; the paper weighs the sections alike."""

    name: str
    tests: list[Entry] = Field(min_length=7, max_length=7)


class ScorecardError(TruefitError):
    """The evidence cannot be gathered."""


def read() -> list[Section]:
    """The four sections, as ``scorecard.yaml`` has them."""
    from ruamel.yaml import YAML

    content = YAML(typ="safe", pure=True).load(SOURCE.read_text(encoding="utf-8"))
    return TypeAdapter(list[Section]).validate_python(content)


def write_scorecard() -> dict:
    """Run all evidence, and write ``reports/scorecard.html`` and ``reports/scorecard.json``.

    A test that fails lowers its mark and stops nothing: the page is there to say so.

    Returns
    -------
    dict
        From `judge`.

    Raises
    ------
    ScorecardError
        If the tests cannot be run at all; then the last page stays.
    """
    sections = read()
    wanted = [id for section in sections for entry in section.tests for id in entry.evidence]
    judged = judge(sections, outcomes(wanted))
    project.write_text(_page(sections, judged), "reports", PAGE)
    project.write_text(json.dumps(judged, indent=1, ensure_ascii=False), "reports", RESULT)
    return judged


# Evidence


def outcomes(wanted: Collection[str]) -> dict[str, Outcome]:
    """What became of each test, run in a process of its own from the project's folder.

    What failed is run once more, without the others: some of it asks real servers, and a machine
    that is busy with something else for a moment is no fault of theirs.

    Parameters
    ----------
    wanted : collection of str
        Node ids of functions, such as ``tests/test_expressions.py::test_examples``, or of one case
        of a function, such as ``tests/test_export.py::test_parity[homes]``.

    Returns
    -------
    dict from node id to outcome
        ``passed`` if every case of the function passed; ``failed`` if one failed, or its file
        cannot be imported; ``skipped`` if one was skipped; ``missing`` if there is no such test.

    Raises
    ------
    ScorecardError
        If pytest cannot be started, or ends before it is done.
    """
    found = _run(wanted)
    failed = [id for id, outcome in found.items() if outcome == "failed"]
    return found | (_run(failed) if failed else {})


def _run(wanted: Collection[str]) -> dict[str, Outcome]:
    from truefit.notebook.run import pinned_environment

    top = project.root()
    with tempfile.TemporaryDirectory(prefix="truefit-") as folder, pinned_environment():
        result = Path(folder) / "outcomes.json"
        own = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)} | OWN
        ran = subprocess.run(
            [sys.executable, "-c", "from truefit.scorecard import record; record()",
             result, *dict.fromkeys(wanted)],
            cwd=top, env=own, capture_output=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
        if not result.is_file():
            said = (ran.stderr.strip() or ran.stdout.strip() or "nothing").splitlines()[-1]
            raise ScorecardError(
                f"the tests that are evidence for the scorecard could not be run ({said}); "
                "`pytest` must run in this environment"
            )
        return json.loads(result.read_text(encoding="utf-8"))


def record() -> None:
    """In the process of the tests: run those named in the arguments, write what became of them."""
    import pytest
    from hypothesis import settings

    # The same examples each time, and no limit to a busy machine's time.
    settings.register_profile("evidence", derandomize=True, deadline=None, database=None)
    settings.load_profile("evidence")
    result, *wanted = sys.argv[1:]
    files = dict.fromkeys(file for id in wanted if Path(file := id.split("::")[0]).is_file())
    recorder = _Recorder(wanted)
    if files:
        options = [
            *("-o", "addopts=", "-p", "no:cacheprovider", "--rootdir", ".", "--quiet"),
            *("--continue-on-collection-errors", "--basetemp", f"{result}-tests"),
        ]
        code = pytest.main([*options, *files], plugins=[recorder])
        if code not in (0, 1, 5):  # all passed; some did not; none was found
            sys.exit(f"pytest ended with {int(code)}")
    Path(result).write_text(json.dumps(recorder.outcomes()), encoding="utf-8")


class _Recorder:
    """A plugin of pytest: keeps the tests that are wanted, and what became of their cases."""

    def __init__(self, wanted: Sequence[str]):
        self._cases: dict[str, dict[str, list[str]]] = {id: defaultdict(list) for id in wanted}
        self._broken: set[str] = set()

    def pytest_collection_modifyitems(self, items: list) -> None:
        items[:] = [item for item in items if self._wanted(item.nodeid) in self._cases]
        for item in items:
            self._cases[self._wanted(item.nodeid)][item.nodeid] = []

    def pytest_collectreport(self, report: "CollectReport") -> None:
        if report.failed:
            self._broken.add(report.nodeid)

    def pytest_runtest_logreport(self, report: "TestReport") -> None:
        # The preparation and the clean-up of a case count when something is wrong with them.
        if report.when == "call" or not report.passed:
            self._cases[self._wanted(report.nodeid)][report.nodeid].append(report.outcome)

    def _wanted(self, nodeid: str) -> str:
        """What was asked for: this case, or its function."""
        return nodeid if nodeid in self._cases else nodeid.split("[")[0]

    def outcomes(self) -> dict[str, Outcome]:
        return {id: self._outcome(id, cases) for id, cases in self._cases.items()}

    def _outcome(self, id: str, cases: dict[str, list[str]]) -> Outcome:
        if id.split("::")[0] in self._broken:
            return "failed"
        if not cases:
            return "missing"
        # A case that left no trace has not been run.
        found = {outcome for case in cases.values() for outcome in case or ["skipped"]}
        return next(o for o in ("failed", "skipped", "passed") if o in found)


# Marks


def judge(sections: Sequence[Section], found: Mapping[str, Outcome]) -> dict:
    """The mark of each test, the points of each section, and the score.

    Returns
    -------
    dict
        ``score``, ``most``, what it ``means``, and ``sections``: each with ``name``, ``points``
        and ``tests``, which have ``name``, ``mark`` and ``evidence`` (outcome by node id).
    """
    judged: list[dict] = []
    for section in sections:
        tests: list[dict] = []
        for entry in section.tests:
            evidence = {id: found.get(id, "missing") for id in entry.evidence}
            tests.append({"name": entry.name, "mark": _mark(entry, evidence), "evidence": evidence})
        points = sum(POINTS[t["mark"]] for t in tests)
        judged.append({"name": section.name, "points": points, "tests": tests})
    score = min(s["points"] for s in judged)
    return {"score": score, "most": MOST, "means": meaning(score), "sections": judged}


def _mark(entry: Entry, evidence: Mapping[str, Outcome]) -> str:
    if not evidence or set(evidence.values()) != {"passed"}:
        return "missing"
    return "manual" if entry.people else "automated"


def meaning(score: float) -> str:
    """What a score says of a system, by the paper's table."""
    return next(words for limit, words in MEANINGS if score <= limit)


def unproven(judged: dict) -> list[str]:
    """The evidence that did not pass, each with its outcome."""
    return list(dict.fromkeys(
        f"{id} ({outcome})"
        for section in judged["sections"]
        for test in section["tests"]
        for id, outcome in test["evidence"].items()
        if outcome != "passed"
    ))  # fmt: skip


# The page

ABOUT = """
What does a system that learns need before people may depend on it? Breck, Cai, Nielsen, Salib and
Sculley drew up 28 tests from what they had seen at Google (*The ML Test Score: A Rubric for ML
Production Readiness and Technical Debt Reduction*, IEEE Big Data, 2017). This page goes through
them: what each asks, what Truefit does, the command that shows it, and the mark.

**How the marks come about.** Each entry names tests of this project. `truefit scorecard` runs them
and nothing else decides: where all of them pass, the entry is *automated*; where a part remains
that only people can do, it is *manual* at best, and says which part. If one of them fails, is
skipped or does not exist, the entry is *missing*, whatever its text says.

**The score.** An automated test counts one point, a manual one with a written result half a
point. The points are added up in each section, and the lowest of the four sums is the score,
because no section can stand in for another.
"""


def _page(sections: Sequence[Section], judged: dict) -> str:
    from truefit.notebook.render import markdown, page

    parts = [
        '<header class="title"><p class="kicker">For every case</p>'
        f"<h1>{TITLE}: {shown(judged['score'])} of {shown(MOST)}</h1></header>",
        f"<p>What the paper's table says of such a system: {judged['means']}.</p>",
        markdown(ABOUT),
        markdown(_points(judged)),
        markdown(_meanings()),
    ]
    toc = []
    for section, points in zip(sections, judged["sections"], strict=True):
        anchor = section.name.split()[0].lower()
        toc.append((2, anchor, section.name))
        parts.append(f'<h2 id="{anchor}">{section.name}: {shown(points["points"])}</h2>')
        for i, (entry, test) in enumerate(zip(section.tests, points["tests"], strict=True), 1):
            parts.append(_entry(f"{anchor}-{i}", i, entry, test))
    return page(title=TITLE, body="\n".join(parts), toc=toc, home="index.html")


def shown(points: float) -> str:
    """Points, which come in halves."""
    return number(points, ".1f").removesuffix(".0")


def _points(judged: dict) -> str:
    head = "| section | automated | manual | missing | points |\n|---|--:|--:|--:|--:|\n"
    rows = []
    for section in judged["sections"]:
        marks = [test["mark"] for test in section["tests"]]
        counts = " | ".join(str(marks.count(mark)) for mark in POINTS)
        rows.append(f"| {section['name']} | {counts} | {shown(section['points'])} |")
    return head + "\n".join(rows)


def _meanings() -> str:
    rows, above = [], None
    for limit, words in MEANINGS:
        scores = "0" if above is None else f"above {above}" + f", to {limit}" * (limit < MOST)
        rows.append(f"| {scores} | {words} |")
        above = limit
    return "| score | what it says of a system |\n|---|---|\n" + "\n".join(rows)


def _entry(anchor: str, i: int, entry: Entry, test: dict) -> str:
    from truefit.notebook.render import markdown

    evidence, mark = test["evidence"], test["mark"]
    failed = [id for id, outcome in evidence.items() if outcome != "passed"]
    tests = f"{len(evidence)} test{'s' * (len(evidence) != 1)}"
    said = f"{len(failed)} of {tests} did not pass" if failed else f"{tests} passed"
    items = "".join(
        f"<li><code>{_breakable(id)}</code>{f': <b>{outcome}</b>' * (outcome != 'passed')}</li>"
        for id, outcome in evidence.items()
    )
    commands = "\n".join(f"$ {command}" for command in entry.commands)
    people = f"\n\n**Left to people.** {entry.people}" if entry.people else ""
    return (
        f'<h3 id="{anchor}">{i}. {escape(entry.name)} '
        f'<span class="badge {BADGES[mark]}">{mark}</span></h3>\n'
        + markdown(f"*{entry.asks.strip()}*\n\n{entry.does}{people}")
        + f'\n<div class="code"><pre>{escape(commands)}</pre></div>\n'
        + f'<details class="code"{" open" if failed else ""}><summary>Evidence: '
        + f"{said if evidence else 'none'}</summary><ul>{items}</ul></details>"
    )


def _breakable(id: str) -> str:
    """A node id, which is longer than a line, with places where it may be broken."""
    return re.sub("(::|_)", r"\1<wbr>", escape(id))
