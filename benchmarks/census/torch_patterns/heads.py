"""How the output layer is called: over flattened timesteps, over packed data, in a loop, as a convolution."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from benchmarks.census.torch_patterns.entry import (
    CLASSES,
    FEATURES,
    HIDDEN,
    WORDS,
    Entry,
    series,
    tags,
    with_lengths,
    words,
)


class Words(nn.Module):
    def __init__(self, classes: int = CLASSES, **settings: Any) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, FEATURES)
        self.lstm = nn.LSTM(FEATURES, HIDDEN, batch_first=True, **settings)
        self.fc = nn.Linear(HIDDEN * (2 if settings.get("bidirectional") else 1), classes)

    def hidden(self, x: Tensor) -> Tensor:
        return self.lstm(self.embed(x))[0]


class FlatLogSoftmax(Words):
    """Scores stay flattened, as the loss wants them."""

    def forward(self, x: Tensor) -> Tensor:
        s = self.hidden(x).reshape(-1, HIDDEN)
        return torch.log_softmax(self.fc(s), dim=1)


class FlatAndBack(Words):
    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape
        return self.fc(self.hidden(x).contiguous().view(n * t, HIDDEN)).view(n, t, -1)


class FlatTimeFirst(nn.Module):
    """A language model's way: (T*N, H), and log_softmax behind."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.rnn, self.decoder = (
            nn.Embedding(WORDS, FEATURES),
            nn.GRU(FEATURES, HIDDEN),
            nn.Linear(HIDDEN, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(self.encoder(x))
        decoded = self.decoder(output.view(output.size(0) * output.size(1), output.size(2)))
        return torch.log_softmax(decoded.view(output.size(0), output.size(1), -1), dim=-1)


class FlatTimeFirstKept(FlatTimeFirst):
    def forward(self, x: Tensor) -> Tensor:
        output, _ = self.rnn(self.encoder(x))
        return self.decoder(output.view(-1, HIDDEN))


class Sentiment(Words):
    """A sigmoid over all timesteps, then the last one, as popular courses write it."""

    def __init__(self) -> None:
        super().__init__(classes=1)

    def forward(self, x: Tensor) -> Tensor:
        batch = x.size(0)
        out = torch.sigmoid(self.fc(self.hidden(x).contiguous().view(-1, HIDDEN)))
        return out.view(batch, -1)[:, -1]


class SentimentWithState(Words):
    def __init__(self) -> None:
        super().__init__(classes=1)

    def forward(self, x: Tensor, hidden: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        out, hidden = self.lstm(self.embed(x), hidden)
        out = torch.sigmoid(self.fc(out.contiguous().view(-1, HIDDEN))).view(x.size(0), -1)
        return out[:, -1], hidden


class LastOfScores(Words):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.hidden(x))[:, -1, :]


class MeanOfScores(Words):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.hidden(x)).mean(dim=1)


class LastOfFlat(Words):
    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape
        return torch.log_softmax(self.fc(self.hidden(x).reshape(n * t, -1)).reshape(n, t, -1)[:, -1], -1)


class PackedData(Words):
    """Scores of packed data, as captioning models return them."""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True)
        return self.fc(self.lstm(packed)[0][0])


class PackedDataPadded(Words):
    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embed(x), lengths.cpu(), batch_first=True, enforce_sorted=False)
        out, _ = self.lstm(packed)
        scores = PackedSequence(self.fc(out.data), out.batch_sizes, out.sorted_indices, out.unsorted_indices)
        return pad_packed_sequence(scores, batch_first=True)[0]


class PackedDataLog(Words):
    def forward(self, x: Tensor, lengths: Tensor) -> PackedSequence:
        out, _ = self.lstm(pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False))
        return out._replace(data=torch.log_softmax(self.fc(out.data), -1))


class HeadInLoop(Words):
    def forward(self, x: Tensor) -> Tensor:
        h = self.hidden(x)
        return torch.stack([self.fc(h[:, t]) for t in range(h.size(1))], dim=1)


class HeadInLoopTimeFirst(Words):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.fc(h) for h in self.hidden(x).unbind(1)])


class HeadInLoopListed(Words):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [torch.log_softmax(self.fc(h), -1) for h in self.hidden(x).unbind(1)]


class HeadInLoopLast(nn.Module):
    """Every step is scored, the last score is returned."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.fc = nn.GRUCell(FEATURES, HIDDEN), nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.zeros(x.size(0), HIDDEN)
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
            out = self.fc(h)
        return out


class ConvHead(nn.Module):
    def __init__(self, last: bool = False) -> None:
        super().__init__()
        self.rnn, self.out, self.last = nn.GRU(FEATURES, HIDDEN, batch_first=True), nn.Conv1d(HIDDEN, CLASSES, 1), last

    def forward(self, x: Tensor) -> Tensor:
        scores = self.out(self.rnn(x)[0].transpose(1, 2))
        return scores[:, :, -1] if self.last else scores.transpose(1, 2)


class ConvHeadLast(ConvHead):
    def __init__(self) -> None:
        super().__init__(last=True)


class ConvHeadChannelsFirst(ConvHead):
    """Returns (N, C, T), as nn.CrossEntropyLoss reads it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0].permute(0, 2, 1))


