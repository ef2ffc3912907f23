"""The data sets of the paper's evaluation as arrays: train, held out (choices are made on it) and test.

Shapes: N examples, T timesteps. Inputs are word indices (0 pads, 1 is an unknown word), labels positions in ``labels``,
-1 where nothing counts. No data set has text of one part in another part's vocabulary.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmarks import files
from unbraid.vocabulary import Side, Vocabulary

Part = tuple[np.ndarray, np.ndarray]  # x (N, T), y (N,) or (N, T')


@dataclass(frozen=True)
class DataSet:
    """A data set in three parts.

    Attributes:
        name: as in the paper, in small letters.
        io: the architecture that the paper trains on it.
        labels: the classes' names.
        train, held_out, test: inputs and labels.
        vocabulary: how text becomes inputs.
        outputs: decisions per example, of 1:N.
    """

    name: str
    io: str
    labels: list[str]
    train: Part
    held_out: Part
    test: Part
    vocabulary: Vocabulary
    outputs: int | None = None


@cache
def load(name: str) -> DataSet:
    """A data set by its name: clinc, brown, mathqa or toxic."""
    return READERS[name]()


def _vocabulary(texts: Iterable[Sequence[str]], size: int, steps: int, side: Side) -> Vocabulary:
    """The most frequent words of the training part; ties in alphabetical order."""
    counts = Counter(word for words in texts for word in words)
    words = sorted(counts, key=lambda word: (-counts[word], word))[: size - 2]
    return Vocabulary.from_words(words, steps=steps, side=side)


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def _clinc() -> DataSet:
    folder = files.data_set("clinc")
    domains = json.loads((folder / "domains.json").read_text())
    labels = list(domains)
    place = {intent.replace("_", " "): n for n, intents in enumerate(domains.values()) for intent in intents}
    raw = json.loads((folder / "data_full.json").read_text())
    texts = {part: [_words(text) for text, _ in raw[part]] for part in ("train", "val", "test")}
    vocabulary = _vocabulary(texts["train"], 6000, 15, "left")
    parts = {
        part: (
            vocabulary.encode(texts[part])[0],
            np.asarray([place[intent.replace("_", " ")] for _, intent in raw[part]]),
        )
        for part in texts
    }
    return DataSet("clinc", "M:1", labels, parts["train"], parts["val"], parts["test"], vocabulary)


def _mathqa() -> DataSet:
    rows = {}
    for part in ("train", "dev", "test"):
        with gzip.open(files.data_set("mathqa") / f"{part}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows[part] = [json.loads(line) for line in lines]
    labels = sorted({row["category"] for row in rows["train"]})
    texts = {part: [_words(row["Problem"]) for row in found] for part, found in rows.items()}
    vocabulary = _vocabulary(texts["train"], 5000, 20, "right")
    parts = {
        part: (vocabulary.encode(texts[part])[0], np.asarray([labels.index(row["category"]) for row in found]))
        for part, found in rows.items()
    }
    return DataSet("mathqa", "1:1", labels, parts["train"], parts["dev"], parts["test"], vocabulary)


TOXIC_LABELS = ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"]


def _toxic() -> DataSet:
    """Six outputs, as the release makes them: the labels that hold at the end, or "clean"; before them padding.

    Classes: 0 padding, 1 clean, 2 to 7 the labels. Comments fall into parts by a hash of their id.
    """
    with gzip.open(
        files.data_set("toxic") / "wiki_toxic_union_slim.csv.gz", "rt", encoding="utf-8", newline=""
    ) as file:
        rows = [row for row in csv.DictReader(file) if row["comment_clean"].strip()]
    fate = np.asarray([int(hashlib.sha256(row["id"].encode()).hexdigest()[:8], 16) % 20 for row in rows])
    members = {"train": fate > 4, "held_out": fate == 4, "test": fate < 4}
    texts = [_words(row["comment_clean"]) for row in rows]
    vocabulary = _vocabulary((t for t, used in zip(texts, members["train"], strict=True) if used), 2000, 20, "right")
    x = vocabulary.encode(texts)[0]
    y = np.zeros((len(rows), 6), np.int64)
    for n, row in enumerate(rows):
        holding = [2 + k for k, label in enumerate(TOXIC_LABELS) if row[label] == "1"] or [1]
        y[n, -len(holding) :] = holding
    parts = {part: (x[used], y[used]) for part, used in members.items()}
    labels = ["padding", "clean", *TOXIC_LABELS]
    return DataSet("toxic", "1:N", labels, parts["train"], parts["held_out"], parts["test"], vocabulary, outputs=6)


def _brown() -> DataSet:
    """Sentences cut after 15 words; every tenth is for testing, the one before it held out."""
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
    fate = np.arange(len(sentences)) % 10
    steps = 15
    members = {"train": fate < 8, "held_out": fate == 8, "test": fate == 9}
    texts = [[word for word, _ in s] for s in sentences]
    vocabulary = _vocabulary(
        (t for t, used in zip(texts, members["train"], strict=True) if used), 10000, steps, "right"
    )
    y = np.full((len(sentences), steps), -1)
    for n, sentence in enumerate(sentences):
        tags = [tag for _, tag in sentence][:steps]
        y[n, : len(tags)] = tags
    index = {w: i for w, i in vocabulary.tokenizer.get_vocab().items()}
    x = np.zeros((len(sentences), steps), np.int64)
    for n, words in enumerate(texts):
        x[n, : min(len(words), steps)] = [index.get(w, 1) for w in words[:steps]]
    parts = {part: (x[used], y[used]) for part, used in members.items()}
    return DataSet("brown", "M:N", labels, parts["train"], parts["held_out"], parts["test"], vocabulary)


READERS: dict[str, Callable[[], DataSet]] = {"clinc": _clinc, "mathqa": _mathqa, "toxic": _toxic, "brown": _brown}
