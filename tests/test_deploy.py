"""The files under deploy/ do what they say, as far as that shows without a container engine.

TRUEFIT_ALL_TOOLS=1 fails a test that would be skipped because a tool is not installed.
"""

import copy
import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

import cases
import kubernetes_validate
import pytest
from compose_spec import PyOptions
from conftest import ROOT
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from truefit.serving import Options

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "truefit.json"
BIN = Path(sys.executable).parent
TO_STOP = Options.drain + Options.timeout  # seconds that the service may take


def needs(tool):
    """The path of a program that pip does not install everywhere; without it the test ends."""
    found = shutil.which(tool, path=f"{BIN}{os.pathsep}{os.environ['PATH']}")
    if not found:
        end = pytest.fail if os.environ.get("TRUEFIT_ALL_TOOLS") == "1" else pytest.skip
        end(f"{tool} is not installed; see deploy/README.md")
    return found


def accepted(*command):
    """Run a checker; its words are the failure's."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def documents(path):
    return list(YAML(typ="safe").load_all(path.read_text(encoding="utf-8")))


def document(path):
    (found,) = documents(path)
    return found


# The lock


def pinned(path):
    """Name and version of each package of a lock; a name twice if that hangs on the Python."""
    return set(re.findall(r"^(\S+)==(\S+)", path.read_text(encoding="utf-8"), re.MULTILINE))


def test_the_service_installs_what_training_was_tested_with_and_far_less():
    service, everything = pinned(DEPLOY / "requirements.txt"), pinned(ROOT / "requirements.txt")
    assert service <= everything
    names = {name for name, _ in service}
    assert {"numpy", "onnxruntime", "starlette", "uvicorn"} <= names
    heavy = {"scikit-learn", "pandas", "scipy", "joblib", "jupyterlab", "ipykernel", "dvc"}
    assert not heavy & names and len(names) < 25


def test_the_lock_has_hashes_and_names_no_index():
    lock = (DEPLOY / "requirements.txt").read_text(encoding="utf-8")
    entries = [e for e in re.split(r"\n(?=\S)", lock) if not e.startswith("#")]
    assert entries and all("==" in e and "--hash=sha256:" in e for e in entries)
    assert "://" not in lock and "--index" not in lock


# The image


def instructions():
    """The Dockerfile's instructions: (name, arguments), comments and continuations taken out."""
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    text = re.sub(r"\\\n", "", text)
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_hadolint_has_nothing_to_say_of_the_dockerfile():
    assert accepted(needs("hadolint"), DEPLOY / "Dockerfile") == ""


def test_the_image_starts_the_service_as_a_user_with_no_name_and_no_rights():
    said = dict(instructions())
    user, group = map(int, said["USER"].split(":"))
    assert user > 0 and group > 0
    assert json.loads(said["ENTRYPOINT"])[:2] == ["truefit", "serve"]
    assert said["STOPSIGNAL"] == "SIGTERM"


def ignored(path, patterns):
    """Whether Docker leaves a file out of the build: the last pattern that fits it decides."""
    left_out = False
    for pattern in patterns:
        keep, wanted = pattern.startswith("!"), pattern.removeprefix("!").removeprefix("**/")
        deep = "**/" in pattern
        for place in (path, *path.parents[:-1]):
            names = place.name if deep else place.as_posix()
            # A star of Docker's stays within one name, one of fnmatch's does not.
            if fnmatch.fnmatch(names, wanted) and names.count("/") == wanted.count("/"):
                left_out = not keep
    return left_out


def context(target, project):
    """Copy what Docker would send to the build."""
    lines = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    for file in project.rglob("*"):
        path = file.relative_to(project)
        if file.is_file() and not ignored(path, patterns):
            (target / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target / path)


