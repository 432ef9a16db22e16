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
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.linear_model import HuberRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from truefit import export, expressions, training
from truefit.bundle import open_session, run_session
from truefit.case import ABSENT, Limit
from truefit.data_prep import infer_schema
from truefit.export.graph import Graph
from truefit.export.steps import STEPS, formula
from truefit.predict import predict
from truefit.project import InputError
from truefit.task import BinaryClassification, Regression
from truefit.training.neighbours import NeighboursClassifier, NeighboursRegressor
from truefit.training.recalibrated import Recalibrated

# XGBoost counts in float32; all else agrees to twelve digits or more.
TOLERANCE = 3e-7
NUMBER = Regression(table="t.csv", target="y")
REGRESSORS = ["linear", "ridge", "svm", "mlp", "k_nearest_neighbors", "extra_trees"]
BOOSTED = ["hist_gradient_boosting", "xgboost", "lightgbm"]
TREES = {"decision_tree", "random_forest", "extra_trees", *BOOSTED}
BLENDS = [(name, training.BLEND) for name in cases.NAMES]
EXPORTED = [*cases.LEARNED, *BLENDS]
each_exported = pytest.mark.parametrize(("name", "model"), EXPORTED)


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
        for name, model in EXPORTED
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
    edge = export.straddling_rows(fitted, frame.iloc[[0]], most=300)
    empty = frame.head(3).assign(**dict.fromkeys(frame.select_dtypes("number"), np.nan))
    rows = pd.concat([frame, edge, empty, *(rows or [])])
    return export.parity(fitted, bundle, rows, case)["difference"].max()


# The shipped cases


@each_exported
def test_model_and_bundle_agree_on_every_row(name, model, bundles):
    case, fitted, bundle = cases.PARAMS.cases[name], cases.fitted(name, model), bundles[name, model]
    rows = pd.concat([cases.train(name), cases.held_out(name), cases.live(name)], ignore_index=True)
    compared = export.parity(fitted, bundle, rows, case)
    assert len(compared) == len(rows) and compared["difference"].max() <= TOLERANCE
    assert compared["model"].nunique() > 4


def test_a_bundle_of_another_model_is_told_apart(bundles):
    rows, case = cases.held_out("homes"), cases.PARAMS.cases["homes"]
    compared = export.parity(cases.fitted("homes", "ridge"), bundles["homes", "linear"], rows, case)
    assert compared["difference"].min() > TOLERANCE


@each_exported
def test_they_agree_on_rows_on_the_edges_of_trees(name, model, bundles):
    case, fitted = cases.PARAMS.cases[name], cases.fitted(name, model)
    edge = export.straddling_rows(fitted, cases.held_out(name).iloc[[0]], most=500)
    members = cases.BLENDS[name] if model == training.BLEND else {model}
    assert (len(edge) > 20) is bool(TREES.intersection(members))
    if len(edge):
        compared = export.parity(fitted, bundles[name, model], edge, case)
        assert compared["difference"].max() <= TOLERANCE
        assert compared["model"].nunique() > 1  # the edges matter


def test_the_edges_are_spread_over_the_thresholds_and_no_more_than_asked():
    model, row = cases.fitted("homes", "hist_gradient_boosting"), cases.held_out("homes").iloc[[0]]
    edge = export.straddling_rows(model, row, most=300)
    assert 150 * 6 <= len(edge) <= 300 * 6
    changed = (edge != pd.concat([row] * len(edge), ignore_index=True)).sum()
    assert (changed[["gr_liv_area", "year_built"]] > 0).all()


@each_exported
def test_they_agree_where_cells_are_empty_blank_or_never_seen(name, model, bundles):
    case, fitted, bundle = cases.PARAMS.cases[name], cases.fitted(name, model), bundles[name, model]
    kinds = export.input_columns(fitted)
    texts = [c for c, kind in kinds.items() if kind == "text"]
    rows = cases.held_out(name).head(12)[list(kinds)]
    nothing = pd.DataFrame(np.nan, rows.index, rows.columns).astype(dict.fromkeys(texts, "str"))
    strange = ("", None, "?!", " ", "rare", "missing", "absent", "0:", "größe")
    odd = [rows.assign(**dict.fromkeys(texts, v)) for v in strange]
    odd += [nothing, *(rows.assign(**{c: nothing[c]}) for c in kinds)]  # each column empty in turn
    compared = export.parity(fitted, bundle, pd.concat(odd, ignore_index=True), case)
    assert compared["difference"].max() <= TOLERANCE


