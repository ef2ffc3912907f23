"""Recurrent layers refuse inputs that do not fit their weights; the kernels of torch would read beyond their end."""

import numpy as np
import pytest
import torch
from torch import nn

from tests import factory
from unbraid import Network, compose, decompose
from unbraid.errors import DataError
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.removal import NodesGone
from unbraid.networks.stack import RecurrentStack

D, H, T = 4, 6, 5


def layer_of(cell, reverse=False):
    torch.manual_seed(0)
    layer = RecurrentLayer(factory.CELLS[cell], D, H, reverse).requires_grad_(False)
    for parameter in layer.parameters():
        parameter.copy_(torch.randn(parameter.shape))
    return layer


def states(cell, rows=3, units=H, dtype=torch.float32, count=None):
    return (torch.zeros(rows, units, dtype=dtype),) * (count or (2 if "lstm" in cell else 1))


@pytest.mark.parametrize("cell", factory.CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_layers_refuse_wrong_inputs_masks_and_states(cell, reverse):
    layer = layer_of(cell, reverse)
    x, mask = torch.zeros(3, T, D), torch.ones(3, T, dtype=torch.bool)
    for wrong in (torch.zeros(3, T, D - 1), torch.zeros(3, T, D + 1), torch.zeros(3, T, 0), torch.zeros(3, 0, D),
                  torch.zeros(T, D), torch.zeros(3, T, D, 1), x.double(), x.long()):  # fmt: skip
        with pytest.raises(DataError, match="inputs"):
            layer(wrong)
    for wrong in (mask[:2], mask[:, :3], mask.float(), mask[0]):
        with pytest.raises(DataError, match="mask"):
            layer(x, wrong)
    for wrong in (states(cell, 2), states(cell, units=H - 1), states(cell, units=H + 9), states(cell, count=3),
                  states(cell, dtype=torch.float64)):  # fmt: skip
        for valid in (None, mask):
            with pytest.raises(DataError, match="states"):
                layer(x, valid, wrong)
    layer(x, mask, states(cell))


@pytest.mark.parametrize("cell", ["vanilla", "lstm", "gru"])
@pytest.mark.parametrize("opens", [False, True])
def test_pruned_layers_refuse_them_too(cell, opens):
    layer = PrunedRecurrentLayer(layer_of(cell), NodesGone(torch.ones(2, 1, H)), 2, opens)
    rows = 3 if opens else 6
    x, mask = torch.zeros(rows, T, D), torch.ones(3, T, dtype=torch.bool)
    for wrong in (torch.zeros(rows, T, D + 1), torch.zeros(rows, 0, D), x.double()):
        with pytest.raises(DataError, match="inputs"):
            layer(wrong)
    if not opens:
        with pytest.raises(DataError, match="2 modules got 5 rows"):
            layer(x[:5])
    for wrong in (mask[:2], mask.long()):
        with pytest.raises(DataError, match="mask"):
            layer(x, wrong)
    for wrong in (states(cell, 3), states(cell, 6, H + 1), states(cell, 6, count=3)):
        with pytest.raises(DataError, match="states"):
            layer(x, mask, wrong)
    layer(x, mask, states(cell, 6))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(
    "settings", [{}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}]
)
def test_stacks_refuse_what_torch_refuses(kind, settings):
    theirs = kind(D, H, batch_first=True, **settings)
    ours = RecurrentStack(theirs)
    count = theirs.num_layers * (2 if theirs.bidirectional else 1)
    pair = (lambda s: (s, s)) if kind is nn.LSTM else (lambda s: s)
    x, first = torch.randn(3, T, D), torch.zeros(count, 3, H)
    wrong = [
        (torch.randn(3, T, D - 1),), (torch.randn(3, T, D + 4),), (torch.randn(T),), (torch.randn(1, 3, T, D),),
        (x, pair(first[:, :2])), (x, pair(first[..., :2])), (x, pair(torch.zeros(count + 1, 3, H))),
        (x, pair(first.double())), (x, pair(torch.zeros(count, 4, H))),
    ]  # fmt: skip
    for given in wrong:
        with pytest.raises((RuntimeError, ValueError)):
            theirs(*given)
        with pytest.raises(DataError):
            ours(*given)
    torch.testing.assert_close(ours(x, pair(first))[0], theirs(x, pair(first))[0])


class Last(nn.Module):
    def __init__(self, kind=nn.LSTM, **settings):
        super().__init__()
        self.rnn = kind(D, 16, batch_first=True, **settings)
        self.out = nn.Linear(32 if settings.get("bidirectional") else 16, 2)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_networks_modules_and_compositions_refuse_another_width(kind, settings):
    x, y = torch.randn(40, T, D, generator=torch.Generator().manual_seed(0)), np.arange(40) % 2
    network = Network.from_torch(Last(kind, **settings), x[:4])
    rolled, unrolled = (decompose(network, (x, y), **way) for way in ({}, {"strategy": "paper", "mode": "unrolled"}))
    composition = compose(rolled)
    uses = (network.predict, network.logits, rolled[0].margins, composition.margins, composition.predict,
            unrolled[0].margins, compose(unrolled).margins)  # fmt: skip
    for width in (D - 1, D + 1, 2 * D, 64):
        for use in uses:
            with pytest.raises(DataError):
                use(torch.ones(3, T, width))
    for use in uses:
        with pytest.raises(DataError):
            use(torch.ones(3, 0, D))


def test_fused_modules_refuse_another_width():
    torch.manual_seed(0)
    x = torch.randn(200, T, D)
    network = Network.from_torch(Last(), x[:4])
    y = network.predict_index(x)
    if len(set(y.tolist())) < 2:
        pytest.fail("both classes occur with this seed")
    fused = compose(decompose(network, (x, y))).fuse(x)
    for use in (fused.margins, fused[0].margins):
        with pytest.raises(DataError, match=r"expected \(N, T, 4\)"):
            use(torch.ones(2, T, D + 1))
