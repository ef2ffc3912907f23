"""User modules of many forms, with random weights, for the tests of shrink. Inputs are (N, T, 6)."""

import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CELLS = {
    "tanh": (nn.RNN, {}),
    "relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "gru": (nn.GRU, {}),
}


class Plain(nn.Module):
    """Base: one recurrent layer and one output layer."""

    def __init__(self, hidden=16, kind=nn.LSTM, classes=4, **settings):
        super().__init__()
        self.rnn = kind(6, hidden, **{"batch_first": True, **settings})
        self.out = nn.Linear(hidden * (2 if self.rnn.bidirectional else 1), classes)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


class LastState(Plain):
    def forward(self, x):
        _, h = self.rnn(x)
        h = h[0] if isinstance(h, tuple) else h
        return self.out(torch.cat([h[-2], h[-1]], 1) if self.rnn.bidirectional else h[-1]).log_softmax(-1)


class Tagger(Plain):
    def forward(self, x):
        return self.out(self.rnn(x)[0])


class Pooled(Plain):
    def forward(self, x):
        return self.out(torch.relu(self.rnn(x)[0]).mean(1)).softmax(-1)


class TimeFirst(Plain):
    def __init__(self, **settings):
        super().__init__(batch_first=False, **settings)

    def forward(self, x):
        return self.out(self.rnn(x)[0][-1])


class Packed(Plain):
    def forward(self, x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        outputs, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(outputs[torch.arange(len(x)), lengths - 1])


class OwnState(nn.Module):
    """Makes its first states from an attribute, and reshapes with it."""

    def __init__(self, hidden_dim=16):
        super().__init__()
        self.hidden_dim = hidden_dim
        self.rnn = nn.LSTM(6, hidden_dim, 2, batch_first=True)
        self.out = nn.Linear(hidden_dim, 4)

    def forward(self, x):
        zeros = torch.zeros(2, len(x), self.hidden_dim)
        return self.out(self.rnn(x, (zeros, zeros.clone()))[0][:, -1].view(-1, self.hidden_dim))


class Attention(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.rnn = nn.LSTM(6, hidden, batch_first=True, bidirectional=True)
        self.weigh = nn.Linear(2 * hidden, 1)
        self.out = nn.Linear(2 * hidden, 4)

    def forward(self, x):
        outputs, _ = self.rnn(x)
        weights = torch.softmax(self.weigh(torch.tanh(outputs)), 1)
        return self.out(torch.bmm(weights.transpose(1, 2), outputs).squeeze(1))


class Stacked(nn.Module):
    """Two layers of two kinds, and a dense layer."""

    def __init__(self, first=16, second=10):
        super().__init__()
        self.a = nn.LSTM(6, first, batch_first=True)
        self.b = nn.GRU(first, second, batch_first=True, bidirectional=True)
        self.drop = nn.Dropout(0.3)
        self.dense = nn.Linear(2 * second, 8)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out(torch.relu(self.dense(self.b(self.drop(self.a(x)[0]))[0][:, -1])))


class EncoderDecoder(nn.Module):
    """The decoder starts from the last states of the encoder."""

    def __init__(self, hidden=16):
        super().__init__()
        self.encoder = nn.LSTM(6, hidden, batch_first=True)
        self.decoder = nn.LSTM(6, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 4)

    def forward(self, x):
        return self.out(self.decoder(x[:, 3:], self.encoder(x[:, :3])[1])[0])


class StepByStep(Plain):
    """Calls its layer at every timestep."""

    def forward(self, x):
        state, scores = None, []
        for t in range(x.shape[1]):
            outputs, state = self.rnn(x[:, t : t + 1], state)
            scores.append(self.out(outputs[:, 0]))
        return torch.stack(scores, 1)


class Siamese(Plain):
    def forward(self, a, b):
        return self.out((self.rnn(a)[0][:, -1] - self.rnn(b)[0][:, -1]).abs())


class Normed(nn.Module):
    def __init__(self, hidden=16, **settings):
        super().__init__()
        self.rnn = nn.LSTM(6, hidden, batch_first=True, **settings)
        self.norm = nn.LayerNorm(hidden * (2 if self.rnn.bidirectional else 1))
        self.out = nn.Linear(hidden * (2 if self.rnn.bidirectional else 1), 4)

    def forward(self, x):
        return self.out(self.norm(self.rnn(x)[0][:, -1]))


class DotAttention(Plain):
    """Runs on fewer outputs, but then computes other weights."""

    def forward(self, x):
        outputs, _ = self.rnn(x)
        weights = torch.softmax((outputs * outputs[:, -1:]).sum(-1, keepdim=True), 1)
        return self.out((weights * outputs).sum(1))


class ReturnsState(Plain):
    def forward(self, x):
        outputs, state = self.rnn(x)
        return self.out(outputs[:, -1]), state


class LearnedState(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.rnn = nn.GRU(6, hidden, batch_first=True)
        self.first = nn.Parameter(torch.randn(1, 1, hidden))
        self.out = nn.Linear(hidden, 4)

    def forward(self, x):
        return self.out(self.rnn(x, self.first.expand(-1, len(x), -1).contiguous())[0][:, -1])


class Convolved(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.rnn = nn.LSTM(6, hidden, batch_first=True)
        self.conv = nn.Conv1d(hidden, 8, 3)
        self.out = nn.Linear(8, 4)

    def forward(self, x):
        return self.out(self.conv(self.rnn(x)[0].transpose(1, 2)).amax(-1))


class Residual(nn.Module):
    """Adds the outputs of two layers, unit by unit."""

    def __init__(self, hidden=16):
        super().__init__()
        self.a, self.b = nn.GRU(6, hidden, batch_first=True), nn.GRU(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 4)

    def forward(self, x):
        first = self.a(x)[0]
        return self.out((first + self.b(first)[0])[:, -1])


class TiedLanguageModel(nn.Module):
    """Scores of words from the weights of the embedding; inputs are word indices (N, T)."""

    def __init__(self, hidden=16):
        super().__init__()
        self.embedding = nn.Embedding(30, hidden)
        self.rnn = nn.LSTM(hidden, hidden, batch_first=True)
        self.out = nn.Linear(hidden, 30)
        self.out.weight = self.embedding.weight

    def forward(self, x):
        return self.out(self.rnn(self.embedding(x))[0]).log_softmax(-1)


class Stateful(Plain):
    """Keeps its state from call to call."""

    def __init__(self, **settings):
        super().__init__(kind=nn.GRU, **settings)
        self.state = None

    def forward(self, x):
        outputs, state = self.rnn(x, self.state)
        self.state = state.detach()
        return self.out(outputs[:, -1])


class TwoHeads(Plain):
    def __init__(self, **settings):
        super().__init__(**settings)
        self.other = nn.Linear(self.out.in_features, 2)

    def forward(self, x):
        features = self.rnn(x)[0][:, -1]
        return self.out(features), self.other(features).softmax(-1)


class Regressor(Plain):
    def __init__(self, **settings):
        super().__init__(classes=1, **settings)

    def forward(self, x):
        return super().forward(x).squeeze(-1)


def inputs(count=160, steps=6, seed=3):
    return torch.randn(count, steps, 6, generator=torch.Generator().manual_seed(seed))


def made(cls, *args, seed=0, **settings):
    """A module with weights that depend only on the seed, in eval mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return cls(*args, **settings).eval()
