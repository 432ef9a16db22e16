"""A bundle scores tables by itself, as the training read them, and refuses what it cannot score."""

import json
import os
import shutil
import subprocess
import sys

import cases
import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import cli, data_prep, training
from truefit.bundle import Bundle, Interval
from truefit.metrics import predictions
from truefit.params import Case
from truefit.predict import predict, read_rows, write_predictions
from truefit.project import InputError

WINNERS = {"homes": "ridge", "loans": "logistic", "machines": "hist_gradient_boosting"}
each_case = pytest.mark.parametrize("name", cases.NAMES)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    return {
        name: cases.write_bundle(
            tmp_path_factory.mktemp(name) / "bundle",
            cases.fitted(name, model),
            cases.PARAMS.cases[name],
            cases.schema(name),
        )
        for name, model in WINNERS.items()
    }


@pytest.fixture
def loans(bundles, tmp_path):
    """A copy of a bundle to damage, and a table of ten rows to score."""
    cases.live("loans").head(10).to_csv(tmp_path / "rows.csv", index=False)
    shutil.copytree(bundles["loans"].folder, tmp_path / "bundle")
    return tmp_path


def score_by_command(folder, rows="rows.csv", output="out.csv"):
    given = {"--bundle": "bundle", "--input": rows, "--output": output}
    return cli.main(["predict", *(str(w) for k, v in given.items() for w in (k, folder / v))])


def refused(folder, capsys, rows="rows.csv", output="out.csv"):
    """The sentence that a command ends in; it changes no file."""
    before = {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    assert score_by_command(folder, rows, output) == 1
    assert {f: f.read_bytes() for f in folder.rglob("*") if f.is_file()} == before
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("truefit: ") and said.err.count("\n") == 1
    return said.err


# Scoring


@each_case
@pytest.mark.parametrize(("read", "written"), [("csv", "parquet"), ("parquet", "csv")])
def test_the_command_scores_a_table_from_any_directory(
    name, read, written, bundles, tmp_path, truefit
):
    case, rows = cases.PARAMS.cases[name], cases.live(name).head(50)
    rows = rows.sample(frac=1, random_state=1).drop(columns=case.target)
    source, output = tmp_path / f"rows.{read}", tmp_path / f"out.{written}"
    rows.to_csv(source, index=False) if read == "csv" else rows.to_parquet(source)
    given = {"--bundle": bundles[name].folder, "--input": source.name, "--output": output.name}
    done = truefit("predict", *(w for pair in given.items() for w in pair), cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"wrote 50 predictions to {output.name}\n"
    found = pd.read_csv(output) if written == "csv" else pd.read_parquet(output)
    model = cases.fitted(name, WINNERS[name])
    expected = predictions(model, rows, case)
    answer = "prediction" if case.task == "regression" else "probability"
    np.testing.assert_allclose(found[answer], expected, rtol=1e-5, atol=1e-6)
    if case.task == "classification":
        other = next(c for c in model.classes_ if c != case.positive)
        called = np.where(expected >= case.threshold, case.positive, other)
        assert list(found["prediction"]) == list(called) and len(set(called)) == 2
    if case.id:
        assert list(found[case.id]) == list(rows[case.id])
    assert sorted(f.name for f in tmp_path.iterdir()) == sorted([source.name, output.name])


def test_scoring_needs_neither_scikit_learn_nor_a_project(bundles, tmp_path):
    cases.live("homes").head(3).to_parquet(tmp_path / "rows.parquet")
    script = """
import sys
from pathlib import Path
from truefit.bundle import Bundle
from truefit.predict import predict, read_rows
bundle = Bundle(Path(sys.argv[1]))
print(len(predict(bundle, read_rows(bundle, Path("rows.parquet")))))
print(sorted({m.partition(".")[0] for m in sys.modules} & {"sklearn", "skl2onnx", "joblib", "dvc"}))
"""
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", script, bundles["homes"].folder],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(home), "XDG_CACHE_HOME": str(home)},
        capture_output=True,
        encoding="utf-8",
    )
    assert not any(home.iterdir())  # ONNX Runtime would keep there what it tells its maker
    assert (done.stdout, done.stderr) == ("3\n[]\n", "")


@each_case
def test_rows_score_the_same_from_csv_as_from_what_training_wrote(name, bundles, tmp_path):
    case, bundle = cases.PARAMS.cases[name], bundles[name]
    rows = pd.concat([cases.held_out(name), cases.live(name)], ignore_index=True)
    rows.to_parquet(tmp_path / "rows.parquet", index=False)
    expected = bundle.score(pd.read_parquet(tmp_path / "rows.parquet"))
    written = rows.astype(object).mask(rows == "absent", "")
    texts = [c for c in rows if rows[c].dtype == "str"]
    written[texts] = written[texts].map(lambda v: f"{v}  ", na_action="ignore")
    written.to_csv(tmp_path / "rows.csv", index=False)
    read = read_rows(bundle, tmp_path / "rows.csv")
    assert (bundle.score(read) == expected).all()
    inputs = [column.name for column in bundle.inputs]
    pd.testing.assert_frame_equal(read[inputs], rows[inputs], check_dtype=False)
    for suffix in ("csv", "parquet"):
        # As the rows came, before any cleaning: the shipped file itself.
        raw = data_prep.read_table(cases.ROOT / case.table, case)
        source = tmp_path / f"raw.{suffix}"
        raw.to_csv(source, index=False) if suffix == "csv" else raw.to_parquet(source)
        assert (bundle.score(read_rows(bundle, source)) == bundle.score(raw)).all()


@pytest.mark.parametrize("positive", ["1", "0"])
def test_rows_from_other_peoples_tables_score_as_in_training(tmp_path, monkeypatch, positive):
    # Codes, a separator, texts for what is missing, an absent number, and digits for classes.
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "params.yaml").write_text("", encoding="utf-8")
    monkeypatch.setenv("TRUEFIT_PROJECT", str(tmp_path))
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "zone": rng.choice([20, 30, 190], 300),
            "built": [str(v) if v > 1950 else "" for v in rng.integers(1900, 2000, 300)],
            "grade": rng.choice(["low", "high", "?", ""], 300),
            "size": rng.choice(["12.5", "?", "7"], 300),
        }
    )
    table["y"] = (rng.random(300) < np.where(table["zone"] == 20, 0.8, 0.2)).astype(int)
    table.to_csv(tmp_path / "t.csv", index=False, sep=";")
    case = Case(
        table="t.csv", target="y", task="classification", positive=positive, separator=";",
        missing=["?"], absent=["built", "grade"], codes=["zone"],
    )  # fmt: skip
    rows = data_prep.collect(case)["all"]
    model = training.build("logistic", rows, case, min_category_rows=10, seed=0)
    model.fit(rows.drop(columns="y"), rows["y"])
    described = data_prep.infer_schema(rows, case)
    bundle = cases.write_bundle(tmp_path / "bundle", model, case, described)
    found = predict(bundle, read_rows(bundle, tmp_path / "t.csv"))
    np.testing.assert_allclose(found["probability"], predictions(model, rows, case), atol=1e-6)
    assert set(found["prediction"]) == {"0", "1"}
    # A column may be empty in the rows of one day, and the target is not known yet.
    today = table.head(3).assign(built="", size="?").drop(columns="y")
    today.to_csv(tmp_path / "today.csv", index=False, sep=";")
    as_learned = rows.head(3).assign(built=np.nan, size=np.nan)
    expected = predictions(model, as_learned, case)
    found = bundle.score(read_rows(bundle, tmp_path / "today.csv"))
    np.testing.assert_allclose(found, expected, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(12)), data=st.data())
