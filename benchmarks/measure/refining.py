"""Measure gradient steps without labels (``refine=``) on the trained models, by size and number of steps.

``python -m benchmarks.measure.refining [PATTERN]`` measures the models with matching names, such as ``brown-*-seed0``.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import torch

from benchmarks.datasets import loading as datasets
from benchmarks.measure.reconstruct import SAMPLES, alone, figures, run_models
from benchmarks.training.classifiers import SEEDS, Model
from unbraid import DecompositionConfig, Network, decompose
from unbraid.data.targets import read_targets
from unbraid.decomposition.sampling import choose

RUNS = ((0.5, 0), (0.5, 40), (0.3, 0), (0.3, 40), (0.15, 0), (0.15, 40), (0.15, 150))  # keep ratio, steps
REPEATS = 3  # of a pass


def run(again: bool, pattern: str = "*") -> None:
    """Measure each trained model of the first seed without a result."""
    run_models("refined", measured, again, pattern, SEEDS[:1])


def measured(model: Model) -> dict[str, Any]:
    """Measure modules of all sizes with and without gradient steps. Seconds are CPU seconds of one thread."""
    torch.set_num_threads(1)
    data, network = datasets.load(model.data), model.network()
    rows = _sample(network, data)
    passes = []
    for _ in range(REPEATS + 1):
        started = time.process_time()
        network.logits(data.train[0][rows])
        passes.append(time.process_time() - started)
    decompose(network, data.train, keep=0.1, samples_per_class=50, refine=1)  # what only the first call does
    runs = []
    for keep, steps in RUNS:
        started = time.process_time()
        parts = decompose(
            network, data.train, keep=keep, refine=steps, samples_per_class=SAMPLES, seed=model.seed, domain=False
        )
        seconds = time.process_time() - started
        runs.append({"keep": keep, "steps": steps, "seconds": seconds, **figures(network, parts, data)})
    about = {name: getattr(model, name) for name in ("data", "cell", "layers", "seed")}
    about |= {"io": data.about.io, "classes": network.classes, "examples": len(rows), "pass": min(passes[1:])}
    return {**about, "parent_f1": alone(network, data), "runs": runs}


def _sample(network: Network, data: datasets.DataSet) -> Any:
    config = DecompositionConfig.of(samples_per_class=SAMPLES)
    return choose(read_targets(data.train[1], network.labels, many=network.io.many_outputs), config, pooled=True).rows


if __name__ == "__main__":
    run(False, *sys.argv[1:2])
