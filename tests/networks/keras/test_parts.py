"""The structure of a Keras model in one file and its weights in another."""

import json
import zipfile

import h5py
import numpy as np
import pytest

from tests.locations import DATA
from tests.networks.keras.making import write_h5
from unbraid.errors import FormatError
from unbraid.networks.keras.reading import load_keras
from unbraid.networks.loading import load

GRAPHS = DATA / "keras" / "graphs"


def parts(tmp_path, name):
    """The two files of a ``.keras`` or ``.h5`` file."""
    config, weights = tmp_path / "config.json", tmp_path / "model.weights.h5"
    path = GRAPHS / name
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            config.write_bytes(archive.read("config.json"))
            weights.write_bytes(archive.read("model.weights.h5"))
        if name.startswith("k2"):
            config.write_text(json.dumps(json.loads(config.read_text()) | {"keras_version": "2.16.0"}))
        return config, weights
    with h5py.File(path) as whole, h5py.File(weights, "w") as file:
        version = whole.attrs["keras_version"]
        config.write_text(json.dumps(json.loads(whole.attrs["model_config"]) | {"keras_version": version}))
        group = whole["model_weights"]
        for key in group:
            whole.copy(group[key], file, key)
        file.attrs["layer_names"] = group.attrs["layer_names"]
    return config, weights


@pytest.mark.parametrize("name", ["k3-nested_functional.keras", "k2-nested_functional.keras", "k2-nested_norm.h5",
                                  "k3-two_inputs.h5"])  # fmt: skip
def test_a_structure_and_its_weights(tmp_path, name):
    config, weights = parts(tmp_path, name)
    found, whole = load(config, weights=weights), load_keras(GRAPHS / name)
    for key, weight in whole.weights().items():
        np.testing.assert_array_equal(found.weights()[key], weight)
    assert found.spec == whole.spec


def test_weights_alone_name_the_way_out(tmp_path):
    _, weights = parts(tmp_path, "k3-two_inputs.h5")
    with pytest.raises(
        FormatError, match=r"weights alone.*unbraid\.load\('config\.json', weights='model\.weights\.h5'\)"
    ):
        load(weights)


def test_other_files_are_refused(tmp_path):
    config, weights = parts(tmp_path, "k3-two_inputs.h5")
    with pytest.raises(FormatError, match="whole model"):
        load(config, weights=write_h5(tmp_path / "whole.h5"))
    with pytest.raises(FormatError, match="HDF5"):
        load(config, weights=GRAPHS / "k3-dot.keras")
    with pytest.raises(FormatError, match=r"config2\.json"):
        load(tmp_path / "config2.json", weights=weights)
    config.write_text("[]")
    with pytest.raises(FormatError, match="expected a JSON object"):
        load(config, weights=weights)
