"""A real engine builds the image, and a container without rights answers as the project does.

It needs root, podman and runc, and asks no registry: this machine's own Python stands in for the
Dockerfile's base image, and what the build installs comes from the caches of pip and uv.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import cases
import pandas as pd
import pytest
import service
from conftest import ROOT, missing, run_truefit, tool
from ruamel.yaml import YAML

from truefit.bundle import Bundle
from truefit.monitoring.log import read_log
from truefit.project import InputError

DEPLOY = ROOT / "deploy"
PYTHON = Path(sys.base_prefix)
CASES = ("homes", "loans")
LIBRARY = f"lib/python{sys.version_info.major}.{sys.version_info.minor}"


class Engine:
    """Podman, with images and containers of its own."""

    def __init__(self, folder: Path):
        self.program, runtime = tool("podman"), tool("runc")
        if os.getuid() != 0:
            missing("only root has an engine without further preparations")
        # It must work where systemd doesn't run and where root may not raise its own limits, as
        # inside of another container.
        settings = folder / "containers.conf"
        settings.write_text(
            f"""\
            [containers]
            default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
            [engine]
            runtime = "{runtime}"
            cgroup_manager = "cgroupfs"
            events_logger = "file"
            """,
            encoding="utf-8",
        )
        self.env = os.environ | {"CONTAINERS_CONF": str(settings)}
        self.images = folder / "images"
        self.own = [f"--root={self.images}", f"--runroot={folder / 'run'}"]

    def start(self, *words: object) -> subprocess.Popen:
        return subprocess.Popen(
            [self.program, *self.own, *map(str, words)], env=self.env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __call__(self, *words: object, given: str = "") -> str:
        """What a command says; if it fails, its words are the failure's."""
        process = self.start(*words)
        said, complained = process.communicate(given.encode(), timeout=300)
        assert process.returncode == 0, f"{words}\n{said.decode()}\n{complained.decode()}"
        return said.decode().strip()

    def build(self, dockerfile: Path, project: Path, *options: object) -> None:
        """As deploy/README.md says, but without asking anybody for anything."""
        ignore = project / "deploy" / "Dockerfile.dockerignore"
        self(
            "build", "--quiet", "--format=docker", f"--ignorefile={ignore}", f"--file={dockerfile}",
            "--pull=never", "--network=none", "--layers=false", *options, project,
        )  # fmt: skip


@pytest.fixture(scope="module")
def engine():
    # Podman takes no path of more than 50 characters.
    with tempfile.TemporaryDirectory(prefix="truefit-", dir="/tmp") as folder:
        podman = Engine(Path(folder))
        yield podman
        podman("rm", "--all", "--force", "--time=0")
        subprocess.run(["umount", "--lazy", podman.images / "overlay"], stderr=subprocess.DEVNULL)


# What the build begins with


def libraries(programs: list[Path]) -> set[str]:
    """The shared libraries of the system that programs and libraries load."""
    said = subprocess.run(["ldd", *programs], capture_output=True, encoding="utf-8").stdout
    return set(re.findall(r"(/\S+) \(0x", said))


