"""Hostile and broken .keras archives."""

import subprocess
import sys
import zipfile

import h5py
import pytest

from tests.networks.keras.making import dense, embedding, lstm, refused, sequential, without
from unbraid.errors import UnsupportedLayer


@pytest.mark.parametrize("member", ["metadata.json", "config.json", "model.weights.h5"])
def test_missing_member(archive, member):
    refused(archive({member: None}), f"member {member!r} is missing")


@pytest.mark.parametrize("name", ["/etc/passwd", "../evil", "a/../../evil", "C:\\evil", "a\\b", "c:/evil"])
def test_member_outside(archive, name):
    refused(archive({name: b"x"}), "outside the archive")


def test_duplicate_member(archive):
    path = archive()
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "a") as file:
        file.writestr("config.json", "{}")
    refused(path, "config.json", "twice")


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5", "something_else"])
def test_zip_bomb(archive, member):
    refused(archive({member: bytes(50 * 2**20)}), "zip bomb")


@pytest.mark.parametrize("member", ["metadata.json", "config.json"])
@pytest.mark.parametrize("content", ["", "{", "[]", "null", b"\xff\x00"])
def test_member_is_no_json_object(archive, member, content):
    refused(archive({member: content}), member)


def test_weights_member_is_no_hdf5(archive):
    refused(archive({"model.weights.h5": b"text"}), "model.weights.h5")


def test_version_is_no_text(archive):
    refused(archive({"metadata.json": '{"keras_version": 3}'}), "keras_version")


@pytest.mark.parametrize("path", ["layers", "layers/lstm", "layers/lstm/cell", "layers/lstm/cell/vars/1"])
def test_missing_variables_in_an_archive(archive, path):
    refused(archive(change=without(path)), "model.weights.h5", "layers/")


def test_too_many_layers_of_a_class(archive):
    def change(file):
        file.copy("layers/lstm", "layers/lstm_1")

    refused(archive(change=change), "2 groups 'layers/lstm...', expected 1")


def test_links_in_an_archive(archive):
    def change(file):
        del file["layers/lstm"]
        file["layers/lstm"] = h5py.ExternalLink("/etc/passwd", "/")

    refused(archive(change=change), "is a link")


def test_custom_layer_in_an_archive(archive):
    own = {**lstm(), "module": "mypackage.layers", "registered_name": "mypackage>LSTM"}
    refused(archive(model=sequential(embedding(), own, dense())), "custom layer", error=UnsupportedLayer)


def test_keras_is_never_imported(legacy):
    code = (
        f"import sys, unbraid\nunbraid.load({str(legacy())!r})\nassert not {{'keras', 'tensorflow'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
