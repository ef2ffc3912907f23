"""The output layer of a graph: the last dense layer, with what is behind it.

Behind it there may be an activation. Layers that scale and shift each column (BatchNormalization, Rescaling, a product
with a number) are multiplied into the dense layer. Layers that only change the shape of its outputs are left out.
Shapes: F features, C output columns.
"""

from __future__ import annotations

import warnings
from dataclasses import replace

import torch
from torch import Tensor

from unbraid.errors import UnbraidWarning, UnsupportedLayer
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.graph.kind import Settings
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.operations import OPERATION
from unbraid.networks.graph_spec import CallSpec, GraphLayer, LayerSpec
from unbraid.networks.keras.activations import function_of
from unbraid.networks.keras.config import shown
from unbraid.networks.keras.graph_reading import ReadGraph
from unbraid.networks.stage_spec import DenseSpec, FlattenSpec

_UNCHANGED = ("Dropout", "Identity", "ActivityRegularization", "GaussianNoise", "op.identity", "op.cast")
_SHAPES = ("Reshape", "Flatten", "op.reshape", "op.squeeze", "op.expand_dims")
_AFFINE = ("BatchNormalization", "Rescaling", "op.add", "op.subtract", "op.multiply", "op.divide", "op.negative")
_OVER_COLUMNS = ("softmax", "log_softmax")


def head_of(file: str, read: ReadGraph) -> tuple[int, DenseSpec, ReadGraph]:
    """Find the output layer.

    Args:
        file: name of the file, for messages.
        read: the graph.

    Returns:
        the number of its call, the layer with the activation behind it, and the graph in which it is the last layer.

    Raises:
        UnsupportedLayer: the output does not come from a dense layer.
    """
    layers = {layer.name: layer for layer in read.spec.layers}
    place, inputs = read.spec.output, len(read.spec.inputs)
    behind, affine, reshaped = "linear", list[CallSpec](), False
    while place[0] >= inputs:
        call = read.spec.calls[place[0] - inputs]
        layer = layers[call.layer]
        if isinstance(layer, DenseSpec):
            if "linear" not in (behind, layer.activation) or (affine and layer.activation != "linear"):
                break
            found = layer.activation if behind == "linear" else behind
            if reshaped and found in _OVER_COLUMNS:
                break
            if reshaped:
                _warn(file, read, layer)
            if affine:
                _multiply_in(read, layer, [layers[one.layer] for one in reversed(affine)])
            if affine or reshaped:
                read = _shortened(read, place[0] - inputs)
            return place[0] - inputs, layer.model_copy(update={"activation": found}), read
        own = _function(layer, read, call)
        if isinstance(layer, FlattenSpec) or (isinstance(layer, LayerSpec) and layer.kind in _SHAPES):
            if affine:
                break
            reshaped = True
        elif isinstance(layer, LayerSpec) and layer.kind in _AFFINE and _columns(read, layer, call):
            affine.append(call)
        elif own is None or "linear" not in (own, behind) or (affine and own != "linear"):
            break
        else:
            behind = own if behind == "linear" else behind
        place = call.reads[0]
    last = layers[read.spec.calls[place[0] - inputs].layer] if place[0] >= inputs else None
    what = "its input" if last is None else f"{getattr(last, 'kind', last.type)} {shown(last.name)}"
    raise UnsupportedLayer(
        f"{file}: the output comes from {what}; supported: a Dense or TimeDistributed(Dense). Behind it there may be "
        "an activation, and layers that scale, shift or reshape numbers."
    )


