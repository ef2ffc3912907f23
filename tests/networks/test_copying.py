"""Copies of modules: what they share, and how often a user's module runs while it is described."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from unbraid import Network
from unbraid.networks.copying import deep_copy


class Counted(nn.Module):
    """Counts its calls in a list that copies share."""

    def __init__(self, calls, hidden=0):
        super().__init__()
        self.embedding, self.lstm = nn.Embedding(9, 3), nn.LSTM(3, 4, batch_first=True)
        self.hidden = nn.Linear(4, hidden) if hidden else nn.Identity()
        self.head, self.calls = nn.Linear(hidden or 4, 3), calls

    def forward(self, x):
        self.calls.append(len(x))
        return self.head(torch.tanh(self.hidden(self.lstm(self.embedding(x))[0][:, -1])))


class Shared(list):
    def __deepcopy__(self, memo):
        return self


def test_a_copy_equals_deepcopy_and_shares_no_table():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.GRU(3, 2))
    module.notes, module.again = {}, {}
    module.again = module.notes
    ours, theirs = deep_copy(module), copy.deepcopy(module)
    for one, other in zip(ours.modules(), theirs.modules(), strict=True):
        assert vars(one).keys() == vars(other).keys()
        assert all(type(vars(one)[name]) is type(value) for name, value in vars(other).items())
    assert ours.again is ours.notes and ours.notes is not module.notes  # as in the original
    ours[0].register_forward_hook(lambda *_: None)
    assert ours[0]._forward_hooks and not module[0]._forward_hooks and not ours[1]._forward_hooks
    assert isinstance(module[0]._forward_hooks, OrderedDict)


def test_replaced_parts_are_not_copied():
    module, other = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), nn.Identity()
    found = deep_copy(module, {id(module[1]): other})
    assert found[1] is other and found[0] is not module[0]


@pytest.mark.parametrize(("hidden", "most"), [(0, 9), (5, 14)])
def test_a_module_runs_few_times_while_it_is_described(hidden, most):
    calls = Shared()
    torch.manual_seed(0)
    network = Network.from_torch(Counted(calls, hidden).eval(), torch.randint(1, 9, (6, 5)))
    assert len(calls) <= most
    assert ("hidden" in network.layers) == (hidden > 0)
