"""What params.yaml may say, and what a person is told when it says something else."""

import ast
import json

import pytest
from conftest import ROOT, write_params
from hypothesis import given
from hypothesis import strategies as st

from truefit import params
from truefit.project import InputError
from truefit.steps import STEPS
from truefit.task import BinaryClassification

BLOCK = """\
cases:
  mine:
    table: data/mine.csv
    target: price
    task: regression
"""
SHIPPED = (ROOT / "params.yaml").read_text(encoding="utf-8")
SECTIONS = SHIPPED[SHIPPED.index("data_prep:\n") :]
# Without the longest section, which may be left out and takes long to read.
SPACES = SECTIONS[SECTIONS.index("# What a search may change") : SECTIONS.index("compute:")]
SECTIONS = SECTIONS.replace(SPACES, "")


@pytest.fixture
def load(tmp_path):
    """Load a params.yaml of the given content."""

    def load_text(content):
        source = tmp_path / "params.yaml"
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        return params.load(source)

    return load_text


def refusal(action, *arguments):
    """The sentence that an action is refused with."""
    with pytest.raises(InputError) as caught:
        action(*arguments)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def fault(load, content):
    """What is wrong with the block ``mine``, and stops that case alone."""
    loaded = load(content)
    assert list(loaded.faults) == ["mine"] and not loaded.cases
    sentence = refusal(loaded.case, "mine")
    assert sentence == loaded.faults["mine"]
    return sentence


def with_line(line):
    """The smallest file, with one more line in the block of its case."""
    return f"{BLOCK}    {line}\n{SECTIONS}"


def test_the_shipped_file_loads(tmp_path):
    shipped = params.load(write_params(tmp_path / "params.yaml"))
    assert list(shipped.cases) == ["homes", "loans", "machines"] and not shipped.faults
    assert shipped.case("homes").log_target is True
    assert shipped.case("homes").production_from == 2009
    assert shipped.case("loans").positive == "bad"
    assert shipped.case("machines").table == "tests/tables/machines.csv"
    assert not params.load(ROOT / "params.yaml").faults


def test_a_block_needs_only_three_keys(load):
    block = load(BLOCK + SECTIONS).case("mine")
    assert (block.id, block.time, block.separator, block.absent) == (None, None, ",", [])


def test_a_clone_of_the_project_finds_its_own_file(clone, monkeypatch):
    (clone / "params.yaml").write_text(BLOCK + SECTIONS, encoding="utf-8")
    monkeypatch.delenv("TRUEFIT_PROJECT", raising=False)
    monkeypatch.chdir(clone / "notebooks")
    assert list(params.load().cases) == ["mine"]


