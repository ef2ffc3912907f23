"""shrink on cells in loops, and on nn.LSTM with projections."""

import pytest
import torch
from torch import nn

from unbraid import Network, UnbraidWarning, shrink
from unbraid.errors import UnsupportedLayer
from unbraid.networks.pytorch.wrapped import ShrunkCell
from unbraid.networks.stack import RecurrentStack

CELLS = [nn.LSTMCell, nn.GRUCell, nn.RNNCell]

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")


class Loop(nn.Module):
    """A cell in a loop. ``start``: no states, zeros of an attribute's size, or zeros of a fixed size."""

    def __init__(self, kind, hidden=12, start="none"):
        super().__init__()
        self.hidden, self.cell, self.out = hidden, kind(4, hidden), nn.Linear(hidden, 3)
        self.start, self.states = start, 2 if kind is nn.LSTMCell else 1

    def forward(self, x):
        state = None
        if self.start != "none":
            zeros = (x.new_zeros(len(x), self.hidden if self.start == "attribute" else 12),) * self.states
            state = zeros if self.states == 2 else zeros[0]
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.out(state[0] if self.states == 2 else state)


class Projected(nn.Module):
    """An nn.LSTM with a projection, maybe behind another layer."""

    def __init__(self, hidden=12, projection=4, below=False, **settings):
        super().__init__()
        self.below = nn.GRU(4, 10, batch_first=True) if below else None
        self.lstm = nn.LSTM(10 if below else 4, hidden, batch_first=True, proj_size=projection, **settings)
        self.out = nn.Linear(projection * (2 if settings.get("bidirectional") else 1), 3)

    def forward(self, x):
        x = x if self.below is None else self.below(x)[0]
        return self.out(self.lstm(x)[0][:, -1])


def examples(count=200):
    return torch.randn(count, 5, 4, generator=torch.Generator().manual_seed(3))


def strong(build):
    torch.manual_seed(0)
    module = build().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)
    return module


@torch.no_grad()
def unread(weight):
    """Set the weights of the second half of the columns to 0."""
    weight[:, weight.shape[1] // 2 :] = 0


@torch.no_grad()
def change(small, module, x):
    """Mean squared difference of the scores, as a share of their variance."""
    return float((small(x) - module(x)).square().mean() / module(x).var())


@pytest.mark.parametrize("start", ["none", "attribute", "fixed"])
@pytest.mark.parametrize("kind", CELLS)
def test_cells_are_smaller_cells_of_torch(kind, start):
    module = strong(lambda: Loop(kind, start=start))
    x = examples()
    same = shrink(module, x, keep=1.0)
    torch.testing.assert_close(same(x), module(x))
    small = shrink(module, x, keep=0.5)
    if start == "fixed":
        assert isinstance(small.cell, ShrunkCell) and small.cell.hidden_size == 12
        assert type(small.cell.layer) is kind and small.cell.layer.hidden_size == 6
    else:
        assert type(small.cell) is kind and small.cell.hidden_size == small.out.in_features == 6
        other = Loop(kind, hidden=6, start=start)
        other.load_state_dict(small.state_dict())
        torch.testing.assert_close(other(x), small(x))
    assert small(x).shape == (200, 3) and small(x[:1]).shape == (1, 3)
    network = Network.from_torch(module, x[:6])
    torch.testing.assert_close(network.to_torch()(x), module(x), rtol=1e-4, atol=1e-5)
    assert type(shrink(network, x, keep=0.5)) is Loop


@pytest.mark.parametrize("start", ["none", "fixed"])
@pytest.mark.parametrize("kind", CELLS)
def test_units_of_cells_that_nothing_reads_are_removed_without_a_loss(kind, start):
    module = strong(lambda: Loop(kind, start=start))
    unread(module.cell.weight_hh)
    unread(module.out.weight)
    assert change(shrink(module, examples(), keep=0.5), module, examples(50)) < 1e-6


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_layers": 2}, {"bidirectional": True}, {"num_layers": 2, "bidirectional": True}, {"below": True}],
)
def test_layers_with_projections_keep_the_size_of_their_outputs(settings):
    module = strong(lambda: Projected(**settings))
    x = examples()
    torch.testing.assert_close(shrink(module, x, keep=1.0)(x), module(x))
    small = shrink(module, x, keep=0.5)
    assert type(small.lstm) is nn.LSTM and (small.lstm.hidden_size, small.lstm.proj_size) == (6, 4)
    assert small.out.in_features == module.out.in_features and small(x).shape == (200, 3)
    if settings.get("below"):
        assert small.lstm.input_size == small.below.hidden_size == 5
    else:
        other = Projected(hidden=6, **settings)
        other.load_state_dict(small.state_dict())
        torch.testing.assert_close(other(x), small(x))
    network = Network.from_torch(module, x[:6])
    torch.testing.assert_close(network.to_torch()(x), module(x), rtol=1e-3, atol=1e-4)


def test_a_layer_keeps_more_units_than_its_projection_has_outputs():
    module, x = strong(Projected), examples()
    assert shrink(module, x, keep=0.1).lstm.hidden_size == 5
    wide = strong(lambda: Projected(projection=11))
    with pytest.warns(UnbraidWarning, match="more units than its projection has outputs"):
        assert shrink(wide, x, keep=0.1).lstm.hidden_size == 12


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2}, {"bidirectional": True}])
def test_units_that_no_projection_reads_are_removed_without_a_loss(settings):
    module = strong(lambda: Projected(**settings))
    for name, parameter in module.lstm.named_parameters():
        if name.startswith("weight_hr"):
            unread(parameter)
    assert change(shrink(module, examples(), keep=0.5), module, examples(50)) < 1e-6


def test_a_projection_is_fitted_to_the_removed_units(monkeypatch):
    module = strong(lambda: Projected(hidden=16))
    fitted = change(shrink(module, examples(), keep=0.5), module, examples())
    monkeypatch.setattr("unbraid.decomposition.shrinking.fitting._projection", lambda start, *others: start.detach())
    cut = change(shrink(module, examples(), keep=0.5), module, examples())
    assert fitted < cut


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "bidirectional": True}])
def test_weights_before_and_behind_a_projection_are_found_again(settings):
    torch.manual_seed(1)
    own = nn.LSTM(4, 7, proj_size=3, batch_first=True, **settings)
    stack = RecurrentStack(own)
    for place in range(len(stack.layers)):
        level, backward = divmod(place, stack.directions)
        suffix = f"l{level}" + ("_reverse" if backward else "")
        weight_ih, weight_hh = stack.unprojected(place)
        torch.testing.assert_close(weight_ih, getattr(own, f"weight_ih_{suffix}"), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(weight_hh, getattr(own, f"weight_hh_{suffix}"), rtol=1e-4, atol=1e-5)


def test_initial_states_of_a_layer_with_a_projection_are_refused():
    class Started(Projected):
        def forward(self, x):
            states = x.new_zeros(1, len(x), 4), x.new_zeros(1, len(x), 12)
            return self.out(self.lstm(x, states)[0][:, -1])

    with pytest.raises(UnsupportedLayer, match="'lstm' has proj_size=4, and forward passes its initial states"):
        shrink(strong(Started), examples(), keep=0.5)
