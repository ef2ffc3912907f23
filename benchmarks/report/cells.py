"""Group results and published figures by the cells of the paper's tables: a data set and a kind of network."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from benchmarks.experiments.voting import PRIORS
from benchmarks.report import published

Result = dict[str, Any]
DECIDED = {  # key of a result -> how the votes are combined
    "composed": "as they vote",
    "calibrated": "calibrated",
    "refereed": "refereed",
    "knowing": "refereed, 100 a class",
}
NOT_PUBLISHED = "none published"


def earlier(results: list[Result]) -> str:
    """Note which calibrated figures were measured with earlier priors of the calibration; empty if none were."""
    old = [r["data"] for r in results if r.get("priors") != PRIORS]
    where = f"{', '.join(sorted(set(old)))}: {len(old)} of {len(results)} results"
    note = f"*calibrated* ({where}) was measured with an earlier version of calibration, which had wider priors."
    return f"\n{note}\n" if old else ""


def grouped(results: list[Result]) -> dict[tuple[str, str], list[Result]]:
    """Group results by data set and cell."""
    found = defaultdict(list)
    for r in results:
        found[r["data"], r["cell"]].append(r)
    return dict(sorted(found.items()))


def difference(theirs: Result | None) -> str:
    """Format the published cost of decomposition, in points."""
    return NOT_PUBLISHED if theirs is None or theirs["delta"] is None else f"{100 * theirs['delta']:+.1f}"


def published_of(question: str, data: str, cell: str) -> Result | None:
    """Return the published figures of a cell, or None."""
    return next((m for m in published.means() if (m["question"], m["data"], m["cell"]) == (question, data, cell)), None)


def figures(result: Result) -> Result:
    """Return method -> figures of an intra result, or of one vocabulary of an inter result."""
    return dict(result.get("ways", result))


def ways_in(some: list[Result]) -> list[str]:
    """List the methods that were measured."""
    return list(dict.fromkeys(way for r in some for way in figures(r)))