@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        ("log_traget: true", ["cases.mine.log_traget", "did you mean log_target?", "True"]),
        ("colour: red", ["cases.mine.colour", "known: table, target, task", "'red'"]),
        ("log_target: yes", ["cases.mine.log_target is 'yes'", "boolean"]),
        ("log_target: 1", ["cases.mine.log_target is 1", "boolean"]),
        ("absent: alley", ["cases.mine.absent is 'alley'", "list"]),
        ("missing: [-999]", ["cases.mine.missing.0 is -999", "string"]),
        ("separator: ';;'", ["cases.mine.separator is ';;'", "at most 1 character"]),
        ("positive: good", ["cases.mine", "positive is for classification"]),
        ("protected: [a]", ["cases.mine", "protected is for classification"]),
        ("time: year", ["cases.mine", "time and production_from go together"]),
        ("production_from: [2009]", ["cases.mine.production_from", "[2009]"]),
        ("production_from: 2009-05-01", ["cases.mine.production_from: 2009-05-01 needs quotes"]),
        ("learn_from: 3", ["cases.mine", "learn_from needs time and production_from"]),
        ("learn_from: true", ["cases.mine.learn_from", "True is neither a number nor a text"]),
        ("window: month", ["cases.mine.window is 'month'"]),
        ("window: {by: [t]}", ["cases.mine.window.name is missing"]),
        ("window: {name: month, by: []}", ["cases.mine.window.by", "at least 1 item"]),
        ("map: [x]", ["cases.mine", "map takes two columns"]),
        ("ordinal: [{order: [1, 2], columns: [a]}]", ["cases.mine.ordinal.0.order.0 is 1"]),
        ("ordinal: [{order: [a], columns: [a]}]", ["ordinal.0.order", "at least 2 items"]),
        ("ordinal: [{order: [a, b], colums: [a]}]", ["ordinal.0.colums", "columns?"]),
        ("drop_rows: [{when: a > 1}]", ["cases.mine.drop_rows.0.reason is missing"]),
        ("gate: [{metric: r2}]", ["cases.mine.gate.0", "either at_least or at_most"]),
        ("gate: [{metric: r2, at_least: '0.8'}]", ["gate.0.at_least is '0.8'", "number"]),
        ("training: {trails: 3}", ["training.trails is not a known key; did you mean trials?"]),
        ("training: {trials: many}", ["cases.mine.training.trials is 'many'", "integer"]),
        ("training: 3", ["cases.mine.training is 3", "dictionary"]),
        ("training: {regression: [ridge]}", ["cases.mine.training: regression lacks dummy"]),
        ("traning: {trials: 3}", ["cases.mine.traning is not a known key; did you mean training?"]),
        ("serving: {batch: 300}", ["cases.mine.serving: batch is 300, and must not be above rows"]),
        ("monitoring: {rules: {bais: {red: 1}}}", ["monitoring.rules.bais", "did you mean bias?"]),
        ("monitoring: {rules: {bias: {red: 0}}}", ["cases.mine.monitoring.rules.bias: red is 0"]),
        ("regression_maths: {resamples: 30}", ["cases.mine.regression_maths is not a known key"]),
        ("search_spaces: {regression: {ridge: {alpha: {low: 1}}}}", ["ridge.alpha: give choices"]),
    ],
)
def test_a_mistake_in_a_block_is_one_sentence_that_names_it(load, line, culprits):
    sentence = fault(load, with_line(line))
    assert sentence.startswith("params.yaml")
    for culprit in culprits:
        assert culprit in sentence


@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        ("target: rent", ["line 6", 'duplicate key "target"', '"rent"']),
        ("title: [a", ["params.yaml, line"]),
        ("title: *a", ["line 6", "'a'"]),
        ("title: a: b", ["line 6"]),
    ],
)
def test_what_is_no_yaml_is_one_sentence_that_names_the_line(load, line, culprits):
    sentence = refusal(load, with_line(line))
    assert sentence.startswith("params.yaml")
    for culprit in culprits:
        assert culprit in sentence


def test_all_that_is_wrong_with_a_block_is_named_and_the_other_cases_run(load):
    other = BLOCK.removeprefix("cases:\n").replace("mine", "good")
    lines = ["colour: red", "log_traget: true", "map: [x]", "positive: good", "slices: {a: [2, 1]}"]
    loaded = load(with_line("\n    ".join([*lines, "training: {trials: 0}"])) + "\n")
    assert loaded.faults["mine"] == (
        "params.yaml: cases.mine.colour is not a known key; known: "
        + loaded.faults["mine"].partition("known: ")[2].partition(" (its")[0]
        + " (its value is 'red'); cases.mine.log_traget is not a known key; did you mean "
        "log_target? (its value is True); cases.mine.slices: the limits of a, [2.0, 1.0], must "
        "rise; cases.mine: positive is for classification; cases.mine: map takes two columns: "
        "east-west first, north-south second; cases.mine.training.trials is 0, but should be "
        "greater than or equal to 1"
    )
    both = load(f"{with_line('colour: red')[: len(BLOCK)]}    colour: red\n{other}{SECTIONS}")
    assert [*both.cases] == ["good"] and [*both.faults] == ["mine"]
    assert both.case("good").target == "price"


