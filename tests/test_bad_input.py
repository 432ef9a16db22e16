"""A mistake ends in one sentence and changes nothing; a good block runs the whole life cycle."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import any_table
import nbformat
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, change_params
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from ruamel.yaml import YAML

from truefit import data_prep, params
from truefit.project import InputError

PARAMS = ROOT / "params.yaml"
ROWS = 240
HOUSES = """\
table: data/raw/houses.csv
target: rent
task: regression
id: name
codes: [zip]
absent: [garden]
ordinal: [{order: [bad, fair, good], columns: [state]}]
drop_rows: [{when: area > 9000, reason: castles}]
gate: [{metric: r2, at_least: 0.5}]
units: {rent: euros a month}
"""
EXPERT = """\
features: {room_size: area / rooms, area_missing: missing(area)}
slices: {state: [], area: []}
behaviour: [{name: more is dearer, change: {area: area + 20}, expect: not_lower, share: 0.9}]
"""
LOANS = """\
target: default
task: classification
positive: true
time: day
production_from: "2024-07-01"
slices: {owner: []}
protected: [owner]
costs: {false_positive: 1, false_negative: 2}
"""


def houses():
    """A table for a regression, with numbers, texts, an order, gaps and an id."""
    rng = np.random.default_rng(7)
    area, state = rng.uniform(20, 200, ROWS).round(1), rng.integers(0, 3, ROWS)
    rent = 300 + 8 * area + 200 * state + rng.normal(0, 60, ROWS)
    return pd.DataFrame(
        {
            "name": [f"h{i}" for i in range(ROWS)],
            "rent": rent.round(),
            "area": np.where(rng.random(ROWS) < 0.1, np.nan, area),
            "rooms": (area // 30 + 1).astype(int),
            "state": np.array(["bad", "fair", "good"])[state],
            "town": rng.choice(["Aachen", "Köln", "None"], ROWS),
            "garden": rng.choice(["front", "back", None], ROWS),
            "zip": rng.choice(["01067", "50667"], ROWS),
        }
    )


def loans():
    """A table for a classification whose classes are the numbers 0 and 1."""
    rng = np.random.default_rng(8)
    income = rng.lognormal(8, 0.5, ROWS).round()
    chance = 1 / (1 + np.exp((income - 3000) / 500))
    return pd.DataFrame(
        {
            "day": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
            "income": income,
            "owner": pd.array(rng.random(ROWS) < 0.5, dtype="boolean"),
            "children": pd.array(np.where(rng.random(ROWS) < 0.1, None, 2), dtype="Int64"),
            "default": (rng.random(ROWS) < chance).astype(int),
        }
    ).assign(children=lambda t: t["children"] + (t["income"] > 3000))


def write(clone, block, table, name="houses.csv"):
    """Make the block the only case of a project, ``mine``, and put its table in place."""
    settings = (clone / "params.yaml").read_text(encoding="utf-8")
    lines = "".join(f"    {line}\n" for line in block.splitlines())
    sections = settings[settings.index("data_prep:\n") :]
    content = f"cases:\n  mine:\n{lines}\n{sections}"
    (clone / "params.yaml").write_text(content, encoding="utf-8")
    target = clone / "data" / "raw" / name
    if isinstance(table, bytes):
        target.write_bytes(table)
    elif target.suffix == ".parquet":
        table.to_parquet(target)
    elif table is not None:
        table.to_csv(target, index=False)


@pytest.fixture
def mine(clone):
    """A project with one case and the results of an earlier run that was good."""
    write(clone, HOUSES, houses())
    for last_good in (
        "data/mine/train.parquet",
        "data/mine/schema.json",
        "models/mine/model.joblib",
        "models/mine/bundle/model.onnx",
        "reports/mine/01_data_prep.html",
        "reports/mine/01_data_prep.ipynb",
        "reports/gate/mine.json",
    ):
        (clone / last_good).parent.mkdir(parents=True, exist_ok=True)
        (clone / last_good).write_text("the last good result", encoding="utf-8")
    return clone


def content(folder):
    """Every file under a folder, hidden ones too, with its bytes."""
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def refused(truefit, project, *arguments):
    """The sentence that a command is refused with, having changed nothing."""
    before = content(project)
    done = truefit(*arguments, cwd=project)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("truefit: ")
    assert done.stderr.count("\n") == 1, done.stderr
    assert content(project) == before
    return done.stderr


RUN = ("run", "01_data_prep", "--case", "mine")


@pytest.mark.parametrize(
    ("arguments", "culprits"),
    [
        (("run", "01_data_prep", "--case", "yours"), ["yours", "known: mine", "params.yaml"]),
        (("run", "01_data_prap", "--case", "mine"), ["01_data_prap", "01_data_prep"]),
        ((*RUN, "-p", "sead=1"), ["sead", "did you mean seed?"]),
        ((*RUN, "-p", "seed=one"), ["seed is 'one'", "integer"]),
        ((*RUN, "-p", "seed=[1"), ["seed='[1'"]),
        ((*RUN, "-p", "seed"), ["-p seed", "NAME=VALUE"]),
    ],
)
def test_a_mistake_in_the_command_is_one_sentence(truefit, mine, arguments, culprits):
    sentence = refused(truefit, mine, *arguments)
    for culprit in culprits:
        assert culprit in sentence


@pytest.mark.parametrize(
    ("line", "culprits"),
    [
        ("log_traget: true", ["params.yaml", "cases.mine.log_traget", "did you mean log_target?"]),
        ("log_target: yes", ["params.yaml", "cases.mine.log_target is 'yes'"]),
        ("target: price", ["params.yaml, line 13", '"target"']),
        ("training: {trails: 3}", ["cases.mine.training.trails", "did you mean trials?"]),
        ("costs: {false_positive: 1, false_negative: 2}", ["cases.mine: costs are for class"]),
        ("behaviour: [{name: cheap}]", ["'cheap'", "expect, at_least and at_most"]),
    ],
)
def test_a_mistake_in_params_yaml_is_one_sentence(truefit, mine, line, culprits):
    write(mine, HOUSES + line, None)
    sentence = refused(truefit, mine, *RUN)
    for culprit in culprits:
        assert culprit in sentence


CSV = houses().to_csv(index=False).encode()
PARQUET = HOUSES.replace(".csv", ".parquet")
RULE = "\nblank: [{column: area, when: area >>> 3, reason: slips}]"
TOWN = "table: data/raw/houses.csv\ntarget: town\ntask: classification\npositive: "
NOT_A_TABLE = {
    "no such file": (HOUSES.replace("houses", "huts"), CSV, ["data/raw/huts.csv"]),
    "no target": (HOUSES.replace("rent\n", "price\n"), CSV, ["houses.csv", "'price'", "target"]),
    "empty": (HOUSES, b"", ["houses.csv is empty"]),
    "header only": (HOUSES, houses().head(0), ["houses.csv", "no rows"]),
    "picture": (HOUSES, b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ["houses.csv", "not a CSV table"]),
    "text as Parquet": (PARQUET, CSV, ["houses.parquet", "not a Parquet table"]),
    "ragged row": (HOUSES, CSV + b"h999,1\n", ["houses.csv, line 242", "2 cells"]),
    "columns of one name": (HOUSES, CSV.replace(b"town", b"area", 1), ["'area'", "more than once"]),
    "repeated id": (HOUSES, pd.concat([houses()] * 2), ["id name repeats", "'h0'", "1, 241"]),
    "rule": (HOUSES + RULE, CSV, ["params.yaml", "'area >>> 3'"]),
    "constant": (HOUSES, houses().assign(rent=500), ["houses.csv", "rent is 500 in every row"]),
    "text": (HOUSES, houses().replace({"rent": {houses()["rent"][9]: "?"}}), ["rent holds '?'"]),
    "logarithm": (HOUSES + "log_target: true", houses().assign(rent=range(ROWS)), ["rent is 0"]),
    "three classes": (TOWN + "Aachen", CSV, ["houses.csv", "town has 3 classes"]),
    "slice": (HOUSES + "slices: {stat: []}", CSV, ["houses.csv", "'stat'", "slices"]),
    "feature": (
        HOUSES + "features: {dear: area / room}",
        CSV,
        ["houses.csv", "'room'", "features"],
    ),
    "expression": (HOUSES + "features: {dear: area ** 2}", CSV, ["params.yaml", "'area ** 2'"]),
    "no such class": (
        TOWN + "Bonn",
        houses().query("town > 'B'"),
        ["town is never 'Bonn', which positive names; its classes are", "'None' (", "'Köln' ("],
    ),
    "no such number": (TOWN + "1", CSV, ["town is never '1'", "'Aachen' (", "rows), 'K"]),
}
# Of each place where a mistake is found, one goes through the command; the others do what the
# notebook does.
BY_COMMAND = ("no such file", "rule", "three classes")


@pytest.mark.parametrize("mistake", BY_COMMAND)
def test_a_mistake_in_the_table_is_one_sentence(truefit, mine, mistake):
    block, table, culprits = NOT_A_TABLE[mistake]
    write(mine, block, table)
    sentence = refused(truefit, mine, *RUN)
    for culprit in culprits:
        assert culprit in sentence


@pytest.mark.parametrize("mistake", NOT_A_TABLE)
def test_any_mistake_in_the_table_is_one_sentence_before_anything_is_written(
    clone, mistake, monkeypatch
):
    block, table, culprits = NOT_A_TABLE[mistake]
    write(clone, block, table, name="houses.parquet" if block is PARQUET else "houses.csv")
    monkeypatch.setenv("TRUEFIT_PROJECT", str(clone))
    before = content(clone)
    with pytest.raises(InputError) as caught:
        prepared("mine")
    assert "\n" not in str(caught.value)
    for culprit in culprits:
        assert culprit in str(caught.value)
    assert content(clone) == before


def prepared(name):
    """The parts of a case's table, as 01_data_prep makes them."""
    settings, case = params.load().data_prep, params.load().case(name)
    tables = data_prep.collect(case)
    case = data_prep.as_written(case, tables)
    share, seed = settings.production_share, settings.seed
    development, _ = data_prep.set_aside(tables, case, production_share=share, seed=seed)
    cleaned, _ = data_prep.clean(development, case)
    return case, data_prep.split(cleaned, case, test_share=settings.test_share, seed=seed)


