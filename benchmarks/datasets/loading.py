"""Load the data sets of the paper's evaluation as arrays: a training, a held-out and a test part.

Settings are chosen on the held-out part. Inputs are word indices (0 is padding, 1 an unknown word). Labels are indices
into ``labels``; -1 means no label. Vocabularies contain words of the training part only. Shapes: N examples, T
timesteps.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from benchmarks import files
from unbraid.data.rows import Side
from unbraid.data.vocabulary import Vocabulary

Part = tuple[np.ndarray, np.ndarray]  # x (N, T), y (N,) or (N, T')
PARTS = ("train", "held_out", "test")


class About(NamedTuple):
    """How the paper uses a data set: input/output type, words, T, side of padding, outputs of 1:N, and partner."""

    io: str
    words: int
    steps: int
    side: Side
    outputs: int | None
    partner: str  # the other data set of the inter experiments


ABOUT = {
    "clinc": About("M:1", 6000, 15, "left", None, "brown"),
    "brown": About("M:N", 10000, 15, "right", None, "clinc"),
    "mathqa": About("1:1", 5000, 20, "right", None, "toxic"),
    "toxic": About("1:N", 2000, 20, "right", 6, "mathqa"),
}


@dataclass(frozen=True)
class Raw:
    """Texts (words separated by spaces) and labels of each part, before the conversion to word indices."""

    labels: list[str]
    parts: dict[str, tuple[list[str], np.ndarray]]

    def few(self, rows: int | None) -> Raw:
        """Draw ``rows`` random training examples, and half as many of the other parts; None keeps all."""
        if rows is None:
            return self
        found = {}
        for part, (texts, y) in self.parts.items():
            wanted = rows if part == "train" else rows // 2
            chosen = np.sort(np.random.default_rng(0).permutation(len(texts))[:wanted])
            found[part] = ([texts[n] for n in chosen], y[chosen])
        return Raw(self.labels, found)


@dataclass(frozen=True)
class DataSet:
    """A data set in three parts.

    Attributes:
        name: name in the paper, in lower case.
        about: how the paper uses it.
        labels: names of the classes.
        train, held_out, test: inputs and labels.
        texts: part -> texts of its inputs, words separated by spaces.
        vocabulary: converts texts to inputs.
    """

    name: str
    about: About
    labels: list[str]
    train: Part
    held_out: Part
    test: Part
    texts: dict[str, list[str]]
    vocabulary: Vocabulary


@cache
def load(name: str, joint: bool = False, rows: int | None = None) -> DataSet:
    """Load a data set.

    Args:
        name: clinc, brown, mathqa or toxic.
        joint: whether the vocabulary also contains the words of the partner, as in the paper's inter experiments.
        rows: number of random training examples; the other parts get half as many. None keeps all.
    """
    about, raw = ABOUT[name], _read(name).few(rows)
    words = _frequent(raw.parts["train"][0], about.words)
    if joint:
        partner = _frequent(_read(about.partner).few(rows).parts["train"][0], ABOUT[about.partner].words)
        words = sorted({*words, *partner})  # sorted, so that both data sets get the same indices
    vocabulary = Vocabulary.from_words(words, steps=about.steps, side=about.side)
    arrays = [(vocabulary.encode(raw.parts[part][0])[0], raw.parts[part][1]) for part in PARTS]
    texts = {part: raw.parts[part][0] for part in PARTS}
    return DataSet(name, about, raw.labels, *arrays, texts, vocabulary)


@cache
def _read(name: str) -> Raw:
    return READERS[name]()


def _frequent(texts: Iterable[str], size: int) -> list[str]:
    """Return the most frequent words of the training part; ties are in alphabetical order."""
    counts = Counter(word for text in texts for word in text.split())
    return sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]


def plain_words(text: str) -> str:
    return " ".join(re.findall(r"[a-z0-9']+", text.lower()))


def _clinc() -> Raw:
    folder = files.data_set("clinc")
    domains = json.loads((folder / "domains.json").read_text())
    place = {intent.replace("_", " "): n for n, intents in enumerate(domains.values()) for intent in intents}
    raw = json.loads((folder / "data_full.json").read_text())
    parts = {}
    for part, published in zip(PARTS, ("train", "val", "test"), strict=True):
        y = np.asarray([place[intent.replace("_", " ")] for _, intent in raw[published]])
        parts[part] = ([plain_words(text) for text, _ in raw[published]], y)
    return Raw(list(domains), parts)


def _mathqa() -> Raw:
    rows = {}
    for part, published in zip(PARTS, ("train", "dev", "test"), strict=True):
        with gzip.open(files.data_set("mathqa") / f"{published}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows[part] = [json.loads(line) for line in lines]
    labels = sorted({row["category"] for row in rows["train"]})
    parts = {
        part: (
            [plain_words(row["Problem"]) for row in found],
            np.asarray([labels.index(row["category"]) for row in found]),
        )
        for part, found in rows.items()
    }
    return Raw(labels, parts)


TOXIC_LABELS = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]


def _toxic() -> Raw:
    """Load six outputs per comment, as in the authors' code: padding, then the labels of the comment, or "clean".

    Classes: 0 padding, 1 clean, 2 to 7 the labels. The part of a comment is chosen by a hash of its id.
    """
    with gzip.open(
        files.data_set("toxic") / "wiki_toxic_union_slim.csv.gz", "rt", encoding="utf-8", newline=""
    ) as file:
        rows = [row for row in csv.DictReader(file) if row["comment_clean"].strip()]
    fate = np.asarray([int(hashlib.sha256(row["id"].encode()).hexdigest()[:8], 16) % 20 for row in rows])
    y = np.zeros((len(rows), 6), np.int64)
    for n, row in enumerate(rows):
        holding = [2 + k for k, label in enumerate(TOXIC_LABELS) if row[label] == "1"] or [1]
        y[n, -len(holding) :] = holding
    texts = [plain_words(row["comment_clean"]) for row in rows]
    return Raw(["padding", "clean", *TOXIC_LABELS], _parted(texts, y, (fate > 4, fate == 4, fate < 4)))


def _brown() -> Raw:
    """Load sentences truncated to 15 words; each tenth sentence is in the test part, the one before it is held out."""
    with zipfile.ZipFile(files.data_set("brown") / "universal_tagset.zip") as archive:
        lines = archive.read("universal_tagset/en-brown.map").decode().splitlines()
    universal = dict(line.split("\t") for line in lines if "\t" in line)
    labels = sorted(set(universal.values()))
    sentences: list[list[tuple[str, int]]] = []
    with zipfile.ZipFile(files.data_set("brown") / "brown.zip") as archive:
        for name in sorted(archive.namelist()):
            if re.fullmatch(r"brown/c[a-r]\d\d", name):
                for line in archive.read(name).decode("utf-8").splitlines():
                    pairs = [token.rpartition("/") for token in line.split()]
                    if pairs:
                        sentences.append([(w.lower(), labels.index(universal[t.upper()])) for w, _, t in pairs])
    y = np.full((len(sentences), ABOUT["brown"].steps), -1)
    for n, sentence in enumerate(sentences):
        tags = [tag for _, tag in sentence][: y.shape[1]]
        y[n, : len(tags)] = tags
    fate = np.arange(len(sentences)) % 10
    texts = [" ".join(word for word, _ in sentence) for sentence in sentences]
    return Raw(labels, _parted(texts, y, (fate < 8, fate == 8, fate == 9)))


def _parted(texts: list[str], y: np.ndarray, members: Iterable[np.ndarray]) -> dict[str, tuple[list[str], np.ndarray]]:
    return {
        part: ([texts[n] for n in np.flatnonzero(used)], y[used]) for part, used in zip(PARTS, members, strict=True)
    }


READERS: dict[str, Callable[[], Raw]] = {"clinc": _clinc, "mathqa": _mathqa, "toxic": _toxic, "brown": _brown}