class Image:
    """The Dockerfile's steps, run one after the other in a folder that stands for the image's root.

    It differs from an engine in this: the image's paths become paths below that folder, both stages
    share it, the base image is this machine, uv installs in place of pip, because it keeps what it
    has downloaded, and nobody changes the owner of a file or the user.
    """

    PATHS = re.compile(
        r"(?<![\w.$*/])(?:/build|/opt/truefit|/models|/var/lib/truefit|/usr/local/lib/python3.11)\b"
    )

    ONLY_SAID = (
        "ARG",
        "LABEL",
        "USER",
        "VOLUME",
        "EXPOSE",
        "STOPSIGNAL",
        "HEALTHCHECK",
        "ENTRYPOINT",
    )

    def __init__(self, root, context):
        self.root, self.context = root, context
        self.env = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(root)}
        self.said = {}
        # A piece of the standard library stands for all of it.
        library = root / "usr/local/lib/python3.11"
        for name in ("json", "test"):
            (library / name).mkdir(parents=True)
            shutil.copy(json.__file__, library / name)
        steps = {
            "FROM": self._from, "WORKDIR": self._workdir, "ENV": self._env, "COPY": self._copy,
            "RUN": self._run,
        }  # fmt: skip
        for name, arguments in instructions():
            assert name in steps or name in self.ONLY_SAID
            self.said[name] = self.placed(arguments)
            if name in steps:
                steps[name](self.said[name])

    def placed(self, text):
        return self.PATHS.sub(lambda found: f"{self.root}{found[0]}", text)

    def _from(self, _):
        self.said, self.cwd = {}, self.root

    def _workdir(self, folder):
        self.cwd = Path(folder)
        self.cwd.mkdir(parents=True, exist_ok=True)

    def _env(self, arguments):
        pairs = (pair.split("=", 1) for pair in shlex.split(arguments))
        self.env |= {k: v.replace("$PATH", self.env["PATH"]) for k, v in pairs}

    def _copy(self, arguments):
        options = [word for word in arguments.split() if word.startswith("--")]
        *sources, target = (word for word in arguments.split() if not word.startswith("--"))
        start = self.cwd if any(o.startswith("--from") for o in options) else self.context
        for source in (start / name for name in sources):
            place = self.cwd / target
            if source.is_dir() and source != place:
                shutil.copytree(source, place, dirs_exist_ok=True)
            elif source.is_file():
                shutil.copy(source, place)

    def _run(self, command):
        uv = f"{needs('uv')} pip install --quiet --python"
        command = re.sub(r"(\S+)/bin/pip --python (\S+) install", rf"{uv} \2", command)
        command = re.sub(r"(\S+)/bin/pip install", rf"{uv} \1/bin/python", command)
        command = command.replace("--compile ", "--compile-bytecode ")
        # The machine's own settings of uv and pip hold, and its home, where uv keeps its files.
        done = subprocess.run(
            command, shell=True, cwd=self.cwd, env={**os.environ, "PATH": self.env["PATH"]},
            encoding="utf-8", timeout=300, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}"

    def run(self, *command):
        return subprocess.Popen(
            command, cwd=self.cwd, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            encoding="utf-8",
        )  # fmt: skip


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The image with two bundles in it. The package index must be reachable."""
    # A project with what must not get into the image, too.
    project = tmp_path_factory.mktemp("project")
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, project)
    for name in ("deploy", "src"):
        shutil.copytree(ROOT / name, project / name)
    for name, model in (("homes", "ridge"), ("loans", "logistic")):
        folder = project / "models" / name
        case, schema = cases.PARAMS.cases[name], cases.schema(name)
        cases.write_bundle(
            folder / "bundle", cases.fitted(name, model), case, schema, name=name, winner=model
        )
        (folder / "model.joblib").write_bytes(b"a pickle")
    for secret in (".env", "keys", "data/homes/train.parquet", ".git/config"):
        (project / secret).parent.mkdir(parents=True, exist_ok=True)
        (project / secret).write_text("secret", encoding="utf-8")

    sent = tmp_path_factory.mktemp("context")
    context(sent, project)
    built = Image(tmp_path_factory.mktemp("image"), sent)
    shutil.rmtree(built.root / "build")  # the first stage is not shipped
    return built


def files(folder):
    found = (f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    return {f.relative_to(folder).as_posix(): f.stat().st_mtime_ns for f in found}


def test_only_what_the_dockerfile_copies_is_sent_to_the_build(image):
    sent = set(files(image.context))
    assert "models/homes/bundle/model.onnx" in sent and "src/truefit/cli.py" in sent
    assert {name.split("/")[0] for name in sent} == {
        *("LICENSE", "README.md", "pyproject.toml", "requirements.txt"),
        *("deploy", "models", "src"),
    }
    assert [n for n in sent if n.startswith("deploy/")] == ["deploy/requirements.txt"]
    assert not [n for n in sent if "__pycache__" in n or n.endswith(".joblib")]


def test_of_the_models_only_the_bundles_are_in_the_image(image):
    assert set(files(image.root / "models")) == {
        f"{case}/bundle/{file}"
        for case in ("homes", "loans")
        for file in ("manifest.json", "model.onnx")
    }


def test_the_bytecode_is_made_beforehand(image):
    names = files(image.root)
    library = "usr/local/lib/python3.11"
    compiled = {Path(n).parents[1].as_posix() for n in names if n.endswith(".pyc")}
    assert f"{library}/json" in compiled and f"{library}/test" not in compiled
    packages = f"opt/truefit/{library.removeprefix('usr/local/')}/site-packages"
    assert {f"{packages}/truefit", f"{packages}/numpy"} <= compiled


@pytest.mark.parametrize("module", ["sklearn", "pandas", "joblib", "IPython", "dvc", "pip"])
def test_the_image_cannot_import_what_training_needs(module, image):
    process = image.run("python", "-c", f"import {module}")
    assert "ModuleNotFoundError" in process.communicate(timeout=60)[0]
    assert process.returncode == 1


class Running:
    """The image's entry point, at a free port of this machine alone."""

    def __init__(self, image):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        command = json.loads(image.said["ENTRYPOINT"])
        assert command.count("0.0.0.0") == command.count("8000") == 1
        changed = {"0.0.0.0": "127.0.0.1", "8000": self.port}
        self.image, self.before = image, files(image.root)
        self.process = image.run(*(changed.get(word, word) for word in command))

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as found:
                return found.status, found.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path, content):
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}",
            json.dumps(content).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as found:
            return json.load(found)

    def healthy(self):
        """What the image's own health check finds."""
        command = self.image.said["HEALTHCHECK"].split("CMD", 1)[1]
        assert command.count("8000") == 1
        check = self.image.run(*json.loads(command.replace("8000", self.port)))
        check.communicate(timeout=60)
        return check.returncode == 0


