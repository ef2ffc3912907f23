"""Examples and their labels: what users pass, as arrays that the rest of the library can trust.

Shapes: N examples, T timesteps, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unbraid.errors import DataError

Label = str | int


@dataclass(frozen=True)
class Targets:
    """Which examples (or timesteps) carry which class.

    Attributes:
        y: class indices (N,) or (N, T), -1 where there is no label; for independent labels 0/1, (N, C) or (N, T, C).
        labels: the C classes' names.
        many: one label per timestep.
        independent: several labels may hold at once (sigmoid outputs).
    """

    y: np.ndarray
    labels: list[Label]
    many: bool
    independent: bool = False

    def members(self, index: int) -> np.ndarray:
        """Booleans (N,) or (N, T): where class ``index`` holds."""
        return self.y[..., index] == 1 if self.independent else self.y == index

    def counted(self) -> np.ndarray:
        """Booleans (N,) or (N, T): where there is a label at all."""
        return np.ones(self.y.shape[:-1], bool) if self.independent else self.y >= 0

    def take(self, rows: np.ndarray) -> Targets:
        """Some of the examples."""
        return Targets(self.y[rows], self.labels, self.many, self.independent)

    def __len__(self) -> int:
        return len(self.y)


def read_targets(
    y: Any, labels: Sequence[Label], *, many: bool, independent: bool = False, examples: int | None = None
) -> Targets:
    """Check labels and turn names into indices.

    Args:
        y: indices or names; -1 or "" marks "no label".
        labels: the network's classes, in order.
        many: whether the network decides per timestep.
        independent: whether several labels may hold at once.
        examples: N of the inputs, to compare with.

    Raises:
        DataError: wrong shape or length, or a label that the network does not know.
    """
    array = _array(y)
    if independent:
        return _independent(array, list(labels), many, examples)
    wanted, one_hot = 2 if many else 1, False
    if array.ndim == wanted + 1 and array.shape[-1] == len(labels) and array.dtype.kind in "iufb":
        one_hot = True  # as Keras users keep them
        array = _from_one_hot(array)
    if array.ndim == 2 and wanted == 1 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != wanted:
        shape = "(N, T), one label per timestep" if many else "(N,), one label per example"
        raise DataError(f"labels have shape {array.shape}, expected {shape}.")
    _check_length(array, examples)
    indices = array if one_hot else _indices(array, list(labels))
    if not (indices >= 0).any():
        raise DataError("no example carries a label.")
    return Targets(indices, list(labels), many)


def _from_one_hot(array: np.ndarray) -> np.ndarray:
    """Indices (N,) or (N, T), -1 where a row is all zero; raises DataError where several labels hold at once."""
    held = array != 0
    if not np.isin(array, (0, 1)).all() or (held.sum(-1) > 1).any():
        raise DataError(
            f"labels of shape {array.shape} are not one-hot: expected one 1 a row, for one label per decision; "
            "where several labels hold at once there is no single one to judge or to sample by."
        )
    return np.where(held.any(-1), held.argmax(-1), -1)


def _array(y: Any) -> np.ndarray:
    try:
        return np.asarray(y)
    except ValueError:
        raise DataError(
            "labels come in rows of different lengths, expected one for each timestep of the inputs."
        ) from None


def _whole(array: np.ndarray) -> bool:
    return bool((np.isfinite(array) & (array == np.round(array))).all())


def _indices(array: np.ndarray, labels: list[Label]) -> np.ndarray:
    if array.dtype.kind in "iub" or (array.dtype.kind == "f" and _whole(array)):
        indices = array.astype(np.int64)
        if all(isinstance(label, int) for label in labels) and labels != list(range(len(labels))):
            return _names(array.astype(np.int64), labels)
        if indices.size and (indices.min() < -1 or indices.max() >= len(labels)):
            raise DataError(
                f"labels run from {indices.min()} to {indices.max()}, the network has {len(labels)} classes "
                f"(0 to {len(labels) - 1}; -1 means no label)."
            )
        return indices
    if array.dtype.kind not in "USO":
        raise DataError(f"labels hold {array.dtype}, expected class indices or names.")
    return _names(array.astype(str), [str(label) for label in labels])


def _names(array: np.ndarray, labels: Sequence[Label]) -> np.ndarray:
    lookup = {label: index for index, label in enumerate(labels)} | {"": -1, -1: -1}
    values, inverse = np.unique(array, return_inverse=True)
    unknown = [value for value in values.tolist() if value not in lookup]
    if unknown:
        raise DataError(f"labels {unknown[:5]} are not classes of the network; it knows {list(labels)[:20]}.")
    return np.asarray([lookup[value] for value in values.tolist()], np.int64)[inverse].reshape(array.shape)


def _independent(array: np.ndarray, labels: list[Label], many: bool, examples: int | None) -> Targets:
    wanted = 3 if many else 2
    if array.ndim != wanted or array.shape[-1] != len(labels):
        raise DataError(f"labels have shape {array.shape}, expected 0/1 columns, one per class: (N, {len(labels)}).")
    _check_length(array, examples)
    if not np.isin(array, (0, 1)).all():
        raise DataError("labels of independent classes must be 0 or 1.")
    return Targets(array.astype(np.int64), labels, many, independent=True)


def _check_length(array: np.ndarray, examples: int | None) -> None:
    if len(array) == 0:
        raise DataError("labels are empty: expected at least one example.")
    if examples is not None and len(array) != examples:
        raise DataError(f"{len(array)} labels for {examples} inputs: there must be one for each.")
