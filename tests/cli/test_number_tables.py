"""Tables of numbers on the command line: several target columns, lags as inputs, weights, bins, shared bodies."""

import json

import numpy as np
import pytest

import unbraid
from tests.cli.test_numbers import done, refused
from unbraid.data.files import read_examples, read_weight_column
from unbraid.errors import DataError

LAGS = [f"lag{i}" for i in range(6)]


def table(path, columns):
    names, values = list(columns), list(columns.values())
    lines = [",".join(names), *(",".join(str(v) for v in row) for row in zip(*values, strict=True))]
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def csv(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 6)).astype(np.float32)
    y = rng.normal(size=(60, 2))
    weight = rng.integers(0, 3, 60)
    columns = {name: x[:, i] for i, name in enumerate(LAGS)}
    table(tmp_path / "d.csv", {**columns, "load": y[:, 0], "price": ["", *y[1:, 1]], "w": weight})
    np.savez(tmp_path / "d.npz", **columns, load=y[:, 0], price=y[:, 1], w=weight)
    return tmp_path, x, y, weight


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_columns_are_joined(csv, ending):
    folder, x, y, weight = csv
    found = read_examples(folder / f"d.{ending}", ",".join(LAGS), "load,price")
    np.testing.assert_allclose(found.x[..., 0], x, rtol=1e-6)
    assert found.labels == ["load", "price"] and found.y.shape == (60, 2)
    np.testing.assert_allclose(found.y[1:].astype(float), y[1:])
    np.testing.assert_array_equal(read_weight_column(folder / f"d.{ending}", "lag0", "w"), weight)


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_columns_that_do_not_fit(csv, ending):
    folder = csv[0]
    path = folder / f"d.{ending}"
    with pytest.raises(DataError, match=r"no (column|array) '?volume"):
        read_examples(path, "lag0", "load,volume")
    with pytest.raises(DataError, match=r"no (column|array) '?lag9"):
        read_examples(path, "lag0,lag9", "load")
    table(folder / "text.csv", {"a": ["1", "x"], "b": ["1", "2"], "y": ["1", "2"]})
    with pytest.raises(DataError, match="'a' holds values that are no numbers"):
        read_examples(folder / "text.csv", "a,b", "y")
    with pytest.raises(DataError, match="'a' holds values that are no numbers"):
        read_weight_column(folder / "text.csv", "b", "a")
    np.savez(folder / "ragged.npz", a=np.zeros(3), b=np.zeros(4), c=np.zeros((3, 2)))
    with pytest.raises(DataError, match="different lengths"):
        read_examples(folder / "ragged.npz", "a,b", "a")
    with pytest.raises(DataError, match=r"--y have shapes"):
        read_examples(folder / "ragged.npz", "a", "a,c")
    assert isinstance(read_examples(folder / "ragged.npz", "a,c", "a").x, tuple)  # two inputs, see the page on files


def test_lists_of_numbers_in_a_jsonl_file(tmp_path):
    rows = [{"x": [[0.5, 1.0], [2.0, 3.0]], "load": 1.5, "price": None}] * 3
    (tmp_path / "d.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = read_examples(tmp_path / "d.jsonl", None, "load,price")
    assert np.asarray(found.x).shape == (3, 2, 2) and found.y.tolist() == [["1.5", ""]] * 3


def keras_file(shared, name):
    return shared / "cases" / "keras" / f"1-{name}.keras"


def test_settings_of_numbers(shared, tmp_path):
    x = np.random.default_rng(0).normal(size=(150, 6, 3)).astype(np.float32)
    path = keras_file(shared, "sigmoid_mse")
    network = unbraid.load(path)
    y = network.predict(x)[:, 0]
    weight = np.arange(150) % 3
    np.savez(tmp_path / "d.npz", x=x, y=y, w=weight)
    done("decompose", path, tmp_path / "d.npz", "-o", tmp_path / "parts", "--sample-weight", "w", "--keep", 0.5)
    wanted = unbraid.decompose(network, x, keep=0.5, sample_weight=weight)
    found = unbraid.compose(unbraid.load_decomposition(tmp_path / "parts"))
    np.testing.assert_allclose(found.predict(x), unbraid.compose(wanted).predict(x), atol=1e-6)
    done("decompose", path, tmp_path / "d.npz", "-o", tmp_path / "bins", "--bins", 3, "--strategy", "paper")
    bins = unbraid.Bins.quantiles(y, 3)
    assert unbraid.load_decomposition(tmp_path / "bins").labels == bins.labels
    np.savez(tmp_path / "b.npz", x=x, y=bins.assign(y))
    scores = json.loads(done("evaluate", tmp_path / "bins", tmp_path / "b.npz", "--json"))
    assert scores["decisions"] == 150
    assert "--bins 1" in refused("decompose", path, tmp_path / "d.npz", "-o", tmp_path / "no", "--bins", 1)
    assert "--sample-weight has shape" in refused(
        "decompose", path, tmp_path / "d.npz", "-o", tmp_path / "no", "--sample-weight", "x"
    )


def test_one_body_for_a_horizon(shared, tmp_path):
    x = np.random.default_rng(0).normal(size=(150, 6, 3)).astype(np.float32)
    path = keras_file(shared, "forecast")
    y = unbraid.load(path).predict(x)
    np.savez(tmp_path / "d.npz", x=x, **{f"h{i}": y[:, i] for i in range(5)})
    steps = "h0,h1,h2,h3,h4"
    done("decompose", path, tmp_path / "d.npz", "-o", tmp_path / "p", "--y", steps, "--concern", "output", "--keep", 1)
    parts = unbraid.load_decomposition(tmp_path / "p")
    assert parts.labels == steps.split(",") and parts["h0"].body is parts["h4"].body
    scores = json.loads(done("evaluate", tmp_path / "p", tmp_path / "d.npz", "--y", steps, "--json"))
    assert scores["mean"]["rmse"] < 1e-4
    message = refused("decompose", path, tmp_path / "d.npz", "-o", tmp_path / "q", "--y", "h0,h1")
    assert "found 2" in message or "expected" in message


@pytest.mark.parametrize("size", [("--max-loss", 0.2), ("--keep", 0.5)])
def test_a_smaller_network_of_numbers(shared, tmp_path, size):
    pytest.importorskip("onnx")
    x = np.random.default_rng(0).normal(size=(150, 6, 3)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    path = keras_file(shared, "forecast")
    found = json.loads(done("shrink", path, tmp_path / "d.npz", "-o", tmp_path / "s.onnx", *size, "--json"))
    assert "same_decisions" not in found and 0 <= found["squared_change"] < 1
    assert "of their variance" in done("shrink", path, tmp_path / "d.npz", "-o", tmp_path / "t.onnx", *size)