def test_all_that_is_wrong_outside_the_blocks_is_named(load):
    content = (
        (BLOCK + SECTIONS)
        .replace("seed: 20 ", "sead: 20 ")
        .replace("inner_folds: 3", "inner_folds: 1")
    )
    assert refusal(load, content) == (
        "params.yaml: data_prep.sead is not a known key; did you mean seed? (its value is 20); "
        "training.inner_folds is 1, but should be greater than or equal to 2"
    )


ONE_OF = "must say one of expect, at_least and at_most"
BOTH = "must have both change and expect, or neither"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("features: {a: 1}", "features.a is 1, but should be a valid string"),
        ("features: [a]", "features is ['a'], but should be a valid dictionary"),
        ("clusters: a", "clusters is 'a', but should be a valid list"),
        ("slices: [a]", "slices is ['a'], but should be a valid dictionary"),
        ("slices: {a: [b]}", "slices.a.0 is 'b', but should be a valid number"),
        ("slices: {a: [.nan]}", "slices.a.0 is nan, but should be a finite number"),
        ("slices: {a: [2, 1]}", "slices: the limits of a, [2.0, 1.0], must rise"),
        ("slices: {a: [1, 1]}", "slices: the limits of a, [1.0, 1.0], must rise"),
        ("protected: [a]", "'a' is protected, and must be among the slices"),
        (
            "protected: [b, a]\n    slices: {b: []}",
            "'a' is protected, and must be among the slices",
        ),
        ("costs: 5", "costs is 5, but should be a valid dictionary"),
        (
            "costs: {false_positive: dear, false_negative: 1}",
            "costs.false_positive is 'dear', but should be a valid number",
        ),
        (
            "costs: {false_positive: true, false_negative: 1}",
            "costs.false_positive is True, but should be a valid number",
        ),
        (
            "costs: {false_positive: 0, false_negative: 1}",
            "costs.false_positive is 0, but should be greater than 0",
        ),
        (
            "costs: {false_positive: .inf, false_negative: 1}",
            "costs.false_positive is inf, but should be a finite number",
        ),
        ("costs: {false_positive: 1}", "costs.false_negative is missing"),
        (
            "costs: {false_positve: 1, false_negative: 1}",
            "costs.false_positve is not a known key; did you mean false_positive? (its value is 1)",
        ),
        ("behaviour: [{name: n}]", f"behaviour.0: 'n' {ONE_OF}"),
        ("behaviour: [{name: n, change: {a: 1}, expect: same, at_least: 1}]",
         f"behaviour.0: 'n' {ONE_OF}"),
        ("behaviour: [{name: n, at_least: 1, at_most: 1}]", f"behaviour.0: 'n' {ONE_OF}"),
        ("behaviour: [{name: n, expect: same}]", f"behaviour.0: 'n' {BOTH}"),
        ("behaviour: [{name: n, change: {a: 1}, at_most: 1}]", f"behaviour.0: 'n' {BOTH}"),
        (
            "behaviour: [{name: n, change: {a: [1]}, expect: same}]",
            "behaviour.0.change: a is [1], which is neither a number nor a text",
        ),
        (
            "behaviour: [{name: n, change: {a: 1}, expect: equal}]",
            "behaviour.0.expect is 'equal', but should be 'same', 'not_lower' or 'not_higher'",
        ),
        (
            "behaviour: [{name: n, at_most: 1, share: 1.5}]",
            "behaviour.0.share is 1.5, but should be less than or equal to 1",
        ),
    ],
)  # fmt: skip
def test_a_mistake_in_what_a_case_may_have_is_one_sentence(load, line, sentence):
    block = BLOCK.replace("regression", "classification\n    positive: bad")
    found = fault(load, f"{block}    {line}\n{SECTIONS}")
    where, key = "params.yaml: ", sentence.split()[0]
    if "is missing" in sentence:
        assert found == f"{where}the key cases.mine.{sentence}"
    else:
        assert found == f"{where}cases.mine{': ' if key.startswith(chr(39)) else '.'}{sentence}"


