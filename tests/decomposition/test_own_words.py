"""words="own": modules of a classifier without the embedding rows of words that the examples do not hold."""

import json

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import unbraid
from tests import factory, own_intents
from tests.cli.shell import run
from tests.locations import DATA
from unbraid import Vocabulary
from unbraid.data.padding import Padding
from unbraid.errors import ConfigError
from unbraid.storage.layout import PARENTS

WORDS = [f"w{n}" for n in range(110)]
USED = WORDS[3:100:9]  # the words of the examples
VOCABULARIES = {
    "from_words": lambda: Vocabulary.from_words(WORDS),
    "word_index": lambda: Vocabulary.from_word_index({w: n for n, w in enumerate(WORDS, 2)}, steps=4),
    "word_index with <oov>": lambda: Vocabulary.from_word_index({"<oov>": 1} | {w: n for n, w in enumerate(WORDS, 2)}),
    "a function": lambda: Vocabulary.from_words(WORDS, tokenizer=str.split),
    "tokenizer.json": lambda: of_tokenizer(),
}


def of_tokenizer(**parts):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 5, "[PAD]": 7} | {w: n for n, w in enumerate(WORDS, 8)}, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    for name, value in parts.items():
        setattr(tokenizer, name, value)
    return Vocabulary(tokenizer, Padding(index=7, unknown=5, side="right"))


def texts(words, count=60, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(words, 1 + n % 5)) for n in range(count)]


def made(words, mask=False, **settings):
    net = factory.network(("gru",), mask=mask).with_vocabulary(words)
    examples = texts(USED), np.arange(60) % 3
    settings = {"keep": 0.5, "samples_per_class": 15, **settings}
    return [unbraid.decompose(net, examples, words=kind, **settings) for kind in ("all", "own")]


def table(parts):
    return parts.network.weights()["body.stages.0.weight"]


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("name", VOCABULARIES)
def test_known_words_are_exact_and_others_are_unknown(tmp_path, name, mask):
    whole, own = made(VOCABULARIES[name](), mask)
    known = texts(USED, seed=1)
    seen = sorted({word for text in texts(USED) for word in text.split()})
    assert len(table(own)) <= len(seen) + 3 < len(table(whole))
    mixed = [f"{text} {WORDS[0]}" for text in known]  # one word that was dropped
    unknown = [f"{text} nothing" for text in known]
    for label, module in own.items():
        np.testing.assert_array_equal(module.margins(known), whole[label].margins(known))
        np.testing.assert_array_equal(module.margins(mixed), module.margins(unknown))
        np.testing.assert_array_equal(module.margins(unknown), whole[label].margins(unknown))
    np.testing.assert_array_equal(own.network.predict(known), whole.network.predict(known))
    if name == "a function":  # folders do not hold it
        return
    own.save(tmp_path / "own")
    whole.save(tmp_path / "whole")
    assert (tmp_path / "own" / PARENTS).stat().st_size < (tmp_path / "whole" / PARENTS).stat().st_size
    found = unbraid.load_decomposition(tmp_path / "own")
    for label, module in own.items():
        np.testing.assert_array_equal(found[label].margins(mixed), module.margins(mixed))
    np.testing.assert_array_equal(unbraid.compose(found).predict(known), unbraid.compose(whole).predict(known))


@pytest.mark.parametrize("settings", [{"max_loss": 0.5, "keep": None}, {"keep": None, "mode": "unrolled"}])
def test_other_settings(settings):
    whole, own = made(Vocabulary.from_words(WORDS, steps=4), **settings)
    for label, module in own.items():
        np.testing.assert_array_equal(module.margins(texts(USED)), whole[label].margins(texts(USED)))


def test_lists_of_words_and_a_tagger():
    net = factory.network(("lstm",), "M:N").with_vocabulary(Vocabulary.from_words(WORDS))
    x = [text.split() for text in texts(USED)]
    y = [[(len(row) + n) % 3 for n in range(len(row))] for row in x]
    whole, own = (unbraid.decompose(net, (x, y), words=kind, keep=0.5, samples_per_class=15) for kind in ("all", "own"))
    for label, module in own.items():
        np.testing.assert_array_equal(module.margins(x), whole[label].margins(x))


def test_what_it_needs(tmp_path):
    x, y = texts(USED), np.arange(60) % 3
    net = factory.network(("gru",))
    for network, examples, says in (
        (net, factory.examples(net, 60)[0], "a network with a vocabulary"),
        (factory.network(("gru",)).with_vocabulary(of_tokenizer()), factory.examples(net, 60)[0], "that are text"),
        (factory.network(("gru",), inputs="features"), np.zeros((60, 4, 4), np.float32), "rows of an embedding"),
        (own_intents.network("bank"), own_intents.texts("bank", 60)[0], "rows of an embedding"),
        (
            net.with_vocabulary(of_tokenizer(post_processor=processors.BertProcessing(("w0", 8), ("w1", 9)))),
            x,
            "without added",
        ),
    ):
        with pytest.raises(ConfigError, match=says):
            unbraid.decompose(network, (examples, y), words="own")


def test_in_the_shell(tmp_path):
    words = {f"w{n}": n for n in range(1, 8)}
    (tmp_path / "words.json").write_text(json.dumps(words))
    rows = [f"w{1 + n % 3} w{1 + n % 2},{n % 3}" for n in range(60)]
    (tmp_path / "x.csv").write_text("\n".join(["text,label", *rows]))
    sizes = []
    for kind in ("all", "own"):
        done = run(
            "decompose", DATA / "keras" / "k3-any_length.keras", tmp_path / "x.csv", "-o", tmp_path / kind,
            "--words", kind, "--vocabulary", tmp_path / "words.json", "--samples-per-class", "5",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
        sizes.append(len(table(unbraid.load_decomposition(tmp_path / kind))))
    assert sizes[1] == 4 < sizes[0]  # padding and three words
