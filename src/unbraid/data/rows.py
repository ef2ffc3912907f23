"""Pad sequences of different lengths to one length, and align their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from unbraid.errors import DataError

ROW = list | tuple | np.ndarray  # kinds of a row of labels, one row per example
Side = Literal["left", "right"]


def place(room: np.ndarray, row: Sequence[Any], side: Side, truncation: Side | None = None) -> None:
    """Write ``row`` into ``room`` (T,), padded at ``side`` and truncated at ``truncation`` (default: ``side``)."""
    kept = row[-len(room) :] if (truncation or side) == "left" else row[: len(room)]
    if len(kept) == 0:
        return
    if side == "left":
        room[len(room) - len(kept) :] = kept
    else:
        room[: len(kept)] = kept


def aligned(labels: Sequence[Sequence[Any]], steps: int, side: Side, truncation: Side | None = None) -> list[list[Any]]:
    """Pad and truncate labels of lists of words in the same way as the words; "" or -1 marks a missing label.

    Returns:
        N rows of T labels.
    """
    nothing: Any = "" if any(isinstance(v, str) for row in labels for v in row) else -1
    rows = []
    for row in labels:
        room = np.full(steps, nothing, dtype=object)
        place(room, row, side, truncation)
        rows.append(room.tolist())
    return rows


def has_rows(y: Any) -> bool:
    """Return whether labels are lists, one list for every example."""
    if hasattr(y, "to_numpy") or (isinstance(y, np.ndarray) and y.dtype.kind == "O"):
        y = list(y)
    return isinstance(y, Sequence) and not isinstance(y, str | memoryview) and any(isinstance(row, ROW) for row in y)


def check_rows(y: Sequence[Any], texts: Sequence[Any]) -> None:
    """Raise DataError if a row of labels is not a list, or has another length than its list of words."""
    for n, (row, words) in enumerate(zip(y, texts, strict=False)):
        if not isinstance(row, ROW) or any(isinstance(label, ROW) for label in row):
            raise DataError(f"example {n}: expected a list of labels, one for each word, got {str(row)[:40]!r}.")
        if not isinstance(words, str) and len(row) != len(words):
            raise DataError(f"example {n}: {len(row)} labels for {len(words)} words, expected one for each.")
