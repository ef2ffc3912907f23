"""RESULTS.md's part on running over a cluster, from the stored result alone."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks import files
from benchmarks.report.tables import table


def sections() -> Iterable[str]:
    """All of it; nothing where there is no result."""
    results = files.read_all("cluster")
    if not results:
        return
    yield "\n## The same on a cluster, one of its nodes killed\n"
    yield (
        "Small experiments in two processes here, then on a Ray cluster of two nodes with one core each; all of one\n"
        "node's processes are killed (`kill -9`) when *killed after* results are there. *again*: what the node had\n"
        "in hand, started again on the other. *identical*: all figures but times; each place trains its own networks.\n"
        "`python -m benchmarks.cluster.measure` runs it again.\n"
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
