"""Bins of targets that are numbers: each bin is a class, so that a regression becomes a classifier.

The logits of K bins are linear in the number z that the network predicts. With the edges e and a slope s, the logit of
bin k is s * (k * z - (e_1 + ... + e_k)). The largest logit is that of the bin that holds z, for every s. The slope is
fitted to the targets by maximum likelihood. Shapes: N examples, T timesteps, F features, K bins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from unbraid.data.arrays import NUMBERS, as_array
from unbraid.data.numbers import read_numbers
from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, quoted
from unbraid.networks.network import Network
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.spec import NetworkSpec

SLOPES = np.geomspace(0.1, 1000, 41)  # candidates of s, in units of 1 / standard deviation of z
# activation of the output -> what turns an edge into one of the number before the activation
_BEFORE: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda edges: edges,
    "relu": lambda edges: np.where(edges < 0, np.nan, edges),
    "sigmoid": lambda edges: np.log(edges / (1 - edges)),
    "tanh": np.arctanh,
}


@dataclass(frozen=True)
class Bins:
    """Intervals of numbers, as classes.

    Args:
        edges: K - 1 ascending numbers. Bin k holds the numbers above edge k and up to edge k + 1.

    Example:
        >>> import numpy as np
        >>> bins = Bins.quantiles(np.arange(100), 4)
        >>> bins.labels
        ['<= 24.75', '24.75 to 49.5', '49.5 to 74.25', '> 74.25']
        >>> bins.assign([3.0, 60.0, np.nan]).tolist()
        ['<= 24.75', '49.5 to 74.25', '']
    """

    edges: tuple[float, ...]

    @classmethod
    def quantiles(cls, targets: Any, bins: int) -> Bins:
        """Choose edges so that each bin holds about as many of the targets.

        Args:
            targets: numbers of any shape; NaN is left out.
            bins: the number of bins K, at least 2. Targets that occur often give fewer bins.

        Raises:
            DataError: no numbers, infinite ones, or equal ones only.
            ConfigError: ``bins`` is no whole number of at least 2.
        """
        if type(bins) is not int or bins < 2:
            raise ConfigError(f"bins={quoted(repr(bins), 40)}: expected a whole number, at least 2.")
        numbers = _numbers(targets)
        known = numbers[~np.isnan(numbers)]
        if known.size == 0 or known.min() == known.max():
            found = "no number" if known.size == 0 else f"{known.size:,} times {known[0]:.6g}"
            raise DataError(f"bins={bins} needs different targets, found {found}: leave bins out.")
        edges = np.unique(np.quantile(known, np.arange(1, bins) / bins))
        edges = edges[edges < known.max()]
        return cls(tuple((edges if edges.size else known[[known.argmin()]]).tolist()))

    @property
    def labels(self) -> list[Label]:
        """Names of the K bins, from the lowest to the highest."""
        digits = next((d for d in range(4, 17) if len({f"{e:.{d}g}" for e in self.edges}) == len(self.edges)), 17)
        shown = [f"{edge:.{digits}g}" for edge in self.edges]
        between = [f"{low} to {high}" for low, high in pairwise(shown)]
        return [f"<= {shown[0]}", *between, f"> {shown[-1]}"]

    def assign(self, targets: Any) -> np.ndarray:
        """Return the label of the bin of each target, an array of the same shape; "" for NaN.

        Raises:
            DataError: targets that are no numbers, or infinite.
        """
        numbers = _numbers(targets)
        return np.where(np.isnan(numbers), "", np.asarray(self.labels)[self.places(numbers)])

    def places(self, numbers: np.ndarray) -> np.ndarray:
        """Return the number of the bin of each number, 0 to K - 1."""
        return np.searchsorted(np.asarray(self.edges), numbers, side="left")


def classifier_of_bins(
    network: Network, examples: tuple[Any, Any], count: int
) -> tuple[Network, tuple[Any, np.ndarray]]:
    """Turn a regression with one column into a classifier of the quantile bins of its targets.

    Args:
        network: made from a Keras file that is a chain of layers.
        examples: (x, y); NaN in y marks a missing target.
        count: the number of bins, at least 2.

    Returns:
        a network with the same body, and the examples with the labels of the bins.

    Raises:
        ConfigError: another network, or no targets.
        DataError: targets that do not fit, or are all equal.
    """
    x, y = examples
    if network.task != "regression":
        raise ConfigError(f"bins={count} is for networks that predict numbers: leave it out.")
    if network.classes != 1:
        shown = [quoted(label, 40) for label in network.labels[:9]]
        raise ConfigError(f"bins={count} needs a network with one column, found {shown}: leave it out.")
    if not isinstance(network.spec, NetworkSpec):
        raise ConfigError(
            f"bins={count} replaces the output layer, which belongs to the code of a PyTorch module or a Keras graph: "
            "use a Keras model that is a chain of layers, or leave bins out."
        )
    if y is None:
        raise ConfigError(f"bins={count} needs targets: pass (x, y).")
    logits = network.logits(x)[..., 0].astype(np.float64)
    numbers = read_numbers(y, network.labels, logits.shape)[..., 0]
    bins = Bins.quantiles(numbers, count)
    with np.errstate(invalid="ignore", divide="ignore"):
        edges = _BEFORE[OUTPUTS[network.spec.output].activation](np.asarray(bins.edges))
    if not np.isfinite(edges).all():
        raise DataError(f"targets have quantiles {bins.edges}, outside of what the output {network.spec.output} gives.")
    used = np.isfinite(logits) & np.isfinite(numbers)
    rise, fall = np.arange(len(edges) + 1), np.append(0.0, np.cumsum(edges))
    slope = _slope(logits[used], bins.places(numbers[used]), rise, fall)
    head = network.weights()
    weight, bias = head["head.weight"].double()[0], head["head.bias"].double()[0]
    steps = torch.from_numpy(slope * rise)
    head["head.weight"] = (steps[:, None] * weight.cpu()).to(head["head.weight"])
    head["head.bias"] = (steps * bias.cpu() - torch.from_numpy(slope * fall)).to(head["head.bias"])
    spec = network.spec.model_copy(update={"output": "softmax", "classes": len(bins.labels)})
    made = Network(spec, head, bins.labels, vocabulary=network.vocabulary).to(network.device)
    return made, (x, bins.assign(numbers))


def _slope(z: np.ndarray, places: np.ndarray, rise: np.ndarray, fall: np.ndarray) -> float:
    """Choose the slope with the largest likelihood of the bins (M,) of the numbers z (M,)."""
    plain = z[:, None] * rise - fall
    slopes = SLOPES / max(float(z.std()), 1e-6)

    def missed(slope: float) -> float:
        logits = slope * plain
        right = np.take_along_axis(logits, places[:, None], 1)[:, 0]
        return float((np.logaddexp.reduce(logits, axis=1) - right).mean())

    return float(min(slopes, key=missed))


def _numbers(targets: Any) -> np.ndarray:
    array = as_array(targets, "targets")
    if array.dtype.kind not in NUMBERS or np.isinf(array).any():
        raise DataError("targets hold values that are no finite numbers: expected numbers, NaN where one is missing.")
    return array.astype(np.float64)
