"""Baselines that remove as many nodes as the paper's method: at random, or those with the smallest weights."""

from __future__ import annotations

import numpy as np

from unbraid.networks.layers import Layer
from unbraid.networks.recurrent import RecurrentLayer


def choose_random(removed: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw as many nodes as ``removed`` (..., U) marks in each row at random; booleans (..., U)."""
    return _smallest(rng.random(removed.shape), removed.sum(-1))


def choose_smallest(removed: np.ndarray, magnitude: np.ndarray) -> np.ndarray:
    """Choose as many nodes as ``removed`` (..., U) marks in each row, with the smallest ``magnitude`` (U,)."""
    return _smallest(np.broadcast_to(magnitude, removed.shape), removed.sum(-1))


def magnitudes(layer: Layer, columns: slice, by_gates: bool) -> np.ndarray:
    """Euclidean norm of the incoming weights of each node (or gate column), (U,).

    Args:
        layer: the layer.
        columns: the columns, out of the G*H gate columns or the H nodes.
        by_gates: whether ``columns`` counts gate columns.
    """
    module = layer.module
    kernels = [module.weight_ih, module.weight_hh] if isinstance(module, RecurrentLayer) else [module.weight]
    squares = sum((k.detach().double().square().sum(1).cpu().numpy() for k in kernels), np.zeros(1))
    if not by_gates:
        squares = squares.reshape(-1, layer.units).sum(0)
    return np.sqrt(squares[columns])


def _smallest(score: np.ndarray, counts: np.ndarray) -> np.ndarray:
    ranks = np.argsort(np.argsort(score, axis=-1, kind="stable"), axis=-1, kind="stable")
    return ranks < counts[..., None]
