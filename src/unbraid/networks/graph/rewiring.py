"""Describe a graph with smaller recurrent layers as a graph of Keras layers.

The expansion of a smaller layer becomes a linear dense layer behind it. Where only dense and recurrent layers read the
expanded values, the expansion is multiplied into their weights, and these layers get smaller too.
Shapes: H units of the original, H' units of the smaller layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from unbraid.networks.graph.elementwise import UNCHANGED
from unbraid.networks.graph_spec import CallSpec, GraphLayer, GraphSpec, LayerSpec, Reference
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec


@dataclass(frozen=True)
class Narrowed:
    """A smaller recurrent layer, and the expansion of what it gives to the old size.

    Attributes:
        units: H'.
        kept: for each direction the units of the original that it has, (H',).
        hidden: for each direction the expansion of outputs and hidden states, (H, H' + 1) with the bias as last column.
        cell: the same for the cell states of an LSTM; None for other cells.
        shifted: whether the bias counts for the outputs.
    """

    units: int
    kept: Sequence[Tensor]
    hidden: Sequence[Tensor]
    cell: Sequence[Tensor] | None
    shifted: bool = True

    def of_state(self, place: int) -> Tensor:
        """Return the expansion of a final state: h (and c) of the forward direction first."""
        way, kind = (place, 0) if self.cell is None else divmod(place, 2)
        return self.hidden[way] if kind == 0 or self.cell is None else self.cell[way]

    def of_start(self, place: int, states: int) -> Tensor:
        """Return the rows (H', H) that select the kept units of an initial state, one of ``states``."""
        kept = self.kept[place // (states // len(self.kept))]
        return torch.eye(len(self.hidden[0]), dtype=self.hidden[0].dtype, device=kept.device)[kept]


@dataclass
class _Graph:
    """A graph that grows call by call.

    Attributes:
        inputs: number of inputs.
        layers: name -> layer.
        weights: name in :class:`KerasGraph` -> tensor.
        calls: the calls so far.
    """

    inputs: int
    layers: dict[str, GraphLayer] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)
    calls: list[CallSpec] = field(default_factory=list)

    def call(self, made: CallSpec) -> int:
        """Add a call; return the number of its value."""
        self.calls.append(made)
        return self.inputs + len(self.calls) - 1

    def linear(self, name: str, reads: Reference, weight: Tensor, bias: Tensor | None = None) -> Reference:
        """Add a linear dense layer of weight (F, F'), and its call; return its value."""
        chosen, number = name, 1
        while chosen in self.layers:
            chosen, number = f"{name}_{number}", number + 1
        self.layers[chosen] = DenseSpec(name=chosen, inputs=weight.shape[1], units=weight.shape[0])
        self.weights[f"{chosen}.weight"] = weight.detach().clone().contiguous()
        self.weights[f"{chosen}.bias"] = weight.new_zeros(len(weight)) if bias is None else bias.detach().clone()
        return self.call(CallSpec(layer=chosen, reads=[reads])), 0


def rewired(
    spec: GraphSpec, weights: Mapping[str, Tensor], narrowed: Mapping[str, Narrowed]
) -> tuple[GraphSpec, dict[str, Tensor]]:
    """Return the description of a graph with smaller layers, and its weights by the names of a KerasGraph.

    Args:
        spec: the graph before.
        weights: the weights of all layers; of the smaller ones those that they have now.
        narrowed: name of a layer -> the smaller one that takes its place.
    """
    old = {layer.name: layer for layer in spec.layers}
    graph = _Graph(len(spec.inputs), dict(old), dict(weights))
    for name, part in narrowed.items():
        graph.layers[name] = graph.layers[name].model_copy(update={"units": part.units})
    places: dict[Reference, Reference] = {(number, 0): (number, 0) for number in range(graph.inputs)}
    read = {spec.output, *(one for call in spec.calls for one in _references(call))}
    for turn, call in enumerate(spec.calls):
        own, number = narrowed.get(call.layer), graph.inputs + turn
        states = [places[state] for state in call.states]
        if own is not None:
            states = [
                graph.linear(f"{call.layer}_start", state, own.of_start(place, len(states)))
                for place, state in enumerate(states)
            ]
        moved = {
            "reads": [places[one] for one in call.reads],
            "states": states,
            "masks": [None if mask is None else places[mask] for mask in call.masks],
        }
        new = graph.call(call.model_copy(update=moved))
        for output in sorted({output for value, output in read if value == number} | {0}):
            value = new, output
            places[number, output] = value if own is None else _expanded(graph, call.layer, own, value)
    made = spec.model_copy(
        update={"layers": list(graph.layers.values()), "calls": graph.calls, "output": places[spec.output]}
    )
    for name in [name for name in graph.layers if name not in old]:
        made = _folded(made, graph.weights, name)
    return made, graph.weights


def reachable(spec: GraphSpec) -> GraphSpec:
    """Return a graph without calls and layers that its output does not depend on."""
    inputs, wanted, left = len(spec.inputs), set[int](), [spec.output[0]]
    while left:
        number = left.pop()
        if number < inputs or number in wanted:
            continue
        wanted.add(number)
        call = spec.calls[number - inputs]
        left += [one for one, _ in _references(call)]
    order = {number: number for number in range(inputs)}
    calls: list[CallSpec] = []
    for turn, call in enumerate(spec.calls):
        if inputs + turn in wanted:
            order[inputs + turn] = inputs + len(calls)
            reads, states = ([(order[number], output) for number, output in part] for part in (call.reads, call.states))
            masks = [None if mask is None else (order[mask[0]], mask[1]) for mask in call.masks]
            calls.append(call.model_copy(update={"reads": reads, "states": states, "masks": masks}))
    used = {call.layer for call in calls}
    layers = [layer for layer in spec.layers if layer.name in used]
    fixed = [name for name in spec.fixed if name in used]
    output = order[spec.output[0]], spec.output[1]
    return spec.model_copy(update={"layers": layers, "calls": calls, "output": output, "fixed": fixed})


def _references(call: CallSpec) -> Iterator[Reference]:
    yield from call.reads
    yield from call.states
    yield from (mask for mask in call.masks if mask is not None)


def _expanded(graph: _Graph, layer: str, part: Narrowed, value: Reference) -> Reference:
    """Add the expansion of an output or a final state."""
    if value[1]:
        rows = part.of_state(value[1] - 1)
        return graph.linear(f"{layer}_state", value, rows[:, :-1], rows[:, -1])
    weight = torch.block_diag(*(rows[:, :-1] for rows in part.hidden))
    shift = torch.cat([rows[:, -1] for rows in part.hidden]) if part.shifted else None
    return graph.linear(f"{layer}_units", value, weight, shift)


def _folded(spec: GraphSpec, weights: dict[str, Tensor], name: str) -> GraphSpec:
    """Multiply a linear layer into all layers that read it, if these are dense or recurrent layers called once.

    Args:
        spec: the graph.
        weights: the weights of its layers; changed in place.
        name: name of the linear layer.
    """
    inputs, layers = len(spec.inputs), {layer.name: layer for layer in spec.layers}
    number = inputs + next(turn for turn, call in enumerate(spec.calls) if call.layer == name)
    readers = _readers(spec, layers, number)
    if readers is None:
        return spec
    weight, bias = weights.pop(f"{name}.weight"), weights.pop(f"{name}.bias")
    for reader in readers:
        layer = layers[reader]
        assert isinstance(layer, DenseSpec | RecurrentSpec)
        for kernel, shift in _kernels(layer):
            own = weights[f"{reader}.{kernel}"]
            weights[f"{reader}.{shift}"] = weights[f"{reader}.{shift}"] + own @ bias
            weights[f"{reader}.{kernel}"] = own @ weight
        layers[reader] = layer.model_copy(update={"inputs": weight.shape[1]})
    del layers[name]
    source = spec.calls[number - inputs].reads[0]

    def moved(reference: Reference) -> Reference:
        if reference[0] == number:
            return source
        return reference[0] - (reference[0] > number), reference[1]

    calls = [
        call.model_copy(
            update={
                "reads": [moved(one) for one in call.reads],
                "states": [moved(one) for one in call.states],
                "masks": [None if mask is None else moved(mask) for mask in call.masks],
            }
        )
        for call in spec.calls
        if call.layer != name
    ]
    return spec.model_copy(update={"layers": list(layers.values()), "calls": calls, "output": moved(spec.output)})


def _kernels(layer: DenseSpec | RecurrentSpec) -> list[tuple[str, str]]:
    """Names of the weights that read the inputs of a layer, each with the bias beside it."""
    if isinstance(layer, DenseSpec):
        return [("weight", "bias")]
    return [(f"layers.{way}.weight_ih", f"layers.{way}.bias_ih") for way in range(2 if layer.bidirectional else 1)]


def _readers(spec: GraphSpec, layers: dict[str, GraphLayer], number: int) -> list[str] | None:
    """Names of the layers that read a value, through layers that pass it on; None if one of them needs its width."""
    inputs = len(spec.inputs)
    if spec.output[0] == number:
        return None
    found: list[str] = []
    for turn, call in enumerate(spec.calls):
        if all(one[0] != number for one in _references(call)):
            continue
        layer = layers[call.layer]
        if any(one[0] == number for one in [*call.states, *(m for m in call.masks if m is not None)]):
            return None
        if isinstance(layer, LayerSpec) and layer.kind in UNCHANGED:
            behind = _readers(spec, layers, inputs + turn)
            if behind is None:
                return None
            found += behind
            continue
        once = sum(other.layer == call.layer for other in spec.calls) == 1
        if not isinstance(layer, DenseSpec | RecurrentSpec) or not once or call.layer in spec.fixed:
            return None
        found.append(call.layer)
    return found
