"""A claim is run as printed, shown in its box, and listed on the front page."""

import contextlib
import io
import json
import re
import subprocess
import sys
import warnings

import nbformat
import numpy as np
import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, copy_project, run_truefit
from hypothesis import given, settings
from hypothesis import strategies as st
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from truefit.notebook.claims import Claim, ClaimError, as_printed, claims_of
from truefit.notebook.render import render


def md(text, *tags):
    return new_markdown_cell(text, metadata={"tags": list(tags)})


def code(source, *said, tags=("claim",)):
    """A code cell that has said pieces of markdown."""
    outputs = [new_output("display_data", {"text/markdown": text}) for text in said]
    return new_code_cell(source, outputs=outputs, metadata={"tags": list(tags)})


def box(number, n_cells=1):
    """A claim as a notebook has it, with some cells of code before the truth."""
    return [
        md(f"**Claim {number}.** It is so, by $x_{{{number[-1]}}}$.\n\nMany say it.", "claim"),
        *(code(f"snippet_{k}()") for k in range(n_cells)),
        code("say(found)", f"**What is true.** It is not, see [{number}](#a).\n\nMore of it."),
    ]


def rendered(*cells):
    notebook = new_notebook(cells=[md("# A title"), *cells])
    return BeautifulSoup(render(notebook, title_context="Maths"), "html.parser")


def said_by(snippet):
    """What a snippet shows when it is run as printed, and what became of it."""
    with contextlib.redirect_stdout(io.StringIO()) as out, as_printed() as ran:
        snippet()
    return out.getvalue(), ran.error


def test_a_snippet_that_fails_is_one_line_and_stops_nothing():
    said, error = said_by(lambda: np.ones((4, 2)) - np.ones(4))
    assert said == "ValueError: operands could not be broadcast together with shapes (4,2) (4,)\n"
    assert isinstance(error, ValueError)


def test_a_snippet_that_runs_shows_what_it_prints():
    assert said_by(lambda: print("fine")) == ("fine\n", None)


def test_a_warning_is_one_line_without_a_path_and_comes_again():
    for _ in range(2):
        said, error = said_by(lambda: np.log(np.zeros(1)))
        assert said == "RuntimeWarning: divide by zero encountered in log\n"
        assert error is None
    with pytest.warns(UserWarning, match="after"):
        warnings.warn("after", UserWarning, stacklevel=1)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_a_person_can_still_stop_it(stop):
    with pytest.raises(stop), as_printed():
        raise stop


@given(st.text())
def test_any_error_is_one_line(message):
    def snippet():
        raise RuntimeError(message)

    said, error = said_by(snippet)
    assert said.splitlines() == [said[:-1]]
    assert said.startswith("RuntimeError") and str(error) == message


def test_a_claim_is_read_from_an_executed_notebook_in_its_short_form():
    written = nbformat.writes(new_notebook(cells=box("02.1")))
    (claim,) = claims_of(nbformat.reads(written, as_version=4))
    assert claim == Claim("02.1", "It is so, by $x_{1}$.", "It is not, see [02.1](#a).")
    assert claim.anchor == "claim-02-1"


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=6))
def test_every_claim_has_a_box_of_its_own(drawn):
    cells, numbers = [md("## Start")], []
    for k, (n_cells, apart, solved) in enumerate(drawn, start=1):
        numbers.append(f"02.{k}")
        cells += box(numbers[-1], n_cells)
        cells += [md("Between.")] * apart + [md("Solved.", "solution")] * solved
    assert [claim.number for claim in claims_of(new_notebook(cells=cells))] == numbers
    boxes = rendered(*cells).select("section.claim")
    assert [found["id"] for found in boxes] == [f"claim-{n.replace('.', '-')}" for n in numbers]
    for found, number, (n_cells, *_) in zip(boxes, numbers, drawn, strict=True):
        text = found.get_text()
        assert text.count("What is true.") == 1 and f"Claim {number}." in text
        assert len(found.select("div.code")) == n_cells


def test_a_box_says_what_it_is_and_hides_only_the_code_that_says_what_is_true():
    page = rendered(*box("02.1"), md("After the box."))
    (found,) = page.select("section.claim")
    named = [page.find(id=name).get_text() for name in found["aria-labelledby"].split()]
    assert named == ["Claim to check", "Claim 02.1."]
    assert "snippet_0()" in found.select_one("div.code").get_text()
    assert "say(found)" in found.select_one("details.code").get_text()
    assert "After" not in found.get_text() and "More of it." in found.get_text()


