"""Processes that begin with the libraries imported, for a pipeline that starts many.

A notebook's stage needs two processes, its own and the kernel, and to import what both use takes
longer than many a notebook runs. So one server imports the libraries once, in the environment to
which kernels are pinned, and each stage and each kernel is forked from it. No module of this
package is imported there: a stage executes the code that stands in its files when it begins.

Only where a fork is safe (`AVAILABLE`), and only for ``truefit repro``; what runs by itself, under
``dvc repro`` for instance, starts its processes anew, and makes the same bytes.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import recv_handle, send_handle
from typing import Any, NamedTuple, NoReturn

from truefit.library_internals import stop_fork_server

AVAILABLE = sys.platform == "linux"
# What takes long to import; one that is left out here costs time, nothing else. None that starts a
# thread, as onnxruntime does: a fork copies only the thread that forks, and what another holds at
# that moment would be held for ever.
LIBRARIES = (
    "tqdm.auto",  # before IPython, of which it would ask too much
    "papermill",
    "nbclient",
    "nbconvert",
    "ipykernel.kernelapp",
    "bs4",
    "pydantic",
    "ruamel.yaml",
    "pandas",
    "pandera.pandas",
    "pyarrow.parquet",
    "scipy.stats",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.inspection",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "sklearn.pipeline",
    "sklearn.svm",
    "matplotlib.pyplot",
    "lightgbm",
    "xgboost",
    "optuna",
    "onnx",
    "statsmodels.api",
)


class Forked:
    """A process that was forked, with as much of `subprocess.Popen` as its callers use."""

    stdin = stdout = stderr = None

    def __init__(self, process: BaseProcess):
        self._process = process
        self.pid: int = process.pid  # pyrefly: ignore[bad-assignment]

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("truefit", timeout or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self._process.exitcode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    main: Callable[[list[str]], int],
    arguments: list[str],
    *,
    cwd: str,
    env: Mapping[str, str],
    stdout: str,
    stderr: str,
) -> Forked:
    """Start a command in a process group of its own.

    Parameters
    ----------
    main : callable
        The command, found by its name in the new process; it returns its exit code.
    arguments : list of str
    cwd : str
    env : mapping
        All of its environment.
    stdout, stderr : str
        Files, to whose ends go its output and its errors.
    """
    from truefit.notebook.run import pinned_environment

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LIBRARIES))
    given = (main, arguments, cwd, dict(env), stdout, stderr)
    process = context.Process(target=_command, args=given)
    with pinned_environment():  # which the server inherits, when the first process starts it
        process.start()
    return Forked(process)


def stop() -> None:
    """End the server and wait for it, so that the time of its processes counts for this one's."""
    stop_fork_server()  # it would end by itself, but unobserved


def _command(
    main: Callable[[list[str]], int],
    arguments: list[str],
    cwd: str,
    env: dict[str, str],
    *streams: str,
) -> NoReturn:
    os.setpgid(0, 0)
    for number, name in enumerate(streams, 1):
        file = os.open(name, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    global _kernel
    _kernel = waiting = _wait_for_work()
    _adopt(env)
    try:
        sys.exit(main(arguments))
    finally:
        # A stage without a notebook, or one that ended early; this process would wait for it.
        waiting.process.kill()


def _adopt(env: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(env)
    time.tzset()


class Kernel(NamedTuple):
    """A process that becomes a kernel when it is told how."""

    process: Forked
    connection: Connection

    def begin(self, arguments: list[str], *, cwd: str | None, env: dict, stderr: Any) -> Forked:
        """Give it the arguments of the kernel's application, and all of its environment."""
        self.connection.send((arguments, cwd, env))
        send_handle(self.connection, stderr.fileno(), self.process.pid)
        self.connection.close()
        return self.process


# Forked before the stage imports or starts anything, so that it is as new as its parent was.
_kernel: Kernel | None = None


def kernel() -> Kernel | None:
    """The kernel of this process, once; None if the process was not forked or has had it."""
    global _kernel
    given, _kernel = _kernel, None
    return given


def _wait_for_work() -> Kernel:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_become, args=(ours, theirs))
    process.start()
    theirs.close()
    return Kernel(Forked(process), ours)


def _become(theirs: Connection, ours: Connection) -> None:
    theirs.close()
    os.setsid()
    try:
        arguments, cwd, env = ours.recv()
    except EOFError:  # its stage was killed
        return
    errors = recv_handle(ours)
    os.dup2(errors, 2)
    os.close(errors)
    ours.close()
    _adopt(env)
    if cwd:
        os.chdir(cwd)
    from ipykernel import kernelapp

    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    sys.argv = ["ipykernel_launcher", *arguments, parent]
    kernelapp.launch_new_instance()
