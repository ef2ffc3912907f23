"""Older and other forms of a layer's configuration, written as the current one.

Covered are Keras 1 names, CuDNN layers, RNN around one cell and the wrappers of quantization-aware training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from unbraid.limits import check_size
from unbraid.networks.keras.config import LayerConfig
from unbraid.networks.keras.names import snake_case
from unbraid.networks.keras.weights import Place, Variable

CELLS = {"SimpleRNNCell": "SimpleRNN", "LSTMCell": "LSTM", "GRUCell": "GRU"}
CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
QUANTIZE = ("QuantizeAnnotate", "QuantizeWrapper", "QuantizeWrapperV2")
_OF_RNN = ("return_sequences", "return_state", "go_backwards", "stateful", "unroll", "time_major",
           "zero_output_for_mask", "name", "batch_input_shape")  # fmt: skip
_CUDNN_SETTINGS = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True, "reset_after": True}


def modern(layer: LayerConfig, places: tuple[Place, ...]) -> tuple[LayerConfig, tuple[Place, ...]]:
    """Return a layer in its current form, and where its variables are.

    Raises:
        UnsupportedLayer: an RNN around another cell.
    """
    while layer.kind in QUANTIZE:
        layer = layer.inner("layer")
        places = (*places, Place(layer.name, layer.kind, wrapped=True))
    if layer.custom:
        return layer, places
    if layer.kind == "RNN":
        return _one_cell(layer), places
    if layer.kind in CUDNN:
        return _renamed(layer, CUDNN[layer.kind], layer.values | _CUDNN_SETTINGS), places
    if layer.kind == "Bidirectional":
        wrapped = {name: layer.values[name] for name in ("layer", "backward_layer") if layer.get(name) is not None}
        parts = {name: modern(layer.inner(name), ())[0] for name in wrapped}
        changed = {n: {**p.outer.values, "class_name": p.kind, "config": p.values} for n, p in parts.items()}
        return _renamed(layer, layer.kind, layer.values | changed), places
    return layer, places


def cudnn_cells(layer: LayerConfig) -> bool:
    """Return whether a layer, or both directions of one, have their weights in the layout of CuDNN."""
    inner = layer.inner("layer") if layer.kind == "Bidirectional" else layer
    return inner.kind in CUDNN


def from_cudnn(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Kernel (D, G*H), recurrent kernel (H, G*H) and bias (2*G*H,) of CuDNN in the layout of the plain layer."""
    kernel, recurrent, bias = arrays
    gates = bias.shape[0] // (2 * recurrent.shape[0])
    kernel = np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, gates)])
    recurrent = np.hstack([k.T for k in np.hsplit(recurrent, gates)])
    both = bias.reshape(2, -1)
    return [kernel, recurrent, both.sum(0) if gates == 4 else both]


def cudnn_variables(variables: list[Variable]) -> list[Variable]:
    """Return the same variables in the shapes of CuDNN layers, whose biases are two in one row."""
    found = []
    for variable in variables:
        shape = variable.shape
        if len(shape) == 1:
            shape = (2 * (shape[0] or 0),)
        elif shape[0] == 2 and variable.number == 2:
            shape = (2 * (shape[1] or 0),)
        found.append(variable._replace(shape=shape))
    return found


def cells_of(layer: LayerConfig) -> list[LayerConfig]:
    """Return the cells of an RNN of several cells, each as a recurrent layer; nothing for other layers.

    Each but the last gives all its outputs to the next.

    Raises:
        UnsupportedLayer: other cells than those of Keras, or cells that read from the end.
    """
    values = layer.get("cell")
    if layer.custom or layer.kind != "RNN" or not isinstance(values, dict | list):
        return []
    if isinstance(values, dict):
        if values.get("class_name") != "StackedRNNCells" or layer.inner("cell").custom:
            return []
        values = layer.inner("cell").items("cells")
    check_size(len(values), "layers", layer.file, "number of cells")
    if not values:
        raise layer.unsupported("has no cells", "one cell or more")
    if layer.flag("go_backwards") and len(values) > 1:
        raise layer.unsupported("reads several cells from the end", "go_backwards=False")
    found = []
    for number, value in enumerate(values):
        outer = {name: layer.values[name] for name in _OF_RNN if name in layer.values}
        last = number == len(values) - 1
        settings = {**outer, "return_sequences": not last or layer.flag("return_sequences"), "cell": value}
        found.append(_one_cell(_renamed(layer, "RNN", settings)))
    return found


def cell_variables(cells: Sequence[LayerConfig], turn: int, own: Sequence[Variable]) -> tuple[list[Variable], int]:
    """Return the variables of all cells, and the number of those before the own ones; only the own ones are read."""
    found: list[Variable] = []
    before, seen = 0, Counter[str]()
    for number, cell in enumerate(cells):
        name = snake_case(f"{cell.kind}Cell")
        part = f"cell/cells/{name}_{seen[name]}" if seen[name] else f"cell/cells/{name}"
        seen[name] += 1
        if number == turn:
            before = len(found)
            found += [variable._replace(part=part) for variable in own]
        else:
            found += [Variable(part, place, (), used=False) for place in range(2 + cell.flag("use_bias", True))]
    return found, before


def _one_cell(layer: LayerConfig) -> LayerConfig:
    cell = layer.inner("cell") if isinstance(layer.get("cell"), dict) else None
    if cell is None or cell.custom or cell.kind not in CELLS:
        raise layer.unsupported(f"runs the cell {cell.described if cell else 'None'}", ", ".join(CELLS))
    outer = {name: layer.values[name] for name in _OF_RNN if name in layer.values}
    return _renamed(layer, CELLS[cell.kind], {**cell.values, **outer})


def _renamed(layer: LayerConfig, kind: str, values: dict[str, Any]) -> LayerConfig:
    outer = {k: v for k, v in layer.outer.values.items() if k not in ("module", "registered_name")}
    return LayerConfig(layer.file, {**outer, "class_name": kind, "config": values}, layer.keras, layer.where)
