"""The ways to decompose that the paper's tables compare, by their names in the tables."""

from __future__ import annotations

from typing import Any

from benchmarks.training.classifiers import Model
from unbraid import Decomposition, decompose

SAMPLES = 500  # examples of each class
EACH_STEP = 100  # where removal takes them for every output timestep
CAP = 0.05  # the release's usual cap on removed nodes; the paper's text says 0.2, our default
REFINED = "reconstruct, 50 %, refined"  # measured apart: it takes gradient steps
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
    """The ways that make sense of a model: gates where it has some, timesteps where it has several.

    Deeper models and later seeds leave out some that differ from another way in one setting alone.
    """
    found, one_step = [way for way in WAYS if way != REFINED], model.examples.about.io == "1:1"
    if model.seed:
        found = ["rolled, cap 5 %", "unrolled, cap 5 %", "reconstruct, 50 %"]
    if one_step:  # unrolled is rolled
        found = [way for way in found if not way.startswith("unrolled")]
    left_out = set()
    if model.layers > 1 or model.cell not in ("LSTM", "GRU"):
        left_out.add("rolled, cap 5 %, each gate")
    if model.layers > 1 and not one_step:
        left_out.add("rolled, cap 5 %, softmax head")
    return [way for way in found if way not in left_out]


def published_way(io: str) -> str:
    """What the paper's reuse and replacement take: unrolled modules, but for one timestep."""
    return "rolled, cap 5 %" if io == "1:1" else "unrolled, cap 5 %"


def modules(model: Model, way: str) -> Decomposition:
    """A trained model's modules."""
    return decompose(model.network(), model.examples.train, **settings(model, way))


def settings(model: Model, way: str) -> dict[str, Any]:
    """What :func:`unbraid.decompose` is called with."""
    each_step = model.examples.about.io.endswith(":N") and WAYS[way]["strategy"] == "paper"
    return {"samples_per_class": EACH_STEP if each_step else SAMPLES, "seed": model.seed, **WAYS[way]}
