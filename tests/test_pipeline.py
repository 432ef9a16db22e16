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

import pytest
from conftest import change_params, copy_project, quicken, run_truefit

from truefit.notebook import STEPS, WITHOUT_CASE, all_runs, claims_of_run, page_of
from truefit.notebook.run import PINNED, PINNED_ON_X86

CASES = ("homes", "loans", "machines")
AGAIN = "loans"  # the case that runs a second time
BIN = Path(sys.executable).parent
MADE = ("data", "models", "reports")


def environment(**changes):
    """This environment with Truefit's own commands first on the path."""
    return {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **changes}


def dvc(*arguments, cwd, **changes):
    """Start ``dvc`` in a copy of the project."""
    return subprocess.Popen(
        ["dvc", *arguments],
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


def versioned_copy(target, **what):
    """A copy of the project that git and DVC take for a project of their own."""
    copy_project(target, **what)
    subprocess.run(["git", "init", "--quiet", target], check=True)
    subprocess.run(["dvc", "init", "--quiet"], cwd=target, env=environment(), check=True)
    return target


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
def runs(tmp_path_factory):
    """The quick pipeline run twice at once, in two folders and very different environments.

    The second time with one case alone: ``make verify`` compares every file of all of them.
    """
    base = tmp_path_factory.mktemp("runs")
    first = quicken(versioned_copy(base / "first"))
    second = quicken(versioned_copy(base / "a second folder"))
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
    processes = [
        dvc("repro", "--force", cwd=first, PYTHONHASHSEED="1"),
        dvc("repro", "--force", cwd=second, **strange),
    ]
    for process in processes:
        code, said = finish(process)
        assert code == 0, said
    return first, second


def test_two_runs_give_the_same_bytes(runs):
    first, second = runs
    # What tells of every case differs, of course.
    common = sorted({*made_files(second)} - {"dvc.lock", "reports/index.html"})
    assert {f for f in made_files(first) if AGAIN in f} < {*common} < {*made_files(first)}
    differ = [f for f in common if not filecmp.cmp(first / f, second / f, shallow=False)]
    assert differ == []


def test_every_report_model_and_bundle_is_made(runs):
    files = set(made_files(runs[0]))
    for step, case in all_runs(CASES):
        assert f"reports/{page_of(step, case)}" in files
        assert f"reports/{page_of(step, case).replace('.html', '.ipynb')}" in files
    for case in CASES:
        for name in ("model.onnx", "manifest.json", "MODEL_CARD.md"):
            assert f"models/{case}/bundle/{name}" in files
    assert {"reports/index.html", "reports/gate/homes.json"} <= files
    assert f"reports/claims/{claims_of_run('regression_maths')}" in files


def test_nothing_is_left_to_do_after_a_run(runs):
    code, said = finish(dvc("status", cwd=runs[0]))
    assert (code, said.strip()) == (0, "Data and pipelines are up to date.")
    assert not (runs[0] / ".staging").exists() or not any((runs[0] / ".staging").iterdir())


def test_metrics_show_reads_the_figures_of_every_case(runs):
    code, said = finish(dvc("metrics", "show", "--json", cwd=runs[0]))
    assert code == 0, said
    found = json.loads(said)[""]["data"]
    for case in CASES:
        figures = found[f"reports/{case}/metrics.json"]["data"]
        headline = figures["roc_auc" if case == "loans" else "rmse_log"]
        assert headline["low"] < headline["value"] < headline["high"]


def test_the_numbers_come_out_again_on_another_kind_of_processor(runs, tmp_path):
    """Strict nbval over the executed notebooks, in order, with OpenBLAS's older kernels.

    The searches of one case run again; those of the others are kept, which saves minutes.
    """
    copy = working_copy(runs, tmp_path / "older processor")
    shutil.rmtree(copy / ".searches" / AGAIN)
    pages = [copy / "reports" / page_of(step, case) for step, case in all_runs(CASES)]
    books = [page.with_suffix(".ipynb") for page in pages]
    other = {**PINNED, **PINNED_ON_X86, "OPENBLAS_CORETYPE": "Sandybridge"}
    run = subprocess.run(
        [
            sys.executable,
            *("-m", "pytest", "-q", "-p", "nbval.plugin", "-p", "no:cacheprovider"),
            *("--nbval", "--nbval-current-env", "--rootdir", copy, *books),
        ],
        cwd=copy,
        env=environment(**other, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", TRUEFIT_PROJECT=str(copy)),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=900,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    for case in CASES:
        for name in (f"{case}/metrics.json", f"{case}/leaderboard.csv", f"gate/{case}.json"):
            expected = (runs[0] / "reports" / name).read_text(encoding="utf-8")
            assert (copy / "reports" / name).read_text(encoding="utf-8") == expected


def working_copy(runs, target):
    """A copy of a finished run, to do harm to."""
    return Path(shutil.copytree(runs[0], target, symlinks=True))


def test_a_killed_stage_leaves_the_last_good_report(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    change_params(copy, lambda p: p["training"].update(seed=31))
    before = {f: (copy / f).read_bytes() for f in made_files(copy)}
    process = dvc("repro", "training@machines", cwd=copy)
    staged = copy / ".staging" / "machines-03_training"
    deadline = time.monotonic() + 60
    while not staged.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)  # into the middle of the notebook
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    assert {f: (copy / f).read_bytes() for f in made_files(copy)} == before
    code, said = finish(dvc("repro", "training@machines", cwd=copy))
    assert code == 0, said
    report = "reports/machines/03_training.html"
    assert (copy / report).read_bytes() != before[report]
    assert not staged.exists()


def test_a_failed_gate_stops_the_export_and_shows_on_the_front_page(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    bundle = copy / "models" / "machines" / "bundle" / "manifest.json"
    before = bundle.read_bytes()
    change_params(
        copy, lambda p: p["cases"]["machines"]["gate"][0].update(metric="rmse_log", at_most=0.01)
    )
    code, said = finish(dvc("repro", "export@machines", cwd=copy))
    assert code != 0
    sentence = next(line for line in said.splitlines() if line.startswith("truefit: "))
    for part in ("machines", "did not pass the gate", "at most 0.01", "04_evaluation.html"):
        assert part in sentence
    assert bundle.read_bytes() == before

    assert run_truefit("index", cwd=copy).returncode == 0
    front = (copy / "reports" / "index.html").read_text(encoding="utf-8")
    assert front.count("Gate failed") == 1 and front.count("Gate passed") == 2
    assert "not exported, because" in front and "nothing to serve, because" in front
    assert "nothing to watch, because" in front


def test_editing_one_case_runs_only_its_own_stages(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    change_params(copy, lambda p: p["cases"]["loans"]["units"].update(age="full years"))
    code, said = finish(dvc("repro", "--dry", cwd=copy))
    assert code == 0, said
    started = {line.split("'")[1] for line in said.splitlines() if line.startswith("Running")}
    about_no_case = {"index", "scorecard"}
    assert started == {f"{s}@loans" for s in STEPS if s not in WITHOUT_CASE} | about_no_case


def test_a_run_from_python_is_the_run_from_the_command_line(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    report = copy / "reports" / "loans" / "03_training.html"
    expected = report.read_bytes()
    report.unlink()
    program = "from truefit.notebook import run; print(run('training', 'loans'))"
    said = subprocess.run(
        [sys.executable, "-c", program],
        cwd=copy,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    assert Path(said.stdout.strip()) == report
    assert report.read_bytes() == expected
    report.unlink()
    assert run_truefit("run", "03_training", "--case", "loans", cwd=copy).returncode == 0
    assert report.read_bytes() == expected


def test_a_step_without_a_case_runs_once_and_refuses_one(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    report = copy / "reports" / "02_regression_maths.html"
    claims = copy / "reports" / "claims" / "02_regression_maths.json"
    expected = report.read_bytes(), claims.read_bytes()
    report.unlink()
    claims.unlink()
    assert run_truefit("run", "02_regression_maths", cwd=copy).returncode == 0
    assert (report.read_bytes(), claims.read_bytes()) == expected
    refused = run_truefit("run", "02_regression_maths", "--case", "homes", cwd=copy)
    assert refused.returncode == 1
    assert refused.stderr == "truefit: 02_regression_maths takes no case; run it without one\n"
    refused = run_truefit("run", "03_training", cwd=copy)
    assert refused.returncode == 1
    assert refused.stderr == "truefit: 03_training needs a case; known: homes, loans, machines\n"


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminal")
def test_a_bar_by_cell_is_drawn_on_a_terminal(runs, tmp_path):
    import pty
    import termios

    copy = working_copy(runs, tmp_path / "copy")
    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (30, 90))
    run = subprocess.Popen(
        ["truefit", "run", "04_evaluation", "--case", "loans"],
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
    assert b"04_evaluation loans:   0%" in said and b"04_evaluation loans: 100%" in said


def test_an_experiment_is_run_compared_and_drawn(runs, tmp_path):
    copy = working_copy(runs, tmp_path / "copy")
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    for command in (["add", "--all"], [*who, "commit", "--quiet", "--message", "start"]):
        subprocess.run(["git", "-C", copy, *command], check=True)
    fewer = ["-S", "training.regression=[dummy,linear]", "-S", "training.trials=1"]
    code, said = finish(dvc("exp", "run", *fewer, "evaluation@machines", cwd=copy))
    assert code == 0, said

    code, said = finish(dvc("metrics", "diff", "--json", cwd=copy))
    assert code == 0, said
    changed = json.loads(said)["reports/machines/metrics.json"]["rmse_log.value"]
    assert changed["new"] > changed["old"]  # a linear model instead of the whole shelf
    code, said = finish(dvc("plots", "show", "--out", "drawn", cwd=copy))
    assert code == 0, said
    page = (copy / "drawn" / "index.html").read_text(encoding="utf-8")
    assert "machines: learning curves, on rows held out" in page
