"""Build the section of RESULTS.md on running the benchmark on a cluster, from the stored result."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import files
from benchmarks.report.tables import table


def sections() -> Iterable[str]:
    """Yield the section; nothing if there is no result."""
    results = files.read_all("cluster")
    if not results:
        return
    yield "\n## Running on a cluster while one of its nodes is killed\n"
    yield (
        "Small experiments run in two local processes, and then on a Ray cluster of two Ray nodes with one core\n"
        "each. During the second run, all processes of one Ray node are killed (`kill -9`). *experiments*,\n"
        "*finished* and *stored*: number of experiments, of those with a result, and of results written. *killed\n"
        "after*: number of results at the time of the kill. *again*: experiments that the killed node was running\n"
        "and that the other one started again. *identical*: whether both runs give equal figures, times excepted;\n"
        "each run trains its own networks. *here* and *cluster*: seconds of the local run and of the cluster run.\n"
        "`python -m benchmarks.cluster.measure` repeats the measurement.\n"
    )
    names = ("experiments", "finished", "written", "killed_after", "retried")
    rows = [
        [
            *(str(result[name]) for name in names),
            "yes" if result["identical"] else "no",
            *(f"{result['seconds'][place]:.0f} s" for place in ("here", "cluster")),
        ]
        for result in results
    ]
    yield table(["experiments", "finished", "stored", "killed after", "again", "identical", "here", "cluster"], rows)
