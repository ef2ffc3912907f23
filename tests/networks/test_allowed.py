"""Restricted classes: against decisions among the allowed columns only."""

import numpy as np
import pytest

import unbraid
from tests import factory
from unbraid.demo.small import small_examples, small_forecaster, small_modules, small_network
from unbraid.errors import DataError
from unbraid.networks.allowed import restricted

LABELS = ["travel", "banking", "weather"]


def masks(n, seed=0):
    """Random booleans (N, 3), at least one for each example, and the same as lists of labels."""
    rng = np.random.default_rng(seed)
    mask = rng.random((n, 3)) < 0.5
    mask[np.arange(n), rng.integers(0, 3, n)] = True
    return mask, [[label for label, one in zip(LABELS, row, strict=True) if one] for row in mask]


@pytest.mark.parametrize("model", ["network", "composition", "votes"])
def test_decisions_are_the_best_of_the_allowed_classes(model):
    parts, x, _ = small_modules()
    vote = "probability" if model == "votes" else "margin"
    chosen = parts.network if model == "network" else unbraid.compose(parts, vote=vote)
    scores = chosen.logits(x) if model == "network" else chosen.margins(x)
    mask, lists = masks(len(x))
    wanted = [max(np.flatnonzero(row), key=lambda k, s=s: s[k]) for row, s in zip(mask, scores, strict=True)]
    for allowed in (mask, mask.tolist(), lists, [tuple(row) for row in lists], (set(row) for row in lists)):
        np.testing.assert_array_equal(chosen.predict_index(x, allowed), wanted)
    np.testing.assert_array_equal(chosen.predict(x, allowed=lists), np.asarray(LABELS)[wanted])
    shares = chosen.predict_proba(x, allowed=mask)
    whole = chosen.predict_proba(x) * mask
    assert (shares[~mask] == 0).all()
    np.testing.assert_allclose(shares, whole / whole.sum(1, keepdims=True), atol=1e-5)


def test_one_row_holds_for_all_examples():
    parts, x, _ = small_modules()
    row = np.array([False, True, True])
    np.testing.assert_array_equal(
        parts.network.predict_index(x, row), parts.network.predict_index(x, np.tile(row, (len(x), 1)))
    )


def test_classes_with_saturated_votes_are_never_left():
    margins = restricted(np.array([[-800.0, 50.0]], np.float32), [["a"]], ["a", "b"])
    parts, _, _ = small_modules()
    pair = unbraid.compose([parts["travel"], parts["banking"]], vote="probability")
    assert pair.decide(margins) == [0]


def test_one_column_for_two_classes():
    network = small_network(labels=["no", "yes"])
    x, _ = small_examples(network)
    assert set(network.predict(x, allowed=[["yes"]] * len(x))) == {"yes"}
    single = np.array([[3.0], [-3.0], [3.0], [-3.0]], np.float32)
    allowed = np.array([[True, False], [False, True], [True, True], [True, True]])
    np.testing.assert_array_equal(restricted(single, allowed, ["no", "yes"])[:, 0], [-np.inf, np.inf, 3, -3])


def test_timesteps_share_the_classes_of_their_example_or_have_their_own():
    scores = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)
    scores[0, 3:] = np.nan
    mask, _ = masks(4)
    found = restricted(scores, mask, LABELS)
    for n in range(4):
        np.testing.assert_array_equal(found[n], np.where(mask[n], scores[n], -np.inf))
    steps = np.random.default_rng(1).random((4, 5, 3)) < 0.8
    steps[..., 0] = True
    np.testing.assert_array_equal(restricted(scores, steps, LABELS), np.where(steps, scores, -np.inf))


@pytest.mark.parametrize(
    ("allowed", "text"),
    [
        (np.ones((3, 3), bool), "has shape"),
        (np.ones((120, 2), bool), "has shape"),
        (np.ones((120, 5, 3), bool), "has shape"),
        (np.ones((120, 3)), "holds float64"),
        (np.zeros((120, 3), bool), "no class for 120 decisions"),
        ([["travel"]], "1 lists of labels"),
        ([["traval"]] * 120, "Did you mean 'travel'"),
        ([[None]] * 120, "has no module"),
        (["travel"] * 120, "holds"),
        ("travel", "expected booleans"),
        (7, "expected booleans"),
        ([[True], [True, False]] * 60, "different lengths"),
        ([[]] * 120, "no class|has shape"),
    ],
)
def test_what_does_not_fit_is_refused(allowed, text):
    parts, x, _ = small_modules()
    for model in (parts.network, unbraid.compose(parts)):
        with pytest.raises(DataError, match=text):
            model.predict(x, allowed=allowed)


def test_a_regression_has_no_classes():
    network, x, _ = small_forecaster()
    with pytest.raises(DataError, match="regression"):
        network.predict(x, allowed=np.ones((len(x), 2), bool))


def test_independent_labels_that_are_not_allowed_are_never_predicted():
    network = factory.network(("gru",), "M:1", output="sigmoid", labels=LABELS)
    x, y = factory.examples(network, 60)
    mask, _ = masks(60)
    whole = network.predict(x)
    np.testing.assert_array_equal(network.predict(x, allowed=mask), whole & mask)
    composition = unbraid.compose(unbraid.decompose(network, (x, y), keep=1.0))
    np.testing.assert_array_equal(composition.predict(x, allowed=mask), composition.predict(x) & mask)
    assert (composition.predict_proba(x, allowed=mask)[~mask] == 0).all()
