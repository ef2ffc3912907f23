"""Hidden nn.Linear layers of users' modules: which are found, and that modules decide as the literal module does."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import unbraid
from tests.jitter import changed_weights
from unbraid import Network
from unbraid.errors import ConfigError, FormatError, UnsupportedLayer

D, T = 4, 5


class Base(nn.Module):
    """An LSTM with linear layers in front and behind."""

    def __init__(self, act=F.relu):
        super().__init__()
        self.front, self.rnn = nn.Linear(D, 7), nn.LSTM(7, 6, batch_first=True)
        self.one, self.two, self.out = nn.Linear(6, 9), nn.Linear(9, 8, bias=False), nn.Linear(8, 3)
        self.act = act

    def forward(self, x):
        h = self.rnn(F.relu(self.front(x)))[0][:, -1]
        return self.out(F.dropout(self.act(self.two(self.act(self.one(h)))), 0.3, self.training))


class Normed(Base):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(9)

    def forward(self, x):
        h = self.rnn(self.front(x))[0][:, -1]
        return self.out(torch.tanh(self.two(torch.softmax(self.norm(self.one(h)), -1))))


class Residual(Base):
    def __init__(self):
        super().__init__()
        self.two, self.out = nn.Linear(9, 9), nn.Linear(9, 3)

    def forward(self, x):
        h = F.relu(self.one(self.rnn(self.front(x))[0][:, -1]))
        return self.out(h + F.gelu(self.two(h)))


class Tagger(Base):
    """A decision for each timestep; linear layers read (N, T, D)."""

    def forward(self, x):
        return self.out(F.relu(self.two(F.relu(self.one(self.rnn(F.relu(self.front(x)))[0])))))


class TimeFirst(Base):
    """Linear layers read (T, N, D), and (N*T, D)."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(7, 6)

    def forward(self, x):
        h = self.rnn(F.relu(self.front(x.transpose(0, 1))))[0]
        flat = F.relu(self.one(h.transpose(0, 1).reshape(-1, 6))).view(len(x), -1, 9)
        return self.out(F.relu(self.two(flat[:, -1])))


class Stepwise(Base):
    """A linear layer is called at each timestep."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.GRUCell(7, 6)

    def forward(self, x):
        h = x.new_zeros(len(x), 6)
        for t in range(x.shape[1]):
            h = self.rnn(F.relu(self.front(x[:, t])), h)
        return self.out(F.relu(self.two(F.relu(self.one(h)))))


class Mlp(nn.Module):
    def __init__(self, activation=nn.ReLU):
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(D * T, 12), activation(), nn.Linear(12, 9), activation(), nn.Dropout(0.2),
            nn.Linear(9, 3),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


MODULES = {
    "chained": (Base, {"front": None, "one": "two", "two": "out"}),
    "normed": (Normed, {"front": None, "one": None, "two": "out"}),
    "residual": (Residual, {"front": None, "one": None, "two": None}),
    "tagger": (Tagger, {"front": None, "one": "two", "two": "out"}),
    "time first": (TimeFirst, {"front": None, "one": None, "two": "out"}),
    "stepwise": (Stepwise, {"front": None, "one": "two", "two": "out"}),
    "mlp": (Mlp, {"net.1": "net.3", "net.3": "net.6"}),
}


def made(name, count=120):
    torch.manual_seed(3)
    module = MODULES[name][0]()
    state = {k: 2 * v if "weight" in k else v for k, v in module.state_dict().items()}
    module.load_state_dict(changed_weights(state))
    module.eval()
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, T, D)).astype(np.float32)
    net = Network.from_torch(module, example=torch.from_numpy(x[:6]))
    y = rng.integers(0, 3, (count, T) if net.io.many_outputs else count)
    return module, net, x, y


@pytest.mark.parametrize("name", MODULES)
def test_layers_are_found_and_chained(name):
    _, net, _, _ = made(name)
    assert {dense.name: dense.chained for dense in net.spec.dense} == MODULES[name][1]
    assert set(MODULES[name][1]) <= set(net.layers)
    if name == "time first":
        assert {dense.name: dense.rows for dense in net.spec.dense} == {
            "front": "second",
            "one": "outer",
            "two": "first",
        }


@pytest.mark.parametrize("name", MODULES)
def test_keeping_everything_changes_nothing(name):
    module, net, x, y = made(name)
    with torch.no_grad():
        wanted = torch.softmax(module(torch.from_numpy(x)), -1).numpy()
    np.testing.assert_allclose(net.predict_proba(x), wanted, atol=1e-5)
    for way in ({"keep": 1.0}, {"strategy": "paper", "layers": "all", "max_removed": 0.0, "head": "softmax"}):
        for label, part in unbraid.decompose(net, (x, y), **way).items():
            np.testing.assert_allclose(part.predict_proba(x), wanted[..., label], atol=2e-4)


def zeroed(module, net, concern):
    """The user's own module with hooks that set the outputs of removed units to zero."""
    handles = []
    for dense in net.spec.dense:
        mask = torch.tensor(concern.kept[dense.name].astype(np.float32))
        handles.append(module.get_submodule(dense.name).register_forward_hook(lambda m, i, o, mask=mask: o * mask))
    return handles


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_the_papers_modules_equal_the_users_module_with_zeros(name, mode):
    """Only linear layers lose units here, so that the user's own forward is the reference."""
    module, net, x, y = made(name)
    if name == "mlp" and mode == "unrolled":
        with pytest.raises(ConfigError, match="dense layers alone"):
            unbraid.decompose(net, (x, y), mode=mode)
        return
    parts = unbraid.decompose(net, (x, y), strategy="paper", layers="all", mode=mode, max_removed=0.6, head="softmax")
    for label, part in parts.items():
        kept = {n: np.ones_like(m) if net.layers[n].cell else m for n, m in part.concern.kept.items()}
        if any(kept[dense.name].ndim > 1 for dense in net.spec.dense):
            kept = {n: np.broadcast_to(m[:1], m.shape) if m.ndim > 1 else m for n, m in kept.items()}
        concern = type(part.concern)(kept, part.concern.steps, part.concern.mode)
        own = unbraid.ConcernModule(net, part.index, concern, part.whole_head, part.config)
        flat = type(part.concern)({n: m[0] if m.ndim > 1 else m for n, m in kept.items()}, concern.steps, concern.mode)
        handles = zeroed(module, net, flat)
        with torch.no_grad():
            wanted = torch.softmax(module(torch.from_numpy(x)), -1)[..., label].numpy()
        for handle in handles:
            handle.remove()
        np.testing.assert_allclose(own.predict_proba(x), wanted, atol=1e-5)


