"""``python -m benchmarks.cluster.measure``: run experiments locally and on two Ray nodes, one of which is killed.

The nodes are real Ray nodes with separate processes on this machine. The local run and the cluster run do not share
trained networks. The measurement shows that each experiment is finished once, with the same figures in both runs.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks import files
from benchmarks.experiments import running
from benchmarks.experiments import table2 as decomposing
from benchmarks.experiments.experiment import Run, Scale

SETS, SEEDS, ROWS = ("clinc", "mathqa"), range(4), 500
IN_HAND = 1.0  # seconds after a result until the kill; the node is then running its next experiment


def main() -> None:
    """Run both, compare the figures, and store the result."""
    os.environ.setdefault("UNBRAID_DATA", str(files.cache_folder() / "data"))  # use existing downloads
    with tempfile.TemporaryDirectory() as folder:
        here, there = _runs(Path(folder, "here")), _runs(Path(folder, "cluster"))
        seconds = {"here": _timed(here, lambda: running.run_missing(here, jobs=2))}
        seconds["cluster"] = _timed(there, lambda: _on_two_nodes(there))
        started = (there[0].scale.folder / "started").read_text().split()
        written = (there[0].scale.folder / "written").read_text().split()
        found = {
            "experiments": len(there),
            "finished": sum(run.path.exists() for run in there),
            "written": len(written),
            "killed_after": len(there) // 2,
            "retried": len(started) - len(there),
            "identical": all(_figures(a) == _figures(b) for a, b in zip(here, there, strict=True)),
            "seconds": seconds,
        }
    files.write(files.RESULTS / "cluster" / "two-nodes.json", found)
    print(json.dumps(found, indent=1), file=sys.stderr)


def _runs(folder: Path) -> list[Run]:
    scale = Scale("tiny", ROWS, (1,), None, 1, folder)
    return [Run("decompose", data, "vanilla", 1, seed, scale) for seed, data in product(SEEDS, SETS)]


def _timed(runs: list[Run], run_all: Callable[[], int]) -> float:
    """Measure the seconds of runs with an empty cache."""
    folder = runs[0].scale.folder
    folder.mkdir()
    os.environ["UNBRAID_CACHE"] = str(folder / "cache")
    started = time.perf_counter()
    if failed := run_all():
        sys.exit(f"{failed} experiments failed.")
    return time.perf_counter() - started


def _on_two_nodes(runs: list[Run]) -> int:
    """Run on two nodes; all processes of the second node are killed (``kill -9``) after half of the results."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node, store, results = cluster.add_node(num_cpus=1), files.write, []

    def write(path: Path, result: dict[str, Any]) -> None:
        store(path, result)
        _note(runs[0], "written", path.stem)
        results.append(path)
        if len(results) == len(runs) // 2:
            time.sleep(IN_HAND)
            cluster.remove_node(node, allow_graceful=False)

    try:
        with patch.object(files, "write", write), patch.dict(running.MEASURES, decompose=_noted):
            return running.run_missing(runs, cluster=cluster.address)
    finally:
        cluster.shutdown()


def _noted(run: Run) -> dict[str, Any]:
    """Measure in a worker, and record the start in a file."""
    _note(run, "started", run.name)
    return decomposing.measure(run)


def _note(run: Run, event: str, name: str) -> None:
    with (run.scale.folder / event).open("a") as file:
        file.write(f"{name}\n")


def _figures(run: Run) -> Any:
    """Return the result of a run without times and machine."""

    def kept(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: kept(v) for k, v in value.items() if k != "measured_on" and not k.endswith("seconds")}

    return kept(json.loads(run.path.read_text()))


if __name__ == "__main__":
    main()
