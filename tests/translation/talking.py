"""Small translators with vocabularies."""

from tests import factory
from unbraid import decompose
from unbraid.translation.words import sentence_vocabulary

SOURCE = ["i", "you", "see", "go", "home", "now", "not", "the", "dog", "."]
TARGET = ["je", "tu", "vois", "vais", "ici", "ich", "sehe", "du", "io", "vado", "l'", "."]
TEXTS = ["I see you.", "the dog", "go home now", "you see the dog now.", "not", "xyzzy i", ""]


def network(cells=("lstm",), seed=0, **settings):
    """Make an encoder-decoder with vocabularies and three languages."""
    net = factory.translator(cells, seed=seed, **settings)
    return net.with_vocabulary(sentence_vocabulary(SOURCE), sentence_vocabulary(TARGET, factory.LANGUAGES))


def modules(cells=("lstm",), seed=0, steps=6, **settings):
    """Decompose the encoder-decoder."""
    net = network(cells, seed)
    if settings.setdefault("strategy", "paper") == "paper":
        settings.setdefault("max_removed", 0.3)
    return decompose(net, factory.sentence_pairs(net, seed=seed, steps=steps), **settings)
