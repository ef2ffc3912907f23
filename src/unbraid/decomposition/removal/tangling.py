"""Tangling identification (Imtiaz et al. 2023, Alg. 3): restore nodes that a module needs to reject other classes."""

from __future__ import annotations

import numpy as np


def restore_tangled(removed: np.ndarray, negative_rate: np.ndarray) -> np.ndarray:
    """Restore every removed node that is active on some negative example.

    Only ReLU layers need it. For tanh and sigmoid the comparison in concern identification already keeps such nodes.

    Args:
        removed: booleans, (..., H).
        negative_rate: share of negative observations with a value > 0, (..., H), in [0, 1]; NaN without observations.

    Returns:
        booleans (..., H), the nodes that stay removed.
    """
    return removed & ~(negative_rate > 0)
