"""Load an exported bundle and score with it: NumPy, msgspec and ONNX Runtime, nothing else.

This is all that a service has of the project, so nothing here may import pandas, scikit-learn or
what unpickles.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from truefit import onnx_file
from truefit.manifest import ClassificationManifest, Column, Manifest, RegressionManifest
from truefit.project import InputError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

FORMAT = 3  # of the manifest; a bundle of another format is refused
MODEL = "model.onnx"
MANIFEST = "manifest.json"
KINDS = {"tensor(float)": "number", "tensor(string)": "text"}
AT_ONCE = 1000  # rows to score in one go: some models need 100 kB for each meanwhile
LARGEST = float(np.finfo(np.float32).max)  # a larger number would be infinite to the model


class Bundle:
    """A model that was exported, checked against its manifest.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``manifest.json``.

    Attributes
    ----------
    manifest : Manifest
    version : str
        Twelve digits of the checksum of the manifest, which holds the checksum of the model.

    Raises
    ------
    InputError
        If a file is missing, lies elsewhere or is not the one that the manifest describes, if the
        model has what the export does not write, or if ONNX Runtime cannot run it.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        written, model = (self._content(name) for name in (MANIFEST, MODEL))
        self.version = hashlib.sha256(written).hexdigest()[:12]
        self.manifest = _checked_manifest(written, folder / MANIFEST)
        if hashlib.sha256(model).hexdigest() != self.manifest.sha256[MODEL]:
            raise InputError(
                f"{folder / MODEL} is not the file that the manifest describes (its checksum "
                "differs); export the bundle anew"
            )
        self._session = self._checked_session(model)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._numbers = [c.name for c in self.inputs if c.type == "number"]
        self._texts = [c.name for c in self.inputs if c.type == "text"]

    def _content(self, name: str) -> bytes:
        path = self.folder / name
        try:
            there = path.resolve(strict=True)  # Kubernetes puts links into a bundle, within it
            if not there.is_relative_to(self.folder.resolve()):
                raise InputError(
                    f"{path} is a link to {there}, outside of the bundle; put the file itself there"
                )
            if not there.is_file():  # a pipe would never end
                raise InputError(f"{path} cannot be read: it is no file")
            return there.read_bytes()
        except FileNotFoundError:
            raise InputError(
                f"{self.folder} is not a bundle: it has no {name}; run the export first"
            ) from None
        except (OSError, RuntimeError) as error:  # RuntimeError if a link leads to itself
            why = getattr(error, "strerror", None) or "it is a link to itself"
            raise InputError(f"{path} cannot be read: {why}") from None

    def _checked_session(self, model: bytes) -> "InferenceSession":
        path = self.folder / MODEL
        try:
            onnx_file.check(model)
        except onnx_file.ForeignError as error:
            raise InputError(f"{path} has {error}; export the bundle anew") from None
        try:
            session = open_session(model)
        except Exception as error:  # ONNX Runtime has a class for each status, and no common one
            why = str(error).splitlines()[0][:200]
            raise InputError(
                f"{path} cannot be run by the installed ONNX Runtime ({why}); export the bundle "
                "with a version of Truefit that fits it"
            ) from None
        takes = [(i.name, KINDS.get(i.type)) for i in session.get_inputs()]
        if takes != [(c.name, c.type) for c in self.inputs] or self.manifest.output not in {
            o.name for o in session.get_outputs()
        }:
            raise InputError(
                f"{path} takes or gives other columns than the manifest says; export the bundle "
                "anew"
            )
        return session

    @property
    def inputs(self) -> tuple[Column, ...]:
        """The raw columns it takes."""
        return self.manifest.inputs

    def score(self, columns: Mapping[str, Sequence]) -> np.ndarray:
        """Predictions in the target's unit, or probabilities of the positive class.

        Parameters
        ----------
        columns : DataFrame or mapping from name to values
            The raw columns, each with n_samples values, None or NaN for a gap; others are not
            looked at.

        Returns
        -------
        ndarray of float64, of shape (n_samples,)
        """
        # One array of all numbers, because making an array takes longer than filling it.
        # Whole numbers of many digits are rounded to float64 first, as the pipeline does it.
        numbers = np.array([columns[name] for name in self._numbers], dtype=np.float64)
        numbers = numbers.astype(np.float32)
        feed = dict(zip(self._numbers, numbers[..., None], strict=True))
        for name in self._texts:
            feed[name] = _tensor(columns[name], "text")
        found = _run(self._session, feed, self._outputs)
        return self.manifest.scores(found)


def _checked_manifest(content: bytes, path: Path) -> Manifest:
    try:
        found = msgspec.json.decode(content)
        if found["format"] != FORMAT:
            raise InputError(
                f"{path.parent} has format {found['format']!r}, and this version reads {FORMAT}"
            )
        manifest = msgspec.convert(found, RegressionManifest | ClassificationManifest)
        manifest.sha256[MODEL]
        manifest.check()
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, msgspec.ValidationError) else "not whole"
        raise InputError(f"{path} is damaged ({why}); export the bundle anew") from None
    return manifest


def open_session(model: bytes) -> "InferenceSession":
    """An ONNX Runtime session on one thread: its pool would spin, and one row needs no pool."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, and said once
    # Not ONNX Runtime's own format, which it would know by four bytes that an ONNX file may have.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(
    session: "InferenceSession", columns: Mapping[str, Sequence]
) -> dict[str, np.ndarray]:
    """The outputs of a graph by name, for raw columns by name; see `truefit.export.to_onnx`."""
    feed = {i.name: _tensor(columns[i.name], KINDS[i.type]) for i in session.get_inputs()}
    return _run(session, feed, [output.name for output in session.get_outputs()])


def _run(
    session: "InferenceSession", feed: dict[str, np.ndarray], names: list[str]
) -> dict[str, np.ndarray]:
    n = len(next(iter(feed.values())))
    if n <= AT_ONCE:
        return dict(zip(names, session.run(names, feed), strict=True))
    parts = [
        session.run(names, {k: v[first : first + AT_ONCE] for k, v in feed.items()})
        for first in range(0, n, AT_ONCE)
    ]
    return {n: np.concatenate(blocks) for n, *blocks in zip(names, *parts, strict=True)}


def _tensor(values: Sequence, kind: str) -> np.ndarray:
    """A column as an input of the graph, of shape (n_samples, 1)."""
    if kind == "text":
        texts = [v if isinstance(v, str) else "" for v in values]
        return np.array(texts, dtype=object).reshape(-1, 1)
    return np.array(values, dtype=np.float64).astype(np.float32).reshape(-1, 1)