def test_costs_are_for_a_classification(load):
    sentence = fault(load, with_line("costs: {false_positive: 1, false_negative: 2}"))
    assert sentence == "params.yaml: cases.mine: costs are for classification"


@pytest.mark.parametrize(
    ("costs", "threshold"),
    [("", 0.5), ("1, false_negative: 5", 1 / 6), ("3, false_negative: 1", 0.75)],
)
def test_costs_set_the_threshold(load, costs, threshold):
    block = BLOCK.replace("regression", "classification\n    positive: bad")
    line = f"    costs: {{false_positive: {costs}}}\n" if costs else ""
    assert load(block + line + SECTIONS).case("mine").threshold == pytest.approx(threshold)


def with_section(name, value):
    """The smallest file, with one of its last sections replaced."""
    kept, others = [], False
    for line in SECTIONS.splitlines():
        if line and not line[0].isspace() and line[0] != "#":
            others = line.startswith(f"{name}:")
        kept += [] if others else [line]
    return "\n".join([BLOCK, *kept, f"{name}: {value}"])


ALPHA = "search_spaces.regression.ridge.alpha"
PLAIN = "is neither a number, a text, true, false, null nor a list of whole numbers"


@pytest.mark.parametrize(
    ("space", "sentence"),
    [
        ("{low: 3, high: 1}", ": low is 3, which is not below high, 1"),
        ("{low: 1, high: 1}", ": low is 1, which is not below high, 1"),
        ("{low: a, high: 1}", ".low: 'a' is not a number"),
        ("{low: 1, high: '2'}", ".high: '2' is not a number"),
        ("{low: true, high: 2}", ".low: True is not a number"),
        ("{low: .nan, high: 2}", ".low: nan is not finite"),
        ("{low: 1, high: .inf}", ".high: inf is not finite"),
        ("{low: 0, high: 1, log: true}", ": low is 0, and a logarithmic range must be above 0"),
        ("{low: -1, high: 1, log: true}", ": low is -1, and a logarithmic range must be above 0"),
        ("{low: 1.5, high: 3, integer: true}", ": low is 1.5, and integer asks for whole numbers"),
        ("{low: 1}", ": give choices, or both low and high"),
        ("{}", ": give choices, or both low and high"),
        ("{choices: [1], low: 1, high: 2}", ": give either choices or a range, from low to high"),
        ("{choices: []}", ".choices is [], but should have at least 1 item"),
        ("{choices: 3}", ".choices is 3, but should be a valid list"),
        ("{choices: [{a: 1}]}", f".choices: {{'a': 1}} {PLAIN}"),
        ("{choices: [[a]]}", f".choices: ['a'] {PLAIN}"),
        ("{lwo: 1, high: 2}", ".lwo is not a known key; did you mean low? (its value is 1)"),
        ("[1, 2]", " is [1, 2], but should be a valid dictionary"),
        ("{low: 1, high: 2, log: 1}", ".log is 1, but should be a valid boolean"),
    ],
)
def test_a_mistake_in_a_search_space_is_one_sentence(load, space, sentence):
    content = with_section("search_spaces", f"{{regression: {{ridge: {{alpha: {space}}}}}}}")
    assert refusal(load, content) == f"params.yaml: {ALPHA}{sentence}"


