import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import unbraid
from tests import factory
from unbraid.decomposition.reconstruction.output_rows import decided, logistic
from unbraid.decomposition.reconstruction.regression import Regression

seeds = st.integers(0, 999)


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=15)
@given(seed=seeds)
def test_logistic_finds_the_row_that_made_the_probabilities(seed):
    z, offset, row = numbers(seed, 400, 5), numbers(seed + 1, 400), numbers(seed + 2, 5)
    found = logistic(z, offset, torch.sigmoid(offset + z @ row), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(found, row, atol=0.02, rtol=0.02)  # a little pull towards zero stays


@settings(max_examples=15)
@given(seed=seeds, place=st.sampled_from([0, 1]))
def test_decided_rows_give_the_wanted_probabilities(seed, place):
    """Only the difference of the two rows matters, whichever of them is fitted; the other row does not change."""
    features, start = numbers(seed, 500, 4).float(), numbers(seed + 1, 2, 5).float()
    row = numbers(seed + 2, 5).float()
    wanted = torch.sigmoid(features @ row[:-1] + row[-1])
    new = decided(features, start, [(range(2), place, wanted)])
    assert torch.equal(new[1 - place], start[1 - place])
    torch.testing.assert_close(new[0] - new[1], row, atol=0.05, rtol=0.05)


@settings(max_examples=15)
@given(seed=seeds, columns=st.integers(1, 6))
def test_regression_is_least_squares_where_examples_abound(seed, columns):
    z, true = numbers(seed, 3000, columns), numbers(seed + 1, 2, columns)
    regression = Regression(torch.zeros(2, columns, dtype=torch.float64))
    for part in range(3):  # batch by batch
        rows = slice(1000 * part, 1000 * (part + 1))
        regression.add(z[rows], z[rows] @ true.t(), torch.arange(1000) % 4 == 0)
    torch.testing.assert_close(regression.solved(), true, atol=1e-3, rtol=1e-3)


@settings(max_examples=15)
@given(seed=seeds)
def test_regression_learns_no_noise_by_heart(seed):
    """With few examples and pure noise, the fit must not be much worse than the start."""
    start = torch.zeros(40, 60, dtype=torch.float64)
    regression = Regression(start)
    regression.add(numbers(seed, 70, 60), numbers(seed + 1, 70, 40), torch.arange(70) % 4 == 0)
    elsewhere, noise = numbers(seed + 2, 2000, 60), numbers(seed + 3, 2000, 40)
    error = (elsewhere @ regression.solved().t() - noise).square().mean()
    assert error < 1.3 * noise.square().mean()  # least squares has 7 times as much


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("io", factory.IO)
def test_a_fitted_head_says_what_the_parent_says_more_often_than_the_mean_head(io, mode):
    net = factory.network(("gru",), io, units=8, classes=5, seed=3)
    x, y = factory.examples(net, 200)
    whole = net.predict_proba(x)
    gaps = {}
    for head in ("mean", "fitted"):
        parts = unbraid.decompose(net, (x, y), mode=mode, max_removed=0.2, head=head)
        assert all(module.head.weight.shape[0] == 2 for module in parts.values())
        gaps[head] = np.mean([np.abs(m.predict_proba(x) - whole[..., m.index]).mean() for m in parts.values()])
    assert gaps["fitted"] < gaps["mean"]


def test_compact_modules_with_a_fitted_head_have_two_rows_and_come_back(tmp_path):
    net = factory.network(("lstm",), units=10, classes=4)
    x, y = factory.examples(net, 120)
    parts = unbraid.decompose(net, (x, y), keep=0.5, head="fitted")
    assert parts[0].head.weight.shape == (2, 5)
    parts.save(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.load_decomposition(tmp_path / "parts")[0].margins(x), parts[0].margins(x))
