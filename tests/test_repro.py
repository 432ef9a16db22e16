"""The pipeline side by side: as DVC would have run it, sooner, and stopped without harm."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import change_params, run_truefit, versioned_copy

from truefit.repro import ReproError, cores, repro
from truefit.stages import StageError, opened

BIN = Path(sys.executable).parent
# Three chains that begin in a table each and end together. The first chain is the slowest, so that
# stages end in another order than that of dvc.yaml.
PIPELINE = """
stages:
  last:
    cmd: cat made/a made/b made/c > last
    deps: [made/a, made/b, made/c]
    outs:
      - last: {cache: false, persist: true}
  first:
    foreach: ${chains}
    do:
      cmd: sleep ${item.seconds}; cat table.csv > made/${key}.part; echo ${key} is read
      deps: [table.csv]
      params: ["chains.${key}"]
      outs:
        - made/${key}.part: {persist: true}
  second:
    foreach: ${chains}
    do:
      cmd:
        - ${item.check}
        - cp made/${key}.part made/${key}
      deps: ["made/${key}.part"]
      outs:
        - made/${key}
"""
PARAMS = """
chains:
  a: {seconds: 0.6, check: "true"}
  b: {seconds: 0.3, check: "true"}
  c: {seconds: 0.1, check: "true"}
