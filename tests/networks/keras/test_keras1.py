"""Files of Keras 1, written by hand in its layout, predict what the same layers of today's Keras predict.

The layout is that of Keras 1.2: the weights of each gate are stored by themselves, in the order i, c, f, o of an LSTM
and z, r, h of a GRU, unless ``consume_less`` is ``gpu``; kernels of Convolution1D have four axes.
"""

import json
import os

import h5py
import numpy as np
import pytest

import unbraid
from tests.networks.keras.making import layer
from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras.keras1 import conv1d_kernel
from unbraid.networks.keras.reading import load_keras

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2
N, T, D, H, C = 4, 6, 3, 4, 3
X = np.random.default_rng(1).normal(size=(N, T, D)).astype("float32")
INPUT = {"batch_input_shape": [None, T, D], "input_dtype": "float32"}


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def old_recurrent(kind, name="rnn", **settings):
    plain = {
        "output_dim": H, "init": "glorot_uniform", "inner_init": "orthogonal", "activation": "tanh",
        "return_sequences": False, "go_backwards": False, "stateful": False, "unroll": False, "consume_less": "cpu",
        "W_regularizer": None, "U_regularizer": None, "b_regularizer": None, "dropout_W": 0.0, "dropout_U": 0.0,
        "input_dim": D, "input_length": None, "trainable": True,
    }  # fmt: skip
    gates = {} if kind == "SimpleRNN" else {"inner_activation": "hard_sigmoid"}
    return layer(kind, name, **plain | gates | settings)


def old_dense(kind="Dense", **settings):
    plain = {"output_dim": C, "init": "glorot_uniform", "activation": "softmax", "bias": True, "input_dim": None,
             "W_regularizer": None, "b_constraint": None, "activity_regularizer": None}  # fmt: skip
    return layer(kind, "out", **plain | settings)


def write(path, model, arrays, **attributes):
    """A whole model as Keras 1.2 saved it."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model).encode()
        for name, value in ({"keras_version": b"1.2.2"} | attributes).items():
            file.attrs[name] = value
        for name, given in arrays.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = [f"{name}_{number}".encode() for number in range(len(given))]
            for number, array in enumerate(given):
                group[f"{name}_{number}"] = array
    return path


def sequential(first, *layers):
    first["config"] |= INPUT
    return {"class_name": "Sequential", "config": [first, *layers]}


def gates(arrays, order):
    """Kernel, recurrent kernel and bias, cut into the arrays of each gate; ``order`` has their positions in Keras 2."""
    cut = [np.split(array, len(order), axis=-1) for array in arrays]
    return [part[place] for place in order for part in cut]


ORDERS = {"LSTM": (0, 2, 1, 3), "GRU": (0, 1, 2)}  # i c f o among i f c o; z r h as it is


def today(keras, *layers):
    """A model of today's Keras with random weights, and its predictions."""
    model = keras.Sequential([keras.layers.Input((T, D)), *layers])
    rng = np.random.default_rng(0)
    for each in model.layers:
        new = [rng.normal(0, 0.6, v.shape).astype("float32") for v in each.get_weights()]
        each.set_weights([np.abs(v) for v in new] if "normalization" in each.name else new)
    return model, model.predict(X, verbose=0)


def hard(keras):
    """The hard sigmoid of Keras 1 and 2."""

    def hard_sigmoid_before_3(x):
        return keras.ops.clip(0.2 * x + 0.5, 0, 1)

    return hard_sigmoid_before_3


def same_cell(keras, kind, **settings):
    extra = {} if kind == "SimpleRNN" else {"recurrent_activation": hard(keras)}
    extra |= {"reset_after": False} if kind == "GRU" else {}
    return getattr(keras.layers, kind)(H, **extra | settings)


