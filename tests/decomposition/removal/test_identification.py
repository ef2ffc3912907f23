import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from unbraid import DecompositionConfig
from unbraid.decomposition.removal.central_tendency import central_tendency
from unbraid.decomposition.removal.identification import (
    active_rate,
    open_rate,
    remove_logistic,
    remove_rectified,
)
from unbraid.decomposition.removal.tangling import restore_tangled
from unbraid.decomposition.sizes import capped

# eighths are exact in float32, so that ties at the outlier bound are ties for the oracle too
eighths = st.integers(-40, 40).map(lambda i: i / 8)
observations = st.lists(eighths, min_size=1, max_size=25)
rates = st.sampled_from([0, 0.125, 0.25, 0.5, 0.625, 0.75, 1])
caps = st.sampled_from([0, 0.05, 0.07, 0.1, 0.2, 0.29, 0.3, 1 / 3, 0.5, 0.9, 0.99])
unobserved = st.one_of(st.none(), rates)


def paper(**settings):
    return DecompositionConfig.of(**settings)


def as_array(statistics):
    return np.array([np.nan if s is None else s for s in statistics], np.float64)


@given(values=observations)
def test_tendency_equals_the_oracle(values):
    found = central_tendency(np.array([values], np.float32))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, [reference.central_tendency(values)], rtol=1e-12, atol=1e-15)


@given(rows=st.lists(st.lists(eighths, min_size=6, max_size=6), min_size=1, max_size=8))
def test_tendency_of_many_nodes_is_each_nodes_own(rows):
    found = central_tendency(np.array(rows, np.float32).reshape(1, len(rows), 6))
    np.testing.assert_allclose(found, [[reference.central_tendency(r) for r in rows]], rtol=1e-12, atol=1e-15)


@given(seed=st.integers(0, 9999), count=st.integers(1, 400), scale=st.sampled_from([1e-20, 1e-3, 1, 1e10]))
def test_tendency_of_any_values_equals_the_oracle(seed, count, scale):
    values = (np.random.default_rng(seed).standard_cauchy((3, count)) * scale).astype(np.float32)
    wanted = [reference.central_tendency(v.astype(np.float64).tolist()) for v in values]
    np.testing.assert_allclose(central_tendency(values), wanted, rtol=1e-6)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([1, -1, 1, -1], 1),  # of the absolute values
        ([2, 3, 3, 4, 100], 3),  # 100 is an outlier: |100 - 3| / 1 >= 2
        ([1, 2, 3, 4, 5], 3),  # 1 and 5 lie exactly at 2 MAD, and go
        ([5, 5, 5, 5, 9], 5.8),  # MAD 0: nothing is dropped
        ([0, 0, 0], 0),
        ([7], 7),
    ],
)
def test_tendency_at_known_points(values, wanted):
    assert central_tendency(np.array([values], np.float32))[0] == pytest.approx(wanted, abs=1e-6)


@given(values=st.lists(st.sampled_from([-1.0, 0.0, 0.25, 0.5, 0.75, 1e-30]), min_size=1, max_size=20))
def test_rates_equal_the_oracle_to_the_last_bit(values):
    array = np.array([values], np.float32)
    assert active_rate(array)[0] == reference.active_rate(values)
    assert open_rate(array)[0] == reference.open_rate(values)


@given(pairs=st.lists(st.tuples(unobserved, unobserved), min_size=1, max_size=24), cap=caps, over=st.booleans())
def test_logistic_removal_equals_the_oracle(pairs, cap, over):
    positive, negative = zip(*pairs, strict=True)
    overrun = 1.1 if over else None
    found = remove_logistic(as_array(positive), as_array(negative), paper(max_removed=cap, overrun=overrun))
    assert found.tolist() == reference.remove_logistic(positive, negative, cap, overrun)


