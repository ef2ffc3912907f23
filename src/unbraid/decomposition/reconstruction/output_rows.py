"""The row of an output layer that decides, fitted to the probabilities that the parent gives. No labels.

Logistic regression on the module's own features by Newton's steps; the loss is convex, so there is one answer.
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
from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head

LOGISTIC_RIDGE = 1e-4  # pull towards the row before, as a share of the mean diagonal
NEWTON_STEPS = 8
LONGEST_STEP = 3.0  # of one Newton step: far from the answer the curvature says little

Margin = tuple[Sequence[int], int, Tensor]  # a module's rows, dominant first; the row to fit; P(dominant) wanted, (M,)


def decided(features: Tensor, start: Tensor, margins: Sequence[Margin]) -> Tensor:
    """Rows whose differences give the wanted probabilities, one row after another.

    Args:
        features: (M, F).
        start: the rows before, over [features, 1], (R, F + 1).
        margins: what to fit.

    Returns:
        (R, F + 1), in the type of ``start``.
    """
    z, rows = with_one(features).double(), start.double()
    for own, place, wanted in margins:
        others = [rows[r] for at, r in enumerate(own) if at != place]
        said = linear(z, torch.stack(others)) if others else z.new_zeros(len(z), 0)
        row, chance = rows[own[place]], wanted.double()
        if place == 0:
            offset = -torch.logsumexp(said, 1) if others else z.new_zeros(len(z))
            rows[own[0]] = logistic(z, offset, chance, row)
        else:  # of two rows the second: the margin is the first less it
            rows[own[place]] = -logistic(z, said[:, 0], chance, -row)
    return rows.to(start.dtype)


def logistic(z: Tensor, offset: Tensor, wanted: Tensor, start: Tensor) -> Tensor:
    """The row w near ``start`` for which sigmoid(offset + z w) is nearest to ``wanted`` by cross entropy.

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
        row = row - step * min(1.0, LONGEST_STEP / max(float(step.norm()), 1e-12))
    return row


def fitted_head(module: ConcernModule, decisions: ParentDecisions) -> Head:
    """A module's two rows over the parent's features, the second fitted so that P(dominant) is the parent's own.

    Args:
        module: its head has two rows, the dominant one and what it competes with.
        decisions: of the parent.
    """
    network, head = module.parent, module.head
    seen = [module.body(batch)[used] for batch, used, _ in decisions.batches(network.device)]
    whole = channel(network, module.index, module.config.changed(head=HeadKind.SOFTMAX))
    chance = torch.sigmoid(whole.margin(torch.cat(decisions.features)))
    start = torch.cat([head.weight, head.bias.unsqueeze(1)], 1).detach()
    new = decided(torch.cat(seen), start, [(range(2), 1, chance)])
    places = slice(None) if module.features is None else module.features
    weight = module.whole_head.weight.detach().clone()
    weight[:, places] = new[:, :-1]
    return Head(weight, new[:, -1], head.idle)
