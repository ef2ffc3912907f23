"""Errors name flags, classes have names from a file, and answers are printed for people and programs."""

import json

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.cli.shell import run
from tests.locations import DATA
from unbraid.cli.answers import Answers
from unbraid.cli.flags import FLAGS, as_flags
from unbraid.cli.options import read_labels
from unbraid.errors import UnbraidError

NAMES = ["travel", "home", "bank"]
MODEL = DATA / "keras" / "k3-any_length.keras"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pass module=Intents(...), or", "pass --module path/to/file.py:Factory, or"),
        ("module= holds 1 modules", "--module path/to/file.py:Factory holds 1 modules"),
        ("pass vocabulary=None.", "pass --vocabulary FILE."),
        ("task='regression': not supported", "--task regression: not supported"),
        ("keep=0.3 and max_loss=0.1 both", "--keep 0.3 and --max-loss 0.1 both"),
        ("decompose with mode='rolled'.", "decompose with --mode rolled."),
        (
            "referee=True needs a sample: pass sample=(x, y), a few",
            "--referee needs a sample: pass --sample FILE, a few",
        ),
        ("give keep=, a share", "give --keep, a share"),
        ("name='': expected", "--name: expected"),
        ("Network.from_torch(labels=names)", "Network.from_torch(--labels FILE)"),
        ("my.module=3 and x--mode=3 stay, so does filename=3", "my.module=3 and x--mode=3 stay, so does filename=3"),
    ],
)
def test_arguments_become_flags(text, shown):
    assert as_flags(text) == shown


