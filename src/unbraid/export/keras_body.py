"""Describe the body of a module of a Keras graph as a graph: smaller layers, without the units that were removed.

Shapes: T timesteps, D features, H units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from unbraid.errors import UnsupportedLayer, quoted
from unbraid.export.keras_layers import ZERO_AT_ZERO
from unbraid.networks.graph.module import KerasGraph, input_size
from unbraid.networks.graph.plain import head_call
from unbraid.networks.graph.recurrence import KerasRecurrent
from unbraid.networks.graph.rewiring import Narrowed, reachable, rewired
from unbraid.networks.graph_spec import GraphSpec, KerasSpec
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.linear_site import PrunedLinear
from unbraid.networks.recurrent import RecurrentLayer
from unbraid.networks.stack import RecurrentStack
from unbraid.networks.stage_spec import DenseSpec


def own_masks(spec: GraphSpec) -> GraphSpec:
    """Return a graph without the explicit masks that Embedding and Masking imply.

    Keras 3 stores every mask that a layer reads. Keras 2 and 3 compute the implied ones again.
    """
    plain = spec.model_copy(update={"calls": [call.model_copy(update={"masks": []}) for call in spec.calls]})
    implied: list[list[bool]] = []

    class Watched(KerasGraph):
        def run(self, name: str, x: list[Tensor], masks: list[Any], states: list[Tensor]) -> Any:
            implied.append([mask is not None for mask in masks])
            return super().run(name, x, masks, states)

    with torch.device("meta"):
        Watched(plain)(*[torch.zeros(input_size(given)) for given in spec.inputs])
    calls = []
    for call, known in zip(spec.calls, implied, strict=True):
        masks = [
            None if mask is None or (known[place] and mask[0] >= len(spec.inputs)) else mask
            for place, mask in enumerate(call.masks[: len(known)])
        ]
        calls.append(call.model_copy(update={"masks": masks if any(mask is not None for mask in masks) else []}))
    return spec.model_copy(update={"calls": calls})


def body_graph(body: TorchBody) -> tuple[GraphSpec, dict[str, Tensor]]:
    """Return the graph of a body up to the features of its output layer, and its weights.

    Layers of which units were removed are smaller; dense layers behind them set the removed units to zero.

    Raises:
        UnsupportedLayer: an unrolled module.
    """
    assert isinstance(body.spec, KerasSpec)
    graph = own_masks(body.spec.graph)
    spec = reachable(graph.model_copy(update={"output": graph.calls[head_call(graph, body.spec.head)].reads[0]}))
    weights = {name: value.detach() for name, value in body.module.state_dict().items()}
    narrowed = {}
    for name, stack in body.stacks().items():
        layers = [layer for layer in stack.layers if isinstance(layer, RecurrentLayer)]
        if len(layers) < len(stack.layers):
            raise UnsupportedLayer(
                f"layer {quoted(name)!r} has masks of its own (an unrolled module): use unbraid.export_onnx."
            )
        removed = any(kept is not None for kept in stack.kept)
        if removed and isinstance(stack, KerasRecurrent) and stack.bidirectional and stack.spec.merge != "concat":
            for place, layer in enumerate(layers):
                start = f"{name}.layers.{place}."
                weights |= {start + key: value for key, value in _spread(name, layer, stack, place).items()}
        elif removed:
            units = max(1, *(layer.units for layer in layers))
            for place, layer in enumerate(layers):
                start = f"{name}.layers.{place}."
                weights |= {start + key: value for key, value in _padded(layer, units).items()}
            narrowed[name] = _scattered(stack, units)
    spec, smaller = _smaller_dense(spec, body)
    return rewired(spec, weights, narrowed | smaller)


def _smaller_dense(spec: GraphSpec, body: TorchBody) -> tuple[GraphSpec, dict[str, Narrowed]]:
    """Give dense layers the sizes that they have now; return also those whose outputs are expanded to the old size."""
    sites, narrowed = body.sites(), {}
    layers = list(spec.layers)
    for place, layer in enumerate(layers):
        site = sites.get(layer.name)
        if site is None or not isinstance(layer, DenseSpec):
            continue
        if isinstance(body.module.get_submodule(layer.name), PrunedLinear):
            raise UnsupportedLayer(
                f"layer {quoted(layer.name)!r} has masks of its own (an unrolled module): use unbraid.export_onnx."
            )
        units, inputs = site.weight.shape
        layers[place] = layer.model_copy(update={"units": units, "inputs": inputs})
        if site.kept is not None:
            kept = site.kept.cpu()
            rows = torch.zeros(site.out_features, units + 1)
            rows[kept, torch.arange(units)] = 1
            narrowed[layer.name] = Narrowed(units, [kept], [rows], None, shifted=False)
    return spec.model_copy(update={"layers": layers}), narrowed


def _padded(layer: RecurrentLayer, units: int) -> dict[str, Tensor]:
    """Weights of a layer with further units that nothing reads and that read nothing."""
    gates, missing = len(layer.cell.gates), units - layer.units
    found = {}
    for name, value in layer.state_dict().items():
        rows = value.detach().unflatten(0, (gates, layer.units))
        columns = missing if name == "weight_hh" else 0
        sizes = [0, columns, 0, missing] if rows.dim() == 3 else [0, missing]
        found[name] = pad(rows, sizes).flatten(0, 1)
    return found


def _spread(name: str, layer: RecurrentLayer, stack: RecurrentStack, place: int) -> dict[str, Tensor]:
    """Weights of a layer of all units, those of removed units are zero: its outputs are merged unit by unit."""
    if layer.cell.activation not in ZERO_AT_ZERO:
        raise UnsupportedLayer(
            f"layer {quoted(name)!r} merges directions with removed units, and its activation "
            f"{layer.cell.activation!r} is not 0 at 0: use unbraid.export_onnx."
        )
    own = stack.kept[place]
    kept = torch.arange(stack.hidden_size) if own is None else own.cpu()
    rows = torch.cat([kept + gate * stack.hidden_size for gate in range(len(layer.cell.gates))])
    found = {}
    for key, value in layer.state_dict().items():
        wide = value.new_zeros(len(layer.cell.gates) * stack.hidden_size, *value.shape[1:])
        wide[rows] = value.detach()
        if key == "weight_hh":
            wide = wide.new_zeros(len(wide), stack.hidden_size).index_copy(1, kept, wide)
        found[key] = wide
    return found


def _scattered(stack: RecurrentStack, units: int) -> Narrowed:
    """Return the expansion of a smaller layer to zeros at the removed units."""
    kept, hidden = [], []
    for own in stack.kept:
        units_here = torch.arange(stack.hidden_size) if own is None else own.cpu()
        rows = torch.zeros(stack.hidden_size, units + 1)
        rows[units_here, torch.arange(len(units_here))] = 1
        hidden.append(rows)
        kept.append(torch.cat([units_here, units_here.new_zeros(units - len(units_here))]))
    return Narrowed(units, kept, hidden, hidden if stack.cell.kind == "lstm" else None)