@pytest.mark.parametrize("name", MODULES)
def test_every_linear_layer_is_pruned_by_default(name, tmp_path):
    module, net, x, y = made(name)
    parts = unbraid.decompose(net, (x, y), keep=0.5)
    for part in parts.values():
        for layer, kept in part.kept_nodes.items():
            assert kept.sum() == max(1, round(0.5 * net.layers[layer].units))
    kept = parts[0].retention()
    assert kept.nodes < 0.55 and kept.weights < 0.7 and kept.flops < 0.7
    assert sum(p.numel() for p in parts[0].parameters()) < 0.75 * sum(p.numel() for p in net.parameters())
    together = unbraid.compose(parts)
    alone = np.stack([part.margins(x) for part in parts.values()], -1)
    np.testing.assert_allclose(together.margins(x), alone, atol=1e-4)
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts", module=module)
    np.testing.assert_array_equal(unbraid.compose(loaded).margins(x), together.margins(x))
    assert loaded[0].retention() == kept


@pytest.mark.parametrize("name", ["chained", "normed", "time first", "mlp"])
def test_onnx_files_of_smaller_modules(name, tmp_path):
    _, net, x, y = made(name)
    together = unbraid.compose(unbraid.decompose(net, (x, y), keep=0.5))
    unbraid.export_onnx(together, tmp_path / "all.onnx", example=torch.from_numpy(x[:4]))
    session = onnxruntime.InferenceSession(tmp_path / "all.onnx", providers=["CPUExecutionProvider"])
    found = session.run(["margins"], {session.get_inputs()[0].name: x[:9]})[0]
    np.testing.assert_allclose(found, together.margins(x[:9]), atol=1e-4)


def test_recurrent_prunes_recurrent_layers_alone():
    _, net, x, y = made("chained")
    part = unbraid.decompose(net, (x, y), keep=0.5, layers="recurrent")[0]
    assert set(part.concern.kept) == {"rnn"}
    assert part.kept_nodes["one"].all() and part.retention().nodes > 0.8


def test_the_paper_prunes_recurrent_layers_alone_by_default():
    _, net, x, y = made("chained")
    assert set(unbraid.decompose(net, (x, y), strategy="paper")[0].concern.kept) == {"rnn"}


@pytest.mark.parametrize("function", [torch.sigmoid, F.softplus, torch.exp])
def test_layers_whose_activation_moves_zero_stay_whole(function):
    torch.manual_seed(0)
    net = Network.from_torch(Base(function), example=torch.randn(5, T, D))
    assert [dense.name for dense in net.spec.dense] == ["front"]


