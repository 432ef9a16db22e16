"""A smaller variant is what it says, and ships only where the rule allows it."""

import hashlib
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import cases
import numpy as np
import odd_tables
import onnx
import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from truefit import evaluation, export, params, training
from truefit.bundle import open_session
from truefit.export.distil import taught
from truefit.export.graph import Graph
from truefit.export.prune import zeroed
from truefit.export.trees import Tree, ensemble
from truefit.metrics import predictions
from truefit.project import InputError

SETTINGS = cases.PARAMS.export
# The network stops after a fixed number of steps on purpose.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FOLDS = {"folds": 2, "seed": 1}
EXPORTED = [*cases.LEARNED, *((name, training.BLEND) for name in cases.NAMES)]
OF_TREES = {
    *("decision_tree", "random_forest", "extra_trees"),
    *("hist_gradient_boosting", "xgboost", "lightgbm"),
}
WINNERS = {"homes": "svm", "loans": training.BLEND, "machines": "hist_gradient_boosting"}


def case(name):
    return cases.PARAMS.cases[name]


def features(rows, name):
    return rows.drop(columns=case(name).target)


def extent(name):
    known = cases.schema(name)["columns"][case(name).target]
    return known.get("maximum", 0) - known.get("minimum", 0)


def change(name, before, after):
    return export.difference(before, after, case(name), extent(name)).max()


def rows_of(name, model):
    """Test rows, live rows, rows on the edges of trees, and one in which every cell is empty."""
    test = features(cases.held_out(name), name)
    edge = export.edge_rows(cases.fitted(name, model), test)
    nothing = pd.DataFrame({c: test[c].head(0).reindex([0]) for c in test})
    return pd.concat([test, cases.live(name), edge, nothing], ignore_index=True)


@cache
def pruned(name, kind):
    models = {m: cases.fitted(name, m) for m in ("decision_tree", "lightgbm", "mlp")}
    return export.prune(kind, "mlp", models, cases.train(name), case(name), **FOLDS)


@cache
def students(name, student="decision_tree"):
    teacher = export.exactly(cases.fitted(name, WINNERS[name]), WINNERS[name], name)
    return export.students(
        teacher, cases.train(name), case(name), name, made=8000, seed=1, student=student
    )


def every_variant(name):
    found = export.own_variants(cases.fitted(name, WINNERS[name]), WINNERS[name], name)
    for kind in export.KINDS:
        part = pruned(name, kind)
        found |= export.pruned_variants(part, cases.fitted(name, part.of), name)
    return found | students(name)


# Every variant


@pytest.mark.parametrize("name", ["loans", "machines"])
def test_every_variant_loads_and_answers_as_its_model_does_with_finite_numbers(name):
    rows = pd.concat([cases.held_out(name).head(80), cases.live(name).head(80)])
    for variant in every_variant(name).values():
        said = export.answers(variant, rows, case(name))
        assert said.shape == (160,) and np.isfinite(said).all()
        if case(name).task == "classification":
            assert (np.abs(said - 0.5) <= 0.5 + 1e-9).all()
        if variant.model is not None:
            assert change(name, predictions(variant.model, rows, case(name)), said) < 1e-6


def test_a_size_is_the_files_and_a_change_is_what_two_scorings_show(tmp_path):
    variants = every_variant("loans")
    test, live = cases.held_out("loans"), cases.live("loans")
    draws = evaluation.bootstrap_weights(len(test), 100, 0)
    table = export.compare(variants, test, live, case("loans"), 0.0, draws, confidence=0.9)
    assert list(table.index) == list(variants)
    for name, row in table.iterrows():
        file = tmp_path / "model.onnx"
        file.write_bytes(variants[name].content)
        assert row["bytes"] == file.stat().st_size > row["gzipped"] > 0
        whole = variants[row["of"]]
        seen = pd.concat([test, live])
        apart = change(
            "loans",
            export.answers(whole, seen, case("loans")),
            export.answers(variants[name], seen, case("loans")),
        )
        assert row["change"] >= apart
        assert row["low"] <= row["value"] <= row["high"]
        if not variants[name].done:
            assert (row["change"], row["gap"], row["gap_low"], row["gap_high"]) == (0, 0, 0, 0)


