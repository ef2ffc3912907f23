"""The census of PyTorch classes: what is stored, continued and shown."""

import json

import pytest

from benchmarks import files
from benchmarks.census import pytorch as census
from benchmarks.census.torch_patterns import ENTRIES
from benchmarks.report import census as report

NAMES = ["Base(GRU)", "CellLoop(GRUCell)", "TiedScores"]


@pytest.fixture
def few(tmp_path, monkeypatch):
    monkeypatch.setattr(census, "ENTRIES", [entry for entry in ENTRIES if entry.name in NAMES])
    monkeypatch.setattr(census, "UNSEEN", 30)
    monkeypatch.setattr(census, "RESULT", tmp_path / "census_pytorch.json")
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    monkeypatch.setattr(census, "exported", lambda entry: "refused: no graph" if "Cell" in entry.name else "ok")
    return tmp_path / "census_pytorch.json"


def test_a_run_is_stored_and_shown(few):
    census.run([])
    rows = json.loads(few.read_text())["classes"]
    assert {name: row["passed"] for name, row in rows.items()} == {
        "Base(GRU)": True, "CellLoop(GRUCell)": False, "TiedScores": True,
    }  # fmt: skip
    assert set(census.refusals(rows["CellLoop(GRUCell)"]["steps"])) == {"onnx"}
    shown = "\n".join(report.sections())
    assert "| last output | 1 | 1 | 1 | 1 | 0 |" in shown
    assert "| cells in a loop | 1 | 1 | 1 | 0 | 0 |" in shown
    assert "| all | 2 | 2 | 2 | 1 | 1 |" in shown
    assert "| onnx | no graph | CellLoop(GRUCell) |" in shown and "TiedScores" in shown


def test_a_run_that_was_interrupted_goes_on(few, monkeypatch):
    seen = []

    def interrupted(entry):
        seen.append(entry.name)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return "ok"

    monkeypatch.setattr(census, "exported", interrupted)
    with pytest.raises(KeyboardInterrupt):
        census.run([])
    monkeypatch.setattr(census, "measure", lambda *_: pytest.fail("measured again"))
    census.run([])
    assert seen == ["Base(GRU)", "CellLoop(GRUCell)", "CellLoop(GRUCell)"]
    assert "of 1" not in "\n".join(report.sections())
