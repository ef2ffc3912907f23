"""Examples and features of the parent, on which output layers are fitted. They are computed once for all modules.

Shapes: N examples, T timesteps, F features, M decisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.data.targets import Targets
from unbraid.decomposition.reconstruction.parent_scores import ParentScores, read_scores
from unbraid.networks.heads import Head
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.network import Network

DECIDED, FOR_EACH = 2_000, 20  # decisions that output layers are fitted on, and more for each class
HELD = 8_000_000  # largest number of feature values in memory


@dataclass(frozen=True)
class ParentDecisions:
    """Examples for fitting output layers, and the features of the parent for each decision, in batches.

    Attributes:
        x: the examples.
        counted: masks of the decisions to use, each (n,) or (n, T).
        features: features of the parent for these decisions, each (m, F), M together.
        head: output layer of the parent.
    """

    x: Inputs
    counted: list[Tensor]
    features: list[Tensor]
    head: Head

    @cached_property
    def scores(self) -> ParentScores:
        """Sums over the scores of all classes of the parent."""
        return read_scores(self.head, self.features)

    def margins(self, asked: Head, index: int) -> Tensor:
        """Compute the margins of class ``index`` in the parent, (M,).

        Args:
            asked: rows of the output layer of the parent: that of the class, or all with that of the class first.
            index: the class.
        """
        features = torch.cat(self.features)
        if len(asked.bias) == 1:
            return asked.margin(features)
        return self.scores.margins(index, Head(asked.weight[:1], asked.bias[:1])(features)[:, 0])

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
    head = Head(network.head.weight, network.head.bias)
    if known is not None:
        parts = known[torch.from_numpy(rows).to(known.device)].split(BATCH)
        return ParentDecisions(some, counted, [part[used] for part, used in zip(parts, counted, strict=True)], head)
    with torch.inference_mode():
        batches = zip(some.batches(), counted, strict=True)
        features = [network.features(to_device(batch, network.device))[used] for batch, used in batches]
    return ParentDecisions(some, counted, features, head)


def even(values: np.ndarray, most: int) -> np.ndarray:
    """Choose at most ``most`` of the values, evenly spread."""
    return values[np.linspace(0, len(values) - 1, min(most, len(values))).astype(int)]
