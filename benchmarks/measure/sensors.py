"""Votes without labels between two sensor networks: synthetic recordings of an accelerometer and of a gyroscope.

Both have three channels. Gravity adds a constant to one channel of the accelerometer. The smaller it is, the more alike
are the recordings of both sensors. Shapes: N recordings, T timesteps, three channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from unbraid import Network, compose, decompose
from unbraid.demo.training import train
from unbraid.networks.cells import Cell
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import RecurrentSpec
from unbraid.progress import silent

KINDS = {
    "belt": {"standing": (0.0, 0.0), "walking": (0.9, 0.5), "running": (1.6, 0.9)},
    "wrist": {"typing": (0.3, 0.3), "waving": (0.8, 1.5), "brushing": (1.9, 0.8)},
}  # sensor -> movement -> radians per timestep, amplitude
GRAVITIES = (1.0, 0.5, 0.25, 0.0)
STEPS, UNITS, TRAINED, TESTED, EPOCHS = 24, 24, 800, 600, 30
SEEDS = (0, 1, 2)
KEEP = 0.5


def run(again: bool) -> None:
    """Measure each strength of gravity without a result."""
    for gravity in track(GRAVITIES, "sensors"):
        path = files.RESULTS / "sensors" / f"gravity-{gravity}.json"
        if again or not path.exists():
            found = [_measured(gravity, seed) for seed in SEEDS]
            means = {name: fmean(one[name] for one in found) for name in found[0]}
            files.write(path, {"gravity": gravity, "seeds": len(SEEDS), "recordings": 2 * TESTED, **means})


def _measured(gravity: float, seed: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    means = {"belt": np.asarray([0.0, 0.0, gravity]), "wrist": np.zeros(3)}
    learnt = {name: _recordings(kinds, means[name], TRAINED, seed) for name, kinds in KINDS.items()}
    networks = [_trained(*learnt[name], list(KINDS[name]), seed) for name in KINDS]
    parts = [decompose(network, learnt[name], keep=KEEP) for network, name in zip(networks, KINDS, strict=True)]
    both = compose([module for own in parts for module in own.values()])
    tested = [_recordings(kinds, means[name], TESTED, seed + 100) for name, kinds in KINDS.items()]
    x, y = (np.concatenate(pair) for pair in zip(*tested, strict=True))
    whole = (np.concatenate(pair) for pair in zip(*learnt.values(), strict=True))
    wrist = np.repeat([False, True], TESTED)
    found = {
        "margins": both.without_domain().predict(x),
        "evidence": both.predict(x),
        "trained": _trained(*whole, both.labels, seed).predict(x),
    }
    sensor = np.isin(found["evidence"], list(KINDS["wrist"])) == wrist
    own = [(network.predict(x) == y).mean() for network, (x, y) in zip(networks, tested, strict=True)]
    scores = {name: float((labels == y).mean()) for name, labels in found.items()}
    return {**scores, "sensor": float(sensor.mean()), "networks": float(np.mean(own))}


def _recordings(
    kinds: Mapping[str, tuple[float, float]], mean: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Make noisy sine waves in three channels with different phases, and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(kinds), count)
    speed, height = np.asarray(list(kinds.values()))[y].T
    phase = np.arange(STEPS) * speed[:, None] + rng.uniform(0, 6.28, count)[:, None]
    x = mean + np.sin(phase[..., None] + np.asarray([0, 0.8, 1.6])) * height[:, None, None]
    return (x + rng.normal(0, 0.2, x.shape)).astype(np.float32), np.asarray(list(kinds))[y]


def _trained(x: np.ndarray, y: np.ndarray, labels: list[str], seed: int) -> Network:
    layer = RecurrentSpec(name="lstm", cell=Cell(kind="lstm"), inputs=3, units=UNITS, sequences=False)
    spec = NetworkSpec(stages=[layer], head="output", features=UNITS, classes=len(labels), output="softmax")
    places = np.asarray([labels.index(label) for label in y])
    return train(spec, x, places, labels, epochs=EPOCHS, batch_size=50, seed=seed, progress=silent)