@pytest.mark.parametrize("kind", ["SimpleRNN", "LSTM", "GRU"])
@pytest.mark.parametrize("consume", ["cpu", "gpu"])
def test_a_recurrent_layer(tmp_path, keras, kind, consume):
    model, wanted = today(keras, same_cell(keras, kind), keras.layers.Dense(C, activation="softmax"))
    cell, out = (each.get_weights() for each in model.layers)
    stored = gates(cell, ORDERS[kind]) if consume == "cpu" and kind in ORDERS else cell
    old = sequential(old_recurrent(kind, consume_less=consume), layer("Dropout", "drop", p=0.5), old_dense())
    network = load_keras(write(tmp_path / "old.h5", old, {"rnn": stored, "drop": [], "out": out}))
    assert network.spec.type == "stages"
    np.testing.assert_allclose(network.predict_proba(X), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_bidirectional_tagger(tmp_path, keras, kind):
    K = keras.layers
    inner = same_cell(keras, kind, return_sequences=True, recurrent_activation="sigmoid")
    model, wanted = today(keras, K.Bidirectional(inner), K.Dense(C, activation="softmax"))
    both, out = (each.get_weights() for each in model.layers)
    stored = gates(both[:3], ORDERS[kind]) + gates(both[3:], ORDERS[kind])
    cell = old_recurrent(kind, "inner", return_sequences=True, inner_activation="sigmoid")
    wrapped = layer("Bidirectional", "both", merge_mode="concat", layer=cell)
    old = sequential(wrapped, old_dense("TimeDistributedDense"))
    network = load_keras(write(tmp_path / "old.h5", old, {"both": stored, "out": out}))
    np.testing.assert_allclose(network.predict_proba(X), wanted, atol=1e-5)


@pytest.mark.parametrize("backend", [b"tensorflow", b"theano"])
@pytest.mark.parametrize("legacy", [False, True])
def test_convolution_and_normalization(tmp_path, keras, backend, legacy):
    K = keras.layers
    layers = [K.Conv1D(5, 3, activation="relu"), K.MaxPooling1D(2), K.BatchNormalization(), same_cell(keras, "GRU")]
    model, wanted = today(keras, *layers, K.Dense(C, activation="softmax"))
    conv, _, norm, cell, out = (each.get_weights() for each in model.layers)
    kernel = conv[0][::-1] if backend == b"theano" else conv[0]
    kernel = kernel.transpose(2, 1, 0)[..., None] if legacy else kernel[:, None]
    old = sequential(
        layer("Convolution1D", "conv", nb_filter=5, filter_length=3, border_mode="valid", subsample_length=1,
              activation="relu", bias=True, input_dim=D, input_length=None, init="glorot_uniform"),
        layer("MaxPooling1D", "pool", pool_length=2, stride=2, border_mode="valid"),
        layer("BatchNormalization", "norm", mode=0, axis=-1, epsilon=0.001, momentum=0.99, gamma_regularizer=None,
              beta_regularizer=None),
        old_recurrent("GRU"), old_dense(),
    )  # fmt: skip
    stored = {"conv": [kernel, conv[1]], "norm": norm, "rnn": gates(cell, ORDERS["GRU"]), "out": out}
    network = load_keras(write(tmp_path / "old.h5", old, stored, backend=backend))
    np.testing.assert_allclose(network.predict_proba(X), wanted, atol=1e-5)


@pytest.mark.parametrize(("mode", "merge"), [("concat", "Concatenate"), ("sum", "Add"), ("mul", "Multiply")])
def test_a_merge(tmp_path, keras, mode, merge):
    K = keras.layers
    given = K.Input((T, D))
    lstm, gru, dense = same_cell(keras, "LSTM"), same_cell(keras, "GRU"), K.Dense(C, activation="softmax")
    model = keras.Model(given, dense(getattr(K, merge)()([lstm(given), gru(given)])))
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(0, 0.6, v.shape).astype("float32") for v in model.get_weights()])
    old = functional(mode, "raw")
    stored = {"one": gates(lstm.get_weights(), ORDERS["LSTM"]), "two": gates(gru.get_weights(), ORDERS["GRU"])}
    path = write(tmp_path / "old.h5", old, stored | {"merge": [], "out": dense.get_weights()})
    np.testing.assert_allclose(unbraid.load(path).predict_proba(X), model.predict(X, verbose=0), atol=1e-5)


def functional(mode, mode_type):
    def called(one, *sources):
        return one | {"name": one["config"]["name"], "inbound_nodes": [[[s, 0, 0] for s in sources]] if sources else []}

    merge = layer("Merge", "merge", mode=mode, mode_type=mode_type, concat_axis=-1, dot_axes=-1, output_shape=None,
                  output_shape_type="raw", output_mask=None, output_mask_type="raw", arguments={})  # fmt: skip
    layers = [
        called(layer("InputLayer", "in", **INPUT, sparse=False)),
        called(old_recurrent("LSTM", "one"), "in"),
        called(old_recurrent("GRU", "two"), "in"),
        called(merge, "one", "two"),
        called(old_dense(), "merge"),
    ]
    ends = {"input_layers": [["in", 0, 0]], "output_layers": [["out", 0, 0]]}
    return {"class_name": "Model", "config": {"name": "model", "layers": layers, **ends}}


def test_a_merge_by_a_function_is_refused(tmp_path):
    path = write(tmp_path / "old.h5", functional("return x", "lambda"), {"out": []})
    with pytest.raises(UnsupportedLayer, match=r"'merge' \(Merge"):
        load_keras(path)


def test_gates_of_another_number_or_shape_are_refused(tmp_path):
    old = sequential(old_recurrent("LSTM"), old_dense())
    for arrays in ([np.zeros((D, H), "float32")] * 12, [np.zeros((D, 4 * H), "float32")] * 3):
        with pytest.raises(FormatError):
            load_keras(write(tmp_path / "old.h5", old, {"rnn": arrays, "out": []}))


def test_a_kernel_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="expected"):
        conv1d_kernel(np.zeros((3, 3, 3)), (3, 2, 5))