@each_exported
def test_the_graph_takes_the_raw_columns_and_names_its_answer(name, model, bundles):
    content = (bundles[name, model].folder / "model.onnx").read_bytes()
    graph = onnx.load_from_string(content).graph
    kinds = {onnx.TensorProto.FLOAT: "number", onnx.TensorProto.STRING: "text"}
    declared = {i.name: kinds[i.type.tensor_type.elem_type] for i in graph.input}
    assert declared == export.input_columns(cases.fitted(name, model))
    case, roles = cases.PARAMS.cases[name], cases.schema(name)["columns"]
    read = {c for c, d in roles.items() if d["role"] in {"number", "ordered", "category"}}
    for text in case.features.values():
        read |= set(expressions.columns(expressions.parse(text)))
    assert set(declared) == read
    for column, kind in declared.items():
        assert kind == ("text" if roles[column]["type"] == "text" else "number")
    (output,) = graph.output
    regression = case.task == "regression"
    assert output.name == ("prediction" if regression else "probability")
    assert output.type.tensor_type.shape.dim[1].dim_value == (1 if regression else 2)
    found = run_session(open_session(content), cases.live(name).head(5))
    assert list(found) == [output.name] and found[output.name].shape == (5, 2 - regression)


@pytest.mark.parametrize(("name", "model"), cases.LEARNED)
def test_a_model_has_the_same_graph_each_time_and_in_another_process(name, model):
    fitted = cases.fitted(name, model)
    assert cases.onnx_bytes(fitted) == cases.onnx_bytes(fitted)
    assert cases.files(name, model)[1] == cases.files_of_another_process()[f"{name} {model}"][1]


@pytest.mark.parametrize("model", ["hist_gradient_boosting", training.BLEND])
def test_an_export_leaves_the_model_as_it_was(model):
    fitted, rows = cases.fitted("loans", model), cases.held_out("loans")
    before = fitted.predict_proba(rows)
    export.to_onnx(fitted, "loans")
    assert (fitted.predict_proba(rows) == before).all()


def test_the_members_of_a_blend_share_what_they_prepare_alike(bundles):
    count = {key: len(onnx.load(b.folder / "model.onnx").graph.node) for key, b in bundles.items()}
    members = cases.BLENDS["loans"]
    assert count["loans", "blend"] < 0.8 * sum(count["loans", m] for m in members)


@pytest.mark.parametrize("name", cases.NAMES)
def test_the_dummy_is_refused_in_a_sentence(name):
    with pytest.raises(InputError, match=f"Dummy.* of {name} has no counterpart.*params.yaml"):
        export.to_onnx(cases.fitted(name, "dummy"), name)


# Tables of other people


def numbers(n=300, seed=0):
    return np.random.default_rng(seed).normal(size=n)


STRAINS = [
    pd.DataFrame({"time": (1.7e9 + 1e3 * numbers()).round(), "x": numbers(seed=1)}),
    pd.DataFrame({"time": (1.7e9 + 1e7 * numbers()).round(), "x": numbers(seed=1)}),
    pd.DataFrame({"big": 2.0**53 + 1e9 * numbers(), "small": 1e-30 * numbers(seed=1)}),
    pd.DataFrame({"tiny": np.exp(numbers() - 60), "tail": np.exp(4 * numbers(seed=1))}),
    pd.DataFrame({"constant": 7, "empty": np.nan, "x": numbers()}),
    pd.DataFrame({"tenths": numbers().round(1), "cents": numbers(seed=1).round(2)}),
    pd.DataFrame({"whole": numbers().round().astype("int64"), "half": numbers().round() / 2}),
    pd.DataFrame({"x": np.where(numbers() > 1, np.nan, 1.7e9 + 1e3 * numbers(seed=1))}),
    pd.DataFrame({"two": np.resize([1.7e9, 1.7e9 + 128, np.nan], 300)}),  # median: no float32
    pd.DataFrame({"name": [f"n{i}" for i in range(300)], "x": numbers()}),  # all rare
    pd.DataFrame({"c": np.where(numbers() > 0, "Ä b", "日本\n🙂"), "d": ["rare", "z"] * 150}),
]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("model", REGRESSORS + BOOSTED)
@pytest.mark.parametrize("columns", STRAINS, ids=lambda frame: "_".join(frame.columns))
def test_they_agree_on_columns_that_strain_float32(project, columns, model):
    signal = columns.iloc[:, -1].rank().fillna(0)  # whatever it is, the target goes with it
    y = 100 + signal / 100 + 0.1 * numbers(seed=3)
    assert gap(project, columns.assign(y=y), model) <= TOLERANCE


