"""A search that was kept answers only for the code that made it, and dvc.yaml lists what runs."""

import os
import re
import subprocess
import sys
from shutil import copytree, ignore_patterns

import pytest
import small
from conftest import ROOT, TESTS
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from truefit import closure, dependencies, training
from truefit.training.search import OF_OTHERS, OF_THE_CHOICE, search

DVC_YAML = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
SEARCH = "training/search.py"
DEEP = "data_prep/clean.py"  # search imports the preparation, which imports this
LOGIC = ('rows[column] = ("category", "")', 'rows[column] = ("dropped", "")')
PROSE = ('"""What each column is for.\n', '"""For what a column is there.  # said anew\n')


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package to edit."""
    target = tmp_path_factory.mktemp("src") / "truefit"
    return copytree(closure.PACKAGE, target, ignore=ignore_patterns("__pycache__"))


@pytest.fixture
def read(package, monkeypatch):
    """Call a function of `closure` on a file of the copy, as it is now."""
    monkeypatch.setattr(closure, "PACKAGE", package)

    def forget():
        closure._tree.cache_clear()
        closure._nodes.cache_clear()

    def call(function, name=SEARCH):
        forget()
        return function(package / name)

    yield call
    forget()


@pytest.fixture
def edited(package):
    """Change a text of a file for the time of a test."""
    before = {}

    def edit(name, old, new):
        file = package / name
        before.setdefault(file, file.read_text(encoding="utf-8"))
        now = file.read_text(encoding="utf-8")
        assert old in now
        file.write_text(now.replace(old, new), encoding="utf-8")

    yield edit
    for file, text in before.items():
        file.write_text(text, encoding="utf-8")


def names(files, package):
    return {f.relative_to(package).as_posix() for f in files}


def test_a_search_depends_on_what_its_imports_import(read, package):
    found = names(read(closure.closure), package)
    assert {SEARCH, DEEP, "__init__.py", "training/__init__.py", "params.py"} <= found
    assert not {f for f in found if f.startswith(("serving/", "export/", "monitoring/"))}


def test_only_what_is_done_counts(read, edited, package):
    before = read(closure.digest)
    edited(DEEP, *PROSE)
    for file in package.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        edited(file.relative_to(package), text, text + "\n\n# a remark\n")
    edited("serving/app.py", "import asyncio\n", "import asyncio\nREMARK = 1\n")
    assert read(closure.digest) == before


@pytest.mark.parametrize("name", [DEEP, "__init__.py", "training/__init__.py", "params.py"])
def test_an_edit_of_what_is_done_counts_wherever_it_is(read, edited, name, package):
    before, text = read(closure.digest), (package / name).read_text(encoding="utf-8")
    edited(name, text, text + "\nREMARK = 1\n")
    assert read(closure.digest) != before


MODULES = st.lists(st.sampled_from("abcdef"), min_size=2, unique=True)


@given(MODULES, st.data())
def test_the_closure_follows_every_way_to_import(tmp_path_factory, modules, data):
    folder = tmp_path_factory.mktemp("made") / "truefit"
    (folder / "inner").mkdir(parents=True)
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "inner" / "__init__.py").write_text("", encoding="utf-8")
    ways = ("import truefit.inner.{}", "from truefit.inner import {}",
            "from truefit.inner.{} import x", "def f():\n    import truefit.inner.{}")  # fmt: skip
    for module, imported in zip(modules, [*modules[1:], None], strict=True):
        way = data.draw(st.sampled_from(ways))
        code = way.format(imported) if imported else "x = 1"
        (folder / "inner" / f"{module}.py").write_text(code, encoding="utf-8")
    start = data.draw(st.sampled_from(modules))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "PACKAGE", folder)
        found = names(closure.closure(folder / "inner" / f"{start}.py"), folder)
    reached = {f"inner/{m}.py" for m in modules[modules.index(start) :]}
    on_the_way = {"__init__.py", "inner/__init__.py"} if len(reached) > 1 else set()
    assert found == reached | on_the_way


LAZY = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from truefit.lazy.a import x\n"


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("from truefit.lazy import a", {"a"}),
        ("from truefit.lazy.b import y", {"b"}),
        ("from truefit.lazy import x", {"a", "b"}),
        ("from truefit import lazy", {"a", "b"}),
        ("import truefit.lazy", {"a", "b"}),
        ("", set()),
    ],
)
def test_names_that_a_package_imports_late_count_for_those_who_ask_it(tmp_path, code, modules):
    files = {
        "__init__.py": "",
        "lazy/__init__.py": LAZY + "def __getattr__(name): ...\n",
        "lazy/a.py": "x = 1",
        "lazy/b.py": "y = 1",
        "mine.py": code,
    }
    for name, content in files.items():
        (tmp_path / "truefit" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "truefit" / name).write_text(content, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(closure, "PACKAGE", tmp_path / "truefit")
        found = names(closure.closure(tmp_path / "truefit" / "mine.py"), tmp_path / "truefit")
    assert {f"lazy/{m}.py" for m in "ab"} & found == {f"lazy/{m}.py" for m in modules}


def test_files_that_are_no_code_count_where_a_module_names_them(read, package):
    assert "figures.mplstyle" in names(read(closure.closure, "figures.py"), package)
    page = names(read(closure.closure, "notebook/render.py"), package)
    assets = {f"notebook/assets/{f.name}" for f in (package / "notebook/assets").iterdir()}
    assert assets <= page and "scorecard.yaml" not in page


def test_the_libraries_of_a_search_are_those_that_fit_its_models(read):
    found = read(closure.libraries)
    assert {"scikit-learn", "xgboost-cpu", "lightgbm", "optuna", "numpy", "scipy"} <= {*found}
    assert "jupyterlab" not in found and "truefit" not in found


SCRIPT = """
import pathlib, sys, small
found = small.search(["dummy", "linear"], folds=2, store=pathlib.Path(sys.argv[1]))
print(small.digest(found))
"""


def searched(package, store):
    """A small search by the code of the copy; what it found, and which files hold it."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, store],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(package.parent), "LOKY_MAX_CPU_COUNT": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, {f.name: f.stat().st_mtime_ns for f in store.iterdir()}


