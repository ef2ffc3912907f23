"""A real classification task from the standard library of Python: the names of Unicode characters.

A name is a sequence of words (``GREEK SMALL LETTER ALPHA WITH TONOS``). Its class is the general category of the
character. The order of the words matters: ``SMALL LETTER`` is a lowercase letter, ``SUBSCRIPT SMALL LETTER`` may be
another class.
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
    """Names as word indices, and their classes; N examples of T words.

    Attributes:
        x_train: int64 (N, T), padded with 0 at the left.
        y_train: class indices, int64 (N,).
        x_test: as ``x_train``; after truncation to T words, no name is in both sets.
        y_test: as ``y_train``.
        labels: names of the classes, in the order of the indices.
        vocabulary: word -> index, from the training names only; 0 is padding and 1 any unknown word.
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    labels: list[str]
    vocabulary: dict[str, int]

    def encode(self, names: Iterable[str]) -> np.ndarray:
        """Convert names to inputs of the network, int64 (N, T)."""
        steps = self.x_train.shape[1]
        return _encode((split(name, steps) for name in names), self.vocabulary, steps)


def load_names(*, steps: int = 8, per_class: int = 2000, test_share: float = 0.15, seed: int = 0) -> NameExamples:
    """Load character names and their classes. The result is the same for each run with one version of Python.

    Args:
        steps: T, at least 1; longer names are truncated to the first T words.
        per_class: largest number of names per class; five of the eight classes have more than 1,800.
        test_share: share of the names in the test set, in (0, 1).
        seed: seed of the choice of names and of the split.
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
    """Return the first ``steps`` words of a name; a hyphen separates words."""
    return tuple(name.upper().replace("-", " ").split()[:steps])


def _names_by_class(steps: int) -> list[list[Words]]:
    """Return the names of each class without duplicates; equal truncated names get the class of the first one."""
    classes = {category: i for i, group in enumerate(CATEGORIES.values()) for category in group}
    found: dict[Words, int] = {}
    for name, category in _characters():
        if category in classes:
            found.setdefault(split(name, steps), classes[category])
    return [[words for words, index in found.items() if index == i] for i in range(len(CATEGORIES))]


def _characters() -> Iterator[tuple[str, str]]:
    """Yield name and category of each character whose name is not derived from its number."""
    for code in range(sys.maxunicode + 1):
        name = unicodedata.name(chr(code), "")
        if name and not name.endswith(f"-{code:04X}") and not name.startswith("HANGUL SYLLABLE"):
            yield name, unicodedata.category(chr(code))


def _fraction(words: Words, salt: str) -> float:
    """Return a number in [0, 1) that depends on the words and the salt only."""
    digest = hashlib.blake2b(" ".join(words).encode(), digest_size=8, key=salt.encode()).digest()
    return int.from_bytes(digest) / 2**64


def _vocabulary(names: Iterable[Words]) -> dict[str, int]:
    """Number the words that occur at least twice, most frequent first. Other words train the index of unknown words."""
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
