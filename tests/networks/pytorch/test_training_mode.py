"""Networks and modules decide alike in both modes of torch: dropout of users' modules stays off."""

import numpy as np
import pytest
import torch
from torch import nn

from unbraid import Network, compose, decompose, evaluate


class Dropping(nn.Module):
    def __init__(self, functional, norm):
        super().__init__()
        self.rnn = nn.LSTM(3, 6, num_layers=2, dropout=0.5, batch_first=True)
        self.norm = nn.BatchNorm1d(6) if norm else nn.Identity()
        self.drop, self.functional = nn.Dropout(0.5), functional
        self.out = nn.Linear(6, 3)

    def forward(self, x):
        h = self.norm(self.rnn(x)[0][:, -1])
        return self.out(nn.functional.dropout(h, 0.5, self.training) if self.functional else self.drop(h))


@pytest.mark.parametrize(("functional", "norm"), [(False, False), (True, False), (False, True)])
def test_train_changes_no_decision(functional, norm):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 4, 3)).astype(np.float32), np.resize(np.arange(3), 60)
    network = Network.from_torch(Dropping(functional, norm).eval(), x[:4])
    expected = network.predict_proba(x), decompose(network, (x, y), keep=0.5)
    network.train()
    parts = decompose(network, (x, y), keep=0.5)
    for label, module in parts.items():
        np.testing.assert_array_equal(module.train().margins(x), expected[1][label].margins(x))
    np.testing.assert_array_equal(network.predict_proba(x), expected[0])
    composition = compose(parts).train()
    assert evaluate(composition, (x, y), against=network) == evaluate(compose(expected[1]), (x, y), against=network)


def test_recurrent_layers_can_be_trained():
    network = Network.from_torch(Dropping(False, True).eval(), torch.randn(4, 5, 3)).train()
    modes = {name: part.training for name, part in network.body.module.named_modules()}
    assert not any(modes[name] for name in ("", "drop", "norm", "out")) and modes["rnn"]
