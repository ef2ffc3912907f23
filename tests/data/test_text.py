"""Text as input: vocabularies, and compositions of modules with different vocabularies."""

import json

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import unbraid
from tests import factory
from unbraid.cli.app import app
from unbraid.data.targets import read_targets
from unbraid.data.texts import is_text
from unbraid.data.vocabulary import Vocabulary
from unbraid.demo.architectures import sequence_spec
from unbraid.demo.initial import initial_weights
from unbraid.errors import DataError, FormatError, IncompatibleModules

WORDS = ["red", "green", "blue", "cat", "dog", "bird"]


def network(words, io="M:1", steps=5, seed=0):
    spec = sequence_spec("lstm", 1, len(words) + 2, 6, 8, 2, io, steps)
    return unbraid.Network(spec, initial_weights(spec, seed), ["colour", "animal"])


def test_word_index_reads_as_keras_does():
    """Expected rows: Keras' Tokenizer.texts_to_sequences, then pad_sequences(maxlen=6)."""
    vocabulary = Vocabulary.from_word_index({"the": 1, "cat": 2, "sat": 3, "mat": 4, "on": 5}, steps=6)
    indices, lengths = vocabulary.encode(["The cat, sat-on the MAT!", "a dog", "cat " * 9])
    assert indices.tolist() == [[1, 2, 3, 5, 1, 4], [0] * 6, [2] * 6]
    assert lengths.tolist() == [6, 1, 6]


def test_num_words_and_unknown():
    vocabulary = Vocabulary.from_word_index({"<oov>": 1, "a": 2, "b": 3}, steps=3, num_words=3, unknown=1)
    assert vocabulary.encode(["a b c"])[0].tolist() == [[2, 1, 1]]
    assert vocabulary.size == 3


def test_lists_of_words_are_one_timestep_each():
    vocabulary = Vocabulary.from_words(WORDS, steps=4)
    assert vocabulary.encode([["Red", "zebra", "dog"]])[0].tolist() == [[2, 1, 6, 0]]
    with pytest.raises(DataError, match="no index for unknown"):
        Vocabulary.from_word_index({"a": 1}).encode([["b"]])


def test_tokenizer_json_round_trip(tmp_path):
    vocabulary = Vocabulary.from_words(WORDS, steps=4)
    (tmp_path / "tokenizer.json").write_text(vocabulary.to_json())
    again = Vocabulary.from_file(tmp_path / "tokenizer.json", steps=4)
    assert again.encode(["red dog"])[0].tolist() == vocabulary.encode(["red dog"])[0].tolist()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(DataError, match=r"bad\.json"):
        Vocabulary.from_file(tmp_path / "bad.json")


def test_a_vocabulary_must_fit_the_network():
    with pytest.raises(DataError, match="num_words"):
        network(WORDS[:3]).with_vocabulary(Vocabulary.from_words(WORDS))
    with pytest.raises(DataError, match="pads to 9 timesteps, the network reads 5"):
        network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=9))
    with pytest.raises(DataError, match="no vocabulary"):
        network(WORDS).predict(["red cat"])


def examples():
    rng = np.random.default_rng(0)
    rows = [(rng.choice(WORDS[:3], 3), "colour") if i % 2 else (rng.choice(WORDS[3:], 3), "animal") for i in range(40)]
    return [" ".join(words) for words, _ in rows], np.asarray([label for _, label in rows])


@factory.UNCALIBRATED
@pytest.mark.parametrize("mode", ["rolled", "unrolled"])
def test_modules_of_different_vocabularies_compose(mode, tmp_path):
    texts, labels = examples()
    first = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    turned = [*reversed(WORDS), "extra"]
    second = network(turned, seed=1).with_vocabulary(Vocabulary.from_words(turned, steps=5))
    a = unbraid.decompose(first, (texts, labels), mode=mode)["colour"]
    b = unbraid.decompose(second, (texts, labels), mode=mode)["animal"]
    both = unbraid.compose([a, b])
    margins = both.margins(texts)
    np.testing.assert_array_equal(margins[:, 0], a.margins(first.vocabulary.encode(texts)[0]))
    np.testing.assert_array_equal(margins[:, 1], b.margins(second.vocabulary.encode(texts)[0]))
    with pytest.raises(DataError, match="vocabularies of the modules differ: pass text"):
        both.predict(first.vocabulary.encode(texts)[0])
    both.save(tmp_path / "both")
    np.testing.assert_array_equal(unbraid.load_composition(tmp_path / "both").margins(texts), margins)
    a.save(tmp_path / "a")
    np.testing.assert_array_equal(unbraid.load_module(tmp_path / "a").margins(texts), margins[:, 0])
    assert unbraid.evaluate(both, (texts, labels)).decisions == 40


