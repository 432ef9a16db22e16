"""A table is read as it was written, cleaned by its rules, and split without a leak."""

import csv
import datetime
import decimal
import hashlib
import math
import re
import tracemalloc

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from conftest import BLOCKS, ROOT
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from ruamel.yaml import YAML

from truefit.case import ABSENT
from truefit.data_prep import (
    check,
    checksums,
    clean,
    collect,
    column_roles,
    infer_schema,
    leak_by_scaling,
    leak_by_selection,
    read_table,
    set_aside,
    split,
)
from truefit.data_prep.explore import outliers, robust_line, target_numbers
from truefit.project import InputError
from truefit.task import make_case

SHARES = {"test_share": 0.25, "seed": 1}
CHOICE = {"production_share": 0.2, "seed": 1}


def case(**keys):
    """A block of params.yaml; a regression on ``y`` unless the keys say otherwise."""
    return make_case(**{"table": "t.csv", "target": "y", "task": "regression"} | keys)


def table(rows=100, **columns):
    """A clean table: a number ``a``, a text ``b`` and the target ``y``, which is positive."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=rows).round(3),
            "b": rng.choice(["red", "green", "blue"], rows),
            "y": rng.integers(1, 1000, rows),
        }
    ).assign(**columns)


@pytest.fixture(scope="session")
def read(tmp_path_factory):
    """Read a CSV file of the given content by the rules of a case."""
    source = tmp_path_factory.mktemp("tables") / "t.csv"

    def read_content(content, **keys):
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(source, case(**keys), name="t.csv")

    return read_content


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A project with nothing in it yet; what `collect` reads lies in its folder."""
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").touch()
    monkeypatch.setenv("TRUEFIT_PROJECT", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def homes():
    """The tests' table of houses as it is read, and its block."""
    block = make_case(**YAML(typ="safe").load(BLOCKS)["homes"])
    return read_table(ROOT / block.table, block), block


def refusal(action, *arguments, **keys):
    """The sentence that an action is refused with."""
    with pytest.raises(InputError) as caught:
        action(*arguments, **keys)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


# Reading


def test_texts_that_others_take_for_missing_are_values(read):
    texts = ["None", "NA", "null", "nan", "inf", "N/A", "-", "#N/A", "NULL", "1_000"]
    frame = read("y,a\n" + "".join(f"1,{text}\n" for text in texts))
    assert frame["a"].tolist() == texts


def test_an_empty_cell_is_missing_or_absent_and_trailing_blanks_go(read):
    frame = read("y,a,b\n1,x  ,\n2,  ,z\t\n", absent=["b"])
    assert frame["a"].isna().tolist() == [False, True]
    assert frame["a"][0] == "x"
    assert frame["b"].tolist() == [ABSENT, "z"]


def test_a_number_that_is_absent_stays_a_number(read):
    frame = read("y,a\n1,\n2,1999\n", absent=["a"])
    assert frame["a"].dtype == "float64"
    assert frame["a"].isna().tolist() == [True, False]


def test_texts_listed_under_missing_are_missing(read):
    frame = read("y,a\n1,-999\n2,?\n3,4\n", missing=["-999", "?"])
    assert frame["a"].isna().tolist() == [True, True, False]
    assert frame["a"].dtype == "float64"


@pytest.mark.parametrize(
    ("cells", "values", "dtype"),
    [
        (["7", "+8", "-9"], [7, 8, -9], "int64"),
        (["0", "-0"], [0, 0], "int64"),
        ([str(2**63 - 1), "1"], [2**63 - 1, 1], "int64"),
        (["0.1", "1.", ".5", "1e-3", "2E5"], [0.1, 1.0, 0.5, 0.001, 200000.0], "float64"),
        ([" 7", "  8"], [7, 8], "int64"),
        ([str(2**53), ""], [2.0**53, math.nan], "float64"),
        (["007", "8"], ["007", "8"], "str"),
        ([str(2**63), "1"], [str(2**63), "1"], "str"),
        ([str(2**53 + 1), ""], [str(2**53 + 1), math.nan], "str"),
        (["9" * 5000, "1"], ["9" * 5000, "1"], "str"),
        (["1٣", "2"], ["1٣", "2"], "str"),
        (["0x1F", "2"], ["0x1F", "2"], "str"),
        (["1,5", "2"], ["1,5", "2"], "str"),
        (["True", "False"], ["True", "False"], "str"),
    ],
)
def test_a_column_is_of_numbers_when_every_cell_is_one_exactly(read, cells, values, dtype):
    frame = read("y;a\n" + "".join(f"1;{cell}\n" for cell in cells), separator=";")
    pd.testing.assert_series_equal(frame["a"], pd.Series(values, name="a", dtype=dtype))


def test_codes_ranks_and_classes_stay_text(read):
    keys = {"task": "classification", "positive": "1", "codes": ["a"]}
    ranks = {"order": ["1", "2", "3"], "columns": ["b"]}
    frame = read("y,a,b\n0,20,1\n1,30,3\n", **keys, ordinal=[ranks])
    assert frame.to_dict("list") == {"y": ["0", "1"], "a": ["20", "30"], "b": ["1", "3"]}
    assert target_numbers(frame, case(**keys)).tolist() == [0.0, 1.0]


def test_quotes_hold_separators_quotes_and_line_ends(read):
    frame = read('y,a\n1,"x, ""y""\nz"\n\n2,w\n')
    assert frame["a"].tolist() == ['x, "y"\nz', "w"]


def test_a_byte_order_mark_windows_line_ends_and_umlauts_are_no_matter(read):
    frame = read("\ufeffy, Größe \r\n1,schön\r\n".encode())
    assert frame.to_dict("list") == {"y": [1], "Größe": ["schön"]}


TEXTS = st.text(st.characters(exclude_categories=["C"]), max_size=8)
COLUMNS = st.one_of(
    st.lists(TEXTS, min_size=3, max_size=3),
    st.lists(st.integers(-(2**63) + 1, 2**63 - 1), min_size=3, max_size=3),
    st.lists(st.integers(-(2**53), 2**53) | st.none(), min_size=3, max_size=3),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
    st.lists(st.floats(-1e38, 1e38) | st.none(), min_size=3, max_size=3),
)


@given(columns=st.lists(COLUMNS, min_size=1, max_size=4), separator=st.sampled_from(",;\t|"))
def test_any_table_that_is_written_comes_back_equal(tmp_path_factory, columns, separator):
    source = tmp_path_factory.getbasetemp() / "round-trip.csv"
    names = [f"c{i}" for i in range(len(columns))]
    with source.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerows([["y", *names], *zip("123", *columns, strict=True)])
    texts = [n for n, c in zip(names, columns, strict=True) if isinstance(c[0], str)]
    frame = read_table(source, case(separator=separator, codes=texts))
    assert list(frame) == ["y", *names]
    for name, column in zip(names, columns, strict=True):
        expected = [c.rstrip() or None if name in texts else c for c in column]
        found = [None if pd.isna(value) else value for value in frame[name].tolist()]
        assert found == expected


def is_too_large(cell):
    """For the model's float32; such a table is refused, which another test shows."""
    try:
        return abs(float(cell)) > 3.4e38
    except ValueError:
        return False


@given(column=st.lists(TEXTS.filter(lambda t: not is_too_large(t)), min_size=1, max_size=6))
def test_any_text_is_read_as_itself_or_as_the_number_it_is(tmp_path_factory, column):
    source = tmp_path_factory.getbasetemp() / "text.csv"
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["y", "a"], *([1, cell] for cell in column)])
    for cell, value in zip(column, read_table(source, case())["a"].tolist(), strict=True):
        if isinstance(value, str):
            assert value == cell.rstrip()
        elif pd.isna(value):
            assert not cell.strip()
        else:
            assert value == float(cell)


