"""The format of a model file is detected by its content; messages name the format of other files."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import unbraid
from tests.locations import DATA
from tests.networks.keras.making import (
    T,
    dense,
    embedding,
    layer,
    lstm,
    refused,
    sequential,
    write_archive,
    write_h5,
)
from unbraid.cli.app import app
from unbraid.cli.open_any import open_any
from unbraid.errors import FormatError, UnsupportedLayer
from unbraid.networks.keras.reading import load_keras

NAMES = ["model.H5", "model", "model.bin", "model.pt", "model.keras", "model.h5", "model.v1.0"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("write", [write_h5, write_archive])
def test_every_way_to_open_decides_by_content(tmp_path, write, name):
    path = write(tmp_path / "made.x").rename(tmp_path / name)
    digest = unbraid.load(path).sha256()
    assert open_any(path).sha256() == digest
    shown = CliRunner().invoke(app, ["inspect", str(path), "--json"])
    assert json.loads(shown.stdout)["sha256"] == digest


def test_case_of_an_ending_in_capitals(shared):
    path = shared / "cases" / "keras" / "2-plain.H5"
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert shown.exit_code == 0
    assert "lstm_4: LSTM (inputs 3, units 4)" in shown.output
    assert "dense_3: output layer (inputs 4, units 3, softmax)" in shown.output and "training loss" in shown.output


def test_decompose_and_predict_read_any_name(tmp_path):
    path = write_h5(tmp_path / "model.v2")
    x = np.random.default_rng(0).integers(1, 7, (40, T))
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(40) % 2)
    run, folder = CliRunner(), tmp_path / "parts"
    made = run.invoke(app, ["decompose", str(path), str(tmp_path / "data.npz"), "-o", str(folder)])
    assert made.exit_code == 0, made.output
    said = run.invoke(app, ["predict", str(path), str(tmp_path / "data.npz")])
    assert said.exit_code == 0 and said.output.split() == [str(v) for v in unbraid.load(path).predict(x)]


FOREIGN = {
    b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n": "run 'git lfs pull'",
    b"\x80\x02}q\x00.": "load_weights",
    b"\x1f\x8b\x08\x00": "unpack",
    b"\x93NUMPY\x01\x00": "a NumPy array",
    b"<!DOCTYPE html><html>": "a web page",
    b"<HTML>": "a web page",
    b'{"class_name": "Sequential"}': "holds no weights",
    b"": "empty",
    b"text": "damaged?",
}


@pytest.mark.parametrize("content", FOREIGN)
def test_other_files_are_named_for_what_they_are(tmp_path, content):
    for name in ("model.h5", "model.keras", "model"):
        path = tmp_path / name
        path.write_bytes(content)
        refused(path, FOREIGN[content])
        with pytest.raises(FormatError, match=name):
            open_any(path)


@pytest.mark.parametrize(
    ("member", "part"),
    [
        ("archive/data.pkl", "a torch file"),
        ("x.npy", "a NumPy archive"),
        ("folder/model.keras", "unpack it first"),
        ("model.h5", "unpack it first"),
        ("m/saved_model.pb", "SavedModel"),
        ("readme.txt", "is missing"),
    ],
)
def test_other_zip_files(tmp_path, member, part):
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as file:
        file.writestr(member, b"x")
    refused(tmp_path / "model.keras", part)


def test_torch_files_under_any_name(tmp_path):
    for name in ("weights.pt", "model.h5"):
        torch.save({"a": torch.ones(1)}, tmp_path / name)
        refused(tmp_path / name, "load_weights", "from_torch")
    (tmp_path / "damaged.pt").write_bytes(b"text")
    refused(tmp_path / "damaged.pt", "load_weights")


def test_folders(tmp_path):
    (tmp_path / "saved_model.pb").write_bytes(b"")
    refused(tmp_path, "TensorFlow SavedModel", "model.save")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.h5")
    refused(tmp_path / "model.h5", "not a regular file")
    (tmp_path / "link.keras").symlink_to(tmp_path / "model.h5")
    refused(tmp_path / "link.keras", "not a regular file")
    assert CliRunner().invoke(app, ["inspect", str(tmp_path / "model.h5")]).exit_code == 2


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no such device")
def test_a_device_is_not_read(tmp_path):
    (tmp_path / "model.h5").symlink_to("/dev/zero")
    refused(tmp_path / "model.h5", "not a regular file")


@pytest.mark.parametrize("name", ["nowhere", "a\0b", "x" * 300, "nowhere/model.h5"])
def test_names_of_no_file(tmp_path, name):
    with pytest.raises(FormatError):
        unbraid.load(tmp_path / name)
    with pytest.raises(FormatError):
        open_any(tmp_path / name)


# --- messages about layers ---


def test_all_unsupported_layers_are_named(legacy, archive):
    stages = [
        layer("Hashing", "conv"),
        layer("Lambda", "code", function=["4wEAAAA=", None, None]),
        layer("TimeDistributed", "each", layer=layer("Lambda", "inner")),
        layer("Bidirectional", "both", layer=layer("ConvLSTM2D", "inner")),
        {**lstm(name="own"), "module": "mine", "registered_name": "mine>LSTM"},
    ]
    parts = [
        "5 layers are not supported",
        "'conv' (Hashing)",
        "'code' (Lambda)",
        "'each' (TimeDistributed around Lambda)",
        "'both' (Bidirectional around ConvLSTM2D)",
        "'own' (custom layer LSTM)",
        "from_keras",
    ]
    for made in (legacy, archive):
        message = refused(made(model=sequential(embedding(), *stages, dense())), *parts, error=UnsupportedLayer)
        assert "from_torch" not in message


@pytest.mark.parametrize("config", [[lstm(), dense()], {"name": "inner", "layers": [lstm(), dense()]}])
def test_nested_models_of_either_layout(legacy, config):
    inner = {"class_name": "Sequential", "config": config, "name": "inner"}  # a list: Keras up to 2.2.2

    def change(file):
        for name in ("lstm", "out"):
            for array, values in list(file[f"model_weights/{name}"].items()):
                file[f"model_weights/inner/{name}/{array}"] = values[()]
        names = [f"{n}/{a}" for n in ("lstm", "out") for a in file[f"model_weights/{n}"]]
        file["model_weights/inner"].attrs["weight_names"] = sorted(names, key=order.index)

    order = [f"{n}/{a}" for n in ("lstm", "out") for a in ("kernel", "recurrent_kernel", "bias")]
    network = load_keras(legacy(model=sequential(embedding(), inner), change=change))
    plain = load_keras(legacy(model=sequential(embedding(), lstm(), dense())))
    x = np.arange(10).reshape(2, 5) % 7
    np.testing.assert_allclose(network.logits(x), plain.logits(x), atol=1e-6)
    assert list(network.layers) == ["inner/lstm"]


@pytest.mark.parametrize("name", ["4-attention", "4-branches", "5-seq2seq_onehot"])
def test_cases_of_graphs_are_read(shared, name):
    network = load_keras(shared / "cases" / "keras" / f"{name}.keras")
    assert network.spec.type == "keras" and network.layers


def test_a_supported_layer_that_reads_several_tensors(legacy):
    tensors = [
        {"class_name": "__keras_tensor__", "config": {"keras_history": [name, 0, 0], "shape": [None, 3]}}
        for name in ("emb", "in")
    ]
    stages = [layer("InputLayer", "in", batch_shape=[None, T]), embedding(), lstm(), dense()]
    reads = {"in": [], "emb": [{"args": [tensors[1]]}], "lstm": [{"args": [tensors]}], "out": [[["lstm", 0, 0, {}]]]}
    stages = [{**s, "name": s["config"]["name"], "inbound_nodes": reads[s["config"]["name"]]} for s in stages]
    config = {"layers": stages, "input_layers": [["in", 0, 0]], "output_layers": [["out", 0, 0]]}
    path = legacy(model={"class_name": "Functional", "config": config})
    message = refused(path, "'lstm'", "reads 2 inputs", error=UnsupportedLayer)
    assert "keras_tensor" not in message


def test_inspect_tells_one_column_from_independent_labels():
    data = DATA / "keras"
    shown = {
        "k3-features.keras": ("binary", 1, 2, "2 classes (sigmoid, one column)"),
        "k3-labels.keras": ("independent", 4, 4, "4 independent labels (sigmoid, one column each)"),
        "k3-lstm.keras": ("classes", 3, 3, "3 classes (softmax)"),
    }
    for name, (decision, columns, labels, text) in shown.items():
        told = json.loads(CliRunner().invoke(app, ["inspect", str(data / name), "--json"]).stdout)
        assert (told["decision"], told["columns"], len(told["labels"])) == (decision, columns, labels)
        assert told["head"]["units"] == columns and told["loss"] is None
        assert text in CliRunner().invoke(app, ["inspect", str(data / name)]).output


@pytest.mark.parametrize("name", ["f.onnx", "F.ONNX", "f.bin"])
def test_an_onnx_file_is_named(tmp_path, name):
    (tmp_path / name).write_bytes(b"\x08\x0a\x12\x07unbraid\x1a\x050.1.0")
    with pytest.raises(FormatError, match="an ONNX file, which only 'unbraid predict FILE DATA'"):
        unbraid.load(tmp_path / name)