def digests():
    found = every_variant("machines")
    return {n: hashlib.sha256(v.content).hexdigest() for n, v in found.items()}


def test_a_variant_has_the_same_bytes_each_time_and_in_another_process():
    script = "import json, test_compress; print(json.dumps(test_compress.digests()))"
    found = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "7"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert json.loads(found.stdout) == digests()


@pytest.mark.usefixtures("coarse_figures")
@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@settings(odd_tables.SAME, max_examples=4)
@given(parts=odd_tables.parts(), data=st.data())
def test_variants_of_a_model_of_any_table_are_compared_judged_and_shown(parts, data):
    names = {"regression": ["ridge", "mlp", "xgboost", "svm"], "classification": ["mlp", "svm"]}
    winner = data.draw(st.sampled_from(names[parts.case.task]))
    model, rows = odd_tables.fitted(parts, winner), parts.test.drop(columns=parts.case.target)
    own = export.own_variants(model, winner, "t")
    target = parts.train[parts.case.target]
    wide = float(target.max() - target.min()) if parts.case.task == "regression" else 0.0
    gap = export.difference(
        predictions(model, rows, parts.case), export.answers(own[winner], rows, parts.case),
        parts.case, wide,
    )  # fmt: skip
    export.require_parity(gap, SETTINGS.tolerance, winner)
    export.plot_parity(pd.DataFrame({"difference": gap}), SETTINGS.tolerance)
    draws = evaluation.bootstrap_weights(len(rows), 100, 0)
    more = parts.live.drop(columns=parts.case.target)
    found = export.compare(own, parts.test, more, parts.case, wide, draws, confidence=0.9)
    judged = export.judge_variants(found, winner, parts.case, SETTINGS)
    assert not found["change"].isna().any()
    assert judged.loc[export.smallest(judged), "change"] <= SETTINGS.largest_change
    times = export.timings("t", judged["bytes"])
    export.variants_table(judged, times, parts.case, "variants")
    export.plot_variants(judged, winner, SETTINGS.largest_change)
    for kind in export.KINDS:
        if pruned := export.prune(kind, winner, {winner: model}, parts.train, parts.case, **FOLDS):
            assert 0 <= pruned.left <= pruned.whole
            export.plot_pruned(pruned, parts.case, kind)


def test_a_difference_is_none_where_both_fail_and_infinite_where_one_does():
    said, got = np.array([1.0, np.nan, np.nan, np.inf, 0.0]), np.array([1.1, np.nan, 1, np.inf, 0])
    found = export.difference(said, got, case("machines"), 0.0)
    assert found.tolist() == pytest.approx([0.1, 0, np.inf, 0, 0])
    with pytest.raises(InputError, match=r"w and its graph differ by inf in row 3 of 5 .* raise"):
        export.require_parity(found, 0.2, "w")


# Fewer digits


@pytest.mark.parametrize(("name", "model"), EXPORTED)
def test_fewer_digits_make_a_smaller_file_that_answers_nearly_the_same(name, model):
    if model == "k_nearest_neighbors" or (name, model) == ("machines", training.BLEND):
        pytest.skip("which rows are nearest may hang on the last digit")
    fitted = cases.fitted(name, model)
    own = export.own_variants(fitted, model, name)
    rows = rows_of(name, model)
    before = export.answers(own[model], rows, case(name))
    after = export.answers(own[f"{model}, float32"], rows, case(name))
    assert change(name, before, after) < 1e-3
    size, whole = (len(own[n].content) for n in (f"{model}, float32", model))
    # XGBoost has no more digits to lose, and a linear model hardly any weights.
    assert size < 0.85 * whole or size - whole < 500
    if model in OF_TREES:
        assert change(name, before, after) < 1e-5  # no row takes another turn
        assert f"{model}, float16" not in own


def test_neighbours_in_fewer_digits_are_still_counted_in_float64():
    own = export.own_variants(cases.fitted("loans", "k_nearest_neighbors"), "k", "loans")
    rows = cases.held_out("loans")
    before, after = (export.answers(own[n], rows, case("loans")) for n in ("k", "k, float32"))
    assert np.median(np.abs(after - before)) < 1e-6
    assert len(own["k, float32"].content) < 0.6 * len(own["k"].content)


