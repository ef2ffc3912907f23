"""Networks of Keras files predict like Keras: the authors' models, and small models for all layers and settings."""

import numpy as np
import pytest

from tests.locations import DATA
from unbraid.errors import DataError
from unbraid.networks.keras.reading import load_keras
from unbraid.networks.network import Network

DATA = DATA / "keras"
SMALL = sorted(p.name for p in DATA.iterdir() if p.suffix in (".h5", ".keras"))
REFERENCE = [
    "gru_many_to_one_model1",
    "gru_one_to_many_model1_combined_scratch",
    "lstm_many_to_one_model1",
    "lstm_one_to_one_model1_combined_scratch",
    "relu_many_to_one_model1",
    "vanilla_rnn_many_to_one_model1",
    "vanilla_rnn_many_to_one_model2",
    "vanilla_rnn_one_to_many_model1",
]


def outputs(network: Network, x: np.ndarray, like: np.ndarray) -> np.ndarray:
    """What Keras calls the prediction: logits where the file has no output activation."""
    sums_to_one = np.allclose(like.sum(-1), 1, atol=1e-4)
    return network.predict_proba(x) if sums_to_one or network.spec.output == "sigmoid" else network.logits(x)


@pytest.mark.parametrize("name", REFERENCE)
def test_predicts_as_keras_did_for_the_authors_models(shared, name):
    expected = np.load(shared / "reference" / "predictions" / f"{name}.npz")
    network = load_keras(shared / "reference" / "models" / f"{name}.h5")
    np.testing.assert_allclose(network.predict_proba(expected["x"]), expected["y"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_predicts_as_keras_does_for_every_layer_and_setting(name):
    expected = np.load((DATA / name).with_suffix(".npz"))
    logits = ("k2-merges.keras", "k3-merges.keras")  # a linear output layer and no stored loss
    network = load_keras(DATA / name, task="classification" if name in logits else None)
    np.testing.assert_allclose(outputs(network, expected["x"], expected["y"]), expected["y"], rtol=0, atol=1e-5)


def test_output_and_length_as_the_file_says():
    networks = {
        name: load_keras(DATA / f"k3-{name}.keras") for name in ("lstm", "labels", "features", "tagger", "any_length")
    }
    assert [n.spec.output for n in networks.values()] == ["softmax", "sigmoid", "sigmoid", "softmax", "softmax"]
    assert [n.spec.classes for n in networks.values()] == [3, 4, 1, 4, 3]
    assert [n.spec.steps for n in networks.values()] == [6, 6, 5, 6, None]
    assert networks["features"].binary
    assert networks["tagger"].io.value == "M:N"
    assert networks["tagger"].spec.head.startswith("time_distributed")


def test_hard_sigmoid_as_the_version_that_wrote_the_file_means_it():
    gates = [load_keras(DATA / f"k{major}-gru.keras").spec.stages[1].cell.gate_activation for major in (2, 3)]
    assert gates == ["hard_sigmoid_keras2", "hard_sigmoid"]


def test_labels():
    assert load_keras(DATA / "k3-lstm.keras").labels == [0, 1, 2]
    assert load_keras(str(DATA / "k3-lstm.keras"), labels=["a", "b", "c"]).labels == ["a", "b", "c"]
    with pytest.raises(DataError, match="2 labels"):
        load_keras(DATA / "k3-lstm.keras", labels=["a", "b"])


def test_the_type_is_what_the_file_holds_not_its_name(tmp_path):
    path = tmp_path / "model.bin"
    path.write_bytes((DATA / "k3-lstm.keras").read_bytes())
    assert load_keras(path).sha256() == load_keras(DATA / "k3-lstm.keras").sha256()


def test_wrong_features_behind_masking_are_refused():
    network = load_keras(DATA / "k3-features.keras")
    with pytest.raises(DataError, match=r"5 .*steps|features a timestep"):
        network.predict(np.zeros((2, network.spec.steps or 5, 3), np.float32))
