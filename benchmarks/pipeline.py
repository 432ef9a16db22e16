"""What the notebooks cost over plain scripts, and what the whole pipeline costs.

``make bench-pipeline`` writes ``pipeline.json`` beside this file. Each stage's notebook and the
same cells as a plain script take turns, so that a busy machine slows both; the figure to quote is
the difference of the medians. The stages find the searches of the whole pipeline's run kept, so
that training measures all but them. The whole pipeline runs from nothing, on all cores; `truefit
repro` begins with what took longest in it.
"""

import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from truefit import params
from truefit.notebook.run import pinned_environment
from truefit.repro import cores
from truefit.steps import Step, all_runs

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).with_suffix(".json")
CASE = "computers"
ROUNDS = 3
COPIED = (
    *("params.yaml", "dvc.yaml", "requirements.txt", ".dvcignore", "notebooks", "src", "data/raw"),
    "tests",
    *(f"benchmarks/{name}.json" for name in ("compression", "models", "serving", "solver")),
)


def seconds(*command: str, cwd: Path) -> float:
    """The wall time of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - start


def whole_pipeline(top: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds of wall and processor time of the whole pipeline from nothing, and of each stage."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = ["truefit", "repro", "--force"]
    done = subprocess.run(command, cwd=top, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    took = re.findall(r"\] (\S+) took (\d+):(\d+)", done.stdout)
    found = {"wall": round(wall, 1), "cpu": round(cpu, 1)}
    print(f"the whole pipeline: {found}", flush=True)
    return found, {name: 60 * int(minutes) + int(rest) for name, minutes, rest in took}


def project_copy(target: Path) -> Path:
    """A copy of the project with a DVC of its own, so that nothing committed is touched."""
    for name in COPIED:
        source, copy = ROOT / name, target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    seconds("git", "init", "--quiet", cwd=target)
    return initialised(target)


def initialised(target: Path) -> Path:
    seconds("dvc", "init", "--quiet", cwd=target)
    for setting in ("core.analytics", "core.check_update"):
        seconds("dvc", "config", setting, "false", cwd=target)
    return target


def as_script(step: Step, case: str | None, target: Path) -> Path:
    """The code of a step's notebook, without papermill, kernel and page, but with its ``await``."""
    notebook = json.loads((ROOT / "notebooks" / f"{step.notebook}.ipynb").read_text("utf-8"))
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    given = params.load().section(step.name, case).model_dump() | ({"case": case} if case else {})
    cells.insert(1, "\n".join(f"{name} = {value!r}" for name, value in given.items()))
    script = target / f"{step}.py"
    code = "\n\n".join(cells)
    script.write_text(f"""import ast, asyncio
code = compile({code!r}, "{step}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
if (waiting := eval(code)) is not None:
    asyncio.run(waiting)
""", encoding="utf-8")  # fmt: skip
    return script


def stage_costs(top: Path) -> dict[str, dict[str, float]]:
    """Seconds of each stage as a notebook and as a script, in pairs."""
    found = {}
    for step, case in all_runs([CASE]):
        script = as_script(step, case, top)
        chosen = ["--case", case] if case else []
        pairs = []
        for _ in range(ROUNDS):
            notebook = seconds("truefit", "run", step.name, *chosen, cwd=top)
            os.environ["TRUEFIT_PROJECT"] = str(top)
            with pinned_environment():
                plain = seconds(sys.executable, str(script), cwd=top)
            del os.environ["TRUEFIT_PROJECT"]
            pairs.append((notebook, plain))
        notebook, plain = (statistics.median(side) for side in zip(*pairs, strict=True))
        found[step.name] = {
            "notebook": round(notebook, 2),
            "script": round(plain, 2),
            "added": round(statistics.median(n - p for n, p in pairs), 2),
        }
        print(f"{step.name:16} {found[step.name]}")
    return found


def empty_pipeline(target: Path, stages: int) -> Path:
    """A DVC pipeline of as many stages that do nothing."""
    target.mkdir()
    seconds("git", "init", "--quiet", cwd=target)
    lines = ["stages:"]
    for i in range(stages):
        (target / f"in{i}").write_text(str(i), encoding="utf-8")
        lines += [f"  s{i}:", f"    cmd: cp in{i} out{i}", f"    deps: [in{i}]", "    outs:"]
        lines += [f"      - out{i}: {{cache: false}}"]
    (target / "dvc.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    initialised(target)
    seconds("dvc", "repro", cwd=target)
    return target


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        top = project_copy(Path(scratch) / "project")
        whole, took = whole_pipeline(top)
        empty = empty_pipeline(Path(scratch) / "empty", len(took))
        pairs = [
            (seconds("dvc", "repro", cwd=top), seconds("dvc", "repro", cwd=empty))
            for _ in range(ROUNDS)
        ]
        unchanged, nothing = (statistics.median(side) for side in zip(*pairs, strict=True))
        print(f"nothing changed: {unchanged:.2f} s; an empty pipeline: {nothing:.2f} s")
        stage = stage_costs(top)
    result = {
        "command": "make bench-pipeline",
        "python": platform.python_version(),
        "cores": cores(),
        "case": CASE,
        "rounds": ROUNDS,
        "whole pipeline, seconds": whole,
        "stages of the whole pipeline, seconds": took,
        "nothing changed, seconds": round(unchanged, 2),
        "empty pipeline of as many stages, seconds": round(nothing, 2),
        "nothing changed over empty, ratio": round(statistics.median(a / b for a, b in pairs), 2),
        "stages, seconds": stage,
    }
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
