"""shrink on hidden linear layers: users' modules, networks of them, Keras chains and graphs."""

import io
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from tests import factory
from tests.decomposition.shrinking.shrunk_models import inputs, made
from tests.decomposition.shrinking.test_graphs import opened
from tests.decomposition.shrinking.test_shrink import error, scores
from unbraid import Network, shrink
from unbraid.errors import ConfigError, UnsupportedLayer
from unbraid.networks.graph_spec import CallSpec
from unbraid.networks.stage_spec import DenseSpec


class Chained(nn.Module):
    """Two hidden layers in a row, whose activations include one with f(0) != 0."""

    def __init__(self, hidden=16, first=20, second=12):
        super().__init__()
        self.rnn = nn.LSTM(6, hidden, batch_first=True)
        self.fc1, self.fc2 = nn.Linear(hidden, first), nn.Linear(first, second, bias=False)
        self.drop, self.out = nn.Dropout(0.3), nn.Linear(second, 4)

    def forward(self, x):
        return self.out(torch.sigmoid(self.fc2(self.drop(torch.relu(self.fc1(self.rnn(x)[0][:, -1]))))))


class InFront(nn.Module):
    """A hidden layer at every timestep in front of the recurrence."""

    def __init__(self, hidden=16, front=10):
        super().__init__()
        self.front = nn.Sequential(nn.Linear(6, front), nn.Tanh())
        self.rnn, self.out = nn.GRU(front, hidden, batch_first=True), nn.Linear(hidden, 4)

    def forward(self, x):
        return self.out(self.rnn(self.front(x))[0]).softmax(-1)


class Gated(nn.Module):
    """A gate and its values are multiplied unit by unit, and joined with what they read."""

    def __init__(self, hidden=16, units=20):
        super().__init__()
        self.rnn = nn.LSTM(6, hidden, batch_first=True)
        self.gate, self.value = nn.Linear(hidden, units), nn.Linear(hidden, units)
        self.out = nn.Linear(hidden + units, 4)

    def forward(self, x):
        h = self.rnn(x)[0].mean(1)
        return self.out(torch.cat([h, torch.sigmoid(self.gate(h)) * self.value(h)], 1))


class Attended(nn.Module):
    """Attention weights from a hidden layer."""

    def __init__(self, hidden=16, units=12):
        super().__init__()
        self.rnn = nn.GRU(6, hidden, batch_first=True)
        self.first, self.second = nn.Linear(hidden, units), nn.Linear(units, 1)
        self.out = nn.Linear(hidden, 4)

    def forward(self, x):
        outputs, _ = self.rnn(x)
        weights = self.second(torch.tanh(self.first(outputs))).softmax(1)
        return self.out((weights * outputs).sum(1))


class Mlp(nn.Module):
    def __init__(self, first=24, second=14):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(36, first), nn.ReLU(), nn.Linear(first, second), nn.GELU(), nn.Linear(second, 4)
        )

    def forward(self, x):
        return self.layers(x)


class OwnLSTM(nn.Module):
    """An LSTM of linear layers, which starts with zeros of a stored size."""

    def __init__(self, hidden=16):
        super().__init__()
        self.hidden = hidden
        self.f, self.i, self.g, self.o = (nn.Linear(6 + hidden, hidden) for _ in range(4))
        self.out = nn.Linear(hidden, 4)

    def forward(self, x):
        h = c = torch.zeros(len(x), self.hidden, dtype=x.dtype)
        for t in range(x.shape[1]):
            z = torch.cat([x[:, t], h], 1)
            c = self.f(z).sigmoid() * c + self.i(z).sigmoid() * self.g(z).tanh()
            h = self.o(z).sigmoid() * c.tanh()
        return self.out(h)


class Normed(Chained):
    def forward(self, x):
        return self.out(self.fc2(nn.functional.layer_norm(self.fc1(self.rnn(x)[0][:, -1]), [20])))