def test_an_answer_depends_on_its_row_alone(order, data, bundles):
    bundle, rows = bundles["loans"], cases.live("loans").head(12)
    expected = bundle.score(rows)
    columns = data.draw(st.permutations(list(rows.columns)))
    found = bundle.score(rows.iloc[list(order)][columns].assign(extra="x"))
    assert (found == expected[list(order)]).all()


def test_a_row_is_called_positive_from_the_threshold_on(bundles, monkeypatch):
    bundle, rows = bundles["loans"], cases.live("loans").head(200)
    p = bundle.score(rows)
    for threshold in (float(np.sort(p)[120]), 0.0, 1.0):
        changed = msgspec.structs.replace(bundle.manifest, threshold=threshold)
        monkeypatch.setattr(bundle, "manifest", changed)
        found = predict(bundle, rows)
        assert list(found["prediction"]) == ["bad" if q >= threshold else "good" for q in p]
    assert list(found.columns) == ["prediction", "probability"]


@pytest.mark.parametrize("kind", ["factor", "distance"])
def test_a_number_comes_with_its_interval(kind, bundles, monkeypatch):
    bundle, rows = bundles["homes"], cases.live("homes").head(20)
    assert list(predict(bundle, rows).columns) == ["pid", "prediction"]
    interval = Interval(confidence=0.9, kind=kind, width=1.25)
    changed = msgspec.structs.replace(bundle.manifest, interval=interval)
    monkeypatch.setattr(bundle, "manifest", changed)
    found = predict(bundle, rows)
    assert list(found.columns) == ["pid", "prediction", "low", "high"]
    p, low, high = (found[c].to_numpy() for c in ("prediction", "low", "high"))
    if kind == "factor":
        np.testing.assert_allclose(p / low, high / p)
        np.testing.assert_allclose(high / p, 1.25)
    else:
        np.testing.assert_allclose(p - low, high - p)
        np.testing.assert_allclose(high - p, 1.25)


