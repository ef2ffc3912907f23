"""A vote between modules of several parents, weighed by more than how sure each of them is.

Two numbers a module make scales comparable, but cannot say whose kind of input an example is: a tagger claims nouns
in anybody's sentences. A referee also takes into account what the modules see (their features, the inputs of their
output rows) and what their parents read (words, and how many are unknown): one linear layer over all that, added to
the log probabilities of the calibrated modules and fitted by ridge logistic regression on a small labelled sample. The
modules stay as they are. How far it may go from the calibrated vote, cross-validation on the sample says; where
nothing is gained, that is not at all.
Shapes: N examples, K modules, F numbers in all blocks together, R = min(N, F + 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.modules.calibration import folds
from unbraid.networks.heads import one_against_rest

WIDTHS = (0.0, 0.3, 1.0, 3.0, 10.0)  # prior deviations that are tried; a block of numbers has variance 1
STEPS = 500  # of the search, at most
PRECISION = 1e-6  # of the log posterior, about what one more step would change


class Referee(nn.Module):
    """The layer.

    Args:
        weight: (F, K).
        bias: (K,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float(), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, margins: Tensor, blocks: Sequence[Tensor]) -> Tensor:
        """Margins (N, K) whose shares are the referee's probabilities, from calibrated ones and the blocks (N, F)."""
        votes = nn.functional.logsigmoid(margins)
        return one_against_rest(votes + torch.cat(list(blocks), dim=-1) @ self.weight + self.bias)


def fit(margins: np.ndarray, blocks: Sequence[np.ndarray], truth: np.ndarray) -> Referee:
    """The referee of a labelled sample; the same input gives the same one.

    Args:
        margins: (N, K), calibrated.
        blocks: numbers about the examples (N, F_b); every block counts as much, however many its numbers.
        truth: (N,) the right module of each example, in [0, K).
    """
    votes = -np.logaddexp(0, -margins.astype(np.float64))
    right = np.eye(margins.shape[1])[truth]
    columns = np.concatenate(blocks, axis=1, dtype=np.float64)
    centre, scale = columns.mean(0), np.concatenate([_scale(block) for block in blocks])
    whitened = np.concatenate([(columns - centre) * scale, np.ones((len(truth), 1))], axis=1)
    u, size, directions = np.linalg.svd(whitened, full_matrices=False)
    seen = u * size
    parts = folds(truth)
    lost = [sum(_lost_outside(votes, seen, size, right, part, width) for part in parts) for width in WIDTHS]
    width = WIDTHS[int(np.argmin(lost))]
    found = directions.T @ (width * _search(votes, width * seen, width * size, right))
    weight = found[:-1] * scale[:, None]
    return Referee(torch.from_numpy(weight), torch.from_numpy(found[-1] - centre @ weight))


def _scale(block: np.ndarray) -> np.ndarray:
    """What gives a block's numbers (N, F_b) a variance of 1 together, (F_b,); 0 for constants."""
    spread = float(np.sqrt(block.astype(np.float64).var(0).sum()))
    return np.full(block.shape[1], 1 / spread if spread > 1e-6 else 0.0)


def _lost_outside(
    votes: np.ndarray, seen: np.ndarray, size: np.ndarray, right: np.ndarray, left_out: np.ndarray, width: float
) -> float:
    """Minus the log likelihood of examples that the search did not see."""
    kept = ~left_out
    found = _search(votes[kept], width * seen[kept], width * size, right[kept])
    return -float((_log_shares(votes[left_out] + width * seen[left_out] @ found) * right[left_out]).sum())


def _search(votes: np.ndarray, seen: np.ndarray, size: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The weights (R, K) of the largest posterior with standard normal priors.

    Accelerated gradient steps (Nesterov 1983), started anew where they turn back (O'Donoghue and Candes 2015); each as
    long as the bound on the likelihood's curvature allows (Boehning 1992): in the singular directions, one number each.
    """
    curvature = size[:, None] ** 2 / 2 + 1
    weight = ahead = np.zeros((seen.shape[1], votes.shape[1]))
    age = 0
    for _ in range(STEPS):
        gradient = seen.T @ (np.exp(_log_shares(votes + seen @ ahead)) - right) + ahead
        moved = ahead - gradient / curvature
        step, age = moved - weight, age + 1
        if float((gradient * step).sum()) > 0:
            age = 1
        weight, ahead = moved, moved + (age - 1) / (age + 2) * step
        if float((curvature * step**2).sum()) < PRECISION:
            break
    return weight


def _log_shares(scores: np.ndarray) -> np.ndarray:
    shares: np.ndarray = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    return shares
