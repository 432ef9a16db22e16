"""The whole pipeline, run for real: the same bytes anywhere, and nothing lost when it fails."""

import contextlib
import filecmp
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from conftest import (
    CASES,
    FINISHED,
    ROOT,
    change_params,
    environment,
    run_truefit,
    versioned_copy,
    write_params,
)

from truefit.notebook.run import PINNED, PINNED_ON_X86
from truefit.steps import STEPS, all_runs, step_of

AGAIN = "loans"  # the case that runs a second time
MADE = ("data", "models", "reports")


def dvc(*arguments, cwd):
    return started("dvc", *arguments, cwd=cwd)


def started(*command, cwd, **changes):
    """Start a command in a copy of the project."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environment(**changes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def finish(process):
    """Wait for a process; its exit code and what it said."""
    said, _ = process.communicate(timeout=900)
    return process.returncode, said


def hostile_home(folder):
    """A home folder whose owner has configured everything that could show in a report."""
    files = {
        ".config/matplotlib/matplotlibrc": "font.size: 31\naxes.facecolor: red\n",
        ".ipython/profile_default/startup/hello.py": "print('hello from my start-up file')\n",
        ".local/share/jupyter/kernels/python3/kernel.json": json.dumps(
            {"argv": ["false"], "display_name": "Mine", "language": "python"}
        ),
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True)
        path.write_text(content, encoding="utf-8")
    return folder


def made_files(top):
    """Everything the pipeline made below ``top``, by its path."""
    return sorted(
        f.relative_to(top).as_posix()
        for folder in MADE
        for f in (top / folder).rglob("*")
        if f.is_file() and "raw" not in f.relative_to(top).parts
    ) + ["dvc.lock"]


@pytest.fixture(scope="module")
def again(tmp_path_factory):
    """The pipeline once more for one case, in another folder and a very different environment.

    One is enough: ``make verify`` compares every file of all cases with those in git. DVC runs two
    stages alone, whose processes are started; those of the others are forked (`truefit.forked`).
    """
    base = tmp_path_factory.mktemp("again")
    second = versioned_copy(base / "a second folder")
    change_params(second, lambda p: [p["cases"].pop(case) for case in CASES if case != AGAIN])
    strange = {
        "PYTHONHASHSEED": "4321",
        "TZ": "Asia/Tokyo",
        "LANG": "de_DE.ISO-8859-1",
        "LC_ALL": "",
        "USER": "somebody",
        "LOGNAME": "somebody",
        "HOME": str(hostile_home(base / "home")),
    }
    for program, stages in (("dvc", [f"training@{AGAIN}"]), ("truefit", ["--jobs", "1"])):
        code, said = finish(started(program, "repro", *stages, cwd=second, **strange))
        assert code == 0, said
    return second


def test_two_runs_give_the_same_bytes(finished, again):
    # What tells of every case differs, of course.
    common = sorted({*made_files(again)} - {"dvc.lock", "reports/index.html"})
    assert {f for f in made_files(finished) if AGAIN in f} < {*common} < {*made_files(finished)}
    differ = [f for f in common if not filecmp.cmp(finished / f, again / f, shallow=False)]
    assert differ == []


def test_the_tests_of_a_project_without_the_cases_that_ship_pass(again, tmp_path):
    """One case of a person's own has run, a second has just been added; the others are gone."""
    copy = working_copy(again, tmp_path / "theirs")
    skip = shutil.ignore_patterns("__pycache__")
    for path in ROOT.glob("[!.]*"):
        if path.is_file() and not (copy / path.name).exists():
            shutil.copy(path, copy)
    for folder in ("benchmarks", "deploy", "docs", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=skip, dirs_exist_ok=True)
    shutil.copy(ROOT / "data" / "raw" / "README.md", copy / "data" / "raw")
    write_params(copy / "params.yaml")
    change_params(copy, only_theirs)
    chosen = " or ".join(f"test_{name}.py" for name in ("readme", "reports", "params", "scorecard"))
    # All files are collected, whichever run.
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "-k", chosen],
        cwd=copy,
        env={k: v for k, v in environment().items() if not k.startswith("PYTEST_")},
        capture_output=True,
        encoding="utf-8",
    )
    assert ran.returncode == 0, ran.stdout[-5000:]