def test_a_graph_keeps_what_prepares_the_columns_in_float64():
    model = cases.fitted("homes", "svm")
    graph = onnx.load_from_string(export.as_bytes(export.to_onnx(model, "homes", "float32"))).graph
    (output,) = graph.output
    assert output.type.tensor_type.elem_type == onnx.TensorProto.DOUBLE
    kinds = {t.data_type: 0 for t in graph.initializer}
    for tensor in graph.initializer:
        kinds[tensor.data_type] += int(np.prod(tensor.dims))
    assert kinds[onnx.TensorProto.FLOAT] > 50 * kinds[onnx.TensorProto.DOUBLE]


def one_split(threshold, precision):
    numbers = np.array([threshold, 0, 0])
    leaf, go = np.array([1, -1, -1]), np.zeros(3, bool)
    tree = Tree(np.zeros(3, int), numbers, leaf, leaf * 2, go, np.array([0.0, 1, 2]))
    graph = Graph({"x": "number"}, precision)
    with graph.of_estimator():
        x = "x" if precision == "float32" else graph.double("x")
        found = ensemble(graph, x, [tree])
    return open_session(export.as_bytes(graph.finish("t", "prediction", graph.double(found), 1)))


@pytest.mark.parametrize("threshold", [0.1, -0.1, 1 / 3, 16777217.0, 1e300, -1e300, 1e-300, 2.5])
def test_a_row_takes_the_same_turn_at_a_threshold_in_fewer_digits(threshold):
    with np.errstate(over="ignore"):
        near = np.float32(threshold)
    sides = [np.nextafter(near, np.float32(s)) for s in (-np.inf, np.inf)]
    x = np.array([near, *sides, 0, np.nan], np.float32)
    x = x[~np.isinf(x)].reshape(-1, 1)
    fine, coarse = (one_split(threshold, p).run(None, {"x": x})[0] for p in ("float64", "float32"))
    assert (fine == coarse).all()
    known = ~np.isnan(x)
    assert (fine[known] == np.where(x.astype(float)[known] <= threshold, 1, 2)).all()


def test_onnx_runtime_refuses_a_tree_in_float16():
    model = export.to_onnx(cases.fitted("machines", "decision_tree"), "t")
    for name in ("nodes_splits", "leaf_weights"):
        (attribute,) = [a for n in model.graph.node for a in n.attribute if a.name == name]
        narrow = onnx.numpy_helper.to_array(attribute.t).astype(np.float16)
        attribute.t.CopyFrom(onnx.numpy_helper.from_array(narrow))
    (tree,) = [n for n in model.graph.node if n.op_type == "TreeEnsemble"]
    cast = onnx.helper.make_node("Cast", [tree.input[0]], ["h"], to=onnx.TensorProto.FLOAT16)
    place, answer = list(model.graph.node).index(tree), tree.output[0]
    back = onnx.helper.make_node("Cast", ["sum"], [answer], to=onnx.TensorProto.DOUBLE)
    tree.input[0], tree.output[0] = "h", "sum"
    model.graph.node.insert(place + 1, back)
    model.graph.node.insert(place, cast)
    with pytest.raises(Exception, match="TreeEnsemble"):
        open_session(model.SerializeToString())


def test_a_perceptron_in_bytes_answers_alike_on_processors_that_add_in_sixteen_bits():
    small = export.int8(cases.fitted("loans", "mlp"), "mlp", "loans")
    matrices = [
        onnx.numpy_helper.to_array(t)
        for t in onnx.load_from_string(small.content).graph.initializer
    ]
    largest = max(abs(m.astype(int)).max() for m in matrices if m.dtype == np.int8)
    assert 2 * 255 * largest < 2**15  # two products of an input and a weight, added


