"""Keras models as networks, read with h5py and JSON alone: neither Keras nor any code from the file is run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from unbraid.data.targets import Label
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.keras.activations import LEAKY
from unbraid.networks.keras.config import LayerConfig
from unbraid.networks.keras.conversion import ELEMENTWISE, Translation
from unbraid.networks.keras.encoder_decoder import read_encoder_decoder, two_inputs
from unbraid.networks.keras.files import SavedModel, open_keras, open_parts
from unbraid.networks.keras.graph import layer_chain, masker_behind
from unbraid.networks.keras.graph_network import read_graph_network
from unbraid.networks.keras.hdf5 import Shape
from unbraid.networks.keras.heads import output_of
from unbraid.networks.keras.layers import translate
from unbraid.networks.keras.loss import Loss, read_loss
from unbraid.networks.keras.recurrent import check_unrolled
from unbraid.networks.keras.weights import Place, Variable
from unbraid.networks.keras.wiring import wired
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask, check_task
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, EmbeddingSpec, RecurrentSpec, StageSpec

_ZERO_AT_ZERO = (
    "tanh",
    "relu",
    "linear",
    "elu",
    "selu",
    "gelu",
    "silu",
    "mish",
    "softsign",
    "relu6",
    "relu1",
    *LEAKY.values(),
    "hard_silu",
)  # a removed node must stay zero behind the recurrence


Opener = Callable[[], AbstractContextManager[SavedModel]]


def load_keras(
    path: str | PathLike[str],
    labels: Sequence[Label] | None = None,
    task: GivenTask | None = None,
    output: str | None = None,
    weights: str | PathLike[str] | None = None,
) -> Network:
    """Read a Keras model: ``.h5`` (Keras 2 and 3) or ``.keras`` (Keras 2.12 and later).

    Args:
        path: the file.
        labels: the classes' names in the order of the output columns; 0..C-1 by default.
        task: ``"classification"`` reads the outputs as scores of classes, ``"regression"`` as numbers. None (the
            default) decides by the stored loss and the output activation.
        output: name of the output layer, of a model with several outputs.
        weights: a file of ``model.save_weights``; ``path`` is then the JSON of ``model.to_json``.

    Returns:
        A network that predicts what the Keras model predicts. Where the last layer has no activation, its outputs
        are logits. The languages of an encoder-decoder are not stored in the file: see
        :func:`unbraid.translation.languages.with_languages`.

    Raises:
        FormatError: there is no such file, or it is not what Keras writes.
        UnsupportedLayer: the model has a layer that Unbraid cannot run exactly, or the task is open.
        DataError: the labels are not C different ones.
        ConfigError: a task that does not exist, or an output that the model does not have.
    """
    check_task(task)
    return _network(Path(path).name, _read(_opener(path, weights), task, output), labels)


def load_live(
    path: str | PathLike[str],
    model: Any,
    labels: Sequence[Label] | None = None,
    task: GivenTask | None = None,
    output: str | None = None,
) -> Network:
    """Read the file of a Keras model in memory, as :func:`load_keras`; its own layers run the code of the user."""
    check_task(task)
    return _network(Path(path).name, _read(partial(_with_live, path, model), task, output), labels)


def output_names(path: str | PathLike[str], weights: str | PathLike[str] | None = None, model: Any = None) -> list[str]:
    """List the names of the outputs of a Keras model.

    Args:
        path: as for :func:`load_keras`.
        weights: as for :func:`load_keras`.
        model: the model in memory that the file was made of, if its own layers run the code of the user.

    Raises:
        FormatError: there is no such file, or it is not what Keras writes.
        UnsupportedLayer: the layers of the model are not connected as a graph.
    """
    opener: Opener = _opener(path, weights) if model is None else partial(_with_live, path, model)
    with opener() as saved:
        return list(wired(saved.model, saved.keras, saved.live is not None).outputs)


@contextmanager
def _with_live(path: str | PathLike[str], model: Any) -> Iterator[SavedModel]:
    """Open the file of a model in memory."""
    with open_keras(path) as saved:
        yield replace(saved, live=model)


Read = tuple[NetworkSpec | EncoderDecoderSpec | KerasSpec, dict[str, Tensor], Loss, Vocabulary | None]


def _network(name: str, read: Read, labels: Sequence[Label] | None) -> Network:
    """Build the network; the content of the file is freed before."""
    spec, arrays, loss, vocabulary = read
    try:
        network = Network(spec, arrays, labels)
    except FormatError as error:
        raise FormatError(f"{name}: {error}") from None
    network.loss = loss.name
    return network.with_vocabulary(vocabulary)


def _opener(path: str | PathLike[str], weights: str | PathLike[str] | None) -> Opener:
    """Return the reader of the model: of one file, or of a structure and its weights."""
    return partial(open_keras, path) if weights is None else partial(open_parts, path, weights)


def _read(opener: Opener, task: GivenTask | None, output: str | None) -> Read:
    """Return the description, the weights and the training loss in a file.

    A chain of layers becomes a network of stages, and a model of source and target words an encoder-decoder. All other
    models become graphs.
    """
    if output is None:
        try:
            return _read_stages(opener, task)
        except UnsupportedLayer:
            pass  # read again as a graph, which names all unsupported layers
    with opener() as saved:
        spec, weights, loss = read_graph_network(saved, task, output)
        return spec, weights, loss, saved.vocabulary


def _read_stages(opener: Opener, task: GivenTask | None) -> Read:
    spec: NetworkSpec | EncoderDecoderSpec
    with opener() as saved:
        if two_inputs(saved):
            spec, weights = read_encoder_decoder(saved, task)
        else:
            layers, shape = layer_chain(saved.model, saved.keras)
            spec, weights = _assembled(saved, _fused(_translated(saved, layers, shape)), shape, task)
        return spec, weights, read_loss(saved.compiled, spec.head), saved.vocabulary


def _translated(saved: SavedModel, layers: list[LayerConfig], shape: Shape) -> list[Translation]:
    """Convert each layer to a stage; layers without an effect are left out."""
    counts, turns = Counter(layer.kind for layer in layers), Counter[str]()
    stages: list[Translation] = []
    masker: LayerConfig | None = None
    for layer in layers:
        if not stages:
            _check_input(layer, shape)
        if masker is not None:
            check_unrolled(layer)
        masker = masker_behind(layer, masker)

        def read(variables: Sequence[Variable], layer: LayerConfig = layer) -> list[np.ndarray]:
            place = Place(layer.name, layer.kind, turns[layer.kind], counts[layer.kind])
            return saved.weights.arrays([place], variables)

        stage = translate(layer, shape, read)
        turns[layer.kind] += 1
        shape = stage.shape
        if stage.spec is not None:
            if stages and isinstance(stage.spec, EmbeddingSpec):
                raise layer.unsupported("is not the first layer", "Embedding as the first layer")
            stages.append(stage)
    return stages


def _check_input(layer: LayerConfig, shape: Shape) -> None:
    if len(shape) == 2 or layer.kind == "Embedding" or layer.kind.endswith("Dropout"):
        return
    if None in shape or layer.kind not in ("Flatten", *(["Dense"] if len(shape) == 1 else [])):
        raise layer.unsupported(
            f"reads inputs of shape {shape}",
            "(T,) words into an Embedding, (T, D) features, (D,) features into a Dense, or any sizes into a Flatten",
        )


def _fused(stages: list[Translation]) -> list[Translation]:
    """Activations by themselves joined to the dense layers before them, and those that do nothing left out."""
    fused: list[Translation] = []
    for stage in stages:
        if not isinstance(stage.spec, ActivationSpec):
            fused.append(stage)
        elif stage.spec.activation != "linear":
            before = fused[-1].spec if fused else None
            if isinstance(before, DenseSpec) and before.activation == "linear":
                spec = before.model_copy(update={"activation": stage.spec.activation})
                fused[-1] = replace(fused[-1], spec=spec)
            else:
                fused.append(stage)
    return fused


def _assembled(
    saved: SavedModel, stages: list[Translation], shape: Shape, task: GivenTask | None
) -> tuple[NetworkSpec, dict[str, Tensor]]:
    """Return the network's spec and weights: the last dense layer is its output layer."""
    file = saved.file
    head = stages[-1].spec if stages else None
    if not isinstance(head, DenseSpec):
        last = "nothing" if head is None else f"{head.type} {head.name!r}"
        raise UnsupportedLayer(f"{file}: the model ends with {last}; supported: a Dense or TimeDistributed(Dense).")
    loss = read_loss(saved.compiled, head.name)
    body = [stage.spec for stage in stages[:-1] if stage.spec is not None]
    _check_body(file, body)
    recurrent = any(isinstance(stage, RecurrentSpec) for stage in body)
    words = bool(body) and isinstance(body[0], EmbeddingSpec)
    given = None if words or None in shape or (recurrent and len(shape) == 2) else [s for s in shape if s is not None]
    spec = NetworkSpec(
        stages=body,
        head=head.name,
        features=head.inputs,
        classes=head.units,
        output=output_of(file, head, loss, task),
        steps=shape[0] if len(shape) == 2 or words else None,
        shape=given,
    )
    prefixes = [f"body.stages.{i}." for i in range(len(body))] + ["head."]
    weights = {p + name: w for p, stage in zip(prefixes, stages, strict=True) for name, w in stage.weights.items()}
    return spec, weights


def _check_body(file: str, body: Sequence[StageSpec]) -> None:
    """Check that layers after a recurrent layer work with only some of its units, the others being zero."""
    recurrent = False
    for stage in body:
        recurrent |= isinstance(stage, RecurrentSpec)
        if not recurrent or not isinstance(stage, ActivationSpec | DenseSpec):
            continue
        allowed = _ZERO_AT_ZERO if isinstance(stage, ActivationSpec) else ELEMENTWISE
        if stage.activation.removesuffix("_keras2") not in allowed:
            raise UnsupportedLayer(
                f"{file}: layer {stage.name!r} has activation {stage.activation!r} behind a recurrent layer, "
                f"where a removed node must stay zero; supported: {', '.join(allowed)}."
            )
