"""Referee: a linear layer that decides between modules of several parents.

Calibration makes the scales of margins comparable. It cannot detect which parent an example belongs to: a tagger claims
nouns in every text. A referee also uses the output features of the modules and the inputs of their parents (words, and
the number of unknown words). It is one linear layer over these numbers, added to the log probabilities of the
calibrated modules. It is fitted by logistic regression with a ridge penalty on a small labelled sample. The modules are
not changed. The strength of the penalty is chosen by cross-validation on the sample. If the layer does not improve the
likelihood, its weights are zero.

Where the vote uses domain evidence, the layer only decides between parents: the modules of one parent have equal
weights, so that its classes keep their order. A parent was trained on far more examples of them than the sample has.
The layer is also shrunk or left out, see :mod:`unbraid.modules.voting.acceptance`.
Shapes: N examples, K modules, P parents, F columns of all blocks together, R = min(N, F + 1, MOST), O outputs: K, or P
beside domain evidence.
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
from unbraid.modules.voting.acceptance import best_accepted, shrinkage
from unbraid.modules.voting.calibration import Scale, check_scale, folds, labelled
from unbraid.modules.voting.lbfgs import minimum
from unbraid.networks.heads import one_against_rest
from unbraid.progress import Progress, silent

WIDTHS = (0.0, 1.0, 10.0, 100.0)  # candidates for the prior deviation of the weights; each block has variance 1
NARROW = (0.3, 1.0, 10.0)  # the same beside domain evidence
FULL_ERRORS = 4.0  # see acceptance.best_accepted; a layer has more numbers than a calibration
MOST = 300  # largest number of singular directions; more take minutes and give no better decisions
PRECISION = 1e-7  # relative precision of the log posterior
ROUGHLY = 1e-6  # the same during cross-validation


class Referee(nn.Module):
    """The linear layer of a referee.

    Args:
        weight: floats (F, K).
        bias: floats (K,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight.float(), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)

    def forward(self, margins: Tensor, blocks: Sequence[Tensor]) -> Tensor:
        """Compute the margins of the referee.

        Args:
            margins: calibrated margins (N, K).
            blocks: evidence about the examples, each (N, F_b), F columns together.

        Returns:
            margins (N, K); their vote gives the probabilities of the referee.
        """
        votes = nn.functional.logsigmoid(margins)
        columns = torch.cat([block.to(votes.dtype) for block in blocks], dim=-1)
        return one_against_rest(votes + columns @ self.weight.to(votes.dtype) + self.bias.to(votes.dtype))

    def check(self, numbers: int, modules: int) -> None:
        """Raise ConfigError unless the layer has ``numbers`` inputs and ``modules`` outputs."""
        found, expected = tuple(self.weight.shape), (numbers, modules)
        if found != expected:
            raise ConfigError(
                f"the referee has {found[0]} inputs and {found[1]} modules, expected {expected[0]} and {expected[1]}: "
                "it was fitted on other modules, or before a vocabulary was set. Call with_referee() again."
            )


def check_task(labels: Sequence[Label], independent: bool, many: bool) -> None:
    """Raise IncompatibleModules unless there are several modules and one decision for each example."""
    if len(labels) < 2:
        raise IncompatibleModules(
            f"a referee needs at least two modules, and there is only {labels[0]!r}: add a module first."
        )
    if independent:
        raise IncompatibleModules(
            "a referee chooses one label for each example, and these labels are independent: use the modules without "
            "a referee."
        )
    if many:
        raise IncompatibleModules(
            "a referee decides once for each example, and these modules decide at each timestep: use "
            "with_calibration()."
        )


def fit_labelled(
    evidence: Evidence,
    y: Any,
    labels: Sequence[Label],
    parents: Sequence[Hashable],
    progress: Progress = silent,
    domain: np.ndarray | None = None,
) -> tuple[dict[Label, Scale], Referee]:
    """Fit a calibration and a referee on a labelled sample.

    Args:
        evidence: evidence about N examples, with margins before calibration.
        y: names or indices of labels, (N,); -1 or "" means no label.
        labels: labels of the K modules.
        parents: identifier of the parent of each of the K modules.
        progress: see :mod:`unbraid.progress`.
        domain: log densities of the inputs under the parent of each module, floats (N, K); None without evidence.

    Returns:
        label -> temperature and offset, and the referee.

    Raises:
        DataError: as for :func:`unbraid.modules.voting.calibration.fit_labelled`.
    """
    used, truth = labelled(evidence.margins, y, labels, many=False)
    scales = calibration.fit_labelled(evidence.margins, y, labels, False, parents, progress, domain)
    temperature, offset = torch.tensor([check_scale(label, scale) for label, scale in scales.items()]).T
    margins = (torch.from_numpy(evidence.margins) / temperature + offset).numpy()
    blocks = [block[used] for block in (*evidence.features, *evidence.read)]
    return scales, fit(margins[used], blocks, truth[used], parents, progress, None if domain is None else domain[used])


