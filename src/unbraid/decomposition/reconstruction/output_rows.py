"""Fit rows of an output layer to the probabilities of the parent, without labels.

The fit is a logistic regression on the features of the module, by Newton's method. Its loss is convex.
Shapes: M decisions, F features, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from unbraid.config import HeadKind
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.reconstruction.moments import with_one
from unbraid.decomposition.reconstruction.parent_decisions import ParentDecisions
from unbraid.decomposition.reconstruction.parent_scores import blocks
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head

LOGISTIC_RIDGE = 1e-4  # penalty on the change of the row, as a share of the mean diagonal
NEWTON_STEPS = 8
CONVERGED = 1e-5  # length of a step, as a share of the row, after which another one changes nothing in float32
LONGEST_STEP = 3.0  # largest Newton step, because the curvature is not reliable far from the solution

Margin = tuple[Sequence[int], int, Tensor]  # rows of a module, dominant row first; the row to fit; P(dominant), (M,)


def decided(features: Tensor, start: Tensor, margins: Sequence[Margin]) -> Tensor:
    """Fit rows, one after another, so that their margins give the target probabilities.

    Args:
        features: features of the module, (M, F).
        start: initial rows over [features, 1], (R, F + 1).
        margins: the rows, the row to fit and the target probabilities of each module.

    Returns:
        the fitted rows, (R, F + 1), in the dtype of ``start``.
    """
    seen, rows = with_one(features), start.clone()
    z = seen.double()
    for own, place, wanted in margins:
        others = rows[[r for at, r in enumerate(own) if at != place]]
        row, chance = rows[own[place]].double(), wanted.double()
        if place == 0:
            offset = -_together(seen, others) if len(others) else z.new_zeros(len(z))
            rows[own[0]] = logistic(z, offset.double(), chance, row)
        else:  # the second of two rows: the margin is the first row minus the second row
            rows[own[place]] = -logistic(z, linear(z, others.double())[:, 0], chance, -row)
    return rows


def _together(seen: Tensor, rows: Tensor) -> Tensor:
    """Compute the logsumexp of the scores of rows (R, F + 1) for each of M decisions, (M,)."""
    found = seen.new_empty(len(seen))
    for own, part in blocks(seen, len(rows)):
        found[own] = torch.logsumexp(linear(part, rows), 1)
    return found


def logistic(z: Tensor, offset: Tensor, wanted: Tensor, start: Tensor) -> Tensor:
    """Fit w near ``start`` to minimise the cross entropy of sigmoid(offset + z w) to ``wanted``.

    Args:
        z: (M, Z) float64.
        offset: (M,).
        wanted: probabilities, (M,) in [0, 1].
        start: (Z,).
    """
    pull = LOGISTIC_RIDGE * z.square().mean()
    row = start
    for _ in range(NEWTON_STEPS):
        said = torch.sigmoid(offset + z @ row)
        slope = z.t() @ (said - wanted) / len(z) + pull * (row - start)
        curve = (z * (said * (1 - said) / len(z)).unsqueeze(1)).t() @ z
        step = torch.linalg.solve(curve + pull * torch.eye(len(row), dtype=z.dtype, device=z.device), slope)
        length = float(step.norm())
        row = row - step * min(1.0, LONGEST_STEP / max(length, 1e-12))
        if length < CONVERGED * float(row.norm()):
            break  # the next step would be about the square of this one
    return row


def fitted_head(module: ConcernModule, decisions: ParentDecisions) -> Head:
    """Fit the second row of a two-row output layer, so that P(dominant) matches the probability of the parent.

    Args:
        module: a module whose output layer has two rows, the dominant one and its competitor.
        decisions: examples and features of the parent.
    """
    network, head = module.parent, module.head
    seen = [module.body(batch)[used] for batch, used, _ in decisions.batches(network.device)]
    whole = channel(network, module.index, module.config.changed(head=HeadKind.SOFTMAX))
    chance = torch.sigmoid(decisions.margins(whole, module.index))
    start = torch.cat([head.weight, head.bias.unsqueeze(1)], 1).detach()
    new = decided(torch.cat(seen), start, [(range(2), 1, chance)])
    places = slice(None) if module.features is None else module.features
    weight = module.whole_head.weight.detach().clone()
    weight[:, places] = new[:, :-1]
    return Head(weight, new[:, -1], head.idle)
