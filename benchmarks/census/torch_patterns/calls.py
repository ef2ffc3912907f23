"""Layers that run several times in a forward, or over parts of examples; decoders; taggers with a CRF."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Entry,
    series,
    tags,
    words,
)


class Encoding(nn.Module):
    def __init__(self, width: int = HIDDEN) -> None:
        super().__init__()
        self.embed, self.encoder = nn.Embedding(WORDS, FEATURES), nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.fc = nn.Linear(width, CLASSES)

    def encode(self, x: Tensor) -> Tensor:
        return self.encoder(self.embed(x))[1][0][-1]


class Siamese(Encoding):
    def __init__(self) -> None:
        super().__init__(4 * HIDDEN)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.encode(first), self.encode(second)
        return self.fc(torch.cat([a, b, (a - b).abs(), a * b], 1))


class SiameseFolded(Siamese):
    """Both sides in one call, one behind the other in the batch axis."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        a, b = self.encode(torch.cat([first, second])).chunk(2)
        return self.fc(torch.cat([a, b, (a - b).abs(), a * b], 1))


class Conditional(Encoding):
    """The second sequence starts from the state of the first."""

    def forward(self, premise: Tensor, hypothesis: Tensor) -> Tensor:
        _, state = self.encoder(self.embed(premise))
        return self.fc(self.encoder(self.embed(hypothesis), state)[0][:, -1])


class ThreeViews(Encoding):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encode(x) + self.encode(x.flip(1)) + self.encode(x[:, ::2]))


