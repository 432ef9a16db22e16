"""A step is described once, and what is described is there."""

import json

import pytest
from conftest import ROOT

from truefit.params import SECTIONS
from truefit.project import InputError
from truefit.steps import STEPS, VERDICT, step_of


def code(step):
    book = json.loads((ROOT / "notebooks" / f"{step.notebook}.ipynb").read_text("utf-8"))
    return "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code")


def test_each_step_has_a_notebook_and_a_section_and_there_are_no_others():
    books = sorted((ROOT / "notebooks").glob("*.ipynb"))
    assert [step.notebook for step in STEPS] == [book.stem for book in books]
    assert [step.name for step in STEPS] == list(SECTIONS)
    for step in STEPS:
        assert f'params.section("{step.name}", ' in " ".join(code(step).split()).replace("( ", "(")


def test_what_a_step_reads_is_there_from_the_start_or_made_by_a_step_before_it():
    made = {"{table}"}
    for step in STEPS:
        assert {f for f in {*step.inputs} - made if not (ROOT / f).is_file()} == set()
        made |= {*step.makes, *step.metrics, *(plot.file for plot in step.plots)}


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_the_notebook_of_a_step_after_the_gate_asks_for_a_pass_and_no_other_does(step):
    decides = [VERDICT in other.makes for other in STEPS].index(True)
    assert bool(step.gate) == ("require_pass(" in code(step)) == (STEPS.index(step) > decides)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_step_is_found_by_its_name_and_by_its_notebook(step):
    assert step_of(step.name) is step_of(step.notebook) is step


def test_a_step_that_there_is_not_is_told_with_those_that_there_are():
    with pytest.raises(InputError) as refused:
        step_of("3_training")
    told = str(refused.value)
    assert told.startswith("there is no step '3_training'; the steps are 01_data_prep, 02_")
