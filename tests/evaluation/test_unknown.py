"""Scores of the rejection of unknown inputs, against loops over all pairs."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import unbraid
from tests import strangers
from unbraid import compose, evaluate
from unbraid.errors import DataError, IncompatibleModules
from unbraid.evaluation.unknown import auroc, false_positive_rate

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")
SCORES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=15)


@given(SCORES, SCORES)
def test_auroc_is_the_share_of_pairs_in_the_right_order(known, unknown):
    pairs = [(a > b) + (a == b) / 2 for a in known for b in unknown]
    assert auroc(np.asarray(known), np.asarray(unknown)) == pytest.approx(np.mean(pairs))


@given(SCORES, SCORES, st.sampled_from([0.5, 0.95, 1.0]))
def test_the_false_positive_rate_is_that_of_the_strictest_threshold(known, unknown, recall):
    fits = [t for t in known if np.mean([k >= t for k in known]) >= recall]
    expected = np.mean([u >= max(fits) for u in unknown])
    assert false_positive_rate(np.asarray(known), np.asarray(unknown), recall) == pytest.approx(expected)


@pytest.fixture(scope="module")
def composition():
    return compose(strangers.parts("travel"))


def test_unknown_inputs_are_scored_apart(composition):
    own, foreign = strangers.texts("travel", 60, 4), ["zebras graze silently"] * 20
    y = [*composition.predict(own), *["other"] * 20]
    result = evaluate(composition, ([*own, *foreign], y), unknown="other")
    assert result.accuracy == 1
    assert result.decisions == 60
    assert result.left_out == 0
    scores = result.unknown
    assert (scores.known, scores.unknown, scores.accuracy) == (60, 20, 1)
    typical = composition.typicality([*own, *foreign])
    assert scores.auroc == auroc(typical[:60], typical[60:]) > 0.9
    assert scores.rejected_unknown == (typical[60:] < 0.05).mean()
    assert scores.rejected_known == (typical[:60] < 0.05).mean()
    assert scores.accuracy_with_rejection == 1 - scores.rejected_known
    assert "AUROC" in str(result)
    assert result.to_dict()["unknown"]["auroc"] == scores.auroc


def test_a_network_is_compared_without_the_unknown_inputs(composition):
    network = composition["travel 0"].parent
    own, foreign = strangers.texts("travel", 60, 4), ["zebras graze silently"] * 20
    y = [*network.predict(own), *["other"] * 20]
    result = evaluate(composition, ([*own, *foreign], y), against=network, unknown="other")
    assert result.monolithic_accuracy == 1
    assert result.unknown.unknown == 20


def test_without_the_argument_they_are_left_out(composition):
    own = strangers.texts("travel", 30, 4)
    y = [*composition.predict(own), "other"]
    result = evaluate(composition, ([*own, "zebras"], y))
    assert result.left_out == 1
    assert result.unknown is None
    assert result.to_dict()["unknown"] is None


def test_wrong_labels_are_refused(composition):
    own = strangers.texts("travel", 30, 4)
    with pytest.raises(DataError, match="no example"):
        evaluate(composition, (own, composition.predict(own)), unknown="other")
    with pytest.raises(DataError, match="no module has"):
        evaluate(composition, (own, composition.predict(own)), unknown="travel 0")
    plain = compose(strangers.parts("travel", domain=False))
    with pytest.raises(IncompatibleModules):
        evaluate(plain, ([*own, "zebras"], [*plain.predict(own), "other"]), unknown="other")


def test_numbers_have_no_unknown_inputs():
    from unbraid.demo.small import small_forecaster

    network, x, y = small_forecaster()
    with pytest.raises(IncompatibleModules, match="numbers"):
        evaluate(compose(unbraid.decompose(network, x)), (x, y), unknown="other")


def test_labels_as_predict_returns_them():
    """Numbers with a text for unknown inputs are an array of objects."""
    parts, x, _ = strangers.numbered()
    composition = compose(parts)
    named = [*composition.predict(x[:150]).tolist(), *["other"] * 50]
    found = [evaluate(composition, (x, each), unknown="other").unknown for each in (named, np.asarray(named, object))]
    assert found[0] == found[1]
    assert found[0].unknown == 50


def test_only_unknown_inputs(composition):
    with pytest.raises(DataError, match="all examples have the label of unknown inputs"):
        evaluate(composition, (["zebras graze", "zebras"], ["other"] * 2), unknown="other")
