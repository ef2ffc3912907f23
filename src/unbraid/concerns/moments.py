"""Second moments of what layers read, per class, streamed: memory does not depend on the number of examples.

A layer's products are linear in what it reads, so the mean of z z^T over a module's observations (half of them of its
class) holds all that reconstruction solves for. Shapes: D inputs, H units, Z entries of z, F features, C classes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from unbraid.concerns.sampling import Sample
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.watching import watched

HEAD = "(output)"  # key of the features that the output layer reads
RESET = "(reset)"  # suffix of a reset-before GRU's second key: its candidate reads r * h

Moments = dict[str, Tensor]  # key -> (Z, Z) float64, z = [x_t, h_{t-1}, 1], of the output layer [features, 1]


def collect(
    network: Network, x: Inputs, sample: Sample, advance: Callable[[int], object] = lambda examples: None
) -> dict[int, Moments]:
    """One pass over the sample, all classes together.

    Args:
        network: the parent.
        x: the sampled examples, in the sample's order.
        sample: which of them count for which class.
        advance: told after every batch how many examples it held.

    Returns:
        class -> moments, the class's own observations and the others weighing one half each.
    """
    groups = [(j, sign) for j in sample.positive for sign in (0, 1)]
    weights = {(j, s): _row_weights((sample.positive, sample.negative)[s][j], len(x)) for j, s in groups}
    sums: dict[tuple[int, int], Moments] = {group: {} for group in groups}
    totals: dict[tuple[int, int], dict[str, float]] = {group: {} for group in groups}
    start = 0
    with torch.inference_mode(), watched(network.layers, _reads) as seen:
        for batch in x.batches():
            features = network.features(to_device(batch, network.device))
            rows = {key: z for parts in seen.values() for key, z in parts.items()}
            rows[HEAD] = _with_one(features if features.dim() == 3 else features.unsqueeze(1))
            size = features.shape[0]
            for group in groups:
                own = weights[group][start : start + size]
                if not own.any():
                    continue
                for key, z in rows.items():
                    _add(sums[group], totals[group], key, z, own)
            start += size
            advance(size)
    return {j: _mixed([(sums[j, s], totals[j, s]) for s in (0, 1)]) for j in sample.positive}


def _row_weights(steps: list[np.ndarray], examples: int) -> np.ndarray:
    """How often each example counts, per output timestep: (R, 1) or (R, T)."""
    found = np.zeros((examples, len(steps)), np.float32)
    for t, rows in enumerate(steps):
        found[rows, t] = 1
    return found


def _reads(layer: Layer, inputs: tuple, output: tuple) -> dict[str, Tensor]:
    """What a layer's products read at every timestep: key -> z, (n, T, Z); masked steps are zero throughout."""
    x, valid, initial = (*inputs, None, None)[:3]
    module = layer.module
    if not isinstance(module, RecurrentLayer):
        return {layer.name: _with_one(x if x.dim() == 3 else x.unsqueeze(1))}
    h = output[0]
    first = torch.zeros_like(h[:, :1]) if initial is None else initial[0].unsqueeze(1)
    before = torch.cat([h[:, 1:], first], 1) if module.reverse else torch.cat([first, h[:, :-1]], 1)
    found = {layer.name: _with_one(torch.cat([x, before], -1))}
    if module.cell.kind == "gru" and not module.cell.reset_after:
        r = module.gates(x, h, first.squeeze(1))[0]
        found[layer.name + RESET] = _with_one(torch.cat([x, r * before], -1))
    if valid is not None:
        found = {key: z * valid.unsqueeze(-1) for key, z in found.items()}
    return found


def _with_one(values: Tensor) -> Tensor:
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def _add(sums: Moments, totals: dict[str, float], key: str, z: Tensor, weights: np.ndarray) -> None:
    """Add a batch's z z^T; per-timestep weights count for keys of as many timesteps, else an example counts whole."""
    steps = z.shape[1]
    own = weights if weights.shape[1] in (1, steps) else weights.max(1, keepdims=True)
    picked = np.flatnonzero(own.any(axis=1))
    rows = z[torch.from_numpy(picked).to(z.device)]
    if own.shape[1] > 1:
        rows = rows * torch.from_numpy(own[picked]).to(z.device).unsqueeze(-1)
    flat = rows.reshape(-1, rows.shape[-1])
    sums[key] = sums.get(key, 0) + (flat.t() @ flat).double()
    totals[key] = totals.get(key, 0.0) + float(flat[:, -1].sum())


def _mixed(parts: list[tuple[Moments, dict[str, float]]]) -> Moments:
    """Both groups' mean moments, one half each; the one that has any where only one has."""
    keys = [key for key in parts[0][0] | parts[1][0]]
    found = {}
    for key in keys:
        means = [sums[key] / max(totals[key], 1.0) for sums, totals in parts if key in sums]
        found[key] = torch.stack(means).mean(0)
    return found
