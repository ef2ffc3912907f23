"""Tatoeba as sentence pairs: a training part and a test part without common source sentences.

The part of a source sentence depends on its words only, so it is the same in all data sets and for all models.
"""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache

from benchmarks import files
from unbraid.data.vocabulary import Vocabulary
from unbraid.translation.pairs import Pairs, make_pairs
from unbraid.translation.words import most_frequent, sentence_vocabulary, split_words

Lines = dict[str, list[str]]

TEST = 4  # percent of the source sentences in the test part
FOLDERS = {"tatoeba": "tatoeba", "uk": "tatoeba_uk", "et": "tatoeba_et"}


@dataclass(frozen=True)
class Scale:
    """Sizes of models: number of words of the source and of each target language, longest pair, and widths.

    ``lines`` limits the number of training sentences; a tenth as many are used for testing. ``epochs`` and ``refine``
    limit the epochs of training and the gradient steps of decomposition.
    """

    source: int
    target: int
    steps: int
    dimension: int
    units: int
    lines: int | None = None
    epochs: int | None = None
    refine: int | None = None


SCALES = {
    "quick": Scale(1000, 600, 6, 48, 64, lines=4000, epochs=6, refine=150),
    "small": Scale(4000, 2500, 10, 128, 192),
    "paper": Scale(20000, 20000, 50, 256, 256),
}


@dataclass(frozen=True)
class Corpus:
    """Sentences in two parts.

    Attributes:
        source: language of the sources.
        train, test: language -> sentences; equal indices are translations of each other.
    """

    source: str
    train: Lines
    test: Lines

    def few(self, lines: int | None) -> Corpus:
        """Keep the first ``lines`` of the training part, and a tenth as many of the test part; None keeps all."""
        if lines is None:
            return self
        parts = [({k: v[:n] for k, v in part.items()}) for part, n in ((self.train, lines), (self.test, lines // 10))]
        return Corpus(self.source, *parts)

    @property
    def targets(self) -> list[str]:
        """Return all languages except the source."""
        return [language for language in self.train if language != self.source]


@cache
def corpus(name: str, source: str = "en") -> Corpus:
    """Load the corpus tatoeba, uk or et; ``et-large`` has Estonian and English only."""
    folder = files.data_set(FOLDERS[name.partition("-")[0]])
    ending = "_large.txt.gz" if name.endswith("-large") else ".txt.gz"
    paths = sorted(p for p in folder.glob(f"*{ending}") if ("_large" in p.name) == name.endswith("-large"))
    lines = {p.name.removesuffix(ending): gzip.decompress(p.read_bytes()).decode("utf-8").splitlines() for p in paths}
    counts = {len(found) for found in lines.values()}
    if len(counts) != 1:
        raise SystemExit(f"{folder}: files of {sorted(counts)} lines, expected the same number in each file.")
    tests = [_is_test(" ".join(split_words(text))) for text in lines[source]]
    parts = [
        {k: [t for t, test in zip(found, tests, strict=True) if test is wanted] for k, found in lines.items()}
        for wanted in (False, True)
    ]
    return Corpus(source, *parts)


def _is_test(text: str) -> bool:
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) % 100 < TEST


@dataclass(frozen=True)
class Words:
    """Vocabularies of a model."""

    source: Vocabulary
    target: Vocabulary


def words(data: Corpus, targets: list[str], scale: Scale) -> Words:
    """Make vocabularies of the most frequent words of the training sources, and of each target language."""
    source = most_frequent(map(split_words, data.train[data.source]), scale.source)
    found = [w for language in targets for w in most_frequent(map(split_words, data.train[language]), scale.target)]
    return Words(sentence_vocabulary(source), sentence_vocabulary(found, targets))


def pairs(data: Corpus, part: str, targets: list[str], vocabularies: Words, steps: int | None) -> Pairs:
    """Return the pairs of ``train`` or ``test`` with at most ``steps`` words."""
    lines = getattr(data, part)
    chosen = {language: lines[language] for language in targets}
    return make_pairs(lines[data.source], chosen, vocabularies.source, vocabularies.target, steps)
