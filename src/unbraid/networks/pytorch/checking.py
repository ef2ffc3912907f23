"""Check the layers and weights of a user's nn.Module before it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import FormatError, UnsupportedLayer, quoted
from unbraid.networks.own_cells import form_of

SUPPORTED = "supported are nn.RNN, nn.LSTM, nn.GRU and their cells, with one output nn.Linear after them"
BASE = "recurrent_base"  # in an instance of a subclass: the layer that runs in place of its base class
KINDS = (nn.RNN, nn.LSTM, nn.GRU, nn.RNNCell, nn.LSTMCell, nn.GRUCell)


def recurrent_sites(module: Any, required: bool = True) -> dict[str, nn.Module]:
    """Find the recurrent layers of a module.

    Args:
        module: the user's module.
        required: whether a module without them is refused. Default True.

    Returns:
        path -> nn.RNN, nn.LSTM, nn.GRU, a cell, or an instance of a registered class.

    Raises:
        UnsupportedLayer: there is no recurrent layer, or one that cannot be decomposed.
    """
    _check_module(module)
    _check_initialized(module)
    sites: dict[str, nn.Module] = {}
    inside: list[str] = []  # paths of registered cells, whose parts belong to them
    for name, part in module.named_modules():
        if "quantized" in type(part).__module__:
            raise UnsupportedLayer(f"layer {name!r} is quantized; {SUPPORTED}: pass the network before quantization.")
        if hasattr(part, "_orig_mod"):
            raise UnsupportedLayer(f"{name or 'the module'} is compiled: pass the nn.Module that it was made from.")
        if any(name.startswith(f"{site}.") for site in inside):
            continue
        if form_of(part) is not None:
            sites[name] = part
            inside.append(name)
        elif is_layer(part):
            if base_kind(part) is None:
                raise UnsupportedLayer(f"layer {name!r} is {type(part).__name__} with a custom forward; {SUPPORTED}.")
            sites[name] = part
    if not sites and required:
        raise without_layers(module)
    return sites


def without_layers(module: nn.Module) -> UnsupportedLayer:
    """Make the error for a module without layers whose units can be removed."""
    kinds = sorted({type(part).__name__ for part in module.modules()} - {type(module).__name__})
    return UnsupportedLayer(
        f"{type(module).__name__} has no recurrent layer (it holds {quoted(kinds, 80)}); {SUPPORTED}; own cells need "
        "unbraid.register_cell. Dense layers alone need a hidden nn.Linear."
    )


def check_plain(module: nn.Module) -> None:
    """Check that weights are finite and float32 or float64; raise UnsupportedLayer or FormatError."""
    for name, tensor in module.state_dict().items():
        if not isinstance(tensor, Tensor):  # extra state of a module
            continue
        if tensor.is_meta:
            raise UnsupportedLayer(f"weight {name!r} is on the meta device and has no values: load the weights first.")
        if not tensor.is_floating_point():
            continue
        if tensor.dtype not in (torch.float32, torch.float64):
            raise UnsupportedLayer(
                f"weight {name!r} is {tensor.dtype}; supported are float32 and float64: pass module.float()."
            )
        if not torch.isfinite(tensor).all():
            raise FormatError(
                f"weight {name!r} holds NaN or infinite values: retrain the network, or load its weights again."
            )


def _check_module(module: Any) -> None:
    if isinstance(module, type):
        raise UnsupportedLayer(
            f"expected an nn.Module, got the class {module.__name__}: pass a trained instance of it."
        )
    if isinstance(module, str | os.PathLike):
        raise UnsupportedLayer(
            "expected an nn.Module, got a path: build the module, fill it with unbraid.load_weights(module, path) and "
            "pass it."
        )
    if isinstance(module, Mapping):
        raise UnsupportedLayer(
            "expected an nn.Module, got a state dict: build the module, fill it with load_state_dict() and pass it."
        )
    if not isinstance(module, nn.Module):
        raise UnsupportedLayer(f"expected an nn.Module, got {type(module).__name__}.")
    if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise UnsupportedLayer(f"{type(module).__name__} wraps a module: pass its .module.")
    if isinstance(module, torch.jit.ScriptModule):
        raise UnsupportedLayer(
            "the layers of a scripted module cannot be read: pass the nn.Module that it was made from."
        )


def _check_initialized(module: nn.Module) -> None:
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if nn.parameter.is_lazy(tensor):
            raise UnsupportedLayer(
                f"weight {name!r} has no shape yet (a lazy layer): run the module once, and train it or "
                "load its weights."
            )


def is_layer(part: nn.Module) -> bool:
    """Return whether a part is a recurrent layer or cell of torch, or of a registered class."""
    return isinstance(part, nn.RNNBase | nn.RNNCellBase) or form_of(part) is not None


def base_kind(part: nn.Module) -> type[nn.Module] | None:
    """Return the torch class of a recurrent layer or of its base class; None if there is none."""
    return next((kind for kind in KINDS if isinstance(part, kind)), None)


def recurrent_weight(part: nn.Module) -> Tensor | None:
    """Return the first recurrent weight of a layer or cell of torch, or any weight of a registered class.

    None if it is no plain parameter.
    """
    if form_of(part) is not None:
        return next(part.parameters())
    name = "weight_hh" if isinstance(part, nn.RNNCellBase) else "weight_hh_l0"
    return part._parameters.get(name)


def whole_layers(module: nn.Module) -> dict[str, nn.Module]:
    """Find recurrent layers of torch and of registered classes that smaller ones can replace.

    Subclasses of torch's layers are among them, unless they were divided (:mod:`unbraid.networks.pytorch.subclasses`).

    Raises:
        UnsupportedLayer: another recurrent layer.
    """
    found: dict[str, nn.Module] = {}
    for name, part in recurrent_sites(module, required=False).items():
        kind = base_kind(part)
        if form_of(part) is not None:
            found[name] = part
            continue
        if BASE in part._modules:
            continue
        if kind is None or (not name and type(part).forward is not kind.forward):
            raise UnsupportedLayer(
                f"layer {name!r} is {type(part).__name__}; only nn.RNN, nn.LSTM, nn.GRU, their cells, subclasses that "
                "another module holds, and registered classes can be made smaller."
            )
        assert isinstance(part, nn.RNNBase | nn.RNNCellBase)
        if hasattr(part, "parametrizations") or recurrent_weight(part) is None:
            raise UnsupportedLayer(
                f"layer {name!r} has parametrized or masked weights: call torch.nn.utils.prune.remove, "
                "torch.nn.utils.parametrize.remove_parametrizations or torch.nn.utils.remove_weight_norm first."
            )
        found[name] = part
    return found
