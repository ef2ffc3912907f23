"""Word counts of a parent's texts: a unigram model that needs no vocabulary, so that parents can be compared.

Words are split in one way for all parents, also for parents with different tokenizers. Counts of rare words could show
texts of the sample: only the most frequent words are kept, and only those with a few occurrences. The total keeps the
others.
Shapes: N texts, P parents.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from unbraid.errors import FormatError, quoted

MOST, LEAST = 5_000, 3  # largest number of words, and smallest number of occurrences of a kept word
MOST_OF_CLASS, MOST_OF_CLASSES = 500, 100_000  # largest numbers of words of one class, and of all classes together
BACKGROUND = 10.0  # words of all texts that are added to those of a class
LONGEST = 100  # characters of a kept word
HALF = 0.5  # added to each count
LARGEST_COUNT = 2**53
_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words_of(text: Any) -> list[str]:
    """Split a text, or a list of words, into lower-case words without punctuation.

    Example:
        >>> words_of("Don't go, NOW!")
        ["don't", 'go', 'now']
    """
    return _WORD.findall((text if isinstance(text, str) else " ".join(text)).lower())


@dataclass(frozen=True, eq=False)
class WordCounts:
    """How often words occur in the texts of a parent.

    Attributes:
        counts: word -> number of occurrences, at most MOST words with at least LEAST occurrences each.
        total: number of all words, with those that are not in ``counts``.
        dispersion: variance of the log density of held-out texts as a multiple of its variance for independent words,
            at least 1. Words of one text depend on each other, so that their evidence is weaker by this factor.
        by_class: for each class of the parent the counts of its most frequent words, at least LEAST occurrences each,
            all of which are in ``counts``. Empty without such counts.

    Raises:
        FormatError: values out of range.
    """

    counts: Mapping[str, int]
    total: int
    dispersion: float = 1.0
    by_class: Sequence[Mapping[str, int]] = ()

    def __post_init__(self) -> None:
        wrong = [w for w, n in self.counts.items() if not LEAST <= n <= LARGEST_COUNT or words_of(w) != [w]]
        if wrong or len(self.counts) > MOST or any(len(word) > LONGEST for word in self.counts):
            raise FormatError(
                f"counts: found {len(self.counts)} words, such as {quoted(next(iter(wrong or self.counts)), 60)!r}; "
                f"expected at most {MOST} words in lower case, each with at least {LEAST} occurrences."
            )
        if not max(1, sum(self.counts.values())) <= self.total <= LARGEST_COUNT:
            raise FormatError(
                f"total: found {quoted(self.total, 40)}, expected at least the sum of the counts, above 0."
            )
        for words in self.by_class:
            for word, count in words.items():
                if not LEAST <= count <= self.counts.get(word, 0):
                    raise FormatError(
                        f"by_class: found {quoted(count, 40)} occurrences of {quoted(word, 60)!r}, expected {LEAST} to "
                        f"{self.counts.get(word, 0)}."
                    )

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]]) -> WordCounts | None:
        """Count the words of texts, each a list of words; return None without a word."""
        found = Counter(word for words in texts for word in words)
        kept = [word for word, count in found.items() if count >= LEAST and 0 < len(word) <= LONGEST]
        frequent = sorted(kept, key=lambda word: (-found[word], word))
        return cls({word: found[word] for word in frequent[:MOST]}, found.total()) if found else None

    def with_classes(self, texts: Iterable[Sequence[str]], decided: Sequence[int], classes: int) -> WordCounts:
        """Return the same counts with :attr:`by_class`.

        Args:
            texts: texts that were counted, each a list of words.
            decided: index of the class of each text.
            classes: number of classes.
        """
        found: list[Counter[str]] = [Counter() for _ in range(classes)]
        for words, index in zip(texts, decided, strict=True):
            found[index].update(word for word in words if word in self.counts)
        most = min(MOST_OF_CLASS, MOST_OF_CLASSES // classes)
        kept = [
            {word: n for word, n in sorted(own.items(), key=lambda pair: (-pair[1], pair[0]))[:most] if n >= LEAST}
            for own in found
        ]
        return dataclasses.replace(self, by_class=kept)

    def dispersion_of(self, texts: Iterable[Sequence[str]]) -> float:
        """Measure :attr:`dispersion` on held-out texts, each a list of words; 1 without a word."""
        own = Unigrams([self])
        chances, logs = own.chances[:, 0], own.logs[:, 0]
        mean = float(chances @ logs)
        spread = max(float(chances @ (logs - mean) ** 2), 1e-12)
        sizes = np.asarray([len(words) for words in texts if len(words)], np.float64)
        if not len(sizes):
            return 1.0
        found = np.asarray([own.density(words)[0] for words in texts if len(words)])
        return float(np.clip(((found - sizes * mean) ** 2 / (sizes * spread)).mean(), 1.0, 1e6))

    def known_share(self, texts: Iterable[Sequence[str]]) -> np.ndarray:
        """Compute the share of words that are in :attr:`counts`, (N,), of texts as lists of words; 0 without a word."""
        return np.asarray([sum(word in self.counts for word in words) / max(len(words), 1) for words in texts])

    def class_ratios(self, texts: Iterable[Sequence[str]], classes: Iterable[int]) -> np.ndarray:
        """Compute how much more probable the words of texts are in their class than in all texts, (N,).

        It is the mean over the words of log P(word | class) - log P(word), 0 without a word or without counts of the
        class. P(word | class) is estimated from the counts of the class and BACKGROUND words of all texts.

        Args:
            texts: texts as lists of words.
            classes: index of the class of each text.
        """
        totals = [sum(own.values()) for own in self.by_class]
        everything = self.total + HALF * (len(self.counts) + 1)
        found = []
        for words, index in zip(texts, classes, strict=True):
            own, logs = self.by_class[index], 0.0
            for word in words:
                share = (self.counts.get(word, 0) + HALF) / everything
                logs += math.log((own.get(word, 0) / share + BACKGROUND) / (totals[index] + BACKGROUND))
            found.append(logs / max(len(words), 1))
        return np.asarray(found)


class Unigrams:
    """The unigram models of P parents over the union of their words, and one more entry for all other words.

    Args:
        parents: word counts of each parent.

    Attributes:
        words: the words.
        chances, logs: probabilities of the words, and of all others as the last row, and their logarithms; (V + 1, P).
    """

    def __init__(self, parents: Sequence[WordCounts]) -> None:
        self.words = list(dict.fromkeys(word for parent in parents for word in parent.counts))
        columns = []
        for parent in parents:
            counts = [parent.counts.get(word, 0) for word in self.words]
            rest = parent.total - sum(parent.counts.values())
            smoothed = np.asarray([*counts, rest], np.float64) + HALF
            columns.append(smoothed / smoothed.sum())
        self.chances = np.stack(columns, axis=1)
        self.logs = np.log(self.chances)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {word: place for place, word in enumerate(self.words)}

    def density(self, words: Sequence[str]) -> np.ndarray:
        """Compute the log density of one text for each parent, (P,); 0 without a word."""
        places, other = self._places, len(self.words)
        found: np.ndarray = self.logs[[places.get(word, other) for word in words]].sum(0)
        return found

    def densities(self, texts: Sequence[Sequence[str]]) -> np.ndarray:
        """Compute the log densities of texts, each a list of words: (N, P)."""
        return np.stack([self.density(words) for words in texts]) if len(texts) else np.zeros((0, self.logs.shape[1]))
