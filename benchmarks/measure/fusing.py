"""Compact modules side by side, and fused, against one pass of the whole network: seconds and accuracy.

Ratios within one run on one thread, of the thread's own CPU seconds: other work on the machine does not count, but
for the caches that it takes part of. Untrained networks of other sizes stand in where the authors left no model; of
them only the speed says anything.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.measure.clinc import MODELS
from unbraid import Network, compose, decompose
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.networks.cells import Cell

REPEATS, KEEP, SIZES, DRAWS = 7, 0.3, (1, 2, 5, 10), 3
UNTRAINED = {"untrained-LSTM-4": (4, 100), "untrained-LSTM-1-H512": (1, 512)}  # layers, units


def run(again: bool) -> None:
    """Measure every model that has no result yet."""
    torch.set_num_threads(1)
    for name in track([*MODELS, *UNTRAINED], "fusing"):
        path = files.RESULTS / "fusing" / f"{name}.json"
        if not path.exists() or again:
            files.write(path, {"model": name, **_measure(name)})


def _measure(name: str) -> dict[str, Any]:
    data = files.clinc()
    network = _untrained(data, *UNTRAINED[name]) if name in UNTRAINED else files.reference_model(MODELS[name])
    y = network.predict_index(data["X"]) if name in UNTRAINED else data["Y"]
    samples = 50 if name in UNTRAINED else 500  # of a network that is only timed
    settings = {"head": "softmax", "samples_per_class": samples}
    compact = compose(decompose(network, (data["X"], y), strategy="reconstruct", keep=KEEP, **settings))
    whole = decompose(network, (data["X"], y), max_removed=0, **settings)
    fused = {k: compose([whole[j] for j in range(k)]).fuse(data["X"]) for k in SIZES}
    calls = {"pass": lambda: network.logits(data["x"]), "compact": lambda: compact.margins(data["x"])}
    for k, composition in fused.items():
        calls[f"fused {k}"] = lambda composition=composition: composition.margins(data["x"])
    seconds = _interleaved(calls)
    return {
        "seconds": seconds,
        "over_pass": {call: value / seconds["pass"] for call, value in seconds.items()},
        "nodes": {k: fused[k][0].retention().nodes for k in SIZES},
        "delta": {} if name in UNTRAINED else {k: _delta(whole, data, k) for k in SIZES[1:]},
    }


def _untrained(data: dict[str, np.ndarray], layers: int, units: int) -> Network:
    """An LSTM of CLINC's shape whose every class occurs."""
    words = 1 + int(max(data["X"].max(), data["x"].max()))
    spec = sequence_spec(Cell(kind="lstm"), layers, words, 50, units, 10, "M:1", data["x"].shape[1])
    weights = initial_weights(spec, 0)
    mean = Network(spec, weights).logits(data["X"]).mean(0)
    name = next(n for n, w in weights.items() if n.startswith("head") and w.dim() == 1)
    return Network(spec, {**weights, name: weights[name] - torch.from_numpy(mean)})


def _delta(whole: Any, data: dict[str, np.ndarray], size: int) -> dict[str, float]:
    """Accuracy fused minus that of untouched modules, on the test examples of the classes in use, over some draws."""
    rng, found = np.random.default_rng(0), []
    for _ in range(DRAWS if size < len(whole) else 1):
        used = rng.choice(len(whole), size, replace=False) if size < len(whole) else np.arange(size)
        composition = compose([whole[int(j)] for j in used])
        rows = np.isin(data["y"], used)
        x, y = data["x"][rows], data["y"][rows]
        right = [(c.predict(x) == y).mean() for c in (composition.fuse(data["X"]), composition)]
        found.append(float(right[0] - right[1]))
    return {"mean": statistics.fmean(found), "worst": min(found)}


def _interleaved(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Median CPU seconds of each call, the calls taking turns so that drift hits them alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            found[name].append(time.process_time() - started)
    return {name: statistics.median(values[1:]) for name, values in found.items()}
