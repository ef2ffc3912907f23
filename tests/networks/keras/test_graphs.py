"""Keras models that are graphs predict what Keras predicts, decompose, and load again from a folder without Keras.

The files in ``tests/data/keras/graphs`` and the predictions are written by ``benchmarks/census/keras_models.py`` with
tf_keras 2.16 (``k2-``) and Keras 3.15 on TensorFlow (``k3-``); the ``.keras`` files are packed again with deflate.
"""

import json
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch

import unbraid
from tests.locations import DATA
from tests.networks.keras.making import dense, embedding, layer, lstm, sequential, write_h5
from unbraid.errors import ConfigError, DataError, FormatError, IncompatibleModules, UnsupportedLayer
from unbraid.networks.keras.reading import load_keras
from unbraid.networks.layers import sliced

GRAPHS = DATA / "keras" / "graphs"
FILES = sorted(p.name for p in GRAPHS.iterdir() if p.suffix in (".h5", ".keras"))
DECOMPOSED = ["conv1d_pool", "bidirectional_states", "seq2seq_attention", "words_and_numbers", "nested_functional"]


def opened(name):
    """The network, its inputs and the predictions of Keras."""
    stored = np.load((GRAPHS / name).with_suffix(".npz"))
    arrays = [stored[key] for key in sorted(stored.files) if key != "y"]
    network = load_keras(GRAPHS / name, output="last" if "two_outputs" in name else None)
    return network, tuple(arrays) if len(arrays) > 1 else arrays[0], stored["y"]


def several(x, times=5):
    """The examples, several times."""
    if isinstance(x, tuple):
        return tuple(several(part, times) for part in x)
    return np.tile(x, (times, *[1] * (x.ndim - 1)))


def turns(network, x):
    """Every class in turn."""
    shape = network.logits(x).shape[:-1]
    return np.arange(np.prod(shape)).reshape(shape) % network.classes


