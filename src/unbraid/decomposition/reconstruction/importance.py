"""How much a module's decision depends on each node: the mean square of (d margin / d h) * h.

The derivative is taken at every timestep through the recurrence, not only on the layer's outputs. Shapes: N examples,
T timesteps, H units.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unbraid.decomposition.removal.identification import kept_count
from unbraid.networks.heads import Head
from unbraid.networks.inputs import BATCH, Inputs, to_device
from unbraid.networks.layers import Layer, pruned
from unbraid.networks.network import Network
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.removal import Probe
from unbraid.networks.watching import watched


def node_scores(network: Network, head: Head, x: Inputs, counted: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of every recurrent layer's nodes for one module.

    Args:
        network: the parent.
        head: the module's, over all features.
        x: examples, some of the module's class and some of others.
        counted: booleans (N,) or (N, T), which of their decisions count.

    Returns:
        layer name -> (H,) float64 >= 0.
    """
    sums = {name: np.zeros(layer.units) for name, layer in network.recurrent_layers().items()}
    for start in range(0, len(x), BATCH):
        probes = {name: Probe() for name in sums}
        body = pruned(network.body, probes, 1)
        by_probe = {id(m.removal): m for m in body.modules() if isinstance(m, PrunedRecurrentLayer)}
        noted = {name: Layer(name, by_probe[id(probe)]) for name, probe in probes.items()}  # type: ignore[arg-type]
        batch = next(x.take(slice(start, start + BATCH)).batches())
        with torch.enable_grad(), watched(noted, lambda layer, read, given: given[0].detach()) as outputs:
            margins = head.margin(body(to_device(batch, network.device))).nan_to_num()
            margins[torch.from_numpy(counted[start : start + BATCH]).to(margins.device)].sum().backward()
        for name, probe in probes.items():
            sums[name] += (probe.gradients()[0] * outputs[name]).double().square().sum((0, 1)).cpu().numpy()
    return sums


def combined(scores: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Scores for several modules together: each module's share out equally, whatever the scale of its margin."""
    return {name: np.sum([s[name] / max(s[name].sum(), 1e-300) for s in scores], axis=0) for name in scores[0]}


def strongest(scores: dict[str, np.ndarray], keep: float) -> dict[str, torch.Tensor]:
    """The share ``keep`` of each layer's nodes with the largest scores, at least one: layer -> indices, ascending."""
    kept = {}
    for name, score in scores.items():
        order = np.argsort(-score, kind="stable")[: kept_count(len(score), keep)]
        kept[name] = torch.from_numpy(np.sort(order))
    return kept
