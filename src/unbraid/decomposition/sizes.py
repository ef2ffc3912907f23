"""How many nodes a share of them is."""

from __future__ import annotations

import math


def kept_count(nodes: int, keep: float) -> int:
    """How many of ``nodes`` the share ``keep`` is, at least one."""
    return max(1, round(keep * nodes))


def capped(nodes: int, cap: float) -> int:
    """How many of ``nodes`` go until the share removed has reached ``cap``."""
    return math.ceil(cap * nodes - 1e-9)
