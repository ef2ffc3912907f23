"""Measure the time to make small modules, relative to one pass of the network over the same examples, on one thread."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch
from rich.progress import track

from benchmarks import files
from benchmarks.datasets import loading as datasets
from benchmarks.training.classifiers import CELLS, Model
from unbraid import DecompositionConfig, decompose
from unbraid.data.targets import read_targets
from unbraid.decomposition.sampling import choose

LAYERS = (1, 4)
KEEP = 0.3
REPEATS = 3


def run(again: bool) -> None:
    """Measure each trained CLINC model without a result."""
    for model in track([Model("clinc", cell, layers, 0) for layers in LAYERS for cell in CELLS], "compacting"):
        path = files.RESULTS / "compacting" / f"{model.name}.json"
        if model.path.exists() and (again or not path.exists()):
            files.write(path, {"cell": model.cell, "layers": model.layers, "keep": KEEP, **_measured(model)})


def _measured(model: Model) -> dict[str, Any]:
    torch.set_num_threads(1)
    (x, y), network = datasets.load(model.data).train, model.network()
    rows = choose(read_targets(y, network.labels, many=False), DecompositionConfig.of(), pooled=True).rows
    sampled, seconds = x[rows], []
    for _ in range(REPEATS + 1):
        moments = [time.process_time()]
        network.logits(sampled)
        moments.append(time.process_time())
        decompose(network, (x, y), keep=KEEP)
        moments.append(time.process_time())
        seconds.append((moments[1] - moments[0], moments[2] - moments[1]))
    one_pass, whole = (statistics.median(pair[place] for pair in seconds[1:]) for place in (0, 1))
    return {"examples": len(rows), "pass": one_pass, "decompose": whole, "over_pass": whole / one_pass}
