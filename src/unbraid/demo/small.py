"""Small networks with random weights and random examples, for the examples in the documentation.

Shapes: N examples, T timesteps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch

from unbraid.decomposition.decompose import decompose
from unbraid.decomposition.decomposition import Decomposition
from unbraid.networks.cells import Cell
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec, NetworkSpec
from unbraid.networks.stage_spec import EmbeddingSpec, RecurrentSpec
from unbraid.translation.pairs import Pairs, find_tag, make_pairs
from unbraid.translation.words import sentence_vocabulary

SENTENCES = {
    "en": ["good morning", "good night", "thank you"],
    "fr": ["bon jour", "bonne nuit", "merci"],
    "de": ["guten morgen", "gute nacht", "danke"],
}
WORDS, STEPS, UNITS = 50, 6, 16


def small_network(labels: Sequence[str] = ("travel", "banking", "weather"), seed: int = 0) -> Network:
    """Make a GRU classifier of word indices with random weights.

    Args:
        labels: names of its classes.
        seed: seed of the weights.

    Example:
        >>> small_network().labels
        ['travel', 'banking', 'weather']
    """
    stages = [
        EmbeddingSpec(name="words", vocabulary=WORDS, dimension=8),
        RecurrentSpec(name="gru", cell=Cell(kind="gru"), inputs=8, units=UNITS, sequences=False),
    ]
    spec = NetworkSpec(stages=stages, head="output", features=UNITS, classes=len(labels), output="softmax")
    return Network(spec, _random_weights(spec, seed), labels)


def small_examples(network: Network, count: int = 120, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Make random word indices and give each class the same number of examples.

    Args:
        network: a network from :func:`small_network`.
        count: N.
        seed: seed of the indices.

    Returns:
        x, int64 (N, T), and y, the labels (N,).

    Example:
        >>> x, y = small_examples(small_network())
        >>> x.shape, y.shape
        ((120, 6), (120,))
    """
    x = np.random.default_rng(seed).integers(0, WORDS, (count, STEPS))
    return x, np.asarray(network.labels)[np.arange(count) % len(network.labels)]


def small_modules(count: int = 120) -> tuple[Decomposition, np.ndarray, np.ndarray]:
    """Decompose the network of :func:`small_network` on :func:`small_examples`.

    Args:
        count: N.

    Returns:
        its modules, and the examples: x, int64 (N, T), and y, the labels (N,).

    Example:
        >>> parts, x, y = small_modules()
        >>> list(parts)
        ['travel', 'banking', 'weather']
    """
    network = small_network()
    x, y = small_examples(network, count)
    return decompose(network, (x, y)), x, y


def small_forecaster(
    count: int = 120, seed: int = 0, labels: Sequence[str] = ("low", "high")
) -> tuple[Network, np.ndarray, np.ndarray]:
    """Make an LSTM with random weights that predicts numbers, and random series with noisy targets.

    Args:
        count: N.
        seed: seed of the weights and of the series.
        labels: names of its C output columns.

    Returns:
        the network, the series x, float32 (N, T, 3), and the targets y, float32 (N, C).

    Example:
        >>> network, x, y = small_forecaster()
        >>> network.task, network.labels, network.predict(x).shape
        ('regression', ['low', 'high'], (120, 2))
    """
    stages = [RecurrentSpec(name="lstm", cell=Cell(kind="lstm"), inputs=3, units=UNITS, sequences=False)]
    spec = NetworkSpec(stages=stages, head="output", features=UNITS, classes=len(labels), output="linear")
    network = Network(spec, _random_weights(spec, seed), labels)
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, STEPS, 3)).astype(np.float32)
    return network, x, network.predict(x) + rng.normal(size=(count, len(labels))).astype(np.float32) / 10


def small_translator(languages: Sequence[str] = ("fr", "de"), seed: int = 0) -> tuple[Network, Pairs]:
    """Make an encoder-decoder with random weights and vocabularies, and a few sentence pairs.

    Args:
        languages: target languages, from ``fr`` and ``de``.
        seed: seed of the weights.

    Returns:
        the network and its pairs, three for each language.

    Example:
        >>> network, pairs = small_translator()
        >>> network.labels, len(pairs)
        (['fr', 'de'], 6)
    """
    targets = {language: SENTENCES[language] for language in languages}
    source = sentence_vocabulary(_words(SENTENCES["en"]))
    target = sentence_vocabulary(_words(text for texts in targets.values() for text in texts), languages)
    cell = Cell(kind="gru")
    spec = EncoderDecoderSpec(
        source=EmbeddingSpec(name="source", vocabulary=source.size, dimension=8, mask_zero=True),
        encoder=[RecurrentSpec(name="encoder", cell=cell, inputs=8, units=UNITS, sequences=True)],
        target=EmbeddingSpec(name="target", vocabulary=target.size, dimension=8),
        decoder=[RecurrentSpec(name="decoder", cell=cell, inputs=8, units=UNITS, sequences=True)],
        head="output",
        features=UNITS,
        classes=target.size,
        languages=[find_tag(language, target) for language in languages],
    )
    network = Network(spec, _random_weights(spec, seed)).with_vocabulary(source, target)
    return network, make_pairs(SENTENCES["en"], targets, source, target)


def _words(texts: Iterable[str]) -> list[str]:
    return sorted({word for text in texts for word in text.split()})


def _random_weights(spec: NetworkSpec | EncoderDecoderSpec, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: weight.shape for name, weight in Network.skeleton(spec).state_dict().items()}
    return {name: torch.randn(shape, generator=generator) * 0.5 for name, shape in shapes.items()}
