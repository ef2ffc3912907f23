"""Packed sequences, sorted by the module or not at all, and the forms in which lengths are passed."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Entry,
    changed,
    tags,
    with_lengths,
)


class Packing(nn.Module):
    def __init__(self, both: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, FEATURES, padding_idx=0)
        self.rnn = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=both)
        self.fc = nn.Linear(HIDDEN * (1 + both), CLASSES)


class SortedByCaller(Packing):
    """Leaves sorting to its caller: enforce_sorted=True is the default."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        return self.fc(self.rnn(packed)[1][-1])


class SortedByCallerAnyName(Packing):
    """Lengths come from the mask."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        many = attention_mask.sum(1)
        packed = pack_padded_sequence(self.embed(input_ids), many.cpu(), batch_first=True)
        return self.fc(self.rnn(packed)[1][-1])


class SortedTagger(Packing):
    def __init__(self) -> None:
        super().__init__(both=True)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths.tolist(), batch_first=True)
        return self.fc(pad_packed_sequence(self.rnn(packed)[0], batch_first=True)[0])


class SortsAndRestoresScores(Packing):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        order = lengths.argsort(descending=True, stable=True)
        packed = pack_padded_sequence(self.embed(x[order]), lengths[order], batch_first=True)
        return self.fc(self.rnn(packed)[1][-1])[order.argsort()]


class SortsAndRestoresStates(Packing):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        falling, order = lengths.sort(0, descending=True)
        packed = pack_padded_sequence(self.embed(x)[order], falling, batch_first=True)
        _, back = order.sort(0)
        return self.fc(self.rnn(packed)[1][-1][back])


class SortsByWords(Packing):
    """Counts words itself, sorts, and restores the order of the scores."""

    def forward(self, x: Tensor) -> Tensor:
        lengths, order = (x != 0).sum(1).sort(descending=True, stable=True)
        packed = pack_padded_sequence(self.embed(x[order]), lengths, batch_first=True)
        scores = self.fc(self.rnn(packed)[1][-1])
        return torch.zeros_like(scores).index_copy(0, order, scores)


class LastByLength(Packing):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        out, _ = self.rnn(self.embed(x))
        return self.fc(out[torch.arange(len(x)), lengths - 1])


class NotSorted(Packing):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True, total_length=x.shape[1])
        return self.fc(out.max(1)[0])


class NotSortedStates(Packing):
    def __init__(self) -> None:
        super().__init__(both=True)

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        packed = pack_padded_sequence(self.embed(batch["text"]), batch["len"], batch_first=True, enforce_sorted=False)
        h = self.rnn(packed)[1]
        return self.fc(torch.cat([h[0], h[1]], -1))


class ListOfLengths(Packing):
    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        assert isinstance(lengths, list)
        packed = pack_padded_sequence(self.embed(x[:, : max(lengths)]), lengths, batch_first=True, enforce_sorted=False)
        return self.fc(self.rnn(packed)[1][-1])


class ListOfLengthsSorted(Packing):
    def forward(self, x: Tensor, lengths: list[int]) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        return self.fc(self.rnn(packed)[1][-1])


class Batch(NamedTuple):
    text: Tensor
    lengths: Tensor


class BatchObject(Packing):
    def forward(self, batch: Batch) -> Tensor:
        packed = pack_padded_sequence(self.embed(batch.text), batch.lengths, batch_first=True)
        return self.fc(self.rnn(packed)[1][-1])


class OneListedTensor(Packing):
    def forward(self, batch: list[Tensor]) -> Tensor:
        return self.fc(self.rnn(self.embed(batch[0]))[1][-1])


def _falling(module: nn.Module, x: Any) -> Tensor:
    """A caller sorts by length and restores the order."""
    lengths = torch.as_tensor(x[1]) if not isinstance(x, dict) else x["attention_mask"].sum(1)
    lengths = lengths.sum(1) if lengths.dim() > 1 else lengths
    order = lengths.argsort(descending=True, stable=True)
    if isinstance(x, dict):
        found = module(**{key: value[order] for key, value in x.items()})
    elif isinstance(x[1], list):
        found = module(x[0][order], lengths[order].tolist())
    else:
        found = module(x[0][order], x[1][order])
    return found[order.argsort()].argmax(-1)


def _falling_batch(module: nn.Module, x: Any) -> Tensor:
    batch = x[0]
    order = batch.lengths.argsort(descending=True, stable=True)
    return module(Batch(batch.text[order], batch.lengths[order]))[order.argsort()].argmax(-1)


def _mask(x: Any) -> dict[str, Tensor]:
    return {"input_ids": x[0], "attention_mask": (torch.arange(STEPS) < x[1][:, None]).long()}


ENTRIES = [
    Entry("packed, sorted by the caller", SortedByCaller, with_lengths, own=_falling),
    Entry("packed, sorted by the caller", SortedByCallerAnyName, changed(with_lengths, _mask), own=_falling),
    Entry("packed, sorted by the caller", SortedTagger, tags(with_lengths), own=_falling),
    Entry(
        "packed, sorted by the caller", BatchObject, changed(with_lengths, lambda x: (Batch(*x),)), own=_falling_batch
    ),
    Entry("packed, sorted in forward", SortsAndRestoresScores, with_lengths),
    Entry("packed, sorted in forward", SortsAndRestoresStates, with_lengths),
    Entry("packed, sorted in forward", SortsByWords, changed(with_lengths, lambda x: x[0])),
    Entry("lengths", LastByLength, with_lengths),
    Entry("packed, in any order", NotSorted, with_lengths),
    Entry("packed, in any order", NotSortedStates, changed(with_lengths, lambda x: ({"text": x[0], "len": x[1]},))),
    Entry("lists as arguments", ListOfLengths, changed(with_lengths, lambda x: (x[0], x[1].tolist()))),
    Entry(
        "lists as arguments",
        ListOfLengthsSorted,
        changed(with_lengths, lambda x: (x[0], x[1].tolist())),
        own=_falling,
    ),
    Entry("lists as arguments", OneListedTensor, changed(with_lengths, lambda x: ([x[0]],))),
]
