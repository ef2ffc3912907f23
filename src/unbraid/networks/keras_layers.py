"""Keras layers, one by one, as stages with torch's weight layout.

Shapes are those of one example, (T, D) or (D,), with None for a size that only the input decides.
"""

from __future__ import annotations

from collections.abc import Callable

from unbraid.errors import UnsupportedLayer
from unbraid.networks.keras_config import MAX_REPEATS, LayerConfig
from unbraid.networks.keras_hdf5 import Shape
from unbraid.networks.keras_recurrent import bidirectional, recurrent
from unbraid.networks.keras_translation import (
    ELEMENTWISE,
    Read,
    Translation,
    activation,
    dense_weights,
    expect_axes,
    tensor,
)
from unbraid.networks.keras_weights import Variable
from unbraid.networks.spec import ActivationSpec, DenseSpec, EmbeddingSpec, FlattenSpec, MaskingSpec, RepeatSpec


def translate(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    """A layer as a stage.

    Args:
        layer: its configuration.
        shape: of what it reads.
        read: gives the layer's variables.

    Raises:
        UnsupportedLayer: Unbraid cannot run it exactly.
        FormatError: its configuration or its weights are not what Keras writes.
    """
    if layer.custom or layer.kind not in _LAYERS:
        what = "is a custom layer, and no code from a file is run" if layer.custom else "is not one that Unbraid runs"
        raise UnsupportedLayer(
            f"{layer.file}: {layer.where} {what}; supported: {', '.join(_LAYERS)}. "
            "Replace it in Keras and save again, or bring the network in with Network.from_torch."
        )
    dtype = layer.get("dtype")
    quantized = isinstance(dtype, dict) and "Quantized" in str(dtype.get("class_name"))
    if quantized or layer.get("quantization_config") is not None:
        raise layer.unsupported("is quantized", "float weights")
    return _LAYERS[layer.kind](layer, shape, read)


def _embedding(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    (steps,) = expect_axes(layer, shape, 1)
    vocabulary, dimension = layer.size("input_dim"), layer.size("output_dim")
    (table,) = read([Variable("", 0, (vocabulary, dimension))])
    spec = EmbeddingSpec(name=layer.name, vocabulary=vocabulary, dimension=dimension, mask_zero=layer.flag("mask_zero"))
    return Translation(spec, (steps, dimension), {"weight": tensor(table)})


def _masking(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return Translation(MaskingSpec(name=layer.name, value=layer.number("mask_value")), expect_axes(layer, shape, 2))


def _flatten(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    if layer.get("data_format") == "channels_first":
        raise layer.unsupported("has data_format 'channels_first'", "'channels_last'")
    known = [size for size in shape if size is not None]
    width = None if len(known) < len(shape) else known[0] * (known[1] if len(known) > 1 else 1)
    return Translation(FlattenSpec(name=layer.name), (width,))


def _repeat(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    (width,) = expect_axes(layer, shape, 1)
    times = layer.size("n", MAX_REPEATS)
    return Translation(RepeatSpec(name=layer.name, times=times), (times, width))


def _dense(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return _dense_named(layer, layer.name, "", shape, read)


def _time_distributed(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    inner = layer.inner("layer")
    if inner.custom or inner.kind != "Dense":
        raise layer.unsupported(f"wraps {inner.described}", "TimeDistributed around Dense")
    return _dense_named(inner, layer.name, "layer", expect_axes(layer, shape, 2), read)


def _dense_named(layer: LayerConfig, name: str, part: str, shape: Shape, read: Read) -> Translation:
    units = layer.size("units")
    weights = dense_weights(layer, shape[-1], units, part, read)
    function = activation(layer, "activation", (*ELEMENTWISE, "softmax"))
    spec = DenseSpec(name=name, inputs=weights["weight"].shape[1], units=units, activation=function)
    return Translation(spec, (*shape[:-1], units), weights)


def _activation(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    function = activation(layer, "activation", (*ELEMENTWISE, "softmax"))
    return Translation(ActivationSpec(name=layer.name, activation=function), shape)


def _inactive(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return Translation(None, shape)


_LAYERS: dict[str, Callable[[LayerConfig, Shape, Read], Translation]] = {
    "Embedding": _embedding,
    "Masking": _masking,
    "SimpleRNN": recurrent,
    "LSTM": recurrent,
    "GRU": recurrent,
    "Bidirectional": bidirectional,
    "Dense": _dense,
    "TimeDistributed": _time_distributed,
    "Activation": _activation,
    "Flatten": _flatten,
    "RepeatVector": _repeat,
    "Dropout": _inactive,
    "SpatialDropout1D": _inactive,
}
