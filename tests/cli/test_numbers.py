"""Networks that predict numbers on the command line, from the file to evaluation."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import unbraid
from tests.cli.shell import run
from tests.numbers import forecaster, sample

CASES = {"forecast": (5, "linear"), "autoencoder": (3, "linear"), "sigmoid_mse": (1, "linear+sigmoid")}
MODULE = """
from torch import nn

class Forecaster(nn.Module):
    def __init__(self, columns=2):
        super().__init__()
        self.rnn, self.out = nn.GRU(3, 8, batch_first=True), nn.Linear(8, columns)

    def forward(self, x):
        return self.out(self.rnn(x)[0][:, -1]).squeeze(-1)
"""


def done(*arguments, cwd=None):
    found = run(*arguments, cwd=cwd)
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(*arguments, cwd=None):
    found = run(*arguments, cwd=cwd)
    assert found.exit_code == 2, found.output
    return " ".join(found.output.split())


@pytest.mark.parametrize("name", CASES)
def test_keras_files_from_end_to_end(shared, tmp_path, name):
    columns, output = CASES[name]
    path = shared / "cases" / "keras" / f"1-{name}.keras"
    network = unbraid.load(path)
    x = np.random.default_rng(0).normal(size=(150, 6, 3)).astype(np.float32)
    y = network.predict(x) + np.random.default_rng(1).normal(size=network.predict(x).shape) / 10
    np.savez(tmp_path / "x.npz", x=x)
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    assert json.loads(done("inspect", path, "--json"))["output"] == output
    folder = tmp_path / "parts"
    summary = json.loads(done("decompose", path, tmp_path / "x.npz", "-o", folder, "--keep", 0.75, "--json"))
    assert [m["label"] for m in summary["modules"]] == list(range(columns))
    done("compose", folder, "-o", tmp_path / "whole")
    found = json.loads(done("predict", tmp_path / "whole", tmp_path / "x.npz", "--json"))
    composition = unbraid.load_composition(tmp_path / "whole")
    np.testing.assert_allclose(found["predicted"], composition.predict(x), atol=1e-6)
    lines = done("predict", tmp_path / "whole", tmp_path / "x.npz").splitlines()
    shown = np.asarray([line.split("\t") for line in lines], float)
    np.testing.assert_allclose(shown, composition.predict(x).reshape(150, -1), rtol=1e-5, atol=1e-6)
    scores = json.loads(done("evaluate", folder, tmp_path / "xy.npz", "--json"))
    expected = unbraid.evaluate(composition, (x, y), against=network).to_dict()
    assert scores["mean"] == pytest.approx(expected["mean"], rel=1e-6)
    table = done("evaluate", folder, tmp_path / "xy.npz")
    assert "RMSE" in table and "agreement" in table
    done("fuse", folder, tmp_path / "x.npz", "-o", tmp_path / "fused")
    assert json.loads(done("predict", tmp_path / "fused", tmp_path / "x.npz", "--json"))["labels"] == found["labels"]


@pytest.mark.parametrize("name", CASES)
def test_modules_of_keras_files_are_exported(shared, tmp_path, name):
    pytest.importorskip("onnxruntime")
    network = unbraid.load(shared / "cases" / "keras" / f"1-{name}.keras")
    x = np.random.default_rng(0).normal(size=(150, 6, 3)).astype(np.float32)
    np.savez(tmp_path / "x.npz", x=x)
    parts = unbraid.decompose(network, x, keep=0.75)
    parts.save(tmp_path / "parts")
    done("export", tmp_path / "parts", "-o", tmp_path / "parts.onnx")
    found = json.loads(done("predict", tmp_path / "parts.onnx", tmp_path / "x.npz", "--json"))
    np.testing.assert_allclose(found["predicted"], unbraid.compose(parts).predict(x), atol=1e-5)


def saved(tmp_path, name, **settings):
    network = forecaster(**settings)
    x = sample(network)
    parts = unbraid.decompose(network, x, keep=0.5)
    parts.save(tmp_path / name)
    np.savez(tmp_path / "x.npz", x=x)
    return parts, x


def test_modules_are_added_replaced_and_dropped(tmp_path):
    one, x = saved(tmp_path, "one", labels=["low", "high", "close"])
    other, _ = saved(tmp_path, "other", labels=["risk", "high", "volume"], cells=("gru",), seed=4)
    done("compose", f"{tmp_path / 'one'}:low,high", f"{tmp_path / 'other'}:risk", "-o", tmp_path / "mixed")
    done("add", tmp_path / "mixed", f"{tmp_path / 'other'}:volume", "-o", tmp_path / "more")
    done("replace", tmp_path / "more", "high", f"{tmp_path / 'other'}:high", "-o", tmp_path / "new")
    done("drop", tmp_path / "new", "low", "-o", tmp_path / "last")
    found = unbraid.load_composition(tmp_path / "last")
    assert found.labels == ["high", "risk", "volume"]
    wanted = np.stack([other[label].predict(x) for label in found.labels], -1)
    np.testing.assert_allclose(found.predict(x), wanted, atol=1e-6)
    assert one.labels == ["low", "high", "close"]


def test_options_for_classes_are_refused(tmp_path):
    saved(tmp_path, "parts")
    np.savez(tmp_path / "xy.npz", x=np.load(tmp_path / "x.npz")["x"], y=np.zeros(120, int))
    parts, data = tmp_path / "parts", tmp_path / "x.npz"
    assert "predicts numbers" in refused("predict", parts, data, "--probabilities")
    assert "--threshold is a probability" in refused("predict", parts, data, "--threshold", 0.5)
    assert "these predict numbers" in refused(
        "compose", parts, "-o", tmp_path / "new", "--sample", tmp_path / "xy.npz", "--referee"
    )
    assert not (tmp_path / "new").exists()
    assert "targets have shape" in refused("evaluate", parts, tmp_path / "xy.npz")


def test_strategies_for_classes_are_refused(shared, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.zeros((20, 6, 3), np.float32))
    path = shared / "cases" / "keras" / "1-forecast.keras"
    message = refused("decompose", path, tmp_path / "x.npz", "-o", tmp_path / "new", "--strategy", "paper")
    assert "--strategy paper compares classes" in message and "--strategy reconstruct" in message
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("columns", [1, 2])
def test_a_pytorch_state_dict(tmp_path, columns):
    (tmp_path / "own.py").write_text(MODULE)
    scope: dict = {}
    exec(MODULE, scope)
    torch.manual_seed(0)
    module = scope["Forecaster"](columns).eval()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    x = np.random.default_rng(0).normal(size=(80, 5, 3)).astype(np.float32)
    with torch.no_grad():
        y = module(torch.from_numpy(x)).numpy()
    np.savez(tmp_path / "xy.npz", x=x, y=y)
    np.savez(tmp_path / "x.npz", x=x)
    code = ("--module", "own.py:Forecaster")
    given = ("weights.pt", "x.npz", "-o", "parts", *code, "--init", json.dumps({"columns": columns}), "--keep", 1)
    done("decompose", *given, "--task", "regression", cwd=tmp_path)
    scores = json.loads(done("evaluate", "parts", "xy.npz", *code, "--json", cwd=tmp_path))
    assert scores["mean"]["rmse"] < 1e-4 and scores["mean"]["agreement"] < 1e-3
    found = json.loads(done("predict", "parts", "x.npz", *code, "--json", cwd=tmp_path))["predicted"]
    np.testing.assert_allclose(np.asarray(found).reshape(y.shape), y, atol=1e-5)
    if columns == 1:
        message = refused("decompose", "weights.pt", "xy.npz", "-o", "other", *code, *given[6:8], cwd=tmp_path)
        assert "--task regression" in message and not Path(tmp_path / "other").exists()


def test_names_of_the_columns_come_with_the_data(shared, tmp_path):
    names = ["a", "b", "c", "d", "e"]
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).normal(size=(50, 6, 3)).astype(np.float32), labels=names)
    path = shared / "cases" / "keras" / "1-forecast.keras"
    found = json.loads(done("decompose", path, tmp_path / "x.npz", "-o", tmp_path / "parts", "--json"))
    assert [m["label"] for m in found["modules"]] == names
