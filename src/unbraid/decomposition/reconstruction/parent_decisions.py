"""Examples and features of the parent, on which output layers are fitted. They are computed once for all modules.

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

DECIDED, FOR_EACH = 2_000, 20  # decisions that output layers are fitted on, and more for each class
HELD = 8_000_000  # largest number of feature values in memory


@dataclass(frozen=True)
class ParentDecisions:
    """Examples for fitting output layers, and the features of the parent for each decision, in batches."""

    x: Inputs
    counted: list[Tensor]
    features: list[Tensor]

    def batches(self, device: torch.device) -> Iterator[tuple[Any, Tensor, Tensor]]:
        """Yield inputs, the mask of decisions to use, (n,) or (n, T), and the features of the parent there, (M, F)."""
        for batch, used, features in zip(self.x.batches(), self.counted, self.features, strict=True):
            yield to_device(batch, device), used, features


def read_decisions(network: Network, x: Inputs, targets: Targets, known: Tensor | None = None) -> ParentDecisions:
    """Choose examples for output layers, evenly spread over the given ones, in a fixed random order.

    Args:
        network: the parent network.
        x: examples.
        targets: their labels.
        known: features of the parent for the examples, (N, F) or (N, T, F). None (default) computes them.
    """
    wanted = DECIDED + FOR_EACH * network.classes  # more hardly change the accuracy
    most = min(wanted, HELD // network.spec.features) // targets.counted()[0].size
    rows = np.random.default_rng(0).permutation(even(np.arange(len(x)), max(1, most)))
    some = x.take(rows)
    counted = [part.to(network.device) for part in torch.from_numpy(targets.take(rows).counted()).split(BATCH)]
    if known is not None:
        parts = known[torch.from_numpy(rows).to(known.device)].split(BATCH)
        return ParentDecisions(some, counted, [part[used] for part, used in zip(parts, counted, strict=True)])
    with torch.inference_mode():
        batches = zip(some.batches(), counted, strict=True)
        features = [network.features(to_device(batch, network.device))[used] for batch, used in batches]
    return ParentDecisions(some, counted, features)


def even(values: np.ndarray, most: int) -> np.ndarray:
    """Choose at most ``most`` of the values, evenly spread."""
    return values[np.linspace(0, len(values) - 1, min(most, len(values))).astype(int)]
