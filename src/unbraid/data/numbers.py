"""Targets that are numbers. Shapes: N examples, T timesteps, C columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unbraid.data.arrays import NUMBERS, as_array
from unbraid.data.targets import Label
from unbraid.errors import DataError, quoted


def read_numbers(y: Any, names: Sequence[Label], shape: tuple[int, ...]) -> np.ndarray:
    """Check targets that are numbers.

    Args:
        y: numbers (N, C) or (N, T, C), without the last axis where C is 1; NaN or "" where a target is missing.
        names: the C columns.
        shape: (N,) or (N, T) of the predictions.

    Returns:
        float64 array (..., C).

    Raises:
        DataError: another shape, text that is not a number, or infinite values.
    """
    array = as_array(y, "targets")
    if array.dtype.kind == "U":
        array = _parsed(array)
    if array.dtype.kind not in NUMBERS:
        raise DataError(f"targets hold {array.dtype}, expected numbers: a regression predicts numbers, not labels.")
    wanted = (*shape, len(names))
    if array.shape == shape and len(names) == 1:
        array = array[..., None]
    if array.shape != wanted:
        shown = [quoted(name, 40) for name in names[:9]]
        raise DataError(f"targets have shape {array.shape}, expected {wanted}: one column for each of {shown}.")
    if np.isinf(array).any():
        raise DataError("targets hold infinite values: replace them, or use NaN for missing targets.")
    return array.astype(np.float64)


def _parsed(array: np.ndarray) -> np.ndarray:
    """Numbers that are written as text, as in tables."""
    try:
        return np.where(array == "", "nan", array).astype(np.float64)
    except ValueError:
        raise DataError("targets hold text that is not a number: a regression predicts numbers, not labels.") from None
