"""Regression networks are decomposed into one module per output column."""

import numpy as np
import pytest
import torch

import unbraid
from tests.numbers import KINDS, N, forecaster, sample
from unbraid import DecompositionConfig, compose, decompose
from unbraid.config import ReconstructConfig
from unbraid.decomposition.channeling import channel
from unbraid.decomposition.everywhere import everywhere
from unbraid.decomposition.reconstruction.folding import reconstructed_head
from unbraid.decomposition.reconstruction.importance import node_scores
from unbraid.decomposition.reconstruction.reconstruct import Reconstruction
from unbraid.decomposition.reconstruction.regression import RIDGES
from unbraid.decomposition.reconstruction.size_search import held_out_split
from unbraid.demo.small import small_examples, small_network
from unbraid.errors import ConfigError, DataError, UnknownLabel

CASES = [
    (("lstm",), "M:1"),
    (("gru", "gru"), "M:N"),
    (("vanilla",), "M:1"),
    (("gru-before",), "M:1"),
    (("lstm",), "1:N"),
    (("lstm", "gru"), "M:1"),
]


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize(("cells", "io"), CASES)
def test_modules_of_full_size_give_the_numbers_of_the_parent(cells, io, output):
    network = forecaster(cells, io, output=output)
    x = sample(network)
    parts = decompose(network, x, keep=1.0)
    wanted = network.predict(x)
    assert wanted.shape == (N, 3) if io == "M:1" else wanted.ndim == 3
    np.testing.assert_allclose(compose(parts).predict(x), wanted, atol=1e-5)
    for column, (label, module) in enumerate(parts.items()):
        assert label == column and module.task == "regression"
        np.testing.assert_allclose(module.predict(x), wanted[..., column], atol=1e-5)


def test_one_column_is_one_smaller_network():
    network = forecaster(classes=1, labels=["price"])
    x = sample(network)
    parts = decompose(network, x, keep=0.25)
    assert parts.labels == ["price"] and parts["price"].retention().nodes == 0.25
    assert parts["price"].predict(x).shape == (N,) and compose(parts).predict(x).shape == (N, 1)
    assert network.predict(x).shape == (N, 1) and network.classes == 1 and not network.binary


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("cells", "io"), CASES[:3])
def test_the_row_is_the_ridge_solution_on_the_states_of_the_module(cells, io, seed):
    """A row solves least squares over the stored features, with additional equations for the penalty."""
    network = forecaster(cells, io, seed=seed)
    x = network.check(sample(network, seed=seed))
    config = DecompositionConfig(keep=0.5)
    made = Reconstruction(network, x, everywhere(network, x), [1], config)
    fitted = made.fitted_body([1], 0.5, channel(network, 1, config), [[0]])
    start = reconstructed_head(channel(network, 1, config), made.moments.of(1), fitted.inputs)
    start = torch.cat([start.weight[:, fitted.inputs], start.bias.unsqueeze(1)], 1)[0].double().numpy()
    with torch.inference_mode():
        features = fitted.body(torch.from_numpy(x.tree))
        z = torch.cat([features, torch.ones_like(features[..., :1])], -1).flatten(0, -2).double().numpy()
        wanted = network(torch.from_numpy(x.tree))[..., 1].flatten().double().numpy()
    found = np.append(fitted.head.weight[0, fitted.inputs].numpy(), fitted.head.bias.numpy())
    size = np.square(z).sum(0).mean()
    solutions = [start]
    for ridge in RIDGES:
        pull = np.sqrt(ridge * size) * np.eye(z.shape[1])
        solutions.append(np.linalg.lstsq(np.vstack([z, pull]), np.append(wanted, pull @ start), rcond=None)[0])
    assert min(np.abs(found - own).max() for own in solutions) < 1e-4 * (1 + np.abs(found).max())


def test_targets_are_not_used():
    network = forecaster()
    x = sample(network)
    plain = compose(decompose(network, x, keep=0.5)).predict(x)
    for y in (None, np.zeros((N, 3)), np.full((N, 3), np.nan), [["1.5", "", "2"]] * N):
        np.testing.assert_array_equal(compose(decompose(network, (x, y), keep=0.5)).predict(x), plain)


def test_the_numbers_of_a_smaller_module_are_nearer_than_their_mean():
    network = forecaster(units=16, classes=4)
    x = sample(network, 400)
    wanted, found = network.predict(x), compose(decompose(network, x, keep=0.75)).predict(x)
    assert (np.square(found - wanted).mean(0) < wanted.var(0)).all()


def test_distillation_lowers_the_error_on_the_sample():
    network = forecaster(units=12)
    x = sample(network, 300)
    wanted = network.predict(x)
    errors = [
        np.square(compose(decompose(network, x, keep=0.25, refine=steps)).predict(x) - wanted).mean() / wanted.var()
        for steps in (0, 300)
    ]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("output", ["linear", "linear+sigmoid"])
