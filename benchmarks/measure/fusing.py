"""Compare compact modules and fused modules with one pass of the whole network: seconds and accuracy.

Ratios are computed within one run on one thread, from its CPU seconds. Other processes affect them only through shared
caches. For sizes without a model of the authors, untrained networks are used; only their speed is meaningful.
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
    """Measure each model without a result."""
    torch.set_num_threads(1)
    for name in track([*MODELS, *UNTRAINED], "fusing"):
        path = files.RESULTS / "fusing" / f"{name}.json"
        if not path.exists() or again:
            files.write(path, {"model": name, **_measure(name)})


def _measure(name: str) -> dict[str, Any]:
    data = files.clinc()
    network = _untrained(data, *UNTRAINED[name]) if name in UNTRAINED else files.reference_model(MODELS[name])
    y = network.predict_index(data["X"]) if name in UNTRAINED else data["Y"]
    samples = 50 if name in UNTRAINED else 500  # few, for a network that is only timed
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
    """Make an LSTM for CLINC that predicts each class for some examples."""
    words = 1 + int(max(data["X"].max(), data["x"].max()))
    spec = sequence_spec(Cell(kind="lstm"), layers, words, 50, units, 10, "M:1", data["x"].shape[1])
    weights = initial_weights(spec, 0)
    mean = Network(spec, weights).logits(data["X"]).mean(0)
    name = next(n for n, w in weights.items() if n.startswith("head") and w.dim() == 1)
    return Network(spec, {**weights, name: weights[name] - torch.from_numpy(mean)})


def _delta(whole: Any, data: dict[str, np.ndarray], size: int) -> dict[str, float]:
    """Compute accuracy of fused minus unpruned modules for random choices of classes, on their test examples."""
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
    """Measure the median CPU seconds of each call. The calls alternate, so that drift affects them equally."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS + 1):
        for name, call in calls.items():
            started = time.process_time()
            call()
            found[name].append(time.process_time() - started)
    return {name: statistics.median(values[1:]) for name, values in found.items()}
