"""Strategies: registration, settings of each strategy, and functions that work with all strategies."""

import json

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from unbraid import DecompositionConfig
from unbraid.config import ReconstructConfig, RemovalConfig
from unbraid.decomposition.strategies import _STRATEGIES
from unbraid.errors import ConfigError, DataError


@pytest.fixture
def registered():
    """Register strategies for one test."""
    before, models = dict(_STRATEGIES), dict(DecompositionConfig.models)
    yield unbraid.register_strategy
    for table, old in ((_STRATEGIES, before), (DecompositionConfig.models, models)):
        table.clear()
        table.update(old)


def by_position(network, head, x, counted):
    """Hidden units with high indices have high scores."""
    return {name: np.arange(layer.units, dtype=float) for name, layer in network.recurrent_layers().items()}


class FirstHalf(unbraid.Strategy):
    """Keeps the first hidden units of every layer, with the parent's weights."""

    settings = RemovalConfig

    def prepare(self, network, x, targets, config, progress):
        paper = unbraid.decompose(network, (x.tree, targets.y), strategy="paper", max_removed=0)
        return Halves(network, paper, config)


class Halves:
    def __init__(self, network, paper, config):
        self.network, self.paper, self.config = network, paper, config
        self.classes = range(network.classes)

    def module(self, index, keep):
        whole = self.paper[self.network.labels[index]]
        kept = {}
        for name, mask in whole.concern.kept.items():
            kept[name] = np.arange(len(mask)) < round(len(mask) * (keep or 0.5))
        concern = unbraid.modules.concern.Concern(kept, whole.concern.steps, whole.concern.mode)
        return unbraid.ConcernModule(self.network, index, concern, whole.whole_head, self.config)


@pytest.mark.parametrize("io", ["M:1", "M:N"])
@pytest.mark.parametrize("cells", [("lstm",), ("gru", "relu")])
def test_a_registered_score_chooses_the_units_that_stay(registered, cells, io, tmp_path):
    registered("position", score=by_position)
    net = factory.network(cells, io, units=10)
    x, y = factory.examples(net, 60)
    parts = unbraid.decompose(net, (x, y), strategy="position", keep=0.3)
    for module in parts.values():
        for kept in module.kept_nodes.values():
            assert np.flatnonzero(kept).tolist() == list(range(len(kept)))[-int(kept.sum()) :]
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    assert again.config.strategy == "position"
    np.testing.assert_array_equal(unbraid.compose(parts).margins(x), unbraid.compose(again).margins(x))
    assert unbraid.evaluate(unbraid.compose(parts), (x, y), against=net).modules


def test_fusing_and_max_loss_use_the_registered_score(registered):
    registered("position", score=by_position)
    net = factory.network(("lstm",), units=10)
    x, y = factory.examples(net, 120)
    net.head.bias -= torch.from_numpy(net.logits(x).mean(0))  # so that every class occurs
    fused = unbraid.compose(unbraid.decompose(net, (x, y), strategy="position", keep=0.5)).fuse(x, keep=0.5)
    for module in fused.modules_by_label.values():
        assert module.config.strategy == "position"
        assert all(np.flatnonzero(kept).tolist() == [5, 6, 7, 8, 9] for kept in module.kept_nodes.values())
    found = unbraid.decompose(net, (x, y), strategy="position", max_loss=0.5)
    sizes = {int(kept.sum()) for module in found.values() for kept in module.kept_nodes.values()}
    assert len(sizes) == 1
    assert all(kept[-1] for module in found.values() for kept in module.kept_nodes.values())


def test_a_registered_class_gets_sizes_saving_and_evaluation(registered, tmp_path):
    registered("first_half", FirstHalf)
    net = factory.network(("lstm",), units=10)
    x, y = factory.examples(net, 60)
    parts = unbraid.decompose(net, (x, y), strategy="first_half", keep=0.4)
    assert all(np.flatnonzero(k).tolist() == [0, 1, 2, 3] for m in parts.values() for k in m.kept_nodes.values())
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.compose(parts).margins(x), unbraid.compose(again).margins(x))
    fused = (
        unbraid.compose(parts).fuse(x[: len(x)]) if min(np.bincount(net.predict_index(x), minlength=3)) > 1 else None
    )
    assert fused is None or next(iter(fused.modules_by_label.values())).config.strategy == "reconstruct"


