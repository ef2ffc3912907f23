"""shrink on registered cells of users' own classes."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.census.torch_patterns.own_cells import HardLSTM, LinearLSTM, MinGRU
from unbraid import Network, UnbraidWarning, register_cell, shrink
from unbraid.decomposition.shrinking.own_cells import ShrunkOwn
from unbraid.networks.own_cells import form_of

OWN = {entry.name: entry for entry in ENTRIES if entry.pattern.startswith("own ")}
WRAPPED = ("LinearLSTM", "NormLSTM", "JoinedRNN", "LinearGRU", "HardLSTM, 2 layers", "MinGRU, 2 layers")


class Sized(nn.Module):
    """Two own layers, an own cell in a loop that starts with states of its own size, and a hidden linear layer."""

    def __init__(self, hidden=12, dense=8):
        super().__init__()
        self.below, self.above, self.cell = MinGRU(4, hidden), HardLSTM(hidden, hidden), LinearLSTM(hidden, hidden)
        self.dense, self.out = nn.Linear(hidden, dense), nn.Linear(dense, 3)

    def forward(self, x):
        outputs, _ = self.above(self.below(x))
        state = (x.new_zeros(len(x), self.cell.hidden),) * 2
        for step in outputs.unbind(1):
            state = self.cell(step, state)
        return self.out(torch.relu(self.dense(state[0])))


def error(small, module, x):
    with torch.no_grad():
        ours, theirs = small(x), module(x)
    assert ours.shape == theirs.shape
    return float((ours - theirs).square().mean() / theirs.var(0).mean())


@pytest.mark.parametrize("name", OWN)
def test_own_cells_get_smaller(name):
    entry = OWN[name]
    module, (x, _) = entry.module(), entry.make(np.random.default_rng(0), 200)
    new = torch.as_tensor(entry.make(np.random.default_rng(2), 300)[0])
    before = copy.deepcopy(module.state_dict())
    assert error(shrink(module, x, 1.0), module, new) < 1e-9
    small = shrink(module, x, 0.5)
    assert type(small) is type(module) and error(small, module, new) < 0.8
    wrapped = [part for part in small.modules() if isinstance(part, ShrunkOwn)]
    assert bool(wrapped) == (name in WRAPPED)
    cells = [part for part in small.modules() if form_of(part) is not None]
    own = [part for part in module.modules() if form_of(part) is not None]
    assert [type(part) for part in cells] == [type(part) for part in own]
    assert [part.hidden for part in cells] == [part.hidden // 2 for part in own]
    assert all(torch.equal(value, module.state_dict()[key]) for key, value in before.items())
    again = pickle.loads(pickle.dumps(small))
    assert error(again, small, new) < 1e-9


def test_the_state_dict_loads_into_the_class_of_the_smaller_sizes():
    torch.manual_seed(0)
    module, x = Sized().eval(), torch.randn(200, 5, 4)
    for small in (shrink(module, x, 0.5), shrink(Network.from_torch(module, x[:5]), x, 0.5)):
        own = Sized(6, 4).eval()
        own.load_state_dict(small.state_dict())
        assert error(own, small, x) < 1e-9 and error(small, module, x) < 0.8
    kept = shrink(module, x, 0.5, layers="recurrent")
    assert (kept.dense.in_features, kept.dense.out_features, kept.cell.hidden) == (6, 8, 6)


def test_states_and_results_of_wrapped_cells():
    torch.manual_seed(0)
    module, x = OWN["LinearLSTM"].module(), torch.randn(200, 5, 4)
    cell = shrink(module, x, 0.5, style="wrapped").cell
    state = torch.randn(7, 6), torch.randn(7, 6)
    with torch.no_grad():
        found = cell(x[:7, 0], state)
        inner = cell.cell(x[:7, 0], tuple(part[:, cell.kept] for part in state))
    for wide, narrow in zip(found, inner, strict=True):
        assert wide.shape == (7, 6) and torch.allclose(wide[:, cell.kept], narrow, atol=1e-5)


def test_other_results_keep_all_units(caplog):
    class Rounded(LinearLSTM):
        """Returns its states in another order in each form of its call."""

        def forward(self, x, state, flip=False):
            h, c = super().forward(x, state)
            return (c, h) if flip else (h, c)

    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.out = Rounded(4, 6), nn.Linear(6, 3)

        def forward(self, x):
            h = c = x.new_zeros(len(x), 6)
            h, c = self.cell(x[:, 0], (h, c))
            c, h = self.cell(x[:, 1], (h, c), flip=True)
            return self.out(nn.functional.layer_norm(h, [6]))

    register_cell(Rounded, states=2, units="hidden", prune=form_of(LinearLSTM(4, 6)).prune)
    torch.manual_seed(0)
    module, x = Loop().eval(), torch.randn(100, 2, 4)
    with caplog.at_level("INFO", "unbraid"), pytest.warns(UnbraidWarning, match="no layer has fewer units"):
        small = shrink(module, x, 0.5)
    assert small.cell.hidden == 6 and "'cell' keeps all of its units" in caplog.text
    assert error(small, module, x) < 1e-3
