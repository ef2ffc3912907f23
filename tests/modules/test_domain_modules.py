"""Compositions of several networks that vote with domain evidence, without labels."""

import math

import numpy as np
import pytest
import torch

import unbraid
from tests import factory, strangers
from tests.factory import UNCALIBRATED
from unbraid import Composition, compose
from unbraid.errors import DataError, IncompatibleModules, UnbraidWarning

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")
BOTH = [word for words in strangers.SUBJECTS.values() for word in words]


@pytest.fixture(scope="module")
def travel():
    return strangers.parts("travel")


@pytest.fixture(scope="module")
def court():
    return strangers.parts("court", seed=1)


@pytest.fixture(scope="module")
def mixed(travel, court):
    return compose([*travel.values(), *court.values()])


def subject(labels):
    return [str(label).split()[0] for label in labels]


def test_texts_are_decided_between_the_modules_of_their_network(mixed):
    for name in strangers.SUBJECTS:
        assert set(subject(mixed.predict(strangers.texts(name, seed=5)))) == {name}
    assert mixed.uses_domain
    assert "domain evidence" in repr(mixed)


def test_no_labels_and_no_warning(travel, court):
    compose([travel["travel 0"], court["court 0"]])  # warnings are errors
    with pytest.warns(UnbraidWarning, match="not comparable"):
        compose([travel["travel 0"], court["court 0"]], domain=False)


def test_classes_of_one_network_keep_their_order(mixed, travel, court):
    texts = [*strangers.texts("travel", 40, 7), *strangers.texts("court", 40, 8)]
    found, plain = mixed.margins(texts), mixed.own_margins(texts)
    for members in (slice(0, 3), slice(3, 6)):
        assert (np.argsort(found[:, members], 1) == np.argsort(plain[:, members], 1)).all()
    alone = compose(travel)
    assert not alone.uses_domain
    np.testing.assert_array_equal(alone.margins(texts), alone.own_margins(texts))


def test_probabilities_sum_to_one_and_have_the_winner(mixed):
    texts = strangers.texts("court", 30, 3)
    found = mixed.predict_proba(texts)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-5)
    assert (found.argmax(1) == mixed.predict_index(texts)).all()


def test_word_indices_of_one_vocabulary_vote_as_their_texts():
    first, second = (strangers.parts(name, BOTH, seed=n) for n, name in enumerate(strangers.SUBJECTS))
    mixed = compose([*first.values(), *second.values()])
    texts = [*strangers.texts("travel", 20, 7), *strangers.texts("court", 20, 8), "unheard words only", ""]
    indices = first.network.vocabulary.encode(texts)[0]
    assert mixed.uses_domain
    assert not mixed.needs_text
    np.testing.assert_array_equal(mixed.margins(texts), mixed.margins(indices))
    np.testing.assert_allclose(mixed(torch.from_numpy(indices)).numpy(), mixed.margins(indices), atol=1e-5)
    assert set(subject(mixed.predict(indices[:20]))) == {"travel"}


@UNCALIBRATED
def test_networks_with_the_same_sample_vote_by_margins():
    first, second = strangers.parts("travel"), strangers.parts("travel", seed=1)
    mixed = compose({"a": first["travel 0"], "b": second["travel 1"]})
    assert not mixed.uses_domain
    texts = strangers.texts("travel", 10, 3)
    np.testing.assert_array_equal(mixed.margins(texts), mixed.own_margins(texts))


@UNCALIBRATED
def test_without_evidence_of_all_networks_margins_vote(travel):
    other = strangers.parts("court", domain=False, seed=1)
    assert other["court 0"].domain is None
    mixed = compose([travel["travel 0"], other["court 0"]])
    assert not mixed.uses_domain
    plain = Composition(mixed.modules_by_label, domain=False)
    texts = strangers.texts("court", 20)
    np.testing.assert_array_equal(mixed.margins(texts), plain.margins(texts))


@UNCALIBRATED
def test_changes_keep_the_setting(mixed, travel):
    off = mixed.without_domain()
    assert not off.uses_domain
    assert not off.drop("court 0").uses_domain
    assert mixed.drop("court 0").uses_domain
    assert mixed.replace("court 0", travel["travel 1"]).uses_domain
    assert not mixed.drop("court 0").drop("court 1").drop("court 2").uses_domain


def test_a_fused_composition_keeps_its_evidence(mixed):
    texts = [*strangers.texts("travel", 40, 7), *strangers.texts("court", 40, 8)]
    fused = mixed.fuse()
    assert fused.uses_domain
    assert subject(fused.predict(texts)) == subject(mixed.predict(texts))
    assert fused.unfuse().uses_domain


def test_taggers_and_classifiers_vote_together():
    tagger = strangers.parts("court", io="M:N", seed=2)
    mixed = compose([*strangers.parts("travel").values(), *tagger.values()])
    for name in strangers.SUBJECTS:
        assert set(subject(mixed.predict(strangers.texts(name, seed=5)))) == {name}


