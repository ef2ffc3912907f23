"""Layers of a user's module that run over other timesteps than the labels have."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.census.torch_patterns.calls import Characters
from tests import reference
from unbraid import DecompositionConfig, Network, compose, decompose
from unbraid.decomposition.removal.observation import observe
from unbraid.decomposition.removal.pooling import identified
from unbraid.decomposition.sampling import Sample
from unbraid.errors import DataError


class Pairs(nn.Module):
    """A tagger of the first sequence that starts from the state of a longer second one."""

    def __init__(self):
        super().__init__()
        self.other, self.rnn, self.fc = (
            nn.GRU(4, 5, batch_first=True),
            nn.GRU(4, 5, batch_first=True),
            nn.Linear(5, 3),
        )

    def forward(self, x, other):
        return self.fc(self.rnn(x, self.other(other)[1])[0])


class Twice(nn.Module):
    """One layer for both sequences."""

    def __init__(self):
        super().__init__()
        self.rnn, self.fc = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x, other):
        return self.fc(self.rnn(x, self.rnn(other)[1])[0])


def spelt(n=30):
    torch.manual_seed(0)
    x = torch.randint(1, 20, (n, 4, 5))
    return x, np.random.default_rng(0).integers(0, 3, (n, 4))


def pairs(n=30):
    torch.manual_seed(0)
    return (torch.randn(n, 4, 4), torch.randn(n, 7, 4)), np.random.default_rng(0).integers(0, 3, (n, 4))


def statistics(network, x, y):
    """Statistics of all layers, where class 0 has all of its timesteps and the negatives are all others."""
    yes = {0: [np.flatnonzero(y[:, t] == 0) for t in range(4)]}
    no = {0: [np.flatnonzero(y[:, t] != 0) for t in range(4)]}
    with observe(network, network.check(x)) as seen:
        values = {name: layer.values.copy() for name, layer in seen.layers.items()}
        config = DecompositionConfig.of(strategy="paper")
        found = identified(network, seen, Sample(np.arange(len(y)), yes, no), config)
    return values, found.statistics


def test_letters_count_for_the_label_of_their_word():
    (x, y), module = spelt(), Characters().eval()
    values, found = statistics(Network.from_torch(module, x[:6]), x, y)
    own = values["spelling.forward"].reshape(3, 4, 5, 30)  # (U, words, letters, examples)
    for sign, here in enumerate((y == 0, y != 0)):
        for unit in range(3):
            seen = own[unit].transpose(2, 0, 1)[here].ravel().astype(np.float64).tolist()
            wanted = reference.central_tendency(seen)
            np.testing.assert_allclose(found["spelling.forward"][0][sign][unit], wanted, rtol=1e-6)


@pytest.mark.parametrize(("kind", "layer", "steps"), [(Pairs, "other", 7), (Twice, "rnn", 11)])
def test_an_example_counts_once_for_each_of_its_labels_where_timesteps_do_not_line_up(kind, layer, steps):
    (x, y), module = pairs(), kind().eval()
    network = Network.from_torch(module, tuple(part[:6] for part in x))
    values, found = statistics(network, x, y)
    assert values[layer].shape[1] == steps
    for sign, here in enumerate((y == 0, y != 0)):
        repeated = np.repeat(values[layer], here.sum(1), axis=-1).astype(np.float64)
        for unit in range(5):
            wanted = reference.central_tendency(repeated[unit].ravel().tolist())
            np.testing.assert_allclose(found[layer][0][sign][unit], wanted, rtol=1e-6)


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("kind", [Characters, Pairs, Twice])
def test_modules_of_such_networks_run(kind, mode):
    x, y = spelt() if kind is Characters else pairs()
    network = Network.from_torch(kind().eval(), x[:6] if kind is Characters else tuple(part[:6] for part in x))
    parts = decompose(network, (x, y), strategy="paper", mode=mode, max_removed=0.3, samples_per_class=20)
    assert compose(parts).margins(x).shape == (30, 4, 3)
    assert any(not mask.all() for part in parts.values() for mask in part.concern.kept.values())


@pytest.mark.parametrize("kind", [Characters, Pairs])
def test_labels_of_another_number_of_timesteps_are_refused(kind):
    x, y = spelt() if kind is Characters else pairs()
    network = Network.from_torch(kind().eval(), x[:6] if kind is Characters else tuple(part[:6] for part in x))
    with pytest.raises(DataError, match="3 timesteps"):
        decompose(network, (x, y[:, :3]), strategy="paper", samples_per_class=20)
