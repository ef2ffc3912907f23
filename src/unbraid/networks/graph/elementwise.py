"""Activations, normalisation and scaling, value by value or over the features."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from unbraid.networks.graph.kind import (
    Kind,
    Mask,
    Settings,
    Shapes,
    Weight,
    Weights,
    along,
    axis_of,
    keep_mask,
)


def _identity(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0]


def _leaky_relu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return F.leaky_relu(x[0], settings.get("negative_slope", settings.get("alpha", 0.3)))


def _elu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return F.elu(x[0], settings.get("alpha", 1.0))


def _relu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    slope, threshold, largest = (settings.get(n, 0.0) for n in ("negative_slope", "threshold", "max_value"))
    values = torch.where(x[0] >= threshold, x[0], slope * (x[0] - threshold))
    return values if settings.get("max_value") is None else values.clamp(max=largest)


def _thresholded_relu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0] * (x[0] > settings.get("theta", 1.0))


def _prelu(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return torch.relu(x[0]) - w["alpha"] * torch.relu(-x[0])


def _prelu_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    shared = settings.get("shared_axes", [])
    return [Weight("alpha", tuple(1 if axis in shared else size for axis, size in enumerate(shapes[0], 1)))]


def _softmax(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Softmax over one axis, without the values that a mask of the same number of axes excludes."""
    axis, mask = axis_of(settings, x[0].dim()), masks[0]
    if mask is None:
        return torch.softmax(x[0], axis)
    if mask.dim() != x[0].dim():
        raise ValueError("Softmax reads a mask of fewer axes than its values, expected none")
    values = torch.softmax(x[0].masked_fill(~mask, -1e9), axis)
    return values if settings.keras < 3 else values * mask


def _batch_norm(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """With the stored mean and variance, as Keras does it for predictions."""
    dims = x[0].dim()
    axis = axis_of(settings, dims)
    scale = torch.rsqrt(w["moving_variance"] + settings.get("epsilon", 1e-3))
    scale = scale * w["gamma"] if "gamma" in w else scale
    shift = -w["moving_mean"] * scale
    shift = shift + w["beta"] if "beta" in w else shift
    return x[0] * along(scale, dims, axis) + along(shift, dims, axis)


def _affine(settings: Settings, size: int) -> list[Weight]:
    return [Weight(n, (size,)) for n, on in (("gamma", "scale"), ("beta", "center")) if settings.get(on, True)]


def _batch_norm_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    size = shapes[0][axis_of(settings, len(shapes[0]) + 1) - 1]
    return [*_affine(settings, size), Weight("moving_mean", (size,)), Weight("moving_variance", (size,))]


def _layer_norm(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    dims = x[0].dim()
    axis = axis_of(settings, dims)
    epsilon = settings.get("epsilon", 1e-3)
    if settings.get("rms_scaling", False):
        values = x[0] * torch.rsqrt(x[0].square().mean(axis, keepdim=True) + epsilon)
    else:
        centred = x[0] - x[0].mean(axis, keepdim=True)
        values = centred * torch.rsqrt(centred.square().mean(axis, keepdim=True) + epsilon)
    values = values * along(w["gamma"], dims, axis) if "gamma" in w else values
    return values + along(w["beta"], dims, axis) if "beta" in w else values


def _layer_norm_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    return _affine(settings, shapes[0][axis_of(settings, len(shapes[0]) + 1) - 1])


def _unit_norm(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    return x[0] * torch.rsqrt(x[0].square().sum(axis_of(settings, x[0].dim()), keepdim=True).clamp(min=1e-12))


def _rescaling(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    scale, offset = (x[0].new_tensor(settings.get(name, default)) for name, default in (("scale", 1), ("offset", 0)))
    return x[0] * scale + offset


def _modern_mask(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    """Return the mask behind a layer that passes it on in Keras 3, but not in Keras 2."""
    return None if settings.keras < 3 else masks[0]


def _normalization(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    dims = x[0].dim()
    if "mean" in w:
        mean, variance = w["mean"], w["variance"]
    else:
        mean, variance = (x[0].new_tensor(settings.get(name, 0.0)) for name in ("mean", "variance"))
    axes = _normalized_axes(settings, dims)
    if mean.dim() and mean.numel() > 1 and mean.dim() == len(axes):
        shape = [size if axis in axes else 1 for axis, size in enumerate(x[0].shape)]
        mean, variance = mean.reshape(shape), variance.reshape(shape)
    scale = variance.sqrt().clamp(min=1e-7)
    return x[0] * scale + mean if settings.get("invert", False) else (x[0] - mean) / scale


def _normalized_axes(settings: Settings, dims: int) -> list[int]:
    value = settings.values.get("axis", -1)
    values = [] if value is None else value if isinstance(value, list) else [value]
    axes = [axis + dims if axis < 0 else axis for axis in values]
    if any(not 0 < axis < dims for axis in axes):
        raise ValueError(f"axis is {value!r} for values of {dims} axes")
    return axes


def _normalization_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    if settings.get("mean") is not None:
        return []
    shape = tuple(shapes[0][axis - 1] for axis in _normalized_axes(settings, len(shapes[0]) + 1))
    return [Weight("mean", shape), Weight("variance", shape), Weight("count", (), used=False)]


_DROPPED = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "AlphaDropout")
_NOISE = ("GaussianNoise", "GaussianDropout", "ActivityRegularization", "Identity", "ConvertToTensor")
UNCHANGED = _DROPPED + _NOISE  # kinds that give what they read in predictions

_RANDOM = tuple(f"Random{name}" for name in ("Brightness", "Contrast", "Flip", "Rotation", "Translation", "Zoom"))
_OF_RANDOM = (
    "factor", "mode", "value_range", "height_factor", "width_factor", "fill_mode", "fill_value", "interpolation",
    "data_format",
)  # fmt: skip  # none changes a prediction

ELEMENTWISE: dict[str, Kind] = {
    **{name: Kind(_identity, ("data_format",), mask=keep_mask) for name in UNCHANGED},
    **{name: Kind(_identity, _OF_RANDOM, mask=keep_mask) for name in _RANDOM},
    "Activation": Kind(_identity, mask=keep_mask, activated=True),
    "LeakyReLU": Kind(_leaky_relu, ("alpha", "negative_slope"), mask=keep_mask),
    "ELU": Kind(_elu, ("alpha",), mask=keep_mask),
    "ReLU": Kind(_relu, ("max_value", "negative_slope", "threshold"), mask=keep_mask),
    "ThresholdedReLU": Kind(_thresholded_relu, ("theta",), mask=keep_mask),
    "PReLU": Kind(_prelu, ("shared_axes",), _prelu_weights, keep_mask),
    "Softmax": Kind(_softmax, ("axis",), mask=keep_mask),
    "BatchNormalization": Kind(_batch_norm, ("axis", "epsilon", "center", "scale"), _batch_norm_weights, keep_mask),
    "LayerNormalization": Kind(
        _layer_norm, ("axis", "epsilon", "center", "scale", "rms_scaling"), _layer_norm_weights, keep_mask
    ),
    "UnitNormalization": Kind(_unit_norm, ("axis",), mask=keep_mask),
    "Rescaling": Kind(_rescaling, ("scale", "offset"), mask=_modern_mask),
    "Normalization": Kind(_normalization, ("axis", "mean", "variance", "invert"), _normalization_weights, _modern_mask),
}