class Hierarchical(nn.Module):
    """Documents of sentences of words (N, S, T): sentences are folded in the batch axis."""

    def __init__(self, pool: bool = False) -> None:
        super().__init__()
        self.embed, self.words = nn.Embedding(WORDS, FEATURES), nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.sentences, self.fc = nn.GRU(HIDDEN, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
        self.key, self.pool = nn.Linear(HIDDEN, 1), pool

    def forward(self, x: Tensor) -> Tensor:
        n, s, t = x.shape
        h, last = self.words(self.embed(x.view(n * s, t)))
        sentence = (torch.softmax(self.key(h), 1) * h).sum(1) if self.pool else last[0]
        return self.fc(self.sentences(sentence.view(n, s, -1))[0][:, -1])


class HierarchicalAttention(Hierarchical):
    def __init__(self) -> None:
        super().__init__(pool=True)


class HierarchicalLoop(Hierarchical):
    """One sentence after the other."""

    def forward(self, x: Tensor) -> Tensor:
        sentences = [self.words(self.embed(x[:, i]))[1][0] for i in range(x.shape[1])]
        return self.fc(self.sentences(torch.stack(sentences, 1))[1][0])


class Characters(nn.Module):
    """A tagger of words that are spelt (N, W, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.spelling = (
            nn.Embedding(WORDS, FEATURES),
            nn.LSTM(FEATURES, 3, batch_first=True, bidirectional=True),
        )
        self.words, self.fc = nn.LSTM(6, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, w, letters = x.shape
        _, (h, _) = self.spelling(self.embed(x.reshape(-1, letters)))
        spelt = torch.cat([h[0], h[1]], 1).reshape(n, w, -1)
        return self.fc(self.words(spelt)[0])


class Channels(nn.Module):
    """One layer over every channel of a series: channels are folded in the batch axis, outside of the examples."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.GRU(1, HIDDEN, batch_first=True), nn.Linear(FEATURES * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, t, d = x.shape
        h = self.rnn(x.permute(2, 0, 1).reshape(d * n, t, 1))[1][0]
        return self.fc(h.view(d, n, -1).transpose(0, 1).reshape(n, -1))


class StepByStep(Encoding):
    """A layer that is called for one timestep at a time."""

    def forward(self, x: Tensor) -> Tensor:
        state, out = None, None
        for step in self.embed(x).split(1, dim=1):
            out, state = self.encoder(step, state)
        return self.fc(out[:, -1])


class AttentionDecoder(nn.Module):
    """A decoder that looks at the encoder's outputs before each step, with the output layer in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.encoder = nn.Embedding(WORDS, FEATURES), nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.query, self.decoder = nn.Linear(2 * HIDDEN, 1), nn.GRU(FEATURES + HIDDEN, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, CLASSES)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encoder(self.embed(source))
        scores = []
        for t in range(target.shape[1]):
            query = state[-1].unsqueeze(1).expand_as(memory)
            weights = torch.softmax(self.query(torch.cat([query, memory], -1)), 1)
            step = torch.cat([self.embed(target[:, t]), (weights * memory).sum(1)], -1)
            out, state = self.decoder(step.unsqueeze(1), state)
            scores.append(self.out(out.squeeze(1)))
        return torch.stack(scores, 1)


class FeedbackDecoder(nn.Module):
    """Reads its own last decision."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.tag = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Embedding(CLASSES, 3)
        self.cell, self.out = nn.LSTMCell(HIDDEN + 3, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        memory, _ = self.encoder(x)
        state, scores, last = None, [], torch.zeros(len(x), dtype=torch.long)
        for t in range(x.shape[1]):
            state = self.cell(torch.cat([memory[:, t], self.tag(last)], 1), state)
            scores.append(self.out(state[0]))
            last = scores[-1].argmax(1)
        return torch.stack(scores, 1)


class CRFTagger(nn.Module):
    """Returns the best path by Viterbi's algorithm."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.lstm = (
            nn.Embedding(WORDS, FEATURES),
            nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True),
        )
        self.emission = nn.Linear(2 * HIDDEN, CLASSES)
        self.transitions = nn.Parameter(0.1 * torch.randn(CLASSES, CLASSES))

    def forward(self, x: Tensor) -> Any:
        return self.decode(self.emission(self.lstm(self.embed(x))[0]))

    def decode(self, scores: Tensor) -> Tensor:
        best, back = scores[:, 0], []
        for t in range(1, scores.shape[1]):
            value, place = (best.unsqueeze(2) + self.transitions).max(1)
            best = value + scores[:, t]
            back.append(place)
        path = [best.argmax(1)]
        for place in reversed(back):
            path.append(place.gather(1, path[-1].unsqueeze(1)).squeeze(1))
        return torch.stack(path[::-1], 1)


class CRFListed(CRFTagger):
    """Returns lists of tags, as packages for CRFs do."""

    def forward(self, x: Tensor) -> list[list[int]]:
        return super().forward(x).tolist()


class CRFOneSentence(CRFTagger):
    """One sentence a call: a score and a path."""

    def forward(self, sentence: Tensor) -> tuple[Tensor, list[int]]:
        out, _ = self.lstm(self.embed(sentence).view(1, len(sentence), -1))
        scores = self.emission(out.view(len(sentence), -1))
        return scores.max(1)[0].sum(), self.decode(scores.unsqueeze(0))[0].tolist()


def _emissions(module: nn.Module, x: Tensor) -> Tensor:
    return module.emission(module.lstm(module.embed(x))[0]).argmax(-1)


def _pairs(rng: np.random.Generator, n: int) -> Any:
    x, y = words(rng, n)
    return (x, words(rng, n)[0]), y


def _targets(rng: np.random.Generator, n: int) -> Any:
    (x, target), _ = _pairs(rng, n)
    return (x, target), rng.integers(0, CLASSES, (n, STEPS))


def _documents(rng: np.random.Generator, n: int) -> Any:
    _, y = words(rng, n)
    return torch.from_numpy(rng.integers(1, WORDS, (n, 4, STEPS))), y


def _spelt(rng: np.random.Generator, n: int) -> Any:
    x, _ = _documents(rng, n)
    return x, rng.integers(0, CLASSES, (n, 4))


ENTRIES = [
    Entry("one encoder for two sequences", Siamese, _pairs),
    Entry("one encoder for two sequences", SiameseFolded, _pairs),
    Entry("one encoder for two sequences", Conditional, _pairs),
    Entry("one encoder for two sequences", ThreeViews, words),
    Entry("parts of examples", Hierarchical, _documents),
    Entry("parts of examples", HierarchicalAttention, _documents),
    Entry("parts of examples", HierarchicalLoop, _documents),
    Entry("parts of examples", Characters, _spelt),
    Entry("parts of examples", Channels, series),
    Entry("layer called step by step", StepByStep, words),
    Entry("layer called step by step", AttentionDecoder, _targets),
    Entry("layer called step by step", FeedbackDecoder, tags(series)),
    Entry("conditional random field", CRFTagger, tags(words), {"head": "emission"}, own=_emissions),
    Entry("conditional random field", CRFListed, tags(words), {"head": "emission"}, own=_emissions),
    Entry("conditional random field", CRFOneSentence, tags(words), {"head": "emission"}, own=_emissions),
]
