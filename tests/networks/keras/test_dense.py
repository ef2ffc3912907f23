"""Keras models with hidden dense layers, or with nothing else: predictions, sizes and files."""

import json
import os

import numpy as np
import pytest
from typer.testing import CliRunner

import unbraid
from unbraid.cli.app import app
from unbraid.errors import DataError, FormatError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def models(keras):
    K = keras.layers
    end = lambda: K.Dense(3, activation="softmax")  # noqa: E731
    yield (
        "images",
        keras.Sequential(
            [K.Input((4, 3, 2)), K.Flatten(), K.Dense(9, "relu"), K.Dropout(0.3), K.Dense(8, "gelu"), end()]
        ),
    )
    yield "vector", keras.Sequential([K.Input((5,)), K.Dense(9), K.Activation("relu"), K.Dense(8, "sigmoid"), end()])
    yield "rows", keras.Sequential([K.Input((4, 5)), K.Dense(7, "relu"), K.Flatten(), K.Dense(6, "tanh"), end()])
    yield (
        "front",
        keras.Sequential(
            [K.Input((4, 5)), K.TimeDistributed(K.Dense(7, "relu")), K.LSTM(6), K.Dense(5, "relu"), end()]
        ),
    )
    yield (
        "normed",
        keras.Sequential([K.Input((5,)), K.Dense(9, "relu"), K.BatchNormalization(), K.Dense(8, "relu"), end()]),
    )
    i = K.Input((6,))
    h = K.Dense(9, "relu", name="wide")(i)
    j = K.Concatenate()([K.Dense(7, "relu", name="side")(h), h])
    yield "branches", keras.Model(i, end()(K.Dense(8, "elu", name="last")(j)))
    i = K.Input((5, 4))
    h = K.GRU(6, return_sequences=True)(K.Dense(7, "relu", name="before")(i))
    h = K.GlobalAveragePooling1D()(h)
    yield "pooled", keras.Model(i, end()(K.Dense(8, "relu", name="behind")(h)))


NAMES = ["images", "vector", "rows", "front", "normed", "branches", "pooled"]
SIZES = {"images": 2, "vector": 1, "rows": 2, "front": 3, "normed": 2, "branches": 3, "pooled": 3}  # prunable layers


def made(keras, name, folder):
    keras.utils.set_random_seed(4)
    model = dict(models(keras))[name]
    path = folder / f"{name}.keras"
    model.save(path)
    x = np.random.default_rng(0).normal(size=(90, *model.input_shape[1:])).astype("float32")
    return model, unbraid.load(path), x, np.arange(90) % 3, path


@pytest.mark.parametrize("name", NAMES)
def test_predictions_and_modules(keras, name, tmp_path):
    model, net, x, y, _ = made(keras, name, tmp_path)
    wanted = model.predict(x, verbose=0)
    np.testing.assert_allclose(net.predict_proba(x), wanted, atol=1e-5)
    assert len(net.layers) == SIZES[name]
    for label, part in unbraid.decompose(net, (x, y), keep=1.0).items():
        np.testing.assert_allclose(part.predict_proba(x), wanted[:, label], atol=1e-4)
    parts = unbraid.decompose(net, (x, y), keep=0.5)
    for layer, kept in parts[0].kept_nodes.items():
        assert kept.sum() == round(0.5 * net.layers[layer].units)
    parts.save(tmp_path / "parts")
    loaded = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_array_equal(unbraid.compose(loaded).margins(x), unbraid.compose(parts).margins(x))
    unbraid.export_onnx(unbraid.compose(parts), tmp_path / "all.onnx", example=x[:4])


def test_chains_of_a_graph(keras, tmp_path):
    _, net, _, _, _ = made(keras, "branches", tmp_path)
    assert {dense.name: dense.chained for dense in net.spec.dense} == {
        "wide": None,
        "side": None,
        "last": net.spec.head,
    }
    _, net, _, _, _ = made(keras, "pooled", tmp_path)
    assert {dense.name: dense.after for dense in net.spec.dense} == {"before": 0, "behind": 1}


@pytest.mark.parametrize("name", ["images", "vector", "front"])
def test_keras_files_of_smaller_modules(keras, name, tmp_path):
    _, net, x, y, _ = made(keras, name, tmp_path)
    part = unbraid.decompose(net, (x, y), keep=0.5, head="fitted")[0]
    unbraid.export_keras(part, tmp_path / "small.keras")
    found = keras.saving.load_model(tmp_path / "small.keras").predict(x, verbose=0)
    np.testing.assert_allclose(found[:, 0], part.predict_proba(x), atol=1e-5)


def test_the_command_line(keras, tmp_path):
    _, _, x, y, path = made(keras, "images", tmp_path)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    runner = CliRunner()
    found = json.loads(runner.invoke(app, ["inspect", str(path), "--json"]).stdout)
    assert found["io"] == "1:1" and found["timesteps"] is None
    args = ["decompose", str(path), str(tmp_path / "data.npz"), "-o", str(tmp_path / "out"), "--keep", "0.5"]
    result = runner.invoke(app, [*args, "--layers", "all"])
    assert result.exit_code == 0, result.output
    result = runner.invoke(app, ["inspect", str(tmp_path / "out")])
    assert result.exit_code == 0 and "3 modules" in result.output
    result = runner.invoke(app, [*args, "--mode", "unrolled"])
    assert result.exit_code != 0


def test_a_model_without_hidden_layers_is_refused(keras, tmp_path):
    K = keras.layers
    for model in (
        keras.Sequential([K.Input((5,)), K.Dense(3, activation="softmax")]),
        keras.Sequential([K.Input((5,)), K.Dense(4, "sigmoid"), K.Dense(3, activation="softmax")]),
    ):
        model.save(tmp_path / "model.keras")
        with pytest.raises(FormatError, match="no hidden dense layer whose units"):
            unbraid.load(tmp_path / "model.keras")


def test_other_shapes_are_refused(keras, tmp_path):
    _, net, x, _, _ = made(keras, "images", tmp_path)
    with pytest.raises(DataError, match=r"expected \(N, 4, 3, 2\)"):
        net.predict(x[..., 0])