@pytest.mark.parametrize("model", REGRESSORS + BOOSTED)
@pytest.mark.parametrize("offset", [0, 1e6])
def test_they_agree_on_a_target_around_zero_and_on_one_far_from_it(project, model, offset):
    x = numbers(600)
    frame = pd.DataFrame({"x": x, "y": offset + x + 0.5 * numbers(600, seed=1)})
    assert gap(project, frame, model) <= TOLERANCE


@pytest.mark.parametrize("model", BOOSTED)
def test_they_agree_where_all_that_matters_is_whether_a_cell_is_empty(project, model):
    frame = pd.DataFrame({"x": np.where(numbers() > 0, np.nan, numbers(seed=1))})
    frame["y"] = np.where(frame["x"].isna(), 5.0, 6.0)  # a tree's threshold is infinite here
    assert gap(project, frame, model) <= TOLERANCE


@pytest.mark.parametrize("model", BOOSTED)
@pytest.mark.parametrize("offset", [-10, 0, 10])
def test_they_agree_on_gaps_where_training_had_none(project, model, offset):
    frame = pd.DataFrame({"x": offset + numbers(), "z": numbers(seed=1)})
    frame["y"] = np.abs(frame["x"] - offset) + frame["z"]
    gaps = [frame.assign(x=np.nan), frame.assign(z=np.nan), frame.assign(x=0), frame.assign(z=0)]
    assert gap(project, frame, model, rows=gaps) <= TOLERANCE


CELLS = st.integers(-50, 50).map(lambda k: k / 10) | st.just(np.nan)


@pytest.mark.parametrize("model", ["ridge", "svm", "k_nearest_neighbors", *BOOSTED])
@settings(max_examples=6, deadline=None)
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
    names += ["/variable", "/1", "//c0"]  # a graph has such names inside
    frame = pd.DataFrame({n: numbers(seed=i) for i, n in enumerate(names)})
    frame["label_"] = np.where(frame["a b"] > 0, "p", "q")
    frame["y"] = np.exp(frame["a b"] + 2 * frame["a_b"] + 3 * frame["x0"])
    case = NUMBER.model_copy(update={"log_target": True})
    fitted, bundle = exported(project, frame, model, case)
    assert export.parity(fitted, bundle, frame, case)["difference"].max() <= TOLERANCE
    assert [i.name for i in bundle.inputs] == list(export.input_columns(fitted))
    for name in ("prediction", "label", "probability"):
        with pytest.raises(InputError, match=f"column cannot be called '{name}'"):
            exported(project, frame.rename(columns={"1st": name}), model, case)


@pytest.mark.parametrize("name", ["prediction", "low"])
def test_an_id_must_not_be_called_like_an_answer(project, name):
    frame = pd.DataFrame({name: range(300), "x": numbers(), "y": numbers(seed=1)})
    with pytest.raises(InputError, match=f"id cannot be called '{name}'"):
        exported(project, frame, "ridge", NUMBER.model_copy(update={"id": name}))


