"""Concern identification (Imtiaz et al. 2023, Alg. 1-2): find nodes that are less active for a class than for others.

Shapes: U columns of a layer (H nodes, or the H columns of one gate), T timesteps, M observations.
Statistics are (U,) when rolled and (T, U) when unrolled.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unbraid.config import ReluRule, RemovalConfig
from unbraid.decomposition.removal.tangling import restore_tangled
from unbraid.decomposition.sizes import capped, kept_count

GATE_OPEN = 0.5  # a sigmoid gate of at least this value is active
RELEASE_RATE = -0.5  # the release removes a ReLU node whose rates differ by this or less

Statistic = Callable[[np.ndarray], np.ndarray]


def active_rate(values: np.ndarray) -> np.ndarray:
    """Compute the share of observations > 0 (ReLU), (...,) float64 in [0, 1]."""
    return np.asarray(np.count_nonzero(values > 0, axis=-1) / values.shape[-1])


def open_rate(values: np.ndarray) -> np.ndarray:
    """Compute the share of observations >= 0.5 of a sigmoid gate, (...,) float64 in [0, 1]."""
    return np.asarray(np.count_nonzero(values >= GATE_OPEN, axis=-1) / values.shape[-1])


def remove_logistic(positive: np.ndarray, negative: np.ndarray, config: RemovalConfig) -> np.ndarray:
    """Choose nodes whose statistic is smaller on the class than on the other classes.

    Nodes are chosen by increasing difference, up to the cap.

    Args:
        positive: statistic on the examples of the class, (..., U); NaN for nodes that were not observed.
        negative: statistic on the examples of other classes, (..., U).
        config: settings; max_removed and overrun are used. With overrun, as in the release, the choice continues past
            the cap while (first difference) / (current difference) < 1.1.

    Returns:
        booleans (..., U), True = removed.
    """
    d = _difference(positive, negative)
    order = np.argsort(d, axis=-1, kind="stable")
    ranked = np.take_along_axis(d, order, -1)
    gone = (ranked < 0) & (np.arange(d.shape[-1]) < capped(d.shape[-1], config.max_removed))
    if config.overrun is not None:
        with np.errstate(divide="ignore", invalid="ignore"):
            gone |= (ranked < 0) & (ranked[..., :1] / ranked < config.overrun)
    removed = np.zeros(d.shape, bool)
    np.put_along_axis(removed, order, gone, -1)
    return removed


def remove_rectified(positive: np.ndarray, negative: np.ndarray, config: RemovalConfig) -> np.ndarray:
    """Choose nodes that are never active on the class (CI), except those that are active on another example (TI).

    The rule of the release instead chooses nodes whose active rate is smaller on the class by at least 0.5.

    Args:
        positive: active rate on the examples of the class, (..., U).
        negative: active rate on the examples of other classes, (..., U).
        config: settings; max_removed and relu are used.

    Returns:
        booleans (..., U), True = removed.
    """
    if config.relu is ReluRule.RELEASE:
        d = _difference(positive, negative)
        candidates, order = d <= RELEASE_RATE, np.argsort(d, axis=-1, kind="stable")
    else:
        candidates, order = positive == 0, np.argsort(positive != 0, axis=-1, kind="stable")
    ranked = np.take_along_axis(candidates, order, -1)
    ranked &= np.arange(ranked.shape[-1]) < capped(ranked.shape[-1], config.max_removed)
    removed = np.zeros(candidates.shape, bool)
    np.put_along_axis(removed, order, ranked, -1)
    return removed if config.relu is ReluRule.RELEASE else restore_tangled(removed, negative)


def remove_share(positive: np.ndarray, negative: np.ndarray, share: float) -> np.ndarray:
    """Choose a share of the nodes: those with the smallest differences of any sign.

    This is not in the paper. It removes nodes in the order of the paper down to a chosen size, for comparison. A node
    that was not observed is removed last. Arguments and result are those of :func:`remove_logistic`.
    """
    d = _difference(positive, negative)
    ranks = np.argsort(np.argsort(d, axis=-1, kind="stable"), axis=-1, kind="stable")
    return np.asarray(ranks < d.shape[-1] - kept_count(d.shape[-1], 1 - share))


def _difference(positive: np.ndarray, negative: np.ndarray) -> np.ndarray:
    d = positive - negative
    return np.where(np.isnan(d), np.inf, d)  # a node that was not observed is not a candidate
