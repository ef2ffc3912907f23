"""Broken and hostile files are refused with one short message that names the file."""

import json

import h5py
import numpy as np
import pytest

from tests.networks.keras.making import (
    C,
    D,
    H,
    T,
    dense,
    embedding,
    layer,
    lstm,
    refused,
    replaced,
    sequential,
    without,
)
from unbraid import limits
from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras.reading import load_keras


def test_the_files_that_the_others_are_made_from_are_good(legacy, archive):
    for network in (load_keras(legacy()), load_keras(archive())):
        assert network.predict_proba(np.ones((1, T), int)).shape == (1, C)


# --- no such file, no such format ---


def test_no_file(tmp_path):
    refused(tmp_path / "nowhere.h5", str(tmp_path), "does not exist")


def test_folder(tmp_path):
    refused(tmp_path, "is a folder", "model.save")


@pytest.mark.parametrize(
    "content", [b"", b"P", b"hello, this is text", b"PK\x03\x04 no zip after all", b"\x89HDF\r\n\x1a\n"]
)
def test_neither_hdf5_nor_zip(tmp_path, content):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    refused(path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("kind", ["legacy", "archive"])
def test_cut_short(kind, part, request):
    path = request.getfixturevalue(kind)()
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    refused(path)


@pytest.mark.parametrize("kind", ["legacy", "archive"])
def test_flipped_bytes_never_escape_as_another_error(kind, request):
    path = request.getfixturevalue(kind)()
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        broken = bytearray(content)
        for place in rng.integers(0, len(content), 4):
            broken[place] ^= 1 << int(rng.integers(8))
        path.write_bytes(broken)
        try:
            load_keras(path)  # a flipped bit of a weight is another weight
        except (FormatError, UnsupportedLayer) as error:
            assert path.name in str(error)


# --- the legacy file's frame ---


def test_no_model_config(legacy):
    refused(legacy(model=None), "model_config")


@pytest.mark.parametrize("alone", ["attribute", "group"])
def test_weights_alone(legacy, alone):
    def change(file):
        if alone == "attribute":
            file.attrs["layer_names"] = ["lstm"]
        else:
            file.create_group("layers")

    refused(legacy(model=None, change=change), "weights alone", "save the whole model")


@pytest.mark.parametrize("text", ["{", "", "[1, 2", b"\xff\xfe", "{'a': 1}", "9" * 5000])
def test_config_is_not_json(legacy, text):
    refused(legacy(model=text or " "), "model_config")


@pytest.mark.parametrize(
    "text", ["null", "3", "[]", '"text"', "{}", '{"class_name": 1}', '{"class_name": "Sequential"}']
)
def test_config_is_not_a_model(legacy, text):
    refused(legacy(model=text))


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_config_is_nested_absurdly(legacy, archive, opening):
    text = opening * 200_000
    refused(legacy(model=text))
    refused(archive({"config.json": text}))


def test_config_attribute_is_no_text(legacy):
    def change(file):
        file.attrs["model_config"] = np.zeros(3)

    refused(legacy(change=change), "model_config", "expected one text")


@pytest.mark.parametrize("version", ["", "abc", "-1.0", "٣.0", "99999999999.0"])
def test_version_is_none(legacy, archive, version):
    refused(legacy(version=version), "keras_version")
    refused(archive({"metadata.json": json.dumps({"keras_version": version})}), "keras_version")


def test_no_version_is_keras_2(legacy):
    network = load_keras(
        legacy(model=sequential(embedding(), lstm(recurrent_activation="hard_sigmoid"), dense()), version=None)
    )
    assert network.spec.stages[1].cell.gate_activation == "hard_sigmoid_keras2"


# --- datasets ---


@pytest.mark.parametrize("path", ["model_weights", "model_weights/lstm", "model_weights/lstm/kernel"])
def test_missing_weights(legacy, path):
    refused(legacy(change=without(path)), "lstm" if "lstm" in path else "emb", "missing")


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (replaced(data=np.zeros((D, 4 * H + 1), "float32")), "shape (2, 13), expected floats of shape (2, 12)"),
        (replaced(data=np.zeros(D * 4 * H, "float32")), "shape (24,)"),
        (replaced(data=np.zeros((1, D, 4 * H), "float32")), "shape (1, 2, 12)"),
        (replaced(data=np.zeros((0, 4 * H), "float32")), "shape (0, 12)"),
        (replaced(data=np.float32(0)), "shape ()"),
        (replaced(data=np.zeros((D, 4 * H), "int32")), "int32"),
        (replaced(data=np.zeros((D, 4 * H), "complex64")), "complex64"),
        (replaced(data=np.full((D, 4 * H), b"abcd")), "|S4"),
        (replaced(data=h5py.Empty("float32")), "shape None"),
        (replaced(shape=(D, 4 * H), dtype="float32"), "claims 96 bytes, the file holds 0"),
        (replaced(shape=(D, 4 * H), dtype="float32", chunks=(1, 1)), "in chunks"),
        (replaced(data=np.zeros((D, 4 * H), "float32"), compression="gzip"), "compressed"),
        (replaced(shape=(D, 4 * H), dtype="float32", external=[("/etc/passwd", 0, 96)]), "outside the file"),
        (replaced(shape=(2**40, 2**20), dtype="float32", chunks=(1, 2**20)), "expected floats"),
    ],
)
def test_dataset_of_another_kind(legacy, change, part):
    refused(legacy(change=change), "kernel", part)


