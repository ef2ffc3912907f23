"""What recurrent layers read at every timestep. Shapes: N examples, T timesteps, D inputs, H hidden units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.spec import NetworkSpec

HELD = 128 * 2**20  # bytes of states and features of the parent that are held in memory


@dataclass(frozen=True)
class States:
    """What one recurrent layer reads.

    Attributes:
        x: its inputs, (N, T, D).
        previous: the hidden states before each timestep, (N, T, H).
        valid: which timesteps count, (N, T); None: all.
    """

    x: Tensor
    previous: Tensor
    valid: Tensor | None = None

    def take(self, rows: np.ndarray) -> States:
        """The states of some examples."""
        index = torch.from_numpy(rows).to(self.x.device)
        return States(self.x[index], self.previous[index], None if self.valid is None else self.valid[index])


class HeldPass:
    """Values of one pass of the parent over the sample, where they fit into memory.

    The batches of a user's own module may have different numbers of timesteps, so nothing is held for these.

    Args:
        network: the parent.
        examples: N.
    """

    def __init__(self, network: Network, examples: int) -> None:
        self._layers: Mapping[str, RecurrentLayer] = (
            network.recurrent_layers() if isinstance(network.spec, NetworkSpec) else {}
        )
        self._examples, self._fits = examples, bool(self._layers)
        self._read: dict[str, list[Tensor]] = {name: [] for name in self._layers}
        self._features: list[Tensor] = []

    def add(self, read: Mapping[str, Tensor], features: Tensor) -> None:
        """Add a batch.

        Args:
            read: layer name -> [x, previous, 1], (n, T, D + H + 1).
            features: what the output layer reads, (n, F) or (n, T, F).
        """
        if not self._features and self._fits:
            values = sum(read[name].numel() for name in self._layers) + features.numel()
            self._fits = 4 * values * self._examples <= HELD * len(features)
        if self._fits:
            self._features.append(features)
            for name, parts in self._read.items():
                parts.append(read[name])

    def features(self) -> Tensor | None:
        """What the output layer reads of all examples, (N, F) or (N, T, F); None where that was not held."""
        return torch.cat(self._features) if self._fits else None

    def states(self) -> dict[str, States] | None:
        """What every recurrent layer reads of all examples; None where that was not held."""
        if not self._fits:
            return None
        found = {}
        for name, parts in self._read.items():
            inputs, z = self._layers[name].inputs, torch.cat(parts)
            found[name] = States(z[..., :inputs], z[..., inputs:-1])
        return found