# Parquet


def test_parquet_and_csv_give_the_same_frame(tmp_path):
    frame = table(
        30,
        whole=pd.array([None, *range(29)], dtype="Int64"),
        code=pd.array([*range(29), None], dtype="Int64"),
        big=pd.Series(range(30), dtype="uint64") + 2**63,
        kind=pd.Categorical(["a", "b ", None] * 10),
        flag=pd.array([True, False, None] * 10, dtype="boolean"),
        yes=[True, False] * 15,
        day=pd.date_range("2024-01-01", periods=30),
        gaps=[None, -999.0, 2.5] * 10,
        empty=[None] * 30,
        none=["None", "nan", " "] * 10,
    )
    block = case(codes=["code"], absent=["kind"], missing=["-999", "-999.0"])
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", block)
    pd.testing.assert_frame_equal(found, read_table(tmp_path / "t.csv", block))
    assert found["code"].tolist()[:2] == ["0", "1"]
    assert found["whole"].isna().sum() == 1


def test_the_index_of_a_frame_saved_as_parquet_is_a_column_only_if_it_has_a_name(tmp_path):
    source = tmp_path / "t.parquet"
    table(5).query("y > 0").iloc[::2].to_parquet(source)
    assert list(read_table(source, case())) == ["a", "b", "y"]
    table(5, pid=[3, 1, 4, 5, 9]).set_index("pid").to_parquet(source)
    assert sorted(read_table(source, case(id="pid"))) == ["a", "b", "pid", "y"]


