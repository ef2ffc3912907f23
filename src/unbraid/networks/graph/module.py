"""A Keras model as one PyTorch module, built from its description alone.

Shapes: N examples, T timesteps, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import DataError, FormatError, UnbraidError, quoted
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.graph.kind import Mask, Settings
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.recurrence import KerasRecurrent, recurrent_shapes
from unbraid.networks.graph_spec import GraphInput, GraphLayer, GraphSpec, LayerSpec, PerTimestepSpec
from unbraid.networks.stage_spec import DenseSpec, EmbeddingSpec, RecurrentSpec
from unbraid.networks.stages import Recurrent, build_stage

STEPS = 128
LARGEST = 2**28  # numbers in one value of two examples
Value = tuple[list[Tensor], Mask]  # the results of one call and the mask of the first


class KerasGraph(nn.Module):
    """The layers of a Keras model, called as the model calls them.

    Args:
        spec: its layers and calls.

    Raises:
        FormatError: a layer of an unknown kind, or a name that a module cannot have.
    """

    def __init__(self, spec: GraphSpec) -> None:
        super().__init__()
        self.spec = spec
        self.by_name: dict[str, GraphLayer] = {}
        for layer in spec.layers:
            self.attach(layer, layer.name in spec.fixed)

    @staticmethod
    def stacks_of(spec: GraphSpec) -> dict[str, KerasRecurrent]:
        """Name -> recurrent layer that can be decomposed, with shapes but no memory."""
        with torch.device("meta"):
            graph = KerasGraph(spec)
        return {name: part for name, part in graph.named_children() if isinstance(part, KerasRecurrent)}

    def attach(self, layer: GraphLayer, fixed: bool = False) -> None:
        """Add a layer, whose weights have shapes but hold zeros."""
        module = _built(layer, fixed)
        try:
            self.add_module(layer.name, module)
        except KeyError:
            raise FormatError(f"a layer is called {quoted(layer.name)!r}, which is no usable name.") from None
        self.by_name[layer.name] = layer

    def forward(self, *x: Any) -> Tensor:
        """Run the model on its inputs, in order or in one mapping by name.

        Raises:
            DataError: another number of inputs, or values that a layer cannot read.
        """
        names = [given.name for given in self.spec.inputs]
        if len(x) == 1 and isinstance(x[0], Mapping):
            x = tuple(x[0][name] for name in names)
        elif len(x) == 1 and isinstance(x[0], tuple | list):
            x = tuple(x[0])
        if len(x) != len(names):
            raise DataError(f"inputs are {len(x)} arrays, the network reads {len(names)}: {', '.join(names)}.")
        values: list[Value] = [([one], None) for one in x]
        for call in self.spec.calls:
            reads = [_value(values, reference) for reference in call.reads]
            masks = [values[number][1] if output == 0 else None for number, output in call.reads]
            for place, mask in enumerate(call.masks[: len(masks)]):
                masks[place] = masks[place] if mask is None else _value(values, mask)
            states = [_value(values, reference) for reference in call.states]
            values.append(self.run(call.layer, reads, masks, states))
        return _value(values, self.spec.output)

    def run(self, name: str, x: list[Tensor], masks: list[Mask], states: list[Tensor]) -> Value:
        """Call one layer. On the meta device it computes shapes alone, without memory.

        Raises:
            DataError: values that the layer cannot read, or a result above the limit of its size.
        """
        found, mask = self._run(name, x, masks, states)
        if found[0].is_meta and found[0].numel() > LARGEST:
            raise DataError(f"layer {quoted(name)!r} gives values of shape {tuple(found[0].shape)}: too large.")
        return found, mask

    def _run(self, name: str, x: list[Tensor], masks: list[Mask], states: list[Tensor]) -> Value:
        layer, module = self.by_name[name], self._modules[name]
        assert module is not None
        masks = [mask if mask is None else mask.bool() for mask in masks]
        many = isinstance(layer, LayerSpec) and KINDS[layer.kind].many
        if len(x) != 1 and not many:
            raise DataError(f"layer {quoted(name)!r} is called with {len(x)} values, expected one.")
        if isinstance(layer, RecurrentSpec) and masks[0] is not None and masks[0].shape != x[0].shape[:2]:
            raise DataError(f"layer {quoted(name)!r} has a mask of shape {tuple(masks[0].shape)}, expected (N, T).")
        try:
            if isinstance(layer, LayerSpec):
                return _run_kind(layer, module, x, masks)
            if isinstance(layer, RecurrentSpec) and x[0].is_meta:
                found = recurrent_shapes(layer, x[0])
                kept = masks[0] if layer.sequences else None
                return (found if isinstance(module, KerasRecurrent) else found[:1]), kept
            if isinstance(layer, RecurrentSpec) and not isinstance(module, Recurrent):
                found, mask = module(x[0], masks[0], states)
                return found, mask
            if isinstance(layer, DenseSpec):
                return [ACTIVATIONS[layer.activation](module(x[0]))], masks[0]
            if isinstance(layer, PerTimestepSpec):
                return [_per_timestep(module, x[0], masks[0])], masks[0]
            if isinstance(layer, EmbeddingSpec):
                return [nn.functional.embedding(x[0].long(), module.weight)], (  # type: ignore[arg-type]
                    x[0] != 0 if layer.mask_zero else None
                )
            value, mask = module(x[0], masks[0])
            return [value], mask
        except (UnbraidError, MemoryError):
            raise
        except Exception as error:  # a setting of a file may be any JSON, which may raise any error
            shapes = ", ".join(str(tuple(part.shape)) for part in x)
            reason = quoted(str(error).splitlines()[0] if str(error) else type(error).__name__, 200)
            raise DataError(f"layer {quoted(name)!r} cannot read values of shape {shapes}: {reason}.") from None


def _value(values: list[Value], reference: tuple[int, int]) -> Tensor:
    """Return the value of a reference; raise DataError for an output that the layer does not give."""
    number, output = reference
    if output >= len(values[number][0]):
        raise DataError(f"output {output} of value {number} is read; there are {len(values[number][0])} outputs.")
    return values[number][0][output]


def weight_names(name: str) -> str:
    """Convert the name of a weight in a recurrent stage to its name in a :class:`KerasRecurrent`."""
    direction, _, weight = name.rpartition(".")
    return f"layers.{int(direction == 'backward_layer')}.{weight}"


def _run_kind(layer: LayerSpec, module: nn.Module, x: list[Tensor], masks: list[Mask]) -> Value:
    kind, settings = KINDS[layer.kind], Settings(layer.settings, layer.keras)
    weights = {name: weight for name, weight in module._parameters.items() if weight is not None}
    value = kind.run(settings, weights, x, masks)
    if not isinstance(value, Tensor):  # "!=" of values and a list is one boolean
        raise ValueError(f"its result is {type(value).__name__}, expected numbers")
    if kind.activated and settings.get("activation") is not None:
        value = ACTIVATIONS[settings.get("activation")](value)
    return [value], kind.mask(settings, x, masks)


def _per_timestep(graph: nn.Module, x: Tensor, mask: Mask) -> Tensor:
    """Run a graph on every timestep of (N, T, ...) by itself."""
    result: Tensor = graph(x.flatten(0, 1))
    return result.unflatten(0, x.shape[:2])


def run_shapes(graph: KerasGraph) -> Tensor:
    """Run a graph of the meta device for two examples, and return the shape of its output; raise DataError."""
    _check_references(graph.spec)
    with torch.device("meta"):
        result: Tensor = graph(*[torch.zeros(input_size(given)) for given in graph.spec.inputs])
        return result


def _check_references(spec: GraphSpec) -> None:
    """Raise DataError for a call of an unknown layer, and for one that reads a value that is computed later."""
    names, inputs = [layer.name for layer in spec.layers], len(spec.inputs)
    if len(set(names)) != len(names):
        raise DataError("layer names of the graph repeat.")
    for place, call in enumerate(spec.calls):
        read = [number for number, _ in [*call.reads, *call.states, *(m for m in call.masks if m is not None)]]
        if call.layer not in names or max(read) >= inputs + place:
            raise DataError(f"call {place} of layer {quoted(call.layer)!r} reads what no layer before it gives.")
    if spec.output[0] >= inputs + len(spec.calls):
        raise DataError("the output of the graph is a value that no layer gives.")


def input_size(given: GraphInput) -> list[int]:
    """Return the size of two examples, with :data:`STEPS` for open sizes; raise DataError if too large."""
    size = [2, *[one or STEPS for one in given.shape]]
    if prod(size) > LARGEST:
        raise DataError(f"input {quoted(given.name)!r} has shape {tuple(given.shape)}: too large.")
    return size


class LayerWeights(nn.Module):
    """The weights of a layer, by name."""

    def __init__(self, spec: LayerSpec) -> None:
        super().__init__()
        for name, shape in spec.weights.items():
            self.register_parameter(name, nn.Parameter(torch.zeros(shape), requires_grad=False))


def _built(layer: GraphLayer, fixed: bool) -> nn.Module:
    if isinstance(layer, LayerSpec) and layer.kind not in KINDS:
        raise FormatError(f"layer {quoted(layer.name)!r} is {quoted(layer.kind)!r}, a kind that is unknown here.")
    if isinstance(layer, RecurrentSpec):
        return Recurrent(layer) if fixed else KerasRecurrent(layer)
    builders: dict[type, Callable[[Any], nn.Module]] = {
        LayerSpec: LayerWeights,
        DenseSpec: lambda spec: nn.Linear(spec.inputs, spec.units),
        PerTimestepSpec: lambda spec: KerasGraph(spec.graph),
    }
    return builders.get(type(layer), build_stage)(layer)