def test_every_flag_is_an_option_of_a_command():
    helps = {verb: run(verb, "--help", env={"COLUMNS": "300"}).stdout for verb in
             ("decompose", "compose", "fuse", "evaluate", "predict", "export", "pull", "translate")}  # fmt: skip
    for flag in FLAGS.values():
        assert any(flag.split()[0].rstrip("=") in text for text in helps.values()), flag


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """A Keras file, whose classes have no names, and data with names in .csv and numbers in .npz."""
    place = tmp_path_factory.mktemp("keras")
    network = unbraid.load(MODEL)
    assert network.classes == 3
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(1, network.spec.stages[0].vocabulary)]
    (place / "words.json").write_text(json.dumps({word: n for n, word in enumerate(words, 1)}))
    x = rng.integers(1, len(words) + 1, (240, network.spec.steps or 6))
    y = network.predict_index(x)
    (place / "names.txt").write_text("travel\nhome\nbank\n\n")
    (place / "names.json").write_text(json.dumps({"home": 1, "travel": 0, "bank": 2}))
    np.savez(place / "data.npz", x=x, y=y)
    lines = [f"{' '.join(words[n - 1] for n in row)},{NAMES[k]}" for row, k in zip(x, y, strict=True)]
    (place / "data.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    return place, x, y


@pytest.mark.parametrize("names", ["names.txt", "names.json"])
def test_a_keras_file_and_a_csv_file_with_names(keras, tmp_path, names):
    place, _, y = keras
    text = ["--labels", names, "--vocabulary", "words.json"]
    done = run("inspect", MODEL, "--labels", names, "--json", cwd=place)
    assert json.loads(done.stdout)["labels"] == NAMES
    done = run("decompose", MODEL, "data.csv", "-o", tmp_path / "parts", *text, cwd=place)
    assert done.exit_code == 0, done.output
    assert unbraid.load_decomposition(tmp_path / "parts").labels == NAMES
    found = json.loads(run("evaluate", tmp_path / "parts", "data.csv", "--json", cwd=place).stdout)
    assert found["decisions"] == 240 and found["monolithic_accuracy"] == 1
    lines = run("predict", MODEL, "data.csv", *text, cwd=place).stdout.split()
    assert lines == [NAMES[k] for k in y]
    # modules that were made without names get them when they are measured
    assert run("decompose", MODEL, "data.npz", "-o", tmp_path / "plain", cwd=place).exit_code == 0
    assert run("evaluate", tmp_path / "plain", "data.csv", *text[2:], cwd=place).exit_code == 2
    named = json.loads(run("evaluate", tmp_path / "plain", "data.csv", *text, "--json", cwd=place).stdout)
    assert named["accuracy"] == found["accuracy"] and list(named["modules"]) == NAMES
    against = run("evaluate", tmp_path / "plain", "data.csv", *text, "--against", MODEL, "--json", cwd=place)
    assert json.loads(against.stdout)["monolithic_accuracy"] == 1
    assert set(run("predict", tmp_path / "plain", "data.csv", *text, cwd=place).stdout.split()) <= set(NAMES)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.txt", "", "no names"),
        ("x.txt", "a\n\nb\n", "an empty name"),
        ("x.txt", "a\nb\n", "2 labels"),
        ("x.txt", "a\na\nb\n", "differ"),
        ("x.json", "3", "a JSON list of names"),
        ("x.json", "[[1]]", "a JSON list of names"),
        ("x.json", '{"a": 0, "b": 2}', "a JSON list of names"),
        ("x.json", "[", "JSON"),
        ("y.txt", None, "no such file"),
    ],
)
def test_wrong_names_are_one_line(keras, tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    done = run("inspect", MODEL, "--labels", tmp_path / name)
    assert done.exit_code == 2 and done.stderr.count("\n") == 1 and says in done.stderr, done.output


def test_names_for_what_has_names_are_refused(tmp_path):
    network = factory.network(("gru",), labels=NAMES)
    parts = unbraid.decompose(network, factory.examples(network, 60), samples_per_class=10)
    parts.save(tmp_path / "parts")
    np.savez(tmp_path / "d.npz", x=factory.examples(network, 6)[0])
    (tmp_path / "n.txt").write_text("a\nb\nc\n")
    for command in (["inspect", "parts"], ["predict", "parts", "d.npz"]):
        done = run(*command, "--labels", "n.txt", cwd=tmp_path)
        assert done.exit_code == 2 and "--labels" in done.stderr and done.stderr.count("\n") == 1


def test_label_files_in_all_forms(tmp_path):
    forms = {
        "a.json": '["a", 2]',
        "b.json": '{"a": 0, "2": 1}',
        "c.json": '{"1": "2", "0": "a"}',
        "d.txt": "\ufeffa\r\n2\r\n",
    }
    for name, text in forms.items():
        (tmp_path / name).write_text(text, newline="")
        assert read_labels(tmp_path / name) == ["a", "2"], name
    assert read_labels(None) is None
    (tmp_path / "e.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(UnbraidError, match="not UTF-8"):
        read_labels(tmp_path / "e.txt")


def test_lines_of_all_kinds_of_answers():
    one = Answers.of(["a", "b"], np.array([[0.25, 0.75], [0.5, 0.5]]), np.array([1, 0]))
    assert list(one.lines(False)) == ["b", "a"] and list(one.lines(True)) == ["b\t0.7500", "a\t0.5000"]
    assert list(one.above(0.6).lines(True)) == ["b\t0.7500", "\t0.5000"]
    assert one.above(0.6).to_dict()["predicted"] == ["b", ""]
    many = Answers.of([7, 8], np.array([[[0.9, 0.1], [np.nan, np.nan]]]), np.array([[0, -1]]))
    assert list(many.lines(False)) == ["7\t"] and list(many.lines(True)) == ["7 0.9000\t nan"]
    both = Answers.of(["a", "b"], np.array([[0.9, 0.6]]), np.array([[True, True]]))
    assert list(both.lines(False)) == ["True\tTrue"] and list(both.above(0.8).lines(False)) == ["True\tFalse"]
    assert list(both.lines(True)) == ["True 0.9000\tTrue 0.6000"]
    for threshold in (-0.1, 1.1, float("nan")):
        with pytest.raises(UnbraidError, match="--threshold"):
            one.above(threshold)
