"""Load an exported bundle and score with it: NumPy, msgspec and ONNX Runtime, nothing else.

This is all that a service has of the project, so nothing here may import pandas, scikit-learn or
what unpickles.
"""

import hashlib
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from truefit import onnx_file
from truefit.project import InputError

FORMAT = 3  # of the manifest; a bundle of another format is refused
MODEL = "model.onnx"
MANIFEST = "manifest.json"
KINDS = {"tensor(float)": "number", "tensor(string)": "text"}
AT_ONCE = 1000  # rows to score in one go: some models need 100 kB for each meanwhile
LARGEST = float(np.finfo(np.float32).max)  # a larger number would be infinite to the model


class Column(msgspec.Struct, frozen=True):
    """One raw column that the model takes, as the training rows had it."""

    name: str
    type: Literal["number", "text"]
    unit: str = ""
    missing_share: float = 0.0
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    absent: bool = False  # nothing in it means "has none", not "not known"
    typical: float | str | None = None  # the median, or the most frequent text
    influence: float = 0.0  # see `truefit.export.reference`

    @property
    def nullable(self) -> bool:
        """Whether training saw a row without a value here."""
        return self.absent or self.missing_share > 0


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is predicted."""

    name: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None


class Interval(msgspec.Struct, frozen=True):
    """The interval around a single prediction p: p / w to p * w, or p - w to p + w."""

    confidence: float
    kind: Literal["factor", "distance"]
    width: float


class Reading(msgspec.Struct, frozen=True):
    """How the training table was read."""

    separator: str
    missing: tuple[str, ...]


class Data(msgspec.Struct, frozen=True):
    """What the model was fitted on."""

    sha256: dict[str, str]
    training_rows: int


class Manifest(msgspec.Struct, frozen=True):
    """What stands in ``manifest.json``, as far as it is needed to score; see `truefit.export`."""

    case: str
    title: str
    task: Literal["regression", "classification"]
    target: Target
    inputs: tuple[Column, ...]
    reading: Reading
    model: str
    data: Data
    sha256: dict[str, str]
    about: str = ""
    id: str | None = None
    classes: tuple[str, str] | None = None
    positive: str | None = None
    threshold: float | None = None
    interval: Interval | None = None
    deciles: tuple[float, ...] = ()


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
        if self.manifest.classes:
            self._positive = self.manifest.classes.index(self.manifest.positive)

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

    def _checked_session(self, model: bytes):
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
        gives = "probability" if self.manifest.classes else "prediction"
        if takes != [(c.name, c.type) for c in self.inputs] or gives not in {
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
        if self.manifest.classes:
            return found["probability"][:, self._positive]
        return found["prediction"].ravel()

    def called(self, probability: float) -> str:
        """The class that a row with this probability of the positive class is called."""
        here = self._positive if probability >= self.manifest.threshold else 1 - self._positive
        return self.manifest.classes[here]

    def interval(self, prediction: Any) -> tuple[Any, Any] | None:
        """The two ends of the interval around a prediction or an array of them, if it has one."""
        interval = self.manifest.interval
        if interval is None:
            return None
        if interval.kind == "factor":
            return prediction / interval.width, prediction * interval.width
        return prediction - interval.width, prediction + interval.width


def _checked_manifest(content: bytes, path: Path) -> Manifest:
    try:
        found = msgspec.json.decode(content)
        if found["format"] != FORMAT:
            raise InputError(
                f"{path.parent} has format {found['format']!r}, and this version reads {FORMAT}"
            )
        manifest = msgspec.convert(found, Manifest)
        manifest.sha256[MODEL]
        _check_answers(manifest)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        why = str(error) if isinstance(error, msgspec.ValidationError) else "not whole"
        raise InputError(f"{path} is damaged ({why}); export the bundle anew") from None
    return manifest


def _check_answers(manifest: Manifest) -> None:
    """Raise ValueError if the manifest does not say how its answers are to be read."""
    names = [column.name for column in manifest.inputs]
    if not names or len(set(names)) < len(names):
        raise ValueError
    if manifest.task == "classification":
        if manifest.positive not in (manifest.classes or ()):
            raise ValueError
        if manifest.threshold is None or not isfinite(manifest.threshold):
            raise ValueError
    elif manifest.classes is not None or (manifest.interval and not _is_width(manifest.interval)):
        raise ValueError


def _is_width(interval: Interval) -> bool:
    """Whether the ends are in order; a model without errors has intervals of no width."""
    return interval.width >= (1 if interval.kind == "factor" else 0)


def open_session(model: bytes):
    """An ONNX Runtime session on one thread: its pool would spin, and one row needs no pool."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what is wrong is raised, and said once
    # Not ONNX Runtime's own format, which it would know by four bytes that an ONNX file may have.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session: Any, columns: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
    """The outputs of a graph by name, for raw columns by name; see `truefit.export.to_onnx`."""
    feed = {i.name: _tensor(columns[i.name], KINDS[i.type]) for i in session.get_inputs()}
    return _run(session, feed, [output.name for output in session.get_outputs()])


def _run(session: Any, feed: dict[str, np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
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