def test_an_edit_deep_in_the_code_runs_a_search_again_and_one_of_its_prose_does_not(
    package, edited, tmp_path
):
    first, kept = searched(package, tmp_path)
    edited(DEEP, *PROSE)
    assert searched(package, tmp_path) == (first, kept)
    edited(DEEP, *LOGIC)
    other, files = searched(package, tmp_path)
    assert other != first and not {*files} & {*kept}


@pytest.fixture(scope="module")
def asked():
    """The keys that searches, one for each way to prepare and to fit, ask for."""
    keys = set()

    def watched(values):
        def get(self, name):
            keys.add(name)
            return object.__getattribute__(self, name)

        kind = type(values)
        return type("Watched", (kind,), {"__getattribute__": get}).model_construct(**dict(values))

    ways = {(task, m.preparation, m.rounds): name for (task, name), m in training.SHELF.items()}
    for (task, *_), name in ways.items():
        rows = small.table(task)
        given = watched(small.CASES[task]), {}, watched(small.SETTINGS)
        with threadpool_limits(1):
            search(name, rows[:60], rows[60:], *given, seed=1)
    return keys


def test_what_the_key_of_a_kept_search_leaves_out_is_never_asked_for(asked):
    assert {"clusters", "features", "log_target", "positive", "trials", "inner_folds"} <= asked
    assert not asked & (OF_OTHERS | OF_THE_CHOICE)


def test_dvc_yaml_has_the_stage_of_each_step_and_the_code_that_it_executes():
    assert dependencies.with_stages(DVC_YAML, ROOT) == DVC_YAML, "run: make tidy"


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        (r" +- src/truefit/metrics.py\n", ""),
        (r"src/truefit/digits.py", "src/truefit/none.py"),
        (r"truefit run 0", "truefit run 1"),
        (r"  training:\n", "  trained:\n"),
        (r"  training:\n(    .*\n)+\n", ""),
        (r"  regression_maths:\n(    .*\n)+\n", r"\g<0>  old:\n    cmd: truefit run 00_old\n\n"),
    ],
)
def test_a_stage_that_is_not_current_is_mended_and_the_rest_stays(part, wrong):
    changed = re.sub(rf"(?m){part}", wrong, DVC_YAML)
    assert changed != DVC_YAML and dependencies.with_stages(changed, ROOT) == DVC_YAML


@pytest.mark.parametrize("command", ["make mine", "truefit run 03_training --case ames -p folds=9"])
def test_a_stage_that_is_written_by_hand_stays_as_it_is(command):
    own = f"  # Mine.\n  mine:\n    cmd: {command}\n    deps: [a, b]\n\n"
    text = DVC_YAML.replace("  # Its evidence are tests", f"{own}  # Its evidence are tests")
    assert own in text and dependencies.with_stages(text, ROOT) == text
