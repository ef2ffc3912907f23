"""Whole classifiers that combine several parts, as public repositories have them, rewritten small."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

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

Output = namedtuple("Output", ["logits", "attention"])


class LSTMFCN(nn.Module):
    """A recurrent branch and a convolutional branch with batch norm, joined in front of the head."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.conv = nn.Sequential(
            nn.Conv1d(FEATURES, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), nn.AdaptiveAvgPool1d(1)
        )
        self.fc = nn.Linear(HIDDEN + 8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, _) = self.lstm(x)
        return self.fc(torch.cat([h[-1], self.conv(x.transpose(1, 2)).squeeze(-1)], dim=1))


class StructuredAttention(nn.Module):
    """Several hops of self-attention, flattened, and a penalty beside the scores."""

    def __init__(self, hops: int = 2) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 5)
        self.lstm = nn.LSTM(5, HIDDEN, bidirectional=True, batch_first=True)
        self.w1, self.w2 = nn.Linear(2 * HIDDEN, 7, bias=False), nn.Linear(7, hops, bias=False)
        self.fc1, self.fc2 = nn.Linear(hops * 2 * HIDDEN, 10), nn.Linear(10, CLASSES)

    def forward(self, x: Tensor) -> Any:
        outputs, _ = self.lstm(self.embed(x))
        a = F.softmax(self.w2(torch.tanh(self.w1(outputs))), dim=1).transpose(1, 2)
        m = torch.bmm(a, outputs).view(x.size(0), -1)
        eye = torch.eye(a.size(1), device=a.device)
        return self.fc2(F.relu(self.fc1(m))), ((torch.bmm(a, a.transpose(1, 2)) - eye) ** 2).sum((1, 2))


class ResidualStack(nn.Module):
    """Recurrent layers in a list, each added to its inputs behind a layer norm."""

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(FEATURES, HIDDEN)
        self.layers = nn.ModuleList(nn.LSTM(HIDDEN, HIDDEN, batch_first=True) for _ in range(2))
        self.norms = nn.ModuleList(nn.LayerNorm(HIDDEN) for _ in range(2))
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(0.2), out=nn.Linear(HIDDEN, CLASSES)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(x)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + layer(x)[0])
        return self.head(x[:, -1])


class NamedOutput(nn.Module):
    """Returns a named tuple with attention weights of nn.MultiheadAttention over the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.attention = nn.MultiheadAttention(HIDDEN, 2, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Output:
        outputs, _ = self.lstm(x)
        found, weights = self.attention(outputs, outputs, outputs)
        return Output(self.fc(found.mean(1)), weights)


class CellTower(nn.Module):
    """A tower of cells in a list, whose states are lists."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList([nn.LSTMCell(FEATURES, HIDDEN), nn.LSTMCell(HIDDEN, HIDDEN)])
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = [x.new_zeros(x.size(0), HIDDEN) for _ in self.cells]
        c = [x.new_zeros(x.size(0), HIDDEN) for _ in self.cells]
        for t in range(x.size(1)):
            given = x[:, t]
            for place, cell in enumerate(self.cells):
                h[place], c[place] = cell(given, (h[place], c[place]))
                given = F.dropout(h[place], 0.1, self.training)
        return self.fc(h[-1])


class AllStates(nn.Module):
    """All last states of all layers, hidden and cell, in one row."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, 2, bidirectional=True, batch_first=True)
        self.bn, self.fc = nn.BatchNorm1d(8 * HIDDEN), nn.Linear(8 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        _, (h, c) = self.lstm(x)
        return self.fc(self.bn(torch.cat((h, c), 0).permute(1, 0, 2).reshape(x.size(0), -1)))


class FlattenedTime(nn.Module):
    """All timesteps flattened into two dense layers with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.RNN(FEATURES, HIDDEN, nonlinearity="relu", batch_first=True)
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(STEPS * HIDDEN, 12), nn.BatchNorm1d(12), nn.LeakyReLU(0.1))
        self.out = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.dense(self.rnn(x)[0]))


