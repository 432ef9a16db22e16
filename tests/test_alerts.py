"""Prometheus judges the monitor's findings as the monitor itself does."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, run_truefit, tool
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from test_monitoring import findings, plant, rows_of

from truefit.monitoring.prometheus import FIGURES, metrics_text

RULES = ROOT / "deploy" / "prometheus" / "monitoring.yml"


def test_the_rules_that_ship_are_those_of_params_yaml():
    made = run_truefit("alerts", cwd=ROOT)
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == RULES.read_text(encoding="utf-8")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_whoever_reads_only_the_first_lines_sees_no_traceback(unbuffered):
    reading, writing = os.pipe()
    os.close(reading)
    command = [Path(sys.executable).with_name("truefit"), "alerts"]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def one_month(month: str):
    found = findings("machines")
    return found[found["window"] == month]


def judged() -> list[str]:
    """The months that have rows enough for a conclusion."""
    return list(findings("machines")["window"].unique())


def renamed():
    rows = rows_of("loans")
    return plant("loans", rows=rows.assign(home=rows["home"].replace("rent", "let")))


def sampled(found) -> dict[str, list]:
    text = metrics_text(found, "mine")
    return {f.name: f.samples for f in text_string_to_metric_families(text)}


def test_the_metrics_say_what_was_found_in_the_newest_window():
    found = sampled(findings("machines"))
    assert set(found) == {f"truefit_monitor_{figure}" for figure in FIGURES}
    newest = one_month(judged()[-1]).set_index(["rule", "subject"])
    for figure in FIGURES:
        samples = found[f"truefit_monitor_{figure}"]
        assert len(samples) == len(newest)
        for sample in samples:
            key = sample.labels["rule"], sample.labels["subject"]
            assert sample.value == pytest.approx(newest.loc[key, figure], rel=1e-5)


def test_the_metrics_keep_what_the_last_labels_said():
    found = findings("machines")
    before, newest = judged()[-2:]
    unlabelled = (found["window"] == newest) & (found["group"] == "labels")
    told = sampled(found[~unlabelled])["truefit_monitor_effect"]
    (bias,) = (sample.value for sample in told if sample.labels["rule"] == "bias")
    (last,) = one_month(before).query("rule == 'bias'")["effect"]
    assert bias == pytest.approx(last, rel=1e-5)


def test_nothing_judged_gives_no_metric_and_no_error():
    assert not any(sampled(findings("machines").iloc[:0]).values())


def selector(labels: dict[str, str]) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels.items()) + "}"


@pytest.mark.parametrize("fault", ["13", "14", "25", "renamed"])
def test_prometheus_shows_the_lights_that_the_monitor_shows(tmp_path, fault):
    found = renamed() if fault == "renamed" else one_month(fault)
    series = [
        {"series": s.name + selector(s.labels), "values": f"{s.value!r}x5"}
        for samples in sampled(found).values()
        for s in samples
    ]
    lit = found[found["light"] != "green"]
    assert len(lit)
    expected = [
        {"labels": selector(row), "value": 1}
        for row in lit[["rule", "subject", "light"]].to_dict("records")
    ]
    lights = 'sum by (rule, subject, light) (ALERTS{alertname=~"TruefitMonitor.*"})'
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [
            {"interval": "1m", "input_series": series,
             "promql_expr_test": [{"expr": lights, "eval_time": "3m", "exp_samples": expected}]}
        ],
    }  # fmt: skip
    file = tmp_path / "test.yml"
    YAML().dump(test, file)
    run = subprocess.run([tool("promtool"), "test", "rules", file], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_promtool_accepts_the_rules():
    run = subprocess.run(
        [tool("promtool"), "check", "rules", RULES], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
