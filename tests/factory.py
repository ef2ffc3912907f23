"""Small random networks and examples for all tests."""

from dataclasses import dataclass
from functools import cache
from math import prod

import numpy as np
import pytest
import torch

from tests import jitter, reference
from unbraid import Network
from unbraid.config import Edges, Mode
from unbraid.decomposition.removal.observation import observe
from unbraid.modules.concern import Concern
from unbraid.networks.cells import Cell
from unbraid.networks.reading import check_inputs
from unbraid.networks.spec import EncoderDecoderSpec, LanguageTag, NetworkSpec
from unbraid.networks.stage_spec import DenseSpec, EmbeddingSpec, FlattenSpec, MaskingSpec, RecurrentSpec, RepeatSpec

CELLS = {
    "vanilla": Cell(kind="rnn"),
    "relu": Cell(kind="rnn", activation="relu"),
    "lstm": Cell(kind="lstm"),
    "lstm-hard": Cell(kind="lstm", gate_activation="hard_sigmoid_keras2"),
    "lstm-relu": Cell(kind="lstm", activation="relu"),
    "gru": Cell(kind="gru"),
    "gru-hard": Cell(kind="gru", gate_activation="hard_sigmoid"),
    "gru-before": Cell(kind="gru", reset_after=False),
}
# for tests of something else with modules of several parents, which do not calibrate them
UNCALIBRATED = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
IO = ("1:1", "1:N", "M:1", "M:N")
VOCABULARY, DIMENSION, WORDS = 120, 3, 4  # words: T of the inputs


def network(
    cells=("lstm",),
    io="M:1",
    *,
    units=3,
    classes=3,
    bidirectional=False,
    merge="concat",
    reverse=False,
    hidden=(),
    front=(),
    between=None,
    inputs="words",
    mask=False,
    flat=False,
    output="softmax",
    labels=None,
    steps=3,
    seed=0,
):
    """Make a network with random weights.

    Args:
        cells: names of :data:`CELLS` (or Cells), one per layer.
        io: one of :data:`IO`; for one input, the words are flattened and repeated.
        hidden: (units, activation) of dense layers after the recurrent layers.
        front: the same of dense layers before them.
        between: (units, activation) of a dense layer between two recurrent layers; None for none.
        inputs: ``words`` or ``features`` (for one input always words).
        mask: whether padded timesteps are masked.
        flat: M:1 with all outputs of the last recurrent layer, flattened.
        steps: number of repetitions of the input for 1:N.
    """
    one_input, many = io.startswith("1"), io.endswith("N")
    width = DIMENSION
    stages = []
    if inputs == "words" or one_input:
        stages.append(EmbeddingSpec(name="words", vocabulary=VOCABULARY, dimension=DIMENSION, mask_zero=mask))
    elif mask:
        stages.append(MaskingSpec(name="masking"))
    if one_input:
        width = WORDS * DIMENSION
        stages += [FlattenSpec(name="flatten"), RepeatSpec(name="repeat", times=steps if many else 1)]
    for number, (size, activation) in enumerate(front):
        stages.append(DenseSpec(name=f"front{number}", inputs=width, units=size, activation=activation))
        width = size
    for number, cell in enumerate(cells):
        if number and between is not None:
            stages.append(DenseSpec(name=f"between{number}", inputs=width, units=between[0], activation=between[1]))
            width = between[0]
        stages.append(
            RecurrentSpec(
                name=f"rnn{number}",
                cell=CELLS[cell] if isinstance(cell, str) else cell,
                inputs=width,
                units=units + number,
                sequences=many or flat or number < len(cells) - 1,
                reverse=reverse,
                bidirectional=bidirectional,
                merge=merge,
            )
        )
        width = (units + number) * (2 if bidirectional and merge == "concat" else 1)
    if flat:
        stages.append(FlattenSpec(name="flat"))
        width *= WORDS
    for number, (size, activation) in enumerate(hidden):
        stages.append(DenseSpec(name=f"dense{number}", inputs=width, units=size, activation=activation))
        width = size
    spec = NetworkSpec(stages=stages, head="head", features=width, classes=classes, output=output)
    return Network(spec, random_weights(spec, seed), labels)


