"""Versions and stages in real repositories, through the real command, under a real service."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import gto.api
import pytest
import service
from conftest import ROOT, run_truefit
from dvc.cli import main as dvc
from ruamel.yaml import YAML
from service import Service
from test_faults import CASE, QUICK, Load

from truefit.bundle import Bundle
from truefit.cli import main
from truefit.project import InputError
from truefit.registry import Registry, promote, rollback, table
from truefit.serving import keys

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
BUNDLE = f"models/{CASE}/bundle"
DVC_YAML = f"""
artifacts:
  {CASE}: {{path: {BUNDLE}, type: model}}
stages:
  export:
    foreach: [{CASE}]
    do:
      cmd: mkdir -p {BUNDLE} && cp exported/* {BUNDLE}
      deps: [exported]
      outs: [{BUNDLE}/model.onnx, {BUNDLE}/manifest.json]
"""
IDENTITY = {"user.name": "Ann Other", "user.email": "ann@example.org"}


def git(folder: Path, *arguments: str) -> str:
    ran = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=True
    )
    return ran.stdout.strip()


@pytest.fixture(scope="module", autouse=True)
def nobodys_machine(tmp_path_factory):
    """No configuration of the machine's, of git or of DVC, and nothing written outside."""
    home = str(tmp_path_factory.mktemp("home"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [n for n in os.environ if n.startswith("GIT_")] + ["EMAIL"]:
            patch.delenv(name, raising=False)
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
        patch.setenv("DVC_NO_ANALYTICS", "1")
        for name in ("HOME", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
            patch.setenv(name, home)
        patch.setenv("DVC_SITE_CACHE_DIR", home)
        yield


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """Three bundles of a case: two models, and the second under another title."""
    folder = tmp_path_factory.mktemp("bundles")
    for name, model in (("1", "hist_gradient_boosting"), ("2", "ridge"), ("3", "ridge")):
        service.write(folder / name, CASE, model)
    found = [folder / name / CASE / "bundle" for name in "123"]
    change(found[2], title="The third")
    service.rows(CASE, 1)  # from the project's own table, before there is another project
    return found


def change(bundle: Path, **members) -> None:
    path = bundle / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | members), encoding="utf-8")


def begin(repo: Path) -> None:
    """A project in a repository of its own."""
    (repo / "notebooks").mkdir(parents=True)
    (repo / "params.yaml").write_text("{}\n", encoding="utf-8")
    (repo / "dvc.yaml").write_text(DVC_YAML, encoding="utf-8")
    (repo / ".gitignore").write_text("/models/\n/production/\n/staging/\n", encoding="utf-8")
    git(repo, "init", "--quiet")
    for name, value in IDENTITY.items():
        git(repo, "config", name, value)


def release(repo: Path, bundle: Path) -> str:
    """Let the pipeline make this bundle, commit, and tell which commit it is."""
    shutil.rmtree(repo / "exported", ignore_errors=True)
    shutil.copytree(bundle, repo / "exported")
    verdict = {"headline": {"model": "m", "label": "RMSE", "value": 0.1, "low": 0.08, "high": 0.12}}
    (repo / "reports" / "gate").mkdir(parents=True, exist_ok=True)
    (repo / "reports" / "gate" / f"{CASE}.json").write_text(json.dumps(verdict), encoding="utf-8")
    assert dvc(["repro", "--quiet"]) == 0
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", "as the pipeline made it")
    return git(repo, "rev-parse", "HEAD")


@pytest.fixture(scope="module")
def made(tmp_path_factory, bundles):
    """A repository with a commit for each bundle, in which nothing is registered."""
    repo = tmp_path_factory.mktemp("made") / "repo"
    begin(repo)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(repo)
        assert dvc(["init", "--quiet"]) == 0
        commits = [release(repo, bundle) for bundle in bundles]
    return repo, commits


@pytest.fixture
def repo(made, tmp_path, monkeypatch):
    """A copy of it, at the first commit, which a test may change."""
    copy = Path(shutil.copytree(made[0], tmp_path / "repo", symlinks=True))
    monkeypatch.setenv("TRUEFIT_PROJECT", str(copy))
    monkeypatch.chdir(copy)
    turn_to(copy, made[1][0])
    return copy


def turn_to(repo: Path, commit: str) -> None:
    """As a clone of this commit."""
    git(repo, "reset", "--quiet", "--hard", commit)
    shutil.rmtree(repo / "models", ignore_errors=True)


@pytest.fixture
def three(repo, made):
    """All three are registered, in this order, none in any stage."""
    for number, commit in enumerate(made[1]):
        gto.api.register(repo, CASE, commit, version=f"v1.0.{number}")
    return repo


def served(repo: Path, stage: str = "production") -> Path:
    return repo / stage / CASE / "bundle"


def same(one: Path, other: Path) -> bool:
    names = ("manifest.json", "model.onnx")
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def state(repo: Path) -> tuple:
    """All that a promotion changes: the tags, and what a service would find."""
    bundle = served(repo)
    return git(repo, "for-each-ref", "refs/tags"), Bundle(bundle).version if bundle.exists() else ""


def by_gto(repo: Path) -> dict[str, str | None]:
    """The version in each stage, as GTO says."""
    return gto.api.show(repo)[CASE]["stage"]


# What a person does


def test_promoting_and_rolling_back(repo, made, bundles):
    assert "machines v1.0.0 is in production; its files are in production" in promote(CASE)
    assert same(served(repo), bundles[0])
    turn_to(repo, made[1][1])
    said = promote(CASE, message="cheaper chips")
    assert "v1.0.1 is in production, v1.0.0 was there before" in said
    assert same(served(repo), bundles[1])
    assert by_gto(repo) == {"production": "v1.0.1", "archived": "v1.0.0"}
    assert "v1.0.0 is in production, v1.0.1 was there before" in rollback(CASE)
    assert same(served(repo), bundles[0])
    assert by_gto(repo) == {"production": "v1.0.0", "archived": "v1.0.1"}
    assert git(repo, "tag").split() == [
        *("machines#archived#2", "machines#archived#4", "machines#production#1"),
        *("machines#production#3", "machines#production#5", "machines@v1.0.0"),
        "machines@v1.0.1",
    ]
    assert git(repo, "status", "--porcelain") == ""


def test_the_table_tells_who_put_what_where_when_and_why(repo, made, capsys):
    promote(CASE)
    turn_to(repo, made[1][1])
    git(repo, "config", "user.name", "Bea")
    promote(CASE, message="cheaper chips")
    assert main(["registry"]) == 0
    head, _, second, first, _, _, *history = capsys.readouterr().out.splitlines()
    assert head == CASE
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    quality = r"m +RMSE 0\.100 \(0\.080 to 0\.120\)"
    commits = [commit[:7] for commit in made[1]]
    assert re.fullmatch(rf"  v1.0.1 +production +{when} +Bea +{commits[1]} +{quality}", second)
    assert re.fullmatch(rf"  v1.0.0 +archived +{when} +Ann Other +{commits[0]} +{quality}", first)
    told = [re.sub(rf"{when}|  +", " ", line).split(None, 3) for line in history]
    assert told == [
        ["v1.0.1", "to", "production", "Bea cheaper chips"],
        ["v1.0.0", "to", "archived", "Bea cheaper chips"],
        ["v1.0.0", "to", "production", "Ann Other Put machines v1.0.0 into production"],
    ]


def test_a_running_service_follows_and_loses_no_request(repo, made, bundles, tmp_path):
    first, second = (Bundle(bundle).version for bundle in bundles[:2])
    promote(CASE)
    turn_to(repo, made[1][1])
    running = Service(tmp_path, *QUICK, "--no-log", models_folder=repo / "production")
    with Load(running, *bundles[:2], clients=1) as load:
        load.wait_for_version(first)
        promote(CASE)
        load.wait_for_version(second)
        before = time.monotonic()
        assert run_truefit("rollback", CASE, cwd=repo).returncode == 0
        load.wait_for_version(first)
        assert time.monotonic() - before < 60
    assert (load.wrong, load.unanswered) == ([], set())
    assert running.metric("truefit_bundles_refused_total", case=CASE) == 0
    running.stop()


def test_what_was_rolled_back_in_memory_can_be_promoted_again(three, tmp_path, bundles):
    secret = keys.make("operator", tmp_path / "keys")
    versions = [Bundle(bundle).version for bundle in bundles]
    promote(CASE, version="v1.0.0")
    running = Service(
        tmp_path, *QUICK, "--keys", tmp_path / "keys", models_folder=three / "production"
    )
    running.client.headers["authorization"] = f"Bearer {secret}"
    promote(CASE, version="v1.0.1")
    running.wait_for("bundle loaded")
    in_memory = running.client.post(f"/v1/cases/{CASE}/rollback").json()
    assert in_memory["version"] == versions[0]  # at once, until it is restarted
    rollback(CASE)  # now it lasts
    time.sleep(0.5)  # several looks
    promote(CASE, version="v1.0.1")
    assert running.wait_for("bundle loaded", 2)["version"] == versions[1]
    assert not running.events("bundle refused")
    running.stop()


def test_staging_has_a_folder_of_its_own(three, bundles):
    promote(CASE, version="v1.0.0")
    promote(CASE, "staging", version="v1.0.1")
    assert same(served(three), bundles[0]) and same(served(three, "staging"), bundles[1])
    assert by_gto(three) == {"production": "v1.0.0", "staging": "v1.0.1"}
    promote(CASE, version="staging")
    assert by_gto(three)["production"] == by_gto(three)["staging"] == "v1.0.1"
    assert re.search(r"v1\.0\.1 +production, staging ", table(CASE))


def test_the_files_go_where_they_are_asked_for(three, tmp_path, bundles):
    (tmp_path / "elsewhere" / CASE / "mine").mkdir(parents=True)
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promote(CASE, version=version, target=tmp_path / "elsewhere")
    assert same(tmp_path / "elsewhere" / CASE / "bundle", bundles[2])
    assert not served(three).exists()
    kept = {re.sub("-.*", "", file.name) for file in (tmp_path / "elsewhere" / CASE).iterdir()}
    assert kept == {"bundle", "mine", "v1.0.1", "v1.0.2"}  # the one before, but none older


@pytest.mark.parametrize(
    "steps, versions",
    [
        ("1 2 3 < <", "1 2 3 2 1"),  # each goes one further back
        ("1 2 < 3 <", "1 2 1 3 1"),  # what was withdrawn is passed over
        ("1 2 < 2 <", "1 2 1 2 1"),  # unless somebody wants it again
        ("1 2 3 1 2 <", "1 2 3 1 2 1"),
    ],
)
def test_the_way_back(three, steps, versions):
    seen = []
    for step in steps.split():
        if step == "<":
            rollback(CASE)
        else:
            promote(CASE, version=f"v1.0.{int(step) - 1}")
        found = Registry(CASE).holder("production")
        assert found == by_gto(three)["production"]
        seen.append(str(int(found[-1]) + 1))
    assert " ".join(seen) == versions


def test_the_way_back_leads_through_no_version_without_a_bundle(three, made):
    git(three, "reset", "--quiet", "--hard", made[1][0])
    git(three, "rm", "--quiet", "dvc.lock")
    git(three, "commit", "--quiet", "--message", "nothing was made here")
    promote(CASE, version="v1.0.0")
    for version in ("v0.1.0", "v1.0.1", "v1.0.2"):  # by hand, and a second between them
        if version == "v0.1.0":
            gto.api.register(three, CASE, "HEAD", version=version)
        time.sleep(1.1)
        gto.api.assign(three, CASE, "production", version=version)
    gto.api.deregister(three, CASE, version="v1.0.1")
    turn_to(three, made[1][2])
    assert "v1.0.0 is in production, v1.0.2 was there before" in rollback(CASE)


# What others read


def test_dvc_gets_what_is_in_production(three, tmp_path, bundles):
    promote(CASE, version="v1.0.1")
    promote(CASE, version="v1.0.0")
    got = ["artifacts", "get", str(three), CASE, "--stage", "production", "--out"]
    assert dvc([*got, str(tmp_path / "got")]) == 0
    assert same(tmp_path / "got", bundles[0])


def test_a_project_within_a_larger_repository_has_names_of_its_own(tmp_path, monkeypatch, bundles):
    inside = tmp_path / "models" / "prices"
    begin(inside)
    (inside / ".git").rename(tmp_path / ".git")
    monkeypatch.chdir(inside)
    monkeypatch.setenv("TRUEFIT_PROJECT", str(inside))
    assert dvc(["init", "--subdir", "--quiet"]) == 0
    release(inside, bundles[0])
    promote(CASE)
    assert "models/prices=machines@v1.0.0" in git(tmp_path, "tag")
    assert gto.api.show(tmp_path)["models/prices:machines"]["stage"]["production"] == "v1.0.0"
    assert same(served(inside), bundles[0])


def test_a_promotion_counts_even_after_one_from_a_clock_that_was_fast(three, monkeypatch):
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2099-01-01T00:00:00Z")
    promote(CASE, version="v1.0.0")
    monkeypatch.delenv("GIT_COMMITTER_DATE")
    promote(CASE, version="v1.0.1")
    assert by_gto(three)["production"] == Registry(CASE).holder("production") == "v1.0.1"


def test_an_artifact_lies_where_the_export_puts_it():
    pipeline = YAML(typ="safe").load(ROOT / "dvc.yaml")
    outs = str(pipeline["stages"]["export"]["do"]["outs"])
    for name, artifact in pipeline["artifacts"].items():
        assert artifact["type"] == "model"
        assert artifact["path"].replace(name, "${key}") + "/manifest.json" in outs


# What is known already


def test_asking_twice_changes_nothing(repo, capsys):
    promote(CASE)
    before = state(repo), os.readlink(served(repo))
    capsys.readouterr()
    assert main(["promote", CASE]) == 0
    said = "machines v1.0.0 is in production already; nothing was changed\n"
    assert capsys.readouterr() == (said, "")
    assert (state(repo), os.readlink(served(repo))) == before


def test_another_machine_gets_the_files_of_what_is_in_production(repo, bundles):
    promote(CASE)
    tags = state(repo)[0]
    shutil.rmtree(repo / "production")  # as in a clone with all tags
    assert "its files were put into" in promote(CASE, version="production")
    assert same(served(repo), bundles[0]) and state(repo)[0] == tags


def test_one_bundle_is_one_version(repo, made):
    promote(CASE, "staging")
    (repo / "README.md").write_text("of another day\n", encoding="utf-8")
    git(repo, "add", "--all")
    git(repo, "commit", "--quiet", "--message", "words")
    assert "v1.0.0 is in production" in promote(CASE)
    assert Registry(CASE).versions == {"v1.0.0": made[1][0]}


def test_a_number_that_was_taken_back_is_not_given_again(repo, made):
    promote(CASE)
    gto.api.deregister(repo, CASE, version="v1.0.0")
    turn_to(repo, made[1][1])
    assert "v1.0.1 is in production;" in promote(CASE)


def test_files_come_from_a_remote_when_the_cache_has_none(repo, tmp_path, bundles):
    assert dvc(["remote", "add", "--default", "--quiet", "ours", str(tmp_path / "ours")]) == 0
    assert dvc(["push", "--quiet", "--all-commits"]) == 0
    git(repo, "commit", "--quiet", "--all", "--message", "a remote")
    shutil.rmtree(repo / ".dvc" / "cache")
    promote(CASE)
    assert same(served(repo), bundles[0])


# What is refused


def write(path: str, text: str):
    def act(repo: Path) -> None:
        (repo / path).parent.mkdir(parents=True, exist_ok=True)
        (repo / path).write_text(text, encoding="utf-8")

    return act


def lock(before: str, after: str):
    def act(repo: Path) -> None:
        path = repo / "dvc.lock"
        path.write_text(path.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")

    return act


def committed(act):
    def done(repo: Path) -> None:
        act(repo)
        git(repo, "commit", "--quiet", "--all", "--message", "a change")

    return done


def cached(repo: Path, name: str) -> Path:
    """Where DVC keeps a file of the bundle."""
    [md5] = [md5 for p, md5 in Registry(CASE).files("HEAD").items() if p.endswith(name)]
    return repo / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def damage(repo: Path) -> None:
    path = cached(repo, "manifest.json")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b"machines", b"computors"))


def forget(name: str):
    def act(repo: Path) -> None:
        git(repo, "config", "--unset", name)

    return act


def refuse_tags(repo: Path) -> None:
    """As if another person had been quicker: git takes the first tags and not the last."""
    hook(repo, "prepared", "grep -q production && exit 1")


def hook(repo: Path, moment: str, command: str) -> None:
    path = repo / ".git" / "hooks" / "reference-transaction"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = {moment} ]; then {command}; fi\nexit 0\n')
    path.chmod(0o755)


def uninitialised(repo: Path) -> None:
    shutil.rmtree(repo / ".git")


def unborn(repo: Path) -> None:
    shutil.rmtree(repo / ".git")
    git(repo, "init", "--quiet")


# As if the gate had stopped the model that came after the bundle's.
TRAINED = f"""\
stages:
  training@{CASE}:
    cmd: truefit run
    outs:
    - path: exported
      md5: {"0" * 32}.dir
"""
REFUSED = {
    "another bundle in the folder": (
        write(f"{BUNDLE}/manifest.json", "{}"), "is not the file that the last commit's dvc.lock"),
    "lock not committed": (
        lock("  export@machines:\n    cmd: mkdir", "  export@machines:\n    cmd: true; mkdir"),
        "what dvc.lock says of machines is not committed"),
    "pipeline not committed": (
        write("dvc.yaml", DVC_YAML + "\n# more"), "dvc.yaml has changes that are not committed"),
    "no bundle in the lock": (
        committed(lock(BUNDLE, "models/else")), "the last commit's dvc.lock names no bundle"),
    "a model that came no further": (
        committed(lock("stages:\n", TRAINED)), "bundle was made from another exported than its"),
    "a conflict in the lock": (
        committed(lock("stages:", "<<<<<<< ours\nstages:")), "cannot be read"),
    "not an artifact": (
        committed(write("dvc.yaml", "stages: {}\n")), "dvc.yaml has no artifact 'machines'"),
    "no repository": (uninitialised, "is in no git repository"),
    "no commit": (unborn, "nothing is committed yet"),
    "no name": (forget("user.name"), "git does not know who you are"),
    "no address": (forget("user.email"), "git does not know who you are"),
    "files are nowhere": (
        lambda repo: cached(repo, "model.onnx").unlink(), "is neither in DVC's cache nor in a rem"),
    "files are damaged": (damage, "is damaged in DVC's cache"),
    "a folder in the way": (
        write(f"production/{CASE}/bundle/x", ""), "is there and no link that promote made"),
    "a file in the way": (write("production", ""), "cannot be written: Not a directory"),
    "a race": (refuse_tags, "so nothing was changed"),
}  # fmt: skip


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_promoted_is_refused_in_a_sentence(repo, why):
    act, sentence = REFUSED[why]
    act(repo)
    tags = (repo / ".git").exists() and git(repo, "for-each-ref", "refs/tags")
    with pytest.raises(InputError, match=re.escape(sentence)) as refused:
        promote(CASE)
    assert "\n" not in str(refused.value)
    if tags is not False:
        assert git(repo, "for-each-ref", "refs/tags") == tags
    assert not [*(repo / "production").glob(f"{CASE}/*/manifest.json")]


