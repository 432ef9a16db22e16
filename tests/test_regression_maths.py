"""What stands around the solvers: the estimator, the made problems, and the report's own list.

The solvers have files of their own, named as their modules are.
"""

import json
import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML
from sklearn.linear_model import LinearRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from truefit.regression_maths import DataError, LeastSquaresRegressor, RankWarning
from truefit.regression_maths.exact import correct_digits
from truefit.regression_maths.study import (
    bias_and_variance,
    design_of_condition,
    digits_by_condition,
)


@pytest.mark.filterwarnings("ignore::truefit.regression_maths.RankWarning")
@parametrize_with_checks(
    [
        LeastSquaresRegressor(),
        LeastSquaresRegressor(fit_intercept=False),
        LeastSquaresRegressor(method="cholesky"),
    ]
)
def test_the_checks_of_scikit_learn_pass(estimator, check):
    check(estimator)


def test_the_estimator_predicts_as_scikit_learn_s_and_names_columns():
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((50, 3)), columns=["area", "rooms", "age"])
    y, weight = rng.standard_normal(50), rng.integers(0, 3, 50)
    ours = LeastSquaresRegressor().fit(table, y, weight)
    theirs = LinearRegression(tol=0).fit(table, y, weight)
    np.testing.assert_allclose(ours.predict(table), theirs.predict(table), rtol=1e-10)
    assert ours.score(table, y) == pytest.approx(theirs.score(table, y))
    assert ours.result_.names == ["area", "rooms", "age"]
    table["double"] = 2 * table["area"]
    with pytest.warns(RankWarning, match="(area = 0.5 · double|double = 2 · area)"):
        assert LeastSquaresRegressor().fit(table, y).rank_ == 4


def test_a_gap_in_a_table_is_named_by_the_estimator():
    table = pd.DataFrame({"area": [1.0, 2, 3], "rooms": [1.0, np.nan, 3]})
    with pytest.raises(DataError, match="NaN in row 1, column 'rooms'"):
        LeastSquaresRegressor().fit(table, [1, 2, 3])


@given(exponent=st.floats(0, 12), seed=st.integers(0, 1000))
def test_a_design_has_the_condition_number_it_was_made_with(exponent, seed):
    X = design_of_condition(10**exponent, 12, 4, np.random.default_rng(seed))
    assert np.linalg.cond(X) == pytest.approx(10**exponent, rel=0.05)


def test_a_solver_that_gives_up_has_no_digits():
    def gives_up(X, y):
        raise np.linalg.LinAlgError

    solvers = {"good": lambda X, y: np.linalg.lstsq(X, y)[0], "bad": gives_up}
    found = digits_by_condition(solvers, [1e2, 1e4], rng=np.random.default_rng(0))
    assert list(found.index) == [1e2, 1e4]
    assert (found["bad"] == 0).all() and found["good"].between(10, 16).all()


def test_without_noise_a_prediction_has_no_variance():
    X = design_of_condition(3, 20, 4, np.random.default_rng(1))
    found = bias_and_variance(
        X - X.mean(axis=0), np.ones(4), 0.0, [1e-12, 1e3], resamples=3, rng=np.random.default_rng(2)
    )
    assert (found["variance"] < 1e-20).all()
    assert found["bias2"].iloc[0] < 1e-15 < found["bias2"].iloc[1]


def test_the_error_itself_counts_where_the_truth_is_zero():
    assert correct_digits([1e-9, 1.0], [0, 1]) == pytest.approx(9)
    assert correct_digits([1.0, 0.5], ["1", "0.5"]) == 17
    assert correct_digits([float("nan")], [1]) == 0


def test_the_stage_names_every_file_that_its_notebook_reads():
    book = json.loads((ROOT / "notebooks" / "02_regression_maths.ipynb").read_text("utf-8"))
    code = "\n".join("".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code")
    calls = re.findall(r"project\.path\(([^)]+)\)", code)
    read = {"/".join(re.findall(r'"([^"]+)"', call)) for call in calls}
    stage = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["regression_maths"]
    assert len(read) == 3 and read <= set(stage["deps"])


def test_every_claim_is_on_the_list_of_the_front_page():
    listed = json.loads(
        (ROOT / "reports" / "claims" / "02_regression_maths.json").read_text(encoding="utf-8")
    )
    assert [claim["number"] for claim in listed] == [f"02.{k}" for k in range(1, 8)]
    front = (ROOT / "reports" / "index.html").read_text(encoding="utf-8")
    for claim in listed:
        assert f'href="{claim["page"]}#{claim["anchor"]}"' in front