@pytest.mark.parametrize("max_loss", [0.01, 0.2, 0.9])
def test_max_loss_bounds_the_error_on_held_out_inputs(output, max_loss):
    network = forecaster(units=12, output=output)
    x = sample(network, 400)
    parts = decompose(network, x, max_loss=max_loss)
    held = x[held_out_split(len(x), 0)[1]]
    wanted, found = network.predict(held), compose(parts).predict(held)
    assert (np.square(found - wanted).mean(0) / wanted.var(0) <= max_loss * 1.001 + 1e-9).all()
    sizes = [decompose(network, x, max_loss=loss)[0].retention().nodes for loss in (0.001, 0.9)]
    assert sizes[1] < sizes[0]


def test_chosen_columns():
    network = forecaster(labels=["low", "high", "close"])
    x = sample(network)
    parts = decompose(network, x, classes=["close", "low"], keep=1.0)
    assert parts.labels == ["low", "close"]
    np.testing.assert_allclose(compose(parts).predict(x), network.predict(x)[:, [0, 2]], atol=1e-5)
    with pytest.raises(UnknownLabel, match="volume"):
        decompose(network, x, classes=["volume"])


@pytest.mark.parametrize("strategy", ["paper", "random", "magnitude"])
def test_strategies_that_compare_classes_are_refused(strategy):
    network = forecaster()
    with pytest.raises(ConfigError, match=rf"strategy='{strategy}' compares classes, and the network is a regression"):
        decompose(network, sample(network), strategy=strategy)
    with pytest.raises(ConfigError, match="compares classes"):
        decompose(network, sample(network), mode="unrolled")


def test_a_registered_score_works():
    def by_fan_out(network, head, x, counted):
        return {name: layer.weight_hh.abs().sum(0).numpy() for name, layer in network.recurrent_layers().items()}

    unbraid.register_strategy("fan_out_of_numbers", score=by_fan_out)
    network = forecaster()
    x = sample(network)
    assert decompose(network, x, strategy="fan_out_of_numbers", keep=0.5).labels == [0, 1, 2]


def test_bad_input():
    network = forecaster()
    x = sample(network)
    with pytest.raises(DataError, match="1 examples, expected at least 2"):
        decompose(network, x[:1])
    with pytest.raises(DataError):
        decompose(network, x[..., :2])
    with pytest.raises(DataError):
        decompose(network, np.where(x == x[0, 0, 0], np.nan, x))
    with pytest.raises(ConfigError, match="padding_label"):
        decompose(network, x, padding_label=0)
    with pytest.raises(DataError):
        decompose(network, x.tolist()[:0])


def test_padded_timesteps_do_not_count():
    network = forecaster(("gru",), "M:N", mask=True)
    x = sample(network)
    x[:, 3:] = 0.0
    parts = decompose(network, x, keep=1.0)
    np.testing.assert_allclose(compose(parts).predict(x), network.predict(x), atol=1e-5)


def test_fused_modules_share_one_body():
    network = forecaster(units=12)
    x = sample(network, 300)
    parts = decompose(network, x, keep=0.5)
    whole = compose(parts).fuse()
    np.testing.assert_allclose(whole.predict(x), network.predict(x), atol=1e-5)
    fused = compose(parts).fuse(x, keep=0.75)
    assert fused[0].body is fused[2].body and fused.task == "regression"
    assert (np.square(fused.predict(x) - network.predict(x)).mean(0) < network.predict(x).var(0)).all()
    np.testing.assert_array_equal(fused.unfuse().predict(x), compose(parts).predict(x))


def test_a_smaller_network_predicts_numbers():
    network = forecaster(units=12)
    x = sample(network, 300)
    small = unbraid.shrink(network, x, keep=0.5)
    assert small.task == "regression" and small.predict(x).shape == (300, 3)
    np.testing.assert_allclose(unbraid.shrink(network, x, keep=1.0).predict(x), network.predict(x), atol=1e-6)


@pytest.mark.parametrize("max_loss", [0.001, 0.2])
def test_max_loss_of_a_smaller_network_bounds_the_change_of_its_numbers(max_loss):
    network = forecaster(units=12)
    x = sample(network, 400)
    small = unbraid.shrink(network, x, max_loss=max_loss)
    held = x[held_out_split(len(x), 0)[1]]
    wanted = network.predict(held).astype(np.float64)
    change = np.square(small.predict(held) - wanted).mean(0) / wanted.var(0)
    assert change.max() <= max_loss * 1.001 + 1e-9
    assert sum(layer.units for layer in small.recurrent_layers().values()) <= 12


