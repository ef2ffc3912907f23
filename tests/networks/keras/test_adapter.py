"""Layers that Keras runs: the same predictions, no code from files, and what is said without Keras."""

import os
import sys

import numpy as np
import pytest

import unbraid
from tests.networks.keras.making import dense, layer, lstm, sequential, write_h5
from unbraid.errors import ConfigError, UnbraidError, UnsupportedLayer
from unbraid.networks.graph import adapter
from unbraid.networks.keras.reading import load_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
T, D = 8, 4
X = np.random.default_rng(1).normal(size=(4, T, D)).astype("float32")
LAYERS = {
    "AdaptiveAveragePooling1D": (3,),
    "AdaptiveMaxPooling1D": (3,),
    "Conv1DTranspose": (5, 3),
    "Discretization": ([-0.5, 0.0, 0.8],),
    "EinsumDense": ("abc,cd->abd", (None, 5), "tanh", "d"),
    "GroupNormalization": (2,),
    "RMSNormalization": (),
}


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def filled(keras, *layers, shape=(T, D)):
    K = keras.layers
    model = keras.Sequential([K.Input(shape), *layers, K.LSTM(4), K.Dense(3, activation="softmax")])
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.6, w.shape).astype("float32") for w in model.get_weights()])
    return model


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("end", [".keras", ".h5"])
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
def test_predicts_as_keras_does(tmp_path, keras, kind, end):
    model = filled(keras, getattr(keras.layers, kind)(*LAYERS[kind]))
    model.save(tmp_path / f"model{end}")
    network = load_keras(tmp_path / f"model{end}")
    np.testing.assert_allclose(network.predict_proba(X), model.predict(X, verbose=0), atol=1e-5)


@pytest.mark.parametrize("kind", ["Resizing", "CenterCrop"])
def test_images(tmp_path, keras, kind):
    K = keras.layers
    model = filled(keras, getattr(K, kind)(6, 5), K.RandomFlip(), K.Reshape((6, 10)), shape=(7, 9, 2))
    model.save(tmp_path / "model.keras")
    x = np.random.default_rng(2).normal(size=(3, 7, 9, 2)).astype("float32")
    np.testing.assert_allclose(
        load_keras(tmp_path / "model.keras").predict_proba(x), model.predict(x, verbose=0), atol=1e-5
    )


def test_decomposes_and_loads_again(tmp_path, keras):
    filled(keras, keras.layers.Conv1DTranspose(5, 3), keras.layers.GroupNormalization(1)).save(tmp_path / "model.keras")
    network, x = load_keras(tmp_path / "model.keras"), np.tile(X, (5, 1, 1))
    parts = unbraid.decompose(network, (x, np.arange(20) % 3))
    parts.save(tmp_path / "parts")
    again = unbraid.compose(unbraid.load_decomposition(tmp_path / "parts"))
    np.testing.assert_allclose(again.predict_proba(x), unbraid.compose(parts).predict_proba(x), atol=1e-6)


def file_of(path, **settings):
    """A file with one layer that Keras runs, behind the embedding of the other tests."""
    norm = layer("GroupNormalization", "norm", **{"groups": 1, "axis": -1} | settings)
    embedded = layer("Embedding", "emb", input_dim=7, output_dim=2, mask_zero=False)

    def change(file):
        group = file.create_group("model_weights/norm")
        group.attrs["weight_names"] = ["gamma", "beta"]
        for name in ("gamma", "beta"):
            group[name] = np.full(2, 0.1, "float32")

    return write_h5(path, sequential(embedded, norm, lstm(), dense()), change)


@pytest.mark.parametrize(
    "settings", [{"groups": 3}, {"groups": "x"}, {"axis": 9}, {"groups": 2**60}, {"epsilon": [1, 2]}, {"code": "x"}]
)
def test_settings_that_keras_refuses(tmp_path, keras, settings):
    load_keras(file_of(tmp_path / "good.h5"))
    with pytest.raises(UnbraidError, match="norm"):
        load_keras(file_of(tmp_path / "bad.h5", **settings)).logits(np.ones((2, 5), int))


def test_without_the_extra(tmp_path, monkeypatch):
    adapter._layer.cache_clear()
    monkeypatch.setitem(sys.modules, "keras", None)
    with pytest.raises(ConfigError, match=r"unbraid\[keras\]"):
        load_keras(file_of(tmp_path / "model.h5"))
    adapter._layer.cache_clear()


def test_another_backend(tmp_path, keras, monkeypatch):
    adapter._layer.cache_clear()
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ConfigError, match="KERAS_BACKEND=torch"):
        load_keras(file_of(tmp_path / "model.h5"))
    adapter._layer.cache_clear()


@pytest.mark.parametrize("kind", ["Lambda", "TorchModuleWrapper", "JaxLayer", "TFSMLayer", "Pipeline"])
def test_classes_that_run_code_are_refused(tmp_path, kind):
    embedded = layer("Embedding", "emb", input_dim=7, output_dim=2, mask_zero=False)
    path = write_h5(tmp_path / "model.h5", sequential(embedded, layer(kind, "code", function="evil"), lstm(), dense()))
    with pytest.raises(UnsupportedLayer, match="code"):
        load_keras(path)
