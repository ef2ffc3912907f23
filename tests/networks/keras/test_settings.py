"""Invalid settings and unsupported layers are refused; the message names them and the supported ones."""

import json
import tracemalloc

import numpy as np
import pytest

from tests.networks.keras.making import MODEL, C, D, H, T, dense, embedding, layer, lstm, refused, resized, sequential
from unbraid import load
from unbraid.errors import ConfigError, FormatError, UnbraidWarning, UnsupportedLayer
from unbraid.networks.keras.reading import load_keras

# --- settings ---


@pytest.mark.parametrize("units", [-1, 0, 2.0, "3", True, None, [3], 2**31 + 1, 2**64, 1e400])
def test_units_are_no_size(legacy, units):
    refused(legacy(model=sequential(embedding(), lstm(units=units), dense())), "'lstm'", "'units'", "whole number")


def test_huge_sizes_allocate_nothing(legacy):
    models = [
        sequential(embedding(input_dim=2**31, output_dim=2**31), lstm(), dense()),
        sequential(embedding(), lstm(units=2**31), dense()),
        sequential(embedding(), lstm(), dense(units=2**31)),
    ]
    tracemalloc.start()
    for model in models:
        refused(legacy(model=model), "expected floats of shape")
    assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        (lstm(return_sequences="yes"), "return_sequences"),
        (lstm(use_bias=1), "use_bias"),
        (lstm(name=""), "name"),
        (lstm(name=None), "name"),
        (lstm(reset_after=3) | {"class_name": "GRU"}, "reset_after"),
        ({"class_name": "LSTM"}, "layer 2"),
        ({"config": {}}, "class_name"),
        ("LSTM", "layer 2"),
        (layer("RepeatVector", "r", n=10**9), "'n'"),
        (layer("Masking", "m", mask_value=float("nan")), "mask_value"),
    ],
)
def test_settings_of_another_type(legacy, broken, field):
    stages = (
        [embedding(), broken, dense()] if "RepeatVector" not in str(broken) else [embedding(), lstm(), broken, dense()]
    )
    refused(legacy(model=sequential(*stages)), field)


def test_gate_activation_is_missing(legacy):
    model = json.loads(json.dumps(MODEL))
    del model["config"]["layers"][2]["config"]["recurrent_activation"]
    refused(legacy(model=model), "'recurrent_activation' is missing")


@pytest.mark.parametrize("shape", [[], [None], [None, 0], [None, -5], [None, True], [None, "5"], "5", [None, 2**40], 5])
def test_input_shape_is_none(legacy, shape):
    model = sequential(embedding(), lstm(), dense())
    model["config"]["layers"][0]["config"]["batch_shape"] = shape
    refused(legacy(model=model), "batch_shape")


def test_layers_that_do_not_fit_together(legacy):
    refused(legacy(model=sequential(lstm(), embedding(), dense())), "sequence of vectors")
    refused(legacy(model=sequential(embedding(), lstm(), lstm(name="second"), dense())), "return_sequences=True")
    flat = sequential(embedding(), layer("Flatten", "flat"), dense())
    refused(legacy(model=flat, change=resized("out", "kernel", (T * D, C))), "no recurrent layer")
    refused(legacy(model=sequential()), "the output comes from its input", error=UnsupportedLayer)
    refused(legacy(model={"class_name": "Sequential", "config": []}), "no layers")
    refused(legacy(model=sequential(embedding(), lstm())), "the output comes from recurrent", error=UnsupportedLayer)


# --- layers and settings that exist but cannot be run ---


