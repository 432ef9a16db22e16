"""The README says what the project does, and its numbers are those of the committed results."""

import json
import re

import pytest
from conftest import ROOT

from truefit import params
from truefit.steps import STEPS

MODELS = json.loads((ROOT / "benchmarks" / "models.json").read_text(encoding="utf-8"))
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The cases of its first table of results; a person may have taken them out.
HEADLINES = re.findall(r"(?m)^\| (\w+) \|", README.split("| case |")[1].split("\n\n")[0])


def row(first):
    """The cells of the table row that starts with ``first``."""
    line = next(x for x in README.splitlines() if x.startswith(f"| {first}"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_each_step_has_a_row():
    assert [row(f"{step} |")[:2] for step in STEPS] == [
        [step.name, f"`{step.notebook}`"] for step in STEPS
    ]


@pytest.mark.parametrize("case", HEADLINES)
def test_the_headline_figures_are_those_of_the_verdicts(case):
    file = ROOT / "reports" / "gate" / f"{case}.json"
    if case not in params.load(ROOT / "params.yaml").cases or not file.is_file():
        pytest.skip(f"{case} is not among the cases, or has not run")
    found = json.loads(file.read_text(encoding="utf-8"))["headline"]
    *_, winner, _, value, interval = row(case)
    assert winner == found["model"]
    assert value == f"{found['value']:.3f}"
    assert interval == f"{found['low']:.3f} to {found['high']:.3f}"


def test_the_costs_are_those_of_the_benchmark():
    found = json.loads((ROOT / "benchmarks" / "pipeline.json").read_text(encoding="utf-8"))
    added = [stage["added"] for stage in found["stages, seconds"].values()]
    whole = found["whole pipeline, seconds"]
    assert row("the whole pipeline")[-1] == f"{whole['wall']:.0f}"
    assert row("its processor time")[-1] == f"{whole['cpu']:.0f}"
    assert row("`dvc repro` when nothing")[-1] == f"{found['nothing changed, seconds']:.1f}"
    empty = found["empty pipeline of as many stages, seconds"]
    assert row("an empty DVC pipeline")[-1] == f"{empty:.1f}"
    assert row("one stage as a notebook")[-1] == f"{min(added):.1f} to {max(added):.1f}"


def test_the_figures_of_the_solver_are_those_of_the_benchmark():
    found = json.loads((ROOT / "benchmarks" / "solver.json").read_text(encoding="utf-8"))
    for design in found["designs"]:
        if design["condition"] == 1e3 or not design["intercept"] or design["units"]:
            continue
        size = f"{design['rows']:,} × {design['columns']}, condition {design['condition']:,.0f}"
        for cell, name in zip(row(size)[1:], ("least_squares", "LinearRegression"), strict=True):
            solver = design["solvers"][name]
            digits = f"{solver['correct digits']:.1f} digits"
            assert cell == f"{solver['CPU seconds']:.3f} s, {digits}"
    memory, file = found["extra peak MB"]["1000000 x 20, intercept"], found["file"]
    assert row("memory beyond the data")[1] == f"{memory['least_squares']:.0f} MB"
    assert row("memory beyond the data")[2] == f"{memory['LinearRegression']:.0f} MB"
    file_row = f"{file['CPU seconds']:.1f} s, {file['extra peak MB']:.0f} MB"
    assert row(f"a file of {file['rows']:,}")[1] == file_row


@pytest.mark.parametrize("model", ["hist_gradient_boosting", "ridge"])
def test_the_figures_of_the_service_are_those_of_the_benchmark(model):
    found = json.loads((ROOT / "benchmarks" / "serving.json").read_text(encoding="utf-8"))
    names = next(x for x in README.splitlines() if "| Flask | Flask, one thread |" in x)
    names = [name.strip() for name in names.strip("| ").split("|")]
    first = {"hist_gradient_boosting": "boosting", "ridge": "ridge"}[model]
    for key, label in {
        "requests": "requests of one row",
        "latency": "latency of one row",
        "rows": "rows per second",
        "start": "seconds from start",
        "memory": "MB of memory",
    }.items():
        for name, cell in zip(names, row(f"{first}: {label}")[1:], strict=True):
            value = found["models"][model][name][key]
            value = value["median"] if isinstance(value, dict) else value
            assert cell == f"{value:.3g}", (name, key)


def test_every_target_and_file_it_names_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"`make ([a-z-]+)`|\$ make ([a-z-]+)", README)):
        assert re.search(rf"^{''.join(target)}:", makefile, re.MULTILINE), target
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link


def test_the_lock_has_hashes_and_names_no_index():
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    entries = re.split(r"\n(?=\S)", lock)
    pinned = [e for e in entries if not e.startswith("#")]
    assert pinned and all("==" in e and "--hash=sha256:" in e for e in pinned)
    assert "://" not in lock and "--index" not in lock


LABELS = {
    "rmse_log": "RMSE of the logarithm",
    "mae": "MAE, US dollars",
    "roc_auc": "ROC AUC",
    "brier": "Brier score",
}


@pytest.mark.parametrize(
    ("first", "task", "part"),
    [
        ("ames, without the sales", "ames", "without sales above 4,000 square feet"),
        ("ames, all rows", "ames", "all rows"),
        ("ames, sales to 2008", "ames_later", "2009 and 2010"),
        ("credit, all rows", "credit", "all rows"),
    ],
)
def test_the_figures_of_the_models_are_those_of_the_benchmark(first, task, part):
    found = MODELS[task]
    figures = found["tests"][part]["models"]
    lines = [x for x in README.splitlines() if x.startswith(f"| {first}") and x.count("|") == 7]
    assert lines
    for line in lines:
        _, label, best, value, interval, linear = [c.strip() for c in line.strip("|").split("|")]
        metric = next(m for m, words in LABELS.items() if words == label)
        shape = ",.0f" if metric == "mae" else ".4f"
        now, low, high = (format(v, shape) for v in figures[found["best"]][metric])
        assert (best, value, interval) == (found["best"], now, f"{low} to {high}")
        rival = format(figures[found["linear"]][metric][0], shape)
        assert linear == f"{found['linear']} {rival}"


def test_what_it_says_of_trees_and_trends_is_what_the_benchmark_measured():
    figures = MODELS["computers_with_trend"]["tests"]["months 13 to 35"]["models"]
    sentence = README[README.index("On `computers`, months 1 to 12") :].split("\n\n")[0]
    trees = "decision_tree random_forest extra_trees hist_gradient_boosting xgboost lightgbm"
    best = min(trees.split(), key=lambda name: figures[name]["rmse_log"][0])
    assert f"`linear` with the month as a feature has {figures['linear']['rmse_log'][0]:.3f}" in (
        sentence.replace("\n", " ")
    )
    assert f"`{best}`, {figures[best]['rmse_log'][0]:.3f}" in sentence.replace("\n", " ")
    alone = MODELS["computers"]
    assert f"{alone['cross_validated'][alone['best']]:.3f}" in sentence


def test_no_model_takes_long_to_fit():
    for task in MODELS.values():
        assert max(task["fit_cpu_seconds"].values()) < 30
