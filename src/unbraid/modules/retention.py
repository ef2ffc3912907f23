"""How much of its parent a module keeps. Shapes: H units, T timesteps, G gates, F features, R head rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unbraid.config import Mode
from unbraid.modules.concern import Concern
from unbraid.networks.network import Network
from unbraid.networks.spec import DenseSpec, EmbeddingSpec, FlattenSpec, RecurrentSpec, RepeatSpec


@dataclass(frozen=True)
class Retention:
    """Shares of the parent, each in [0, 1].

    Attributes:
        nodes: kept nodes of all layers (unrolled: mean over timesteps).
        recurrent_weights: kept weights and biases of the layers with nodes.
        weights: kept weights and biases of the whole network, embeddings and output layer included.
        bytes: what the module takes by itself, on disk or in memory: a rolled one its slices, an unrolled one the
            parent's weights and a bit per node and timestep.
        flops: multiply-adds of one example as they are executed: removals of a rolled module are cut out, those of an
            unrolled one are masked and save nothing.
    """

    nodes: float
    recurrent_weights: float
    weights: float
    bytes: float
    flops: float


@dataclass
class _Count:
    inner: float = 0.0  # weights of layers with nodes
    outer: float = 0.0  # all others
    flops: float = 0.0


def retention(network: Network, concern: Concern, head_rows: int) -> Retention:
    """Count what ``concern`` keeps of ``network``, with an output layer of ``head_rows`` rows."""
    whole = _count(network, None, network.spec.classes)
    part = _count(network, concern, head_rows)
    masks = {name: concern.nodes(layer) for name, layer in network.layers.items()}
    nodes = sum(m.mean() * m.shape[-1] for m in masks.values()) / sum(m.shape[-1] for m in masks.values())
    weights = (part.inner + part.outer) / (whole.inner + whole.outer)
    size, flops = weights, part.flops / whole.flops
    if concern.mode is Mode.UNROLLED:
        bits = sum(m.size for m in concern.kept.values()) / 8
        head = 4 * head_rows * (network.spec.features + 1)
        size = 1 + (bits + head) / (4 * (whole.inner + whole.outer))
        flops = 1.0
    return Retention(float(nodes), part.inner / whole.inner, weights, float(size), float(flops))


def _count(network: Network, concern: Concern | None, head_rows: int) -> _Count:
    """Walk the stages with the mask of the features that are present, (F,) or (T, F); None: all are."""
    count = _Count()
    present: np.ndarray | None = None
    steps = network.spec.steps or (max(concern.steps.values()) if concern else 1)
    layers = network.layers
    for index, stage in enumerate(network.spec.stages):
        if isinstance(stage, EmbeddingSpec):
            count.outer += stage.vocabulary * stage.dimension
        elif isinstance(stage, RecurrentSpec):
            names = [f"{stage.name}.forward", f"{stage.name}.backward"] if stage.bidirectional else [stage.name]
            outs = []
            for name in names:
                mask = concern.kept[name] if concern else np.ones(stage.units, bool)
                by_gates = concern is not None and concern.has_gates(layers[name])
                nodes = mask.any(axis=-2) if by_gates else mask
                kept = mask.sum(-1) if by_gates else np.stack([nodes.sum(-1)] * len(stage.cell.gates), -1)
                biases = 2 if stage.cell.kind == "gru" and stage.cell.reset_after else 1
                inputs = stage.inputs if present is None else present.sum(-1)[..., None]
                count.inner += float(np.mean(np.sum(kept * (inputs + nodes.sum(-1)[..., None] + biases), axis=-1)))
                rolled = nodes.sum(-1).mean()
                reading = stage.inputs if present is None else present.sum(-1).mean()
                count.flops += steps * len(stage.cell.gates) * float(rolled * (reading + rolled))
                outs.append(nodes)
            present = np.concatenate(outs, -1) if stage.merge == "concat" or len(outs) == 1 else None
            if not stage.sequences:
                present, steps = (None if present is None else present[-1] if present.ndim == 2 else present), 1
        elif isinstance(stage, DenseSpec):
            mask = concern.kept[stage.name] if concern and stage.name in concern.kept else np.ones(stage.units, bool)
            inputs = stage.inputs if present is None else present.sum(-1)
            kept = float(np.mean(mask.sum(-1) * (inputs + 1)))
            if stage.name in layers:
                count.inner += kept
            else:
                count.outer += kept
            count.flops += steps * float(np.mean(mask.sum(-1) * inputs))
            present = mask if stage.name in layers else None
        elif isinstance(stage, FlattenSpec):
            reads = next((s.inputs for s in network.spec.stages[index:] if hasattr(s, "inputs")), network.spec.features)
            if present is not None and present.ndim == 1:
                present = np.tile(present, reads // len(present))
            elif present is not None:
                present = present.reshape(-1)
            steps = 1
        elif isinstance(stage, RepeatSpec):
            steps = stage.times
    inputs = network.spec.features if present is None else float(np.mean(present.sum(-1)))
    count.outer += head_rows * (inputs + 1)
    count.flops += steps * head_rows * inputs
    return count