@pytest.mark.parametrize(
    "members, sentence",
    [
        ({"gate": {"passed": False, "checks": []}}, "did not pass the gate"),
        ({"case": "homes"}, "the bundle is that of 'homes'"),
        ({"sha256": {"model.onnx": "0" * 64}}, "is not the file that the manifest describes"),
    ],
)
def test_a_bundle_that_must_not_be_served_becomes_no_version(repo, members, sentence):
    bad = Path(shutil.copytree(repo / "exported", repo.parent / "bad"))
    change(bad, **members)
    release(repo, bad)
    with pytest.raises(InputError, match=sentence):
        promote(CASE)
    assert git(repo, "tag") == "" and not served(repo).exists()


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("promote", "nothing"), "no artifact 'nothing' (it has machines); to add a case, write"),
        (("promote", CASE, "--version", "v9.0.0"), "no version 'v9.0.0'; it has v1.0.0, v1.0.1"),
        (("promote", CASE, "--version", "staging"), "no version of machines is in staging"),
        (("rollback", CASE), "no version of machines is in production"),
        (("registry", "nothing"), "no artifact 'nothing' (it has machines)"),
    ],
)
def test_the_command_says_in_a_sentence_what_there_is_not(three, arguments, sentence, capsys):
    assert main([*arguments]) == 1
    out, said = capsys.readouterr()
    assert out == "" and said.startswith("truefit: ") and said.count("\n") == 1
    assert sentence in said


