"""Restrict the classes of each example. Shapes: N examples, T timesteps, C classes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from unbraid.data.targets import Label
from unbraid.errors import DataError, quoted, unknown_label


def restricted(scores: np.ndarray, allowed: Any, labels: Sequence[Label]) -> np.ndarray:
    """Set the scores of classes that are not allowed to -inf.

    Args:
        scores: float (N, C) or (N, T, C). With two labels also one column, the score of the second one.
        allowed: booleans (N, C), (N, T, C), or (C,) for all examples; or for each example a list of its labels. None
            allows all.
        labels: the C labels.

    Returns:
        new scores of the same shape.

    Raises:
        DataError: another shape or number of examples, an unknown label, or an example without an allowed class.
    """
    if allowed is None:
        return scores
    mask = _mask(allowed, len(scores), labels)
    if mask.ndim == 2 and scores.ndim == 3:
        mask = mask[:, None]
    fits = mask.ndim == scores.ndim and mask.shape[0] in (1, len(scores))
    if not fits or mask.shape[-1] != len(labels) or (mask.ndim == 3 and mask.shape[1] not in (1, scores.shape[1])):
        wanted = (*scores.shape[:-1], len(labels))
        raise DataError(f"allowed has shape {np.shape(allowed)}, expected booleans {wanted} or lists of labels.")
    without = np.argwhere(~mask.any(-1))
    if len(without):
        raise DataError(
            f"allowed has no class for {len(without)} decisions, the first in example {without[0][0]}: allow at least "
            "one for each."
        )
    if scores.shape[-1] == len(labels):
        return np.where(mask, scores, -np.inf).astype(scores.dtype)
    first, second = mask[..., :1], mask[..., 1:]  # one column for two classes
    return np.where(first & second, scores, np.where(second, np.inf, -np.inf)).astype(scores.dtype)


def _mask(allowed: Any, examples: int, labels: Sequence[Label]) -> np.ndarray:
    """Convert the argument to booleans; (C,) becomes (1, C)."""
    if isinstance(allowed, str) or not isinstance(allowed, Iterable):
        raise DataError(f"allowed is {quoted(repr(allowed), 40)}, expected booleans (N, C) or N lists of labels.")
    if hasattr(allowed, "__array__"):
        mask = np.asarray(allowed)
    else:
        rows = list(allowed)
        if not all(isinstance(row, Iterable) and not isinstance(row, str | dict) for row in rows):
            mask = np.asarray(rows, dtype=object)
            mask = mask.astype(bool) if all(isinstance(value, bool | np.bool_) for value in rows) else mask
        elif all(isinstance(value, bool | np.bool_) for row in rows for value in row):
            if len({len(list(row)) for row in rows}) > 1:
                raise DataError("allowed has rows of different lengths, expected booleans (N, C) or lists of labels.")
            mask = np.asarray([list(row) for row in rows], dtype=bool)
        else:
            return _of_labels(rows, examples, labels)
    if mask.dtype != bool:
        raise DataError(f"allowed holds {mask.dtype}, expected booleans (N, C) or N lists of labels.")
    return mask[None] if mask.ndim == 1 else mask


def _of_labels(rows: Sequence[Iterable[Any]], examples: int, labels: Sequence[Label]) -> np.ndarray:
    if len(rows) != examples:
        raise DataError(f"allowed has {len(rows)} lists of labels, expected one for each of {examples} examples.")
    places = {label: place for place, label in enumerate(labels)}
    mask = np.zeros((examples, len(labels)), bool)
    for row, names in zip(mask, rows, strict=True):
        for name in names:
            plain = name.item() if isinstance(name, np.generic) else name
            if not isinstance(plain, str | int) or plain not in places:
                raise DataError(f"allowed: {unknown_label(plain, labels, 'the classifier')}")
            row[places[plain]] = True
    return mask
