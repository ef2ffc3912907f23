"""Modules and Keras models with several outputs: one network for each output."""

import os

import numpy as np
import pytest
import torch
from torch import nn

import unbraid
from unbraid.errors import ConfigError, DataError, IncompatibleModules

X = np.random.default_rng(0).normal(size=(200, 5, 3)).astype(np.float32)
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2


class TwoOutputs(nn.Module):
    def __init__(self, form):
        super().__init__()
        self.rnn, self.form = nn.LSTM(3, 8, batch_first=True), form
        self.kind, self.amount = nn.Linear(8, 4), nn.Linear(8, 1)

    def forward(self, x):
        last = self.rnn(x)[0][:, -1]
        return self.form(self.kind(last), self.amount(last))


FORMS = {"tuple": lambda a, b: (a, b), "dict": lambda a, b: {"kind": a, "amount": b}, "list": lambda a, b: [b, a]}


@pytest.mark.parametrize("form", FORMS)
def test_each_output_of_a_module_is_a_network(form):
    torch.manual_seed(0)
    module, x = TwoOutputs(FORMS[form]).eval(), torch.from_numpy(X)
    kind = unbraid.Network.from_torch(module, x[:8], head="kind", labels=list("abcd"))
    amount = unbraid.Network.from_torch(module, x[:8], head="amount", labels=["amount"], task="regression")
    with torch.no_grad():
        last = module.rnn(x)[0][:, -1]
        np.testing.assert_allclose(kind.logits(X), module.kind(last), atol=1e-5)
        np.testing.assert_allclose(amount.predict(X), module.amount(last), atol=1e-5)
    numbers = unbraid.decompose(amount, X, keep=1.0)
    np.testing.assert_allclose(unbraid.compose(numbers).predict(X), amount.predict(X), atol=1e-5)
    turns = np.arange(len(X)) % 4
    classes = unbraid.decompose(kind, (X, turns), keep=1.0)
    assert (unbraid.compose(classes).predict(X) == kind.predict(X)).mean() > 0.99
    with pytest.raises(IncompatibleModules, match="one composition for each output"):
        unbraid.compose([classes["a"], numbers["amount"]])
    with pytest.raises(DataError, match=r"several layers fit: \['amount', 'kind'\].*head="):
        unbraid.Network.from_torch(module, x[:8], task="regression")


@pytest.mark.parametrize("named", [True, False])
def test_each_output_of_a_keras_model_is_a_network(tmp_path, named):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    read = layers.Input((5, 3))
    last = layers.LSTM(8)(read)
    outputs = {"kind": layers.Dense(4, "softmax", name="kind")(last), "amount": layers.Dense(1, name="amount")(last)}
    model = keras.Model(read, outputs if named else list(outputs.values()))
    losses = {"kind": "categorical_crossentropy", "amount": "mse"}
    model.compile(loss=losses if named else list(losses.values()))
    path = tmp_path / "two.keras"
    model.save(path)
    wanted = model.predict(X, verbose=0)
    wanted = wanted if named else dict(zip(outputs, wanted, strict=True))
    kind, amount = (unbraid.load(path, output=name) for name in ("kind", "amount"))
    np.testing.assert_allclose(kind.predict_proba(X), wanted["kind"], atol=1e-5)
    np.testing.assert_allclose(amount.predict(X), wanted["amount"], atol=1e-5)
    assert (kind.task, amount.task) == ("classification", "regression")
    with pytest.raises(ConfigError, match=r"the model has 2 outputs.*output="):
        unbraid.load(path)


def test_one_named_output_is_a_chain(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    read = keras.layers.Input((5, 3))
    model = keras.Model(read, {"amount": keras.layers.Dense(2, name="amount")(keras.layers.GRU(6)(read))})
    model.compile(loss="mse")
    model.save(tmp_path / "one.keras")
    network = unbraid.load(tmp_path / "one.keras")
    np.testing.assert_allclose(network.predict(X), model.predict(X, verbose=0)["amount"], atol=1e-5)
