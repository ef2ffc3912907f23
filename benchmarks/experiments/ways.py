"""The methods of decomposition that the tables compare, by their names in the tables."""

from __future__ import annotations

from typing import Any

from benchmarks.training.classifiers import Model
from unbraid import Decomposition, decompose

SAMPLES = 500  # examples of each class
EACH_STEP = 100  # the same if examples are sampled for each output timestep
CAP = 0.05  # the usual cap on removed nodes in the authors' code; it is 0.2 in the paper's text and by default
REFINED = "reconstruct, 50 %, refined"  # measured separately, because it takes gradient steps
WAYS: dict[str, dict[str, Any]] = {
    "rolled": {"strategy": "paper", "mode": "rolled"},
    "unrolled": {"strategy": "paper", "mode": "unrolled"},
    "rolled, cap 5 %": {"strategy": "paper", "mode": "rolled", "max_removed": CAP},
    "unrolled, cap 5 %": {"strategy": "paper", "mode": "unrolled", "max_removed": CAP},
    "rolled, cap 5 %, softmax head": {"strategy": "paper", "mode": "rolled", "max_removed": CAP, "head": "softmax"},
    "unrolled, cap 5 %, softmax head": {"strategy": "paper", "mode": "unrolled", "max_removed": CAP, "head": "softmax"},
    "rolled, cap 5 %, each gate": {"strategy": "paper", "mode": "rolled", "max_removed": CAP, "gates": "each"},
    "reconstruct, 50 %": {"strategy": "reconstruct", "keep": 0.5},
    REFINED: {"strategy": "reconstruct", "keep": 0.5, "refine": 40},
}


def ways_of(model: Model) -> list[str]:
    """Return the methods that apply to a model: gates need a gated cell, unrolled modules need several timesteps.

    For deeper models and later seeds, some methods that differ in one setting only are left out.
    """
    found, one_step = [way for way in WAYS if way != REFINED], model.examples.about.io == "1:1"
    if model.seed:
        found = ["rolled, cap 5 %", "unrolled, cap 5 %", "reconstruct, 50 %"]
    if one_step:  # unrolled equals rolled
        found = [way for way in found if not way.startswith("unrolled")]
    left_out = set()
    if model.layers > 1 or model.cell not in ("LSTM", "GRU"):
        left_out.add("rolled, cap 5 %, each gate")
    if model.layers > 1 and not one_step:
        left_out.add("rolled, cap 5 %, softmax head")
    return [way for way in found if way not in left_out]


def published_way(io: str) -> str:
    """Return the method of the paper for reuse and replacement: unrolled modules, or rolled for one timestep."""
    return "rolled, cap 5 %" if io == "1:1" else "unrolled, cap 5 %"


def modules(model: Model, way: str) -> Decomposition:
    """Decompose a trained model."""
    return decompose(model.network(), model.examples.train, **settings(model, way))


def settings(model: Model, way: str) -> dict[str, Any]:
    """Return the keyword arguments of :func:`unbraid.decompose`."""
    each_step = model.examples.about.io.endswith(":N") and WAYS[way]["strategy"] == "paper"
    return {"samples_per_class": EACH_STEP if each_step else SAMPLES, "seed": model.seed, **WAYS[way]}
