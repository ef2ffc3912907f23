"""Classes that are refused when the network is made, each with words of the refusal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.census.torch_patterns.entry import CLASSES, FEATURES, HIDDEN, WORDS, Entry, words
from benchmarks.census.torch_patterns.layers import Base


class TiedScores(nn.Module):
    """Scores are products with the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.rnn(self.embed(x))[0], self.embed.weight)


class Distances(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.centres = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Parameter(torch.randn(CLASSES, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        return -torch.cdist(self.rnn(x)[1][0], self.centres)


class BilinearScores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.out = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Bilinear(HIDDEN, HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h, _ = self.rnn(x)
        return self.out(h[:, 0], h[:, -1])


class DropoutStaysOn(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.dropout(self.rnn(x)[0][:, -1], 0.5))


class RandomStart(Base):
    def forward(self, x: Tensor) -> Tensor:
        state = torch.randn(1, len(x), HIDDEN), torch.randn(1, len(x), HIDDEN)
        return self.fc(self.rnn(x, state)[0][:, -1])


class BatchMean(Base):
    def forward(self, x: Tensor) -> Tensor:
        last = self.rnn(x)[0][:, -1]
        return self.fc(last - last.mean(0, keepdim=True))


class OwnCell(nn.Module):
    """A cell of linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.i2h, self.i2o = nn.Linear(FEATURES + HIDDEN, HIDDEN), nn.Linear(FEATURES + HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Any:
        h = torch.zeros(len(x), HIDDEN)
        for step in x.unbind(1):
            both = torch.cat([step, h], 1)
            h = torch.tanh(self.i2h(both))
        return self.i2o(both)


class Transforming(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.fc = (
            nn.TransformerEncoderLayer(FEATURES, 2, 8, batch_first=True),
            nn.Linear(FEATURES, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.encode(x)[:, -1])


class Regression(Base):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(HIDDEN, 1)


class OwnForward(nn.GRU):
    """Computes something else with the weights of a layer."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        return torch.relu(x @ self.weight_ih_l0[:HIDDEN].t()), None


def _own_forward() -> nn.Module:
    return Base(OwnForward(FEATURES, HIDDEN, batch_first=True))


ENTRIES = [
    Entry("no output layer", TiedScores, words, refused="no nn.Linear"),
    Entry("no output layer", Distances, refused="no nn.Linear"),
    Entry("no output layer", BilinearScores, refused="no nn.Linear"),
    Entry("random in eval mode", DropoutStaysOn, refused="other values each time"),
    Entry("random in eval mode", RandomStart, refused="other values each time"),
    Entry("examples change each other", BatchMean, refused="change each other's results"),
    Entry("no layer of torch", OwnCell, refused="no recurrent layer"),
    Entry("no layer of torch", Transforming, refused="no recurrent layer"),
    Entry("no layer of torch", _own_forward, title="OwnForward", refused="does more with its recurrent layers"),
    Entry("no classes", Regression, refused="regression output"),
]
