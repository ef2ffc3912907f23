"""``unbraid shrink`` on a Keras file."""

import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from tests import factory
from tests.locations import DATA
from unbraid import export_keras, load
from unbraid.cli.app import app
from unbraid.networks.stage_spec import DenseSpec

runner = CliRunner()
MODEL = DATA / "keras" / "k2-gru.h5"


@pytest.fixture
def data(tmp_path):
    """A file of inputs without labels."""
    with np.load(DATA / "keras" / "k2-gru.npz") as arrays:
        shape = arrays["x"].shape[1:]
    first = load(MODEL, task="classification").spec.stages[0]
    rng = np.random.default_rng(0)
    x = (
        rng.integers(0, first.vocabulary, (200, *shape))
        if first.type == "embedding"
        else rng.normal(size=(200, *shape))
    )
    np.savez(tmp_path / "inputs.npz", x=x)
    return tmp_path / "inputs.npz"


def run(*arguments):
    return runner.invoke(app, ["shrink", str(MODEL), *map(str, arguments), "--task", "classification"])


def test_an_onnx_file_of_a_smaller_network(data, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    done = run(data, "-o", tmp_path / "small.onnx", "--keep", "0.5", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["kept_units"] == {name: round(units / 2) for name, units in found["units"].items()}
    assert found["bytes"] == (tmp_path / "small.onnx").stat().st_size
    with np.load(data) as arrays:
        x = arrays["x"]
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx")
    given = session.get_inputs()[0]
    values = x.astype(np.int64 if "int64" in given.type else np.float32)
    assert len(session.run(None, {given.name: values})[0]) == len(x)
    text = run(data, "-o", tmp_path / "small.onnx", "--max-loss", "0.5").stdout
    assert "hidden units" in text and "of the decisions are equal" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "small.txt"], "--out small.txt: expected a name that ends in .onnx or .keras"),
        (["-o", "small.onnx", "--keep", "2"], "--keep 2.0: expected a share"),
        (["-o", "small.onnx", "--keep", "0.5", "--max-loss", "0.1"], "--keep 0.5 and --max-loss 0.1 both set the size"),
    ],
)
def test_refused(data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = run(data, *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.npz"]


def test_layers_that_lose_units(tmp_path):
    network = factory.network(cells=("lstm",), units=12, hidden=[(10, "relu")])
    export_keras(network, tmp_path / "whole.keras")
    np.savez(tmp_path / "inputs.npz", x=factory.examples(network, 100)[0])
    files = [tmp_path / name for name in ("whole.keras", "inputs.npz")]
    for layers, dense in (("all", {10: 5}), ("recurrent", {})):
        arguments = [*files, "-o", tmp_path / "small.keras", "--keep", "0.5", "--layers", layers, "--json"]
        found = json.loads(done("shrink", *arguments))
        assert dict(zip(found["units"].values(), found["kept_units"].values(), strict=True)) == {12: 6, **dense}
        units = {stage.units for stage in load(tmp_path / "small.keras").spec.stages if isinstance(stage, DenseSpec)}
        assert units == set(dense.values() or [10])


FEATURES = DATA / "keras" / "k3-lstm.keras"


def test_a_keras_file_of_a_smaller_network(tmp_path):
    x = np.tile(np.load(FEATURES.with_suffix(".npz"))["x"], (8, 1))
    np.savez(tmp_path / "inputs.npz", x=x)
    target = tmp_path / "small.keras"
    done = runner.invoke(app, ["shrink", str(FEATURES), str(tmp_path / "inputs.npz"), "-o", str(target), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    units = {name: layer.units for name, layer in load(target).recurrent_layers().items()}
    assert units == found["kept_units"]
    assert load(target).predict_proba(x).shape == load(FEATURES).predict_proba(x).shape


def test_export_of_a_keras_file(tmp_path):
    target = tmp_path / "again.keras"
    done = runner.invoke(app, ["export", str(FEATURES), "-o", str(target)])
    assert done.exit_code == 0, done.output
    x = np.load(FEATURES.with_suffix(".npz"))["x"]
    np.testing.assert_allclose(load(target).predict_proba(x), load(FEATURES).predict_proba(x), atol=1e-6)


@pytest.fixture
def apart(tmp_path):
    """The structure and the weights of a Keras model in two files, and examples."""
    with zipfile.ZipFile(FEATURES) as file:
        for member in ("config.json", "model.weights.h5"):
            (tmp_path / member).write_bytes(file.read(member))
    x = np.tile(np.load(FEATURES.with_suffix(".npz"))["x"], (8, 1))
    np.savez(tmp_path / "data.npz", x=x, y=np.arange(len(x)) % load(FEATURES).classes)
    return tmp_path


def done(*arguments):
    """The output of a command that succeeds."""
    found = runner.invoke(app, list(map(str, arguments)))
    assert found.exit_code == 0, found.output
    return found.stdout


def test_weights_of_all_commands(apart):
    structure, data = apart / "config.json", apart / "data.npz"
    weights = ["--weights", apart / "model.weights.h5"]
    whole = done("predict", FEATURES, data)
    assert done("inspect", structure, *weights) == done("inspect", FEATURES)
    assert done("predict", structure, data, *weights) == whole
    done("decompose", structure, data, "-o", apart / "parts", *weights)
    done("decompose", FEATURES, data, "-o", apart / "same")
    assert done("predict", apart / "parts", data) == done("predict", apart / "same", data)
    scores = [
        done("evaluate", apart / "parts", data, "--against", *against, "--json")
        for against in ([structure, *weights], [FEATURES])
    ]
    assert scores[0] == scores[1]
    done("export", structure, "-o", apart / "again.keras", *weights)
    assert done("predict", apart / "again.keras", data) == whole
    done("shrink", structure, data, "-o", apart / "small.keras", "--keep", "1", *weights)
    assert done("predict", apart / "small.keras", data) == whole


def test_output_of_all_commands(tmp_path):
    graph, output = DATA / "keras" / "graphs" / "k3-two_outputs.keras", ["--output", "last"]
    network = load(graph, output="last")
    x = np.tile(np.load(graph.with_suffix(".npz"))["x0"], (8, 1, 1))
    data = tmp_path / "data.npz"
    np.savez(data, x=x, y=np.arange(len(x)) % network.classes)
    for command in ("inspect", "export", "shrink"):
        rest = {"inspect": [], "export": ["-o", tmp_path / "a.keras"], "shrink": [data, "-o", tmp_path / "a.keras"]}
        refused = runner.invoke(app, [command, str(graph), *map(str, rest[command])])
        assert refused.exit_code == 2 and "2 outputs" in refused.stderr and "last" in refused.stderr
    assert not (tmp_path / "a.keras").exists()
    whole = done("predict", graph, data, *output)
    assert whole.split() == [str(label) for label in network.predict(x)]
    assert json.loads(done("inspect", graph, *output, "--json"))["labels"] == network.labels
    done("decompose", graph, data, "-o", tmp_path / "parts", *output)
    scores = json.loads(done("evaluate", tmp_path / "parts", data, "--against", graph, *output, "--json"))
    assert scores == json.loads(done("evaluate", tmp_path / "parts", data, "--json"))
    done("export", graph, "-o", tmp_path / "again.keras", *output)
    assert done("predict", tmp_path / "again.keras", data) == whole
    found = json.loads(done("shrink", graph, data, "-o", tmp_path / "small.keras", "--keep", "0.5", *output, "--json"))
    assert found["kept_units"] == {name: round(units / 2) for name, units in found["units"].items()}
    assert load(tmp_path / "small.keras").predict_proba(x).shape == network.predict_proba(x).shape
