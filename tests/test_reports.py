"""The committed reports and notebooks, as people find them in a clone."""

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from truefit import params, scorecard
from truefit.notebook import all_runs, claims_of_run, page_of

REPORTS = ROOT / "reports"
PAGES = sorted(REPORTS.rglob("*.html"))
EXECUTED = sorted(REPORTS.rglob("*.ipynb"))
RUNS = all_runs(params.load(ROOT / "params.yaml").cases)
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
# A home folder, a temporary folder, an object's address, or a time of day.
TRACES = re.compile(r"/home/|/root/|/tmp/|/Users/|\b0x[0-9a-f]{8,}|\b\d\d:\d\d:\d\d\b")


def name(path):
    return path.relative_to(ROOT).as_posix()


def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def ids(page):
    return {tag["id"] for tag in soup(page).find_all(id=True)}


def test_there_is_a_page_for_every_step_and_case():
    made = {"index.html", scorecard.PAGE, *(page_of(step, case) for step, case in RUNS)}
    assert {page.relative_to(REPORTS).as_posix() for page in PAGES} == made
    computed = {REPORTS / "index.html", REPORTS / scorecard.PAGE}
    assert {book.with_suffix(".html") for book in EXECUTED} | computed == set(PAGES)


def test_the_front_page_lists_every_claim_and_leads_to_its_box():
    front = soup(REPORTS / "index.html")
    terms = front.select("dl.claims dt a")
    told = {}
    for step, case in RUNS:
        file = REPORTS / "claims" / claims_of_run(step, case)
        if file.exists():
            for claim in json.loads(file.read_text(encoding="utf-8")):
                told.setdefault(f"Claim {claim['number']}", claim)
    assert [term.get_text() for term in terms] == list(told)
    for term, claim in zip(terms, told.values(), strict=True):
        page, anchor = term["href"].split("#")
        box = soup(REPORTS / page).find("section", id=anchor)
        assert claim["number"] in box.get_text() and "What is true." in box.get_text()
    cards = " ".join(card.get_text() for card in front.select(".card"))
    assert "regression maths" in front.get_text() and "regression maths" not in cards


def test_pages_lead_from_one_to_the_next_and_home():
    for step, case in RUNS:
        page = REPORTS / page_of(step, case)
        bar = soup(page).select_one("header.bar")
        labels = [item.get_text().strip() for item in bar.select("li")]
        assert labels == sorted(labels)
        assert "02 regression maths" in labels
        assert len(labels) == (len(SOURCES) if case else 1)
        assert (page.parent / bar.select_one("a.home")["href"]).resolve() == REPORTS / "index.html"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_needs_nothing_but_itself(page):
    found = soup(page)
    for tag in found.find_all(True):
        for attribute in ("src", "srcset", "data", "poster", "action"):
            assert tag.get(attribute, "data:").startswith("data:"), tag.name
    assert not found.find_all(["iframe", "object", "embed", "base"])
    for link in found.find_all("link"):  # an empty icon, so that a browser asks for none
        assert link["href"].startswith("data:")
    for style in found.find_all("style"):
        assert not re.search(r"@import|url\(\s*['\"]?(?!data:|#)", style.get_text())
    for link in found.find_all("a", href=True):
        target, _, anchor = link["href"].partition("#")
        assert not re.match(r"\w+:", target), link["href"]
        assert (page.parent / target).exists(), link["href"]
        if anchor:
            assert anchor in ids(page.parent / target if target else page), link["href"]
    assert page.stat().st_size < 1_000_000


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_a_page_can_be_read_without_seeing(page):
    found = soup(page)
    assert found.html["lang"] == "en" and found.title.get_text().strip()
    assert len(found.find_all("h1")) == 1
    for image in found.find_all("img"):
        assert len(image.get("alt", "").split()) >= 5


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_formula_is_rendered(page):
    found = soup(page)
    formulas = found.find_all("math")
    for math in formulas:
        assert not math.find("merror")
    for hidden in found.find_all(["math", "pre", "code", "script", "style", "annotation"]):
        hidden.decompose()
    text = found.get_text()
    assert not re.search(r"\$\$|\\(frac|sum|text|hat|bar|beta|begin)\b", text)
    source = page.with_suffix(".ipynb")
    if source.exists():
        cells = json.loads(source.read_text(encoding="utf-8"))["cells"]
        prose = "".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
        assert len(formulas) >= prose.count("$$") // 2


@pytest.mark.parametrize("book", EXECUTED, ids=name)
def test_an_executed_notebook_tells_nothing_of_where_and_when_it_ran(book):
    content = json.loads(book.read_text(encoding="utf-8"))
    assert set(content["metadata"]) == {"kernelspec", "language_info"}
    for cell in content["cells"]:
        assert set(cell["metadata"]) <= {"tags", "jupyter"}
        for output in cell.get("outputs", []):
            data = {k: v for k, v in output.get("data", {}).items() if not k.startswith("image/")}
            text = json.dumps([output.get("text"), data, output.get("traceback")])
            assert not TRACES.search(text)
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


def test_source_notebooks_are_committed_without_outputs_or_random_ids():
    check = Path(sys.executable).with_name("nbstripout")
    subprocess.run([check, "--verify", *SOURCES], check=True, capture_output=True)


@pytest.mark.parametrize("book", SOURCES, ids=name)
def test_a_notebook_explains_more_than_it_computes(book):
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    prose = " ".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    assert len(prose.split()) >= 7 * sum(len(c.splitlines()) for c in code)
    for part in ("**What this notebook answers.**", "**What you will learn.**", "reads", "writes"):
        assert part in prose
    assert sum(c.count("assert ") for c in code) >= 4
    exercises = re.findall(r"\*\*Exercise (\d\d)\.(\d+)\.\*\*", prose)
    assert [int(k) for _, k in exercises] == list(range(1, len(exercises) + 1))
    assert {number for number, _ in exercises} == {book.name[:2]}
    claims = re.findall(r"\*\*Claim (\d\d)\.(\d+)\.\*\*", prose)
    assert [int(k) for _, k in claims] == list(range(1, len(claims) + 1))
    assert {number for number, _ in claims} <= {book.name[:2]}
