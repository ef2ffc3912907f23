"""PyTorch models as users write them, to check that Unbraid decomposes each of them without changes.

Shapes: N examples, T timesteps, D features, C classes. Token 0 is padding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

WORDS, STEPS, FEATURES, CLASSES = 60, 9, 5, 4


class PackedLSTM(nn.Module):
    """Packed sequences, last hidden state."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=16, num_classes=CLASSES):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True)
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, text, lengths):
        packed = pack_padded_sequence(self.embedding(text), lengths.cpu(), batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.lstm(packed)
        return self.fc(hidden[-1])


class AttentionGRU(nn.Module):
    """Bidirectional GRU, attention pooling under a mask."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=10, num_classes=CLASSES):
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.gru = nn.GRU(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(2 * hidden_dim, 1)
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, tokens):
        states, _ = self.gru(self.embed(tokens))
        scores = self.attention(states).squeeze(-1)
        scores = scores.masked_fill(tokens == 0, -1e9)
        weights = torch.softmax(scores, dim=1)
        context = torch.bmm(weights.unsqueeze(1), states).squeeze(1)
        return self.classifier(self.dropout(context))


class DeepLSTM(nn.Module):
    """Two bidirectional layers with dropout, last states of both directions concatenated."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=8, num_classes=CLASSES):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.rnn = nn.LSTM(embedding_dim, hidden_dim, num_layers=2, bidirectional=True, dropout=0.3, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(2 * hidden_dim, num_classes)

    def forward(self, x):
        _, (h, _) = self.rnn(self.dropout(self.embedding(x)))
        return self.fc(self.dropout(torch.cat((h[-2], h[-1]), dim=1)))


class TimeFirst(nn.Module):
    """The tutorials' (T, N) layout, batch_first=False."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=16, num_classes=CLASSES):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim)
        self.rnn = nn.GRU(embedding_dim, hidden_dim)
        self.fc = nn.Linear(hidden_dim, num_classes)

    def forward(self, text):  # (T, N)
        output, _ = self.rnn(self.embedding(text))
        return self.fc(output[-1])


class Tagger(nn.Module):
    """Logits at every timestep."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=10, tagset_size=CLASSES):
        super().__init__()
        self.word_embeddings = nn.Embedding(vocab_size, embedding_dim)
        self.lstm = nn.LSTM(embedding_dim, hidden_dim, batch_first=True, bidirectional=True)
        self.hidden2tag = nn.Linear(2 * hidden_dim, tagset_size)

    def forward(self, sentence):
        lstm_out, _ = self.lstm(self.word_embeddings(sentence))
        return self.hidden2tag(lstm_out)


class PackedTagger(nn.Module):
    """Packed and padded again; logits at every timestep of the longest sequence of the batch."""

    def __init__(self, vocab_size=WORDS, embedding_dim=12, hidden_dim=10, tagset_size=CLASSES):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=0)
        self.rnn = nn.GRU(embedding_dim, hidden_dim, num_layers=2, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(2 * hidden_dim, tagset_size)

    def forward(self, tokens, lengths):
        packed = pack_padded_sequence(self.embedding(tokens), lengths.cpu(), batch_first=True, enforce_sorted=False)
        output, _ = self.rnn(packed)
        output, _ = pad_packed_sequence(output, batch_first=True)
        return F.log_softmax(self.tag(output), dim=-1)


class Sensors(nn.Module):
    """Numeric channels over time, and static values; the classifier is an MLP."""

    def __init__(self, channels=FEATURES, static=3, hidden_size=16, classes=CLASSES):
        super().__init__()
        self.lstm = nn.LSTM(channels, hidden_size, num_layers=2, batch_first=True)
        self.classifier = nn.Sequential(
            nn.Linear(hidden_size + static, 20), nn.ReLU(), nn.Dropout(0.2), nn.Linear(20, classes)
        )

    def forward(self, series, static):
        out, _ = self.lstm(series)
        return self.classifier(torch.cat([out[:, -1, :], static], dim=1))


class NamedInputs(nn.Module):
    """Called as model(**batch), as with Hugging Face tokenizers."""

    def __init__(self):
        super().__init__()
        self.embeddings = nn.Embedding(WORDS, 12)
        self.encoder = nn.GRU(12, 16, batch_first=True)
        self.out_proj = nn.Linear(16, CLASSES)

    def forward(self, input_ids, attention_mask):
        states, _ = self.encoder(self.embeddings(input_ids))
        last = attention_mask.sum(dim=1) - 1
        return self.out_proj(states[torch.arange(len(states)), last])


class BatchDict(nn.Module):
    """One argument, a dict."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, batch):
        states, _ = self.lstm(self.embedding(batch["tokens"]))
        index = (batch["length"] - 1).view(-1, 1, 1).expand(-1, 1, states.size(2))
        return self.fc(states.gather(1, index).squeeze(1))


class TwoEncoders(nn.Module):
    """A tuple of two sequences of different length, each with a separate encoder."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.premise_rnn = nn.LSTM(12, 10, batch_first=True)
        self.hypothesis_rnn = nn.GRU(12, 9, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(10 + 18, CLASSES)

    def forward(self, pair):
        premise, hypothesis = pair
        _, (hp, _) = self.premise_rnn(self.embedding(premise))
        _, hh = self.hypothesis_rnn(self.embedding(hypothesis))
        return self.fc(torch.cat([hp.squeeze(0), hh[0], hh[1]], dim=-1))


class DictOutput(nn.Module):
    """Returns a dict with more than the scores."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12, padding_idx=0)
        self.lstm = nn.LSTM(12, 8, batch_first=True, bidirectional=True)
        self.query = nn.Parameter(torch.randn(16))
        self.head = nn.Linear(16, CLASSES)

    def forward(self, tokens):
        states, _ = self.lstm(self.embedding(tokens))
        weights = (states @ self.query).softmax(dim=1)
        pooled = torch.einsum("nt,ntd->nd", weights, states)
        logits = self.head(pooled)
        return {"logits": logits, "probs": logits.softmax(-1), "attention": weights}


class TupleOutput(nn.Module):
    """Returns the scores and the state."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.gru = nn.GRU(12, 16, batch_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x, hidden=None):
        out, hidden = self.gru(self.embedding(x), hidden)
        return self.fc(out[:, -1]), hidden


class LogSoftmax(nn.Module):
    """Ends in log_softmax, for NLLLoss."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.rnn = nn.RNN(12, 16, batch_first=True)
        self.h2o = nn.Linear(16, CLASSES)
        self.softmax = nn.LogSoftmax(dim=1)

    def forward(self, line):
        _, hidden = self.rnn(self.embedding(line))
        return self.softmax(self.h2o(hidden[0]))


class Sentiment(nn.Module):
    """One sigmoid for two classes, squeezed to (N,)."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, 16, num_layers=2, batch_first=True, dropout=0.5)
        self.fc = nn.Linear(16, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x):
        lstm_out, _ = self.lstm(self.embedding(x))
        return self.sigmoid(self.fc(lstm_out[:, -1])).squeeze()


class MultiLabel(nn.Module):
    """Independent labels."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.gru = nn.GRU(12, 12, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(24, CLASSES)

    def forward(self, x):
        out, _ = self.gru(self.embedding(x))
        return torch.sigmoid(self.fc(out.max(dim=1).values))


class ConvRNN(nn.Module):
    """Convolutions and pooling in front of an LSTM."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv1d(FEATURES, 12, kernel_size=3, padding=1), nn.BatchNorm1d(12), nn.ReLU(), nn.MaxPool1d(2)
        )
        self.lstm = nn.LSTM(12, 16, batch_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):  # (N, T, D)
        x = self.conv(x.transpose(1, 2)).transpose(1, 2)
        out, _ = self.lstm(x)
        return self.fc(out[:, -1])


class LSTMThenGRU(nn.Module):
    """Two recurrent layers of different kinds with a dense layer between them."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, 14, batch_first=True, bidirectional=True)
        self.between = nn.Linear(28, 14)
        self.gru = nn.GRU(14, 10, batch_first=True)
        self.fc = nn.Linear(10, CLASSES)

    def forward(self, x):
        out, _ = self.lstm(self.embedding(x))
        _, h = self.gru(torch.tanh(self.between(out)))
        return self.fc(h.squeeze(0))


class Pooled(nn.Module):
    """Mean and max over the states, under a mask."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12, padding_idx=0)
        self.gru = nn.GRU(12, 12, batch_first=True)
        self.fc1 = nn.Linear(24, 16)
        self.fc2 = nn.Linear(16, CLASSES)

    def forward(self, tokens):
        mask = (tokens != 0).unsqueeze(-1)
        states, _ = self.gru(self.embedding(tokens))
        mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
        peak = states.masked_fill(~mask, float("-inf")).max(1)[0]
        return self.fc2(F.relu(self.fc1(torch.cat([mean, peak], 1))))


class ReluRNN(nn.Module):
    """Bidirectional vanilla RNN with relu, flattened over time."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(FEATURES, 10, nonlinearity="relu", batch_first=True, bidirectional=True)
        self.fc = nn.Linear(20 * STEPS, CLASSES)

    def forward(self, x):
        out, _ = self.rnn(x)
        return self.fc(out.flatten(1))


class LearnedState(nn.Module):
    """A learned initial state."""

    def __init__(self):
        super().__init__()
        self.h0 = nn.Parameter(torch.randn(1, 1, 16))
        self.c0 = nn.Parameter(torch.randn(1, 1, 16))
        self.lstm = nn.LSTM(FEATURES, 16, batch_first=True)
        self.fc = nn.Linear(16, CLASSES)

    def forward(self, x):
        n = x.size(0)
        state = (self.h0.expand(-1, n, -1).contiguous(), self.c0.expand(-1, n, -1).contiguous())
        out, _ = self.lstm(x, state)
        return self.fc(out[:, -1])


class Normed(nn.Module):
    """LayerNorm between recurrent layers, BatchNorm before the classifier, zero states made by hand."""

    def __init__(self):
        super().__init__()
        self.hidden_size = 12
        self.rnn1 = nn.GRU(FEATURES, 12, batch_first=True)
        self.norm = nn.LayerNorm(12)
        self.rnn2 = nn.GRU(12, 12, batch_first=True)
        self.bn = nn.BatchNorm1d(12)
        self.fc = nn.Linear(12, CLASSES)

    def forward(self, x):
        h0 = torch.zeros(1, x.size(0), self.hidden_size).to(x.device)
        out, _ = self.rnn1(x, h0)
        out, _ = self.rnn2(self.norm(out), h0)
        return self.fc(self.bn(out[:, -1, :]))


class Double(PackedLSTM):
    """All weights in float64."""

    def __init__(self):
        super().__init__()
        self.double()


class Residual(nn.Module):
    """Residual connections around LSTMs in a ModuleList."""

    def __init__(self, size=12, depth=3):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, size)
        self.layers = nn.ModuleList(nn.LSTM(size, size, batch_first=True) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(size) for _ in range(depth))
        self.fc = nn.Linear(size, CLASSES)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = norm(x + layer(x)[0])
        return self.fc(x.mean(dim=1))


class Scores(NamedTuple):
    """The result of KeepsAttention."""

    logits: Tensor
    attention: Tensor


class KeepsAttention(nn.Module):
    """Stores its attention for a plot and returns a named tuple."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, 12)
        self.lstm = nn.LSTM(12, 10, batch_first=True, bidirectional=True)
        self.attention = nn.Linear(20, 1)
        self.head = nn.Linear(20, CLASSES)
        self.last_attention = None
        self(
            torch.ones(2, STEPS, dtype=torch.long)
        )  # as after training, the stored attention belongs to an autograd graph

    def forward(self, tokens):
        states, _ = self.lstm(self.embedding(tokens))
        self.last_attention = self.attention(states).squeeze(-1).softmax(1)
        return Scores(self.head((self.last_attention.unsqueeze(-1) * states).sum(1)), self.last_attention)


class NoBias(nn.Module):
    """bias=False everywhere."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(FEATURES, 16, num_layers=2, batch_first=True, bias=False)
        self.fc = nn.Linear(16, CLASSES, bias=False)

    def forward(self, x):
        return self.fc(self.gru(x)[0][:, -1])


class TakeLast(nn.Module):
    """An adapter that lets a recurrent layer be used in nn.Sequential."""

    def forward(self, found):
        return found[0][:, -1]


class Sequential(nn.Sequential):
    """A plain nn.Sequential."""

    def __init__(self):
        super().__init__(
            nn.Embedding(WORDS, 12), nn.LSTM(12, 16, batch_first=True), TakeLast(), nn.Dropout(), nn.Linear(16, CLASSES)
        )


class TiedLanguageModel(nn.Module):
    """Predicts the next word; the output layer shares the embedding's weights."""

    def __init__(self, vocab_size=12, size=10):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, size)
        self.lstm = nn.LSTM(size, size, num_layers=2, batch_first=True)
        self.decoder = nn.Linear(size, vocab_size)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens):
        out, _ = self.lstm(self.embedding(tokens))
        return self.decoder(out)


class EncoderDecoder(nn.Module):
    """The state of the encoder is the first state of a decoder, which reads the target shifted by one."""

    def __init__(self):
        super().__init__()
        self.source = nn.Embedding(WORDS, 10)
        self.target = nn.Embedding(CLASSES, 10)
        self.encoder = nn.LSTM(10, 12, batch_first=True)
        self.decoder = nn.LSTM(10, 12, batch_first=True)
        self.out = nn.Linear(12, CLASSES)

    def forward(self, source, target):
        _, state = self.encoder(self.source(source))
        decoded, _ = self.decoder(self.target(target), state)
        return self.out(decoded)
