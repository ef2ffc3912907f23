"""Layers as Keras 1 wrote them, rewritten as those of Keras 2; weights of gates that were stored one by one.

Shapes: D inputs, H units, G gates, K kernel size, F filters.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

Settings = dict[str, Any]
Change = Callable[[Settings], Settings]
_GATES = {"LSTM": ("i", "c", "f", "o"), "GRU": ("z", "r", "h")}  # in the order of Keras 1
_OUTER = ("W_regularizer", "b_regularizer", "U_regularizer", "W_constraint", "b_constraint", "activity_regularizer",
          "init", "inner_init", "forget_bias_init", "dropout_W", "dropout_U", "input_dim", "input_length",
          "input_dtype", "gamma_init", "beta_init", "weights")  # fmt: skip  # without an effect on predictions


class _Form(NamedTuple):
    """One class of Keras 1.

    Attributes:
        kind: class in Keras 2.
        marks: settings of which Keras 1 alone writes at least one.
        names: setting in Keras 1 -> setting in Keras 2.
        change: what else changes.
    """

    kind: str
    marks: tuple[str, ...]
    names: Mapping[str, str] = MappingProxyType({})
    change: Change = dict


def _recurrent(values: Settings) -> Settings:
    whole = values.pop("consume_less", None) == "gpu"
    return values | {"use_bias": True, "implementation": 2 if whole else 0, "reset_after": False}


def _batch_norm(values: Settings) -> Settings:
    mode = values.pop("mode", 0)
    return values if mode in (0, 2) else values | {"mode": mode}  # mode 1 reads the batch: an unknown setting


def _dense_each(values: Settings) -> Settings:
    dense = {"class_name": "Dense", "config": values}
    return {"name": values.get("name"), "layer": dense}


def _channels(values: Settings) -> Settings:
    order = values.pop("dim_ordering", "tf")
    return values | {"data_format": "channels_last" if order == "tf" else "channels_first"}


def _kernel(values: Settings) -> Settings:
    return _channels(values | {"kernel_size": [values.pop("nb_row", None), values.pop("nb_col", None)]})


_OF_RECURRENT = {"output_dim": "units", "inner_activation": "recurrent_activation"}
_OF_CONV = {"nb_filter": "filters", "border_mode": "padding", "bias": "use_bias", "subsample": "strides"}
_OF_POOL = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding"}
_P = {"p": "rate"}

_FORMS: dict[str, _Form] = {
    "Dense": _Form("Dense", ("output_dim",), {"output_dim": "units", "bias": "use_bias"}),
    "TimeDistributedDense": _Form("TimeDistributed", ("output_dim",), {}, _dense_each),
    **{
        kind: _Form(kind, ("output_dim",), _OF_RECURRENT, _recurrent) for kind in ("SimpleRNN", "LSTM", "GRU")
    },
    "Convolution1D": _Form(
        "Conv1D", ("nb_filter",), _OF_CONV | {"filter_length": "kernel_size", "subsample_length": "strides"}
    ),
    "Convolution2D": _Form("Conv2D", ("nb_filter",), _OF_CONV, _kernel),
    "MaxPooling1D": _Form("MaxPooling1D", ("pool_length", "border_mode"), _OF_POOL),
    "AveragePooling1D": _Form("AveragePooling1D", ("pool_length", "border_mode"), _OF_POOL),
    "MaxPooling2D": _Form("MaxPooling2D", ("dim_ordering", "border_mode"), _OF_POOL, _channels),
    "AveragePooling2D": _Form("AveragePooling2D", ("dim_ordering", "border_mode"), _OF_POOL, _channels),
    "UpSampling1D": _Form("UpSampling1D", ("length",), {"length": "size"}),
    "BatchNormalization": _Form("BatchNormalization", ("mode",), {}, _batch_norm),
    **{kind: _Form(kind, ("p",), _P) for kind in ("Dropout", "GaussianDropout", "SpatialDropout1D")},
    "GaussianNoise": _Form("GaussianNoise", ("sigma",), {"sigma": "stddev"}),
}  # fmt: skip

_MERGES: dict[str, tuple[str, dict[str, str]]] = {  # mode -> class in Keras 2 and its settings
    "sum": ("Add", {}),
    "mul": ("Multiply", {}),
    "ave": ("Average", {}),
    "max": ("Maximum", {}),
    "concat": ("Concatenate", {"axis": "concat_axis"}),
    "dot": ("Dot", {"axes": "dot_axes"}),
}


def renewed(kind: str, values: Settings) -> tuple[str, Settings] | None:
    """Return the class and the settings of a layer in the terms of Keras 2; None if Keras 1 did not write it."""
    if kind == "Merge":
        return _merge(values)
    form = _FORMS.get(kind)
    if form is None or not any(mark in values for mark in form.marks):
        return None
    left = {name: value for name, value in values.items() if name not in _OUTER and not name.endswith("_regularizer")}
    return form.kind, form.change({form.names.get(name, name): value for name, value in left.items()})


def _merge(values: Settings) -> tuple[str, Settings] | None:
    mode = str(values.get("mode"))
    if mode not in _MERGES or values.get("mode_type") != "raw" or values.get("layers"):
        return None  # the mode may be a function: no code from a file is run
    kind, names = _MERGES[mode]
    return kind, {"name": values.get("name"), **{new: values.get(old) for new, old in names.items()}}


def gates_apart(kind: str, values: Settings) -> tuple[str, ...]:
    """Return the gates of a layer of Keras 1 that stored the weights of each gate by themselves; else nothing."""
    return _GATES.get(kind, ()) if values.get("implementation") != 2 else ()


def joined_gates(arrays: Sequence[np.ndarray], gates: tuple[str, ...]) -> list[np.ndarray]:
    """Join W (D, H), U (H, H) and b (H,) of each gate to kernels (D, G*H), (H, G*H) and a bias (G*H,) of Keras 2."""
    order = ("i", "f", "c", "o") if "i" in gates else gates
    return [np.concatenate([arrays[3 * gates.index(gate) + part] for gate in order], axis=-1) for part in range(3)]


def conv1d_kernel(kernel: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a kernel (K, D, F) that Keras 1 stored as (K, 1, D, F) or (F, D, K, 1).

    Raises:
        ValueError: a kernel of another shape.
    """
    size, depth, filters = shape
    if kernel.shape == (size, 1, depth, filters):
        return kernel[:, 0]
    if kernel.shape == (filters, depth, size, 1):
        return kernel[..., 0].transpose(2, 1, 0)
    raise ValueError(f"its kernel has shape {kernel.shape}, expected {(size, 1, depth, filters)}")
