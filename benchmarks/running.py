"""Running what has no result yet, in several processes or on a Ray cluster; every result is stored as it comes.

A run that is interrupted, by ``kill -9`` too, loses the experiments in hand and nothing else: results are written
whole, by this process alone, and trained networks stay in the cache.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks import decomposing, files, replacing, reusing
from benchmarks.experiment import Run

MEASURES: dict[str, Callable[[Run], dict[str, Any]]] = {
    "decompose": decomposing.measure,
    "reuse": reusing.measure,
    "reuse_inter": reusing.measure_inter,
    "replace": replacing.measure,
    "replace_inter": replacing.measure_inter,
}
# a node that is lost takes its actors with it: they start anew elsewhere, and do what they were doing again
SURVIVING = {"max_restarts": -1, "max_task_retries": -1}


def run_missing(runs: Sequence[Run], jobs: int = 1, cluster: str | None = None, again: bool = False) -> int:
    """Measure what has no result.

    Args:
        runs: what should have one.
        jobs: processes, each on one thread; -1: as many as there are cores.
        cluster: address of a Ray cluster (``auto``, ``HOST:PORT``), whose cores are then used instead.
        again: measure also what has a result.

    Returns:
        how many failed; they are told on stderr and tried again next time.
    """
    missing = [run for run in runs if again or not run.path.exists()]
    if not missing:
        return 0
    failed = 0
    with _workers(jobs, cluster), _progress() as progress:
        task = progress.add_task(f"{len(missing)} of {len(runs)} experiments", total=len(missing))
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        for run, result, error in parallel(delayed(_measured)(run) for run in missing):
            if error:
                failed += 1
            else:
                files.write(run.path, result)
            said = f"{run.kind} {run.name}: " + (f"failed\n{error}" if error else f"{result['seconds']:.0f} s")
            progress.console.print(said, highlight=False, markup=False)
            progress.advance(task)
    return failed


def _measured(run: Run) -> tuple[Run, dict[str, Any], str]:
    """In a worker: the run, its result, and what went wrong."""
    torch.set_num_threads(1)
    started = time.perf_counter()
    about = {"kind": run.kind, "data": run.data, "cell": run.cell, "layers": run.layers, "seed": run.seed}
    try:
        result = MEASURES[run.kind](run)
    except Exception:  # the others go on
        return run, {}, traceback.format_exc(limit=-5)
    return run, {**about, "scale": run.scale.name, **result, "seconds": time.perf_counter() - started}, ""


def _workers(jobs: int, cluster: str | None) -> AbstractContextManager[Any]:
    if cluster is None:
        return parallel_config(n_jobs=jobs)
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError:
        sys.exit("--cluster needs Ray: pip install 'unbraid[cluster]'.")
    try:
        ray.init(address=cluster, log_to_driver=False, runtime_env={"env_vars": _environment()})
    except ConnectionError as error:
        sys.exit(f"no Ray cluster at {cluster}: {str(error)[:200]}")
    register_ray()
    return parallel_config("ray", n_jobs=int(ray.cluster_resources().get("CPU", 1)), ray_remote_args=SURVIVING)


def _environment() -> dict[str, str]:
    """What workers on other nodes need to know; one thread each."""
    known = {name: value for name, value in os.environ.items() if name.startswith("UNBRAID_")}
    return {**known, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(files.ROOT.parent)}


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("remaining"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True))