GO = "engine dask and a scheduler (such as tcp://host:8786) go together"


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("search_spaces", "{regresion: {}}",
         "search_spaces.regresion is not a known key; did you mean regression? (its value is {})"),
        ("compute", "{engine: spark}",
         "compute.engine is 'spark', but should be 'local' or 'dask'"),
        ("compute", "{engine: dask}", f"compute: {GO}"),
        ("compute", "{scheduler: 'tcp://a:1'}", f"compute: {GO}"),
        ("compute", "{engin: dask}",
         "compute.engin is not a known key; did you mean engine? (its value is 'dask')"),
        ("quick", "{trainin: {}}", "quick: trainin is not a known step; did you mean training?"),
        ("quick", "{training: {fold: 3}}",
         "quick: training: fold is not a known key; did you mean folds? (its value is 3)"),
        ("quick", "{training: {folds: 1}}",
         "quick: training: folds is 1, but should be greater than or equal to 2"),
        ("quick", "{training: {trials: many}}",
         "quick: training: trials is 'many', but should be a valid integer"),
        ("quick", "{training: 3}", "quick.training is 3, but should be a valid dictionary"),
        ("quick", "{training: {regression: [ridge]}}",
         "quick: training: regression lacks dummy, which the gate compares the winner with"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_section_that_may_be_left_out_is_one_sentence(load, name, value, sentence):
    assert refusal(load, with_section(name, value)) == f"params.yaml: {sentence}"


def test_sections_that_may_be_left_out_have_defaults(load):
    content = BLOCK + SECTIONS[: SECTIONS.index("compute:")]
    evaluation = SECTIONS[SECTIONS.index("evaluation:\n") : SECTIONS.index("# Smaller parameters")]
    found = load(content + evaluation)
    assert (found.compute.engine, found.quick) == ("local", {})
    assert found.search_spaces.regression == {}
    assert found.section("training", quick=True) == found.training


def test_quick_takes_the_smaller_values_and_keeps_the_others(load):
    found = load(with_section("quick", "{training: {folds: 2}}"))
    small = found.training.model_copy(update={"folds": 2})
    assert found.section("training", quick=True) == small
    assert found.section("evaluation", quick=True) == found.evaluation


OWN = """\
    training: {trials: 20, regression: [dummy, ridge]}
    monitoring: {rules: {bias: {red: 0.5}}}
    search_spaces: {regression: {ridge: {alpha: {choices: [1, 2]}}}}
"""


def test_a_block_s_own_values_win_over_the_section_and_concern_no_other_case(load):
    other = BLOCK.removeprefix("cases:\n").replace("mine", "other")
    found = load(BLOCK + OWN + other + SECTIONS + SPACES)
    assert not found.faults
    expected = found.training.model_copy(update={"trials": 20, "regression": ["dummy", "ridge"]})
    assert found.section("training", "mine") == expected
    rules, usual = found.section("monitoring", "mine").rules, found.monitoring.rules
    assert (rules.bias.red, rules.bias.amber) == (0.5, usual.bias.amber)
    assert rules.error == usual.error
    spaces = found.section("search_spaces", "mine").regression
    assert {*spaces["ridge"]} == {"alpha"} and spaces["ridge"]["alpha"].choices == [1, 2]
    assert spaces["lasso"] == found.search_spaces.regression["lasso"]
    for section in params.OF_A_CASE:
        assert found.section(section, "other") == getattr(found, section)


def test_quick_is_small_whatever_a_block_says_but_a_list_of_the_block_stays(load):
    small = "quick: {training: {trials: 2, regression: [dummy, svm]}, evaluation: {repeats: 2}}"
    found = load(with_section("quick", small.removeprefix("quick: ")).replace(BLOCK, BLOCK + OWN))
    quick = found.section("training", "mine", quick=True)
    assert (quick.trials, quick.regression) == (2, ["dummy", "ridge"])
    assert found.section("training", quick=True).regression == ["dummy", "svm"]
    assert found.section("evaluation", "mine", quick=True).repeats == 2
    changed = params.override("training", quick, {"trials": "3", "regression": "[dummy, lasso]"})
    assert (changed["trials"], changed["regression"]) == (3, ["dummy", "lasso"])


@pytest.mark.parametrize("written", ["1", "1.0", "true", "'1'", "'true'"])
@pytest.mark.parametrize("classes", [("0", "1"), ("0.0", "1.0"), ("False", "True"), ("NO", "TRUE")])
def test_one_and_true_mean_the_same_class_however_it_is_written(load, written, classes):
    block = BLOCK.replace("regression", f"classification\n    positive: {written}")
    case = load(block + SECTIONS).case("mine")
    assert case.as_written(classes).positive == classes[1]


@given(st.lists(st.text(), unique=True), st.text())
def test_a_class_that_is_there_is_taken_as_it_is_written(classes, positive):
    case = BinaryClassification(table="t", target="y", positive=positive)
    assert case.as_written([*classes, positive]).positive == positive
    assert case.as_written(classes).positive in {positive, *classes}


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("", "holds no keys"),
        ("# a comment\n", "holds no keys"),
        ("- a\n- b\n", "holds no keys"),
        (b"cases: \xff\xfe", "is not UTF-8 text"),
        ("cases: \x07", "special characters are not allowed"),
        (BLOCK, "data_prep is missing"),
        (SECTIONS, "cases is missing"),
        ("cases:\n" + SECTIONS, "cases is None"),
        ("cases: {}\n" + SECTIONS, "cases is empty"),
        ("cases: [mine]\n" + SECTIONS, "cases is ['mine'], but should be a valid dictionary"),
        (BLOCK + SECTIONS.replace("seed: 20 ", "seed: twenty "), "data_prep.seed is 'twenty'"),
        (BLOCK + SECTIONS.replace("seed: 20 ", "seed: 2.5 "), "data_prep.seed is 2.5"),
        (BLOCK + SECTIONS.replace("seed: 20 ", "seed: -1 "), "data_prep.seed is -1"),
        (BLOCK + SECTIONS.replace("test_share: 0.25", "test_share: 25"), "test_share is 25"),
        (BLOCK + SECTIONS.replace("resamples: 200 ", "resamples: 19 "), "resamples is 19, but"),
        (BLOCK + SECTIONS.replace("evaluation:", "evalution:"), "did you mean evaluation?"),
        (BLOCK + SECTIONS.replace("bias: {amber: 0.02", "bias: {amber: 0.2"), "rules.bias: red is"),
        (BLOCK + SECTIONS.replace("    bias:", "    biass:"), "did you mean bias?"),
        (BLOCK + SECTIONS.replace("every: day ", "every: year "), "every is 'year', but"),
        (BLOCK + SECTIONS + "deploy: {}\n", "deploy is not a known key"),
    ],
)
def test_a_mistake_in_the_file_is_one_sentence_that_names_it(load, content, culprit):
    assert culprit in refusal(load, content)


