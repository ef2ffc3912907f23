"""Make the weights of a copied module plain: without parametrizations, weight or spectral norm, and pruning masks."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.utils import parametrize, prune

from unbraid.networks.precision import HALF


def plain(module: nn.Module) -> list[str]:
    """Compute parametrized and masked weights once and keep the results, in place.

    The forward in eval mode is the same.

    Args:
        module: a copy of the user's module, in eval mode.

    Returns:
        a short text for each change.
    """
    notes = []
    for path, part in list(module.named_modules()):
        if changed := _plain_part(part):
            notes.append(f"layer {path!r}: {', '.join(changed)} merged into its weights")
    return notes


def full_precision(module: nn.Module) -> list[str]:
    """Convert weights of half precision to float32, in place; returns the names of their types."""
    half = sorted({str(p.dtype) for p in [*module.parameters(), *module.buffers()] if p.dtype in HALF})
    if half:
        module.float()
    return half


def _plain_part(part: nn.Module) -> list[str]:
    done = []
    if parametrize.is_parametrized(part):
        _remove_parametrizations(part)
        done.append("parametrizations")
    hooks: list[Any] = list(part._forward_pre_hooks.values())
    for hook in hooks:
        kind = type(hook).__name__
        if isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            prune.remove(part, name)
            done.append("pruning masks")
        elif kind == "WeightNorm":
            nn.utils.remove_weight_norm(part, hook.name)
            done.append("weight norm")
        elif kind == "SpectralNorm":
            nn.utils.remove_spectral_norm(part, hook.name)
            done.append("spectral norm")
    if done and isinstance(part, nn.RNNBase):
        part._init_flat_weights()
    return list(dict.fromkeys(done))


def _remove_parametrizations(part: nn.Module) -> None:
    """Remove parametrizations. The function of torch also changes the class, which the user's module shares."""
    values = {name: getattr(part, name).detach().clone() for name in part.parametrizations}  # type: ignore[union-attr]
    part.__class__ = type(part).__bases__[0]
    del part._modules["parametrizations"]
    for name, value in values.items():
        part.register_parameter(name, nn.Parameter(value))
