"""Convolution, pooling, padding and cropping in Keras' layout: channels last, kernels (*K, D, F).

Shapes: N examples, K kernel sizes, D channels, F filters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from unbraid.networks.graph.kind import Kind, Mask, Settings, Shapes, Weight, Weights, masked_out

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_CONV_SETTINGS = (
    "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups", "use_bias", "data_format",
    "depth_multiplier",
)  # fmt: skip
_POOL_SETTINGS = ("pool_size", "strides", "padding", "data_format")


def _channels_last(settings: Settings) -> None:
    if settings.get("data_format", "channels_last") != "channels_last":
        raise ValueError("data_format is 'channels_first', expected 'channels_last'")


def _first(x: Tensor) -> Tensor:
    """Channels from the last axis to the axis after the examples."""
    return x.movedim(-1, 1)


def _padded(x: Tensor, settings: Settings, sizes: Sequence[int], strides: Sequence[int], value: float = 0.0) -> Tensor:
    """Values (N, D, *) padded as the setting ``padding`` asks for; ``sizes`` include dilation."""
    kind = settings.get("padding", "valid")
    if kind not in ("valid", "same", "causal") or (kind == "causal" and len(sizes) > 1):
        raise ValueError(f"padding is {kind!r}, expected 'valid', 'same' or (one axis) 'causal'")
    if kind == "valid":
        return x
    widths: list[int] = []
    for length, size, stride in reversed(list(zip(x.shape[2:], sizes, strides, strict=True))):
        if kind == "causal" or stride == 1:
            missing = size - 1
        else:  # sym_max, as the length may be a symbol during export
            missing = torch.sym_max(((length + stride - 1) // stride - 1) * stride + size - length, 0)
        widths += [missing, 0] if kind == "causal" else [missing // 2, missing - missing // 2]
    return F.pad(x, widths, value=value)


def _convolve(settings: Settings, x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    axes = x.dim() - 2
    strides, dilation = settings.sizes("strides", axes), settings.sizes("dilation_rate", axes)
    sizes = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True)]
    x = _padded(x, settings, sizes, strides)
    convolve: Callable[..., Tensor] = _CONV[axes]
    return convolve(x, weight, bias, stride=strides, dilation=dilation, groups=groups)


def _conv(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    weight = w["kernel"].movedim((-1, -2), (0, 1))
    return _convolve(settings, _first(x[0]), weight, w.get("bias"), settings.get("groups", 1)).movedim(1, -1)


def _depthwise_weight(kernel: Tensor) -> Tensor:
    """Convert (*K, D, M) to (D*M, 1, *K)."""
    return kernel.movedim((-2, -1), (0, 1)).flatten(0, 1).unsqueeze(1)


def _depthwise(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    weight, depth = _depthwise_weight(w["depthwise_kernel"]), w["depthwise_kernel"].shape[-2]
    return _convolve(settings, _first(x[0]), weight, w.get("bias"), depth).movedim(1, -1)


def _separable(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    weight, depth = _depthwise_weight(w["depthwise_kernel"]), w["depthwise_kernel"].shape[-2]
    hidden = _convolve(settings, _first(x[0]), weight, None, depth).movedim(1, -1)
    return F.linear(hidden, w["pointwise_kernel"].flatten(0, -2).T, w.get("bias"))


def _conv_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    axes, depth = len(shapes[0]) - 1, shapes[0][-1]
    filters, groups = settings.sizes("filters", 1)[0], settings.sizes("groups", 1)[0]
    if depth % groups:
        raise ValueError(f"{depth} channels cannot be split into {groups} groups")
    kernel = Weight("kernel", (*settings.sizes("kernel_size", axes), depth // groups, filters))
    return [kernel] + [Weight("bias", (filters,))] * bool(settings.get("use_bias", True))


def _depthwise_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    axes, depth = len(shapes[0]) - 1, shapes[0][-1]
    times = settings.sizes("depth_multiplier", 1)[0]
    kernel = Weight("depthwise_kernel", (*settings.sizes("kernel_size", axes), depth, times))
    return [kernel] + [Weight("bias", (depth * times,))] * bool(settings.get("use_bias", True))


def _separable_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    kernel = _depthwise_weights(settings, shapes)[0]
    filters = settings.sizes("filters", 1)[0]
    point = Weight("pointwise_kernel", (*[1] * (len(shapes[0]) - 1), prod(kernel.shape[-2:]), filters))
    return [kernel, point] + [Weight("bias", (filters,))] * bool(settings.get("use_bias", True))


def _pool(settings: Settings, x: list[Tensor], value: float) -> tuple[Tensor, list[int], list[int]]:
    _channels_last(settings)
    axes = x[0].dim() - 2
    sizes = settings.sizes("pool_size", axes, 2)
    strides = settings.sizes("strides", axes) if settings.get("strides") is not None else sizes
    return _padded(_first(x[0]), settings, sizes, strides, value), sizes, strides


def _max_pool(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    padded, sizes, strides = _pool(settings, x, -torch.inf)
    pool: Callable[..., Tensor] = _MAX[len(sizes)]
    return pool(padded, sizes, strides).movedim(1, -1)


def _average_pool(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Compute the mean of the values in each window, without padding."""
    padded, sizes, strides = _pool(settings, x, 0.0)
    counted, _, _ = _pool(settings, [torch.ones_like(x[0])], 0.0)

    def summed(values: Tensor) -> Tensor:
        for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True), 2):
            values = values.unfold(axis, size, stride).sum(-1)
        return values

    return (summed(padded) / summed(counted)).movedim(1, -1)


