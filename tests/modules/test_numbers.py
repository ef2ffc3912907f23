"""Compositions of modules that predict numbers: columns side by side, without a vote."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import unbraid
from tests import factory
from tests.locations import DATA
from tests.numbers import KINDS, N, forecaster, sample
from unbraid import Composition, compose, decompose, load_composition, load_decomposition, load_module
from unbraid.errors import ConfigError, DataError, IncompatibleModules


def parts_of(keep=0.5, **settings):
    network = forecaster(**settings)
    x = sample(network)
    return decompose(network, x, keep=keep), x


@pytest.mark.parametrize("output", KINDS)
def test_columns_are_the_numbers_of_the_modules(output):
    parts, x = parts_of(output=output)
    composition = compose(parts)
    found = composition.predict(x)
    assert composition.task == "regression" and found.shape == (N, 3)
    for column, module in enumerate(parts.values()):
        np.testing.assert_allclose(found[:, column], module.predict(x), atol=1e-6)
        np.testing.assert_allclose(
            found[:, column], module.parent.activate(torch.from_numpy(module.margins(x))), atol=1e-6
        )


@pytest.mark.filterwarnings("error")
def test_modules_of_several_parents_need_no_calibration():
    one, x = parts_of(labels=["low", "high", "close"])
    other, _ = parts_of(cells=("gru",), output="linear+sigmoid", labels=["volume", "high", "risk"], seed=3)
    mixed = compose([one["low"], other["risk"]]).add(other["volume"])
    assert mixed.labels == ["low", "risk", "volume"]
    np.testing.assert_allclose(mixed.predict(x)[:, 1], other["risk"].predict(x), atol=1e-6)
    replaced = mixed.replace("low", other["high"])
    np.testing.assert_allclose(replaced.predict(x)[:, 0], other["high"].predict(x), atol=1e-6)
    np.testing.assert_allclose(replaced.drop("low").predict(x), mixed.predict(x)[:, 1:], atol=1e-6)


def test_votes_calibration_and_referee_are_refused():
    parts, x = parts_of()
    composition, y = compose(parts), np.zeros(N, int)
    for call in (composition.with_calibration, composition.with_referee):
        with pytest.raises(IncompatibleModules, match="is for modules that vote, and these predict numbers"):
            call(x, y)
    for settings in ({"calibrate": True}, {"referee": True}):
        with pytest.raises(IncompatibleModules, match="these predict numbers"):
            compose(parts, sample=(x, y), **settings)
    with pytest.raises(ConfigError, match="do not vote"):
        compose(parts, vote="probability")
    with pytest.raises(ConfigError, match="do not vote"):
        Composition(dict(parts), calibration={0: (2.0, 0.0)})


def test_calls_for_classes_are_refused():
    parts, x = parts_of()
    composition, module = compose(parts), parts[0]
    for call in (composition.predict_proba, composition.predict_index, module.predict_proba, module.claims):
        with pytest.raises(DataError, match="a regression gives numbers"):
            call(x)


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_mixed_tasks_are_refused(output):
    parts, x = parts_of()
    classifier = factory.network(output=output, inputs="features", labels=["a", "b", "c"])
    y = np.arange(N) % 3 if output == "softmax" else np.eye(3, dtype=int)[np.arange(N) % 3]
    others = decompose(classifier, (x, y))
    with pytest.raises(IncompatibleModules, match="module 0 predicts a number and module 'a' decides on a class"):
        compose([parts[0], others["a"]])
    with pytest.raises(IncompatibleModules, match="compose modules of one task"):
        compose(others).add(parts[1])


def test_numbers_at_each_timestep_and_at_the_end_are_refused():
    parts, _ = parts_of()
    steps, _ = parts_of(io="M:N", labels=["a", "b", "c"])
    with pytest.raises(IncompatibleModules, match="only one of them at each timestep"):
        compose([parts[0], steps["a"]])


@factory.UNCALIBRATED
def test_horizons_of_different_lengths_are_refused():
    short, x = parts_of(io="1:N")
    long, _ = parts_of(io="1:N", labels=["a", "b", "c"])
    longer = forecaster(io="1:N", labels=["d", "e", "f"])
    stages = [s.model_copy(update={"times": 7}) if s.type == "repeat" else s for s in longer.spec.stages]
    network = unbraid.Network(longer.spec.model_copy(update={"stages": stages}), longer.weights(), longer.labels)
    other = decompose(network, x, keep=0.5)
    assert compose([short[0], long["a"]]).predict(x).shape == (N, 3, 2)
    with pytest.raises(DataError, match=r"the modules give \[3, 7\] timesteps"):
        compose([short[0], other["d"]]).predict(x)


@pytest.mark.parametrize("output", KINDS)
@pytest.mark.parametrize("io", ["M:1", "M:N"])
def test_folders_keep_the_numbers(tmp_path, io, output):
    parts, x = parts_of(io=io, output=output, labels=["low", "high", "close"])
    composition = compose(parts)
    fused = composition.fuse(x, keep=0.5)
    parts.save(tmp_path / "parts")
    composition.save(tmp_path / "whole")
    fused.save(tmp_path / "fused")
    parts["high"].save(tmp_path / "one")
    assert load_decomposition(tmp_path / "parts").network.task == "regression"
    np.testing.assert_array_equal(load_decomposition(tmp_path / "parts")["low"].predict(x), parts["low"].predict(x))
    np.testing.assert_array_equal(load_composition(tmp_path / "whole").predict(x), composition.predict(x))
    np.testing.assert_array_equal(load_composition(tmp_path / "fused").predict(x), fused.predict(x))
    np.testing.assert_allclose(load_module(tmp_path / "one").predict(x), parts["high"].predict(x), atol=1e-6)
    card = (tmp_path / "whole" / "README.md").read_text()
    assert "A regression made of modules" in card and "vote" not in card and "one per predicted number" in card
    assert "predict_proba" not in (tmp_path / "one" / "README.md").read_text()


def test_a_new_process_gives_the_same_numbers(tmp_path):
    parts, x = parts_of(output="linear+tanh", cells=("gru", "lstm"))
    composition = compose(parts)
    composition.save(tmp_path / "whole")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, numpy, unbraid; folder = sys.argv[1]; "
        "found = unbraid.load_composition(folder + '/whole').predict(numpy.load(folder + '/x.npy')); "
        "numpy.save(folder + '/found.npy', found)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), composition.predict(x))


def test_trained_modules_are_saved_with_their_numbers(tmp_path):
    parts, x = parts_of()
    module = parts[0]
    for parameter in module.parameters():
        parameter.data += 0.01
    module.save(tmp_path / "tuned")
    np.testing.assert_allclose(load_module(tmp_path / "tuned").predict(x), module.predict(x), atol=1e-6)


def test_copies_of_torch_layers_give_the_outputs_before_their_activation():
    parts, x = parts_of(output="linear+sigmoid")
    composition, network = compose(parts), parts.network
    given = torch.from_numpy(x)
    np.testing.assert_allclose(composition.activate(composition.to_torch()(given)), composition.predict(x), atol=1e-5)
    np.testing.assert_allclose(network.activate(network.to_torch()(given)), network.predict(x), atol=1e-5)


@pytest.mark.parametrize("name", ["k3-two_inputs.h5", "k2-conv1d_causal.keras", "k2-layer_norm.keras"])
def test_keras_graphs_that_predict_numbers(tmp_path, name):
    path = DATA / "keras" / "graphs" / name
    classifier = unbraid.load(path)
    spec = classifier.spec.model_copy(update={"output": "linear+tanh"})
    network = unbraid.Network(spec, classifier.weights())
    with np.load(path.with_suffix(".npz")) as stored:
        inputs = [stored[key] for key in stored.files if key.startswith("x")]
    x = inputs[0] if len(inputs) == 1 else tuple(inputs)
    wanted = np.tanh(classifier.logits(x))
    parts = decompose(network, (x, None), keep=1.0)
    np.testing.assert_allclose(compose(parts).predict(x), wanted, atol=1e-5)
    compose(parts).save(tmp_path / "whole")
    np.testing.assert_array_equal(load_composition(tmp_path / "whole").predict(x), compose(parts).predict(x))
