"""Compare votes between modules of two parents before and after calibration on a few held-out examples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.datasets import loading as datasets
from benchmarks.training.classifiers import Model
from unbraid import Composition, compose, decompose, evaluate

PAIRS = [("LSTM", 1, "vanilla", 4), ("GRU", 1, "LSTM", 4), ("vanilla", 1, "GRU", 4)]  # even classes, odd classes
SETS = ("clinc", "mathqa", "brown")
EXAMPLES = (1, 5, 20)  # mean number of examples per class
DRAWS = 3
KEEP = 0.3


def run(again: bool) -> None:
    """Measure each pair without a result; pairs without trained models are left out."""
    for name in SETS:
        for pair in track(PAIRS, f"calibrating {name}"):
            parents = [Model(name, pair[0], pair[1], 0), Model(name, pair[2], pair[3], 0)]
            path = files.RESULTS / "calibrating" / f"{name}-{'-'.join(map(str, pair))}.json"
            if (again or not path.exists()) and all(model.path.exists() for model in parents):
                files.write(path, {"data": name, "pair": pair, **_measured(parents)})


def _measured(parents: list[Model]) -> dict[str, Any]:
    torch.set_num_threads(1)
    data = datasets.load(parents[0].data)
    both = [decompose(model.network(), data.train, keep=KEEP) for model in parents]
    mixed = Composition({label: both[n % 2][label] for n, label in enumerate(both[0])})  # calibrated below
    found: dict[str, Any] = {"alone": [_figures(compose(parts), data) for parts in both]}
    found["uncalibrated"] = _figures(mixed, data)
    for count in EXAMPLES:
        drawn = [sample(data, count, seed) for seed in range(DRAWS)]
        found[str(count)] = [_figures(mixed.with_calibration(*sample), data) for sample in drawn]
    return found


def _figures(composition: Composition, data: datasets.DataSet) -> dict[str, float]:
    result = evaluate(composition, data.test)
    return {"accuracy": result.accuracy, "calibration_error": result.calibration_error}


def sample(data: datasets.DataSet, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw held-out decisions in natural proportions, ``count`` per class on average and at least one of each class.

    Calibration assumes that the classes have the same shares in the sample and in later use.
    """
    x, y = data.held_out
    places = np.random.default_rng(seed).permutation(np.argwhere(y >= 0))
    labels = y[tuple(places.T)]
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(len(data.labels))]
    chosen = np.full(y.shape, -1)
    for place in np.union1d(np.arange(count * len(data.labels)), first):
        chosen[tuple(places[place])] = labels[place]
    rows = (chosen >= 0).any(-1) if chosen.ndim > 1 else chosen >= 0
    return x[rows], chosen[rows]
