"""A module's output layer fitted on the module's own features to what its parent says. No labels.

First all rows by ridge regression to the scores that the parent's rows give; then the row that decides, by logistic
regression to the probability that the parent gives the class (Newton's steps on a convex loss, so there is one answer).
Shapes: M decisions, F features, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

from unbraid.concerns.moments import with_one
from unbraid.concerns.refitting import regressed

LINEAR_RIDGE = 1e-3  # pulls towards the weights before, as shares of the mean diagonal
LOGISTIC_RIDGE = 1e-4
NEWTON_STEPS = 8
LONGEST_STEP = 3.0  # of one Newton step: far from the answer the curvature says little

Margin = tuple[Sequence[int], int, Tensor]  # a module's rows, dominant first; the row to fit; P(dominant) wanted, (M,)


def fitted_rows(
    features: Tensor, scores: Tensor | None, start: Tensor, margins: Sequence[Margin], weights: Tensor
) -> Tensor:
    """Rows over [features, 1].

    Args:
        features: (M, F).
        scores: what the rows shall say, (M, R); None leaves them at ``start`` first.
        start: the rows before, (R, F + 1).
        margins: which of the rows' differences shall give which probabilities, one after another.
        weights: how much each decision counts, (M,).

    Returns:
        (R, F + 1), in the type of ``start``.
    """
    z = with_one(features)
    rows = (start if scores is None else regressed(start, z, scores, weights, LINEAR_RIDGE)).double()
    z, share = z.double(), (weights / weights.sum()).double()
    for own, place, wanted in margins:
        row = rows[own[place]]
        others = [rows[r] for at, r in enumerate(own) if at != place]
        said = linear(z, torch.stack(others)) if others else z.new_zeros(len(z), 0)
        if place == 0:
            offset = -torch.logsumexp(said, 1) if others else z.new_zeros(len(z))
            rows[own[0]] = logistic(z, offset, wanted.double(), row, share)
        else:  # of two rows the second: its margin is the first less it
            rows[own[place]] = -logistic(z, said[:, 0], wanted.double(), -row, share)
    return rows.to(start.dtype)


def logistic(z: Tensor, offset: Tensor, wanted: Tensor, start: Tensor, weights: Tensor) -> Tensor:
    """The row w near ``start`` for which sigmoid(offset + z w) is nearest to ``wanted`` by cross entropy.

    Args:
        z: (M, Z) float64.
        offset: (M,).
        wanted: probabilities, (M,) in [0, 1].
        start: (Z,).
        weights: (M,), summing to 1.
    """
    pull = LOGISTIC_RIDGE * (z.square() * weights.unsqueeze(1)).sum(0).mean()
    row = start
    for _ in range(NEWTON_STEPS):
        said = torch.sigmoid(offset + z @ row)
        slope = z.t() @ (weights * (said - wanted)) + pull * (row - start)
        curve = (z * (weights * said * (1 - said)).unsqueeze(1)).t() @ z
        step = torch.linalg.solve(curve + pull * torch.eye(len(row), dtype=z.dtype, device=z.device), slope)
        row = row - step * min(1.0, LONGEST_STEP / max(float(step.norm()), 1e-12))
    return row
