"""Networks, modules and compositions after half(), bfloat16(), double() and on the meta device."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests import factory
from unbraid import Network, compose, decompose
from unbraid.errors import DataError, FormatError

CLOSE = {"half": 5e-3, "bfloat16": 4e-2, "double": 1e-5}


class Last(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.rnn, self.out = kind(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1]).softmax(-1)


def of_stages(kind, inputs):
    network = factory.network((kind,), inputs=inputs, seed=1)
    return network, *factory.examples(network, 60, 1)


def of_torch(kind):
    torch.manual_seed(0)
    x = torch.randn(60, 5, 4)
    return Network.from_torch(Last(kind), x[:4]), x, np.arange(60) % 3


MADE = {f"{cell} of {inputs}": (of_stages, cell, inputs)
        for cell in ("lstm", "gru", "vanilla", "lstm-hard") for inputs in ("words", "features")}  # fmt: skip
MADE |= {kind.__name__: (of_torch, kind) for kind in (nn.LSTM, nn.GRU, nn.RNN)}


@pytest.mark.parametrize("kind", CLOSE)
@pytest.mark.parametrize("name", MADE)
def test_all_of_them_run_in_other_precisions(name, kind):
    make, *given = MADE[name]
    network, x, y = make(*given)
    ways = ({}, {"strategy": "paper", "mode": "unrolled"})
    plain = [decompose(network, (x, y), **way) for way in ways]
    close = CLOSE[kind]
    converted = getattr(copy.deepcopy(network), kind)()
    found = converted.predict_proba(x)
    assert found.dtype == (np.float64 if kind == "double" else np.float32)
    np.testing.assert_allclose(found, network.predict_proba(x), atol=close)
    for parts in plain:
        module, whole = copy.deepcopy(parts[0]), copy.deepcopy(compose(parts))
        np.testing.assert_allclose(getattr(module, kind)().margins(x), parts[0].margins(x), atol=close)
        np.testing.assert_allclose(getattr(whole, kind)().margins(x), compose(parts).margins(x), atol=close)
        np.testing.assert_allclose(whole.evidence(x).margins, whole.margins(x), atol=close)
    if kind == "double":
        np.testing.assert_allclose(decompose(converted, (x, y))[0].margins(x), plain[0][0].margins(x), atol=1e-3)
    else:
        with pytest.raises(DataError, match=r"decomposed in float32: decompose network\.float\(\)"):
            decompose(converted, (x, y))


@pytest.mark.parametrize("name", MADE)
def test_weights_without_values_are_refused(name, tmp_path):
    make, *given = MADE[name]
    network, x, y = make(*given)
    parts = decompose(network, (x, y))
    empty, module, whole = (copy.deepcopy(m).to("meta") for m in (network, parts[0], compose(parts)))
    uses = [lambda: empty.predict(x), lambda: empty.logits(x), empty.sha256, lambda: decompose(empty, (x, y)),
            lambda: module.margins(x), lambda: whole.margins(x), lambda: whole.predict(x),
            lambda: whole.save(tmp_path / "whole"), lambda: module.save(tmp_path / "module")]  # fmt: skip
    for use in uses:
        with pytest.raises(DataError, match="meta device"):
            use()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.float16, torch.bfloat16, torch.float8_e4m3fn])
def test_networks_are_made_of_full_precision_only(dtype):
    network = factory.network(("gru",))
    for name in ("head.weight", "body.stages.0.weight"):
        weights = network.weights()
        weights[name] = torch.zeros(weights[name].shape, dtype=dtype)
        with pytest.raises(FormatError, match=rf"'{name}' is torch\.\w+, expected float32 or float64"):
            Network(network.spec, weights)