def fit(
    margins: np.ndarray,
    blocks: Sequence[np.ndarray],
    truth: np.ndarray,
    parents: Sequence[Hashable],
    progress: Progress = silent,
    domain: np.ndarray | None = None,
) -> Referee:
    """Fit a referee on a labelled sample. The result is deterministic.

    Args:
        margins: calibrated margins, floats (N, K).
        blocks: evidence about the examples, each (N, F_b). Each block is scaled to variance 1, for any width.
        truth: index of the right module of each example, (N,), in [0, K).
        parents: identifier of the parent of each of the K modules.
        progress: see :mod:`unbraid.progress`.
        domain: log densities of the inputs under the parent of each module, floats (N, K), which are added to the
            votes; None without domain evidence.
    """
    votes = -np.logaddexp(0, -margins.astype(np.float64))
    votes = votes if domain is None else votes + domain
    right = np.eye(margins.shape[1])[truth]
    columns = np.concatenate(blocks, axis=1, dtype=np.float64)
    centre, scale = columns.mean(0), np.concatenate([_scale(block) for block in blocks])
    whitened = np.concatenate([(columns - centre) * scale, np.ones((len(truth), 1))], axis=1)
    u, size, directions = _directions(whitened)
    seen = u * size
    if domain is None:
        reach = np.eye(len(parents))
        width, share = _best_width(votes, seen, size, right, reach, folds(truth), progress), 1.0
    else:
        reach = np.asarray([[own == parent for own in parents] for parent in dict.fromkeys(parents)], np.float64)
        width, share = _accepted(votes, seen, size, right, reach, folds(truth), progress)
    found = share * directions.T @ (width * _search(votes, width * seen, width * size, right, reach, PRECISION))
    weight = found[:-1] * scale[:, None]
    return Referee(torch.from_numpy(weight), torch.from_numpy(found[-1] - centre @ weight))


def _best_width(
    votes: np.ndarray,
    seen: np.ndarray,
    size: np.ndarray,
    right: np.ndarray,
    reach: np.ndarray,
    parts: Sequence[np.ndarray],
    progress: Progress,
) -> float:
    """Choose the prior deviation with the largest likelihood in cross-validation."""
    best, lowest = 0.0, np.inf
    with progress("fitting a referee", len(WIDTHS) * len(parts)) as advance:
        for width in WIDTHS:
            lost = 0.0
            for part in parts:
                added = _added_outside(votes, seen, size, right, reach, part, width)
                lost -= float((_log_shares(votes[part] + added) * right[part]).sum())
                advance(1)
            if lost >= lowest:
                break  # wider priors overfit more and take longest
            best, lowest = width, lost
    return best


def _accepted(
    votes: np.ndarray,
    seen: np.ndarray,
    size: np.ndarray,
    right: np.ndarray,
    reach: np.ndarray,
    parts: Sequence[np.ndarray],
    progress: Progress,
) -> tuple[float, float]:
    """Choose the prior deviation and the weight of the layer beside domain evidence; (0, 1) without the layer."""
    tried: list[tuple[float, float]] = []
    shares: list[np.ndarray] = []
    with progress("fitting a referee", len(NARROW) * len(parts)) as advance:
        for width in NARROW if parts else ():
            added = np.zeros_like(votes)
            for part in parts:
                added[part] = _added_outside(votes, seen, size, right, reach, part, width)
                advance(1)
            for share in (shrinkage(*votes.shape), 1.0):
                tried.append((width, share))
                shares.append(_log_shares(votes + share * added))
    best = best_accepted([share for _, share in tried], shares, _log_shares(votes), right.argmax(1), FULL_ERRORS)
    return (0.0, 1.0) if best is None else tried[best]


def _directions(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute the singular value decomposition of columns (N, F + 1): (N, R), (R,) and (R, F + 1).

    With many rows, only the largest MOST singular values are used.
    """
    if len(columns) <= MOST:
        u, size, directions = np.linalg.svd(columns, full_matrices=False)
        return u, size, directions
    squares, u = np.linalg.eigh(columns @ columns.T)
    told_apart = np.flatnonzero(squares > 1e-12 * squares[-1])[-MOST:]
    u, size = u[:, told_apart], np.sqrt(squares[told_apart])
    return u, size, (u / size).T @ columns


def _scale(block: np.ndarray) -> np.ndarray:
    """Return factors (F_b,) that scale a block (N, F_b) to a total variance of 1; 0 for a constant block."""
    spread = float(np.sqrt(block.astype(np.float64).var(0).sum()))
    return np.full(block.shape[1], 1 / spread if spread > 1e-6 else 0.0)


def _added_outside(
    votes: np.ndarray,
    seen: np.ndarray,
    size: np.ndarray,
    right: np.ndarray,
    reach: np.ndarray,
    left_out: np.ndarray,
    width: float,
) -> np.ndarray:
    """Fit without the examples of a fold; return what the layer adds to their votes."""
    kept = ~left_out
    found = _search(votes[kept], width * seen[kept], width * size, right[kept], reach, ROUGHLY)
    return np.asarray(width * seen[left_out] @ found)


def _search(
    votes: np.ndarray, seen: np.ndarray, size: np.ndarray, right: np.ndarray, reach: np.ndarray, precision: float
) -> np.ndarray:
    """Maximise the posterior with standard normal priors; return the weights (R, K).

    The coordinates are scaled so that a bound on the curvature (Boehning 1992) is the same for all of them.
    ``reach`` (O, K) is 1 where an output of the layer is added to the vote of a module.
    """
    scale = 1 / np.sqrt(size[:, None] ** 2 / 2 + 1)
    shape = (seen.shape[1], len(reach))

    def loss(numbers: np.ndarray) -> tuple[float, np.ndarray]:
        weight = scale * numbers.reshape(shape)
        shares = _log_shares(votes + seen @ weight @ reach)
        gradient = scale * (seen.T @ ((np.exp(shares) - right) @ reach.T) + weight)
        return float((weight**2).sum() / 2 - (shares * right).sum()), gradient.ravel()

    return scale * minimum(loss, np.zeros(shape[0] * shape[1]), precision)[1].reshape(shape) @ reach


def _log_shares(scores: np.ndarray) -> np.ndarray:
    shares: np.ndarray = torch.log_softmax(torch.from_numpy(scores), 1).numpy()
    return shares
