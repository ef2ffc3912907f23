"""States as arguments, states that a module keeps, fixed batch sizes, and one example a call."""

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
    series,
    tags,
    words,
)

BATCH = 6


class FixedInForward(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.batch_size = BATCH
        self.gru, self.fc = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x, torch.zeros(1, self.batch_size, HIDDEN))[1][0])


class FixedInInit(nn.Module):
    """States for a batch size are made in ``__init__`` and never renewed."""

    def __init__(self, batch_size: int = BATCH) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.lstm, self.fc = nn.LSTM(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)
        self.hidden = self.init_hidden()

    def init_hidden(self) -> tuple[Tensor, Tensor]:
        return torch.zeros(1, self.batch_size, HIDDEN), torch.zeros(1, self.batch_size, HIDDEN)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.lstm(x.transpose(0, 1), self.hidden)
        return self.fc(out[-1].view(self.batch_size, -1))


class FixedView(FixedInForward):
    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x)
        return self.fc(out.contiguous().view(self.batch_size, STEPS, HIDDEN)[:, -1])


class FixedBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
        self.register_buffer("start", torch.linspace(-1, 1, HIDDEN).repeat(1, BATCH, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.gru(x, self.start)[0])


class Stateful(FixedInInit):
    """The state of one call is the start of the next."""

    def forward(self, x: Tensor) -> Tensor:
        out, self.hidden = self.lstm(x.transpose(0, 1), self.hidden)
        return self.fc(out[-1])


class StatefulDetached(FixedInInit):
    def forward(self, x: Tensor) -> Tensor:
        self.hidden = tuple(h.detach() for h in self.hidden)
        out, self.hidden = self.lstm(x.transpose(0, 1), self.hidden)
        return self.fc(out).transpose(0, 1)


class StatefulBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)
        self.register_buffer("state", torch.zeros(1, BATCH, HIDDEN))

    def forward(self, x: Tensor) -> Tensor:
        out, last = self.gru(x, self.state)
        self.state.copy_(last)
        return self.fc(out[:, -1])


class StatefulAnySize(nn.Module):
    """Keeps its state while the batch has the same size."""

    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc, self.h = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES), None

    def forward(self, x: Tensor) -> Tensor:
        if self.h is None or self.h.shape[1] != len(x):
            self.h = torch.zeros(1, len(x), HIDDEN)
        out, self.h = self.gru(x, self.h)
        return self.fc(out[:, -1])


class StatesInAndOut(nn.Module):
    def __init__(self, batch_first: bool = True, layers: int = 1) -> None:
        super().__init__()
        self.rnn, self.fc = nn.GRU(FEATURES, HIDDEN, layers, batch_first=batch_first), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        out, h = self.rnn(x, h)
        return self.fc(out), h


class StatesTwoLayers(StatesInAndOut):
    def __init__(self) -> None:
        super().__init__(layers=2)


class StatesTimeFirst(StatesInAndOut):
    def __init__(self) -> None:
        super().__init__(batch_first=False)


class PairInAndOut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, state = self.lstm(x, state)
        return self.fc(out[:, -1]), state


