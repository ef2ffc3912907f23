"""Settings and labels that were accepted by mistake."""

import warnings

import numpy as np
import pytest
import torch

import unbraid
from unbraid.data.targets import plain_labels, read_targets
from unbraid.demo.small import small_examples, small_modules, small_network
from unbraid.errors import ConfigError, DataError
from unbraid.modules.voting.viterbi import best_paths
from unbraid.networks.inputs import Inputs
from unbraid.networks.pytorch.transitions import Transitions


@pytest.mark.parametrize("domain", ["no", 0, None])
def test_domain_is_true_or_false(domain):
    parts, x, y = small_modules()
    with pytest.raises(ConfigError, match=r"domain=.*expected True or False"):
        unbraid.compose(parts, domain=domain)
    with pytest.raises(ConfigError, match=r"domain=.*expected True or False"):
        unbraid.decompose(next(iter(parts.values())).parent, (x, y), domain=domain)


@pytest.mark.parametrize("labels", [[True, False], ["a", True], [np.True_, np.False_]])
def test_labels_are_no_booleans(labels):
    with pytest.raises(DataError, match=r"is bool.*expected text or a whole number"):
        plain_labels(labels)


def test_other_marks_of_padding_are_refused_with_advice():
    with pytest.raises(DataError, match=r"If -100 marks padding, replace it by -1"):
        read_targets([[0, -100], [1, 1]], [0, 1], many=True)
    with pytest.raises(DataError) as found:
        read_targets([[0, 2], [1, 1]], [0, 1], many=True)
    assert "padding" not in str(found.value)


def test_transition_scores_that_allow_no_sequence_are_refused():
    scores, valid, none = np.zeros((3, 4, 2)), np.ones((3, 4), bool), np.full((2, 2), -np.inf)
    valid[0, 1:] = False
    valid[1] = False
    with pytest.raises(DataError, match=r"1 of 3 examples have no sequence.*the first is example 2"):
        best_paths(scores, Transitions(none, np.zeros(2), np.zeros(2)), valid)
    with pytest.raises(DataError, match="2 of 3 examples"):
        best_paths(scores, Transitions(np.zeros((2, 2)), np.zeros(2), np.full(2, -np.inf)), valid)
    turns = Transitions(np.where(np.eye(2), -np.inf, 0), np.zeros(2), np.zeros(2))
    assert (np.diff(best_paths(scores, turns, valid)[2]) != 0).all()


def test_arrays_that_are_read_only_give_no_warning():
    network = small_network()
    x, _ = small_examples(network)
    x.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network.predict(x)
        (batch,) = Inputs({"a": x}, len(x)).batches()
    assert torch.equal(batch["a"], torch.tensor(x)) and not x.flags.writeable
