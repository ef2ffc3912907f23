"""Each experiment without a result runs once, also after interruptions. Measurements are fakes without data."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest

from benchmarks import files
from benchmarks.experiments import experiment, running
from benchmarks.experiments.experiment import Run, Scale
from benchmarks.report import cluster as report_cluster
from tests.locations import ROOT

# runs experiments of half a second each, and leaves its workers' process ids
SCRIPT = """
import os, sys, time
from pathlib import Path
from benchmarks.experiments import running
from benchmarks.experiments.experiment import Run, Scale
def measure(run):
    with open(run.scale.folder / "started", "a") as file:
        print(run.seed, os.getpid(), file=file)
    until = time.monotonic() + 600  # only a limit: a busy machine takes long
    while int((run.scale.folder / "allowed").read_text() or 0) <= run.seed and time.monotonic() < until:
        time.sleep(0.02)
    return {"figure": run.seed}
running.MEASURES["decompose"] = measure
scale = Scale("tiny", 1, None, None, 1, Path(sys.argv[1]))
runs = [Run("decompose", "fake", "GRU", 1, seed, scale) for seed in range(6)]
sys.exit(running.run_missing(runs, jobs=int(sys.argv[2])))
"""


@pytest.fixture
def runs(tmp_path):
    scale = Scale("tiny", 1, None, None, 1, tmp_path)
    return [Run("decompose", "fake", "GRU", 1, seed, scale) for seed in range(3)]


@pytest.fixture
def use(monkeypatch):
    """Make a function the measurement of the runs; local functions are sent to other processes by value."""
    return lambda measure: monkeypatch.setitem(running.MEASURES, "decompose", measure)


@pytest.fixture
def writes(monkeypatch):
    """Return the names of the files in the order of writing."""
    spy = Mock(wraps=files.write)
    monkeypatch.setattr(files, "write", spy)
    return lambda: sorted(call.args[0].name for call in spy.call_args_list)


def figures(runs):
    return [json.loads(run.path.read_text())["figure"] for run in runs if run.path.exists()]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_missing_run_is_measured_once_and_stored_whole(jobs, runs, use, writes):
    use(lambda run: {"figure": 10 + run.seed})
    files.write(runs[1].path, {"figure": "there already"})
    assert running.run_missing(runs, jobs) == 0
    assert figures(runs) == [10, "there already", 12]
    assert running.run_missing(runs, jobs) == 0  # nothing is missing now
    assert writes() == [f"fake-GRU-1-seed{n}.json" for n in (0, 1, 2)]
    assert sorted(p.name for p in runs[0].path.parent.iterdir()) == writes()
    about = json.loads(runs[2].path.read_text())
    assert (about["kind"], about["data"], about["cell"], about["scale"]) == ("decompose", "fake", "GRU", "tiny")
    assert {"seconds", "measured_on"} <= about.keys()


def test_again_measures_what_has_a_result_too(runs, use):
    use(lambda run: {"figure": "old"})
    running.run_missing(runs)
    use(lambda run: {"figure": "new"})
    running.run_missing(runs, again=True)
    assert figures(runs) == ["new"] * 3


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("error", [ValueError("no such thing"), SystemExit("no data set fake")])
def test_a_failing_run_is_told_and_counted_and_stops_no_other(jobs, error, runs, use, capsys):
    def measure(run):
        if run.seed == 0:
            raise error
        return {"figure": run.seed}

    use(measure)
    assert running.run_missing(runs, jobs) == 1
    assert figures(runs) == [1, 2]
    assert f"{type(error).__name__}: {error}" in capsys.readouterr().err
    use(lambda run: {"figure": "at last"})
    assert running.run_missing(runs, jobs) == 0
    assert figures(runs) == ["at last", 1, 2]


def test_where_there_is_no_terminal_each_run_is_a_line(runs, use, capsys):
    use(lambda run: {"figure": run.seed})
    running.run_missing(runs)
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [f"decompose fake-GRU-1-seed{n}: 0 s" for n in range(3)]
    assert "3 of 3 experiments" in lines[3]


def test_the_rest_of_the_time_is_estimated_from_runs_that_are_minutes_apart():
    clock = [0.0]
    progress = running._progress()
    progress.get_time = lambda: clock[0]
    task = progress.add_task("", total=6)
    progress.tasks[0]._get_time = progress.get_time
    for _ in range(4):
        clock[0] += 600
        progress.advance(task)
    assert progress.tasks[0].time_remaining == 1200


def test_a_result_that_cannot_be_stored_leaves_the_old_one(tmp_path):
    path = tmp_path / "result.json"
    files.write(path, {"figure": 1})
    with pytest.raises(TypeError):
        files.write(path, {"figure": object()})
    assert json.loads(path.read_text())["figure"] == 1


def test_an_interrupted_write_leaves_no_json(tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / "result.json", {"figure": 1})
    assert not list(tmp_path.glob("*.json"))


def start(folder, jobs, allowed):
    """Return a program that runs six experiments; those with a seed of at least ``allowed`` never end."""
    (folder / "allowed").write_text(str(allowed))
    command = [sys.executable, "-c", SCRIPT, str(folder), str(jobs)]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts)


def heeds_interrupts():
    """Reset SIGINT, which is ignored where the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def started(folder):
    """Return seeds and process ids in the order of their start."""
    path = folder / "started"
    return [tuple(map(int, line.split())) for line in path.read_text().splitlines()] if path.exists() else []


