"""Recognise and list texts: a list, array or pandas Series of strings, or of lists of words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

import numpy as np

from unbraid.data.arrays import as_array
from unbraid.errors import DataError, quoted


def as_texts(texts: Any) -> list[Any]:
    """Texts as a list; raises DataError for a single text, and for what has no order.

    Args:
        texts: a list, tuple or array of texts, a pandas Series of them, or an iterator.
    """
    if isinstance(texts, str | bytes):
        raise DataError(f"inputs are a single text, {quoted(repr(texts), 40)}: pass a list of texts, as in [text].")
    if isinstance(texts, np.ndarray) or hasattr(texts, "to_numpy"):
        plain = texts if isinstance(texts, np.ndarray) else np.asarray(texts.to_numpy())
        values = (as_array(plain) if plain.dtype.kind != "O" else plain).tolist()
        return values if isinstance(values, list) else as_texts(values)
    if isinstance(texts, Mapping | Set) or not isinstance(texts, Iterable):
        raise DataError(f"inputs are a {type(texts).__name__}, expected a list of texts.")
    return list(texts)


def is_text(x: Any) -> bool:
    """Whether inputs are text: a list, array or pandas Series of strings, or of lists of words."""
    if hasattr(x, "to_numpy"):
        x = np.asarray(x.to_numpy())
    if isinstance(x, np.ndarray):
        if x.dtype.kind != "O":
            return x.dtype.kind == "U" and x.ndim > 0
        x = x.tolist()
    if isinstance(x, str) or not isinstance(x, Sequence) or len(x) == 0:
        return False
    first = next((row for row in x if not isinstance(row, Sequence) or len(row)), x[0])
    return isinstance(first, str) or (isinstance(first, Sequence) and all(isinstance(word, str) for word in first[:1]))
