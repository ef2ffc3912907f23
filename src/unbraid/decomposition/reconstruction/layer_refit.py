"""Refit the layers of a sliced module on the states that the module itself computes.

Folding assumes that the layers below and the past states equal those of the parent. They differ a little, and the
errors accumulate over layers and timesteps. So the layers are refitted in order: run the module, then fit the weights
of the layer by ridge regression. The regression maps the inputs of the layer to the pre-activations of its units in the
parent. This is one step of dataset aggregation (Ross et al. 2011), without labels or gradient steps. Shapes: N
examples, T timesteps, D inputs, H units, Z entries of z, G gates.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.decomposition.reconstruction.moments import (
    before,
    by_steps,
    joined_with_one,
    on_steps,
    valid_steps,
    with_one,
)
from unbraid.decomposition.reconstruction.own_refit import fit_own
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.decomposition.reconstruction.states import States
from unbraid.networks.inputs import Inputs, to_device
from unbraid.networks.layers import Layer, decomposable_layers, gate_rows
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stages import Dense
from unbraid.networks.watching import watched

RECTIFIED_ROUNDS = 4  # more hardly change the weights


def refit(
    parent: nn.Module,
    body: nn.Module,
    kept: Mapping[str, Tensor],
    x: Inputs,
    device: torch.device,
    weights: np.ndarray,
    states: Mapping[str, States] | None = None,
) -> None:
    """Fit layers of ``body`` in place.

    Args:
        parent: the body of the parent network.
        body: the sliced body, which owns the weights of these layers.
        kept: for each layer to fit, name -> indices of its kept units, (H',).
        x: examples.
        device: the device of both bodies.
        weights: weight of each example, or of each timestep, (N, 1) or (N, T).
        states: layer name -> states of the parent on the same examples. None (default) computes them.
    """
    order = np.argsort(np.arange(len(x)) % JUDGING != 0, kind="stable")  # examples that choose the penalty first
    tree = to_device(next(x.take(order).batches(len(x))), device)
    large, small = decomposable_layers(parent), decomposable_layers(body)
    fitted = {name: layer for name, layer in large.items() if name in kept}
    plain = {name: layer for name, layer in fitted.items() if not isinstance(layer.module, OwnLayer)}
    with torch.inference_mode():
        wanted = _seen(parent, plain, tree) if states is None else {n: s.take(order) for n, s in states.items()}
        for name in fitted:
            if name not in plain:
                fit_own(parent, body, large[name], small[name], kept[name], tree, weights[order])
                continue
            whole, cut = large[name].module, small[name].module
            own = _seen(body, {name: small[name]}, tree)[name]
            if isinstance(whole, Dense) and isinstance(cut, Dense):
                fit_dense(whole, cut, kept[name], wanted[name], own, weights[order])
                continue
            assert isinstance(whole, RecurrentLayer) and isinstance(cut, RecurrentLayer)
            fit_layer(whole, cut, kept[name], wanted[name], own, weights[order])


def _seen(body: nn.Module, layers: Mapping[str, Layer], tree: object) -> dict[str, States]:
    def note(layer: Layer, inputs: tuple, output: tuple) -> States:
        if isinstance(layer.module, Dense):
            x = by_steps(inputs[0])
            return States(x, x[..., :0])
        return States(inputs[0], before(layer, inputs, output[0]), valid_steps(inputs))

    with watched(layers, note) as seen:
        body(tree)
        return dict(seen)


def fit_dense(large: Dense, small: Dense, kept: Tensor, parents: States, own: States, weights: np.ndarray) -> None:
    """Fit a dense layer in place: from the inputs that the module computes to the pre-activations of the parent.

    Behind a ReLU all pre-activations below 0 are the same. So where that of the parent is below 0, the target is the
    fitted value if this is below 0 as well, else 0. Some rounds move these targets and the weights in turn.
    """
    x, read = parents.x, own.x
    if read.shape == x.shape and torch.equal(read, x):
        return  # it reads what it reads in the parent, so its weights are exact
    count, used, judging = _observations(weights, own)
    z, start = with_one(read.flatten(0, 1)[used]), torch.cat([small.weight, small.bias.unsqueeze(1)], 1)
    wanted = linear(x, large.weight[kept], large.bias[kept]).flatten(0, 1)[used]
    new = fitted_rows(start, z, wanted, judging, count)
    for _ in range(RECTIFIED_ROUNDS if large.rectified else 0):
        targets = torch.where(wanted > 0, wanted, linear(z, new).clamp(max=0))
        new = fitted_rows(start, z, targets, judging, count)
    small.weight.data.copy_(new[:, :-1])
    small.bias.data.copy_(new[:, -1])


def fitted_rows(start: Tensor, z: Tensor, wanted: Tensor, judging: Tensor, count: Tensor) -> Tensor:
    """Fit weights (R, Z) near ``start``; arguments as of :meth:`Regression.add`."""
    regression = Regression(start)
    regression.add(z, wanted, judging, count)
    return regression.solved()


def _observations(weights: np.ndarray, own: States) -> tuple[Tensor, slice | Tensor, Tensor]:
    """Return the weights of the used observations, their indices, and which of them choose the penalty."""
    x, steps = own.x, own.x.shape[1]
    count = torch.from_numpy(on_steps(weights, steps)).to(x.device).expand(-1, steps)
    count = (count if own.valid is None else count * own.valid).reshape(-1)
    used: slice | Tensor = slice(None) if bool((count > 0).all()) else (count > 0).nonzero()[:, 0]
    judging = (torch.arange(len(x), device=x.device) < -(-len(x) // JUDGING)).repeat_interleave(steps)[used]
    return count[used], used, judging


def fit_layer(
    large: RecurrentLayer, small: RecurrentLayer, kept: Tensor, parents: States, own: States, weights: np.ndarray
) -> None:
    """Fit one layer in place.

    Every example is used twice: with the past states of the module and with those of the parent. A vanilla layer
    diverges if it is fitted on its own past states only, because the fit changes these states.
    """
    x, previous, read, ours = parents.x, parents.previous, own.x, own.previous
    cell, rows = large.cell, gate_rows(large, kept)
    count, used, judging = _observations(weights, own)

    def fitted(gates: slice, start: Tensor, z: list[Tensor], wanted: Tensor) -> Tensor:
        regression = Regression(start)
        targets = wanted[..., gates].flatten(0, 1)[used]
        for part in z:
            regression.add(part.flatten(0, 1)[used], targets, judging, count)
        return regression.solved()

    def joint(gates: slice, pasts: list[Tensor], wanted: Tensor) -> None:
        bias = cell.input_bias(small.bias_ih, small.bias_hh)[gates].unsqueeze(1)
        start = torch.cat([small.weight_ih[gates], small.weight_hh[gates], bias], 1)
        new = fitted(gates, start, [joined_with_one(read, past) for past in pasts], wanted)
        small.weight_ih.data[gates], small.weight_hh.data[gates] = new[:, : small.inputs], new[:, small.inputs : -1]
        small.bias_ih.data[gates], small.bias_hh.data[gates] = new[:, -1], 0

    pasts = [ours, previous[..., kept]]
    from_x = linear(x, large.weight_ih[rows], cell.input_bias(large.bias_ih, large.bias_hh)[rows])
    recurrent = large.weight_hh[rows]
    if cell.kind != "gru":
        joint(slice(None), pasts, from_x + linear(previous, recurrent))
        return
    joint(slice(0, 2 * small.units), pasts, from_x + linear(previous, recurrent))
    candidate = slice(2 * small.units, 3 * small.units)
    if not cell.reset_after:
        reset = large.gates_after(x, previous)[0]
        joint(
            candidate,
            [small.gates_after(read, past)[0] * past for past in pasts],
            from_x + linear(reset * previous, recurrent),
        )
        return
    start = torch.cat([small.weight_ih[candidate], small.bias_ih[candidate].unsqueeze(1)], 1)
    new = fitted(candidate, start, [with_one(read)] * 2, from_x)
    small.weight_ih.data[candidate], small.bias_ih.data[candidate] = new[:, :-1], new[:, -1]
    start = torch.cat([small.weight_hh[candidate], small.bias_hh[candidate].unsqueeze(1)], 1)
    new = fitted(candidate, start, [with_one(past) for past in pasts], linear(previous, recurrent, large.bias_hh[rows]))
    small.weight_hh.data[candidate], small.bias_hh.data[candidate] = new[:, :-1], new[:, -1]
