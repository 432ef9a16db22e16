"""What Truefit reads of other libraries that they do not promise to keep.

Each is read here and nowhere else, and `tests/test_library_internals.py` compares it with what the
library computes: after an upgrade it says which one has changed. Libraries are imported where they
are needed, so that this module costs nothing.
"""

import sys
from functools import cache
from importlib.metadata import packages_distributions, version
from platform import python_version
from types import ModuleType
from typing import TYPE_CHECKING, Any

from truefit.project import TruefitError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.text import Text
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


def boosted_trees(model: Any) -> "list[np.ndarray]":
    """The trees of scikit-learn's histogram gradient boosting, of one output.

    Returns
    -------
    list of ndarray
        One record a node, the root first: among others ``feature_idx``, ``num_threshold``,
        ``left``, ``right``, ``missing_go_to_left``, ``is_leaf`` and ``value``.

    Raises
    ------
    TruefitError
        Here and below, if the library has it no longer.
    """
    return [_read(predictor, "nodes") for (predictor,) in _read(model, "_predictors")]


def boosting_start(model: Any) -> "np.ndarray":
    """What scikit-learn's histogram gradient boosting adds its trees to."""
    return _read(model, "_baseline_prediction")


def remembered_rows(model: Any) -> "tuple[np.ndarray, np.ndarray]":
    """The training rows of scikit-learn's nearest neighbours, and their targets.

    A class is given by its number.
    """
    return _read(model, "_fit_X"), _read(model, "_y")


def kernel_factor(model: Any) -> float:
    """The factor γ in the kernel of scikit-learn's support vector machine.

    It is a number, where the parameter ``gamma`` may be a word.
    """
    return _read(model, "_gamma")


def left_title(ax: "Axes") -> "Text":
    """The title at the left of Matplotlib's axes, as the text that is drawn."""
    return _read(ax, "_left_title")


def keep_connection(protocol: "HttpToolsProtocol") -> None:
    """Let no connection of uvicorn end as idle that has just got something."""
    _read(protocol, "_unset_keepalive_if_required")()


def stop_fork_server() -> None:
    """End multiprocessing's fork server and wait for it, if there is one."""
    from multiprocessing import forkserver

    _read(_read(forkserver, "_forkserver"), "_stop")()


@cache
def import_jsonschema() -> None:
    """Import jsonschema, on which nbformat and all that reads a notebook are built, quickly.

    Where it finds the optional package ``rfc3987_syntax`` it builds some 35 grammars for formats
    of web addresses that no notebook has: 1.2 s in each process. So it does not find it.
    """
    hidden, there = "rfc3987_syntax", "rfc3987_syntax" in sys.modules
    if not there:
        sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        import jsonschema  # noqa: F401
    finally:
        if not there:
            del sys.modules[hidden]


def _read(thing: Any, name: str) -> Any:
    """An attribute, or a sentence that says which library has it no longer."""
    try:
        return getattr(thing, name)
    except AttributeError:
        raise TruefitError(_missing(thing, name)) from None


def _missing(thing: Any, name: str) -> str:
    if isinstance(thing, ModuleType):
        what, places = thing.__name__, [thing.__name__]
    else:  # a model of our own may be made from one of a library
        what, places = type(thing).__name__, [kind.__module__ for kind in type(thing).__mro__]
    installed, packages = packages_distributions(), [p.partition(".")[0] for p in places]
    package = next((p for p in packages if p in installed and p != "truefit"), "")
    found = ", ".join(f"{name} {version(name)}" for name in installed.get(package, ()))
    return (
        f"{found or f'Python {python_version()}'}: {what} has no {name}, which Truefit reads; "
        "install the versions that requirements.txt names, or correct truefit/library_internals.py"
    )
