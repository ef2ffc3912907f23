"""Minimise a smooth function with L-BFGS. The import of torch.optim takes seconds, so it is not used here."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

STEPS = 500  # most steps of the search
MEMORY = 20  # number of earlier steps in the estimate of the curvature

Loss = Callable[[np.ndarray], tuple[float, np.ndarray]]
Pair = tuple[np.ndarray, np.ndarray]


def minimum(loss: Loss, start: np.ndarray, precision: float = 1e-10) -> tuple[float, np.ndarray]:
    """Minimise a loss by L-BFGS with backtracking (Nocedal 1980).

    Args:
        loss: function of numbers (n,) that returns value and gradient (n,).
        start: first numbers, (n,).
        precision: the search ends when a step reduces the value by less than this share of it.

    Returns:
        the smallest value, and its numbers (n,).
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
    """Multiply the gradient by an estimate of the inverse Hessian matrix."""
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
