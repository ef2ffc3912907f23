"""A graph of layers as Keras layers: the calls of a network that was made of such a file, or of a smaller one.

Layers that change nothing in predictions (dropout, noise) are left out. Shapes: T timesteps, D features, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.export.keras_layers import Values, recurrent_layer
from unbraid.export.keras_model import HARD, KerasModel, Node, Ref, activation, reference, scaled, serialized
from unbraid.export.keras_operations import is_operation, operation, operation_node
from unbraid.networks.graph.elementwise import ELEMENTWISE, UNCHANGED
from unbraid.networks.graph.kind import Settings, Weight
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.merging import PART
from unbraid.networks.graph.module import KerasGraph, input_size
from unbraid.networks.graph.own import OWN
from unbraid.networks.graph.recurrence import CONVOLUTIONAL
from unbraid.networks.graph.rewiring import reachable
from unbraid.networks.graph_spec import (
    CallSpec,
    GraphLayer,
    GraphSpec,
    LayerSpec,
    PerTimestepSpec,
    Reference,
)
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stage_spec import (
    ActivationSpec,
    DenseSpec,
    EmbeddingSpec,
    FlattenSpec,
    MaskingSpec,
    RecurrentSpec,
    RepeatSpec,
)

_DROPPED = (*UNCHANGED, *(name for name in ELEMENTWISE if name.startswith("Random")))
_OF_CALLS = ("use_causal_mask", "causal")  # settings that Keras reads in the call
_APART = "MultiHeadAttention"  # its values are one argument each
_SCALED = {"recurrent_activation": tuple(CONVOLUTIONAL)}  # activations whose scale is part of the weights
_ONE_AXIS = ("BatchNormalization", "LayerNormalization", "GroupNormalization", "Softmax", "UnitNormalization")
# Settings that Keras 2 does not have, with the values that change nothing.
_ONLY_MODERN: dict[str, Any] = {
    "rms_scaling": False, "pad_to_aspect_ratio": False, "fill_mode": "constant", "fill_value": 0.0, "antialias": False,
}  # fmt: skip
_IMAGES = ("Resizing", "CenterCrop")  # in Keras 2 they have no data_format
Weights = Mapping[str, Tensor]
Made = tuple[str, dict[str, Any], dict[str, list[np.ndarray]]]  # class, settings, variables


def started(spec: GraphSpec) -> KerasModel:
    """Return a model with the inputs of a graph."""
    read = {number for call in spec.calls for number, _ in [*call.reads, *call.states]}
    masks = {mask[0] for call in spec.calls for mask in call.masks if mask is not None} - read
    types = ["bool" if number in masks else "float32" for number in range(len(spec.inputs))]
    first, *others = spec.inputs
    model = KerasModel(first.shape, first.name, types[0])
    for given, dtype in zip(others, types[1:], strict=True):
        model.add_input(given.shape, given.name, dtype)
    return model


def graph_layers(model: KerasModel, spec: GraphSpec, weights: Weights) -> Ref:
    """Add the layers and calls of a graph to a model that has its inputs.

    Args:
        model: the model.
        spec: the graph.
        weights: its weights, by the names of a :class:`KerasGraph`.

    Returns:
        the value that the graph returns.

    Raises:
        UnsupportedLayer: a layer with code of the user, or an activation that Keras 2 and 3 compute differently.
    """
    return _Writer(model, reachable(spec), weights).write()


@dataclass
class _Writer:
    """Write one graph.

    Attributes:
        model: the model that grows.
        spec: the graph, without calls that its output does not depend on.
        weights: by the names of a :class:`KerasGraph`.
        values: number of a value and of its output -> the value in Keras.
        names: name of a layer of the graph -> its name in Keras.
    """

    model: KerasModel
    spec: GraphSpec
    weights: Weights
    values: dict[Reference, Ref] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def write(self) -> Ref:
        """Add all calls; return the output."""
        layers = {layer.name: layer for layer in self.spec.layers}
        shapes, widths = _shapes(self.spec)
        read = {self.spec.output, *(one for call in self.spec.calls for one in [*call.reads, *call.states])}
        self.values |= {(number, 0): reference(name) for number, name in enumerate(self.model.inputs)}
        for turn, call in enumerate(self.spec.calls):
            number, layer = len(self.spec.inputs) + turn, layers[call.layer]
            if _without_effect(layer):
                self.values[number, 0] = self.values[call.reads[0]]
                continue
            outputs = {output for value, output in read if value == number}
            name = self.names.get(call.layer)
            if name is None:
                name = self.names[call.layer] = self._added(layer, shapes[turn], max(outputs, default=0) > 0)
            place = self.model.call(name, self._node(layer, call))
            self.values |= {(number, output): (name, place, output) for output in outputs}
            if function := _hard_function(layer):
                self.values[number, 0] = self._hard(function, name, (name, place, 0), widths[turn])
        return self.values[self.spec.output]

    def _node(self, layer: GraphLayer, call: CallSpec) -> Node:
        if is_operation(layer):
            assert isinstance(layer, LayerSpec)
            return operation_node(layer, tuple(self.values[one] for one in call.reads))
        own = layer.settings if isinstance(layer, LayerSpec) else {}
        causal = {"use_causal_mask": True} if any(own.get(name) for name in _OF_CALLS) else {}
        reads, states = (tuple(self.values[one] for one in part) for part in (call.reads, call.states))
        masks = tuple(None if mask is None else self.values[mask] for mask in call.masks)
        if masks and "Attention" in getattr(layer, "kind", ""):
            raise UnsupportedLayer(
                f"layer {quoted(layer.name)!r} reads a mask that is an input: use unbraid.export_onnx."
            )
        return Node(reads, states, causal, isinstance(layer, LayerSpec) and layer.kind == _APART, masks=masks)

    def _hard(self, function: str, name: str, value: Ref, width: int) -> Ref:
        """Add ``hard_sigmoid`` behind a layer that is linear in the file; return its value."""
        _, factor, shift = scaled(function)
        value = self.model.affine(value, factor, shift, width, f"{name}_scale")
        return reference(self.model.add("ReLU", {"max_value": 1.0}, (value,), f"{name}_hard"))

    def _added(self, layer: GraphLayer, shapes: list[tuple[int, ...]], states: bool) -> str:
        """Add a layer without a call; return its name."""
        if isinstance(layer, PerTimestepSpec):
            return self._per_timestep(layer)
        if is_operation(layer):
            assert isinstance(layer, LayerSpec)
            module, kind, settings = operation(layer)
            return self.model.add(kind, settings, (), layer.name, module=module)
        if isinstance(layer, RecurrentSpec):
            kind, settings, arrays = self._recurrent(layer, states)
        elif isinstance(layer, LayerSpec):
            kind, settings, arrays = self._kind(layer, shapes)
        else:
            kind, settings, arrays = _STAGES[type(layer)](layer, self._own(layer.name))
        return self.model.add(kind, settings, (), layer.name, arrays)

    def _own(self, layer: str) -> dict[str, Tensor]:
        """Weights of one layer."""
        start = f"{layer}."
        return {name.removeprefix(start): w for name, w in self.weights.items() if name.startswith(start)}

    def _recurrent(self, spec: RecurrentSpec, states: bool) -> Made:
        fixed = spec.name in self.spec.fixed  # its weights are named as in a stage
        ways = ("forward_layer", "backward_layer") if fixed else ("layers.0", "layers.1")
        own, layers = self._own(spec.name), []
        for way, name in enumerate(ways[: 2 if spec.bidirectional else 1]):
            layer = RecurrentLayer(spec.cell, spec.inputs, spec.units, spec.reverse != bool(way))
            layer.load_state_dict({key: own[f"{name}.{key}"] for key in layer.state_dict()}, assign=True)
            layers.append(layer)
        places = [np.arange(spec.units)] * len(layers)
        read = Values(spec.name, spec.inputs)
        return recurrent_layer(spec.name, layers, places, spec.units, spec.merge, spec.sequences, read, states)

    def _kind(self, layer: LayerSpec, shapes: list[tuple[int, ...]]) -> Made:
        if layer.kind == OWN:
            raise UnsupportedLayer(
                f"layer {quoted(layer.name)!r} has code of your own, which no file holds: shrink or decompose the "
                "network and use to_torch()."
            )
        own, settings = self._own(layer.name), dict(layer.settings)
        if layer.kind == PART:
            rows = torch.eye(shapes[0][-1])[settings["start"] : settings["start"] + settings["size"]]  # type: ignore[operator]
            return _dense(len(rows), "linear", layer.name, rows, torch.zeros(len(rows)))
        expected = KINDS[layer.kind].weights(Settings(settings, layer.keras), shapes)
        arrays: dict[str, list[np.ndarray]] = {}
        for weight in expected:
            held = own[weight.name] if weight.used else torch.zeros(weight.shape)
            for part in _parts(weight, layer.kind):
                arrays.setdefault(part, []).append(_array(held).copy())
        if layer.kind in CONVOLUTIONAL:
            _scale_gates(arrays["cell"], str(settings.get("recurrent_activation", "sigmoid")))
        return layer.kind, _settings(layer), arrays

    def _per_timestep(self, spec: PerTimestepSpec) -> str:
        """Add a TimeDistributed around one layer, or around a model of several."""
        graph = reachable(spec.graph)
        inner = started(graph)
        output = graph_layers(inner, graph, self._own(spec.name))
        settings: dict[str, Any] = {}
        alone = [name for name in inner.layers if name not in inner.inputs]
        if len(alone) == 1 and len(graph.calls) == 1:
            layer = inner.layers[alone[0]]
            settings["layer"] = serialized(layer["class_name"], layer["config"])
            arrays = {"/".join(p for p in ("layer", part) if p): own for part, own in inner.arrays(alone[0]).items()}
            return self.model.add("TimeDistributed", settings, (), spec.name, arrays)
        name = self.model.add("TimeDistributed", settings, (), spec.name)
        self.model.wrap(name, inner, output)
        return name


def _shapes(spec: GraphSpec) -> tuple[list[list[tuple[int, ...]]], list[int]]:
    """Return the shapes of what each call reads, without the axis of examples, and the width of what it gives."""
    found: list[list[tuple[int, ...]]] = []
    widths: list[int] = []

    class Watched(KerasGraph):
        def run(self, name: str, x: list[Tensor], masks: Any, states: list[Tensor]) -> Any:
            found.append([tuple(part.shape[1:]) for part in x])
            values, mask = super().run(name, x, masks, states)
            widths.append(values[0].shape[-1])
            return values, mask

    with torch.device("meta"):
        Watched(spec)(*[torch.zeros(input_size(given)) for given in spec.inputs])
    return found, widths


def _without_effect(layer: GraphLayer) -> bool:
    if isinstance(layer, PerTimestepSpec):
        return all(map(_without_effect, layer.graph.layers))
    return isinstance(layer, LayerSpec) and layer.kind in _DROPPED


def _hard_function(layer: GraphLayer) -> str:
    """Return the ``hard_sigmoid`` that a layer computes last; empty without it, or within a recurrent layer."""
    own = ""
    if isinstance(layer, ActivationSpec):
        own = layer.activation
    elif isinstance(layer, LayerSpec) and layer.kind not in CONVOLUTIONAL:
        own = str(layer.settings.get("activation"))
    return own if own in HARD else ""


def _last(layer: LayerSpec | ActivationSpec) -> str:
    """Return the activation of a layer in the file; ``linear`` where :func:`_hard_function` follows."""
    own = layer.activation if isinstance(layer, ActivationSpec) else str(layer.settings["activation"])
    return "linear" if _hard_function(layer) else own


def _settings(layer: LayerSpec) -> dict[str, Any]:
    """Return the settings of a layer as Keras 2 and 3 read them."""
    found = {name: value for name, value in layer.settings.items() if name not in _OF_CALLS}
    found = {name: value for name, value in found.items() if _ONLY_MODERN.get(name, ...) != value}
    if layer.kind in _IMAGES and found.get("data_format") == "channels_last":
        del found["data_format"]
    for name in ("activation", "recurrent_activation"):
        if found.get(name) is not None:
            own = _last(layer) if name == "activation" else str(found[name])
            found[name] = activation(scaled(own)[0] if layer.kind in _SCALED.get(name, ()) else own, layer.name)
    axis = found.get("axis")
    if layer.kind in _ONE_AXIS and isinstance(axis, list) and len(axis) == 1:
        found["axis"] = axis[0]
    if layer.kind == "LeakyReLU" and "negative_slope" in found:  # Keras 3 reads the name of Keras 2
        found["alpha"] = found.pop("negative_slope")
    if found.get("groups") == 1:
        del found["groups"]
    return found


def _parts(weight: Weight, kind: str) -> Sequence[str]:
    """Names of the group of a weight. Keras 2 begins those of attention with an underscore, Keras 3 does not."""
    return (weight.part, f"_{weight.part}") if kind == _APART else (weight.part,)


def _scale_gates(arrays: list[np.ndarray], function: str) -> None:
    """Scale and shift what the gates i, f and o of a convolutional LSTM read, in place; it needs a bias for a shift."""
    _, factor, shift = scaled(function)
    if shift and len(arrays) < 3:
        raise UnsupportedLayer("a convolutional LSTM with hard_sigmoid has no bias: use unbraid.export_onnx.")
    units = arrays[0].shape[-1] // 4
    for gate in (0, 1, 3):
        own = slice(gate * units, (gate + 1) * units)
        for array in arrays:
            array[..., own] *= factor
        if shift:
            arrays[2][..., own] += shift


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().to(torch.float32).numpy()


def _dense(units: int, function: str, name: str, weight: Tensor, bias: Tensor) -> Made:
    shared, factor, shift = scaled(function)
    settings = {"units": units, "activation": activation(shared, name), "use_bias": True}
    return "Dense", settings, {"": [_array(weight * factor).T, _array(bias * factor + shift)]}


def _embedding(spec: EmbeddingSpec, own: Weights) -> Made:
    settings = {"input_dim": spec.vocabulary, "output_dim": spec.dimension, "mask_zero": spec.mask_zero}
    return "Embedding", settings, {"": [_array(own["weight"])]}


_STAGES: dict[type, Callable[[Any, Weights], Made]] = {
    EmbeddingSpec: _embedding,
    MaskingSpec: lambda spec, own: ("Masking", {"mask_value": spec.value}, {}),
    FlattenSpec: lambda spec, own: ("Flatten", {}, {}),
    RepeatSpec: lambda spec, own: ("RepeatVector", {"n": spec.times}, {}),
    ActivationSpec: lambda spec, own: ("Activation", {"activation": activation(_last(spec), spec.name)}, {}),
    DenseSpec: lambda spec, own: _dense(spec.units, spec.activation, spec.name, own["weight"], own["bias"]),
}
