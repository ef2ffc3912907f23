"""Refit the linear maps of a smaller cell that is a user's own class.

Nothing is known about such a cell except its linear maps from inputs or hidden units. So each of them is fitted by
ridge regression to its outputs in the parent: first on the kept units of the parent, then also on the values that the
smaller cell reads. Shapes: N examples, T timesteps, H' kept units, Z inputs and R outputs of a map.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.decomposition.reconstruction.moments import on_steps, with_one
from unbraid.decomposition.reconstruction.regression import JUDGING, Regression
from unbraid.networks.layers import Layer
from unbraid.networks.own_layer import OwnLayer, Reading
from unbraid.networks.watching import watched


def fit_own(
    parent: nn.Module, body: nn.Module, large: Layer, small: Layer, kept: Tensor, tree: object, weights: np.ndarray
) -> None:
    """Fit one layer of ``body`` in place.

    Args:
        parent: the body of the parent network.
        body: the sliced body, which owns the weights of the layer.
        large: the layer of the parent.
        small: the layer of ``body``.
        kept: indices of its kept units, (H',).
        tree: inputs of all examples; those that choose the penalty come first.
        weights: weight of each example, or of each timestep, (N, 1) or (N, T).
    """
    whole, cut = large.module, small.module
    assert isinstance(whole, OwnLayer) and isinstance(cut, OwnLayer)
    wanted = _seen(parent, large, tree)
    if not wanted or cut.units == whole.units:
        return
    places = partial(map_places, whole, kept)
    shorter = {key: Reading(r.inputs[..., places(key, 1)], r.outputs[..., places(key, 0)]) for key, r in wanted.items()}
    for key, read in shorter.items():
        fit_map(cut, key, key in whole.turned, [read.inputs], read.outputs, weights)
    own = _seen(body, small, tree)
    for key, read in shorter.items():
        if key in own and own[key].inputs.shape == read.inputs.shape:
            fit_map(cut, key, key in whole.turned, [own[key].inputs, read.inputs], read.outputs, weights)


def _seen(body: nn.Module, layer: Layer, tree: object) -> dict[str, Reading]:
    def note(layer: Layer, inputs: tuple, output: tuple) -> dict[str, tuple[Tensor, Tensor]]:
        assert isinstance(layer.module, OwnLayer)
        initial = inputs[2] if len(inputs) > 2 else None
        return {key: (read.inputs, read.outputs) for key, read in layer.module.readings(inputs[0], initial).items()}

    assert isinstance(layer.module, OwnLayer)
    if not layer.module.maps():
        return {}
    with watched({layer.name: layer}, note) as seen:
        body(tree)
        return {key: Reading(*read) for key, read in seen[layer.name].items()}


def map_places(layer: OwnLayer, kept: Tensor, key: str, side: int, read: Tensor | None = None) -> Tensor:
    """Return the indices of the kept outputs (side 0) or inputs (side 1) of a linear map; ``read`` are those of x."""
    axis = layer.form.prune[key][1 - side if key in layer.turned else side]
    return layer.form.kept(axis, kept, layer.inputs, layer.units, read)


def fit_map(layer: OwnLayer, key: str, turned: bool, inputs: list[Tensor], wanted: Tensor, weights: np.ndarray) -> None:
    """Fit one map, and its bias if it has one, to ``wanted`` (N, T, R) on all of ``inputs``, each (N, T, Z)."""
    weight, bias = layer.own.get_parameter(key), layer.bias_of(key)
    matrix = weight.t() if turned else weight
    start = matrix if bias is None else torch.cat([matrix, bias.unsqueeze(1)], 1)
    steps, examples = wanted.shape[1], len(wanted)
    count = torch.from_numpy(on_steps(weights, steps)).to(wanted.device).expand(-1, steps).reshape(-1)
    used = (count > 0).nonzero()[:, 0]
    judging = (torch.arange(examples, device=wanted.device) < -(-examples // JUDGING)).repeat_interleave(steps)[used]
    regression = Regression(start)
    for part in inputs:
        z = part if bias is None else with_one(part)
        regression.add(z.flatten(0, 1)[used], wanted.flatten(0, 1)[used], judging, count[used])
    new = regression.solved()
    if bias is not None:
        bias.data.copy_(new[:, -1])
        new = new[:, :-1]
    weight.data.copy_(new.t() if turned else new)
