"""Stages of a network as Keras layers.

A module keeps other units in each direction than Keras' ``Bidirectional`` can have. Its layers then get units whose
weights are zero; what reads them gets weights of zero. Shapes: N examples, T timesteps, D inputs, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unbraid.errors import UnsupportedLayer
from unbraid.export.keras_model import KerasModel, Ref, activation, scaled, serialized
from unbraid.networks.cells import CANDIDATE, Cell
from unbraid.networks.keras.recurrent import in_keras_order
from unbraid.networks.layers import Scattered
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stage_spec import StageSpec
from unbraid.networks.stages import (
    Activation,
    Dense,
    Embedding,
    Flatten,
    Masking,
    Recurrent,
    Repeat,
    StageSequence,
)

ZERO_AT_ZERO = ("tanh", "relu", "linear", "elu", "selu", "softsign", "gelu", "silu")
KINDS = {"rnn": "SimpleRNN", "lstm": "LSTM", "gru": "GRU"}


@dataclass(frozen=True)
class Values:
    """What a layer gives.

    Attributes:
        layer: its name, or the value.
        width: its number of features; used with ``places`` only.
        places: positions of the features of the network among them, (F,); None for all in order.
    """

    layer: str | Ref
    width: int
    places: np.ndarray | None = None


def body_layers(model: KerasModel, body: nn.Module, width: int) -> Values:
    """Add the layers of a body; return the features of the output layer.

    Args:
        model: the model.
        body: the stages.
        width: number of features of the inputs; 1 for word indices.

    Raises:
        UnsupportedLayer: a stage that Keras' layers do not compute.
    """
    if not isinstance(body, StageSequence):
        raise UnsupportedLayer("Keras export is for networks of stages: use unbraid.export_onnx for other networks.")
    found = Values(model.input, width)
    for spec, stage in zip(body.specs, body.stages, strict=True):
        found = _stage(model, spec, stage, found)
    return found


def dense(model: KerasModel, weight: Tensor, bias: Tensor, function: str, name: str, read: Values) -> Values:
    """Add a dense layer of weight (H, D) and bias (H,)."""
    shared, factor, shift = scaled(function)
    kernel = _widened(_array(weight * factor), read)
    settings = {"units": kernel.shape[0], "activation": activation(shared, name), "use_bias": True}
    arrays = {"": [kernel.T, _array(bias * factor + shift)]}
    return Values(model.add("Dense", settings, (read.layer,), name, arrays), kernel.shape[0])


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).numpy()


def _widened(weight: np.ndarray, read: Values) -> np.ndarray:
    """Weights (H, D) over the features of the network as weights over all features that the layer gives."""
    if read.places is None:
        return weight
    whole = np.zeros((weight.shape[0], read.width), np.float32)
    whole[:, read.places] = weight
    return whole


def _stage(model: KerasModel, spec: StageSpec, stage: nn.Module, read: Values) -> Values:
    def add(kind: str, settings: dict[str, Any], arrays: dict[str, list[np.ndarray]] | None = None) -> str:
        return model.add(kind, settings, (read.layer,), spec.name, arrays)

    match stage:
        case Embedding():
            table = _array(stage.weight)
            settings = {"input_dim": table.shape[0], "output_dim": table.shape[1], "mask_zero": stage.mask_zero}
            return Values(add("Embedding", settings, {"": [table]}), table.shape[1])
        case Masking():
            return Values(add("Masking", {"mask_value": stage.value}), read.width, read.places)
        case Repeat():
            return Values(add("RepeatVector", {"n": stage.times}), read.width, read.places)
        case Activation():
            shared, factor, shift = scaled(spec.activation)  # type: ignore[union-attr]  # of an activation
            layer = read.layer
            if shift:
                layer = model.affine(layer, factor, shift, read.width, f"{spec.name}_scale")
            settings = {"activation": activation(shared, spec.name)}
            return Values(model.add("Activation", settings, (layer,), spec.name), read.width, read.places)
        case Dense():
            return dense(model, stage.weight, stage.bias, stage.activation, spec.name, read)
        case Recurrent():
            return _recurrent(model, spec.name, stage, read)
        case Flatten() if read.places is None:
            return Values(add("Flatten", {}), 0)  # the weights of the next layer give the width
    raise UnsupportedLayer(
        f"layer {spec.name!r} ({spec.type}) cannot be written as a Keras layer (of an unrolled module, or a flattening "
        "of a bidirectional layer with removed units): use unbraid.export_onnx."
    )


def _recurrent(model: KerasModel, name: str, stage: Recurrent, read: Values) -> Values:
    sides = [side for side in (stage.forward_layer, stage.backward_layer) if side is not None]
    layers, places = [], []
    for side in sides:
        layer = side.layer if isinstance(side, Scattered) else side
        if not isinstance(layer, RecurrentLayer):
            raise UnsupportedLayer(
                f"layer {name!r} has masks of its own (an unrolled module): use unbraid.export_onnx."
            )
        layers.append(layer)
        places.append(side.kept.cpu().numpy() if isinstance(side, Scattered) else np.arange(layer.units))
    units = max(1, *(side.units if isinstance(side, Scattered) else layer.units
                     for side, layer in zip(sides, layers, strict=True)))  # fmt: skip
    if any(isinstance(side, Scattered) for side in sides) and layers[0].cell.activation not in ZERO_AT_ZERO:
        raise UnsupportedLayer(
            f"layer {name!r} merges directions with removed units, and its activation {layers[0].cell.activation!r} is "
            "not 0 at 0: use unbraid.export_onnx."
        )
    kind, settings, arrays = recurrent_layer(name, layers, places, units, stage.merge, stage.sequences, read)
    added = model.add(kind, settings, (read.layer,), name, arrays)
    if len(layers) == 1:
        return Values(added, units, None if layers[0].units == units else places[0])
    if stage.merge != "concat":
        return Values(added, units)
    whole = np.concatenate([own + units * number for number, own in enumerate(places)])
    return Values(added, 2 * units, None if len(whole) == 2 * units else whole)


def recurrent_layer(
    name: str,
    layers: Sequence[RecurrentLayer],
    places: Sequence[np.ndarray],
    units: int,
    merge: str,
    sequences: bool,
    read: Values,
    states: bool = False,
) -> tuple[str, dict[str, Any], dict[str, list[np.ndarray]]]:
    """Return class, settings and variables of a recurrent layer.

    Args:
        name: its name.
        layers: one layer for each direction.
        places: positions of their units among those of the Keras layer.
        units: number of units of the Keras layer.
        merge: how directions are merged.
        sequences: whether it returns all outputs.
        read: what it reads.
        states: whether it also returns its last states.

    Raises:
        UnsupportedLayer: an activation that Keras 2 and 3 compute differently.
    """
    settings = [
        _settings(name, sequences, layer, units) | ({"return_state": True} if states else {}) for layer in layers
    ]
    arrays = [_arrays(layer, own, units, read) for layer, own in zip(layers, places, strict=True)]
    kind = KINDS[layers[0].cell.kind]
    if len(layers) == 1:
        return kind, settings[0], {"cell": arrays[0]}
    both: dict[str, Any] = {"merge_mode": merge}
    for part, own in zip(("layer", "backward_layer"), settings, strict=True):
        inner = f"{part}_of_{name}".replace("/", "_")[:100]  # the name of a layer in a model in the model has slashes
        both[part] = serialized(kind, {"name": inner, "dtype": "float32", **own})
    return "Bidirectional", both, dict(zip(("forward_layer/cell", "backward_layer/cell"), arrays, strict=True))


def _settings(name: str, sequences: bool, layer: RecurrentLayer, units: int) -> dict[str, Any]:
    cell = layer.cell
    found = {
        "units": units,
        "activation": activation(scaled(cell.activation)[0] if cell.kind == "rnn" else cell.activation, name),
        "use_bias": True,
        "return_sequences": sequences,
        "go_backwards": layer.reverse,
    }
    if cell.kind != "rnn":
        found["recurrent_activation"] = activation(scaled(cell.gate_activation)[0], name)
    if cell.kind == "gru":
        found["reset_after"] = cell.reset_after
    return found


def _arrays(layer: RecurrentLayer, places: np.ndarray, units: int, read: Values) -> list[np.ndarray]:
    """Kernel (D, G*H), recurrent kernel (H, G*H) and bias of Keras, with zeros for units that are not in ``places``."""
    cell, gates = layer.cell, len(layer.cell.gates)
    rows = np.concatenate([places + gate * units for gate in range(gates)])
    given_kernel = _widened(_array(layer.weight_ih), read)
    kernel = np.zeros((gates * units, given_kernel.shape[1]), np.float32)
    kernel[rows] = given_kernel
    recurrent = np.zeros((gates * units, units), np.float32)
    recurrent[np.ix_(rows, places)] = _array(layer.weight_hh)
    both = cell.kind == "gru" and cell.reset_after
    given = [layer.bias_ih, layer.bias_hh] if both else [layer.bias_ih + layer.bias_hh]
    bias = np.zeros((len(given), gates * units), np.float32)
    bias[:, rows] = np.stack([_array(one) for one in given])
    _scale_gates(cell, kernel, recurrent, bias)
    arrays = [kernel.T, recurrent.T, bias if both else bias[0]]
    return [in_keras_order(array, cell.kind) for array in arrays]


def _scale_gates(cell: Cell, kernel: np.ndarray, recurrent: np.ndarray, bias: np.ndarray) -> None:
    """Scale and shift what the gates read, in place, where their activation is a scaled one; gates in torch's order."""
    units = recurrent.shape[1]
    for number, gate in enumerate(cell.gates):
        candidate = gate == CANDIDATE[cell.kind]
        if candidate and cell.kind != "rnn":
            continue
        _, factor, shift = scaled(cell.activation if candidate else cell.gate_activation)
        own = slice(number * units, (number + 1) * units)
        kernel[own] *= factor
        recurrent[own] *= factor
        bias[:, own] *= factor
        bias[0, own] += shift
