import numpy as np
import pytest
import torch

from tests import factory
from unbraid.decomposition.reconstruction.layer_refit import refit
from unbraid.decomposition.reconstruction.regression import RIDGES, Regression
from unbraid.networks.layers import decomposable_layers, sliced
from unbraid.networks.watching import watched


def halves(net, x):
    """Remove every second node of a network; return it with the weights of the examples."""
    kept = {name: torch.arange(0, layer.units, 2) for name, layer in net.layers.items()}
    return kept, sliced(net.body, kept)[0], np.ones((len(x), 1), np.float32) / len(x)


def states(body, x):
    with torch.no_grad(), watched(decomposable_layers(body), lambda layer, read, given: given[0]) as seen:
        body(torch.from_numpy(x))
        return dict(seen)


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("names", [("vanilla",), ("lstm", "lstm"), ("gru", "gru"), ("gru-before",), ("lstm-hard",)])
def test_refitted_nodes_follow_their_parents_more_closely(names, mask):
    net = factory.network(names, "M:N", units=8, mask=mask, seed=5)
    x, _ = factory.examples(net, 400)
    kept, body, weights = halves(net, x)
    wanted = states(net.body, x)
    before = {n: (h - wanted[n][..., kept[n]]).square().mean() for n, h in states(body, x).items()}
    refit(net.body, body, kept, net.check(x), net.device, weights)
    after = {n: (h - wanted[n][..., kept[n]]).square().mean() for n, h in states(body, x).items()}
    assert sum(after.values()) < sum(before.values())


def test_what_lost_nothing_stays_as_it_is():
    """Removed nodes are not inputs of any layer, so the pre-activations of the other nodes are exact."""
    net = factory.network(("gru",), "M:N", units=6)
    layer = net.layers["gru_0"].module if "gru_0" in net.layers else next(iter(net.layers.values())).module
    layer.weight_hh.data[:, 1::2] = 0
    x, _ = factory.examples(net, 100)
    kept, body, weights = halves(net, x)
    before = states(body, x)
    refit(net.body, body, kept, net.check(x), net.device, weights)
    for name, h in states(body, x).items():
        torch.testing.assert_close(h, before[name], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("columns", "rows"), [(5, 3), (70, 60), (70, 4), (400, 2)])
def test_each_way_to_judge_penalties_follows_the_definition(columns, rows):
    generator = torch.Generator().manual_seed(columns)
    regression = Regression(torch.randn(rows, columns, generator=generator))
    z = torch.randn(2 * columns, columns, generator=generator)
    regression.add(z, torch.randn(2 * columns, rows, generator=generator), torch.arange(2 * columns) % 4 == 0)
    (gram, judging), (miss, judged) = regression.gram, regression.misses()
    wanted = []
    for ridge in RIDGES:
        step = torch.linalg.solve(gram + ridge * gram.diagonal().mean() * torch.eye(columns, dtype=gram.dtype), miss)
        wanted.append((step * (judging @ step - 2 * judged)).sum())
    assert torch.allclose(regression._changes(regression.misses()), torch.stack(wanted), rtol=1e-6)


def test_target_values_that_are_products_give_the_same_fit_as_their_values():
    generator = torch.Generator().manual_seed(3)
    start, through = torch.randn(9, 5, generator=generator), torch.randn(9, 4, generator=generator)
    z, read = torch.randn(80, 5, generator=generator), torch.randn(80, 4, generator=generator)
    judging, weights = torch.arange(80) % 4 == 0, torch.rand(80, generator=generator)
    direct, summed = Regression(start), Regression(start, through)
    direct.add(z, read @ through.t(), judging, weights)
    summed.add(z, read, judging, weights)
    torch.testing.assert_close(summed.misses(), direct.misses(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(summed.solved(), direct.solved(), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, len(RIDGES), len(RIDGES) + 1])
def test_as_many_rows_and_inputs_as_penalties(size):
    torch.manual_seed(0)
    z, weight = torch.randn(80, size), torch.randn(size, size)
    regression = Regression(torch.zeros(size, size))
    regression.add(z, z @ weight.t(), torch.arange(80) % 4 == 0)
    assert torch.allclose(regression.solved(), weight, atol=0.02)
