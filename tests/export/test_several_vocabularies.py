"""Compositions of several vocabularies, and referees: one ONNX file gives the answers of torch."""

import json

import numpy as np
import pytest

import unbraid
from tests import factory, own_intents
from tests.cli.shell import run
from tests.export.test_onnx import module_of
from unbraid import Composition, Vocabulary
from unbraid.cli.answers import answers
from unbraid.errors import DataError, FormatError, UnbraidError

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from unbraid.export.onnx_model import OnnxModel  # noqa: E402  # after the skips

WORDS = [f"w{n}" for n in range(30)]


def stages(cell, start, side="right", steps=None, seed=0, **settings):
    """A network of stages that has the words from number ``start`` on."""
    words = Vocabulary.from_words(WORDS[start : start + 20], side=side, steps=steps)
    return factory.network((cell,), seed=seed, **settings).with_vocabulary(words)


def texts(count=40, seed=5):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, 1 + n % 6)) for n in range(count)]


def members(parents, ways=("rolled",)):
    """Two modules of each parent, in an order that mixes the parents."""
    return {
        f"{place}-{number}": module_of(parent, ways[number % len(ways)], seed=3 * place + number)
        for place in range(2)
        for number, parent in enumerate(parents)
    }


def refereed(modules, x):
    labels = [list(modules)[n % len(modules)] for n in range(len(x))]
    return unbraid.compose(modules, sample=(x, labels), referee=True)


def same(path, composition, x):
    model = OnnxModel(path)
    outputs = model.run(x)
    expected = composition.margins(x)
    np.testing.assert_allclose(outputs["margins"], expected, rtol=0, atol=1e-5 * max(1, np.abs(expected).max()))
    found, wanted = answers(model, x), answers(composition, x)
    np.testing.assert_array_equal(found.predicted, wanted.predicted)
    np.testing.assert_allclose(found.probabilities, wanted.probabilities, rtol=0, atol=1e-5)
    return model


CASES = {
    "rolled": (("rolled",), {}, {"mask": True}, None),
    "unrolled": (("unrolled", "rolled"), {"mask": True}, {}, 4),
    "tagger and classifier": (("rolled",), {"io": "M:N", "mask": True}, {}, None),
    "dense layers": (("rolled",), {"hidden": ((5, "relu"),)}, {"bidirectional": True, "mask": True}, None),
}


@pytest.mark.parametrize("judged", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_networks_of_stages(tmp_path, name, judged):
    ways, first, second, steps = CASES[name]
    x = texts()
    parents = [stages("lstm", 0, steps=steps, **first), stages("gru", 8, side="left", steps=steps, seed=3, **second)]
    modules = members(parents, ways)
    composition = refereed(modules, x) if judged else unbraid.compose(modules, sample=(x, _labels(modules, x)))
    unbraid.export_onnx(composition, tmp_path / "x.onnx")
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)
    model = same(tmp_path / "x.onnx", composition, x)
    assert {name: reader.names for name, reader in model.readers.items()} == {
        "parent_0": ["parent_0"], "parent_1": ["parent_1"]
    }  # fmt: skip


def _labels(modules, x):
    return [list(modules)[n % len(modules)] for n in range(len(x))]


def test_three_parents_of_two_vocabularies_have_two_inputs(tmp_path):
    x = texts()
    parents = [stages("lstm", 0), stages("gru", 8, seed=3), stages("gru", 0, seed=4)]
    composition = refereed(members(parents), x)
    unbraid.export_onnx(composition, tmp_path / "x.onnx")
    model = same(tmp_path / "x.onnx", composition, x)
    assert list(model.readers) == ["parent_0", "parent_1"] and model.vocabulary is None
    single = refereed(members(parents[::2]), x)
    unbraid.export_onnx(single, tmp_path / "y.onnx")
    assert list(same(tmp_path / "y.onnx", single, x).readers) == [""]


def test_one_list_of_words_with_two_paddings_is_two_inputs(tmp_path):
    """The words are the same, and a text has another length for each network."""
    x = texts()
    parents = [stages("lstm", 0, steps=3), stages("gru", 0, seed=3)]
    composition = Composition(members(parents))
    unbraid.export_onnx(composition, tmp_path / "x.onnx")
    same(tmp_path / "x.onnx", composition, x)


