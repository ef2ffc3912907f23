"""Viterbi decoding finds the padding of a batch in its inputs."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

import unbraid
from unbraid import Network, UnbraidWarning, compose, decompose

LENGTHS = torch.tensor([3, 6, 1, 4, 2, 5, 6, 2] * 5)
TRANS = np.random.default_rng(0).normal(0, 4, (3, 3))


class Tagger(nn.Module):
    """Own names of the scores, as ``trans``, ``first`` and ``last``."""

    def __init__(self):
        super().__init__()
        self.embedding, self.gru = nn.Embedding(20, 6), nn.GRU(6, 5, batch_first=True)
        self.emit = nn.Linear(5, 3)
        self.trans = nn.Parameter(torch.randn(3, 3))

    def states(self, words, lengths, **settings):
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, **settings)
        return pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=words.shape[1])[0]

    def packed(self, words, lengths, **settings):
        return self.emit(self.states(words, lengths, **settings))

    def plain(self, words):
        return self.emit(self.gru(self.embedding(words))[0])


class OfBatch(Tagger):
    def forward(self, batch):
        return self.packed(batch["words"], batch["lengths"], enforce_sorted=False)


class OfWords(Tagger):
    def forward(self, words):
        return self.packed(words, (words != 0).sum(1), enforce_sorted=False)


class Strict(Tagger):
    def forward(self, words, n):
        return self.packed(words, n)


class Sorting(Tagger):
    def forward(self, words, n):
        order = n.argsort(descending=True)
        return self.emit(self.states(words[order], n[order])[order.argsort()])


class Lengths(Tagger):
    def forward(self, words, lengths):
        return self.plain(words) * (lengths > 0)[:, None, None]


class Mask(Tagger):
    def forward(self, words, mask):
        return self.plain(words) * (1 + mask.any())


class Pads(Tagger):
    def forward(self, words, padding_mask):
        return self.plain(words) * (1 + padding_mask.any())


class Unknown(Tagger):
    def forward(self, words):
        return self.plain(words)


class OfPacked(Tagger):
    def forward(self, packed):
        return self.emit(pad_packed_sequence(self.gru(packed)[0], batch_first=True)[0])


def batch(kind):
    words = torch.randint(1, 20, (40, 6), generator=torch.Generator().manual_seed(1))
    real = torch.arange(6) < LENGTHS[:, None]
    words = words * real
    if kind is OfPacked:
        return pack_padded_sequence(torch.randn(40, 6, 6), LENGTHS, batch_first=True, enforce_sorted=False)
    return {
        OfBatch: {"words": words, "lengths": LENGTHS},
        OfWords: words,
        Unknown: words,
        Mask: (words, real),
        Pads: (words, ~real),
    }.get(kind, (words, LENGTHS))


def tagger(kind):
    torch.manual_seed(3)
    module, x = kind().eval(), batch(kind)
    first = batch(kind) if isinstance(x, PackedSequence) else x
    network = Network.from_torch(module, first, head="emit", labels=["a", "b", "c"])
    y = np.where(np.arange(6) < LENGTHS.numpy()[:, None], np.arange(240).reshape(40, 6) % 3, -1)
    return network, compose(decompose(network, (x, y), keep=1.0, head="softmax")), x


@pytest.mark.filterwarnings("ignore:.*steps that pack:unbraid.UnbraidWarning")
@pytest.mark.parametrize("kind", [OfBatch, OfWords, Strict, Sorting, Lengths, Mask, Pads, OfPacked])
def test_padding_is_found_in_the_batch(kind):
    _, composition, x = tagger(kind)
    real = np.arange(6) < LENGTHS.numpy()[:, None]
    given = composition.viterbi(x, TRANS, valid=real)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnbraidWarning)
        np.testing.assert_array_equal(composition.viterbi(x, TRANS), given)
    assert (given[~real] == "").all() and (given[real] != "").all()


def test_a_warning_where_nothing_states_the_lengths():
    _, composition, x = tagger(Unknown)
    with pytest.warns(UnbraidWarning, match=r"30 of 40 examples end with zeros.*pass valid="):
        found = composition.viterbi(x, TRANS)
    assert (found != "").all()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnbraidWarning)
        composition.viterbi(x.clamp(min=1), TRANS)
        composition.viterbi(x, TRANS, valid=(x != 0).numpy())


def test_an_evaluation_notes_transition_scores_with_own_names():
    network, composition, x = tagger(OfBatch)
    y = np.array(["a", "b", "c"])[np.arange(240).reshape(40, 6) % 3]
    assert "argmax of emission scores" in str(unbraid.evaluate(composition, (x, y), against=network))
