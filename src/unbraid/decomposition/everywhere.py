"""The sample of a regression: each example counts for every column. Shapes: N examples, T timesteps, C columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from unbraid.config import DecompositionConfig, ReconstructConfig
from unbraid.data.arrays import NUMBERS, as_array
from unbraid.data.numbers import read_numbers
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


def inputs_and_targets(examples: object) -> tuple[Any, Any]:
    """Return inputs and targets of examples of a regression: a pair (x, y), or the inputs themselves and None."""
    return examples if type(examples) is tuple and len(examples) == 2 else (examples, None)


def check_numbers(targets: Targets, y: Any) -> None:
    """Raise DataError for targets y that do not fit a regression. Their values are not used; NaN is allowed."""
    if y is not None:
        read_numbers(y, targets.labels, targets.y.shape[:-1])


def check_settings(strategy: Strategy, config: DecompositionConfig) -> None:
    """Raise ConfigError for a strategy or a setting that needs classes."""
    if not strategy.numbers:
        raise ConfigError(
            f"strategy={config.strategy!r} compares classes, and the network is a regression: use "
            "strategy='reconstruct', or bins=4 to make classes of the targets."
        )
    if config.padding_labels:
        raise ConfigError("padding_label names a class, and the network is a regression: leave it out.")


def check_classes(config: DecompositionConfig, weight: object) -> None:
    """Raise ConfigError for a setting of regressions where the network is a classifier."""
    if isinstance(config, ReconstructConfig) and config.concern != "column":
        raise ConfigError(
            f"concern={config.concern!r} is for networks that predict numbers: compose the modules of classes and call "
            "fuse(x), which gives them one body."
        )
    if weight is not None:
        raise ConfigError(
            "sample_weight= is for networks that predict numbers: classes have equal weight, leave it out."
        )


def weighted(
    x: Inputs, targets: Targets, weight: np.ndarray | None, rows: np.ndarray | slice
) -> tuple[Inputs, Targets]:
    """Choose ``rows`` of the examples; with weights, repeat them in proportion and leave those of weight 0 out.

    The choice is systematic: an example with the share s of all weights occurs floor(s * M) or ceil(s * M) times among
    the M chosen ones. Whole weights whose sum is M repeat each example exactly that often.

    Args:
        x: examples.
        targets: their targets.
        weight: see :func:`read_weights`; None uses each example once.
        rows: the examples to use.

    Raises:
        DataError: fewer than two of the chosen examples have a weight above 0.
    """
    if weight is None:
        return (x, targets) if isinstance(rows, slice) else (x.take(rows), targets.take(rows))
    places = np.arange(len(x))[rows]
    own = weight[places]
    if int((own > 0).sum()) < 2:
        raise DataError("sample_weight= has fewer than 2 weights above 0 in a part of the examples: give more.")
    count = max(len(own), min(FEWEST, round(float(own.sum()))))
    ends = np.cumsum(own) / own.sum()
    chosen = places[np.minimum(np.searchsorted(ends, (np.arange(count) + 0.5) / count), len(own) - 1)]
    return x.take(chosen), targets.take(chosen)


FEWEST = 500  # number of examples after weighting, if fewer are given and their weights allow it


def read_weights(weight: Any, examples: int) -> np.ndarray | None:
    """Check ``sample_weight``, (N,) of numbers >= 0; None stays None.

    Raises:
        DataError: another shape, a negative or not finite weight, or fewer than two examples with a weight.
    """
    if weight is None:
        return None
    array = as_array(weight, "sample_weight")
    if array.dtype.kind not in NUMBERS or array.shape != (examples,):
        raise DataError(
            f"sample_weight= has shape {array.shape} of {array.dtype}, expected ({examples},): one number per example."
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all() or (array < 0).any() or int((array > 0).sum()) < 2:
        raise DataError("sample_weight= needs finite numbers >= 0, and at least 2 above 0.")
    return array