class Highway(nn.Module):
    """A highway layer behind the last output."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.transform, self.gate = nn.Linear(HIDDEN, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.gru(x)[0][:, -1]
        t = torch.sigmoid(self.gate(h))
        return self.fc(t * F.relu(self.transform(h)) + (1 - t) * h)


class GatedResidual(nn.Module):
    """A gated residual block, as temporal fusion transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True)
        self.fc1, self.fc2, self.glu = nn.Linear(HIDDEN, 9), nn.Linear(9, HIDDEN), nn.Linear(HIDDEN, 2 * HIDDEN)
        self.norm, self.out = nn.LayerNorm(HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.lstm(x)[0].mean(dim=1)
        return self.out(self.norm(h + F.glu(self.glu(self.fc2(F.elu(self.fc1(h)))))))


class SummedDirections(nn.Module):
    """The two directions are added."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 5)
        self.lstm = nn.LSTM(5, HIDDEN, bidirectional=True, batch_first=True)
        self.fc = nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs = self.lstm(self.embed(x))[0]
        outputs = outputs[:, :, :HIDDEN] + outputs[:, :, HIDDEN:]
        weights = F.softmax(torch.tanh(outputs).sum(2, keepdim=True), 1)
        return self.fc((outputs * weights).sum(1))


class Transposed(nn.Module):
    """Time first, tanh between layers, and scores (T, N, C) for a CTC loss."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn1, self.rnn2 = nn.LSTM(FEATURES, HIDDEN, 1), nn.LSTM(HIDDEN, 8, 1)
        self.linear1, self.linear2 = nn.Linear(8, 7), nn.Linear(7, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out = nn.Tanh()(self.rnn1(x)[0])
        out = nn.Tanh()(self.rnn2(out)[0])
        return F.log_softmax(self.linear2(nn.Tanh()(self.linear1(out))), dim=-1)


class TimeDistributed(nn.Module):
    """A dense network at every timestep by folding the batch, then a GRU, then heads over all timesteps."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Sequential(nn.Linear(FEATURES, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU())
        self.gru, self.fc = nn.GRU(7, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.size()[:2]
        frames = self.frame(x.contiguous().view(n * t, -1)).view(n, t, -1)
        outputs, _ = self.gru(frames)
        return self.fc(outputs[torch.arange(n), -1])


class SqueezeExcite(nn.Module):
    """Channels of the input weighed by a small network over their means."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(FEATURES, 3), nn.Linear(3, FEATURES)
        self.lstm, self.fc = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean(1)))))
        return self.fc(self.lstm(x * weights.unsqueeze(1))[1][0].squeeze(0))


