"""A sliced module's layers fitted once more, on the states that the module itself runs through.

Folding assumes that everything below a layer, and its own past, says what the parent says. It does not, quite, and what
is missing adds up over layers and timesteps. So layer by layer, from the input on: run the module, and fit the layer's
weights by ridge regression, from what it really reads, to the pre-activations that its nodes have in the parent (a step
of dataset aggregation, Ross et al. 2011). No labels and no gradient step.
Shapes: N examples, T timesteps, D inputs, H units, Z entries of z, G gates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.concerns.moments import before, on_steps, valid_steps, with_one
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer, decomposable_layers, gate_rows
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.watching import watched

RIDGE = 1e-3  # pull towards the weights before, as a share of the mean diagonal

Seen = tuple[Tensor, Tensor, Tensor | None]  # x (N, T, D), h_{t-1} (N, T, H), which steps are valid


def refit(
    parent: nn.Module, body: nn.Module, kept: Mapping[str, Tensor], x: Inputs, device: torch.device, weights: np.ndarray
) -> None:
    """Fit the recurrent layers of ``body`` in place.

    Args:
        parent: the whole body.
        body: what :func:`unbraid.networks.layers.sliced` made of it; its recurrent layers' weights are its own.
        kept: layer -> indices of its kept nodes, (H',).
        x: examples.
        device: where both bodies are.
        weights: how much each example, or each timestep, counts, (N, 1) or (N, T).
    """
    tree = to_device(next(x.batches(len(x))), device)
    large, small = decomposable_layers(parent), decomposable_layers(body)
    recurrent = {name: layer for name, layer in large.items() if isinstance(layer.module, RecurrentLayer)}
    with torch.inference_mode():
        wanted = _seen(parent, recurrent, tree)
        for name in recurrent:
            whole, cut = large[name].module, small[name].module
            assert isinstance(whole, RecurrentLayer) and isinstance(cut, RecurrentLayer)
            _fit(whole, cut, kept[name], wanted[name], _seen(body, {name: small[name]}, tree)[name], weights)


def _seen(body: nn.Module, layers: Mapping[str, Layer], tree: object) -> dict[str, Seen]:
    def note(layer: Layer, inputs: tuple, output: tuple) -> Seen:
        return inputs[0], before(layer, inputs, output[0]), valid_steps(inputs)

    with watched(layers, note) as seen:
        body(tree)
        return dict(seen)


def _fit(
    large: RecurrentLayer, small: RecurrentLayer, kept: Tensor, parents: Seen, own: Seen, weights: np.ndarray
) -> None:
    (x, previous, _), (read, ours, valid) = parents, own
    count = torch.from_numpy(on_steps(weights, x.shape[1])).to(x.device).expand(-1, x.shape[1])
    count = (count if valid is None else count * valid).reshape(-1).repeat(2)
    used = count > 0
    # every example twice, with the module's own past and with the parent's: fitted on its own past alone, which the fit
    # changes, a vanilla layer runs away
    ours = torch.cat([ours, previous[..., kept]])
    x, previous, read = torch.cat([x, x]), torch.cat([previous, previous]), torch.cat([read, read])
    cell = large.cell
    bias = cell.input_bias(large.bias_ih, large.bias_hh)

    def solve(gates: range, z: Tensor, wanted: Tensor, start: Tensor) -> Tensor:
        rows = gate_rows(large, kept).view(len(cell.gates), -1)[list(gates)].flatten()
        regression = Regression(start)
        regression.add(_flat(z)[used], _flat(wanted[..., rows])[used], count[used])
        return regression.solved()

    def joint(gates: range, ours: Tensor, product: Tensor) -> None:
        rows = slice(gates.start * small.units, gates.stop * small.units)
        own_bias = cell.input_bias(small.bias_ih, small.bias_hh)[rows]
        start = torch.cat([small.weight_ih[rows], small.weight_hh[rows], own_bias.unsqueeze(1)], 1)
        new = solve(gates, with_one(torch.cat([read, ours], -1)), linear(x, large.weight_ih, bias) + product, start)
        small.weight_ih.data[rows], small.weight_hh.data[rows] = new[:, : small.inputs], new[:, small.inputs : -1]
        small.bias_ih.data[rows], small.bias_hh.data[rows] = new[:, -1], 0

    whole = linear(previous, large.weight_hh)
    if cell.kind != "gru":
        joint(range(len(cell.gates)), ours, whole)
        return
    joint(range(2), ours, whole)
    candidate, n = range(2, 3), slice(2 * small.units, 3 * small.units)
    if not cell.reset_after:
        r, reset = small.gates_after(read, ours)[0], large.gates_after(x, previous)[0]
        joint(candidate, r * ours, linear(reset * previous, large.weight_hh))
        return
    start = torch.cat([small.weight_ih[n], small.bias_ih[n].unsqueeze(1)], 1)
    new = solve(candidate, with_one(read), linear(x, large.weight_ih, large.bias_ih), start)
    small.weight_ih.data[n], small.bias_ih.data[n] = new[:, :-1], new[:, -1]
    start = torch.cat([small.weight_hh[n], small.bias_hh[n].unsqueeze(1)], 1)
    new = solve(candidate, with_one(ours), linear(previous, large.weight_hh, large.bias_hh), start)
    small.weight_hh.data[n], small.bias_hh.data[n] = new[:, :-1], new[:, -1]


class Regression:
    """Ridge regression near ``start`` (R, Z), in float64; observations are added batch by batch and not kept."""

    def __init__(self, start: Tensor) -> None:
        self.start = start
        self.gram = torch.zeros(start.shape[1], start.shape[1], dtype=torch.float64, device=start.device)
        self.miss = torch.zeros(start.shape[1], start.shape[0], dtype=torch.float64, device=start.device)

    def add(self, z: Tensor, wanted: Tensor, weights: Tensor | None = None) -> None:
        """Observations z (M, Z), what their products shall be (M, R), and how much each counts (M,)."""
        exact = z.double()
        weighted = exact if weights is None else exact * weights.double().unsqueeze(1)
        self.gram += weighted.t() @ exact
        self.miss += weighted.t() @ (wanted - linear(z, self.start)).double()

    def solved(self, ridge: float = RIDGE) -> Tensor:
        """The weights (R, Z)."""
        size = self.gram.diagonal().mean().clamp(min=1e-12)
        pull = ridge * size * torch.eye(len(self.gram), dtype=self.gram.dtype, device=self.gram.device)
        return self.start + torch.linalg.solve(self.gram + pull, self.miss).t().to(self.start.dtype)


def _flat(values: Tensor) -> Tensor:
    return values.reshape(-1, values.shape[-1])
