"""Recognise and list texts: a list, array or pandas Series of strings, or of lists of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from unbraid.data.arrays import as_array
from unbraid.data.columns import plain_cell
from unbraid.errors import DataError, quoted

ENOUGH = 1_000  # number of values that are checked


def as_texts(texts: Any) -> list[Any]:
    """Convert texts to a list; raise DataError for a single text and for a collection without order.

    Args:
        texts: a list, tuple or array of texts, a pandas Series of them, or an iterator.
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"inputs are a single text, {quoted(repr(texts), 40)}: pass a list of texts, as in [text].")
    if isinstance(texts, np.ndarray) or _has_values(texts):
        plain = _values(texts)
        values = (as_array(plain) if plain.dtype.kind != "O" else plain).tolist()
        return [plain_cell(value) for value in values] if isinstance(values, list) else as_texts(values)
    if isinstance(texts, Mapping | Set) or not isinstance(texts, Iterable):
        raise DataError(f"inputs are a {type(texts).__name__}, expected a list of texts.")
    return list(texts)


def is_text(x: Any) -> bool:
    """Return whether inputs are text: a list, array or pandas Series of strings, or of lists of words."""
    if isinstance(x, np.ndarray) or _has_values(x):
        x = _values(x)
        if x.dtype.kind != "O":
            return x.dtype.kind == "U" and x.ndim > 0
        x = [plain_cell(value) for value in x[:ENOUGH].tolist()] if x.ndim else x.tolist()
    if isinstance(x, str | memoryview) or not isinstance(x, Sequence) or len(x) == 0:
        return False
    first = next((row for row in x if not isinstance(row, Sequence) or len(row)), x[0])
    return isinstance(first, str) or (isinstance(first, Sequence) and all(isinstance(word, str) for word in first[:1]))


def _has_values(x: Any) -> bool:
    return hasattr(x, "to_pylist") or hasattr(x, "to_numpy")


def _values(x: Any) -> np.ndarray:
    """Convert an array, or a column of pandas, polars or pyarrow, to an array. A table may have one column."""
    if hasattr(x, "to_pylist"):
        x = x.to_pylist()
        objects = np.empty(len(x), dtype=object)
        objects[:] = x
        return objects
    found: np.ndarray = x if isinstance(x, np.ndarray) else np.asarray(x.to_numpy())
    if hasattr(x, "columns") and found.ndim == 2 and found.dtype.kind in "OU":
        if len(x.columns) != 1:
            names = quoted([str(name) for name in x.columns])
            raise DataError(f"inputs are a {type(x).__name__} with columns {names}: pass one of them, as table[name].")
        return found.reshape(-1)
    return found