def test_a_row_of_a_perceptron_in_bytes_depends_on_the_rows_it_is_sent_with():
    small = export.int8(cases.fitted("loans", "mlp"), "mlp", "loans")
    whole = export.exactly(cases.fitted("loans", "mlp"), "mlp", "loans")
    rows = cases.held_out("loans")
    alone = export.answers(small, rows, case("loans"))
    together = predictions(export.Scorer(small), rows, case("loans"))
    assert 1e-4 < change("loans", alone, together) < 0.1
    assert change("loans", alone, export.answers(whole, rows, case("loans"))) < 0.1
    # What is recorded for it is how it answers alone, whatever else is sent.
    assert (export.answers(small, rows.iloc[3:4], case("loans")) == alone[3:4]).all()
    assert export.int8(cases.fitted("loans", "logistic"), "logistic", "loans") is None


def test_the_tool_that_quantises_says_nothing():
    script = (
        "import cases; from truefit import export; "
        "export.int8(cases.fitted('machines', 'mlp'), 'm', 'c')"
    )
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=Path(__file__).parent,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert run.stdout == "" and run.stderr == ""


# Leave out


@pytest.mark.parametrize("name", cases.NAMES)
@pytest.mark.parametrize("kind", export.KINDS)
def test_what_is_left_out_is_left_out_and_the_rows_held_out_hardly_miss_it(name, kind):
    found = pruned(name, kind)
    assert 0 < found.left <= found.whole
    assert (found.curve["left"].diff().dropna() >= 0).all() or kind == "rounds"
    assert found.error(found.best) <= found.error(found.chosen) <= 1.15 * found.error(found.best)
    estimator = training.unwrap(found.model)[-1]
    if kind == "leaves":
        assert estimator.get_n_leaves() == found.left
    elif kind == "rounds":
        assert estimator.get_params()["n_estimators"] == found.left
    else:
        assert sum(np.count_nonzero(w) for w in estimator.coefs_) == found.left


def test_the_smallest_tree_within_one_standard_error_is_chosen():
    found = pruned("homes", "leaves")
    left = found.curve.loc[found.best, "left"]
    assert found.left <= left  # never a larger one than the best
    assert found.curve.index.is_monotonic_decreasing  # of the price; the first is the smallest


@pytest.mark.parametrize("model", ["hist_gradient_boosting", "xgboost", "lightgbm"])
@pytest.mark.parametrize("name", ["loans", "homes"])
def test_fewer_rounds_are_the_first_rounds(name, model):
    models = {model: cases.fitted(name, model)}
    found = export.prune("rounds", model, models, cases.train(name), case(name), **FOLDS)
    assert found.of == model
    first = export.exactly(found.model, model, name)
    trees = onnx.load_from_string(first.content).graph.node
    (ensemble_node,) = [n for n in trees if n.op_type == "TreeEnsemble"]
    (roots,) = [a.ints for a in ensemble_node.attribute if a.name == "tree_roots"]
    assert len(roots) == found.left + (model == "xgboost")  # and its base score


@pytest.mark.parametrize("share", [0, 0.35, 0.9])
def test_the_smallest_weights_become_zero_and_the_others_stay(share):
    network = training.unwrap(cases.fitted("homes", "mlp"))[-1]
    before = np.concatenate([w.ravel() for w in network.coefs_])
    after = np.concatenate([w.ravel() for w in zeroed(network, share).coefs_])
    assert (before == np.concatenate([w.ravel() for w in network.coefs_])).all()
    gone = after == 0
    assert gone.sum() == round(share * len(before))
    assert (after[~gone] == before[~gone]).all()
    if share:
        assert np.abs(before[gone]).max() <= np.abs(before[~gone]).min()


