"""Vocabularies of Keras: the JSON of a Tokenizer, and a word_index with a word for unknown words."""

import json
import logging
import string

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import unbraid
from tests.data.test_text import WORDS, examples, network
from tests.networks.keras.making import write_h5
from unbraid.cli.app import app
from unbraid.data.keras_tokenizer import KERAS_FILTERS
from unbraid.data.vocabulary import Vocabulary, read_vocabulary
from unbraid.errors import DataError, FormatError

TEXTS = [
    "Good morning, good people!", "a dog\tand a\ncat", "tea  for two", "unheard-of words", "", "  ", "A",
    "don't stop", "carriage\rreturn and\xa0space", "na\u00efve \u03a3\u039f\u03a6\u039f\u03a3 \u0130stanbul", "a|b|c",
    "x, y, , z",
]  # fmt: skip


class KerasOracle:
    """The documented algorithm of keras.preprocessing.text.Tokenizer, written again from its description."""

    def __init__(self, num_words=None, filters=KERAS_FILTERS, lower=True, split=" ", char_level=False, oov_token=None):
        self.settings = {
            "num_words": num_words, "filters": filters, "lower": lower, "split": split, "char_level": char_level,
            "oov_token": oov_token,
        }  # fmt: skip
        self.__dict__ |= self.settings

    def words(self, text):
        if isinstance(text, list):
            return [word.lower() if self.lower else word for word in text]
        text = text.lower() if self.lower else text
        if self.char_level:
            return list(text)
        return [word for word in text.translate({ord(c): self.split for c in self.filters}).split(self.split) if word]

    def fit(self, texts):
        counts = {}
        for text in texts:
            for word in self.words(text):
                counts[word] = counts.get(word, 0) + 1
        ranked = sorted(counts, key=lambda word: -counts[word])
        ranked = [self.oov_token, *ranked] if self.oov_token is not None else ranked
        self.word_index = {word: index for index, word in enumerate(ranked, 1)}
        return self

    def sequences(self, texts):
        unknown = self.word_index.get(self.oov_token)
        rows = []
        for text in texts:
            row = []
            for word in self.words(text):
                index = self.word_index.get(word)
                if index is None or (self.num_words and index >= self.num_words):
                    index = unknown
                if index is not None:
                    row.append(index)
            rows.append(row)
        return rows

    def to_json(self):
        counted = {"word_counts": "{}", "word_docs": "{}", "index_docs": "{}", "document_count": 3}
        index_word = {index: word for word, index in self.word_index.items()}
        config = {**self.settings, **counted, "index_word": json.dumps(index_word)}
        return json.dumps({"class_name": "Tokenizer", "config": {**config, "word_index": json.dumps(self.word_index)}})


SETTINGS = {
    "default": {},
    "oov": {"oov_token": "<oov>"},
    "oov with capitals": {"oov_token": "Unknown Word"},
    "num_words": {"num_words": 5},
    "num_words and oov": {"num_words": 5, "oov_token": "<OOV>"},
    "num_words of two": {"num_words": 2, "oov_token": "<OOV>"},
    "num_words of zero": {"num_words": 0},
    "case kept": {"lower": False, "oov_token": "[UNK]"},
    "no filters": {"filters": "", "oov_token": "<oov>"},
    "own filters": {"filters": "aeiou]^-\\", "oov_token": "<oov>"},
    "many filters": {"filters": "".join(map(chr, range(0x2000, 0x2110))) + "a", "oov_token": "<oov>"},
    "split at a bar": {"split": "|", "filters": ","},
    "a long separator": {"split": ", ", "filters": "|"},
    "characters": {"char_level": True, "oov_token": "<oov>"},
    "characters, few": {"char_level": True, "num_words": 6},
}