@given(pairs=st.lists(st.tuples(unobserved, unobserved), min_size=1, max_size=24), cap=caps)
def test_rectified_removal_equals_the_oracle(pairs, cap):
    positive, negative = zip(*pairs, strict=True)
    both = as_array(positive), as_array(negative)
    found = remove_rectified(*both, paper(max_removed=cap))
    assert found.tolist() == reference.remove_rectified_paper(positive, negative, cap)
    found = remove_rectified(*both, DecompositionConfig.release(max_removed=cap))
    assert found.tolist() == reference.remove_rectified_release(positive, negative, cap)


@given(rows=st.lists(st.lists(st.tuples(unobserved, unobserved), min_size=5, max_size=5), min_size=1, max_size=4))
def test_timesteps_are_judged_each_by_itself(rows):
    table = np.array([[[np.nan if s is None else s for s in pair] for pair in row] for row in rows], np.float64)
    for config in (paper(max_removed=0.4), DecompositionConfig.release(max_removed=0.3)):
        for remove in (remove_logistic, remove_rectified):
            together = remove(table[..., 0], table[..., 1], config)
            alone = [remove(row[:, 0], row[:, 1], config) for row in table]
            np.testing.assert_array_equal(together, alone)


@given(nodes=st.integers(1, 300), cap=caps)
def test_the_cap_is_where_the_removed_share_has_reached_it(nodes, cap):
    removed = 0
    while removed / nodes < cap:
        removed += 1
    assert capped(nodes, cap) == removed
    assert math.floor(cap * nodes) <= removed <= math.floor(cap * nodes) + 1


def test_smallest_difference_goes_first_and_equal_ones_in_order():
    positive = np.array([0.5, 0.1, 0.4, 0.1, 0.0])
    negative = np.array([0.4, 0.3, 0.6, 0.3, 0.0])  # d = .1, -.2, -.2, -.2, 0
    gone = remove_logistic(positive, negative, paper(max_removed=0.4))
    assert np.flatnonzero(gone).tolist() in ([1, 2], [1, 3])  # .4 - .6 is not .1 - .3 to the last bit
    assert not remove_logistic(positive, negative, paper(max_removed=0)).any()
    assert remove_logistic(positive, negative, paper(max_removed=0.9)).tolist() == [False, True, True, True, False]
    tied = np.zeros(5), np.array([0.25, 0.25, 0, 0.25, 0.25])
    assert remove_logistic(*tied, paper(max_removed=0.6)).tolist() == [True, True, False, True, False]


def test_the_overrun_goes_past_the_cap_but_only_for_near_equals():
    d = -np.array([1.0, 0.95, 0.92, 0.5, 0.95])
    config = DecompositionConfig.release(max_removed=0.2)
    assert remove_logistic(d, np.zeros(5), config).tolist() == [True, True, True, False, True]
    assert remove_logistic(d, np.zeros(5), config.changed(overrun=None)).tolist() == [True] + [False] * 4


def test_what_was_never_observed_stays():
    nan, zero = np.full(4, np.nan), np.zeros(4)
    assert not remove_logistic(nan, zero + 1, paper(max_removed=0.9)).any()
    assert not remove_logistic(zero, nan, paper(max_removed=0.9)).any()
    assert not remove_rectified(nan, zero, paper(max_removed=0.9)).any()


def test_tangled_nodes_come_back_after_the_cap_was_counted():
    positive, negative = np.array([0, 0, 0, 1.0]), np.array([0.5, 0, 0, 0])
    assert remove_rectified(positive, negative, paper(max_removed=0.5)).tolist() == [False, True, False, False]


@given(pairs=st.lists(st.tuples(st.booleans(), unobserved), min_size=1, max_size=10))
def test_tangling_restores_exactly_the_active_ones(pairs):
    removed, rate = zip(*pairs, strict=True)
    found = restore_tangled(np.array(removed), as_array(rate))
    assert found.tolist() == [r and not (a is not None and a > 0) for r, a in pairs]