class ChannelsFirst(Words):
    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.hidden(x)).permute(0, 2, 1)


class ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rnn, self.actor, self.critic = (
            nn.GRU(FEATURES, HIDDEN, batch_first=True),
            nn.Linear(HIDDEN, CLASSES),
            nn.Linear(HIDDEN, 1),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.rnn(x)[1][-1]
        return torch.softmax(self.actor(h), -1), self.critic(h)


class TwoTasks(Words):
    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(HIDDEN, 5)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        last = self.hidden(x)[:, -1]
        return {"intent": self.fc(last), "domain": self.other(last)}


class ManyLabels(Words):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.fc(self.hidden(x).mean(1)))


def _step_form(scores: Tensor, t: int) -> Tensor:
    return scores.view(-1, t, CLASSES).argmax(-1)


def _by_words(made: Any, classes: int = 2) -> Any:
    def binary(rng: Any, n: int) -> Any:
        x, _ = made(rng, n)
        return x, rng.permutation(n) % classes

    return binary


def _labels(rng: Any, n: int) -> Any:
    x, _ = words(rng, n)
    return x, rng.integers(0, 2, (n, CLASSES))


def _packed_order(module: nn.Module, x: Any) -> Tensor:
    """Scores of packed data, back at (N, T)."""
    tokens, lengths = x
    order = lengths.argsort(descending=True, stable=True)
    packed = pack_padded_sequence(tokens[order].unsqueeze(-1), lengths[order], batch_first=True)
    scores = module(tokens[order], lengths[order])
    scores = scores.data if isinstance(scores, PackedSequence) else scores
    return pad_packed_sequence(packed._replace(data=scores), batch_first=True)[0][order.argsort()].argmax(-1)


def _states(made: Any) -> Any:
    def with_states(rng: Any, n: int) -> Any:
        x, _ = made(rng, n)
        return (x, (torch.zeros(1, n, HIDDEN), torch.zeros(1, n, HIDDEN))), rng.permutation(n) % 2

    return with_states


def _turned(made: Any) -> Any:
    def time_first(rng: Any, n: int) -> Any:
        x, y = made(rng, n)
        return x.t().contiguous(), y

    return time_first


ENTRIES = [
    Entry("flat head", FlatLogSoftmax, tags(words), decide=lambda r: _step_form(r, 5)),
    Entry("flat head", FlatAndBack, tags(words)),
    Entry("flat head", FlatTimeFirst, _turned(tags(words)), decide=lambda r: r.argmax(-1).t(), time_first=True),
    Entry(
        "flat head",
        FlatTimeFirstKept,
        _turned(tags(words)),
        decide=lambda r: r.view(5, -1, CLASSES).argmax(-1).t(),
        time_first=True,
    ),
    Entry("flat head, one step decides", Sentiment, _by_words(words), decide=lambda r: (r > 0.5).long()),
    Entry("flat head, one step decides", SentimentWithState, _states(words), decide=lambda r: (r[0] > 0.5).long()),
    Entry("flat head, one step decides", LastOfFlat, words),
    Entry("one of the scored steps", LastOfScores, words),
    Entry("one of the scored steps", MeanOfScores, words),
    Entry("head over packed data", PackedData, tags(with_lengths), own=_packed_order),
    Entry("head over packed data", PackedDataPadded, tags(with_lengths)),
    Entry(
        "head over packed data",
        PackedDataLog,
        tags(with_lengths),
        decide=lambda r: pad_packed_sequence(r, batch_first=True)[0].argmax(-1),
    ),
    Entry("head in a loop", HeadInLoop, tags(words)),
    Entry("head in a loop", HeadInLoopTimeFirst, tags(words), decide=lambda r: r.argmax(-1).t()),
    Entry("head in a loop", HeadInLoopListed, tags(words), decide=lambda r: torch.stack(r, 1).argmax(-1)),
    Entry("head in a loop", HeadInLoopLast),
    Entry("convolution as head", ConvHead, tags(series)),
    Entry("convolution as head", ConvHeadLast),
    Entry("convolution as head", ConvHeadChannelsFirst, tags(series), decide=lambda r: r.argmax(1)),
    Entry("scores as (N, C, T)", ChannelsFirst, tags(words), decide=lambda r: r.argmax(1)),
    Entry("several heads", ActorCritic),
    Entry("several heads", TwoTasks, words, {"head": "fc"}, decide=lambda r: r["intent"].argmax(-1)),
    Entry("several labels", ManyLabels, _labels, decide=lambda r: r > 0.5),
]
