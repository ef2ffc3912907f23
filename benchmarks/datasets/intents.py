"""CLINC-150 with its out-of-scope queries, as texts: 150 intents, or their 10 domains (Larson et al. 2019).

Networks are trained on ``train`` and every setting is chosen on ``held_out`` and ``held_out_unknown``. The parts
``test`` and ``test_unknown`` give the results. Texts of no class never take part in training.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks import files
from benchmarks.datasets.loading import plain_words
from unbraid.data.vocabulary import Vocabulary

LEAST, STEPS = 2, 20  # smallest number of occurrences of a word of the vocabulary, and T
PARTS = {"train": "train", "held_out": "val", "test": "test"}
UNKNOWN = {"few_unknown": "oos_train", "held_out_unknown": "oos_val", "test_unknown": "oos_test"}


@dataclass(frozen=True)
class Intents:
    """The queries of one labelling.

    Attributes:
        labels: names of the C classes.
        parts: part -> texts and index of the class of each, (N,).
        unknown: part -> texts of no class.
        vocabulary: converts texts to inputs.
    """

    labels: list[str]
    parts: dict[str, tuple[list[str], np.ndarray]]
    unknown: dict[str, list[str]]
    vocabulary: Vocabulary


@cache
def load(domains: bool) -> Intents:
    """Load the queries.

    Args:
        domains: whether the classes are the 10 domains. Otherwise they are the 150 intents.
    """
    folder = files.data_set("clinc")
    raw = json.loads((folder / "data_full.json").read_text())
    grouped = json.loads((folder / "domains.json").read_text())
    home = {intent.replace(" ", "_"): domain for domain, intents in grouped.items() for intent in intents}
    labels = list(grouped) if domains else sorted({intent for _, intent in raw["train"]})
    place = {label: n for n, label in enumerate(labels)}
    parts = {}
    for part, published in PARTS.items():
        named = [home[intent.replace(" ", "_")] if domains else intent for _, intent in raw[published]]
        parts[part] = ([plain_words(text) for text, _ in raw[published]], np.asarray([place[name] for name in named]))
    unknown = {part: [plain_words(text) for text, _ in raw[published]] for part, published in UNKNOWN.items()}
    counts = Counter(word for text in parts["train"][0] for word in text.split())
    words = sorted(word for word, count in counts.items() if count >= LEAST)
    vocabulary = Vocabulary.from_words(words, steps=STEPS, side="left")
    return Intents(labels, parts, unknown, vocabulary)
