"""Run an exported ONNX file with ONNX Runtime; neither the folder nor the code of the network is needed.

Shapes: N examples, T timesteps, D features, C classes.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
from torch import Tensor

from unbraid.data.arrays import as_array
from unbraid.data.padding import make_padding
from unbraid.data.targets import Label
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError, UnbraidError, quoted
from unbraid.export.check import needed
from unbraid.limits import parse_json, read_regular
from unbraid.networks.inputs import Inputs, Words, leaves

BATCH = 512  # examples of one run
DECISIONS = ("classes", "binary", "independent", "numbers")
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


class OnnxModel:
    """An ONNX file of :func:`unbraid.export_onnx`.

    Args:
        path: path of the file.
        vocabulary: converts text to word indices; None uses the one that the file stores, if any.

    Attributes:
        labels: names of the classes.
        decision: ``classes``, ``binary`` (one column for two classes), ``independent`` labels, or ``numbers``.
        vocabulary: the vocabulary in use, or None.

    Raises:
        FormatError: no ONNX file of Unbraid.
        UnbraidError: onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], vocabulary: Vocabulary | None = None) -> None:
        needed("onnxruntime")
        import onnxruntime

        self._where = quoted(path)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors arrive as exceptions
        content = read_regular(path)
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's own, which have no common base class
            detail = quoted((str(error).splitlines() or [""])[0], 100)
            raise FormatError(f"{self._where}: onnxruntime cannot load it ({detail}): export it again.") from None
        stored = self._session.get_modelmeta().custom_metadata_map
        if not {"labels", "kind"} <= set(stored):
            raise FormatError(f"{self._where}: holds no labels, expected a file that 'unbraid export' wrote.")
        self.labels: list[Label] = self._json(stored, "labels", list)
        if not all(type(label) in (str, int) for label in self.labels):
            raise FormatError(f"{self._where}: metadata labels: expected text and whole numbers.")
        self.decision = stored.get("decision", "classes")
        if self.decision not in DECISIONS:
            found = quoted(self.decision, 40)
            raise FormatError(f"{self._where}: metadata decision: found {found!r}, expected one of {DECISIONS}.")
        self._vote = stored.get("vote", "margin")
        self.vocabulary = vocabulary
        if vocabulary is None and "vocabulary" in stored:
            padding = make_padding(**self._json(stored, "padding", dict))
            self.vocabulary = Vocabulary.from_json(stored["vocabulary"], padding, self._where)

    def _json(self, stored: dict[str, str], name: str, kind: type) -> Any:
        value = parse_json(stored.get(name, "null"), f"{self._where}: metadata {name}", strict=True)
        if not isinstance(value, kind):
            raise FormatError(
                f"{self._where}: metadata {name}: found {type(value).__name__}, expected {kind.__name__}."
            )
        return value

    def run(self, x: Any) -> dict[str, np.ndarray]:
        """Compute all outputs.

        Args:
            x: an array, or texts if there is a vocabulary.

        Returns:
            name of an output -> float array (N, ...).

        Raises:
            DataError: inputs that the file does not take.
        """
        inputs = self._inputs(x)
        names = [output.name for output in self._session.get_outputs()]
        found: list[tuple[np.ndarray, list[np.ndarray]]] = []
        for rows, tree in inputs.by_length(BATCH):
            arrays = [leaf.numpy() for leaf in leaves(tree) if isinstance(leaf, Tensor)]
            found.append((rows, self._session_run(arrays)))
        columns = self._columns(dict(zip(names, found[0][1], strict=True)))
        if len(self.labels) != columns:
            raise FormatError(f"{self._where}: metadata names {len(self.labels)} labels, its outputs have {columns}.")
        order = np.argsort(np.concatenate([rows for rows, _ in found]), kind="stable")
        joined = [_joined([outputs[place] for _, outputs in found])[order] for place in range(len(names))]
        return dict(zip(names, joined, strict=True))

    def _columns(self, outputs: dict[str, np.ndarray]) -> int:
        """Return the number of labels of the outputs."""
        if self.decision == "numbers":
            return self.numbers(outputs).shape[-1]
        if "probability" in outputs:
            return 1
        if "probabilities" not in outputs:
            raise FormatError(f"{self._where}: has outputs {sorted(outputs)}, expected probabilities.")
        return 2 if self.decision == "binary" else outputs["probabilities"].shape[-1]

    def numbers(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """The predicted numbers of a regression, (N, C) or (N, T, C), from the outputs of :meth:`run`."""
        if "value" in outputs:
            return outputs["value"][..., None]
        if "values" not in outputs:
            raise FormatError(f"{self._where}: has outputs {sorted(outputs)}, expected values.")
        return outputs["values"]

    def decide(self, outputs: dict[str, np.ndarray]) -> np.ndarray:
        """Decide as the exported model does.

        Args:
            outputs: of :meth:`run`.

        Returns:
            positions in :attr:`labels`, (N,) or (N, T), -1 without a decision; booleans (..., C) for independent
            labels.
        """
        if "probability" in outputs:  # of one module: its label, or none
            return np.where(outputs["probability"] > 0.5, 0, -1)
        shares = outputs["probabilities"]
        if self.decision == "independent":
            return np.asarray(shares > 0.5)
        if self.decision == "binary":
            return np.where(np.isnan(shares[..., 0]), -1, shares[..., 0] > 0.5).astype(np.int64)
        votes = outputs.get("margins", shares)
        if self._vote == "probability":
            votes = 1 / (1 + np.exp(-votes.astype(np.float64)))
        return np.where(np.isnan(votes).any(-1), -1, votes.argmax(-1))

    def _inputs(self, x: Any) -> Inputs:
        given = self._session.get_inputs()
        axis = next((n for n, size in enumerate(given[0].shape) if size == "batch"), 0)
        if is_text(x):
            return self._text(x, len(given), axis, given[0].shape)
        if len(given) > 1:
            raise DataError(
                f"{self._where}: reads {[v.name for v in given]}, found one array: pass text and a vocabulary."
            )
        array = as_array(x, "inputs")
        wanted = [size if isinstance(size, int) else None for size in given[0].shape]
        if array.dtype.kind not in "iufb" or array.ndim != len(wanted):
            raise DataError(
                f"{self._where}: inputs are {array.dtype} {array.shape}, expected an array of {len(wanted)} axes."
            )
        if any(want not in (None, size) for want, size in zip(wanted, array.shape, strict=True)):
            raise DataError(f"{self._where}: inputs have shape {array.shape}, expected {given[0].shape}.")
        return Inputs(array, array.shape[axis], axis)

    def _text(self, x: Any, arrays: int, axis: int, shape: list[Any]) -> Inputs:
        if self.vocabulary is None:
            raise DataError(f"{self._where}: inputs are text, and the file has no vocabulary: pass vocabulary=...")
        fixed = shape[1 - axis] if len(shape) == 2 and isinstance(shape[1 - axis], int) else None
        indices, lengths = self.vocabulary.encode(x, fixed)
        padded = fixed is not None or self.vocabulary.padding.steps is not None
        words = None if padded else Words(lengths, self.vocabulary.padding.side, False)
        rows = indices.T if axis else indices
        return Inputs(rows if arrays == 1 else (rows, lengths), len(indices), axis, words)

    def _session_run(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = self._session.get_inputs()
        feed = {}
        for value, array in zip(given, arrays, strict=True):
            kind = TYPES.get(value.type)
            if kind is None:
                raise UnbraidError(
                    f"{self._where}: input {quoted(value.name, 40)!r} is {value.type}, which is not supported."
                )
            if kind is not np.float32 and array.dtype.kind == "f" and not (array == np.round(array)).all():
                raise DataError(f"{self._where}: inputs hold fractions, expected whole word indices.")
            feed[value.name] = np.ascontiguousarray(array.astype(kind))
        try:
            found: list[np.ndarray] = self._session.run(None, feed)
        except Exception as error:  # onnxruntime's own, for inputs that do not fit
            detail = quoted((str(error).splitlines() or [""])[0], 150)
            raise DataError(f"{self._where}: onnxruntime refuses the inputs ({detail}).") from None
        return found


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    """Outputs of several runs, (N, ...); shorter ones (N, T, ...) are filled up with NaN."""
    longest = max((part.shape[1] for part in parts if part.ndim > 1), default=0)
    if all(part.ndim < 2 or part.shape[1] == longest for part in parts):
        return np.concatenate(parts)
    filled = []
    for part in parts:
        one = np.full((len(part), longest, *part.shape[2:]), np.nan, part.dtype)
        one[:, : part.shape[1]] = part
        filled.append(one)
    return np.concatenate(filled)


def metadata(labels: list[Label], kind: str, decision: str, vote: str, vocabulary: Vocabulary | None) -> dict[str, str]:
    """Make the metadata of a file that :class:`OnnxModel` reads."""
    found = {"kind": kind, "labels": json.dumps(labels), "decision": decision, "vote": vote}
    if vocabulary is not None:
        found |= {"vocabulary": vocabulary.to_json(), "padding": vocabulary.padding.model_dump_json()}
    return found
