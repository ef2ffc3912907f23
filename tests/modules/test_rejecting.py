"""Unknown inputs: labels, probabilities, thresholds and refusals."""

import numpy as np
import pytest

import unbraid
from tests import strangers
from unbraid import Composition, compose
from unbraid.errors import ConfigError, DataError, IncompatibleModules, UnbraidError

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")


@pytest.fixture(scope="module")
def mixed():
    parts = [strangers.parts(name, seed=n) for n, name in enumerate(strangers.SUBJECTS)]
    return compose([module for own in parts for module in own.values()])


OWN = [*strangers.texts("travel", 100, 7), *strangers.texts("court", 100, 8)]
FOREIGN = ["quantum chromodynamics lattice gauge", "zebras graze silently"] * 10


def test_foreign_texts_are_less_typical(mixed):
    own, foreign = mixed.typicality(OWN), mixed.typicality(FOREIGN)
    assert own.shape == (200,)
    assert 0 <= own.min() <= own.max() <= 1
    assert foreign.max() < np.quantile(own, 0.1)
    assert (own < 0.05).mean() < 0.2


def test_unknown_inputs_get_the_label(mixed):
    plain, found = mixed.predict(OWN), mixed.predict(OWN, unknown="other")
    rejected = mixed.typicality(OWN) < 0.05
    assert (found[rejected] == "other").all()
    assert (found[~rejected] == plain[~rejected]).all()
    assert (mixed.predict(FOREIGN, unknown="other") == "other").all()
    assert (mixed.predict(OWN, unknown="other", threshold=0.0) == plain).all()
    assert (mixed.predict(OWN, unknown="other", threshold=1.0)[mixed.typicality(OWN) < 1] == "other").all()


def test_numbers_stay_numbers():
    parts, x, _ = strangers.numbered()
    found = compose(parts).predict(x, unknown=-7)
    assert found.dtype.kind == "i"
    assert set(found.tolist()) <= {-7, 0, 1, 2}


def test_probabilities_have_one_more_column(mixed):
    found, plain = mixed.predict_proba(OWN, unknown=True), mixed.predict_proba(OWN)
    assert found.shape == (200, 7)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert ((found[:, -1] > 0.5) == (mixed.predict(OWN, unknown="other") == "other")).all()
    np.testing.assert_allclose(found[:, :-1] / found[:, :-1].sum(1, keepdims=True), plain, atol=1e-4)
    np.testing.assert_array_equal(mixed.predict_proba(OWN, unknown=True, threshold=0.0)[:, -1], 0)


def test_thresholds_are_chosen_from_inputs(mixed):
    fitted = mixed.with_threshold(OWN, rejected=0.25)
    assert (fitted.predict(OWN, unknown="other") == "other").mean() == pytest.approx(0.25, abs=0.02)
    few = mixed.with_threshold(OWN, FOREIGN[:4])
    assert (few.predict(FOREIGN, unknown="other") == "other").all()
    assert few.drop("court 0").threshold == few.threshold
    assert few.without_referee().threshold == few.threshold


def test_only_allowed_classes_compete(mixed):
    found = mixed.predict(OWN, allowed=[["travel 0", "court 0"]] * len(OWN), unknown="other", threshold=0.0)
    assert set(found.tolist()) <= {"travel 0", "court 0"}


def test_texts_and_indices_are_equally_typical():
    composition = compose(strangers.parts("travel"))
    texts = strangers.texts("travel", 30, 4)
    indices = composition["travel 0"].parent.vocabulary.encode(texts)[0]
    np.testing.assert_array_equal(composition.typicality(texts), composition.typicality(indices))


def test_a_composition_of_some_classes_rejects_the_others():
    network = strangers.network("travel", units=12, cells=("gru",))
    network.head.weight.data *= 8  # confident decisions
    sample = strangers.texts("travel", 400)
    y = network.predict_index(sample)
    few = int(np.bincount(y, minlength=3).argmax())
    parts = unbraid.decompose(network, (sample, y), keep=1.0, missing="skip")
    texts = strangers.texts("travel", 300, 5)
    mine = network.predict_index(texts) == few
    typical = compose([parts[network.labels[few]]]).typicality(texts)
    assert np.median(typical[mine]) > np.median(typical[~mine])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"unknown": "travel 0"}, DataError),
        ({"unknown": True}, DataError),
        ({"unknown": 1.5}, DataError),
        ({"unknown": "a\0"}, DataError),
        ({"unknown": "other", "threshold": -0.1}, ConfigError),
        ({"unknown": "other", "threshold": 1.1}, ConfigError),
        ({"unknown": "other", "threshold": "high"}, ConfigError),
        ({"unknown": "other", "threshold": float("nan")}, ConfigError),
        ({"threshold": 0.5}, ConfigError),
    ],
)
def test_wrong_arguments_are_refused(mixed, arguments, error):
    with pytest.raises(error):
        mixed.predict(OWN[:2], **arguments)


def test_wrong_thresholds_are_refused(mixed):
    with pytest.raises(ConfigError):
        Composition(mixed.modules_by_label, threshold=2)
    with pytest.raises(ConfigError):
        mixed.with_threshold(OWN, rejected=1.0)
    with pytest.raises(ConfigError):
        mixed.predict_proba(OWN, threshold=0.5)
    with pytest.raises(UnbraidError):
        mixed.with_threshold([])


def test_modules_without_evidence_reject_nothing():
    plain = compose(strangers.parts("travel", domain=False))
    with pytest.raises(IncompatibleModules, match="domain=True"):
        plain.predict(OWN, unknown="other")


def test_one_decision_between_classes_is_needed():
    tagger = compose(strangers.parts("court", io="M:N"))
    with pytest.raises(IncompatibleModules, match="one decision"):
        tagger.predict(OWN, unknown="other")


def test_fused_modules_are_as_typical_as_those_that_they_were_made_from(mixed):
    """Their features are others, and typicality was measured on the former."""
    fused, winners = mixed.fuse(), mixed.predict_index(OWN)
    np.testing.assert_array_equal(fused.typicality(OWN, winners), mixed.typicality(OWN, winners))
    assert (fused.predict(FOREIGN, unknown="other") == "other").all()


def test_equal_inputs_of_a_sample_that_repeats_itself_are_equally_typical():
    network = strangers.network("travel")
    texts = ["book a flight", "the old harbour", "to rome"] * 60
    parts = unbraid.decompose(network, (texts, ["travel 0", "travel 1", "travel 2"] * 60))
    composition = compose(parts)
    found = composition.typicality(texts)
    for text in texts[:3]:
        own = np.asarray([found[n] for n in range(180) if texts[n] == text])
        assert np.ptp(own) < 1e-3
        assert composition.typicality([text])[0] == pytest.approx(own[0], abs=1e-3)


def test_the_label_of_unknown_inputs_may_be_a_number_of_numpy():
    parts, x, _ = strangers.numbered()
    composition = compose(parts)
    found = composition.predict(x, unknown=np.int64(9))
    assert found.dtype.kind == "i"
    np.testing.assert_array_equal(found, composition.predict(x, unknown=9))
    for label in (0, "0", np.int64(2), True, 1.5, "", -1, "-1"):
        with pytest.raises(DataError, match="no module has"):
            composition.predict(x, unknown=label)


def test_empty_inputs_of_two_vocabularies(mixed):
    for call in (mixed.predict, mixed.margins, lambda x: mixed.with_calibration(x, [])):
        with pytest.raises(DataError, match="empty"):
            call([])
