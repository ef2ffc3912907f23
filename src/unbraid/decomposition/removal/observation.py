"""Record the values of all nodes of a network over a sample, in one pass over batches.

Shapes: R sampled examples, T timesteps, H units, G gates, U recorded columns of a layer (H, or G*H ordered by gate).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from unbraid.decomposition.reconstruction.moments import by_steps
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.watching import watched

MEMORY = 256 * 2**20  # bytes of values kept in memory; more values go to a temporary file


@dataclass(frozen=True)
class _Array:
    """A float32 array in memory or in a file. The file is mapped at each use, so that its pages can be released."""

    held: np.ndarray | None
    file: str
    shape: tuple[int, ...]

    def open(self) -> np.ndarray:
        if self.held is not None:
            return self.held
        return np.memmap(self.file, np.float32, "r+", shape=self.shape)


@dataclass
class LayerValues:
    """Values of the nodes of one layer.

    Attributes:
        stored: the array of values.
        valid: booleans (T, R), False at masked timesteps; None if no timestep is masked.
    """

    stored: _Array
    valid: np.ndarray | None

    @property
    def values(self) -> np.ndarray:
        """Return the values, (U, T, R) float32."""
        return self.stored.open()


@dataclass
class Observation:
    """Values of every layer, in memory or in a temporary file.

    Attributes:
        layers: layer name -> values.
        steps: timesteps that the network decides at, 1 if it decides once.
        features: inputs of the output layer, (R, F); None where the network decides at each timestep, or where they
            take too much memory.
    """

    layers: dict[str, LayerValues] = field(default_factory=dict)
    steps: int = 1
    features: Tensor | None = None


@contextmanager
def observe(
    network: Network,
    x: Inputs,
    gates: bool = False,
    advance: Callable[[int], object] = lambda examples: None,
    memory: int = MEMORY,
    layers: Mapping[str, Layer] | None = None,
) -> Iterator[Observation]:
    """Run the sample once and record the values of all nodes.

    Args:
        network: the parent network.
        x: checked inputs of the R sampled examples.
        gates: record every gate of recurrent layers instead of the hidden state.
        advance: called after every batch with the number of its examples.
        memory: bytes of values kept in memory. More values go to a temporary file that exists within the context.
        layers: the layers to record, by name; all by default.

    Yields:
        the observation.
    """
    found = Observation()
    layers = network.layers if layers is None else layers
    with tempfile.TemporaryDirectory(prefix="unbraid-") as folder, torch.inference_mode():
        rooms: dict[str, _Room] = {}
        start = 0
        with watched(layers, partial(_values, gates)) as seen:
            for batch in x.batches():
                features = network.features(to_device(batch, network.device))
                found.steps = max(found.steps, features.shape[1] if features.dim() > 2 else 1)
                if not start and features.dim() == 2 and 4 * len(x) * features.shape[1] <= memory:
                    found.features = features.new_empty(len(x), features.shape[1])
                if found.features is not None:
                    found.features[start : start + len(features)] = features
                for name, (values, valid) in seen.items():
                    room = rooms.setdefault(name, _Room(len(x), memory // len(layers), Path(folder)))
                    room.put(start, values, valid)
                examples = min(BATCH, len(x) - start)
                start += examples
                advance(examples)
        found.layers = {name: room.closed() for name, room in rooms.items()}
        yield found
        found.layers.clear()


def _values(gates: bool, layer: Layer, inputs: tuple, output: tuple) -> tuple[Tensor, Tensor | None]:
    """Return the values (n, T, U) of the nodes or the gates of a layer, and the mask (n, T)."""
    x, valid, initial = (*inputs, None, None)[:3]
    values = output[0]
    if gates and isinstance(layer.module, RecurrentLayer):
        values = torch.cat(layer.module.gates(x, values, initial[0] if initial else None), dim=-1)
    if layer.cell is None:
        return by_steps(values), valid if values.dim() == 3 else None
    return (values.unsqueeze(1), None) if values.dim() == 2 else (values, valid)


class _Room:
    """Storage for the values of one layer, (U, T, R): memory or a temporary file.

    Args:
        examples: number of examples R.
        memory: largest number of bytes in memory.
        folder: folder of the temporary file.
    """

    def __init__(self, examples: int, memory: int, folder: Path) -> None:
        self.examples, self.memory, self.folder = examples, memory, folder
        self.stored = _Array(np.empty((0, 0, examples), np.float32), "", (0, 0, examples))
        self.valid: np.ndarray | None = None

    def put(self, start: int, values: Tensor, valid: Tensor | None) -> None:
        """Store a batch: values (n, T, U) and mask (n, T). Batches may differ in T."""
        count, steps, units = values.shape
        stop = start + count
        known = self.stored.shape[1]
        if start and (valid is not None or steps != known) and self.valid is None:
            self.valid = np.ones((known, self.examples), bool)
        if steps > known:
            self._grow(units, steps)
        turned = values.reshape(count, -1).t().contiguous().view(steps, units, count)  # torch is fast at 2 axes only
        torch.from_numpy(self.stored.open())[:, :steps, start:stop].copy_(turned.transpose(0, 1))
        if valid is not None and self.valid is None:
            self.valid = np.ones((self.stored.shape[1], self.examples), bool)
        if self.valid is not None:
            self.valid[:, start:stop] = False
            self.valid[:steps, start:stop] = True if valid is None else valid.t().cpu().numpy()

    def closed(self) -> LayerValues:
        """Finish, and return the stored values."""
        return LayerValues(self.stored, self.valid)

    def _grow(self, units: int, steps: int) -> None:
        shape = (units, steps, self.examples)
        old, known = self.stored, self.stored.shape[1]
        if 4 * math.prod(shape) > self.memory:
            _, name = tempfile.mkstemp(dir=self.folder)
            with open(name, "r+b") as file:
                file.truncate(4 * math.prod(shape))
            self.stored = _Array(None, name, shape)
        else:
            self.stored = _Array(np.empty(shape, np.float32), "", shape)
        if known:
            self.stored.open()[:, :known] = old.open()
        if self.valid is not None:
            self.valid = np.concatenate([self.valid, np.zeros((steps - known, self.examples), bool)])
