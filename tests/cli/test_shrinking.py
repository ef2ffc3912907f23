"""``unbraid shrink`` on a Keras file."""

import json

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
        (["-o", "small.keras"], "--out small.keras: a smaller network is written as ONNX"),
        (["-o", "small.onnx", "--keep", "2"], "--keep 2.0: expected a share"),
        (["-o", "small.onnx", "--keep", "0.5", "--max-loss", "0.1"], "--keep 0.5 and --max-loss 0.1 both set the size"),
    ],
)
def test_refused(data, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = run(data, *arguments)
    assert done.exit_code == 2 and message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["inputs.npz"]
