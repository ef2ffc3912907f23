"""Central tendency of many nodes at once: a mean without outliers.

Medians are found by selection, which needs no sorted values. Rows are processed a few at a time, so that their values
stay in the cache of the processor.
Shapes: B rows (one node each), M observations.
"""

from __future__ import annotations

import numpy as np

OUTLIER = 2.0  # observations with at least this |x - median| / MAD are outliers
BLOCK = 2**16  # values that are processed at a time


def central_tendency(values: np.ndarray) -> np.ndarray:
    """Compute the mean of |value| without outliers, the values with |x - median| >= 2 MAD. A MAD of 0 has no outliers.

    Source: Imtiaz et al. 2023, Alg. 1; the outlier rule is that of the release. Medians are computed in the dtype of
    the values, the mean in float64.

    Args:
        values: (..., M) floats, M >= 1.

    Returns:
        (...,) float64.
    """
    rows = values.reshape(-1, values.shape[-1])
    step = max(1, BLOCK // rows.shape[1])
    found = np.empty(len(rows))
    for start in range(0, len(rows), step):
        found[start : start + step] = _means(rows[start : start + step])
    return found.reshape(values.shape[:-1])


def _means(values: np.ndarray) -> np.ndarray:
    """Compute the central tendency of a few rows (B, M)."""
    x = np.abs(values)
    distances = np.abs(x - _medians(x)[:, None])
    mad = _medians(distances.copy())
    bound = np.where(mad == 0, np.inf, OUTLIER * mad).astype(x.dtype)
    near = distances < bound[:, None]
    counts = near.view(np.uint8).sum(-1, dtype=np.int64)
    return np.asarray(np.multiply(x, near, out=distances).sum(-1, dtype=np.float64) / counts)


def _medians(x: np.ndarray) -> np.ndarray:
    """Compute the medians of rows (B, M), which are reordered; the mean of two middle values where M is even."""
    middle = x.shape[-1] // 2
    x.partition(middle, axis=-1)
    upper = x[:, middle].copy()
    return upper if x.shape[-1] % 2 else (x[:, :middle].max(-1) + upper) * x.dtype.type(0.5)
