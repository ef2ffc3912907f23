"""to_torch of modules and compositions of users' PyTorch modules: the same margins, from layers of torch."""

import io

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census.torch_patterns import ENTRIES
from unbraid import Network, compose, decompose
from unbraid.errors import UnsupportedLayer
from unbraid.networks.stack import RecurrentStack

pytestmark = pytest.mark.filterwarnings("ignore::unbraid.UnbraidWarning", "ignore:LSTM with projections:UserWarning")
QUANTIZED = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

BY_NAME = {entry.name: entry for entry in ENTRIES}
NAMES = [
    "MaxAndMean", "CellLoop(LSTMCell)", "PackedTags", "SortsByWords", "SiameseFolded", "FixedInForward", "Stateful",
    "OneListedTensor", "ListOfLengthsSorted", "NormedLSTM", "StatesInAndOut", "Base(proj_size)", "LinearLSTM",
]  # fmt: skip
STAY = {"Base(proj_size)", "LinearLSTM"}  # torch has no layer for what is left of them


def modules_of(name, **settings):
    entry = BY_NAME[name]
    example, _ = entry.make(np.random.default_rng(1), entry.examples)
    x, y = entry.make(np.random.default_rng(0), 60)
    network = Network.from_torch(entry.module(), example, **(entry.settings or {}))
    return decompose(network, (x, y), samples_per_class=15, **({"keep": 0.5} | settings)), example


def margins(plain, inputs):
    with torch.no_grad():
        return plain(*inputs) if type(inputs) is tuple else plain(inputs)


@pytest.mark.parametrize("name", NAMES)
def test_margins_of_the_composition(name):
    parts, example = modules_of(name)
    composition = compose(parts)
    plain = composition.to_torch()
    wanted = composition.margins(example)
    np.testing.assert_allclose(margins(plain, example), wanted, atol=1e-5)
    np.testing.assert_allclose(margins(plain, example), wanted, atol=1e-5)  # no states are kept
    assert any(isinstance(part, RecurrentStack) for part in plain.modules()) == (name in STAY)
    file = io.BytesIO()
    torch.save(plain, file)
    file.seek(0)
    np.testing.assert_allclose(margins(torch.load(file, weights_only=False), example), wanted, atol=1e-5)
    label, module = next(iter(parts.items()))
    np.testing.assert_allclose(
        margins(module.to_torch(), example)[..., 0], wanted[..., composition.labels.index(label)], atol=1e-5
    )


class Deep(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn = nn.GRU(4, 10, num_layers=2, bidirectional=True, batch_first=True)
        self.dense, self.out = nn.Linear(20, 8), nn.Linear(8, 3)

    def forward(self, x):
        return self.out(self.dense(self.rnn(x)[0][:, -1]).relu())


@QUANTIZED
def test_fused_and_calibrated_compositions_share_one_body_and_are_quantized():
    torch.manual_seed(0)
    x = torch.randn(120, 5, 4)
    network = Network.from_torch(Deep().eval(), x[:6])
    y = network.predict_index(x)
    if len(np.unique(y)) < 2:
        y = np.arange(120) % 3
    composition = compose(decompose(network, (x, y), keep=0.5)).with_calibration(x, y)
    for used in (composition, composition.fuse(keep=None)):
        plain = used.to_torch()
        np.testing.assert_allclose(margins(plain, x), used.margins(x), atol=1e-5)
        layers = [part for part in plain.modules() if isinstance(part, nn.GRU)]
        assert len(layers) == (1 if used is not composition else len(composition.labels))
        assert not any(isinstance(part, RecurrentStack) for part in plain.modules())
        assert torch.equal(torch.export.export(plain, (x,), strict=False).module()(x), margins(plain, x))
        quantized = torch.ao.quantization.quantize_dynamic(plain, {nn.GRU, nn.Linear})
        assert sum(isinstance(part, torch.ao.nn.quantized.dynamic.GRU) for part in quantized.modules()) == len(layers)
        assert quantized(x).shape == (120, len(composition.labels))
    assert all(layer.hidden_size == 5 for layer in composition.to_torch().modules() if isinstance(layer, nn.GRU))


def test_unrolled_modules_are_refused():
    parts, _ = modules_of("CellLoop(LSTMCell)", strategy="paper", mode="unrolled", keep=None)
    with pytest.raises(UnsupportedLayer, match="an unrolled module has masks of its own"):
        compose(parts).to_torch()
