"""The inputs of an ONNX file: arrays, or texts that each vocabulary of the file converts to word indices.

Shapes: N examples, T timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.arrays import as_array
from unbraid.data.padding import Padding, make_padding, padded
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError
from unbraid.limits import parse_json
from unbraid.modules.domain.views import words_given
from unbraid.networks.inputs import Inputs, Words, leaves

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class TextReader:
    """Inputs of a file that one vocabulary fills.

    Attributes:
        names: names of the inputs: the word indices, and for some PyTorch modules the lengths.
        vocabulary: converts the texts; None if the file has none.
        words: the words of domain evidence, whose indices start at 1; None for the input of a network.
    """

    names: list[str]
    vocabulary: Vocabulary | None
    words: list[str] | None = None

    def read(self, texts: Any, shape: list[Any], where: str) -> Inputs:
        """Convert texts to word indices.

        Args:
            texts: N texts.
            shape: sizes of the first input, dynamic ones as names.
            where: the file, for messages.

        Raises:
            DataError: no vocabulary.
        """
        if self.words is not None:
            return _evidence(texts, self.words)
        if self.vocabulary is None:
            raise DataError(f"{where}: inputs are text, and the file has no vocabulary: pass vocabulary=...")
        axis = batch_axis(shape)
        fixed = shape[1 - axis] if len(shape) == 2 and isinstance(shape[1 - axis], int) else None
        indices, lengths = self.vocabulary.encode(texts, fixed)
        padded = fixed is not None or self.vocabulary.padding.steps is not None
        words = None if padded else Words(lengths, self.vocabulary.padding.side, False)
        rows = indices.T if axis else indices
        return Inputs(rows if len(self.names) == 1 else (rows, lengths), len(indices), axis, words)


def _evidence(texts: Any, words: list[str]) -> Inputs:
    """Convert texts to indices of the words of domain evidence; 0 is padding, one more than the words is any other."""
    places = {word: place for place, word in enumerate(words, 1)}
    rows = [[places.get(word, len(words) + 1) for word in row] for row in words_given(texts)]
    found = padded(rows, max([1, *map(len, rows)]), Padding(side="right"))
    return Inputs(found, len(found))


def batch_axis(shape: list[Any]) -> int:
    """Return the axis of the examples."""
    return next((n for n, size in enumerate(shape) if size == "batch"), 0)


def as_inputs(x: Any, shape: list[Any], where: str) -> Inputs:
    """Check an array for a file with one input of a shape; raise DataError if it does not fit."""
    array = as_array(x, "inputs")
    wanted = [size if isinstance(size, int) else None for size in shape]
    if array.dtype.kind not in "iufb" or array.ndim != len(wanted):
        raise DataError(f"{where}: inputs are {array.dtype} {array.shape}, expected an array of {len(wanted)} axes.")
    if any(want not in (None, size) for want, size in zip(wanted, array.shape, strict=True)):
        raise DataError(f"{where}: inputs have shape {array.shape}, expected {shape}.")
    axis = batch_axis(shape)
    return Inputs(array, array.shape[axis], axis)


def batches(read: list[tuple[list[str], Inputs]], size: int, fill: bool = False) -> Iterator[tuple[np.ndarray, Arrays]]:
    """Rows, and their arrays by name; texts that have the same length for each vocabulary run together, unpadded.

    Args:
        read: names and values of the inputs of each reader, with the same N.
        size: most examples of a batch.
        fill: whether rows are repeated in the arrays until they have ``size`` rows.
    """
    lengths = np.stack([np.zeros(len(i), np.int64) if i.words is None else i.words.lengths for _, i in read], axis=1)
    for steps in np.unique(lengths, axis=0):
        rows = np.flatnonzero((lengths == steps).all(axis=1))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            arrays: Arrays = {}
            for (names, inputs), own in zip(read, steps.tolist(), strict=True):
                part = inputs.take(np.resize(some, size) if fill else some)
                tree = part.tree if part.words is None else part.words.cut(part.tree, own, 1 - part.axis)
                found = [leaf for leaf in leaves(tree) if isinstance(leaf, np.ndarray)]
                arrays |= dict(zip(names, found, strict=True))
            yield some, arrays


def stored_readers(stored: Mapping[str, str], inputs: list[str], where: str) -> dict[str, TextReader]:
    """Read the vocabularies of a file from its metadata.

    Args:
        stored: the metadata.
        inputs: names of the inputs of the file.
        where: the file, for messages.

    Returns:
        name of the reader -> inputs and vocabulary; the name is "" in a file with one vocabulary or none.

    Raises:
        FormatError: metadata that do not fit.
    """
    if "readers" not in stored:
        return {"": TextReader(inputs, _vocabulary(stored, "", where))}
    named = as_json(stored, "readers", dict, where)
    lists = [names for names in named.values() if isinstance(names, list) and all(type(n) is str for n in names)]
    if len(named) != len(lists) or not all(lists) or sorted(n for names in lists for n in names) != sorted(inputs):
        raise FormatError(f"{where}: metadata readers: expected the inputs of each vocabulary, from {inputs}.")
    return {name: _reader(stored, name, names, where) for name, names in named.items()}


def _reader(stored: Mapping[str, str], name: str, names: list[str], where: str) -> TextReader:
    if f"words:{name}" not in stored:
        return TextReader(names, _vocabulary(stored, f":{name}", where))
    words = as_json(stored, f"words:{name}", list, where)
    if not all(isinstance(word, str) for word in words) or len(names) != 1:
        raise FormatError(f"{where}: metadata words:{name}: expected a list of words for one input.")
    return TextReader(names, None, words)


def fixed_batch(stored: Mapping[str, str], shapes: Mapping[str, list[Any]], where: str) -> int | None:
    """Read the number of examples that every run must have, and mark their axes in the shapes, in place.

    Args:
        stored: the metadata.
        shapes: name of an input -> its sizes.
        where: the file, for messages.

    Returns:
        the number; None if it is dynamic.

    Raises:
        FormatError: metadata that do not fit the inputs.
    """
    if "batch" not in stored:
        return None
    found = as_json(stored, "batch", dict, where)
    size, axes = found.get("size"), found.get("axes")
    if type(size) is not int or not isinstance(axes, dict) or set(axes) != set(shapes):
        raise FormatError(f"{where}: metadata batch: expected a size, and the axis of each input {sorted(shapes)}.")
    for name, axis in axes.items():
        shape = shapes[name]
        if axis is None:
            continue
        if type(axis) is not int or not 0 <= axis < len(shape) or shape[axis] != size:
            raise FormatError(f"{where}: metadata batch: {size} examples in axis {axis!r} of {name!r} {shape}.")
        shape[axis] = "batch"
    return size


def _vocabulary(stored: Mapping[str, str], suffix: str, where: str) -> Vocabulary | None:
    text = stored.get(f"vocabulary{suffix}")
    if text is None:
        return None
    return Vocabulary.from_json(text, make_padding(**as_json(stored, f"padding{suffix}", dict, where)), where)


def as_json(stored: Mapping[str, str], name: str, kind: type, where: str) -> Any:
    """Read JSON from the metadata; raise FormatError if it is missing or of another type."""
    value = parse_json(stored.get(name, "null"), f"{where}: metadata {name}", strict=True)
    if not isinstance(value, kind):
        raise FormatError(f"{where}: metadata {name}: found {type(value).__name__}, expected {kind.__name__}.")
    return value
