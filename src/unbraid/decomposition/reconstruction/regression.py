"""Ridge regression of the weights of a layer, near weights that it has.

Shapes: M observations, Z inputs, R rows, F columns of what the target values are products of.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import linear

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # penalties on the change of the weights, as shares of the mean diagonal
DIRECT = 64  # inputs up to which one solution for each penalty is faster than an eigendecomposition
STACKED = 100_000  # size of a matrix up to which the solutions are computed in one call
JUDGING = 4  # one of this number of examples is used to choose the penalty

Index = slice | Tensor


class Regression:
    """Ridge regression near ``start`` (R, Z), solved in float64. Observations are added in batches and not stored.

    A quarter of the examples is used to choose the ridge penalty, the rest to fit. Without this choice, wide inputs and
    few examples lead to overfitting.

    Args:
        start: the weights to stay near, (R, Z).
        through: weights (R, F) whose products with F observed values are the target values. With fewer columns than
            rows, their products with the inputs are summed in place of those of the R target values. By default the
            target values are observed themselves.
    """

    def __init__(self, start: Tensor, through: Tensor | None = None) -> None:
        rows, columns = start.shape
        self.start, self.through = start, through
        width = rows if through is None else through.shape[1]
        self.gram = torch.zeros(2, columns, columns, dtype=torch.float64, device=start.device)  # fitting, judging
        self.sums = torch.zeros(2, columns, width, dtype=torch.float64, device=start.device)

    def add(self, z: Tensor, wanted: Tensor, judging: Tensor, weights: Tensor | None = None) -> None:
        """Add observations.

        Args:
            z: inputs of the regression, (M, Z).
            wanted: the target values of the products, (M, R), or the values that these are products of, (M, F).
            judging: booleans (M,), True for observations that choose the penalty.
            weights: weight of each observation, (M,); equal by default.
        """
        count = int(judging.sum())
        leading = bool(judging[:count].all())  # views are cheaper than copies
        parts: tuple[Index, Index] = (slice(count, None), slice(count)) if leading else (~judging, judging)
        for part, mine in enumerate(parts):
            values, targets = z[mine], wanted[mine]
            if self.through is None:
                targets = targets - linear(values, self.start)  # small, so that their sums lose no digits
            else:
                values, targets = values.double(), targets.double()
            weighted = (values if weights is None else values * weights[mine].unsqueeze(1)).t()
            self.gram[part] += (weighted @ values).double()
            self.sums[part] += (weighted @ targets).double()

    def misses(self) -> Tensor:
        """Return the products of the inputs with what the target values lack, for fitting and judging, (2, Z, R)."""
        if self.through is None:
            return self.sums
        return self.sums @ self.through.double().t() - self.gram @ self.start.double().t()

    def solved(self) -> Tensor:
        """Return the fitted weights (R, Z); ``start`` if no fit is better."""
        misses = self.misses()
        changes = self._changes(misses)
        best = int(changes.argmin())
        if not bool(changes[best] < 0):
            return self.start
        gram = self.gram.sum(0)
        step = torch.linalg.solve(_pulled(gram, RIDGES[best]), misses.sum(0))
        return self.start + step.t().to(self.start.dtype)

    def _changes(self, misses: Tensor) -> Tensor:
        """Compute by how much the fit with each penalty changes the squared error on the part that chooses it, (P,).

        With many rows, one eigendecomposition of the Gram matrix is faster than one solution for each penalty.
        """
        (gram, judging), (miss, judged) = self.gram, misses
        columns, rows = miss.shape
        ridges = torch.tensor(RIDGES, dtype=gram.dtype, device=gram.device)
        if columns > DIRECT and rows > columns // 2:
            values, vectors = torch.linalg.eigh(gram)
            turned, target = vectors.t() @ miss, vectors.t() @ judged
            pairs = (vectors.t() @ judging @ vectors) * (turned @ turned.t())
            scales = 1 / (values + (ridges * _size(gram)).unsqueeze(1))  # the solutions are scales * turned
            return ((scales @ pairs) * scales).sum(1) - 2 * scales @ (turned * target).sum(1)
        if columns * max(columns, rows) > STACKED:
            steps = (torch.linalg.solve(_pulled(gram, ridge), miss) for ridge in RIDGES)
            return torch.stack([_change(step, judging, judged) for step in steps])
        pulled = torch.stack([_pulled(gram, ridge) for ridge in RIDGES])
        many = miss.expand(len(RIDGES), *miss.shape)  # torch takes (Z, R) for vectors where Z and R are both P
        return _change(torch.linalg.solve(pulled, many), judging, judged)


def _size(gram: Tensor) -> Tensor:
    return gram.diagonal().mean().clamp(min=1e-12)


def _pulled(gram: Tensor, ridge: float) -> Tensor:
    pulled = gram.clone()
    pulled.diagonal().add_(ridge * _size(gram))
    return pulled


def _change(steps: Tensor, gram: Tensor, miss: Tensor) -> Tensor:
    """Compute by how much steps (..., Z, R) change the squared error of the given observations, (...,)."""
    return (steps * (gram @ steps - 2 * miss)).sum((-2, -1))
