"""Cells and layers that people write themselves, registered with ``unbraid.register_cell``."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.census.torch_patterns.entry import CLASSES, FEATURES, HIDDEN, WORDS, Entry, named, series, tags, words
from unbraid import register_cell

GATES = {
    "x2h.weight": ("4*units", "inputs"),
    "x2h.bias": "4*units",
    "h2h.weight": ("4*units", "units"),
    "h2h.bias": "4*units",
}


class LinearLSTM(nn.Module):
    """An LSTM cell of two linear layers."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.x2h, self.h2h = hidden, nn.Linear(inputs, 4 * hidden), nn.Linear(hidden, 4 * hidden)

    def forward(self, x: Tensor, state: Any) -> Any:
        h, c = state
        i, f, g, o = (self.x2h(x) + self.h2h(h)).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c


class NormLSTM(LinearLSTM):
    """The same with layer norms, and separate states."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__(inputs, hidden)
        self.norm, self.out = nn.LayerNorm(4 * hidden), nn.LayerNorm(hidden)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> Any:
        i, f, g, o = self.norm(self.x2h(x) + self.h2h(h)).split(self.hidden, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.out(c)), c


class HardLSTM(nn.Module):
    """An LSTM layer with hard gates and plain weight matrices, that loops itself and returns as nn.LSTM does."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.w = nn.Parameter(torch.randn(inputs, 4 * hidden) / 2)
        self.u = nn.Parameter(torch.randn(hidden, 4 * hidden) / 2)
        self.b = nn.Parameter(torch.zeros(4 * hidden))

    def forward(self, x: Tensor, state: Any = None) -> Any:
        h, c = state or (x.new_zeros(len(x), self.hidden),) * 2
        outputs = []
        for step in x.unbind(1):
            i, f, g, o = (step @ self.w + h @ self.u + self.b).chunk(4, 1)
            c = F.hardsigmoid(f) * c + F.hardsigmoid(i) * torch.tanh(g)
            h = F.hardsigmoid(o) * torch.tanh(c)
            outputs.append(h)
        return torch.stack(outputs, 1), (h, c)


class JoinedRNN(nn.Module):
    """A vanilla cell over the joined input and state, as in many tutorials."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.both = hidden, nn.Linear(inputs + hidden, hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        return torch.tanh(self.both(torch.cat([x, h], 1)))


class LinearGRU(nn.Module):
    """A GRU cell whose candidate reads the state behind the reset gate."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden = hidden
        self.gates, self.new = nn.Linear(inputs + hidden, 2 * hidden), nn.Linear(inputs + hidden, hidden)

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        r, z = torch.sigmoid(self.gates(torch.cat([x, h], 1))).chunk(2, 1)
        return z * h + (1 - z) * torch.tanh(self.new(torch.cat([x, r * h], 1)))


class MinGRU(nn.Module):
    """Feng et al. 2024: gates read only the input, so all timesteps are computed at once, in log space."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.hidden, self.gate, self.new = hidden, nn.Linear(inputs, hidden), nn.Linear(inputs, hidden)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        k, new = self.gate(x), self.new(x)
        log_new = torch.where(new >= 0, (F.relu(new) + 0.5).log(), -F.softplus(-new))
        values, keeps = -F.softplus(-k) + log_new, -F.softplus(k)
        if h is not None:
            values, keeps = torch.cat([h.clamp(min=1e-9).log(), values], 1), F.pad(keeps, (0, 0, 1, 0))
        sums = keeps.cumsum(1)
        found = (sums + (values - sums).logcumsumexp(1)).exp()
        return found if h is None else found[:, 1:]

    def step(self, x: Tensor, h: Tensor) -> Tensor:
        return self(x.unsqueeze(1), h.unsqueeze(1))[:, 0]


def _both(hidden: str) -> tuple[str, str]:
    return hidden, "inputs+units"


register_cell(LinearLSTM, states=2, units="hidden", prune=GATES)
register_cell(
    NormLSTM, states=2, units="hidden", step=lambda cell, x, states: cell(x, *states),
    prune={**GATES, "norm.weight": "4*units", "norm.bias": "4*units", "out.weight": "units", "out.bias": "units"},
)  # fmt: skip
register_cell(
    HardLSTM, states=2, units="hidden", step=lambda layer, x, states: layer(x.unsqueeze(1), states)[1],
    prune={"w": ("inputs", "4*units"), "u": ("units", "4*units"), "b": "4*units"},
)  # fmt: skip
register_cell(JoinedRNN, states=1, units="hidden", prune={"both.weight": _both("units"), "both.bias": "units"})
register_cell(
    LinearGRU, states=1, units="hidden",
    prune={"gates.weight": _both("2*units"), "gates.bias": "2*units",
           "new.weight": _both("units"), "new.bias": "units"},
)  # fmt: skip
register_cell(
    MinGRU, states=1, units="hidden", step=lambda layer, x, states: layer.step(x, *states),
    prune={"gate.weight": ("units", "inputs"), "gate.bias": "units",
           "new.weight": ("units", "inputs"), "new.bias": "units"},
)  # fmt: skip


class Loop(nn.Module):
    """A cell in the module's own loop."""

    def __init__(self, kind: type[nn.Module], states: int = 1) -> None:
        super().__init__()
        self.cell, self.fc, self.states = kind(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES), states

    def start(self, x: Tensor) -> Any:
        zeros = (x.new_zeros(len(x), HIDDEN),) * self.states
        return zeros if self.states > 1 else zeros[0]

    def forward(self, x: Tensor) -> Tensor:
        state = self.start(x)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.fc(state[0] if self.states > 1 else state)


class ApartLoop(Loop):
    """A cell that takes its states apart."""

    def forward(self, x: Tensor) -> Tensor:
        h, c = self.start(x)
        for step in x.unbind(1):
            h, c = self.cell(step, h, c)
        return self.fc(h)


class Layered(nn.Module):
    """Two layers over whole sequences."""

    def __init__(self, kind: type[nn.Module]) -> None:
        super().__init__()
        self.below, self.above, self.fc = kind(FEATURES, 8), kind(8, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        first = self.below(x)
        both = self.above(first[0] if isinstance(first, tuple) else first)
        outputs = both[0] if isinstance(both, tuple) else both
        return self.fc(F.layer_norm(outputs[:, -1] - outputs[:, 0], (HIDDEN,)))


class MinTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.rnn, self.fc = nn.Embedding(WORDS, 5), MinGRU(5, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(self.embed(x)))


class HardDecoder(nn.Module):
    """An encoder and a decoder that takes its last states."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = HardLSTM(FEATURES, HIDDEN), HardLSTM(FEATURES, HIDDEN)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, state = self.encode(x)
        return self.fc(self.decode(x.flip(1), state)[0])


ENTRIES = [
    Entry("own cell in a loop", **named("LinearLSTM", Loop, LinearLSTM, 2)),
    Entry("own cell in a loop", **named("NormLSTM", ApartLoop, NormLSTM, 2)),
    Entry("own cell in a loop", **named("JoinedRNN", Loop, JoinedRNN)),
    Entry("own cell in a loop", **named("LinearGRU", Loop, LinearGRU)),
    Entry("own layer", **named("HardLSTM, 2 layers", Layered, HardLSTM)),
    Entry("own layer", **named("MinGRU, 2 layers", Layered, MinGRU)),
    Entry("own layer", MinTagger, tags(words)),
    Entry("own layer", HardDecoder, tags(series)),
]
