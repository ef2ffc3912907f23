"""Folders of regression networks whose fields were changed, with valid checksums."""

import pytest
from safetensors.torch import load_file, save_file

from tests import factory
from tests.manifests import edit
from tests.numbers import forecaster, sample
from unbraid import compose, decompose, load_composition, load_decomposition
from unbraid.errors import FormatError


@pytest.fixture
def folder(tmp_path):
    network = forecaster()
    compose(decompose(network, sample(network), keep=0.5)).save(tmp_path / "whole")
    return tmp_path / "whole"


@pytest.mark.parametrize(
    "change",
    [
        lambda manifest: manifest["modules"][1].update(temperature=2.0),
        lambda manifest: manifest["modules"][1].update(offset=1.0),
        lambda manifest: manifest.update(vote="probability"),
    ],
)
def test_a_vote_is_refused(folder, change):
    edit(folder, change)
    with pytest.raises(FormatError, match=r"unbraid\.json: .*predict numbers"):
        load_composition(folder)


@pytest.mark.parametrize("output", ["numbers", "linear+softmax", "", 3, None, "linear+elu"])
def test_an_unknown_kind_of_output_is_refused(folder, output):
    edit(folder, lambda manifest: manifest["parents"][0]["spec"].update(output=output))
    with pytest.raises(FormatError, match="output"):
        load_composition(folder)


@pytest.mark.parametrize("output", ["softmax", "sigmoid", "linear+tanh"])
def test_another_kind_of_output_is_noticed(folder, output):
    edit(folder, lambda manifest: manifest["parents"][0]["spec"].update(output=output))
    with pytest.raises(FormatError, match="sha256"):
        load_composition(folder)


def test_several_rows_for_one_number_are_refused(folder):
    path = folder / "modules.safetensors"
    tensors = load_file(path)
    for name in ("0/head.weight", "0/head.bias"):
        tensors[name] = tensors[name].repeat(2, *[1] * (tensors[name].dim() - 1))
    save_file(tensors, path)
    edit(folder)
    with pytest.raises(FormatError, match="head"):
        load_composition(folder)


def test_names_of_the_columns_are_one_for_each(folder):
    edit(folder, lambda manifest: manifest["parents"][0]["labels"].append(3))
    with pytest.raises(FormatError, match="labels: found 4 for 3"):
        load_composition(folder)


def test_a_single_column_has_one_name(tmp_path):
    network = forecaster(classes=1)
    decompose(network, sample(network), keep=0.5).save(tmp_path / "one")
    assert load_decomposition(tmp_path / "one").labels == [0]
    edit(tmp_path / "one", lambda manifest: manifest["parents"][0].update(labels=[0, 1]))
    with pytest.raises(FormatError, match="labels: found 2 for 1"):
        load_decomposition(tmp_path / "one")
    assert factory.network(classes=1, output="sigmoid").labels == [0, 1]
