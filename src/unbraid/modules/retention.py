"""Share of the parent network that a module keeps.

Shapes: H hidden units, D inputs, T timesteps, G gates, F features, R rows of the output layer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from unbraid.config import Mode
from unbraid.modules.concern import Concern
from unbraid.networks.layers import Layer, head_sources
from unbraid.networks.network import Network
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.spec import EncoderDecoderSpec

Masks = Mapping[str, np.ndarray]  # layer -> kept nodes, (H,) or (T, H)


@dataclass(frozen=True)
class Retention:
    """Shares of the parent network, each in [0, 1]; ``bytes`` of an unrolled module is slightly above 1.

    Attributes:
        nodes: share of the nodes of all layers; for an unrolled module the mean over timesteps.
        recurrent_weights: share of the weights and biases of the recurrent and dense layers.
        weights: share of the weights and biases of the whole network, with embeddings and output layer.
        bytes: size of the module alone. A rolled module stores slices. An unrolled module stores the weights of the
            parent and one bit for each node and timestep.
        flops: share of the executed multiply-adds of the recurrent, dense and output layers. A rolled module does not
            compute removed nodes. An unrolled module computes them and masks the result, so it saves nothing.
    """

    nodes: float
    recurrent_weights: float
    weights: float
    bytes: float
    flops: float


def mean_retention(found: Sequence[Retention]) -> Retention:
    """Compute the mean of each share over modules."""
    fields = dataclasses.fields(Retention)
    return Retention(**{field.name: float(np.mean([getattr(one, field.name) for one in found])) for field in fields})


def retention(network: Network, concern: Concern, head_rows: int, added: int = 0) -> Retention:
    """Compute the retention of a module.

    Args:
        network: the parent network.
        concern: the nodes that the module keeps.
        head_rows: rows R of the output layer of the module.
        added: number of weights of the module without a counterpart in the parent.
    """
    layers = network.layers
    everything = {name: np.ones(layer.units, bool) for name, layer in layers.items()}
    masks = {name: concern.nodes(layer) for name, layer in layers.items()}
    total = sum(p.numel() for p in network.body.parameters()) + sum(p.numel() for p in network.head.parameters())
    whole = sum(_weights(layer, everything, None) for layer in layers.values())
    kept = sum(_weights(layer, masks, concern) for layer in layers.values())
    features = network.spec.features
    present = features * _share(masks, head_sources(network.body))
    outside = total - whole - network.spec.classes * (features + 1)
    if isinstance(network.spec, EncoderDecoderSpec):  # words that the module cannot predict need no embedding
        outside -= (network.spec.classes - head_rows) * network.spec.target.dimension
    weights = (kept + outside + head_rows * (present + 1) + added) / total
    steps = 1 if network.io.value.endswith("1") else max(concern.steps.values())
    flops = _flops(layers, masks, concern) + steps * head_rows * float(present)
    flops /= _flops(layers, everything, concern) + steps * network.spec.classes * features
    size = float(weights)
    if concern.mode is Mode.UNROLLED:
        bits = sum(m.size for m in concern.kept.values()) / 8
        size = 1 + (bits + 4 * head_rows * (features + 1)) / (4 * total)
        flops = 1.0
    nodes = sum(m.mean() * m.shape[-1] for m in masks.values()) / sum(m.shape[-1] for m in masks.values())
    return Retention(float(nodes), kept / whole, float(weights), size, flops)


def _weights(layer: Layer, masks: Masks, concern: Concern | None) -> float:
    """Count the kept weights and biases of a layer, as a mean over timesteps; all of them without a concern."""
    nodes = masks[layer.name].sum(-1)
    if isinstance(layer.module, OwnLayer):
        return float(np.mean([layer.module.weight_count(float(n)) for n in np.atleast_1d(nodes)]))
    columns = nodes * (1 if layer.cell is None else len(layer.cell.gates))
    if concern is not None and concern.has_gates(layer):
        columns = concern.kept[layer.name].sum((-1, -2))
    inputs = layer.kernel.shape[1] * _share(masks, layer.sources, mean=False)
    recurrent = 0 if layer.cell is None else nodes
    return float(np.mean(columns * (inputs + recurrent + _biases(layer))))


def _biases(layer: Layer) -> int:
    """Return the number of stored biases of one column; a recurrent layer has two, as in PyTorch."""
    return 1 if layer.cell is None else 2


def _flops(layers: Mapping[str, Layer], masks: Masks, concern: Concern) -> float:
    total = 0.0
    for name, layer in layers.items():
        nodes = float(masks[name].sum(-1).mean())
        if isinstance(layer.module, OwnLayer):
            total += concern.steps[name] * layer.module.weight_count(nodes)
            continue
        inputs = layer.kernel.shape[1] * float(_share(masks, layer.sources))
        gates = 1 if layer.cell is None else len(layer.cell.gates)
        total += concern.steps[name] * gates * nodes * (inputs + (0 if layer.cell is None else nodes))
    return total


def _share(masks: Masks, sources: tuple[str, ...], mean: bool = True) -> np.ndarray:
    """Compute the kept share of the features from ``sources``: (), or (T,) per timestep with ``mean=False``."""
    if not sources:
        return np.asarray(1.0)
    parts = [masks[name] for name in sources]
    shares = np.concatenate(parts, axis=-1).mean(-1)
    return np.asarray(shares.mean()) if mean else shares
