"""Forms of the arguments of users' modules: decisions are those of the module itself, called as its user calls it."""

import collections
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence, pad_sequence

from unbraid import Network, compose, decompose, load_decomposition, shrink
from unbraid.errors import DataError, UnbraidError, UnsupportedLayer

WORDS, STEPS, HIDDEN = 20, 5, 6
N, FEW = 40, 8

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")


def strong(module, seed=0):
    """Give a module weights that are large enough to tell inputs apart."""
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw))
    return module.eval()


def data():
    """Word indices (N, T), features (N, T, 4) and lengths (N,)."""
    draw = torch.Generator().manual_seed(1)
    words = torch.randint(1, WORDS, (N, STEPS), generator=draw)
    lengths = torch.randint(1, STEPS + 1, (N,), generator=draw)
    lengths[:2] = STEPS
    return words, torch.randn(N, STEPS, 4, generator=draw), lengths


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(WORDS, 5), nn.LSTM(5, HIDDEN, batch_first=True)
        self.out = nn.Linear(HIDDEN, 3)

    def scores(self, words):
        return self.out(self.rnn(self.embed(words))[0][:, -1])


class Sentence(Words):
    """One sentence (T,) a call."""

    def forward(self, words):
        return self.scores(words.unsqueeze(0))


class SentenceTags(Words):
    """The tagger of the PyTorch tutorial: (T,) to (T, C)."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(5, HIDDEN)

    def forward(self, words):
        outputs, _ = self.rnn(self.embed(words).view(len(words), 1, -1))
        return F.log_softmax(self.out(outputs.view(len(words), -1)), dim=1)


class OneStep(nn.Module):
    """One word and the state of one sentence a call."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn, self.out = nn.Embedding(WORDS, 5), nn.GRU(5, HIDDEN), nn.Linear(HIDDEN, 3)

    def forward(self, word, hidden):
        outputs, hidden = self.rnn(self.embed(word).view(1, 1, -1), hidden)
        return self.out(outputs[0]), hidden


class OfPacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.GRU(4, HIDDEN, batch_first=True), nn.Linear(HIDDEN, 3)

    def forward(self, packed):
        return self.out(self.rnn(packed)[1][-1])


class PackedTags(OfPacked):
    def forward(self, packed):
        found, _ = self.rnn(packed)
        return PackedSequence(self.out(found.data), found.batch_sizes, found.sorted_indices, found.unsorted_indices)


class Listed(Words):
    def forward(self, words):
        return self.scores(words[0])


class OfBatch(Words):
    def forward(self, batch):
        outputs, _ = self.rnn(self.embed(batch.words))
        return self.out(outputs[torch.arange(len(batch.words)), batch.lengths - 1])


class OfMapping(Words):
    def forward(self, batch):
        return self.scores(batch["words"])


class OfSentences(Words):
    def forward(self, sentences):
        lengths = [len(sentence) for sentence in sentences]
        packed = pack_padded_sequence(
            self.embed(pad_sequence(sentences, batch_first=True)), lengths, batch_first=True, enforce_sorted=False
        )
        return self.out(self.rnn(packed)[1][0][-1])


class SentencesAdapter(nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, words, lengths):
        return self.module([sentence[:n] for sentence, n in zip(words, lengths, strict=True)])


@dataclass(frozen=True)
class Batch:
    words: torch.Tensor
    lengths: torch.Tensor


Pair = collections.namedtuple("Pair", "words lengths")


class Encoding(collections.UserDict):
    """A mapping that is no dict."""


def packed(rows):
    _, x, lengths = data()
    return pack_padded_sequence(x[rows], lengths[rows], batch_first=True, enforce_sorted=False)


def record(kind):
    def of(rows):
        words, _, lengths = data()
        return kind(words=words[rows], lengths=lengths[rows])

    return of


def singly(call):
    """Call the module once for each example."""
    return lambda module, x: torch.cat([call(module, x, row) for row in range(N)])


