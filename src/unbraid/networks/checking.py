"""What must hold before a network is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unbraid.data import Label, plain_labels
from unbraid.errors import DataError, FormatError, UnsupportedLayer, wrong_object
from unbraid.networks.spec import (
    ActivationSpec,
    DenseSpec,
    EncoderDecoderSpec,
    FlattenSpec,
    NetworkSpec,
    RecurrentSpec,
    Spec,
    StageSpec,
    label_count,
)
from unbraid.vocabulary import Vocabulary


def check_labels(labels: Sequence[Label] | None, spec: Spec) -> list[Label]:
    """C different labels, or 0..C-1 where none are given (0, 1 for a single sigmoid column); raises DataError.

    Those of an encoder-decoder are its languages, as its spec names them.
    """
    wanted = label_count(spec)
    if isinstance(spec, EncoderDecoderSpec):
        names: list[Label] = [tag.name for tag in spec.languages]
        if labels is not None and list(labels) != names:
            raise DataError(f"labels {list(labels)[:12]} are not the languages of the network, {names}.")
        return names
    if labels is None:
        return list(range(wanted))
    plain = plain_labels(labels)
    if len(plain) != wanted or len(set(plain)) != len(plain):
        raise DataError(
            f"{len(plain)} labels ({len(set(plain))} different), expected {wanted} different ones: {plain[:12]}."
        )
    if {"", -1} & set(plain):
        raise DataError(f"a label is '' or -1, which mean no label in data: call it otherwise; got {plain[:12]}.")
    return plain


def check_flow(spec: NetworkSpec) -> None:
    """Sizes must fit from stage to stage, so that a made-up file fails here and not inside a kernel."""
    width: int | None = None
    recurrent = False
    for stage in spec.stages:
        if isinstance(stage, RecurrentSpec | DenseSpec):
            if width is not None and stage.inputs != width:
                raise FormatError(
                    f"layer {stage.name!r} reads {stage.inputs} features, the layer before it gives {width}."
                )
            width = stage.units
            if isinstance(stage, RecurrentSpec):
                recurrent = True
                width *= 2 if stage.bidirectional and stage.merge == "concat" else 1
        elif isinstance(stage, FlattenSpec):
            width = None  # T*D: T is known only where the file fixes it
        elif stage.type == "embedding":
            width = stage.dimension
        if recurrent:
            _check_zero_stays_zero(stage)
    if not recurrent:
        raise FormatError("the network has no recurrent layer; expected at least one SimpleRNN, LSTM or GRU.")
    if width is not None and spec.features != width:
        raise FormatError(f"the output layer reads {spec.features} features, the layer before it gives {width}.")
    names = [stage.name for stage in spec.stages]
    if len(set(names)) != len(names):
        raise FormatError(f"layer names repeat: {names}.")


def _check_zero_stays_zero(stage: StageSpec) -> None:
    """Behind the recurrence a removed node must say nothing to what reads it."""
    if isinstance(stage, ActivationSpec) and stage.activation not in ("tanh", "relu", "linear"):
        raise UnsupportedLayer(
            f"activation {stage.name!r} ({stage.activation}) behind the recurrence makes something of a removed node's "
            "zero; supported there: tanh, relu, linear. Put it into the dense layer before it."
        )
    if isinstance(stage, DenseSpec) and stage.activation == "softmax":
        raise UnsupportedLayer(f"hidden layer {stage.name!r} has a softmax over its nodes, so none can go by itself.")


def check_vocabulary(vocabulary: Any, argument: str) -> None:
    """Raise ArgumentError for anything but a Vocabulary or None."""
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise wrong_object(vocabulary, argument, "a Vocabulary", "make one with unbraid.Vocabulary")
