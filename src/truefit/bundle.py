"""Load an exported bundle and score rows with it: no scikit-learn, no pickle."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd

from truefit import project
from truefit.data_prep.read import SUFFIXES, read_table
from truefit.params import ABSENT, Case
from truefit.project import InputError

FORMAT = 2  # of the manifest; a bundle of another format is refused
MODEL = "model.onnx"
MANIFEST = "manifest.json"
# Of the manifest, to score.
NEEDED = ("inputs", "target", "reading", "classes", "positive", "threshold", "interval", "id")
AT_ONCE = 10_000  # rows to score in one go, so that a long table needs no more memory
LARGEST = float(np.finfo(np.float32).max)  # a larger number would be infinite to the model


class Bundle:
    """A model that was exported, checked against its manifest.

    Parameters
    ----------
    folder : Path
        Holds ``model.onnx`` and ``manifest.json``.

    Raises
    ------
    InputError
        If a file is missing or is not the one that the manifest describes.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        for name in (MODEL, MANIFEST):
            if not (folder / name).is_file():
                raise InputError(
                    f"{folder} is not a bundle: it has no {name}; run the export first"
                )
        try:
            self.manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            found = self.manifest["format"]
            if found != FORMAT:
                raise InputError(f"{folder} has format {found!r}, and this version reads {FORMAT}")
            stated = self.manifest["sha256"][MODEL]
            for key in NEEDED:
                self.manifest[key]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{folder / MANIFEST} is damaged; export the bundle anew") from None
        content = (folder / MODEL).read_bytes()
        if hashlib.sha256(content).hexdigest() != stated:
            raise InputError(
                f"{folder / MODEL} is not the file that the manifest describes (its checksum "
                "differs); export the bundle anew"
            )
        self._session = open_session(content)

    @property
    def inputs(self) -> list[dict]:
        """The raw columns it takes, as the manifest describes them."""
        return self.manifest["inputs"]

    def read(self, source: Path) -> pd.DataFrame:
        """Read rows to score, by the rules the training data were read by.

        Raises
        ------
        InputError
            If the file is not a table, a column is missing, or a number is none.
        """
        names = {column["name"]: column for column in self.inputs}
        texts = [n for n, c in names.items() if c["type"] == "text"]
        rules = Case(
            table=str(source),
            target=self.manifest["target"]["name"],
            task="regression",
            separator=self.manifest["reading"]["separator"],
            missing=self.manifest["reading"]["missing"],
        )
        frame = read_table(source, rules, need_target=False, texts=texts)
        for name, column in names.items():
            if name not in frame:
                raise InputError(f"{source} has no column {name!r}, which the model needs")
            if column["type"] == "number":
                known = pd.to_numeric(frame[name], errors="coerce").astype("float64")
                odd = frame[name].notna() & ~(known.abs() <= LARGEST)
                if odd.any():
                    at = int(np.flatnonzero(odd)[0])
                    raise InputError(
                        f"{source}: {name} is {frame[name].iloc[at]!r} in row {at + 1}, and must "
                        "be a number"
                    )
                frame[name] = known
            elif column.get("absent"):
                frame[name] = frame[name].fillna(ABSENT)
        return frame

    def run(self, frame: pd.DataFrame) -> dict[str, np.ndarray]:
        """The graph's outputs by name; see `truefit.export.to_onnx`."""
        return run_session(self._session, frame)

    def score(self, frame: pd.DataFrame) -> np.ndarray:
        """Predictions in the target's unit, or probabilities of the positive class.

        Parameters
        ----------
        frame : DataFrame of shape (n_samples, any number of columns)
            Raw columns by name; columns the model does not know are not looked at.

        Returns
        -------
        ndarray of float64, of shape (n_samples,)
        """
        found = self.run(frame)
        if "prediction" in found:
            return found["prediction"].ravel().astype(float)
        positive = self.manifest["classes"].index(self.manifest["positive"])
        return found["probability"][:, positive].astype(float)

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Predictions as a table: the id if there is one, and the answer.

        Returns
        -------
        DataFrame
            ``prediction`` in the target's unit, with ``low`` and ``high`` around it if the
            manifest has an interval; or ``prediction``, the class, and ``probability``, of the
            positive class, which is called from the manifest's threshold on.
        """
        said = self.score(frame)
        if self.manifest["classes"]:
            positive = self.manifest["positive"]
            (other,) = (c for c in self.manifest["classes"] if c != positive)
            called = np.where(said >= self.manifest["threshold"], positive, other)
            found = pd.DataFrame({"prediction": called, "probability": said})
        else:
            found = pd.DataFrame({"prediction": said})
            if interval := self.manifest["interval"]:
                width = interval["width"]
                factor = interval["kind"] == "factor"
                found["low"] = said / width if factor else said - width
                found["high"] = said * width if factor else said + width
        name = self.manifest["id"]
        if name and name in frame:
            found.insert(0, name, frame[name].to_numpy())
        return found


def open_session(model: bytes):
    """An ONNX Runtime session on one thread: its pool would spin, and one row needs no pool."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run_session(session, frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """Score the raw columns of a frame."""
    feed = {}
    for declared in session.get_inputs():
        column = frame[declared.name]
        if declared.type == "tensor(string)":
            values = column.astype(object).where(column.notna(), "").to_numpy(dtype=object)
        else:
            values = column.to_numpy(dtype=np.float32, na_value=np.nan)
        feed[declared.name] = values.reshape(-1, 1)
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {k: v[first : first + AT_ONCE] for k, v in feed.items()})
        for first in range(0, max(len(frame), 1), AT_ONCE)
    ]
    return {n: np.concatenate(blocks) for n, *blocks in zip(names, *parts, strict=True)}


def write_predictions(rows: pd.DataFrame, target: Path) -> None:
    """Write predictions as CSV or Parquet, whole or not at all.

    Raises
    ------
    InputError
        If the suffix names another format, or the file cannot be written there.
    """
    if target.suffix not in SUFFIXES:
        raise InputError(f"{target}: predictions can be written as {' or '.join(SUFFIXES)}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}")
    try:
        with project.replacing(target) as partial:
            if target.suffix == ".csv":
                rows.to_csv(partial, index=False, lineterminator="\n")
            else:
                rows.to_parquet(partial, index=False)
    except OSError as error:
        raise InputError(f"{target} cannot be written: {error.strerror}") from None
