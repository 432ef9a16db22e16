"""Errors by slice, slices that are searched for, and what is odd about a row."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import figures
from truefit.case import Order
from truefit.evaluation import bootstrap_weights
from truefit.evaluation.slices import (
    error_by_slice,
    members,
    oddities,
    plot_slices,
    slice_labels,
    worst_slices,
)
from truefit.metrics import scores
from truefit.project import InputError
from truefit.task import make_case

NUMBER = {"table": "t.csv", "target": "y", "task": "regression"}
CLASS = {"table": "t.csv", "target": "y", "task": "classification", "positive": "bad"}
numbers = st.lists(
    st.none() | st.integers(-5, 5) | st.floats(-1e9, 1e9, allow_nan=False), min_size=1, max_size=60
)


@pytest.fixture(autouse=True)
def _no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def sliced(values, limits=(), reference=None, **more):
    frame = pd.DataFrame({"a": values})
    reference = frame if reference is None else pd.DataFrame({"a": reference})
    case = make_case(**NUMBER, slices={"a": list(limits)}, **more)
    return slice_labels(frame, case, reference)["a"]


def table(case, n=200, seed=0):
    """Rows with three columns, the target, and a prediction that is wrong by a known spread."""
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(
        {
            "size": rng.integers(0, 100, n).astype(float),
            "place": rng.choice(["north", "south", "west"], n),
            "grade": rng.choice(["low", "middle", "high"], n),
        }
    )
    frame.loc[rng.random(n) < 0.1, "size"] = np.nan
    frame.loc[rng.random(n) < 0.12, "place"] = None
    if case.task == "classification":
        p = rng.random(n)
        frame["y"] = np.where(rng.random(n) < p, "bad", "good")
        return frame, p
    p = np.exp(rng.normal(size=n))
    frame["y"] = p * np.exp(0.1 * rng.normal(size=n))
    return frame, p


# Labels


def test_limits_belong_to_the_band_above_them():
    found = sliced([24.0, 25.0, 34.0, 35.0, 99.0, None], [25, 35])
    assert list(found) == [
        *("below 25", "25 to 34", "25 to 34", "35 and above", "35 and above", "missing")
    ]
    assert list(found.cat.categories) == ["below 25", "25 to 34", "35 and above", "missing"]


def test_a_band_of_one_whole_number_is_called_by_it_and_of_fractions_by_both_ends():
    assert list(sliced([4, 5, 6], [5, 6])) == ["below 5", "5", "6 and above"]
    assert list(sliced([0.4, 0.5, 0.99, 1.0], [0.5, 1])) == [
        *("below 0.5", "0.5 to 1", "0.5 to 1", "1 and above")
    ]


def test_large_numbers_have_commas_and_years_have_none():
    assert sliced([1.0], [1950])[0] == "below 1950"
    assert sliced([1.0], [39290])[0] == "below 39,290"
    assert sliced([-9.0], [-5])[0] == "below −5"


def test_quarters_have_about_as_many_rows_each():
    values = np.random.default_rng(0).normal(size=1000)
    shares = sliced(values).value_counts(normalize=True)
    assert shares.drop("missing").to_numpy() == pytest.approx(np.full(4, 0.25), abs=0.011)


def test_the_bands_are_those_of_the_training_rows():
    train = np.arange(100)
    assert list(sliced([-500, 500, 500], reference=train)) == ["below 25", *["75 and above"] * 2]


def test_many_equal_values_make_fewer_bands():
    assert list(sliced([0] * 80 + [1] * 20).unique()) == ["below 1", "1 and above"]
    assert set(sliced([7] * 5)) == {"any value"}
    assert set(sliced([None, np.nan])) == {"missing"}


@settings(max_examples=150, deadline=None)
@given(numbers, numbers)
def test_bands_keep_the_order_of_numbers_and_none_is_empty_in_training(train, other):
    train, other = (pd.Series(v, dtype=float) for v in (train, other))
    mine, theirs = sliced(train, reference=train), sliced(other, reference=train)
    both = pd.concat([train, other], ignore_index=True)
    codes = np.r_[mine.cat.codes, theirs.cat.codes]
    order = np.argsort(both, kind="stable")[: both.notna().sum()]
    assert (np.diff(codes[order]) >= 0).all()  # the lower number is never in the higher band
    assert both.groupby(both, dropna=True).apply(lambda g: len(set(codes[g.index])) == 1).all()
    assert (both.isna() == (codes == len(mine.cat.categories) - 1)).all()
    bands = mine.cat.categories[:-1]
    assert 1 <= len(bands) <= 4
    if train.notna().any():
        assert set(bands) == set(mine[train.notna()])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.none() | st.sampled_from(["a", "b", "", "missing"]), min_size=1))
def test_a_text_is_its_own_name(values):
    found = sliced(pd.Series(values, dtype="str"))
    assert list(found) == ["missing" if v is None else v for v in values]


def test_codes_and_orders_and_absent_things():
    assert list(sliced([20, 20, 30], codes=["a"])) == ["20", "20", "30"]
    order = [Order(order=["Po", "TA", "Ex"], columns=["a"])]
    assert list(sliced(["TA", "Ex", "Po"], ordinal=order).cat.categories[:3]) == ["Po", "TA", "Ex"]
    assert list(sliced([1990.0, np.nan], absent=["a"]))[1] == "absent"


@pytest.mark.parametrize(
    ("slices", "said"),
    [
        ({"sise": []}, "did you mean size?"),
        ({"place": [1.0]}, "not a column of numbers; write place: []"),
    ],
)
def test_a_slice_that_does_not_fit_says_so(slices, said):
    case = make_case(**NUMBER, slices=slices)
    frame, _ = table(case)
    with pytest.raises(InputError, match="params.yaml: slices") as error:
        slice_labels(frame, case, frame)
    assert said in str(error.value)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=60), st.integers(1, 12))
def test_members_part_the_rows_and_pool_the_rare(values, least):
    found = members(pd.Series(values), least)
    assert (np.sum(list(found.values()), axis=0) == 1).all()
    counts = pd.Series(values).value_counts()
    for name, rows in found.items():
        if name.startswith("others"):
            assert name == f"others ({(counts < least).sum()} values)"
            assert rows.sum() == counts[counts < least].sum()
        else:
            assert rows.sum() == counts[name]
            assert counts[name] >= least or (counts < least).sum() == 1


# Errors


@pytest.mark.parametrize(
    ("case", "metric"),
    [
        (make_case(**NUMBER), "rmse"),
        (make_case(**NUMBER, log_target=True), "rmse_log"),
        (make_case(**CLASS), "brier"),
    ],
)
def test_errors_are_those_of_the_slice_alone_and_of_all_the_others(case, metric):
    frame, p = table(case)
    labels = frame[["place"]]
    weights = bootstrap_weights(len(frame), 100, 1)
    found = error_by_slice(frame, p, case, labels, weights, confidence=0.9)
    assert found["rows"].sum() == len(frame) and found["share"].sum() == pytest.approx(1)
    for (_, value), row in found.iterrows():
        member = (frame["place"].isna() if value == "missing" else frame["place"] == value).values
        assert row["rows"] == member.sum()
        inside = scores(frame["y"][member], p[member], case)[metric]
        outside = scores(frame["y"][~member], p[~member], case)[metric]
        assert row["error"] == pytest.approx(inside) and row["elsewhere"] == pytest.approx(outside)
        drawn, gaps = [], []
        for counts in weights[1:]:
            chosen = np.repeat(np.arange(len(frame)), counts)
            parts = [chosen[member[chosen]], chosen[~member[chosen]]]
            a, b = (scores(frame["y"].iloc[i], p[i], case)[metric] for i in parts)
            drawn.append(a)
            gaps.append(a - b)
        assert [row["low"], row["high"]] == pytest.approx(np.quantile(drawn, [0.05, 0.95]))
        low, high = np.quantile(gaps, [0.05, 0.95])
        same = max(-low, high) <= 0.1 * outside
        assert row["differs"] == ("yes" if low > 0 or high < 0 else "no" if same else "unclear")


def test_bias_is_above_zero_where_the_model_says_too_little():
    case = make_case(**NUMBER, log_target=True)
    frame, p = table(case)
    north = (frame["place"] == "north").to_numpy()
    frame["y"] = np.where(north, 2 * p, p)
    weights = bootstrap_weights(len(frame), 50, 1)
    found = error_by_slice(frame, p, case, frame[["place"]], weights, confidence=0.95)
    assert found.loc[("place", "north"), "bias"] == pytest.approx(np.log(2))
    assert found.loc[("place", "south"), "bias"] == pytest.approx(0, abs=1e-12)
    assert (found["differs"] == "yes").all()


def test_a_class_shows_what_was_said_and_what_happened():
    case = make_case(**CLASS)
    frame, p = table(case)
    north = (frame["place"] == "north").to_numpy()
    weights = bootstrap_weights(len(frame), 50, 1)
    found = error_by_slice(frame, p, case, frame[["place"]], weights, confidence=0.95)
    row = found.loc[("place", "north")]
    assert row["said"] == pytest.approx(p[north].mean())
    assert row["happened"] == pytest.approx((frame["y"] == "bad")[north].mean())


def test_few_rows_have_no_interval_and_differ_from_nothing():
    case = make_case(**NUMBER)
    frame, p = table(case)
    frame["place"] = ["rare"] * 3 + ["usual"] * (len(frame) - 3)
    frame.loc[:2, "y"] = p[:3] + 100
    weights = bootstrap_weights(len(frame), 200, 1)
    found = error_by_slice(frame, p, case, frame[["place"]], weights, confidence=0.95)
    row = found.loc[("place", "rare")]
    assert row["error"] == pytest.approx(100) and np.isnan(row["low"])
    assert (found["differs"] == "unclear").all()


def test_a_slice_of_all_rows_and_a_perfect_model_and_no_slices():
    case = make_case(**NUMBER)
    frame, p = table(case)
    weights = bootstrap_weights(len(frame), 50, 1)
    every = error_by_slice(
        frame, p, case, pd.DataFrame({"a": ["x"] * len(frame)}), weights, confidence=0.95
    )
    assert every["differs"].tolist() == ["unclear"] and np.isnan(every["elsewhere"].iloc[0])
    perfect = error_by_slice(
        frame, frame["y"].to_numpy(), case, frame[["place"]], weights, confidence=0.95
    )
    assert (perfect["error"] == 0).all() and (perfect["differs"] == "no").all()
    assert error_by_slice(frame, p, case, frame[[]], weights, confidence=0.95).empty


def test_many_rows_can_show_that_a_slice_is_as_good_as_the_others():
    case, rng = make_case(**NUMBER), np.random.default_rng(0)
    weights = bootstrap_weights(6000, 100, 0)
    for factor, said in ((1, "no"), (1.02, "no"), (1.3, "yes")):
        half = np.arange(6000) < 3000
        frame = pd.DataFrame({"y": rng.normal(size=6000) * np.where(half, factor, 1)})
        labels = pd.DataFrame({"a": np.where(half, "x", "z")})
        found = error_by_slice(frame, np.zeros(6000), case, labels, weights, confidence=0.95)
        assert set(found["differs"]) == {said}


def test_slices_that_are_alike_differ_by_chance_alone():
    case, hits = make_case(**NUMBER), []
    for seed in range(40):
        frame, _ = table(case, 300, seed)
        rng = np.random.default_rng(seed)
        frame["y"] = rng.normal(size=len(frame))
        labels = pd.DataFrame({"a": rng.integers(0, 4, len(frame))})
        weights = bootstrap_weights(len(frame), 200, seed)
        found = error_by_slice(frame, np.zeros(len(frame)), case, labels, weights, confidence=0.95)
        hits += list(found["differs"] == "yes")
    assert 0.01 <= np.mean(hits) <= 0.12  # one of twenty is expected, a little more with few rows


# Searching


def test_the_search_finds_the_slice_that_is_wrong_and_measures_it_elsewhere():
    case = make_case(**NUMBER)
    frame, p = table(case, 800)
    bad = (frame["place"] == "west") & (frame["size"] < 40)
    noise = np.random.default_rng(5).normal(size=len(frame))
    frame["y"] = p + np.where(bad, 5, 1) * noise
    found = worst_slices(frame, p, case, seed=1, confidence=0.95)
    first = found.iloc[0]
    assert "place is west" in first["rule"] and "size below" in first["rule"]
    limit = int(first["rule"].split("below ")[1].split()[0])
    assert 35 <= limit <= 45
    assert first["low"] < 5 < first["high"] and first["elsewhere"] == pytest.approx(1, abs=0.2)
    # About half of the rows that the rule names lie in the half that was not searched.
    assert first["rows"] == pytest.approx(bad.sum() / 2, rel=0.4)


def test_pure_chance_looks_no_worse_on_the_other_half():
    case, ratios = make_case(**NUMBER), []
    for seed in range(30):
        frame, p = table(case, 300, seed)
        frame["y"] = p + np.random.default_rng(seed).normal(size=len(frame))
        found = worst_slices(frame, p, case, seed=seed, confidence=0.95)
        ratios += list(found["error"] / found["elsewhere"])
    assert np.mean(ratios) == pytest.approx(1, abs=0.04)


def test_the_rule_in_words_names_the_rows_that_were_measured():
    case = make_case(**NUMBER)
    for seed in range(10):
        frame, p = table(case, 300, seed)
        half = np.sort(np.array_split(np.random.default_rng(seed).permutation(300), 2)[1])
        for row in worst_slices(frame, p, case, seed=seed, confidence=0.95).itertuples():
            member = np.ones(300, dtype=bool)
            for part in row.rule.split(" and "):
                member &= rows_of(part, frame)
            assert row.rows == member[half].sum()
            error = scores(frame["y"].iloc[half][member[half]], p[half][member[half]], case)["rmse"]
            assert row.error == pytest.approx(error)


def rows_of(rule, frame):
    """The rows that one condition in words names, read as a person reads it."""
    column, words = rule.split(" ", 1)
    if column == "size":
        missing = words.endswith(" or missing")
        *_, last = words = words.removesuffix(" or missing").split()
        low, high = {
            "below": (-np.inf, float(last)),
            "at": (float(last), np.inf),
            "from": (float(words[1]) if words[0] == "from" else 0, float(last)),
        }[words[0]]
        inside = (frame["size"] >= low) & (frame["size"] < high)
        return (inside | (missing & frame["size"].isna())).to_numpy()
    value = words.split()[-1]
    return (frame[column].fillna("missing") == value).to_numpy() ^ ("not" in words.split())


def test_an_order_is_told_by_its_names():
    order = [Order(order=["low", "middle", "high"], columns=["grade"])]
    case = make_case(**NUMBER, ordinal=order)
    frame, p = table(case, 400)
    noise = np.random.default_rng(5).normal(size=len(frame))
    for wrong, said in (("low", "grade is low"), ("high", "grade is high")):
        frame["y"] = p + np.where(frame["grade"] == wrong, 9, 1) * noise
        assert said in worst_slices(frame, p, case, seed=0, confidence=0.95)["rule"].iloc[0]
    frame["y"] = p + np.where(frame["grade"] == "low", 1, 9) * noise
    found = worst_slices(frame, p, case, seed=0, depth=1, confidence=0.95)
    assert found["rule"].tolist() == ["grade is middle or higher"]


@pytest.mark.parametrize("case", [make_case(**NUMBER, log_target=True), make_case(**CLASS)])
def test_the_search_is_the_same_again_and_does_not_hang_on_the_last_bit(case):
    frame, p = table(case, 300)
    first = worst_slices(frame, p, case, seed=4, confidence=0.95)
    pd.testing.assert_frame_equal(
        first, worst_slices(frame, p, case, seed=4, confidence=0.95), check_exact=True
    )
    moved = worst_slices(frame, p * (1 + 1e-15), case, seed=4, confidence=0.95)
    assert moved["rule"].tolist() == first["rule"].tolist()


def test_tables_with_nothing_to_ask_have_no_worst_slice():
    case = make_case(**NUMBER)
    frame, p = table(case)
    constant = frame.assign(size=1.0, place="x", grade=None)
    for rows, said in ((constant, p), (frame, frame["y"].to_numpy()), (frame[:6], p[:6])):
        assert worst_slices(rows, said, case, seed=0, confidence=0.95).empty
    empty = frame.assign(size=np.nan)
    assert (
        not worst_slices(empty, p, case, seed=0, confidence=0.95)["rule"].str.contains("size").any()
    )


# Oddities


def test_oddities_are_told_rarest_first():
    case = make_case(**NUMBER)
    train = pd.DataFrame(
        {
            "area": np.arange(1000.0),
            "rooms": [1.0] * 500 + [2.0] * 499 + [12.0],
            "kind": ["usual"] * 995 + ["seldom"] * 5,
            "lot": [np.nan] * 2 + list(np.arange(998.0)),
            "y": 1.0,
            "same": 5,
        }
    )
    rows = pd.DataFrame(
        {
            "area": [995.0, 500.0, 39290.0, 3.0],
            "rooms": [1.0, 2.0, 12.0, 12.0],
            "kind": ["usual", "usual", "other", "seldom"],
            "lot": [5e2, 5e2, 5e2, np.nan],
            "y": 99.0,
            "same": 6,
        }
    )
    assert oddities(rows, train, case) == [
        "area 995 is above 99.5 % of the training rows",
        "nothing odd in any column",
        "area 39,290 is above all training rows; kind is other, as in none of the training rows; "
        "rooms 12 is above 99.9 % of the training rows",
        "rooms 12 is above 99.9 % of the training rows; lot is missing, as in 2 of 1,000 training "
        "rows; area 3 is below 99.6 % of the training rows",
    ]
    assert [len(text.split("; ")) for text in oddities(rows, train, case, most=1)] == [1] * 4


def test_only_a_number_beyond_all_is_said_to_be():
    case = make_case(**NUMBER)
    train = pd.DataFrame({"a": np.arange(5000.0), "y": 0.0})
    assert oddities(pd.DataFrame({"a": [4999.0, 4999.5]}), train, case) == [
        "a 4999 is above 99.9 % of the training rows",
        "a 4999.5 is above all training rows",
    ]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1, 3, 150]))
def test_about_one_row_in_fifty_is_odd_in_a_column_of_numbers(seed, distinct):
    case, rng = make_case(**NUMBER), np.random.default_rng(seed)
    train = pd.DataFrame({"a": rng.integers(0, distinct * 20, 400).astype(float), "y": 0.0})
    told = oddities(train, train, case)
    for value, text in zip(train["a"], told, strict=True):
        tail = min((train["a"] >= value).mean(), (train["a"] <= value).mean())
        assert (text != "nothing odd in any column") == (tail <= 0.01)


# Figures


def test_the_figure_is_told_and_shows_at_most_twelve_values(monkeypatch):
    shown = {}
    monkeypatch.setattr(figures, "show", lambda fig, alt: shown.update(fig=fig, alt=alt))
    case = make_case(**NUMBER)
    frame, p = table(case, 600)
    frame["many"] = [f"v{i % 20:02}" for i in range(len(frame))]
    frame["y"] = np.where(frame["many"] == "v03", p + 50, p + 0.1)
    weights = bootstrap_weights(len(frame), 100, 0)
    found = error_by_slice(frame, p, case, frame[["many", "grade"]], weights, confidence=0.95)
    plot_slices(found, case)
    first, second = shown["fig"].axes
    assert len(first.get_yticks()) == 12 and len(second.get_yticks()) == 3
    assert first.get_yticklabels()[0].get_text() == "v03 (30 rows)"  # the worst stands first
    assert "many: v03" in shown["alt"] and "RMSE" in shown["alt"]
    # The line is the error of all rows.
    every = first.lines[0].get_xdata()[0]
    assert every == pytest.approx(scores(frame["y"], p, case)["rmse"])
