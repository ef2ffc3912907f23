"""Votes over margins that were stored once are those of real compositions."""

import numpy as np
import pytest

from benchmarks.deciding import best_step, calibrated
from tests import factory
from unbraid import Composition, decompose


@pytest.fixture
def parts():
    """Modules of a one-output and of a many-output network that read the same inputs."""
    found = []
    for seed, io in enumerate(("M:1", "M:N")):
        network = factory.network(("gru",), io, seed=seed)
        x, y = factory.examples(network, 60, seed)
        found.append(decompose(network, (x, y), strategy="paper", samples_per_class=20))
    return found


def test_a_many_output_module_votes_with_its_best_timestep(parts):
    one, many = parts
    x = np.random.default_rng(5).integers(1, factory.VOCABULARY, (50, factory.WORDS))
    mixed = Composition({"one": one[0], "many": many[1]})
    columns = [best_step(Composition({"a": module}).margins(x)) for module in (one[0], many[1])]
    assert np.array_equal(np.concatenate(columns, axis=1), mixed.margins(x))


def test_calibrated_votes_are_those_of_a_calibrated_composition(parts):
    one, many = parts
    rng = np.random.default_rng(6)
    x, few = (rng.integers(1, factory.VOCABULARY, (n, factory.WORDS)) for n in (50, 12))
    truth = np.arange(12) % 2
    mixed = Composition({"one": one[0], "many": many[1]})
    wanted = mixed.calibrated(few, truth)
    votes = calibrated(mixed.margins(x), (mixed.margins(few), truth), ["one", "many"])
    np.testing.assert_allclose(votes, wanted.margins(x), rtol=1e-4, atol=1e-5)
    assert np.array_equal(votes.argmax(-1), wanted.predict_index(x))
