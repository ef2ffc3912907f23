"""Votes with domain evidence from stored margins equal the votes of compositions."""

import numpy as np
import pytest
import torch

from benchmarks.experiments.voting import scaled
from benchmarks.measure import votes
from tests import strangers
from unbraid import Composition

pytestmark = pytest.mark.filterwarnings("ignore:.*accuracy on this sample:unbraid.UnbraidWarning")
TEXTS = [strangers.texts(subject, 30, seed) for subject in strangers.SUBJECTS for seed in (3, 4, 5)]
FLAT = [text for texts in TEXTS for text in texts]
PLACES, PARENTS = [0, 2, 4], [0, 0, 1]  # two classes of the first network, one of the second


@pytest.fixture(scope="module")
def both():
    return [strangers.parts(subject, seed=seed) for seed, subject in enumerate(strangers.SUBJECTS)]


@pytest.fixture(scope="module")
def composition(both):
    modules = [*both[0].values(), *both[1].values()]
    return Composition({modules[place].label: modules[place] for place in PLACES})


@pytest.fixture(scope="module")
def problem(both):
    return votes._seen(both, TEXTS).problem(PLACES)


def used():
    truth = np.repeat(np.arange(6), 30)
    rows = np.isin(truth, PLACES)
    return [text for text, row in zip(FLAT, rows, strict=True) if row], np.searchsorted(PLACES, truth[rows])


def test_the_vote_without_labels_is_that_of_a_composition(composition, problem):
    texts, truth = used()
    np.testing.assert_array_equal(problem.truth, truth)
    found = votes._voted(problem.evidence.margins, problem.logs, PARENTS)
    np.testing.assert_allclose(found, composition.margins(texts), rtol=1e-3, atol=1e-3)


def test_the_calibrated_vote_is_that_of_a_composition(composition, problem):
    texts, truth = used()
    wanted = composition.with_calibration(texts, truth)
    scales = votes.calibration.fit(problem.evidence.margins, truth, PARENTS, domain=problem.logs[:, PARENTS])
    found = votes._voted(scaled(problem.evidence.margins, scales), problem.logs, PARENTS)
    np.testing.assert_allclose(found, wanted.margins(texts), rtol=1e-2, atol=1e-2)
    judge = votes._referee(problem, scales, PARENTS, problem.logs[:, PARENTS])
    blocks = [torch.from_numpy(block) for block in (*problem.evidence.features, *problem.evidence.read)]
    judged = judge(torch.from_numpy(found).float(), blocks).numpy()
    refereed = composition.with_referee(texts, truth)
    np.testing.assert_allclose(judged, refereed.margins(texts), rtol=1e-2, atol=1e-2)


def test_scores_of_a_problem_are_shares(problem):
    found = votes._accuracies(votes.Seen(*vars(problem).values()), problem, [0, 1, 2], 2, ("domain",))
    assert set(found) >= {"margins", "domain", "domain, calibrated", "domain, referee"}
    assert all(0 <= value <= 1 for value in found.values())