# What is no table


RULE = {"when": "a > 1 and b > 1", "reason": "odd"}


@pytest.mark.parametrize(
    ("content", "keys", "culprits"),
    [
        (b"", {}, ["t.csv is empty"]),
        ("y,a\n", {}, ["t.csv has a header but no rows"]),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, ["t.csv is not a CSV table", "UTF-8"]),
        (b"\0\1\2\3,\4\n", {}, ["t.csv is not a CSV table", "binary"]),
        ("y,a\n1,é\n".encode("latin-1"), {}, ["t.csv is not a CSV table", "UTF-8"]),
        ("y,a\n1,2\n3\n", {}, ["t.csv, line 3", "1 cells", "header has 2"]),
        ("y,a\n1,2,3\n", {}, ["t.csv, line 2", "3 cells"]),
        ('y,a\n1,"2\n', {}, ["t.csv is not a CSV table"]),
        ("y,a,a\n1,2,3\n", {}, ["t.csv", "'a' stands more than once"]),
        ("y,,a\n1,2,3\n", {}, ["t.csv", "column 2 has no name"]),
        ('y,"a\nb"\n1,2\n', {}, ["t.csv", "the name of column 2, 'a\\nb',", "line break"]),
        ("y;a\n1;2\n", {}, ["t.csv", "';'", "separator"]),
        ("x,a\n1,2\n", {}, ["t.csv has no column 'y'", "target", "x, a"]),
        ("y,a\n1,2\n", {"id": "pid"}, ["no column 'pid'", "id"]),
        ("y,a\n1,2\n", {"absent": ["b"]}, ["no column 'b'", "absent"]),
        ("y,a\n1,2\n", {"drop_columns": {"b": "why"}}, ["no column 'b'", "drop_columns"]),
        ("y,a\n1,2\n", {"drop_rows": [RULE]}, ["no column 'b'", "drop_rows"]),
        ("y,a\n1,2\n", {"blank": [{"column": "a", **RULE}]}, ["no column 'b'", "blank"]),
        ("y,a\n1,2\n", {"window": {"name": "w", "by": ["b // 2"]}}, ["no column 'b'", "window"]),
        (
            "y,a\n1,2\n",
            {"behaviour": [{"name": "n", "when": "b > 1", "at_least": 1}]},
            ["no column 'b'", "when of behaviour"],
        ),
        ("y,a\n1,7\n2,8\n3,7\n", {"id": "a"}, ["the id a repeats", "7", "rows 1, 3"]),
        ("y,a\n1,7\n2,\n", {"id": "a"}, ["the id a is missing in row 2"]),
        ("y,a\n1,2\n3,1e999\n", {}, ["t.csv", "a is inf in row 2"]),
    ],
)
def test_a_file_that_is_not_the_table_of_its_case_is_refused_by_name(read, content, keys, culprits):
    sentence = refusal(read, content, **keys)
    for culprit in culprits:
        assert culprit in sentence


