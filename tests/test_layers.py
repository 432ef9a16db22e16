"""The code stands in layers: what is below knows nothing of what is above."""

import pytest

from truefit.closure import PACKAGE, named
from truefit.steps import STEPS

# From the top to the bottom: a module may import what stands in its own line and below it. One that
# is not named has the place of its package.
LAYERS = (
    # The command.
    "cli repro",
    # The steps: what runs them, and what is made of their runs.
    "dependencies forked index notebook scorecard stages steps",
    # Lessons and figures.
    "serving.lesson serving.waiting",
    "figures evaluation.plots monitoring.plots regression_maths.plots",
    # Computing, and with the first step the data: of the steps, each may use those before it.
    "predict registry",
    *(step.name for step in reversed(STEPS)),
    # The base.
    "bundle params",
    "manifest task",
    "metrics",
    "case scales",
    "expressions onnx_file",
    "closure digits library_internals project verdicts",
)
PLACES = {name: i for i, line in enumerate(LAYERS) for name in line.split()}
# What imports against this order, and what. Nothing is to be added; strike out what has gone.
AGAINST = {
    "data_prep.explore": {"figures"},
    "evaluation": {"evaluation.plots"},
    "evaluation.explain": {"figures"},
    "evaluation.intervals": {"figures"},
    "evaluation.resampled": {"figures"},
    "evaluation.slices": {"figures"},
    "evaluation.uncertainty": {"figures"},
    "export.parity": {"figures"},
    "export.prune": {"figures"},
    "export.ship": {"figures"},
    "export.variants": {"figures"},
    "maintenance.staleness": {"figures"},
    "training.compare": {"figures"},
    "training.study": {"figures"},
}


def module(file):
    """The name of a module without the package's: ``training.search``, or ``training``."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module(file): file for file in sorted(PACKAGE.rglob("*.py")) if module(file)}


def place(name):
    """The number of the line in which a module stands, or else its package."""
    while name not in PLACES:
        name, inside, _ = name.rpartition(".")
        assert inside, "a module that stands in no line; give it a place in LAYERS"
    return PLACES[name]


@pytest.mark.parametrize("name", FILES)
def test_a_module_imports_only_what_stands_beside_or_below_it(name):
    imported = {module(file) for file in named(FILES[name])} - {""}
    above = {other for other in imported if place(other) < place(name)}
    assert above == AGAINST.get(name, set())


def test_the_lines_name_only_modules_that_there_are():
    assert {*PLACES, *AGAINST} <= {*FILES}
