"""The vote with domain evidence: the winner of a literal loop, and the exact order of the classes of each parent."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import reference
from unbraid.modules.domain.evidence import Domain, comparable, domain_vote
from unbraid.modules.domain.gaussians import Gaussians
from unbraid.modules.domain.words import WordCounts

MARGINS = st.floats(-200, 200, width=32) | st.sampled_from([0.0, 17.0, 18.0, 40.0, 60.0, -math.inf, 1e-30, 1e30])
LOGS = st.floats(-500, 500)


@st.composite
def votes(draw):
    parents = draw(st.lists(st.integers(0, 2), min_size=2, max_size=7))
    rows = draw(st.integers(1, 4))
    margins = [[draw(MARGINS) for _ in parents] for _ in range(rows)]
    logs = [[draw(LOGS) for _ in range(3)] for _ in range(rows)]
    return torch.tensor(margins, dtype=torch.float32), np.asarray(logs), parents


@settings(deadline=None, max_examples=300)
@given(votes())
def test_classes_of_one_parent_keep_their_order_exactly(case):
    margins, logs, parents = case
    found = domain_vote(margins, logs, parents, False)
    for parent in set(parents):
        members = [place for place, own in enumerate(parents) if own == parent]
        for row, new in zip(margins[:, members].tolist(), found[:, members].tolist(), strict=True):
            for i, one in enumerate(row):
                for j, other in enumerate(row):
                    assert (new[i] > new[j]) == (one > other)
                    assert (new[i] == new[j]) == (one == other)


@settings(deadline=None, max_examples=300)
@given(votes())
def test_the_winner_is_that_of_the_literal_loop(case):
    margins, logs, parents = case
    found = domain_vote(margins, logs, parents, False).argmax(1).tolist()
    for row, own, place in zip(margins.double().tolist(), logs.tolist(), found, strict=True):
        winner, highest = reference.vote_with_domain(row, own, parents)
        if place != winner:  # parents whose scores are equal up to rounding
            best, score = reference.vote_with_domain([row[place]], [own[parents[place]]], [0])
            assert best == 0
            assert score == pytest.approx(highest, abs=1e-4) or max(row) == -math.inf


@settings(deadline=None, max_examples=50)
@given(votes())
def test_classes_with_equal_probabilities_stay_equal_where_probabilities_vote(case):
    margins, logs, parents = case
    found, keys = domain_vote(margins, logs, parents, True), torch.sigmoid(margins.double())
    for parent in set(parents):
        members = [place for place, own in enumerate(parents) if own == parent]
        best = [members[place] for place in keys[:, members].argmax(1).tolist()]  # the first of equal ones
        assert [members[place] for place in found[:, members].argmax(1).tolist()] == best


def test_timesteps_share_the_evidence_and_padding_stays_empty():
    margins = torch.tensor([[[1.0, 2.0], [math.nan, math.nan], [3.0, -1.0]]])
    found = domain_vote(margins, np.asarray([[0.0, 5.0]]), [0, 1], False)
    assert found[0, 1].isnan().all()
    assert found[0, 0].argmax() == 1
    assert found[0, 2].argmax() == 1


def test_gradients_reach_the_margins():
    margins = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    domain_vote(margins, np.asarray([[0.0, -1.0]]), [0, 0, 1], False).sum().backward()
    assert margins.grad.abs().sum() > 0


def test_evidence_of_one_kind_is_needed_from_all_parents():
    words, numbers = Domain(words=WordCounts({"a": 3}, 9)), Domain(inputs=Gaussians(np.zeros((1, 2)), np.eye(2)))
    wider = Domain(inputs=Gaussians(np.zeros((1, 3)), np.eye(3)))
    assert comparable([words, words]) is not None
    assert comparable([numbers, numbers]) is not None
    for other in ([words], [words, None], [words, numbers], [numbers, wider], [Domain(), Domain()]):
        assert comparable(other) is None


def test_equal_evidence_has_an_equal_key():
    first, same, other = (Domain(words=WordCounts({"a": n}, 9)) for n in (3, 3, 4))
    assert first.key == same.key != other.key