def in_the_base(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Of Python's library what the image needs, and pip.

    The real base has no bytecode. Here one package lacks it, which is enough to see it made.
    """
    path = entry.name.removeprefix(f"usr/local/{LIBRARY}/")
    left_out = (
        r"test|config-.*|ensurepip|idlelib|lib2to3|tkinter|turtledemo|json/__pycache__"
        r"|site-packages/(?!pip).*|.*\.opt-\d\.pyc"
    )
    return None if re.fullmatch(rf"({left_out})(/.*)?", path) else entry


def import_base(engine: Engine, name: str, environment: dict) -> None:
    """Make an image of this machine's Python and the few programs that the Dockerfile calls."""
    programs = {f"usr/bin/{p}": Path(shutil.which(p)) for p in ("sh", "cp", "mkdir", "sed")}
    programs["usr/local/bin/python"] = PYTHON / "bin" / Path(LIBRARY).name
    (runtime,) = Path(sys.prefix, LIBRARY, "site-packages/onnxruntime/capi").glob("*_state*.so")
    modules = Path(PYTHON, LIBRARY, "lib-dynload").glob("*.so")
    needed = {path[1:]: path for path in libraries([*programs.values(), *modules, runtime])}
    changes = [f"--change=ENV {key}={value}" for key, value in environment.items()]
    process = engine.start("import", "--quiet", *changes, "-", name)
    with tarfile.open(mode="w|", fileobj=process.stdin, dereference=True) as tar:
        for place, file in (programs | needed).items():
            tar.add(file, place)
        tar.add(PYTHON / LIBRARY, f"usr/local/{LIBRARY}", filter=in_the_base)
        link = tarfile.TarInfo("bin")
        link.type, link.linkname = tarfile.SYMTYPE, "usr/bin"
        tar.addfile(link)
    assert process.communicate(timeout=300) and process.returncode == 0


def cached(wheels: Path, thrown_away: Path) -> dict[str, Path]:
    """Get what the build installs; the folders of pip and uv that then have it."""
    lock = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    tools = re.findall(r"^(?:setuptools|uv)==.*?# via", lock, re.MULTILINE | re.DOTALL)
    wheels.mkdir()
    (wheels / "tools.txt").write_text("\n".join(tools), encoding="utf-8")
    pip, uv = [sys.executable, "-m", "pip"], tool("uv")
    asked = ["--quiet", "--only-binary", ":all:", "--require-hashes", "--requirement"]
    for command in (
        [*pip, "download", "--no-deps", "--dest", wheels, *asked, wheels / "tools.txt"],
        [uv, "pip", "install", "--target", thrown_away, *asked, DEPLOY / "requirements.txt"],
    ):
        subprocess.run(command, check=True, timeout=300)
    said = subprocess.run([uv, "cache", "dir"], capture_output=True, encoding="utf-8", check=True)
    return {"/wheels": wheels, "/uv": Path(said.stdout.strip())}


# The image


def files(folder: Path) -> set[str]:
    found = (f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
    return {f.relative_to(folder).as_posix() for f in found}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with what the image is made of, and what of it that is."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("LICENSE", "README.md", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, folder)
    skip = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", folder / "src", ignore=skip)
    (folder / "deploy").mkdir()
    shutil.copy(DEPLOY / "requirements.txt", folder / "deploy")
    for name in CASES:
        service.write(folder / "models", name, service.MODELS[name])
    return folder, files(folder)


@pytest.fixture(scope="module")
def littered(project):
    """The same folder, with what lies about in a project, and must not get into an image."""
    folder, wanted = project
    for name in (
        *(".env", "keys", ".git/config", "data/homes/train.parquet", "reports/index.html"),
        *("models/.gitignore", "models/homes/model.joblib", "models/homes/challenger/model.onnx"),
        *("src/truefit/.env", "src/truefit/__pycache__/cli.pyc", "src/truefit.egg-info/PKG-INFO"),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("secret", encoding="utf-8")
    for name in ("Dockerfile", "Dockerfile.dockerignore", "compose.yaml"):
        shutil.copy(DEPLOY / name, folder / "deploy")
    return folder, wanted


def test_the_build_sees_what_the_image_is_made_of_and_nothing_else(engine, littered, tmp_path):
    folder, wanted = littered
    everything = tmp_path / "Dockerfile"
    everything.write_text("FROM scratch\nCOPY . /\n", encoding="utf-8")
    engine.build(everything, folder, f"--output=type=local,dest={tmp_path / 'seen'}")
    assert files(tmp_path / "seen") == wanted


@pytest.fixture(scope="module")
def image(engine, littered, tmp_path_factory):
    found = cached(tmp_path_factory.mktemp("pip") / "wheels", tmp_path_factory.mktemp("uv"))
    dockerfile = littered[0] / "deploy" / "Dockerfile"
    (tag,) = re.findall(r"^ARG PYTHON=(\S+)$", dockerfile.read_text("utf-8"), re.MULTILINE)
    offline = {
        "PIP_NO_INDEX": 1,
        "PIP_FIND_LINKS": "/wheels",
        "UV_OFFLINE": 1,
        "UV_CACHE_DIR": "/uv",
    }
    import_base(engine, f"docker.io/library/python:{tag}", offline)
    # `O`: what is written there is thrown away.
    volumes = [f"--volume={folder}:{place}:O" for place, folder in found.items()]
    engine.build(dockerfile, littered[0], "--tag=truefit", *volumes)
    return "truefit"


# The container


ASK = """
import sys
from http.client import HTTPConnection
connection = HTTPConnection("127.0.0.1", 8000, timeout=10)
body = sys.stdin.read()
kind = {"content-type": "application/json"} if body else {}
connection.request("POST" if body else "GET", sys.argv[1], body or None, kind)
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


class Container:
    """It runs with the limits that deploy/ sets, and without any network."""

    def __init__(self, engine: Engine, image: str):
        read = YAML(typ="safe")
        compose = read.load(DEPLOY / "compose.yaml")["services"]["truefit"]
        deployment = read.load(DEPLOY / "kubernetes/base/deployment/deployment.yaml")
        (pod,) = deployment["spec"]["template"]["spec"]["containers"]
        self.engine = engine
        engine(
            "run", "--detach", "--name=service", "--network=none", "--cap-drop=all",
            "--read-only", "--read-only-tmpfs=false", "--security-opt=no-new-privileges",
            f"--memory={pod['resources']['limits']['memory'].replace('Mi', 'm')}",
            f"--pids-limit={compose['deploy']['resources']['limits']['pids']}", image,
        )  # fmt: skip
        self.root = Path(engine("mount", "service"))

    def said(self) -> str:
        process = self.engine.start("logs", "service")
        return b"\n".join(process.communicate(timeout=60)).decode()

    def healthy(self) -> bool:
        """What the image's own health check finds."""
        check = self.engine.start("healthcheck", "run", "service")
        check.communicate(timeout=60)
        return check.returncode == 0

    def python(self, script: str, *words: str, given: str = "") -> str:
        """Run a script of Python inside."""
        return self.engine(
            "exec", "--interactive", "service", "python", "-c", script, *words, given=given
        )

    def ask(self, path: str, content: object = None) -> str:
        """The answer to a request from inside, which must be 200."""
        given = "" if content is None else json.dumps(content)
        status, answer = self.python(ASK, path, given=given).split(maxsplit=1)
        assert status == "200", answer
        return answer


@pytest.fixture(scope="module")
def container(engine, image):
    running = Container(engine, image)
    until = time.monotonic() + 60
    while not running.healthy():
        assert time.monotonic() < until, f"not healthy after a minute:\n{running.said()}"
    return running


def test_of_the_models_only_the_bundles_are_in_the_image(container):
    assert files(container.root / "models") == {
        f"{case}/bundle/{file}" for case in CASES for file in ("manifest.json", "model.onnx")
    }


def test_the_bytecode_is_made_beforehand(container):
    """At run time it cannot be kept."""
    packages = container.root / "opt" / "truefit" / LIBRARY / "site-packages"
    folders = [
        packages / "truefit",
        packages / "numpy",
        container.root / "usr/local" / LIBRARY / "json",
    ]
    assert all([*folder.glob("__pycache__/*.pyc")] for folder in folders)


def test_what_training_needs_is_not_there(container):
    names = ["sklearn", "pandas", "joblib", "IPython", "dvc", "pip", "uv", "setuptools"]
    find = (
        "import sys; from importlib.util import find_spec; print(*filter(find_spec, sys.argv[1:]))"
    )
    assert container.python(find, "onnxruntime", *names) == "onnxruntime"


def test_the_service_is_a_user_without_a_name_and_without_rights(container):
    lines = container.python("print(open('/proc/1/status').read())").splitlines()
    status = {name: value.split() for name, value in (line.split(":", 1) for line in lines)}
    assert status["Uid"] == status["Gid"] == ["10001"] * 4
    assert int(status["CapEff"][0], 16) == 0 and status["NoNewPrivs"] == ["1"]


def test_it_can_write_to_its_volume_alone(container):
    write = "import sys; open(sys.argv[1] + '/new', 'w').write('!')"
    container.python(write, "/var/lib/truefit")
    for folder in ("/", "/models", "/opt/truefit"):
        with pytest.raises(AssertionError, match="Read-only file system"):
            container.python(write, folder)


def test_its_pages_came_with_it(container):
    for path in ("/", "/page.css", "/docs"):
        assert container.ask(path), path


def test_it_predicts_what_the_command_predicts(container, tmp_path):
    rows = service.rows("homes", 20)
    answers = json.loads(container.ask("/v1/cases/homes/predict", rows))["predictions"]
    pd.DataFrame(rows).to_csv(tmp_path / "rows.csv", index=False)
    bundle, files = container.root / "models/homes/bundle", ["rows.csv", "--output", "said.csv"]
    done = run_truefit("predict", "--bundle", bundle, "--input", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    expected = pd.read_csv(tmp_path / "said.csv")
    pd.testing.assert_frame_equal(pd.DataFrame(answers)[expected.columns], expected, rtol=1e-9)


def test_its_log_is_in_its_volume(container):
    rows = service.rows("loans", 7)
    container.ask("/v1/cases/loans/predict", rows)
    volume = Path(container.engine("volume", "inspect", "--all", "--format={{.Mountpoint}}"))
    bundle = Bundle(container.root / "models/loans/bundle")

    def logged() -> int:
        log, case = volume / "request-log", cases.PARAMS.cases["loans"]
        try:
            return len(read_log(log, "loans", bundle, case, every="day").ids)
        except InputError:  # none yet
            return 0

    service.until(lambda: logged() == len(rows))


def test_it_ends_in_order_when_it_is_told_to(container):
    """The last of its tests: it stops the service."""
    container.engine("stop", "--time=20", "service")
    assert container.engine("inspect", "service", "--format={{.State.ExitCode}}") == "0"
    assert "Traceback" not in container.said()
