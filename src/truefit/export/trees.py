"""Trees of every library in one form, and as one operation of a graph."""

import json
from functools import singledispatch
from typing import NamedTuple

import numpy as np
from lightgbm import LGBMModel
from onnx import numpy_helper
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBModel

from truefit.export.graph import Graph, NoCounterpartError
from truefit.library_internals import boosted_trees

Forest = RandomForestRegressor | RandomForestClassifier | ExtraTreesRegressor | ExtraTreesClassifier
LESS_OR_EQUAL, LESS = 0, 1  # how the operator numbers the two questions


class Tree(NamedTuple):
    """A binary tree as arrays of one entry a node; the root is first."""

    feature: np.ndarray  # whose value is compared
    threshold: np.ndarray
    left: np.ndarray  # the node for a smaller value; below 0 at a leaf
    right: np.ndarray
    missing_left: np.ndarray  # where a missing value goes
    value: np.ndarray  # of a leaf


@singledispatch
def trees_of(model: BaseEstimator) -> list[Tree]:
    """The trees of a fitted estimator, whose values add up; empty if it has none."""
    return []


@trees_of.register
def _(model: DecisionTreeRegressor | DecisionTreeClassifier) -> list[Tree]:
    tree = model.tree_
    value = tree.value[:, 0, -1]  # of a number, or the share of the second class
    go = tree.missing_go_to_left.astype(bool)
    return [Tree(tree.feature, tree.threshold, tree.children_left, tree.children_right, go, value)]


@trees_of.register
def _(model: Forest) -> list[Tree]:
    trees = [tree for member in model.estimators_ for tree in trees_of(member)]
    return [tree._replace(value=tree.value / len(trees)) for tree in trees]


@trees_of.register
def _(model: HistGradientBoostingRegressor | HistGradientBoostingClassifier) -> list[Tree]:
    if model.is_categorical_ is not None:
        raise NoCounterpartError(f"{type(model).__name__} with categorical columns")
    found = []
    for nodes in boosted_trees(model):
        leaf = nodes["is_leaf"].astype(bool)
        left, right = (
            np.where(leaf, -1, nodes[side].astype(np.int64)) for side in ("left", "right")
        )
        found.append(
            Tree(
                nodes["feature_idx"],
                nodes["num_threshold"],
                left,
                right,
                nodes["missing_go_to_left"].astype(bool),
                nodes["value"],
            )
        )
    return found


@trees_of.register
def _(model: XGBModel) -> list[Tree]:
    booster = model.get_booster()
    last = getattr(model, "best_iteration", None) if model.early_stopping_rounds else None
    content = json.loads((booster if last is None else booster[: last + 1]).save_raw("json"))
    learner = content["learner"]
    if learner["objective"]["name"] not in {"reg:squarederror", "binary:logistic"}:
        raise NoCounterpartError(f"{type(model).__name__} for {learner['objective']['name']}")
    found = []
    for tree in learner["gradient_booster"]["model"]["trees"]:
        if any(tree["split_type"]):
            raise NoCounterpartError(f"{type(model).__name__} with categorical columns")
        # A leaf keeps its value where another node keeps its threshold.
        numbers = np.array(tree["split_conditions"], dtype=np.float32)
        left, right = (np.array(tree[f"{side}_children"]) for side in ("left", "right"))
        feature = np.array(tree["split_indices"])
        go = np.array(tree["default_left"]).astype(bool)
        found.append(Tree(feature, numbers, left, right, go, numbers))
    return found


@trees_of.register
def _(model: LGBMModel) -> list[Tree]:
    content = model.booster_.dump_model()
    if content["average_output"] or content["num_tree_per_iteration"] > 1:
        raise NoCounterpartError(f"{type(model).__name__} of {content['objective']}")
    return [_of_lightgbm(tree["tree_structure"]) for tree in content["tree_info"]]


