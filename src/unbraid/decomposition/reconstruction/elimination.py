"""Order the units of a dense layer by removing them one by one, while the others take over their work.

A unit that is removed is predicted linearly from the kept units, as folding does. Its cost is the mean square of the
change of the margin, to first order: (margin gradient . change of all units)^2. So of two units that do the same, one
is removed early and the other late, which a score of each unit by itself cannot give. This is the optimal brain surgeon
(Hassibi and Stork 1993) for units and a linear prediction, and close to spectral pruning (arXiv 2105.10832).
Shapes: H units.
"""

from __future__ import annotations

import numpy as np

from unbraid.decomposition.reconstruction.folding import RIDGE

WIDEST = 2048  # units of a layer up to which this is done; the work grows with their third power
TINY = 1e-12


def elimination_scores(covariance: np.ndarray, metric: np.ndarray) -> np.ndarray:
    """Score units by the summed cost of all units that are removed up to theirs.

    Args:
        covariance: covariance of the values of the units, (H, H) float64. The constant is always kept.
        metric: mean of g g^T over the gradients g of the margin with respect to the units, (H, H) float64.

    Returns:
        scores (H,) > 0, float64; the unit that is removed first has the smallest one.
    """
    units, metric = len(covariance), metric.copy()
    ridge = RIDGE * max(np.diagonal(covariance).mean(), TINY)
    precision = np.linalg.inv(covariance + ridge * np.eye(units))
    alive, scores, total = np.ones(units, bool), np.zeros(units), 0.0
    for _ in range(units):
        left = np.flatnonzero(alive)
        variance = np.maximum(1 / precision[left, left] - ridge, 0)  # of a unit, given the other kept units
        costs = variance * np.maximum(metric[left, left], 0)
        unit = left[costs.argmin()]
        total += costs.min() + TINY
        scores[unit], alive[unit] = total, False
        # Each kept unit takes over a part of the removed unit, and with it a part of its effect on the margin.
        share = -precision[:, unit] / precision[unit, unit] * alive
        row = metric[unit].copy()
        metric += np.outer(share, row) + np.outer(row, share) + row[unit] * np.outer(share, share)
        precision -= np.outer(precision[:, unit], precision[unit]) / precision[unit, unit]
    return scores
