"""Scores of several modules at once are those of each by itself."""

import numpy as np
import pytest

from tests import factory
from unbraid import DecompositionConfig
from unbraid.config import HeadKind
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.reconstruction.importance import class_scores, node_scores


@pytest.mark.parametrize("io", ["M:1", "M:N", "1:N"])
@pytest.mark.parametrize("cells", [("vanilla",), ("lstm", "gru"), ("gru-before",)])
def test_scores_of_several_modules_are_those_of_each(cells, io):
    network = factory.network(cells, io, classes=3)
    x, _ = factory.examples(network, 40)
    inputs, config = network.check(x), DecompositionConfig.of(head=HeadKind.SOFTMAX)
    chosen = [np.arange(0, 9), np.arange(5, 20), np.arange(30, 31)]
    heads = [channel(network, index, config) for index in range(3)]
    steps = network.logits(x).shape[1:-1]
    counted = np.random.default_rng(0).random((40, *steps)) < 0.8
    rows = np.concatenate(chosen)
    found = class_scores(network, heads, inputs.take(rows), counted[rows], [len(own) for own in chosen])
    for head, own, scores in zip(heads, chosen, found, strict=True):
        alone = node_scores(network, head, inputs.take(own), counted[own])
        assert scores.keys() == alone.keys() == network.layers.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(scores[name], values, rtol=1e-3, atol=1e-6 * values.max())
