"""A module's own output layer (channeling's result) and what it says.

Every head is a few rows over the features, the dominant one first; the module's score is its *margin*,
z_D - logsumexp(the other rows), and P(dominant) = sigmoid(margin). The rows of a language's module are words, and the
dominant one is at each step the word that it would say. Shapes: F features, R rows.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Head(nn.Module):
    """The rows of one module.

    Args:
        weight: (R, F), the dominant row first; one row alone is a column of sigmoid outputs.
        bias: (R,).
        idle: output columns that are always zero and share in the softmax (the release keeps C-2 of them).
        words: of a language's module, which of the parent's columns the rows are, ascending (R,).
    """

    words: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, idle: int = 0, words: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.idle = idle
        self.register_buffer("words", words, persistent=False)

    def sliced(self, inputs: Tensor | None) -> Head:
        """The head over only the features ``inputs`` (None: all of them)."""
        return Head(self.weight if inputs is None else self.weight[:, inputs], self.bias, self.idle, self.words)

    def forward(self, features: Tensor) -> Tensor:
        """The rows' scores: (N, [T,] F) -> (N, [T,] R)."""
        return nn.functional.linear(features, self.weight, self.bias)

    def margin(self, features: Tensor) -> Tensor:
        """z_D - logsumexp(others): (N,), or (N, T) for many outputs."""
        rows = self(features)
        if self.words is not None:
            best, at = rows.max(dim=-1, keepdim=True)
            return best.squeeze(-1) - torch.logsumexp(rows.scatter(-1, at, -torch.inf), dim=-1)
        dominant, others = rows[..., 0], rows[..., 1:]
        if self.idle:
            others = torch.cat([others, others.new_zeros(*others.shape[:-1], self.idle)], dim=-1)
        if others.shape[-1] == 0:
            return dominant
        return dominant - (others[..., 0] if others.shape[-1] == 1 else torch.logsumexp(others, dim=-1))