def test_zeros_save_nothing_until_the_file_is_compressed():
    found = pruned("homes", "weights")
    assert found.left < found.whole
    variants = export.pruned_variants(found, cases.fitted("homes", "mlp"), "homes")
    test = cases.held_out("homes")
    draws = evaluation.bootstrap_weights(len(test), 100, 0)
    table = export.compare(
        variants, test, cases.live("homes").head(5), case("homes"), 0.0, draws, confidence=0.9
    )
    cut = f"mlp, {found.left:,} of {found.whole:,} weights"
    assert table.loc[cut, "bytes"] == table.loc["mlp", "bytes"]
    assert table.loc[cut, "gzipped"] < 0.9 * table.loc["mlp", "gzipped"]


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_blend_loses_its_lightest_members_first(name):
    weights = {m: w for m, (w, _) in cases.BLENDS[name].items()}
    blend = cases.fitted(name, training.BLEND)
    found = export.lighter_blends(blend)
    assert len(found) == len(weights) - 1
    lightest = min(weights, key=weights.get)
    assert next(iter(found)) == f"without {lightest}"
    rows = features(cases.held_out(name), name).head(40)
    alone = next(reversed(found.values()))
    assert len(export.pipelines(alone)) == 1
    heaviest = training.unwrap(alone).estimators_[0]
    assert heaviest in training.unwrap(blend).estimators_  # nothing was fitted again
    for done, model in found.items():
        said = export.answers(export.exactly(model, "b", name, done), rows, case(name))
        assert change(name, predictions(model, rows, case(name)), said) < 3e-7
    assert len(training.unwrap(blend).estimators_) == len(weights)  # and the blend is as it was
    assert export.lighter_blends(cases.fitted("homes", "ridge")) == {}


def test_a_shelf_without_such_a_model_has_nothing_to_prune():
    models = {"ridge": cases.fitted("homes", "ridge"), "svm": cases.fitted("homes", "svm")}
    for kind in export.KINDS:
        assert (
            export.prune(kind, "svm", models, cases.train("homes"), case("homes"), **FOLDS) is None
        )


# A student


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_student_comes_nearer_to_the_winner_with_made_rows_than_with_labels_alone(name):
    teacher = export.exactly(cases.fitted(name, WINNERS[name]), WINNERS[name], name)
    test = cases.held_out(name)
    before = export.answers(teacher, test, case(name))
    labels, real, made = (
        export.difference(
            before, export.answers(v, test, case(name)), case(name), extent(name)
        ).mean()
        for v in students(name).values()
    )
    assert made < real < labels
    assert all(len(v.content) < len(teacher.content) / 3 for v in students(name).values())


@pytest.mark.parametrize("name", cases.NAMES)
def test_a_made_row_takes_each_cell_from_a_real_one(name):
    X = features(cases.train(name), name)
    made = export.made_rows(X, case(name), 500, seed=2)
    assert made.equals(export.made_rows(X, case(name), 500, seed=2))
    assert not made.equals(export.made_rows(X, case(name), 500, seed=3))
    assert list(made.columns) == list(X.columns) and (made.dtypes == X.dtypes).all()
    for column in X:
        assert made[column].dropna().isin(X[column]).all()
    known = set(map(str, X.to_numpy().tolist()))
    new = [row for row in map(str, made.to_numpy().tolist()) if row not in known]
    assert len(new) > 150
    assert export.made_rows(X, case(name), 0, seed=2).empty


def test_a_student_of_probabilities_finds_them():
    rng = np.random.default_rng(0)
    X = features(cases.train("loans"), "loans")
    X = X.assign(seniority=rng.integers(0, 2, len(X)))
    said = np.where(X["seniority"] == 1, 0.9, 0.2)
    model = taught(X, said, case("loans"), ("bad", "good"), seed=0)
    assert np.allclose(predictions(model, X, case("loans")), said, atol=0.05)


# The rule


