"""Format Markdown tables."""

from __future__ import annotations

import numpy as np


def table(columns: list[str], rows: list[list[str]]) -> str:
    """Format a Markdown table from its column names and rows."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def interval(values: list[float]) -> str:
    """Format the 95 % bootstrap interval of the mean of ``values``."""
    draws = np.random.default_rng(0).choice(values, (10_000, len(values))).mean(1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return f"[{low:+.2f}, {high:+.2f}]"
