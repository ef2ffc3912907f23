"""shrink and to_torch on subclasses of torch's recurrent layers, and what they say about layers that stay whole."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from unbraid import Network, UnbraidWarning, shrink
from unbraid.errors import UnsupportedLayer
from unbraid.networks.pytorch.wrapped import ShrunkRecurrent

D, H, C = 4, 12, 3


class DroppedGRU(nn.GRU):
    def forward(self, x, hx=None):
        x = x * torch.bernoulli(torch.full_like(x[:, :1], 0.7)) / 0.7 if self.training else x
        return super().forward(x, hx)


class OutputsLSTM(nn.LSTM):
    def forward(self, x):
        return super().forward(x)[0]


class NormedLSTM(nn.LSTM):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = nn.LayerNorm(self.hidden_size)

    def forward(self, x, hx=None):
        out, state = super().forward(x, hx)
        return self.norm(out), state


class ScaledCell(nn.LSTMCell):
    def forward(self, x, hx=None):
        return super().forward(0.5 * x, hx)


class Layered(nn.Module):
    def __init__(self, kind=DroppedGRU, hidden=H, **settings):
        super().__init__()
        self.rnn, self.out = kind(D, hidden, batch_first=True, **settings), nn.Linear(hidden, C)

    def forward(self, x):
        out = self.rnn(x)
        return self.out((out[0] if isinstance(out, tuple) else out)[:, -1])


class Looped(nn.Module):
    def __init__(self, hidden=H):
        super().__init__()
        self.rnn, self.out = ScaledCell(D, hidden), nn.Linear(hidden, C)

    def forward(self, x):
        state = None
        for t in range(x.shape[1]):
            state = self.rnn(x[:, t], state)
        return self.out(state[0])


def of(kind):
    torch.manual_seed(0)
    return (Looped() if kind is ScaledCell else Layered(kind)).eval()


def inputs(count=64):
    return torch.randn(count, 5, D, generator=torch.Generator().manual_seed(1))


PLAIN, ALL = [DroppedGRU, OutputsLSTM, ScaledCell], [DroppedGRU, OutputsLSTM, ScaledCell, NormedLSTM]


@pytest.mark.parametrize("kind", PLAIN)
def test_a_smaller_subclass_is_an_instance_of_it(kind):
    module = of(kind)
    small = shrink(module, inputs(), 0.5)
    assert type(small.rnn) is kind and small.rnn.hidden_size == H // 2
    again = Looped(H // 2) if kind is ScaledCell else Layered(kind, H // 2)
    again.load_state_dict(small.state_dict())
    assert torch.equal(again.eval()(inputs()), small(inputs()))
    assert type(module.rnn) is kind and module.rnn.hidden_size == H  # the parent is not changed


@pytest.mark.parametrize("kind", ALL)
def test_all_units_give_the_same_scores(kind):
    module = of(kind)
    for style in ("auto", "wrapped"):
        assert torch.allclose(shrink(module, inputs(), 1.0, style=style)(inputs()), module(inputs()), atol=1e-5)


@pytest.mark.parametrize("kind", ALL)
def test_the_code_around_a_wrapped_layer_stays_and_is_pickled(kind, caplog):
    module = of(kind)
    with caplog.at_level("INFO", "unbraid"):
        small = shrink(module, inputs(), 0.5, style="auto" if kind is NormedLSTM else "wrapped")
    assert isinstance(small.rnn, kind) and "recurrent_base" not in caplog.text
    assert any(isinstance(part, ShrunkRecurrent) for part in small.modules())
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in module.parameters())
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    assert torch.equal(torch.load(file, weights_only=False)(inputs()), small(inputs()))
    smaller = shrink(small, inputs(), 0.5, style="wrapped")  # once more
    assert smaller(inputs()).shape == (64, C) and isinstance(smaller.rnn, kind)


@pytest.mark.parametrize("kind", ALL)
def test_the_plain_module_of_a_network_has_the_class_of_the_user(kind):
    module = of(kind)
    network = Network.from_torch(module, inputs(6))
    plain = network.to_torch()
    assert type(plain.rnn) is kind and plain.state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(plain.state_dict()[name], weight) for name, weight in module.state_dict().items())
    assert torch.equal(plain(inputs()), module(inputs()))
    assert isinstance(shrink(network, inputs().numpy(), 0.5).rnn, kind)


def test_a_module_that_is_a_subclass_itself_is_refused():
    with pytest.raises(UnsupportedLayer, match="subclasses that another module holds"):
        shrink(OutputsLSTM(D, H, batch_first=True), inputs(), 0.5)


class Gates(nn.Module):
    """A hand-written LSTM with one linear layer for all gates."""

    def __init__(self):
        super().__init__()
        self.gates, self.out = nn.Linear(D + H, 4 * H), nn.Linear(H, C)

    def forward(self, x):
        h = c = x.new_zeros(len(x), H)
        for t in range(x.shape[1]):
            i, f, g, o = self.gates(torch.cat([x[:, t], h], 1)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.out(h)


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.dense, self.out = nn.GRU(D, H, batch_first=True), nn.Linear(H, H), nn.Linear(H, C)

    def forward(self, x):
        return self.out(self.dense(self.rnn(x)[0][:, -1]).relu())


def test_a_result_with_all_units_gives_a_warning():
    module = Gates()
    with pytest.warns(UnbraidWarning, match=r"no layer has fewer units.*layer 'gates': .*unbraid\.register_cell"):
        small = shrink(module, inputs(), 0.5)
    with pytest.warns(UnbraidWarning, match="no layer has fewer units"):
        shrink(module, inputs(), max_loss=0.5)
    assert torch.equal(small(inputs()), module(inputs()))
    shrink(module, inputs(), 1.0)  # wanted, so no warning


def test_settings_that_keep_linear_layers_whole_are_noted(caplog):
    with caplog.at_level("INFO", "unbraid"):
        small = shrink(Deep(), inputs(), 0.5, style="wrapped")
    assert small.dense.out_features == H and "linear layers ['dense'] keep all of their units" in caplog.text
    for settings in ({"style": "wrapped"}, {"layers": "recurrent"}):
        cause = "{}='{}'".format(*next(iter(settings.items())))
        with pytest.raises(UnsupportedLayer, match=rf"{cause} keeps linear layers whole \(\['gates'\]\)"):
            shrink(Gates(), inputs(), 0.5, **settings)


def test_max_loss_of_a_subclass():
    module, x = of(DroppedGRU), inputs(80)
    small = shrink(module, x, max_loss=0.2)
    assert type(small.rnn) is DroppedGRU and small.rnn.hidden_size <= H
    assert np.isfinite(small(x).detach().numpy()).all()