def test_shared_hooked_and_unused_layers_stay_whole():
    class Shared(Base):
        def __init__(self):
            super().__init__()
            self.two = nn.Linear(9, 9)
            self.three = nn.Linear(9, 9)
            self.three.weight = self.two.weight
            self.out = nn.Linear(9, 3)
            self.unused = nn.Linear(3, 3)
            self.front.register_forward_hook(lambda module, inputs, output: 2 * output)

        def forward(self, x):
            h = self.rnn(self.front(x))[0][:, -1]
            return self.out(F.relu(self.three(F.relu(self.two(F.relu(self.one(h)))))))

    net = Network.from_torch(Shared(), example=torch.randn(5, T, D))
    assert {dense.name: dense.chained for dense in net.spec.dense} == {"one": None}


def test_weights_that_forward_reads_itself_stay_whole():
    class Tied(Base):
        def forward(self, x):
            h = F.relu(self.one(self.rnn(self.front(x))[0][:, -1]))
            return self.out(F.relu(self.two(h)) + 0 * self.one.weight.sum())

    net = Network.from_torch(Tied(), example=torch.randn(5, T, D))
    assert "one" not in {dense.name for dense in net.spec.dense}


def test_other_output_layers_are_no_hidden_layers():
    class Two(Base):
        def __init__(self):
            super().__init__()
            self.other = nn.Linear(6, 5)

        def forward(self, x):
            h = self.rnn(x.new_zeros(len(x), T, 7) + self.front(x))[0][:, -1]
            return self.out(F.relu(self.two(F.relu(self.one(h))))), self.other(h)

    net = Network.from_torch(Two(), example=torch.randn(5, T, D), head="out")
    assert [dense.name for dense in net.spec.dense] == ["front", "one", "two"]


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Softsign])
def test_elementwise_activations_chain(activation):
    torch.manual_seed(1)
    net = Network.from_torch(Mlp(activation), example=torch.randn(6, T, D))
    assert {dense.name: dense.chained for dense in net.spec.dense} == MODULES["mlp"][1]
    assert net.io == "1:1"
    assert all(dense.rectified == (activation is nn.ReLU) for dense in net.spec.dense)


def test_to_torch_and_refine_leave_the_users_layers():
    module, net, x, y = made("chained")
    plain = net.to_torch()
    assert isinstance(plain.one, nn.Linear)
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(torch.from_numpy(x)), module(torch.from_numpy(x)), atol=1e-4, rtol=1e-4)
    before = net.sha256()
    unbraid.decompose(net, (x, y), keep=0.5, refine=3)
    assert net.sha256() == before


def test_a_module_without_hidden_layers_is_refused():
    with pytest.raises(UnsupportedLayer, match="no recurrent layer"):
        Network.from_torch(nn.Sequential(nn.Flatten(), nn.Linear(D * T, 3)), example=torch.randn(5, T, D))


class Other(Mlp):
    def __init__(self):
        super().__init__()
        self.net[1] = nn.Linear(D * T, 13)
        self.net[3] = nn.Linear(13, 9)


def test_folders_load_with_the_class_alone(tmp_path):
    _, net, x, y = made("mlp")
    parts = unbraid.decompose(net, (x, y), keep=0.5)
    parts.save(tmp_path / "parts")
    opened = unbraid.load_decomposition(tmp_path / "parts", module=Mlp)
    np.testing.assert_array_equal(opened[0].margins(x), parts[0].margins(x))
    with pytest.raises(FormatError, match=r"layer 'net\.1' is Linear of"):
        unbraid.load_decomposition(tmp_path / "parts", module=Other())


@pytest.mark.parametrize("chained", ["net.1", "net.6", "nothing", "net"])
def test_chains_that_do_not_fit_are_refused(chained):
    module, net, _, _ = made("mlp")
    first = net.spec.dense[0].model_copy(update={"chained": chained})
    spec = net.spec.model_copy(update={"dense": [first, *net.spec.dense[1:]]})
    with pytest.raises(FormatError, match="field chained"):
        Network(spec, net.weights(), None, module)


def test_a_missing_layer_is_refused():
    module, net, _, _ = made("mlp")
    first = net.spec.dense[0].model_copy(update={"name": "gone", "chained": None})
    spec = net.spec.model_copy(update={"dense": [first, *net.spec.dense[1:]]})
    with pytest.raises(FormatError, match="'gone' is missing"):
        Network(spec, net.weights(), None, module)
