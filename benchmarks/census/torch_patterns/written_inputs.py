"""Whole classifiers with several inputs, as public repositories have them, rewritten small."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Entry,
    Made,
    series,
    with_lengths,
    words,
)
from benchmarks.census.torch_patterns.written import logits


class CharWordTagger(nn.Module):
    """Words as characters through a convolution, then a tagger."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.conv = nn.Embedding(WORDS, 4), nn.Conv1d(4, 5, 2)
        self.lstm = nn.LSTM(5, HIDDEN, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, steps, letters = x.shape
        letters_of = self.embed(x.reshape(n * steps, letters)).transpose(1, 2)
        word = F.relu(self.conv(letters_of)).max(dim=2).values.reshape(n, steps, -1)
        return self.out(self.lstm(word)[0])


class DictOutput(nn.Module):
    """Returns a dict, and reads a mask of padding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gru = nn.Embedding(WORDS, 5), nn.GRU(5, HIDDEN, batch_first=True)
        self.classifier = nn.Linear(HIDDEN, CLASSES)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        outputs, _ = self.gru(self.embed(input_ids))
        mask = attention_mask.unsqueeze(-1).float()
        pooled = (outputs * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
        return {"logits": self.classifier(pooled), "pooled": pooled}


class TwoStreams(nn.Module):
    """Two inputs, joined, through a dense block with layer norm, and a first state that is a plain attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.layer1 = nn.Sequential(nn.Linear(2 * FEATURES, 8), nn.LayerNorm(8), nn.ReLU(), nn.Dropout(0.1))
        self.gru = nn.GRU(8, HIDDEN, 2, batch_first=True)
        self.f_classification = nn.Sequential(nn.Linear(HIDDEN, CLASSES))
        self.h0 = torch.zeros(2, 1, HIDDEN)

    def forward(self, rgb: Tensor, flow: Tensor) -> Tensor:
        x = self.layer1(torch.cat((rgb, flow), 2))
        outputs, _ = self.gru(x, self.h0.expand(-1, x.shape[0], -1).contiguous())
        return self.f_classification(F.relu(outputs))[:, -1, :]


class Aspect(nn.Module):
    """A sentence and its aspect; attention of the aspect over the sentence by concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 5, padding_idx=0)
        self.lstm = nn.LSTM(10, HIDDEN, batch_first=True)
        self.att, self.dense = nn.Linear(HIDDEN + 5, 1), nn.Linear(HIDDEN, CLASSES)

    def forward(self, text: Tensor, aspect: Tensor) -> Tensor:
        about = self.embed(aspect).unsqueeze(1).expand(-1, text.size(1), -1)
        outputs, _ = self.lstm(torch.cat((self.embed(text), about), -1))
        scores = self.att(torch.cat((outputs, about), -1)).squeeze(-1)
        scores = scores.masked_fill(text == 0, -1e9)
        return self.dense(torch.bmm(F.softmax(scores, 1).unsqueeze(1), outputs).squeeze(1))


class PackedPyramid(nn.Module):
    """A packed layer, pairs of timesteps joined, and a second layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 5)
        self.low = nn.GRU(5, HIDDEN, batch_first=True, bidirectional=True)
        self.high = nn.GRU(4 * HIDDEN, HIDDEN, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.low(packed)[0], batch_first=True, total_length=x.size(1))
        even = outputs[:, : outputs.size(1) // 2 * 2]
        return self.fc(self.high(even.reshape(even.size(0), even.size(1) // 2, -1))[1][-1])


def masked(rng: np.random.Generator, n: int) -> Made:
    """Word indices and the mask of padding, by name."""
    (x, _), y = with_lengths(rng, n)
    return {"input_ids": x, "attention_mask": (x > 0).long()}, y


def letters(rng: np.random.Generator, n: int) -> Made:
    """Indices of characters (N, T, 3) with tags."""
    return torch.from_numpy(rng.integers(1, WORDS, (n, STEPS, 3))), rng.integers(0, CLASSES, (n, STEPS))


def pair(rng: np.random.Generator, n: int) -> Made:
    """Two inputs of features."""
    x, y = series(rng, n)
    return (x, torch.flip(x, [1]) * 0.5), y


def aspects(rng: np.random.Generator, n: int) -> Made:
    """Word indices and one word."""
    x, y = words(rng, n)
    return (x, torch.from_numpy(rng.integers(1, WORDS, n))), y


ENTRIES = [
    Entry("several inputs", CharWordTagger, letters),
    Entry("several inputs", DictOutput, masked, decide=logits),
    Entry("several inputs", TwoStreams, pair),
    Entry("several inputs", Aspect, aspects),
    Entry("several inputs", PackedPyramid, with_lengths),
]
