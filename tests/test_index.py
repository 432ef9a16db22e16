"""The front page shows every case: how good it is, how its live rows are, or what it lacks."""

import json

import pytest
from bs4 import BeautifulSoup
from conftest import change_params, copy_project, run_truefit

from truefit import index

VERDICT = {
    "headline": {
        "metric": "rmse_log", "label": "RMSE of the logarithm", "model": "ridge",
        "value": 0.1, "low": 0.09, "high": 0.11, "confidence": 0.95,
    },
    "passed": True,
    "rows": 300,
    "checks": [{"check": "better than the dummy", "passed": True, "reason": "by far"}],
}  # fmt: skip
SEEN = {"light": "red", "window": "2010-1", "reason": "prices < predictions", "retrain": True}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which one case has passed the gate, and no other was evaluated."""
    copy = copy_project(tmp_path_factory.mktemp("project") / "clone")
    write(copy, "gate/homes.json", VERDICT)
    return copy


def write(copy, name, content):
    file = copy / "reports" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def card(project, monkeypatch):
    """Write the page, and find the card of a case."""

    def find(case):
        monkeypatch.setenv("TRUEFIT_PROJECT", str(project))
        index.write_index()
        page = BeautifulSoup((project / "reports" / "index.html").read_bytes(), "html.parser")
        return page.find("section", attrs={"aria-labelledby": case})

    return find


def badges(card):
    return [b.get_text() for b in card.find_all(class_="badge")]


@pytest.mark.parametrize(
    ("seen", "badge", "sentence"),
    [
        (SEEN, "Alarm in the live rows", "Live rows, quarter 2010-1: prices < predictions."),
        (SEEN | {"light": "amber"}, "Live rows have changed", "quarter 2010-1: prices <"),
        (SEEN | {"light": "green"}, "Live rows as usual", "quarter 2010-1: prices <"),
        (SEEN | {"light": "none", "window": None}, "Live rows not judged", "Live rows: prices <"),
        (None, None, None),
    ],
)
def test_the_light_of_the_newest_window_stands_on_the_card(project, card, seen, badge, sentence):
    (project / "reports/monitoring/homes.json").unlink(missing_ok=True)
    if seen:
        write(project, "monitoring/homes.json", seen)
    found = card("homes")
    assert badges(found) == ["Gate passed", *([badge] if badge else [])]
    assert sentence is None or sentence in found.get_text()
    assert sentence or "Live rows" not in found.get_text()
    assert len(found.find_all("a")) == 7  # a page for each step that is about a case


def test_a_case_that_fails_the_gate_says_what_it_lacks(project, card):
    reason = {"check": "r2", "passed": False, "reason": "0.2 is not at least 0.5"}
    write(project, "gate/machines.json", VERDICT | {"passed": False, "checks": [reason]})
    found = card("machines")
    (project / "reports/gate/machines.json").unlink()
    assert badges(found) == ["Gate failed"]
    for words in ("r2: 0.2 is not at least 0.5", "nothing to serve, because the gate failed"):
        assert words in found.get_text()


def test_a_case_without_a_verdict_shows_so_with_the_pages_that_it_has(project, card):
    write(project, "loans/01_data_prep.html", "a page")
    found = card("loans")
    assert badges(found) == ["Not evaluated yet"]
    assert [a["href"] for a in found.find_all("a")] == ["loans/01_data_prep.html"]
    assert badges(card("machines")) == ["Not evaluated yet"]


def test_a_case_whose_block_is_wrong_shows_what_is_wrong_beside_the_others(project):
    params = project / "params.yaml"
    before = params.read_text(encoding="utf-8")
    change_params(project, lambda p: p["cases"]["loans"].update(colour="<red>", map=["x"]))
    made = run_truefit("index", cwd=project)
    params.write_text(before, encoding="utf-8")
    assert (made.returncode, made.stderr) == (0, "")
    page = BeautifulSoup((project / "reports" / "index.html").read_bytes(), "html.parser")
    cards = {c["aria-labelledby"]: c for c in page.find_all("section", class_="card")}
    assert {*cards} == {"homes", "loans", "machines"}
    assert badges(cards["loans"]) == ["Block is wrong"]
    for words in ("loans.colour is not a known key", "'<red>'", "map takes two columns"):
        assert words in cards["loans"].get_text()
    assert badges(cards["homes"])[0] == "Gate passed"