def test_there_is_no_way_back_from_the_first(three):
    promote(CASE, version="v1.0.0")
    before = state(three)
    with pytest.raises(InputError, match="has no version in production before v1.0.0"):
        rollback(CASE)
    assert state(three) == before


def test_no_way_back_to_files_that_are_gone(three):
    for version in ("v1.0.0", "v1.0.1", "v1.0.2"):
        promote(CASE, version=version)
    git(three, "reset", "--quiet", "--hard", Registry(CASE).versions["v1.0.1"])
    cached(three, "manifest.json").unlink()
    before = state(three)
    with pytest.raises(InputError, match="manifest.json of machines v1.0.1 is neither in DVC"):
        rollback(CASE)
    assert state(three) == before


# What goes wrong half-way


def test_what_is_killed_half_way_is_done_by_the_same_command(three, bundles):
    promote(CASE, version="v1.0.0")
    hook(three, "committed", "kill -9 $(ps -o ppid= -p $PPID)")
    killed = run_truefit("promote", CASE, "--version", "v1.0.1", cwd=three)
    assert killed.returncode == -9
    assert by_gto(three)["production"] == "v1.0.1" and same(served(three), bundles[0])
    (three / ".git" / "hooks" / "reference-transaction").unlink()
    assert "its files were put into" in promote(CASE, version="v1.0.1")
    assert by_gto(three) == {"production": "v1.0.1", "archived": "v1.0.0"}
    assert same(served(three), bundles[1])


