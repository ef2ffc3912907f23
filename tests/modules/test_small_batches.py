"""Small batches: modules that run joined give what they give one by one, and follow their weights."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import factory
from unbraid import Network, compose, decompose
from unbraid.modules import small_batches as joined_modules
from unbraid.networks.joined import JoinedRecurrent, joined
from unbraid.networks.recurrent import RecurrentLayer

FEW = 12


def parts(cells, io="M:1", keep=0.6, **network):
    net = factory.network(cells, io, units=5, **network)
    examples = factory.examples(net, 60)
    return decompose(net, examples, keep=keep), examples[0]


def one_by_one(composition, x):
    return np.stack([module.margins(x) for module in composition.modules_by_label.values()], -1)


@settings(deadline=None, max_examples=25)
@given(
    cells=st.lists(st.sampled_from(sorted(factory.CELLS)), min_size=1, max_size=2).map(tuple),
    io=st.sampled_from(["M:1", "M:N", "1:1", "1:N"]),
    bidirectional=st.booleans(),
    count=st.sampled_from([1, 2, FEW]),
    seed=st.integers(0, 3),
)
def test_joined_modules_give_their_own_margins(cells, io, bidirectional, count, seed):
    found, x = parts(cells, io, bidirectional=bidirectional, seed=seed)
    composition = compose(found)
    x = x[:count]
    expected = one_by_one(composition, x)
    given = composition.margins(x)
    assert given.shape == expected.shape
    assert np.allclose(given, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
    (group,) = composition.groups
    bodies = [module.body for module in composition.modules_by_label.values()]
    assert (group._small is not None) == (len(group.lanes) == len(bodies) and joined(bodies[0], bodies) is not None)


@settings(deadline=None, max_examples=40)
@given(
    cell=st.sampled_from(sorted(factory.CELLS)),
    back=st.booleans(),
    sizes=st.tuples(*[st.integers(1, 4)] * 4),
    masked=st.booleans(),
    given_state=st.booleans(),
    seed=st.integers(0, 5),
)
def test_the_scan_without_gradients_equals_each_layer(cell, back, sizes, masked, given_state, seed):
    bodies, examples, steps, units = sizes
    make = torch.Generator().manual_seed(seed)
    layers = [
        [RecurrentLayer(factory.CELLS[cell], 3, units, reverse) for _ in range(bodies)] for reverse in (False, back)
    ]
    for layer in (one for direction in layers for one in direction):
        for parameter in layer.parameters():
            parameter.data = torch.randn(parameter.shape, generator=make)
    x = torch.randn(examples, steps, 3, generator=make)
    valid = torch.rand(examples, steps, generator=make) > 0.4 if masked else None
    first = None
    if given_state:
        count = 2 if factory.CELLS[cell].kind == "lstm" else 1
        first = [tuple(torch.randn(bodies * examples, units, generator=make) for _ in range(count)) for _ in range(2)]
        kept = copy.deepcopy(first)
    join = JoinedRecurrent(layers, opens=True)
    with torch.inference_mode():
        fast = join(x, valid, first)
    slow = join(x, valid, first)
    for place, direction in enumerate(layers):
        for body, layer in enumerate(direction):
            own = slice(body * examples, (body + 1) * examples)
            start = None if first is None else tuple(s[own] for s in first[place])
            outputs, state = layer(x, valid, start)
            for found in (fast, slow):
                assert torch.allclose(found[place][0][own], outputs, atol=1e-5)
                assert all(torch.allclose(a[own], b, atol=1e-5) for a, b in zip(found[place][1], state, strict=True))
    if given_state:
        assert all(
            torch.equal(a, b) for one, two in zip(first, kept, strict=True) for a, b in zip(one, two, strict=True)
        )


@pytest.mark.parametrize("change", ["in place", "data", "replaced", "head"])
def test_joined_modules_follow_their_weights(change):
    found, x = parts(("lstm",))
    composition = compose(found)
    before = composition.margins(x[:2])
    module = composition[composition.labels[1]]
    layer = module.body.stages[-1].forward_layer
    if change == "in place":
        with torch.no_grad():
            layer.weight_hh.mul_(1.5)
    elif change == "data":
        layer.weight_ih.data.mul_(1.5)
    elif change == "replaced":
        layer.bias_ih = torch.nn.Parameter(layer.bias_ih + 1, requires_grad=False)
    else:
        module.head.bias.data[0] += 1
    after = composition.margins(x[:2])
    assert np.allclose(after, one_by_one(composition, x[:2]), rtol=1e-4, atol=1e-5)
    assert not np.allclose(after[:, 1], before[:, 1]) and np.allclose(after[:, [0, 2]], before[:, [0, 2]])


def test_the_size_of_a_batch_does_not_change_results(monkeypatch):
    found, x = parts(("gru", "lstm"), bidirectional=True)
    composition = compose(found)
    small = composition.margins(x[:FEW])
    monkeypatch.setattr(joined_modules, "WORK", 0)
    large = compose(found)
    assert np.allclose(small, large.margins(x[:FEW]), rtol=1e-4, atol=1e-5)
    assert composition.groups[0]._small is not None and large.groups[0]._small is None


def test_modules_of_different_sizes_run_one_by_one():
    found, x = parts(("lstm",))
    other, _ = parts(("lstm",), keep=1.0)
    labels = list(found)
    composition = compose({labels[0]: found[labels[0]], labels[1]: other[labels[1]]})
    assert np.allclose(composition.margins(x[:2]), one_by_one(composition, x[:2]), rtol=1e-4, atol=1e-5)
    assert composition.groups[0]._small is None


def test_copies_and_other_types_follow():
    found, x = parts(("lstm",))
    composition = compose(found)
    expected = composition.margins(x[:2])
    assert np.allclose(copy.deepcopy(composition).margins(x[:2]), expected)
    assert np.allclose(composition.to(torch.float64).margins(x[:2]), expected, rtol=1e-4, atol=1e-5)
    assert np.allclose(composition.to(torch.float32).margins(x[:2]), expected, rtol=1e-4, atol=1e-5)


class User(torch.nn.Module):
    def __init__(self, cell, layers, bidirectional, packed, states):
        super().__init__()
        self.words = torch.nn.Embedding(30, 4)
        self.rnn = cell(4, 6, layers, batch_first=True, bidirectional=bidirectional)
        self.out = torch.nn.Linear(6 * (1 + bidirectional), 3)
        self.packed, self.states = packed, states

    def forward(self, x, lengths):
        values, hx = self.words(x), None
        if self.states:
            hx = 0.1 * torch.ones(self.rnn.num_layers * (1 + self.rnn.bidirectional), len(x), 6)
            hx = (hx, 2 * hx) if isinstance(self.rnn, torch.nn.LSTM) else hx
        if self.packed:
            values = torch.nn.utils.rnn.pack_padded_sequence(values, lengths, True, enforce_sorted=False)
        out, _ = self.rnn(values, hx)
        if self.packed:
            out, _ = torch.nn.utils.rnn.pad_packed_sequence(out, batch_first=True)
        return self.out(out.mean(1))


@settings(deadline=None, max_examples=12)
@given(
    st.sampled_from([torch.nn.LSTM, torch.nn.GRU, torch.nn.RNN]),
    st.integers(1, 2), st.booleans(), st.booleans(), st.booleans(), st.sampled_from([1, 2, FEW]),
)  # fmt: skip
def test_pytorch_modules_run_joined(cell, layers, bidirectional, packed, states, count):
    torch.manual_seed(0)
    x, lengths = torch.randint(0, 30, (60, 5)), torch.randint(1, 6, (60,))
    lengths[0], lengths[1] = 5, 5
    net = Network.from_torch(User(cell, layers, bidirectional, packed, states), (x[:4], lengths[:4]))
    composition = compose(decompose(net, ((x, lengths), np.arange(60) % 3), keep=0.5))
    some = (x[:count], lengths[:count])
    assert np.allclose(composition.margins(some), one_by_one(composition, some), rtol=1e-4, atol=1e-5)
    assert composition.groups[0]._small is not None
    module = composition[1]
    with torch.no_grad():
        module.body.module.words.weight.mul_(1.5)
    assert np.allclose(composition.margins(some), one_by_one(composition, some), rtol=1e-4, atol=1e-5)