def dense_network(hidden, shape, *, classes=3, output="softmax", seed=0):
    """Make a network of dense layers alone, with random weights.

    Args:
        hidden: (units, activation) of its hidden layers.
        shape: of one example; more than one size is flattened.
    """
    stages, width = [], prod(shape)
    if len(shape) > 1:
        stages.append(FlattenSpec(name="flatten"))
    for number, (size, activation) in enumerate(hidden):
        stages.append(DenseSpec(name=f"dense{number}", inputs=width, units=size, activation=activation))
        width = size
    spec = NetworkSpec(stages=stages, head="head", features=width, classes=classes, output=output, shape=list(shape))
    return Network(spec, random_weights(spec, seed))


def vectors(net, count=60, seed=0):
    """Make (x, y) for a :func:`dense_network`: examples of a class are similar."""
    rng = np.random.default_rng(seed)
    y = rng.permutation(np.arange(count) % net.classes)
    centres = rng.normal(size=(net.classes, *net.spec.shape))
    return (rng.normal(size=(count, *net.spec.shape)) + centres[y]).astype(np.float32), y


LANGUAGES = ("fr", "de", "it")


def translator(cells=("lstm",), *, units=4, mask=True, reverse=False, encoder_too=False, languages=LANGUAGES, seed=0):
    """Make an encoder-decoder with random weights: 12 source words, 20 target words, tags from index 2.

    Args:
        cells: names of :data:`CELLS`, one per layer of each side.
        units: H of the first layer; each further layer has one more.
        mask: whether source padding is masked.
        reverse: whether the encoder reads backwards.
    """
    sides = {}
    for side in ("encoder", "decoder"):
        width, sides[side] = DIMENSION, []
        for number, cell in enumerate(cells):
            name, backwards = f"{side}{number}", reverse and side == "encoder"
            sides[side].append(
                RecurrentSpec(name=name, cell=CELLS[cell], inputs=width, units=units + number, sequences=True,
                              reverse=backwards)
            )  # fmt: skip
            width = units + number
    spec = EncoderDecoderSpec(
        source=EmbeddingSpec(name="source", vocabulary=12, dimension=DIMENSION, mask_zero=mask),
        target=EmbeddingSpec(name="target", vocabulary=20, dimension=DIMENSION),
        **sides,
        head="out",
        features=width,
        classes=20,
        languages=[LanguageTag(name=v, start=2 + 2 * n, end=3 + 2 * n) for n, v in enumerate(languages)],
        encoder_too=encoder_too,
    )
    return Network(spec, random_weights(spec, seed))


def sentence_pairs(net, count=18, seed=0, steps=6):
    """Make ({"source", "target"}, languages). Each language has words that are more frequent than in the others."""
    rng = np.random.default_rng(seed)
    tags = net.spec.languages
    kind = rng.permutation(np.arange(count) % len(tags))
    first = 2 + 2 * len(tags)
    source = rng.integers(1, net.spec.source.vocabulary, (count, steps - 1))
    words = first + (rng.integers(0, 4, (count, steps)) * len(tags) + kind[:, None]) % (net.spec.classes - first)
    words = np.where(rng.random(words.shape) < 0.3, rng.integers(first, net.spec.classes, words.shape), words)
    words[:, 0] = [tags[k].start for k in kind]
    source[np.arange(steps - 1) >= rng.integers(1, steps, count)[:, None]] = 0
    words[np.arange(steps) >= rng.integers(1, steps + 1, count)[:, None]] = 0
    return {"source": source, "target": words}, np.array([tags[k].name for k in kind])


