"""The output layer of a module (its head), made by channeling, and its margin.

A head has R rows over the features, the dominant row first. The score of a module is its *margin*, z_D -
logsumexp(other rows), and P(dominant) = sigmoid(margin). The rows of a language module are words. Its dominant row at
each timestep is the word with the largest logit. Shapes: N examples, T timesteps, F features, R rows, K modules.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from unbraid.networks.precision import full
from unbraid.networks.snapshot import own_copy, unchanged


class Head(nn.Module):
    """The output layer of one module.

    Args:
        weight: floats (R, F), the dominant row first; a single row is a sigmoid output.
        bias: floats (R,).
        idle: number of output columns that are always 0 and part of the softmax (C-2 in the code of the paper).
            Default 0.
        words: for a language module, its output columns in the parent network, ascending, (R,). None by default.
    """

    words: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor, idle: int = 0, words: Tensor | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        self.bias = nn.Parameter(bias.detach().clone(), requires_grad=False)
        self.idle = idle
        self.register_buffer("words", words, persistent=False)

    def sliced(self, inputs: Tensor | None) -> Head:
        """Keep only the features ``inputs`` (None: all features)."""
        return Head(self.weight if inputs is None else self.weight[:, inputs], self.bias, self.idle, self.words)

    def forward(self, features: Tensor) -> Tensor:
        """Compute the logits of the rows: (N, [T,] F) -> (N, [T,] R)."""
        return full(nn.functional.linear(features, self.weight, self.bias))

    def margin(self, features: Tensor) -> Tensor:
        """Compute the margin z_D - logsumexp(others): (N,), or (N, T) for many outputs."""
        rows = self(features)
        if self.words is None:
            return margin(rows, self.idle)
        best, at = rows.max(dim=-1, keepdim=True)
        return best.squeeze(-1) - torch.logsumexp(rows.scatter(-1, at, -torch.inf), dim=-1)


FEW = 100_000  # scores times rows of a head, below which fewer calls are faster than less arithmetic


class JoinedHeads(nn.Module):
    """Several heads over the same features, computed with one product. Rows that heads share are computed once.

    Args:
        heads: K heads over the same features.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        weight, bias, rows = distinct_rows(heads)
        self.sizes, self.idle = [len(own) for own in rows], [head.idle for head in heads]
        self._made_of = [(own_copy(head.weight, lazily=True), own_copy(head.bias, lazily=True)) for head in heads]
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("rows", torch.cat(rows), persistent=False)

    def holds(self, heads: Sequence[Head]) -> bool:
        """Return whether the weights of the heads are unchanged."""
        pairs = zip(heads, self._made_of, strict=True)
        now = ((head._parameters, weight, bias) for head, (weight, bias) in pairs)  # each prediction needs them
        return all(unchanged(own["weight"], weight) and unchanged(own["bias"], bias) for own, weight, bias in now)  # type: ignore[arg-type]  # heads have both

    def forward(self, features: Tensor) -> Tensor:
        """Compute the margins: (N, [T,] F) -> (N, [T,] K)."""
        scores = full(nn.functional.linear(features, self.weight, self.bias))
        rows = self.get_buffer("rows")
        alike = len(set(self.sizes)) == 1 and not any(self.idle)
        if alike and self.sizes[0] == len(self.bias) > 1 and scores.numel() * self.sizes[0] > FEW:
            return one_against_rest(scores)[..., rows[:: self.sizes[0]]]
        if alike:
            return margin(scores[..., rows.view(-1, self.sizes[0])])
        own = zip(rows.split(self.sizes), self.idle, strict=True)
        return torch.stack([margin(scores[..., some], idle) for some, idle in own], dim=-1)


def margin(rows: Tensor, idle: int = 0) -> Tensor:
    """Compute z_D - logsumexp(others) from the logits (..., R) of one head and its idle columns: (...)."""
    dominant, others = rows[..., 0], rows[..., 1:]
    if idle:
        others = torch.cat([others, others.new_zeros(*others.shape[:-1], idle)], dim=-1)
    if others.shape[-1] == 0:
        return dominant
    return dominant - (others[..., 0] if others.shape[-1] == 1 else torch.logsumexp(others, dim=-1))


def one_against_rest(scores: Tensor) -> Tensor:
    """Compute the margin of each score against all other scores, (..., R) with R > 1.

    The sum of all scores minus one score is stable except for the largest score, whose sum is computed separately.
    """
    top, at = scores.max(dim=-1, keepdim=True)
    shares = (scores - top).exp()
    rest = top + (shares.sum(dim=-1, keepdim=True) - shares).clamp(min=1e-30).log()
    behind = torch.logsumexp(scores.scatter(-1, at, -torch.inf), dim=-1, keepdim=True)
    return scores - rest.scatter(-1, at, behind)


def distinct_rows(heads: Sequence[Head]) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Collect the distinct rows of several heads.

    Returns:
        weight (R, F), bias (R,), and for each head the indices of its rows, in its order.
    """
    both = torch.cat([torch.cat([head.weight, head.bias.unsqueeze(1)], 1) for head in heads])
    rows, inverse = torch.unique(both, dim=0, return_inverse=True)
    return rows[:, :-1].contiguous(), rows[:, -1].contiguous(), list(inverse.split([len(h.bias) for h in heads]))