WRITINGS = {
    "0 and 1": [0, 1],
    "0.0 and 1.0": [0.0, 1.0],
    "false and true": [False, True],
    "texts": ["no", "1"],
    "upper case": ["FALSE", "TRUE"],
}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("written", ["1", "true", "'1'", "1.0"])
@pytest.mark.parametrize("classes", WRITINGS)
def test_1_and_true_mean_the_class_that_the_table_writes_so(
    tmp_path, monkeypatch, classes, written, suffix
):
    other, one = WRITINGS[classes]
    chance = np.random.default_rng(3).random(ROWS) < 0.3
    table = pd.DataFrame({"y": np.where(chance, one, other), "x": range(ROWS)})
    for folder in ("notebooks", "data/raw"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(PARAMS, tmp_path / "params.yaml")
    block = f"table: data/raw/t{suffix}\ntarget: y\ntask: classification\npositive: {written}"
    write(tmp_path, block, table, name=f"t{suffix}")
    monkeypatch.setenv("TRUEFIT_PROJECT", str(tmp_path))
    case, parts = prepared("mine")
    positive = pd.concat(parts)["y"] == case.positive
    assert case.positive in {str(one), f"{one:.0f}" if isinstance(one, float) else str(one)}
    assert 0.2 < positive.mean() < 0.4


def test_a_wrong_block_stops_its_own_case_alone(truefit, mine):
    change_params(mine, lambda p: p["cases"].update(yours={"tabel": "t.csv", "positive": 1}))
    before = content(mine)
    done = truefit("run", "01_data_prep", "--case", "yours", cwd=mine)
    assert done.returncode == 1 and content(mine) == before
    assert done.stderr.count("\n") == 1
    for culprit in ("cases.yours.tabel", "did you mean table?", "target is missing"):
        assert culprit in done.stderr
    done = truefit(*RUN, "--quick", cwd=mine)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_folder_in_the_place_of_a_page_is_one_sentence_and_nothing_is_published(truefit, mine):
    page = mine / "reports" / "mine" / "01_data_prep.html"
    page.unlink()
    page.mkdir()
    sentence = refused(truefit, mine, *RUN, "-p", "noise_columns=100")
    assert "reports/mine/01_data_prep.html is a folder" in sentence


def test_a_step_that_lacks_the_one_before_it_changes_nothing(truefit, mine):
    (mine / "data/mine/train.parquet").unlink()
    before = content(mine / "reports"), content(mine / "models")
    done = truefit("run", "03_training", "--case", "mine", cwd=mine)
    assert done.returncode == 1
    assert "data/mine/train.parquet" in done.stderr
    assert (content(mine / "reports"), content(mine / "models")) == before


def add_cell(project, source):
    """A cell of one's own in the first notebook, after the parameters."""
    file = project / "notebooks" / "01_data_prep.ipynb"
    notebook = json.loads(file.read_text(encoding="utf-8"))
    at = next(i for i, c in enumerate(notebook["cells"]) if c["cell_type"] == "code") + 1
    cell = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    notebook["cells"].insert(at, {**cell, "id": "mine", "source": source})
    file.write_text(json.dumps(notebook), encoding="utf-8")


def test_a_process_that_dies_is_told_from_a_mistake(truefit, mine):
    add_cell(mine, "import os\nos.kill(os.getpid(), 9)")
    before = {part: content(mine / part) for part in ("data", "models", "reports")}
    done = truefit(*RUN, cwd=mine)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "truefit: the process that runs 01_data_prep died"
    )
    assert {part: content(mine / part) for part in ("data", "models", "reports")} == before


