"""Arguments of other forms: packed sequences, batch objects, lists; and an output layer with a tied weight."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Entry,
    changed,
    series,
    tags,
    with_lengths,
    words,
)


@dataclass(frozen=True)
class Batch:
    """Words and lengths of a batch."""

    words: Tensor
    lengths: Tensor


class OfPacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, packed: PackedSequence) -> Tensor:
        return self.fc(self.rnn(packed)[1][-1])


class PackedTags(OfPacked):
    """Returns a packed sequence of scores."""

    def forward(self, packed: PackedSequence) -> PackedSequence:  # type: ignore[override]
        found, _ = self.rnn(packed)
        return found._replace(data=self.fc(found.data))


class OfWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(WORDS, FEATURES), nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)


class OfDataclass(OfWords):
    def forward(self, batch: Any) -> Tensor:
        outputs, _ = self.rnn(self.embed(batch.words))
        return self.fc(outputs[torch.arange(len(batch.words)), batch.lengths - 1])


class OfNamespace(OfDataclass):
    pass


class OfOneInList(OfWords):
    def forward(self, given: list[Tensor]) -> Tensor:
        return self.fc(self.rnn(self.embed(given[0]))[0][:, -1])


class TiedLinear(nn.Module):
    """The output layer shares the weight of the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(CLASSES, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES, bias=False)
        self.fc.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.embed(x % CLASSES))[0])


def _packed(x: Tensor) -> PackedSequence:
    lengths = 1 + torch.arange(len(x)).flip(0) % STEPS
    return pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)


def _padded_tags(module: nn.Module, x: PackedSequence) -> Tensor:
    return pad_packed_sequence(module(x), batch_first=True)[0].argmax(-1)


def _batch(kind: Any) -> Any:
    return changed(with_lengths, lambda x: kind(words=x[0], lengths=x[1]))


ENTRIES = [
    Entry("packed sequence as an argument", OfPacked, changed(series, _packed)),
    Entry("packed sequence as an argument", PackedTags, changed(tags(series), _packed), own=_padded_tags, examples=10),
    Entry("batch object", OfDataclass, _batch(Batch)),
    Entry("batch object", OfNamespace, _batch(SimpleNamespace)),
    Entry("list of one tensor", OfOneInList, changed(words, lambda x: [x])),
    Entry("tied output layer", TiedLinear, tags(words)),
]