@pytest.fixture(scope="module")
def running(image):
    service = Running(image)
    until = time.monotonic() + 30
    while not service.healthy():
        assert service.process.poll() is None, service.process.stdout.read()
        assert time.monotonic() < until, "not healthy after 30 seconds"
        time.sleep(0.1)
    yield service
    service.process.kill()
    service.process.communicate()


def test_the_container_answers(running):
    for path in ("/", "/page.css", "/docs", "/health/live", "/health/ready", "/v2/health/ready"):
        assert running.get(path)[0] == 200, path
    found = json.loads(running.get("/v1/cases")[1])["cases"]
    assert [entry["case"] for entry in found] == ["homes", "loans"]


def predict(running, name, rows):
    described = json.loads(running.get(f"/v1/cases/{name}")[1])
    inputs = [column["name"] for column in described["inputs"]]
    records = json.loads(rows[inputs].to_json(orient="records"))
    return running.post(f"/v1/cases/{name}/predict", records)["predictions"]


def test_the_container_predicts_what_the_model_predicts(running):
    rows = cases.live("homes").head(20)
    found = [answer["prediction"] for answer in predict(running, "homes", rows)]
    expected = cases.fitted("homes", "ridge").predict(
        rows.drop(columns=cases.PARAMS.cases["homes"].target)
    )
    assert found == pytest.approx(expected, rel=1e-4)
    rows = cases.live("loans").head(20)
    assert {a["prediction"] for a in predict(running, "loans", rows)} <= {"bad", "good"}


def named(text):
    """The metrics that a query names: the service's, and those that rules record."""
    query = re.sub(r'"[^"]*"|\{\{.*?\}\}', "", text)
    words = re.findall(r"[a-zA-Z_][\w:]*", query)
    return {w for w in words if w.startswith(("truefit_", "process_", "python_")) or ":" in w}


def rules(kind):
    return [r for g in document(RULES)["groups"] for r in g["rules"] if kind in r]