def test_a_cell_that_fails_unexpectedly_is_shown_and_its_notebook_kept(truefit, mine):
    add_cell(mine, "count = 0\n1 / count")
    before = {part: content(mine / part) for part in ("data", "models", "reports")}
    done = truefit(*RUN, cwd=mine)
    assert done.returncode == 1
    assert done.stderr.startswith("truefit: cell ")
    assert "    1 / count\nZeroDivisionError: division by zero\n" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") < 8
    assert {part: content(mine / part) for part in ("data", "models", "reports")} == before
    named = next(word.rstrip(",;") for word in done.stderr.split() if ".ipynb" in word)
    partial = json.loads((mine / named).read_text(encoding="utf-8"))
    assert any(output["output_type"] == "error"
               for cell in partial["cells"] for output in cell.get("outputs", []))  # fmt: skip


def scored(truefit, project, case):
    """The rows of a case's live traffic, and what ``truefit predict`` says of them."""
    rows = pd.read_parquet(project / "data" / case / "production.parquet")
    rows.to_csv(project / "live.csv", index=False)
    where = ("--input", project / "live.csv", "--output", project / "scored.csv")
    done = truefit("predict", "--case", case, *where, cwd=project)
    assert done.stderr == "" and done.returncode == 0
    return rows, pd.read_csv(project / "scored.csv")


