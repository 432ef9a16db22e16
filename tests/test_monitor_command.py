"""`truefit monitor`: a running service's log becomes a page and an exit code, and nothing else."""

import csv
import json
import re
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cases
import pandas as pd
import pytest
import service as running
from conftest import copy_project, quicken, run_truefit
from service import until
from sklearn.model_selection import cross_val_predict

from truefit.bundle import Bundle
from truefit.monitoring.log import read_log
from truefit.project import InputError
from truefit.serving.lesson import records
from truefit.serving.request_log import Entry, RequestLog

NAME, MODEL = "machines", running.MODELS["machines"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one case up to its bundle, and the quick parameters."""
    copy = quicken(copy_project(tmp_path_factory.mktemp("monitor") / "project"))
    made, data = copy / "models" / NAME, copy / "data" / NAME
    shutil.copytree(running.models() / NAME, made)
    data.mkdir()
    cases.train(NAME).to_parquet(data / "train.parquet")
    cases.held_out(NAME).to_parquet(data / "test.parquet")
    cases.live(NAME).to_parquet(data / "production.parquet")
    rows, target = cases.train(NAME), cases.PARAMS.cases[NAME].target
    said = cross_val_predict(
        cases.built(NAME, MODEL), rows.drop(columns=target), rows[target], cv=2
    )
    pd.DataFrame({MODEL: said}).to_parquet(made / "out_of_fold.parquet")
    verdict = copy / "reports" / "gate" / f"{NAME}.json"
    verdict.parent.mkdir(parents=True)
    verdict.write_text(json.dumps(cases.VERDICT | {"headline": {"model": MODEL}}), encoding="utf-8")
    return copy


def bundle() -> Bundle:
    return Bundle(running.models() / NAME / "bundle")


def rows_in(log: Path) -> int:
    try:
        return len(read_log(log, NAME, bundle(), cases.PARAMS.cases[NAME], every="day").ids)
    except InputError:  # none yet
        return 0


def content(folder: Path) -> dict:
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


def monitor(project: Path, cwd: Path, *options: object):
    """Run the command from a folder outside of the project, in which nothing may change."""
    before = content(project)
    given = {"TRUEFIT_PROJECT": str(project), "PYTHONDONTWRITEBYTECODE": "1"}
    done = run_truefit("monitor", "--case", NAME, *options, cwd=cwd, env=given)
    assert content(project) == before, done.stderr
    return done


def test_a_running_service_is_watched(project, service, tmp_path):
    rows = cases.held_out(NAME)
    sent = records(rows, bundle().inputs)
    for first in range(0, len(sent), 50):
        answer = service.predict(
            NAME, sent[first : first + 50], headers={"x-request-id": f"r{first}"}
        )
        assert answer.status_code == 200
    with (tmp_path / "late.csv").open("w", newline="", encoding="utf-8") as file:
        late = csv.writer(file)
        late.writerow(["request_id", "row", "price"])
        late.writerows((f"r{i // 50 * 50}", i % 50 + 1, p) for i, p in enumerate(rows["price"]))
    (tmp_path / "log").symlink_to(service.folder / "request-log")
    until(lambda: rows_in(tmp_path / "log") == len(rows))
    done = monitor(project, tmp_path, "--log", "log", "--labels", "late.csv", "--every", "month")
    assert done.returncode == 0, done.stdout + done.stderr
    wrote, light = done.stdout.splitlines()
    assert wrote == f"wrote monitoring-{NAME}.html"
    assert light.startswith(f"green in {datetime.now(UTC):%Y-%m}: ")
    page = (tmp_path / f"monitoring-{NAME}.html").read_text(encoding="utf-8")
    assert f"{len(rows):,} rows in one window" in page
    assert f"{len(rows):,} of them have a label" in page
    # Nothing lies beside it, so it leads nowhere but to its own parts.
    assert set(re.findall(r'href="(?!#)([^"]*)"', page)) == {"data:,"}
    assert {f.name for f in tmp_path.iterdir()} == {"log", "late.csv", f"monitoring-{NAME}.html"}


def test_red_in_the_newest_window_is_an_exit_code_of_its_own(project, tmp_path):
    """The third day's disks are given in KB."""
    lost, start, own = [], datetime(2026, 11, 21, 12, tzinfo=UTC), bundle()
    log = RequestLog(tmp_path / "log", lost.append, print, keep_days=10**6)
    for day in range(3):
        rows = cases.held_out(NAME).sample(100, random_state=day)
        rows = rows.assign(hd=rows["hd"] * (1000 if day == 2 else 1))
        inputs = {column.name: rows[column.name].tolist() for column in own.inputs}
        said = own.score(inputs)
        low, high = own.manifest.ends(said)
        outputs = {"prediction": said.tolist(), "low": low.tolist(), "high": high.tolist()}
        at = start + timedelta(days=day)
        log.add(Entry(NAME, at, f"r{day}", own.version, len(rows), None, inputs, outputs))
    log.close()
    assert not lost
    page = tmp_path / "pages" / "it's späť.html"
    page.parent.mkdir()
    where = ("--output", page, "--metrics", tmp_path / "truefit.prom")
    done = monitor(project, tmp_path, "--log", tmp_path / "log", *where)
    assert done.returncode == 3, done.stdout + done.stderr
    assert done.stdout.startswith(f"wrote {page}\nred in 2026-11-23: ")
    assert [f.name for f in page.parent.iterdir()] == [page.name]
    assert "hd" in done.stdout
    written = (tmp_path / "truefit.prom").read_text(encoding="utf-8")
    assert f'truefit_monitor_in_a_row{{case="{NAME}",rule="drift",subject="hd"}} 1.0' in written


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--log", "nowhere"), "there is no log in"),
        (("--log", ".", "--output", "no/page.html"), "the page no/page.html cannot be written"),
        (("--log", ".", "--output", "."), "the page . cannot be written: it is a folder"),
        (("--log", ".", "--metrics", "no/m.prom"), "no/m.prom cannot be written: its folder is"),
        (("--log", ".", "--metrics", "."), ". cannot be written: it is a folder"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_the_last_page(options, said, project, tmp_path):
    last = tmp_path / f"monitoring-{NAME}.html"
    last.write_text("the last good page", encoding="utf-8")
    done = monitor(project, tmp_path, *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"truefit: {said}") and done.stderr.count("\n") == 1
    assert content(tmp_path) == {Path(last.name): b"the last good page"}
    assert not list((project / ".staging").glob("*"))


def test_the_help_says_what_cron_needs(tmp_path):
    done = run_truefit("monitor", "--help", cwd=tmp_path, env={"COLUMNS": "200"})
    assert "The exit code is 3 if the newest window is red or" in done.stdout
