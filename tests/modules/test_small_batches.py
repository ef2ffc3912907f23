"""Small batches: modules that run joined give what they give one by one, and follow their weights."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import factory
from unbraid import compose, decompose
from unbraid.modules import small_batches as joined_modules
from unbraid.networks.joined import joined

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
