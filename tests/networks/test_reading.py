"""Inputs of networks: texts of different lengths, sizes, and numbers that give no decision."""

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests import factory
from tests.data.test_arrays import Series
from unbraid import Network, Vocabulary
from unbraid.errors import DataError

WORDS = [f"w{n}" for n in range(40)]
TEXTS = ["w1", "w1 w2 w3 w4 w5 w6", "w7 w8", "w9 w1 w2", "", "w3 w3", "w30"]


def vocabulary(**settings):
    return Vocabulary.from_words(WORDS, **settings)


class Tagger(nn.Module):
    """A module as users write it: without a mask, indices (N, T) or (T, N), the last state or all states."""

    def __init__(self, time_first=False, tags=False, bidirectional=False, lengths=False):
        super().__init__()
        torch.manual_seed(0)
        self.time_first, self.tags, self.lengths = time_first, tags, lengths
        self.embedding = nn.Embedding(42, 4)
        self.gru = nn.GRU(4, 6, batch_first=not time_first, bidirectional=bidirectional)
        self.out = nn.Linear(12 if bidirectional else 6, 3)

    def forward(self, words, lengths=None):
        x = self.embedding(words)
        if self.lengths:  # wants the longest first
            x = nn.utils.rnn.pack_padded_sequence(x, lengths.cpu(), batch_first=not self.time_first)
            return self.out(self.gru(x)[1][-1])
        values = self.gru(x)[0]
        if self.tags:
            return self.out(values)
        return self.out(values[-1] if self.time_first else values[:, -1])


