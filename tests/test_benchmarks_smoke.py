"""The whole evaluation on a few examples: every kind of experiment and the tables made of their results."""

import json

import pytest

from benchmarks import experiment, report, running
from benchmarks.experiment import Run, Scale

RUNS = [
    ("decompose", "clinc", 1), ("reuse", "clinc", 1), ("replace", "clinc", 1),
    ("reuse_inter", "clinc+brown", 1), ("replace_inter", "clinc+brown", 1),
]  # fmt: skip


@pytest.fixture
def scale(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("UNBRAID_SHARED", str(shared))
    monkeypatch.setenv("UNBRAID_CACHE", str(tmp_path / "cache"))
    return Scale("tiny", 1200, (1,), (0,), 1, tmp_path / "results")


def test_every_kind_of_experiment_runs_and_the_tables_are_made_from_the_results_alone(scale):
    runs = [Run(kind, data, "vanilla", layers, 0, scale) for kind, data, layers in RUNS]
    assert running.run_missing(runs) == 0
    found = json.loads(runs[0].path.read_text())
    assert {"rolled", "unrolled, cap 5 %", "reconstruct, 50 %"} <= found["ways"].keys()
    assert 0 < found["monolithic"] <= 1 and found["seconds"] > 0 and found["measured_on"]["torch"]
    text = report.write(scale).read_text()
    for table in ("Table II", "Table III", "Table IV"):
        assert table in text
    assert "| clinc | vanilla | rolled | 1 |" in text and "inter, joint words" in text
    assert f"{len(RUNS)} of " in text  # the others are named as missing


def test_every_experiment_file_can_be_run():
    planned = experiment.runs(experiment.SCALES["full"], list(experiment.read().values()))
    assert {run.kind for run in planned} == running.MEASURES.keys()
    assert len({run.path for run in planned}) == len(planned)
