"""Baselines that remove as many nodes as the method of the paper: random nodes, or those of smallest weights."""

from __future__ import annotations

import numpy as np

from unbraid.networks.layers import Layer
from unbraid.networks.stages import Dense


def choose_random(removed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many random nodes as each row of ``removed`` (..., U) has; return booleans (..., U)."""
    return _smallest(rng.random(removed.shape), removed.sum(-1))


def choose_smallest(removed: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Choose as many nodes as each row of ``removed`` (..., U) has, those with the smallest ``magnitude`` (U,)."""
    return _smallest(np.broadcast_to(magnitude, removed.shape), removed.sum(-1))


def magnitudes(layer: Layer, columns: slice, by_gates: bool) -> np.ndarray:
    """Compute the Euclidean norm of the incoming weights of each node or gate column, (U,).

    Args:
        layer: the layer.
        columns: slice of the G*H gate columns or of the H nodes.
        by_gates: whether ``columns`` is a slice of the gate columns.
    """
    module = layer.module
    incoming = module.weight if isinstance(module, Dense) else module.incoming
    squares = incoming.detach().double().square().sum(1).cpu().numpy()
    if not by_gates:
        squares = squares.reshape(-1, layer.units).sum(0)
    return np.sqrt(squares[columns])


def _smallest(score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    ranks = np.argsort(np.argsort(score, axis=-1, kind="stable"), axis=-1, kind="stable")
    return ranks < counts[..., None]
