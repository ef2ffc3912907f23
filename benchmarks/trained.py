"""The models of the comparison: trained once, then read from a cache outside the repository.

``python -m benchmarks.trained`` trains what is missing; it can be interrupted at any time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from rich.progress import track
from safetensors import safe_open
from safetensors.torch import save_file

from benchmarks import datasets
from benchmarks.files import cache_folder
from unbraid import Network
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.training import train
from unbraid.networks.cells import Cell
from unbraid.networks.spec import NetworkSpec
from unbraid.progress import silent

UNITS = 100
DIMENSION = {"brown": 100}  # 50 elsewhere
EPOCHS = {"clinc": 6, "mathqa": 3, "toxic": 2, "brown": 2}
BATCH = {"clinc": 64}  # 128 elsewhere
CELLS = {"vanilla": Cell(kind="rnn"), "LSTM": Cell(kind="lstm"), "GRU": Cell(kind="gru")}
LAYERS = (1, 2, 3, 4)
SEEDS = (0, 1, 2)
RECIPE = 1  # a higher one trains all models anew


@dataclass(frozen=True)
class Model:
    """One trained model of the comparison."""

    data: str
    cell: str
    layers: int
    seed: int

    @property
    def name(self) -> str:
        """As ``clinc-LSTM-2-seed0``."""
        return f"{self.data}-{self.cell}-{self.layers}-seed{self.seed}"

    @property
    def path(self) -> Path:
        """Where its weights are kept."""
        return cache_folder() / f"{self.name}-recipe{RECIPE}.safetensors"

    def spec(self) -> NetworkSpec:
        """Its architecture, the paper's for the data set."""
        data = datasets.load(self.data)
        return sequence_spec(
            CELLS[self.cell],
            self.layers,
            data.vocabulary.size,
            DIMENSION.get(self.data, 50),
            UNITS,
            len(data.labels),
            data.about.io,
            data.train[0].shape[1],
            outputs=data.about.outputs,
        )

    def network(self) -> Network:
        """The trained network; from the cache where it is there."""
        data = datasets.load(self.data)
        if not self.path.exists():
            network = train(
                self.spec(),
                *data.train,
                data.labels,
                epochs=EPOCHS[self.data],
                batch_size=BATCH.get(self.data, 128),
                seed=self.seed,
                progress=silent,
            )
            self.path.parent.mkdir(parents=True, exist_ok=True)
            temporary = self.path.with_suffix(f".{os.getpid()}")
            save_file(network.weights(), temporary, {"spec": network.spec.model_dump_json()})
            temporary.replace(self.path)
        with safe_open(self.path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            spec = NetworkSpec.model_validate(json.loads(file.metadata()["spec"]))
        return Network(spec, weights, data.labels).read_with(data.vocabulary)


def models(sets: tuple[str, ...] = tuple(EPOCHS), seeds: tuple[int, ...] = SEEDS) -> list[Model]:
    """All of them, seed by seed, so that an interrupted run has whole comparisons."""
    return [Model(d, c, n, s) for s, d, n, c in product(seeds, sets, LAYERS, CELLS)]


def main() -> None:
    """Train what is missing."""
    for model in track([m for m in models() if not m.path.exists()], "training"):
        started = time.perf_counter()
        network = model.network()
        x, y = datasets.load(model.data).held_out
        found, counted = network.predict_index(x), y >= 0
        right = (found == y)[counted].mean()
        print(f"{model.name}: held-out accuracy {right:.4f}, {time.perf_counter() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
