"""The files under deploy/ say what they should; test_container and test_alert_chain run them."""

import copy
import json
import re
import shutil
import subprocess
from functools import cache

import kubernetes_validate
import pytest
from compose_spec import PyOptions
from conftest import ROOT, tool
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML
from service import rows

from truefit.serving import Options

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
RULES = DEPLOY / "prometheus" / "rules.yml"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "truefit.json"
TO_STOP = Options.drain + Options.timeout  # seconds that the service may take


def accepted(*command):
    """Run a checker; its words are the failure's."""
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@cache
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
    assert accepted(tool("hadolint"), DEPLOY / "Dockerfile") == ""


def test_the_image_starts_the_service_as_a_user_with_no_name_and_no_rights():
    said = dict(instructions())
    user, group = map(int, said["USER"].split(":"))
    assert user > 0 and group > 0
    assert json.loads(said["ENTRYPOINT"])[:2] == ["truefit", "serve"]
    assert said["STOPSIGNAL"] == "SIGTERM"


def test_no_registry_is_asked_for_what_reads_the_dockerfile():
    first, *_ = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert "syntax=" not in first


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
    promtool = tool("promtool")
    accepted(promtool, "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    accepted(promtool, "check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_is_silent_when_it_should():
    accepted(tool("promtool"), "test", "rules", RULES.with_name("rules_test.yml"))


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


def test_rules_and_dashboard_ask_for_metrics_that_the_service_has(service):
    assert service.predict("homes", rows("homes", 20)).status_code == 200
    families = text_string_to_metric_families(service.client.get("/metrics").text)
    exported = {n for f in families for n in (f.name, *(sample.name for sample in f.samples))}
    # A warning and a refusal have not happened; their families have no samples yet.
    exported |= {f"{name}_total" for name in exported}
    recorded = {rule["record"] for rule in rules("record")}
    for query in queries():
        assert named(query) <= exported | recorded, query


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
