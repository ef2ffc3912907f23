"""Five forecasters of different shape from Keras files, and five from PyTorch, on the command line and in Python."""

import json
import os

import numpy as np
import pytest
import torch

import unbraid
from tests.cli.test_numbers import done

N, STEPS, FEATURES = 80, 6, 3
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
OWN = '''
import torch
from torch import nn

class Base(nn.Module):
    def __init__(self, kind, layers=1, both=False, columns=1, inputs=3):
        super().__init__()
        self.rnn = getattr(nn, kind)(inputs, 8, layers, batch_first=True, bidirectional=both)
        self.out = nn.Linear(16 if both else 8, columns)

class NextValue(Base):
    """One number behind the last state."""
    def __init__(self):
        super().__init__("LSTM")
    def forward(self, x):
        return self.out(self.rnn(x)[1][0][-1]).squeeze(-1)

class Horizon(Base):
    """Several steps of one variable from two layers."""
    def __init__(self):
        super().__init__("GRU", layers=2, columns=4)
    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1])

class BothDirections(Base):
    """Several variables from both directions, between 0 and 1."""
    def __init__(self):
        super().__init__("LSTM", both=True, columns=3)
    def forward(self, x):
        return torch.sigmoid(self.out(self.rnn(x)[0].mean(1)))

class Convolved(Base):
    """A convolution in front of a vanilla layer."""
    def __init__(self):
        super().__init__("RNN", columns=2, inputs=5)
        self.conv = nn.Conv1d(3, 5, 3, padding=1)
    def forward(self, x):
        return self.out(self.rnn(self.conv(x.transpose(1, 2)).relu().transpose(1, 2))[0][:, -1])

class Autoencoder(Base):
    """Every timestep of every variable, from the last state of an encoder."""
    def __init__(self):
        super().__init__("LSTM", columns=3)
        self.decoder = nn.LSTM(8, 8, batch_first=True)
    def forward(self, x):
        code = self.rnn(x)[0][:, -1:].expand(-1, x.shape[1], -1)
        return self.out(self.decoder(code)[0])
'''
CLASSES = ["NextValue", "Horizon", "BothDirections", "Convolved", "Autoencoder"]


def next_value(layers):
    return [layers.LSTM(8), layers.Dense(1)]


def horizon(layers):
    return [layers.GRU(8, return_sequences=True), layers.GRU(8, reset_after=False), layers.Dense(4)]


def both_directions(layers):
    return [layers.Bidirectional(layers.LSTM(8)), layers.Dense(6, activation="tanh"), layers.Dense(3, "sigmoid")]


def convolved(layers):
    return [layers.Conv1D(5, 3, activation="relu", padding="same"), layers.SimpleRNN(8), layers.Dense(2)]


def autoencoder(layers):
    encoder = [layers.LSTM(8), layers.RepeatVector(STEPS), layers.LSTM(8, return_sequences=True)]
    return [*encoder, layers.TimeDistributed(layers.Dense(FEATURES))]


MODELS = [next_value, horizon, both_directions, convolved, autoencoder]


def inputs():
    return np.random.default_rng(0).normal(size=(N, STEPS, FEATURES)).astype(np.float32)


def journey(folder, model, options, code, network, right):
    """Decompose, evaluate, compose and predict in the shell; compare with Python and the model's own numbers."""
    x = inputs()
    labels = [f"out{i}" for i in range(right.shape[-1])]
    targets = right + np.random.default_rng(1).normal(size=right.shape) * right.std() / 10
    np.savez(folder / "x.npz", x=x, labels=labels)
    np.savez(folder / "xy.npz", x=x, y=targets)
    done("decompose", model, "x.npz", "-o", "whole", "--keep", 1, *options, cwd=folder)
    found = json.loads(done("predict", "whole", "x.npz", *code, "--json", cwd=folder))
    assert found["labels"] == labels
    np.testing.assert_allclose(np.reshape(found["predicted"], right.shape), right, atol=1e-4)
    done("decompose", model, "x.npz", "-o", "half", "--keep", 0.5, "--concern", "output", *options, cwd=folder)
    given = ("half", "xy.npz", *code, "--intervals", 0.9, "--json")
    scores = json.loads(done("evaluate", *given, cwd=folder))
    parts = unbraid.decompose(network, x, keep=0.5, concern="output")
    composition = unbraid.compose(parts)
    wanted = unbraid.evaluate(composition, (x, targets), against=network, intervals=0.9).to_dict()
    assert scores["mean"] == pytest.approx(wanted["mean"], rel=1e-3)
    assert scores["intervals"]["scores"]["mae"] == pytest.approx(wanted["intervals"]["scores"]["mae"], rel=1e-3)
    assert 0 < scores["retention"]["nodes"] <= 0.75 and scores["mean"]["agreement"] > 0
    done("compose", f"half:{labels[-1]}", "-o", "last", cwd=folder)
    found = json.loads(done("predict", "last", "x.npz", *code, "--json", cwd=folder))
    np.testing.assert_allclose(np.asarray(found["predicted"])[..., 0], composition.predict(x)[..., -1], atol=1e-4)


@pytest.mark.parametrize("name", CLASSES)
def test_from_pytorch(tmp_path, name):
    (tmp_path / "own.py").write_text(OWN)
    scope: dict = {}
    exec(OWN, scope)
    torch.manual_seed(0)
    module = scope[name]().eval()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    x = torch.from_numpy(inputs())
    with torch.no_grad():
        right = module(x).numpy()
    right = right[:, None] if right.ndim == 1 else right
    labels = [f"out{i}" for i in range(right.shape[-1])]
    network = unbraid.Network.from_torch(module, x[:8], labels=labels, task="regression")
    np.testing.assert_allclose(network.predict(x.numpy()), right, atol=1e-5)
    code = ("--module", f"own.py:{name}")
    journey(tmp_path, "weights.pt", (*code, "--task", "regression"), code, network, right)


@pytest.mark.parametrize("build", MODELS)
def test_from_a_keras_file(tmp_path, build):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.layers.Input((STEPS, FEATURES)), *build(keras.layers)])
    model.compile(loss="mse")
    model.save(tmp_path / "model.keras")
    right = model.predict(inputs(), verbose=0)
    network = unbraid.load(tmp_path / "model.keras")
    assert network.task == "regression"
    network.labels = [f"out{i}" for i in range(right.shape[-1])]
    np.testing.assert_allclose(network.predict(inputs()), right, atol=1e-5)
    journey(tmp_path, "model.keras", (), (), network, right)
