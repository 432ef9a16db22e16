"""A bundle scores tables by itself, as the training read them, and refuses what it cannot score."""

import json
import os
import shutil
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import cases
import msgspec
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import cli, data_prep, export, onnx_file, training
from truefit.bundle import Bundle, open_session
from truefit.export.graph import Graph
from truefit.manifest import Interval
from truefit.metrics import predictions
from truefit.predict import predict, read_rows, write_predictions
from truefit.project import InputError
from truefit.task import BinaryClassification

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
    case = BinaryClassification(
        table="t.csv", target="y", positive=positive, separator=";",
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


# What a model may hold


def messages(message, path=()):
    """Every message inside one, with the names of the fields that lead to it."""
    yield path, message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for one in value if field.is_repeated else [value]:
                yield from messages(one, (*path, field.name))


def graph(bundles) -> onnx.ModelProto:
    """A model with every message that the export writes."""
    found = onnx.load(bundles["homes"].folder / "model.onnx")
    trees = onnx.load(bundles["machines"].folder / "model.onnx").graph.node
    found.graph.node.extend(node for node in trees if node.op_type == "TreeEnsemble")
    return found


def refusal(model: onnx.ModelProto | bytes) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(onnx_file.ForeignError) as refused:
        onnx_file.check(content)
    return str(refused.value)


def test_no_field_is_taken_that_the_export_does_not_write(bundles):
    """Whatever ONNX has beside them, in whatever message: each in turn is put in, and refused."""
    whole, tried = graph(bundles), set()
    onnx_file.check(whole.SerializeToString())
    names = {"ModelProto", "GraphProto", "NodeProto", "AttributeProto", "TensorProto"}
    for path, message in messages(whole):
        kind = message.DESCRIPTOR.name
        for field in message.DESCRIPTOR.fields if kind in names else ():
            if (kind, field.name) in tried or field.number in known(kind):
                continue
            tried.add((kind, field.name))
            before = message.SerializeToString()
            wire = {field.TYPE_FLOAT: 5, field.TYPE_DOUBLE: 1}.get(field.type, 0)
            wire = 2 if field.type in (9, 11, 12) else wire  # texts, messages, bytes
            value = {0: b"\1", 1: bytes(8), 2: b"\0", 5: bytes(4)}[wire]
            message.MergeFromString(bytes(varint(field.number << 3 | wire)) + value)
            assert refusal(whole), (path, field.name)
            message.ParseFromString(before)
    assert len(tried) > 20
    assert {("TensorProto", "external_data"), ("GraphProto", "sparse_initializer"),
            ("AttributeProto", "g"), ("ModelProto", "functions")} <= tried  # fmt: skip


def known(kind: str) -> dict:
    return onnx_file.FIELDS[kind.removesuffix("Proto").lower()]


@pytest.mark.parametrize(
    ("kind", "domain", "said"),
    [
        ("Loop", "", "the operator Loop, which the export does not write"),
        ("If", "", "the operator If, which"),
        ("Scan", "", "the operator Scan, which"),
        ("Add", "com.evil", "the operator Add of com.evil, which"),
        ("TreeEnsemble", "", "the operator TreeEnsemble, which"),
        ("Inverse", "com.microsoft", "the operator Inverse of com.microsoft, which"),
        ("", "", "the operator , which"),
        ("A" * 99, "", f"the operator {'A' * 60}, which"),
    ],
)
def test_no_operator_is_taken_that_the_export_does_not_write(kind, domain, said, bundles):
    changed = graph(bundles)
    changed.graph.node.add(op_type=kind, domain=domain)
    assert refusal(changed).startswith(said)


def test_two_names_of_one_operator_are_refused(bundles):
    """A parser takes the last, or another one the first."""
    changed = graph(bundles)
    node = changed.graph.node[-1].SerializeToString()
    twice = onnx.ModelProto()
    twice.graph.node.add().ParseFromString(node)
    content = twice.SerializeToString()
    onnx_file.check(content)
    both = bytes([(4 << 3) | 2, 3]) + b"Add" + node
    inner = bytes([(1 << 3) | 2, *varint(len(both))]) + both
    assert "several" in refusal(bytes([(7 << 3) | 2, *varint(len(inner))]) + inner)


def varint(n: int) -> list[int]:
    return [n] if n < 128 else [n & 127 | 128, *varint(n >> 7)]


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_damaged_model_is_refused_or_read_as_onnx_reads_it(data, bundles):
    """No byte makes a difference between what is looked through and what is run."""
    content = bytearray(small_graph())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        end = at + data.draw(st.integers(0, 2))
        content[at:end] = data.draw(st.binary(max_size=3))
    try:
        onnx_file.check(bytes(content))
    except onnx_file.ForeignError:
        return
    try:
        found = onnx.load_from_string(bytes(content))
    except Exception:  # what is no text, say; it is not run either
        return
    for _, message in messages(found):
        if (kind := message.DESCRIPTOR.name) in onnx_file.FIELDS:
            assert {f.number for f, _ in message.ListFields()} <= known(kind).keys()
    assert all(onnx_file.DOMAINS[n.op_type] == n.domain for n in found.graph.node)


@cache
def small_graph() -> bytes:
    made = Graph({"x": "number"})
    return made.finish("t", "prediction", made.product(made.double("x"), np.ones((1, 1))), 1
                       ).SerializeToString()  # fmt: skip


def test_every_operator_that_may_be_run_is_one_that_the_export_writes():
    sources = "".join(
        file.read_text(encoding="utf-8")
        for file in [*(cases.ROOT / "src/truefit/export").glob("*.py"),
                     cases.ROOT / "src/truefit/expressions.py"]
    )  # fmt: skip
    of_bytes = {"DynamicQuantizeLinear", "MatMulInteger"}  # ONNX Runtime's quantisation writes them
    unused = {kind for kind in onnx_file.DOMAINS if f'"{kind}"' not in sources}
    assert unused == of_bytes


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fewer_digits_and_bytes_are_operators_that_may_be_run():
    model = cases.fitted("machines", "mlp")
    variants = export.own_variants(model, "mlp", "machines").values()
    kinds = set()
    for variant in variants:
        onnx_file.check(variant.content)
        kinds |= {node.op_type for node in onnx.load_from_string(variant.content).graph.node}
    assert {"DynamicQuantizeLinear", "MatMulInteger"} < kinds


def test_an_operator_that_nobody_would_run_is_not_written():
    with pytest.raises(KeyError):
        Graph({"x": "number"}).op("Loop", "x")


def test_a_large_model_is_looked_through_in_a_moment(bundles):
    """The numbers of trees come as a field each, a million of them."""
    changed = graph(bundles)
    changed.graph.node[-1].attribute[0].ints.extend(range(1_000_000))
    content = changed.SerializeToString()
    start = time.process_time()
    onnx_file.check(content)
    assert time.process_time() - start < 0.5


def test_the_format_of_onnx_runtime_is_not_taken(tmp_path):
    """It is known by four bytes, which an ONNX file may have."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    onnxruntime.InferenceSession(small_graph(), options)
    with pytest.raises(Exception, match="protobuf"):
        open_session((tmp_path / "model.ort").read_bytes())


def test_a_file_elsewhere_is_none_of_the_bundle(loans, capsys):
    """A link may lead to another place within the bundle, as Kubernetes has it, and to no other."""
    folder = loans / "bundle"
    for name in ("model.onnx", "manifest.json"):
        (folder / "..data").mkdir(exist_ok=True)
        (folder / name).rename(folder / "..data" / name)
        (folder / name).symlink_to(Path("..data", name))
    assert score_by_command(loans) == 0
    capsys.readouterr()
    (loans / "out.csv").unlink()
    for name in ("model.onnx", "manifest.json"):
        (folder / "..data" / name).rename(loans / name)
        (folder / "..data" / name).symlink_to(loans / name)
        assert "outside of the bundle" in refused(loans, capsys)
        (folder / "..data" / name).unlink()
        (loans / name).rename(folder / "..data" / name)
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to("model.onnx")
    assert "cannot be read" in refused(loans, capsys)


def test_a_bundle_that_is_no_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a bundle"):
        Bundle(tmp_path / "nowhere")
