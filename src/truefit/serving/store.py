"""The bundles that are served: found in a folder, watched, swapped while requests run."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

from truefit.bundle import MANIFEST, MODEL, Bundle
from truefit.project import InputError
from truefit.serving.challenger import PLACE, Pair
from truefit.serving.served import Served

Said = Callable[..., None]  # takes an event and its fields; see `truefit.serving.logs`


class Store:
    """What is served for each case, and what was before it.

    Requests take the current bundle once and keep it to their end, so a swap disturbs none.

    Parameters
    ----------
    folder : Path
        Holds ``<case>/bundle/`` for each case.
    say : callable
        Is told of each swap and each refusal.
    refused : callable
        Is called with the case of each bundle that is refused while serving.
    challengers : bool
        Whether to look for ``<case>/challenger/`` too. A challenger that cannot be used is refused
        and named, at the start as well.

    Raises
    ------
    InputError
        If there is no bundle, or one cannot be served.
    """

    def __init__(
        self,
        folder: Path,
        say: Said,
        refused: Callable[[str], None],
        challengers: bool = False,
    ):
        self.folder = folder
        self._say, self._refused = say, refused
        self.current: dict[str, Served] = {}
        self.previous: dict[str, Served] = {}
        self.pairs: dict[str, Pair] = {}  # champions with a challenger
        self.no_challenger: dict[str, str] = {}  # why one that lies there is not used
        self._challengers = challengers
        # What a challenger and its champion were when last tried.
        self._tried: dict[str, tuple] = {}
        self._known: dict[str, tuple] = {}  # what the files of a case looked like when last tried
        self._unsettled: dict[str, tuple] = {}
        self._unwanted: dict[str, str] = {}  # the version that a person rolled back
        for case, files in self._found("bundle").items():
            self.current[case], self._known[case] = self._load(case, "bundle"), files
        if not self.current:
            raise InputError(
                f"{folder} has no bundle: a case lies in <case>/bundle/{MANIFEST}; run the export "
                "first, or name another folder with --models"
            )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._look_at_challengers(first=True)

    def _load(self, case: str, place: str) -> Served:
        served = Served(Bundle(self.folder / case / place))
        if served.manifest.case != case:
            raise InputError(
                f"{served.bundle.folder} is the bundle of {served.manifest.case!r}, and lies where "
                f"that of {case!r} belongs"
            )
        return served

    def _found(self, place: str) -> dict[str, tuple]:
        """The cases that have a bundle there, with what its files look like from outside."""
        found = {}
        for manifest in sorted(self.folder.glob(f"*/{place}/{MANIFEST}")):
            if (case := manifest.parts[-3]).startswith("."):
                continue  # what is being copied, or a revision that a link names
            looks: list[tuple | None] = []
            for name in (MANIFEST, MODEL):
                try:
                    status = os.stat(manifest.with_name(name))
                    looks.append((status.st_ino, status.st_size, status.st_ctime_ns))
                except OSError:
                    looks.append(None)
            found[case] = tuple(looks)
        return found

    def look(self) -> None:
        """Take what is new in the folder and can be served; what cannot is refused and named.

        Files must look the same twice in a row before they are tried, because a bundle is not
        copied in one moment. The bundle of a case whose folder is gone goes on being served.
        """
        for case, files in self._found("bundle").items():
            if files == self._known.get(case) or not self._settled(case, files):
                continue
            self._known[case] = files
            try:
                served = self._load(case, "bundle")
            except Exception as error:  # whatever lies in that folder, what is served goes on
                self._refused(case)
                kept = self.current.get(case)
                self._say(
                    "bundle refused", level="error", case=case, reason=str(error),
                    version=kept and kept.version,
                )  # fmt: skip
            else:
                self._swap(case, served)
        self._look_at_challengers()

    def _settled(self, name: str, files: tuple) -> bool:
        """Whether files look as they did before."""
        before, self._unsettled[name] = self._unsettled.get(name), files
        return files == before

    def _look_at_challengers(self, first: bool = False) -> None:
        """Take the challengers that are new, or whose champion is; leave those that are gone.

        Of a challenger that cannot be used nothing goes on: what lies there is not what ran.
        """
        found = self._found(PLACE) if self._challengers else {}
        for case in self._tried.keys() - found.keys():
            del self._tried[case]
            self.no_challenger.pop(case, None)
            self._leave(case, "its files are gone")
        for case, files in found.items():
            if (champion := self.current.get(case)) is None:
                continue
            seen = files, champion.version, self._unwanted.get(case)
            if seen == self._tried.get(case):
                continue
            if not (self._settled(f"{case}/{PLACE}", files) or first):
                continue
            self._tried[case] = seen
            self._try_challenger(case, champion)

    def _try_challenger(self, case: str, champion: Served) -> None:
        no_more = {self._unwanted.get(case): "it was rolled back"}
        no_more[champion.version] = "it is the champion now"
        try:
            challenger = self._load(case, PLACE)
            if why := no_more.get(challenger.version):
                self.no_challenger[case] = f"the challenger that lies there is not used: {why}"
                self._leave(case, why, challenger.version)
                return
            pair = Pair(champion, challenger)
        except Exception as error:  # whatever lies in that folder, the champion goes on
            self.no_challenger[case] = (
                "the challenger that lies there is damaged or of another kind than the champion; "
                "the log of the service says more"
            )
            self.pairs = {c: p for c, p in self.pairs.items() if c != case}
            self._refused(case)
            said = {"reason": str(error), "champion": champion.version}
            self._say("challenger refused", level="error", case=case, **said)
        else:
            self.no_challenger.pop(case, None)
            self.pairs = self.pairs | {case: pair}
            versions = {"version": challenger.version, "champion": champion.version}
            self._say("challenger loaded", case=case, **versions)

    def _leave(self, case: str, why: str, version: str | None = None) -> None:
        """Go on without a challenger, if there is one, or if its version is named."""
        pair = self.pairs.get(case)
        version = version or (pair.challenger.version if pair else None)
        if version:
            self.pairs = {c: p for c, p in self.pairs.items() if c != case}
            self._say("challenger left", case=case, version=version, reason=why)

    def _swap(self, case: str, served: Served) -> None:
        with self._lock:
            before = self.current.get(case)
            unwanted = self._unwanted.get(case) == served.version
            if not unwanted:
                self._unwanted.pop(case, None)
                if before and before.version == served.version:
                    return
                self.current = self.current | {case: served}
                if before:
                    self.previous[case] = before
        event = "bundle stays rolled back" if unwanted else "bundle loaded"
        self._say(event, case=case, version=served.version, before=before and before.version)

    def roll_back(self, case: str) -> Served:
        """Serve the bundle before the current one again, until there is another one in the files.

        Raises
        ------
        InputError
            If there was none.
        """
        with self._lock:
            if case not in self.previous:
                raise InputError(f"{case} has had one bundle only, so there is none to go back to")
            back, gone = self.previous.pop(case), self.current[case]
            self.current = self.current | {case: back}
            self.previous[case], self._unwanted[case] = gone, gone.version
        self._say("bundle rolled back", case=case, version=back.version, before=gone.version)
        return back

    def watch(self, seconds: float) -> None:
        """Look again and again, in a thread, until `close`."""

        def repeat() -> None:
            while not self._stop.wait(seconds):
                try:
                    self.look()
                except Exception as error:  # whatever lies in that folder, what is served goes on
                    self._say("watching failed", level="error", reason=repr(error))

        threading.Thread(target=repeat, name="watch", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