def _of_lightgbm(root: dict) -> Tree:
    rows: list[tuple] = []

    def add(node: dict) -> int:
        at = len(rows)
        rows.append(())
        if "leaf_value" in node:
            rows[at] = (0, 0.0, -1, -1, False, node["leaf_value"])
            return at
        threshold, missing = float(node["threshold"]), node["missing_type"]
        if node["decision_type"] != "<=" or missing == "Zero":
            raise NoCounterpartError(
                "LightGBM with categorical columns, or zeros that mean missing"
            )
        # Where training saw no gap, LightGBM takes one for 0.
        left = node["default_left"] if missing == "NaN" else threshold >= 0
        children = (add(node["left_child"]), add(node["right_child"]))
        rows[at] = (node["split_feature"], threshold, *children, left, 0.0)
        return at

    add(root)
    return Tree(*(np.array(column) for column in zip(*rows, strict=True)))


def ensemble(graph: Graph, x: str, trees: list[Tree], *, strict: bool = False) -> str:
    """The sum of the trees' answers, of shape (n_samples, 1).

    Parameters
    ----------
    graph : Graph
    x : str
        The prepared columns, of the type of the trees' thresholds, or in the graph's if it has
        fewer digits. (ONNX Runtime has trees in float64 and float32, and no others.)
    trees : list of Tree
    strict : bool
        Whether a value equal to the threshold goes to the right.
    """
    kind = min(trees[0].threshold.dtype, np.dtype(graph.kind), key=lambda d: d.itemsize)
    feature, threshold, go, branches, weights, roots = [], [], [], ([], []), [], []
    starts = (np.cumsum([0, *(max(1, (t.left >= 0).sum()) for t in trees)])).tolist()
    for tree, start in zip(trees, starts, strict=False):
        roots.append(start)
        inner = np.flatnonzero(tree.left >= 0)
        if not len(inner):  # a lone leaf, behind a question whose answer does not matter
            inner = np.array([0])
            tree = _lone(tree)
        place = {int(node): start + i for i, node in enumerate(inner)}
        feature += tree.feature[inner].tolist()
        threshold += tree.threshold[inner].tolist()
        go += tree.missing_left[inner].astype(int).tolist()
        for side, children in zip(branches, (tree.left, tree.right), strict=True):
            for child in children[inner].tolist():
                if child in place:
                    side.append((place[child], 0))
                else:
                    side.append((len(weights), 1))
                    weights.append(tree.value[child])
    ids = [[at for at, _ in side] for side in branches]
    leaves = [[leaf for _, leaf in side] for side in branches]
    question = np.full(len(feature), LESS if strict else LESS_OR_EQUAL, np.uint8)
    return graph.op(
        "TreeEnsemble",
        x,
        n_targets=1,
        tree_roots=roots,
        nodes_featureids=feature,
        nodes_splits=numpy_helper.from_array(_floor(threshold, kind)),
        nodes_modes=numpy_helper.from_array(question),
        nodes_missing_value_tracks_true=go,
        nodes_truenodeids=ids[0],
        nodes_trueleafs=leaves[0],
        nodes_falsenodeids=ids[1],
        nodes_falseleafs=leaves[1],
        leaf_targetids=[0] * len(weights),
        leaf_weights=numpy_helper.from_array(np.array(weights, kind)),
    )


def _floor(thresholds: list[float], kind: np.dtype) -> np.ndarray:
    """The largest numbers of a type that are not above some thresholds.

    A number of that type is not above the one where it is not above the other, so that no row
    takes another turn.
    """
    exact = np.array(thresholds)
    with np.errstate(over="ignore"):
        near = exact.astype(kind)
    return np.where(near > exact, np.nextafter(near, kind.type(-np.inf)), near)


def _lone(leaf: Tree) -> Tree:
    return Tree(
        np.array([0, 0, 0]),
        np.zeros(3),
        np.array([1, -1, -1]),
        np.array([2, -1, -1]),
        np.array([True] * 3),
        np.repeat(leaf.value[:1], 3),
    )
