"""The measurement of smaller models, on few examples, and its tables."""

import json

import torch

from benchmarks import files
from benchmarks.measure import shrink as measure
from benchmarks.report import shrink as report


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