def table(**variants):
    """What `compare` finds, as far as the rule reads it: bytes, change, gap_high."""
    rows = {
        name: {"of": name.partition(", ")[0], "bytes": size, "change": change, "value": 0.1}
        | {"gap_low": -gap, "gap_high": gap, "depends_on_batch": name.endswith("int8")}
        for name, (size, change, gap) in variants.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def shipped(found, **changes):
    settings = SETTINGS.model_copy(update=changes)
    return export.smallest(export.judge_variants(found, "w", case("homes"), settings))


FOUND = {
    "w": (100, 0.0, 0.0),
    "w, a": (50, 0.0004, 0.00001),
    "w, b": (40, 0.002, 0.00001),
    "w, c": (30, 0.0004, 0.01),
    "w, d": (60, 0.0, 0.0),
    "w, int8": (20, 0.0, 0.0),
    "other, e": (1, 0.0, 0.0),
}


def test_the_smallest_that_keeps_the_limits_ships():
    found = table(**FOUND)
    assert shipped(found) == "w, a"
    assert shipped(found, largest_change=0.01) == "w, b"
    assert shipped(found, largest_loss=0.1) == "w, c"
    assert shipped(found, largest_change=0.0) == "w, d"
    assert shipped(found.drop(index="w, d"), largest_change=0.0) == "w"


def test_no_limit_is_ever_broken_and_another_model_never_ships():
    found = export.judge_variants(table(**FOUND), "w", case("homes"), SETTINGS)
    assert found["ships"].to_dict() == {
        "w": "yes",
        "w, a": "yes",
        "w, b": "no, changes too much",
        "w, c": "no, loses too much",
        "w, d": "yes",
        "w, int8": "no, depends on the other rows of a request",
        "other, e": "",
    }


def test_a_metric_that_should_be_high_loses_when_it_falls():
    found = table(**{"w": (100, 0.0, 0.0), "w, a": (50, 0.0, 0.0)})
    found.loc["w, a", "gap_low"] = -0.01
    judged = export.judge_variants(found, "w", case("loans"), SETTINGS)
    assert judged.loc["w, a", "ships"] == "no, loses too much"
    assert export.judge_variants(found, "w", case("homes"), SETTINGS).loc["w, a", "ships"] == "yes"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"largest_change": 0.5},
            "largest_change is 0.5, but should be less than or equal to 0.01",
        ),
        ({"largest_change": -1.0}, "largest_change is -1.0, but should be greater than or equal"),
        ({"largest_loss": "none"}, "largest_loss is 'none', but should be a valid number"),
        ({"folds": 1}, "folds is 1, but should be greater than or equal to 2"),
        ({"made_rows": -5}, "made_rows is -5, but should be greater than or equal to 0"),
        ({"ship": "small"}, "ship is not a known key"),
    ],
)
def test_a_bad_parameter_gets_one_sentence(changes, said):
    with pytest.raises(InputError) as caught:
        params.section("export", **(SETTINGS.model_dump() | changes))
    assert str(caught.value).startswith(f"export: {said}") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["loans", "machines"])
def test_what_ships_is_judged_itself(name):
    winner = WINNERS[name]
    test, model = cases.held_out(name), cases.fitted(name, winner)
    draws = evaluation.bootstrap_weights(len(test), 200, 0)
    verdict = {"headline": {"model": winner, "confidence": 0.95}, "interval": None}
    own = export.own_variants(model, winner, name)
    dummy = cases.fitted(name, "dummy")
    judged = [
        export.judge_again(v, dummy, test, case(name), draws, verdict)
        for v in (own[winner], own[f"{winner}, float32"], students(name)[f"{winner}, student"])
    ]
    expected = evaluation.intervals(
        test[case(name).target],
        {"m": predictions(model, test, case(name))},
        draws,
        case(name),
        confidence=0.95,
    )["m"]
    metric = case(name).main_metric
    (exact, _), (near, _), (student, of_student) = judged
    assert exact[metric] == pytest.approx(expected.loc[metric].to_dict(), rel=1e-5)
    assert near[metric] == pytest.approx(exact[metric], rel=1e-4)
    assert student[metric]["value"] != pytest.approx(exact[metric]["value"], rel=1e-3)
    assert of_student["headline"]["value"] == student[metric]["value"]
    count = 1 + len(case(name).gate) + len(case(name).behaviour)
    assert all(len(v["checks"]) == count for _, v in judged)


# The committed timings


def test_a_report_shows_what_the_benchmark_knows_and_a_dash_for_the_rest():
    known = json.loads((ROOT / "benchmarks" / "compression.json").read_text(encoding="utf-8"))
    for case, rows in known["cases"].items():
        winner = next(iter(rows))
        assert rows[winner]["one_row_ratio"] == rows[winner]["batch_ratio"] == 1
        assert f"{winner}, float32" in rows
        assert all(r["one_row_ms"] > 0 and r["batch_ms"] > 0 for r in rows.values())
        size = rows[winner]["bytes"]
        found = export.timings(case, {winner: size, "unheard of": size})
        assert found.notna().all(axis=1).tolist() == [True, False]
        # Another model of the same name was not measured.
        assert export.timings(case, {winner: 2 * size}).isna().all(axis=None)
    assert export.timings("a case of yours", {"ridge": 100}).isna().all(axis=None)
