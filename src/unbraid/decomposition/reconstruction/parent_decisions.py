"""Decisions of the parent that output layers are fitted to, read once for all modules.

Shapes: N examples, T timesteps, F features, M decisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data.targets import Targets
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.network import Network

DECIDED = 20_000  # decisions that output layers are fitted on, at most
HELD = 8_000_000  # values of the parent's features for them, at most


@dataclass(frozen=True)
class ParentDecisions:
    """Examples that output layers are fitted on, and what the parent's reads for their decisions, batch by batch."""

    x: Inputs
    counted: list[Tensor]
    features: list[Tensor]

    def batches(self, device: torch.device) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Inputs, which decisions count (n,) or (n, T), and the parent's features there (M, F)."""
        for batch, used, features in zip(self.x.batches(), self.counted, self.features, strict=True):
            yield to_device(batch, device), used, features


def read_decisions(network: Network, x: Inputs, targets: Targets) -> ParentDecisions:
    """Examples for output layers, evenly spread over those given, in a random order that is always the same."""
    most = min(DECIDED, HELD // network.spec.features) // targets.counted()[0].size
    rows = np.random.default_rng(0).permutation(even(np.arange(len(x)), max(1, most)))
    some = x.take(rows)
    counted = [part.to(network.device) for part in torch.from_numpy(targets.take(rows).counted()).split(BATCH)]
    with torch.inference_mode():
        batches = zip(some.batches(), counted, strict=True)
        features = [network.features(to_device(batch, network.device))[used] for batch, used in batches]
    return ParentDecisions(some, counted, features)


def even(values: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the values, evenly spread."""
    return values[np.linspace(0, len(values) - 1, min(most, len(values))).astype(int)]
