"""Activations that are layers: ``Dense(5, activation=LeakyReLU(0.1))`` stores the layer as the activation."""

from __future__ import annotations

from typing import Any

from unbraid.networks.keras.config import LayerConfig

LEAKY = {0.2: "leaky_relu", 0.01: "leaky_relu_0.01", 0.1: "leaky_relu_0.1", 0.3: "leaky_relu_0.3"}
_BOUNDED = {None: "relu", 1.0: "relu1", 6.0: "relu6"}
_RECURRENT = ("SimpleRNN", "LSTM", "GRU", "Bidirectional", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
_LAYERS = ("LeakyReLU", "ReLU", "ELU", "ThresholdedReLU", "Softmax")  # those without weights


def function_of(value: Any) -> str | None:
    """Return the name of the function that an activation layer computes; None for other layers and settings."""
    if not isinstance(value, dict) or not isinstance(value.get("config"), dict):
        return None
    settings: dict[str, Any] = value["config"]
    match value.get("class_name"):
        case "LeakyReLU":
            slope = settings.get("negative_slope", settings.get("alpha", 0.3))
            close = [name for known, name in LEAKY.items() if _equal(slope, known)]
            return close[0] if close else None
        case "ReLU" if _equal(settings.get("negative_slope"), 0.0) and _equal(settings.get("threshold"), 0.0):
            largest = settings.get("max_value")
            return _BOUNDED.get(largest) if isinstance(largest, float | int | None) else None
        case "ELU" if _equal(settings.get("alpha", 1.0), 1.0):
            return "elu"
        case "Softmax" if settings.get("axis", -1) == -1:
            return "softmax"
    return None


def _equal(value: Any, number: float) -> bool:
    """Return whether a setting is a number, up to the rounding of float32; null counts as 0."""
    value = 0.0 if value is None else value
    return isinstance(value, float | int) and abs(value - number) < 1e-6


def activation_layer(layer: LayerConfig) -> LayerConfig | None:
    """Return the activation of a layer as a layer of its own; None if it is a function, or belongs to a recurrence."""
    inner = layer.inner("layer") if layer.kind == "TimeDistributed" else layer
    value = inner.get("activation")
    if layer.custom or inner.custom or inner.kind in _RECURRENT or not isinstance(value, dict):
        return None
    if value.get("class_name") not in _LAYERS or function_of(value) is not None:
        return None
    found = LayerConfig(layer.file, value, layer.keras, f"the activation of {layer.where}")
    return None if found.custom else found


def without_activation(layer: LayerConfig) -> LayerConfig:
    """Return a layer, or the one that it wraps, with a linear activation."""
    if layer.kind == "TimeDistributed":
        inner = layer.inner("layer")
        wrapped = {**inner.outer.values, "config": {**inner.values, "activation": "linear"}}
        values = {**layer.values, "layer": wrapped}
    else:
        values = {**layer.values, "activation": "linear"}
    return LayerConfig(layer.file, {**layer.outer.values, "config": values}, layer.keras, layer.where)
