"""Convert networks to ONNX graphs.

There are two routes. Both use :mod:`unbraid.export.recurrent` for recurrent layers, because the exporter of PyTorch
unrolls recurrences (a minute for 60 timesteps) or fails for dynamic lengths.

- The stages of a network are written node by node in this file. This takes milliseconds and needs ``onnx`` only.
- A PyTorch module is traced by ``torch.onnx.export`` with placeholders for its recurrent layers. The placeholders are
  then replaced by the same nodes (:mod:`unbraid.export.pytorch`). This takes seconds.

Rolled networks and modules become RNN, GRU and LSTM operators. Unrolled modules become a Scan with masks. Shapes: N
examples, T timesteps, D features, F features of the output layer, H hidden units, K modules in one batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import singledispatch
from typing import Any

import torch
from torch import nn

from unbraid.export.graph import IR_VERSION, OPSET, Graph
from unbraid.export.recurrent import recurrent
from unbraid.networks.heads import Head
from unbraid.networks.recurrent import PrunedRecurrentLayer
from unbraid.networks.stage_spec import ActivationSpec
from unbraid.networks.stages import (
    Dense,
    Embedding,
    Flatten,
    Masking,
    PrunedDense,
    Recurrent,
    Repeat,
    StageSequence,
)

Dims = Sequence[int | str]


@dataclass(frozen=True)
class Signal:
    """The output of a stage: values, a mask (N, T) or None, and the number of axes of the values."""

    values: str
    mask: str | None
    axes: int


def features(graph: Graph, body: StageSequence, x: str, axes: int) -> str:
    """Add the nodes of all stages; return the features of the output layer, (K*N, F) or (K*N, T, F).

    Args:
        graph: the graph.
        body: the stages.
        x: the inputs.
        axes: number of axes of the inputs.
    """
    return rest(graph, body, opening(graph, body, x, axes)).values


def opening(graph: Graph, body: StageSequence, x: str, axes: int) -> Signal:
    """Add the nodes of :meth:`StageSequence.opening`; arguments as of :func:`features`."""
    return _through(graph, body, slice(len(body.opening_stages())), Signal(x, None, axes))


def rest(graph: Graph, body: StageSequence, signal: Signal) -> Signal:
    """Add the nodes of :meth:`StageSequence.rest`; the values are the features of the output layer."""
    return _through(graph, body, slice(len(body.opening_stages()), None), signal)


def averaged(graph: Graph, signal: Signal) -> str:
    """Add the nodes that average finite values (N, [T,] F) over the timesteps that the mask includes: (N, F)."""
    wrong = graph.node("Or", graph.node("IsNaN", signal.values), graph.node("IsInf", signal.values))
    values = graph.node("Where", wrong, graph.constant(torch.zeros(1)), signal.values)
    if signal.axes == 2:
        return values
    if signal.mask is None:
        return graph.node("ReduceMean", values, graph.numbers(1), keepdims=0)
    counted = graph.node("Unsqueeze", graph.node("Cast", signal.mask, to=1), graph.numbers(-1))
    total = graph.node("ReduceSum", graph.node("Mul", values, counted), graph.numbers(1), keepdims=0)
    count = graph.node("ReduceSum", counted, graph.numbers(1), keepdims=0)
    return graph.node("Div", total, graph.node("Max", count, graph.constant(torch.ones(1))))


def _through(graph: Graph, body: StageSequence, part: slice, signal: Signal) -> Signal:
    for spec, stage in zip(body.specs[part], body.stages[part], strict=True):
        graph.prefix = f"{spec.name}/"
        if isinstance(spec, ActivationSpec):
            signal = replace(signal, values=graph.activated(signal.values, spec.activation))
        else:
            signal = stage_nodes(stage, graph, signal)
    graph.prefix = ""
    return signal


def margin(graph: Graph, head: Head, x: str) -> str:
    """Add the nodes of :meth:`Head.margin`."""
    unused = head.weight.new_zeros(head.idle, head.weight.shape[1])  # zero rows give logits of 0, as idle columns do
    rows = graph.linear(x, torch.cat([head.weight, unused]), torch.cat([head.bias, head.bias.new_zeros(head.idle)]))
    dominant = graph.pick(rows, 0, -1)
    if head.weight.shape[0] + head.idle == 1:
        return dominant
    others = graph.node("ReduceLogSumExp", graph.slice(rows, -1, 1), graph.numbers(-1), keepdims=0)
    return graph.node("Sub", dominant, others)


def linear(graph: Graph, layer: nn.Linear, x: str) -> str:
    """Add the nodes of an output layer."""
    return graph.linear(x, layer.weight, layer.bias)


@singledispatch
def stage_nodes(stage: nn.Module, graph: Graph, signal: Signal) -> Signal:
    """Add the nodes of one stage."""
    raise TypeError(f"{type(stage).__name__} is not a stage")


@stage_nodes.register
def _(stage: Embedding, graph: Graph, signal: Signal) -> Signal:
    mask = None
    if stage.mask_zero:
        mask = graph.node("Not", graph.node("Equal", signal.values, graph.numbers(0)))
    return Signal(graph.node("Gather", graph.constant(stage.weight), signal.values), mask, 3)


@stage_nodes.register
def _(stage: Masking, graph: Graph, signal: Signal) -> Signal:
    same = graph.node("Equal", signal.values, graph.constant(torch.tensor([stage.value])))
    differs = graph.node("Cast", graph.node("Not", same), to=1)
    any_does = graph.node("ReduceMax", differs, graph.numbers(-1))
    mask = graph.node("Squeeze", graph.node("Cast", any_does, to=9), graph.numbers(-1))
    return Signal(graph.node("Mul", signal.values, any_does), mask, 3)


@stage_nodes.register
def _(stage: Flatten, graph: Graph, signal: Signal) -> Signal:
    return Signal(graph.node("Flatten", signal.values), None, 2)


@stage_nodes.register
def _(stage: Repeat, graph: Graph, signal: Signal) -> Signal:
    one = graph.node("Unsqueeze", signal.values, graph.numbers(1))
    return Signal(graph.node("Expand", one, graph.numbers(1, stage.times, 1)), None, 3)


@stage_nodes.register
def _(stage: Dense, graph: Graph, signal: Signal) -> Signal:
    values = graph.linear(signal.values, stage.weight, stage.bias)
    return replace(signal, values=graph.activated(values, stage.activation))


@stage_nodes.register
def _(stage: PrunedDense, graph: Graph, signal: Signal) -> Signal:
    signal = stage_nodes(stage.dense, graph, signal)
    kept = stage.kept.unsqueeze(1) if signal.axes == 3 else stage.kept[:, -1:]
    modules = 1 if stage.opens else stage.kept.shape[0]
    return replace(signal, values=_times(graph, signal.values, graph.constant(kept), modules))


@stage_nodes.register
def _(stage: Recurrent, graph: Graph, signal: Signal) -> Signal:
    values, state = recurrent(stage.forward_layer, graph, signal.values, signal.mask, [])
    if stage.flip:
        values = graph.flip(values, 1)
    result = values if stage.sequences else state[0]
    if stage.backward_layer is not None:
        values, state = recurrent(stage.backward_layer, graph, signal.values, signal.mask, [])
        result = _merged(graph, stage.merge, result, values if stage.sequences else state[0])
        if signal.mask is not None and stage.sequences:
            here = graph.node("Unsqueeze", graph.node("Cast", signal.mask, to=1), graph.numbers(2))
            if isinstance(stage.forward_layer, PrunedRecurrentLayer):
                result = _times(graph, result, here, stage.forward_layer.modules_count)
            else:
                result = graph.node("Mul", result, here)
    return Signal(result, signal.mask if stage.sequences else None, 3 if stage.sequences else 2)


def _merged(graph: Graph, merge: str, a: str, b: str) -> str:
    if merge == "concat":
        return graph.node("Concat", a, b, axis=-1)
    result = graph.node("Mul" if merge == "mul" else "Add", a, b)
    return graph.node("Mul", result, graph.constant(torch.tensor([0.5]))) if merge == "ave" else result


def _times(graph: Graph, values: str, by: str, modules: int) -> str:
    """Multiply values (K*N, ...) by ``by``, which is broadcast to (K, N, ...); K may be 1 in the values alone."""
    apart = graph.reshape(values, modules, -1, graph.dims(values, 1))
    return graph.reshape(graph.node("Mul", apart, by), -1, graph.dims(values, 1))


def model_proto(graph: Graph, inputs: Mapping[str, tuple[Any, Dims]], outputs: Mapping[str, tuple[str, Dims]]) -> Any:
    """Make the ONNX model.

    Args:
        graph: all nodes.
        inputs: name -> (torch dtype, sizes); a dynamic size is given by its name.
        outputs: name -> (value, sizes).
    """
    from onnx import TensorProto, helper

    kinds = {
        torch.int64: TensorProto.INT64,
        torch.int32: TensorProto.INT32,
        torch.float32: TensorProto.FLOAT,
        torch.float64: TensorProto.DOUBLE,
        torch.bool: TensorProto.BOOL,
    }
    nodes = [*graph.nodes, *(helper.make_node("Identity", [v], [name]) for name, (v, _) in outputs.items())]
    proto = helper.make_graph(
        nodes,
        "unbraid",
        [helper.make_tensor_value_info(n, kinds[dtype], dims) for n, (dtype, dims) in inputs.items()],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, dims) for n, (_, dims) in outputs.items()],
        graph.tensors(),
    )
    return helper.make_model(
        proto, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="unbraid"
    )
