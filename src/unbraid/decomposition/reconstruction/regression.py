"""Ridge regression of the weights of a layer, near weights that it has.

Shapes: M observations, Z inputs, R rows.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # penalties on the change of the weights, as shares of the mean diagonal
JUDGING = 4  # one of this number of examples is used to choose the penalty

Index = slice | Tensor


class Regression:
    """Ridge regression near ``start`` (R, Z), solved in float64. Observations are added in batches and not stored.

    A quarter of the examples is used to choose the ridge penalty, the rest to fit. Without this choice, wide inputs and
    few examples lead to overfitting.
    """

    def __init__(self, start: Tensor) -> None:
        rows, columns = start.shape
        self.start = start
        self.gram = torch.zeros(2, columns, columns, dtype=torch.float64, device=start.device)  # fitting, judging
        self.miss = torch.zeros(2, columns, rows, dtype=torch.float64, device=start.device)

    def add(self, z: Tensor, wanted: Tensor, judging: Tensor, weights: Tensor | None = None) -> None:
        """Add observations.

        Args:
            z: inputs of the regression, (M, Z).
            wanted: the target values of the products, (M, R).
            judging: booleans (M,), True for observations that choose the penalty.
            weights: weight of each observation, (M,); equal by default.
        """
        count = int(judging.sum())
        leading = bool(judging[:count].all())  # views are cheaper than copies
        parts: tuple[Index, Index] = (slice(count, None), slice(count)) if leading else (~judging, judging)
        for part, mine in enumerate(parts):
            values = z[mine]
            weighted = (values if weights is None else values * weights[mine].unsqueeze(1)).t()
            self.gram[part] += (weighted @ values).double()
            self.miss[part] += (weighted @ (wanted[mine] - linear(values, self.start))).double()

    def solved(self) -> Tensor:
        """Return the fitted weights (R, Z); ``start`` if no fit is better."""
        best = min(RIDGES, key=lambda ridge: self._judged(self._step(self.gram[0], self.miss[0], ridge)))
        if self._judged(self._step(self.gram[0], self.miss[0], best)) >= 0:
            return self.start
        return self.start + self._step(self.gram.sum(0), self.miss.sum(0), best).t().to(self.start.dtype)

    def _step(self, gram: Tensor, miss: Tensor, ridge: float) -> Tensor:
        size = gram.diagonal().mean().clamp(min=1e-12)
        pull = ridge * size * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return torch.linalg.solve(gram + pull, miss)

    def _judged(self, step: Tensor) -> float:
        """Compute by how much a step (Z, R) changes the squared error on the part that chooses the penalty."""
        return float((step * (self.gram[1] @ step - 2 * self.miss[1])).sum())