def test_different_vocabularies_without_text_are_refused():
    texts, labels = examples()
    vocabulary = Vocabulary.from_words(WORDS, steps=5)
    x = vocabulary.encode(texts)[0]
    a = unbraid.decompose(network(WORDS), (x, labels))["colour"]
    b = unbraid.decompose(network([*WORDS, "extra"]), (x, labels))["animal"]
    with pytest.raises(IncompatibleModules, match="size 8 and 9"):
        unbraid.compose([a, b])


def test_a_damaged_vocabulary_is_refused(tmp_path):
    texts, labels = examples()
    net = network(WORDS).with_vocabulary(Vocabulary.from_words(WORDS, steps=5))
    unbraid.decompose(net, (texts, labels)).save(tmp_path / "p")
    (tmp_path / "p" / "vocabulary-0.json").write_text("{}")
    with pytest.raises(FormatError, match=r"vocabulary-0\.json"):
        unbraid.load_decomposition(tmp_path / "p")


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(8, 4)
        self.gru = nn.GRU(4, 6, batch_first=True)
        self.out = nn.Linear(6, 3)

    def forward(self, words):
        return self.out(self.gru(self.embedding(words))[0])


def test_a_tagger_reads_lists_of_words_and_ragged_labels():
    torch.manual_seed(0)
    vocabulary = Vocabulary.from_words(WORDS)
    net = unbraid.Network.from_torch(
        Tagger(), example=torch.randint(0, 8, (4, 5)), labels=["A", "B", "C"], vocabulary=vocabulary
    )
    words = [["red", "cat"], ["blue", "dog", "bird"], ["green"]] * 10
    tags = [["A", "B"], ["C", "A", "B"], ["C"]] * 10
    parts = unbraid.decompose(net, (words, tags), max_removed=0)
    result = unbraid.evaluate(unbraid.compose(parts), (words, tags), against=net)
    assert result.decisions == 60 and result.delta == 0


def taggers(**padding):
    """Make two taggers of the same words; the second has the given padding."""
    texts = [["red", "cat"], ["dog", "blue", "bird", "cat"]] * 6
    tags = [["colour", "animal"], ["animal", "colour", "animal", "animal"]] * 6
    found = []
    for settings in ({"steps": 5}, {"steps": 5, **padding}):
        vocabulary = Vocabulary.from_words(WORDS, **settings)
        net = network(WORDS, io="M:N", steps=None).with_vocabulary(vocabulary)
        found.append(unbraid.decompose(net, (texts, tags), samples_per_class=5))
    return found, texts, tags


@pytest.mark.parametrize("padding", [{"side": "left"}, {"steps": 6}, {"steps": None}])
def test_taggers_that_see_a_word_at_different_timesteps_are_refused(padding):
    (one, other), texts, _ = taggers(**padding)
    with pytest.raises(IncompatibleModules, match="read a word at different timesteps: one pads at the right to 5"):
        unbraid.compose([one["colour"], other["animal"]])
    assert unbraid.compose(other).predict(texts).shape[0] == 12


@pytest.mark.parametrize("rows", [list, tuple, np.asarray])
@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_labels_go_with_their_words(side, rows):
    (_, parts), texts, tags = taggers(side=side)
    composition = unbraid.compose(parts)
    padded = [[""] * 3 + tags[0], ["", *tags[1]]] if side == "left" else [tags[0] + [""] * 3, [*tags[1], ""]]
    fair = composition.with_calibration(texts, [rows(row) for row in tags])
    assert fair.calibration == composition.with_calibration(texts, np.asarray(padded * 6)).calibration
    wanted = unbraid.evaluate(fair, (texts, padded * 6))  # as many labels as timesteps are where they belong
    assert unbraid.evaluate(fair, (texts, [rows(row) for row in tags])).to_dict() == wanted.to_dict()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["animal"], "example 3: 1 labels for 4 words"),
        (["animal"] * 5, "example 3: 5 labels for 4 words"),
        ("animal", "example 3: expected a list of labels, one for each word, got 'animal'"),
        ([["animal"]] * 4, "example 3: expected a list of labels"),
        (2, "example 3: expected a list of labels"),
    ],
)
def test_rows_that_do_not_go_with_their_words_are_refused(row, message):
    (parts, _), texts, tags = taggers()
    wrong = [*tags[:3], row, *tags[4:]]
    composition = unbraid.compose(parts)
    for call in (lambda y: composition.with_calibration(texts, y), lambda y: unbraid.evaluate(composition, (texts, y))):
        with pytest.raises(DataError, match=message):
            call(wrong)


