"""Encoder-decoders of Keras files predict like Keras, with any names of layers."""

import json
import zipfile

import numpy as np
import pytest

from tests.locations import DATA
from unbraid import Translator, decompose
from unbraid.config import IOArchitecture
from unbraid.errors import DataError
from unbraid.networks.keras.reading import load_keras
from unbraid.translation.languages import with_languages
from unbraid.translation.words import sentence_vocabulary

DATA = DATA / "keras" / "translators"
FILES = sorted(p.name for p in DATA.iterdir() if p.suffix in (".h5", ".keras"))


@pytest.mark.parametrize("name", FILES)
def test_predicts_as_keras_does_at_every_word(name):
    expected = np.load((DATA / name).with_suffix(".npz"))
    network = load_keras(DATA / name)
    assert network.io is IOArchitecture.ENCODER_DECODER and network.labels == []
    said = expected["target"] != 0
    found = network.predict_proba({"source": expected["source"], "target": expected["target"]})
    np.testing.assert_allclose(found[said], expected["y"][said], rtol=0, atol=1e-5)


def test_there_are_files_of_every_cell_and_depth():
    specs = [load_keras(DATA / name).spec for name in FILES]
    assert {s.decoder[0].cell.kind for s in specs} == {"rnn", "lstm", "gru"}
    assert {len(s.decoder) for s in specs} == {1, 2} and {s.encoder[0].reverse for s in specs} == {False, True}


def test_a_keras_file_becomes_a_translator():
    network = with_languages(load_keras(DATA / "k3-lstm2.keras"), {"fr": (2, 3), "de": (4, 5)})
    network.with_vocabulary(sentence_vocabulary(["a", "b", "c"]), sentence_vocabulary(["x", "y"], ["fr", "de"]))
    rng = np.random.default_rng(0)
    x = {"source": rng.integers(1, 9, (20, 5)), "target": rng.integers(6, 8, (20, 5))}
    y = np.array(["fr", "de"] * 10)
    x["target"][:, 0] = np.where(y == "fr", 2, 4)
    parts = decompose(network, (x, y), strategy="paper", max_removed=0.25)
    assert [mask.sum() for mask in parts["fr"].kept_nodes.values()] <= [4, 4]
    assert all(isinstance(text, str) for text in Translator(parts).translate(["a b", "c"], "de", longest=4))
    with pytest.raises(DataError, match="with_languages"):
        decompose(load_keras(DATA / "k3-lstm.keras"), (x, y), strategy="paper")


def changed(path, change):
    """A copy of a file whose configuration is another one."""
    with zipfile.ZipFile(DATA / "k3-lstm2.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    layers = {layer["config"]["name"]: layer for layer in config["config"]["layers"]}
    change(layers, config["config"])
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def of_kind(layers, kind):
    return [layer for layer in layers.values() if layer["class_name"] == kind]


def decoders(layers):
    return [layer for layer in of_kind(layers, "LSTM") if "initial_state" in layer["inbound_nodes"][0]["kwargs"]]


def states(layer):
    return [s["config"]["keras_history"] for s in layer["inbound_nodes"][0]["kwargs"]["initial_state"]]


def crossed(layers, config):
    first, second = decoders(layers)
    a, b = (layer["inbound_nodes"][0]["kwargs"] for layer in (first, second))
    a["initial_state"], b["initial_state"] = b["initial_state"], a["initial_state"]


def swapped(layers, config):
    for state in states(decoders(layers)[0]):
        state[2] = 3 - state[2]


def turned(layers, config):
    config["input_layers"] = config["input_layers"][::-1]


def unstarted(layers, config):
    del decoders(layers)[0]["inbound_nodes"][0]["kwargs"]["initial_state"]


def backwards(layers, config):
    of_kind(layers, "LSTM")[0]["config"]["go_backwards"] = True


def sigmoid(layers, config):
    of_kind(layers, "TimeDistributed")[0]["config"]["layer"]["config"]["activation"] = "sigmoid"


@pytest.mark.parametrize("change", [crossed, swapped, turned, unstarted, backwards, sigmoid])
def test_what_is_built_otherwise_is_a_graph(tmp_path, change):
    network = load_keras(changed(tmp_path / "model.keras", change))
    assert network.spec.type == "keras" and network.spec.many_outputs
    assert network.spec.output == ("sigmoid" if change is sigmoid else "softmax")
