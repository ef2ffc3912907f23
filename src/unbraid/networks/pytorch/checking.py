"""Check the layers and weights of a user's nn.Module before it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod

from unbraid.errors import FormatError, UnsupportedLayer

SUPPORTED = "supported are nn.RNN, nn.LSTM and nn.GRU with one output nn.Linear behind them"


def recurrent_sites(module: Any) -> dict[str, nn.RNNBase]:
    """Find the recurrent layers of a module.

    Returns:
        path -> nn.RNN, nn.LSTM or nn.GRU.

    Raises:
        UnsupportedLayer: no recurrent layer, or one that cannot be decomposed.
    """
    _check_module(module)
    _check_initialized(module)
    sites: dict[str, nn.RNNBase] = {}
    for name, part in module.named_modules():
        if isinstance(part, nn.RNNCellBase):
            raise UnsupportedLayer(
                f"layer {name!r} is {type(part).__name__}, which runs in a loop of the module; {SUPPORTED}: "
                f"use nn.{type(part).__name__.removesuffix('Cell')} over the whole sequence instead."
            )
        if "quantized" in type(part).__module__:
            raise UnsupportedLayer(f"layer {name!r} is quantized; {SUPPORTED}: pass the network before quantization.")
        if hasattr(part, "_orig_mod"):
            raise UnsupportedLayer(f"{name or 'the module'} is compiled: pass the nn.Module that it was made from.")
        if isinstance(part, nn.RNNBase):
            _check_recurrent(name, part)
            sites[name] = part
    if not sites:
        kinds = sorted({type(part).__name__ for part in module.modules()} - {type(module).__name__})
        raise UnsupportedLayer(f"{type(module).__name__} has no recurrent layer (it holds {kinds}); {SUPPORTED}.")
    return sites


def check_plain(module: nn.Module) -> None:
    """Check that weights are finite and float32 or float64; raises UnsupportedLayer or FormatError."""
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


def _check_recurrent(name: str, part: nn.RNNBase) -> None:
    kind = next((k for k in (nn.RNN, nn.LSTM, nn.GRU) if isinstance(part, k)), None)
    if kind is None or type(part).forward is not kind.forward:
        raise UnsupportedLayer(f"layer {name!r} is {type(part).__name__} with a custom forward; {SUPPORTED}.")
    if any(hook for hook in part._forward_pre_hooks.values() if isinstance(hook, BasePruningMethod)):
        raise UnsupportedLayer(
            f"layer {name!r} is pruned by masks: call torch.nn.utils.prune.remove for every weight first."
        )
    if hasattr(part, "parametrizations") or "weight_hh_l0" not in dict(part.named_parameters()):
        raise UnsupportedLayer(
            f"layer {name!r} has parametrized weights: call torch.nn.utils.parametrize.remove_parametrizations or "
            "torch.nn.utils.remove_weight_norm first."
        )
