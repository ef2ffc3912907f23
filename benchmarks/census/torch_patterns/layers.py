"""Plain layers and unusual ones: projections, norms, masks, subclasses, half precision, cells."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

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


def _projected(**settings: Any) -> nn.Module:
    both = 2 if settings.get("bidirectional") else 1
    return Base(nn.LSTM(FEATURES, HIDDEN, proj_size=3, batch_first=True, **settings), 3 * both)


class ProjectedTagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.fc = nn.LSTM(FEATURES, HIDDEN, proj_size=4), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        start = torch.zeros(1, x.shape[0], 4), torch.zeros(1, x.shape[0], HIDDEN)
        return self.fc(self.rnn(x.transpose(0, 1), start)[0].transpose(0, 1))


def _weight_norm() -> nn.Module:
    return Base(parametrizations.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0"))


def _weight_norm_old() -> nn.Module:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Base(nn.utils.weight_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_hh_l0"))


def _spectral_norm() -> nn.Module:
    return Base(parametrizations.spectral_norm(nn.LSTM(FEATURES, HIDDEN, batch_first=True), "weight_ih_l0"))


def _pruned() -> nn.Module:
    module = Base()
    for name in ("weight_ih_l0", "weight_hh_l0"):
        prune.l1_unstructured(module.rnn, name, 0.4)
    prune.random_unstructured(module.fc, "weight", 0.2)
    return module


def _normed_head() -> nn.Module:
    module = Base()
    module.fc = parametrizations.weight_norm(nn.Linear(HIDDEN, CLASSES))
    return module


class NormedLSTM(nn.LSTM):
    """Adds a layer norm behind the base class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        out, state = super().forward(x, hx)
        return self.norm(out), state


class DroppedGRU(nn.GRU):
    """Drops inputs before the base class, the same at every timestep."""

    def forward(self, x: Tensor, hx: Any = None) -> Any:
        if self.training:
            x = x * torch.bernoulli(torch.full_like(x[:, :1], 0.7)) / 0.7
        return super().forward(x, hx)


class ListedLSTM(nn.LSTM):
    """Returns its outputs alone, as in a Sequential."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)[0]


class OnOutputs(Base):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.rnn(x)[:, -1])


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


def _half(kind: torch.dtype) -> nn.Module:
    return Base().to(kind)


def _from_half(module: nn.Module, x: Tensor) -> Tensor:
    import copy

    return copy.deepcopy(module).float()(x).argmax(-1)


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
    Entry("projection", **named("Base(proj_size)", _projected)),
    Entry("projection", **named("Base(proj_size, 2 layers)", lambda: _projected(num_layers=2, bidirectional=True))),
    Entry("projection", ProjectedTagger, tags(series)),
    Entry("normed or masked weights", **named("Base(weight_norm)", _weight_norm)),
    Entry("normed or masked weights", **named("Base(old weight_norm)", _weight_norm_old)),
    Entry("normed or masked weights", **named("Base(spectral_norm)", _spectral_norm)),
    Entry("normed or masked weights", **named("Base(prune)", _pruned)),
    Entry("normed or masked weights", **named("Base(weight_norm on the head)", _normed_head)),
    Entry("subclass of a layer", **named("NormedLSTM", lambda: Base(NormedLSTM(FEATURES, HIDDEN, batch_first=True)))),
    Entry("subclass of a layer", **named("DroppedGRU", lambda: Base(DroppedGRU(FEATURES, HIDDEN, batch_first=True)))),
    Entry(
        "subclass of a layer", **named("ListedLSTM", lambda: OnOutputs(ListedLSTM(FEATURES, HIDDEN, batch_first=True)))
    ),
    *(
        Entry("half precision", **named(f"Base({str(k)[6:]})", lambda k=k: _half(k)), own=_from_half)
        for k in (torch.float16, torch.bfloat16)
    ),
    *(
        Entry("cells in a loop", **named(f"CellLoop({k.__name__})", lambda k=k: CellLoop(k)))
        for k in (nn.LSTMCell, nn.GRUCell, nn.RNNCell)
    ),
    Entry("cells in a loop", CellsStacked),
    Entry("cells in a loop", CellTagger, tags(words)),
    Entry("cells in a loop", CellBothWays),
    Entry("cells in a loop", LSTMCellTagger, tags(series)),
]
