"""Convert a recurrent layer to ONNX: an RNN, GRU or LSTM operator, or a Scan for layers with masks.

All functions have the inputs and outputs of :meth:`RecurrentLayer.forward`. Shapes: N examples, T timesteps, D inputs,
H hidden units, G gates, K modules in one batch.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import Tensor, nn

from unbraid.export.graph import ACTIVATIONS, Graph
from unbraid.export.scan import scan
from unbraid.networks.cells import Cell
from unbraid.networks.layers import Scattered
from unbraid.networks.own_layer import OwnLayer
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer

Values = tuple[str, list[str]]
_ORDER = {"rnn": "h", "lstm": "iofg", "gru": "zrn"}  # order of the gates in ONNX, with the names of Cell.gates


@singledispatch
def recurrent(layer: nn.Module, graph: Graph, x: str, valid: str | None, initial: list[str]) -> Values:
    """Add the nodes of a recurrent layer.

    Args:
        layer: the layer.
        graph: the graph.
        x: inputs (N, T, D).
        valid: mask (N, T), or None without a mask.
        initial: first states (N, H), or [] for zeros.

    Returns:
        outputs (N, T, H), and last states (N, H).
    """
    raise TypeError(f"{type(layer).__name__} is not a recurrent layer")


@recurrent.register
def _(layer: RecurrentLayer, graph: Graph, x: str, valid: str | None, initial: list[str]) -> Values:
    rows = graph.dims(x, 0, 1)
    if layer.inputs == 0:  # runtimes differ on inputs without columns
        x = graph.zeros(graph.dims(x, 0, 2), 1)
    if layer.units == 0:
        empty = graph.zeros(rows, 0)
        return graph.zeros(graph.dims(x, 0, 2), 0), [empty] * layer.cell.states
    if not initial:
        initial = [graph.zeros(rows, layer.units)] * layer.cell.states
    if any(name not in ACTIVATIONS for name in _functions(layer.cell)):
        return _scanned(graph, layer, x, valid, initial)
    if valid is None:
        return _operator(graph, layer, x, "", initial, layer.reverse)
    return _compacted(graph, layer, x, valid, initial)


@recurrent.register
def _(layer: OwnLayer, graph: Graph, x: str, valid: str | None, initial: list[str]) -> Values:
    rows = graph.dims(x, 0, 1)
    states = initial or [graph.zeros(rows, layer.units)] * layer.cell.states
    if layer.units == 0:
        return graph.zeros(graph.dims(x, 0, 2), 0), states
    return _scanned(graph, layer, x, valid, states)


@recurrent.register
def _(layer: PrunedRecurrentLayer, graph: Graph, x: str, valid: str | None, initial: list[str]) -> Values:
    k, own = layer.modules_count, layer.layer
    assert isinstance(own, RecurrentLayer | OwnLayer)
    x = graph.node("Unsqueeze", x, graph.numbers(0)) if layer.opens else _apart(graph, x, 4, layer)
    if initial:
        initial = [_apart(graph, s, 3, layer) for s in initial]
    else:
        initial = [graph.zeros(k, graph.dims(x, 1, 2), own.units)] * own.cell.states
    if valid is not None and layer.interleaved:
        valid = graph.slice(valid, 0, 0, step=k)
    outputs, states = scan(graph, own, layer.removal, x, valid, initial)
    return _together(graph, outputs, 4, layer), [_together(graph, s, 3, layer) for s in states]


@recurrent.register
def _(layer: Scattered, graph: Graph, x: str, valid: str | None, initial: list[str]) -> Values:
    assert not initial  # in a sequence of stages the first states are zeros
    outputs, states = recurrent(layer.layer, graph, x, valid, [])
    places = torch.eye(layer.units)[:, layer.kept.cpu()]  # (H, H'), with zero rows for removed nodes
    return graph.linear(outputs, places), [graph.linear(s, places) for s in states]


def _scanned(graph: Graph, layer: RecurrentLayer | OwnLayer, x: str, valid: str | None, initial: list[str]) -> Values:
    """Run a layer step by step."""
    x, *first = (graph.node("Unsqueeze", value, graph.numbers(0)) for value in [x, *initial])
    outputs, states = scan(graph, layer, None, x, valid, first)
    return graph.pick(outputs, 0, 0), [graph.pick(s, 0, 0) for s in states]


def _functions(cell: Cell) -> list[str]:
    """Return the activations in the order of the ONNX operator."""
    if cell.kind == "rnn":
        return [cell.activation]
    return [cell.gate_activation] + [cell.activation] * cell.states


def _operator(graph: Graph, layer: RecurrentLayer, x: str, lengths: str, initial: list[str], reverse: bool) -> Values:
    """Add an RNN, GRU or LSTM operator; ``lengths`` is int32 (N,) or ''."""
    cell, functions = layer.cell, [ACTIVATIONS[name] for name in _functions(layer.cell)]
    weight = layer.weight_ih if layer.inputs else layer.weight_hh.new_zeros(layer.weight_hh.shape[0], 1)

    def ordered(rows: Tensor) -> Tensor:
        parts = dict(zip(cell.gates, rows.chunk(len(cell.gates)), strict=True))
        return torch.cat([parts[gate] for gate in _ORDER[cell.kind]])

    weights = [ordered(weight), ordered(layer.weight_hh), torch.cat([ordered(layer.bias_ih), ordered(layer.bias_hh)])]
    outputs, *states = graph.nodes_of(
        cell.kind.upper(),
        [
            graph.permuted(x, 1, 0, 2),
            *(graph.constant(w.unsqueeze(0)) for w in weights),
            lengths,
            *(graph.node("Unsqueeze", s, graph.numbers(0)) for s in initial),
        ],
        1 + len(initial),
        hidden_size=layer.units,
        direction="reverse" if reverse else "forward",
        activations=[op for op, _ in functions],
        **{
            f"activation_{a}": [n[a] for _, n in functions if n]
            for a in ("alpha", "beta")
            if any(n for _, n in functions)
        },
        **({"linear_before_reset": int(cell.reset_after)} if cell.kind == "gru" else {}),
    )
    steps = graph.node("Squeeze", outputs, graph.numbers(1))
    return graph.permuted(steps, 1, 0, 2), [graph.pick(s, 0, 0) for s in states]


def _compacted(graph: Graph, layer: RecurrentLayer, x: str, valid: str, initial: list[str]) -> Values:
    """Run an operator on masked inputs.

    Valid timesteps are moved to the front in the order of reading. Afterwards the outputs are moved back.
    """
    steps = graph.dims(x, 1, 2)
    number = graph.node("CumSum", graph.node("Expand", graph.numbers(1), graph.dims(x, 0, 2)), graph.numbers(1))
    counted = graph.node("Cast", valid, to=7)
    first = number if layer.reverse else graph.node("Neg", number)
    key = graph.node("Add", first, graph.node("Mul", counted, graph.node("Mul", steps, graph.numbers(2))))
    order = graph.nodes_of("TopK", [key, steps], 2, axis=1)[1]
    count = graph.node("ReduceSum", counted, graph.numbers(1), keepdims=0)
    some = graph.node("Max", count, graph.numbers(1))
    compact, states = _operator(
        graph, layer, _rows(graph, x, order, graph.dims(x, 2)), graph.node("Cast", some, to=6), initial, False
    )
    index = graph.node("CumSum", counted, graph.numbers(1), reverse=int(layer.reverse))
    before = graph.node("Unsqueeze", initial[0], graph.numbers(1))
    outputs = _rows(graph, graph.node("Concat", before, compact, axis=1), index, graph.numbers(layer.units))
    read = graph.node("Unsqueeze", graph.node("Equal", some, count), graph.numbers(1))
    return outputs, [graph.node("Where", read, s, old) for s, old in zip(states, initial, strict=True)]


def _rows(graph: Graph, x: str, index: str, width: str) -> str:
    """Gather x (N, T, D) at the timesteps ``index`` (N, T')."""
    wide = graph.node(
        "Expand", graph.node("Unsqueeze", index, graph.numbers(2)), graph.shape(graph.dims(index, 0), width)
    )
    return graph.node("GatherElements", x, wide, axis=1)


def _apart(graph: Graph, rows: str, axes: int, layer: PrunedRecurrentLayer) -> str:
    """Reshape the rows of all modules to (K, N, ...) with ``axes`` axes."""
    k, rest = layer.modules_count, graph.dims(rows, 1)
    if not layer.interleaved:
        return graph.reshape(rows, k, -1, rest)
    return graph.permuted(graph.reshape(rows, -1, k, rest), 1, 0, *range(2, axes))


def _together(graph: Graph, values: str, axes: int, layer: PrunedRecurrentLayer) -> str:
    """Reshape (K, N, ...) to rows, in the original order."""
    if layer.interleaved:
        values = graph.permuted(values, 1, 0, *range(2, axes))
    return graph.reshape(values, -1, graph.dims(values, 2))