def test_a_text_named_parquet_a_cut_parquet_file_and_another_suffix_are_refused(tmp_path):
    source = tmp_path / "t.parquet"
    source.write_text("y,a\n1,2\n", encoding="utf-8")
    assert "t.parquet is not a Parquet table" in refusal(read_table, source, case())
    table().to_parquet(source)
    source.write_bytes(source.read_bytes()[:-50])
    assert "t.parquet is not a Parquet table" in refusal(read_table, source, case())
    table().head(0).to_parquet(source)
    assert "no rows" in refusal(read_table, source, case())
    other = source.rename(tmp_path / "t.xlsx")
    assert ".csv or .parquet" in refusal(read_table, other, case())
    assert "there is no such file" in refusal(read_table, source, case())


# Folders with a split of their own


def test_a_folder_brings_its_own_split(folder):
    (folder / "mine").mkdir()
    parts = {"train": table(60), "test": table(30), "production": table(9)}
    for name, part in parts.items():
        part.to_csv(folder / "mine" / f"{name}.csv", index=False)
    (folder / "mine" / "notes.csv").touch()
    block = case(table="mine")
    development, production = set_aside(collect(block), block, **CHOICE)
    found = split(clean(development, block)[0], block, **SHARES)._asdict()
    for name, part in {**found, "production": production}.items():
        pd.testing.assert_frame_equal(part, parts[name], check_dtype=False)
    assert list(checksums(block)) == [f"mine/{n}.csv" for n in ("production", "test", "train")]


def test_a_folder_needs_no_production_file_and_takes_parquet(folder):
    (folder / "mine").mkdir()
    table(60).to_parquet(folder / "mine" / "train.parquet")
    assert "needs a test.csv or test.parquet" in refusal(collect, case(table="mine"))
    table(30).to_csv(folder / "mine" / "test.csv", index=False)
    _, production = set_aside(collect(case(table="mine")), case(table="mine"), **CHOICE)
    assert len(production) == 0
    table(60).to_csv(folder / "mine" / "train.csv", index=False)
    assert "train.csv and train.parquet" in refusal(collect, case(table="mine"))


@pytest.mark.parametrize(
    ("test", "culprits"),
    [
        (table(30).drop(columns="a"), ["'a'", "in train", "not in mine/test.csv"]),
        (table(30, z=1), ["'z'", "in mine/test.csv", "not in train"]),
        (table(30, a=[*"1" * 29, "x"]), ["mine/test.csv: a is 'x' in row 30"]),
        (table(30, i=range(59, 89)), ["id i 59", "in train and in test"]),
    ],
)
def test_the_parts_of_a_folder_must_be_of_one_table(folder, test, culprits):
    (folder / "mine").mkdir()
    has_id = "i" in test
    train = table(60, **({"i": range(60)} if has_id else {}))
    train.to_csv(folder / "mine" / "train.csv", index=False)
    test.to_csv(folder / "mine" / "test.csv", index=False)
    sentence = refusal(collect, case(table="mine", id="i" if has_id else None))
    for culprit in culprits:
        assert culprit in sentence


def test_the_training_rows_say_what_type_a_column_has(folder):
    (folder / "mine").mkdir()
    table(60, t=[*"1" * 59, "A"], n=1.5).to_csv(folder / "mine" / "train.csv", index=False)
    table(30, t="1", n=None).to_csv(folder / "mine" / "test.csv", index=False)
    tables = collect(case(table="mine"))
    assert (tables["train"].dtypes == tables["test"].dtypes).all()
    assert set(tables["test"]["t"]) == {"1"}


