"""The scores of all classes in the parent, and the margin of each class, without one pass for each class.

Shapes: M decisions, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unbraid.networks.heads import Head

BLOCK = 4_000_000  # largest number of scores in memory at once


@dataclass(frozen=True)
class ParentScores:
    """Sums over the scores of the C classes of each decision. The margin of each class follows from them.

    Attributes:
        top: the largest score, (M,).
        at: its class, (M,).
        total: sum of exp(score - top) over all classes, (M,).
        behind: logsumexp of the scores of all classes but the first, (M,).
    """

    top: Tensor
    at: Tensor
    total: Tensor
    behind: Tensor

    def margins(self, index: int, scores: Tensor) -> Tensor:
        """Compute the margins of class ``index`` from its scores, (M,).

        The sum without one class is stable except for the class with the largest score, see
        :func:`unbraid.networks.heads.one_against_rest`.
        """
        rest = self.top + (self.total - (scores - self.top).exp()).clamp(min=1e-30).log()
        return scores - torch.where(self.at == index, self.behind, rest)


def read_scores(head: Head, features: Sequence[Tensor]) -> ParentScores:
    """Compute the sums for decisions with some features.

    Args:
        head: output layer with one row for each of several classes.
        features: features of the parent, each (m, F), M decisions together.
    """
    decisions = sum(len(some) for some in features)
    top, total, behind = (head.bias.new_empty(decisions) for _ in range(3))
    at = torch.empty_like(top, dtype=torch.int64)
    start = 0
    for some in features:
        for own, part in blocks(some, len(head.bias), start):
            top[own], at[own], total[own], behind[own] = _sums(head(part))
        start += len(some)
    return ParentScores(top, at, total, behind)


def blocks(values: Tensor, rows: int, start: int = 0) -> Iterator[tuple[slice, Tensor]]:
    """Split values (M, F) into parts whose scores of ``rows`` rows fit into memory, and yield their places from start.

    Write the results into one tensor: small tensors that stay would keep the memory of the scores from being released.
    """
    for part in values.split(max(1, BLOCK // rows)):
        yield slice(start, start := start + len(part)), part


def _sums(scores: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    top, at = scores.max(dim=-1, keepdim=True)
    total = (scores - top).exp().sum(-1)
    behind = torch.logsumexp(scores.scatter(-1, at, -torch.inf), dim=-1)
    return top[:, 0], at[:, 0], total, behind
