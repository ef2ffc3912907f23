"""Keras models in memory become networks; needs the extra ``keras``."""

import os
import subprocess
import sys

import numpy as np
import pytest

import unbraid
from unbraid.errors import ArgumentError, ConfigError

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


def own_model(keras):
    """A model with custom layers and a Lambda between its recurrent layers."""
    K = keras.layers

    class Gate(K.Layer):
        def build(self, shape):
            self.scale = self.add_weight(shape=(shape[-1],), initializer="random_normal")
            self.dense = K.Dense(4)
            self.dense.build(shape)

        def call(self, x, mask=None):
            found = self.dense(x * self.scale)
            return found if mask is None else found * keras.ops.cast(mask, "float32")[..., None]

    class Product(K.Layer):
        def call(self, values, training=False):
            assert not training
            return values[0] * values[1]

    words = K.Input((6,))
    h = K.Embedding(9, 3, mask_zero=True)(words)
    gate = Gate()
    gate.supports_masking = True
    h = K.LSTM(4, return_sequences=True)(gate(h))
    h = Product()([h, K.GRU(4, return_sequences=True)(K.Lambda(lambda v: v * 2 + 1)(h))])
    return keras.Model(words, K.Dense(3, activation="softmax")(K.LSTM(5)(h)))


WORDS = np.random.default_rng(0).integers(0, 9, (30, 6))


@pytest.mark.filterwarnings("ignore:Layer.*does not support masking:UserWarning")
@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`:UserWarning")
def test_layers_of_the_user(tmp_path, keras):
    model = own_model(keras)
    network = unbraid.Network.from_keras(model, example=WORDS)
    np.testing.assert_allclose(network.predict_proba(WORDS), model.predict(WORDS, verbose=0), atol=1e-5)
    assert len(network.layers) == 3
    before = network.predict_proba(WORDS)
    model.set_weights([weight * 0 for weight in model.get_weights()])
    np.testing.assert_array_equal(network.predict_proba(WORDS), before)  # it has its own weights
    parts = unbraid.decompose(network, (WORDS, np.arange(30) % 3))
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_allclose(again[0].predict_proba(WORDS), parts[0].predict_proba(WORDS), atol=1e-6)
    code = f"import unbraid; unbraid.load_decomposition({str(tmp_path / 'parts')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "code of your own" in done.stderr.splitlines()[-1]
    assert "from_keras(model)" in done.stderr.splitlines()[-1]


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`:UserWarning")
def test_layers_of_the_user_on_another_backend(keras, monkeypatch):
    model = small(keras, keras.layers.Lambda(lambda x: x * 2))
    monkeypatch.setattr(keras.config, "backend", lambda: "tensorflow")
    with pytest.raises(ConfigError, match=r"Lambda.*KERAS_BACKEND=torch"):
        unbraid.Network.from_keras(model)


def test_without_keras(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras", raising=False)
    with pytest.raises(ArgumentError, match=r"keras\.Model"):
        unbraid.Network.from_keras(object())
