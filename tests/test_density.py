"""Rows unlike the usual ones are found, and usual rows are left alone, whatever the table."""

import cases
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit.case import ABSENT
from truefit.monitoring.density import fit_usual
from truefit.project import InputError


def rows_of(name, part):
    """As a service gets them: without target, id and time; a row that has none has a gap."""
    case, frame = cases.PARAMS.cases[name], getattr(cases, part)(name)
    named = [case.target, case.id, case.time, *case.drop_columns]
    return frame.drop(columns=[c for c in named if c in frame]).replace(ABSENT, None)


@pytest.fixture(scope="module")
def usual():
    """What is usual in each shipped case."""
    return {
        name: fit_usual(rows_of(name, "train"), rows_of(name, "held_out"), components=6, seed=50)
        for name in cases.NAMES
    }


@pytest.mark.parametrize("name", cases.NAMES)
def test_of_rows_held_out_only_the_promised_share_is_unlike(usual, name):
    found = usual[name].unlike(rows_of(name, "held_out"))
    assert usual[name].share - 1 / len(found) <= found.mean() <= usual[name].share


@pytest.mark.parametrize(("name", "least"), [("homes", 0.5), ("machines", 0.15)])
def test_a_row_put_together_from_two_is_unlike_though_each_value_is_usual(usual, name, least):
    rows, rng = rows_of(name, "held_out"), np.random.default_rng(1)
    half = list(rows.columns[::2])
    mixed = rows.copy()
    mixed[half] = mixed[half].iloc[rng.permutation(len(rows))].to_numpy()
    assert usual[name].unlike(mixed).mean() > least


def test_live_homes_are_as_usual_and_live_machines_less_and_less(usual):
    assert usual["homes"].unlike(rows_of("homes", "live")).mean() < 0.1
    month = cases.live("machines")["trend"]
    unlike = pd.Series(usual["machines"].unlike(rows_of("machines", "live")), month.index)
    by_month = unlike.groupby(month).mean()
    assert by_month[13] < 0.15 and by_month[20] > 0.2 and by_month[30] > 0.6


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_masked_column_makes_no_row_unlike(usual, name):
    """The columns that a log leaves out take the values that go best with the others."""
    rows = rows_of(name, "held_out")
    for column in rows.columns[::9]:
        assert usual[name].unlike(rows.drop(columns=column)).mean() < usual[name].share + 0.02


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_row_has_the_same_density_alone_and_however_its_cells_are_kept(usual, name):
    rows = rows_of(name, "held_out").head(30)
    whole = usual[name].score(rows)
    assert (usual[name].score(rows.astype(object)) == whole).all()
    assert (usual[name].score(rows[rows.columns[::-1]]) == whole).all()
    alone = [usual[name].score(rows.iloc[[i]])[0] for i in range(len(rows))]
    assert np.allclose(alone, whole, atol=1e-7)


def test_the_same_rows_and_seed_give_the_same_densities():
    rows, held = rows_of("machines", "train"), rows_of("machines", "held_out")
    a, b = (fit_usual(rows, held, components=3, seed=7) for _ in range(2))
    assert a.limit == b.limit and (a.score(held) == b.score(held)).all()


cells = st.one_of(st.none(), st.floats(allow_nan=True, width=32), st.just(7.0))
texts = st.one_of(st.none(), st.sampled_from(["a", "b", "", "c"]))


@st.composite
def tables(draw):
    """Few rows and columns, with gaps, infinities, and columns that never change."""
    n = draw(st.integers(2, 25))
    columns = {}
    for i in range(draw(st.integers(1, 4))):
        if draw(st.booleans()):
            values = draw(st.lists(cells, min_size=n, max_size=n))
            columns[f"n{i}"] = pd.Series(values, dtype="float64")
        else:
            columns[f"t{i}"] = pd.Series(draw(st.lists(texts, min_size=n, max_size=n)), dtype="str")
    return pd.DataFrame(columns)


@settings(max_examples=30)
@given(table=tables(), components=st.integers(1, 4), cut=st.integers(0, 24))
def test_any_table_has_finite_densities(table, components, cut):
    cut = min(cut, len(table) - 2)
    held, rows = table.iloc[:cut], table.iloc[cut:].reset_index(drop=True)
    usual = fit_usual(rows, held, components=components, seed=0)
    assert np.isfinite(usual.score(table)).all()
    assert usual.unlike(held if len(held) else rows).mean() <= usual.share
    one = usual.score(table.drop(columns=table.columns[0]).assign(other="x"))
    assert one.shape == (len(table),) and np.isfinite(one).all()


def test_no_rows_have_no_density_and_one_row_shows_nothing(usual):
    rows = rows_of("machines", "held_out")
    assert usual["machines"].unlike(rows.head(0)).shape == (0,)
    with pytest.raises(InputError, match="1 rows do not show"):
        fit_usual(rows.head(1), rows, components=2, seed=0)


def test_more_distributions_than_needed_are_not_taken():
    rng = np.random.default_rng(3)
    one = pd.DataFrame(rng.normal(size=(600, 2)), columns=["a", "b"])
    far = one + np.array([40.0, 0.0])
    groups = pd.concat([one.head(300), far.tail(300)], ignore_index=True)
    assert fit_usual(one, one.head(0), components=5, seed=0).components == 1
    found = fit_usual(groups, groups.head(0), components=5, seed=0)
    assert found.components > 1
    between = pd.DataFrame({"a": [20.0], "b": [0.0]})  # the mean of all, where no row is
    assert found.unlike(between).all()
