"""Inputs and states of layers. Shapes: N examples, T timesteps, D inputs, H hidden units, F features."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stages import Dense

FEATURES = "(features)"
HELD = 128 * 2**20  # largest number of bytes of states and features of the parent in memory


@dataclass(frozen=True)
class States:
    """Inputs and states of one layer.

    Attributes:
        x: inputs of the layer, (N, T, D).
        previous: hidden states before each timestep, (N, T, H); (N, T, 0) of a dense layer.
        valid: mask (N, T), False at masked timesteps; None if no timestep is masked.
    """

    x: Tensor
    previous: Tensor
    valid: Tensor | None = None

    def take(self, rows: np.ndarray) -> States:
        """Return the states of some of the examples."""
        index = torch.from_numpy(rows).to(self.x.device)
        return States(self.x[index], self.previous[index], None if self.valid is None else self.valid[index])


class HeldPass:
    """Values of one pass of the parent over the sample: features, and what layers read, as far as they fit into memory.

    Nothing is stored for a user's PyTorch module, because its batches may have different numbers of timesteps.

    Args:
        network: the parent network.
        examples: number of examples N.
        memory: largest number of bytes, if that is less than :data:`HELD`.
        layers: the layers whose inputs are stored, by name.
    """

    def __init__(
        self, network: Network, examples: int, memory: float = HELD, layers: Mapping[str, Layer] | None = None
    ) -> None:
        self._known = isinstance(network.spec, NetworkSpec)
        own = layers or {}
        self._layers = {name: layer for name, layer in own.items() if not isinstance(layer.module, OwnLayer)}
        self._examples, self._memory = examples, min(memory, HELD)
        self._stored: dict[str, Tensor] = {}  # layer name -> what it reads, and FEATURES -> the features
        self._start = 0

    def add(self, read: Mapping[str, Tensor], features: Tensor) -> None:
        """Add a batch.

        Args:
            read: layer name -> [x, previous, 1], (n, T, D + H + 1), or [x, 1] of a dense layer.
            features: inputs of the output layer, (n, F) or (n, T, F).
        """
        if self._known and not self._start:
            self._allocate({FEATURES: features})
            self._allocate({name: read[name] for name in self._layers})
        for name, stored in self._stored.items():
            stored[self._start : self._start + len(features)] = features if name == FEATURES else read[name]
        self._start += len(features)

    def _allocate(self, parts: Mapping[str, Tensor]) -> None:
        """Make room for values of all examples, if there is enough for all of ``parts``; these are of a first batch."""
        size = sum(4 * part[0].numel() for part in parts.values()) * self._examples
        if size <= self._memory:
            self._memory -= size
            self._stored |= {name: part.new_empty(self._examples, *part.shape[1:]) for name, part in parts.items()}

    def features(self) -> Tensor | None:
        """Return the inputs of the output layer for all examples, (N, F) or (N, T, F); None if they are not stored."""
        return self._stored.get(FEATURES)

    def states(self) -> dict[str, States] | None:
        """Return the states of every layer for all examples; None if they are not stored."""
        if not self._stored.keys() >= self._layers.keys():
            return None
        found = {}
        for name, layer in self._layers.items():
            module, z = layer.module, self._stored[name]
            inputs = module.weight.shape[1] if isinstance(module, Dense) else module.inputs
            found[name] = States(z[..., :inputs], z[..., inputs:-1])
        return found