def stored(tokenizer, folder):
    (folder / "tokenizer.json").write_text(tokenizer.to_json())
    return folder / "tokenizer.json"


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS)
def test_a_keras_tokenizer_gives_the_indices_of_keras(changes, tmp_path):
    tokenizer = KerasOracle(**changes).fit(TEXTS[:3] + TEXTS[7:])
    vocabulary = read_vocabulary(stored(tokenizer, tmp_path))
    assert vocabulary.indices(TEXTS) == tokenizer.sequences(TEXTS)
    again = Vocabulary.from_json(vocabulary.to_json(), vocabulary.padding, "again")  # as a folder stores it
    assert again.indices(TEXTS) == tokenizer.sequences(TEXTS)


TEXT = st.text(alphabet=string.ascii_letters + string.digits + KERAS_FILTERS + " \r\xa0\u03a3\u03c3\u00df", max_size=40)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(TEXT, min_size=1, max_size=6), st.sampled_from([None, 0, 3]), st.sampled_from([None, "<oov>"]), st.data()
)
def test_any_text_gives_the_indices_of_keras(tmp_path, texts, num_words, oov, data):
    tokenizer = KerasOracle(num_words, oov_token=oov, lower=data.draw(st.booleans())).fit(["a good cat", *texts[:3]])
    assert read_vocabulary(stored(tokenizer, tmp_path)).indices(texts) == tokenizer.sequences(texts)


def test_lists_of_words_are_looked_up_whole_as_in_keras(tmp_path):
    tokenizer = KerasOracle(oov_token="<oov>").fit([["U.S.", "cat"], ["Cat", "New York"]])
    texts = [["u.s.", "Cat", "cat,", "New York", ""], ["<oov>"]]
    assert read_vocabulary(stored(tokenizer, tmp_path)).indices(texts) == tokenizer.sequences(texts)
    with pytest.raises(DataError, match="not valid text"):
        read_vocabulary(stored(tokenizer, tmp_path)).indices([["\ud800"]])


def test_json_that_was_dumped_twice_is_read(tmp_path):
    """json.dump(tokenizer.to_json(), file), as in many tutorials, writes a JSON string of JSON."""
    tokenizer = KerasOracle(oov_token="<oov>").fit(TEXTS)
    (tmp_path / "twice.json").write_text(json.dumps(tokenizer.to_json()))
    assert Vocabulary.from_file(tmp_path / "twice.json").indices(TEXTS) == tokenizer.sequences(TEXTS)


WRONG = {
    "another class": ({}, {"class_name": "TextVectorization"}, "class_name is 'TextVectorization'"),
    "no words": ({"word_index": None}, {}, "word_index is missing"),
    "words that are no mapping": ({"word_index": "[1]"}, {}, "word_index is list"),
    "broken words": ({"word_index": "{"}, {}, "word_index: is not JSON"),
    "a token without an index": ({"oov_token": "<none>"}, {}, "oov_token '<none>' is not in word_index"),
    "lower as text": ({"lower": "yes"}, {}, "lower is 'yes'; expected bool"),
    "num_words as text": ({"num_words": "5"}, {}, "num_words is '5'; expected int"),
    "num_words as a boolean": ({"num_words": True}, {}, "num_words is True"),
    "negative num_words": ({"num_words": -1}, {}, "num_words is -1"),
    "no separator": ({"split": ""}, {}, "split is ''"),
    "a huge separator": ({"split": "-" * 99}, {}, "1 to 16 characters"),
    "filters as a list": ({"filters": [","]}, {}, "filters is"),
}