def test_a_long_table_is_scored_in_blocks_and_an_empty_one_is_empty(bundles, monkeypatch):
    bundle, rows = bundles["loans"], cases.live("loans")
    expected = bundle.score(rows)
    monkeypatch.setattr("truefit.bundle.AT_ONCE", 7)
    # Sums in a product of matrices hang on the number of rows, in their last bits.
    np.testing.assert_allclose(bundle.score(rows), expected, rtol=1e-13)
    assert len(bundle.score(rows.head(0))) == 0


# What it refuses


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda t: t.drop(columns=["age", "price"]), "rows.csv has no column 'age'"),
        (lambda t: t.assign(age=[*t["age"][:6].astype(str), "old", *t["age"][7:]]),
         "rows.csv: age is 'old' in row 7, and must be a number"),
        (lambda t: t.assign(income="1e999"), "income is inf in row 1, and "),
        (lambda t: t.assign(debt=-1e39), "debt is -1e+39 in row 1, and "),
        (lambda t: t.assign(debt=["inf"] + ["1"] * 9), "debt is 'inf' in row 1"),
        (lambda t: t.head(0), "rows.csv has a header but no rows"),
    ],
    ids=["column", "text", "overflow", "too_large", "infinite", "no_rows"],
)  # fmt: skip
def test_a_table_it_cannot_score_is_refused_and_the_last_answer_stays(make, said, loans, capsys):
    (loans / "out.csv").write_text("the last answer", encoding="utf-8")
    table = pd.read_csv(loans / "rows.csv")
    make(table).to_csv(loans / "rows.csv", index=False)
    assert said in refused(loans, capsys)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"rows": "none.csv"}, "none.csv: there is no such file"),
        ({"rows": "rows.xlsx"}, "there is no such file"),
        ({"output": "out.xlsx"}, "can be written as .csv or .parquet"),
        ({"output": "there/out.csv"}, "there is no folder"),
        ({"output": "bundle/../folder.csv"}, "cannot be written"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_named(files, said, loans, capsys):
    (loans / "folder.csv").mkdir()
    sentence = refused(loans, capsys, **files)
    assert said in sentence and next(iter(files.values())).partition(".")[0][:4] in sentence


def test_an_empty_file_is_refused(loans, capsys):
    (loans / "rows.csv").write_text("", encoding="utf-8")
    assert "rows.csv is empty" in refused(loans, capsys)


def manifest_without(*keys):
    def damage(text):
        content = json.loads(text)
        for key in keys:
            del content[key]
        return json.dumps(content)

    return damage


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (
            lambda text: text[: len(text) // 2],
            "manifest.json is damaged (not whole); export the bundle anew",
        ),
        (lambda text: "[]", "is damaged"),
        (lambda text: "", "is damaged"),
        (manifest_without("sha256"), "is damaged"),
        (manifest_without("inputs"), "is damaged"),
        (manifest_without("target", "reading"), "is damaged"),
        (manifest_without("threshold"), "is damaged"),
        (lambda text: text.replace('"format": 3', '"format": 2'), "has format 2, and this version"),
        (lambda text: text.replace('"type": "number"', '"type": "date"', 1), "$.inputs[0].type"),
        (lambda text: text.replace('"name": "age"', '"name": "height"'), "other columns than"),
        (lambda text: '{"format": 99}', "has format 99, and this version reads 3"),
    ],
)
def test_a_manifest_it_cannot_trust_is_refused(damage, said, loans, capsys):
    path = loans / "bundle" / "manifest.json"
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    assert said in refused(loans, capsys)


def test_a_model_with_one_bit_changed_is_refused(loans, capsys):
    path = loans / "bundle" / "model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "is not the file that the manifest describes" in refused(loans, capsys)


@pytest.mark.parametrize("missing", ["model.onnx", "manifest.json"])
def test_a_folder_without_a_file_of_it_is_no_bundle(missing, loans, capsys):
    (loans / "bundle" / missing).unlink()
    assert f"is not a bundle: it has no {missing}" in refused(loans, capsys)


def test_a_mistake_ends_the_command_with_code_1_and_one_sentence(loans, truefit):
    done = truefit(
        "predict", "--bundle", "bundle", "--input", "none.csv", "--output", "out.csv", cwd=loans
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "truefit: none.csv: there is no such file\n"
    assert not (loans / "out.csv").exists()


def test_predictions_are_written_whole_or_not_at_all(tmp_path):
    rows = pd.DataFrame({"id": ["a", "b"], "prediction": [1.5, 2.0]})
    for suffix in (".csv", ".parquet"):
        write_predictions(rows, tmp_path / f"out{suffix}")
    assert (tmp_path / "out.csv").read_bytes() == b"id,prediction\na,1.5\nb,2.0\n"
    assert pd.read_parquet(tmp_path / "out.parquet").to_dict() == rows.to_dict()
    with pytest.raises(Exception, match="Conversion|convert|bytes"):
        write_predictions(rows.assign(prediction=[1, object()]), tmp_path / "out.parquet")
    assert sorted(f.name for f in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == 2


def test_a_bundle_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a bundle"):
        Bundle(tmp_path / "nowhere")
