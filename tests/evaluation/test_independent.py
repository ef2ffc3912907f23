"""Independent labels (sigmoid outputs): a module has the column of its label; each label is decided alone."""

import numpy as np
import pytest

import unbraid
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import DataError, IncompatibleModules


@pytest.fixture
def network():
    spec = sequence_spec("gru", 1, 30, 6, 12, 3, "M:1", 5, output="sigmoid")
    return unbraid.Network(spec, initial_weights(spec, 3), ["rude", "kind", "long"])


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return rng.integers(0, 30, (80, 5)), rng.integers(0, 2, (80, 3))


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_untouched_modules_answer_as_the_network_does(network, examples, mode):
    x, y = examples
    whole = unbraid.compose(unbraid.decompose(network, (x, y), mode=mode, max_removed=0))
    np.testing.assert_allclose(whole.predict_proba(x), network.predict_proba(x), atol=1e-6)
    np.testing.assert_array_equal(whole.predict(x), network.predict_proba(x) > 0.5)
    np.testing.assert_array_equal(network.predict(x), network.predict_proba(x) > 0.5)
    result = unbraid.evaluate(whole, (x, y), against=network)
    assert result.delta == 0 and result.decisions == 240
    assert result.accuracy == pytest.approx(((network.predict_proba(x) > 0.5) == y).mean())


def test_two_of_three_labels(network, examples):
    x, y = examples
    parts = unbraid.decompose(network, (x, y))
    few = unbraid.compose([parts["long"], parts["rude"]])
    result = unbraid.evaluate(few, (x, y), against=network)
    decided = few.predict(x)
    assert result.accuracy == pytest.approx((decided == y[:, [2, 0]]).mean())
    assert result.decisions == 160


def test_labels_must_be_columns(network, examples):
    x, _ = examples
    with pytest.raises(DataError, match="0/1 columns"):
        unbraid.decompose(network, (x, np.zeros(80, int)))


def test_there_is_no_vote_to_calibrate(network, examples):
    composition = unbraid.compose(unbraid.decompose(network, examples))
    few = examples[0], np.arange(80) % 3
    with pytest.raises(IncompatibleModules, match="each has its own decision"):
        composition.with_calibration(*few)
    with pytest.raises(IncompatibleModules, match="these labels are independent"):
        composition.with_referee(*few)
