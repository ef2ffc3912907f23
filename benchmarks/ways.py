"""The ways to decompose that the paper's tables compare, by their names in the tables."""

from __future__ import annotations

from typing import Any

from benchmarks.trained import Model
from unbraid import Decomposition, decompose

SAMPLES = 500  # examples of each class
CAP = 0.05  # the release's usual cap on removed nodes; the paper's text says 0.2, our default
WAYS: dict[str, dict[str, Any]] = {
    "rolled": {"strategy": "paper", "mode": "rolled"},
    "unrolled": {"strategy": "paper", "mode": "unrolled"},
    "rolled, cap 5 %": {"strategy": "paper", "mode": "rolled", "max_removed": CAP},
    "unrolled, cap 5 %": {"strategy": "paper", "mode": "unrolled", "max_removed": CAP},
    "rolled, cap 5 %, softmax head": {"strategy": "paper", "mode": "rolled", "max_removed": CAP, "head": "softmax"},
    "unrolled, cap 5 %, softmax head": {"strategy": "paper", "mode": "unrolled", "max_removed": CAP, "head": "softmax"},
    "rolled, cap 5 %, each gate": {"strategy": "paper", "mode": "rolled", "max_removed": CAP, "gates": "each"},
    "reconstruct, 50 %": {"strategy": "reconstruct", "keep": 0.5},
}


def ways_of(model: Model) -> list[str]:
    """The ways that make sense of a model: gates where it has some, timesteps where it has several.

    Later seeds leave out what differs from another way in one setting alone.
    """
    found = list(WAYS)
    if model.seed:
        found = ["rolled, cap 5 %", "unrolled, cap 5 %", "reconstruct, 50 %"]
    if model.examples.about.io == "1:1":  # its layers run one timestep: unrolled is rolled
        found = [way for way in found if not way.startswith("unrolled")]
    gated = model.cell in ("LSTM", "GRU")
    return [way for way in found if gated or "each gate" not in way]


def published_way(io: str) -> str:
    """What the paper's reuse and replacement take: unrolled modules, but for one timestep."""
    return "rolled, cap 5 %" if io == "1:1" else "unrolled, cap 5 %"


def modules(model: Model, way: str) -> Decomposition:
    """A trained model's modules."""
    settings = {"samples_per_class": SAMPLES, "seed": model.seed, **WAYS[way]}
    return decompose(model.network(), model.examples.train, **settings)
