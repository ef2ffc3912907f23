"""Convert a composition to one ONNX graph: its groups of modules, the calibration, and the referee.

A group of a network of stages is written node by node. A group of a PyTorch module is traced, and its graph is included
in the same file. Shapes: N examples, T timesteps, F features, K modules, k of them in a group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.errors import UnbraidError
from unbraid.export.domain import DomainInput, voted
from unbraid.export.graph import Graph
from unbraid.export.network import Signal, averaged, margin, opening, rest
from unbraid.export.pytorch import find_orders, traced
from unbraid.export.readers import WORDS, Reader, input_sizes, reader_key
from unbraid.modules.composition import Composition
from unbraid.modules.groups import Group
from unbraid.networks.inputs import leaves
from unbraid.networks.network import Network
from unbraid.networks.outputs import OUTPUTS
from unbraid.networks.spec import NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RepeatSpec
from unbraid.networks.stages import StageSequence


@dataclass(frozen=True)
class Found:
    """The values of a group in the graph.

    Attributes:
        margins: for each module (N, [T,] 1).
        features: for each module (N, F), for a referee.
        read: blocks (N, D), for a referee.
    """

    margins: list[str]
    features: list[str]
    read: list[str]


class ReadByGroup(nn.Module):
    """Compute the margins of a composition from one tree of inputs for each reader, as the exported file does.

    Args:
        composition: the composition.
        readers: the readers.
        domain: the input of the domain evidence; None if the vote does not use it.
    """

    def __init__(self, composition: Composition, readers: Sequence[Reader], domain: DomainInput | None) -> None:
        super().__init__()
        self.composition, self._at, self._domain = composition, reader_of_groups(composition, readers), domain

    def forward(self, trees: Sequence[Any]) -> Tensor:
        own = self._domain
        logs = None if own is None else own.logs(next(v for v in leaves(trees[own.reader]) if isinstance(v, Tensor)))
        return self.composition.joint([trees[at] for at in self._at], logs)


def reader_of_groups(composition: Composition, readers: Sequence[Reader]) -> list[int]:
    """For each group of a composition, the position of its reader."""
    parents = [module.parent for module in composition.modules_by_label.values()]
    keys = {reader_key(reader.parents[0], parents): place for place, reader in enumerate(readers) if reader.parents}
    return [keys[reader_key(parents[group.places[0]], parents)] for group in _groups(composition)]


def composed(
    graph: Graph,
    composition: Composition,
    readers: Sequence[Reader],
    sizes: dict[str, list[int | str]],
    domain: DomainInput | None = None,
) -> list[str]:
    """Add the nodes of a composition.

    Args:
        graph: the graph.
        composition: the composition.
        readers: its inputs.
        sizes: the sizes of the inputs of traced groups are added, by name.
        domain: the input of the domain evidence; None if the vote does not use it.

    Returns:
        names of the margins and of the probabilities, (N, [T,] K); of a regression the name of the numbers.
    """
    found: list[tuple[list[int], Found]] = []
    for group, at in zip(_groups(composition), reader_of_groups(composition, readers), strict=True):
        reader = readers[at]
        one = _traced if reader.own else _written
        found.append((group.places, one(graph, group, composition, reader, sizes)))
    columns = {place: value for places, one in found for place, value in zip(places, one.margins, strict=True)}
    in_order = [columns[place] for place in sorted(columns)]
    if composition.task == "regression":
        parents = [module.parent for module in composition.modules_by_label.values()]
        activations = [OUTPUTS[parent.spec.output].activation for parent in parents]
        pairs = zip(in_order, activations, strict=True)
        return [graph.node("Concat", *(graph.activated(value, activation) for value, activation in pairs), axis=-1)]
    joined = graph.node("Concat", *in_order, axis=-1)
    scaled = graph.node("Div", joined, graph.constant(composition.temperature))
    margins = graph.node("Add", scaled, graph.constant(composition.offset))
    if domain is not None:
        if readers[domain.reader].name == WORDS:
            sizes[WORDS] = ["batch", "words"]
        margins = voted(graph, composition, margins, domain.nodes(graph))
    if composition.referee is not None:
        features = {place: block for places, one in found for place, block in zip(places, one.features, strict=True)}
        blocks = [features[place] for place in sorted(features)] + [block for _, one in found for block in one.read]
        margins = _refereed(graph, margins, blocks, composition.referee.weight, composition.referee.bias)
    return [margins, graph.node("Sigmoid", margins) if composition.independent else _shares(graph, margins)]


def _groups(composition: Composition) -> list[Group]:
    return list(composition.groups)  # type: ignore[arg-type]  # all are groups


def _shares(graph: Graph, margins: str) -> str:
    """Add the nodes of :meth:`Composition.shares`."""
    return graph.node("Softmax", graph.log_sigmoid(margins), axis=-1)


def _refereed(graph: Graph, margins: str, blocks: list[str], weight: Tensor, bias: Tensor) -> str:
    """Add the nodes of :meth:`Referee.forward`."""
    product = graph.linear(graph.node("Concat", *blocks, axis=-1), weight.t(), bias)
    return graph.one_against_rest(graph.node("Add", graph.log_sigmoid(margins), product), len(bias))


def _written(
    graph: Graph, group: Group, composition: Composition, reader: Reader, sizes: dict[str, list[int | str]]
) -> Found:
    """Add the nodes of a group of a network of stages."""
    judged = composition.referee is not None
    members = list(composition.modules_by_label.values())
    x, margins, features, read = reader.names[0], [], [], []
    bodies: list[StageSequence] = [lane.body for lane in group.lanes]  # type: ignore[misc]  # of a network of stages
    start = opening(graph, bodies[0], x, len(input_sizes(reader)))
    for lane, body in zip(group.lanes, bodies, strict=True):
        last, k = rest(graph, body, start), len(lane.heads)  # type: ignore[arg-type]  # a ModuleList
        apart = graph.reshape(last.values, k, -1, graph.dims(last.values, 1)) if lane.side_by_side else last.values
        for number, (place, head) in enumerate(zip(lane.places, lane.heads, strict=True)):  # type: ignore[arg-type]
            own = graph.pick(apart, number, 0) if lane.side_by_side else last.values
            value = margin(graph, head, own)
            if members[place].io.many_outputs and not composition.many_outputs:
                value = graph.node("ReduceMax", value, graph.numbers(1), keepdims=0)  # its best timestep
            margins.append(graph.node("Unsqueeze", value, graph.numbers(-1)))
            if judged:
                _check_masks(body, start)
                features.append(averaged(graph, Signal(own, start.mask, last.axes)))
    if judged:
        read.append(averaged(graph, start))
        read += _unknown(graph, x, members[group.places[0]].parent)
    sizes.setdefault(x, input_sizes(reader))
    return Found(margins, features, read)


def _check_masks(body: StageSequence, start: Signal) -> None:
    if start.mask is not None and any(isinstance(spec, RepeatSpec) for spec in body.specs):
        raise UnbraidError(
            "a referee over a network that masks padding and repeats its state cannot be exported: export "
            "composition.without_referee()."
        )


def _unknown(graph: Graph, x: str, parent: Network) -> list[str]:
    """Add the nodes for the share of unknown words, (N, 1), if the vocabulary has an index for them."""
    padding = None if parent.vocabulary is None else parent.vocabulary.padding
    embeds = isinstance(parent.spec, NetworkSpec) and isinstance(parent.spec.stages[0], EmbeddingSpec)
    if padding is None or padding.unknown is None or not embeds:
        return []
    words = graph.node("Not", graph.node("Equal", x, graph.numbers(padding.index)))
    unknown = graph.node("Equal", x, graph.numbers(padding.unknown))
    counts = [graph.node("ReduceSum", graph.node("Cast", v, to=1), graph.numbers(1)) for v in (unknown, words)]
    return [graph.node("Div", counts[0], graph.node("Max", counts[1], graph.constant(torch.ones(1))))]


class _GroupOutputs(nn.Module):
    """The values of a group of a PyTorch module, for tracing: margins (N, [T,] k), then features and blocks."""

    def __init__(self, group: Group, judged: bool, many: bool) -> None:
        super().__init__()
        self.group, self._judged, self._many = group, judged, many

    def forward(self, x: Any) -> tuple[Tensor, ...]:
        if self._judged:
            found = self.group.evidence(x)
            return found.margins, *found.features, *found.read
        margins = self.group(x)
        if margins.dim() == 3 and not self._many:
            margins = margins.nan_to_num(-torch.inf).amax(dim=1)  # its best timestep
        return (margins,)


def _traced(
    graph: Graph, group: Group, composition: Composition, reader: Reader, sizes: dict[str, list[int | str]]
) -> Found:
    """Include the traced graph of a group of a PyTorch module."""
    judged, k = composition.referee is not None, len(group.places)
    module = _GroupOutputs(group, judged, composition.many_outputs).eval()
    blocks = 1 + (k + len(group.read_sizes) if judged else 0)
    find_orders(module, reader.inputs)
    outputs, fixed = [f"value_{n}" for n in range(blocks)], reader.batch is not None
    proto = traced(module, reader.inputs, reader.names, outputs, fixed)
    for value in proto.graph.input:
        sizes.setdefault(value.name, [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim])
    values = graph.include(proto, reader.names)
    columns = [graph.slice(values[0], -1, n, n + 1 if n + 1 < k else None) for n in range(k)]
    return Found(columns, values[1 : k + 1], values[k + 1 :])