class Positions(nn.Module):
    """A learned position is added, and a class token is put in front."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place = nn.Parameter(torch.randn(1, 1, FEATURES)), nn.Parameter(torch.randn(1, 9, FEATURES))
        self.gru = nn.GRU(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
        self.fc = nn.Sequential(nn.LayerNorm(2 * HIDDEN), nn.Linear(2 * HIDDEN, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.fc(self.gru(x + self.place[:, : x.shape[1]])[0][:, 0])


class Pooled(nn.Module):
    """The last output, the mean and the maximum, with a mask of word 0."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, 5, padding_idx=0)
        self.drop, self.lstm = nn.Dropout1d(0.2), nn.LSTM(5, HIDDEN, batch_first=True)
        self.fc = nn.Linear(3 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs, _ = self.lstm(self.drop(self.embed(x)))
        return self.fc(torch.cat([outputs[:, -1], outputs.mean(1), outputs.max(1)[0]], -1))


class Gated(nn.Module):
    """The outputs of two layers, mixed by a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.fast, self.slow = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.GRU(FEATURES, HIDDEN, batch_first=True)
        self.mix, self.fc = nn.Linear(2 * HIDDEN, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        fast, slow = self.fast(x)[0][:, -1], self.slow(x[:, ::2])[0][:, -1]
        gate = torch.sigmoid(self.mix(torch.cat([fast, slow], 1)))
        return self.fc(gate * fast + (1 - gate) * slow)


class AttendingDecoder(nn.Module):
    """Additive attention of a decoding cell over an encoder; one class at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.GRUCell(HIDDEN, HIDDEN)
        self.query, self.key, self.energy = nn.Linear(HIDDEN, 5), nn.Linear(HIDDEN, 5), nn.Linear(5, 1, bias=False)
        self.out = nn.Linear(2 * HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        outputs, state = self.encoder(x)
        state, context = state[-1], outputs[:, -1]
        for _ in range(2):
            energy = self.energy(torch.tanh(self.query(state).unsqueeze(1) + self.key(outputs)))
            context = (F.softmax(energy, dim=1) * outputs).sum(1)
            state = self.decoder(context, state)
        return self.out(torch.cat([state, context], 1))


class Base(nn.Module):
    """Settings of a base class, and layers that are made by a method."""

    def __init__(self, config: dict[str, int]) -> None:
        super().__init__()
        self.config = config
        self.build()

    def build(self) -> None:
        raise NotImplementedError


class Configured(Base):
    """Layers by name in a ModuleDict, chosen by a config."""

    def build(self) -> None:
        hidden = self.config["hidden"]
        self.parts = nn.ModuleDict({"rnn": nn.GRU(FEATURES, hidden, batch_first=True), "hidden": nn.Linear(hidden, 8),
                                    "out": nn.Linear(8, CLASSES)})  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        state = self.parts["rnn"](x)[1].view(-1, self.config["hidden"])
        return self.parts["out"](F.gelu(self.parts["hidden"](state))).squeeze()


class Images(nn.Module):
    """Rows of a small image as timesteps, behind a 2D convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool = nn.Conv2d(1, 3, 3, padding=1), nn.MaxPool2d((1, 2))
        self.lstm, self.fc = nn.LSTM(3 * FEATURES // 2, HIDDEN, batch_first=True), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.pool(F.relu(self.conv(x.unsqueeze(1))))
        rows = maps.permute(0, 2, 1, 3).flatten(2)
        return self.fc(self.lstm(4 * (rows - rows.mean((1, 2), keepdim=True)))[0][:, -1, :])


class Scored(nn.Module):
    """A bias of each class from the mean of the inputs is an argument of the head's inputs; decisions are returned."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.skip = nn.RNN(FEATURES, HIDDEN, batch_first=True), nn.Linear(FEATURES, 4)
        self.out = nn.Linear(HIDDEN + 4, CLASSES)

    def forward(self, x: Tensor) -> Any:
        h = self.rnn(x)[1][0]
        scores = self.out(torch.cat([h, torch.relu(self.skip(x.mean(1)))], -1))
        return scores.softmax(-1).max(-1).values, scores.argmax(-1)


def logits(result: Any) -> Tensor:
    """The usual decision of a result with named parts."""
    return (result["logits"] if isinstance(result, dict) else result.logits).argmax(-1)


ENTRIES = [
    *(Entry("several parts", kind) for kind in (
        LSTMFCN, ResidualStack, CellTower, AllStates, FlattenedTime, Highway, GatedResidual, TimeDistributed,
        SqueezeExcite, Positions, Gated, AttendingDecoder, Images)),
    *(Entry("several parts", kind, words) for kind in (StructuredAttention, SummedDirections, Pooled)),
    Entry("several parts", Transposed, changed(tags(series), lambda x: x.transpose(0, 1).contiguous()),
          time_first=True, decide=lambda result: result.argmax(-1).t()),
    Entry("several parts", NamedOutput, decide=logits),
    Entry("several parts", lambda: Configured({"hidden": HIDDEN}), title="Configured"),
    Entry("several parts", Scored, decide=lambda result: result[1]),
]  # fmt: skip
