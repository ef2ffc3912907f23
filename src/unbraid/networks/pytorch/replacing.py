"""Copy a user's module and replace its recurrent layers and its output layer."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from unbraid.errors import UnsupportedLayer
from unbraid.networks.copying import deep_copy
from unbraid.networks.inputs import leaves
from unbraid.networks.own_cells import form_of
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.pytorch.calling import said
from unbraid.networks.pytorch.checking import BASE, base_kind, is_layer
from unbraid.networks.pytorch.heads import tap_of
from unbraid.networks.stack import RecurrentStack, stack_of

OWN_CLASS = "recurrent_class"  # in the class of an instance that has a layer BASE: the user's class


def copied(module: nn.Module, replaced: Mapping[int, Any] | None = None) -> nn.Module:
    """Copy a user's module, and detach tensors that forward stored in it from their graph.

    Args:
        module: the module to copy.
        replaced: id of a part -> its replacement.
    """
    memo: dict[int, Any] = dict(replaced or {})
    for part in module.modules():
        for leaf in leaves(dict(vars(part))):
            if isinstance(leaf, Tensor) and not leaf.is_leaf:
                memo[id(leaf)] = leaf.detach()
    try:
        return deep_copy(module, memo)
    except Exception as error:  # a user's module may hold any object, such as a lock
        raise UnsupportedLayer(
            f"{type(module).__name__} cannot be copied ({said(error)}): remove attributes except weights and numbers."
        ) from error


def prepared(module: nn.Module, head: str, folds: Mapping[str, str]) -> nn.Module:
    """Copy a user's module and replace its recurrent layers and its output layer.

    Args:
        module: the module, with plain weights.
        head: path of the output layer.
        folds: see :class:`unbraid.networks.torch_spec.TorchRun`.
    """
    sites = {name: part for name, part in _layers(module).items() if BASE not in part._modules}  # others are prepared
    memo: dict[int, Any] = {}
    for name, part in sites.items():
        form = form_of(part)
        if form is not None:
            memo[id(part)] = OwnStack(copied(part), form, folds.get(name))
        elif type(part).forward is base_kind(part).forward:  # type: ignore[union-attr]  # checked before
            memo[id(part)] = stack_of(part, folds.get(name))
    ready = copied(module, memo)
    for name, part in sites.items():
        if id(part) not in memo:
            exchange_base(ready.get_submodule(name), stack_of(part, folds.get(name)))
    parent, _, name = head.rpartition(".")
    setattr(ready.get_submodule(parent), name, tap_of(ready.get_submodule(head)))
    return ready.eval().requires_grad_(False)


def _layers(module: nn.Module) -> dict[str, nn.Module]:
    """Return recurrent layers and registered cells by path, without the parts of registered cells."""
    found: dict[str, nn.Module] = {}
    own: list[str] = []
    for name, part in module.named_modules():
        if any(name.startswith(site) for site in own):
            continue
        if isinstance(part, OwnStack) or form_of(part) is not None:
            own.append(f"{name}.")
        if is_layer(part):
            found[name] = part
    return found


def stacks_of(module: nn.Module) -> dict[str, RecurrentStack]:
    """Return the replacements of recurrent layers, by path."""
    found = {name: part for name, part in module.named_modules() if isinstance(part, RecurrentStack)}
    return {name.removesuffix(f".{BASE}"): stack for name, stack in found.items()}


def exchange_base(part: nn.Module, layer: nn.Module) -> None:
    """Change the instance of a subclass in place, so that its forward calls ``layer`` instead of its base class."""
    own: Any = type(part)
    kind: Any = base_kind(part)
    assert kind is not None
    if isinstance(part, nn.RNNBase):
        part._flat_weights_names, part._flat_weights, part._flat_weight_refs = [], [], []
    for name in own_weights(part):
        del part._parameters[name]
    part.__class__ = _exchanged_class(own, kind)
    part.add_module(BASE, layer)


def own_weights(part: nn.Module) -> list[str]:
    """List the names of the weights that the torch class of a recurrent layer has."""
    starts = ("weight_ih", "weight_hh", "weight_hr", "bias_ih", "bias_hh")
    return [name for name in part._parameters if name.startswith(starts)]


@cache
def _exchanged_class(own: Any, kind: Any) -> Any:
    """Make a subclass of a user's class whose base class calls the layer BASE. Pickles name the user's class."""

    def forward(self: Any, input: Any, hx: Any = None) -> Any:
        return getattr(self, BASE)(input, hx)

    def reduced(self: Any, protocol: Any) -> tuple:
        return _instance, (own, kind), self.__dict__

    base = type(kind.__name__, (kind,), {"forward": forward, "flatten_parameters": lambda self: None})
    return type(own.__name__, (own, base), {"__reduce_ex__": reduced, OWN_CLASS: own})


def _instance(own: Any, kind: Any) -> Any:
    """Make an instance without attributes, for a pickle."""
    made = _exchanged_class(own, kind)
    return made.__new__(made)
