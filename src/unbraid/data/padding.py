"""Settings for padding and truncating rows of word indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unbraid import limits
from unbraid.data.rows import Side, place
from unbraid.errors import DataError, quoted


class Padding(BaseModel):
    """Settings for padding index sequences to one length.

    Attributes:
        steps: T. With None, each text keeps its own length, so that its result does not depend on other texts.
        side: side on which texts are padded, and truncated if ``truncation`` is None. ``left`` is the default of Keras.
        truncation: side on which texts are truncated; None for the same side as ``side``.
        index: index of padding, at least 0.
        unknown: index of unknown words, at least 0; None omits unknown words, as Keras does.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(None, ge=1, le=2**20)
    side: Side = "left"
    truncation: Side | None = None
    index: int = Field(0, ge=0, lt=2**31)
    unknown: int | None = Field(None, ge=0, lt=2**31)

    def indices(self) -> dict[str, int | None]:
        """Return the fields that are word indices."""
        return {"index": self.index, "unknown": self.unknown}

    def __str__(self) -> str:
        end = {"left": "front", "right": "end"}
        cut = self.truncation or self.side
        truncated = "" if cut == self.side else f", truncated at the {end[cut]}"
        return f"padded at the {end[self.side]} to {self.steps or 'the longest text'}{truncated}"


def make_padding(**fields: Any) -> Padding:
    """Make a :class:`Padding`; raise DataError with the name of a field that is out of range."""
    try:
        return Padding(**fields)
    except ValidationError as error:
        first = error.errors()[0]
        found = quoted(repr(first["input"]), 40)
        raise DataError(f"{first['loc'][0]}={found}: {first['msg'].lower()}.") from None


def padded(rows: Sequence[Sequence[int]], length: int, padding: Padding) -> np.ndarray:
    """Return rows of one length, int64 (N, T); raise DataError if they need more memory than the limit."""
    if 8 * len(rows) * length > limits.current().file_bytes:
        raise DataError(
            f"{len(rows)} texts padded to {length} words need {8 * len(rows) * length} bytes, above the limit: set "
            "steps=... in the vocabulary, or pass fewer texts at a time."
        )
    found = np.full((len(rows), length), padding.index, np.int64)
    for number, row in enumerate(rows):
        place(found[number], row, padding.side, padding.truncation)
    return found
