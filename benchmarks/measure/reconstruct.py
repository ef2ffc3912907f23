"""Measure small modules (the default strategy) of the trained models by keep ratio, and baselines of equal size.

``python -m benchmarks.measure.reconstruct [PATTERN]`` measures the models with matching names, such as
``brown-*-seed0``.
"""

from __future__ import annotations

import fnmatch
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.datasets import loading as datasets
from benchmarks.training.classifiers import SEEDS, Model, models
from unbraid import Network, compose, decompose, evaluate
from unbraid.evaluation.metrics import detection

KEEPS = (0.5, 0.3, 0.15)
BASELINES = ("paper", "magnitude", "random")
SAMPLES = 500  # of each class
ORDER = (1, 4, 2, 3)  # order of the numbers of layers; an interrupted run then has the smallest and the largest


def run(again: bool, pattern: str = "*") -> None:
    """Measure each trained model without a result."""
    run_models("reconstruct", measured, again, pattern, SEEDS)


def run_models(
    folder: str, measure: Callable[[Model], dict[str, Any]], again: bool, pattern: str, seeds: Sequence[int]
) -> None:
    """Measure the trained models with matching names, and store one result for each.

    Args:
        folder: folder of the results, below :data:`benchmarks.files.RESULTS`.
        measure: measures a model.
        again: also measure models that have a result.
        pattern: of the names, such as ``brown-*-seed0``.
        seeds: seeds of the models.
    """
    wanted = [m for m in models(seeds=tuple(seeds)) if m.path.exists() and fnmatch.fnmatch(m.name, pattern)]
    wanted.sort(key=lambda m: (m.seed, ORDER.index(m.layers)))
    paths = {m: files.RESULTS / folder / f"{m.name}.json" for m in wanted}
    for model in track([m for m in wanted if again or not paths[m].exists()], folder):
        files.write(paths[model], measure(model))


def measured(model: Model) -> dict[str, Any]:
    """Measure modules of all sizes; the baselines for the first seed only."""
    torch.set_num_threads(1)
    data, network = datasets.load(model.data), model.network()
    started = time.perf_counter()
    network.logits(data.test[0])
    return {
        **{name: getattr(model, name) for name in ("data", "cell", "layers", "seed")},
        "io": data.about.io,
        "parent_f1": alone(network, data),
        "test_pass_seconds": time.perf_counter() - started,
        "sizes": [_size(network, data, keep, model.seed) for keep in KEEPS],
    }


def alone(network: Network, data: datasets.DataSet) -> float:
    """Compute the mean one-vs-rest F1 of the parent. It detects a class if its probability exceeds one half."""
    counted = data.test[1] >= 0
    claimed, true = network.predict_proba(data.test[0])[counted] > 0.5, data.test[1][counted]
    return float(np.mean([detection(claimed[:, j], true == j).f1 for j in range(network.classes)]))


def _size(network: Network, data: datasets.DataSet, keep: float, seed: int) -> dict[str, Any]:
    started = time.perf_counter()
    parts = decompose(network, data.train, keep=keep, samples_per_class=SAMPLES, seed=seed)
    seconds = time.perf_counter() - started
    baselines = {}
    for strategy in BASELINES if seed == SEEDS[0] else ():
        # the same number of examples as for reconstruct; removal counts them for each output timestep
        some = max(2, SAMPLES // (data.test[1].shape[1] if data.test[1].ndim > 1 else 1))
        settings: dict[str, Any] = {"strategy": strategy, "keep": keep, "head": "softmax", "samples_per_class": some}
        baselines[strategy] = figures(network, decompose(network, data.train, seed=seed, **settings), data)
    return {"keep": keep, "seconds": seconds, **figures(network, parts, data), "baselines": baselines}


def figures(network: Network, parts: Any, data: datasets.DataSet) -> dict[str, float]:
    """Evaluate the composition of all modules on the test part."""
    found = evaluate(compose(parts), data.test, against=network)
    assert found.delta is not None and found.monolithic_accuracy is not None
    return {
        "monolithic": found.monolithic_accuracy,
        "delta": found.delta,
        "f1": found.detection.f1,
        "nodes": found.retention.nodes,
        "recurrent_weights": found.retention.recurrent_weights,
        "calibration_error": found.calibration_error,
    }


if __name__ == "__main__":
    run(False, *sys.argv[1:2])
