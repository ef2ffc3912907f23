"""Keras layers, one by one, as stages with torch's weight layout.

Shapes are those of one example, (T, D) or (D,), with None for a size that only the input decides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.networks.keras.config import MAX_REPEATS, LayerConfig, shown
from unbraid.networks.keras.conversion import (
    ELEMENTWISE,
    Read,
    Translation,
    activation,
    dense_weights,
    expect_axes,
    tensor,
)
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.recurrent import KINDS, bidirectional, recurrent
from unbraid.networks.keras.weights import Variable
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, EmbeddingSpec, FlattenSpec, MaskingSpec, RepeatSpec


def check_supported(layers: Sequence[LayerConfig], besides: Sequence[str] = ()) -> None:
    """Raise UnsupportedLayer, with the name of every layer that Unbraid cannot run.

    Args:
        layers: all layers of the model.
        besides: classes that the caller reads itself.
    """
    wrong = {layer.name: found for layer in layers if layer.kind not in besides and (found := _unsupported(layer))}
    if not wrong:
        return
    names = quoted(", ".join(f"{shown(name)} ({found})" for name, found in wrong.items()))
    custom = "; no code from a file is run" if any(layer.custom for layer in layers) else ""
    raise UnsupportedLayer(
        f"{layers[0].file}: {len(wrong)} layer{'s are' if len(wrong) > 1 else ' is'} not supported: {names}; "
        f"supported: {', '.join(_LAYERS)}{custom}. Train a model of supported layers in Keras and save it."
    )


def _unsupported(layer: LayerConfig) -> str | None:
    """Return the class that is not supported, of the layer or of its wrapped layer; None if it is supported."""
    if layer.custom or layer.kind not in _LAYERS:
        return layer.described
    if layer.kind in _WRAPPED:
        inner = layer.inner("layer")
        if inner.custom or inner.kind not in _WRAPPED[layer.kind]:
            return f"{layer.kind} around {inner.described}"
    return None


def translate(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    """Convert a layer to a stage.

    Args:
        layer: its configuration.
        shape: of what it reads.
        read: gives the layer's variables.

    Raises:
        UnsupportedLayer: Unbraid cannot run it exactly.
        FormatError: its configuration or its weights are not what Keras writes.
    """
    layer.check_float()
    if layer.kind not in _LAYERS:
        raise layer.unsupported("stands between other layers", "one input, in front of all layers")
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
    width = None if len(known) < len(shape) else prod(known)
    return Translation(FlattenSpec(name=layer.name), (width,))


def _repeat(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    (width,) = expect_axes(layer, shape, 1)
    times = layer.size("n", MAX_REPEATS)
    return Translation(RepeatSpec(name=layer.name, times=times), (times, width))


def _dense(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return _dense_named(layer, layer.name, "", shape, read)


def _time_distributed(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return _dense_named(layer.inner("layer"), layer.name, "layer", expect_axes(layer, shape, 2), read)


def _dense_named(layer: LayerConfig, name: str, part: str, shape: Shape, read: Read) -> Translation:
    units = layer.size("units")
    weights = dense_weights(layer, shape[-1], units, part, read)
    function = activation(layer, "activation", SUPPORTED)
    spec = DenseSpec(name=name, inputs=weights["weight"].shape[1], units=units, activation=function)
    return Translation(spec, (*shape[:-1], units), weights)


def _activation(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    function = activation(layer, "activation", SUPPORTED)
    return Translation(ActivationSpec(name=layer.name, activation=function), shape)


def _inactive(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    return Translation(None, shape)


SUPPORTED = (*ELEMENTWISE, "softmax", "log_softmax")

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

_WRAPPED = {"TimeDistributed": ("Dense",), "Bidirectional": tuple(KINDS)}
