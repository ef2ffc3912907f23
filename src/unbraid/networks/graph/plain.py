"""A graph of a network as a module that runs alone, with layers of torch where torch has them.

Shapes: N examples, T timesteps, D inputs, H units.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from unbraid.networks.graph.kind import Mask
from unbraid.networks.graph.module import KerasGraph, Value, run_shapes
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.graph_spec import GraphSpec, Reference
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec
from unbraid.networks.stages import merged

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


class PlainGraphRecurrent(nn.Module):
    """A recurrent layer of a graph as one nn.LSTM, nn.GRU or nn.RNN for each direction. It reads no mask.

    Args:
        spec: description of the layer.
        layers: the layer of each direction.
    """

    def __init__(self, spec: RecurrentSpec, layers: Sequence[RecurrentLayer]) -> None:
        super().__init__()
        self.spec, self.layers = spec, nn.ModuleList(map(plain_recurrent, layers))
        self.backwards = [layer.reverse for layer in layers]

    def forward(self, x: Tensor, mask: Mask, states: list[Tensor]) -> tuple[list[Tensor], Mask]:
        """Run as :class:`KerasRecurrent` does."""
        spec, each = self.spec, len(states) // len(self.layers)
        outputs, finals = [], []
        for way, (layer, backwards) in enumerate(zip(self.layers, self.backwards, strict=True)):
            first = tuple(state.unsqueeze(0) for state in states[way * each : (way + 1) * each])
            values, last = layer(x.flip(1) if backwards else x, (first if each > 1 else first[0]) if first else None)
            finals += [state.squeeze(0) for state in (last if isinstance(last, tuple) else (last,))]
            joined = backwards and len(self.layers) == 2  # a single one gives its outputs in the order of reading
            outputs.append((values.flip(1) if joined else values) if spec.sequences else values[:, -1])
        return [merged(spec.merge, outputs, None), *finals], None


def plain_recurrent(part: RecurrentLayer) -> nn.RNNBase:
    """Return a layer of torch that reads (N, T, D) forwards, with the weights of ``part``."""
    like = {"device": part.weight_ih.device, "dtype": part.weight_ih.dtype}
    settings = {"nonlinearity": part.cell.activation} if part.cell.kind == "rnn" else {}
    layer = LAYERS[part.cell.kind](part.inputs, part.units, batch_first=True, **settings, **like)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(layer, f"{name}_l0").copy_(getattr(part, name))
    return layer


def plain_graph(spec: GraphSpec, parts: Mapping[str, nn.Module], output: Reference) -> KerasGraph:
    """Build a graph that returns one of its values.

    Recurrent layers become layers of torch, except those that read a mask and those whose cell torch does not have.

    Args:
        spec: description of the graph.
        parts: its modules by name, with weights.
        output: the value to return.
    """
    spec = spec.model_copy(update={"output": output})
    masked = _masked(spec)
    with torch.device("meta"):
        graph = KerasGraph(spec)
    for layer in spec.layers:
        part = parts[layer.name]
        if isinstance(layer, RecurrentSpec) and isinstance(part, KerasRecurrent):
            layers = [one for one in part.layers if isinstance(one, RecurrentLayer) and one.cell.fused]
            whole = all(kept is None for kept in part.kept)
            if whole and layer.name not in masked and len(layers) == len(part.layers):
                part = PlainGraphRecurrent(layer, layers)
        setattr(graph, layer.name, part)
    return graph.requires_grad_(False).eval()


def _masked(spec: GraphSpec) -> set[str]:
    """Names of the layers that read a mask in any of their calls."""
    with torch.device("meta"):
        graph = _Watched(spec)
    run_shapes(graph)
    return graph.masked


class _Watched(KerasGraph):
    """A graph that notes which layers read a mask."""

    def __init__(self, spec: GraphSpec) -> None:
        self.masked: set[str] = set()
        super().__init__(spec)

    def run(self, name: str, x: list[Tensor], masks: list[Mask], states: list[Tensor]) -> Value:
        if any(mask is not None for mask in masks):
            self.masked.add(name)
        return super().run(name, x, masks, states)


def head_call(spec: GraphSpec, head: str) -> int:
    """Return the position of the call of the output layer."""
    return next(place for place, call in enumerate(spec.calls) if call.layer == head)


def scores_spec(spec: GraphSpec, head: str) -> GraphSpec:
    """Return a graph whose output is that of the output layer before its activation."""
    layers = [
        layer.model_copy(update={"activation": "linear"})
        if isinstance(layer, DenseSpec) and layer.name == head
        else layer
        for layer in spec.layers
    ]
    return spec.model_copy(update={"layers": layers, "output": (len(spec.inputs) + head_call(spec, head), 0)})
