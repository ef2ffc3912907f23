"""Compact modules: folding equals the least squares solution, and a module without removed nodes loses nothing."""

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from unbraid.decomposition.reconstruction.folding import fold
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import ConfigError
from unbraid.networks.cells import Cell

CELLS = [
    Cell(kind="rnn"),
    Cell(kind="lstm"),
    Cell(kind="lstm", gate_activation="hard_sigmoid_keras2"),
    Cell(kind="gru"),
    Cell(kind="gru", reset_after=False),
]


def network(cell, layers=1, io="M:1", seed=0, **more):
    spec = sequence_spec(cell, layers, 30, 6, 12, 3, io, 5, **more)
    weights = initial_weights(spec, seed)
    scaled = {k: v * (3 if "embed" in k or k.endswith("stages.0.weight") else 1) for k, v in weights.items()}
    return unbraid.Network(spec, scaled)


def examples(net, n=120, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 30, (n, 5))
    shape = (n, 5) if net.io.many_outputs else (n,)
    return x, rng.integers(0, 3, shape)


def test_fold_is_ridge_regression_of_what_goes():
    rng = torch.Generator().manual_seed(0)
    z = torch.cat([torch.randn(200, 7, generator=rng), torch.ones(200, 1)], 1).double()
    z[:, 5] = 2 * z[:, 0] - z[:, 2] + 0.5  # predictable from what stays
    weight = torch.randn(4, 8, generator=rng)
    kept, gone = torch.tensor([0, 1, 2, 3, 7]), torch.tensor([4, 5, 6])
    found = z[:, kept] @ fold(weight, z.t() @ z / 200, kept, gone, ridge=1e-6).double().t()
    exact = torch.linalg.lstsq(z[:, kept], z @ weight.double().t()).solution
    torch.testing.assert_close(found, z[:, kept] @ exact, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"{c.kind}-{c.gate_activation}-{c.reset_after}")
@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_keeping_everything_changes_nothing(cell, io):
    net = network(cell, 2, io)
    x, y = examples(net)
    parts = unbraid.decompose(net, (x, y), strategy="reconstruct", keep=1.0, head="softmax", samples_per_class=40)
    probabilities = net.predict_proba(x)
    for label, module in parts.items():
        np.testing.assert_allclose(module.predict_proba(x), probabilities[..., label], atol=1e-4)


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: f"{c.kind}-{c.gate_activation}-{c.reset_after}")
def test_reconstruction_beats_plain_removal_of_the_same_nodes(cell):
    """Margins of a module of half the nodes are closer to the parent's than without reconstruction."""
    net = network(cell, 2)
    x, y = examples(net, 300)
    parts = unbraid.decompose(net, (x, y), strategy="reconstruct", keep=0.5, head="softmax")
    whole = unbraid.decompose(net, (x, y), max_removed=0, head="softmax")
    for label, module in parts.items():
        cut = unbraid.ConcernModule(net, module.index, module.concern, whole[label].whole_head, module.config)
        target = whole[label].margins(x)
        assert np.square(module.margins(x) - target).mean() < 0.7 * np.square(cut.margins(x) - target).mean()
        assert module.retention().nodes == pytest.approx(0.5)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
def test_compact_modules_come_back_bit_for_bit(kind, tmp_path):
    net = network(Cell(kind=kind), 2)
    x, y = examples(net)
    parts = unbraid.decompose(net, (x, y), strategy="reconstruct", keep=0.3)
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    both = unbraid.compose([parts[0], unbraid.decompose(net, (x, y))[1]])
    both.save(tmp_path / "both")
    for label in parts:
        parts[label].save(tmp_path / f"{label}")
        np.testing.assert_array_equal(again[label].margins(x), parts[label].margins(x))
        np.testing.assert_array_equal(unbraid.load_module(tmp_path / f"{label}").margins(x), parts[label].margins(x))
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "both").margins(x), both.margins(x))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(30, 6)
        self.gru = nn.GRU(6, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.score = nn.Linear(20, 1)
        self.out = nn.Linear(20, 3)

    def forward(self, x):
        h, _ = self.gru(self.embedding(x))
        return self.out((torch.softmax(self.score(h), 1) * h).sum(1))


def test_a_users_own_module_shrinks_too(tmp_path):
    torch.manual_seed(0)
    net = unbraid.Network.from_torch(Attention(), example=torch.randint(0, 30, (4, 5)), head="out")
    x, y = examples(net)
    same = unbraid.decompose(net, (x, y), strategy="reconstruct", keep=1.0, head="softmax")
    np.testing.assert_allclose(same[1].predict_proba(x), net.predict_proba(x)[:, 1], atol=1e-4)
    parts = unbraid.decompose(net, (x, y), strategy="reconstruct", keep=0.5, head="softmax")
    assert np.abs(parts[1].predict_proba(x) - net.predict_proba(x)[:, 1]).mean() < 0.1
    parts.save(tmp_path / "p")
    again = unbraid.load_decomposition(tmp_path / "p", module=Attention())
    np.testing.assert_array_equal(again[1].margins(x), parts[1].margins(x))


def test_it_goes_with_rolled_modules_only():
    net = network(Cell(kind="gru"))
    with pytest.raises(ConfigError, match="mode='unrolled' belongs to"):
        unbraid.decompose(net, examples(net), strategy="reconstruct", mode="unrolled")
    with pytest.raises(ConfigError, match="keep"):
        unbraid.decompose(net, examples(net), strategy="reconstruct", keep=0)


def test_max_loss_gives_the_smallest_modules_within_it():
    """A network that ignores most of its nodes has small modules even with a tolerance of 0."""
    net = network(Cell(kind="gru"))
    x, _ = examples(net, 400)
    y = net.predict_index(x)
    y[:6] = [0, 1, 2, 0, 1, 2]
    sizes = []
    for max_loss in (0.0, 0.3):
        parts = unbraid.decompose(
            net, (x, y), strategy="reconstruct", max_loss=max_loss, head="softmax", samples_per_class=60
        )
        sizes.append(parts[0].retention().nodes)
    assert sizes[1] < sizes[0] <= 1.0
    with pytest.raises(ConfigError, match="give one of them"):
        unbraid.decompose(net, (x, y), strategy="reconstruct", max_loss=0.1, keep=0.5)


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_refined_modules_lie_nearer_to_their_parent(kind, io):
    net = network(Cell(kind=kind), 2, io)
    x, y = examples(net, 300)
    whole = net.predict_proba(x)
    gaps = []
    for steps in (0, 60):
        parts = unbraid.decompose(net, (x, y), keep=0.2, refine=steps)
        gaps.append(np.mean([np.abs(m.predict_proba(x) - whole[..., m.index]).mean() for m in parts.values()]))
    assert gaps[1] < gaps[0]
    with pytest.raises(ConfigError, match="refine=5 belongs to"):
        unbraid.decompose(net, (x, y), mode="unrolled", refine=5)