def test_two_taggers_use_the_evidence_at_each_word():
    taggers = [strangers.parts(name, BOTH, io="M:N", seed=n) for n, name in enumerate(strangers.SUBJECTS)]
    mixed = compose([*taggers[0].values(), *taggers[1].values()])
    found = mixed.predict(strangers.texts("court", 10, 3))
    assert found.shape == (10, strangers.STEPS)
    assert set(subject(found.ravel())) == {"court"}


def features(seed, mean):
    made = factory.network(inputs="features", labels=[f"{mean} {n}" for n in range(3)], seed=seed)
    x = np.random.default_rng(seed).normal(mean, 1, (150, 5, 3)).astype(np.float32)
    y = made.predict_index(x)
    y[:6] = [0, 0, 1, 1, 2, 2]
    return unbraid.decompose(made, (x, y))


def test_networks_of_different_numbers_vote_by_their_inputs():
    mixed = compose([*features(0, 0).values(), *features(1, 9).values()])
    for mean in (0, 9):
        x = np.random.default_rng(7).normal(mean, 1, (40, 5, 3)).astype(np.float32)
        assert set(subject(mixed.predict(x))) == {str(mean)}
    with pytest.raises(DataError):
        mixed.predict(np.zeros((4, 5, 2), np.float32))


@pytest.mark.parametrize("shape", [(6,), (4, 3), (4, 3, 1), (30, 30)])
def test_networks_of_dense_layers_vote_by_the_whole_input(shape):
    def parts(seed, sign):
        made = factory.dense_network([(6, "relu")], shape, seed=seed)
        x = pictures(shape, sign, 200, seed)
        y = made.predict_index(x)
        y[:6] = [0, 0, 1, 1, 2, 2]
        return [module.renamed(f"{sign} {label}") for label, module in unbraid.decompose(made, (x, y)).items()]

    both = {sign: parts(seed, sign) for seed, sign in enumerate((1, -1))}
    assert both[1][0].domain.inputs.means.shape == (1, {900: 225}.get(math.prod(shape), math.prod(shape)))
    mixed = compose(both[1] + both[-1])
    for sign in both:
        assert set(subject(mixed.predict(pictures(shape, sign, 40, 7)))) == {str(sign)}


def pictures(shape, sign, count, seed):
    """Make numbers whose first half is larger for one sign, and whose second half is larger for the other."""
    tilted = sign * np.linspace(4, -4, math.prod(shape)).reshape(shape)
    return (tilted + np.random.default_rng(seed).normal(size=(count, *shape))).astype(np.float32)


@pytest.mark.parametrize("scale", [1e16, 1e17, 1e-30, 0.0])
def test_numbers_that_no_gaussian_can_hold_leave_no_evidence(scale):
    net = factory.network(("gru",), inputs="features", seed=1)
    x, y = factory.examples(net, 40)
    parts = unbraid.decompose(net, ((np.asarray(x) * scale).astype(np.float32), y), keep=0.5)
    assert all(module.domain.inputs is None for module in parts.values()) or scale < 1


@UNCALIBRATED
def test_indices_without_a_vocabulary_have_no_comparable_evidence():
    x = np.random.default_rng(0).integers(1, 100, (150, 4))
    made = []
    for seed in (0, 1):
        network = factory.network(labels=[f"{seed} {n}" for n in range(3)], seed=seed)
        y = network.predict_index(x)
        y[:6] = [0, 0, 1, 1, 2, 2]
        made.append(unbraid.decompose(network, (x, y)))
    assert made[0]["0 0"].domain.words is None
    assert not compose([made[0]["0 0"], made[1]["1 0"]]).uses_domain


def test_calibration_and_referee_start_from_the_vote(mixed):
    texts = [*strangers.texts("travel", 90, 7), *strangers.texts("court", 90, 8)]
    y = mixed.predict(texts)
    y[:6] = mixed.labels
    for fitted in (mixed.with_calibration(texts, y), mixed.with_referee(texts, y)):
        assert fitted.uses_domain
        assert (fitted.predict(texts) == y).mean() >= (mixed.predict(texts) == y).mean()


def test_right_votes_are_not_calibrated_to_worse(mixed):
    texts = [*strangers.texts("travel", 60, 7), *strangers.texts("court", 60, 8)]
    y = mixed.predict(texts)  # labels that the vote without labels gives
    keep = np.isin(y, [label for label in mixed.labels if (y == label).sum() >= 2])
    fitted = Composition({label: mixed[label] for label in mixed.labels if (y == label).any()}).with_calibration(
        [text for text, used in zip(texts, keep, strict=True) if used], y[keep]
    )
    assert (fitted.predict(texts) == y).mean() >= 0.99


def test_what_cannot_hold_the_evidence_refuses_it(mixed):
    with pytest.raises(IncompatibleModules, match="without_domain"):
        mixed.to_torch()
    with pytest.raises(DataError, match="pass text"):
        mixed.margins(np.zeros((2, strangers.STEPS), int))
