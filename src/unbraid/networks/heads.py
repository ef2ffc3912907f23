"""A module's own output layer (channeling's result) and what it says.

Every head is a few rows over the features, the dominant one first; the module's score is its *margin*,
z_D - logsumexp(the other rows), and P(dominant) = sigmoid(margin). Shapes: F features, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The rows of one module.

    Args:
        weight: (R, F), the dominant row first; one row alone is a column of sigmoid outputs.
        bias: (R,).
        idle: output columns that are always zero and share in the softmax (the release keeps C-2 of them).
    """

    def __init__(self, weight: Tensor, bias: Tensor, idle: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.idle = idle

    def sliced(self, inputs: Tensor | None) -> Head:
        """The head over only the features ``inputs`` (None: all of them)."""
        return Head(self.weight if inputs is None else self.weight[:, inputs], self.bias, self.idle)

    def forward(self, features: Tensor) -> Tensor:
        """The rows' scores: (N, [T,] F) -> (N, [T,] R)."""
        return nn.functional.linear(features, self.weight, self.bias)

    def margin(self, features: Tensor) -> Tensor:
        """z_D - logsumexp(others): (N,), or (N, T) for many outputs."""
        return self.decided(self(features))

    def decided(self, rows: Tensor) -> Tensor:
        """The margin that the rows' scores (N, [T,] R) make."""
        dominant, others = rows[..., 0], rows[..., 1:]
        if self.idle:
            others = torch.cat([others, others.new_zeros(*others.shape[:-1], self.idle)], dim=-1)
        if others.shape[-1] == 0:
            return dominant
        return dominant - (others[..., 0] if others.shape[-1] == 1 else torch.logsumexp(others, dim=-1))


class JoinedHeads(nn.Module):
    """Several heads over the same features: one product, in which rows that heads have in common are computed once.

    Args:
        heads: K of them, over the same features.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        weight, bias, inverse = distinct_rows(heads)
        self.heads = tuple(heads)  # not submodules: whose heads they are keeps them
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        for number, places in enumerate(inverse):
            self.register_buffer(f"rows{number}", places, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """Margins: (N, [T,] F) -> (N, [T,] K)."""
        rows = nn.functional.linear(features, self.weight, self.bias)
        own = (rows[..., self.get_buffer(f"rows{number}")] for number in range(len(self.heads)))
        return torch.stack([head.decided(scores) for head, scores in zip(self.heads, own, strict=True)], dim=-1)


def distinct_rows(heads: Sequence[Head]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """All rows of several heads, each once.

    Returns:
        weight (R, F), bias (R,), and per head which of these rows are its own, in its order.
    """
    both = torch.cat([torch.cat([head.weight, head.bias.unsqueeze(1)], 1) for head in heads])
    rows, inverse = torch.unique(both, dim=0, return_inverse=True)
    return rows[:, :-1].contiguous(), rows[:, -1].contiguous(), list(inverse.split([len(h.bias) for h in heads]))
