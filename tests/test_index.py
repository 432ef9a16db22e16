"""The front page shows how the live rows are."""

import json

import pytest
from bs4 import BeautifulSoup
from conftest import copy_project, run_truefit

SEEN = {"light": "red", "window": "2010-1", "reason": "prices < predictions", "retrain": True}


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
def test_the_light_of_the_newest_window_stands_on_the_card(tmp_path, seen, badge, sentence):
    copy = copy_project(tmp_path / "clone", reports=True)
    file = copy / "reports" / "monitoring" / "homes.json"
    file.unlink()
    if seen:
        file.write_text(json.dumps(seen), encoding="utf-8")
    made = run_truefit("index", cwd=copy)
    assert (made.returncode, made.stderr) == (0, "")
    page = BeautifulSoup((copy / "reports" / "index.html").read_bytes(), "html.parser")
    card = page.find("section", attrs={"aria-labelledby": "homes"})
    badges = [b.get_text() for b in card.find_all(class_="badge")]
    assert badges == ["Gate passed", *([badge] if badge else [])]
    assert sentence is None or sentence in card.get_text()
    assert sentence or "Live rows" not in card.get_text()
