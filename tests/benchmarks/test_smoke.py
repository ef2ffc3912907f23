"""The benchmark on a few examples: all kinds of experiments, and the tables of their results."""

import json

import pytest

from benchmarks.experiments import experiment, running
from benchmarks.experiments.experiment import Run, Scale
from benchmarks.report import build as report

RUNS = [("decompose", "clinc"), ("reuse", "clinc"), ("reuse_inter", "clinc+brown")]


@pytest.fixture
def scale(shared, tmp_path, monkeypatch):
    monkeypatch.setenv("UNBRAID_SHARED", str(shared))
    monkeypatch.setenv("UNBRAID_CACHE", str(tmp_path / "cache"))
    return Scale("tiny", 1000, (1,), (0,), 1, tmp_path / "results", learnt=200, problems=3)


def test_experiments_run_and_the_tables_are_made_from_the_results_alone(scale):
    runs = [Run(kind, data, "vanilla", 1, 0, scale) for kind, data in RUNS]
    assert running.run_missing(runs) == 0
    found = json.loads(runs[0].path.read_text())
    assert {"rolled", "unrolled, cap 5 %", "reconstruct, 50 %"} <= found["ways"].keys()
    assert 0 < found["monolithic"] <= 1 and found["seconds"] > 0 and found["measured_on"]["torch"]
    text = report.write(scale).read_text()
    for table in ("Table II:", "Table III:"):
        assert table in text
    assert "| clinc | vanilla | rolled | 1 |" in text and "inter, joint words" in text
    assert f"{len(RUNS)} of 52 experiments" in text and "missing: decompose brown" in text


def test_every_experiment_file_can_be_run():
    planned = experiment.runs(experiment.SCALES["full"], list(experiment.read().values()))
    assert {run.kind for run in planned} == running.MEASURES.keys()
    assert len({run.path for run in planned}) == len(planned)
