"""Smaller copies of a Keras model that is a graph of layers, as networks. Shapes: N examples, T timesteps, H units."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from unbraid.decomposition.shrinking.merged import check_any_smaller, is_merged
from unbraid.decomposition.shrinking.narrowing import Plan
from unbraid.decomposition.shrinking.sources import Source
from unbraid.decomposition.shrinking.torch_modules import TorchShrinker
from unbraid.decomposition.shrinking.wrapped_graph import ShrunkGraphLayer
from unbraid.networks.graph.module import KerasGraph
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.graph.rewiring import Narrowed, rewired
from unbraid.networks.graph_spec import GraphLayer, GraphSpec, KerasSpec, PerTimestepSpec
from unbraid.networks.inputs import Inputs
from unbraid.networks.keras.graph_dense import graph_dense
from unbraid.networks.keras.graph_network import recurrent_specs
from unbraid.networks.network import Network
from unbraid.networks.pytorch.replacing import copied
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec


class GraphShrinker(TorchShrinker):
    """Observe a Keras graph once, and make smaller copies of it.

    Args:
        network: made of a Keras file whose layers are a graph.
        x: its inputs.
        refine: number of steps of distillation.
        seed: seed of the choice of examples.
        dense: whether hidden dense layers get smaller too.

    Raises:
        DataError: the graph does not run on x.
        UnsupportedLayer: no layer can be made smaller.
    """

    def __init__(self, network: Network, x: Inputs, refine: int, seed: int, dense: bool = True) -> None:
        assert isinstance(network.spec, KerasSpec)
        self.network, self.spec = network, network.spec
        sources = [Source(self.spec.head, output=self.spec.output)]
        super().__init__(graph_of(network), x, sources, "auto", refine, seed, dense=dense)
        check_any_smaller(network, [*(self.stacks.keys() - self._merged()), *self.hidden], not dense)

    def make(self, keep: float) -> Network:
        """Make a network whose layers keep the share ``keep`` of their hidden units, in (0, 1]."""
        plan = self._plan(keep, self._kept(keep))
        return self._network(self._fitted(plan) if plan.kept else self.parent)

    def _plan(self, keep: float, kept: dict[str, list[Tensor]]) -> Plan:
        """Plan smaller layers: recurrent ones with an expansion of their outputs, and linear ones."""
        return self._with_linears(Plan(kept), keep, [])

    def _opened(self, module: nn.Module) -> tuple[nn.Module, dict[str, nn.Module], torch.dtype]:
        own = copied(module).cpu().eval()
        sites = {name: part for name, part in own.named_children() if isinstance(part, KerasRecurrent)}
        return own, {**sites}, next(own.parameters()).dtype

    def _stack(self, part: nn.Module) -> RecurrentStack:
        assert isinstance(part, KerasRecurrent)
        return part

    def _steps(self, path: str) -> int:
        return max(made.args[0].shape[:2].numel() for made in self.recorded.calls[path])

    def _kept(self, keep: float, tied: bool = False) -> dict[str, list[Tensor]]:
        """Choose the kept units. Directions whose outputs are merged unit by unit keep all of them."""
        merged = self._merged()
        return {name: units for name, units in super()._kept(keep, tied).items() if name not in merged}

    def _merged(self) -> set[str]:
        return {name for name, p in self.stacks.items() if isinstance(p, KerasRecurrent) and is_merged(p.spec)}

    def _network(self, small: nn.Module) -> Network:
        assert isinstance(small, KerasGraph)
        graph, weights = rewired(_sized(small), *_smaller(small))
        own = {f"body.module.{name}": value for name, value in weights.items()}
        own |= {f"head.{name}": weights[f"{self.spec.head}.{name}"].clone() for name in ("weight", "bias")}
        features = own["head.weight"].shape[1]
        dense = {one.name: one for one in graph_dense(graph, self.spec.head)}  # they may read fewer inputs now
        dense_specs = [
            dense[one.name].model_copy(update={"chained": one.chained}) for one in self.spec.dense if one.name in dense
        ]
        changes = {"graph": graph, "features": features, "layers": recurrent_specs(graph), "dense": dense_specs}
        network = self.network
        made = Network(self.spec.model_copy(update=changes), own, network.labels, vocabulary=network.vocabulary)
        made.loss = network.loss
        return made.to(network.device)


def graph_of(network: Network) -> KerasGraph:
    """Copy the graph of a network, with its weights and plain output layer."""
    assert isinstance(network.spec, KerasSpec)
    with torch.device("meta"):
        graph = KerasGraph(network.spec.graph)
    start = "body.module."
    own = {n.removeprefix(start): w.clone() for n, w in network.weights().items() if n.startswith(start)}
    graph.load_state_dict(own, assign=True)
    return graph.requires_grad_(False).eval()


def _smaller(graph: KerasGraph) -> tuple[dict[str, Tensor], dict[str, Narrowed]]:
    """Return the weights of a graph without the expansions of its smaller layers, and these layers."""
    shrunk = {name: part for name, part in graph.named_children() if isinstance(part, ShrunkGraphLayer)}
    weights = {}
    for name, value in graph.state_dict().items():
        layer, _, rest = name.partition(".")
        if layer not in shrunk:
            weights[name] = value.detach()
        elif rest.startswith("layer."):
            weights[f"{layer}.{rest.removeprefix('layer.')}"] = value.detach()
    return weights, {name: _narrowed(part) for name, part in shrunk.items()}


def _sized(graph: KerasGraph) -> GraphSpec:
    """Describe a graph with the sizes that its layers have now; rewiring sets the units of smaller recurrent layers."""
    layers: list[GraphLayer] = []
    for layer in graph.spec.layers:
        part = graph.get_submodule(layer.name)
        if isinstance(layer, DenseSpec) and isinstance(part, nn.Linear):
            layer = layer.model_copy(update={"inputs": part.in_features, "units": part.out_features})
        elif isinstance(layer, RecurrentSpec) and isinstance(part, KerasRecurrent | ShrunkGraphLayer):
            layer = layer.model_copy(update={"inputs": part.input_size})
        elif isinstance(layer, PerTimestepSpec):
            layer = layer.model_copy(update={"graph": _sized(cast(KerasGraph, part))})
        layers.append(layer)
    return graph.spec.model_copy(update={"layers": layers})


def _narrowed(part: ShrunkGraphLayer) -> Narrowed:
    units = part.layer.hidden_size
    assert isinstance(units, int)
    cell = None if part.cell is None else list(part.cell.detach())
    return Narrowed(units, list(part.kept), list(part.hidden.detach()), cell, part.shifted)
