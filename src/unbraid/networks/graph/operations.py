"""Operators and functions in Functional models, such as ``x[:, -1]``, ``x + y`` or ``tf.reduce_mean(x, axis=1)``.

Each computes with every example by itself: what would mix examples is refused. No operation passes a mask on.
Shapes: N examples.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.graph.kind import Kind, Mask, Run, Settings, Weights

OPERATION = "op."  # start of the names of these kinds; no class of Keras has a dot in its name
_Unary = Callable[[Tensor], Tensor]
_Binary = Callable[[Tensor, Tensor], Tensor]

UNARY: dict[str, _Unary] = {
    "abs": torch.abs,
    "negative": torch.neg,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "square": torch.square,
    "reciprocal": torch.reciprocal,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "identity": lambda x: x,
    "logical_not": lambda x: ~x.bool(),
    **{name: ACTIVATIONS[name] for name in (
        "tanh", "sigmoid", "relu", "relu6", "selu", "silu", "softplus", "softsign", "mish", "hard_silu", "log_sigmoid",
    )},
}  # fmt: skip
BINARY: dict[str, _Binary] = {
    "add": torch.add,
    "subtract": torch.subtract,
    "multiply": torch.multiply,
    "divide": torch.true_divide,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "power": torch.pow,
    "squared_difference": lambda x, y: (x - y).square(),
    "equal": torch.eq,
    "not_equal": torch.ne,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
}
REDUCING: dict[str, Callable[..., Tensor]] = {
    "sum": lambda x, axes, kept: _number(x).sum(axes, keepdim=kept),
    "mean": lambda x, axes, kept: x.float().mean(axes, keepdim=kept),
    "max": lambda x, axes, kept: x.amax(axes, keepdim=kept),
    "min": lambda x, axes, kept: x.amin(axes, keepdim=kept),
    "any": lambda x, axes, kept: _over(torch.any, x.bool(), axes, kept),
    "all": lambda x, axes, kept: _over(torch.all, x.bool(), axes, kept),
    "logsumexp": lambda x, axes, kept: torch.logsumexp(x, axes, keepdim=kept),
}


def _number(x: Tensor) -> Tensor:
    return x.float() if x.dtype == torch.bool else x


def _over(function: Callable[..., Tensor], x: Tensor, axes: list[int], kept: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = function(x, dim=axis, keepdim=kept)
    return x


def _axes(settings: Settings, dims: int, default: Any = None) -> list[int]:
    """Axes of a setting, from 1 on; raise ValueError for the axis of examples."""
    value = settings.get("axis", default)
    values = value if isinstance(value, list) else [value]
    if not values or any(type(axis) is not int for axis in values):
        raise ValueError(f"axis is {value!r}: it works over all examples together, expected axes from 1 on")
    axes = [axis + dims if axis < 0 else axis for axis in values]
    if any(not 0 < axis < dims for axis in axes) or len(set(axes)) < len(axes):
        raise ValueError(f"axis is {value!r} for values of {dims} axes, expected axes from 1 on")
    return axes


def _axis(settings: Settings, dims: int, default: Any = -1) -> int:
    axes = _axes(settings, dims, default)
    if len(axes) > 1:
        raise ValueError(f"axis is {axes}, expected one axis")
    return axes[0]


def _unary(function: _Unary) -> Run:
    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        return function(x[0])

    return run


def _pair(settings: Settings, x: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Both sides of an operator; one of them may be a number, or numbers for the last axes."""
    if len(x) == 1:
        plain = torch.tensor(settings.get("constant"), device=x[0].device)
        if plain.dim() >= x[0].dim():
            raise ValueError(f"a constant has {plain.dim()} axes and meets values of {x[0].dim()}")
        if x[0].is_floating_point() and plain.dtype == torch.int64:
            plain = plain.to(x[0].dtype)
        return (plain, x[0]) if settings.get("constant_first", False) else (x[0], plain)
    if len(x) != 2:
        raise ValueError(f"{len(x)} values are read, expected two")
    if x[0].dim() != x[1].dim():
        raise ValueError(f"values of {x[0].dim()} and of {x[1].dim()} axes are combined, expected the same number")
    return x[0], x[1]


def _binary(function: _Binary) -> Run:
    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        return function(*_pair(settings, x))

    return run


def _reducing(function: Callable[..., Tensor]) -> Run:
    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        return function(x[0], _axes(settings, x[0].dim()), bool(settings.get("keepdims", False)))

    return run