@pytest.mark.parametrize(
    ("stage", "parts"),
    [
        (layer("Conv3DTranspose", "conv", filters=2), ["'conv'", "Conv3DTranspose"]),
        (layer("Lambda", "code", function=["4wEAAAA=", None, None]), ["'code'", "Lambda"]),
        (layer("Custom>LSTM", "mine"), ["'mine'"]),
        ({**lstm(), "registered_name": "mine>LSTM", "module": "mine"}, ["custom", "no code from a file is run"]),
        ({**lstm(), "registered_name": None, "module": "os"}, ["custom"]),
        (lstm(time_major=True), ["time_major"]),
        (lstm(zero_output_for_mask=True), ["zero_output_for_mask"]),
        (lstm(activation="mine"), ["'mine'", "tanh, sigmoid, relu, linear, hard_sigmoid"]),
        (lstm(recurrent_activation="softmax"), ["'softmax'"]),
        (lstm(activation={"module": "builtins", "class_name": "function", "config": "evil"}), ["activation"]),
        (layer("TimeDistributed", "td", layer=layer("Lambda", "code")), ["'td'", "Lambda"]),
        (layer("Bidirectional", "bi", layer=layer("Conv1D", "conv")), ["'bi'", "Bidirectional around Conv1D"]),
        (layer("Bidirectional", "bi", layer=lstm(), merge_mode=None), ["merge_mode None", "concat"]),
        (layer("Bidirectional", "bi", layer=lstm(), backward_layer=lstm(units=9, go_backwards=True)), ["units"]),
        (layer("Bidirectional", "bi", layer=lstm(), backward_layer=lstm()), ["the same way"]),
        (layer("Bidirectional", "bi", layer=lstm(go_backwards=True, return_sequences=True)), ["go_backwards"]),
        (lstm(dtype={"class_name": "QuantizedDTypePolicy", "config": {}}), ["quantized"]),
    ],
)
def test_unsupported(legacy, stage, parts):
    refused(legacy(model=sequential(embedding(), stage, dense())), *parts, error=UnsupportedLayer)


def test_two_activations_of_scores_are_refused(legacy):
    tail = [dense(), layer("Activation", "a", activation="softmax")]
    refused(legacy(model=sequential(embedding(), lstm(), *tail)), "supported", error=UnsupportedLayer)


@pytest.mark.parametrize(
    "tail",
    [[dense(activation="tanh")], [dense(activation="linear"), layer("Activation", "a", activation="relu")]],
)
def test_outputs_that_cannot_be_scores_are_numbers(legacy, tail):
    assert load(legacy(model=sequential(embedding(), lstm(), *tail))).task == "regression"


def test_one_softmax_unit(legacy):
    def change(file):
        resized("out", "kernel", (H, 1))(file)
        resized("out", "bias", (1,))(file)

    model = sequential(embedding(), lstm(), dense(units=1))
    refused(legacy(model=model, change=change), "sigmoid", error=UnsupportedLayer)


# --- functional models ---


def functional(reads, outputs=("out",), layers=(embedding, lstm, dense)):
    stages = [layer("InputLayer", "in", batch_shape=[None, T]), *(make() for make in layers)]
    stages = [{**s, "name": s["config"]["name"], "inbound_nodes": reads.get(s["config"]["name"], [])} for s in stages]
    config = {"layers": stages, "input_layers": [["in", 0, 0]], "output_layers": [[o, 0, 0] for o in outputs]}
    return {"class_name": "Functional", "config": config}


def node(*names, **settings):
    return [[[name, 0, 0, settings] for name in names]]


CHAIN = {"emb": node("in"), "lstm": node("emb"), "out": node("lstm")}


def test_functional_chain(legacy):
    load_keras(legacy(model=functional(CHAIN)))


@pytest.mark.parametrize(
    ("reads", "error"),
    [
        (CHAIN | {"out": node("lstm", "emb")}, FormatError),
        (CHAIN | {"lstm": node("emb", initial_state=["in", 0, 0])}, UnsupportedLayer),
        (CHAIN | {"lstm": node("emb", mask=["emb", 0, 0])}, FormatError),
        (CHAIN | {"lstm": node("emb", training=True)}, UnsupportedLayer),
        (CHAIN | {"out": node("emb")}, FormatError),
        (CHAIN | {"out": node("elsewhere")}, FormatError),
        (CHAIN | {"emb": node("out")}, FormatError),
        (CHAIN | {"out": [[[3, 0, 0]]]}, FormatError),
        (CHAIN | {"out": ["lstm"]}, FormatError),
        (CHAIN | {"out": [[]]}, UnsupportedLayer),
        (CHAIN | {"out": [{"args": 3}]}, FormatError),
        (CHAIN | {"out": [{"args": [{"config": {"keras_history": []}}]}]}, FormatError),
        (CHAIN | {"out": None}, FormatError),
    ],
)
def test_functional_that_is_no_chain(legacy, reads, error):
    refused(legacy(model=functional(reads)), error=error)


