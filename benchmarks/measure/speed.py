"""Measure speed, memory and size of decomposition and of modules, as ratios within one run on one thread."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.experiments.ways import EACH_STEP
from benchmarks.measure.clinc import MODELS, MODES
from benchmarks.training.classifiers import Model
from unbraid import DecompositionConfig, Network, compose, decompose, evaluate
from unbraid.data.targets import read_targets
from unbraid.decomposition.sampling import choose

REPEATS = 3
BROWN = "brown-LSTM-1"  # trained here with the settings of the authors' code, which evaluates 650 sentences
SENTENCES = 650

Job = tuple[Network, tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def job(model: str) -> Job:
    """Return a network, its training examples and its test examples."""
    if model == BROWN:
        trained = Model("brown", "LSTM", 1)
        x, y = trained.examples.test
        return trained.network(), trained.examples.train, (x[:SENTENCES], y[:SENTENCES])
    data = files.clinc()
    return files.reference_model(MODELS[model]), (data["X"], data["Y"]), (data["x"], data["y"])


def run(again: bool) -> None:
    """Measure each model and mode without a result."""
    for model, mode in track([(m, k) for m in (*MODELS, BROWN) for k in MODES], "speed"):
        path = files.RESULTS / "speed" / f"{model}-{mode}.json"
        if not path.exists() or again:
            files.write(path, {"model": model, "mode": mode, **_measure(model, mode), **_whole_process(model, mode)})


def _measure(model: str, mode: str) -> dict[str, Any]:
    torch.set_num_threads(1)
    network, train, (x, _) = job(model)
    config = _config(model, mode)
    targets = read_targets(train[1], network.labels, many=network.io.many_outputs)
    sampled = train[0][choose(targets, config).rows]
    parts = decompose(network, train, config=config)
    composition = compose(parts)
    seconds = _interleaved(
        {
            "sample_pass": lambda: network.logits(sampled),
            "decompose": lambda: decompose(network, train, config=config),
            "test_pass": lambda: network.logits(x),
            "composed": lambda: composition.margins(x),
        }
    )
    return {
        "sampled": len(sampled),
        "seconds": seconds,
        "decompose_over_pass": seconds["decompose"] / seconds["sample_pass"],
        "composed_over_passes": seconds["composed"] / seconds["test_pass"] / len(parts),
        **_sizes(network, parts),
    }


def _config(model: str, mode: str) -> DecompositionConfig:
    """Return the settings of the paper; with many outputs, examples are counted for each timestep."""
    return DecompositionConfig.of(mode=mode, strategy="paper", samples_per_class=EACH_STEP if model == BROWN else 500)


def _interleaved(calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Measure the median seconds of each call. The calls alternate, so that drift affects them equally."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(REPEATS + 1):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            found[name].append(time.perf_counter() - started)
    return {name: statistics.median(values[1:]) for name, values in found.items()}


def _sizes(network: Network, parts: Any) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        parts.save(Path(folder) / "parts")
        sizes = {f.name: f.stat().st_size for f in (Path(folder) / "parts").iterdir()}
    parent = sum(4 * p.numel() for p in network.parameters())
    return {
        "parent_bytes": parent,
        "folder_bytes": sum(sizes.values()),
        "files": len(sizes),
        "modules_over_parent": (sum(sizes.values()) - sizes["parent.safetensors"]) / parent,
    }


def _whole_process(model: str, mode: str) -> dict[str, Any]:
    """Measure seconds and peak memory of a process that loads, decomposes and evaluates, and of one that only loads."""
    return {
        f"{part}_process": _child([sys.executable, "-m", "benchmarks.measure.speed", model, mode, part])
        for part in ("load", "all")
    }


def _child(command: list[str]) -> dict[str, float]:
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=files.ROOT.parent)
    return {"seconds": time.perf_counter() - started, "peak_megabytes": float(done.stdout.split()[-1])}


def _alone(model: str, mode: str, part: str) -> None:
    torch.set_num_threads(1)
    network, train, test = job(model)
    if part == "all":
        evaluate(compose(decompose(network, train, config=_config(model, mode))), test, against=network)
    assert np.isfinite(test[0]).all()
    print(_peak_megabytes())


def _peak_megabytes() -> float:
    """Return the peak memory of this process; getrusage would also count the process that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith("VmHWM"))) / 1024


if __name__ == "__main__":
    _alone(*sys.argv[1:4])
