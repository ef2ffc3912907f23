"""Build the body of a module: the layers of its parent, without the hidden units that the module does not keep."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from unbraid.config import Mode
from unbraid.errors import FormatError
from unbraid.modules.concern import Concern, kept_units, removals
from unbraid.networks.copying import deep_copy
from unbraid.networks.layers import decomposable_layers, gate_rows, pruned, sliced
from unbraid.networks.network import Network
from unbraid.networks.recurrent import RecurrentLayer

LayerWeights = Mapping[str, Mapping[str, Tensor]]


def build_body(parent: Network, concern: Concern) -> tuple[nn.Module, Tensor | None]:
    """Build the body; also return the indices of the remaining features of the output layer (None for all)."""
    if concern.mode is Mode.UNROLLED:
        return pruned(parent.body, removals([concern], parent.layers, parent.device), 1), None
    kept = kept_units(concern, parent.layers, parent.device)
    return sliced(parent.body, kept, lambda name, layer: _without_gates(layer, concern, name))


def _without_gates(layer: nn.Module, concern: Concern, name: str) -> nn.Module:
    """Copy the layer and set the columns of removed gates to zero."""
    if not concern.by_gates or not isinstance(layer, RecurrentLayer) or len(layer.cell.gates) == 1:
        return layer
    edited = deep_copy(layer)
    gone = torch.from_numpy(~concern.kept[name].reshape(-1)).to(layer.weight_ih.device)
    assert len(gone) == len(gate_rows(layer, torch.arange(layer.units)))
    for parameter in edited.parameters():
        parameter.data[gone] = 0
    return edited


def fill(body: nn.Module, weights: LayerWeights, names: Collection[str]) -> None:
    """Set the weights of the layers ``names`` of a sliced body; raise FormatError if a shape does not fit."""
    for name, layer in decomposable_layers(body).items():
        if name not in names:
            continue
        for key, parameter in layer.module.named_parameters():
            own = weights.get(name, {}).get(key)
            if own is None or own.shape != parameter.shape or not torch.isfinite(own).all():
                found = None if own is None else tuple(own.shape)
                expected = tuple(parameter.shape)
                raise FormatError(f"layer {name!r}, {key}: found {found}, expected finite values of shape {expected}.")
            path, _, last = key.rpartition(".")
            value = nn.Parameter(own.detach().to(parameter, copy=True), requires_grad=False)
            setattr(layer.module.get_submodule(path), last, value)


def check_finite(body: nn.Module, names: Collection[str]) -> None:
    """Raise FormatError if a weight of the layers ``names`` of a body is not finite."""
    for name, layer in decomposable_layers(body).items():
        for key, parameter in layer.module.named_parameters() if name in names else ():
            if not torch.isfinite(parameter).all():
                raise FormatError(f"layer {name!r}, {key}: found values that are not finite.")