def _kept(settings: Settings, x: Tensor, values: Tensor) -> Tensor:
    """Pooled values (N, D), with axes of size 1 where ``keepdims`` is set."""
    if not settings.get("keepdims", False):
        return values
    return values.reshape(values.shape[0], *[1] * (x.dim() - 2), values.shape[1])


def _global_max(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    return _kept(settings, x[0], x[0].flatten(1, -2).amax(1))


def _global_average(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Compute the mean; over timesteps, only of those that the mask includes."""
    _channels_last(settings)
    if masks[0] is None or x[0].dim() != 3:
        return _kept(settings, x[0], x[0].flatten(1, -2).mean(1))
    total = masked_out(x[0], masks[0]).sum(1)
    return _kept(settings, x[0], total / masks[0].sum(1, keepdim=True).to(total.dtype))


def _pairs(settings: Settings, name: str, axes: int) -> list[tuple[int, int]]:
    """Sizes before and after each axis, from one number, a pair, or a list of either."""
    value = settings.get(name, 1)
    whole = value if isinstance(value, list) else [value] * (2 if axes == 1 else axes)
    if axes == 1 and len(whole) == 2 and all(type(v) is int for v in whole):
        whole = [whole]
    pairs = [tuple(v) if isinstance(v, list) else (v, v) for v in whole]
    flat = [size for pair in pairs for size in pair]
    if (
        len(pairs) != axes
        or any(len(p) != 2 for p in pairs)
        or not all(type(s) is int and 0 <= s < 2**16 for s in flat)
    ):
        raise ValueError(f"{name} is {value!r}, expected sizes for {axes} axes")
    return pairs


def _zero_padding(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    pairs = _pairs(settings, "padding", x[0].dim() - 2)
    return F.pad(x[0], [0, 0, *(size for pair in reversed(pairs) for size in pair)])


def _cropping(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    values = x[0]
    for axis, (before, after) in enumerate(_pairs(settings, "cropping", values.dim() - 2), 1):
        left = values.shape[axis] - before - after
        if left < 1:
            raise ValueError(f"cropping leaves {left} of {values.shape[axis]} values")
        values = values.narrow(axis, before, left)
    return values


def _up_sampling(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    _channels_last(settings)
    if settings.get("interpolation", "nearest") != "nearest":
        raise ValueError(f"interpolation is {settings.get('interpolation')!r}, expected 'nearest'")
    values = x[0]
    for axis, times in enumerate(settings.sizes("size", values.dim() - 2, 2), 1):
        values = values.repeat_interleave(times, dim=axis)
    return values


def _table() -> dict[str, Kind]:
    found: dict[str, Kind] = {}
    conv = Kind(_conv, _CONV_SETTINGS, _conv_weights, activated=True)
    depthwise = Kind(_depthwise, _CONV_SETTINGS, _depthwise_weights, activated=True)
    separable = Kind(_separable, _CONV_SETTINGS, _separable_weights, activated=True)
    shapes = ("keepdims", "data_format")
    for axes in (1, 2, 3):
        end = f"{axes}D"
        found |= {
            f"Conv{end}": conv,
            f"MaxPooling{end}": Kind(_max_pool, _POOL_SETTINGS),
            f"AveragePooling{end}": Kind(_average_pool, _POOL_SETTINGS),
            f"GlobalMaxPooling{end}": Kind(_global_max, shapes),
            f"GlobalAveragePooling{end}": Kind(_global_average, shapes),
            f"ZeroPadding{end}": Kind(_zero_padding, ("padding", "data_format")),
            f"Cropping{end}": Kind(_cropping, ("cropping", "data_format")),
            f"UpSampling{end}": Kind(_up_sampling, ("size", "data_format", "interpolation")),
        }
    for axes in (1, 2):
        found |= {f"DepthwiseConv{axes}D": depthwise, f"SeparableConv{axes}D": separable}
    return found


CONVOLUTION = _table()
