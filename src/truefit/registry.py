"""Versions of a case's bundle, and the stages they are in.

All of it stands where others look for it. A version is an annotated git tag in the format of GTO,
on a commit whose ``dvc.lock`` names the bundle's files: ``ames@v1.0.0``. A stage is given by a
tag, too: ``ames#production#2`` on the same commit; the last number counts what happened to the
case. ``dvc.yaml`` says under ``artifacts:`` which folder the name stands for. So ``gto show``,
``gto history`` and ``dvc artifacts get … --stage production`` read the same as this module. Who
and when stand in the tag.

The files of the version in production lie in ``production/<case>/bundle``, which is a link to a
folder beside it, because a link changes in one moment. Who promotes

1. brings the files to a new folder and checks them,
2. makes all tags, or none, in one transaction of git,
3. moves the link, and takes the tags back if it cannot be moved.

What is killed between 2 and 3 has recorded what it did not do; the same command again does it.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import TYPE_CHECKING

import yaml
from gto.constants import Action, assert_fullname_is_valid
from gto.exceptions import GTOException
from gto.registry import GitRegistry
from gto.tag import find, name_tag, parse_name
from gto.versions import SemVer

from truefit import project
from truefit.bundle import MANIFEST, MODEL, Bundle
from truefit.digits import to_spread
from truefit.project import InputError

if TYPE_CHECKING:
    from dvc.api import DVCFileSystem
    from scmrepo.git.objects import GitTag

PRODUCTION, STAGING, ARCHIVED = "production", "staging", "archived"
SERVED = (PRODUCTION, STAGING)
FIRST = "v1.0.0"
OWN = re.compile(r"v\d+\.\d+\.\d+.*-[0-9a-f]{6}")  # a folder that a link was made for
LINK = "bundle"


def promote(
    case: str,
    stage: str = PRODUCTION,
    *,
    version: str | None = None,
    message: str = "",
    target: Path | None = None,
) -> str:
    """Put a version of a case's bundle into a stage, and its files to where a service finds them.

    Parameters
    ----------
    case : str
    stage : {"production", "staging"}
    version : str, optional
        For instance ``v1.0.0``, or a stage for the version that is in it. By default the bundle
        that the last commit names; it becomes a new version unless it is one already.
    message : str, optional
        For the tags.
    target : Path, optional
        Holds ``<case>/bundle``; by default the folder of the project that is named like the stage.

    Returns
    -------
    str
        What was done, for people. A version that is in the stage already is no mistake: whoever
        asks has what they ask for, and a script may ask again.

    Raises
    ------
    InputError
        If it cannot be done; then nothing was changed.
    """
    registry = Registry(case)
    version, commit = registry.named(version) if version else registry.of_head()
    return registry.put(version, commit, stage, target, message)


def rollback(case: str, *, message: str = "", target: Path | None = None) -> str:
    """Put the version that was in production before the current one there again.

    Each rollback goes one further back, because what was rolled back once is not what anybody
    wants next. See `Registry.before`.

    Parameters
    ----------
    case, message, target
        As for `promote`.

    Returns
    -------
    str
        What was done, for people.

    Raises
    ------
    InputError
        If there is none, or its files are gone; then nothing was changed.
    """
    registry = Registry(case)
    version = registry.before()
    gone = registry.holder(PRODUCTION)
    message = message or f"Roll {case} back from {gone} to {version}"
    return registry.put(version, registry.versions[version], PRODUCTION, target, message)


def table(case: str | None = None) -> str:
    """The versions and the history of one case, or of all that ``dvc.yaml`` names, for people."""
    names = [case] if case else _artifacts(_yaml(project.root() / "dvc.yaml"))
    return "\n\n".join(_table(Registry(name)) for name in names)


@dataclass(frozen=True)
class Event:
    """What one tag says."""

    tag: str
    number: int
    action: Action | None
    version: str | None
    stage: str | None
    commit: str
    who: str
    when: datetime
    message: str


class Registry:
    """What the tags say about one case.

    Parameters
    ----------
    case : str

    Attributes
    ----------
    events : list of Event
        In their order.
    versions : dict from version to commit
        Those that are registered, oldest first.

    Raises
    ------
    InputError
        If the project is in no git repository, nothing is committed, or the last commit has no
        such artifact.
    """

    def __init__(self, case: str):
        self.case, self.root = case, project.root()
        try:
            self._within = self._git("rev-parse", "--show-prefix").strip()
        except InputError as error:
            raise InputError(
                f"{self.root} is in no git repository ({error}), and versions are tags in git; run "
                "git init and commit first"
            ) from None
        try:
            self._git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        except InputError:
            raise InputError("nothing is committed yet, and a version is a commit") from None
        # GTO's own way to name what a folder of a larger repository holds.
        self.name = f"{self._within.rstrip('/')}:{case}" if self._within else case
        try:
            assert_fullname_is_valid(self.name)
        except GTOException as error:
            raise InputError(f"{self.name!r} cannot be the name of tags: {error}") from None
        self.folder = self._folder()
        self.read()

    def _folder(self) -> str:
        """What the artifact stands for."""
        named = _artifacts(_yaml(self.shown("HEAD", "dvc.yaml")))
        if self.case not in named:
            raise InputError(
                f"the last commit's dvc.yaml has no artifact {self.case!r} (it has "
                f"{', '.join(named) or 'none'}); to add a case, write under artifacts: "
                f"{self.case}: {{path: models/{self.case}/bundle, type: model}}, and commit"
            )
        return named[self.case]["path"]

    def read(self) -> None:
        """Read the tags again."""
        with GitRegistry.from_url(self.root) as registry:
            found = [_event(tag) for tag in find(name=self.name, scm=registry.scm)]
        self.events = sorted(found, key=lambda e: (e.when, e.number))
        self.versions: dict[str, str] = {}
        self._held: dict[str, list[str]] = defaultdict(list)
        for event in self.events:
            self._follow(event)

    def _follow(self, event: Event) -> None:
        if event.action is Action.REGISTER:
            self.versions[event.version] = event.commit
        elif event.action is Action.DEREGISTER:
            self.versions.pop(event.version, None)
            for held in self._held.values():
                held[:] = [v for v in held if v != event.version]
        elif event.stage and (version := self.at(event.commit)):
            held = self._held[event.stage]
            if event.action is Action.UNASSIGN:
                held[:] = [v for v in held if v != version]
            else:  # what came after a version that comes back has been withdrawn
                held[:] = [*held[: held.index(version) if version in held else None], version]

    def at(self, commit: str) -> str | None:
        """The version that a commit is."""
        return next((v for v, c in self.versions.items() if c == commit), None)

    def holder(self, stage: str) -> str | None:
        """The version in a stage, which is the one that was put there last."""
        return self._held[stage][-1] if self._held[stage] else None

    def before(self) -> str:
        """The version to roll back to.

        Promotions pile up, and a version that comes back throws off all that lay above it. So
        after v1, v2, v3 a rollback leads to v2, the next one to v1; after v1, v2, back to v1, and
        v3, it leads to v1, and never to v2. Versions whose commit names no bundle are passed over.

        Raises
        ------
        InputError
            If there is none.
        """
        held = self._held[PRODUCTION]
        if not held:
            raise InputError(f"no version of {self.case} is in production")
        for version in reversed(held[:-1]):
            if self.files(self.versions[version]):
                return version
        raise InputError(
            f"{self.case} has no version in production before {held[-1]}, so there is none to go "
            "back to; put one there with promote --version"
        )

    def stages(self, version: str) -> list[str]:
        """The stages that a version is in."""
        found = [stage for stage in SERVED if self.holder(stage) == version]
        return found or [ARCHIVED] * (version in self._held[ARCHIVED])

    def named(self, asked: str) -> tuple[str, str]:
        """The version that is called so, or is in the stage that is called so, and its commit.

        Raises
        ------
        InputError
            If there is none.
        """
        if asked in SERVED:
            version = self.holder(asked)
            if version is None:
                raise InputError(f"no version of {self.case} is in {asked}")
            return version, self.versions[version]
        if asked not in self.versions:
            known = ", ".join(self.versions) or "no version yet"
            raise InputError(f"{self.case} has no version {asked!r}; it has {known}")
        return asked, self.versions[asked]

    def check_identity(self) -> None:
        """Raise InputError if git does not know who is there, rather than let it guess."""
        try:
            self._git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
        except InputError:
            raise InputError(
                "git does not know who you are, and that is recorded; run git config user.name "
                '"…" and git config user.email "…"'
            ) from None

    def of_head(self) -> tuple[str, str]:
        """The version, known or new, that the bundle of the last commit is, and its commit.

        Raises
        ------
        InputError
            If that bundle is not what lies in the working folder.
        """
        commit = self._git("rev-parse", "HEAD").strip()
        if self._git("status", "--porcelain", "--", "dvc.yaml").strip():
            raise InputError("dvc.yaml has changes that are not committed; commit them first")
        files = self.files(commit)
        if not files:
            raise InputError(
                f"the last commit's dvc.lock names no bundle in {self.folder}; run dvc repro and "
                "commit dvc.lock first"
            )
        if self._git("status", "--porcelain", "--", "dvc.lock").strip():
            now = _yaml(self.root / "dvc.lock")
            if self._own(now) != self._own(_yaml(self.shown(commit, "dvc.lock"))):
                raise InputError(
                    f"what dvc.lock says of {self.case} is not committed; commit it first"
                )
        if newer := self._newer(_yaml(self.shown(commit, "dvc.lock"))):
            raise InputError(
                f"the last commit's bundle was made from another {newer} than its dvc.lock names, "
                "as if a newer model had not passed the gate; run dvc repro and commit dvc.lock, "
                "or name a version with --version"
            )
        for path, md5 in files.items():
            if (self.root / path).exists() and _md5(self.root / path) != md5:
                raise InputError(
                    f"{path} is not the file that the last commit's dvc.lock names; run dvc repro "
                    "and commit dvc.lock, or dvc checkout"
                )
        for version in reversed(self.versions):
            if self.versions[version] == commit or self.files(self.versions[version]) == files:
                return version, self.versions[version]
        known = [e.version for e in self.events if e.action is Action.REGISTER]
        return (SemVer(max(known, key=SemVer)).bump_patch().version if known else FIRST), commit

    def _own(self, lock: dict) -> list:
        """What a lock says of the case's stages and bundle."""
        own = [stage for name, stage in lock["stages"].items() if name.endswith(f"@{self.case}")]
        return [own, self._outs(lock)]

    def _newer(self, lock: dict) -> str | None:
        """A file that was made anew after the bundle was made from it, if there is one."""
        stages = lock["stages"].values()
        made = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", ())}
        bundle = self._outs(lock).keys()
        for stage in stages:
            if bundle & {out["path"] for out in stage.get("outs", ())}:
                for dep in stage.get("deps", ()):
                    if made.get(dep["path"], dep.get("md5")) != dep.get("md5"):
                        return dep["path"]
        return None

    def files(self, commit: str) -> dict[str, str]:
        """MD5 by path of the bundle's files in a commit's lock; empty if it names no bundle."""
        found = self._outs(_yaml(self.shown(commit, "dvc.lock")))
        return found if {MANIFEST, MODEL} <= {PurePosixPath(p).name for p in found} else {}

    def _outs(self, lock: dict) -> dict[str, str]:
        stages = (lock.get("stages") or {}).values()
        outs = {out["path"]: out.get("md5") for stage in stages for out in stage.get("outs", ())}
        folder = PurePosixPath(self.folder)
        return {p: md5 for p, md5 in outs.items() if PurePosixPath(p).parent == folder}

    def shown(self, commit: str, path: str) -> str:
        """A file of the project as a commit has it; empty if it has none."""
        try:
            return self._git("show", f"{commit}:./{path}")
        except InputError:
            return ""

    def put(
        self, version: str, commit: str, stage: str, target: Path | None, message: str = ""
    ) -> str:
        """Put a version, known or new, into a stage; see `promote`."""
        home = (target or self.root / stage).absolute() / self.case
        if (home / LINK).exists() and not (home / LINK).is_symlink():
            raise InputError(
                f"{home / LINK} is there and no link that promote made; move it away, or name "
                "another folder with --target"
            )
        held = self.holder(stage)
        wanted = [] if held == version else self._wanted(version, commit, stage)
        if not wanted and self._lies_in(home, commit):
            return f"{self.case} {version} is in {stage} already; nothing was changed"
        if wanted:
            self.check_identity()
        fresh = self._brought(home, version, commit)
        try:
            tags = self._make(wanted, message) if wanted else {}
        except InputError:
            shutil.rmtree(fresh)
            raise
        try:
            _link(home, fresh)
        except InputError as error:
            self._git("update-ref", "--stdin", given=_lines("delete", tags))
            raise InputError(f"{error}; nothing was changed") from None
        self._keep_up(home, stage)
        return self._done(version, held, stage, home, tags)

    def _wanted(self, version: str, commit: str, stage: str) -> list[tuple]:
        """The tags that put a version into a stage: action, version, stage, commit, message."""
        found: list[tuple] = []
        if version not in self.versions:
            said = f"Register {self.case} {version}"
            found.append((Action.REGISTER, version, None, commit, said))
        if stage == PRODUCTION and (held := self.holder(stage)):
            said = f"Archive {self.case} {held}, because {version} takes its place"
            found.append((Action.ASSIGN, held, ARCHIVED, self.versions[held], said))
        said = f"Put {self.case} {version} into {stage}"
        return [*found, (Action.ASSIGN, version, stage, commit, said)]

    def _lies_in(self, home: Path, commit: str) -> bool:
        """Whether the files that are served from a folder are those of a version."""
        here = {home / LINK / PurePosixPath(p).name: md5 for p, md5 in self.files(commit).items()}
        return bool(here) and all(file.is_file() and _md5(file) == here[file] for file in here)

    def _brought(self, home: Path, version: str, commit: str) -> Path:
        """A new, hidden folder with a version's bundle, from DVC's cache or remote, checked.

        Raises
        ------
        InputError
            If its files are nowhere, or are not a bundle of the case that passed the gate.
        """
        files = self.files(commit)
        if not files:
            raise InputError(f"the commit of {self.case} {version} names no bundle in its dvc.lock")
        fresh = home / f".{version}-{token_hex(3)}"
        try:
            fresh.mkdir(parents=True)
            self._get(files, commit, version, fresh)
            self._check(fresh)
        except BaseException as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if isinstance(error, OSError):
                raise InputError(f"{home} cannot be written: {error.strerror or error}") from None
            raise
        return fresh

    def _get(self, files: dict[str, str], commit: str, version: str, fresh: Path) -> None:
        from dvc.exceptions import DvcException  # slow to import, and not needed for a table
        from dvc.repo import Repo

        with Repo(str(self.root)) as repo:
            cached = {p: Path(repo.cache.local.oid_to_path(md5)) for p, md5 in files.items()}
        remote = None if all(f.is_file() for f in cached.values()) else self._remote(commit)
        for path, md5 in files.items():
            copy = fresh / PurePosixPath(path).name
            try:
                if remote:
                    remote.get_file(self._within + path, str(copy))
                else:
                    shutil.copyfile(cached[path], copy)
            except (FileNotFoundError, DvcException) as error:
                raise InputError(
                    f"{path} of {self.case} {version} is neither in DVC's cache nor in a remote "
                    f"({error}); run dvc push where it was made, or dvc repro at that commit"
                ) from None
            if _md5(copy) != md5:
                raise InputError(
                    f"{path} of {self.case} {version} is damaged in DVC's cache; delete it there "
                    "and run dvc fetch, or dvc repro at that commit"
                )

    def _remote(self, commit: str) -> "DVCFileSystem":
        """A commit's files, wherever DVC finds them; it reads all of the pipeline first."""
        from dvc.api import DVCFileSystem

        top = self._git("rev-parse", "--show-toplevel").strip()
        return DVCFileSystem(top, rev=commit, subrepos=True)

    def _check(self, folder: Path) -> None:
        manifest = Bundle(folder).manifest
        if manifest.case != self.case:
            raise InputError(f"the bundle is that of {manifest.case!r}, not of {self.case!r}")
        said = json.loads((folder / MANIFEST).read_bytes())
        if not said.get("gate", {}).get("passed"):
            raise InputError(f"the bundle of {self.case} did not pass the gate, so it stays here")

    def _make(self, wanted: list[tuple], message: str) -> dict[str, str]:
        """Make all of these tags or none; their objects by name."""
        who, now, zone = self._git("var", "GIT_COMMITTER_IDENT").strip().rsplit(" ", 2)
        # Tags are read in the order of their seconds, by GTO and DVC, too; so each promotion gets a
        # later one than all before, even where another person's clock was fast.
        last = max((int(e.when.timestamp()) for e in self.events), default=0)
        tagger = f"{who} {max(int(now), last + 1)} {zone}"
        number = max((e.number for e in self.events), default=0)
        tags = {}
        for action, version, stage, commit, default in wanted:
            tag = name_tag(action, self.name, version=version, stage=stage, simple=True)
            if action is Action.ASSIGN:
                tag += f"#{(number := number + 1)}"
            said = f"object {commit}\ntype commit\ntag {tag}\ntagger {tagger}\n\n"
            text = f"{said}{message.strip() or default}\n"
            tags[tag] = self._git("hash-object", "-t", "tag", "-w", "--stdin", given=text).strip()
        try:
            self._git("update-ref", "--stdin", given=_lines("create", tags))
        except InputError as error:
            raise InputError(
                f"the tags of {self.case} could not be made ({error}), so nothing was changed; "
                f"look at truefit registry {self.case}, and try again"
            ) from None
        return tags

    def _keep_up(self, home: Path, stage: str) -> None:
        """Let the folder follow, should another person have put a version there meanwhile."""
        while True:
            self.read()
            version = self.holder(stage)
            if version is None or self._lies_in(home, self.versions[version]):
                return
            _link(home, self._brought(home, version, self.versions[version]))

    def _done(self, version: str, held: str | None, stage: str, home: Path, tags: dict) -> str:
        place = home / LINK
        place = place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place
        if not tags:
            return f"{self.case} {version} is in {stage} already; its files were put into {place}"
        before = f", {held} was there before" if held else ""
        said = f"{self.case} {version} is in {stage}{before}; its files are in {place}"
        remotes = self._git("remote").split()
        if not remotes:
            return said
        names = " ".join(f"'{tag}'" for tag in tags)
        return f"{said}\nto tell others: git push --atomic {remotes[0]} {names}"

    def _git(self, *arguments: str, given: str | None = None) -> str:
        return _git(self.root, *arguments, given=given)


