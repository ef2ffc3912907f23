"""How much of its parent a module keeps. Shapes: H units, D inputs, T timesteps, G gates, F features, R head rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unbraid.config import Mode
from unbraid.modules.concern import Concern
from unbraid.networks.layers import Layer, head_sources
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec

Masks = Mapping[str, np.ndarray]  # layer -> kept nodes, (H,) or (T, H)


@dataclass(frozen=True)
class Retention:
    """Shares of the parent, each in [0, 1] (bytes of an unrolled module: a little above 1).

    Attributes:
        nodes: kept nodes of all layers (unrolled: mean over timesteps).
        recurrent_weights: kept weights and biases of the layers with nodes.
        weights: kept weights and biases of the whole network, embeddings and output layer included.
        bytes: what the module takes by itself: a rolled one its slices, an unrolled one the parent's weights and a bit
            per node and timestep.
        flops: multiply-adds of the layers with nodes and of the output layer, as they are executed: removals of a
            rolled module are cut out, those of an unrolled one are masked and save nothing.
    """

    nodes: float
    recurrent_weights: float
    weights: float
    bytes: float
    flops: float


def retention(network: Network, concern: Concern, head_rows: int, added: int = 0) -> Retention:
    """Count what ``concern`` keeps of ``network``, with an output layer of ``head_rows`` rows and ``added`` weights."""
    layers = network.layers
    everything = {name: np.ones(layer.units, bool) for name, layer in layers.items()}
    masks = {name: concern.nodes(layer) for name, layer in layers.items()}
    total = sum(p.numel() for p in network.body.parameters()) + sum(p.numel() for p in network.head.parameters())
    whole = sum(_weights(layer, everything, None) for layer in layers.values())
    kept = sum(_weights(layer, masks, concern) for layer in layers.values())
    features = network.spec.features
    present = features * _share(masks, head_sources(network.body))
    outside = total - whole - network.spec.classes * (features + 1)
    if isinstance(network.spec, EncoderDecoderSpec):  # a word that cannot be said is not fed either
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
    """Weights and biases of a layer that stay, mean over timesteps; all of them without a concern."""
    nodes = masks[layer.name].sum(-1)
    columns = nodes * (1 if layer.cell is None else len(layer.cell.gates))
    if concern is not None and concern.has_gates(layer):
        columns = concern.kept[layer.name].sum((-1, -2))
    inputs = layer.kernel.shape[1] * _share(masks, layer.sources, mean=False)
    recurrent = 0 if layer.cell is None else nodes
    return float(np.mean(columns * (inputs + recurrent + _biases(layer))))


def _biases(layer: Layer) -> int:
    """Biases of one column, as they are stored: recurrent layers have torch's two."""
    return 1 if layer.cell is None else 2


def _flops(layers: Mapping[str, Layer], masks: Masks, concern: Concern) -> float:
    total = 0.0
    for name, layer in layers.items():
        nodes = float(masks[name].sum(-1).mean())
        inputs = layer.kernel.shape[1] * float(_share(masks, layer.sources))
        gates = 1 if layer.cell is None else len(layer.cell.gates)
        total += concern.steps[name] * gates * nodes * (inputs + (0 if layer.cell is None else nodes))
    return total


def _share(masks: Masks, sources: tuple[str, ...], mean: bool = True) -> np.ndarray:
    """Share of the features from ``sources`` that are kept: (), or per timestep (T,) with ``mean=False``."""
    if not sources:
        return np.asarray(1.0)
    parts = [masks[name] for name in sources]
    shares = np.concatenate(parts, axis=-1).mean(-1)
    return np.asarray(shares.mean()) if mean else shares
