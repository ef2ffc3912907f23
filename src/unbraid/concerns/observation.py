"""Watching every node of a network over a sample, in one pass, in batches.

Shapes: R sampled examples, T timesteps, H units, G gates, U watched columns of a layer (H, or G*H gate by gate).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.networks.inputs import batches
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer

MEMORY = 256 * 2**20  # bytes of observed values held in memory; beyond that they go to a temporary file


@dataclass
class LayerValues:
    """What one layer's nodes did.

    Attributes:
        values: (U, T, R) float32.
        valid: (T, R) booleans, False at steps that a mask leaves out; None where all count.
    """

    values: np.ndarray
    valid: np.ndarray | None


@dataclass
class Observation:
    """Values of every layer; a context manager where they may lie in a temporary file.

    Attributes:
        layers: layer name -> values.
    """

    layers: dict[str, LayerValues] = field(default_factory=dict)


@contextmanager
def observe(
    network: Network,
    x: np.ndarray,
    gates: bool = False,
    advance: Callable[[int], object] = lambda examples: None,
    memory: int = MEMORY,
) -> Iterator[Observation]:
    """Run the sample once and keep what its nodes did.

    Args:
        network: the monolithic model.
        x: checked inputs of the sampled examples, (R, ...).
        gates: watch every gate of recurrent layers instead of their hidden state.
        advance: told after every batch how many examples it held (progress).
        memory: bytes of values held in memory; more than that lie in a temporary file while the context lasts.

    Yields:
        the observation.
    """
    found = Observation()
    with tempfile.TemporaryDirectory(prefix="unbraid-") as folder, torch.inference_mode():
        watched = _Watched(network.layers, gates)
        start = 0
        with watched:
            for batch in batches(x):
                network.features(batch.to(network.device))
                if not found.layers:
                    found.layers = _allocated(watched.seen, len(x), memory, Path(folder))
                for name, (values, valid) in watched.seen.items():
                    stop = start + values.shape[0]
                    room = torch.from_numpy(found.layers[name].values)[:, :, start:stop]
                    room.copy_(values.permute(2, 1, 0))
                    if valid is not None:
                        found.layers[name].valid[:, start:stop] = valid.t().cpu().numpy()  # type: ignore[index]
                start += len(batch)
                advance(len(batch))
        yield found
        found.layers.clear()


class _Watched:
    """Hooks on the layers: after a pass, ``seen`` has each layer's values (n, T, U) and mask (n, T)."""

    def __init__(self, layers: dict[str, Layer], gates: bool) -> None:
        self.layers, self.gates = layers, gates
        self.seen: dict[str, tuple[Tensor, Tensor | None]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> _Watched:
        for layer in self.layers.values():
            self._handles.append(layer.module.register_forward_hook(self._hook(layer)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _hook(self, layer: Layer) -> Callable[[nn.Module, tuple, tuple], None]:
        def hook(module: nn.Module, inputs: tuple, output: tuple) -> None:
            x, valid = inputs[0], inputs[1] if len(inputs) > 1 else None
            values = output[0]
            if self.gates and isinstance(module, RecurrentLayer):
                values = torch.cat(module.gates(x, values), dim=-1)
            if values.dim() == 2:
                values, valid = values.unsqueeze(1), None
            self.seen[layer.name] = (values, valid)

        return hook


def _allocated(
    seen: dict[str, tuple[Tensor, Tensor | None]], rows: int, memory: int, folder: Path
) -> dict[str, LayerValues]:
    shapes = {name: (values.shape[2], values.shape[1], rows) for name, (values, _) in seen.items()}
    on_disk = sum(4 * math.prod(shape) for shape in shapes.values()) > memory
    layers = {}
    for number, (name, shape) in enumerate(shapes.items()):
        valid = None if seen[name][1] is None else np.zeros(shape[1:], bool)
        if on_disk:
            values: np.ndarray = np.memmap(folder / f"{number}.f32", np.float32, "w+", shape=shape)
        else:
            values = np.empty(shape, np.float32)
        layers[name] = LayerValues(values, valid)
    return layers