@pytest.mark.parametrize("model", [m for m in cases.PARAMS.training.classification if m != "dummy"])
@pytest.mark.parametrize("positive", ["no", "yes"])
def test_the_probability_is_of_the_positive_class_whichever_comes_first(project, model, positive):
    frame = pd.DataFrame({"x": numbers()})
    frame["y"] = np.where(frame["x"] + numbers(seed=1) > 0, "yes", "no")
    case = BinaryClassification(table="t.csv", target="y", positive=positive)
    assert gap(project, frame, model, case) <= TOLERANCE
    _, bundle = exported(project, frame, model, case)
    found = predict(bundle, frame)
    towards = np.corrcoef(found["probability"], frame["x"])[0, 1]
    assert (towards > 0.5) if positive == "yes" else (towards < -0.5)
    assert ((found["probability"] >= 0.5) == (found["prediction"] == positive)).all()


def test_a_column_that_only_a_feature_reads_is_an_input(project):
    frame = pd.DataFrame({"year": np.repeat([2000, 2001, 2002], 100), "x": numbers()})
    frame["y"] = frame["x"] + frame["year"]
    case = NUMBER.model_copy(
        update={
            "time": "year",
            "production_from": 2002,
            "features": {"after": "year - 2000 + x / x", "seven": "3 + 4"},
            "units": {"year": "year"},
        }
    )
    fitted, bundle = exported(project, frame, "ridge", case)
    assert export.input_columns(fitted) == {"x": "number", "year": "number"}
    (year,) = [column for column in bundle.inputs if column.name == "year"]
    assert (year.minimum, year.maximum, year.unit) == (2000, 2002, "year")
    assert export.parity(fitted, bundle, frame, case)["difference"].max() <= TOLERANCE


@pytest.mark.parametrize("strange", ["estimator", "step"])
def test_what_has_no_counterpart_is_refused_in_a_sentence(project, strange):
    frame = pd.DataFrame({"x": numbers(), "y": 5 + numbers(seed=1)})
    model = training.build("ridge", frame, NUMBER, min_category_rows=5, seed=0)
    inside = model.regressor
    if strange == "estimator":
        inside.steps[-1] = ("process", GaussianProcessRegressor())
    else:
        inside[0].transformers[0] = ("number", make_pipeline(PowerTransformer()), ["x"])
    model.fit(frame[["x"]], frame["y"])
    called = "GaussianProcessRegressor" if strange == "estimator" else "PowerTransformer"
    with pytest.raises(InputError, match=f"{called} of t has no counterpart in ONNX"):
        export.to_onnx(model, "t")


def test_a_linear_model_that_is_not_on_the_shelf_is_exported_too(project):
    frame = pd.DataFrame({"x": numbers(), "y": 5 + numbers(seed=1)})
    model = training.build("ridge", frame, NUMBER, min_category_rows=5, seed=0)
    model.regressor.steps[-1] = ("huber", HuberRegressor())
    model.fit(frame[["x"]], frame["y"])
    session = open_session(export.to_onnx(model, "t").SerializeToString())
    found = run_session(session, frame)["prediction"].ravel()
    assert found == pytest.approx(model.predict(frame[["x"]]), rel=TOLERANCE)


# Steps, to the last bit


def ran(made: Graph, result: str, width: int, frame: pd.DataFrame) -> np.ndarray:
    """What a graph under construction computes."""
    model = made.finish("t", "result", result, width)
    return run_session(open_session(model.SerializeToString()), frame)["result"]


def of_step(step, frame: pd.DataFrame) -> np.ndarray:
    """What a fitted step becomes in a graph, on rows of numbers."""
    made = Graph(dict.fromkeys(frame.columns, "number"))
    x = made.widened(made.concat(list(frame.columns)))
    return ran(made, STEPS[type(step)](made, x, step), 1, frame)


TERMS = st.sampled_from(["a", "b", "c"]) | st.sampled_from(["0", "1", "0.1", "2.5", "1e30", "3"])


def larger(term):
    two = st.tuples(term, st.sampled_from(OPERATORS), term)
    functions = st.sampled_from(["minimum({}, {})", "maximum({}, {})", "fill({}, {})"])
    single = st.sampled_from(["sqrt({})", "log1p({})", "missing({})", "-({})"])
    return (
        two.map(lambda t: f"({' '.join(t)})")
        | st.builds(lambda f, s, t: f.format(s, t), functions, term, term)
        | st.builds(lambda f, s: f.format(s), single, term)
        | conditions(term)
    )


