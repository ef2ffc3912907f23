"""Tangling identification (Imtiaz et al. 2023, Alg. 3): what a module must keep to know what it rejects."""

from __future__ import annotations

import numpy as np


def restore_tangled(removed: np.ndarray, negative_rate: np.ndarray) -> np.ndarray:
    """Take back every removed node that is active on some negative example.

    Only rectified layers need it: for logistic ones the comparison in concern identification already keeps them.

    Args:
        removed: booleans, (..., H).
        negative_rate: share of negative observations with a value > 0, (..., H), in [0, 1] or NaN (none observed).

    Returns:
        what stays removed, (..., H).
    """
    return removed & ~(negative_rate > 0)
