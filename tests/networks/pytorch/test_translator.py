import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from unbraid import decompose
from unbraid.errors import DataError, FormatError, UnsupportedLayer
from unbraid.translation.decoding import decode
from unbraid.translation.language_model import module_model, network_model
from unbraid.translation.pytorch import encoder_decoder_from_torch

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
LANGUAGES = {"fr": (1, 2), "de": (3, 4)}


class Side(nn.Module):
    def __init__(self, cell, words, layers, batch_first):
        super().__init__()
        self.table = nn.Embedding(words, 4)
        self.recurrence = CELLS[cell](4, 5, num_layers=layers, batch_first=batch_first, dropout=0.0)

    def forward(self, x, state=None):
        return self.recurrence(self.table(x), state)


class Seq2Seq(nn.Module):
    """A translator as users write it."""

    def __init__(self, cell="lstm", layers=1, batch_first=True, logs=False, scaled=1.0):
        super().__init__()
        self.encoder = Side(cell, 9, layers, batch_first)
        self.decoder = Side(cell, 12, layers, batch_first)
        self.out, self.logs, self.scaled = nn.Linear(5, 12), logs, scaled

    def forward(self, source, target):
        _, state = self.encoder(source)
        state = tuple(s * self.scaled for s in state) if isinstance(state, tuple) else state * self.scaled
        values, last = self.decoder(target, state)
        scores = self.out(values)
        return (torch.log_softmax(scores, -1) if self.logs else scores), last


def built(seed=0, **made):
    torch.manual_seed(seed)
    module = Seq2Seq(**made)
    source, target = torch.randint(1, 9, (3, 4)), torch.randint(1, 12, (3, 5))
    return module, (source, target) if made.get("batch_first", True) else (source.t(), target.t())


@settings(max_examples=20)
@given(
    cell=st.sampled_from(list(CELLS)),
    layers=st.integers(1, 4),
    batch_first=st.booleans(),
    logs=st.booleans(),
    seed=st.integers(0, 99),
)
def test_it_says_what_the_module_says_word_by_word(cell, layers, batch_first, logs, seed):
    module, example = built(seed, cell=cell, layers=layers, batch_first=batch_first, logs=logs)
    network = encoder_decoder_from_torch(module, example, LANGUAGES)
    assert network.labels == ["fr", "de"] and len(network.layers) == layers
    source = example[0] if batch_first else example[0].t()
    found = decode(network_model(network, "fr"), source, 5)
    for row, words in zip(source, found, strict=True):
        prefix = [1]
        for word in [*words, None]:
            one, own = row.unsqueeze(0), torch.tensor([prefix])
            scores = module(one, own)[0][0, -1] if batch_first else module(one.t(), own.t())[0][-1, 0]
            scores[[0, 1, 3]] = -torch.inf
            best = int(scores.argmax())
            assert best == word if word is not None else (best in (2, 4) or len(words) == 5)
            prefix.append(best)


def test_its_languages_are_taken_apart():
    module, _ = built(layers=2)
    source, target = torch.randint(1, 9, (20, 4)), torch.randint(5, 12, (20, 5))
    target[::2, 0], target[1::2, 0] = 1, 3
    network = encoder_decoder_from_torch(module, (source, target), LANGUAGES)
    parts = decompose(network, ((source, target), ["fr", "de"] * 10), strategy="paper", max_removed=0.3)
    assert list(parts) == ["fr", "de"]
    assert 0.6 < parts["fr"].retention().nodes < 1
    assert len(decode(module_model(parts["de"]), source, 4)) == 20


def test_what_it_cannot_say_exactly_is_refused():
    module, example = built(scaled=0.5)
    with pytest.raises(UnsupportedLayer, match="does not only pass the last states"):
        encoder_decoder_from_torch(module, example)
    module, example = built()
    with pytest.raises(DataError, match="no 'reader', only"):
        encoder_decoder_from_torch(module, example, encoder="reader")
    with pytest.raises(DataError, match="does not run"):
        encoder_decoder_from_torch(module, (example[0], example[1] + 50))
    with pytest.raises(FormatError, match="expected two different"):
        encoder_decoder_from_torch(module, example, {"fr": (1, 12)})
    module.extra = nn.Linear(2, 2)
    with pytest.raises(UnsupportedLayer, match=r"2 nn\.Linear"):
        encoder_decoder_from_torch(module, example)
