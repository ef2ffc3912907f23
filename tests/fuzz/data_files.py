"""Data files: examples, their labels, and sentence pairs, each as ``.npz``, ``.csv`` and ``.jsonl``."""

from functools import cache

import numpy as np

from tests import factory
from tests.fuzz import bases, npz_files, text_files, using
from tests.fuzz.kinds import Kind
from tests.fuzz.library import read_examples, read_pair_columns, ready_for
from tests.translation import talking
from unbraid import Composition, decompose, evaluate, load_composition, load_decomposition

WORDS = ["w1 w2", "w3 w4 w5", "w6", "zzz w7", "w8 w9 w1", "w2 w3"]
LABELS = ["home", "travel", "bank", "home", "travel", "bank"]
FRENCH, GERMAN = ["je vois .", "tu vais ici"], ["ich sehe du", "du ich ."]
SENTENCES = [
    *({"source": "i see you .", "target": text, "language": "fr"} for text in FRENCH * 2),
    *({"source": "you go home", "target": text, "language": "de"} for text in GERMAN * 2),
]


@cache
def decomposition():
    return load_decomposition(bases.DATA / "format1" / "decomposition")


@cache
def models():
    """What examples are given to: classifiers of words."""
    composition = load_composition(bases.DATA / "format1" / "composition")
    return [decomposition().network, using.composed(decomposition()), composition]


@cache
def translator():
    return talking.network()


def _rows(rng, texts, labels):
    many = rng.random() < 0.3
    return [
        {"text": t.split() if many else t, "label": [v] * len(t.split()) if many else v}
        for t, v in zip(texts, labels, strict=True)
    ]


def _written(rng, place, arrays, rows):
    """One of the three formats."""
    kind = rng.choice(["npz", "npz", "csv", "jsonl"])
    content = {
        "npz": lambda: npz_files.mutate(rng, arrays),
        "csv": lambda: text_files.mutate_csv(rng, rows),
        "jsonl": lambda: text_files.mutate_jsonl(rng, rows),
    }[kind]()
    path = place / f"data.{kind}"
    path.write_bytes(content)
    return path


def make_examples(rng, place):
    x, y = factory.examples(decomposition().network, 6)
    return _written(rng, place, {"x": x, "y": y}, _rows(rng, WORDS, LABELS))


def make_labels(rng, place):
    _, y = factory.examples(decomposition().network, 6)
    y = rng.choice([y, np.eye(3, dtype=int)[y], np.array(LABELS), y[:, None] + np.zeros((1, 4), int), y * 1.0])
    arrays = {"y": y, "labels": np.array(["home", "travel", "other"])} if rng.random() < 0.6 else {"y": y}
    return _written(rng, place, arrays, [{"label": label, "y": n} for n, label in enumerate(LABELS)])


def make_pairs(rng, place):
    x, _ = factory.sentence_pairs(translator(), 6)
    arrays = {"source": x["source"], "target": x["target"], "language": np.array(["fr", "de", "it"] * 2)}
    return _written(rng, place, arrays, SENTENCES)


def load_labels(path):
    """Labels of a data file, whatever its inputs are."""
    return read_examples(path, x="labels" if path.suffix == ".npz" else "label", need_labels=False), read_labels(path)


def read_labels(path):
    return read_examples(path, x="y" if path.suffix == ".npz" else "label")


def use_examples(found, place):
    """``unbraid predict`` and ``unbraid evaluate``."""
    for model in models():
        using.quietly(lambda model=model: model.predict(found.x))
        if found.y is not None and isinstance(model, Composition):
            using.quietly(lambda model=model: evaluate(model, (found.x, found.y_for(model.labels))))


def use_labels(found, place):
    """Labels as a recipe and as ``unbraid evaluate`` read them."""
    x, _ = factory.examples(decomposition().network, 6)
    for examples in found:
        for labels in (["home", "travel", "bank"], [0, 1, 2], ["0", "1"]):
            for skip in (False, True):
                using.quietly(lambda e=examples, n=labels, s=skip: e.y_for(n, s))
        using.quietly(lambda e=examples: evaluate(models()[1], (x, e.y_for(models()[1].labels, True))))


def use_pairs(columns, place):
    """``unbraid decompose``."""
    using.quietly(lambda: _pairs(columns))


def _pairs(columns):
    network, (x, languages) = ready_for(translator(), columns)
    decompose(network, (x, languages), strategy="paper", samples_per_class=2)


EXAMPLES = Kind(
    "examples", 8, make_examples, lambda path: read_examples(path, need_labels=False), use_examples, strict=False
)
LABEL_FILES = Kind("labels", 4, make_labels, load_labels, use_labels, strict=False)
PAIRS = Kind("sentence pairs", 4, make_pairs, read_pair_columns, use_pairs, strict=False)
