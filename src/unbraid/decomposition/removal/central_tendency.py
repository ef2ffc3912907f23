"""Central tendency of many nodes at once: a mean without outliers, computed with one sort.

In sorted values, the distance from the median decreases and then increases. So a binary search on both sides finds the
k nearest values, and the values that are not outliers form a window.
Shapes: B rows (one node each), M observations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

OUTLIER = 2.0  # observations with at least this |x - median| / MAD are outliers

Indices = np.ndarray  # (B,) int64


def central_tendency(values: np.ndarray) -> np.ndarray:
    """Compute the mean of |value| without outliers, the values with |x - median| >= 2 MAD. A MAD of 0 has no outliers.

    Source: Imtiaz et al. 2023, Alg. 1; the outlier rule is that of the release. Medians are computed in the dtype of
    the values, the mean in float64.

    Args:
        values: (..., M) floats, M >= 1.

    Returns:
        (...,) float64.
    """
    m = values.shape[-1]
    x = np.sort(np.abs(values), axis=-1).reshape(-1, m)
    rows = np.arange(len(x))
    median = _middle(x[:, (m - 1) // 2], x[:, m // 2], m)
    none, all_ = np.zeros(len(x), np.int64), np.full(len(x), m)
    split = _leading(lambda i: x[rows, i] < median, none, all_)

    def left(j: Indices) -> np.ndarray:  # distance of the j-th value below the median, nearest value first
        return np.where(j < split, np.abs(x[rows, np.maximum(split - 1 - j, 0)] - median), np.inf)

    def right(j: Indices) -> np.ndarray:  # distance of the j-th value from the median upwards
        return np.where(j < m - split, np.abs(x[rows, np.minimum(split + j, m - 1)] - median), np.inf)

    k = (m + 1) // 2  # number of values within the (lower) MAD
    taken = _leading(lambda i: left(i) < right(k - 1 - i), np.maximum(0, k - (m - split)), np.minimum(k, split))
    lower = np.maximum(
        np.where(taken > 0, left(np.maximum(taken - 1, 0)), -np.inf),
        np.where(taken < k, right(np.maximum(k - 1 - taken, 0)), -np.inf),
    )
    upper = np.minimum(left(taken), right(k - taken))
    mad = _middle(lower.astype(x.dtype), upper.astype(x.dtype), m)
    bound = np.where(mad == 0, np.inf, OUTLIER * mad)
    start = split - _leading(lambda j: left(j) < bound, none, split)
    stop = split + _leading(lambda j: right(j) < bound, none, m - split)
    return (_window_sums(x, start, stop) / (stop - start)).reshape(values.shape[:-1])


def _middle(low: np.ndarray, high: np.ndarray, m: int) -> np.ndarray:
    return low if m % 2 else (low + high) * low.dtype.type(0.5)


def _leading(holds: Callable[[Indices], np.ndarray], low: Indices, high: Indices) -> Indices:
    """Find the first index in [low, high) at which ``holds`` becomes false, for each row; ``high`` if there is none."""
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        true = holds(np.where(open_, middle, 0)) & open_
        low = np.where(true, middle + 1, low)
        high = np.where(true | ~open_, high, middle)
    return low


def _window_sums(x: np.ndarray, start: Indices, stop: Indices) -> np.ndarray:
    """Compute the sum of x[b, start:stop] for every row b, in float64; windows must not be empty."""
    offset = np.arange(len(x)) * x.shape[1]
    edges = np.stack([offset + start, offset + stop], axis=-1).ravel()
    if edges[-1] == x.size:
        edges = edges[:-1]
    return np.add.reduceat(x.ravel(), edges, dtype=np.float64)[::2]
