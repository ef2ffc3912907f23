"""PyTorch modules that predict numbers: ``task="regression"``."""

import numpy as np
import pytest
import torch
from torch import nn

from unbraid import Network
from unbraid.errors import ConfigError, DataError, UnbraidWarning, UnsupportedLayer

FEATURES, HIDDEN, COLUMNS, STEPS = 4, 8, 3, 6
X = torch.from_numpy(np.random.default_rng(0).normal(size=(12, STEPS, FEATURES)).astype(np.float32))


class Forecaster(nn.Module):
    def __init__(self, columns=COLUMNS, curve=torch.clone):
        super().__init__()
        self.rnn, self.out, self.curve = nn.LSTM(FEATURES, HIDDEN, batch_first=True), nn.Linear(HIDDEN, columns), curve

    def forward(self, x):
        return self.curve(self.out(self.rnn(x)[0][:, -1]))


class PerStep(Forecaster):
    def forward(self, x):
        return self.curve(self.out(self.rnn(x)[0]))


class Flat(Forecaster):
    def forward(self, x):
        return super().forward(x).squeeze(-1)


class Scaled(Forecaster):
    def forward(self, x):
        return super().forward(x) * 3 + 1


class Residual(Forecaster):
    def forward(self, x):
        return super().forward(x) + x[:, -1, :COLUMNS]


class TwoTasks(Forecaster):
    """A head of classes beside the numbers."""

    def __init__(self):
        super().__init__()
        self.kind = nn.Linear(HIDDEN, 5)

    def forward(self, x):
        last = self.rnn(x)[0][:, -1]
        return self.kind(last).softmax(-1), self.out(last)


def made(kind, *given):
    torch.manual_seed(0)
    return kind(*given).eval()


@pytest.mark.parametrize("curve", [torch.clone, torch.sigmoid, torch.tanh, torch.relu])
@pytest.mark.parametrize("columns", [1, COLUMNS])
@pytest.mark.parametrize("kind", [Forecaster, PerStep])
def test_numbers_are_those_of_the_module(kind, columns, curve):
    module = made(kind, columns, curve)
    network = Network.from_torch(module, X, task="regression")
    with torch.no_grad():
        wanted = module(X).numpy()
    np.testing.assert_allclose(network.predict(X), wanted, atol=1e-6)
    assert network.task == "regression" and network.labels == list(range(columns))


def test_a_result_without_the_column_axis_has_one_here():
    module = made(Flat, 1)
    network = Network.from_torch(module, X, task="regression", labels=["price"])
    with torch.no_grad():
        np.testing.assert_allclose(network.predict(X)[:, 0], module(X).numpy(), atol=1e-6)
    assert network.predict(X).shape == (len(X), 1) and network.labels == ["price"]


def test_heads_of_classes_are_not_chosen_for_numbers():
    module = made(TwoTasks)
    with pytest.warns(UnbraidWarning, match="also returns the scores of out"):
        assert Network.from_torch(module, X).spec.head == "kind"
    with pytest.warns(UnbraidWarning, match="also returns the scores of kind"):
        assert Network.from_torch(module, X, task="regression").spec.head == "out"


@pytest.mark.parametrize("kind", [Scaled, Residual])
def test_steps_behind_the_output_layer_are_refused(kind):
    with pytest.raises(DataError, match=r"output layer was not found.*head="):
        Network.from_torch(made(kind), X, task="regression")
    with pytest.raises(UnsupportedLayer, match="after head='out' the module changes the numbers"):
        Network.from_torch(made(kind), X, head="out", task="regression")


def test_a_module_that_changes_the_numbers_of_some_inputs_is_refused_at_these():
    class Clipped(Forecaster):
        def forward(self, x):
            return super().forward(x).clamp(max=2.0)

    module = made(Clipped)
    with torch.no_grad():
        module.out.bias += 0.5 - module(X).max()  # nothing is clipped on X
    network = Network.from_torch(module, X, task="regression")
    network.predict(X)
    with torch.no_grad():
        network.head.bias += 10.0
        network.body.module.out.bias += 10.0
    with pytest.raises(DataError, match="the module's result and its output layer 'out' differ in 12 of 12"):
        network.predict(X)


def test_calls_for_classes_are_refused():
    network = Network.from_torch(made(Forecaster), X, task="regression")
    for call in (network.predict_proba, network.predict_index):
        with pytest.raises(DataError, match=r"a regression gives numbers.*call predict"):
            call(X)


def test_bad_tasks_and_outputs():
    for task in ("labels", "ranking", 3):
        with pytest.raises(ConfigError, match=r"task=.*expected 'classification' or 'regression'"):
            Network.from_torch(made(Forecaster), X, task=task)
    with pytest.raises(ConfigError, match="output='softmax': expected 'linear' or 'sigmoid' or 'tanh' or 'relu'"):
        Network.from_torch(made(Forecaster), X, task="regression", output="softmax")
    named = Network.from_torch(made(Forecaster, 1, torch.tanh), X, task="regression", output="tanh")
    assert named.spec.output == "linear+tanh"
