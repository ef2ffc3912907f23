"""Cells that a module steps in a loop of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    WORDS,
    Entry,
    named,
    series,
    tags,
    words,
)


class CellLoop(nn.Module):
    """A cell in the module's own loop."""

    def __init__(self, kind: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell, self.fc = kind(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)  # type: ignore[call-arg]

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
        return self.fc(state[0] if isinstance(state, tuple) else state)


class CellsStacked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(FEATURES, HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)])
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        states = [(x.new_zeros(len(x), HIDDEN), x.new_zeros(len(x), HIDDEN)) for _ in self.cells]
        for step in x.unbind(1):
            for place, cell in enumerate(self.cells):
                states[place] = cell(step, states[place])
                step = states[place][0]
        return self.fc(step)


class CellTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.cell, self.fc = (
            nn.Embedding(WORDS, FEATURES),
            nn.GRUCell(FEATURES, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        h, outputs = torch.zeros(x.shape[0], HIDDEN), []
        for t in range(x.shape[1]):
            h = self.cell(self.embed(x[:, t]), h)
            outputs.append(h)
        return self.fc(torch.stack(outputs, 1))


class CellBothWays(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ahead, self.back = nn.GRUCell(FEATURES, HIDDEN), nn.GRUCell(FEATURES, HIDDEN)
        self.fc = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        a = b = x.new_zeros(len(x), HIDDEN)
        for t in range(x.shape[1]):
            a = self.ahead(x[:, t], a)
            b = self.back(x[:, -1 - t], b)
        return self.fc(torch.cat([a, b], 1))


class LSTMCellTagger(nn.Module):
    """As the example of sequence prediction in the tutorials: two cells, the output layer in the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LSTMCell(FEATURES, HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)
        self.linear = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        h = c = g = d = torch.zeros(x.size(0), HIDDEN)
        for step in x.split(1, dim=1):
            h, c = self.first(step.squeeze(1), (h, c))
            g, d = self.second(h, (g, d))
            outputs.append(self.linear(g))
        return torch.stack(outputs, dim=1)


ENTRIES = [
    *(
        Entry("cells in a loop", **named(f"CellLoop({k.__name__})", lambda k=k: CellLoop(k)))
        for k in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    ),
    Entry("cells in a loop", CellsStacked),
    Entry("cells in a loop", CellTagger, tags(words)),
    Entry("cells in a loop", CellBothWays),
    Entry("cells in a loop", LSTMCellTagger, tags(series)),
]
