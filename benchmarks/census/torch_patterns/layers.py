"""Plain layers: states, pooling, attention, taggers, and convolutions in front."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    STEPS,
    WORDS,
    Entry,
    changed,
    named,
    series,
    tags,
    with_lengths,
    words,
)


class Base(nn.Module):
    """A recurrent layer over features and an output layer."""

    def __init__(self, rnn: nn.Module | None = None, width: int = HIDDEN) -> None:
        super().__init__()
        self.rnn = nn.LSTM(FEATURES, HIDDEN, batch_first=True) if rnn is None else rnn
        self.fc: nn.Module = nn.Linear(width, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.fc(self.rnn(x)[0][:, -1])


class LastState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, FEATURES)
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.drop = nn.Dropout(0.3)
        self.classify = nn.Linear(HIDDEN, CLASSES)

    def forward(self, tokens: Tensor) -> Tensor:
        _, h = self.gru(self.embed(tokens))
        return self.classify(self.drop(h.squeeze(0)))


class BothEnds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, num_layers=2, bidirectional=True, batch_first=True, dropout=0.2)
        self.fc = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.fc(torch.cat((h[-2], h[-1]), dim=1))


class MaxAndMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, bidirectional=True, batch_first=True)
        self.hidden = nn.Linear(4 * HIDDEN, 8)
        self.out = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.lstm(x)
        pooled = torch.cat((h.mean(1), h.max(1)[0]), 1)
        return self.out(torch.relu(self.hidden(pooled)))


class AttentionPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.score = nn.Linear(2 * HIDDEN, 1)
        self.out = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h, _ = self.rnn(x)
        weights = torch.softmax(self.score(h).squeeze(-1), dim=1)
        return self.out((weights.unsqueeze(-1) * h).sum(1)), weights


class DotAttention(Base):
    def forward(self, x: Tensor) -> Tensor:
        h, (last, _) = self.rnn(x)
        weights = torch.softmax(torch.bmm(h, last[-1].unsqueeze(2)).squeeze(2), 1)
        return self.fc(torch.bmm(h.transpose(1, 2), weights.unsqueeze(2)).squeeze(2))


class MaskedAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(WORDS, FEATURES, padding_idx=0), nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.key, self.query = nn.Linear(HIDDEN, 5), nn.Parameter(torch.randn(5))
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        h, _ = self.rnn(self.embed(x))
        energy = torch.tanh(self.key(h)) @ self.query
        hidden = torch.arange(x.shape[1])[None] >= lengths[:, None]
        return self.fc((torch.softmax(energy.masked_fill(hidden, -1e9), 1).unsqueeze(-1) * h).sum(1))


class TimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = (
            nn.Embedding(WORDS, FEATURES),
            nn.RNN(FEATURES, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )

    def forward(self, text: Tensor) -> Tensor:
        _, hidden = self.rnn(self.embed(text))
        return self.out(hidden[-1])


class TimeFirstPermuted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(FEATURES, HIDDEN, 2), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x.permute(1, 0, 2))[0][-1])


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = (
            nn.Embedding(WORDS, FEATURES),
            nn.LSTM(FEATURES, HIDDEN, batch_first=True, bidirectional=True),
        )
        self.hidden2tag = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.hidden2tag(self.rnn(self.embed(x))[0]), dim=-1)


class TaggerTimeFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.out = (
            nn.Embedding(WORDS, FEATURES),
            nn.GRU(FEATURES, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(self.embed(x.t()))[0]).transpose(0, 1)


class ConvThenRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(FEATURES, 7, 3, padding=1)
        self.norm = nn.BatchNorm1d(7)
        self.rnn, self.fc = nn.GRU(7, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x.transpose(1, 2)))).transpose(1, 2)
        return self.fc(self.rnn(x)[0][:, -1])


class FramesThenRNN(nn.Module):
    """A convolution over each frame, as video classifiers have."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Conv2d(1, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(3, 5))
        self.rnn, self.fc = nn.LSTM(5, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        frames = self.frame(x.reshape(n * t, 1, 2, 2)).reshape(n, t, -1)
        return self.fc(self.rnn(frames)[1][0][-1])


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.second, self.norm = nn.LSTM(HIDDEN, HIDDEN, batch_first=True), nn.LayerNorm(HIDDEN)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a, _ = self.first(x)
        b, _ = self.second(a)
        return self.fc(self.norm(a + b)[:, -1])


ENTRIES = [
    *(
        Entry("last output", **named(f"Base({k.__name__})", lambda k=k: Base(k(FEATURES, HIDDEN, batch_first=True))))
        for k in (nn.LSTM, nn.GRU, nn.RNN)
    ),
    Entry("last state", LastState, words),
    Entry("last state", BothEnds),
    Entry("last state", Residual),
    Entry("pooling", MaxAndMean),
    Entry("attention", AttentionPool),
    Entry("attention", DotAttention),
    Entry("attention", MaskedAttention, with_lengths),
    Entry("time first", TimeFirst, changed(words, lambda x: x.t().contiguous()), time_first=True),
    Entry("time first", TimeFirstPermuted),
    Entry("tagger", Tagger, tags(words)),
    Entry("tagger", TaggerTimeFirst, tags(words)),
    Entry("convolution before", ConvThenRNN),
    Entry("convolution before", FramesThenRNN, changed(series, lambda x: x.view(len(x), STEPS, 2, 2))),
]
