"""Markdown tables."""

from __future__ import annotations

import numpy as np


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(values: list[float]) -> str:
    """The 95 % interval of the values' mean, by bootstrap."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"[{low:+.2f}, {high:+.2f}]"
