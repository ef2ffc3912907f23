"""Typicality: a share of held-out inputs, in order also below all of them; and the choice of a threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unbraid.errors import FormatError
from unbraid.modules.domain.typicality import FEWEST, QUANTILES, Typicality, best_threshold


def scores(count=1000, seed=0):
    rng = np.random.default_rng(seed)
    return {"margin": rng.normal(3, 2, count), "familiar": rng.uniform(0.5, 1, count)}


def test_it_is_the_share_of_held_out_inputs_that_score_lower():
    held = scores()
    found = np.sort(Typicality.of(held)(held))
    np.testing.assert_allclose(found, np.arange(1000) / 999, atol=0.012)
    assert (found < 0.05).mean() == pytest.approx(0.05, abs=0.005)


def test_it_falls_below_all_held_out_inputs():
    typicality = Typicality.of(scores())
    margins = np.asarray([-30.0, -60, -120, -240])
    found = typicality({"margin": margins, "familiar": np.full(4, 0.7)})
    assert (np.diff(found) < 0).all()
    assert 0 <= found.min() <= found.max() < 0.01


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=20))
def test_a_higher_score_is_never_less_typical(margins):
    typicality = Typicality.of(scores())
    found = typicality({"margin": np.sort(margins), "familiar": np.full(len(margins), 0.7)})
    assert (np.diff(found) >= 0).all()
    assert found.min() >= 0
    assert found.max() <= 1


def test_infinite_scores_give_numbers():
    found = Typicality.of(scores())({"margin": np.asarray([-np.inf, np.inf]), "familiar": np.asarray([0.7, 0.7])})
    assert found.tolist() == [0, 1]


def test_constant_scores_and_few_inputs():
    same = Typicality.of({"familiar": np.ones(20)})
    assert same({"familiar": np.ones(2)}).min() > same({"familiar": np.full(1, 0.5)})[0]
    assert Typicality.of({"familiar": np.ones(FEWEST - 1)}) is None
    assert Typicality.of({}) is None


@pytest.mark.parametrize(
    ("scales", "quantiles"),
    [
        ({}, np.arange(QUANTILES)),
        ({"other": (0, 1)}, np.arange(QUANTILES)),
        ({"margin": (0, 0)}, np.arange(QUANTILES)),
        ({"margin": (np.nan, 1)}, np.arange(QUANTILES)),
        ({"margin": (0, 1)}, np.arange(QUANTILES)[::-1]),
        ({"margin": (0, 1)}, np.arange(QUANTILES - 1)),
        ({"margin": (0, 1)}, np.full(QUANTILES, np.inf)),
    ],
)
def test_values_that_cannot_be_are_refused(scales, quantiles):
    with pytest.raises(FormatError):
        Typicality(scales, quantiles)


def test_a_threshold_rejects_a_share_of_the_known_inputs():
    known = np.linspace(0, 1, 101)
    for share in (0.0, 0.05, 0.5):
        assert (known < best_threshold(known, None, share)).mean() == pytest.approx(share, abs=0.011)


def test_a_threshold_separates_known_from_unknown_inputs():
    known, unknown = np.asarray([0.4, 0.6, 0.9]), np.asarray([0.0, 0.1, 0.2])
    assert best_threshold(known, unknown, 0.05) == pytest.approx(0.3)


def test_a_score_without_evidence_is_an_error():
    typicality = Typicality.of(scores())
    with pytest.raises(FormatError, match="no evidence for the score 'familiar'"):
        typicality({"margin": np.zeros(3)})


def test_rounding_does_not_matter_among_equal_inputs():
    held = {"margin": np.repeat([1.0, 2, 3], 100), "familiar": np.repeat([0.5, 0.7, 0.9], 100)}
    typicality = Typicality.of(held)
    noise = np.random.default_rng(0).normal(0, 1e-6, 300)
    found = typicality({"margin": held["margin"] + noise, "familiar": held["familiar"]}).reshape(3, 100)
    assert np.ptp(found, axis=1).max() < 1e-3
    np.testing.assert_allclose(found[:, 0], [1 / 3, 2 / 3, 1], atol=0.02)  # the share that is at most as typical