def _event(tag: "GitTag") -> Event:
    said = parse_name(tag.name)
    return Event(
        tag=tag.name,
        number=said.get("counter", 0),
        action=said.get("action"),
        version=said.get("version"),
        stage=said.get("stage"),
        commit=tag.target,
        who=tag.tagger_name,
        when=tag.tag_datetime,
        message=tag.message.strip(),
    )


def _git(root: Path, *arguments: str, given: str | None = None) -> str:
    """What git writes.

    Raises
    ------
    InputError
        With the first line of what it says, if it fails.
    """
    try:
        ran = subprocess.run(
            ["git", *arguments], cwd=root, input=given, capture_output=True, encoding="utf-8"
        )
    except FileNotFoundError:
        raise InputError("git is not installed") from None
    if ran.returncode:
        raise InputError((ran.stderr.strip() or "git failed").splitlines()[0])
    return ran.stdout


def _lines(verb: str, tags: dict[str, str]) -> str:
    return "".join(f"{verb} refs/tags/{tag} {thing}\n" for tag, thing in tags.items())


def _link(home: Path, hidden: Path) -> None:
    """Let the link lead to another folder, in one moment; keep that folder and the one before.

    Raises
    ------
    InputError
        If it cannot; then the other folder is gone.
    """
    link, folder = home / LINK, home / hidden.name.removeprefix(".")
    fresh = home / f".{LINK}-{token_hex(3)}"
    kept = {folder.name, os.readlink(link) if link.is_symlink() else None}
    try:
        fresh.symlink_to(folder.name, target_is_directory=True)
        hidden.rename(folder)
        os.replace(fresh, link)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        for left in (hidden, folder):
            shutil.rmtree(left, ignore_errors=True)
        raise InputError(f"{link} cannot be written ({error.strerror})") from None
    # A service may be reading the one before at this moment.
    for other in home.iterdir():
        if OWN.fullmatch(other.name) and other.name not in kept and not other.is_symlink():
            shutil.rmtree(other, ignore_errors=True)


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _yaml(source: Path | str) -> dict:
    """A file of DVC's, or its text. The reader in C takes a tenth of ruamel's time for a lock."""
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        found = yaml.load(text, yaml.CSafeLoader)
    except FileNotFoundError:
        return {}
    except yaml.YAMLError as error:
        raise InputError(
            f"dvc.yaml or dvc.lock cannot be read: {' '.join(str(error).split())}"
        ) from None
    return found if isinstance(found, dict) else {}


