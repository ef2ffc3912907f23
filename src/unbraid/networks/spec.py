"""Descriptions of networks as plain data. Folders store them as JSON, and the Keras reader makes them."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from unbraid.networks.cells import Cell, OwnCell
from unbraid.networks.graph_spec import GraphLayer, GraphSpec, KerasSpec, LayerSpec, PerTimestepSpec
from unbraid.networks.outputs import OUTPUTS, Output
from unbraid.networks.stage_spec import DenseSpec, EmbeddingSpec, PlainSpec, RecurrentSpec, Size, StageSpec
from unbraid.networks.torch_spec import TorchLayerSpec, TorchSpec


class NetworkSpec(PlainSpec):
    """Stages in order, and the output layer after them.

    Attributes:
        stages: all layers before the output layer.
        features: number of inputs of the output layer, F.
        classes: number of columns of the output layer, C.
        output: ``softmax`` over C classes, ``sigmoid`` for C independent labels (one column: a binary decision), or C
            numbers, see :data:`unbraid.networks.outputs.OUTPUTS`.
        steps: number of timesteps T that the file of the network fixes, or None.
        shape: sizes of one example, where it is no sequence of words or features or the network has no recurrence.
            None otherwise; the JSON then omits it, because digests of older folders were computed without it.
    """

    type: Literal["stages"] = "stages"
    stages: Annotated[list[StageSpec], Field(fail_fast=True)]
    head: str
    features: Size
    classes: Size
    output: Output = "softmax"
    steps: Size | None = None
    shape: Annotated[list[Size], Field(min_length=1, max_length=7, fail_fast=True)] | None = None

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        found: dict[str, object] = handler(self)
        if self.shape is None:
            found.pop("shape", None)
        return found

    @property
    def recurrent(self) -> bool:
        """Whether there is a recurrent layer."""
        return any(isinstance(stage, RecurrentSpec) for stage in self.stages)


class LanguageTag(PlainSpec):
    """First and last token of a target language, as indices of the target vocabulary.

    Attributes:
        name: the language, for example ``fr``.
        start: index of the first token, for example ``[startfr]``.
        end: index of the last token, for example ``[endfr]``.
    """

    name: str
    start: Annotated[int, Field(ge=1, le=2**31)]
    end: Annotated[int, Field(ge=1, le=2**31)]


class EncoderDecoderSpec(PlainSpec):
    """Two recurrent stacks. Each layer of the decoder starts from the last state of the same layer of the encoder.

    Attributes:
        source: embedding of the source words.
        encoder: 1 to 4 recurrent layers over the source words.
        target: embedding of the target words.
        decoder: the same number of recurrent layers as in the encoder, with the same cells and units.
        head: name of the output layer.
        features: number of inputs of the output layer, H of the last decoder layer.
        classes: number of columns of the output layer, V, the size of the target vocabulary.
        languages: the target languages, each with its first and last token.
        encoder_too: whether the layers of the encoder are decomposed as well (in the paper only the decoder is).
        output: always ``softmax``.
        steps: always None: S and T may vary.
    """

    type: Literal["encoder-decoder"] = "encoder-decoder"
    source: EmbeddingSpec
    encoder: Annotated[list[RecurrentSpec], Field(min_length=1, max_length=4, fail_fast=True)]
    target: EmbeddingSpec
    decoder: Annotated[list[RecurrentSpec], Field(min_length=1, max_length=4, fail_fast=True)]
    head: str
    features: Size
    classes: Size
    languages: Annotated[list[LanguageTag], Field(fail_fast=True)] = Field(default_factory=list)
    encoder_too: bool = False
    output: Literal["softmax"] = "softmax"
    steps: None = None

    @property
    def stages(self) -> list[StageSpec]:
        """Embeddings and recurrent layers, in the order of computation."""
        return [self.source, *self.encoder, self.target, *self.decoder]


Spec = NetworkSpec | EncoderDecoderSpec | TorchSpec | KerasSpec


def needs_module(spec: Spec) -> bool:
    """Return whether a network needs an instance of a user's class, whose code is not stored."""
    return isinstance(spec, TorchSpec) and not isinstance(spec, KerasSpec)


def label_count(spec: Spec) -> int:
    """Return the number of labels of a network: languages, numbers, classes, or 2 for a single sigmoid column."""
    if isinstance(spec, EncoderDecoderSpec):
        return len(spec.languages)
    return spec.classes if OUTPUTS[spec.output].numbers else max(spec.classes, 2)


def weight_count(spec: Spec) -> int:
    """Return the number of weights of a network; of a user's module only those of the layers that can be pruned."""
    if isinstance(spec, KerasSpec):
        return _graph_count(spec.graph) + spec.classes * (spec.features + 1)
    if isinstance(spec, TorchSpec):
        return sum(map(_layer_count, spec.layers)) + sum(d.units * (d.inputs + 1) for d in spec.dense)
    return sum(map(_stage_count, spec.stages)) + spec.classes * (spec.features + 1)


def _graph_count(graph: GraphSpec) -> int:
    return sum(map(_stage_count, graph.layers))


def _stage_count(stage: GraphLayer) -> int:
    match stage:
        case LayerSpec():
            return sum(map(prod, stage.weights.values()))
        case PerTimestepSpec():
            return _graph_count(stage.graph)
        case EmbeddingSpec():
            return stage.vocabulary * stage.dimension
        case RecurrentSpec():
            one = _recurrent_count(stage.cell, stage.inputs, stage.units)
            return 2 * one if stage.bidirectional else one
        case DenseSpec():
            return stage.units * (stage.inputs + 1)
        case _:
            return 0


def _layer_count(layer: TorchLayerSpec) -> int:
    if isinstance(layer.cell, OwnCell):
        return sum(prod(weight.shape) for weight in layer.cell.weights)
    return _recurrent_count(layer.cell, layer.inputs, layer.units)


def _recurrent_count(cell: Cell, inputs: int, units: int) -> int:
    return len(cell.gates) * units * (inputs + units + 2)
