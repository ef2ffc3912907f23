"""The whole journey in the shell from two Keras files of different vocabularies to ONNX Runtime."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import unbraid
from tests.cli.shell import run
from tests.own_intents import LABELS, WORDS

STEPS, COUNT = 4, 60
FILES = {"bank": "bank.h5", "travel": "travel.keras"}
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # Keras with NumPy 2


def model(keras, name, units):
    """A classifier with random weights; every class is its answer to some texts."""
    layers = keras.layers
    size = len(WORDS[name]) + 2
    made = keras.Sequential(
        [
            layers.Input((STEPS,), dtype="int32"),
            layers.Embedding(size, 5, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0, seed=1)),
            layers.Bidirectional(layers.LSTM(units, kernel_initializer=keras.initializers.RandomNormal(seed=2))),
            layers.Dense(
                3, activation="softmax", kernel_initializer=keras.initializers.RandomNormal(stddev=9.0, seed=3)
            ),
        ]
    )
    scores = np.log(made.predict(np.random.default_rng(0).integers(2, size, (500, STEPS)), verbose=0))
    kernel, _ = made.layers[-1].get_weights()
    made.layers[-1].set_weights([kernel, -scores.mean(axis=0)])
    return made


def texts(made, name, seed):
    """Texts, and the labels that the model gives them, as many of each."""
    rows = np.random.default_rng(seed).integers(0, len(WORDS[name]), (COUNT * 40, STEPS))
    given = made.predict(rows + 2, verbose=0).argmax(-1)
    chosen = [np.flatnonzero(given == k)[: COUNT // 3] for k in range(3)]
    assert all(len(some) == COUNT // 3 for some in chosen)
    order = np.stack(chosen, axis=1).ravel()
    return [" ".join(WORDS[name][n] for n in rows[at]) for at in order], [LABELS[name][given[at]] for at in order]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What a Keras user has: two files, the words, the names of the classes, and data."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    folder = tmp_path_factory.mktemp("keras")
    few = []
    for name, units in (("bank", 6), ("travel", 8)):
        made = model(keras, name, units)
        made.save(folder / FILES[name])
        (folder / f"{name}.json").write_text(json.dumps({word: n for n, word in enumerate(WORDS[name], 2)}))
        (folder / f"{name}.txt").write_text("\n".join(LABELS[name]) + "\n")
        table(folder / f"{name}.csv", *texts(made, name, 0))
        few += zip(*texts(made, name, 1), strict=True)
    table(folder / "few.csv", *zip(*few, strict=True))
    return folder


def table(path, found, labels):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *zip(found, labels, strict=True)])


def done(place, *arguments, **settings):
    result = run(*arguments, cwd=place, **settings)
    assert result.exit_code == 0, (arguments, result.output)
    return result


def test_from_two_keras_files_to_onnx_runtime(place, tmp_path):
    for name, file in FILES.items():
        words = ["--labels", f"{name}.txt", "--vocabulary", f"{name}.json"]
        shown = json.loads(done(place, "inspect", file, "--labels", f"{name}.txt", "--json").stdout)
        assert shown["labels"] == LABELS[name]
        done(place, "decompose", file, f"{name}.csv", "-o", name, "--keep", "0.5", *words)
        network = unbraid.load_decomposition(place / name).network
        found = json.loads(done(place, "evaluate", name, f"{name}.csv", "--json").stdout)
        assert found["decisions"] == COUNT and network.labels == LABELS[name]
    both = ["bank:balance,transfer", "travel:rent,book_hotel"]
    done(place, "compose", *both, "-o", "all", "--sample", "few.csv", "--referee")
    composition = unbraid.load_composition(place / "all")
    assert composition.labels == ["balance", "transfer", "rent", "book_hotel"] and composition.referee is not None
    done(place, "replace", "all", "rent", "travel:book_flight", "-o", "renewed")
    renewed = unbraid.load_composition(place / "renewed")
    x = [row["text"] for row in csv.DictReader((place / "few.csv").read_text().splitlines())]
    assert done(place, "predict", "renewed", "few.csv").stdout.split() == renewed.predict(x).tolist()
    done(place, "fuse", "bank", "bank.csv", "-o", "small", "--keep", "0.5")
    assert unbraid.load_composition(place / "small").labels == LABELS["bank"]
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    done(place, "export", "all", "-o", tmp_path / "all.onnx", "--example", "few.csv")
    program = [sys.executable, "-c", "from unbraid.cli.app import app; app()"]
    answered = subprocess.run(
        [*program, "predict", "all.onnx", "-", "--probabilities"], cwd=tmp_path, input="\n".join(x),
        capture_output=True, text=True,
    )  # fmt: skip
    assert answered.returncode == 0, answered.stderr
    cells = [line.split("\t") for line in answered.stdout.splitlines()]
    assert [label for label, _ in cells] == composition.predict(x).tolist()
    shares = composition.predict_proba(x).max(axis=1)
    np.testing.assert_allclose([float(share) for _, share in cells], shares, atol=2e-4)