CASES = {
    "sentence": (Sentence, lambda rows: data()[0][rows], singly(lambda m, x, i: m(x[i]))),
    "sentence of tags": (
        SentenceTags, lambda rows: data()[0][rows], lambda m, x: torch.stack([m(sentence) for sentence in x]),
    ),
    "one step": (
        OneStep,
        lambda rows: (data()[0][rows, :1], data()[1][rows, :2].reshape(1, -1, 8)[..., :HIDDEN].contiguous()),
        singly(lambda m, x, i: m(x[0][i : i + 1], x[1][:, i : i + 1])[0]),
    ),
    "packed": (OfPacked, packed, None),
    "packed tags": (PackedTags, packed, lambda m, x: pad_packed_sequence(m(x), batch_first=True)[0]),
    "list of one tensor": (Listed, lambda rows: [data()[0][rows]], None),
    "dataclass": (OfBatch, record(Batch), None),
    "namespace": (OfBatch, record(SimpleNamespace), None),
    "namespace in a tuple": (
        OfBatch, lambda rows: (record(SimpleNamespace)(rows),), lambda m, x: m(x[0]),
    ),
    "named tuple": (OfBatch, record(Pair), None),
    "mapping": (OfMapping, lambda rows: Encoding(words=data()[0][rows]), None),
    "sentences": (
        lambda: SentencesAdapter(OfSentences()), lambda rows: (data()[0][rows], data()[2][rows]), lambda m, x: m(*x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_decisions_and_folders_of_each_form(name, tmp_path):
    build, make, own = CASES[name]
    module, x = strong(build()), make(slice(None))
    network = Network.from_torch(module, make(slice(FEW)))
    with torch.no_grad():
        wanted = (own or (lambda m, x: m(x)))(module, x).argmax(-1).numpy()
    found = network.predict_index(x)
    real = np.arange(STEPS) < data()[2].numpy()[:, None] if name == "packed tags" else np.ones(wanted.shape, bool)
    np.testing.assert_array_equal(found[real], wanted[real])
    parts = decompose(network, (x, np.where(real, wanted, -1)), keep=0.5, missing="skip")
    parts.save(tmp_path / "parts")
    again = load_decomposition(tmp_path / "parts", module=strong(build(), 9))
    np.testing.assert_array_equal(compose(again).margins(x), compose(parts).margins(x))


def test_other_batch_objects_are_refused_with_the_way_out():
    class Own:
        def __init__(self, words, lengths):
            self.words, self.lengths = words, lengths

    for example in (record(Own)(slice(FEW)), (record(Own)(slice(FEW)),)):
        with pytest.raises(DataError, match=r"holds Own.*SimpleNamespace"):
            Network.from_torch(strong(OfBatch()), example)


def test_sentences_of_different_lengths_are_refused_with_the_way_out():
    words, _, lengths = data()
    with pytest.raises(DataError, match="sequences of different lengths"):
        Network.from_torch(strong(OfSentences()), [w[:n] for w, n in zip(words, lengths, strict=True)])


@pytest.mark.parametrize("x", [Batch(torch.ones(2, 3), torch.ones(2)), SimpleNamespace(a=1), Encoding(), [[]]])
def test_inputs_of_another_form_than_the_example_are_refused(x):
    network = Network.from_torch(strong(Listed()), [data()[0][:FEW]])
    with pytest.raises(UnbraidError):
        network.predict(x)


def test_tied_weights_of_an_output_layer():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.rnn = nn.Embedding(WORDS, HIDDEN), nn.GRU(HIDDEN, HIDDEN, batch_first=True)

        def forward(self, words):
            return self.rnn(self.embed(words))[0] @ self.embed.weight.t()

    class Tied(Products):
        def __init__(self):
            super().__init__()
            self.out = nn.Linear(HIDDEN, WORDS, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, words):
            return self.out(self.rnn(self.embed(words))[0])

    words = data()[0]
    with pytest.raises(UnsupportedLayer, match="products with an embedding"):
        Network.from_torch(strong(Products()), words[:FEW])
    module = strong(Tied())
    with torch.no_grad():
        wanted = Products.forward(module, words).argmax(-1).numpy()
    np.testing.assert_array_equal(Network.from_torch(module, words[:FEW]).predict_index(words), wanted)


def test_a_packed_sequence_is_an_input_of_shrink():
    module = strong(OfPacked())
    small = shrink(module, packed(slice(None)), keep=0.5)
    with torch.no_grad():
        assert small(packed(slice(None))).shape == (N, 3)
    assert small.rnn.hidden_size == 3


def test_a_list_as_one_argument_is_an_input_of_shrink():
    module, x = strong(Listed()), [data()[0]]
    small = shrink(Network.from_torch(module, [x[0][:FEW]]), x, keep=0.5)
    with torch.no_grad():
        assert small(x).shape == (N, 3)
    assert small.rnn.hidden_size == 3
