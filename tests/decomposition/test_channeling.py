import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests import reference
from tests.factory import network
from unbraid import DecompositionConfig
from unbraid.decomposition.channeling import channel


def probability(head, features):
    return torch.sigmoid(head.margin(torch.as_tensor(features, dtype=torch.float32))).numpy()


SETTINGS = {
    "mean": {},
    "softmax": {"head": "softmax"},
    "padding": {"padding_label": 0},
    "idle": {"idle_columns": True},
    "idle padding": {"idle_columns": True, "padding_label": 4},
}


@pytest.mark.parametrize("name", SETTINGS)
@given(seed=st.integers(0, 99))
def test_heads_equal_the_oracle(name, seed):
    settings = SETTINGS[name]
    net = network(classes=5, seed=seed)
    plain = reference.plain(net)
    config = DecompositionConfig.of(**{"strategy": "paper"} | settings)
    features = np.random.default_rng(seed).normal(size=(4, net.spec.features))
    padding, idle, kind = config.padding_label, config.idle_columns, settings.get("head", "mean")
    for j in range(5):
        if j != padding:
            wanted = reference.channel(plain, j, kind, padding, idle)
            found = probability(channel(net, j, config), features)
            np.testing.assert_allclose(found, reference.dominant_probability(wanted, features), atol=1e-6)


@given(seed=st.integers(0, 99))
def test_the_mean_heads_margin_is_the_scaled_distance_from_the_mean_score(seed):
    net = network(classes=5, seed=seed)
    features = torch.randn(6, net.spec.features, generator=torch.Generator().manual_seed(seed))
    z = net.head(features)
    for j in range(5):
        margin = channel(net, j, DecompositionConfig.of(strategy="paper")).margin(features)
        torch.testing.assert_close(margin, (5 * z[:, j] - z.sum(1)) / 4, atol=1e-5, rtol=1e-5)


@given(seed=st.integers(0, 99))
def test_the_softmax_heads_probability_is_the_parents(seed):
    net = network(classes=4, seed=seed)
    features = torch.randn(6, 2, net.spec.features, generator=torch.Generator().manual_seed(seed))
    parents = torch.softmax(net.head(features), -1)
    for j in range(4):
        head = channel(net, j, DecompositionConfig.of(head="softmax"))
        torch.testing.assert_close(torch.sigmoid(head.margin(features)), parents[..., j], atol=1e-6, rtol=1e-5)


def test_independent_labels_are_their_own_columns():
    net = network(classes=3, output="sigmoid")
    features = torch.randn(5, net.spec.features, generator=torch.Generator().manual_seed(0))
    for kind in ("mean", "softmax"):
        for j in range(3):
            head = channel(net, j, DecompositionConfig.of(head=kind))
            torch.testing.assert_close(head.margin(features), net.head(features)[:, j])


def test_a_binary_columns_two_modules_are_opposites():
    net = network(classes=1, output="sigmoid")
    features = torch.randn(5, net.spec.features, generator=torch.Generator().manual_seed(0))
    z = net.head(features)[:, 0]
    no, yes = (channel(net, j, DecompositionConfig.of(strategy="paper")).margin(features) for j in (0, 1))
    torch.testing.assert_close(yes, z)
    torch.testing.assert_close(no, -z)


def test_two_classes_compete_with_each_other():
    net = network(classes=2)
    features = torch.randn(5, net.spec.features, generator=torch.Generator().manual_seed(0))
    z = net.head(features)
    for kind in ("mean", "softmax"):
        margin = channel(net, 0, DecompositionConfig.of(head=kind)).margin(features)
        torch.testing.assert_close(margin, z[:, 0] - z[:, 1], atol=1e-6, rtol=1e-5)


def test_a_head_is_no_view_of_the_parents_weights():
    net = network()
    head = channel(net, 0, DecompositionConfig.of(head="softmax"))
    head.weight.data.zero_()
    assert net.head.weight.abs().min() > 0
