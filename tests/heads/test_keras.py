"""Keras models with several outputs, from a file and from memory, in Python and on the command line."""

import json
import os

import numpy as np
import pytest

import unbraid
from tests.cli.shell import run
from unbraid.errors import ConfigError

X = np.random.default_rng(0).normal(size=(90, 5, 3)).astype(np.float32)
KIND = np.arange(len(X)) % 3
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2


@pytest.fixture(scope="module")
def model():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    keras.utils.set_random_seed(0)
    layers = keras.layers
    read = layers.Input((5, 3))
    last = layers.LSTM(8)(layers.Conv1D(4, 2, padding="same")(read))
    made = keras.Model(
        read, {"kind": layers.Dense(3, "softmax", name="kind")(last), "amount": layers.Dense(2, name="amount")(last)}
    )
    made.compile(loss={"kind": "sparse_categorical_crossentropy", "amount": "mse"})
    return made


@pytest.fixture(scope="module")
def path(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "two.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("way", ["file", "memory"])
def test_all_outputs_of_a_model_are_read(way, model, path):
    labels = {"kind": ["a", "b", "c"]}
    heads = unbraid.Heads.load(path, labels) if way == "file" else unbraid.Heads.from_keras(model, X, labels)
    wanted, found = model.predict(X, verbose=0), heads.predict(X)
    assert sorted(heads) == ["amount", "kind"] and heads["amount"].task == "regression"
    np.testing.assert_allclose(found["amount"], wanted["amount"], atol=1e-5)
    assert list(found["kind"]) == [labels["kind"][k] for k in wanted["kind"].argmax(1)]


def test_modules_of_a_file_are_saved_and_used_by_the_commands(path, tmp_path):
    heads = unbraid.Heads.load(path, labels={"kind": ["a", "b", "c"]})
    names = np.array(["a", "b", "c"])[KIND]
    parts = heads.decompose((X, {"kind": names, "amount": None}), keep=0.5)
    parts.save(tmp_path / "parts")
    found = unbraid.load_heads(tmp_path / "parts")
    for name, expected in parts.compose().predict(X).items():
        np.testing.assert_array_equal(found.predict(X)[name], expected)
    np.savez(tmp_path / "data.npz", x=X, y=names)
    shown = run("evaluate", tmp_path / "parts", tmp_path / "data.npz", "--output", "kind", "--json")
    assert shown.exit_code == 0, shown.output
    accuracy = json.loads(shown.stdout)["accuracy"]
    assert accuracy == pytest.approx((found["kind"].predict(X) == names).mean())
    shown = run("predict", tmp_path / "parts", tmp_path / "data.npz", "--output", "amount", "--json")
    np.testing.assert_allclose(json.loads(shown.stdout)["predicted"], found["amount"].predict(X), atol=1e-5)
    against = run(
        "evaluate", tmp_path / "parts", tmp_path / "data.npz", "--output", "kind", "--against", path, "--json"
    )
    assert against.exit_code == 0 and json.loads(against.stdout)["monolithic_accuracy"] is not None, against.output
    refused = run("inspect", tmp_path / "parts")
    assert refused.exit_code == 2 and "choose one with --output" in refused.output
    assert run("inspect", tmp_path / "parts", "--output", "amount").exit_code == 0


def test_a_model_with_one_output_is_refused(tmp_path):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    read = keras.layers.Input((5, 3))
    keras.Model(read, keras.layers.Dense(3, "softmax")(keras.layers.GRU(4)(read))).save(tmp_path / "one.keras")
    with pytest.raises(ConfigError, match=r"the model has one output, .*: use unbraid\.load"):
        unbraid.Heads.load(tmp_path / "one.keras")


def test_a_task_of_an_unknown_output_is_refused(path):
    with pytest.raises(ConfigError, match="task names the output layer 'x'"):
        unbraid.Heads.load(path, task={"x": "regression"})
