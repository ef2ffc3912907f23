"""Everything works on a second device as on the processor: the same bits, and no operation of tensors of both.

The second device of :mod:`tests.second_device` needs no GPU. With one, the same calls run on it as well.
"""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import unbraid
from tests import factory
from tests.second_device import SecondDevice, on_second
from unbraid.demo.small import small_modules

NETWORKS = {
    "lstm": {"cells": ("lstm",)},
    "two layers": {"cells": ("gru", "lstm")},
    "vanilla": {"cells": ("vanilla",), "io": "M:N"},
    "relu": {"cells": ("relu",)},
    "two directions": {"cells": ("gru-before",), "bidirectional": True, "hidden": ((4, "relu"),)},
    "masked": {"cells": ("lstm-hard",), "mask": True, "io": "M:N"},
    "features": {"cells": ("gru",), "inputs": "features", "flat": True},
    "dense": {"cells": ("lstm", "gru"), "front": ((5, "relu"),), "between": (4, "tanh"), "hidden": ((5, "relu"),)},
    "sum of directions": {"cells": ("lstm",), "bidirectional": True, "merge": "sum"},
    "independent labels": {"cells": ("lstm",), "output": "sigmoid"},
    "numbers": {"cells": ("gru",), "output": "linear", "inputs": "features"},
    "one to many": {"cells": ("lstm",), "io": "1:N"},
}
SETTINGS = {
    "default": {},
    "refined": {"keep": 0.5, "refine": 2},
    "by loss": {"max_loss": 0.3},
    "paper": {"strategy": "paper"},
    "unrolled": {"strategy": "paper", "mode": "unrolled"},
    "gates": {"strategy": "paper", "gates": "each", "head": "softmax"},
    "one body": {"concern": "output"},
}


PAIRS = [
    *((network, "default") for network in NETWORKS),
    *((network, "paper") for network in ("two layers", "two directions", "masked", "independent labels")),
    *((network, settings) for network in ("two layers", "masked") for settings in ("refined", "by loss", "unrolled")),
    ("two layers", "gates"),
    ("numbers", "one body"),
]


def weights(module):
    return {name: weight.detach().cpu() for name, weight in module.state_dict().items()}


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name in expected:
        one, other = weights(found[name]), weights(expected[name])
        assert set(one) == set(other)
        assert [key for key in one if not torch.equal(one[key], other[key])] == []


@pytest.mark.parametrize(("kind", "settings"), PAIRS)
def test_decomposing_on_a_second_device_gives_the_same_bits(kind, settings, tmp_path):
    network = factory.network(units=6, **NETWORKS[kind])
    x, y = factory.examples(network, 60)
    y = network.predict(x) if kind == "numbers" else y
    expected = unbraid.decompose(network, (x, y), **SETTINGS[settings])
    whole = unbraid.compose(expected)
    with SecondDevice():
        moved = copy.deepcopy(network).to("cuda")
        assert all(on_second(weight) for weight in moved.parameters())
        np.testing.assert_array_equal(moved.predict(x), network.predict(x))
        parts = unbraid.decompose(moved, (x, y), **SETTINGS[settings])
        assert all(on_second(weight) for part in parts.values() for weight in part.parameters())
        composed = unbraid.compose(parts)
        np.testing.assert_array_equal(composed.predict(x), whole.predict(x))
        unbraid.evaluate(composed, (x, y), against=moved)
        composed.save(tmp_path / "composed")
        back = copy.deepcopy(composed).to("cpu")
    assert_equal(parts, expected)
    np.testing.assert_array_equal(back.predict(x), whole.predict(x))
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "composed").predict(x), whole.predict(x))


def test_votes_of_several_networks_run_on_a_second_device():
    parts, x, y = small_modules()
    others, _, _ = small_modules()
    named = np.asarray(parts.labels)[np.asarray(y)] if np.asarray(y).dtype.kind in "iu" else np.asarray(y)
    with SecondDevice():
        mixed = [parts["travel"], parts["banking"], others["weather"]]
        both = unbraid.Composition({module.label: module for module in mixed}).to("cuda")
        results = [
            both.predict(x), both.predict_proba(x), both.with_calibration(x, named).predict(x),
            both.with_referee(x, named).predict_proba(x), both.predict(x, allowed=[["travel", "weather"]] * len(x)),
        ]  # fmt: skip
    plain = unbraid.Composition({module.label: module for module in mixed}).to("cpu")
    expected = [
        plain.predict(x), plain.predict_proba(x), plain.with_calibration(x, named).predict(x),
        plain.with_referee(x, named).predict_proba(x), plain.predict(x, allowed=[["travel", "weather"]] * len(x)),
    ]  # fmt: skip
    for one, other in zip(results, expected, strict=True):
        np.testing.assert_array_equal(one, other)