@pytest.mark.filterwarnings("ignore:.*stateful:unbraid.errors.UnbraidWarning")
@pytest.mark.parametrize("name", FILES)
def test_predicts_as_keras_does(name):
    network, x, y = opened(name)
    assert network.spec.type == "keras" or "gru_elu" in name or "rnn_" in name
    np.testing.assert_allclose(network.predict_proba(x), y, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", DECOMPOSED)
@pytest.mark.parametrize("strategy", ["reconstruct", "paper"])
def test_decomposes_and_loads_again(tmp_path, name, strategy):
    network, x, _ = opened(f"k3-{name}.keras")
    x = several(x)
    parts = unbraid.decompose(network, (x, turns(network, x)), strategy=strategy)
    expected = unbraid.compose(parts).predict_proba(x)
    parts.save(tmp_path / "parts")
    found = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_allclose(unbraid.compose(found).predict_proba(x), expected, atol=1e-6)
    assert found.network.sha256() == network.sha256()
    np.testing.assert_allclose(found.network.predict_proba(x), network.predict_proba(x), atol=1e-6)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_layers_that_keep_every_unit_compute_the_same(name):
    network, x, _ = opened(f"k3-{name}.keras")
    kept = {name: torch.arange(layer.units) for name, layer in network.layers.items()}
    body, _ = sliced(network.body, kept)
    batch = next(network.check(x).batches())
    with torch.no_grad():
        torch.testing.assert_close(body(batch), network.features(batch), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", DECOMPOSED)
def test_a_removed_unit_gives_zero(name):
    """A unit that is cut out, and one whose weights into its own layer are removed, give the same features."""
    network, x, _ = opened(f"k3-{name}.keras")
    name, layer = next(iter(network.layers.items()))
    kept = {other: torch.arange(one.units) for other, one in network.layers.items()}
    kept[name] = torch.arange(layer.units - 1)
    body, _ = sliced(network.body, kept)
    batch = next(network.check(x).batches())
    with torch.no_grad():
        before = network.features(batch)
        after = body(batch)
    assert after.shape == before.shape and not torch.allclose(after, before, atol=1e-4)


def test_one_output_of_several():
    path = GRAPHS / "k3-two_outputs.keras"
    assert [load_keras(path, output=name).classes for name in ("first", "last")] == [3, 2]


def test_inputs_that_do_not_fit():
    network, (words, numbers), _ = opened("k3-words_and_numbers.keras")
    names = [given.name for given in network.spec.graph.inputs]
    by_name = dict(zip(names[::-1], (numbers, words), strict=True))
    np.testing.assert_array_equal(network.logits(by_name), network.logits((words, numbers)))
    for x, message in [
        (words, "tuple of 2 arrays"),
        ((words, numbers[:3]), "examples"),
        ((words, numbers[:, :2]), "'extra'"),
        ((words + 50, numbers), "0 to 11"),
        ((words, numbers * np.nan), "NaN"),
        ({"a": words}, "the network reads"),
    ]:
        with pytest.raises(DataError, match=message):
            network.predict(x)


def test_a_changed_description_is_refused(tmp_path):
    network, _, _ = opened("k3-conv1d_pool.keras")
    spec = network.spec
    layers = [
        layer.model_copy(update={"kind": "Mystery"}) if layer.type == "layer" else layer for layer in spec.graph.layers
    ]
    calls = spec.graph.calls[::-1]
    for graph in (spec.graph.model_copy(update={"layers": layers}), spec.graph.model_copy(update={"calls": calls})):
        with pytest.raises(FormatError):
            unbraid.Network(spec.model_copy(update={"graph": graph}), network.weights())


def test_modules_of_other_inputs_are_not_composed():
    parts = []
    for name in ("conv1d_pool", "attention_masked"):
        network, x, _ = opened(f"k3-{name}.keras")
        x = several(x)
        found = unbraid.decompose(network, (x, turns(network, x)), strategy="magnitude", keep=0.5)
        parts.append(next(iter(found.values())))
    with pytest.raises(IncompatibleModules, match="different inputs"):
        unbraid.compose({"a": parts[0], "b": parts[1]})


@pytest.mark.parametrize(
    "stage",
    [
        layer("UpSampling1D", "lstm0", size=2**20),
        layer("ZeroPadding1D", "lstm0", padding=[2**15, 2**40]),
        layer("Conv1D", "lstm0", filters=2**20, kernel_size=[2**20]),
        layer("Conv1D", "lstm0", filters=2**40, kernel_size=[3]),
        layer("Reshape", "lstm0", target_shape=[-1, -1]),
        layer("Reshape", "lstm0", target_shape=[2**62, 2**62]),
        layer("BatchNormalization", "lstm0", axis=[1, 2]),
        layer("BatchNormalization", "lstm0", axis="__import__"),
        layer("Activation", "lstm0", activation={"class_name": "function", "config": "eval", "module": "builtins"}),
        layer("MaxPooling1D", "lstm0", pool_size=-1),
        layer("Softmax", "lstm0", axis=7),
        layer("Permute", "lstm0", dims=[0, 1]),
        layer("Rescaling", "lstm0", scale={"class_name": "Lambda"}),
    ],
)
def test_hostile_settings_are_refused_without_memory(tmp_path, stage):
    path = write_h5(tmp_path / "model.h5", sequential(embedding(), stage, lstm(), dense()))
    tracemalloc.start()
    with pytest.raises((FormatError, UnsupportedLayer)) as caught:
        load_keras(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("outputs", [[], {}])
def test_a_graph_without_an_output(tmp_path, outputs):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(GRAPHS / "k3-two_outputs.keras") as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "config.json":
                model = json.loads(content)
                model["config"]["output_layers"] = outputs
                content = json.dumps(model).encode()
            new.writestr(name, content)
    for output in (None, "last"):
        with pytest.raises((FormatError, ConfigError)) as error:
            load_keras(path, output=output)
        assert str(error.value).count("\n") == 0