def stored(folder):
    return {int(path.stem[-1]) for path in folder.glob("decompose/*.json") if json.loads(path.read_text())}


def wait_for(condition):
    until = time.monotonic() + 600  # only a limit: a busy machine takes long
    while not condition():
        assert time.monotonic() < until, "nothing happens"
        time.sleep(0.02)


def test_a_run_that_is_killed_loses_what_was_in_hand_and_the_next_goes_on(tmp_path):
    for count, how in enumerate((signal.SIGINT, signal.SIGTERM, signal.SIGKILL), 1):
        process = start(tmp_path, 1, allowed=count)
        wait_for(lambda wanted=count: len(stored(tmp_path)) >= wanted)
        process.send_signal(how)
        process.communicate()
        assert process.returncode != 0
    done, before = stored(tmp_path), len(started(tmp_path))
    assert done == {0, 1, 2}
    assert before <= len(done) + 3  # one in hand each time
    process = start(tmp_path, 1, allowed=6)
    process.communicate()
    assert process.returncode == 0
    assert stored(tmp_path) == set(range(6))
    assert [seed for seed, _ in started(tmp_path)[before:]] == sorted(set(range(6)) - done)


def test_a_killed_worker_is_told_and_nothing_that_was_finished_is_lost(tmp_path):
    first = start(tmp_path, 2, allowed=2)
    wait_for(lambda: len(stored(tmp_path)) >= 2 and len(started(tmp_path)) >= 3)
    os.kill(started(tmp_path)[-1][1], signal.SIGKILL)
    said = first.communicate()[1]
    assert first.returncode == 1
    assert "a process was killed" in said and "start again" in said and "Traceback" not in said
    done, before = stored(tmp_path), len(started(tmp_path))
    assert len(done) >= before - 2  # two were in hand
    second = start(tmp_path, 1, allowed=6)
    second.communicate()
    assert second.returncode == 0
    assert stored(tmp_path) == set(range(6))
    assert {seed for seed, _ in started(tmp_path)[before:]} == set(range(6)) - done


def test_without_ray_or_a_cluster_it_says_what_to_do(runs, monkeypatch):
    with monkeypatch.context() as without, pytest.raises(SystemExit, match=r"pip install 'unbraid\[cluster\]'"):
        without.setitem(sys.modules, "ray", None)
        running.run_missing(runs, cluster="auto")
    pytest.importorskip("ray")  # two real nodes: python -m benchmarks.cluster.measure
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(SystemExit, match=f"no Ray cluster at {address}"):
            running.run_missing(runs, cluster=address)
    with pytest.raises(SystemExit, match="no Ray cluster at nonsense"):
        running.run_missing(runs, cluster="nonsense")


def test_files_of_experiments_become_runs_seed_by_seed(tmp_path):
    text = 'kind = "reuse"\ndata = "clinc"\ncell = "GRU"\nlayers = [1, 4]\nseeds = [0, 1]\n'
    (tmp_path / "some.toml").write_text(text)
    found = experiment.read(tmp_path)
    assert list(found) == ["some"]
    everything = Scale("full", None, None, None, 3, tmp_path)
    runs = experiment.runs(everything, list(found.values()))
    assert [run.name for run in runs] == [f"clinc-GRU-{n}-seed{s}" for s in (0, 1) for n in (1, 4)]
    assert runs[0].path == tmp_path / "reuse" / "clinc-GRU-1-seed0.json"
    few = Scale("quick", 10, (1,), (0,), 1, tmp_path)
    assert [run.name for run in experiment.runs(few, list(found.values()))] == ["clinc-GRU-1-seed0"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind = ", "Invalid value"),
        ('kind = "decompose"\ndata = "clinc"\nlayers = [1]', "cell"),
        ('kind = "magic"\ndata = "clinc"\ncell = "GRU"\nlayers = [1]', "'decompose', 'refine', 'reuse'"),
        ('kind = "reuse"\ndata = "clinc"\ncell = "GRU"\nlayers = [1]\nseed = 1', "Extra inputs"),
    ],
)
def test_a_file_that_is_no_experiment_is_named_with_the_reason(text, said, tmp_path):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(SystemExit) as error:
        experiment.read(tmp_path)
    assert f"{tmp_path / 'wrong.toml'} is not an experiment" in str(error.value)
    assert said in str(error.value)


def test_the_committed_experiments_are_all_read_and_no_two_share_a_result():
    runs = experiment.runs(experiment.SCALES["full"], list(experiment.read().values()))
    assert len({run.path for run in runs}) == len(runs) > 100


def test_the_report_has_a_row_for_the_cluster_only_where_it_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "RESULTS", tmp_path)
    assert not list(report_cluster.sections())
    counts = {"experiments": 8, "finished": 8, "written": 8, "killed_after": 4, "retried": 1}
    result = {**counts, "identical": True, "seconds": {"here": 57.6, "cluster": 61.2}}
    files.write(tmp_path / "cluster" / "two-nodes.json", result)
    assert "| 8 | 8 | 8 | 4 | 1 | yes | 58 s | 61 s |" in "".join(report_cluster.sections())
