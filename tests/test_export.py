"""The bundle answers as the model does, on every row, whatever is in it."""

import hashlib
import json

import cases
import numpy as np
import onnx
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import export, training
from truefit.data_prep import infer_schema
from truefit.params import Case, Limit
from truefit.project import InputError

TOLERANCE = cases.PARAMS.export.tolerance
NUMBER = Case(table="t.csv", target="y", task="regression")
REGRESSORS = ["linear", "ridge", "hist_gradient_boosting"]
each_learned = pytest.mark.parametrize(("name", "model"), cases.LEARNED)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundles")
    return {
        (name, model): cases.write_bundle(
            folder / name / model,
            cases.fitted(name, model),
            cases.PARAMS.cases[name],
            cases.schema(name),
        )
        for name, model in cases.LEARNED
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of one table, t.csv, whose content each test brings."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "notebooks").mkdir()
    for name in ("params.yaml", "t.csv"):
        (folder / name).write_text("", encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUEFIT_PROJECT", str(folder))
        yield folder


def exported(project, frame, model, case=NUMBER, min_category_rows=5):
    built = training.build(model, frame, case, min_category_rows=min_category_rows, seed=0)
    fitted = built.fit(frame.drop(columns=case.target), frame[case.target])
    return fitted, cases.write_bundle(project / "b", fitted, case, infer_schema(frame, case))


def gap(project, frame, model, case=NUMBER, rows=None):
    """The largest difference between model and bundle, on the training rows and on more."""
    fitted, bundle = exported(project, frame, model, case)
    rows = pd.concat([frame, export.straddling_rows(fitted, frame.iloc[[0]]), *(rows or [])])
    return export.parity(fitted, bundle, rows, case)["difference"].max()


# The shipped cases


@each_learned
def test_model_and_bundle_agree_on_every_test_and_live_row(name, model, bundles):
    case, fitted, bundle = cases.PARAMS.cases[name], cases.fitted(name, model), bundles[name, model]
    rows = pd.concat([cases.held_out(name), cases.live(name)], ignore_index=True)
    compared = export.parity(fitted, bundle, rows, case)
    assert len(compared) == len(rows) and compared["difference"].max() <= TOLERANCE
    # Two numbers are compared, not one with itself.
    assert compared["difference"].max() > 0


@each_learned
def test_they_agree_on_rows_on_the_edges_of_trees(name, model, bundles):
    case, fitted = cases.PARAMS.cases[name], cases.fitted(name, model)
    edge = export.straddling_rows(fitted, cases.held_out(name).iloc[[0]])
    assert (len(edge) > 100) is (model == "hist_gradient_boosting")
    if len(edge):
        compared = export.parity(fitted, bundles[name, model], edge, case)
        assert compared["difference"].max() <= TOLERANCE
        assert compared["model"].nunique() > 20  # the edges matter


def test_the_edges_are_spread_over_the_thresholds_and_no_more_than_asked():
    model, row = cases.fitted("ames", "hist_gradient_boosting"), cases.held_out("ames").iloc[[0]]
    edge = export.straddling_rows(model, row, most=700)
    assert 350 * 6 <= len(edge) <= 700 * 6
    changed = (edge != pd.concat([row] * len(edge), ignore_index=True)).sum()
    assert (changed[["gr_liv_area", "year_built"]] > 0).all()


@each_learned
def test_they_agree_where_cells_are_empty_blank_or_never_seen(name, model, bundles):
    case, fitted, bundle = cases.PARAMS.cases[name], cases.fitted(name, model), bundles[name, model]
    kinds = export.input_columns(fitted)
    texts = [c for c, kind in kinds.items() if kind == "text"]
    rows = cases.held_out(name).head(30)[list(kinds)]
    nothing = pd.DataFrame(np.nan, rows.index, rows.columns).astype(dict.fromkeys(texts, "str"))
    odd = [rows.assign(**dict.fromkeys(texts, v)) for v in ("", None, "?!", " ", "rare", "größe")]
    odd += [nothing, *(rows.assign(**{c: nothing[c]}) for c in kinds)]  # each column empty in turn
    compared = export.parity(fitted, bundle, pd.concat(odd, ignore_index=True), case)
    assert compared["difference"].max() <= TOLERANCE


@each_learned
def test_the_graph_takes_the_raw_columns_and_names_its_answers(name, model, bundles):
    graph = onnx.load(bundles[name, model].folder / "model.onnx").graph
    kinds = {onnx.TensorProto.FLOAT: "number", onnx.TensorProto.STRING: "text"}
    declared = {i.name: kinds[i.type.tensor_type.elem_type] for i in graph.input}
    assert declared == export.input_columns(cases.fitted(name, model))
    roles = cases.schema(name)["columns"]
    assert set(declared) == {
        c for c, d in roles.items() if d["role"] in {"number", "ordered", "category"}
    }
    for column, kind in declared.items():
        assert kind == ("text" if roles[column]["type"] == "text" else "number")
    task = cases.PARAMS.cases[name].task
    expected = ["prediction"] if task == "regression" else ["label", "probability"]
    assert [o.name for o in graph.output] == expected


@each_learned
def test_a_model_has_the_same_graph_each_time_and_in_another_process(name, model):
    fitted = cases.fitted(name, model)
    assert cases.onnx_bytes(fitted) == cases.onnx_bytes(fitted)
    assert cases.files(name, model)[1] == cases.files_of_another_process()[f"{name} {model}"][1]


def test_an_export_leaves_the_model_as_it_was():
    model, rows = cases.fitted("credit", "hist_gradient_boosting"), cases.held_out("credit")
    before = model.predict_proba(rows)
    export.to_onnx(model, "credit")
    assert (model.predict_proba(rows) == before).all()


@pytest.mark.parametrize("name", cases.NAMES)
def test_the_dummy_is_refused_in_a_sentence(name):
    with pytest.raises(InputError, match=f"Dummy.* of {name} has no counterpart.*params.yaml"):
        export.to_onnx(cases.fitted(name, "dummy"), name)


# Tables of other people


def numbers(n=300, seed=0):
    return np.random.default_rng(seed).normal(size=n)


@pytest.mark.parametrize("model", REGRESSORS)
@pytest.mark.parametrize(
    "columns",
    [
        pd.DataFrame({"time": (1.7e9 + 1e3 * numbers()).round(), "x": numbers(seed=1)}),
        pd.DataFrame({"time": (1.7e9 + 1e7 * numbers()).round(), "x": numbers(seed=1)}),
        pd.DataFrame({"big": 2.0**53 + 1e9 * numbers(), "small": 1e-30 * numbers(seed=1)}),
        pd.DataFrame({"constant": 7, "empty": np.nan, "x": numbers()}),
        pd.DataFrame({"tenths": numbers().round(1), "cents": numbers(seed=1).round(2)}),
        pd.DataFrame({"whole": numbers().round().astype("int64"), "half": numbers().round() / 2}),
        pd.DataFrame({"x": np.where(numbers() > 1, np.nan, 1.7e9 + 1e3 * numbers(seed=1))}),
        pd.DataFrame({"two": np.resize([1.7e9, 1.7e9 + 128, np.nan], 300)}),  # median: no float32
        pd.DataFrame({"name": [f"n{i}" for i in range(300)], "x": numbers()}),  # all rare
        pd.DataFrame({"c": np.where(numbers() > 0, "Ä b", "日本\n🙂"), "d": ["rare", "z"] * 150}),
    ],
    ids=lambda frame: "_".join(frame.columns),
)
def test_they_agree_on_columns_that_strain_float32(project, columns, model):
    signal = columns.iloc[:, -1].rank().fillna(0)  # whatever it is, the target goes with it
    y = 100 + signal / 100 + 0.1 * numbers(seed=3)
    assert gap(project, columns.assign(y=y), model) <= TOLERANCE


@pytest.mark.parametrize("model", REGRESSORS)
@pytest.mark.parametrize("offset", [0, 1e6])
def test_they_agree_on_a_target_around_zero_and_on_one_far_from_it(project, model, offset):
    x = numbers(3000)
    frame = pd.DataFrame({"x": x, "y": offset + x + 0.5 * numbers(3000, seed=1)})
    assert gap(project, frame, model) <= TOLERANCE


def test_they_agree_where_all_that_matters_is_whether_a_cell_is_empty(project):
    frame = pd.DataFrame({"x": np.where(numbers() > 0, np.nan, numbers(seed=1))})
    frame["y"] = np.where(frame["x"].isna(), 5.0, 6.0)  # a tree's threshold is infinite here
    assert gap(project, frame, "hist_gradient_boosting") <= TOLERANCE


CELLS = st.integers(-50, 50).map(lambda k: k / 10) | st.just(np.nan)


@pytest.mark.parametrize("model", REGRESSORS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_they_agree_on_small_tables_of_decimals_and_texts(project, model, data):
    row = st.tuples(CELLS, CELLS, st.sampled_from(["p", "q", "r", None]))
    rows = data.draw(st.lists(row, min_size=40, max_size=60, unique=True))
    frame = pd.DataFrame(rows, columns=["a", "b", "c"]).astype({"c": "str"})
    frame["y"] = 5 + frame["a"].fillna(0) - frame["b"].fillna(1) + (frame["c"] == "p")
    assert gap(project, frame, model) <= TOLERANCE


@pytest.mark.parametrize("model", ["ridge", "hist_gradient_boosting"])
def test_columns_may_have_any_name_but_an_outputs(project, model):
    names = ["variable", "a b", "a_b", "1st", "x/y.z", "größe", "x0", "exponential", "名"]
    names += ["/variable", "/merged_columns"]  # a graph has such names inside
    frame = pd.DataFrame({n: numbers(seed=i) for i, n in enumerate(names)})
    frame["label_"] = np.where(frame["a b"] > 0, "p", "q")
    frame["y"] = np.exp(frame["a b"] + 2 * frame["a_b"] + 3 * frame["x0"])
    case = NUMBER.model_copy(update={"log_target": True})
    fitted, bundle = exported(project, frame, model, case)
    assert export.parity(fitted, bundle, frame, case)["difference"].max() <= TOLERANCE
    assert [i["name"] for i in bundle.inputs] == list(export.input_columns(fitted))
    for name in ("prediction", "label", "probability"):
        with pytest.raises(InputError, match=f"column cannot be called '{name}'"):
            exported(project, frame.rename(columns={"1st": name}), model, case)


def test_an_id_must_not_be_called_like_an_output(project):
    frame = pd.DataFrame({"prediction": range(300), "x": numbers(), "y": numbers(seed=1)})
    with pytest.raises(InputError, match="id cannot be called 'prediction'"):
        exported(project, frame, "ridge", NUMBER.model_copy(update={"id": "prediction"}))


@pytest.mark.parametrize("model", ["logistic", "hist_gradient_boosting"])
@pytest.mark.parametrize("positive", ["no", "yes"])
def test_the_probability_is_of_the_positive_class_whichever_comes_first(project, model, positive):
    frame = pd.DataFrame({"x": numbers()})
    frame["y"] = np.where(frame["x"] + numbers(seed=1) > 0, "yes", "no")
    case = Case(table="t.csv", target="y", task="classification", positive=positive)
    assert gap(project, frame, model, case) <= TOLERANCE
    _, bundle = exported(project, frame, model, case)
    found = bundle.predict(frame)
    towards = np.corrcoef(found["probability"], frame["x"])[0, 1]
    assert (towards > 0.5) if positive == "yes" else (towards < -0.5)
    assert ((found["probability"] > 0.5) == (found["prediction"] == positive)).all()


# The manifest and the card


@pytest.mark.parametrize("name", cases.NAMES)
def test_the_manifest_describes_every_input(name, bundles):
    model = cases.LEARNED[[n for n, _ in cases.LEARNED].index(name)][1]
    bundle, case = bundles[name, model], cases.PARAMS.cases[name]
    text = (bundle.folder / "manifest.json").read_text(encoding="utf-8")
    manifest = json.loads(text)
    assert export.as_json(manifest) == text
    train = cases.train(name)
    for column in manifest["inputs"]:
        values = train[column["name"]]
        assert column["missing_share"] == pytest.approx(values.isna().mean(), abs=1e-6)
        assert column.get("unit", "") == case.unit(column["name"])
        assert column.get("absent", False) is (column["name"] in case.absent)
        if column["type"] == "number":
            assert (column["minimum"], column["maximum"]) == (values.min(), values.max())
        else:
            assert set(values.dropna()) <= set(column["categories"])
    assert manifest["target"]["name"] == case.target and manifest["task"] == case.task
    assert manifest["target"]["unit"] == case.unit(case.target)
    content = (bundle.folder / "model.onnx").read_bytes()
    assert manifest["sha256"] == {"model.onnx": hashlib.sha256(content).hexdigest()}
    table = (cases.ROOT / case.table).read_bytes()
    assert manifest["data"]["sha256"] == {case.table: hashlib.sha256(table).hexdigest()}
    assert manifest["data"]["training_rows"] == len(train)
    if case.task == "classification":
        assert manifest["classes"] == ["bad", "good"] and manifest["positive"] == "bad"


def test_the_card_says_how_good_the_model_is_and_what_the_gate_found(bundles):
    case = cases.PARAMS.cases["ames"].model_copy(
        update={"gate": [Limit(metric="r2", at_least=0.85)]}
    )
    metrics = {"r2": {"value": 0.9123, "low": 0.8765, "high": 0.9345}}
    failed = {"check": "R² at least 0.85", "passed": False, "reason": "the worse end is 0.8"}
    verdict = {**cases.VERDICT, "passed": False, "checks": [*cases.VERDICT["checks"], failed]}
    content = export.manifest(
        cases.fitted("ames", "ridge"),
        cases.schema("ames"),
        case,
        name="ames",
        winner="ridge",
        metrics=metrics,
        verdict=verdict,
        files={},
    )
    card = export.model_card(content, case, test_rows=1234)
    for said in (
        "# Model card: House sales in Ames",
        "| R² | 0.9123 | 0.8765 to 0.9345 |",
        "95% interval",
        "## Gate: failed",
        "passed: better than the dummy (by far)",
        "failed: R² at least 0.85 (the worse end is 0.8)",
        "`sale_price`, in US dollars",
        "1,234 rows",
        "logarithm",
        "gr_liv_area > 4000",
    ):
        assert said in card