@pytest.mark.parametrize(("config", "whole", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_keras_tokenizer_is_refused(config, whole, message, tmp_path):
    content = json.loads(KerasOracle().fit(TEXTS).to_json())
    content = {**content, "config": {**content["config"], **config}, **whole}
    (tmp_path / "t.json").write_text(json.dumps(content))
    with pytest.raises(FormatError, match=message) as caught:
        read_vocabulary(tmp_path / "t.json")
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("name", ["<oov>", "<OOV>", "[UNK]", "<unk>", "[oov]"])
def test_a_word_index_with_a_word_for_unknown_words_uses_it(name, tmp_path, caplog):
    word_index = {"a": 2, name: 1, "b": 3}
    (tmp_path / "w.json").write_text(json.dumps(word_index))
    with caplog.at_level(logging.INFO, logger="unbraid"):
        for vocabulary in (Vocabulary.from_word_index(word_index), read_vocabulary(tmp_path / "w.json")):
            assert vocabulary.indices(["a z b"]) == [[2, 1, 3]]
            assert f"unknown words -> index 1 ('{name}')" in vocabulary.describe()
    assert caplog.text.count("unknown words -> index 1") == 2
    assert Vocabulary.from_word_index(word_index, unknown=None).indices(["a z b"]) == [[2, 3]]
    assert Vocabulary.from_word_index(word_index, unknown=3).indices(["a z"]) == [[2, 3]]


def test_filters_that_cannot_be_saved_are_refused():
    with pytest.raises(DataError, match="500 filters"):
        Vocabulary.from_word_index({"a": 1}, filters="".join(map(chr, range(0x2000, 0x2000 + 500))))


def test_without_such_a_word_unknown_words_are_left_out():
    vocabulary = Vocabulary.from_word_index({"a": 1, "unk": 2, "oov": 3})
    assert vocabulary.indices(["a z unk"]) == [[1, 2]]
    assert vocabulary.describe().startswith("unknown words are left out, lower case")


def test_of_two_such_words_the_smaller_index_counts():
    assert Vocabulary.from_word_index({"<unk>": 7, "<oov>": 1, "a": 2}, filters="").indices(["z <unk>"]) == [[1, 7]]


@pytest.mark.parametrize(
    ("side", "truncation", "rows"),
    [
        ("left", None, [[0, 0, 1], [2, 3, 4]]), ("right", None, [[1, 0, 0], [1, 2, 3]]),
        ("right", "left", [[1, 0, 0], [2, 3, 4]]), ("left", "right", [[0, 0, 1], [1, 2, 3]]),
    ],
)  # fmt: skip
def test_padding_and_truncation_have_their_own_sides(side, truncation, rows, tmp_path):
    """Expected: pad_sequences(maxlen=3, padding=..., truncating=...); Keras truncates at the front by default."""
    word_index = {word: index for index, word in enumerate("abcd", 1)}
    (tmp_path / "w.json").write_text(json.dumps(word_index))
    how = {"steps": 3, "side": side, "truncation": truncation}
    for made in (Vocabulary.from_word_index(word_index, **how), Vocabulary.from_file(tmp_path / "w.json", **how)):
        assert made.encode(["a", "a b c d"])[0].tolist() == rows


def test_labels_are_truncated_as_the_words_are(tmp_path):
    vocabulary = Vocabulary.from_words(WORDS, steps=3, side="right", truncation="left")
    net = network(WORDS, "M:N", steps=3).with_vocabulary(vocabulary)
    texts, labels = [["red", "dog"], ["red", "dog", "cat", "blue"]], [["colour", "animal"], list("wxyz")]
    assert net.align(labels, net.check(texts), texts) == [["colour", "animal", ""], ["x", "y", "z"]]
    net = network(WORDS, steps=3).with_vocabulary(vocabulary)
    unbraid.decompose(net, (["red dog cat bird"] * 4, ["colour"] * 2 + ["animal"] * 2)).save(tmp_path / "p")
    stored = unbraid.load_decomposition(tmp_path / "p").network.vocabulary
    assert stored.encode(["red dog cat bird"])[0].tolist() == [[6, 5, 7]]


def test_the_command_line_prints_how_texts_are_read(tmp_path):
    texts, labels = ["red dog", "a cat", "red", "cat cat"] * 4, ["0", "1"] * 8
    lines = [json.dumps({"text": text, "label": label}) for text, label in zip(texts, labels, strict=True)]
    (tmp_path / "d.jsonl").write_text("\n".join(lines))
    write_h5(tmp_path / "m.h5")
    tokenizer = KerasOracle(oov_token="<oov>", num_words=6).fit(texts)
    (tmp_path / "words.json").write_text(json.dumps(tokenizer.word_index))
    line = (
        "vocabulary: unknown words -> index 1 ('<oov>'), lower case, Keras's default filters, padded at the front to 5"
    )
    for path in (stored(tokenizer, tmp_path), tmp_path / "words.json"):
        given = [tmp_path / "m.h5", tmp_path / "d.jsonl", "--vocabulary", path, "-o", tmp_path / "parts", "--json"]
        result = CliRunner().invoke(app, ["decompose", *map(str, given)])
        assert result.exit_code == 0 and line in result.stderr.splitlines()
        assert json.loads(result.stdout)["folder"] == str(tmp_path / "parts")
    (tmp_path / "tokenizer.json").write_text(Vocabulary.from_words(WORDS[:4]).to_json())
    given = [tmp_path / "m.h5", tmp_path / "d.jsonl", "--vocabulary", tmp_path / "tokenizer.json", "-o", tmp_path / "q"]
    result = CliRunner().invoke(app, ["decompose", *map(str, given)])
    assert "vocabulary: tokenizer.json, padded at the end to 5" in result.stderr.splitlines()


def by_comma(text):
    return [word.strip() for word in text.split(",")]


def test_a_function_splits_texts():
    vocabulary = Vocabulary.from_words(["new york", "tea"], steps=3, tokenizer=by_comma)
    assert vocabulary.encode(["New York, tea", "coffee"])[0].tolist() == [[2, 3, 0], [1, 0, 0]]
    assert vocabulary.encode([["New York", "x"]])[0].tolist() == [[2, 1, 0]]
    assert vocabulary.size == 4
    assert Vocabulary.from_words(["Tea"], lower=False, tokenizer=by_comma).indices(["Tea,tea"]) == [[2, 1]]


def test_a_function_is_not_saved_and_must_be_given_again(tmp_path):
    texts, labels = examples()
    texts = [text.replace(" ", ",") for text in texts]
    net = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5, tokenizer=by_comma))
    parts = unbraid.decompose(net, (texts, labels))
    with pytest.warns(unbraid.UnbraidWarning, match="set_tokenizer"):
        parts.save(tmp_path / "p")
    assert b"by_comma" not in b"".join(path.read_bytes() for path in (tmp_path / "p").iterdir())
    loaded = unbraid.load_decomposition(tmp_path / "p")
    with pytest.raises(DataError, match="set_tokenizer"):
        loaded["colour"].margins(texts)
    split = [by_comma(text) for text in texts]
    np.testing.assert_array_equal(loaded["colour"].margins(split), parts["colour"].margins(texts))
    loaded.network.vocabulary.set_tokenizer(by_comma)
    np.testing.assert_array_equal(loaded["colour"].margins(texts), parts["colour"].margins(texts))
    assert unbraid.evaluate(unbraid.compose(loaded), (texts, labels)).decisions == len(texts)


def test_functions_that_differ_make_vocabularies_that_differ():
    one, other = (Vocabulary.from_words(WORDS, tokenizer=split) for split in (by_comma, str.split))
    assert len({one.digest, other.digest, Vocabulary.from_words(WORDS).digest}) == 3
    before = one.digest
    assert one.set_tokenizer(str.split).digest == other.digest != before


@pytest.mark.parametrize("returned", [None, "red", [1], np.asarray(["red"]), [["red"]]])
def test_a_function_that_gives_no_words_is_refused(returned):
    vocabulary = Vocabulary.from_words(WORDS, tokenizer=lambda text: returned)
    with pytest.raises(DataError, match="expected a list of words"):
        vocabulary.encode(["red"])


def test_a_function_that_fails_is_named():
    vocabulary = Vocabulary.from_words(WORDS, tokenizer=lambda text: 1 / 0)
    with pytest.raises(DataError, match="the tokenizer cannot read 'red'"):
        vocabulary.encode(["red"])
    with pytest.raises(DataError, match="expected a function"):
        Vocabulary.from_words(WORDS, tokenizer="nltk")
    with pytest.raises(DataError, match="splits texts itself"):
        Vocabulary.from_words(WORDS).set_tokenizer(str.split)
