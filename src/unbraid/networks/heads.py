"""A module's own output layer (channeling's result) and what it says.

Every head is a few rows over the features, the dominant one first; the module's score is its *margin*,
z_D - logsumexp(the other rows), and P(dominant) = sigmoid(margin). Shapes: F features, R rows, K modules.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The rows of one module, or of K modules with equally many rows.

    Args:
        weight: (R, F) or (K, R, F), the dominant row first.
        bias: (R,) or (K, R).
        idle: output columns that are always zero and share in the softmax (the release keeps C-2 of them).
    """

    def __init__(self, weight: Tensor, bias: Tensor, idle: int = 0) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.bias = nn.Parameter(bias, requires_grad=False)
        self.idle = idle

    @classmethod
    def stacked(cls, heads: list[Head]) -> Head:
        """K heads with the same number of rows as one."""
        return cls(torch.stack([h.weight for h in heads]), torch.stack([h.bias for h in heads]), heads[0].idle)

    def sliced(self, inputs: Tensor | None) -> Head:
        """The head over only the features ``inputs``; all of them for None."""
        weight = self.weight if inputs is None else self.weight[:, inputs]
        return Head(weight.detach().clone(), self.bias.detach().clone(), self.idle)

    def forward(self, features: Tensor) -> Tensor:
        """Rows' scores: features (N, [T,] F) -> (N, [T,] R); with K modules (K, N, [T,] F) -> (K, N, [T,] R)."""
        if self.weight.dim() == 2:
            return nn.functional.linear(features, self.weight, self.bias)
        rows = torch.matmul(features.flatten(1, -2), self.weight.transpose(1, 2)) + self.bias.unsqueeze(1)
        return rows.unflatten(1, features.shape[1:-1])

    def margin(self, features: Tensor) -> Tensor:
        """z_D - logsumexp(others): (N,) or (N, T); with K modules (K, N) or (K, N, T)."""
        rows = self(features)
        dominant, others = rows[..., 0], rows[..., 1:]
        if self.idle:
            zeros = others.new_zeros(1).expand(*others.shape[:-1], self.idle)
            others = torch.cat([others, zeros], dim=-1)
        if others.shape[-1] == 0:
            return dominant
        return dominant - (others[..., 0] if others.shape[-1] == 1 else torch.logsumexp(others, dim=-1))
