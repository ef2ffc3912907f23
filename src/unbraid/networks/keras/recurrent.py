"""Keras' recurrent layers: their settings as a cell, and their kernels in torch's gate order and layout.

Shapes: T timesteps, D inputs, H units, G gates. Keras keeps kernels as (D, G*H), torch as (G*H, D).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import FormatError
from unbraid.networks.cells import GATES, Cell
from unbraid.networks.keras.config import LayerConfig, shown
from unbraid.networks.keras.conversion import Read, Translation, activation, expect_axes, tensor
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.keras1 import gates_apart, joined_gates
from unbraid.networks.keras.weights import Variable
from unbraid.networks.stage_spec import RecurrentSpec

Kind = Literal["rnn", "lstm", "gru"]
KINDS: dict[str, Kind] = {"SimpleRNN": "rnn", "LSTM": "lstm", "GRU": "gru"}
MERGES = ("concat", "sum", "mul", "ave")
_KERAS_GATES = {"rnn": ("h",), "lstm": ("i", "f", "g", "o"), "gru": ("z", "r", "n")}
_SAME = ("units", "activation", "recurrent_activation", "use_bias", "return_sequences", "reset_after")


def recurrent(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    """Return the stage of a SimpleRNN, LSTM or GRU of one direction."""
    if layer.flag("zero_output_for_mask"):
        raise layer.unsupported("has zero_output_for_mask", "False, the default")
    steps, inputs = expect_axes(layer, shape, 2)
    cell, units, sequences = _cell(layer), layer.size("units"), layer.flag("return_sequences")
    arrays = _arrays(layer, read, [_variables(layer, cell, inputs, "cell")])
    weights = _weights(cell, arrays[0], "forward_layer")
    spec = RecurrentSpec(
        name=layer.name,
        cell=cell,
        inputs=weights["forward_layer.weight_ih"].shape[1],
        units=units,
        sequences=sequences,
        reverse=layer.flag("go_backwards"),
    )
    return Translation(spec, (steps, units) if sequences else (units,), weights)


def bidirectional(layer: LayerConfig, shape: Shape, read: Read) -> Translation:
    """Return the stage of a Bidirectional layer."""
    forward = layer.inner("layer")
    _check_directions(layer, forward)
    merge = layer.get("merge_mode", "concat")
    if merge not in MERGES:
        raise layer.unsupported(f"has merge_mode {shown(merge)}", ", ".join(MERGES))
    steps, inputs = expect_axes(layer, shape, 2)
    cell, units, sequences = _cell(forward), forward.size("units"), forward.flag("return_sequences")
    ahead = _variables(forward, cell, inputs, "forward_layer/cell")
    back = _variables(forward, cell, inputs, "backward_layer/cell")
    arrays = _arrays(forward, read, [ahead, back])
    weights = _weights(cell, arrays[0], "forward_layer") | _weights(cell, arrays[1], "backward_layer")
    spec = RecurrentSpec(
        name=layer.name,
        cell=cell,
        inputs=weights["forward_layer.weight_ih"].shape[1],
        units=units,
        sequences=sequences,
        reverse=forward.flag("go_backwards"),
        bidirectional=True,
        merge=merge,
    )
    width = units * (2 if merge == "concat" else 1)
    return Translation(spec, (steps, width) if sequences else (width,), weights)


def gives_sequences(layer: LayerConfig) -> bool:
    """Return whether a recurrent layer gives all its outputs."""
    return (layer.inner("layer") if layer.kind == "Bidirectional" else layer).flag("return_sequences")


def check_unrolled(layer: LayerConfig) -> None:
    """Refuse an unrolled Bidirectional that reads a mask.

    Keras sets its outputs to zero where the mask is False. The unrolled loop that reads backwards sets those at the
    mirrored timesteps to zero instead.

    Raises:
        UnsupportedLayer: it gives all its outputs and is unrolled.
    """
    if layer.kind != "Bidirectional" or not gives_sequences(layer):
        return
    backward = "layer" if layer.get("backward_layer") is None else "backward_layer"
    if layer.inner(backward).flag("unroll"):
        raise layer.unsupported(
            "is unrolled and reads a mask, so that Keras masks its backward outputs at mirrored timesteps",
            "unroll=False, or no mask",
        )


def _check_directions(layer: LayerConfig, forward: LayerConfig) -> None:
    """Check that both directions are the same layer, read from either end."""
    if forward.flag("go_backwards") and forward.flag("return_sequences"):
        raise layer.unsupported("wraps a layer with go_backwards and return_sequences", "one that reads forwards")
    if layer.get("backward_layer") is None:
        return
    backward = layer.inner("backward_layer")
    differing = [f for f in _SAME if forward.get(f) != backward.get(f)]
    if backward.kind != forward.kind or backward.custom or differing:
        raise layer.unsupported(
            f"has a backward_layer of its own kind (differing: {', '.join(differing) or 'class'})", "two of one kind"
        )
    if backward.flag("go_backwards") == forward.flag("go_backwards"):
        raise layer.unsupported("has two layers that read the same way", "one forwards, one backwards")
    _check_settings(backward)


def _check_settings(layer: LayerConfig) -> None:
    for setting in ("return_state", "stateful", "time_major"):
        if layer.flag(setting):
            raise layer.unsupported(f"has {setting}", f"{setting}=False")


def _cell(layer: LayerConfig) -> Cell:
    _check_settings(layer)
    kind = KINDS[layer.kind]
    candidate = activation(layer, "activation")
    if kind == "rnn":
        return Cell(kind=kind, activation=candidate)
    if "recurrent_activation" not in layer.values:  # the default has changed over time, so none can be assumed
        raise FormatError(f"{layer.file}: {layer.where}: field 'recurrent_activation' is missing, expected a name.")
    gate = activation(layer, "recurrent_activation")
    after = kind != "gru" or layer.flag("reset_after", layer.keras >= 3)
    return Cell(kind=kind, activation=candidate, gate_activation=gate, reset_after=after)


def _variables(layer: LayerConfig, cell: Cell, inputs: int | None, part: str) -> list[Variable]:
    units = layer.size("units")
    rows = len(cell.gates) * units
    kernels = [Variable(part, 0, (inputs, rows)), Variable(part, 1, (units, rows))]
    two_biases = cell.kind == "gru" and cell.reset_after
    bias = Variable(part, 2, (2, rows) if two_biases else (rows,))
    return [*kernels, bias] if layer.flag("use_bias", True) else kernels


def _arrays(layer: LayerConfig, read: Read, directions: list[list[Variable]]) -> list[list[np.ndarray]]:
    """Return the arrays of each direction. Those of Keras 1 may be stored gate by gate."""
    gates = gates_apart(layer.kind, layer.values) if layer.keras == 1 else ()
    if not gates:
        arrays = read([variable for own in directions for variable in own])
        return [arrays[number * len(own) : (number + 1) * len(own)] for number, own in enumerate(directions)]
    units = layer.size("units")
    inputs = [own[0].shape[0] for own in directions]
    shapes = [shape for size in inputs for _ in gates for shape in ((size, units), (units, units), (units,))]
    arrays = read([Variable("cell", number, shape) for number, shape in enumerate(shapes)])
    each = 3 * len(gates)
    return [joined_gates(arrays[number * each : (number + 1) * each], gates) for number in range(len(directions))]


def _weights(cell: Cell, arrays: list[np.ndarray], direction: str) -> dict[str, Tensor]:
    """One direction's weights: W (G*H, D), U (G*H, H) and both biases (G*H,), gates in torch's order."""
    kernel, recurrent_kernel, *bias = [_in_torch_order(a, cell.kind) for a in arrays]
    zeros = torch.zeros(kernel.shape[1])
    both = [tensor(b) for b in np.atleast_2d(bias[0])] if bias else []
    return {
        f"{direction}.weight_ih": tensor(kernel.T),
        f"{direction}.weight_hh": tensor(recurrent_kernel.T),
        f"{direction}.bias_ih": both[0] if both else zeros,
        f"{direction}.bias_hh": both[1] if len(both) > 1 else zeros.clone(),
    }


def _in_torch_order(array: np.ndarray, kind: str) -> np.ndarray:
    """Reorder the gates of the last axis (..., G*H) from Keras' order to torch's."""
    gates = dict(zip(_KERAS_GATES[kind], np.split(array, len(_KERAS_GATES[kind]), axis=-1), strict=True))
    return np.concatenate([gates[g] for g in GATES[kind]], axis=-1)


def in_keras_order(array: np.ndarray, kind: str) -> np.ndarray:
    """Reorder the gates of the last axis (..., G*H) from torch's order to Keras'."""
    gates = dict(zip(GATES[kind], np.split(array, len(GATES[kind]), axis=-1), strict=True))
    return np.concatenate([gates[g] for g in _KERAS_GATES[kind]], axis=-1)
