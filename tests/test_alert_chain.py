"""What goes wrong reaches whoever is on call, through Prometheus, Alertmanager and a webhook.

All of them run, on this machine alone, with what deploy/ ships. Only addresses are others, and
intervals and `for:` are a second, so that nobody waits.
"""

import json
import os
import re
import socket
import subprocess
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import cases
import httpx
import pytest
from conftest import ROOT, tool
from ruamel.yaml import YAML
from service import Service, rows, until
from test_alerts import renamed

from truefit.monitoring.prometheus import metrics_text

SHIPPED = ROOT / "deploy" / "prometheus"
DASHBOARD = json.loads(
    (ROOT / "deploy/grafana/dashboards/truefit.json").read_text(encoding="utf-8")
)
ROUTES = """\
route: {{receiver: hook, group_wait: 1s, group_interval: 1s}}
receivers:
  - name: hook
    webhook_configs: [{{url: "http://{hook}/"}}]
"""


class Hook(BaseHTTPRequestHandler):
    """Somebody's pager: it keeps the labels of every alert that it was told of."""

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.told += [a["labels"] for a in sent["alerts"] if a["status"] == "firing"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Say nothing on stderr."""


def free_address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def shipped(name: str, addresses: dict[str, str]) -> str:
    """A file of deploy/prometheus, with what it leaves to its user taken out of the comments."""
    text = (SHIPPED / name).read_text(encoding="utf-8")
    text = re.sub(r"^( *)# ( *(?:- |\w+:$))", r"\1\2", text, flags=re.MULTILINE)
    text = re.sub(r"(interval|for): \d+[sm]\b", r"\1: 1s", text)
    for said, real in addresses.items():
        text = text.replace(f'"{said}"', f'"{real}"')
    return text


class Chain:
    """The service and what watches it, until `stop`."""

    def __init__(self, folder: Path):
        names = ("prometheus", "prometheus-alertmanager", "prometheus-node-exporter")
        prometheus, alertmanager, exporter = map(tool, names)
        self.folder = folder
        self.hook = HTTPServer(("127.0.0.1", 0), Hook)
        self.hook.told = []
        Thread(target=self.hook.serve_forever, daemon=True).start()
        self.service = Service(folder, "--no-log")
        self.at, alerts, metrics = (free_address() for _ in range(3))
        addresses = {"truefit:8000": self.service.url.removeprefix("http://")}
        addresses |= {"monitor:9100": metrics, "alertmanager:9093": alerts}
        for name in ("prometheus.yml", "rules.yml", "monitoring.yml"):
            (folder / name).write_text(shipped(name, addresses), encoding="utf-8")
        routes = ROUTES.format(hook=f"127.0.0.1:{self.hook.server_port}")
        (folder / "alertmanager.yml").write_text(routes, encoding="utf-8")
        (folder / "metrics").mkdir()
        self.processes = [
            self.started(
                exporter, "--collector.disable-defaults", "--collector.textfile",
                "--collector.textfile.directory=metrics", f"--web.listen-address={metrics}",
            ),
            self.started(
                alertmanager, "--config.file=alertmanager.yml", "--storage.path=alerts",
                "--cluster.listen-address=", f"--web.listen-address={alerts}",
            ),
            self.started(
                prometheus, "--config.file=prometheus.yml", "--storage.tsdb.path=data",
                f"--web.listen-address={self.at}",
            ),
        ]  # fmt: skip

    def started(self, program: str, *options: str) -> subprocess.Popen:
        with (self.folder / f"{Path(program).name}.log").open("wb") as log:
            return subprocess.Popen(
                [program, *options], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT
            )

    def ask(self, path: str, **parameters: str):
        """What Prometheus answers."""
        answer = httpx.get(f"http://{self.at}/api/v1/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()["data"]

    def found(self, query: str) -> list[dict]:
        return self.ask("query", query=query)["result"]

    def is_up(self) -> bool:
        try:
            return [up["value"][1] for up in self.found("up")] == ["1", "1"]
        except httpx.TransportError:  # not yet
            return False

    def told(self, **labels: str) -> list[dict]:
        return [alert for alert in self.hook.told if labels.items() <= alert.items()]

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait(timeout=30)
        self.service.stop()
        self.hook.shutdown()
        self.hook.server_close()


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    running = Chain(tmp_path_factory.mktemp("chain"))
    try:
        # What the monitor wrote three days ago: a category had been renamed.
        page = running.folder / "metrics" / "truefit.prom"
        page.write_text(metrics_text(renamed(), "loans"), encoding="utf-8")
        os.utime(page, (then := time.time() - 3 * 24 * 3600, then))
        until(running.is_up, seconds=60)
        yield running
    finally:
        running.stop()


def document(name: str) -> dict:
    return YAML(typ="safe").load(SHIPPED / name)


def queries() -> list[str]:
    """Those of the dashboard, as it asks them for all cases, and those that rules record."""
    panels = [t["expr"] for panel in DASHBOARD["panels"] for t in panel["targets"]]
    recorded = [
        r["record"] for g in document("rules.yml")["groups"] for r in g["rules"] if "record" in r
    ]
    return [query.replace("$case", ".+") for query in panels] + recorded


def send(service: Service) -> None:
    """Requests for every case; the houses have become a thousand times as large."""
    for name in cases.NAMES:
        sent = rows(name, 250)
        if name == "homes":
            sent = [row | {"gr_liv_area": row["gr_liv_area"] * 1000} for row in sent]
        assert service.predict(name, sent).status_code == 200


def test_each_panel_and_each_recorded_figure_has_data(chain):
    asked, empty = queries(), []

    def all_have_data() -> bool:
        send(chain.service)
        empty[:] = [query for query in asked if not chain.found(query)]
        return not empty

    try:
        until(all_have_data, seconds=60)
    except AssertionError:
        pytest.fail(f"no data for {empty}")


def test_every_rule_is_evaluated_without_an_error(chain):
    rules = [rule for group in chain.ask("rules")["groups"] for rule in group["rules"]]
    written = [g for f in ("rules.yml", "monitoring.yml") for g in document(f)["groups"]]
    assert len(rules) == sum(len(group["rules"]) for group in written)
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_variable_of_the_dashboard_lists_the_cases(chain):
    (variable,) = DASHBOARD["templating"]["list"]
    metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()
    assert chain.ask(f"label/{label}/values", **{"match[]": metric}) == sorted(cases.NAMES)


def test_inputs_that_have_become_unusual_are_told_and_what_they_do_to_the_predictions(chain):
    unusual = {"alertname": "TruefitUnusualInput", "case": "homes", "column": "gr_liv_area"}
    until(lambda: chain.told(**unusual), seconds=60)
    until(lambda: chain.told(alertname="TruefitPredictionsMoved", case="homes"), seconds=60)
    assert not chain.told(alertname="TruefitUnusualInput", case="loans")


def test_the_red_lights_of_the_monitor_are_told_and_that_it_has_stopped(chain):
    findings = renamed()
    red = findings[findings["light"] == "red"]
    assert len(red)
    for rule, subject in red[["rule", "subject"]].itertuples(index=False):
        labels = {"case": "loans", "rule": rule, "subject": subject, "light": "red"}
        until(lambda: chain.told(**labels, severity="critical"), seconds=60)  # noqa: B023
    until(lambda: chain.told(alertname="TruefitMonitorStopped"), seconds=60)


def test_a_service_that_has_died_is_told(chain):
    """The last of its tests: it kills the service."""
    assert not chain.told(alertname="TruefitDown")
    chain.service.process.kill()
    until(lambda: chain.told(alertname="TruefitDown"), seconds=60)
