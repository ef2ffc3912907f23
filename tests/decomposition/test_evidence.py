"""Domain evidence of a sample: class means of all classes, noise on held-out examples, and one progress bar."""

import numpy as np
import pytest
import torch

import unbraid
from tests import factory, strangers
from tests.test_progress import Recorded
from unbraid.decomposition import domain
from unbraid.decomposition.noise import MIXED, REPLACED, noisy, noisy_inputs
from unbraid.networks.inputs import Inputs

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning"),
    pytest.mark.filterwarnings("ignore:.*classes get no module:unbraid.UnbraidWarning"),
]


def rng():
    return np.random.default_rng(0)


def sorted_sample():
    """A network and a sample that is sorted by its predictions, with 30 examples of each class."""
    net = factory.network(("gru",), inputs="features", seed=1)
    x = np.random.default_rng(3).normal(size=(4000, 5, 3)).astype(np.float32)
    found = net.predict_index(x)
    rows = np.concatenate([np.flatnonzero(found == label)[:30] for label in range(3)])
    return net, x[rows], found[rows]


@pytest.mark.parametrize("observed", [20, 40, 5_000])
def test_each_class_of_a_sorted_sample_has_its_own_mean(monkeypatch, observed):
    monkeypatch.setattr(domain, "OBSERVED", observed)
    net, x, y = sorted_sample()
    assert np.bincount(y).tolist() == [30] * 3
    means = unbraid.decompose(net, (x, y), keep=0.5)[0].domain.features.means
    assert len(np.unique(means.round(5), axis=0)) == 3  # a class without an example has the mean of all


@pytest.mark.parametrize("strategy", ["reconstruct", "paper", "magnitude"])
def test_features_of_the_observed_sample_are_not_computed_again(monkeypatch, strategy):
    net, x, y = sorted_sample()
    asked = []
    own = domain._features_and_scores
    monkeypatch.setattr(
        domain, "_features_and_scores", lambda sample, rows, known: asked.append(known) or own(sample, rows, known)
    )
    parts = unbraid.decompose(net, (x, y), strategy=strategy)
    ((rows, features),) = asked
    inputs = net.check(x[rows])
    with torch.inference_mode():
        wanted = torch.cat([net.features(batch) for batch in inputs.batches()])
    torch.testing.assert_close(features, wanted, atol=1e-5, rtol=1e-5)
    again = domain.gathered(net, x, dict(parts), 0)
    np.testing.assert_allclose(parts[0].domain.features.means, again.features.means, atol=1e-5)


def test_texts_and_their_indices_have_the_same_evidence():
    net = strangers.network("travel")
    texts = strangers.texts("travel", 200)
    y = np.arange(200) % 3
    parts = [unbraid.decompose(net, (x, y), keep=0.5) for x in (texts, net.vocabulary.encode(texts)[0])]
    one, other = (own["travel 0"].domain for own in parts)
    np.testing.assert_array_equal(one.features.means, other.features.means)


def test_words_are_replaced_by_words_of_other_examples():
    texts = [" ".join(f"{name}{n}" for n in range(50)) for name in "abcd"] * 10
    for x in (texts, [text.split() for text in texts]):
        found = noisy(x, rng())
        rows = [row.split() if isinstance(row, str) else row for row in found]
        assert type(found[0]) is type(x[0]) and [len(row) for row in rows] == [50] * 40
        same = np.mean(
            [a == b for row, text in zip(rows, texts, strict=True) for a, b in zip(row, text.split(), strict=True)]
        )
        assert same == pytest.approx(1 - REPLACED, abs=0.05)
        assert {word for row in rows for word in row} <= {word for text in texts for word in text.split()}


def test_padding_is_neither_replaced_nor_inserted():
    x = np.random.default_rng(1).integers(1, 900, (50, 20)) * (np.arange(20) < 12)
    found = noisy(x, rng())
    assert ((found == 0) == (x == 0)).all()
    assert (found != x).mean() == pytest.approx(0.6 * REPLACED, abs=0.04)
    assert (noisy(np.zeros((3, 4), int), rng()) == 0).all()


def test_numbers_are_mixed_with_those_of_another_example():
    x = np.random.default_rng(1).normal(size=(40, 6, 3)).astype(np.float32)
    found = noisy(x, rng())
    assert found.dtype == x.dtype
    assert np.abs(found - (1 - MIXED) * x).max() <= MIXED * np.abs(x).max() * 1.01


def test_inputs_with_another_axis_or_several_arrays():
    x = np.random.default_rng(1).normal(size=(6, 40, 3)).astype(np.float32)
    assert noisy_inputs(Inputs(x, 40, 1), rng()).shape == x.shape
    tree = (x, x)
    assert noisy_inputs(Inputs(tree, 40, 1), rng()) is tree


def test_the_evidence_is_part_of_the_progress_bar():
    net = factory.network(("gru",))
    told = Recorded()
    unbraid.decompose(net, factory.examples(net, count=60), keep=0.5, progress=told)
    what, total, done = told.only()
    assert what == "decomposing" and done[-1] == pytest.approx(total)
    assert sum(step > total / 1.3 for step in done) >= 3  # three steps of the evidence


@pytest.mark.parametrize("kind", ["texts", "numbers"])
def test_a_sample_without_held_out_examples_of_a_module(kind):
    """Each held-out example is predicted as a class that gets no module."""
    if kind == "texts":
        net, x = strangers.network("travel"), strangers.texts("travel", 200)
    else:
        net = factory.network(("gru",), inputs="features", seed=1)
        x = np.random.default_rng(3).normal(size=(400, 5, 3)).astype(np.float32)
    decided = net.predict_index(x)
    common = int(np.bincount(decided).argmax())
    rows = np.flatnonzero(decided == common)[:60]
    other = net.labels[(common + 1) % 3]
    sample = [x[row] for row in rows] if kind == "texts" else x[rows]
    parts = unbraid.decompose(net, (sample, [other] * len(rows)))
    assert parts.labels == [other]
    assert parts[other].domain.typicality is None
    with pytest.raises(unbraid.UnbraidError, match="has no typicality"):
        unbraid.compose(parts).predict(sample, unknown="none")
