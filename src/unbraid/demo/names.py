"""A real classification task that every Python carries: the names of Unicode's characters.

A name is a sequence of words (``GREEK SMALL LETTER ALPHA WITH TONOS``), its class the character's general category.
The order of the words matters: ``SMALL LETTER`` is a lowercase letter, ``SUBSCRIPT SMALL LETTER`` need not be one.
"""

from __future__ import annotations

import hashlib
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

PADDING, UNKNOWN = 0, 1

CATEGORIES = {
    "lowercase letter": ("Ll",),
    "uppercase letter": ("Lu",),
    "other letter": ("Lo",),
    "mark": ("Mn",),
    "number": ("Nd", "Nl", "No"),
    "punctuation": ("Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps"),
    "math symbol": ("Sm",),
    "other symbol": ("So",),
}

Words = tuple[str, ...]


@dataclass(frozen=True)
class NameExamples:
    """Names as word indices with their classes; N examples, T words each.

    Attributes:
        x_train: int64 (N, T), padded with 0 in front.
        y_train: class indices, int64 (N,).
        x_test: as ``x_train``; no test name is, after cutting to T words, also a training name.
        y_test: as ``y_train``.
        labels: class names, in the order of the indices.
        vocabulary: word -> index from the training names alone; 0 is padding and 1 every unknown word.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    labels: list[str]
    vocabulary: dict[str, int]

    def encode(self, names: Iterable[str]) -> np.ndarray:
        """Any names as this network's input, int64 (N, T)."""
        steps = self.x_train.shape[1]
        return _encode((split(name, steps) for name in names), self.vocabulary, steps)


def load_names(*, steps: int = 8, per_class: int = 2000, test_share: float = 0.15, seed: int = 0) -> NameExamples:
    """Character names and their classes, the same in every run of one Python version.

    Args:
        steps: T, at least 1; of a longer name the first T words count.
        per_class: at most so many names of a class (five of the eight have more than 1,800).
        test_share: part of the names to hold out, in (0, 1).
        seed: chooses the names and which of them are held out.
    """
    train: list[tuple[Words, int]] = []
    test: list[tuple[Words, int]] = []
    for index, names in enumerate(_names_by_class(steps)):
        for words in sorted(names, key=lambda w: _fraction(w, f"choice {seed}"))[:per_class]:
            (test if _fraction(words, f"split {seed}") < test_share else train).append((words, index))
    vocabulary = _vocabulary(words for words, _ in train)
    return NameExamples(
        *_arrays(train, vocabulary, steps), *_arrays(test, vocabulary, steps), list(CATEGORIES), vocabulary
    )


def split(name: str, steps: int) -> Words:
    """The first ``steps`` words of a name; a hyphen separates words."""
    return tuple(name.upper().replace("-", " ").split()[:steps])


def _names_by_class(steps: int) -> list[list[Words]]:
    """Names per class, each word sequence once: where cut names coincide, the first character's class holds."""
    classes = {category: i for i, group in enumerate(CATEGORIES.values()) for category in group}
    found: dict[Words, int] = {}
    for name, category in _characters():
        if category in classes:
            found.setdefault(split(name, steps), classes[category])
    return [[words for words, index in found.items() if index == i] for i in range(len(CATEGORIES))]


def _characters() -> Iterator[tuple[str, str]]:
    """Name and category of every character whose name says more than its number."""
    for code in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        if name and not name.endswith(f"-{code:04X}") and not name.startswith("HANGUL SYLLABLE"):
            yield name, unicodedata.category(chr(code))


def _fraction(words: Words, salt: str) -> float:
    """A number in [0, 1) that depends on nothing but the words and the salt."""
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest) / 2**64


def _vocabulary(names: Iterable[Words]) -> dict[str, int]:
    """Words that occur twice or more, frequent ones first: rarer ones teach the network what unknown words mean."""
    counts = Counter(word for words in names for word in words)
    known = sorted((word for word, count in counts.items() if count > 1), key=lambda w: (-counts[w], w))
    return {word: index for index, word in enumerate(known, start=UNKNOWN + 1)}


def _arrays(examples: list[tuple[Words, int]], vocabulary: dict[str, int], steps: int) -> tuple[np.ndarray, np.ndarray]:
    x = _encode((words for words, _ in examples), vocabulary, steps)
    return x, np.array([index for _, index in examples], dtype=np.int64)


def _encode(names: Iterable[Words], vocabulary: dict[str, int], steps: int) -> np.ndarray:
    rows = [[vocabulary.get(word, UNKNOWN) for word in words] for words in names]
    padded = [[PADDING] * (steps - len(row)) + row for row in rows]
    return np.array(padded, dtype=np.int64).reshape(-1, steps)
