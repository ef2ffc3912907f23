"""Measure time and memory of a decomposition against the number of examples, timesteps, units, classes and layers.

Networks have random weights, because time and memory do not depend on training. Each size runs in a process of its own
on one thread. Times are CPU seconds; ``passes`` is their ratio to one pass of the parent over the sample. Memory is the
peak above that of the parent's own pass. Times with several processes are wall times, and need a machine without other
load; that of two whole decompositions at the same time shows how much faster two processes can be. ``python -m
benchmarks.measure.scaling NAME`` measures one size.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from unbraid import Decomposition, Network, UnbraidWarning, compose, decompose
from unbraid.networks.cells import Cell
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec

WORDS, DIMENSION = 1000, 64
PATH = files.RESULTS / "scaling.json"
BASE: dict[str, Any] = {"cell": "lstm", "classes": 10, "each": 200, "steps": 20, "units": 128, "layers": 1, "keep": 0.3}
GROWTH: dict[str, tuple[Any, ...]] = {
    "each": (50, 100, 200, 400, 800),
    "steps": (5, 20, 80, 320),
    "units": (32, 64, 128, 256, 512),
    "classes": (2, 10, 40, 160),
    "layers": (1, 2, 4),
    "keep": (0.1, 0.3, 0.5, 0.8),
}
CELLS: dict[str, dict[str, Any]] = {
    f"{cell}, {layers} layer{'s' if layers > 1 else ''}, ten classes": {"cell": cell, "layers": layers, "each": 500}
    for cell in ("lstm", "gru", "rnn")
    for layers in (1, 2)
}
LARGE: dict[str, dict[str, Any]] = {
    "150 classes": {"classes": 150, "each": 100},
    "512 units": {"units": 512, "each": 200},
    "200 timesteps": {"steps": 200, "each": 100},
    "two layers of 1024 units, 150 classes": {"units": 1024, "layers": 2, "classes": 150, "each": 10, "steps": 10},
    "1000 classes, 256 units": {"units": 256, "classes": 1000, "each": 10, "steps": 10},
    "10000 classes, 256 units": {"units": 256, "classes": 10_000, "each": 4, "steps": 10},
}
USED = (*CELLS, "512 units")  # whose modules are also composed and fused
SHARED = {f"{classes} classes, two processes": {"classes": classes, "each": 100} for classes in (20, 64, 150)}
BOUNDED = {
    "two layers of 1024 units, 150 classes": "2GB",
    "1000 classes, 256 units": "1GB",
    "10000 classes, 256 units": "1GB",
}
ENOUGH = {"10000 classes, 256 units": 30}  # smallest number of examples of a class that gets a module; 2 for others
REPEATS = 3  # the smallest time counts; of decompositions only for ten classes
SCORED = 2_000  # examples that make the classes about equally frequent


def sizes() -> dict[str, dict[str, Any]]:
    """Return name -> settings of all sizes."""
    grown = {f"{axis} {value}": {**BASE, axis: value} for axis, values in GROWTH.items() for value in values}
    return grown | {name: {**BASE, **changes} for name, changes in (CELLS | LARGE | SHARED).items()}


def run(again: bool) -> None:
    """Measure the sizes without a result; the file is written after each."""
    found = {} if again or not PATH.exists() else json.loads(PATH.read_text())["sizes"]
    for name in track([name for name in sizes() if name not in found], "scaling"):
        done = subprocess.run([sys.executable, "-m", __spec__.name, name], capture_output=True, text=True, check=True)
        found[name] = json.loads(done.stdout)
        files.write(PATH, {"sizes": found})


def measured(name: str) -> dict[str, Any]:
    """Measure one size in this process."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", UnbraidWarning)
    size = sizes()[name]
    network, x = _network(size)
    y = network.predict_index(x)
    passed, _ = _cpu(lambda: network.predict_index(x), REPEATS)
    before = _peak()
    settings: dict[str, Any] = {"samples_per_class": 1000, "memory": BOUNDED.get(name)}
    if name in ENOUGH:
        settings["classes"] = np.flatnonzero(np.bincount(y) >= ENOUGH[name]).tolist()
    repeats = REPEATS if name in USED else 1
    spent, parts = _cpu(lambda: decompose(network, (x, y), keep=size["keep"], progress=False, **settings), repeats)
    memory = _peak() - before
    if name in SHARED:
        walls = [_wall(network, (x, y), size["keep"], jobs, copies) for jobs, copies in ((1, 1), (2, 1), (1, 2))]
        return {**size, "made": len(parts), "wall": walls[:2], "apart": walls[2]}
    found = {
        **size,
        "made": len(parts),
        "pass": passed,
        "decompose": spent,
        "peak_mb": memory,
        "modules_mb": _own_bytes(parts) / 1e6,
        "budget": BOUNDED.get(name),
    }
    if name in USED:
        composition = compose(parts)
        found["composed"], _ = _cpu(lambda: composition.margins(x), repeats)
        fused = composition.fuse(x, keep=size["keep"])
        found["fused"], _ = _cpu(lambda: fused.margins(x), repeats)
        paper = {"strategy": "paper", "samples_per_class": 1000}
        found["paper"], _ = _cpu(lambda: decompose(network, (x, y), progress=False, **paper), repeats)
    return found


