"""Options that have no effect on what a command reads are refused."""

import json

import numpy as np
import pytest

import unbraid
from tests import factory
from tests.cli.shell import run
from tests.locations import DATA
from tests.translation.talking import modules

LABELS = ["a", "b", "c"]
TRANSLATOR = str(DATA / "keras" / "translators" / "k3-lstm2.keras")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unused")
    net = factory.network(("lstm",), "M:1", labels=LABELS)
    x, y = factory.examples(net, 40)
    unbraid.export_keras(net, folder / "model.keras")
    np.savez(folder / "data.npz", x=x, y=y)
    parts = unbraid.decompose(net, (x, y), keep=0.5)
    parts.save(folder / "parts")
    unbraid.decompose(unbraid.load(folder / "model.keras"), (x, y), keep=0.5).save(folder / "numbers")
    modules().save(folder / "languages")
    (folder / "names.txt").write_text("".join(f"{label}\n" for label in LABELS))
    (folder / "swapped.txt").write_text("".join(f"{label}\n" for label in reversed(LABELS)))
    (folder / "models.py").write_text("def make(facts): raise SystemExit('run')\n")
    np.savez(folder / "pairs.npz", source=np.ones((8, 3), int), target=np.ones((8, 3), int), language=["fr", "de"] * 4)
    return folder


CODE = ["--module", "models.py:make"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["inspect", "parts", "--task", "regression"], "--task is for model files"),
        (["inspect", "parts", "--weights", "model.keras"], "--weights is for model files"),
        (["inspect", "parts", "--output", "out"], "--output chooses one of several output layers"),
        (["inspect", "parts", "--labels", "names.txt"], "--labels is for model files"),
        (["evaluate", "parts", "data.npz", "--task", "classification"], "--task is for the model of --against"),
        (["evaluate", "parts", "data.npz", "--weights", "model.keras"], "--weights is for the model of --against"),
        (["evaluate", "parts", "data.npz", "--output", "out"], "--output chooses one of several output layers"),
        (["evaluate", "parts", "data.npz", *CODE], "has no PyTorch network of your own"),
        (["predict", "parts", "data.npz", "--task", "regression"], "--task is for model files"),
        (["predict", "parts", "data.npz", "--module", "0=models.py:make"], "has no PyTorch network of your own"),
        (["predict", "model.keras", "data.npz", *CODE], "--module is for folders with PyTorch networks"),
        (["predict", "model.onnx", "data.npz", *CODE], "--module is not for .onnx files"),
        (["predict", "model.onnx", "data.npz", "--task", "regression"], "--task is not for .onnx files"),
        (["export", "parts", "-o", "out.onnx", "--weights", "model.keras"], "--weights is for model files"),
        (["export", "model.keras", "-o", "out.onnx", *CODE], "--module is for folders with PyTorch networks"),
        (["export", "model.keras", "-o", "out.onnx", "--x", "x"], "--x is for the data file of --example"),
        (["export", "model.keras", "-o", "out.keras", "--example", "data.npz"], "--example is for ONNX files"),
        (["fuse", "parts", "data.npz", "-o", "out", *CODE], "has no PyTorch network of your own"),
        (["compare", "parts", "numbers", "--x", "x"], "--x needs DATA"),
        (["compare", "parts", "numbers", "--labels", "names.txt"], "--labels is for model files, and both are"),
        (["compare", "parts", "numbers", "data.npz", "--task", "regression"], "--task is for model files"),
        (["report", "parts", "-o", "out.html", "--y", "y"], "--y needs DATA"),
        (["report", "parts", "-o", "out.html", "--task", "regression"], "--task needs DATA"),
        (["report", "parts", "data.npz", "-o", "out.html", "--task", "regression"], "--task is for the model of"),
        (["compose", "languages", "-o", "out", "--no-domain"], "--no-domain is for modules that vote"),
        (["decompose", TRANSLATOR, "pairs.npz", "-o", "out", "--task", "classification"], "--task is for classes"),
        (["decompose", "model.keras", "data.npz", "-o", "out", "--target", "y"], "are options for translators"),
    ],
)
def test_an_option_without_an_effect_is_one_line(work, arguments, says):
    before = {path.name for path in work.iterdir()} - {"__pycache__"}
    done = run(*arguments, cwd=work)
    assert done.exit_code == 2 and done.stderr.startswith("error: ") and says in done.stderr, done.output
    assert done.stderr.count("\n") == 1 and not done.stdout
    assert {path.name for path in work.iterdir()} - {"__pycache__"} == before


@pytest.mark.parametrize(("setting", "value"), [("bins", 3), ("padding_label", 0)])
def test_settings_of_classes_are_refused_for_translators(setting, value):
    net = factory.translator()
    with pytest.raises(unbraid.UnbraidError, match=f"{setting}.* is not for translators"):
        unbraid.decompose(net, factory.sentence_pairs(net), **{setting: value})


@pytest.mark.parametrize("source", ["parts", "numbers", "composed"])
def test_labels_name_the_numbers_of_the_data_file(work, source, tmp_path):
    """The file holds numbers of the given names, whatever the order of the classes in the folder."""
    if source == "composed":
        unbraid.compose(unbraid.load_decomposition(work / "parts")).save(tmp_path / "composed")
    folder = tmp_path / source if source == "composed" else work / source
    with np.load(work / "data.npz") as data:
        x, y = data["x"], data["y"]
    order = LABELS if source == "numbers" else LABELS[::-1]
    names = "names.txt" if source == "numbers" else "swapped.txt"
    np.savez(tmp_path / "coded.npz", x=x, y=[order.index(LABELS[label]) for label in y])
    np.savez(tmp_path / "named.npz", x=x, y=np.asarray(LABELS)[y])
    found = [
        run("evaluate", folder, tmp_path / name, "--labels", work / names, "--json")
        for name in ("coded.npz", "named.npz")
    ]
    assert found[0].exit_code == 0, found[0].output
    assert json.loads(found[0].stdout) == json.loads(found[1].stdout)
