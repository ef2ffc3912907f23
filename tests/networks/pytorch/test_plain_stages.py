"""to_torch: networks, modules and compositions as torch's own layers, with the same outputs."""

import numpy as np
import pytest
import torch
from torch import nn

from tests import factory
from tests.factory import UNCALIBRATED
from unbraid import Network, compose, decompose, shrink
from unbraid.errors import IncompatibleModules, UnsupportedLayer

SHAPES = [
    {"cells": ("lstm",)},
    {"cells": ("gru", "relu")},
    {"cells": ("lstm",), "io": "M:N", "bidirectional": True},
    {"cells": ("vanilla",), "io": "1:N"},
    {"cells": ("gru",), "flat": True, "hidden": [(5, "relu")]},
    {"cells": ("lstm", "gru"), "reverse": True, "output": "sigmoid"},
    {"cells": ("gru",), "inputs": "features", "bidirectional": True, "classes": 1, "output": "sigmoid"},
]
OURS = ("unbraid.networks.stages", "unbraid.networks.recurrent")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_networks(shape):
    network = factory.network(**{"units": 6, **shape})
    x, _ = factory.examples(network, 40)
    plain = network.to_torch()
    assert not {type(part).__module__ for part in plain.modules()} & set(OURS)
    assert np.allclose(plain(torch.from_numpy(x)).numpy(), network.logits(x), atol=1e-5)
    assert {type(part) for part in plain.modules()} & {nn.LSTM, nn.GRU, nn.RNN}


@UNCALIBRATED
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_modules_and_compositions(shape):
    network = factory.network(**{"units": 6, **shape})
    x, y = factory.examples(network, 40)
    parts = decompose(network, (x, y), keep=0.5)
    whole = compose(parts)
    for composition in (whole, whole.fuse()):
        plain = composition.to_torch()
        assert np.allclose(plain(torch.from_numpy(x)).numpy(), composition.margins(x), atol=1e-4)
    assert len(whole.fuse().to_torch().bodies) == 1
    label = whole.labels[0]
    assert np.allclose(parts[label].to_torch()(torch.from_numpy(x))[..., 0].numpy(), parts[label].margins(x), atol=1e-4)


def test_calibration_and_the_idle_columns_of_the_release():
    network = factory.network(units=6)
    x, y = factory.examples(network, 60)
    parts = decompose(network, (x, y), strategy="paper", idle_columns=True)
    composition = compose(parts).with_calibration(x, y)
    assert composition.is_calibrated
    assert np.allclose(composition.to_torch()(torch.from_numpy(x)).numpy(), composition.margins(x), atol=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_a_smaller_network_is_quantized():
    network = factory.network(units=16)
    x, _ = factory.examples(network, 160)
    small = shrink(network, x, 0.5).to_torch()
    quantized = torch.ao.quantization.quantize_dynamic(small, {nn.LSTM, nn.Linear}, dtype=torch.qint8)
    found = [part for part in quantized.modules() if isinstance(part, torch.ao.nn.quantized.dynamic.LSTM)]
    assert [part.hidden_size for part in found] == [8]
    assert quantized(torch.from_numpy(x)).shape == (160, 3)


def test_a_network_of_a_module_gives_the_module_back():
    module = Tagger().eval()
    x = torch.randn(4, 5, 3)
    back = Network.from_torch(module, x).to_torch()
    assert type(back) is Tagger and type(back.rnn) is nn.LSTM
    assert torch.allclose(back(x), module(x), atol=1e-6)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.out = nn.LSTM(3, 4, 2, batch_first=True, bidirectional=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.out(self.rnn(x)[0])


@pytest.mark.parametrize(
    "shape", [{"mask": True}, {"cells": ("gru-hard",)}, {"bidirectional": True, "merge": "sum"}], ids=str
)
def test_refused_networks(shape):
    with pytest.raises(UnsupportedLayer, match=r"use unbraid\.export_onnx"):
        factory.network(**shape).to_torch()


def test_refused_modules():
    network = factory.network()
    x, y = factory.examples(network, 40)
    unrolled = decompose(network, (x, y), mode="unrolled")
    with pytest.raises(UnsupportedLayer, match=r"use unbraid\.export_onnx"):
        unrolled[0].to_torch()
    with pytest.raises(UnsupportedLayer, match="not encoder-decoders"):
        factory.translator().to_torch()
    referee = compose(decompose(network, (x, y))).with_referee(x, y)
    with pytest.raises(IncompatibleModules, match="without_referee"):
        referee.to_torch()