def only_theirs(p):
    own = p["cases"][AGAIN]
    p["cases"].clear()
    p["cases"].update({AGAIN: own, "mine": own | {"title": "Mine"}})


def test_every_report_model_and_bundle_is_made_once(finished):
    files = set(made_files(finished))
    assert [f for f in files if "02_regression_maths.html" in f] == [
        "reports/02_regression_maths.html"
    ]
    for step, case in all_runs(FINISHED):
        assert f"reports/{step.page(case)}" in files
        assert f"reports/{step.page(case).replace('.html', '.ipynb')}" in files
    for case in FINISHED:
        for name in ("model.onnx", "manifest.json", "MODEL_CARD.md"):
            assert f"models/{case}/bundle/{name}" in files
    assert {"reports/index.html", "reports/gate/homes.json"} <= files
    assert f"reports/claims/{step_of('regression_maths').claims()}" in files


def test_nothing_is_left_to_do_after_a_run(finished):
    code, said = finish(dvc("status", cwd=finished))
    assert (code, said.strip()) == (0, "Data and pipelines are up to date.")
    assert not (finished / ".staging").exists() or not any((finished / ".staging").iterdir())


def test_metrics_show_reads_the_figures_of_every_case(finished):
    code, said = finish(dvc("metrics", "show", "--json", cwd=finished))
    assert code == 0, said
    found = json.loads(said)[""]["data"]
    for case in FINISHED:
        figures = found[f"reports/{case}/metrics.json"]["data"]
        headline = figures["roc_auc" if case == "loans" else "rmse_log"]
        assert headline["low"] < headline["value"] < headline["high"]


def test_the_numbers_come_out_again_on_another_kind_of_processor(finished, tmp_path):
    """Strict nbval over the executed notebooks of a case, with OpenBLAS's older kernels.

    One kernel runs them all, as a person's would who opens one after the other; starting each its
    own would cost more than they do. Those of another case run under plain papermill.
    """
    case = "homes"
    copy = working_copy(finished, tmp_path / "older processor")
    shutil.rmtree(copy / ".searches" / case)
    pages = [copy / "reports" / step.page(case) for step, case in all_runs([case])]
    books = [nbformat.read(page.with_suffix(".ipynb"), as_version=4) for page in pages]
    cells = [cell for book in books for cell in book.cells]
    for i, cell in enumerate(cells):
        cell.id = str(i)
    joined = nbformat.v4.new_notebook(cells=cells, metadata=books[0].metadata)
    nbformat.write(joined, copy / "reports" / case / "all.ipynb")
    other = {**PINNED, **PINNED_ON_X86, "OPENBLAS_CORETYPE": "Sandybridge"}
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "nbval.plugin", "-p", "no:cacheprovider"),
            *("--nbval", "--nbval-current-env", "--rootdir", copy),
            copy / "reports" / case / "all.ipynb",
        ],
        cwd=copy,
        env=environment(**other, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", TRUEFIT_PROJECT=str(copy)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    for name in (f"{case}/metrics.json", f"{case}/leaderboard.csv", f"gate/{case}.json"):
        expected = (finished / "reports" / name).read_text(encoding="utf-8")
        assert (copy / "reports" / name).read_text(encoding="utf-8") == expected


def working_copy(finished, target):
    """A copy of a finished run, to do harm to."""
    return Path(shutil.copytree(finished, target, symlinks=True))


def test_a_killed_stage_leaves_the_last_good_report(finished, tmp_path):
    copy = working_copy(finished, tmp_path / "copy")
    few = ["dummy", "ridge"]
    change_params(copy, lambda p: p["training"].update(seed=31, regression=few))
    before = {f: (copy / f).read_bytes() for f in made_files(copy)}
    process = dvc("repro", "training@homes", cwd=copy)
    staged = copy / ".staging" / "homes-03_training"
    deadline = time.monotonic() + 60
    while not staged.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)  # into the middle of the notebook
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    assert {f: (copy / f).read_bytes() for f in made_files(copy)} == before
    code, said = finish(dvc("repro", "training@homes", cwd=copy))
    assert code == 0, said
    report = "reports/homes/03_training.html"
    assert (copy / report).read_bytes() != before[report]
    assert not staged.exists()


