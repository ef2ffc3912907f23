"""The paper's sequence architectures as network specs: cell x number of layers x inputs and outputs over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from unbraid.config import IOArchitecture
from unbraid.networks.cells import Cell
from unbraid.networks.spec import (
    EmbeddingSpec,
    EncoderDecoderSpec,
    FlattenSpec,
    LanguageTag,
    NetworkSpec,
    RecurrentSpec,
    RepeatSpec,
    StageSpec,
)


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
    """An embedding, a stack of recurrent layers and an output layer (Imtiaz et al. 2023, section 4).

    ``1:1`` and ``1:N`` flatten the embedded words and repeat them once or ``outputs`` times; ``M:1`` reads the words
    one by one and decides on the last state; ``M:N`` decides at every word.

    Args:
        cell: a whole cell, or the usual one of a kind (tanh, sigmoid gates, a GRU that resets after the product).
        layers: recurrent layers, at least 1.
        vocabulary: word indices, padding included.
        dimension: D of the embedding.
        units: H of every recurrent layer.
        classes: C.
        io: one of the four architectures.
        steps: T of the input.
        outputs: decisions per example of ``1:N``; T by default.
        mask_zero: whether index 0 marks steps that do not count; without meaning behind a flattening.
        output: the output layer's activation.
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
    """An encoder and a multi-target decoder, each an embedding and a stack of recurrent layers; padding is masked.

    Args:
        cell: a whole cell, or the usual one of a kind.
        layers: recurrent layers on each side, 1 to 4.
        source: source words, padding included.
        target: target words, padding and tags included.
        dimension: D of both embeddings.
        units: H of every recurrent layer.
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
