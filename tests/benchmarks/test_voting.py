"""Votes from stored margins equal the votes of compositions."""

import numpy as np
import pytest

from benchmarks.experiments.voting import calibrated, chosen, joined, refereed
from tests import factory
from unbraid import Composition, compose, decompose
from unbraid.modules.voting.calibration import fit


@pytest.fixture
def parts():
    """Make modules of a network with one output and of a network with many outputs, for the same inputs."""
    found = []
    for seed, io in enumerate(("M:1", "M:N")):
        network = factory.network(("gru",), io, seed=seed)
        x, y = factory.examples(network, 60, seed)
        found.append(decompose(network, (x, y), strategy="paper", samples_per_class=20))
    return found


def test_calibrated_votes_are_those_of_a_calibrated_composition(parts):
    one, many = parts
    rng = np.random.default_rng(6)
    x, few = (rng.integers(1, factory.VOCABULARY, (n, factory.WORDS)) for n in (50, 12))
    truth = np.arange(12) % 2
    mixed = Composition({"one": one[0], "many": many[1]})
    wanted = mixed.with_calibration(few, truth)
    votes = calibrated(mixed.margins(x), (mixed.margins(few), truth), ["one", "many"])
    np.testing.assert_allclose(votes, wanted.margins(x), rtol=1e-4, atol=1e-5)
    assert np.array_equal(votes.argmax(-1), wanted.predict_index(x))


def test_refereed_votes_are_those_of_a_refereed_composition(parts):
    one, many = parts
    rng = np.random.default_rng(6)
    x, few = (rng.integers(1, factory.VOCABULARY, (n, factory.WORDS)) for n in (50, 30))
    truth = np.arange(30) % 2
    wanted = Composition({"one": one[0], "many": many[1]}).with_referee(few, truth)
    said, known = (joined([compose(one).evidence(part), compose(many).evidence(part)]) for part in (x, few))
    places = [0, len(one) + 1]
    said, known = (chosen(e, places, np.full(len(e.margins), True)) for e in (said, known))
    votes = refereed(said, (known, truth), fit(known.margins, truth, ["one", "many"]), ["one", "many"])
    np.testing.assert_allclose(votes, wanted.margins(x), rtol=1e-3, atol=1e-4)
    assert np.array_equal(votes.argmax(-1), wanted.predict_index(x))