@pytest.mark.parametrize("judged", [False, True])
def test_pytorch_networks_and_a_network_of_stages_in_one_file(tmp_path, judged):
    pytest.importorskip("onnxscript")
    bank, travel = own_intents.parts("bank"), own_intents.parts("travel")
    x = [*own_intents.texts("bank", 60, 1)[0], *own_intents.texts("travel", 60, 1)[0]]
    words = Vocabulary.from_words(["money", "hotel", "my", "car", "please", "city", "loan"], side="left")
    net = factory.network(("gru",), seed=3).with_vocabulary(words)
    other = unbraid.decompose(net, (x, np.arange(120) % 3), keep=0.5, samples_per_class=10)
    modules = {"balance": bank["balance"], "rent": travel["rent"], "transfer": bank["transfer"], "other": other[0]}
    composition = unbraid.compose(modules, sample=(x, _labels(modules, x)), referee=judged)
    with pytest.raises(DataError, match="example is needed"):
        unbraid.export_onnx(composition, tmp_path / "x.onnx")
    unbraid.export_onnx(composition, tmp_path / "x.onnx", example=x[:4])
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)
    model = same(tmp_path / "x.onnx", composition, x)
    assert list(model.readers) == ["bank", "travel", "parent_2", "domain_words"]
    (tmp_path / "texts.txt").write_text("\n".join(x))
    lines = run("predict", tmp_path / "x.onnx", "-", input="\n".join(x)).stdout.splitlines()
    assert lines == composition.predict(x).tolist()


def test_a_vocabulary_is_replaced_by_the_name_of_its_reader(tmp_path):
    x = texts()
    parents = [stages("lstm", 0), stages("gru", 8, seed=3)]
    modules = members(parents)
    composition = unbraid.compose(modules, sample=(x, _labels(modules, x)))
    unbraid.export_onnx(composition, tmp_path / "x.onnx")
    words = {word.upper(): n for n, word in enumerate(WORDS[8:28], 2)}  # the same indices for other words
    (tmp_path / "faq.json").write_text(json.dumps({word.lower() + "x": n for word, n in words.items()}))
    done = run("predict", tmp_path / "x.onnx", "-", "--vocabulary", f"parent_1={tmp_path}/faq.json", input="\n".join(x))
    model = OnnxModel(tmp_path / "x.onnx", {"parent_1": Vocabulary.from_file(tmp_path / "faq.json")})
    assert done.exit_code == 0, done.stderr
    assert done.stdout.splitlines() == answers(model, x).predicted.tolist()
    for option, says in (
        (f"{tmp_path}/faq.json", "several vocabularies"),
        (f"a={tmp_path}/faq.json", "no vocabulary 'a'"),
    ):
        done = run("predict", tmp_path / "x.onnx", "-", "--vocabulary", option, input="a\n")
        assert done.exit_code == 2 and says in done.stderr and "--vocabulary" in done.stderr
        assert done.stderr.count("\n") == 2  # what is assumed about the vocabulary, and the error
    with pytest.raises(DataError, match="found one array"):
        model.run(np.ones((2, 3)))


@pytest.mark.parametrize(
    "value",
    [
        "[",
        "{}",
        '{"a": ["parent_0"]}',
        '{"a": "parent_1", "b": ["parent_0"]}',
        '{"a": [], "b": ["parent_0", "parent_1"]}',
    ],
)
def test_changed_readers_are_refused(tmp_path, value):
    composition = Composition(members([stages("lstm", 0), stages("gru", 8)]))
    unbraid.export_onnx(composition, tmp_path / "x.onnx", check=False)
    proto = onnx.load(tmp_path / "x.onnx")
    stored = {entry.key: entry.value for entry in proto.metadata_props} | {"readers": value}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, stored)
    onnx.save(proto, tmp_path / "y.onnx")
    with pytest.raises((FormatError, UnbraidError), match="readers") as error:
        OnnxModel(tmp_path / "y.onnx")
    assert str(error.value).isprintable()
