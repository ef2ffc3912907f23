"""Models as people write them: operators, functions, activations that are layers, and layers behind the output layer.

The files in ``tests/data/keras/habits`` and the predictions are written by ``benchmarks/census/keras_habits.py`` with
tf_keras 2.16 and 2.21 (``k2-``) and Keras 3.15 on torch (``k3-``).
"""

import json
import os
import zipfile

import numpy as np
import pytest
import torch

import unbraid
from tests.locations import DATA
from unbraid.errors import FormatError, UnbraidWarning, UnsupportedLayer
from unbraid.networks.graph.kind import Settings
from unbraid.networks.graph.kinds import KINDS
from unbraid.networks.graph.operations import OPERATIONS
from unbraid.networks.keras.activations import function_of
from unbraid.networks.keras.reading import load_keras

HABITS = DATA / "keras" / "habits"
FILES = sorted(p.name for p in HABITS.iterdir() if p.suffix in (".h5", ".keras"))
RESHAPED = "ignore:.*reshapes the outputs:unbraid.errors.UnbraidWarning"


def opened(name):
    """The network, its inputs and the predictions of Keras; for log-probabilities the probabilities."""
    stored = np.load((HABITS / name).with_suffix(".npz"))
    arrays = [stored[key] for key in sorted(stored.files) if key != "y"]
    y = np.exp(stored["y"]) if "log_softmax" in name else stored["y"]
    return load_keras(HABITS / name), tuple(arrays) if len(arrays) > 1 else arrays[0], y


def predicted(model, x):
    return model.predict(x) if model.task == "regression" else model.predict_proba(x)


def several(x):
    return tuple(map(several, x)) if isinstance(x, tuple) else np.tile(x, (5, *[1] * (x.ndim - 1)))


@pytest.mark.filterwarnings(RESHAPED)
@pytest.mark.parametrize("name", FILES)
def test_predicts_as_keras_does(name):
    network, x, y = opened(name)
    assert y.std(0).max() > 1e-3
    np.testing.assert_allclose(predicted(network, x).reshape(y.shape), y, rtol=0, atol=1e-5)


def test_a_mask_that_is_an_input_counts():
    network, (x, mask), y = opened("k3-explicit_mask_input.keras")
    assert abs(network.predict_proba((x, np.ones_like(mask))) - y).max() > 1e-3


@pytest.mark.parametrize("name", ["k2-op_abs_difference", "k3-two_towers_cosine", "k3-last_step_index"])
def test_decomposes_and_loads_again(tmp_path, name):
    network, x, _ = opened(f"{name}.keras")
    x = several(x)
    y = np.arange(len(network.logits(x))) % max(network.classes, 2)
    parts = unbraid.decompose(network, (x, y), strategy="paper")
    expected = unbraid.compose(parts).predict_proba(x)
    parts.save(tmp_path / "parts")
    found = unbraid.compose(unbraid.load_decomposition(tmp_path / "parts"))
    np.testing.assert_allclose(found.predict_proba(x), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["k3-brownlee_encoder_cnn", "k2-op_abs_difference", "k3-explicit_mask_input"])
def test_shrinks_with_hidden_dense_layers(name):
    """A hidden dense layer behind a smaller recurrent layer reads fewer inputs; a layer may be called twice."""
    network, x, _ = opened(f"{name}.keras")
    small = unbraid.shrink(network, several(x), keep=0.5)
    assert sum(w.numel() for w in small.weights().values()) < sum(w.numel() for w in network.weights().values())
    assert np.isfinite(predicted(small, x)).all()


def test_outputs_that_are_reshaped_are_columns_here():
    with pytest.warns(UnbraidWarning, match=r"reshapes the outputs of '[a-z_0-9]+' to \(5, 3\).*15 columns"):
        network = load_keras(HABITS / "k2-tf_tutorial_multi_step.keras")
    assert network.classes == 15


