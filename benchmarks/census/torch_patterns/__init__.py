"""Recurrent classifiers as people write them in PyTorch, small and in patterns, written for this census."""

from __future__ import annotations

from benchmarks.census.torch_patterns import arguments, calls, heads, layers, own_cells, packing, refused, states
from benchmarks.census.torch_patterns.entry import Entry

ENTRIES: list[Entry] = [
    entry for part in (layers, heads, packing, states, calls, arguments, own_cells, refused) for entry in part.ENTRIES
]
