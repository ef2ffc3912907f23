"""A vote between modules of several parents, weighed by more than how sure each of them is.

Two numbers a module make scales comparable, but cannot say whose kind of input an example is: a tagger claims nouns
in anybody's sentences. A referee also takes into account what the modules see (their features, the inputs of their
output rows) and what their parents read (words, and how many are unknown): one linear layer over all that, added to
the log probabilities of the calibrated modules and fitted by ridge logistic regression on a small labelled sample. The
modules stay as they are. How far it may go from the calibrated vote, cross-validation on the sample says; where
nothing is gained, that is not at all.
Shapes: N examples, K modules, F numbers in all blocks together, R = min(N, F + 1, MOST).
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, IncompatibleModules
from unbraid.modules.groups import Evidence
from unbraid.modules.voting import calibration
from unbraid.modules.voting.calibration import Scale, check_scale, folds, labelled
from unbraid.modules.voting.lbfgs import minimum
from unbraid.networks.heads import one_against_rest
from unbraid.progress import Progress, silent

WIDTHS = (0.0, 1.0, 10.0, 100.0)  # prior deviations that are tried; a block of numbers has variance 1
MOST = 300  # directions in which examples differ: with more it takes minutes and decides no better
PRECISION = 1e-7  # of the log posterior
ROUGHLY = 1e-6  # the same where widths are compared


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
        columns = torch.cat([block.to(votes.dtype) for block in blocks], dim=-1)
        return one_against_rest(votes + columns @ self.weight.to(votes.dtype) + self.bias.to(votes.dtype))

    def check(self, numbers: int, modules: int) -> None:
        """Raises ConfigError unless it was fitted on so many numbers about each example and so many modules."""
        found, expected = tuple(self.weight.shape), (numbers, modules)
        if found != expected:
            raise ConfigError(
                f"the referee weighs {found[0]} numbers for {found[1]} modules, expected {expected[0]} for "
                f"{expected[1]}: it was fitted on others, or before a vocabulary was set; call with_referee() again."
            )


def check_task(labels: Sequence[Label], independent: bool, many: bool) -> None:
    """Raises IncompatibleModules unless there is one decision per example between several modules."""
    if len(labels) < 2:
        raise IncompatibleModules(f"a referee decides between modules, and there is only {labels[0]!r}.")
    if independent:
        raise IncompatibleModules("a referee decides for one of the labels; here several may hold at once.")
    if many:
        raise IncompatibleModules(
            "a referee decides once per example; these modules give one per timestep: use with_calibration()."
        )


def fit_labelled(
    evidence: Evidence, y: Any, labels: Sequence[Label], parents: Sequence[Hashable], progress: Progress = silent
) -> tuple[dict[Label, Scale], Referee]:
    """The calibration of a labelled sample, and its referee.

    Args:
        evidence: of N examples, margins not calibrated.
        y: labels or their positions, (N,); -1 or "" = none.
        labels: of the K modules.
        parents: which parent each of the K modules is from.
        progress: see :mod:`unbraid.progress`.

    Raises:
        DataError: as :func:`unbraid.modules.voting.calibration.fit_labelled`.
    """
    used, truth = labelled(evidence.margins, y, labels, many=False)
    scales = calibration.fit_labelled(evidence.margins, y, labels, False, parents, progress)
    temperature, offset = torch.tensor([check_scale(label, scale) for label, scale in scales.items()]).T
    margins = (torch.from_numpy(evidence.margins) / temperature + offset).numpy()
    blocks = [block[used] for block in (*evidence.features, *evidence.read)]
    return scales, fit(margins[used], blocks, truth[used], progress)


def fit(margins: np.ndarray, blocks: Sequence[np.ndarray], truth: np.ndarray, progress: Progress = silent) -> Referee:
    """The referee of a labelled sample; the same input gives the same one.

    Args:
        margins: (N, K), calibrated.
        blocks: numbers about the examples (N, F_b); every block counts as much, however many its numbers.
        truth: (N,) the right module of each example, in [0, K).
        progress: see :mod:`unbraid.progress`.
    """
    votes = -np.logaddexp(0, -margins.astype(np.float64))
    right = np.eye(margins.shape[1])[truth]
    columns = np.concatenate(blocks, axis=1, dtype=np.float64)
    centre, scale = columns.mean(0), np.concatenate([_scale(block) for block in blocks])
    whitened = np.concatenate([(columns - centre) * scale, np.ones((len(truth), 1))], axis=1)
    u, size, directions = _directions(whitened)
    seen = u * size
    parts, width, least = folds(truth), 0.0, np.inf
    with progress("fitting a referee", len(WIDTHS) * len(parts)) as advance:
        for tried in WIDTHS:
            lost = 0.0
            for part in parts:
                lost += _lost_outside(votes, seen, size, right, part, tried)
                advance(1)
            if lost >= least:
                break  # wider ones overfit all the more, and take the longest
            width, least = tried, lost
    found = directions.T @ (width * _search(votes, width * seen, width * size, right, PRECISION))
    weight = found[:-1] * scale[:, None]
    return Referee(torch.from_numpy(weight), torch.from_numpy(found[-1] - centre @ weight))


def _directions(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The singular value decomposition of (N, F + 1), (N, R), (R,) and (R, F + 1); of many rows its largest part."""
    if len(columns) <= MOST:
        u, size, directions = np.linalg.svd(columns, full_matrices=False)
        return u, size, directions
    squares, u = np.linalg.eigh(columns @ columns.T)
    told_apart = np.flatnonzero(squares > 1e-12 * squares[-1])[-MOST:]
    u, size = u[:, told_apart], np.sqrt(squares[told_apart])
    return u, size, (u / size).T @ columns


def _scale(block: np.ndarray) -> np.ndarray:
    """What gives a block's numbers (N, F_b) a variance of 1 together, (F_b,); 0 for constants."""
    spread = float(np.sqrt(block.astype(np.float64).var(0).sum()))
    return np.full(block.shape[1], 1 / spread if spread > 1e-6 else 0.0)


def _lost_outside(
    votes: np.ndarray, seen: np.ndarray, size: np.ndarray, right: np.ndarray, left_out: np.ndarray, width: float
) -> float:
    """Minus the log likelihood of examples that the search did not see."""
    kept = ~left_out
    found = _search(votes[kept], width * seen[kept], width * size, right[kept], ROUGHLY)
    return -float((_log_shares(votes[left_out] + width * seen[left_out] @ found) * right[left_out]).sum())


def _search(votes: np.ndarray, seen: np.ndarray, size: np.ndarray, right: np.ndarray, precision: float) -> np.ndarray:
    """The weights (R, K) of the largest posterior with standard normal priors.

    Searched in coordinates in which a bound on the curvature (Boehning 1992) is the same for all.
    """
    scale = 1 / np.sqrt(size[:, None] ** 2 / 2 + 1)
    shape = (seen.shape[1], votes.shape[1])

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weight = scale * numbers.reshape(shape)
        shares = _log_shares(votes + seen @ weight)
        gradient = scale * (seen.T @ (np.exp(shares) - right) + weight)
        return float((weight**2).sum() / 2 - (shares * right).sum()), gradient.ravel()

    return scale * minimum(loss, np.zeros(shape[0] * shape[1]), precision)[1].reshape(shape)


def _log_shares(scores: np.ndarray) -> np.ndarray:
    shares: np.ndarray = torch.log_softmax(torch.from_numpy(scores), 1).numpy()
    return shares
