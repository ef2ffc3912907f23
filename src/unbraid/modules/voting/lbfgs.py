"""Where a smooth function is smallest. Ours and not torch's, whose optimizers take seconds to import."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

STEPS = 500  # of the search, at most
MEMORY = 20  # steps of which the curvature is remembered

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]
Pair = tuple[np.ndarray, np.ndarray]


def minimum(loss: Loss, start: np.ndarray, precision: float = 1e-10) -> tuple[float, np.ndarray]:
    """The smallest loss and its numbers (L-BFGS with backtracking, Nocedal 1980).

    Args:
        loss: numbers (n,) -> value and gradient (n,).
        start: where the search begins, (n,).
        precision: where a step gains less than this share of the value, the search ends.
    """
    x = start
    value, gradient = loss(x)
    known: deque[Pair] = deque(maxlen=MEMORY)
    for _ in range(STEPS):
        direction = -_turned(gradient, known)
        slope, step = float(gradient @ direction), 1.0
        while True:
            moved = x + step * direction
            lower, turned = loss(moved)
            if lower <= value + 1e-4 * step * slope or step < 1e-10:
                break
            step /= 2
        if not lower < value - precision * (1 + abs(value)):
            break
        way, turn = moved - x, turned - gradient
        if float(way @ turn) > 1e-12:
            known.append((way, turn))
        x, value, gradient = moved, lower, turned
    return value, x


def _turned(gradient: np.ndarray, known: deque[Pair]) -> np.ndarray:
    """The gradient times an estimate of the inverse curvature."""
    if not known:
        return gradient / max(1.0, float(np.linalg.norm(gradient)))
    found, shares = gradient.copy(), []
    for way, turn in reversed(known):
        share = float(way @ found) / float(way @ turn)
        found -= share * turn
        shares.append(share)
    way, turn = known[-1]
    found *= float(way @ turn) / float(turn @ turn)
    for (way, turn), share in zip(known, reversed(shares), strict=True):
        found += (share - float(turn @ found) / float(way @ turn)) * way
    return found
