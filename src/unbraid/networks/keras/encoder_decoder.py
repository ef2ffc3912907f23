"""Keras' encoder-decoders: a Functional model of two inputs, the decoder's layers started from the encoder's states.

What each layer is follows from what it reads, never from its name: back from the output to the target words, and from
the first states of the decoder's layers to the source words. In Keras' files states are the outputs 1 (h) and 2 (c).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras.config import Config, LayerConfig, shown
from unbraid.networks.keras.conversion import Translation
from unbraid.networks.keras.files import SavedModel
from unbraid.networks.keras.graph import INPUT, Graph, call, is_list_of_tensors, source
from unbraid.networks.keras.layers import translate
from unbraid.networks.keras.loss import read_loss, task_by
from unbraid.networks.keras.recurrent import KINDS
from unbraid.networks.keras.weights import Place, Variable
from unbraid.networks.outputs import GivenTask
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, EmbeddingSpec, RecurrentSpec

_STATES = {"SimpleRNN": 1, "GRU": 1, "LSTM": 2}


def two_inputs(saved: SavedModel) -> bool:
    """Return whether the model is Functional with two inputs: an encoder-decoder, or a model that is not supported."""
    if saved.model.get("class_name") not in ("Functional", "Model"):
        return False
    inputs = Config(saved.file, "the model", saved.model.get("config")).get("input_layers")
    return isinstance(inputs, list) and len(inputs) == 2 and all(isinstance(i, list) for i in inputs)


def read_encoder_decoder(
    saved: SavedModel, task: GivenTask | None = None
) -> tuple[EncoderDecoderSpec, dict[str, Tensor]]:
    """Its spec, which names no languages, and its weights.

    Args:
        saved: the file.
        task: what the user stated; None decides by the loss.

    Raises:
        UnsupportedLayer: the model is no encoder-decoder that Unbraid runs.
        FormatError: the configuration or the weights are not what Keras writes.
    """
    graph = Graph(Config(saved.file, "the model", saved.model.get("config")), saved.keras)
    decoder = _chain(graph, graph.end("output_layers"))
    recurrent = [layer for layer in decoder if layer.kind in KINDS]
    if not recurrent:
        raise UnsupportedLayer(f"{saved.file}: the model has two inputs and no recurrent decoder.")
    starters = [_starter(graph, layer) for layer in recurrent]
    encoder = _chain(graph, starters[-1])
    own = [layer for layer in encoder if layer.kind in KINDS]
    if [layer.name for layer in own] != [layer.name for layer in starters]:
        raise UnsupportedLayer(
            f"{saved.file}: the decoder starts from {shown([s.name for s in starters])}, the encoder has "
            f"{shown([layer.name for layer in own])}; supported: states passed on layer by layer."
        )
    inputs = [encoder[0].name, decoder[0].name]
    if inputs != [source(graph.model, end)[0] for end in graph.ends("input_layers")]:
        raise UnsupportedLayer(
            f"{saved.file}: inputs are {shown(inputs)}; supported: the source first, then the target."
        )
    for side, chain in (("encoder", encoder), ("decoder", decoder)):
        if len(chain) > 1 and chain[1].kind != "Embedding":
            raise chain[1].unsupported(
                f"is the first layer of the {side} and reads vectors (one-hot words?)", "an Embedding of word indices"
            )
    masks = graph.check_masks(encoder) | graph.check_masks(decoder)
    graph.check_rest({layer.name for layer in [*encoder, *decoder]} | masks)
    read = _Reader(saved, graph)
    return _assembled(saved, [read.side(encoder), read.side(decoder)], task)


def _chain(graph: Graph, layer: LayerConfig) -> list[LayerConfig]:
    """From an input to ``layer``, along what each layer reads first."""
    found = [layer]
    while layer.kind != INPUT:
        arguments, _ = call(layer)
        first = arguments[0] if arguments else None
        if isinstance(first, list) and first and isinstance(first[0], list):
            first = first[0]  # Keras 2: everything in one list
        name, output = source(layer, first)
        layer = graph.layer(name)
        if output != 0:
            raise layer.unsupported("has a state that is read like outputs", "states as first states alone")
        if layer in found:
            raise FormatError(f"{layer.file}: {layer.where} reads its own output; expected a chain of layers.")
        found.append(layer)
    return found[::-1]


def _starter(graph: Graph, layer: LayerConfig) -> LayerConfig:
    """Return the encoder's layer whose last state a decoder's layer starts from."""
    arguments, settings = call(layer)
    states: Any = settings.get("initial_state")
    if states is None:
        arguments = arguments[0] if len(arguments) == 1 and is_list_of_tensors(arguments[0]) else arguments
        states = arguments[1:]
    states = states if is_list_of_tensors(states) else [states]
    found = [source(layer, state) for state in states]
    wanted = [(found[0][0], 1 + k) for k in range(_STATES[layer.kind])] if found else []
    if not found or found != wanted:
        raise layer.unsupported(
            f"starts from {shown(found)}", "the whole last state of one layer of the encoder (return_state=True)"
        )
    starter = graph.layer(found[0][0])
    if starter.kind != layer.kind:
        raise layer.unsupported(f"starts from the state of {starter.where}", "the state of a layer of its own kind")
    return starter


class _Reader:
    """Translates layers, each with the variables of its turn among the layers of its class."""

    def __init__(self, saved: SavedModel, graph: Graph) -> None:
        self.saved = saved
        self.counts = Counter(layer.kind for layer in graph.layers.values())
        seen: Counter[str] = Counter()
        self.turns: dict[str, int] = {}
        for layer in graph.layers.values():
            self.turns[layer.name] = seen[layer.kind]
            seen[layer.kind] += 1

    def side(self, chain: list[LayerConfig]) -> list[Translation]:
        """Return the stages of an encoder or a decoder."""
        shape: tuple[int | None, ...] = (None,)
        stages = []
        recurrent = sum(layer.kind in KINDS for layer in chain)
        for layer in chain[1:]:
            stage = translate(_stateless(layer, recurrent), shape, self._variables_of(layer))
            shape = stage.shape
            if stage.spec is not None:
                stages.append(stage)
        return stages

    def _variables_of(self, layer: LayerConfig) -> Any:
        def read(variables: Sequence[Variable]) -> list[np.ndarray]:
            place = Place(layer.name, layer.kind, self.turns[layer.name], self.counts[layer.kind])
            return self.saved.weights.arrays([place], variables)

        return read


def _stateless(layer: LayerConfig, recurrent: int) -> LayerConfig:
    """Return a recurrent layer with all outputs and without states, which the body passes on."""
    if layer.kind not in KINDS:
        return layer
    if layer.flag("go_backwards") and recurrent > 1:
        raise layer.unsupported("has go_backwards", "it in an encoder of one layer alone")
    settings = {**layer.values, "return_state": False, "return_sequences": True}
    return LayerConfig(layer.file, {**layer.outer.values, "config": settings}, layer.keras, layer.where)


def _assembled(
    saved: SavedModel, sides: list[list[Translation]], task: GivenTask | None
) -> tuple[EncoderDecoderSpec, dict[str, Tensor]]:
    file, (encoder, decoder) = saved.file, sides
    softmax = (
        bool(decoder) and isinstance(decoder[-1].spec, ActivationSpec) and decoder[-1].spec.activation == "softmax"
    )
    decoder = decoder[:-1] if softmax else decoder
    head = decoder[-1].spec if decoder else None
    if not isinstance(head, DenseSpec) or head.activation not in ("softmax", "linear"):
        raise UnsupportedLayer(f"{file}: a decoder ends with a Dense over its words, softmax or linear (logits).")
    loss = read_loss(saved.compiled, head.name)
    activation = "softmax" if softmax else head.activation  # without a loss, a decoder of words gives scores of words
    if loss.name is not None and task_by(file, head.name, activation, loss, task) == "regression":
        raise UnsupportedLayer(
            f"{file}: its decoder reads words, so its outputs are scores of words, expected task='classification'; "
            "found a regression by its loss or task=."
        )
    weights = {f"head.{name}": w for name, w in decoder[-1].weights.items()}
    parts: dict[str, Any] = {}
    for (words, layers), stages in zip((("source", "encoder"), ("target", "decoder")), (encoder, decoder[:-1]),
                                       strict=True):  # fmt: skip
        if not stages or not isinstance(stages[0].spec, EmbeddingSpec):
            raise UnsupportedLayer(f"{file}: an encoder and a decoder each begin with an Embedding of words.")
        first, rest = stages[0], stages[1:]
        wrong = [stage.spec for stage in rest if not isinstance(stage.spec, RecurrentSpec)]
        if wrong or not 1 <= len(rest) <= 4:
            found = [stage.spec.type for stage in rest if stage.spec is not None]
            raise UnsupportedLayer(f"{file}: {layers} of {found}; supported: 1 to 4 recurrent layers of one direction.")
        parts |= {words: stages[0].spec, layers: [stage.spec for stage in rest]}
        weights |= {f"body.{words}.{name}": w for name, w in first.weights.items()}
        for number, stage in enumerate(rest):
            own = {name.removeprefix("forward_layer."): w for name, w in stage.weights.items()}
            weights |= {f"body.{layers}.{number}.{name}": w for name, w in own.items()}
    return EncoderDecoderSpec(**parts, head=head.name, features=head.inputs, classes=head.units), weights