def conditions(term):
    one = st.builds("({} {} {})".format, term, st.sampled_from(["<", "==", "!="]), term)
    one |= st.builds("({} in [{}, 1, 2.5])".format, term, term)
    return st.builds("({} {} {})".format, one, st.sampled_from(["and", "or"]), one) | st.builds(
        "(not {})".format, one
    )


OPERATORS = ["+", "-", "*", "/", "//", "%", "<", "<=", ">", ">=", "=="]
VALUES = st.floats(width=32, allow_infinity=False) | st.sampled_from(
    [0.0, -0.0, 1.0, -1.0, 0.1, np.nan, 3e38, -3e38, 1e-40, 16777217.0]
)


@settings(max_examples=150, deadline=None)
@given(
    text=st.recursive(TERMS, larger, max_leaves=8),
    rows=st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=9),
)
def test_an_expression_has_the_same_value_to_the_last_bit(text, rows):
    frame = pd.DataFrame(rows, columns=["a", "b", "c"], dtype="float32")
    node = expressions.parse(text)
    expected = expressions.evaluate(node, {c: frame[c].to_numpy() for c in frame})
    made = Graph(dict.fromkeys(frame.columns, "number"))
    value = formula(made, node, {c: c for c in frame.columns})
    found = ran(made, made.widened(value), 1, frame)
    # A zero's sign is no value: assert_array_equal takes both for one.
    np.testing.assert_array_equal(found[:, 0], np.broadcast_to(expected, len(frame)))


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_a_row_between_two_clusters_goes_to_the_same_one(width):
    rng = np.random.default_rng(width)
    grid = pd.DataFrame(rng.integers(0, 5, (500, width)) / 4, columns=list("abcde")[:width])
    step = training.Clusters(4, seed=0).fit(grid.to_numpy())
    step.centres_ = np.round(step.centres_ * 2) / 2  # on the grid, so that rows lie between them
    step.mean_, step.scale_ = step.mean_ * 0, step.scale_ * 0 + np.float32(0.25)
    rows = pd.concat([grid, grid * 1e3, pd.DataFrame(rng.normal(size=grid.shape)).set_axis(
        grid.columns, axis=1)])  # fmt: skip
    np.testing.assert_array_equal(of_step(step, rows), step.transform(rows.to_numpy()))


def test_logarithms_agree_from_the_smallest_number_to_the_largest():
    frame = pd.DataFrame({"x": np.float32(10.0) ** np.arange(-44, 39, dtype="float32")})
    frame = frame.assign(z=-1.0)
    step = training.LogSkewed().fit(frame.to_numpy())
    assert list(step.logged_) == [True, False]
    rows = pd.concat([frame, frame.assign(x=-frame["x"]), frame * 0])
    expected = step.transform(rows.to_numpy(dtype="float64"))
    np.testing.assert_allclose(of_step(step, rows), expected, rtol=1e-14)


# Recalibration, and neighbours


@pytest.mark.parametrize("inside", ["logistic", training.BLEND])
@pytest.mark.parametrize("positive", ["bad", "good"])
def test_a_recalibrated_classifier_is_exported_too(inside, positive):
    case = cases.PARAMS.cases["loans"].model_copy(update={"positive": positive})
    model = Recalibrated(cases.built("loans", inside), 1.3, -0.4, positive)
    model.estimator_ = cases.fitted("loans", inside)
    model.classes_ = model.estimator_.classes_
    place = list(model.classes_).index(positive)
    rows = pd.concat([cases.held_out("loans"), cases.live("loans")])
    found = run_session(open_session(cases.onnx_bytes(model)), rows)["probability"]
    np.testing.assert_allclose(found, model.predict_proba(rows), atol=TOLERANCE)
    # As a formula would have it: odds to the power of the slope, times a factor.
    p = model.estimator_.predict_proba(rows)[:, place]
    odds = (p / (1 - p)) ** 1.3 * np.exp(-0.4)
    np.testing.assert_allclose(found[:, place], odds / (1 + odds), atol=TOLERANCE)
    edge = export.straddling_rows(model, rows.iloc[[0]])
    assert (len(edge) > 0) is (inside == training.BLEND)
    assert case.positive == positive