def _own_bytes(parts: Decomposition) -> int:
    """Return the bytes of the weights that modules have of their own: their smaller layers and output layers."""
    found = 0
    for module in parts.values():
        layers = [] if module.weights is None else list(module.weights.values())
        tensors = [module.head.weight, module.head.bias, *(weight for layer in layers for weight in layer.values())]
        found += sum(tensor.nbytes for tensor in tensors)
    return found


def _wall(network: Network, examples: tuple[np.ndarray, np.ndarray], keep: float, jobs: int, copies: int) -> float:
    """Return the seconds that a decomposition takes in this number of processes, or that several at once take."""
    context, found = multiprocessing.get_context("fork"), []
    for _ in range(REPEATS):
        call = partial(decompose, network, examples, keep=keep, samples_per_class=1000, jobs=jobs, progress=False)
        others = [context.Process(target=call) for _ in range(copies - 1)]
        started = time.perf_counter()
        for other in others:
            other.start()
        call()
        for other in others:
            other.join()
        found.append(time.perf_counter() - started)
    return min(found)


def _network(size: dict[str, Any]) -> tuple[Network, np.ndarray]:
    """Make a network whose classes are about equally frequent, and examples."""
    make, units = torch.Generator().manual_seed(0), size["units"]
    cell, last = Cell(kind=size["cell"]), size["layers"] - 1
    recurrent = [
        RecurrentSpec(name=f"l{n}", cell=cell, inputs=units if n else DIMENSION, units=units, sequences=n < last)
        for n in range(size["layers"])
    ]
    stages = [EmbeddingSpec(name="e", vocabulary=WORDS, dimension=DIMENSION), *recurrent]
    spec = NetworkSpec(stages=stages, head="o", features=units, classes=size["classes"])
    shapes = Network.skeleton(spec).state_dict()
    weights = {name: torch.randn(own.shape, generator=make) / units**0.5 for name, own in shapes.items()}
    weights["body.stages.0.weight"] *= units**0.5
    x = torch.randint(2, WORDS, (size["classes"] * size["each"], size["steps"]), generator=make).numpy()
    scores = Network(spec, weights).logits(x[: SCORED + size["classes"] // 4])
    weights["head.bias"] -= torch.from_numpy(scores.mean(0))
    return Network(spec, weights), x


def _cpu(call: Callable[[], Any], repeats: int = 1) -> tuple[float, Any]:
    found = []
    for _ in range(repeats):
        started = time.process_time()
        result = call()
        found.append(time.process_time() - started)
    return min(found), result


def _peak() -> float:
    """Return the peak memory of this process in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
