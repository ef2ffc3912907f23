"""Exported files are run by ONNX Runtime alone, and give the answers of the model that was exported."""

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.cli.shell import run
from tests.locations import DATA
from unbraid import Vocabulary
from unbraid.cli.answers import answers
from unbraid.errors import DataError, FormatError, UnbraidError

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")
from unbraid.export.onnx_model import OnnxModel  # noqa: E402  # after the skips

KERAS = DATA / "keras"
WORDS = {f"w{n}": n for n in range(1, 9)}


def exported(model, place):
    unbraid.export_onnx(model, place / "x.onnx", check=False)
    return OnnxModel(place / "x.onnx")


def same(found, expected):
    np.testing.assert_array_equal(found.decided, expected.decided)
    np.testing.assert_allclose(found.probabilities, expected.probabilities, rtol=0, atol=1e-5)
    assert found.labels == expected.labels and list(found.lines(False)) == list(expected.lines(False))


@pytest.mark.parametrize("name", ["k3-any_length", "k3-labels", "k3-tagger", "k2-gru"])
def test_networks_of_all_kinds_give_the_same_answers(tmp_path, name):
    network = unbraid.load(KERAS / f"{name}.keras")
    x = np.random.default_rng(0).integers(1, network.spec.stages[0].vocabulary, (600, network.spec.steps or 6))
    model = exported(network, tmp_path)
    assert model.decision == ("independent" if network.independent else "classes")
    same(answers(model, x), answers(network, x))
    np.savez(tmp_path / "x.npz", x=x[:20])
    lines = run("predict", tmp_path / "x.onnx", tmp_path / "x.npz").stdout
    assert lines and lines == run("predict", KERAS / f"{name}.keras", tmp_path / "x.npz").stdout


def test_a_single_column_decides_between_two_labels(tmp_path):
    network = factory.network(("gru",), labels=["no", "yes"], output="sigmoid", classes=1)
    x, _ = factory.examples(network, 50)
    model = exported(network, tmp_path)
    assert model.decision == "binary"
    same(answers(model, x), answers(network, x))
    assert answers(model, x).probabilities.shape == (50, 2)


@pytest.mark.parametrize("vote", ["margin", "probability"])
def test_compositions_and_modules(tmp_path, vote):
    network = factory.network(("lstm",), labels=["a", "b", "c"])
    x, y = factory.examples(network, 60)
    parts = unbraid.decompose(network, (x, y), samples_per_class=10)
    composition = unbraid.compose(parts, vote).with_calibration(x, y)
    same(answers(exported(composition, tmp_path), x), answers(composition, x))
    one = answers(exported(parts["b"], tmp_path), x)
    assert one.predicted.tolist() == ["b" if claimed else "" for claimed in parts["b"].claims(x)]


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("steps", [None, 5])
def test_the_vocabulary_is_in_the_file(tmp_path, side, steps):
    words = Vocabulary.from_word_index(WORDS, steps=steps, side=side)
    network = unbraid.load(KERAS / "k3-any_length.keras", labels=["a", "b", "c"], vocabulary=words)
    texts = [" ".join(f"w{1 + (n * k) % 8}" for k in range(1, 2 + n % 6)) for n in range(40)] + ["unknown words"]
    model = exported(network, tmp_path)
    same(answers(model, texts), answers(network, texts))
    lines = run("predict", tmp_path / "x.onnx", "-", input="\n".join(texts)).stdout.splitlines()
    assert lines == network.predict(texts).tolist()


def test_wrong_inputs_and_files_are_one_line(tmp_path):
    network = unbraid.load(KERAS / "k3-any_length.keras")
    model = exported(network, tmp_path)
    for x, says in (
        (np.ones((2, 3, 4)), "expected an array of 2 axes"),
        (np.full((2, 3), 0.5), "fractions"),
        (np.full((2, 3), 99), "onnxruntime refuses"),
        (["a text"], "no vocabulary"),
        (np.asarray([["a", "b"]]), "no vocabulary"),
    ):
        with pytest.raises(DataError, match=says) as error:
            model.run(x)
        assert str(error.value).isprintable()
    (tmp_path / "bad.onnx").write_bytes(b"\x08\x09nothing")
    with pytest.raises(FormatError, match="onnxruntime cannot load it"):
        OnnxModel(tmp_path / "bad.onnx")
    with pytest.raises(UnbraidError):
        OnnxModel(tmp_path / "nowhere.onnx")
    done = run("predict", tmp_path / "x.onnx", "-", input="a text\n")
    assert done.exit_code == 2 and "--vocabulary FILE" in done.stderr
    assert run("predict", tmp_path / "bad.onnx", "-", input="a text\n").exit_code == 2


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("labels", None, "holds no labels"),
        ("labels", "[", "labels"),
        ("labels", '{"a": 1}', "found dict"),
        ("labels", "[[1]]", "expected text and whole numbers"),
        ("labels", '["a"]', "1 labels"),
        ("decision", "maybe", "decision"),
        ("vocabulary", "{}", "tokenizer"),
        ("padding", '{"steps": -1}', "steps=-1"),
        ("padding", "3", "padding"),
    ],
)
def test_changed_metadata_is_refused(tmp_path, key, value, says):
    words = Vocabulary.from_word_index(WORDS)
    network = unbraid.load(KERAS / "k3-any_length.keras", labels=["a", "b", "c"], vocabulary=words)
    unbraid.export_onnx(network, tmp_path / "x.onnx", check=False)
    proto = onnx.load(tmp_path / "x.onnx")
    stored = {entry.key: entry.value for entry in proto.metadata_props} | {key: value}
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {name: text for name, text in stored.items() if text is not None})
    onnx.save(proto, tmp_path / "y.onnx")
    with pytest.raises(UnbraidError, match=says) as error:
        OnnxModel(tmp_path / "y.onnx").run(np.ones((2, 4)))
    assert str(error.value).isprintable()