class Packed(nn.Module):
    """Lengths, packing, and a layer norm behind; ``dtype`` of its weights may be half."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 5)
        self.rnn = nn.LSTM(5, 6, num_layers=2, batch_first=True, bidirectional=True)
        self.norm, self.out = nn.LayerNorm(12), nn.Linear(12, 3)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        found, _ = pad_packed_sequence(self.rnn(packed)[0], batch_first=True)
        return self.out(self.norm(found.mean(1)))


class Cell(nn.Module):
    """A cell stepped in a loop, with initial states on the device of the inputs."""

    def __init__(self):
        super().__init__()
        self.cell, self.out = nn.GRUCell(4, 6), nn.Linear(6, 3)

    def forward(self, x):
        state = x.new_zeros(len(x), 6)
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.out(state)


def of_users(kind):
    torch.manual_seed(0)
    lengths = torch.arange(60) % 4 + 2
    if kind is Packed:
        return Packed(), (torch.randint(1, 20, (60, 5)), lengths)
    return kind(), torch.randn(60, 5, 4)


@pytest.mark.parametrize("strategy", ["reconstruct", "paper"])
@pytest.mark.parametrize("kind", [Packed, Cell])
def test_modules_of_users_are_decomposed_on_a_second_device(kind, strategy):
    module, x = of_users(kind)
    y = np.arange(60) % 3
    few = tuple(part[:9] for part in x) if isinstance(x, tuple) else x[:9]
    network = unbraid.Network.from_torch(module, few)
    expected = unbraid.decompose(network, (x, y), strategy=strategy)
    with SecondDevice():
        moved = copy.deepcopy(network).to("cuda")
        np.testing.assert_array_equal(moved.predict(x), network.predict(x))
        parts = unbraid.decompose(moved, (x, y), strategy=strategy)
        np.testing.assert_array_equal(unbraid.compose(parts).predict(x), unbraid.compose(expected).predict(x))
    assert_equal(parts, expected)


@pytest.mark.parametrize("kind", [Packed, Cell])
def test_a_network_is_made_of_a_module_on_a_second_device(kind):
    module, x = of_users(kind)
    few = tuple(part[:9] for part in x) if isinstance(x, tuple) else x[:9]
    expected = unbraid.Network.from_torch(module, few).predict(x)
    with SecondDevice():
        moved = copy.deepcopy(module).to("cuda")
        there = tuple(part.to("cuda") for part in few) if isinstance(few, tuple) else few.to("cuda")
        network = unbraid.Network.from_torch(moved, there)
        assert all(on_second(weight) for weight in network.parameters())
        np.testing.assert_array_equal(network.predict(x), expected)


@pytest.mark.parametrize("kind", [Packed, Cell])
def test_shrinking_on_a_second_device_gives_the_same_bits(kind):
    module, x = of_users(kind)
    expected = unbraid.shrink(module, x, keep=0.5)
    with SecondDevice():
        there = tuple(part.to("cuda") for part in x) if isinstance(x, tuple) else x.to("cuda")
        found = unbraid.shrink(copy.deepcopy(module).to("cuda"), there, keep=0.5)
        assert all(on_second(weight) for weight in found.parameters())
    one, other = weights(found), weights(expected)
    assert [key for key in other if not torch.equal(one[key], other[key])] == []


def test_modules_on_a_second_device_are_exported(tmp_path):
    parts, x, _ = small_modules()
    expected = unbraid.compose(parts).predict(x)
    with SecondDevice():
        unbraid.export_onnx(unbraid.compose(parts).to("cuda"), tmp_path / "there.onnx")
    unbraid.compose(parts).to("cpu")
    onnx = pytest.importorskip("onnxruntime")
    session = onnx.InferenceSession(tmp_path / "there.onnx")
    found = dict(zip((o.name for o in session.get_outputs()), session.run(None, {"x": np.asarray(x)}), strict=True))
    assert [parts.labels[one] for one in found["probabilities"].argmax(1)] == list(expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_gpu_makes_modules_that_decide_alike(settings):
    if settings == "one body":
        pytest.skip("for numbers")
    network = factory.network(("gru", "lstm"), units=6)
    x, y = factory.examples(network, 60)
    expected = unbraid.decompose(network, (x, y), keep=1.0) if settings == "default" else None
    moved = copy.deepcopy(network).to("cuda")
    np.testing.assert_allclose(moved.logits(x), network.logits(x), atol=1e-4)
    parts = unbraid.decompose(moved, (x, y), **SETTINGS[settings])
    assert all(weight.is_cuda for part in parts.values() for weight in part.parameters())
    unbraid.evaluate(unbraid.compose(parts), (x, y), against=moved)
    if expected is not None:
        whole = unbraid.decompose(moved, (x, y), keep=1.0)
        found, wanted = (unbraid.compose(one).margins(x) for one in (whole, expected))
        np.testing.assert_allclose(found, wanted, atol=1e-3)
