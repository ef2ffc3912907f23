"""Run an exported ONNX file with ONNX Runtime; neither the folder nor the code of the network is needed.

Shapes: N examples, T timesteps, D features, C classes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError, UnbraidError, quoted
from unbraid.export.check import needed
from unbraid.export.onnx_inputs import Arrays, as_inputs, as_json, batches, fixed_batch, stored_readers
from unbraid.limits import read_regular
from unbraid.networks.inputs import Inputs

Vocabularies = Vocabulary | Mapping[str, Vocabulary]
BATCH = 512  # examples of one run
DECISIONS = ("classes", "binary", "independent", "numbers")
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(float)": np.float32}


class OnnxModel:
    """An ONNX file of :func:`unbraid.export_onnx`.

    Args:
        path: path of the file.
        vocabulary: converts text to word indices. For a file of several vocabularies, a mapping from the names of its
            readers to the vocabularies to replace. None uses those that the file stores, if any.

    Attributes:
        labels: names of the classes.
        decision: ``classes``, ``binary`` (one column for two classes), ``independent`` labels or
            ``numbers``.
        batch: number of examples that every run has, of a module that needs batches of one size; None for any number.
            :meth:`run` reads any number: it repeats rows in the last batch and drops their results.
        readers: name -> inputs and vocabulary in use; the name is "" in a file with one vocabulary or none.

    Raises:
        FormatError: no ONNX file of Unbraid.
        DataError: a vocabulary for a reader that the file does not have.
        UnbraidError: onnxruntime is not installed.
    """

    def __init__(self, path: str | os.PathLike[str], vocabulary: Vocabularies | None = None) -> None:
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
        self.labels: list[Label] = as_json(stored, "labels", list, self._where)
        if not all(type(label) in (str, int) for label in self.labels):
            raise FormatError(f"{self._where}: metadata labels: expected text and whole numbers.")
        self.decision = stored.get("decision", "classes")
        if self.decision not in DECISIONS:
            found = quoted(self.decision, 40)
            raise FormatError(f"{self._where}: metadata decision: found {found!r}, expected one of {DECISIONS}.")
        self._vote = stored.get("vote", "margin")
        self._shapes = {value.name: list(value.shape) for value in self._session.get_inputs()}
        self.batch = fixed_batch(stored, self._shapes, self._where)
        self.readers = stored_readers(stored, list(self._shapes), self._where)
        for name, words in self._given(vocabulary).items():
            self.readers[name] = replace(self.readers[name], vocabulary=words)

    @property
    def vocabulary(self) -> Vocabulary | None:
        """The vocabulary of a file with one; None for a file without or with several."""
        first = next(iter(self.readers.values()))
        return first.vocabulary if len(self.readers) == 1 else None

    def _given(self, vocabulary: Vocabularies | None) -> Mapping[str, Vocabulary]:
        """Return the vocabularies that replace stored ones, by the name of the reader."""
        if vocabulary is None:
            return {}
        if isinstance(vocabulary, Vocabulary):
            if len(self.readers) > 1:
                raise DataError(
                    f"{self._where}: has several vocabularies, {sorted(self.readers)}: pass vocabulary={{NAME: ...}} "
                    "with the name of the one to replace."
                )
            return {next(iter(self.readers)): vocabulary}
        named = {name for name, reader in self.readers.items() if reader.words is None}
        unknown = sorted(set(vocabulary) - named)
        if unknown:
            raise DataError(
                f"{self._where}: has no vocabulary {quoted(unknown[0], 60)!r}: pass vocabulary={{NAME: ...}} "
                f"with a name of {sorted(named)}."
            )
        return vocabulary

    def run(self, x: Any) -> dict[str, np.ndarray]:
        """Compute all outputs.

        Args:
            x: an array, or texts if there is a vocabulary.

        Returns:
            name of an output -> float array (N, ...).

        Raises:
            DataError: inputs that the file does not take.
        """
        read = self._read(x)
        names = [output.name for output in self._session.get_outputs()]
        found: list[tuple[np.ndarray, list[np.ndarray]]] = []
        for rows, arrays in batches(read, self.batch or BATCH, self.batch is not None):
            found.append((rows, [output[: len(rows)] for output in self._session_run(arrays)]))
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
        """Return the predicted numbers of a regression, (N, C) or (N, T, C), from the outputs of :meth:`run`."""
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

    def _read(self, x: Any) -> list[tuple[list[str], Inputs]]:
        """Return the inputs of each reader."""
        if is_text(x):
            readers = self.readers.values()
            return [(r.names, r.read(x, self._shapes[r.names[0]], self._where)) for r in readers]
        names = list(self._shapes)
        if len(names) > 1:
            raise DataError(f"{self._where}: reads {names}, found one array: pass text and a vocabulary.")
        return [(names, as_inputs(x, self._shapes[names[0]], self._where))]

    def _session_run(self, arrays: Arrays) -> list[np.ndarray]:
        feed = {}
        for value in self._session.get_inputs():
            kind, array = TYPES.get(value.type), arrays[value.name]
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


def metadata(
    labels: list[Label],
    kind: str,
    decision: str,
    vote: str,
    readers: Mapping[str, tuple[list[str], Vocabulary | list[str] | None]],
) -> dict[str, str]:
    """Make the metadata of a file that :class:`OnnxModel` reads.

    Args:
        labels: names of the classes.
        kind: network, module or composition.
        decision: see :class:`OnnxModel`.
        vote: of a composition.
        readers: name -> names of the inputs, and vocabulary, or the words of domain evidence. The name of the only one
            is "".
    """
    found = {"kind": kind, "labels": json.dumps(labels), "decision": decision, "vote": vote}
    if "" not in readers:
        found["readers"] = json.dumps({name: names for name, (names, _) in readers.items()})
    for name, (_, words) in readers.items():
        suffix = f":{name}" if name else ""
        if isinstance(words, list):
            found[f"words{suffix}"] = json.dumps(words)
        elif words is not None:
            found |= {f"vocabulary{suffix}": words.to_json(), f"padding{suffix}": words.padding.model_dump_json()}
    return found
