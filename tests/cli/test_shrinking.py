"""``unbraid shrink`` on a Keras file."""

import json
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.locations import DATA
from unbraid import load
from unbraid.cli.app import app

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


def test_options_of_keras_models(tmp_path):
    graph = DATA / "keras" / "graphs" / "k3-two_outputs.keras"
    done = runner.invoke(app, ["inspect", str(graph), "--output", "last", "--json"])
    assert done.exit_code == 0, done.output
    assert runner.invoke(app, ["inspect", str(graph)]).exit_code != 0
    with zipfile.ZipFile(FEATURES) as file:
        for member in ("config.json", "model.weights.h5"):
            (tmp_path / member).write_bytes(file.read(member))
    apart = ["inspect", str(tmp_path / "config.json"), "--weights", str(tmp_path / "model.weights.h5")]
    done = runner.invoke(app, apart)
    assert done.exit_code == 0, done.output
