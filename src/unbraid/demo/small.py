"""A small network with random weights and random examples, for the examples in the documentation.

Shapes: N examples, T timesteps.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unbraid.networks.cells import Cell
from unbraid.networks.network import Network
from unbraid.networks.spec import EmbeddingSpec, NetworkSpec, RecurrentSpec

WORDS, STEPS, UNITS = 50, 6, 16


def small_network(labels: Sequence[str] = ("travel", "banking", "weather"), seed: int = 0) -> Network:
    """Make a GRU classifier of word indices with random weights.

    Args:
        labels: names of its classes.
        seed: seed of the weights.

    Example:
        >>> small_network().labels
        ['travel', 'banking', 'weather']
    """
    stages = [
        EmbeddingSpec(name="words", vocabulary=WORDS, dimension=8),
        RecurrentSpec(name="gru", cell=Cell(kind="gru"), inputs=8, units=UNITS, sequences=False),
    ]
    spec = NetworkSpec(stages=stages, head="output", features=UNITS, classes=len(labels), output="softmax")
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: weight.shape for name, weight in Network.skeleton(spec).state_dict().items()}
    weights = {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
    return Network(spec, weights, labels)


def small_examples(network: Network, count: int = 120, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Make random word indices and give each class the same number of examples.

    Args:
        network: a network from :func:`small_network`.
        count: N.
        seed: seed of the indices.

    Returns:
        x, int64 (N, T), and y, the labels (N,).

    Example:
        >>> x, y = small_examples(small_network())
        >>> x.shape, y.shape
        ((120, 6), (120,))
    """
    x = np.random.default_rng(seed).integers(0, WORDS, (count, STEPS))
    return x, np.asarray(network.labels)[np.arange(count) % len(network.labels)]