"""


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    """A project with the pipeline above, of which nothing has run."""
    top = tmp_path_factory.mktemp("repro") / "empty"
    for folder in ("notebooks", "made", "benchmarks"):
        (top / folder).mkdir(parents=True)
    (top / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (top / "params.yaml").write_text(PARAMS, encoding="utf-8")
    (top / "table.csv").write_text("x\n1\n", encoding="utf-8")
    (top / ".gitignore").write_text("/made\n/table.csv\n", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet", top], check=True)
    for command in (["init", "--quiet"], ["config", "core.analytics", "false"]):
        subprocess.run([BIN / "dvc", *command], cwd=top, check=True)
    subprocess.run([BIN / "dvc", "add", "--quiet", "table.csv"], cwd=top, check=True)
    return top


@pytest.fixture
def top(empty, tmp_path, monkeypatch):
    """A copy of that project, as the project of this process."""
    copy = Path(shutil.copytree(empty, tmp_path / "top", symlinks=True))
    monkeypatch.setenv("TRUEFIT_PROJECT", str(copy))
    monkeypatch.chdir(copy)
    return copy


def change(top, **chains):
    """Change what params.yaml says of some chains."""
    text = (top / "params.yaml").read_text(encoding="utf-8")
    for name, line in chains.items():
        old = next(x for x in text.splitlines() if x.strip().startswith(f"{name}:"))
        text = text.replace(old, f"  {name}: {line}")
    (top / "params.yaml").write_text(text, encoding="utf-8")


def contents(top):
    files = [top / "dvc.lock", top / "last", *sorted((top / "made").iterdir())]
    return {file.name: file.read_bytes() for file in files if file.exists()}


def test_what_comes_out_is_what_dvc_repro_gives(top, tmp_path, capsys):
    other = shutil.copytree(top, tmp_path / "other", symlinks=True)
    subprocess.run([BIN / "dvc", "repro", "--quiet"], cwd=other, check=True)
    repro(jobs=3)
    assert contents(top) == contents(other)
    said = capsys.readouterr().out
    assert said.index("first@c took") < said.index("first@a took")
    assert "\n    b is read\n" in said
    assert "7 of 8 stages run, 1 unchanged" in said

    repro()
    assert "0 of 8 stages run, 8 unchanged" in capsys.readouterr().out
    status = subprocess.run([BIN / "dvc", "status"], cwd=top, capture_output=True, text=True)
    assert status.stdout.strip() == "Data and pipelines are up to date."
    for folder in (top, other):
        (folder / "table.csv").write_text("x\n2\n", encoding="utf-8")
    subprocess.run([BIN / "dvc", "repro", "--quiet"], cwd=other, check=True)
    repro(jobs=3)
    assert contents(top) == contents(other)
    assert (top / "table.csv.dvc").read_bytes() == (other / "table.csv.dvc").read_bytes()


def test_stages_run_side_by_side_and_with_one_job_one_after_another(top):
    met = "touch {0}; for i in $(seq 100); do [ -e {1} ] && exit; sleep 0.1; done; exit 1"
    change(
        top,
        a=json.dumps({"seconds": 0, "check": met.format("here-a", "here-b")}),
        b=json.dumps({"seconds": 0, "check": met.format("here-b", "here-a")}),
    )
    repro(["second@a", "second@b"], jobs=2)

    alone = "mkdir busy && sleep 0.2 && rmdir busy"
    change(top, **{c: json.dumps({"seconds": 0, "check": alone}) for c in "abc"})
    repro(jobs=1)


def test_a_failure_stops_what_needs_it_and_nothing_else(top, capsys):
    change(top, b='{seconds: 0, check: "echo truefit: b has no rows >&2; exit 1"}')
    with pytest.raises(ReproError, match=r"^failed: second@b; not run for it: last;"):
        repro(jobs=2)
    said = capsys.readouterr().out
    assert said.count("b has no rows") == 1 and "second@b failed after" in said
    assert not (top / "made" / "b").exists() and not (top / "last").exists()
    # The slow chain beside it came to its end.
    assert "second@a took" in said and (top / "made" / "a").exists()
    change(top, b='{seconds: 0, check: "true"}')
    repro(jobs=2)
    assert "first@a" not in capsys.readouterr().out
    assert (top / "last").exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_told_to_stop_it_stops_what_runs_and_keeps_what_was_finished(top, name):
    change(top, a='{seconds: "0; echo $$ > running; sleep 60", check: "true"}')
    process = subprocess.Popen(
        [BIN / "truefit", "repro", "--jobs", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not (top / "running").exists() or not (top / "made" / "b").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(StageError, match="is at work in this project"), opened():
        pass
    process.send_signal(getattr(signal, name))
    said, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint == "truefit: interrupted; what was finished before is kept\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((top / "running").read_text()), 0)
    assert not (top / "made" / "a.part").exists()
    with opened() as stages:
        assert stages.begin("first@a") and not stages.begin("first@b")


def test_most_to_come_begins_first_and_has_the_most_cores(top, capsys):
    measured = {"first@a": 1, "first@b": 1, "first@c": 30, "second@a": 10, "second@b": 20}
    file = top / "benchmarks" / "pipeline.json"
    file.write_text(json.dumps({"stages of the whole pipeline, seconds": measured}))
    for chain in "abc":
        change(top, **{chain: '{seconds: "0; echo $LOKY_MAX_CPU_COUNT", check: "true"}'})
    repro(jobs=1)
    said = capsys.readouterr().out
    places = [said.index(f" {name} starts") for name in ("first@c", "first@b", "first@a")]
    assert places == sorted(places)
    # One after another, each may use all cores.
    assert said.count(f"\n    {cores()}\n") == 3
    repro(jobs=3, force=True)
    shares = [line for line in capsys.readouterr().out.splitlines() if line.strip().isdigit()]
    assert len(shares) == 3 and all(1 <= int(s) <= cores() for s in shares)


def test_a_stage_or_file_that_is_wrong_ends_in_a_sentence(top):
    said = run_truefit("repro", "third", cwd=top)
    assert said.returncode == 1
    assert said.stderr.startswith("truefit: ") and "third" in said.stderr
    (top / "dvc.yaml").write_text("stages: [}", encoding="utf-8")
    said = run_truefit("repro", cwd=top)
    assert said.returncode == 1 and "Traceback" not in said.stderr
    assert "dvc.yaml" in said.stderr and "line 1" in said.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pseudo-terminal")
def test_on_a_terminal_a_line_says_what_runs(top):
    import pty
    import termios

    ours, its = pty.openpty()
    termios.tcsetwinsize(its, (30, 60))
    process = subprocess.Popen(
        [BIN / "truefit", "repro"], stdout=its, env={**os.environ, "TERM": "xterm"}
    )
    os.close(its)
    said = b""
    try:
        while more := os.read(ours, 4096):
            said += more
    except OSError:  # what Linux raises when the other side has closed
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"first@a 0:00, " in said and b"starts" not in said
    # The line is wiped before another is written, so none is longer than the terminal is wide.
    assert all(len(line) < 60 for line in said.decode().replace("\x1b[2K", "").split("\r"))


def test_a_case_without_a_table_is_named(tmp_path):
    copy = versioned_copy(tmp_path / "copy")
    change_params(copy, lambda p: p["cases"].update(mine={"target": "x", "task": "regression"}))
    done = run_truefit("repro", cwd=copy)
    said = (
        "truefit: params.yaml: the key cases.mine.table is missing; until it is there, DVC can run"
    )
    assert done.returncode == 1 and done.stderr.startswith(said)
