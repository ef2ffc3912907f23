"""Run experiments without a result, in several processes or on a Ray cluster. Each result is stored immediately.

An interrupted run, even by ``kill -9``, loses only the experiments that are running. Only this process writes results,
and writes are atomic. Trained networks stay in the cache. The next start resumes the run.
"""

from __future__ import annotations

import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import files
from benchmarks.experiments import table2 as decomposing
from benchmarks.experiments import table3 as reusing
from benchmarks.experiments import table4 as replacing
from benchmarks.experiments.experiment import Run

MEASURES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "decompose": decomposing.measure,
    "refine": decomposing.measure_refined,
    "reuse": reusing.measure,
    "reuse_inter": reusing.measure_inter,
    "replace": replacing.measure,
    "replace_inter": replacing.measure_inter,
}
RETRIES = 3  # most restarts of an experiment whose node was lost, as the experiment itself may be the cause
Measured = tuple[Run, dict[str, Any], str]  # the run, its result, and the error message


def run_missing(runs: Sequence[Run], jobs: int = 1, cluster: str | None = None, again: bool = False) -> int:
    """Measure the runs that have no result.

    Args:
        runs: all runs.
        jobs: number of processes of one thread each; -1 for the number of cores.
        cluster: address of a Ray cluster (``auto``, ``HOST:PORT``) to use instead of local processes.
        again: whether to repeat runs that have a result.

    Returns:
        number of failed runs. Their errors are printed to stderr, and the next start repeats them.

    Raises:
        SystemExit: a process was killed, or the cluster does not exist.
    """
    missing = [run for run in runs if again or not run.path.exists()]
    if not missing:
        return 0
    failed = 0
    with _progress() as progress:
        task = progress.add_task(f"{len(missing)} of {len(runs)} experiments", total=len(missing))
        for run, result, error in _on_cluster(missing, cluster) if cluster else _here(missing, jobs):
            if error:
                failed += 1
            else:
                files.write(run.path, result)
            progress.advance(task)
            said = f"{run.kind} {run.name}: " + (f"failed\n{error}" if error else f"{result['seconds']:.0f} s")
            progress.console.print(said, highlight=False, markup=False, soft_wrap=True)
    return failed


def _measured(run: Run, measure: Callable[[Run], dict[str, Any]]) -> Measured:
    """Measure a run in a worker."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    about = {"kind": run.kind, "data": run.data, "cell": run.cell, "layers": run.layers, "seed": run.seed}
    try:
        result = measure(run)
    except (Exception, SystemExit) as error:  # the other runs continue, for example if a data set is missing
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise  # without a message the process is being stopped, and Ray restarts the run elsewhere
        return run, {}, traceback.format_exc(limit=-5)
    return run, {**about, "scale": run.scale.name, **result, "seconds": time.perf_counter() - started}, ""


def _here(runs: Sequence[Run], jobs: int) -> Iterator[Measured]:
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        # no queued runs: after a kill -9 of this process, workers finish their run and start no other
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    try:
        yield from parallel(delayed(_measured)(run, MEASURES[run.kind]) for run in runs)
    except BrokenProcessPool:
        sys.exit("a process was killed, perhaps for lack of memory. All results are stored: start again to resume.")


def _on_cluster(runs: Sequence[Run], address: str) -> Iterator[Measured]:
    """Run each experiment as a task on one core of any node. Ray restarts the tasks of a lost node on another node.

    The joblib backend of Ray is not used: it returns no result before the end, and it assigns work to busy processes
    while others wait.
    """
    try:
        import ray
    except ImportError:
        sys.exit("--cluster needs Ray: pip install 'unbraid[cluster]'.")
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    try:
        if address != "auto":  # Ray itself would retry for minutes
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        connection = ray.init(address, runtime_env={"env_vars": _environment()}, **quiet)
    except (OSError, ValueError) as error:
        sys.exit(f"no Ray cluster at {address}, expected auto or HOST:PORT of one: {str(error)[:200]}")
    with connection:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(_measured)
        waiting = {task.remote(run, MEASURES[run.kind]): run for run in runs}
        while waiting:
            done = ray.wait(list(waiting))[0][0]
            run = waiting.pop(done)
            try:
                found = ray.get(done)
            except ray.exceptions.RayError as error:  # too many lost nodes
                found = run, {}, str(error)
            yield found


def _environment() -> dict[str, str]:
    """Return the environment of workers on other nodes, with one thread each."""
    known = {name: value for name, value in os.environ.items() if name.startswith("UNBRAID_")}
    paths = [str(files.ROOT.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**known, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("remaining"), TimeRemainingColumn(),
    )  # fmt: skip
    everything = float("inf")  # experiments take minutes: those of the usual last 30 s give no estimate
    return Progress(*columns, console=Console(stderr=True), speed_estimate_period=everything)
