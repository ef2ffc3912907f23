"""Recurrent classifiers as people write them in PyTorch, small and in patterns, written for this census."""

from __future__ import annotations

from benchmarks.census.torch_patterns import (
    altered,
    arguments,
    calls,
    cells,
    heads,
    layers,
    own_cells,
    packing,
    refused,
    states,
    written,
    written_inputs,
)
from benchmarks.census.torch_patterns.entry import Entry

PARTS = (layers, altered, cells, heads, packing, states, calls, arguments, own_cells, written, written_inputs, refused)
ENTRIES: list[Entry] = [entry for part in PARTS for entry in part.ENTRIES]
