"""Running what has no result yet, in several processes or on a Ray cluster; every result is stored as it comes.

A run that is interrupted, by ``kill -9`` too, loses the experiments in hand and nothing else: results are written
whole, by this process alone, and trained networks stay in the cache. The next start goes on.
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
RETRIES = 3  # of an experiment whose node or process was lost; it may be the experiment itself that kills them
Measured = tuple[Run, dict[str, Any], str]  # the run, its result, and what went wrong


def run_missing(runs: Sequence[Run], jobs: int = 1, cluster: str | None = None, again: bool = False) -> int:
    """Measure what has no result.

    Args:
        runs: what should have one.
        jobs: processes, each on one thread; -1: as many as there are cores.
        cluster: address of a Ray cluster (``auto``, ``HOST:PORT``), whose cores are then used instead.
        again: measure also what has a result.

    Returns:
        how many failed; they are told on stderr and tried again next time.

    Raises:
        SystemExit: a process was killed, or there is no such cluster.
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
    """In a worker."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    about = {"kind": run.kind, "data": run.data, "cell": run.cell, "layers": run.layers, "seed": run.seed}
    try:
        result = measure(run)
    except (Exception, SystemExit) as error:  # the others go on, also where this one's data set is not there
        if isinstance(error, SystemExit) and not isinstance(error.code, str):
            raise  # no message: the process is being ended, and Ray starts this again elsewhere
        return run, {}, traceback.format_exc(limit=-5)
    return run, {**about, "scale": run.scale.name, **result, "seconds": time.perf_counter() - started}, ""


def _here(runs: Sequence[Run], jobs: int) -> Iterator[Measured]:
    with parallel_config("loky", n_jobs=jobs, inner_max_num_threads=1):
        # none ahead: processes left alone by kill -9 end what they have in hand, and begin nothing else
        parallel = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="n_jobs")
    try:
        yield from parallel(delayed(_measured)(run, MEASURES[run.kind]) for run in runs)
    except BrokenProcessPool:
        sys.exit("a process was killed, perhaps for want of memory. Results so far are stored: start again to go on.")


def _on_cluster(runs: Sequence[Run], address: str) -> Iterator[Measured]:
    """As tasks, each on one core of whatever nodes there are; Ray starts those of a lost node again on another.

    Not by Ray's backend of joblib: it returns nothing before everything is done, and hands out work in turns, also to
    processes that are busy while others wait.
    """
    try:
        import ray
    except ImportError:
        sys.exit("--cluster needs Ray: pip install 'unbraid[cluster]'.")
    quiet = {"log_to_driver": False, "logging_level": "WARNING"}
    try:
        if address != "auto":  # Ray itself would try for minutes
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
            except ray.exceptions.RayError as error:  # lost too often
                found = run, {}, str(error)
            yield found


def _environment() -> dict[str, str]:
    """What workers on other nodes need to know; one thread each."""
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
