"""Keras models in memory become networks; needs the extra ``keras``."""

import os
import sys

import numpy as np
import pytest

import unbraid
from unbraid.errors import ArgumentError, ConfigError, UnsupportedLayer

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def small(keras, *between):
    """A model with a convolution in front."""
    K = keras.layers
    stages = [K.Input((8, 3)), K.Conv1D(4, 3), K.LSTM(4), *between, K.Dense(3, activation="softmax")]
    return keras.Sequential(stages)


def test_a_live_model_predicts_the_same(keras):
    model = small(keras, keras.layers.BatchNormalization())
    x = np.random.default_rng(0).normal(size=(5, 8, 3)).astype("float32")
    network = unbraid.Network.from_keras(model, example=x, labels=["a", "b", "c"])
    np.testing.assert_allclose(network.predict_proba(x), model.predict(x, verbose=0), atol=1e-5)
    assert list(network.layers) == [next(layer.name for layer in model.layers if "lstm" in layer.name)]
    assert network.labels == ["a", "b", "c"]


def test_a_live_model_of_two_inputs_and_outputs(keras):
    K = keras.layers
    i, j = K.Input((6, 3)), K.Input((2,))
    h = K.Concatenate()([K.GRU(4)(i), j])
    ends = [K.Dense(3, activation="softmax", name="one")(h), K.Dense(2, activation="softmax", name="two")(h)]
    model = keras.Model([i, j], ends)
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(5, 6, 3)).astype("float32"), rng.normal(size=(5, 2)).astype("float32"))
    network = unbraid.Network.from_keras(model, example=x, output="two")
    np.testing.assert_allclose(network.predict_proba(x), model.predict(list(x), verbose=0)[1], atol=1e-5)


@pytest.mark.parametrize("activation", [None, "sigmoid", "tanh"])
def test_a_live_regression(keras, activation):
    stages = [keras.layers.Input((8, 3)), keras.layers.Conv1D(4, 3), keras.layers.LSTM(4)]
    model = keras.Sequential([*stages, keras.layers.Dense(2, activation=activation)])
    model.compile(loss="mse")
    x = np.random.default_rng(0).normal(size=(5, 8, 3)).astype("float32")
    network = unbraid.Network.from_keras(model, example=x)
    np.testing.assert_allclose(network.predict(x), model.predict(x, verbose=0), atol=1e-5)
    assert network.task == "regression"
    assert unbraid.Network.from_keras(model, example=x, task="regression").task == "regression"


def test_what_is_no_usable_model_is_refused(keras):
    with pytest.raises(ArgumentError, match=r"keras\.Model"):
        unbraid.Network.from_keras("model.keras")
    unbuilt = keras.Sequential([keras.layers.LSTM(3), keras.layers.Dense(2, activation="softmax")])
    with pytest.raises(ConfigError, match="no weights yet"):
        unbraid.Network.from_keras(unbuilt)
    with pytest.raises(UnsupportedLayer, match="Lambda"):
        unbraid.Network.from_keras(small(keras, keras.layers.Lambda(lambda x: x * 2)))


def test_without_keras(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ArgumentError, match=r"keras\.Model"):
        unbraid.Network.from_keras(object())
