"""The classifiers of the comparison. They are trained once and stored in a cache outside the repository.

``python -m benchmarks.training.classifiers`` trains missing models; it can be interrupted at any time.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.datasets import loading as datasets
from benchmarks.datasets.loading import DataSet
from benchmarks.files import cache_folder
from benchmarks.training.cache import cached
from unbraid import Network
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.training import train
from unbraid.networks.cells import Cell
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import DenseSpec
from unbraid.progress import silent

UNITS = 100
DIMENSION = {"brown": 100}  # 50 for the others
EPOCHS = {"clinc": 6, "mathqa": 3, "toxic": 2, "brown": 2}
QUICK_EPOCHS = 4  # factor of the epochs at the quick scale, which has few training examples
BATCH = {"clinc": 64}  # 128 for the others
CELLS = {"vanilla": Cell(kind="rnn"), "LSTM": Cell(kind="lstm"), "GRU": Cell(kind="gru")}
RELU = {"ReLU": Cell(kind="rnn", activation="relu")}
LAYERS = (1, 2, 3, 4)
SEEDS = (0, 1, 2)
RECIPE = 1  # version of the training; with a higher number all models are trained again


@dataclass(frozen=True)
class Model:
    """One trained model of the comparison.

    Attributes:
        data: one of the data sets.
        cell: vanilla, ReLU, LSTM or GRU.
        layers: number of recurrent layers.
        seed: seed of the training.
        joint: whether the vocabulary also has the words of the partner, as in the paper's inter experiments.
        rows: number of training examples; None for all.
        hidden: units of a dense ReLU layer behind the recurrent layers; 0 for none, as in the paper.
    """

    data: str
    cell: str
    layers: int
    seed: int = 0
    joint: bool = False
    rows: int | None = None
    hidden: int = 0

    @property
    def name(self) -> str:
        """Name of the model, such as ``clinc-LSTM-2-seed0``."""
        more = ("-joint" if self.joint else "") + (f"-rows{self.rows}" if self.rows else "")
        more += f"-dense{self.hidden}" if self.hidden else ""
        return f"{self.data}-{self.cell}-{self.layers}-seed{self.seed}{more}"

    @property
    def examples(self) -> DataSet:
        """Data set for training and testing."""
        return datasets.load(self.data, self.joint, self.rows)

    @property
    def path(self) -> Path:
        """Path of the weights."""
        return cache_folder() / f"{self.name}-recipe{RECIPE}.safetensors"

    def spec(self, classes: int) -> NetworkSpec:
        """Describe the architecture, which is that of the paper for the data set."""
        data = self.examples
        spec = sequence_spec(
            (CELLS | RELU)[self.cell],
            self.layers,
            data.vocabulary.size,
            DIMENSION.get(self.data, 50),
            UNITS,
            classes,
            data.about.io,
            data.train[0].shape[1],
            outputs=data.about.outputs,
        )
        if not self.hidden:
            return spec
        dense = DenseSpec(name="dense", inputs=spec.features, units=self.hidden, activation="relu")
        return spec.model_copy(update={"stages": [*spec.stages, dense], "features": self.hidden})

    def network(self) -> Network:
        """Return the trained network from the cache, or train it."""
        data = self.examples
        return cached(self.path, lambda: trained_on(self, *data.train, data.labels), data.labels, data.vocabulary)


def trained_on(model: Model, x: np.ndarray, y: np.ndarray, labels: list[str]) -> Network:
    """Train a network with the architecture and settings of a model on other examples or classes."""
    return train(
        model.spec(len(labels)),
        x,
        y,
        labels,
        epochs=EPOCHS[model.data] * (QUICK_EPOCHS if model.rows else 1),
        batch_size=BATCH.get(model.data, 128),
        seed=model.seed,
        progress=silent,
    )


def models(sets: tuple[str, ...] = tuple(EPOCHS), seeds: tuple[int, ...] = SEEDS) -> list[Model]:
    """Return all models by seed, so that an interrupted run gives complete comparisons."""
    return [Model(d, c, n, s) for s, d, n, c in product(seeds, sets, LAYERS, CELLS)]


def wanted() -> list[Model]:
    """Return the models of the experiments: first seed, inter experiments and ReLU first, then the other seeds."""
    found = models(seeds=SEEDS[:1])
    found += [Model(d, c, n, joint=True) for d, n, c in product(EPOCHS, (1, 4), CELLS)]
    found += [Model(d, c, n) for d, n, c in product(EPOCHS, LAYERS, RELU)]
    return found + models(("clinc", "brown"), SEEDS[1:])


def main() -> None:
    """Train missing models."""
    for model in track([m for m in wanted() if not m.path.exists()], "training"):
        started = time.perf_counter()
        network = model.network()
        x, y = model.examples.held_out
        found, counted = network.predict_index(x), y >= 0
        right = (found == y)[counted].mean()
        print(f"{model.name}: held-out accuracy {right:.4f}, {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