def _get_item(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Select parts of every example: ``key`` holds positions, [start, stop, step], "..." and null for a new axis."""
    key: list[Any] = settings.get("key", [])
    read = sum(part not in ("...", None) for part in key)
    if "..." in key:
        place = key.index("...")
        key = [*key[:place], *[[None, None, None]] * (x[0].dim() - read), *key[place + 1 :]]
    if not key or key[0] != [None, None, None]:
        raise ValueError("a part of the examples is selected, expected [:, ...]")
    return x[0][tuple(_part(part) for part in key)]


def _part(part: Any) -> Any:
    """Return one part of a key as Python indexes with it."""
    if part is None or type(part) is int:
        return part
    if isinstance(part, list) and len(part) == 3 and all(one is None or type(one) is int for one in part):
        if part[2] is not None and part[2] < 1:
            raise ValueError(f"a slice has step {part[2]}, expected 1 or more")
        return slice(*part)
    raise ValueError(f"the key has {part!r}, expected positions and slices")


def _expand_dims(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0].unsqueeze(_axis(settings, x[0].dim() + 1))


def _squeeze(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    for axis in sorted(_axes(settings, x[0].dim()), reverse=True):
        if x[0].shape[axis] != 1:
            raise ValueError(f"axis {axis} has size {x[0].shape[axis]}, expected 1")
    return x[0].squeeze(tuple(_axes(settings, x[0].dim())))


def _transpose(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    axes = settings.get("axes", [])
    if sorted(axes) != list(range(x[0].dim())) or axes[0] != 0:
        raise ValueError(f"axes is {axes!r} for values of {x[0].dim()} axes, expected 0 as the first")
    return x[0].permute(*axes)


def _reshape(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    shape = settings.get("shape", [])
    sizes, whole = shape[1:], prod(x[0].shape[1:])
    if not shape or shape[0] != -1 or any(type(size) is not int or size < 1 for size in sizes) or prod(sizes) != whole:
        raise ValueError(f"shape is {shape!r} for {whole} values of an example, expected -1 and their sizes")
    return x[0].reshape(x[0].shape[0], *sizes)


def _flip(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0].flip(_axes(settings, x[0].dim()))


def _concatenate(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.cat(x, dim=_axis(settings, x[0].dim()))


def _stack(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.stack(x, dim=_axis(settings, x[0].dim() + 1, 0))


def _softmax(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.softmax(x[0], _axis(settings, x[0].dim()))


def _log_softmax(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.log_softmax(x[0], _axis(settings, x[0].dim()))


def _clip(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0].clamp(settings.get("low"), settings.get("high"))


def _leaky_relu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return F.leaky_relu(x[0], settings.get("slope", 0.2))


def _elu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return F.elu(x[0], settings.get("alpha", 1.0))


def _gelu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return F.gelu(x[0], approximate="tanh" if settings.get("approximate", False) else "none")


def _matmul(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    if len(x) != 2 or x[0].dim() != x[1].dim() or x[0].dim() < 3:
        raise ValueError("a matrix product mixes examples, expected two values of three or more axes")
    first, second = (
        value.transpose(-1, -2) if settings.get(name, False) else value
        for value, name in zip(x, ("transpose_first", "transpose_second"), strict=True)
    )
    return first @ second


def _where(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    if len(x) != 3 or len({value.dim() for value in x}) > 1:
        raise ValueError(f"{len(x)} values are read, expected three of the same number of axes")
    return torch.where(x[0].bool(), x[1], x[2])


def _normalize(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    smallest = settings.get("epsilon", 1e-12)
    return x[0] * torch.rsqrt(x[0].square().sum(_axes(settings, x[0].dim(), -1), keepdim=True).clamp(min=smallest))


def _cast(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    dtype = str(settings.get("dtype"))
    if dtype == "bool":
        return x[0].bool()
    if dtype.startswith("float"):
        return x[0].float()
    if dtype.startswith("int"):
        return x[0].long()
    raise ValueError(f"dtype is {dtype!r}, expected float32, int32, int64 or bool")


def _filled(value: int) -> Run:
    """Fill values of the shape of another one; masks that Keras 3 concatenates are made so."""

    def run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
        whole = torch.full_like(x[0], value)
        return whole if settings.get("dtype") is None else _cast(settings, w, [whole], masks)

    return run


def _repeat(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    (times,) = settings.sizes("repeats", 1)
    return x[0].repeat_interleave(times, dim=_axis(settings, x[0].dim(), None))


def _tile(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    times = settings.sizes("repeats", x[0].dim())
    if times[0] != 1:
        raise ValueError(f"examples are repeated {times[0]} times, expected 1")
    return x[0].repeat(times)


OPERATIONS: dict[str, Kind] = {
    OPERATION + name: kind
    for name, kind in {
        **{name: Kind(_unary(function)) for name, function in UNARY.items()},
        **{name: Kind(_binary(one), ("constant", "constant_first"), many=True) for name, one in BINARY.items()},
        **{name: Kind(_reducing(function), ("axis", "keepdims")) for name, function in REDUCING.items()},
        "get_item": Kind(_get_item, ("key",)),
        "expand_dims": Kind(_expand_dims, ("axis",)),
        "squeeze": Kind(_squeeze, ("axis",)),
        "transpose": Kind(_transpose, ("axes",)),
        "reshape": Kind(_reshape, ("shape",)),
        "flip": Kind(_flip, ("axis",)),
        "concatenate": Kind(_concatenate, ("axis",), many=True),
        "stack": Kind(_stack, ("axis",), many=True),
        "softmax": Kind(_softmax, ("axis",)),
        "log_softmax": Kind(_log_softmax, ("axis",)),
        "clip": Kind(_clip, ("low", "high")),
        "leaky_relu": Kind(_leaky_relu, ("slope",)),
        "elu": Kind(_elu, ("alpha",)),
        "gelu": Kind(_gelu, ("approximate",)),
        "matmul": Kind(_matmul, ("transpose_first", "transpose_second"), many=True),
        "where": Kind(_where, many=True),
        "normalize": Kind(_normalize, ("axis", "epsilon")),
        "cast": Kind(_cast, ("dtype",)),
        "zeros_like": Kind(_filled(0), ("dtype",)),
        "ones_like": Kind(_filled(1), ("dtype",)),
        "repeat": Kind(_repeat, ("repeats", "axis")),
        "tile": Kind(_tile, ("repeats",)),
    }.items()
}