@pytest.mark.parametrize(
    ("content", "culprit"),
    [
        ("cases:\n  mine:\n" + SECTIONS, "cases.mine is None, but should be a valid dictionary"),
        (BLOCK.replace("    task: regression\n", "") + SECTIONS, "cases.mine.task is missing"),
        (BLOCK.replace("regression", "guessing") + SECTIONS, "cases.mine.task is 'guessing'"),
        (BLOCK.replace("mine:", "my-table:") + SECTIONS, "'my-table' cannot name a case"),
        (BLOCK.replace("mine:", "raw:") + SECTIONS, "'raw' cannot name a case"),
        (BLOCK.replace("mine:", "gate:") + SECTIONS, "'gate' cannot name a case"),
        (BLOCK.replace("mine:", "claims:") + SECTIONS, "'claims' cannot name a case"),
        (BLOCK.replace("mine:", "2024:") + SECTIONS, "'2024' cannot name a case"),
        (
            BLOCK.replace("regression", "classification") + SECTIONS,
            "cases.mine: a classification needs positive: the class to be detected",
        ),
        (
            BLOCK.replace("regression", "classification\n    positive: [1]") + SECTIONS,
            "cases.mine.positive: [1] is neither a text, a number, true nor false",
        ),
    ],
)
def test_a_block_that_is_none_is_one_sentence_for_its_own_case(load, content, culprit):
    loaded = load(content)
    ((name, sentence),) = loaded.faults.items()
    assert culprit in sentence and sentence == refusal(loaded.case, name)


