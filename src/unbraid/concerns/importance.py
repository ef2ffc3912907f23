"""How much a module's decision depends on each node: the mean square of (d margin / d h) * h.

The derivative is taken at every timestep through the recurrence, not only on the layer's outputs. Shapes: N examples,
T timesteps, H units.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import nn

from unbraid.networks.heads import Head
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.layers import Layer, pruned
from unbraid.networks.network import Network
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.removal import Probe
from unbraid.networks.watching import watched


def node_scores(network: Network, head: Head, x: Inputs) -> dict[str, np.ndarray]:
    """Scores of every recurrent layer's nodes for one module.

    Args:
        network: the parent.
        head: the module's, over all features.
        x: examples, some of the module's class and some of others.

    Returns:
        layer name -> (H,) float64 >= 0.
    """
    layers = network.recurrent_layers()
    sums = {name: np.zeros(layer.units) for name, layer in layers.items()}
    steps = _steps(network, x)
    for start in range(0, len(x), BATCH):
        part = x.take(slice(start, start + BATCH))
        probes = _probes(network, steps, len(part))
        body = pruned(network.body, probes, 1)
        noted = {name: Layer(name, m) for name, m in _probed(body, probes).items()}  # type: ignore[arg-type]
        with watched(noted, lambda layer, read, given: given[0].detach()) as outputs:
            margin = head.margin(body(to_device(next(part.batches()), network.device)))
        margin.sum().backward()
        for name, probe in probes.items():
            gradient = probe.zeros.grad
            assert gradient is not None
            sums[name] += (gradient[0] * outputs[name]).double().square().sum((0, 1)).cpu().numpy()
    return sums


def _probed(body: nn.Module, probes: Mapping[str, Probe]) -> dict[str, nn.Module]:
    """Name -> the layer of ``body`` that holds that probe."""
    by_probe = {id(m.removal): m for m in body.modules() if isinstance(m, PrunedRecurrentLayer)}
    return {name: by_probe[id(probe)] for name, probe in probes.items()}


def _steps(network: Network, x: Inputs) -> dict[str, int]:
    first = x.take(slice(0, 1))
    with torch.inference_mode(), watched(network.layers, lambda layer, i, o: o[0].shape[1]) as seen:
        network.features(to_device(next(first.batches()), network.device))
    return {name: seen[name] for name in network.recurrent_layers()}


def _probes(network: Network, steps: dict[str, int], examples: int) -> dict[str, Probe]:
    return {
        name: Probe(torch.zeros(1, examples, steps[name], layer.units, device=network.device, requires_grad=True))
        for name, layer in network.recurrent_layers().items()
    }