def test_rows_without_a_vocabulary_or_a_tagger_are_refused():
    net = network(WORDS)
    parts = unbraid.decompose(net, (np.arange(50).reshape(10, 5) % 8, np.arange(10) % 2), samples_per_class=3)
    with pytest.raises(DataError, match="rows of different lengths"):
        unbraid.compose(parts).with_calibration(np.ones((2, 5), int), [["colour"], ["colour", "animal"]])


def test_half_characters_and_empty_rows():
    vocabulary = Vocabulary.from_words(WORDS, steps=4)
    with pytest.raises(DataError, match="cannot be written in UTF-8"):
        vocabulary.encode(["red \ud800"])
    assert is_text([[], ["red"]]) and is_text([[], []]) and not is_text([[1], [2]])
    net = network(WORDS, steps=4).with_vocabulary(vocabulary)
    assert net.predict([[], ["red"]]).shape == (2,) and net.predict([[], []]).shape == (2,)


def test_text_files_from_the_shell(shared, tmp_path):
    """The intents of the shared data: text and labels in CSV, a word_index, and the command line."""
    intents = json.loads((shared / "data" / "clinc" / "data_full.json").read_text())
    domains = json.loads((shared / "data" / "clinc" / "domains.json").read_text())
    by_intent = {intent.replace("_", " "): name for name, group in domains.items() for intent in group}
    rows = [(text, by_intent[i.replace("_", " ")]) for text, i in intents["train"][::10]]
    names = sorted(set(by_intent.values()))
    words = sorted({w for text, _ in rows for w in text.lower().split()})
    (tmp_path / "words.json").write_text(json.dumps({w: i + 1 for i, w in enumerate(words[:5000])}))
    lines = ["text,label", *(f'"{text.replace(chr(34), "")}",{names.index(label)}' for text, label in rows)]
    (tmp_path / "train.csv").write_text("\n".join(lines) + "\n")
    model = shared / "reference" / "models" / "vanilla_rnn_many_to_one_model1.h5"
    parts, runner = tmp_path / "parts", CliRunner()
    command = ["decompose", str(model), str(tmp_path / "train.csv"), "-o", str(parts)]
    assert runner.invoke(app, command).exit_code == 2  # text, and no vocabulary
    done = runner.invoke(app, [*command, "--vocabulary", str(tmp_path / "words.json")])
    assert done.exit_code == 0, done.output
    (tmp_path / "ask.jsonl").write_text('{"text": "what is my balance"}\n{"text": "play some music"}\n')
    done = runner.invoke(app, ["predict", str(parts), str(tmp_path / "ask.jsonl")])
    assert len(done.stdout.split()) == 2, done.output


@pytest.mark.parametrize("labels", [[2, 0, 1], [5, 6, 7], ["b", "a", "c"]])
def test_one_hot_columns_are_in_the_order_of_the_labels(labels):
    y = np.asarray([0, 2, 1, 1])
    wanted = read_targets([labels[k] for k in y], labels, many=False).y
    assert read_targets(np.eye(3)[y], labels, many=False).y.tolist() == wanted.tolist() == y.tolist()


@pytest.mark.parametrize("label", ["", -1])
def test_no_class_is_called_as_no_label_is(label):
    spec = sequence_spec("lstm", 1, 8, 6, 8, 2, "M:1", 5)
    with pytest.raises(DataError, match="which mark a missing label"):
        unbraid.Network(spec, initial_weights(spec, 0), [label, 1])


def test_two_words_of_one_index_are_refused():
    """A saved vocabulary has one word for each index, so texts with the other word would be read differently."""
    with pytest.raises(DataError, match="index 2 to 'w1' and 'w2'"):
        Vocabulary.from_word_index({"w0": 1, "w1": 2, "w2": 2})