NETWORKS = {
    "last state": {},
    "both directions": {"bidirectional": True},
    "two layers, backwards": {"cells": ("gru", "lstm"), "reverse": True},
    "two layers, both directions": {"cells": ("vanilla", "gru"), "bidirectional": True, "merge": "sum"},
    "masked": {"mask": True},
    "masked, two layers backwards": {"cells": ("lstm", "lstm"), "mask": True, "reverse": True},
}


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("settings", NETWORKS.values(), ids=NETWORKS)
def test_the_result_of_a_text_does_not_depend_on_others(settings, side):
    settings = {"cells": ("lstm",), **settings}
    net = factory.network(settings.pop("cells"), **settings).with_vocabulary(vocabulary(side=side))
    alone = np.concatenate([net.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(net.logits(TEXTS), alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(net.logits([text.split() for text in TEXTS]), alone, rtol=0, atol=1e-6)
    np.testing.assert_allclose(net.predict_proba(TEXTS[::-1]), net.predict_proba(TEXTS)[::-1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"time_first": True}, {"bidirectional": True}, {"lengths": True}])
def test_the_result_of_a_text_does_not_depend_on_others_in_users_modules(settings):
    rows = torch.arange(15).reshape(3, 5)
    example = rows.T if settings.get("time_first") else rows
    example = (rows, torch.tensor([5, 5, 5])) if settings.get("lengths") else example
    net = Network.from_torch(Tagger(**settings), example, vocabulary=vocabulary())
    alone = np.concatenate([net.logits([text]) for text in TEXTS])
    np.testing.assert_allclose(net.logits(TEXTS), alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_timesteps_that_a_text_does_not_have_get_no_label(side):
    net = factory.network(io="M:N", bidirectional=True, labels=["a", "b", "c"]).with_vocabulary(vocabulary(side=side))
    found = net.predict(TEXTS)
    assert found.shape == (len(TEXTS), 6)
    for text, row in zip(TEXTS, found.tolist(), strict=True):
        steps = max(len(text.split()), 1)
        own, rest = (row[-steps:], row[:-steps]) if side == "left" else (row[:steps], row[steps:])
        assert own == net.predict([text])[0].tolist() and set(rest) <= {""}
    user = Network.from_torch(Tagger(tags=True, bidirectional=True), torch.arange(15).reshape(3, 5)).with_vocabulary(
        vocabulary(side=side)
    )
    numbers = user.predict(TEXTS)
    assert (numbers == -1).sum() == sum(6 - max(len(text.split()), 1) for text in TEXTS)


def test_modules_and_compositions_read_a_text_alone_too():
    net = factory.network().with_vocabulary(vocabulary())
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(60)]
    parts = unbraid.decompose(net, (texts, rng.integers(0, 3, 60)), samples_per_class=10)
    composition = unbraid.compose(parts)
    alone = np.concatenate([composition.margins([text]) for text in TEXTS])
    np.testing.assert_allclose(composition.margins(TEXTS), alone, rtol=0, atol=1e-5)
    np.testing.assert_allclose(parts[1].margins(TEXTS), alone[:, 1], rtol=0, atol=1e-5)
    fair = composition.with_referee(texts, rng.integers(0, 3, 60))
    alone = np.concatenate([fair.margins([text]) for text in TEXTS])
    np.testing.assert_allclose(fair.margins(TEXTS), alone, rtol=0, atol=1e-4)


def test_observing_texts_is_as_observing_each_at_its_own_length():
    """Nodes are scored at the timesteps of texts only, so a module keeps the whole margin of its parent."""
    net = factory.network(bidirectional=True).with_vocabulary(vocabulary())
    padded = net.check(TEXTS)
    with torch.inference_mode():
        features = net.features(next(padded.batches())).numpy()
        own = np.concatenate([net.features(next(net.check([text]).batches())).numpy() for text in TEXTS])
    np.testing.assert_allclose(features, own, rtol=0, atol=1e-6)


def test_unrolled_modules_read_texts_of_one_length_only():
    net = factory.network().with_vocabulary(vocabulary())
    texts = ["w1 w2 w3", "w4 w5 w6", "w7 w8 w9"] * 8
    settings = {"strategy": "paper", "mode": "unrolled", "samples_per_class": 4}
    parts = unbraid.decompose(net, (texts, np.arange(24) % 3), **settings)
    assert unbraid.compose(parts).margins(texts).shape == (24, 3)
    with pytest.raises(DataError, match=r"texts have different lengths.*steps="):
        unbraid.compose(parts).margins(["w1 w2 w3", "w1"])


def test_a_flattened_sequence_has_one_length():
    net = factory.network(flat=True).with_vocabulary(vocabulary())
    with pytest.raises(DataError, match="5 timesteps, the network reads exactly 4"):
        net.predict(np.ones((2, 5), int))
    assert net.logits(["w1", "w1 w2 w3 w4 w5"]).shape == (2, 3)  # padded and cut to that
    np.testing.assert_allclose(net.logits(["w1", "w1 w2"])[:1], net.logits(["w1"]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 0), (0, 4), (0,), (2, 0, 3), (2, 4, 0)])
def test_inputs_without_values_are_refused(shape):
    inputs = "features" if len(shape) == 3 else "words"
    net = factory.network(inputs=inputs)
    with pytest.raises(DataError, match=r"no timesteps|no values|empty"):
        net.predict_proba(np.ones(shape, np.int64))
    user = Network.from_torch(Tagger(), torch.arange(15).reshape(3, 5))
    with pytest.raises(DataError):
        user.predict(np.ones(shape, np.int64))
    pairs = factory.translator()
    for x in ({"source": np.ones((2, 0)), "target": [[2], [2]]}, {"source": [[1], [1]], "target": np.ones((2, 0))}):
        with pytest.raises(DataError, match="no timesteps"):
            pairs.check(x)


LARGE = {
    "float64": np.full((2, 4, 3), 1e300),
    "one value": np.where(np.arange(24).reshape(2, 4, 3) == 5, -1e39, 0.0),
    "infinite": np.full((2, 4, 3), np.inf, np.float16),
    "whole numbers": [[[10**40] * 3] * 4] * 2,
    "a tensor": torch.full((2, 4, 3), 1e200, dtype=torch.float64),
}


@pytest.mark.parametrize("x", LARGE.values(), ids=LARGE)
def test_values_beyond_float32_are_refused(x):
    net = factory.network(inputs="features")
    parts = unbraid.decompose(net, factory.examples(net), samples_per_class=3)
    for model in (net, unbraid.compose(parts), parts[0]):
        with pytest.raises(DataError, match=r"float32|infinite|too large"):
            model.predict(x)


@pytest.mark.parametrize("vote", ["margin", "probability"])
def test_nan_decides_nothing(vote):
    small = factory.network(inputs="features", cells=("vanilla",))
    weights = {name: w * 100 if name.endswith("weight_ih") else w for name, w in small.weights().items()}
    net = Network(small.spec, weights)
    parts = unbraid.decompose(net, factory.examples(net), strategy="paper", samples_per_class=3)
    composition = unbraid.compose(parts, vote=vote)
    x = np.full((3, 4, 3), 3e38, np.float32)  # finite, but products overflow to both sides
    x[0] = 0
    for model in (net, composition, parts[0]):
        with pytest.raises(DataError, match="give NaN, the first is example"):
            model.predict(x)
    with pytest.raises(DataError, match="1 of 2 examples give NaN, the first is example 1"):
        composition.decide(np.array([[0.0, 1, 2], [np.nan, 1, 2]]))
    assert composition.decide(np.array([[0.0, np.inf, 2], [-np.inf, -np.inf, 2]])).tolist() == [1, 2]


def test_inputs_in_any_container():
    net = factory.network(labels=["a", "b", "c"]).with_vocabulary(vocabulary())
    rows = [[1, 2, 3, 4], [5, 6, 7, 8]]
    wanted = net.logits(rows)
    user = Network.from_torch(Tagger(), torch.arange(15).reshape(3, 5), vocabulary=vocabulary())
    wanted_user = user.logits(np.asarray(rows))
    texts = [" ".join(f"w{n - 2}" for n in row) for row in ([2, 3, 4, 5], [6, 7, 8, 9])]
    for x in (np.asarray(rows), torch.tensor(rows), Series(rows), tuple(map(tuple, rows)), np.asarray(rows, float)):
        np.testing.assert_array_equal(net.logits(x), wanted)
    for x in (Series(rows), rows, np.asarray(rows, ">i8"), np.asarray(rows)[::-1][::-1]):
        np.testing.assert_array_equal(user.logits(x), wanted_user)
    for model in (net, user):
        for x in (tuple(texts), np.asarray(texts), Series(texts, dtype=object), np.asarray(texts, dtype=object)):
            np.testing.assert_array_equal(model.logits(x), model.logits(texts))
        words = [text.split() for text in texts]
        for x in (np.asarray(words), Series(words), Series(np.asarray(words, dtype=object))):
            np.testing.assert_array_equal(model.logits(x), model.logits(texts))


WRONG = {
    "one text": ("w1 w2", "pass a list"),
    "one text as an array": (np.asarray("w1 w2"), "pass a list|text"),
    "bytes": (b"w1", "bytes"),
    "a list of bytes": ([b"w1", b"w2"], "text"),
    "an empty list": ([], "empty|no array"),
    "an empty column": (Series([]), "empty|inputs"),
    "nothing": (None, "NoneType|None"),
    "a set": ({"w1"}, "set|w1"),
    "a dict": ({"text": ["w1"]}, "dict|no array"),
    "a generator": ((text for text in ("w1", "w2")), "only once|generator"),
    "missing text": (["w1", None], "example 1: expected text.*missing value"),
    "missing text in a column": (Series(["w1", float("nan")], dtype=object), "example 1: expected text.*missing value"),
    "numbers beside text": (["w1", 3], "example 1: expected text"),
    "text beside numbers": ([1, "w1"], "text|numbers|no array"),
    "ragged rows": ([[1, 2], [3]], "different lengths"),
    "half a surrogate": (["w1 \ud800"], "UTF-8"),
    "complex": (np.ones((2, 4), complex), "complex"),
    "dates": (np.full((2, 4), np.datetime64("2020-01-01")), "datetime64"),
    "records": (np.zeros((2, 4), [("a", "i4")]), "expected numbers"),
    "a sparse tensor": (torch.eye(4).to_sparse(), "sparse"),
    "a tensor on meta": (torch.ones(2, 4, device="meta"), "meta"),
    "too large": (np.full((2, 4), 2**63, np.uint64), "word indices|forward failed"),
    "negative": (np.full((2, 4), -1), "word indices|forward failed"),
    "a long text": (["w1 " * 400_000], "too long"),
}


@pytest.mark.parametrize("kind", ["stages", "user's module"])
@pytest.mark.parametrize(("x", "message"), WRONG.values(), ids=WRONG)
def test_wrong_inputs_are_refused(x, message, kind):
    net = factory.network() if kind == "stages" else Network.from_torch(Tagger(), torch.arange(15).reshape(3, 5))
    if hasattr(x, "gi_frame"):
        x = (text for text in ("w1", "w2"))
    with pytest.raises(DataError, match=message) as caught:
        net.with_vocabulary(vocabulary()).predict(x)
    assert len(str(caught.value)) < 500


def test_texts_that_would_fill_the_memory_are_refused():
    net = factory.network().with_vocabulary(vocabulary())
    with unbraid.limits.override(file_bytes=10_000), pytest.raises(DataError, match="steps="):
        net.predict(["w1"] * 100 + ["w1 " * 100])


def test_rows_of_labels_may_come_in_a_column():
    net = factory.network(io="M:N", labels=["a", "b", "c"]).with_vocabulary(vocabulary())
    texts = [["w1", "w2", "w3"], ["w4", "w5"]] * 6
    rows = [["a", "b", "c"], ["b", "a"]] * 6
    column = np.empty(12, dtype=object)
    column[:] = rows
    composition = unbraid.compose(unbraid.decompose(net, (texts, rows), samples_per_class=2))
    wanted = unbraid.evaluate(composition, (texts, rows)).to_dict()
    for y in (column, Series(column)):
        assert unbraid.evaluate(composition, (texts, y)).to_dict() == wanted


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_memoryview(kind):
    network = factory.network(cells=("lstm",), inputs="features")
    x = factory.examples(network, 8)[0].astype(kind)
    np.testing.assert_array_equal(network.predict(memoryview(x)), network.predict(x))
    words = factory.network(cells=("lstm",))
    x, y = factory.examples(words, 12)
    np.testing.assert_array_equal(words.logits(memoryview(x)), words.logits(x))
    unbraid.decompose(words, (memoryview(x), memoryview(y)))


def test_inputs_with_their_labels_are_named():
    network = factory.network(cells=("lstm",), inputs="features")
    x, y = factory.examples(network, 30)
    parts = unbraid.decompose(network, (x, y))
    for run in (unbraid.compose(parts).fuse, network.predict, lambda both: unbraid.shrink(network, both)):
        with pytest.raises(DataError, match="pass x alone, without labels"):
            run((x, y))
    module = Network.from_torch(Tagger(), torch.tensor([[1, 2, 3], [4, 5, 6]]))
    with pytest.raises(DataError, match="pass x alone, without labels"):
        module.predict((np.ones((4, 3), int), np.zeros(4, int)))
    told = network.__class__.from_torch(Tagger(), torch.tensor([[1, 2, 3], [4, 5, 6]]), vocabulary=vocabulary())
    assert len(told.predict((["w1", "w2"], ["w3", "w4"]))) == 2  # two texts of two words each


def test_a_key_that_is_too_much_and_a_word_that_is_unknown_are_named():
    words, lengths = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([3, 2])
    network = Network.from_torch(Tagger(lengths=True), {"words": words, "lengths": lengths})
    with pytest.raises(DataError, match="leave out 'tags'"):
        network.predict({"words": words, "lengths": lengths, "tags": words})
    with pytest.raises(DataError, match=r"\{'words': \[2\]\}\.$"):
        network.predict({"words": words})
    for wrong in (42, -1):
        with pytest.raises(DataError, match=rf"word index {wrong}, and the embedding 'embedding' has 0 to 41"):
            network.predict({"words": torch.tensor([[1, 2, 3], [4, wrong, 6]]), "lengths": lengths})
    with pytest.raises(DataError, match="word index 42, and the embedding"):
        Network.from_torch(Tagger(), torch.tensor([[1, 2], [42, 3]]))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
@pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
def test_an_example_of_half_precision(kind):
    class Features(nn.Module):
        def __init__(self):
            super().__init__()
            self.gru, self.out = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

        def forward(self, x):
            return self.out(self.gru(x)[0][:, -1])

    x = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0)).to(kind)
    network = Network.from_torch(Features().to(kind), x)
    np.testing.assert_array_equal(network.logits(x), network.logits(x.float()))


def test_shrink_of_a_decoding_forward_says_what_works():
    class Decoding(Tagger):
        def forward(self, words, lengths=None):
            return super().forward(words, lengths).argmax(-1).tolist()

    with pytest.raises(DataError, match="shrink that network"):
        unbraid.shrink(Decoding(tags=True), torch.tensor([[1, 2, 3], [4, 5, 6]]))
