"""Finish a traced graph: replace placeholders by recurrent layers, and name the sizes."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from unbraid.export.graph import Graph
from unbraid.export.recurrent import recurrent

DOMAIN = "unbraid"  # domain of placeholder nodes; their attribute "number" is the index of the layer


def splice(proto: Any, layers: list[nn.Module]) -> None:
    """Replace each placeholder by the nodes of its recurrent layer."""
    from onnx import helper

    graph = Graph()
    for node in list(proto.graph.node):
        if node.domain != DOMAIN:
            graph.nodes.append(node)
            continue
        number = next(a.i for a in node.attribute if a.name == "number")
        graph.prefix = f"recurrent{number}/"
        x, valid, *initial = node.input if len(node.input) > 1 else [*node.input, ""]
        values, states = recurrent(layers[number], graph, x, valid or None, initial)
        for value, name in zip([values, *states], node.output, strict=True):
            graph.nodes.append(helper.make_node("Identity", [value], [name]))
    nodes = [copy.deepcopy(node) for node in graph.nodes]  # copies, because clearing the field empties its nodes
    proto.graph.ClearField("node")
    proto.graph.node.extend(nodes)
    proto.graph.initializer.extend(graph.tensors())
    for place in reversed(range(len(proto.opset_import))):
        if proto.opset_import[place].domain == DOMAIN:
            del proto.opset_import[place]


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