@pytest.mark.parametrize(
    ("cells", "culprit"),
    [
        ([md("It is so.", "claim"), *box("02.1")[1:]], "box in cell 2 .*begin with its number"),
        ([md("**Claim 02.1.**", "claim")], "box in cell 2 .*begin with its number"),
        ([code("1")], "box in cell 2 .*begin with its number"),
        (box("02.1")[:-1], "last output of claim 02.1 must say what is true"),
        (box("02.1")[:-1] + box("02.2"), "last output of claim 02.1 must"),
        ([*box("02.3"), code("1", "Not so.")], "last output of claim 02.3 must"),
        ([*box("02.1"), *box("02.1")], "two claims 02.1"),
        ([md("**Claim 02.4.** It is so.")], "cell 2 states claim 02.4; tag it 'claim'"),
    ],
)
def test_a_box_without_its_parts_is_refused_by_name(cells, culprit):
    with pytest.raises(ClaimError, match=culprit) as caught:
        claims_of(new_notebook(cells=[md("# A title"), *cells]))
    assert "\n" not in str(caught.value)


SETUP = "from truefit.figures import say\nfrom truefit.notebook.claims import as_printed"
SNIPPET = "with as_printed() as ran:\n    [1, 2][2]"
TRUTH = "assert ran.error\nsay('**What is true.** There are $2$, see [03](03_training.ipynb).')"
CELLS = [
    md("# Maths\n\nThen [the data](01_data_prep.ipynb)."),
    code("seed = 1\nresamples = 20", tags=["parameters"]),
    code(SETUP, tags=[]),
    md("**Claim 02.1.** A list of two has an item 2.", "claim"),
    code(SNIPPET),
    code(TRUTH),
]


def test_a_run_lists_its_claims_and_empties_the_list_when_there_are_none(clone):
    book = clone / "notebooks" / "02_regression_maths.ipynb"
    claims = clone / "reports" / "claims" / "02_regression_maths.json"

    def run(*cells):
        notebook = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
        nbformat.write(notebook, book)
        return run_truefit("run", "02_regression_maths", cwd=clone)

    assert run(*CELLS[:3]).returncode == 0
    assert not claims.exists()
    assert run(*CELLS).returncode == 0
    listed = claims.read_bytes()
    assert json.loads(listed) == [
        {
            "number": "02.1",
            "claim": "A list of two has an item 2.",
            "truth": "There are \\$2\\$, see [03](03_training.ipynb).",
            "page": "02_regression_maths.html",
            "anchor": "claim-02-1",
        }
    ]
    page = (clone / "reports" / "02_regression_maths.html").read_text(encoding="utf-8")
    assert "IndexError: list index out of range" in page
    assert 'class="home" href="index.html"' in page
    assert "the data" in page and "01_data_prep" not in page
    failed = run(*CELLS[:-1])
    assert failed.returncode == 1
    assert re.fullmatch(r"truefit: the last output of claim 02.1 .*\n", failed.stderr)
    assert claims.read_bytes() == listed
    assert run(*CELLS[:3]).returncode == 0
    assert json.loads(claims.read_bytes()) == []


def test_the_front_page_lists_a_claim_of_several_cases_once_by_the_first(tmp_path):
    copy = copy_project(tmp_path / "clone", reports=True)
    folder = copy / "reports" / "claims"
    for old in folder.glob("*.json"):
        old.unlink()
    truth = "It has $2$, as [03](03_training.ipynb) & **all** say."
    for case in ("loans", "machines", "a_case_that_was_removed"):
        claim = {"number": "03.1", "claim": f"{case} has an <i>.", "truth": truth}
        where = {"page": f"{case}/03_training.html", "anchor": "claim-03-1"}
        text = json.dumps([claim | where])
        (folder / f"{case}-03_training.json").write_text(text, encoding="utf-8")
    assert run_truefit("index", cwd=copy).returncode == 0
    front = BeautifulSoup((copy / "reports" / "index.html").read_text("utf-8"), "html.parser")
    (term,) = front.select("dl.claims dt a")
    assert (term["href"], term.get_text()) == ("loans/03_training.html#claim-03-1", "Claim 03.1")
    (told,) = front.select("dl.claims dd")
    assert "“loans has an" in told.get_text() and not told.find("a")
    assert told.find("math") and told.find_all("strong")[1].get_text() == "all"

    for file in folder.glob("*.json"):
        file.unlink()
    assert run_truefit("index", cwd=copy).returncode == 0
    assert "Claims to check" not in (copy / "reports" / "index.html").read_text(encoding="utf-8")


def test_the_example_in_the_documentation_is_what_happens():
    run = [sys.executable, "-m", "doctest", ROOT / "src" / "truefit" / "notebook" / "claims.py"]
    done = subprocess.run(run, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout) == (0, "")
