"""Units of dense layers are removed one by one; the cost is that of the best linear prediction by the kept units."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from unbraid.decomposition.reconstruction.elimination import elimination_scores
from unbraid.decomposition.reconstruction.folding import RIDGE


def scores_of(values, gradients):
    return elimination_scores(
        np.cov(values.T, bias=True).reshape([values.shape[1]] * 2), gradients.T @ gradients / len(gradients)
    )


def literal(values, gradients):
    """The same by a new regression for every candidate: the summed cost when each unit is removed."""
    count, units = values.shape
    centred = values - values.mean(0)
    ridge = RIDGE * np.mean(np.diagonal(centred.T @ centred / count))
    covariance, metric = centred.T @ centred / count, gradients.T @ gradients / count
    shifted = covariance + ridge * np.eye(units)
    kept, scores, total = list(range(units)), np.zeros(units), 0.0

    def prediction(rows):
        """Coefficients (H, H) of all units on the kept ``rows``, zero elsewhere."""
        found = np.zeros((units, units))
        found[:, rows] = shifted[:, rows] @ np.linalg.inv(shifted[np.ix_(rows, rows)]) if rows else 0
        return found

    while kept:
        costs, now = [], prediction(kept)
        for unit in kept:
            rest = [k for k in kept if k != unit]
            own = shifted[unit, unit]
            if rest:
                own -= shifted[unit, rest] @ np.linalg.inv(shifted[np.ix_(rest, rest)]) @ shifted[rest, unit]
            effect = now[:, unit]
            costs.append(max(own - ridge, 0) * (effect @ metric @ effect))
        unit = kept[int(np.argmin(costs))]
        total += min(costs)
        scores[unit] = total
        kept.remove(unit)
    return scores


@settings(max_examples=40)
@given(units=st.integers(1, 6), seed=st.integers(0, 999))
def test_scores_equal_those_of_a_regression_for_every_candidate(units, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(40, units)) @ rng.normal(size=(units, units)) + 1
    gradients = rng.normal(size=(40, units))
    found, wanted = scores_of(values, gradients), literal(values, gradients)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)


def test_of_two_equal_units_one_goes_first_and_the_other_last():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(200, 3))
    values = np.column_stack([values, 2 * values[:, 0]])
    gradients = np.column_stack([np.full(200, 5.0), rng.normal(size=200), rng.normal(size=200), np.full(200, 2.5)])
    scores = scores_of(values, gradients)
    assert scores.argmin() in (0, 3) and scores.argmax() in (0, 3)


def test_units_that_never_change_are_removed_first():
    rng = np.random.default_rng(0)
    values = np.maximum(rng.normal(size=(100, 5)), 0)
    values[:, 1], values[:, 3] = 0, 2.5
    scores = scores_of(values, rng.normal(size=(100, 5)))
    assert set(scores.argsort()[:2]) == {1, 3}