def test_one_body_for_all_columns():
    network = forecaster(units=12, labels=["a", "b", "c"])
    x = sample(network, 300)
    parts = decompose(network, x, keep=0.5, concern="output")
    assert parts.labels == ["a", "b", "c"] and parts["a"].body is parts["c"].body
    assert parts["a"].retention().nodes == 0.5 and parts["a"].original is None
    fused = compose(decompose(network, x, keep=0.5)).fuse(x, keep=0.5)
    np.testing.assert_allclose(compose(parts).predict(x), fused.predict(x), atol=1e-5)
    whole = compose(decompose(network, x, keep=1.0, concern="output"))
    np.testing.assert_allclose(whole.predict(x), network.predict(x), atol=1e-5)
    few = decompose(network, x, concern="output", classes=["a", "c"], max_loss=0.1)
    assert few.labels == ["a", "c"] and few["a"].body is few["c"].body


def test_one_body_is_stored_once(tmp_path):
    network = forecaster(units=12)
    x = sample(network, 300)
    sizes = {}
    for concern in ("column", "output"):
        parts = decompose(network, x, keep=0.5, concern=concern)
        parts.save(tmp_path / concern)
        loaded = unbraid.load_decomposition(tmp_path / concern)
        np.testing.assert_allclose(compose(loaded).predict(x), compose(parts).predict(x), atol=1e-6)
        sizes[concern] = sum(file.stat().st_size for file in (tmp_path / concern).glob("modules*"))
    assert loaded[0].body is loaded[2].body and sizes["output"] < sizes["column"]
    parts[1].save(tmp_path / "alone")
    np.testing.assert_allclose(unbraid.load_module(tmp_path / "alone").predict(x), parts[1].predict(x), atol=1e-6)


def test_weights_repeat_examples():
    network = forecaster(units=12)
    x = sample(network, 100)
    weight = np.random.default_rng(3).integers(0, 5, 100)
    found = decompose(network, x, keep=0.5, sample_weight=weight)
    repeated = decompose(network, np.repeat(x, weight, axis=0), keep=0.5)
    np.testing.assert_array_equal(compose(found).predict(x), compose(repeated).predict(x))
    assert not np.array_equal(compose(found).predict(x), compose(decompose(network, x, keep=0.5)).predict(x))
    same = decompose(network, x, keep=0.5, sample_weight=np.full(100, 3.5))
    many = compose(decompose(network, x, keep=0.5, sample_weight=weight, max_loss=None, refine=3))
    assert same.labels == [0, 1, 2] and np.isfinite(many.predict(x)).all()


def test_examples_without_weight_are_left_out():
    network = forecaster(units=12)
    x = sample(network, 400)
    found = decompose(network, x, keep=0.25, sample_weight=np.arange(400) < 200)
    alone = decompose(network, np.repeat(x[:200], 2, axis=0), keep=0.25)
    np.testing.assert_array_equal(compose(found).predict(x), compose(alone).predict(x))


@pytest.mark.parametrize("weight", [np.ones(7), np.full(N, -1.0), np.full(N, np.nan), "abc", np.zeros(N), np.eye(N)[0]])
def test_weights_that_do_not_fit(weight):
    network = forecaster()
    with pytest.raises(DataError, match="sample_weight"):
        decompose(network, sample(network), sample_weight=weight)


def test_settings_of_numbers_are_refused_for_classes():
    network = small_network()
    for settings in ({"concern": "output"}, {"bins": 3}, {"sample_weight": np.ones(120)}):
        with pytest.raises(ConfigError, match=next(iter(settings))):
            decompose(network, small_examples(network), **settings)


def test_a_strategy_without_shared_bodies_refuses_them():
    class Single:
        def __init__(self, parts):
            self.modules, self.classes = list(parts.values()), range(len(parts))

        def module(self, index, keep):
            return self.modules[index]

    class Own(unbraid.Strategy):
        settings, numbers = ReconstructConfig, True

        def prepare(self, network, x, targets, config, progress):
            return Single(decompose(network, x.tree, keep=0.25))

    unbraid.register_strategy("single_bodies", Own)
    network = forecaster()
    assert len(decompose(network, sample(network), strategy="single_bodies")) == 3
    with pytest.raises(ConfigError, match=r"strategy='single_bodies' has no concern='output'"):
        decompose(network, sample(network), strategy="single_bodies", concern="output")


@pytest.mark.parametrize("shape", [(N,), (N, 2), (N - 1, 3), (N, 3, 1)])
def test_targets_of_another_width(shape):
    network = forecaster()
    with pytest.raises(DataError, match=r"targets have shape .*, expected \(120, 3\)"):
        decompose(network, (sample(network), np.zeros(shape)))


@pytest.mark.parametrize("cells", [("lstm",), ("gru", "gru")])
def test_timesteps_do_not_cancel_in_the_scores_of_units(cells):
    """The score of a unit is about the sum of its scores for each timestep alone."""
    network = forecaster(cells, "M:N", units=12)
    x = network.check(sample(network, 600))
    head = channel(network, 1, DecompositionConfig(keep=0.5))
    counted = np.ones((600, 5), bool)
    alone = [node_scores(network, head, x, counted & (np.arange(5) == step)) for step in range(5)]
    for name, found in node_scores(network, head, x, counted).items():
        np.testing.assert_allclose(found, sum(scores[name] for scores in alone), rtol=0.25)
