"""Convert shares of nodes to numbers of nodes."""

from __future__ import annotations

import math


def kept_count(nodes: int, keep: float) -> int:
    """Return the number of nodes that the keep ratio ``keep`` is, at least one."""
    return max(1, round(keep * nodes))


def capped(nodes: int, cap: float) -> int:
    """Return the smallest number of nodes whose share of ``nodes`` is at least ``cap``."""
    return math.ceil(cap * nodes - 1e-9)
