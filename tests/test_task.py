"""Each kind of task is a class, and no other module asks which kind it has."""

import ast
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from truefit import evaluation, params, task, training
from truefit.metrics import HIGHER_IS_BETTER, LABELS, predictions
from truefit.task import KINDS, BinaryClassification, Regression

SOURCE = ROOT / "src" / "truefit"
# Attributes that only some kinds have, or that name a kind.
OF_A_KIND = {"task", "positive", "classes", "costs", "protected", "log_target", "threshold"}


class Count(Regression):
    """How often something happens: never below 0, and judged by how far it is missed on average."""

    task: Literal["count"] = "count"

    @property
    def main_metric(self):
        """The mean absolute error."""
        return "mae"

    def answers(self, model, X):
        """Predictions, cut at 0."""
        return np.maximum(super().answers(model, X), 0)


def asked(test: ast.expr) -> set[str]:
    """The attributes of a kind that a condition asks another object for."""
    found = [n for n in ast.walk(test) if isinstance(n, ast.Attribute)]
    return {n.attr for n in found if ast.unparse(n.value) != "self"} & OF_A_KIND


def of_one_kind(node: ast.AST) -> bool:
    """Whether a function is for one kind of task alone, as its parameters say."""
    if not isinstance(node, ast.FunctionDef):
        return False
    kinds = {k.__name__ for k in KINDS.values()}
    return any(a.annotation and ast.unparse(a.annotation) in kinds for a in node.args.args)


def everything(node: ast.AST):
    """All that stands in a module but in functions for one kind."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not of_one_kind(child):
            yield from everything(child)


def branches(source: Path) -> list[str]:
    """Where a module does this for one kind of task and that for another."""
    found = []
    for node in everything(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If | ast.IfExp | ast.While) and asked(node.test):
            found.append(node.test)
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("hasattr", "isinstance"):
            words = ast.unparse(node)
            if any(w in words for w in ("classes_", *(k.__name__ for k in KINDS.values()))):
                found.append(node)
    return [f"{source.relative_to(SOURCE)}:{n.lineno} {ast.unparse(n)}" for n in found]


def test_no_other_module_asks_for_the_kind_of_task():
    files = [f for f in SOURCE.rglob("*.py") if f.name != "task.py"]
    assert [b for f in files for b in branches(f)] == []


def test_a_condition_on_the_kind_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SOURCE", tmp_path)
    file = tmp_path / "some.py"
    file.write_text("x = 1 if case.positive else 2\nif hasattr(m, 'classes_'): pass\nif y: pass\n")
    assert len(branches(file)) == 2


def test_a_kind_of_its_own_is_trained_and_evaluated(monkeypatch):
    """One class is all that it takes."""
    monkeypatch.setitem(KINDS, "count", Count)
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"a": rng.uniform(0, 3, 300), "b": rng.choice(["x", "y"], 300)})
    frame["n"] = rng.poisson(1 + frame["a"] * (1 + (frame["b"] == "x"))).astype(float)
    case = task.make_case(table="t.csv", target="n", task="count", slices={"b": []})
    train, test = frame.iloc[:200], frame.iloc[200:].reset_index(drop=True)
    settings = (
        params.load()
        .section("training")
        .model_copy(update={"folds": 2, "inner_folds": 2, "trials": 2, "blend": 2})
    )
    found = training.search_all(
        ["dummy", "ridge", "lightgbm"], train, case, {}, settings, params.Compute()
    )
    oof = training.out_of_fold(found, train, case, settings)
    results = training.fold_scores(oof, train, case)
    board = training.leaderboard(results, case)
    assert training.best(board) != "dummy" and board["mae"].is_monotonic_increasing
    models = training.final_models(found, train, case, settings)
    fitted = training.fit_all(models, oof, train, case)
    said = {name: predictions(m, test.drop(columns="n"), case) for name, m in fitted.items()}
    assert min(p.min() for p in said.values()) >= 0
    winner = training.best(board)
    weights = evaluation.bootstrap_weights(len(test), 50, seed=0)
    gaps = evaluation.differences(test["n"], said, weights, case, winner=winner, confidence=0.9)
    assert gaps["dummy"].loc["mae", "better"] == "yes"
    labels = evaluation.slice_labels(test, case, train)
    by_slice = evaluation.error_by_slice(test, said[winner], case, labels, weights, confidence=0.9)
    assert {*by_slice.index.get_level_values("value")} == {"x", "y"}
    ranked = evaluation.permutation_importance(fitted[winner], test, case, repeats=2, seed=0)
    assert {*ranked.index[:2]} == {"a", "b"}


@pytest.mark.parametrize(
    "case",
    [
        Regression(table="t", target="y"),
        Regression(table="t", target="y", log_target=True),
        BinaryClassification(table="t", target="y", positive="p"),
    ],
    ids=["number", "logged", "class"],
)
def test_every_metric_has_a_name_and_the_one_that_decides_is_measured(case):
    assert {*case.metrics} <= {*LABELS}
    assert {case.main_metric, case.error_metric} <= {*case.metrics}
    assert case.error_metric not in HIGHER_IS_BETTER
    p = np.array([0.2, 0.5, 0.9])
    assert case.scale.back(case.scale.to(p)) == pytest.approx(p)
    assert case.unlearned(case.learned(p)) == pytest.approx(p)
    assert case.mean_error(case.mean_square(p)) == pytest.approx(p)
