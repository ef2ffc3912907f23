"""Sequences of different lengths as rows of one length, and labels that are aligned with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from unbraid.errors import DataError

ROW = list | tuple | np.ndarray  # what labels of one example may come in, where there are several
Side = Literal["left", "right"]


def place(room: np.ndarray, row: Sequence[Any], side: Side) -> None:
    """Put ``row`` into ``room`` (T,), padded and cut at ``side``."""
    kept = row[-len(room) :] if side == "left" else row[: len(room)]
    if len(kept) == 0:
        return
    if side == "left":
        room[len(room) - len(kept) :] = kept
    else:
        room[: len(kept)] = kept


def aligned(labels: Sequence[Sequence[Any]], steps: int, side: Side) -> list[list[Any]]:
    """Labels of lists of words, one per timestep, padded ("" or -1: no label) and cut as the words are; N rows of T."""
    nothing: Any = "" if any(isinstance(v, str) for row in labels for v in row) else -1
    rows = []
    for row in labels:
        room = np.full(steps, nothing, dtype=object)
        place(room, row, side)
        rows.append(room.tolist())
    return rows


def has_rows(y: Any) -> bool:
    """Whether labels come as lists, one list for every example."""
    if hasattr(y, "to_numpy") or (isinstance(y, np.ndarray) and y.dtype.kind == "O"):
        y = list(y)
    return isinstance(y, Sequence) and not isinstance(y, str) and any(isinstance(row, ROW) for row in y)


def check_rows(y: Sequence[Any], texts: Sequence[Any]) -> None:
    """Raises DataError where a row of labels is none, or not as long as the words that it is for."""
    for n, (row, words) in enumerate(zip(y, texts, strict=False)):
        if not isinstance(row, ROW) or any(isinstance(label, ROW) for label in row):
            raise DataError(f"example {n}: expected a list of labels, one for each word, got {str(row)[:40]!r}.")
        if not isinstance(words, str) and len(row) != len(words):
            raise DataError(f"example {n}: {len(row)} labels for {len(words)} words, expected one for each.")
