"""Descriptions of Keras models that are graphs of layers, as plain data."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue, field_validator

from unbraid.networks.cells import OwnCell
from unbraid.networks.stage_spec import (
    ActivationSpec,
    DenseSpec,
    EmbeddingSpec,
    FlattenSpec,
    MaskingSpec,
    PlainSpec,
    RecurrentSpec,
    RepeatSpec,
    Size,
)
from unbraid.networks.torch_spec import TorchLayerSpec, TorchSpec


class LayerSpec(PlainSpec):
    """A layer of a Keras graph that has no hidden units to remove.

    Attributes:
        name: name of the layer in the graph.
        kind: Keras class of the layer, a key of :data:`unbraid.networks.graph.kinds.KINDS`.
        settings: checked configuration of the layer.
        weights: name -> shape, in the layout and the order of Keras.
        keras: major version of Keras that wrote the file, because versions differ for some layers.
    """

    type: Literal["layer"] = "layer"
    name: str
    kind: str
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    weights: dict[str, list[Size]] = Field(default_factory=dict)
    keras: Literal[2, 3] = 3


class PerTimestepSpec(PlainSpec):
    """Layers that run on every timestep by itself (Keras' TimeDistributed)."""

    type: Literal["per_timestep"] = "per_timestep"
    name: str
    graph: GraphSpec


Reference = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]  # number of a value, number of its output


class CallSpec(PlainSpec):
    """One call of a layer.

    Attributes:
        layer: name of the layer.
        reads: the values that it reads. Inputs of the graph come first, then the results of the calls in order.
        states: initial states of a recurrent layer.
        masks: explicit masks of these values, in order; None for the mask of the value itself.
    """

    layer: str
    reads: Annotated[list[Reference], Field(min_length=1, fail_fast=True)]
    states: Annotated[list[Reference], Field(max_length=4, fail_fast=True)] = Field(default_factory=list)
    masks: Annotated[list[Reference | None], Field(max_length=3, fail_fast=True)] = Field(default_factory=list)


class GraphInput(PlainSpec):
    """One input of a graph: its name and its shape without the axis of examples; None for any size."""

    name: str
    shape: Annotated[list[Size | None], Field(min_length=1, max_length=7, fail_fast=True)]


GraphLayer = Annotated[
    EmbeddingSpec
    | MaskingSpec
    | FlattenSpec
    | RepeatSpec
    | RecurrentSpec
    | DenseSpec
    | ActivationSpec
    | LayerSpec
    | PerTimestepSpec,
    Field(discriminator="type"),
]


class GraphSpec(PlainSpec):
    """Layers of a Keras model and their calls.

    Attributes:
        inputs: inputs of the graph, in order.
        layers: the layers without duplicates, even if one is called several times.
        calls: calls of the layers, in the order of computation.
        output: the value that the graph returns.
        fixed: names of recurrent layers that run as they are and are not decomposed.
    """

    inputs: Annotated[list[GraphInput], Field(min_length=1, fail_fast=True)]
    layers: Annotated[list[GraphLayer], Field(fail_fast=True)]
    calls: Annotated[list[CallSpec], Field(fail_fast=True)]
    output: Reference
    fixed: Annotated[list[str], Field(fail_fast=True)] = Field(default_factory=list)


class KerasSpec(TorchSpec):
    """Description of a Keras model that is a graph. It runs as a PyTorch module that is built from this description.

    Attributes:
        graph: layers of the model and their calls.
        steps: T of a graph with one input, if the file fixes it.
    """

    type: Literal["keras"] = "keras"  # type: ignore[assignment]  # a kind of its own in folders
    graph: GraphSpec
    steps: Size | None = None  # type: ignore[assignment]

    @field_validator("layers")
    @classmethod
    def _of_keras(cls, layers: list[TorchLayerSpec]) -> list[TorchLayerSpec]:
        if any(isinstance(layer.cell, OwnCell) for layer in layers):
            raise ValueError("a Keras model has no cells of users")
        return layers

    @property
    def vocabularies(self) -> list[int | None]:
        """For each input, the number of word indices of its embedding; None for an input of features."""
        embeddings = {layer.name: layer.vocabulary for layer in self.graph.layers if isinstance(layer, EmbeddingSpec)}
        found: list[int | None] = [None] * len(self.graph.inputs)
        for call in self.graph.calls:
            for number, _ in call.reads:
                if number < len(found) and call.layer in embeddings:
                    found[number] = min(embeddings[call.layer], found[number] or embeddings[call.layer])
        return found
