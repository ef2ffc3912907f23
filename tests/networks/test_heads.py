"""Joined heads over the same features give the same margins as each head alone."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from unbraid.networks.heads import Head, JoinedHeads, distinct_rows, one_against_rest

seeds = st.integers(0, 9999)


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    seed=seeds,
    classes=st.integers(1, 6),
    kinds=st.lists(st.sampled_from(["softmax", "mean", "own", "idle"]), min_size=1),
)
def test_joined_heads_equal_each_alone(seed, classes, kinds):
    weight, bias, features = drawn(seed, classes, 4), drawn(seed + 1, classes), drawn(seed + 2, 3, 5, 4)
    heads = []
    for number, kind in enumerate(kinds):
        own = number % classes
        others = [c for c in range(classes) if c != own]
        rows = [own, *others] if kind == "softmax" else [own]
        head = Head(weight[rows], bias[rows], 2 if kind == "idle" else 0)
        if kind == "mean" and others:
            mean = torch.stack([weight[own], weight[others].mean(0)])
            head = Head(mean, torch.stack([bias[own], bias[others].mean()]))
        heads.append(head)
    joined = JoinedHeads(heads)
    wanted = torch.stack([head.margin(features) for head in heads], -1)
    torch.testing.assert_close(joined(features), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(joined.double()(features.double()), wanted.double(), atol=1e-5, rtol=1e-5)


def test_rows_in_common_are_there_once():
    weight, bias = drawn(0, 3, 4), drawn(1, 3)
    rows = [[0, 1, 2], [1, 0, 2], [2, 0, 1]]
    found, _, places = distinct_rows([Head(weight[r], bias[r]) for r in rows])
    assert found.shape == (3, 4)
    for own, place in zip(rows, places, strict=True):
        assert torch.equal(found[place], weight[own])


@given(st.lists(st.floats(-300, 300, width=32), min_size=2, max_size=6))
def test_one_against_the_rest_is_exact_where_one_is_certain(scores):
    scores = np.asarray(scores)
    rest = [np.logaddexp.reduce(np.delete(scores, k)) for k in range(len(scores))]
    found = one_against_rest(torch.tensor(scores, dtype=torch.float32))
    np.testing.assert_allclose(found.numpy(), scores - rest, atol=1e-4, rtol=1e-5)


def test_gradients_are_finite():
    scores = torch.tensor([[50.0, -40.0, 0.0], [1.0, 1.0, 1.0]], requires_grad=True)
    one_against_rest(scores).sum().backward()
    assert torch.isfinite(scores.grad).all()
