"""The durability table is built from the stored result only, and has no fault."""

import json

from benchmarks import files
from benchmarks.measure import durability
from benchmarks.report import durability as report_durability

FAULTS = {
    "killed_saves": ("damaged", "mixed versions", "strangers lost", "left-overs after next"),
    "killed_files": ("damaged", "left-overs after next"),
    "full_disk": ("damaged", "left-overs"),
    "writers_and_readers": ("failed saves", "failed loads", "left-overs"),
    "threads": ("failed", "left-overs"),
    "determinism": ("different bytes", "different when loaded and saved"),
}


def test_the_stored_result_has_no_faults_and_fills_the_table():
    found = json.loads(durability.PATH.read_text())
    assert {name: [found[name][fault] for fault in faults] for name, faults in FAULTS.items()} == {
        name: [0] * len(faults) for name, faults in FAULTS.items()
    }
    assert found["killed_saves"]["kills"] == 300
    assert found["killed_saves"]["old"] and found["killed_saves"]["new"], "kills fell on both sides of the commit"
    text = "\n".join(report_durability.sections())
    assert "| 300 kills |" in text and text in (files.ROOT / "RESULTS.md").read_text()


def test_without_a_result_there_is_no_table(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert not list(report_durability.sections())


def test_a_version_is_recognised_and_losses_are_counted(tmp_path):
    versions = durability.Versions(tmp_path)
    assert versions.loaded() == 0 and not versions.strangers_lost() and not versions.left_overs()
    versions.both[1].save(versions.target)
    assert versions.loaded() == 1 and durability.content(versions.target) == versions.files[1]
    (versions.target.parent / "notes.txt").unlink()
    (versions.target / ".unbraid-left").mkdir()
    assert versions.strangers_lost() == 1 and versions.left_overs() == 1