def queries():
    """Each query of the rules and the dashboard."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [rule["expr"] for rule in rules("expr")] + asked


def test_rules_and_dashboard_ask_for_metrics_that_the_service_has(running):
    predict(running, "homes", cases.live("homes").head(20))
    families = text_string_to_metric_families(running.get("/metrics")[1])
    exported = {n for f in families for n in (f.name, *(sample.name for sample in f.samples))}
    # A warning and a refusal have not happened; their families have no samples yet.
    exported |= {f"{name}_total" for name in exported}
    recorded = {rule["record"] for rule in rules("record")}
    for query in queries():
        assert named(query) <= exported | recorded, query


def test_the_variable_of_the_dashboard_comes_from_a_metric_of_the_service(running):
    (variable,) = json.loads(DASHBOARD.read_text(encoding="utf-8"))["templating"]["list"]
    metric = re.fullmatch(r"label_values\((\w+), case\)", variable["query"])[1]
    assert f'\n{metric}{{case="homes"' in running.get("/metrics")[1]


def test_the_container_writes_to_its_volume_alone(running):
    predict(running, "homes", cases.live("homes").head(20))
    changed = dict(files(running.image.root).items() - running.before.items())
    assert all(name.startswith("var/lib/truefit/request-log/") for name in changed), changed


def test_the_container_ends_in_order_when_it_is_told_to(running):
    """The last of its tests: it stops the service."""
    running.process.send_signal(signal.SIGTERM)
    said = running.process.communicate(timeout=TO_STOP + 5)[0]
    assert running.process.returncode == 0, said
    assert "Traceback" not in said


# Compose


@cache
def compose():
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    found = PyOptions(apply_merge=True).from_yaml(text)  # refuses what is not in the specification
    found.validate()
    return found.to_dict()


@pytest.mark.parametrize("name", ["truefit", "prometheus", "grafana"])
def test_a_container_of_compose_has_no_rights_and_is_seen_from_this_machine_alone(name):
    service = compose()["services"][name]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["deploy"]["resources"]["limits"].keys() == {"cpus", "memory", "pids"}
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def test_compose_names_files_and_volumes_that_exist():
    for service in compose()["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            known = (
                (DEPLOY / source).is_dir() if source[0] == "." else source in compose()["volumes"]
            )
            assert known, volume
    build = compose()["services"]["truefit"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_nobody_knows_the_password_of_grafana_beforehand():
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    assert re.search(r"GF_SECURITY_ADMIN_PASSWORD: \$\{GRAFANA_PASSWORD:\?[^}]+\}", text)
    assert not [f for f in DEPLOY.rglob("*") if f.name == ".env"]


def test_compose_waits_longer_than_the_service_takes_to_stop():
    assert int(compose()["services"]["truefit"]["stop_grace_period"].rstrip("s")) > TO_STOP


# Prometheus and Grafana


def test_promtool_accepts_the_configuration_and_the_rules():
    promtool = needs("promtool")
    accepted(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    accepted(promtool, "check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should():
    accepted(needs("promtool"), "test", "rules", RULES.with_name("rules_test.yml"))


def test_each_alert_says_how_bad_it_is_and_what_to_do_and_has_a_test():
    tested = RULES.with_name("rules_test.yml").read_text(encoding="utf-8")
    for rule in rules("alert"):
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"].keys() == {"summary", "description"}
        assert re.search(rf'alertname(: |="){rule["alert"]}\b', tested), rule["alert"]


def test_the_dashboard_finds_its_data():
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = document(provisioning / "datasources" / "prometheus.yaml")["datasources"]
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    for part in (*board["panels"], *board["templating"]["list"]):
        assert part["datasource"] == {"type": source["type"], "uid": source["uid"]}
    assert source["url"] == "http://prometheus:9090" and "prometheus" in compose()["services"]
    (provider,) = document(provisioning / "dashboards" / "truefit.yaml")["providers"]
    mounted = {v.split(":")[1] for v in compose()["services"]["grafana"]["volumes"]}
    assert provider["options"]["path"] in mounted


def test_the_panels_of_the_dashboard_do_not_overlap():
    taken = set()
    for panel in json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]:
        at = panel["gridPos"]
        place = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not taken & place and at["x"] + at["w"] <= 24, panel["title"]
        taken |= place


# Kubernetes


def composed(folder):
    """What ``kubectl kustomize`` makes of a folder, for the few features that are used here."""
    asked = document(folder / "kustomization.yaml")
    known = {"apiVersion", "kind", "resources", "nameSuffix", "labels", "replicas", "images"}
    assert asked.keys() <= known
    found = []
    for name in asked["resources"]:
        path = folder / name
        found += composed(path) if path.is_dir() else copy.deepcopy(documents(path))
    for thing in found:
        if thing["kind"] == "Deployment":
            _change_deployment(thing, asked)
        thing["metadata"]["name"] += asked.get("nameSuffix", "")
    return found


def _change_deployment(thing, asked):
    spec, pod = thing["spec"], thing["spec"]["template"]
    spread = pod["spec"]["topologySpreadConstraints"]
    for label in asked.get("labels", []):
        assert label["includeSelectors"]
        selectors = [c["labelSelector"]["matchLabels"] for c in spread]
        for place in (thing["metadata"]["labels"], pod["metadata"]["labels"],
                      spec["selector"]["matchLabels"], *selectors):  # fmt: skip
            place |= label["pairs"]
    for replicas in asked.get("replicas", []):
        if replicas["name"] == thing["metadata"]["name"]:
            spec["replicas"] = replicas["count"]
    for image in asked.get("images", []):
        for container in pod["spec"]["containers"]:
            name = container["image"].split(":")[0]
            if name == image["name"]:
                container["image"] = f"{image.get('newName', name)}:{image['newTag']}"


FOLDERS = [KUBERNETES / "base", KUBERNETES / "overlays" / "canary"]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)


def of_kind(kind, folder):
    return [thing for thing in composed(folder) if thing["kind"] == kind]


def one(kind, folder):
    (found,) = of_kind(kind, folder)
    return found


@each_folder
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_the_manifests_are_what_kubernetes_takes(version, folder):
    found = composed(folder)
    assert found
    for thing in found:
        kubernetes_validate.validate(thing, version, strict=True)


def test_a_manifest_with_a_misspelt_key_would_be_refused():
    thing = one("Deployment", FOLDERS[0])
    thing["spec"]["template"]["spec"]["containers"][0]["redinessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="redinessProbe"):
        kubernetes_validate.validate(thing, "1.30", strict=True)


def test_every_manifest_is_named_in_a_kustomization():
    for folder in {file.parent for file in KUBERNETES.rglob("*.yaml")}:
        named_here = set(document(folder / "kustomization.yaml")["resources"])
        there = {f.name for f in folder.glob("*.yaml")} - {"kustomization.yaml"}
        assert there <= named_here


@each_folder
def test_kubectl_composes_the_same(folder):
    kubectl = shutil.which("kubectl")
    if not kubectl:  # neither PyPI nor Debian has a recent one
        pytest.skip("kubectl is not installed")
    text = accepted(kubectl, "kustomize", folder)

    def by_name(things):
        return {(thing["kind"], thing["metadata"]["name"]): thing for thing in things}

    assert by_name(YAML(typ="safe").load_all(text)) == by_name(composed(folder))


@each_folder
def test_a_pod_has_no_rights_and_two_places_to_write(folder):
    pod = one("Deployment", folder)["spec"]["template"]["spec"]
    user, group = map(int, dict(instructions())["USER"].split(":"))
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": group,
        "fsGroup": group,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"].keys() == {"requests", "limits"}
    writable = {m["mountPath"] for m in container["volumeMounts"] if not m.get("readOnly")}
    assert writable == {"/var/lib/truefit", "/tmp"}
    assert all("sizeLimit" in v["emptyDir"] for v in pod["volumes"] if "emptyDir" in v)
    assert pod["terminationGracePeriodSeconds"] > TO_STOP


def test_stable_and_canary_share_the_service_and_nothing_else():
    stable, canary = (one("Deployment", folder) for folder in FOLDERS)
    assert stable["metadata"]["name"] != canary["metadata"]["name"]
    labels = [d["spec"]["template"]["metadata"]["labels"] for d in (stable, canary)]
    assert labels[0]["track"] != labels[1]["track"]
    for deployment, own in zip((stable, canary), labels, strict=True):
        assert deployment["spec"]["selector"]["matchLabels"] == own
        assert one("Service", FOLDERS[0])["spec"]["selector"].items() <= own.items()
    images = [d["spec"]["template"]["spec"]["containers"][0]["image"] for d in (stable, canary)]
    names, tags = zip(*(image.split(":") for image in images), strict=True)
    assert names[0] == names[1] and tags[0] != tags[1]
    autoscaler = one("HorizontalPodAutoscaler", FOLDERS[0])["spec"]
    assert autoscaler["scaleTargetRef"]["name"] == stable["metadata"]["name"]
    assert canary["spec"]["replicas"] < autoscaler["minReplicas"]


# The page about all this


def test_the_page_names_every_file_and_none_that_does_not_exist():
    page = (DEPLOY / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"^\| `([^`]+)`", page, re.MULTILINE):
        assert (DEPLOY / name).exists(), name
    listed = re.findall(r"^\| `([^`]+)`", page, re.MULTILINE)
    for file in DEPLOY.rglob("*"):
        name = file.relative_to(DEPLOY).as_posix()
        if file.is_file() and name != "README.md":
            assert any(name == n or (n[-1] == "/" and name.startswith(n)) for n in listed), name
