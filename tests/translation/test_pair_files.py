"""Sentence pairs in files: a Keras translator is decomposed on the command line."""

import csv
import json

import numpy as np
import pytest

from tests.locations import DATA
from tests.translation.test_commands import run
from unbraid import Translator, decompose, load, load_decomposition
from unbraid.translation.languages import with_languages
from unbraid.translation.pairs import Pairs, make_pairs
from unbraid.translation.words import sentence_vocabulary

MODEL = DATA / "keras" / "translators" / "k3-lstm.keras"
SOURCE, TARGET = sentence_vocabulary(["i", "you", "see", "go", "."]), sentence_vocabulary(["a", "b"], ["fr", "de"])
PAIRS = [("I see.", "a", "fr"), ("you go", "b a", "fr"), ("see you", "b b", "de"), ("I go.", "a b", "de")] * 2
COLUMNS = ["source", "target", "language"]


@pytest.fixture
def files(tmp_path):
    """Write vocabularies, and the pairs in all file formats."""
    (tmp_path / "en.json").write_text(SOURCE.to_json())
    (tmp_path / "words.json").write_text(TARGET.to_json())
    with open(tmp_path / "pairs.csv", "w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *PAIRS])
    lines = [json.dumps(dict(zip(["en", "said", "to"], pair, strict=True))) for pair in PAIRS]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    pairs = wanted_pairs()
    np.savez(tmp_path / "pairs.npz", source=pairs.source, target=pairs.target, language=pairs.languages)
    return tmp_path


def wanted_pairs():
    parts = []
    for language in ("fr", "de"):
        own = [pair for pair in PAIRS if pair[2] == language]
        parts.append(make_pairs([a for a, _, _ in own], {language: [b for _, b, _ in own]}, SOURCE, TARGET))
    return Pairs.joined(parts)


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.jsonl", "pairs.npz"])
def test_a_translator_is_taken_apart_as_by_the_api(files, name):
    named = ["--x", "en", "--target", "said", "--y", "to"] if name == "pairs.jsonl" else []
    words = ["--vocabulary", files / "en.json", "--target-vocabulary", files / "words.json"]
    settings = ["--refine", 2, "--words", "own", "--json"]
    done = run("decompose", MODEL, files / name, "-o", files / "parts", *words, *named, *settings)
    assert [m["label"] for m in json.loads(done.stdout)["modules"]] == ["fr", "de"]
    pairs = wanted_pairs()
    network = with_languages(load(MODEL).with_vocabulary(SOURCE, TARGET), ["fr", "de"])
    wanted = Translator(decompose(network, (pairs.x, pairs.languages), refine=2, words="own"))
    found = load_decomposition(files / "parts")
    for language in ("fr", "de"):
        said = wanted.translate(["I see you.", "go"], language, longest=5)
        assert Translator(found).translate(["I see you.", "go"], language, longest=5) == said
        for own, other in zip(found[language].parameters(), wanted[language].parameters(), strict=True):
            assert own.equal(other)
        assert (
            run("translate", files / "parts", "--to", language, "--longest", 5, input="go\n").output == said[1] + "\n"
        )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "pass --target-vocabulary"),
        (["--target-vocabulary", "words.json"], "also --vocabulary"),
        (["--vocabulary", "en.json", "--target-vocabulary", "en.json"], "no [startfr] and [endfr]"),
        (["--vocabulary", "en.json", "--target-vocabulary", "words.json", "--target", "t"], "no column t; it has"),
        (["--vocabulary", "pairs.npz", "--target-vocabulary", "words.json"], "expected a word_index"),
    ],
)
def test_what_is_missing_is_named_and_nothing_written(files, options, says):
    options = [files / option if "." in option else option for option in options]
    assert says in run("decompose", MODEL, files / "pairs.csv", "-o", files / "parts", *options, code=2).output
    assert not (files / "parts").exists()


def test_files_of_other_examples_are_refused(files):
    np.savez(files / "x.npz", x=np.ones((2, 3)), y=np.zeros(2))
    words = ["--vocabulary", files / "en.json", "--target-vocabulary", files / "words.json"]
    output = run("decompose", MODEL, files / "x.npz", "-o", files / "parts", *words, code=2).output
    assert "no array 'source'; it holds ['x', 'y']. Name it with --x." in output
    output = run("decompose", MODEL, files / "en.json", "-o", files / "parts", *words, code=2).output
    assert "file with sentence pairs, found .json" in output


def test_options_of_translators_do_not_go_with_classifiers(files):
    model = MODEL.parents[1] / "k2-gru.h5"
    output = run("decompose", model, files / "pairs.csv", "-o", files / "parts", "--target", "t", code=2).output
    assert "for translators" in output