def test_folders_of_an_unregistered_strategy_load_and_predict(registered, tmp_path):
    registered("position", score=by_position)
    net = factory.network(("gru",), units=8)
    x, y = factory.examples(net, 60)
    parts = unbraid.decompose(net, (x, y), strategy="position", keep=0.5)
    parts.save(tmp_path / "parts")
    del _STRATEGIES["position"], DecompositionConfig.models["position"]
    again = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.compose(parts).margins(x), unbraid.compose(again).margins(x))
    again.save(tmp_path / "again")
    assert unbraid.load_decomposition(tmp_path / "again").config.strategy == "position"
    with pytest.raises(ConfigError, match="unknown strategy 'position'"):
        unbraid.decompose(net, (x, y), strategy="position")


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("paper", {"score": by_position}, "expected an identifier other than"),
        ("two words", {"score": by_position}, "expected an identifier"),
        ("mine", {}, "exactly one"),
        ("mine", {"strategy": FirstHalf, "score": by_position}, "exactly one"),
        ("mine", {"strategy": dict}, "subclass of unbraid.Strategy"),
        ("mine", {"strategy": by_position}, "subclass of unbraid.Strategy"),
    ],
)
def test_wrong_registrations_are_refused(registered, name, arguments, words):
    with pytest.raises(ConfigError, match=words):
        registered(name, **arguments)


@pytest.mark.parametrize(
    "scores", [{}, {"rnn": np.ones(3)}, {"rnn": np.full(8, np.nan)}, {"rnn": -np.ones(8)}], ids=str
)
def test_scores_that_do_not_fit_are_refused(registered, scores):
    net = factory.network(("lstm",), units=8)
    name = next(iter(net.recurrent_layers()))
    registered("mine", score=lambda *_: dict.fromkeys([name] * len(scores), next(iter(scores.values()), None)))
    with pytest.raises(DataError, match="expected 8 finite numbers >= 0"):
        unbraid.decompose(net, factory.examples(net, 40), strategy="mine")


@pytest.mark.parametrize(
    "settings",
    [
        {"strategy": "reconstruct", "max_removed": 0.1},
        {"strategy": "reconstruct", "scope": "layer"},
        {"strategy": "reconstruct", "gates": "each"},
        {"strategy": "reconstruct", "mode": "unrolled"},
        {"strategy": "reconstruct", "encoder": True},
        {"strategy": "paper", "max_loss": 0.1},
        {"strategy": "random", "refine": 10},
        {"max_removed": 0.1, "refine": 10},
    ],
    ids=str,
)
def test_settings_of_another_strategy_are_refused_with_one_sentence(settings):
    with pytest.raises(ConfigError, match=r"belongs to strategy .* does not use it: drop the setting"):
        DecompositionConfig.of(**settings)


def test_every_strategy_has_its_own_model():
    assert type(DecompositionConfig()) is ReconstructConfig
    assert type(DecompositionConfig.release()) is RemovalConfig
    assert not hasattr(DecompositionConfig(), "max_removed")
    assert type(DecompositionConfig(keep=0.2).changed(gates="each")) is RemovalConfig


def test_settings_of_format_1_hold_those_of_all_strategies():
    everything = {**RemovalConfig().model_dump(), **ReconstructConfig().model_dump()}
    stored = json.loads(json.dumps(everything, default=str))
    config = DecompositionConfig.model_validate(stored)
    assert type(config) is ReconstructConfig
    assert config.strategy == "reconstruct"
    assert type(DecompositionConfig.model_validate(stored | {"strategy": "magnitude"})) is RemovalConfig
