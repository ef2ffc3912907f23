"""Descriptions of networks as plain data. Folders store them as JSON, and the Keras reader makes them."""

from __future__ import annotations

from math import prod
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from unbraid.networks.cells import Cell, Known
from unbraid.networks.outputs import OUTPUTS, Output

Size = Annotated[int, Field(ge=1, le=2**31)]


class _Spec(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class EmbeddingSpec(_Spec):
    """An embedding: word indices (N, T) to vectors (N, T, D). With ``mask_zero``, index 0 masks a timestep."""

    type: Literal["embedding"] = "embedding"
    name: str
    vocabulary: Size
    dimension: Size
    mask_zero: bool = False


class MaskingSpec(_Spec):
    """A mask over timesteps whose features all equal ``value``; their features are set to zero."""

    type: Literal["masking"] = "masking"
    name: str
    value: float = 0.0


class FlattenSpec(_Spec):
    """A flattening: (N, T, D) to (N, T*D)."""

    type: Literal["flatten"] = "flatten"
    name: str


class RepeatSpec(_Spec):
    """A repetition: (N, D) to (N, times, D)."""

    type: Literal["repeat"] = "repeat"
    name: str
    times: Annotated[int, Field(ge=1, le=2**16)]  # no weight limits it


class RecurrentSpec(_Spec):
    """A recurrent layer of one or two directions. With ``sequences`` it returns all outputs, else the last."""

    type: Literal["recurrent"] = "recurrent"
    name: str
    cell: Cell
    inputs: Size
    units: Size
    sequences: bool
    reverse: bool = False
    bidirectional: bool = False
    merge: Literal["concat", "sum", "mul", "ave"] = "concat"


class DenseSpec(_Spec):
    """A dense layer over the last axis, at every timestep if the values have timesteps."""

    type: Literal["dense"] = "dense"
    name: str
    inputs: Size
    units: Size
    activation: Known = "linear"


class ActivationSpec(_Spec):
    """An activation that is a layer of its own."""

    type: Literal["activation"] = "activation"
    name: str
    activation: Known


StageSpec = Annotated[
    EmbeddingSpec | MaskingSpec | FlattenSpec | RepeatSpec | RecurrentSpec | DenseSpec | ActivationSpec,
    Field(discriminator="type"),
]


class NetworkSpec(_Spec):
    """Stages in order, and the output layer after them.

    Attributes:
        stages: all layers before the output layer.
        features: number of inputs of the output layer, F.
        classes: number of columns of the output layer, C.
        output: ``softmax`` over C classes, ``sigmoid`` for C independent labels (one column: a binary decision), or C
            numbers, see :data:`unbraid.networks.outputs.OUTPUTS`.
        steps: number of timesteps T that the file of the network fixes, or None.
    """

    type: Literal["stages"] = "stages"
    stages: Annotated[list[StageSpec], Field(fail_fast=True)]
    head: str
    features: Size
    classes: Size
    output: Output = "softmax"
    steps: Size | None = None


class TorchLayerSpec(_Spec):
    """One direction of one layer of a user's nn.RNN, nn.LSTM or nn.GRU.

    Attributes:
        name: its key in :attr:`unbraid.Network.layers`.
        site: path of the nn.RNN, nn.LSTM or nn.GRU in the module.
        cell: the function of one timestep.
        inputs: number of input features D.
        units: number of hidden units H.
    """

    name: str
    site: str
    cell: Cell
    inputs: Size
    units: Size


class TorchRun(_Spec):
    """Calling convention of a user's module and of the output layer in it. Shapes: N examples, T timesteps.

    Attributes:
        layout: inputs of the output layer. ``rows``: (N, F), (N, T, F) or (T, N, F) in one call; ``flat``: (N*T, F) or
            (T*N, F); ``packed``: the data of a PackedSequence; ``calls``: (N, F) in each of T calls.
        pick: the timesteps that decide: ``all``, a single one, or their ``mean``.
        batch: number of examples that every call of the module must have; None for any number.
        unbatched: whether the module reads one example without a batch axis; ``batch`` is 1.
        sorts: whether the module packs sequences and requires them sorted by length.
        keeps: whether the module keeps tensors between calls. They are reset before each call.
        axes: axis of the examples in each input array, None for a constant. None as a whole means ``batch_axis``.
        lists: positions of input arrays that the module reads as a list of numbers.
        folds: for each recurrent layer that reads several sequences of each example in one call: path -> ``outer`` if
            the sequences of an example are adjacent, ``inner`` if they are N rows apart.
    """

    layout: Literal["rows", "flat", "packed", "calls"] = "rows"
    pick: Literal["all", "first", "last", "mean"] = "all"
    batch: Size | None = None
    unbatched: bool = False
    sorts: bool = False
    keeps: bool = False
    axes: Annotated[list[Annotated[int, Field(ge=0, le=1)] | None], Field(fail_fast=True)] | None = None
    lists: Annotated[list[Annotated[int, Field(ge=0, le=2**16)]], Field(fail_fast=True)] = []
    folds: dict[str, Literal["outer", "inner"]] = {}


class TorchSpec(_Spec):
    """Description of a user's nn.Module. Its code is never stored.

    Attributes:
        module: name of the class of the module.
        layers: recurrent layers of the module, direction by direction.
        head: path of the output nn.Linear.
        features: number of inputs of the output layer, F.
        classes: number of columns of the output layer, C.
        output: as of a :class:`NetworkSpec`.
        many_outputs: whether the network makes one decision per timestep.
        time_first: whether features have the shape (T, N, F).
        axes: number of axes of every input array, in order.
        batch_axis: axis of the examples in inputs that have more axes than ``batch_axis``.
        run: calling convention of the module. The JSON omits it if it is the default.
        steps: always None: T may vary.
    """

    type: Literal["torch"] = "torch"
    module: str
    layers: Annotated[list[TorchLayerSpec], Field(fail_fast=True)]
    head: str
    features: Size
    classes: Size
    output: Output
    many_outputs: bool
    time_first: bool
    axes: Annotated[list[Annotated[int, Field(ge=1, le=8)]], Field(fail_fast=True)]
    batch_axis: Annotated[int, Field(ge=0, le=1)]
    run: TorchRun = TorchRun()
    steps: None = None

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        """Omit the default of ``run``, because digests of older folders were computed without it."""
        found: dict[str, object] = handler(self)
        if self.run == TorchRun():
            found.pop("run", None)
        return found


class LayerSpec(_Spec):
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
    settings: dict[str, JsonValue] = {}
    weights: dict[str, list[Size]] = {}
    keras: Literal[2, 3] = 3


class PerTimestepSpec(_Spec):
    """Layers that run on every timestep by itself (Keras' TimeDistributed)."""

    type: Literal["per_timestep"] = "per_timestep"
    name: str
    graph: GraphSpec


Reference = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]  # number of a value, number of its output


