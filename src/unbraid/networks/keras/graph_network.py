"""A Keras model that runs as a graph: its description and weights as a network."""

from __future__ import annotations

from torch import Tensor

from unbraid.errors import ConfigError, FormatError, UnsupportedLayer, quoted
from unbraid.networks.graph.module import KerasGraph
from unbraid.networks.graph_spec import GraphSpec, KerasSpec
from unbraid.networks.keras.config import shown
from unbraid.networks.keras.files import SavedModel
from unbraid.networks.keras.graph_dense import graph_dense
from unbraid.networks.keras.graph_heads import head_of
from unbraid.networks.keras.graph_reading import ReadGraph, read_graph
from unbraid.networks.keras.heads import output_of
from unbraid.networks.keras.loss import Loss, read_loss
from unbraid.networks.keras.wiring import Wiring, wired
from unbraid.networks.outputs import GivenTask
from unbraid.networks.pytorch.body import layer_names
from unbraid.networks.stage_spec import DenseSpec, RecurrentSpec
from unbraid.networks.torch_spec import TorchLayerSpec


def read_graph_network(
    saved: SavedModel, task: GivenTask | None = None, output: str | None = None
) -> tuple[KerasSpec, dict[str, Tensor], Loss]:
    """Return the description of the network, its weights, and the training loss of the output.

    Args:
        saved: the file.
        task: the task that the user stated; None decides by the loss.
        output: name of the output layer of a model with several outputs.

    Raises:
        UnsupportedLayer: a layer that cannot be run exactly, or outputs that may be scores or numbers.
        FormatError: the configuration or the weights are not what Keras writes.
        ConfigError: ``output`` is no output of the model, or is missing where there are several.
    """
    wiring = wired(saved.model, saved.keras, saved.live is not None)
    name = _chosen(wiring, output)
    read = read_graph(saved, wiring, wiring.outputs[name])
    number, head, read = head_of(saved.file, read)
    loss = read_loss(saved.compiled, name, list(wiring.outputs))
    spec = _spec(saved, read, number, head)
    spec = spec.model_copy(update={"output": output_of(saved.file, head, loss, task)})
    weights = {f"body.module.{key}": weight for key, weight in read.weights.items()}
    weights |= {f"head.{key}": read.weights[f"{head.name}.{key}"] for key in ("weight", "bias")}
    return spec, weights, loss


def _chosen(wiring: Wiring, output: str | None) -> str:
    names = list(wiring.outputs)
    if not names:
        raise FormatError(f"{wiring.file}: the model has no output, expected at least one.")
    if output is None and len(names) == 1:
        return names[0]
    if output is None:
        raise ConfigError(
            f"{wiring.file}: the model has {len(names)} outputs, {shown(names)}: choose one, for example "
            f"output={shown(names[0])} in unbraid.load."
        )
    if output not in names:
        raise ConfigError(f"output={quoted(output)!r}: {wiring.file} has the outputs {shown(names)}.")
    return output


def _spec(saved: SavedModel, read: ReadGraph, number: int, head: DenseSpec) -> KerasSpec:
    """Return the description, without the output activation."""
    graph = read.spec
    features = read.reads[number][0]
    if sum(call.layer == head.name for call in graph.calls) > 1:
        raise UnsupportedLayer(f"{saved.file}: the output layer {shown(head.name)} is called several times.")
    if features.dim() not in (2, 3):
        raise UnsupportedLayer(
            f"{saved.file}: the output layer {shown(head.name)} reads values of shape {tuple(features.shape[1:])}; "
            "supported: (F,) or (T, F)."
        )
    layers, dense = recurrent_specs(graph), graph_dense(graph, head.name)
    if not layers and not dense:
        raise UnsupportedLayer(
            f"{saved.file}: the model has no recurrent layer that can be decomposed; supported: SimpleRNN, LSTM and "
            "GRU, also bidirectional, that are called once, over whole sequences, and hidden Dense layers that are "
            "called once."
        )
    return KerasSpec(
        module=quoted(saved.model.get("class_name"), 40),
        layers=layers,
        dense=dense,
        head=head.name,
        features=head.inputs,
        classes=head.units,
        output="softmax",
        many_outputs=features.dim() == 3,
        time_first=False,
        axes=[len(given.shape) + 1 for given in graph.inputs],
        batch_axis=0,
        graph=graph,
        steps=graph.inputs[0].shape[0] if len(graph.inputs) == 1 else None,
    )


def recurrent_specs(graph: GraphSpec) -> list[TorchLayerSpec]:
    """Describe the recurrent layers of a graph that can be decomposed, direction by direction."""
    layers = []
    recurrent = {layer.name: layer for layer in graph.layers if isinstance(layer, RecurrentSpec)}
    for site, stack in KerasGraph.stacks_of(graph).items():
        for layer_name, layer in zip(layer_names(site, stack), stack.layers, strict=True):
            one = recurrent[site]
            layers.append(
                TorchLayerSpec(name=layer_name, site=site, cell=one.cell, inputs=layer.inputs, units=one.units)
            )
    return layers
