"""Write small Keras files: valid files, and (with ``change``) broken files."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from unbraid.errors import FormatError
from unbraid.networks.keras.reading import load_keras

Change = Callable[[h5py.File], None]
V, T, D, H, C = 7, 5, 2, 3, 2


def layer(kind, called, **settings):
    return {"class_name": kind, "config": {"name": called, **settings}}


def lstm(**settings):
    gates = {"activation": "tanh", "recurrent_activation": "sigmoid"}
    return layer("LSTM", "lstm", **{"units": H, **gates, "use_bias": True, "return_sequences": False} | settings)


def embedding(**settings):
    return layer("Embedding", "emb", **{"input_dim": V, "output_dim": D, "mask_zero": False} | settings)


def dense(**settings):
    return layer("Dense", "out", **{"units": C, "activation": "softmax", "use_bias": True} | settings)


def sequential(*layers):
    stages = [layer("InputLayer", "in", batch_shape=[None, T]), *layers]
    return {"class_name": "Sequential", "config": {"name": "model", "layers": stages}}


MODEL = sequential(embedding(), lstm(), dense())
ARRAYS = {
    "emb": {"embeddings": (V, D)},
    "lstm": {"kernel": (D, 4 * H), "recurrent_kernel": (H, 4 * H), "bias": (4 * H,)},
    "out": {"kernel": (H, C), "bias": (C,)},
}


def unchanged(file):
    """Do not change the file."""


def write_h5(path: Path, model: Any = MODEL, change: Change = unchanged, version: str | None = "2.12.0") -> Path:
    """A .h5 as Keras writes it; ``change`` then gets the open file."""
    with h5py.File(path, "w") as file:
        if model is not None:
            file.attrs["model_config"] = model if isinstance(model, str | bytes) else json.dumps(model)
        if version is not None:
            file.attrs["keras_version"] = version
        for name, arrays in ARRAYS.items():
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = list(arrays)
            for array, shape in arrays.items():
                group[array] = np.full(shape, 0.1, "float32")
        change(file)
    return path


def write_archive(
    path: Path, members: Mapping[str, Any] | None = None, change: Change = unchanged, model: Any = MODEL
) -> Path:
    """A .keras; ``members`` replaces, adds or (None) leaves out its members."""
    inner = path.with_suffix(".weights.h5")
    with h5py.File(inner, "w") as file:
        paths = {"emb": "embedding", "lstm": "lstm/cell", "out": "dense"}
        for name, arrays in ARRAYS.items():
            for number, shape in enumerate(arrays.values()):
                file[f"layers/{paths[name]}/vars/{number}"] = np.full(shape, 0.1, "float32")
        change(file)
    content = {
        "metadata.json": json.dumps({"keras_version": "3.5.0"}),
        "config.json": json.dumps(model),
        "model.weights.h5": inner.read_bytes(),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in (content | dict(members or {})).items():
            if data is not None:
                file.writestr(name, data)
    return path


def resized(name, array, shape):
    def change(file):
        del file[f"model_weights/{name}/{array}"]
        file[f"model_weights/{name}/{array}"] = np.full(shape, 0.1, "float32")

    return change


def replaced(**creation):
    """Replace the kernel of the LSTM by another dataset."""

    def change(file):
        group = file["model_weights/lstm"]
        del group["kernel"]
        group.create_dataset("kernel", **creation)

    return change


def without(path):
    def change(file):
        del file[path]

    return change


def refused(path, *parts, error=FormatError):
    """Return the message of the error, and check that it names the file and each of ``parts``."""
    with pytest.raises(error) as caught:
        load_keras(path)
    message = str(caught.value)
    assert Path(path).name in message
    assert "\n" not in message
    assert len(message) < 500
    assert caught.value.__cause__ is None and (caught.value.__context__ is None or caught.value.__suppress_context__)
    for part in parts:
        assert part in message
    return message