def test_tags_are_taken_back_if_the_files_cannot_follow(three):
    """Somebody puts a folder where the link is, just when the tags are made."""
    before = git(three, "tag")
    hook(three, "committed", f"mkdir -p production/{CASE}/bundle")
    with pytest.raises(InputError, match=r"cannot be written \(.*\); nothing was changed"):
        promote(CASE, version="v1.0.0")
    assert git(three, "tag") == before
    assert [file.name for file in (three / "production" / CASE).iterdir()] == ["bundle"]


def test_two_people_at_once(three, bundles):
    """One of them may be refused; tags and files agree all the same."""
    truefit = str(Path(sys.executable).with_name("truefit"))
    both = [
        subprocess.Popen(
            [truefit, "promote", CASE, "--version", version], stderr=subprocess.PIPE, text=True
        )
        for version in ("v1.0.0", "v1.0.1")
    ]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    assert 0 in codes
    assert all(not code or "nothing was changed" in s for s, code in zip(said, codes, strict=True))
    holder = by_gto(three)["production"]
    assert same(served(three), bundles[int(holder[-1])])


def test_the_names_to_push_are_told_and_arrive_together(repo, tmp_path):
    git(tmp_path, "init", "--quiet", "--bare", "origin")
    git(repo, "remote", "add", "origin", str(tmp_path / "origin"))
    push = promote(CASE).splitlines()[1].removeprefix("to tell others: ")
    subprocess.run(push, shell=True, cwd=repo, check=True, capture_output=True)
    assert git(tmp_path / "origin", "tag") == git(repo, "tag") != ""
