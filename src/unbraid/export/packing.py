"""Packed sequences while torch traces a user's module: they stay padded, and a mask says what counts.

Shapes: N examples, T timesteps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import rnn


class _Masks:
    """torch's functions under pack_padded_sequence and pad_packed_sequence, for sequences that stay padded meanwhile.

    A packed sequence's data are (N, T, ...) and its batch_sizes a mask (1, N, T): whatever works on each timestep's
    data by itself does the same to both.
    """

    def __init__(self, original: Any) -> None:
        self._original = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)

    def _pack_padded_sequence(self, x: Tensor, lengths: Tensor, batch_first: bool) -> tuple[Tensor, Tensor]:
        x = x if batch_first else x.transpose(0, 1)
        return x, (torch.arange(x.shape[1]) < lengths.unsqueeze(1)).unsqueeze(0)

    def _pad_packed_sequence(
        self, data: Tensor, mask: Tensor, batch_first: bool, padding_value: float, steps: int | torch.SymInt
    ) -> tuple[Tensor, Tensor]:
        lengths = mask[0].sum(dim=1)
        here = mask[0].reshape(*mask.shape[1:], *[1] * (data.dim() - 2))
        padded = torch.where(here, data, padding_value)
        if isinstance(steps, int) and steps == 1:  # the mask's first size: total_length was not given
            longest = lengths.max().item()
            torch._check(longest >= 1)
            torch._check(longest <= padded.shape[1])
            padded = padded[:, :longest]
        else:
            after = [0, 0] * (data.dim() - 2) + [0, steps - data.shape[1]]
            padded = nn.functional.pad(padded, after, value=padding_value)  # type: ignore[arg-type]  # may be symbolic
        return (padded if batch_first else padded.transpose(0, 1)), lengths


@contextmanager
def packed_as_masks() -> Iterator[None]:
    """pack_padded_sequence and pad_packed_sequence, wherever they are called, as operations on masks."""
    original = vars(rnn)["_VF"]
    vars(rnn)["_VF"] = _Masks(original)
    try:
        yield
    finally:
        vars(rnn)["_VF"] = original
