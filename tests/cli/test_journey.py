"""The whole journey with two PyTorch networks of one class and different vocabularies, in Python and in the shell."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import unbraid
from tests import own_intents
from tests.cli.shell import run
from tests.own_intents import LABELS, SIZES, WORDS, Intents

CODE = Path(own_intents.__file__)


def sample(names=("bank", "travel"), seed=2):
    found = [own_intents.texts(name, 60, seed) for name in names]
    return [text for texts, _ in found for text in texts], [label for _, labels in found for label in labels]


def test_the_journey_in_python(tmp_path):
    """From two networks to one classifier, edited, saved, loaded and run by ONNX Runtime."""
    parts = {}
    for name in SIZES:
        parts[name] = own_intents.parts(name)
        parts[name].save(tmp_path / name)
    bank = unbraid.load_decomposition(tmp_path / "bank", module=Intents)
    travel = unbraid.load_decomposition(tmp_path / "travel", module=own_intents.make)
    x, y = sample()
    for loaded, name in ((bank, "bank"), (travel, "travel")):
        for label in LABELS[name]:
            np.testing.assert_array_equal(loaded[label].margins(x), parts[name][label].margins(x))
    composition = unbraid.compose([*bank.values(), *travel.values()], sample=(x, y), referee=True)
    composition.save(tmp_path / "all")
    again = unbraid.load_composition(tmp_path / "all", module={"bank": Intents, "travel": Intents})
    np.testing.assert_array_equal(again.margins(x), composition.margins(x))
    with pytest.warns(unbraid.UnbraidWarning, match="referee"):
        smaller = again.drop("freeze")
    assert smaller.labels == [label for label in composition.labels if label != "freeze"]
    renewed = smaller.replace("rent", travel["rent"])
    assert renewed.uses_domain  # so that the new margin is comparable
    with pytest.warns(unbraid.UnbraidWarning, match="not calibrated"):
        smaller.without_domain().replace("rent", travel["rent"])
    renewed = renewed.with_calibration(*_only(x, y, smaller.labels))
    renewed.save(tmp_path / "renewed")
    last = unbraid.load_composition(tmp_path / "renewed", module=[Intents(**SIZES["bank"]), Intents(**SIZES["travel"])])
    np.testing.assert_array_equal(last.margins(x), renewed.margins(x))
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    alone = unbraid.compose(bank)
    unbraid.export_onnx(alone, tmp_path / "bank.onnx", example=x[:4])
    from unbraid.export.onnx_model import OnnxModel

    outputs = OnnxModel(tmp_path / "bank.onnx").run(x)
    np.testing.assert_allclose(outputs["margins"], alone.margins(x), rtol=0, atol=1e-4)


def _only(x, y, labels):
    places = [n for n, label in enumerate(y) if label in labels]
    return [x[n] for n in places], [y[n] for n in places]


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """What a user has: state dicts, vocabularies, names of classes, data, and a file of code."""
    place = tmp_path_factory.mktemp("shell")
    (place / "models.py").write_text(CODE.read_text())
    for name in SIZES:
        torch.save(own_intents.trained(name).state_dict(), place / f"{name}.pt")
        (place / f"{name}.json").write_text(json.dumps({word: n for n, word in enumerate(WORDS[name], 2)}))
        (place / f"{name}.txt").write_text("\n".join(LABELS[name]) + "\n")
        table(place / f"{name}.csv", *own_intents.texts(name))
    table(place / "few.csv", *sample())
    for name in SIZES:
        done = run(
            "decompose", f"{name}.pt", f"{name}.csv", "-o", name, "--module", "models.py:Intents", "--name", name,
            "--init", json.dumps(SIZES[name]), "--labels", f"{name}.txt", "--vocabulary", f"{name}.json",
            cwd=place,
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    return place


def table(path, texts, labels):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(texts, labels, strict=True)])


def modules(place, folder):
    return unbraid.load_composition(place / folder, module=Intents)


@pytest.fixture(scope="module")
def faq(shell):
    sources = ["bank:balance,transfer", "travel:rent,book_flight"]
    done = run("compose", *sources, "-o", "faq", "--sample", "few.csv", "--module", "models:Intents", cwd=shell)
    assert done.exit_code == 0, done.output
    return shell


def test_decomposing_a_state_dict_is_the_same_as_in_python(shell):
    x, y = own_intents.texts("bank")
    words = unbraid.Vocabulary.from_word_index({word: n for n, word in enumerate(WORDS["bank"], 2)})
    rows = torch.from_numpy(words.encode(x[:8])[0])
    network = unbraid.Network.from_torch(
        own_intents.trained("bank"), rows, labels=LABELS["bank"], vocabulary=words, name="bank", init=SIZES["bank"]
    )
    expected = unbraid.decompose(network, (x, y))
    loaded = unbraid.load_decomposition(shell / "bank", module=Intents)
    for label in LABELS["bank"]:
        np.testing.assert_array_equal(loaded[label].margins(x), expected[label].margins(x))


def test_folders_are_inspected_composed_and_edited_without_code(faq, tmp_path):
    sources = ["bank:balance,transfer", "travel:rent,book_flight"]
    fair = ["compose", *sources, "-o", tmp_path / "fair", "--no-domain", "--sample", "few.csv"]
    done = run(*fair, "--module", "models:Intents", cwd=faq)  # without evidence a calibration changes the margins
    assert done.exit_code == 0, done.output
    empty = tmp_path / "empty"
    empty.mkdir()
    (faq / "models.py").rename(empty / "hidden.py")
    try:
        shown = json.loads(run("inspect", "faq", "--json", cwd=faq).stdout)
        assert [m["label"] for m in shown["modules"]] == ["balance", "transfer", "rent", "book_flight"]
        for arguments in (
            ["compose", "faq", "-o", tmp_path / "same"],
            ["compose", tmp_path / "fair", "-o", tmp_path / "unfair"],
            ["replace", "faq", "rent", "travel:book_hotel", "-o", tmp_path / "replaced"],
            ["drop", "faq", "rent", "-o", tmp_path / "dropped"],
            ["add", tmp_path / "dropped", "travel:hotels=book_hotel", "-o", tmp_path / "added"],
        ):
            done = run(*arguments, cwd=faq)
            assert done.exit_code == 0, (arguments, done.output)
    finally:
        (empty / "hidden.py").rename(faq / "models.py")
    x, _ = sample()
    before, hotel = modules(faq, "faq"), unbraid.load_decomposition(faq / "travel", module=Intents)["book_hotel"]
    dropped, added, replaced = (modules(tmp_path, name) for name in ("dropped", "added", "replaced"))
    assert dropped.labels == ["balance", "transfer", "book_flight"]

    def own(composition):  # margins that do not depend on the other modules
        return composition.without_domain().margins(x)

    np.testing.assert_allclose(own(dropped), own(before)[:, [0, 1, 3]], rtol=0, atol=1e-4)
    assert added.labels == [*dropped.labels, "hotels"]
    np.testing.assert_allclose(own(added)[:, 3], hotel.margins(x), rtol=0, atol=1e-4)
    np.testing.assert_allclose(own(replaced)[:, 2], hotel.margins(x), rtol=0, atol=1e-4)
    assert modules(tmp_path, "same").labels == before.labels
    scales = [set(modules(tmp_path, name).calibration.values()) for name in ("fair", "unfair")]
    assert scales[0] != scales[1] == {(1.0, 0.0)}  # it is dropped, and a warning states it


def test_verbs_that_run_name_the_option_that_they_need(faq, tmp_path):
    for arguments in (
        ["evaluate", "faq", "few.csv"],
        ["predict", "faq", "few.csv"],
        ["fuse", "faq", "few.csv", "-o", tmp_path / "x"],
        ["export", "faq", "-o", tmp_path / "x.onnx"],
    ):
        done = run(*arguments, cwd=faq)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1
        assert "Add --module path/to/file.py:Intents." in done.stderr and "parent 1 'travel' (Intents)" in done.stderr
        assert "module=" not in done.stderr
    done = run("compose", "bank", "-o", tmp_path / "x", "--sample", "few.csv", "--referee", cwd=faq)
    assert done.exit_code == 2 and "without its code" in done.stderr and "add --module" in done.stderr
    assert not (tmp_path / "x").exists()


def test_predictions_of_the_shell_are_those_of_python(faq):
    x, y = sample()
    composition = modules(faq, "faq")
    both = ["--module", "bank=models.py:Intents", "--module", "1=models.py:make"]
    lines = run("predict", "faq", "few.csv", *both, cwd=faq).stdout.splitlines()
    assert lines == composition.predict(x).tolist()
    found = json.loads(run("evaluate", "faq", "few.csv", *both, "--json", cwd=faq).stdout)
    assert found["decisions"] == sum(label in composition.labels for label in y)
    fused = run("fuse", "faq", "few.csv", "-o", "fused", "--keep", "0.5", *both, cwd=faq)
    assert fused.exit_code == 0, fused.output
    assert modules(faq, "fused").labels == composition.labels


def test_texts_from_standard_input_with_probabilities_and_a_threshold(faq):
    x, _ = sample()
    composition = modules(faq, "faq")
    shares, labels = composition.predict_proba(x).max(axis=1), composition.predict(x)
    command = ["predict", "faq", "-", "--module", "models.py:Intents", "--probabilities"]
    lines = run(*command, cwd=faq, input="\n".join(x) + "\n").stdout.splitlines()
    assert lines == [f"{label}\t{share:.4f}" for label, share in zip(labels, shares, strict=True)]
    middle = float(np.median(shares))
    lines = run(*command[:-1], "--threshold", middle, cwd=faq, input="\n".join(x)).stdout.split("\n")[:-1]
    assert lines == [label if share >= middle else "" for label, share in zip(labels, shares, strict=True)]
    assert 0 < lines.count("") < len(lines)
    for text, value, says in (("", "0.5", "standard input is empty"), ("a\n", "1.5", "--threshold 1.5")):
        done = run(*command, "--threshold", value, cwd=faq, input=text)
        assert done.exit_code == 2 and says in done.stderr


def test_the_journey_in_the_shell_ends_in_onnx_runtime_without_code(faq, tmp_path):
    """Modules of two networks with different vocabularies, chosen by a referee, in one file."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    compose = [
        "compose", "bank:balance,transfer", "travel:rent,book_flight", "-o", "judged", "--sample", "few.csv",
        "--referee", "--module", "models.py:Intents",
    ]  # fmt: skip
    done = run(*compose, cwd=faq)
    assert done.exit_code == 0, done.output
    command = ["export", "judged", "-o", tmp_path / "both.onnx", "--module", "models.py:Intents"]
    done = run(*command, cwd=faq)
    assert done.exit_code == 2 and "--example FILE" in done.stderr and "export_onnx" not in done.stderr
    done = run(*command, "--example", "few.csv", cwd=faq)
    assert done.exit_code == 0, done.output
    program = [sys.executable, "-c", "from unbraid.cli.app import app; app()"]
    x, _ = sample(seed=5)
    done = subprocess.run(
        [*program, "predict", "both.onnx", "-", "--probabilities"], cwd=tmp_path, input="\n".join(x),
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    composition = modules(faq, "judged")
    assert composition.referee is not None
    expected = composition.predict_proba(x)
    cells = [line.split("\t") for line in done.stdout.splitlines()]
    assert [label for label, _ in cells] == composition.predict(x).tolist()
    np.testing.assert_allclose([float(share) for _, share in cells], expected.max(axis=1), atol=2e-4)
    same = [option for name in SIZES for option in ("--vocabulary", f"{name}={name}.json")]
    with_words = run("predict", tmp_path / "both.onnx", "few.csv", *same, "--json", cwd=faq)
    found = json.loads(with_words.stdout)
    assert found["labels"] == composition.labels and found["predicted"] == composition.predict(sample()[0]).tolist()


def test_a_pt_file_without_its_code_is_refused_with_the_option(shell, tmp_path):
    for option, says in (
        ([], "with --module path/to/file.py:Factory"),
        (["--module", "models.py:Intents"], "--init JSON"),
        (["--module", "models.py:Intents", "--init", "{}"], "--init JSON"),
        (["--module", "models.py:Intents", "--init", "[1]"], "--init: found [1], expected a JSON object"),
        (["--module", "models.py:Intents", "--init", '{"vocabulary": 9, "hidden": 7}'], "of another shape"),
        (["--module", "a=models.py:Intents"], "without NAME="),
        (["--init", "{}"], "--init is for PyTorch state dicts"),
        (["--module", "models.py:Intents", "--init", json.dumps(SIZES["bank"]), "--output-layer", "lstm"],
         "--output-layer lstm is not an nn.Linear"),
    ):  # fmt: skip
        words = ["--vocabulary", "bank.json", "--labels", "bank.txt"]
        done = run("decompose", "bank.pt", "bank.csv", "-o", tmp_path / "x", *words, *option, cwd=shell)
        assert done.exit_code == 2 and says in done.stderr, (option, done.output)
        errors = [line for line in done.stderr.splitlines() if not line.startswith("vocabulary: ")]
        assert len(errors) == 1 and not (tmp_path / "x").exists()


@pytest.mark.parametrize("values", ["words", "numbers"])
def test_a_state_dict_and_an_npz_file(tmp_path, values):
    """Word indices; the same as floating point is refused by the module."""
    torch.manual_seed(0)
    (tmp_path / "own.py").write_text(CODE.read_text())
    x = own_intents.vocabulary("bank").encode(own_intents.texts("bank")[0])[0]
    labels = np.asarray(LABELS["bank"])
    torch.save(own_intents.trained("bank").state_dict(), tmp_path / "w.pt")
    np.savez(tmp_path / "d.npz", x=x if values == "words" else x.astype(np.float64), y=np.arange(90) % 3, labels=labels)
    done = run(
        "decompose", "w.pt", "d.npz", "-o", "parts", "--module", "own:Intents", "--init", json.dumps(SIZES["bank"]),
        cwd=tmp_path,
    )  # fmt: skip
    if values == "numbers":
        assert done.exit_code == 2 and "the data file does not run through the module" in done.stderr
        return
    assert done.exit_code == 0, done.output
    found = unbraid.load_decomposition(tmp_path / "parts", module=Intents)
    assert found.labels == LABELS["bank"] and found.network.name is None
