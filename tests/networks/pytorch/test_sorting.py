"""Modules that run in one batch of a user's module which sorts its examples by itself, several of equal length."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence

from unbraid import Network, compose, decompose
from unbraid.networks.pytorch.sorting import StableSorts

T, D, H, C = 5, 4, 8, 3


def by_sort(lengths):
    return lengths.sort(0, descending=True)[1]


def by_argsort(lengths):
    return torch.argsort(lengths, 0, True)


def by_names(lengths):
    return torch.sort(lengths, dim=0, descending=True).indices


class Sorting(nn.Module):
    def __init__(self, order, enforced=True):
        super().__init__()
        self.order, self.enforced = order, enforced
        self.rnn, self.fc = nn.GRU(D, H, batch_first=True), nn.Linear(H, C)

    def forward(self, x, lengths):
        order = self.order(lengths)
        packed = pack_padded_sequence(x[order], lengths[order], batch_first=True, enforce_sorted=self.enforced)
        return self.fc(self.rnn(packed)[1][-1][order.argsort()])


@pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning")
@pytest.mark.parametrize("order", [by_sort, by_argsort, by_names])
@pytest.mark.parametrize("enforced", [True, False])
def test_unrolled_modules_in_one_batch_are_those_that_run_alone(order, enforced):
    torch.manual_seed(0)
    module, x = Sorting(order, enforced).eval(), torch.randn(90, T, D)
    lengths = 2 + 3 * torch.randint(2, (90,))  # many examples of equal length
    network = Network.from_torch(module, (x[:8], lengths[:8]))
    settings = {"strategy": "paper", "mode": "unrolled", "max_removed": 0.5, "samples_per_class": 15}
    parts = decompose(network, ((x, lengths), np.arange(90) % C), **settings)
    alone = np.stack([compose([part]).margins((x, lengths))[:, 0] for part in parts.values()], -1)
    np.testing.assert_allclose(compose(parts).margins((x, lengths)), alone, atol=1e-5)


def test_the_mode_changes_only_the_order_of_equal_values():
    values = torch.randint(3, (500,), generator=torch.Generator().manual_seed(0))
    wanted = torch.sort(values, stable=True, descending=True)
    with StableSorts():
        for found in (values.sort(0, True), torch.sort(values, descending=True), torch.sort(values, -1, True)):
            assert torch.equal(found[0], wanted[0]) and torch.equal(found[1], wanted[1])
        assert torch.equal(values.argsort(descending=True), wanted[1])
        assert torch.equal(values.view(50, 10).sort(1).values, values.view(50, 10).sort(dim=1, stable=True).values)