class OptionalState(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.fc = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        out, state = self.lstm(x, state)
        return self.fc(out), state


class CellStep(nn.Module):
    """One timestep a call: the state is handed along by the caller."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.GRUCell(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        h = self.cell(x, h)
        return self.fc(h), h


class LearnedStart(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.start = nn.RNN(FEATURES, HIDDEN, batch_first=True), nn.Parameter(torch.randn(1, 1, HIDDEN))
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x, self.start.expand(-1, len(x), -1).contiguous())[1][0])


class OneSentence(nn.Module):
    """One sentence a call, without a batch axis, as in the tutorial on tagging."""

    def __init__(self) -> None:
        super().__init__()
        self.word_embeddings, self.lstm = nn.Embedding(WORDS, FEATURES), nn.LSTM(FEATURES, HIDDEN)
        self.hidden2tag = nn.Linear(HIDDEN, CLASSES)

    def forward(self, sentence: Tensor) -> Tensor:
        embeds = self.word_embeddings(sentence)
        out, _ = self.lstm(embeds.view(len(sentence), 1, -1))
        return torch.log_softmax(self.hidden2tag(out.view(len(sentence), -1)), dim=1)


class OneSentenceClass(OneSentence):
    def forward(self, sentence: Tensor) -> Tensor:
        _, (h, _) = self.lstm(self.word_embeddings(sentence).view(len(sentence), 1, -1))
        return torch.log_softmax(self.hidden2tag(h.view(1, -1)), dim=1)


class OneSentenceStateful(OneSentence):
    def __init__(self) -> None:
        super().__init__()
        self.hidden = torch.zeros(1, 1, HIDDEN), torch.zeros(1, 1, HIDDEN)

    def forward(self, sentence: Tensor) -> Tensor:
        out, self.hidden = self.lstm(self.word_embeddings(sentence).view(len(sentence), 1, -1), self.hidden)
        return self.hidden2tag(out.view(len(sentence), -1))


class OneSeries(nn.Module):
    """A series (T, D) without a batch axis."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.linear = nn.LSTM(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, seq: Tensor) -> Tensor:
        out, _ = self.lstm(seq.view(len(seq), 1, -1))
        return self.linear(out.view(len(seq), -1))[-1]


class BatchOfOne(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.fc = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.gru(x.view(1, -1, FEATURES), torch.zeros(1, 1, HIDDEN))
        return self.fc(out[0, -1:].view(1, -1))


def _fixed(module: nn.Module, x: Tensor) -> Tensor:
    """Batches of the module's size, the last one filled with repeats; each starts from the first state."""
    import copy

    found = []
    for start in range(0, len(x), BATCH):
        rows = torch.arange(start, start + BATCH).clamp(max=len(x) - 1)
        found.append(copy.deepcopy(module)(x[rows]).argmax(-1)[: len(x) - start])
    return torch.cat(found)


def _fresh(module: nn.Module, x: Tensor) -> Tensor:
    import copy

    return copy.deepcopy(module)(x).argmax(-1)


def _alone(module: nn.Module, x: Tensor) -> Tensor:
    import copy

    found = torch.stack([copy.deepcopy(module)(row) for row in x]).argmax(-1)
    return found[:, 0] if found.dim() == 2 and found.shape[1] == 1 else found


def _started(layers: int = 1, axis: int = 1, pair: bool = False, flat: bool = False) -> Any:
    def change(x: Tensor) -> Any:
        n = x.shape[0]
        rng = torch.Generator().manual_seed(n)
        shape = (n, HIDDEN) if flat else (layers, n, HIDDEN)
        h = [0.5 * torch.randn(shape, generator=rng) for _ in range(2)]
        x = x.transpose(0, 1).contiguous() if axis == 0 else x
        return x, (tuple(h) if pair else h[0])

    return change


ENTRIES = [
    Entry("fixed batch size", FixedInForward, own=_fixed),
    Entry("fixed batch size", FixedInInit, own=_fixed),
    Entry("fixed batch size", FixedView, own=_fixed),
    Entry("fixed batch size", FixedBuffer, tags(series), own=_fixed),
    Entry("states kept between calls", Stateful, own=_fixed),
    Entry("states kept between calls", StatefulDetached, tags(series), own=_fixed),
    Entry("states kept between calls", StatefulBuffer, own=_fixed),
    Entry("states kept between calls", StatefulAnySize, own=_fresh),
    Entry("states in and out", StatesInAndOut, changed(tags(series), _started())),
    Entry("states in and out", StatesTwoLayers, changed(tags(series), _started(2))),
    Entry(
        "states in and out",
        StatesTimeFirst,
        changed(tags(series), _started(axis=0)),
        decide=lambda r: r[0].argmax(-1).t(),
        time_first=True,
    ),
    Entry("states in and out", PairInAndOut, changed(series, _started(pair=True))),
    Entry("states in and out", OptionalState, tags(series)),
    Entry("learned first state", LearnedStart),
    Entry("one step a call", CellStep, changed(changed(series, lambda x: x[:, 0]), _started(flat=True))),
    Entry("one example a call", OneSentence, tags(words), own=_alone),
    Entry("one example a call", OneSentenceClass, words, own=_alone),
    Entry("one example a call", OneSentenceStateful, tags(words), own=_alone),
    Entry("one example a call", OneSeries, own=_alone),
    Entry("one example a call", BatchOfOne, own=_alone),
]