def test_a_recalibrated_classifier_can_be_cloned_and_fitted():
    rows = cases.train("loans")
    X, y = rows.drop(columns="status"), rows["status"]
    same = clone(Recalibrated(cases.built("loans", "logistic"))).fit(X, y)
    expected = cases.fitted("loans", "logistic").predict_proba(X)
    np.testing.assert_allclose(same.predict_proba(X), expected, atol=1e-12)
    assert (same.predict(X) == cases.fitted("loans", "logistic").predict(X)).all()
    certain = Recalibrated(cases.built("loans", "decision_tree"), slope=5.0, positive="good")
    p = certain.set_params(estimator__decisiontreeclassifier__max_depth=None).fit(X, y)
    assert np.isfinite(p.predict_proba(X)).all()


def test_neighbours_break_ties_by_the_order_of_the_rows(project):
    X = np.array([[0.0], [2.0], [2.0 + 1e-9], [0.0]])
    model = NeighboursRegressor(2, weights="distance").fit(X, [1.0, 2.0, 3.0, 4.0])
    assert model.kneighbors([[1.0]], return_distance=False).tolist() == [[0, 1]]
    np.testing.assert_allclose(model.predict([[1.0], [0.0], [5.0]]), [1.5, 2.5, 2.5])
    labels = NeighboursClassifier(3, weights="distance").fit(X, ["p", "q", "q", "p"])
    np.testing.assert_allclose(labels.predict_proba([[1.0], [0.0]]), [[1 / 3, 2 / 3], [1, 0]])
    # Three values in three columns: rows equally far away are the rule.
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.integers(0, 3, (400, 3)).astype(float), columns=list("abc"))
    frame["y"] = rng.normal(size=400) + 10
    assert gap(project, frame, "k_nearest_neighbors") <= TOLERANCE


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
            assert set(values.dropna()) - {ABSENT} == set(column["categories"])
    assert manifest["target"]["name"] == case.target and manifest["task"] == case.task
    assert manifest["target"]["unit"] == case.unit(case.target)
    content = (bundle.folder / "model.onnx").read_bytes()
    assert manifest["sha256"] == {"model.onnx": hashlib.sha256(content).hexdigest()}
    table = (cases.ROOT / case.table).read_bytes()
    assert manifest["data"]["sha256"] == {case.table: hashlib.sha256(table).hexdigest()}
    assert manifest["data"]["training_rows"] == len(train)
    if case.task == "classification":
        assert manifest["classes"] == ["bad", "good"] and manifest["positive"] == "bad"
        assert manifest["threshold"] == case.threshold


def test_the_card_says_how_good_the_model_is_and_what_the_gate_found(bundles):
    case = cases.PARAMS.cases["homes"].model_copy(
        update={"gate": [Limit(metric="r2", at_least=0.85)]}
    )
    metrics = {"r2": {"value": 0.9123, "low": 0.8765, "high": 0.9345}}
    failed = {"check": "R² at least 0.85", "passed": False, "reason": "the worse end is 0.8"}
    verdict = {**cases.VERDICT, "passed": False, "checks": [*cases.VERDICT["checks"], failed]}
    content = export.manifest(
        cases.fitted("homes", "ridge"),
        cases.schema("homes"),
        case,
        name="homes",
        winner="ridge",
        metrics=metrics,
        verdict=verdict,
        files={},
        interval={"confidence": 0.9, "kind": "factor", "width": 1.2},
    )
    card = export.model_card(content, case, test_rows=1234)
    for said in (
        "# Model card: House sales in Ames",
        "| R² | 0.912 | 0.876 to 0.934 |",
        "95% interval",
        "## Gate: failed",
        "passed: better than the dummy (by far)",
        "failed: R² at least 0.85 (the worse end is 0.8)",
        "`sale_price`, in US dollars",
        "1,234 rows",
        "logarithm",
        "gr_liv_area > 4000",
        "the prediction divided by 1.20 to the prediction times 1.20",
        "90% of the training rows",
    ):
        assert said in card
