"""Replace packed sequences by padded sequences with a mask while PyTorch traces a module.

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
    """Substitutes for the functions that pack_padded_sequence and pad_packed_sequence call.

    The data of a packed sequence stay padded, (N, T, ...), and its batch_sizes is a mask (1, N, T). Operations that
    treat each timestep alone give the same result on both forms.
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
        if isinstance(steps, int) and steps == 1:  # the first size of the mask, so total_length was not given
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
    """Run pack_padded_sequence and pad_packed_sequence as operations on masks within this context."""
    original = vars(rnn)["_VF"]
    vars(rnn)["_VF"] = _Masks(original)
    try:
        yield
    finally:
        vars(rnn)["_VF"] = original
