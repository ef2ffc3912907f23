"""TextVectorization in a file becomes the vocabulary: the same indices and predictions as in Keras.

``tests/data/keras/make_text.py`` wrote the files with tf_keras 2.16 and Keras 3 on TensorFlow.
"""

import json
import zipfile

import numpy as np
import pytest

import unbraid
from tests.locations import DATA
from unbraid.errors import DataError, FormatError, UnsupportedLayer

FOLDER = DATA / "keras" / "text"


def stored(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


@pytest.mark.parametrize("name", ["k2", "k3"])
def test_predicts_texts_as_keras_does(name):
    network, wanted = unbraid.load(FOLDER / f"{name}.keras"), stored(name)
    np.testing.assert_array_equal(network.vocabulary.encode(wanted["texts"])[0], wanted["indices"])
    np.testing.assert_allclose(network.predict_proba(wanted["texts"]), wanted["probabilities"], atol=1e-6)
    assert "TextVectorization" in network.vocabulary.describe()


def test_a_saved_folder_has_the_vocabulary(tmp_path):
    network, wanted = unbraid.load(FOLDER / "k3.keras"), stored("k3")
    texts = wanted["texts"] * 5
    parts = unbraid.decompose(network, (texts, np.arange(len(texts)) % 2))
    parts.save(tmp_path / "parts")
    again = unbraid.load_decomposition(tmp_path / "parts")
    np.testing.assert_array_equal(again.network.vocabulary.encode(wanted["texts"])[0], wanted["indices"])


def test_a_given_vocabulary_comes_first():
    own = unbraid.Vocabulary.from_words(["go"], steps=5)
    assert unbraid.load(FOLDER / "k3.keras", vocabulary=own).vocabulary is own


def changed(path, settings=None, **members):
    """The file with other settings of the layer, or with other members (None leaves one out)."""
    with zipfile.ZipFile(FOLDER / "k3.keras") as file:
        content = {name: file.read(name) for name in file.namelist()}
    model = json.loads(content["config.json"])
    layers = model["config"]["layers"]
    next(one for one in layers if one["class_name"] == "TextVectorization")["config"] |= settings or {}
    content["config.json"] = json.dumps(model).encode()
    for name in [name for name in content if name.endswith("vocabulary.txt")]:
        if "words" in members:
            content[name] = members["words"]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in content.items():
            if data is not None:
                file.writestr(name, data)
    return path


def test_words_in_the_settings(tmp_path):
    path = changed(tmp_path / "m.keras", {"vocabulary": ["go", "the"], "split": "whitespace"}, words=None)
    assert unbraid.load(path).vocabulary.encode(["the go x"])[0].tolist() == [[3, 2, 1, 0, 0]]


@pytest.mark.parametrize(
    "settings",
    [
        {"output_mode": "tf_idf"},
        {"ngrams": 2},
        {"standardize": {"class_name": "function", "config": "evil"}},
        {"split": "evil"},
        {"vocabulary": ["a", "a"]},
        {"vocabulary": [1, 2]},
    ],
)
def test_other_settings_are_refused(tmp_path, settings):
    with pytest.raises(UnsupportedLayer, match="TextVectorization"):
        unbraid.load(changed(tmp_path / "m.keras", settings))


@pytest.mark.parametrize(("words", "part"), [(None, "no words"), (b"\xff\xfe", "UTF-8")])
def test_files_without_words_are_refused(tmp_path, words, part):
    with pytest.raises(FormatError, match=part):
        unbraid.load(changed(tmp_path / "m.keras", words=words))


def test_more_words_than_the_embedding_has(tmp_path):
    words = "\n".join(["", "[UNK]", *[f"w{number}" for number in range(20)]]).encode()
    with pytest.raises(DataError, match="vocabulary has indices up to 21"):
        unbraid.load(changed(tmp_path / "m.keras", words=words))


@pytest.mark.parametrize("steps", [0, -1, "x", 2**40])
def test_lengths_out_of_range(tmp_path, steps):
    with pytest.raises(FormatError, match="output_sequence_length"):
        unbraid.load(changed(tmp_path / "m.keras", {"output_sequence_length": steps}))


def test_no_list_of_words():
    for words in ("go", {"go": 1}, [3], ["a", "a"], []):
        with pytest.raises(DataError):
            unbraid.Vocabulary.from_text_vectorization(words)
    with pytest.raises(DataError, match="standardize"):
        unbraid.Vocabulary.from_text_vectorization(["a"], standardize="upper")
    with pytest.raises(DataError):
        unbraid.Vocabulary.from_text_vectorization(None)


def test_characters():
    rules = {"split": "character", "standardize": "lower"}
    found = unbraid.Vocabulary.from_text_vectorization(["", "[UNK]", "a", "b", " "], steps=5, **rules)
    assert found.encode(["AB a!"])[0].tolist() == [[2, 3, 4, 2, 1]]
