"""Older and other forms of layers become the current ones."""

import h5py
import numpy as np
import pytest

from tests.locations import DATA
from tests.networks.keras.making import D, H, dense, embedding, layer, lstm, sequential, write_h5
from unbraid.networks.keras.modern import from_cudnn
from unbraid.networks.keras.reading import load_keras

X = np.arange(10).reshape(2, 5) % 7


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_weights_of_cudnn_layers_are_converted_as_keras_does(kind):
    stored = np.load(DATA / "keras" / "cudnn.npz")
    found = from_cudnn([stored[f"{kind}-cudnn-{number}"] for number in range(3)])
    for number, array in enumerate(found):
        np.testing.assert_array_equal(array, stored[f"{kind}-plain-{number}"])


@pytest.mark.parametrize("both", [False, True])
def test_a_file_with_a_cudnn_layer(tmp_path, both):
    """Its weights, converted and written into a file of a plain layer, give the same network."""
    rng = np.random.default_rng(0)
    given = [
        [rng.normal(size=s).astype("float32") for s in ((D, 4 * H), (H, 4 * H), (8 * H,))] for _ in range(1 + both)
    ]

    def stored(arrays):
        def change(file: h5py.File):
            group = file["model_weights/lstm"]
            for name in list(group):
                del group[name]
            flat = [array for part in arrays for array in part]
            group.attrs["weight_names"] = [f"w{number}" for number in range(len(flat))]
            for number, array in enumerate(flat):
                group[f"w{number}"] = array
            if both:
                del file["model_weights/out/kernel"]
                file["model_weights/out/kernel"] = np.full((2 * H, 2), 0.1, "float32")

        return change

    def wrapped(inner):
        return layer("Bidirectional", "lstm", layer=inner) if both else inner

    cudnn = layer("CuDNNLSTM", "lstm", units=H, return_sequences=False)
    networks = [
        load_keras(write_h5(tmp_path / f"{n}.h5", sequential(embedding(), wrapped(one), dense()), stored(arrays)))
        for n, one, arrays in (("cudnn", cudnn, given), ("plain", lstm(), [from_cudnn(part) for part in given]))
    ]
    np.testing.assert_allclose(networks[0].logits(X), networks[1].logits(X), atol=1e-6)


@pytest.mark.parametrize("kind", ["QuantizeAnnotate", "QuantizeWrapperV2"])
def test_annotations_of_quantization_are_unwrapped(tmp_path, kind):
    annotated = {
        "class_name": kind,
        "module": "tensorflow_model_optimization",
        "registered_name": f"Quantize>{kind}",
        "config": {"name": "lstm", "layer": lstm(name="inner")},
    }
    found = load_keras(write_h5(tmp_path / "a.h5", sequential(embedding(), annotated, dense())))
    plain = load_keras(write_h5(tmp_path / "b.h5", sequential(embedding(), lstm(), dense())))
    np.testing.assert_allclose(found.logits(X), plain.logits(X), atol=1e-6)