def test_one_block_runs_a_regression_of_one_s_own(truefit, tmp_path):
    project = tmp_path / "project"
    own = "training: {regression: [dummy, linear, ridge, xgboost]}\ndata_prep: {test_share: 0.3}\n"
    found = any_table.run(houses(), YAML(typ="safe").load(HOUSES + EXPERT + own), project)
    assert {outcome.ended for outcome in found} == {"ran"} and len(found) == 7
    board = pd.read_csv(project / "reports" / any_table.CASE / "leaderboard.csv", index_col=0)
    assert "lightgbm" not in board.index and "xgboost" in board.index
    verdict = json.loads((project / "reports/gate/any.json").read_text(encoding="utf-8"))
    assert verdict["rows"] == pytest.approx(0.3 * 0.8 * ROWS, abs=1)
    rows, said = scored(truefit, project, any_table.CASE)
    assert len(rows) == round(0.2 * ROWS)
    assert said["name"].tolist() == rows["name"].tolist()
    assert np.corrcoef(said["prediction"], rows["rent"])[0, 1] > 0.8
    inside = rows["rent"].between(said["low"], said["high"])
    assert inside.mean() > 0.8  # of 48 rows, where 95 % are promised
    assert verdict["headline"]["metric"] == "rmse"
    schema = json.loads((project / "data/any/schema.json").read_text(encoding="utf-8"))
    assert schema["columns"]["state"]["categories"] == ["bad", "fair", "good"]
    assert schema["columns"]["zip"]["categories"] == ["01067", "50667"]
    assert "None" in schema["columns"]["town"]["categories"]


def test_one_block_runs_a_classification_of_one_s_own(truefit, tmp_path):
    project = tmp_path / "project"
    found = any_table.run(loans(), YAML(typ="safe").load(LOANS), project)
    assert {outcome.ended for outcome in found} == {"ran"} and len(found) == 7
    rows, said = scored(truefit, project, any_table.CASE)
    assert rows["day"].min() == "2024-07-01"
    assert said["prediction"].isin([0, 1]).all()
    assert said["probability"].between(0, 1).all()
    positive = rows["default"] == "1"
    assert said.loc[positive, "probability"].mean() > said.loc[~positive, "probability"].mean()


def test_two_runs_from_one_folder_do_not_disturb_each_other(truefit, clone):
    cells = [new_markdown_cell("# Slow"), new_code_cell("import time; time.sleep(2)")]
    slow = new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})
    for step in ("02_regression_maths", "01_data_prep"):
        nbformat.write(slow, clone / "notebooks" / f"{step}.ipynb")
    write(clone, HOUSES, houses())
    runs = [("02_regression_maths",), ("01_data_prep", "--case", "mine")]
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda run: truefit("run", *run, cwd=clone), runs))
    assert [d.returncode for d in done] == [0, 0], done[0].stderr + done[1].stderr
    assert not list(clone.glob("kernel*"))
