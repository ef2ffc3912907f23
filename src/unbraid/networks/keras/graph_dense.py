"""Find the hidden dense layers of a Keras graph whose units can be removed, from its description alone."""

from __future__ import annotations

from collections import Counter

from unbraid.networks.graph_spec import GraphSpec
from unbraid.networks.prunable import zero_at_zero
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec
from unbraid.networks.torch_spec import TorchDenseSpec


def graph_dense(graph: GraphSpec, head: str) -> list[TorchDenseSpec]:
    """Describe the hidden dense layers of a graph, in the order of its calls.

    A layer is one of them if it is called once and its activation maps 0 to 0. It is chained to another one, or to the
    output layer, if nothing else reads its output.

    Args:
        graph: layers and calls.
        head: name of the output layer.
    """
    layers = {layer.name: layer for layer in graph.layers}
    times = Counter(call.layer for call in graph.calls)
    readers: dict[int, list[str]] = {}
    for call in graph.calls:
        for number, _ in [*call.reads, *call.states, *(mask for mask in call.masks if mask is not None)]:
            readers.setdefault(number, []).append(call.layer)
    found: dict[str, TorchDenseSpec] = {}
    before, read = 0, dict[str, list[str]]()
    for place, call in enumerate(graph.calls):
        layer, number = layers[call.layer], len(graph.inputs) + place
        before += isinstance(layer, RecurrentSpec) and layer.name not in graph.fixed
        read[layer.name] = readers.get(number, []) + (["(result)"] if number == graph.output[0] else [])
        if not isinstance(layer, DenseSpec) or layer.name == head or times[layer.name] > 1 or layer.units == 1:
            continue
        if zero_at_zero(layer.activation):
            found[layer.name] = TorchDenseSpec(
                name=layer.name,
                inputs=layer.inputs,
                units=layer.units,
                rectified=layer.activation == "relu",
                after=before,
            )
    small = {*found, head}
    return [
        one.model_copy(update={"chained": read[name][0]}) if len(read[name]) == 1 and read[name][0] in small else one
        for name, one in found.items()
    ]
