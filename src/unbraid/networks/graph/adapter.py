"""Layers that Keras runs: built-in classes of Keras 3 on its torch backend, with weights that the graph holds.

A layer is made by its class in the table below and by plain settings. No configuration is deserialized, so that nothing
from a file is executed. Keras is imported when such a layer is read or run, and is not needed otherwise.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from functools import lru_cache, partial
from typing import Any

from torch import Tensor

from unbraid.errors import ConfigError, quoted
from unbraid.networks.graph.kind import Kind, Mask, Settings, Shapes, Weight, Weights

_CONV = (
    "filters", "kernel_size", "strides", "padding", "output_padding", "data_format", "dilation_rate", "use_bias",
    "groups",
)  # fmt: skip
_POOL = ("output_size", "data_format")
_RESIZE = (
    "height", "width", "interpolation", "crop_to_aspect_ratio", "pad_to_aspect_ratio", "fill_mode", "fill_value",
    "data_format", "antialias",
)  # fmt: skip


def torch_keras(what: str) -> Any:
    """Return the module ``keras``, running on torch.

    Args:
        what: what needs it, for messages.

    Raises:
        ConfigError: it is not installed, or another backend runs in this process.
    """
    if sys.modules.get("keras") is None:
        before = os.environ.get("KERAS_BACKEND")
        os.environ["KERAS_BACKEND"] = "torch"
        try:
            importlib.import_module("keras")
        except ImportError:
            raise ConfigError(
                f"{what} is computed by Keras: install the extra, pip install 'unbraid[keras]'."
            ) from None
        finally:
            os.environ.pop("KERAS_BACKEND")
            os.environ.update({} if before is None else {"KERAS_BACKEND": before})
    keras = importlib.import_module("keras")
    if not hasattr(keras, "config") or keras.config.backend() != "torch":
        raise ConfigError(
            f"{what} is computed by Keras 3 on torch, and this process has another backend or version of Keras: set "
            "KERAS_BACKEND=torch before keras is imported."
        )
    return keras


@lru_cache(maxsize=256)
def _layer(kind: str, settings: str, shape: tuple[int, ...]) -> Any:
    """Return a layer whose weights have shapes and no memory.

    Raises:
        ValueError: Keras refuses the settings or the shapes.
        ConfigError: Keras is missing.
    """
    keras = torch_keras(f"a layer {kind}")
    try:
        with keras.device("meta"):
            layer = getattr(keras.layers, kind)(**json.loads(settings), dtype="float32")
            if not layer.built:
                layer.build((None, *shape))
    except Exception as error:  # Keras raises any class for settings of a file
        raise ValueError(_refused(error)) from None
    return layer


def _refused(error: Exception) -> str:
    reason = str(error).strip().splitlines()
    return f"Keras refuses it: {quoted(reason[0] if reason else type(error).__name__).rstrip('.')}"


def _made(kind: str, settings: Settings, shapes: Shapes) -> Any:
    own = {name: value for name, value in settings.values.items() if name in ADAPTED[kind].settings}
    if kind.endswith("Transpose") and own.get("groups") == 1:  # of Keras 2, without an effect
        own.pop("groups")
    return _layer(kind, json.dumps(own, sort_keys=True), tuple(shapes[0]))


def _variables(layer: Any) -> list[Any]:
    return [*layer.trainable_variables, *layer.non_trainable_variables]


def _weights(kind: str, settings: Settings, shapes: Shapes) -> list[Weight]:
    """Return the weights, whose names are their positions."""
    found = enumerate(_variables(_made(kind, settings, shapes)))
    return [Weight(f"w{place}", tuple(variable.shape)) for place, variable in found]


def _run(kind: str, settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Run the layer as for predictions, with the weights of the graph."""
    layer = _made(kind, settings, [tuple(part.shape[1:]) for part in x])
    if x[0].is_meta:
        return _shape(layer, x[0])
    given = [w[f"w{place}"] for place in range(len(w))]
    trained = len(layer.trainable_variables)
    try:
        with torch_keras(kind).device(x[0].device.type):
            result, _ = layer.stateless_call(given[:trained], given[trained:], x[0])
    except Exception as error:  # Keras raises any class
        raise ValueError(_refused(error)) from None
    if not isinstance(result, Tensor):
        raise ValueError("Keras gives several values, expected one")
    return result if result.is_floating_point() else result.float()


def _shape(layer: Any, x: Tensor) -> Tensor:
    """Return a value without memory of the shape of the result. Not every layer of Keras runs on meta."""
    try:
        shape = layer.compute_output_shape(tuple(x.shape))
        if None not in shape:
            return x.new_zeros([int(size) for size in shape])
        with torch_keras("this layer").device("meta"):
            result: Tensor = layer(x)
            return result
    except Exception as error:  # Keras raises any class
        raise ValueError(_refused(error)) from None


def _mask(kind: str, settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    layer = _made(kind, settings, [tuple(part.shape[1:]) for part in x])
    return masks[0] if layer.supports_masking else None


def _adapted(kind: str, *settings: str, activated: bool = False) -> dict[str, Kind]:
    return {kind: Kind(partial(_run, kind), settings, partial(_weights, kind), partial(_mask, kind), activated)}


ADAPTED: dict[str, Kind] = {
    **_adapted("CategoryEncoding", "num_tokens", "output_mode"),
    **_adapted("CenterCrop", "height", "width", "data_format"),
    **_adapted("Discretization", "bin_boundaries", "num_bins", "epsilon", "output_mode"),
    **_adapted("EinsumDense", "equation", "output_shape", "bias_axes", activated=True),
    **_adapted("GroupNormalization", "groups", "axis", "epsilon", "center", "scale"),
    **_adapted("Resizing", *_RESIZE),
    **_adapted("RMSNormalization", "axis", "epsilon"),
}
for _axes in (1, 2, 3):
    ADAPTED |= _adapted(f"Conv{_axes}DTranspose", *_CONV, activated=True)
    ADAPTED |= _adapted(f"AdaptiveAveragePooling{_axes}D", *_POOL)
    ADAPTED |= _adapted(f"AdaptiveMaxPooling{_axes}D", *_POOL)