def test_a_failed_gate_stops_the_export_and_shows_on_the_front_page(finished, tmp_path):
    copy = working_copy(finished, tmp_path / "copy")
    bundle = copy / "models" / "homes" / "bundle" / "manifest.json"
    before = bundle.read_bytes()
    change_params(
        copy, lambda p: p["cases"]["homes"]["gate"][0].update(metric="rmse_log", at_most=0.01)
    )
    for stage, passes in (("evaluation", True), ("export", False)):
        code, said = finish(dvc("repro", "--single-item", f"{stage}@homes", cwd=copy))
        assert (code == 0) == passes, said
    sentence = next(line for line in said.splitlines() if line.startswith("truefit: "))
    for part in ("homes", "did not pass the gate", "at most 0.01", "04_evaluation.html"):
        assert part in sentence
    assert bundle.read_bytes() == before

    assert run_truefit("index", cwd=copy).returncode == 0
    front = (copy / "reports" / "index.html").read_text(encoding="utf-8")
    assert front.count("Gate failed") == 1 and front.count("Gate passed") == 1
    assert "not exported, because" in front and "nothing to serve, because" in front
    assert "nothing to watch, because" in front


def test_editing_one_case_runs_only_its_own_stages(finished, tmp_path):
    copy = working_copy(finished, tmp_path / "copy")
    change_params(copy, lambda p: p["cases"]["loans"]["units"].update(age="full years"))
    code, said = finish(dvc("repro", "--dry", cwd=copy))
    assert code == 0, said
    started = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running")}
    about_no_case = {"index", "scorecard"}
    assert started == {f"{step}@loans" for step in STEPS if step.of_a_case} | about_no_case


def test_a_run_from_python_is_the_run_from_the_command_line(finished, tmp_path):
    copy = working_copy(finished, tmp_path / "copy")
    report = copy / "reports" / "loans" / "01_data_prep.html"
    report.unlink()
    program = "from truefit.notebook import run; print(run('data_prep', 'loans'))"
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert Path(said.stdout.strip()) == report
    # The pipeline's came from the command line.
    assert report.read_bytes() == (finished / report.relative_to(copy)).read_bytes()


def test_a_step_without_a_case_refuses_one_and_another_needs_one(finished):
    refused = run_truefit("run", "02_regression_maths", "--case", "homes", cwd=finished)
    assert refused.returncode == 1
    assert refused.stderr == "truefit: 02_regression_maths takes no case; run it without one\n"
    refused = run_truefit("run", "03_training", cwd=finished)
    assert refused.returncode == 1
    assert refused.stderr == "truefit: 03_training needs a case; known: homes, loans\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminal")
def test_a_bar_by_cell_is_drawn_on_a_terminal(finished, tmp_path):
    import pty
    import termios

    copy = working_copy(finished, tmp_path / "copy")
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (30, 90))
    run = subprocess.Popen(
        ["truefit", "run", "01_data_prep", "--case", "loans"],
        cwd=copy,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=its,
    )
    os.close(its)
    said = b""
    with contextlib.suppress(OSError):  # what Linux raises when the other side has closed
        while more := os.read(ours, 4096):
            said += more
    os.close(ours)
    assert run.wait() == 0
    assert b"01_data_prep loans:   0%" in said and b"01_data_prep loans: 100%" in said


def test_an_experiment_is_run_compared_and_drawn(finished, tmp_path):
    copy = working_copy(finished, tmp_path / "copy")
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for command in (["add", "--all"], [*who, "commit", "--quiet", "--message", "start"]):
        subprocess.run(["git", "-C", copy, *command], check=True)
    change = ("-S", "evaluation.confidence=0.6")
    code, said = finish(dvc("exp", "run", *change, "evaluation@homes", cwd=copy))
    assert code == 0, said

    code, said = finish(dvc("metrics", "diff", "--json", cwd=copy))
    assert code == 0, said
    changed = json.loads(said)["reports/homes/metrics.json"]["rmse_log.low"]
    assert changed["new"] > changed["old"]  # a narrower interval
    code, said = finish(dvc("plots", "show", "--out", "drawn", cwd=copy))
    assert code == 0, said
    page = (copy / "drawn" / "index.html").read_text(encoding="utf-8")
    assert "homes: learning curves, on rows held out" in page
