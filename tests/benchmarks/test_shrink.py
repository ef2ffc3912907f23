"""The measurement of smaller models, on few examples, and its tables."""

import json

import torch

from benchmarks import files
from benchmarks.measure import shrink as measure
from benchmarks.measure import shrink_networks as networks
from benchmarks.report import shrink as report
from benchmarks.training.classifiers import Model


def test_a_model_is_measured_and_shown(shared, tmp_path, monkeypatch):
    monkeypatch.setattr(measure, "EPOCHS", 1)
    monkeypatch.setattr(measure, "REFINE", 2)
    monkeypatch.setattr(measure, "REPEATS", 1)
    monkeypatch.setattr(measure, "KEEPS", (0.5,))
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setitem(measure.MODELS, "clinc, GRU", ("clinc", {"kind": torch.nn.GRU, "hidden": 16, "norm": True}))
    found = measure.measured("clinc, GRU", rows=200)
    assert not found["sizes"][0]["plain"] and 0 < found["sizes"][0]["weights"] < 1
    (tmp_path / "shrink.json").write_text(json.dumps({"models": [found]}))
    assert "| clinc, GRU | 50% | no |" in "\n".join(report.sections())


def test_a_network_is_measured_and_shown(shared, tmp_path, monkeypatch):
    for name, value in (("REFINE", 2), ("KEEPS", (0.5,)), ("SAMPLE", 100)):
        monkeypatch.setattr(networks, name, value)
    monkeypatch.setattr(measure, "REPEATS", 1)
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setenv("UNBRAID_CACHE", str(tmp_path))
    monkeypatch.setattr(networks, "models", lambda seeds: [Model("clinc", "vanilla", 1, rows=60)])
    networks.run(again=False)
    assert not (tmp_path / networks.PATH).exists()  # it is not in the cache, and there is no time to train it
    networks.run(again=False, minutes=5)
    found = json.loads((tmp_path / networks.PATH).read_text())["networks"]
    assert len(found) == 1 and 0 < found[0]["sizes"][0]["weights"] < 1
    assert "| clinc, 1 vanilla | 50% |" in "\n".join(report.sections())