def _artifacts(dvc_yaml: dict) -> dict[str, dict]:
    return dvc_yaml.get("artifacts") or {}


def _table(registry: Registry) -> str:
    """Versions, newest first, and what was assigned to which."""
    if not registry.versions:
        return f"{registry.case} has no version yet"
    made = {e.version: e for e in registry.events if e.action is Action.REGISTER}
    versions = [("version", "stage", "when", "who", "commit", "model", "on the test rows")]
    for version, commit in reversed(registry.versions.items()):
        event = made[version]
        model, figure = _figure(registry.shown(commit, f"reports/gate/{registry.case}.json"))
        stages = ", ".join(registry.stages(version))
        versions.append((version, stages, _when(event), event.who, commit[:7], model, figure))
    history = [("when", "version", "", "stage", "who", "why")]
    for event in reversed(registry.events):
        if event.stage:
            verb = "to" if event.action is Action.ASSIGN else "out of"
            version = registry.at(event.commit) or event.commit[:7]
            why = " ".join(event.message.split())
            history.append((_when(event), version, verb, event.stage, event.who, why))
    return "\n".join([registry.case, *_aligned(versions), "", *_aligned(history)])


def _figure(gate: str) -> tuple[str, str]:
    """The model, and the figure that the gate looked at, with its interval."""
    found = json.loads(gate or "{}").get("headline")
    if not found:
        return "", ""
    spread = found["high"] - found["low"]
    value, low, high = (to_spread(found[end], spread) for end in ("value", "low", "high"))
    return found["model"], f"{found['label']} {value} ({low} to {high})"


def _when(event: Event) -> str:
    return f"{event.when.astimezone():%Y-%m-%d %H:%M:%S}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
