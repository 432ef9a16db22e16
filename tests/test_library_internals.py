"""What is read of other libraries' insides is still what they compute with."""

import ast
import asyncio
import multiprocessing
import os
import re
import subprocess
import sys
from multiprocessing import forkserver
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import uvicorn
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, SVR
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from truefit import library_internals as internals
from truefit.project import TruefitError
from truefit.training.neighbours import NeighboursRegressor

SRC = Path(internals.__file__).parent
DOCUMENTED = {"_replace", "_asdict", "_fields", "_make", "_exit"}  # of named tuples and of os


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(120, 3))
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, np.nan_to_num(X).sum(axis=1) + rng.normal(size=len(X))


def walked(nodes, row) -> float:
    """What a tree says of a row."""
    node = nodes[0]
    while not node["is_leaf"]:
        value = row[node["feature_idx"]]
        left = node["missing_go_to_left"] if np.isnan(value) else value <= node["num_threshold"]
        node = nodes[node["left" if left else "right"]]
    return node["value"]


@pytest.mark.parametrize("classes", [False, True])
def test_the_trees_and_the_start_make_the_prediction(classes, rows):
    X, y = rows
    kind = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    model = kind(max_iter=5, min_samples_leaf=5).fit(X, y > 0 if classes else y)
    trees = internals.boosted_trees(model)
    start = np.reshape(internals.boosting_start(model), -1)
    raw = [start.item() + sum(walked(nodes, row) for nodes in trees) for row in X]
    assert len(trees) == 5
    said = model.decision_function(X) if classes else model.predict(X)
    assert raw == pytest.approx(said.tolist(), rel=1e-12)


def test_neighbours_remember_their_rows(rows):
    X, y = np.nan_to_num(rows[0]), rows[1]
    for kind in (KNeighborsRegressor, NeighboursRegressor):
        known, targets = internals.remembered_rows(kind().fit(X, y))
        assert np.array_equal(known, X) and np.array_equal(targets, y)
    model = KNeighborsClassifier().fit(X, np.where(y > 0, "b", "a"))
    known, numbers = internals.remembered_rows(model)
    assert np.array_equal(known, X) and np.array_equal(numbers, y > 0)


@pytest.mark.parametrize("gamma", ["scale", "auto", 0.3])
def test_the_kernel_has_this_factor(gamma, rows):
    X, y = np.nan_to_num(rows[0]), rows[1]
    for model in (SVR(gamma=gamma).fit(X, y), SVC(gamma=gamma).fit(X, y > 0)):
        apart = ((X[:, None] - model.support_vectors_) ** 2).sum(axis=-1)
        kernel = np.exp(-internals.kernel_factor(model) * apart)
        said = model.predict(X) if isinstance(model, SVR) else model.decision_function(X)
        assert (kernel @ model.dual_coef_[0] + model.intercept_) == pytest.approx(said, abs=1e-9)


def test_the_title_at_the_left_is_the_one_that_was_set():
    figure, ax = plt.subplots()
    ax.set_title("a title", loc="left")
    assert internals.left_title(ax).get_text() == "a title" == ax.get_title(loc="left")
    plt.close(figure)


def test_a_connection_that_gets_something_is_kept():
    async def waits() -> tuple[bool, bool]:
        config = uvicorn.Config(lambda: None)
        config.load()
        protocol = HttpToolsProtocol(config, ServerState(), {})
        timer = protocol.timeout_keep_alive_task = protocol.loop.call_later(9, lambda: None)
        before = timer.cancelled()
        internals.keep_connection(protocol)
        return before, timer.cancelled()

    assert asyncio.run(waits()) == (False, True)


def test_jsonschema_is_imported_without_its_grammars_and_nothing_else_is_changed():
    script = (
        "import sys, truefit.notebook\n"
        "assert 'rfc3987_syntax' not in sys.modules and 'jsonschema' not in sys.modules\n"
        "from truefit.notebook.normalise import normalise\n"
        "from truefit.library_internals import import_jsonschema\n"
        "import_jsonschema()\n"
        "import importlib.util, nbformat\n"
        "assert 'jsonschema' in sys.modules and 'lark' not in sys.modules\n"
        "assert importlib.util.find_spec('rfc3987_syntax')"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr


def test_the_fork_server_ends():
    process = multiprocessing.get_context("forkserver").Process(target=os.getpid)
    process.start()
    process.join()
    alive = forkserver._forkserver._forkserver_pid
    assert alive
    internals.stop_fork_server()
    with pytest.raises(ProcessLookupError):
        os.kill(alive, 0)
    internals.stop_fork_server()  # there is none to stop


class Changed(NeighboursRegressor):
    """A model of a library that has renamed what we read."""


@pytest.mark.parametrize(
    ("read", "thing", "library", "name"),
    [
        (internals.boosted_trees, HistGradientBoostingRegressor(), "scikit-learn", "_predictors"),
        (internals.boosting_start, HistGradientBoostingRegressor(), "scikit-learn", "_baseline"),
        (internals.remembered_rows, Changed(), "scikit-learn", "_fit_X"),
        (internals.kernel_factor, SVR(), "scikit-learn", "_gamma"),
        (internals.left_title, plt.Figure(), "matplotlib", "_left_title"),
        (internals.keep_connection, ServerState(), "uvicorn", "_unset_keepalive"),
    ],
)
def test_a_library_that_has_changed_is_named_in_a_sentence(read, thing, library, name):
    said = rf"^{library} [\d.]+: {type(thing).__name__} has no {name}\w*, which Truefit reads; "
    with pytest.raises(TruefitError, match=said + "install the versions that requirements.txt"):
        read(thing)


def test_a_python_that_has_changed_is_named_in_a_sentence(monkeypatch):
    monkeypatch.delattr(forkserver, "_forkserver")
    with pytest.raises(TruefitError, match=r"^Python 3[\d.]+: multiprocessing.forkserver has no"):
        internals.stop_fork_server()


def test_no_other_module_reads_what_a_library_keeps_to_itself():
    modules = {path: ast.parse(path.read_text(encoding="utf-8")) for path in SRC.rglob("*.py")}
    nodes = {path: [*ast.walk(module)] for path, module in modules.items()}
    own = {name for found in nodes.values() for node in found for name in defined(node)}
    foreign = {
        f"{path.relative_to(SRC)}:{node.lineno} {name}"
        for path, found in nodes.items()
        for node in found
        for name in read(node)
        if path.stem != "library_internals" and name not in own | DOCUMENTED
    }
    assert foreign == set()


def defined(node: ast.AST) -> list[str]:
    """The names that a piece of code gives to something."""
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
            return [name]
        case ast.Attribute(attr=name, ctx=ast.Store()) | ast.Name(id=name, ctx=ast.Store()):
            return [name]
        case ast.Constant(value=str(name)):  # in __slots__
            return [name]
    return []


def read(node: ast.AST) -> list[str]:
    """The private names that a piece of code takes from something."""
    match node:
        case ast.Attribute(attr=name, ctx=ast.Load()):
            names = [name]
        case ast.ImportFrom(module=str(module), names=aliases, level=0):
            names = module.split(".") + [alias.name for alias in aliases]
        case _:
            names = []
    return [name for name in names if re.match("_[a-zA-Z]", name)]