class Residual(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.rnn, self.fc, self.out = nn.GRU(6, hidden, batch_first=True), nn.Linear(6, 6), nn.Linear(hidden, 4)

    def forward(self, x):
        return self.out(self.rnn(x + self.fc(x))[0][:, -1])


class Shown(Chained):
    """Returns the features of a hidden layer as well."""

    def forward(self, x):
        features = self.fc1(self.rnn(x)[0][:, -1])
        return self.out(self.fc2(features)), features


SMALLER = {
    Chained: partial(Chained, 8, 10, 6),
    InFront: partial(InFront, 8, 5),
    Gated: partial(Gated, 8, 10),
    Attended: partial(Attended, 8, 6),
    Mlp: partial(Mlp, 12, 7),
    OwnLSTM: partial(OwnLSTM, 8),
}


def with_biases(module):
    """The same module, whose linear layers all have a bias."""
    for part in module.modules():
        if isinstance(part, nn.Linear) and part.bias is None:
            part.bias = nn.Parameter(torch.zeros(part.out_features))
    return module


@pytest.mark.parametrize("cls", SMALLER)
def test_the_state_dict_loads_into_the_class_of_the_smaller_sizes(cls):
    module, x = made(cls), inputs(300)
    assert error(shrink(module, x, 1.0), module, x) < 1e-9
    small = shrink(module, x, 0.5)
    assert type(small) is cls and error(small, module, x) < 0.3
    own = with_biases(made(SMALLER[cls], seed=1))
    own.load_state_dict(small.state_dict())
    assert torch.allclose(scores(own, x), scores(small, x), atol=1e-6)
    assert {n: (p.in_features, p.out_features) for n, p in own.named_modules() if isinstance(p, nn.Linear)} == {
        n: (p.in_features, p.out_features) for n, p in small.named_modules() if isinstance(p, nn.Linear)
    }
    assert made(cls).state_dict().keys() == module.state_dict().keys()
    assert all(torch.equal(v, module.state_dict()[n]) for n, v in made(cls).state_dict().items())


@pytest.mark.parametrize("cls", [Chained, Gated, OwnLSTM])
def test_more_units_are_closer(cls):
    module, x = made(cls), inputs(300)
    small, near = shrink(module, x, 0.25), shrink(module, x, 0.75)
    assert error(near, module, x) < error(small, module, x) < 1


@pytest.mark.parametrize("name", ["relu", "elu"])
def test_activations_in_place_change_nothing(name):
    class InPlace(Chained):
        def forward(self, x):
            h = getattr(nn.functional, name)(self.fc1(self.rnn(x)[0][:, -1]), inplace=self.inplace)
            return self.out(getattr(nn.functional, name)(self.fc2(h), inplace=self.inplace))

    found = []
    for inplace in (False, True):
        module = made(InPlace)
        module.inplace = inplace
        found.append(shrink(module, inputs(), 0.5))
    first, second = (small.state_dict() for small in found)
    assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert (found[1].fc1.out_features, found[1].fc2.out_features) == (10, 6)


@pytest.mark.parametrize("cls", [Normed, Residual, Shown])
def test_other_readers_keep_all_units(cls, caplog):
    module, x = made(cls), inputs()
    with caplog.at_level("INFO", "unbraid"):
        small = shrink(module, x, 0.5)
    name = "fc" if cls is Residual else "fc1"
    assert small.get_submodule(name).out_features == module.get_submodule(name).out_features
    assert cls is Shown or f"linear layer '{name}' keeps all of its units" in caplog.text
    assert small.rnn.hidden_size == 8 and error(small, module, x) < 0.5


def test_recurrent_and_wrapped_leave_linear_layers():
    module, x = made(Chained), inputs()
    small = shrink(module, x, 0.5, layers="recurrent")
    assert (small.rnn.hidden_size, small.fc1.in_features, small.fc1.out_features) == (8, 8, 20)
    wrapped = shrink(module, x, 0.5, style="wrapped")
    assert (wrapped.fc1.in_features, wrapped.fc1.out_features, wrapped.fc2.out_features) == (16, 20, 12)
    with pytest.raises(UnsupportedLayer, match="no recurrent layer"):
        shrink(made(Mlp), x, 0.5, layers="recurrent")
    with pytest.raises(ConfigError, match="layers='dense': expected one of 'recurrent', 'all'"):
        shrink(module, x, 0.5, layers="dense")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cls", [Chained, Gated, Mlp])
def test_saved_compiled_exported_quantized(cls):
    small, x = shrink(made(cls), inputs(), 0.5), inputs()
    wanted = scores(small, x)
    file = io.BytesIO()
    torch.save(small, file)
    file.seek(0)
    assert torch.equal(scores(torch.load(file, weights_only=False), x), wanted)
    assert torch.allclose(scores(torch.compile(small, backend="eager"), x), wanted, atol=1e-5)
    assert torch.allclose(scores(torch.export.export(small, (x,)).module(), x), wanted, atol=1e-5)
    quantized = torch.ao.quantization.quantize_dynamic(small, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    assert (scores(quantized, x) - wanted).abs().max() < wanted.std()


@pytest.mark.parametrize("cls", [Chained, InFront, Mlp])
def test_networks_of_modules(cls):
    module, x = made(cls), inputs()
    small = shrink(Network.from_torch(module, x[:5]), x, 0.5)
    wanted = with_biases(made(SMALLER[cls]))
    assert {n: p.shape for n, p in small.named_parameters()} == {n: p.shape for n, p in wanted.named_parameters()}
    again = Network.from_torch(small, x[:5])
    assert np.allclose(again.predict_proba(x), scores(small, x).softmax(-1) if cls is not InFront else scores(small, x),
                       atol=1e-5)  # fmt: skip
    kept = shrink(Network.from_torch(module, x[:5]), x, max_loss=0.3)
    assert sum(p.numel() for p in kept.parameters()) < sum(p.numel() for p in module.parameters())


def test_refining_trains_the_linear_layers():
    module, x = made(Chained), inputs()
    plain, refined = (shrink(module, x, 0.25, refine=steps) for steps in (0, 60))
    assert error(refined, module, x) < error(plain, module, x)


@pytest.mark.parametrize("layers", ["all", "recurrent"])
def test_chains_of_keras_files(layers):
    network = factory.network(cells=("lstm",), units=12, hidden=[(10, "relu"), (8, "tanh")])
    x, _ = factory.examples(network, 160)
    small = shrink(network, x, 0.5, layers=layers)
    units = [stage.units for stage in small.spec.stages if isinstance(stage, DenseSpec)]
    assert units == ([5, 4] if layers == "all" else [10, 8])
    with torch.no_grad():
        found = small.to_torch()(torch.as_tensor(x)).numpy()
    assert np.allclose(found, small.logits(x), atol=1e-5)


def with_hidden():
    """A graph with a hidden dense layer in front of its output layer, and its inputs."""
    network, x = opened("conv1d_pool")
    spec, weights = network.spec, network.weights()
    dense, number = DenseSpec(name="hidden", inputs=spec.features, units=6, activation="relu"), len(spec.graph.inputs)
    calls = list(spec.graph.calls)
    place = next(turn for turn, call in enumerate(calls) if call.layer == spec.head)
    assert place == len(calls) - 1 and spec.graph.output == (number + place, 0)
    calls[place:] = [CallSpec(layer="hidden", reads=calls[place].reads),
                     calls[place].model_copy(update={"reads": [(number + place, 0)]})]  # fmt: skip
    layers = [one.model_copy(update={"inputs": 6}) if one.name == spec.head else one for one in spec.graph.layers]
    changes = {"layers": [*layers, dense], "calls": calls, "output": (number + place + 1, 0)}
    generator = torch.Generator().manual_seed(0)
    for start, width in ((f"body.module.{spec.head}", 6), ("head", 6), ("body.module.hidden", spec.features)):
        units = 6 if start.endswith("hidden") else spec.classes
        weights[f"{start}.weight"] = torch.randn(units, width, generator=torch.Generator().manual_seed(units))
        weights.setdefault(f"{start}.bias", torch.randn(units, generator=generator))
    changed = spec.model_copy(update={"graph": spec.graph.model_copy(update=changes), "features": 6})
    return Network(changed, weights), x


def test_graphs_of_keras_files(tmp_path):
    network, x = with_hidden()
    np.testing.assert_allclose(shrink(network, x, 1.0).logits(x), network.logits(x), atol=1e-5)
    small = shrink(network, x, 0.5)
    layers = {layer.name: layer for layer in small.spec.graph.layers}
    assert (layers["hidden"].units, layers[small.spec.head].inputs, small.spec.features) == (3, 3, 3)
    assert layers["hidden"].inputs < network.spec.layers[0].units
    whole = {layer.name: layer for layer in shrink(network, x, 0.5, layers="recurrent").spec.graph.layers}
    assert whole["hidden"].units == 6
    ours, theirs = small.logits(x), network.logits(x)
    assert np.square(ours - theirs).mean() < np.square(theirs - theirs.mean(0)).mean()
    parts = unbraid.decompose(small, (x, np.arange(len(x)) % network.classes), keep=1.0)
    np.testing.assert_allclose(unbraid.compose(parts).predict_proba(x), small.predict_proba(x), atol=1e-5)
    unbraid.export_keras(small, tmp_path / "small.keras")
    np.testing.assert_allclose(unbraid.load(tmp_path / "small.keras").predict_proba(x), small.predict_proba(x),
                               atol=1e-5)  # fmt: skip
