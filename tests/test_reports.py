"""The committed reports and notebooks, as people find them in a clone."""

import json
import re
from functools import cache, lru_cache

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

from truefit import data_prep, params, scorecard
from truefit.steps import all_runs

REPORTS = ROOT / "reports"
SETTINGS = params.load(ROOT / "params.yaml")


def verdict(case):
    """What the gate said of a case, if it has come so far."""
    file = REPORTS / "gate" / f"{case}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


# Whatever cases there are: those that have run, as far as the gate let them.
JUDGED = {case: found["passed"] for case in SETTINGS.cases if (found := verdict(case))}
RUNS = [(s, c) for s, c in all_runs(JUDGED) if JUDGED.get(c, True) or not s.without]
PAGES = [REPORTS / name for name in ("index.html", scorecard.PAGE, *(s.page(c) for s, c in RUNS))]
EXECUTED = [(REPORTS / step.page(case)).with_suffix(".ipynb") for step, case in RUNS]
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
# Of a run that was stopped by the gate there is no page to lead to.
STOPPED = {REPORTS / step.page(case) for step, case in {*all_runs(JUDGED)} - {*RUNS}}
# A home folder, a temporary folder, an object's address, or a time of day other than midnight.
TRACES = re.compile(r"/home/|/root/|/tmp/|/Users/|\b0x[0-9a-f]{8,}|\b(?!00:00:00)\d\d:\d\d:\d\d\b")


def name(path):
    return path.relative_to(ROOT).as_posix()


@lru_cache(maxsize=8)  # a page takes a second to read
def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


@cache
def ids(page):
    return {tag["id"] for tag in soup(page).find_all(id=True)}


def test_there_is_a_page_for_every_step_and_case_and_no_other():
    assert [name(file) for file in (*PAGES, *EXECUTED) if not file.is_file()] == []
    known = {*PAGES, *STOPPED}
    for folder in (REPORTS, *(REPORTS / case for case in JUDGED)):
        assert {*folder.glob("*.html")} <= known
        assert {book.with_suffix(".html") for book in folder.glob("*.ipynb")} <= known


def test_the_front_page_lists_every_claim_and_leads_to_its_box():
    front = soup(REPORTS / "index.html")
    terms = front.select("dl.claims dt a")
    told = {}
    for step, case in RUNS:
        file = REPORTS / "claims" / step.claims(case)
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


# A fixture of the module, so that all tests of a page come one after the other.
@pytest.fixture(scope="module", params=PAGES, ids=name)
def page(request):
    """A page that is about a case, about all, or the front page."""
    return request.param


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
        leads_to = (page.parent / target).resolve() if target else page
        assert leads_to.exists() or leads_to in STOPPED, link["href"]
        if anchor:
            assert anchor in ids(leads_to), link["href"]
    assert page.stat().st_size < 1_000_000


def test_a_page_of_a_run_leads_to_those_beside_it_and_home(page):
    if not page.with_suffix(".ipynb").is_file():
        return  # it was computed from all runs
    bar = soup(page).find("header", class_="bar")
    labels = [item.get_text().strip() for item in bar.find_all("li")]
    assert labels == sorted(labels) and "02 regression maths" in labels
    assert len(labels) == (1 if page.parent == REPORTS else len(SOURCES))
    home = bar.find("a", class_="home")["href"]
    assert (page.parent / home).resolve() == REPORTS / "index.html"


def test_a_page_can_be_read_without_seeing(page):
    found = soup(page)
    assert found.html["lang"] == "en" and found.title.get_text().strip()
    assert len(found.find_all("h1")) == 1
    for image in found.find_all("img"):
        assert len(image.get("alt", "").split()) >= 5


def test_every_formula_is_rendered(page):
    formulas = soup(page).find_all("math")
    for math in formulas:
        assert not math.find("merror")
    html = page.read_text(encoding="utf-8")
    for hidden in ("math", "pre", "code", "script", "style"):
        html = re.sub(rf"(?s)<{hidden}\b.*?</{hidden}>", "", html)
    text = re.sub(r"<[^>]*>", "", html)
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
            found = {*TRACES.findall(text)}
            assert not found or found <= traces_in_the_table(book.parent.name)
            assert output["output_type"] != "error"
            assert output.get("name") != "stderr"


@cache
def traces_in_the_table(case):
    """What looks like a trace and stands in a case's own rows, which its pages may show."""
    block = SETTINGS.cases.get(case)
    tables = data_prep.collect(block).values() if block else ()
    return {trace for table in tables for trace in TRACES.findall(table.to_csv())}


@pytest.mark.parametrize("book", SOURCES, ids=name)
def test_a_source_has_no_outputs_and_no_random_ids(book):
    cells = json.loads(book.read_text(encoding="utf-8"))["cells"]
    assert [cell["id"] for cell in cells] == [str(i) for i in range(len(cells))]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] or cell["execution_count"] for cell in code)


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
