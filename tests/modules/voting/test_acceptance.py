"""A fit on a few labelled examples is shrunk or left out, unless its gain is clear."""

import numpy as np
import pytest
import torch

from unbraid.modules.voting import calibration, referee
from unbraid.modules.voting.acceptance import PRIOR, SHRUNK_ERRORS, best_accepted, shrinkage
from unbraid.modules.voting.calibration import UNTOUCHED

TRUTH = np.zeros(100, int)


def tried(errors, right=True):
    """Log probabilities whose gains sum to this number of standard errors, with right or wrong decisions."""
    gains = np.random.default_rng(0).normal(size=100)
    gains -= gains.mean()
    gains += errors * gains.std(ddof=1) / np.sqrt(100)
    return np.stack([gains, gains - 1 if right else gains + 1], axis=1)


PLAIN = np.stack([np.zeros(100), -np.ones(100)], axis=1)
PLAIN[0, 1] = 1  # one decision is wrong


def test_the_weight_grows_with_the_sample():
    assert shrinkage(PRIOR * 3, 3) == 0.5
    assert 0 < shrinkage(60, 3) < shrinkage(90, 3) < 1


@pytest.mark.parametrize(
    ("shrunk", "full", "expected"),
    [
        (SHRUNK_ERRORS - 0.1, 2.9, None),
        (SHRUNK_ERRORS + 0.1, 2.9, 0),
        (SHRUNK_ERRORS + 0.1, 3.1, 1),
        (-3, -3, None),
    ],
)
def test_a_gain_must_be_larger_than_its_error(shrunk, full, expected):
    assert best_accepted([0.1, 1.0], [tried(shrunk), tried(full)], PLAIN, TRUTH, 3.0) == expected


def test_no_fit_no_gain_and_not_more_right_decisions_are_not_accepted():
    assert best_accepted([], [], PLAIN, TRUTH, 3.0) is None
    assert best_accepted([1.0], [PLAIN], PLAIN, TRUTH, 3.0) is None
    assert best_accepted([1.0, 0.1], [tried(9, right=False)] * 2, PLAIN, TRUTH, 3.0) is None
    as_many = tried(9)
    as_many[0, 1] = as_many[0, 0] + 1
    assert best_accepted([1.0], [as_many], PLAIN, TRUTH, 3.0) is None


def sample(shift, count=60, seed=0):
    """Margins of two modules of two parents, one of them too high by ``shift``, and the right modules."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    margins = rng.normal(size=(count, 2)) + 4 * np.eye(2)[truth] - 2
    margins[:, 1] += shift
    return margins, truth, rng.normal(size=(count, 2))


def test_a_good_vote_keeps_its_scales_and_a_bad_one_gets_others():
    none = np.zeros((60, 2))
    margins, truth, _ = sample(0)
    good = calibration.fit(margins, truth, [0, 1], domain=100 * np.eye(2)[truth])  # the evidence is always right
    assert good == [UNTOUCHED] * 2
    margins, truth, _ = sample(6)
    scales = calibration.fit(margins, truth, [0, 1], domain=none)
    assert scales[1][1] - scales[0][1] < -3  # the offset removes most of the shift


def test_a_vote_without_errors_gets_no_referee():
    margins, truth, noise = sample(0)
    judge = referee.fit(margins, [noise], truth, [0, 1], domain=100 * np.eye(2)[truth])
    assert not judge.weight.any() and not judge.bias.any()


def test_features_that_tell_the_classes_apart_give_a_referee():
    margins, truth, noise = sample(6)
    judge = referee.fit(margins, [noise + 8 * np.eye(2)[truth]], truth, [0, 1], domain=np.zeros((60, 2)))
    assert judge.weight[0, 0] > judge.weight[0, 1]


def test_beside_evidence_a_referee_decides_between_parents_only():
    """The classes of one parent keep their order, because it was trained on many more examples of them."""
    rng = np.random.default_rng(1)
    truth, parents = np.arange(90) % 3, ["a", "b", "a"]
    block = 3 * np.eye(3)[truth] + rng.normal(size=(90, 3))
    margins, logs = rng.normal(size=(90, 3)) + np.eye(3)[truth], np.zeros((90, 3))
    judge = referee.fit(margins, [block], truth, parents, domain=logs)
    assert judge.weight.abs().max() > 0.1
    assert torch.equal(judge.weight[:, 0], judge.weight[:, 2]) and judge.bias[0] == judge.bias[2]
    assert not torch.equal(judge.weight[:, 0], judge.weight[:, 1])
    told = judge(torch.from_numpy(margins).float(), [torch.from_numpy(block).float()]).numpy()
    assert ((told[:, 0] > told[:, 2]) == (margins[:, 0] > margins[:, 2])).all()
    by_module = referee.fit(margins, [block], truth, parents)  # without evidence each module has weights
    assert not torch.equal(by_module.weight[:, 0], by_module.weight[:, 2])