def test_functional_with_two_outputs(legacy):
    path = legacy(model=functional(CHAIN, outputs=("lstm", "out")))
    refused(path, "2 outputs", "'lstm', 'out'", "output=", error=ConfigError)
    with pytest.raises(ConfigError, match="has the outputs"):
        load_keras(path, output="elsewhere")
    assert load_keras(path, output="out").spec.head == "out"
    with pytest.raises(UnsupportedLayer, match="the output comes from recurrent 'lstm'"):
        load_keras(path, output="lstm")


@pytest.mark.parametrize("stage", [lstm(stateful=True), layer("Bidirectional", "lstm", layer=lstm(stateful=True))])
def test_a_stateful_layer_is_mentioned_once(legacy, stage):
    with pytest.warns(UnbraidWarning, match="stateful") as caught, pytest.raises(FormatError):
        load_keras(legacy(model=sequential(embedding(), stage, dense(units=9))))
    assert len(caught) == 1


def test_settings_that_change_nothing_else_are_accepted(legacy):
    for stage in (lstm(return_state=True), lstm(zero_output_for_mask=False, unroll=True, implementation=2)):
        assert list(load_keras(legacy(model=sequential(embedding(), stage, dense()))).layers) == ["lstm"]
    twice = functional(CHAIN | {"lstm": node("emb") * 2})  # the second call leads nowhere
    assert list(load_keras(legacy(model=twice)).layers) == ["lstm"]
    for function in ("sigmoid", "softmax"):
        tail = [layer("Activation", "a", activation=function), dense()]
        assert load_keras(legacy(model=sequential(embedding(), lstm(), *tail))).spec.type == "keras"


def test_subclassed_model(legacy):
    refused(legacy(model={"class_name": "MyModel", "config": {}}), "MyModel", error=UnsupportedLayer)


def tensor(name):
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0]}}


def masked(compared, read="in", mask_zero=True, by="NotEqual"):
    """A Keras 3 model whose recurrent layer is given the mask ``read != compared``."""
    reads = {
        "emb": [{"args": [tensor("in")], "kwargs": {}}],
        "not_equal": [{"args": [tensor(read), compared], "kwargs": {}}],
        "lstm": [{"args": [tensor("emb")], "kwargs": {"training": False, "mask": tensor("not_equal")}}],
        "out": [{"args": [tensor("lstm")], "kwargs": {}}],
    }
    layers = (lambda: embedding(mask_zero=mask_zero), lambda: layer(by, "not_equal"), lstm, dense)
    return functional(reads, layers=layers)


def test_the_mask_of_an_embedding_is_followed(legacy):
    network = load_keras(legacy(model=masked(0)))
    assert [stage.type for stage in network.spec.stages] == ["embedding", "recurrent"]
    assert network.spec.stages[0].mask_zero


@pytest.mark.parametrize(
    ("model", "error"),
    [
        (masked(False), UnsupportedLayer),
        (masked(tensor("in")), FormatError),
        (masked(0, read="emb"), FormatError),
        (masked(0, by="Equal"), UnsupportedLayer),
    ],
)
def test_masks_that_cannot_be_computed_are_refused(legacy, model, error):
    refused(legacy(model=model), error=error)


def test_an_explicit_mask_of_another_value_is_followed(legacy):
    """All embeddings are equal here, so only the masked timesteps decide."""
    x = np.array([[1, 2, 2, 1, 1], [2, 1, 3, 4, 2], [1, 1, 1, 1, 1]])
    ones = load_keras(legacy(model=masked(1))).logits(x)
    zeros = load_keras(legacy(model=masked(0))).logits(np.where(x == 1, 0, x))
    np.testing.assert_allclose(ones, zeros, atol=1e-6)
    plain = load_keras(legacy(model=masked(9, mask_zero=True))).logits(np.where(x == 1, 0, x))
    assert np.abs(plain - zeros).max() > 1e-4  # the explicit mask replaces that of the embedding