class CallSpec(_Spec):
    """One call of a layer.

    Attributes:
        layer: name of the layer.
        reads: the values that it reads. Inputs of the graph come first, then the results of the calls in order.
        states: initial states of a recurrent layer.
        masks: explicit masks of these values, in order; None for the mask of the value itself.
    """

    layer: str
    reads: Annotated[list[Reference], Field(min_length=1, fail_fast=True)]
    states: Annotated[list[Reference], Field(max_length=4, fail_fast=True)] = []
    masks: Annotated[list[Reference | None], Field(max_length=3, fail_fast=True)] = []


class GraphInput(_Spec):
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


class GraphSpec(_Spec):
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
    fixed: Annotated[list[str], Field(fail_fast=True)] = []


class KerasSpec(TorchSpec):
    """Description of a Keras model that is a graph. It runs as a PyTorch module that is built from this description.

    Attributes:
        graph: layers of the model and their calls.
        steps: T of a graph with one input, if the file fixes it.
    """

    type: Literal["keras"] = "keras"  # type: ignore[assignment]  # a kind of its own in folders
    graph: GraphSpec
    steps: Size | None = None  # type: ignore[assignment]

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


class LanguageTag(_Spec):
    """First and last token of a target language, as indices of the target vocabulary.

    Attributes:
        name: the language, for example ``fr``.
        start: index of the first token, for example ``[startfr]``.
        end: index of the last token, for example ``[endfr]``.
    """

    name: str
    start: Annotated[int, Field(ge=1, le=2**31)]
    end: Annotated[int, Field(ge=1, le=2**31)]


class EncoderDecoderSpec(_Spec):
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
    languages: Annotated[list[LanguageTag], Field(fail_fast=True)] = []
    encoder_too: bool = False
    output: Literal["softmax"] = "softmax"
    steps: None = None

    @property
    def stages(self) -> list[StageSpec]:
        """Embeddings and recurrent layers, in the order of computation."""
        return [self.source, *self.encoder, self.target, *self.decoder]


def width_behind(stage: StageSpec, width: int | None) -> int | None:
    """Return the number of features per timestep that a stage computes from ``width`` features."""
    match stage:
        case EmbeddingSpec():
            return stage.dimension
        case RecurrentSpec():
            return stage.units * (2 if stage.bidirectional and stage.merge == "concat" else 1)
        case DenseSpec():
            return stage.units
        case _:
            return width


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
    """Return the number of weights of a network; of a user's module only those of the recurrent layers."""
    if isinstance(spec, KerasSpec):
        return _graph_count(spec.graph) + spec.classes * (spec.features + 1)
    if isinstance(spec, TorchSpec):
        return sum(_recurrent_count(layer.cell, layer.inputs, layer.units) for layer in spec.layers)
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


def _recurrent_count(cell: Cell, inputs: int, units: int) -> int:
    return len(cell.gates) * units * (inputs + units + 2)
