"""Layers that read several values, and those that change shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import prod

import torch
from torch import Tensor

from unbraid.networks.graph.kind import Kind, Mask, Run, Settings, Weights, axis_of, keep_mask


def _alike(x: list[Tensor]) -> list[Tensor]:
    """Values of as many axes as the largest one has: new axes come after that of the examples."""
    dims = max(value.dim() for value in x)
    return [value.reshape(value.shape[0], *[1] * (dims - value.dim()), *value.shape[1:]) for value in x]


def _merged(function: Callable[[Tensor, Tensor], Tensor]) -> Run:
    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        return reduce(function, _alike(x))

    return run


def _along(mask: Tensor, value: Tensor) -> Tensor:
    """Give a mask the axes of a value."""
    return mask.reshape(*mask.shape, *[1] * (value.dim() - mask.dim()))


def _multiply(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Multiply values. Keras 3 leaves out those that are masked; where all are, the result is zero."""
    x = _alike(x)
    if settings.keras < 3:
        return reduce(torch.mul, x)
    given = [mask if mask is None else _along(mask, value) for value, mask in zip(x, masks, strict=True)]
    own = [
        value if m is None else torch.where(m, value, torch.ones_like(value)) for value, m in zip(x, given, strict=True)
    ]
    known = [mask for mask in given if mask is not None]
    result = reduce(torch.mul, own)
    if len(known) < len(x):
        return result
    return torch.where(reduce(torch.logical_or, known), result, torch.zeros_like(result))


def _chosen(function: Callable[[Tensor, Tensor], Tensor]) -> Run:
    """Compute a maximum or minimum of values. Keras 3 leaves out those that are masked, from the first value on."""

    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        x = _alike(x)
        if settings.keras < 3:
            return reduce(function, x)
        given = [mask if mask is None else _along(mask, value) for value, mask in zip(x, masks, strict=True)]
        result, known = x[0], given[0]
        for value, mask in zip(x[1:], given[1:], strict=True):
            if mask is not None:
                value = torch.where(mask, value, result)
            if known is not None:
                result = torch.where(known, result, value)
            known = None if mask is None or known is None else known | mask
            result = function(result, value)
        return result

    return run


def _average(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return reduce(torch.add, _alike(x)) / len(x)


def _subtract(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    if len(x) != 2:
        raise ValueError(f"Subtract reads {len(x)} values, expected 2")
    first, second = _alike(x)
    return first - second


def _concatenate(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.cat(x, dim=axis_of(settings, x[0].dim()))


def _dot(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Products of two values, summed over one axis of each."""
    if len(x) != 2:
        raise ValueError(f"Dot reads {len(x)} values, expected 2")
    axes = settings.get("axes", -1)
    one, two = axes if isinstance(axes, list) else (axes, axes)
    one, two = (axis_of(Settings({"axis": axis}), value.dim()) for axis, value in ((one, x[0]), (two, x[1])))
    first, second = x
    if settings.get("normalize", False):
        first, second = (
            v * torch.rsqrt(v.square().sum(axis, keepdim=True).clamp(min=1e-12))
            for v, axis in ((first, one), (second, two))
        )
    first, second = first.movedim(one, -1), second.movedim(two, -1)
    left, right = (value.flatten(1, -2) if value.dim() > 2 else value.unsqueeze(1) for value in (first, second))
    product = torch.bmm(left, right.transpose(1, 2))
    return product.reshape(product.shape[0], *(first.shape[1:-1] + second.shape[1:-1] or (1,)))


def _combined(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    """Return the mask of a merge: Keras 2 needs a timestep in every mask, Keras 3 in any, if every value has a mask."""
    given = [mask for mask in masks if mask is not None]
    if not given or (settings.keras >= 3 and len(given) < len(masks)):
        return None
    return reduce(torch.logical_and if settings.keras < 3 else torch.logical_or, given)


def _joined(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    """Return the mask of a concatenation."""
    if all(mask is None for mask in masks):
        return None
    whole = [
        torch.ones_like(value, dtype=torch.bool) if mask is None else _along(mask, value).expand(value.shape)
        for value, mask in zip(x, masks, strict=True)
    ]
    together = torch.cat(whole, dim=axis_of(settings, x[0].dim()))
    return together.all(-1) if settings.keras < 3 else together.any(-1)


def _reshape(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    shape = settings.get("target_shape", [])
    if not all(type(size) is int and (size == -1 or size > 0) for size in shape):
        raise ValueError(f"target_shape is {shape!r}, expected sizes from 1 on and at most one -1")
    known = prod(size for size in shape if size > 0)
    whole = prod(x[0].shape[1:])
    if shape.count(-1) > 1 or (whole % known if -1 in shape else whole != known):
        raise ValueError(f"target_shape is {shape!r} for {whole} values")
    return x[0].reshape(x[0].shape[0], *shape)


def _permute(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    dims = settings.get("dims", [])
    if sorted(dims) != list(range(1, x[0].dim())):
        raise ValueError(f"dims is {dims!r} for values of {x[0].dim() - 1} axes")
    return x[0].permute(0, *dims)


def _flatten(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    if settings.get("data_format", "channels_last") != "channels_last":
        raise ValueError("data_format is 'channels_first', expected 'channels_last'")
    return x[0].flatten(1) if x[0].dim() > 1 else x[0].unsqueeze(1)


def _not_equal(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0] != settings.get("constant", 0)


def _any(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0].any(dim=axis_of(settings, x[0].dim()), keepdim=bool(settings.get("keepdims", False)))


def _part(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Return some adjacent features."""
    start, (size,) = settings.get("start", 0), settings.sizes("size", 1)
    if type(start) is not int or not 0 <= start <= x[0].shape[-1] - size:
        raise ValueError(f"features {start!r} to {start!r} + {size} of {x[0].shape[-1]} are read")
    return x[0].narrow(-1, start, size)


PART = "Bidirectional.part"  # no class of Keras: one direction of a Bidirectional that merges nothing

MERGING: dict[str, Kind] = {
    "Add": Kind(_merged(torch.add), mask=_combined, many=True),
    "Multiply": Kind(_multiply, mask=_combined, many=True),
    "Maximum": Kind(_chosen(torch.maximum), mask=_combined, many=True),
    "Minimum": Kind(_chosen(torch.minimum), mask=_combined, many=True),
    "Average": Kind(_average, mask=_combined, many=True),
    "Subtract": Kind(_subtract, mask=_combined, many=True),
    "Concatenate": Kind(_concatenate, ("axis",), mask=_joined, many=True),
    "Dot": Kind(_dot, ("axes", "normalize"), many=True),
    "Reshape": Kind(_reshape, ("target_shape",)),
    "Permute": Kind(_permute, ("dims",)),
    "Flatten": Kind(_flatten, ("data_format",)),
    "NotEqual": Kind(_not_equal, ("constant",), mask=keep_mask),
    PART: Kind(_part, ("start", "size"), mask=keep_mask),
    "Any": Kind(_any, ("axis", "keepdims")),
}
