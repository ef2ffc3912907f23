"""Labels of examples: check the labels of users and convert them to arrays.

Shapes: N examples, T timesteps, C classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.data.arrays import as_array
from unbraid.errors import DataError, quoted, unknown_label

Label = str | int
_WHOLE = re.compile(r"-?[0-9]{1,18}")  # fits into 64 bits


@dataclass(frozen=True)
class Targets:
    """Checked labels of examples or timesteps.

    Attributes:
        y: class indices (N,) or (N, T), -1 for a missing label; for independent labels 0/1, (N, C) or (N, T, C),
            -1 in all columns for a missing one.
        labels: names of the C classes.
        many: whether there is one label per timestep.
        independent: whether an example may have several labels (sigmoid outputs).
    """

    y: np.ndarray
    labels: list[Label]
    many: bool
    independent: bool = False

    def members(self, index: int) -> np.ndarray:
        """Return booleans (N,) or (N, T): True for the label ``index``."""
        return self.y[..., index] == 1 if self.independent else self.y == index

    def counted(self) -> np.ndarray:
        """Return booleans (N,) or (N, T): True where there is a label."""
        labelled = self.y >= 0
        return np.all(labelled, axis=-1) if self.independent else labelled

    def take(self, rows: np.ndarray) -> Targets:
        """Return the labels of some of the examples."""
        return Targets(self.y[rows], self.labels, self.many, self.independent)

    def __len__(self) -> int:
        return len(self.y)


def plain_labels(labels: Any) -> list[Label]:
    """Convert names of classes to strings and integers.

    Args:
        labels: a list, tuple or array of names.

    Raises:
        DataError: ``labels`` has another type, or a name cannot be written in UTF-8.
    """
    if isinstance(labels, str | bytes | Set | Mapping) or not isinstance(labels, Iterable):
        raise DataError(f"labels are {quoted(repr(labels), 40)}, expected a list with one name per class.")
    return [_plain_label(label) for label in labels]


def _plain_label(label: Any) -> Label:
    if isinstance(label, int | np.integer) and not isinstance(label, bool):
        return int(label)
    if not isinstance(label, str):
        raise DataError(f"label {quoted(repr(label), 40)} is {type(label).__name__}, expected text or a whole number.")
    try:
        label.encode()
    except UnicodeEncodeError:
        raise DataError(
            f"label {quoted(repr(label), 40)} is not valid Unicode: it cannot be written in UTF-8."
        ) from None
    return str(label)


def written_label(text: str, labels: Sequence[Label]) -> Label:
    """Convert a label that a user wrote to the type of the classes: a whole number if all of them are numbers.

    Example:
        >>> written_label("9", [0, 1]), written_label("9", ["a", "b"]), written_label("other", [0, 1])
        (9, '9', 'other')
    """
    numbers = all(isinstance(label, int) for label in labels)
    return int(text) if numbers and _WHOLE.fullmatch(text) else text


def label_indices(wanted: Iterable[Label], labels: Sequence[Label], where: str) -> list[int]:
    """Return the indices of labels without duplicates, in the order of the classes.

    Args:
        wanted: labels. A whole number that is not a label is a position, unless all labels are numbers.
        labels: the classes.
        where: the object with these labels, for the message.

    Raises:
        UnknownLabel: a value is neither a label nor a position.

    Example:
        >>> label_indices(["travel", 0], ["money", "travel"], "the network")
        [0, 1]
    """
    by_text = {str(label): index for index, label in enumerate(labels)}
    found = set()
    for label in wanted:
        if str(label) in by_text:
            found.add(by_text[str(label)])
        elif isinstance(label, int) and 0 <= label < len(labels) and not all(isinstance(v, int) for v in labels):
            found.add(label)
        else:
            raise unknown_label(label, labels, where)
    return sorted(found)


def labels_at(labels: Sequence[Label], indices: np.ndarray) -> np.ndarray:
    """Return the labels at positions. At -1 (no decision), return "", or -1 if all labels are numbers.

    Args:
        labels: the classes.
        indices: positions, any shape, -1 to C - 1.
    """
    kinds = {type(label) for label in labels}
    nothing: Label = -1 if kinds == {int} else ""
    values = [*labels, nothing] if (indices < 0).any() else list(labels)
    mixed = len(kinds) > 1  # else NumPy would turn 2 into "2"
    return np.asarray(values, dtype=object if mixed else None)[indices]


def read_targets(
    y: Any, labels: Sequence[Label], *, many: bool, independent: bool = False, examples: int | None = None
) -> Targets:
    """Check labels and convert names to indices.

    Args:
        y: indices or names; -1 or "" marks a missing label.
        labels: the classes of the network, in order.
        many: whether the network decides per timestep.
        independent: whether an example may have several labels.
        examples: number of inputs N, which the number of labels must equal; None for no check.

    Raises:
        DataError: a wrong shape or length, or a label that the network does not have.
    """
    array = as_array(y, "labels")
    if independent:
        return _independent(array, list(labels), many, examples)
    wanted, one_hot = 2 if many else 1, False
    if array.ndim == wanted + 1 and array.shape[-1] == len(labels) and array.dtype.kind in "iufb":
        one_hot = True  # as Keras users often store labels
        array = _from_one_hot(array)
    if array.ndim == 2 and wanted == 1 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != wanted:
        shape = "(N, T), one label per timestep" if many else "(N,), one label per example"
        raise DataError(f"labels have shape {array.shape}, expected {shape}.")
    _check_length(array, examples)
    indices = array if one_hot else _indices(array, list(labels))
    if not (indices >= 0).any():
        raise DataError("no example has a label.")
    return Targets(indices, list(labels), many)


def _from_one_hot(array: np.ndarray) -> np.ndarray:
    """Return indices (N,) or (N, T), -1 for a row of zeros; raise DataError for a row with several labels."""
    held = array != 0
    if not np.isin(array, (0, 1)).all() or (held.sum(-1) > 1).any():
        raise DataError(
            f"labels of shape {array.shape} are not one-hot: expected a single 1 in each row. "
            "Several labels per decision need a network with sigmoid outputs."
        )
    return np.where(held.any(-1), held.argmax(-1), -1)


def whole_numbers(array: np.ndarray) -> np.ndarray | None:
    """Convert numbers to int64; return None if one is a fraction, NaN or beyond 64 bits."""
    if array.dtype.kind in "ib":
        return array.astype(np.int64)
    if array.dtype.kind == "u":
        return array.astype(np.int64) if array.max(initial=0) < 2**63 else None
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        return None
    if (np.abs(array) >= 2.0**63).any() or (array != np.round(array)).any():
        return None
    return array.astype(np.int64)


def _indices(array: np.ndarray, labels: list[Label]) -> np.ndarray:
    if array.dtype.kind == "U":
        return _names(array, [str(label) for label in labels])
    indices = whole_numbers(array)
    if indices is None:
        found = "fractions, NaN or numbers beyond 64 bits" if array.dtype.kind in "uf" else array.dtype
        raise DataError(f"labels hold {found}, expected class indices or names.")
    if all(isinstance(label, int) for label in labels) and labels != list(range(len(labels))):
        return _names(indices, labels)
    if indices.size and (indices.min() < -1 or indices.max() >= len(labels)):
        raise DataError(
            f"labels run from {indices.min()} to {indices.max()}, the network has {len(labels)} classes "
            f"(0 to {len(labels) - 1}; -1 marks a missing label)."
            + (f" If {indices.min()} marks padding, replace it by -1." if indices.min() < -1 else "")
        )
    return indices


def _names(array: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    lookup = {label: index for index, label in enumerate(labels)} | {"": -1, -1: -1}
    if len(set(labels)) < len(labels):
        raise DataError("labels are strings, but two classes of the network are equal as strings: pass indices.")
    values, inverse = np.unique(array, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in lookup]
    if unknown:
        raise DataError(
            f"labels {quoted(unknown[:5])} are not classes of the network; its classes are {quoted(list(labels)[:20])}."
        )
    return np.asarray([lookup[value] for value in values.tolist()], np.int64)[inverse].reshape(array.shape)


def _independent(array: np.ndarray, labels: list[Label], many: bool, examples: int | None) -> Targets:
    wanted = 3 if many else 2
    if array.ndim != wanted or array.shape[-1] != len(labels):
        raise DataError(f"labels have shape {array.shape}, expected 0/1 columns, one per class: (N, {len(labels)}).")
    _check_length(array, examples)
    if array.dtype.kind not in "iufb" or not np.isin(array, (0, 1)).all():
        raise DataError("labels of independent classes must be 0 or 1.")
    return Targets(array.astype(np.int64), labels, many, independent=True)


def _check_length(array: np.ndarray, examples: int | None) -> None:
    if len(array) == 0:
        raise DataError("labels are empty: expected at least one example.")
    if examples is not None and len(array) != examples:
        raise DataError(f"{len(array)} labels for {examples} inputs: expected one label for each input.")