def test_group_in_place_of_a_dataset(legacy):
    def change(file):
        del file["model_weights/lstm/kernel"]
        file.create_group("model_weights/lstm/kernel")

    refused(legacy(change=change), "kernel", "missing")


def test_dataset_in_place_of_a_group(legacy):
    def change(file):
        del file["model_weights/lstm"]
        file["model_weights/lstm"] = np.zeros(3)

    refused(legacy(change=change), "lstm", "no group")


@pytest.mark.parametrize("link", [h5py.SoftLink("/model_weights/emb/embeddings"), h5py.ExternalLink("other.h5", "/a")])
@pytest.mark.parametrize("path", ["model_weights/lstm/kernel", "model_weights/lstm", "model_weights"])
def test_links_are_not_followed(legacy, link, path):
    def change(file):
        del file[path]
        file[path] = link

    refused(legacy(change=change), "is a link")


def test_virtual_dataset(legacy, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["a"] = np.ones((D, 4 * H), "float32")
    layout = h5py.VirtualLayout((D, 4 * H), "float32")
    layout[:] = h5py.VirtualSource(tmp_path / "secret.h5", "a", (D, 4 * H))

    def change(file):
        del file["model_weights/lstm/kernel"]
        file["model_weights/lstm"].create_virtual_dataset("kernel", layout)

    refused(legacy(change=change), "outside the file")


def test_one_stored_array_is_not_read_a_thousand_times(legacy):
    """Hard links make one array appear as many; all together may not be larger than the file."""

    def change(file):
        table = file.create_dataset("table", data=np.zeros((1000, 1000), "float32"))
        for name in [f"rnn{i}" for i in range(1000)]:
            group = file.create_group(f"model_weights/{name}")
            group.attrs["weight_names"] = ["u", "u"]
            group["u"] = table

    stages = [
        layer("SimpleRNN", f"rnn{i}", units=1000, activation="tanh", use_bias=False, return_sequences=True)
        for i in range(1000)
    ]
    model = {
        "class_name": "Sequential",
        "config": [layer("InputLayer", "in", batch_shape=[None, T, 1000]), *stages, dense()],
    }
    with limits.override(layers=2000):
        refused(legacy(model=model, change=change), "claims 4000000 bytes")


@pytest.mark.parametrize("names", [["kernel"], ["kernel"] * 5, [1, 2, 3], "kernel", h5py.Empty("S1")])
def test_weight_names_do_not_fit(legacy, names):
    def change(file):
        file["model_weights/lstm"].attrs["weight_names"] = names

    refused(legacy(change=change), "weight_names", "expected 3 texts")


def test_weight_names_are_missing(legacy):
    def change(file):
        del file["model_weights/lstm"].attrs["weight_names"]

    refused(legacy(change=change), "weight_names")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite(legacy, value):
    refused(legacy(change=replaced(data=np.full((D, 4 * H), value, "float32"))), "body.stages.1", "NaN or infinite")


def test_float64_beyond_float32(legacy):
    refused(legacy(change=replaced(data=np.full((D, 4 * H), 1e300))), "infinite")


@pytest.mark.parametrize("dtype", ["float16", "float64", ">f4"])
def test_other_floats_are_read(legacy, dtype):
    network = load_keras(legacy(change=replaced(data=np.full((D, 4 * H), 0.5, dtype))))
    assert network.weights()["body.stages.1.forward_layer.weight_ih"].numpy().tolist() == [[0.5] * D] * (4 * H)


def test_heap_that_never_ends(legacy):
    """HDF5 1.14 would read the same object of no bytes again and again."""
    path = legacy()
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 16 : heap + 18] = bytes(2)  # the first object: number 0 ...
    content[heap + 24 : heap + 32] = bytes(8)  # ... of 0 bytes
    path.write_bytes(content)
    refused(path, "heap")


@pytest.mark.parametrize("size", [0, 15, 2**63, 2**64 - 8])
def test_heap_of_an_impossible_size(legacy, size):
    path = legacy()
    content = bytearray(path.read_bytes())
    heap = content.index(b"GCOL")
    content[heap + 24 : heap + 32] = size.to_bytes(8, "little")
    path.write_bytes(content)
    refused(path)