def test_a_table_may_lie_anywhere(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "t.csv"
    table().to_csv(elsewhere, index=False)
    assert len(collect(case(table=str(elsewhere)))["all"]) == 100
    assert list(checksums(case(table=str(elsewhere)))) == [elsewhere.as_posix()]


# Tables that people know


def test_the_houses_are_read_as_they_were_published(homes):
    frame, _ = homes
    assert frame.shape == (1200, 40)
    assert (frame["mas_vnr_type"] == "None").sum() == 713
    assert (frame["fence"] == ABSENT).sum() == 968
    assert frame["lot_frontage"].isna().sum() == 194
    assert "WD" in set(frame["sale_type"])
    assert frame["ms_subclass"].dtype == "str"
    texts = frame.select_dtypes("str").stack()
    assert not texts.str.contains(r"\s$").any()


def test_the_checksums_are_those_of_the_shipped_tables():
    raw = ROOT / "data" / "raw"
    stated = dict(
        reversed(line.split())
        for line in (raw / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    )
    # A user may have taken tables away.
    for file in (raw / name for name in stated if (raw / name).exists()):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == stated[file.name]
    readme = (raw / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"[0-9a-f]{64}", readme)) == set(stated.values())


def test_every_value_of_an_ordered_column_of_the_houses_stands_in_its_order(homes):
    frame, block = homes
    for column in (c for rule in block.ordinal for c in rule.columns):
        assert set(frame[column].dropna()) <= set(block.order_of(column))


# Cleaning


def test_cleaning_rules_touch_their_rows_and_no_others():
    frame = table(y=[None, *range(1, 100)], b=["red", None, *["green"] * 98])
    block = case(
        blank=[{"column": "a", "when": "y > 90", "reason": "slips"}],
        drop_rows=[{"when": "b == 'red' or y <= 10", "reason": "odd"}],
    )
    before = frame.copy()
    cleaned, log = clean(frame, block)
    assert cleaned["y"].tolist() == list(range(11, 100))
    assert cleaned.loc[cleaned["y"] > 90, "a"].isna().all()
    rest = cleaned[cleaned["y"] <= 90]
    pd.testing.assert_frame_equal(rest, before.loc[rest.index])
    pd.testing.assert_frame_equal(frame, before)
    assert log["rows"].tolist() == [9, 1, 10]
    assert log["reason"].tolist() == ["slips", "nothing to learn from", "odd"]


def test_a_blanked_target_is_a_row_to_drop():
    block = case(blank=[{"column": "y", "when": "y > 500", "reason": "slips"}])
    cleaned, _ = clean(table(), block)
    assert cleaned["y"].notna().all()
    assert len(cleaned) == (table()["y"] <= 500).sum()


def test_rows_that_repeat_count_once_when_the_case_says_so():
    frame = pd.concat([table(), table().head(7)], ignore_index=True)
    assert len(clean(frame, case())[0]) == 107
    cleaned, log = clean(frame, case(drop_repeats="one offer"))
    pd.testing.assert_frame_equal(cleaned, table())
    assert log.iloc[0].tolist() == ["drop rows that repeat", 7, "one offer"]


@pytest.mark.parametrize(
    "when", ["a >>> 3", "zz > 3", "a", "a = 3", "True", "", "b > 3", "(a >\n3"]
)
def test_a_rule_that_is_no_condition_is_refused_by_name(when):
    block = case(drop_rows=[{"when": when, "reason": "odd"}])
    assert f"the expression {when!r}" in refusal(clean, table(), block)


def test_rules_that_leave_no_row_are_refused():
    block = case(drop_rows=[{"when": "y > 0", "reason": "odd"}])
    assert "leave no row" in refusal(clean, table(), block)


def test_the_houses_lose_their_largest_and_one_impossible_year(homes):
    frame, block = homes
    development, production = set_aside({"all": frame}, block, **CHOICE)
    cleaned, log = clean(development, block)
    assert (development["gr_liv_area"] > 4000).sum() == len(development) - len(cleaned) > 0
    assert development["garage_yr_blt"].max() > 2010 >= cleaned["garage_yr_blt"].max()
    changed = cleaned.compare(development.loc[cleaned.index])
    assert set(changed.columns.get_level_values(0)) == {"garage_yr_blt"}
    assert len(changed) == log.loc[log["rule"].str.startswith("blank"), "rows"].sum()
    live = frame[frame["yr_sold"] >= 2009].sort_values("yr_sold", kind="stable")
    pd.testing.assert_frame_equal(production, live.reset_index(drop=True))


# Splitting


@given(seed=st.integers(0, 2**31 - 1), share=st.floats(0.25, 0.75), positives=st.integers(20, 80))
def test_a_split_is_repeatable_disjoint_complete_and_stratified(seed, share, positives):
    block = case(id="i", task="classification", positive="p")
    frame = table(i=range(100), y=["p"] * positives + ["n"] * (100 - positives))
    train, test = split(frame, block, test_share=share, seed=seed)
    again = split(frame, block, test_share=share, seed=seed)
    pd.testing.assert_frame_equal(train, again.train)
    pd.testing.assert_frame_equal(test, again.test)
    both = pd.concat([train, test]).sort_values("i", ignore_index=True)
    pd.testing.assert_frame_equal(both, frame)
    assert abs((test["y"] == "p").sum() - positives * len(test) / 100) <= 1
    assert abs(len(test) - 100 * share) <= 1


def test_another_seed_gives_another_split():
    one, other = (split(table(), case(), test_share=0.25, seed=s) for s in (1, 2))
    assert not one.test.equals(other.test)


@pytest.mark.parametrize(
    ("times", "start"),
    [(range(100), 70), ([f"2024-{1 + i % 9:02}" for i in range(100)], "2024-07")],
)
def test_live_traffic_is_every_row_from_its_start_on_in_order_of_time(times, start):
    frame = table(t=list(times)).sample(frac=1, random_state=0, ignore_index=True)
    block = case(time="t", production_from=start)
    development, production = set_aside({"all": frame}, block, **CHOICE)
    assert (production["t"] >= start).all() and (development["t"] < start).all()
    assert len(development) + len(production) == 100
    assert production["t"].is_monotonic_increasing


def test_rows_that_are_too_old_are_neither_learned_from_nor_live_traffic():
    frame = table(t=list(range(100)))
    block = case(time="t", learn_from=40, production_from=70)
    development, production = set_aside({"all": frame}, block, **CHOICE)
    assert development["t"].to_list() == list(range(40, 70))
    assert production["t"].to_list() == list(range(70, 100))


def test_without_time_a_share_of_the_rows_that_the_seed_chooses_is_live_traffic():
    frame = table(i=range(100))
    development, production = set_aside({"all": frame}, case(), **CHOICE)
    assert len(production) == 20
    assert sorted([*development["i"], *production["i"]]) == list(range(100))
    again = set_aside({"all": frame}, case(), **CHOICE)[1]
    other = set_aside({"all": frame}, case(), production_share=0.2, seed=2)[1]
    assert again.equals(production) and not other.equals(production)


def test_nothing_of_the_test_or_live_rows_reaches_the_training_rows():
    frame = table(200, i=range(200), t=range(200))
    block = case(
        id="i", time="t", production_from=150, drop_repeats="copies",
        blank=[{"column": "a", "when": "a > 2", "reason": "slips"}],
    )  # fmt: skip

    def prepared(rows):
        development, production = set_aside({"all": rows}, block, **CHOICE)
        return *split(clean(development, block)[0], block, **SHARES), production

    train, test, production = prepared(frame)
    strangers = frame["i"].isin([*test["i"], *production["i"]])
    changed = frame.assign(
        a=frame["a"].mask(strangers, -50.0),
        b=frame["b"].mask(strangers, "violet"),
        y=frame["y"].mask(strangers, 10**6),
    )
    pd.testing.assert_frame_equal(prepared(changed)[0], train)
    assert set(prepared(changed)[1]["b"]) == {"violet"}


@pytest.mark.parametrize(
    ("frame", "keys", "culprits"),
    [
        (table(y=3), {}, ["target y is 3 in every row"]),
        (table(y=["5", "six"] * 50), {}, ["target y", "'six'", "not a number"]),
        (table(y=["5", "inf"] * 50), {}, ["target y", "'inf'", "not a number"]),
        (table(y=None), {}, ["target y is empty in every row"]),
        (table(y=[*range(100)]), {"log_target": True}, ["target y is 0", "logarithm"]),
        (table(y=[*"abc"] * 33 + ["a"]), {"positive": "a"}, ["target y has 3 classes"]),
        (table(y=[*"ab"] * 50), {"positive": "c"}, ["'c' in 0 of the rows"]),
        (table(y=["a"] * 4 + ["b"] * 96), {"positive": "a"}, ["is 'a' in 4 of the rows"]),
        (table(60), {}, ["only 15 rows to test with"]),
        (table()[["y"]], {}, ["t.csv has no column to predict y from"]),
        (
            table(),
            {"ordinal": [{"order": ["red", "green"], "columns": ["b"]}]},
            ["b holds 'blue'", "ordinal"],
        ),
    ],
)
def test_a_target_or_a_table_that_cannot_be_learned_from_is_refused_by_name(frame, keys, culprits):
    task = {"task": "classification"} if "positive" in keys else {}
    sentence = refusal(split, frame, case(**keys, **task), **SHARES)
    for culprit in ["t.csv", *culprits]:
        assert culprit in sentence


def test_a_start_of_live_traffic_that_fits_no_time_is_refused_by_name():
    tables = {"all": table(t=range(100))}
    late = case(time="t", production_from="May")
    assert "production_from is 'May'" in refusal(set_aside, tables, late, **CHOICE)
    early = case(time="t", production_from=0)
    assert "production_from 0 leaves no row" in refusal(set_aside, tables, early, **CHOICE)
    none = case(time="t", production_from=50, learn_from=60)
    assert "learn_from 60 leaves no row" in refusal(set_aside, tables, none, **CHOICE)
    other = case(time="t", production_from=50, learn_from="May")
    assert "learn_from is 'May'" in refusal(set_aside, tables, other, **CHOICE)


# What a column is for


def test_each_column_has_one_role_and_constants_are_not_learned_from():
    frame = table(i=range(100), t=range(100), same="x", q=["lo", "hi"] * 50, note="n")
    block = case(
        id="i", time="t", production_from=90, drop_columns={"note": "typed by hand"},
        ordinal=[{"order": ["lo", "hi"], "columns": ["q"]}],
    )  # fmt: skip
    roles = column_roles(frame, block)
    assert roles["role"].to_dict() == {
        "a": "number", "b": "category", "y": "target", "i": "id", "t": "time",
        "same": "dropped", "q": "ordered", "note": "dropped",
    }  # fmt: skip
    assert roles.loc["note", "why"] == "typed by hand"


def test_an_order_is_kept_with_absent_below_it(homes):
    frame, block = homes
    schema = infer_schema(frame, block)["columns"]
    assert schema["exter_qual"]["categories"] == ["Fa", "TA", "Gd", "Ex"]
    assert schema["pool_qc"]["categories"] == [ABSENT, "TA", "Gd", "Ex"]  # no pool is Po or Fa
    assert schema["street"]["categories"] == sorted(schema["street"]["categories"])


def test_a_long_table_is_searched_for_outliers_in_bounded_memory():
    rows = 10_000  # of which all pairs would take 800 MB for each array of them
    x = np.random.default_rng(0).normal(size=rows)
    frame = pd.DataFrame({"a": x, "y": 3 * x + 0.1 * np.sin(np.arange(rows))})
    frame.loc[777, "y"] = 99.0
    tracemalloc.start()
    line = robust_line(frame, case(), pd.DataFrame(index=["a"]))
    found = outliers(frame, case(), line)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.index[0] == 778  # counted from 1
    assert peak < 500e6


# The schema


@pytest.fixture
def contract(folder):
    """Training rows, their block and their schema."""
    frame = table(i=range(100), gap=[None, *range(99)])
    frame.to_csv(folder / "t.csv", index=False)
    return frame, infer_schema(frame, case(id="i", units={"a": "feet"}))


def test_a_schema_describes_the_training_rows_and_they_conform_to_it(contract):
    frame, schema = contract
    assert check(frame, schema).empty
    assert schema["rows"] == 100
    assert list(schema["source"]) == ["t.csv"]
    assert schema["columns"]["a"] == {
        "type": "number", "role": "number", "unit": "feet", "missing_share": 0.0,
        "minimum": frame["a"].min(), "maximum": frame["a"].max(),
        "typical": frame["a"].sort_values().iloc[(len(frame) - 1) // 2],
    }  # fmt: skip
    assert schema["columns"]["b"]["categories"] == ["blue", "green", "red"]
    assert schema["columns"]["b"]["typical"] == frame["b"].value_counts().index[0]
    assert schema["columns"]["i"] == {
        "type": "integer", "role": "id", "missing_share": 0.0, "unique": True,
    }  # fmt: skip
    assert schema["columns"]["gap"]["missing_share"] == 0.01


@pytest.mark.parametrize(
    ("column", "value", "violation", "example"),
    [
        ("b", "violet", "category not seen in training", "violet"),
        ("a", 99.5, "the range in training", "99.5"),
        ("a", None, "missing, though never missing in training", "nan"),
        ("i", 1, "repeats, though it names a row", "1"),
    ],
)
def test_a_row_that_breaks_the_schema_is_named(contract, column, value, violation, example):
    frame, schema = contract
    frame.loc[0, column] = value
    found = check(frame, schema)
    assert len(found) == 1
    assert found.loc[0, "column"] == column
    assert violation in found.loc[0, "violation"]
    assert found.loc[0, "example"].lower() == example
    assert found.loc[0, "rows"] == (2 if column == "i" else 1)


def test_a_column_that_vanished_or_holds_texts_among_its_numbers_is_named(contract):
    frame, schema = contract
    found = check(frame.drop(columns="a"), schema)
    assert found[["column", "violation"]].values.tolist() == [["a", "the column is not there"]]
    found = check(frame.assign(a=["much", "more", "1.5", *"0" * 97]), schema)
    assert found.values.tolist() == [["a", "not a number", 2, "much"]]


def test_gaps_where_training_had_some_and_a_new_target_or_time_break_nothing(contract):
    frame, schema = contract
    assert check(frame.assign(gap=np.nan, y=10**9).drop(columns="y"), schema).empty


# What a leak would claim


def test_choosing_features_before_the_split_invents_a_model_out_of_noise():
    y = np.random.default_rng(5).normal(size=200)
    leaky, honest = leak_by_selection(y, noise_columns=2000, **SHARES)
    assert honest < 0.1 < leaky
    few, _ = leak_by_selection(y, noise_columns=20, **SHARES)
    assert few < leaky


def test_scaling_before_the_split_changes_the_score_a_little():
    rng = np.random.default_rng(5)
    x = rng.lognormal(size=(200, 3))
    leaky, honest = leak_by_scaling(x, x.sum(axis=1) + rng.normal(size=200), **SHARES)
    assert leaky != honest
    assert abs(leaky - honest) < 0.1
    assert np.isnan(leak_by_scaling(np.empty((200, 0)), x[:, 0], **SHARES)).all()


def test_a_code_from_parquet_is_the_code_from_csv_even_where_some_are_missing(tmp_path):
    table = pd.DataFrame({"zone": [20.0, np.nan, 30.0], "y": [1.5, 2.5, 3.5]})
    table.to_parquet(tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", case(codes=["zone"]))
    assert found["zone"].tolist()[::2] == ["20", "30"] and found["zone"].isna()[1]


# Each as a list of Python values, with a gap in the middle.
STRANGE = {
    "binary": [b"caf\xc3\xa9", b"ab"],
    "no_text": [b"\xff\x00", b"ab"],
    "list": [[1, 2], []],
    "struct": [{"x": 1, "y": b"\xff"}, {"x": None, "y": None}],
    "decimal": [decimal.Decimal("1.50"), decimal.Decimal("2.00")],
    "date": [datetime.date(2024, 1, 1), datetime.date(9999, 1, 1)],
    "time": [datetime.time(1, 2), datetime.time(0, 0)],
    "duration": [datetime.timedelta(days=1), datetime.timedelta(0)],
    "zoned": [datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC), datetime.datetime.max],
    "half": pa.array([1.5, None, 2.5], pa.float16()),
    "null": [None, None],
    "dictionary": pa.array(["a", None, "b"]).dictionary_encode(),
}


@pytest.mark.parametrize("name", STRANGE)
def test_no_type_of_parquet_stops_the_reading(name, tmp_path):
    values = STRANGE[name]
    if isinstance(values, list):
        values = pa.array([values[0], None, values[1]])
    columns = pa.table({"x": values, "a": [1.0, 2.0, 3.0], "y": [1, 2, 3]})
    parquet.write_table(columns, tmp_path / "t.parquet")
    found = read_table(tmp_path / "t.parquet", case())
    assert found.dtypes.astype(str).isin(["float64", "int64", "str"]).all()
    assert found["a"].tolist() == [1.0, 2.0, 3.0]
    assert found["x"].isna()[1]
    if name == "binary":
        assert found["x"].tolist()[::2] == ["café", "ab"]
