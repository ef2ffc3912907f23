"""Divide instances of subclasses of nn.LSTM and the like into the user's code and a layer of torch, and join them.

A subclass may add dropout or a norm around the forward of its base class. Divided, it calls a plain layer of torch.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from unbraid.networks.own_cells import form_of
from unbraid.networks.pytorch.checking import BASE, base_kind, is_layer
from unbraid.networks.pytorch.replacing import OWN_CLASS, copied, exchange_base, own_weights

_TABLES = ("_parameters", "_buffers", "_modules")


def divided(module: nn.Module) -> nn.Module:
    """Copy a module whose subclasses of recurrent layers call a plain layer at :data:`BASE`; itself without them."""
    if not _subclassed(module):
        return module
    copy = copied(module)
    for part in _subclassed(copy):
        exchange_base(part, _base_layer(part))
    return copy


def joined(module: nn.Module) -> nn.Module:
    """Copy a divided module with instances of the user's classes, whose weights are those of the plain layers.

    Instances that call anything but a layer of torch stay divided.
    """
    memo = {}
    for part in module.modules():
        layer = part._modules.get(BASE)
        if layer is not None and type(layer) is base_kind(layer):
            memo[id(part)] = _joined(part, layer)
    return copied(module, memo) if memo else module


def _subclassed(module: nn.Module) -> list[nn.Module]:
    """List the recurrent layers of torch with a forward of the user's, without the module itself."""
    found = []
    for name, part in module.named_modules():
        kind = base_kind(part)
        if name and kind is not None and BASE not in part._modules and form_of(part) is None:
            found += [part] if is_layer(part) and type(part).forward is not kind.forward else []
    return found


def _base_layer(part: nn.Module) -> nn.Module:
    """Make a layer of the torch class of a subclass, with the same weights and settings."""
    kind: Any = base_kind(part)
    layer: nn.Module = kind(1, 1)
    _set(layer, {name: value for name, value in vars(part).items() if name in vars(layer)})
    layer._parameters = {name: part._parameters[name] for name in own_weights(part)}
    return _ready(layer)


def _joined(part: nn.Module, layer: nn.Module) -> nn.Module:
    own = getattr(type(part), OWN_CLASS)
    made: nn.Module = own.__new__(own)
    made.__dict__.update(vars(part))
    made._modules = {name: copied(child) for name, child in part._modules.items() if name != BASE and child is not None}
    made._parameters = {**layer._parameters, **part._parameters}
    _set(made, {name: value for name, value in vars(layer).items() if not name.endswith("_hooks")})
    return _ready(made)


def _set(part: nn.Module, values: dict[str, Any]) -> None:
    """Set attributes, but no table of weights or parts."""
    part.__dict__.update({name: value for name, value in values.items() if name not in _TABLES and "hooks" not in name})


def _ready(part: nn.Module) -> nn.Module:
    if isinstance(part, nn.RNNBase):
        part._init_flat_weights()
    return part
