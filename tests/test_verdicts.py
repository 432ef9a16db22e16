"""Verdicts are enums in the code and plain words everywhere else."""

import json

import pandas as pd
import pytest

from truefit import figures, monitoring
from truefit.evaluation.intervals import above_zero
from truefit.verdicts import Conclusion, Light, Ships


@pytest.mark.parametrize("kind", [Conclusion, Light, Ships])
def test_a_verdict_is_written_shown_and_compared_as_its_word(kind):
    words = [verdict.value for verdict in kind]
    made, plain = (pd.DataFrame({"verdict": values}) for values in ([*kind], words))
    assert made.to_csv() == plain.to_csv() and made.to_json() == plain.to_json()
    assert made.to_html() == plain.to_html()
    assert {type(value) for value in made["verdict"]} == {str}
    assert repr(figures.table(made, "verdicts")) == repr(figures.table(plain, "verdicts"))
    assert json.dumps([*kind]) == json.dumps(words) and [f"{v}" for v in kind] == words
    assert all((plain["verdict"] == verdict).sum() == 1 for verdict in kind)


def test_an_interval_says_on_which_side_of_zero_it_lies():
    low, high = pd.Series([0.1, -0.2, -0.1, 0.0]), pd.Series([0.2, -0.1, 0.1, 0.1])
    assert [*above_zero(low, high)] == ["yes", "no", "unclear", "unclear"]
    assert above_zero(float("nan"), float("nan")).item() == "unclear"


def test_where_nothing_was_judged_there_is_no_light():
    nothing = pd.DataFrame({"window": [], "group": [], "light": []})
    assert not monitoring.light(nothing, "1")
