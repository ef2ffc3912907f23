"""Layers of a Keras model in memory whose code is the user's own: custom classes and Lambdas.

The graph holds their weights. Their code stays in this process, in a table by class and configuration, and is never
stored. A folder with such a layer is loaded after ``Network.from_keras`` was called on the model that has it.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import FormatError, quoted
from unbraid.networks.graph.adapter import torch_keras
from unbraid.networks.graph.kind import Kind, Mask, Settings, Weights

OWN = "own code"  # no class of Keras
_LAYERS: dict[str, Any] = {}  # key -> layer of a model in memory


def remember(layer: Any, config: dict[str, Any]) -> tuple[str, dict[str, Tensor]]:
    """Keep a layer for the graphs of this process.

    Args:
        layer: a built layer of Keras on torch.
        config: its serialized form.

    Returns:
        the key of its code, and its weights, which are copied.
    """
    plain = {k: v for k, v in config.items() if k in ("class_name", "registered_name", "module")}
    settings = {k: v for k, v in (config.get("config") or {}).items() if k != "name"}
    text = json.dumps([plain, _without_ids(settings)], sort_keys=True, default=str)
    key = f"{type(layer).__name__} {hashlib.sha256(text.encode()).hexdigest()}"
    _LAYERS[key] = layer
    arrays = [np.asarray(variable.value.detach().cpu()) for variable in _variables(layer)]
    return key, {f"w{place}": torch.from_numpy(array.copy()).float() for place, array in enumerate(arrays)}


def _without_ids(value: Any) -> Any:
    """Leave out identities of objects, which differ between processes."""
    if isinstance(value, dict):
        return {k: _without_ids(v) for k, v in value.items() if k not in ("shared_object_id", "dtype")}
    return [_without_ids(part) for part in value] if isinstance(value, list | tuple) else value


def _variables(layer: Any) -> list[Any]:
    return [*layer.trainable_variables, *layer.non_trainable_variables]


def _layer(settings: Settings) -> Any:
    key = str(settings.get("key"))
    if key not in _LAYERS:
        raise FormatError(
            f"a layer is {quoted(key.split(' ')[0], 60)}, code of your own, which is not stored: call "
            "unbraid.Network.from_keras(model) on the Keras model first, in this process."
        )
    return _LAYERS[key]


def _run(settings: Settings, w: Weights, x: list[Tensor], masks: list[Mask]) -> Tensor:
    """Run the layer as for predictions, with the weights of the graph."""
    layer = _layer(settings)
    keras = torch_keras("a layer of your own")
    inputs = [x] if settings.get("listed", False) else x
    if x[0].is_meta:
        given = [keras.KerasTensor(tuple(part.shape), dtype=str(part.dtype).removeprefix("torch.")) for part in x]
        found = layer.compute_output_spec(*([given] if settings.get("listed", False) else given))
        return x[0].new_zeros(tuple(_one(found, keras.KerasTensor).shape), dtype=torch.float32)
    names = inspect.signature(layer.call).parameters
    call: dict[str, Any] = {"training": False} if "training" in names else {}
    if "mask" in names and any(mask is not None for mask in masks):
        call["mask"] = masks if settings.get("listed", False) else masks[0]
    variables = _variables(layer)
    values = [w[f"w{place}"].to(variable.value.dtype) for place, variable in enumerate(variables)]
    trained = len(layer.trainable_variables)
    with keras.device(x[0].device.type):
        result = layer.stateless_call(values[:trained], values[trained:], *inputs, **call)[0]
    result = _one(result, Tensor)
    return result if result.is_floating_point() else result.float()


def _one(found: Any, kind: type) -> Any:
    if isinstance(found, list | tuple) and len(found) == 1:
        found = found[0]
    if not isinstance(found, kind):
        raise ValueError("it gives several values, expected one")
    return found


def _mask(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    layer = _layer(settings)
    if not layer.supports_masking or all(mask is None for mask in masks):
        return None
    listed = settings.get("listed", False)
    found: Mask = layer.compute_mask(x if listed else x[0], masks if listed else masks[0])
    return found


OWN_KIND = Kind(_run, ("key", "listed"), mask=_mask, many=True)
