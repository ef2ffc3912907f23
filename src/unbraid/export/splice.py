"""Finish a traced graph: replace placeholders by recurrent layers, and name the sizes."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from unbraid.export.graph import Graph
from unbraid.export.recurrent import recurrent
from unbraid.networks.recurrent import PrunedRecurrentLayer

DOMAIN = "unbraid"  # domain of placeholder nodes; their attribute "number" is the index of the layer, others its call


def splice(proto: Any, layers: list[nn.Module]) -> None:
    """Replace each placeholder by the nodes of its recurrent layer."""
    from onnx import helper

    graph = Graph()
    for node in list(proto.graph.node):
        if node.domain != DOMAIN:
            graph.nodes.append(node)
            continue
        call = {a.name: a.i for a in node.attribute}
        number = call["number"]
        graph.prefix = f"recurrent{number}/"
        x, valid, *initial = node.input if len(node.input) > 1 else [*node.input, ""]
        values, states = recurrent(_called(layers[number], call), graph, x, valid or None, initial)
        for value, name in zip([values, *states], node.output, strict=True):
            graph.nodes.append(helper.make_node("Identity", [value], [name]))
    nodes = [copy.deepcopy(node) for node in graph.nodes]  # copies, because clearing the field empties its nodes
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(graph.tensors())
    for place in reversed(range(len(proto.opset_import))):
        if proto.opset_import[place].domain == DOMAIN:
            del proto.opset_import[place]


def _called(layer: nn.Module, call: dict[str, int]) -> nn.Module:
    """Return a layer as one call uses it: with the masks of the module that runs alone, and of the timesteps read."""
    if not isinstance(layer, PrunedRecurrentLayer) or not call.keys() & {"turn", "offset"}:
        return layer
    removal, modules = layer.removal, layer.modules_count
    if "turn" in call:
        removal, modules = removal.only(call["turn"]), 1
    if "offset" in call:
        removal = removal.later(call["offset"], call["steps"])
    return PrunedRecurrentLayer(layer.layer, removal, modules, layer.opens, layer.interleaved)


def name_sizes(proto: Any, axes: list[int | None]) -> None:
    """Name the dynamic sizes batch, time, time_2, ..."""
    names: dict[str, str] = {}
    for value, axis in zip(proto.graph.input, axes, strict=True):
        if axis is not None:
            names.setdefault(value.type.tensor_type.shape.dim[axis].dim_param, "batch")
    for value in [*proto.graph.input, *proto.graph.output]:
        for size in value.type.tensor_type.shape.dim:
            if size.dim_param.isdigit():  # torch found that it is constant
                size.dim_value = int(size.dim_param)
            elif size.dim_param:
                times = len(set(names.values()) - {"batch"})
                size.dim_param = names.setdefault(size.dim_param, f"time_{times + 1}" if times else "time")