WRITTEN = ["k2-op_concat", "k3-op_activations", "k3-explicit_mask_input", "k2-hard_sigmoid_lstm",
           "k2-operator_drops_mask",
           "k3-hard_sigmoid_bidirectional", "k3-two_towers_cosine", "k2-leaky_activation_layer",
           "k3-leaky_activation"]  # fmt: skip


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning", "ignore:Argument `alpha`")
def test_is_written_for_keras_and_read_again(tmp_path, name):
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    network, x, y = opened(f"{name}.keras")
    unbraid.export_keras(network, tmp_path / "again.keras")
    found = keras.models.load_model(tmp_path / "again.keras").predict(list(x) if isinstance(x, tuple) else x, verbose=0)
    np.testing.assert_allclose(found, y, atol=1e-5)
    task = "regression" if network.task == "regression" else None
    np.testing.assert_allclose(predicted(load_keras(tmp_path / "again.keras", task=task), x), y, atol=1e-5)


def edited(tmp_path, name, change):
    """A file of the folder, whose layers ``change`` edits."""
    with zipfile.ZipFile(HABITS / name) as given, zipfile.ZipFile(tmp_path / name, "w") as made:
        for member in given.namelist():
            data = given.read(member)
            if member == "config.json":
                config = json.loads(data)
                for layer in config["config"]["layers"]:
                    change(layer)
                data = json.dumps(config).encode()
            made.writestr(member, data)
    return tmp_path / name


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ([0], "part of the examples"),
        ([{"class_name": "__slice__", "config": {}}, {"a": 1}], "selects"),
        ("x", "selects"),
    ],
)
def test_examples_are_never_mixed(tmp_path, key, message):
    def change(layer):
        if layer["class_name"] == "GetItem":
            layer["inbound_nodes"][0]["args"][1] = key

    with pytest.raises(UnsupportedLayer, match=message):
        load_keras(edited(tmp_path, "k3-last_step_index.keras", change))


def test_settings_of_random_numbers_change_nothing(tmp_path):
    """tf_keras 2.21 writes rng_type, for RandomFlip and others."""
    edits = []

    def change(layer):
        inner = layer["config"].get("layer", {})
        if inner.get("class_name") == "SpatialDropout2D":
            inner["config"]["rng_type"] = "stateful"
            edits.append(layer)

    name = "k3-lrcn_spatial_dropout.keras"
    network, x, _ = opened(name)
    again = load_keras(edited(tmp_path, name, change))
    assert len(edits) == 1
    assert np.array_equal(again.predict_proba(x), network.predict_proba(x))


def test_an_unknown_function_is_named(tmp_path):
    def change(layer):
        if layer["class_name"] == "TFOpLambda":
            layer["config"]["function"] = "linalg.inv"

    with pytest.raises(UnsupportedLayer, match=r"tf\.linalg\.inv"):
        load_keras(edited(tmp_path, "k2-op_concat.keras", change))


def test_random_predictions_are_refused(tmp_path):
    def change(layer):
        if layer["class_name"] == "SpatialDropout2D" or layer["class_name"] == "Dense":
            layer["inbound_nodes"][0]["kwargs"] = {"training": True}

    with pytest.raises(UnsupportedLayer, match="predictions are random"):
        load_keras(edited(tmp_path, "k3-explicit_mask_input.keras", change))


X = torch.arange(24.0).reshape(2, 3, 4)


@pytest.mark.parametrize(
    ("name", "settings", "x"),
    [
        ("sum", {}, [X]), ("sum", {"axis": 0}, [X]), ("mean", {"axis": [0, 1]}, [X]), ("flip", {"axis": 0}, [X]),
        ("transpose", {"axes": [1, 0, 2]}, [X]), ("reshape", {"shape": [6, 4]}, [X]),
        ("reshape", {"shape": [-1, 4]}, [X]),
        ("squeeze", {}, [X]), ("expand_dims", {"axis": 0}, [X]), ("concatenate", {"axis": 0}, [X, X]),
        ("stack", {"axis": 0}, [X, X]), ("softmax", {"axis": 0}, [X]), ("matmul", {}, [X[0], X[0].T]),
        ("add", {}, [X, X[0]]), ("add", {"constant": [[[1.0]]]}, [X]), ("tile", {"repeats": [2, 1, 1]}, [X]),
        ("repeat", {"repeats": 2, "axis": 0}, [X]), ("cast", {"dtype": "string"}, [X]), ("where", {}, [X, X]),
        ("get_item", {"key": [[None, None, None], [None, None, -1]]}, [X]),
    ],
)  # fmt: skip
def test_operations_over_examples_are_refused(name, settings, x):
    with pytest.raises(ValueError):  # each has words of its own
        OPERATIONS[f"op.{name}"].run(Settings(settings), {}, x, [None] * len(x))


