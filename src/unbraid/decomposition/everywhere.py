"""The sample of a regression: each example counts for every column. Shapes: N examples, T timesteps, C columns."""

from __future__ import annotations

import numpy as np

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Targets
from unbraid.decomposition.protocol import Strategy
from unbraid.errors import ConfigError, DataError
from unbraid.networks.inputs import Inputs
from unbraid.networks.network import Network


def everywhere(network: Network, x: Inputs) -> Targets:
    """Mark all examples as examples of all output columns, so that the sample is used as it is.

    Padded timesteps, where the network gives no numbers, do not count.

    Args:
        network: a regression network.
        x: its inputs.

    Raises:
        DataError: fewer than two examples.
    """
    if len(x) < 2:
        raise DataError(f"{len(x)} examples, expected at least 2 to fit modules on: give more inputs.")
    if not network.io.many_outputs:
        return Targets(np.ones((len(x), network.classes), np.int64), network.labels, many=False, independent=True)
    numbers = network.logits(x.tree)
    return Targets(np.where(np.isnan(numbers), -1, 1), network.labels, many=True, independent=True)


def inputs_of(examples: object) -> object:
    """Return the inputs of examples of a regression: x of a pair (x, y), or the examples themselves."""
    return examples[0] if type(examples) is tuple and len(examples) == 2 else examples


def check_settings(strategy: Strategy, config: DecompositionConfig) -> None:
    """Raise ConfigError for a strategy or a setting that needs classes."""
    if not strategy.numbers:
        raise ConfigError(
            f"strategy={config.strategy!r} compares classes, and the network is a regression: use "
            "strategy='reconstruct'."
        )
    if config.padding_labels:
        raise ConfigError("padding_label names a class, and the network is a regression: leave it out.")