def random_weights(spec, seed):
    """Draw normal vectors; words of one class (see :func:`examples`) have similar vectors."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, parameter in Network.skeleton(spec).named_parameters():
        values = torch.randn(parameter.shape, generator=generator)
        if parameter.shape[:1] == (VOCABULARY,):
            groups = torch.randn(spec.classes, parameter.shape[1], generator=generator)
            values = 0.7 * values + groups[torch.arange(VOCABULARY) % spec.classes]
        elif "weight" in name:
            values = values * 0.5
        else:
            values = values * 0.4 - 0.2  # so that some rectified nodes sleep
        weights[name] = values
    return jitter.changed_weights(weights)


def examples(net, count=24, seed=0, steps=WORDS, padded=False):
    """Make (x, y) in which the examples of a class are similar.

    Words of class j are those with index % C == j. With ``padded``, some timesteps at the end and some others are 0.
    Independent labels are (N, C) of 0 and 1.
    """
    rng = np.random.default_rng(seed)
    classes = net.classes
    kind = rng.permutation(np.arange(count) % classes)
    words = rng.integers(1, VOCABULARY // classes, (count, steps)) * classes + kind[:, None]
    words = np.where(rng.random(words.shape) < 0.3, rng.integers(1, VOCABULARY, words.shape), words)
    words[words >= VOCABULARY] = VOCABULARY - 1
    if padded:
        lengths = rng.integers(1, steps + 1, count)
        words[np.arange(steps) >= lengths[:, None]] = 0
        words[:, 0] = np.where(rng.random(count) < 0.2, 0, words[:, 0])
    x = words.astype(np.int64)
    if net.spec.stages[0].type != "embedding":
        centres = rng.normal(size=(classes, DIMENSION))
        x = (rng.normal(size=(count, steps, DIMENSION)) + centres[words % classes]).astype(np.float32)
        x[words == 0] = 0
    out_steps = net.spec.stages[2].times if net.io.value == "1:N" else steps
    if net.spec.output == "sigmoid" and not net.binary:
        y = (rng.random((count, classes)) < 0.4).astype(np.int64)
        y[:classes] = y[classes : 2 * classes] = np.eye(classes, dtype=np.int64)
        return x, y
    if not net.io.many_outputs:
        return x, kind
    y = rng.permuted(np.tile(np.arange(count) % classes, (out_steps, 1)), axis=1).T
    if net.io.value == "M:N":  # so that a step's word says something of its label
        y = np.where(rng.random(y.shape) < 0.6, x % classes if x.ndim == 2 else words % classes, y)
    return x, y


def random_concern(net, x, mode="rolled", by_gates=False, edges="all", kept=0.6, seed=0):
    """Draw random nodes (or gates) of each layer; whole layers and whole timesteps may be empty."""
    rng = np.random.default_rng(seed)
    masks, steps = {}, {}
    with observed(net, check_inputs(net.spec, x).take(slice(0, 1)).tree) as seen:
        for name, layer in net.layers.items():
            steps[name] = seen.layers[name].values.shape[1]
            gates = len(layer.cell.gates) if layer.cell else 1
            shape = (gates, layer.units) if by_gates and gates > 1 else (layer.units,)
            if mode == "unrolled" and (layer.cell or steps[name] > 1):
                shape = (steps[name], *shape)
            masks[name] = rng.random(shape) < rng.choice([kept, kept, kept, 0, 1])
    return Concern(masks, steps, Mode(mode), by_gates, Edges(edges))


def as_removed(concern):
    """Convert the masks of a module to the form of the oracle."""
    return reference.Removed(
        {name: ~mask for name, mask in concern.kept.items()},
        unrolled=concern.mode == "unrolled",
        by_gates=concern.by_gates,
        release_edges=concern.edges == "release",
    )


@dataclass(frozen=True)
class Watched:
    """A network, examples, and the results of the oracle for them."""

    net: Network
    x: np.ndarray
    y: np.ndarray
    plain: reference.Plain
    scores: np.ndarray
    seen: list


@cache
def watched(cells, io, *, count=24, padded=False, **settings):
    """Make a network of :func:`network` and its :func:`examples`, once per test process."""
    net = network(cells, io, **settings)
    x, y = examples(net, count, padded=padded)
    plain = reference.plain(net)
    runs = [reference.forward(plain, example) for example in x]
    return Watched(net, x, y, plain, np.array([run[0] for run in runs]), [run[2] for run in runs])


def observed(net, x, gates=False, **settings):
    """Observe all of x with the library; a context manager."""
    return observe(net, check_inputs(net.spec, x), gates, **settings)


def seen_by_library(net, x, rows):
    """Convert an observation to the form of the oracle: row -> layer -> [(value, gates, counts)] by timestep.

    The oracle uses these values if masks must be identical. In float32 the values of a saturated node differ by single
    roundings, which decide whether a value is an outlier. Another test checks that the values are right.
    """
    found = {row: {} for row in rows}
    with observed(net, x[rows]) as hidden, observed(net, x[rows], gates=True) as gated:
        for layer in reference.plain(net).layers:
            states, gates = hidden.layers[layer.name], gated.layers[layer.name]
            for place, row in enumerate(rows):
                found[row][layer.name] = [
                    (
                        states.values[:, t, place].astype(np.float64),
                        {
                            gate: gates.values[g * layer.units : (g + 1) * layer.units, t, place].astype(np.float64)
                            for g, gate in enumerate(layer.gates)
                        },
                        states.valid is None or bool(states.valid[t, place]),
                    )
                    for t in range(states.values.shape[1])
                ]
    return found