@pytest.mark.parametrize(
    ("name", "settings", "x", "wanted"),
    [
        ("subtract", {"constant": 1, "constant_first": True}, [X], 1 - X),
        ("divide", {"constant": [1.0, 2.0, 4.0, 8.0]}, [X], X / torch.tensor([1.0, 2.0, 4.0, 8.0])),
        ("get_item", {"key": [[None, None, None], "...", 1]}, [X], X[..., 1]),
        ("get_item", {"key": [[None, None, None], None, [1, None, None]]}, [X], X[:, None, 1:]),
        ("mean", {"axis": [1, -1], "keepdims": True}, [X], X.mean((1, 2), keepdim=True)),
        ("any", {"axis": [1, 2]}, [X > 20], torch.tensor([False, True])),
        ("normalize", {}, [X], torch.nn.functional.normalize(X, dim=-1)),
        ("matmul", {"transpose_second": True}, [X, X], X @ X.mT),
        ("cast", {"dtype": "float32"}, [X > 3], (X > 3).float()),
        ("clip", {"low": 2.0, "high": 5.0}, [X], X.clamp(2, 5)),
        ("repeat", {"repeats": 2, "axis": 1}, [X], X.repeat_interleave(2, 1)),
        ("stack", {"axis": 1}, [X, X], torch.stack([X, X], 1)),
        ("ones_like", {"dtype": "bool"}, [X], torch.ones(2, 3, 4, dtype=torch.bool)),
        ("zeros_like", {}, [X], torch.zeros(2, 3, 4)),
        ("sum", {"axis": 1}, [X > 3], (X > 3).sum(1).float()),
    ],
)
def test_operations_compute_as_named(name, settings, x, wanted):
    found = OPERATIONS[f"op.{name}"].run(Settings(settings), {}, x, [None] * len(x))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("kind", "settings", "wanted"),
    [
        ("ReLU", {"max_value": 1.0}, "relu1"), ("ReLU", {"max_value": 6}, "relu6"), ("ReLU", {}, "relu"),
        ("ReLU", {"threshold": 0.5}, None), ("ReLU", {"max_value": "x"}, None), ("ReLU", {"max_value": [1]}, None),
        ("LeakyReLU", {"alpha": 0.10000000149011612}, "leaky_relu_0.1"), ("LeakyReLU", {}, "leaky_relu_0.3"),
        ("LeakyReLU", {"negative_slope": "x"}, None), ("ELU", {"alpha": 2.0}, None), ("PReLU", {}, None),
    ],
)  # fmt: skip
def test_the_function_of_an_activation_layer(kind, settings, wanted):
    assert function_of({"class_name": kind, "config": settings}) == wanted


@pytest.mark.parametrize("kind", ["Normalization", "Rescaling"])
def test_layers_that_pass_a_mask_on_in_keras_3_alone(kind):
    mask = torch.tensor([[True, False, True]])
    assert KINDS[kind].mask(Settings({}, 2), [X], [mask]) is None
    assert KINDS[kind].mask(Settings({}, 3), [X], [mask]) is mask


def test_hostile_operations_end_in_an_error(tmp_path):
    for function, change in (
        ("get_item", lambda node: node.update(args=[])),
        ("get_item", lambda node: node.update(args=[None, None])),
        ("get_item", lambda node: node.update(args="x", kwargs=3)),
    ):
        assert function

        def edit(layer, change=change):
            if layer["class_name"] == "GetItem":
                change(layer["inbound_nodes"][0])

        with pytest.raises((UnsupportedLayer, FormatError)):
            load_keras(edited(tmp_path, "k3-last_step_index.keras", edit))
