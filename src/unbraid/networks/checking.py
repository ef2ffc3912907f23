"""Checks of labels, shapes and vocabularies before a network is built."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from unbraid.data.targets import Label, plain_labels
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import DataError, FormatError, UnsupportedLayer, quoted, wrong_object
from unbraid.limits import check_size
from unbraid.networks.flow import Flow
from unbraid.networks.graph_spec import KerasSpec
from unbraid.networks.prunable import prunable_dense, zero_at_zero
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec, Spec, label_count
from unbraid.networks.stage_spec import ActivationSpec, DenseSpec, FlattenSpec, RecurrentSpec, StageSpec


def check_labels(labels: Sequence[Label] | None, spec: Spec) -> list[Label]:
    """Check the labels of a network.

    Args:
        labels: C different labels; None for 0..C-1 (0, 1 for a single sigmoid column), or the languages of ``spec``.
        spec: description of the network.

    Returns:
        the labels as plain integers or strings.

    Raises:
        DataError: a wrong number of labels, repeated labels, or a label that cannot be saved.
    """
    wanted = label_count(spec)
    if isinstance(spec, EncoderDecoderSpec):
        names: list[Label] = [tag.name for tag in spec.languages]
        if labels is not None and list(labels) != names:
            raise DataError(f"labels {quoted(list(labels))} are not the languages of the network, {quoted(names)}.")
        return names
    if labels is None:
        return list(range(wanted))
    plain = plain_labels(labels)
    if len(plain) != wanted or len(set(plain)) != len(plain):
        raise DataError(
            f"{len(plain)} labels ({len(set(plain))} different), expected {wanted} different ones: {plain[:12]}."
        )
    if {"", -1} & set(plain):
        raise DataError(f"a label is '' or -1, which mark a missing label in data: rename it; got {plain[:12]}.")
    for label in plain:
        check_label(label)
    return plain


def check_label(label: Label) -> Label:
    """Check that a label can be saved and stored in an array, and return it.

    Raises:
        DataError: text that is not valid Unicode, holds a NUL or is too long, or a number of more than 64 bits.
    """
    if isinstance(label, int):
        if not -(2**63) <= label < 2**63:
            raise DataError(f"label {quoted(hex(label), 40)} is a number of more than 64 bits: use a string.")
        return label
    check_size(len(label), "label_chars", f"label {quoted(label, 40)!r}", "its length", DataError)
    if "\0" in label:  # NumPy removes it at the end of a string
        raise DataError(f"label {quoted(label)!r} holds a NUL character: remove it.")
    try:
        label.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError(f"label {quoted(label)!r} is not valid Unicode (half a surrogate pair): remove it.") from None
    return label


def check_flow(spec: NetworkSpec) -> None:
    """Check that sizes and timesteps fit from stage to stage; raise FormatError or UnsupportedLayer."""
    check_names(spec.stages)
    run_flow(spec)


def check_names(stages: Sequence[StageSpec]) -> None:
    """Check that layers and their directions have different names; raise FormatError."""
    names = [stage.name for stage in stages]
    both = [s.name for s in stages if isinstance(s, RecurrentSpec) and s.bidirectional]
    names += [f"{name}.{way}" for name in both for way in ("forward", "backward")]
    if len(set(names)) != len(names):
        repeated = next(name for name, times in Counter(names).items() if times > 1)
        raise FormatError(f"layer names repeat: {quoted(repeated)!r} occurs twice.")


def run_flow(spec: NetworkSpec, steps: Mapping[str, int] | None = None) -> None:
    """Compute the shape after each stage, and check it against the sizes and observed timesteps of the layers.

    Args:
        spec: description of the network.
        steps: layer name -> timesteps, with the two directions of a layer as ``name.forward`` and ``name.backward``.

    Raises:
        FormatError: a size, an axis or a number of timesteps that does not fit.
        UnsupportedLayer: a stage after the recurrent layers maps the zero of a removed unit to another value.
    """
    if spec.shape is not None and len(spec.shape) > 2 and not isinstance(spec.stages[0], FlattenSpec):
        raise FormatError(f"field shape: found {len(spec.shape)} sizes, expected a Flatten as the first layer.")
    flow = Flow(spec.steps, steps, spec.shape)
    for position, stage in enumerate(spec.stages):
        flow.enter(stage, position)
        if flow.recurrent:
            _check_zero_stays_zero(stage)
    if not flow.recurrent and not prunable_dense(spec.stages):
        raise FormatError(
            "the network has no recurrent layer, and no hidden dense layer whose units can be removed; expected a "
            "SimpleRNN, LSTM or GRU, or a hidden Dense whose activation maps 0 to 0."
        )
    flow.reads("the output layer", spec.features)


def _check_zero_stays_zero(stage: StageSpec) -> None:
    """Raise UnsupportedLayer if a stage maps the zero of a removed unit to another value."""
    if isinstance(stage, ActivationSpec) and not zero_at_zero(stage.activation):
        raise UnsupportedLayer(
            f"activation {stage.name!r} ({stage.activation}) behind the recurrence maps the zero of a removed unit "
            "to another value; supported there: those that map 0 to 0, as tanh and relu. Move it into the dense layer "
            "before it."
        )
    if isinstance(stage, DenseSpec) and stage.activation in ("softmax", "log_softmax"):
        raise UnsupportedLayer(
            f"hidden layer {stage.name!r} has a softmax over its units, so single units cannot be removed."
        )


def check_vocabulary(vocabulary: Any, argument: str) -> None:
    """Raise ArgumentError unless the value is a Vocabulary or None."""
    if vocabulary is not None and not isinstance(vocabulary, Vocabulary):
        raise wrong_object(vocabulary, argument, "a Vocabulary", "make one with unbraid.Vocabulary")


def check_graph_vocabulary(vocabulary: Vocabulary, spec: KerasSpec) -> None:
    """Raise DataError unless the one input of a Keras graph reads the indices of a vocabulary."""
    size, steps = spec.vocabularies[0], vocabulary.padding.steps
    if len(spec.graph.inputs) > 1 or size is None:
        raise DataError("the network reads no text alone, so it cannot use a vocabulary: pass vocabulary=None.")
    if vocabulary.size > size:
        raise DataError(
            f"the vocabulary has indices up to {vocabulary.size - 1}, the embedding up to {size - 1}: was the network "
            "trained with it (num_words)?"
        )
    if None not in (steps, spec.steps) and steps != spec.steps:
        raise DataError(f"the vocabulary pads to {steps} timesteps, the network reads {spec.steps}.")