def test_a_misspelt_key_is_named_and_not_the_key_that_is_missing_for_it(load):
    sentence = fault(load, BLOCK.replace("target:", "taget:") + SECTIONS)
    assert sentence == (
        "params.yaml: cases.mine.taget is not a known key; did you mean target? (its value is "
        "'price')"
    )


def test_an_unknown_case_lists_the_known_ones(load):
    other = BLOCK.removeprefix("cases:\n").replace("mine", "loans").replace("table", "tabel")
    loaded = load(BLOCK + other + SECTIONS)
    assert "did you mean mine?" in refusal(loaded.case, "mien")
    assert "known: mine, loans" in refusal(loaded.case, "xyz")


def test_numbers_and_words_mean_what_they_mean_in_yaml_1_2(load):
    content = with_line("positive: no").replace("task: regression", "task: classification")
    loaded = load(content.replace("tolerance: 0.00001", "tolerance: 1e-4"))
    assert loaded.export.tolerance == 0.0001
    assert loaded.case("mine").positive == "no"


@pytest.mark.parametrize(
    ("written", "value"),
    [("2009", 2009), ("2.5", 2.5), ("'2009'", "2009"), ("'2009-05-01'", "2009-05-01")],
)
def test_production_from_is_a_number_or_a_text(load, written, value):
    found = load(with_line(f"time: t\n    production_from: {written}")).case("mine")
    assert found.production_from == value
    assert type(found.production_from) is type(value)


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_notebook_and_its_section_have_the_same_parameters(step):
    notebook = json.loads((ROOT / f"notebooks/{step.notebook}.ipynb").read_text("utf-8"))
    (cell,) = (c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", []))
    assigned = {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse("".join(cell["source"])).body
    }
    shipped = params.load(ROOT / "params.yaml")
    case = {"case": assigned["case"]} if step.of_a_case else {}
    expected = case | getattr(shipped, step.name).model_dump()
    assert assigned == expected
    assert list(assigned) == list(expected)


@pytest.fixture(scope="module")
def training():
    return params.load(ROOT / "params.yaml").training


def test_a_changed_parameter_gets_its_type_and_the_others_keep_their_values(training):
    changed = params.override("training", training, {"folds": "3", "regression": "[dummy, ridge]"})
    assert changed == training.model_dump() | {"folds": 3, "regression": ["dummy", "ridge"]}
    assert params.override("training", training, {}) == training.model_dump()


@given(seed=st.integers(0, 2**31 - 1))
def test_any_seed_can_be_given_as_text(training, seed):
    assert params.override("training", training, {"seed": str(seed)})["seed"] == seed


@given(text=st.text())
def test_any_text_for_a_number_is_taken_as_that_number_or_refused(training, text):
    try:
        seed = params.override("training", training, {"seed": text})["seed"]
    except InputError as error:
        assert "seed" in str(error)
    else:
        assert type(seed) is int


@pytest.mark.parametrize(
    ("name", "text", "culprit"),
    [
        ("fold", "3", "fold is not a known key; did you mean folds?"),
        ("folds", "three", "folds is 'three'"),
        ("folds", "3.0", "folds is 3.0"),
        ("folds", "", "folds is None"),
        ("folds", "1", "folds is 1"),
        ("folds", "[3", "folds='[3'"),
        ("folds", "-_", "folds='-_'"),
        ("folds", "a: b: c", "folds='a: b: c'"),
        ("regression", "ridge", "regression is 'ridge'"),
        ("regression", "[ridge]", "regression lacks dummy"),
        ("regression", "[]", "regression is [], but should have at least 1 item"),
    ],
)
def test_a_wrong_change_is_refused_by_name(training, name, text, culprit):
    assert culprit in refusal(params.override, "training", training, {name: text})


def test_a_notebook_s_own_values_are_checked_in_the_same_way(training):
    values = training.model_dump()
    assert params.section("training", **values) == training
    sentence = refusal(lambda: params.section("training", **values | {"folds": "5"}))
    assert sentence == "training: folds is '5', but should be a valid integer"
