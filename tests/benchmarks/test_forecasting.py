"""The measurement of forecasters on a short made-up series, and its tables."""

import json

import numpy as np
import pytest

from benchmarks import files
from benchmarks.datasets import series
from benchmarks.datasets.series import Series, windows
from benchmarks.measure import forecasting as measure
from benchmarks.report import forecasting as report


def walk(variables, rows=120):
    return np.random.default_rng(0).normal(size=(rows, variables)).cumsum(0)


@pytest.fixture
def short(tmp_path, monkeypatch):
    table = {"walk": Series(lambda: walk(1), 6, ("one",)), "pair": Series(lambda: walk(2), 5, ("one", "two"), 1)}
    monkeypatch.setattr(series, "SERIES", table)
    for name, value in {"EPOCHS": 2, "REFINE": 2, "SEEDS": 1, "KEEPS": (0.5, 0.3, 0.15)}.items():
        monkeypatch.setattr(measure, name, value)
    monkeypatch.setattr(files, "RESULTS", tmp_path)


@pytest.mark.parametrize(("name", "horizon", "columns"), [("walk", 1, [0]), ("walk", 4, [0]), ("pair", 4, [1])])
def test_windows_are_cut_from_the_series(short, name, horizon, columns):
    data, values, steps = windows(name, horizon), series.SERIES[name].values(), series.SERIES[name].steps
    x, y = data.train
    assert x.shape[1:] == (steps, values.shape[1]) and y.shape[1] == horizon and len(data.labels) == horizon
    starts = range(len(x))
    wanted_x = np.asarray([values[i : i + steps] - values[i + steps - 1] for i in starts])
    wanted_y = np.asarray(
        [(values[i + steps : i + steps + horizon] - values[i + steps - 1])[:, columns].ravel() for i in starts]
    )
    np.testing.assert_allclose(x, wanted_x / wanted_x.std((0, 1)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(y, wanted_y / wanted_y.std(0), rtol=1e-4, atol=1e-5)
    assert len(x) == int(0.7 * 120) - steps - horizon + 1  # no target of the training lies in another part
    assert len(data.test[0]) == 120 - int(0.85 * 120) - horizon + 1


def test_missing_values_are_interpolated():
    found = series._filled(np.array([[1.0], [np.nan], [3.0], [np.nan]]))
    assert found[:, 0].tolist() == [1, 2, 3, 3]


def test_an_area_under_the_curve():
    scores, marked = np.array([3.0, 1.0, 2.0, 1.0]), np.array([True, True, False, False])
    assert measure.auroc(scores, marked) == (1 + 1 + 0 + 0.5) / 4
    x, marked = measure.with_anomalies(np.zeros((10, 8, 1), np.float32), 0.5)
    assert marked.sum() == 5 and (np.abs(x).max((1, 2)) > 0).tolist() == marked.tolist()


def test_models_are_measured_once_and_shown(short, monkeypatch):
    monkeypatch.setattr(measure, "MODELS", ["walk, horizon 1, 1 LSTM", "pair, horizon 3, 2 GRU"])
    monkeypatch.setattr(measure, "DETECTORS", ["walk, LSTM"])
    measure.run(again=False)
    path = files.RESULTS / "forecasting.json"
    found = json.loads(path.read_text())
    model = found["models"]["pair, horizon 3, 2 GRU"]
    assert set(model["sizes"]["0.5"]["ways"]) == {*measure.WAYS, "magnitude", "random"}
    assert "output" not in found["models"]["walk, horizon 1, 1 LSTM"]["sizes"]["0.5"]["ways"]
    monkeypatch.setattr(measure, "measured", lambda name: pytest.fail("it has a result"))
    monkeypatch.setattr(measure, "detected", lambda name: pytest.fail("it has a result"))
    measure.run(again=False)
    text = "\n".join(report.sections())
    assert "| pair | 3 | 50% |" in text and "| all | both | 15% |" in text and "| walk | 0.5 | 9 / 18 |" in text
