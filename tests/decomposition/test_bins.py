"""Bins of targets turn a regression into a classifier."""

import numpy as np
import pytest

import unbraid
from tests.numbers import N, forecaster, sample
from unbraid import Bins, compose, decompose, evaluate
from unbraid.decomposition.bins import classifier_of_bins
from unbraid.errors import ConfigError, DataError


def case(io="M:1", output="linear", seed=0, **more):
    network = forecaster(("lstm",), io, output=output, classes=1, units=10, seed=seed, **more)
    x = sample(network, 200, seed=seed)
    y = network.predict(x)
    return network, x, y


@pytest.mark.parametrize("output", ["linear", "linear+sigmoid", "linear+tanh"])
@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_the_classifier_decides_for_the_bin_of_the_number(io, output):
    network, x, y = case(io, output)
    noisy = y + np.random.default_rng(0).normal(size=y.shape) * y.std() / 50 if output == "linear" else y
    classifier, (same, labels) = classifier_of_bins(network, (x, noisy), 4)
    bins = Bins.quantiles(noisy, 4)
    assert same is x and classifier.labels == bins.labels and classifier.task == "classification"
    np.testing.assert_array_equal(labels, bins.assign(noisy)[..., 0])
    wanted = bins.places(y[..., 0].astype(np.float64))
    near = np.abs(y[..., 0, None] - np.asarray(bins.edges)).min(-1) < 1e-4  # rounding may decide there
    np.testing.assert_array_equal(classifier.predict_index(x)[~near], wanted[~near])
    counts = np.bincount(bins.places(noisy[..., 0]).ravel(), minlength=4)
    assert counts.max() - counts.min() <= 1


@pytest.mark.parametrize("strategy", ["paper", "reconstruct"])
def test_every_strategy_decomposes_bins(strategy):
    network, x, y = case()
    y[:20] = np.nan
    parts = decompose(network, (x, y), bins=3, strategy=strategy)
    bins = Bins.quantiles(y, 3)
    assert parts.labels == bins.labels and parts.network.task == "classification"
    result = evaluate(compose(parts), (x, bins.assign(y[:, 0])), against=parts.network)
    assert result.decisions == 180 and result.left_out_why.unlabelled == 20
    assert result.monolithic_accuracy > 0.97  # the targets are its own numbers
    loaded = evaluate(compose(decompose(network, (x, y[:, 0]), bins=3, keep=1.0)), (x, bins.assign(y[:, 0])))
    assert loaded.accuracy == pytest.approx(result.monolithic_accuracy, abs=0.02)


def test_modules_of_bins_are_saved(tmp_path):
    network, x, y = case()
    parts = decompose(network, (x, y), bins=3, keep=0.5)
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_array_equal(compose(loaded).predict(x), compose(parts).predict(x))


def test_values_that_repeat_give_fewer_bins():
    assert Bins.quantiles([0.0] * 90 + [1.0] * 10, 4).labels == ["<= 0", "> 0"]
    assert Bins.quantiles([0.0] * 10 + [1.0] * 90, 4).labels == ["<= 0", "> 0"]
    close = Bins.quantiles(1e6 + np.arange(4), 4)
    assert len(set(close.labels)) == 4


def test_numbers_on_an_edge_belong_to_the_lower_bin():
    bins = Bins((1.0, 2.0))
    assert bins.assign([1.0, 1.5, 2.0, 2.5]).tolist() == ["<= 1", "1 to 2", "1 to 2", "> 2"]


@pytest.mark.parametrize("y", [np.full((N, 1), 2.0), np.full((N, 1), np.nan)])
def test_equal_or_missing_targets(y):
    network = forecaster(classes=1)
    with pytest.raises(DataError, match="bins=3 needs different targets"):
        decompose(network, (sample(network), y), bins=3)


def test_bad_input():
    network = forecaster(classes=1)
    x = sample(network)
    with pytest.raises(ConfigError, match="needs targets"):
        decompose(network, x, bins=3)
    with pytest.raises(DataError, match="targets have shape"):
        decompose(network, (x, np.zeros((N, 2))), bins=3)
    with pytest.raises(ConfigError, match="bins=1"):
        decompose(network, (x, np.arange(N)), bins=1)
    with pytest.raises(ConfigError, match="one column"):
        decompose(forecaster(), (x, np.zeros((N, 3))), bins=3)
    with pytest.raises(DataError, match="outside of what the output"):
        decompose(forecaster(classes=1, output="linear+sigmoid"), (x, np.arange(N)), bins=3)
    for wrong in (["a"], [np.inf, 1.0], object()):
        with pytest.raises(DataError):
            Bins.quantiles(wrong, 2)
    for count in (True, 1, 2.5, "3"):
        with pytest.raises(ConfigError, match="whole number"):
            Bins.quantiles([1.0, 2.0], count)


def test_the_output_layer_of_a_pytorch_module_stays():
    import torch
    from torch import nn

    class Forecast(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, 1)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    x = torch.randn(20, 5, 3)
    network = unbraid.Network.from_torch(Forecast(), x, task="regression")
    with pytest.raises(ConfigError, match="belongs to the code of a PyTorch module"):
        decompose(network, (x, np.arange(20)), bins=3)
