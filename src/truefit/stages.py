"""The stages of ``dvc.yaml``: their order, whether they changed, and the record of what they made.

All that `truefit.repro` asks of DVC's internals stands here. While a `Stages` is open it holds
DVC's lock, so that no other DVC works in the project.
"""

import logging
import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from truefit import params, project
from truefit.project import TruefitError


class StageError(TruefitError):
    """The stages cannot be told, or what one of them made cannot be recorded."""


class Stages:
    """Stages by name, in the order in which DVC would run them; see `opened`.

    Attributes
    ----------
    needs : dict from name to set of names
        The other stages that each must wait for.
    """

    def __init__(self, repo: Any, targets: Collection[str]):
        from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

        graph = get_active_graph(repo.index.graph)
        planned = plan_repro(graph, collect_stages(repo, targets or ["dvc.yaml"]))
        self._repo, self._finished = repo, []
        self._stages = {stage.addressing: stage for stage in planned}
        self.needs = {
            name: {needed.addressing for needed in graph.successors(stage)}
            for name, stage in self._stages.items()
        }

    def begin(self, name: str, *, force: bool = False) -> list[str]:
        """The commands to run now; none where nothing has changed since they ran last."""
        stage = self._stages[name]
        if stage.frozen or not stage.cmd:  # a table that DVC keeps or imports, for instance
            self._repo.reproduce(name, single_item=True, force=force)
            return []
        if not force and not stage.changed():
            return []
        stage.remove_outs()
        return stage.cmd if isinstance(stage.cmd, list) else stage.cmd.splitlines()

    def place(self, name: str) -> dict[str, Any]:
        """The folder and the variables for the commands of a stage, as `subprocess` wants them."""
        own = {"DVC_ROOT": self._repo.root_dir, "DVC_STAGE": name}
        return {"cwd": self._stages[name].wdir, "env": os.environ | own}

    def finish(self, name: str) -> None:
        """Measure what a stage read and made, and cache what belongs into the cache."""
        stage = self._stages[name]
        stage.save(run_cache=False)
        stage.commit()
        self._finished.append(name)

    def write(self) -> None:
        """Write the finished stages to ``dvc.lock`` as if they had run one after another."""
        # In one go: each time, DVC reads the whole file and writes it anew, which takes a second.
        ran = [stage for name, stage in self._stages.items() if name in self._finished]
        for file in {stage.dvcfile.path: stage.dvcfile for stage in ran}.values():
            own = [stage for stage in ran if stage.dvcfile.path == file.path]
            file.dump_stages(own, update_pipeline=False)
        self._finished = []


@contextmanager
def opened(targets: Collection[str] = ()) -> Iterator[Stages]:
    """Open the stages that some stages need, themselves included, or all.

    At the end, however it comes, ``dvc.lock`` has what was finished.

    Raises
    ------
    StageError
        If there is no such stage, DVC finds a fault, or another DVC is at work.
    """
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo, lock_repo

    logging.getLogger("dvc").setLevel(logging.WARNING)  # what runs is for others to show
    try:
        with Repo(str(project.root())) as repo, lock_repo(repo):
            stages = Stages(repo, targets)
            try:
                yield stages
            finally:
                stages.write()
    except LockError:
        raise StageError(
            "dvc or another `truefit repro` is at work in this project; wait until it has ended"
        ) from None
    except DvcException as error:
        raise StageError(_explained(error)) from None


def _explained(error: BaseException | None) -> str:
    """What DVC says, and why: the line of a mistake in ``dvc.yaml`` stands in the cause."""
    words = []
    while error is not None:
        words.append(" ".join(str(error).split()))
        error = error.__cause__
    said = "; ".join(dict.fromkeys(words))
    if "'item.table'" in said:
        faults = (fault for fault in params.load().faults.values() if ".table is missing" in fault)
        return f"{next(faults, said)}; until it is there, DVC can run no stage of any case"
    return said
