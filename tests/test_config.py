import numpy as np
import pytest

import unbraid
from tests import factory
from unbraid import DecompositionConfig
from unbraid.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "strategy", "head"),
    [
        ({}, "reconstruct", "softmax"),
        ({"keep": 0.3}, "reconstruct", "softmax"),
        ({"mode": "unrolled"}, "paper", "mean"),
        ({"gates": "each"}, "paper", "mean"),
        ({"max_removed": 0.1}, "paper", "mean"),
        ({"mode": "unrolled", "keep": 0.3}, "paper", "mean"),
        ({"strategy": "paper"}, "paper", "mean"),
        ({"strategy": "random", "head": "softmax"}, "random", "softmax"),
        ({"head": "mean"}, "reconstruct", "mean"),
    ],
)
def test_what_is_not_given_follows_from_what_is(given, strategy, head):
    config = DecompositionConfig.of(**given)
    assert (config.strategy, config.head) == (strategy, head)
    assert DecompositionConfig.model_validate_json(config.model_dump_json()) == config


def test_a_changed_copy_settles_anew():
    config = DecompositionConfig.of(seed=3).changed(mode="unrolled")
    assert (config.strategy, config.head, config.seed) == ("paper", "mean", 3)
    assert DecompositionConfig.release().strategy == "paper"


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigError, match="max_loss"):
        DecompositionConfig.of(mode="unrolled", max_loss=0.1)
    with pytest.raises(ConfigError, match="decoders alone"):
        DecompositionConfig.release(encoder=True)
    with pytest.raises(ConfigError, match="gates='each' belongs to"):
        DecompositionConfig.of(strategy="reconstruct", gates="each")


@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
@pytest.mark.parametrize("strategy", ["paper", "random", "magnitude"])
@pytest.mark.parametrize("cells", [("lstm", "lstm"), ("relu",)])
def test_removal_of_a_wanted_size_keeps_exactly_so_many_nodes_in_every_layer(cells, strategy, mode):
    net = factory.network(cells, units=10)
    parts = unbraid.decompose(net, factory.examples(net, 40), strategy=strategy, mode=mode, keep=0.3)
    for module in parts.values():
        assert all((kept.sum(-1) == 3).all() for kept in module.kept_nodes.values())


def test_the_papers_nodes_of_a_wanted_size_are_those_with_the_largest_differences():
    net = factory.network(("lstm",), units=10)
    examples = factory.examples(net, 40)
    few, more = (unbraid.decompose(net, examples, strategy="paper", keep=keep)[1] for keep in (0.3, 0.6))
    for name, kept in few.kept_nodes.items():
        assert np.all(kept <= more.kept_nodes[name])


def test_a_negative_seed_is_refused():
    with pytest.raises(ConfigError, match="seed=-1"):
        DecompositionConfig.of(seed=-1)
