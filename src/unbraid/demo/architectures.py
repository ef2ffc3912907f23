"""The architectures of the paper as network specs: cell, number of layers, and input/output type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unbraid.config import IOArchitecture
from unbraid.networks.cells import Cell
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag, NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, FlattenSpec, RecurrentSpec, RepeatSpec, StageSpec


def sequence_spec(
    cell: Cell | Literal["rnn", "lstm", "gru"],
    layers: int,
    vocabulary: int,
    dimension: int,
    units: int,
    classes: int,
    io: IOArchitecture | str,
    steps: int,
    *,
    outputs: int | None = None,
    mask_zero: bool = False,
    output: Literal["softmax", "sigmoid"] = "softmax",
) -> NetworkSpec:
    """Describe an embedding, a stack of recurrent layers and an output layer (Imtiaz et al. 2023, section 4).

    ``1:1`` and ``1:N`` flatten the embedded words and repeat them once or ``outputs`` times. ``M:1`` reads one word per
    timestep and decides from the last state. ``M:N`` decides at each word.

    Args:
        cell: a cell, or the kind of a default cell (tanh, sigmoid gates; a GRU with the reset after the product).
        layers: number of recurrent layers, at least 1.
        vocabulary: number of word indices, with padding.
        dimension: D of the embedding.
        units: H of each recurrent layer.
        classes: C.
        io: input/output type.
        steps: T of the input.
        outputs: number of decisions per example for ``1:N``; T by default.
        mask_zero: whether index 0 marks padding; it has no effect with a flattening layer.
        output: activation of the output layer.
    """
    io = IOArchitecture(io)
    cell = Cell(kind=cell) if isinstance(cell, str) else cell
    stages: list[StageSpec] = [
        EmbeddingSpec(name="embedding", vocabulary=vocabulary, dimension=dimension, mask_zero=mask_zero)
    ]
    width = dimension
    if io in (IOArchitecture.ONE_TO_ONE, IOArchitecture.ONE_TO_MANY):
        times = (outputs or steps) if io.many_outputs else 1
        stages += [FlattenSpec(name="flatten"), RepeatSpec(name="repeat", times=times)]
        width = steps * dimension
    for index in range(layers):
        sequences = io.many_outputs or index + 1 < layers
        name = f"{cell.kind}_{index + 1}"
        stages.append(RecurrentSpec(name=name, cell=cell, inputs=width, units=units, sequences=sequences))
        width = units
    return NetworkSpec(stages=stages, head="output", features=width, classes=classes, output=output, steps=steps)


def translation_spec(
    cell: Cell | Literal["rnn", "lstm", "gru"],
    layers: int,
    source: int,
    target: int,
    dimension: int,
    units: int,
    languages: Sequence[LanguageTag],
) -> EncoderDecoderSpec:
    """Describe an encoder and a multi-target decoder, each with an embedding and recurrent layers; padding is masked.

    Args:
        cell: a cell, or the kind of a default cell.
        layers: number of recurrent layers of each side, 1 to 4.
        source: number of source words, with padding.
        target: number of target words, with padding and tags.
        dimension: D of both embeddings.
        units: H of each recurrent layer.
        languages: the target languages with their first and last tokens.
    """
    cell = Cell(kind=cell) if isinstance(cell, str) else cell
    sides = [
        [
            RecurrentSpec(
                name=f"{side}_{cell.kind}_{index + 1}",
                cell=cell,
                inputs=units if index else dimension,
                units=units,
                sequences=True,
            )
            for index in range(layers)
        ]
        for side in ("encoder", "decoder")
    ]
    return EncoderDecoderSpec(
        source=EmbeddingSpec(name="source", vocabulary=source, dimension=dimension, mask_zero=True),
        encoder=sides[0],
        target=EmbeddingSpec(name="target", vocabulary=target, dimension=dimension, mask_zero=True),
        decoder=sides[1],
        head="output",
        features=units,
        classes=target,
        languages=list(languages),
    )