def _function(layer: GraphLayer, read: ReadGraph, call: CallSpec) -> str | None:
    """Return the activation that a layer computes; ``linear`` for one that changes nothing, None for other layers."""
    if not isinstance(layer, LayerSpec):
        return None
    if layer.kind in _UNCHANGED:
        return "linear"
    if layer.kind == "Activation":
        return str(layer.settings.get("activation", "linear"))
    name = layer.kind.removeprefix(OPERATION)
    if layer.kind.startswith(OPERATION):
        if name in _OVER_COLUMNS:
            axis = layer.settings.get("axis", -1)
            return name if axis in (None, -1, read.reads[read.spec.calls.index(call)][0].dim() - 1) else None
        return name if name in ACTIVATIONS else None
    if layer.kind == "Softmax":
        axis = layer.settings.get("axis", -1)
        return "softmax" if axis in (-1, read.reads[read.spec.calls.index(call)][0].dim() - 1) else None
    return function_of({"class_name": layer.kind, "config": dict(layer.settings)})


def _columns(read: ReadGraph, layer: LayerSpec, call: CallSpec) -> bool:
    """Return whether a layer scales and shifts every column by itself."""
    if len(call.reads) > 1 or (layer.settings.get("constant_first") and layer.kind == "op.divide"):
        return False
    x = read.reads[read.spec.calls.index(call)][0]
    if layer.kind == "BatchNormalization":
        axis = layer.settings.get("axis", -1)
        return (axis[0] if isinstance(axis, list) and len(axis) == 1 else axis) in (-1, x.dim() - 1)
    numbers = [layer.settings.get(name, 0.0) for name in ("constant", "scale", "offset")]
    return all(_of_columns(number, x.shape[-1]) for number in numbers)


def _of_columns(value: object, columns: int) -> bool:
    """Return whether a setting is one number, or one for each column."""
    if isinstance(value, list):
        return len(value) in (1, columns) and all(isinstance(one, int | float) for one in value)
    return isinstance(value, int | float)


def _shortened(read: ReadGraph, number: int) -> ReadGraph:
    """Return a graph without the calls behind one of them, whose value it returns."""
    spec = read.spec
    calls = spec.calls[: number + 1]
    used = {call.layer for call in calls}
    layers = [layer for layer in spec.layers if layer.name in used]
    fixed = [name for name in spec.fixed if name in used]
    made = spec.model_copy(
        update={"calls": calls, "layers": layers, "fixed": fixed, "output": (len(spec.inputs) + number, 0)}
    )
    values, reads = read.values[: len(spec.inputs) + number + 1], read.reads[: number + 1]
    kept = tuple(f"{name}." for name in used)
    weights = {name: weight for name, weight in read.weights.items() if name.startswith(kept)}
    return replace(read, spec=made, weights=weights, values=values, reads=reads)


def _multiply_in(read: ReadGraph, dense: DenseSpec, affine: list[GraphLayer]) -> None:
    """Change the weights of a dense layer, so that it gives what the layers behind it give of its outputs."""
    points = torch.stack([torch.zeros(dense.units), torch.ones(dense.units)])
    for layer in affine:
        assert isinstance(layer, LayerSpec)
        start = f"{layer.name}."
        own = {
            name.removeprefix(start): read.weights.pop(name) for name in list(read.weights) if name.startswith(start)
        }
        points = KINDS[layer.kind].run(Settings(layer.settings, layer.keras), own, [points], [None])
    shift, scale = points[0], points[1] - points[0]
    weight, bias = f"{dense.name}.weight", f"{dense.name}.bias"
    read.weights[weight] = _contiguous(read.weights[weight] * scale[:, None])
    read.weights[bias] = _contiguous(read.weights[bias] * scale + shift)


def _contiguous(values: Tensor) -> Tensor:
    return values.float().contiguous()


def _warn(file: str, read: ReadGraph, dense: DenseSpec) -> None:
    shape = tuple(read.values[read.spec.output[0]][0][0].shape[1:])
    warnings.warn(
        f"{file}: the model reshapes the outputs of {shown(dense.name)} to {shape}; the network here gives its "
        f"{dense.units} columns as they are. Reshape its predictions with .reshape(-1, *{shape}).",
        UnbraidWarning,
        stacklevel=2,
    )
