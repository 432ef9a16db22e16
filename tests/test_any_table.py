"""Every step runs on any table: a lesson never stops a user's run."""

import re

import any_table
import odd_tables
import pytest


@pytest.mark.parametrize("make", [odd_tables.names, odd_tables.values, odd_tables.separable])
def test_every_step_runs_on_an_odd_table(make, tmp_path):
    table, block = make()
    assert_all_ran(any_table.run(table, block, tmp_path / "project"))


def test_every_step_runs_without_live_rows(tmp_path):
    (tmp_path / "own").mkdir()
    table, block = odd_tables.own_split(tmp_path / "own")
    assert_all_ran(any_table.run(table, block, tmp_path / "project"))


@pytest.mark.parametrize("name", odd_tables.REFUSED_NAMES)
def test_a_name_that_a_model_or_a_service_cannot_take_is_refused_at_once(name, tmp_path):
    table, block = odd_tables.separable()
    table = table.rename(columns={"noise": name})
    (found,) = any_table.run(table, block, tmp_path / "project", steps=["data_prep"])
    assert found.ended == "refused" and repr(name) in found.said and "rename it" in found.said


def assert_all_ran(found):
    assert [o for o in found if o.ended != "ran"] == []
    assert [o.step for o in found] == list(any_table.CASE_STEPS)
    for outcome in found:
        # A warning would stand on the page, with a path of this machine.
        assert not (warned := re.search(r"\w+Warning: .*", outcome.said)), warned
