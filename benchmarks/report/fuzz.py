"""Build the section of RESULTS.md on damaged and hostile files, from the stored result."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import table

FINE = {"used": "read", "refused": "refused", "refused in use": "refused in use"}


def sections() -> Iterable[str]:
    """Yield the section; nothing if there is no result."""
    path = files.RESULTS / "fuzz.json"
    if not path.exists():
        return
    runs = json.loads(path.read_text())
    inputs, seeds = sum(run["inputs"] for run in runs), ", ".join(str(run["seed"]) for run in runs)
    yield "\n## Damaged and hostile files\n"
    yield (
        f"{inputs:,} inputs (seeds {seeds}), made from valid files by mutations that follow their structure.\n"
        "*reader*: kind of input. *inputs*: number. *read*: loaded, used and saved without an error. *refused*: an\n"
        "`UnbraidError` when it was loaded. *refused in use*: an `UnbraidError` when it was used, where only the use\n"
        "can show the fault. *findings*: any other exception, a message that is too long or not printable, memory\n"
        "or time over the limit, a crash, or a file outside of the input that was opened (to hold: 0).\n"
        "`python -m tests.fuzz --inputs 33334 --seed SEED --out --add` repeats a seed.\n"
    )
    rows = [_row(name, [run["readers"].get(name, {}) for run in runs]) for name in sorted(runs[0]["readers"])]
    yield table(["reader", "inputs", *FINE.values(), "findings"], rows)
    found = [
        [str(run["seed"]), one["outcome"], one["what"], str(one["count"])] for run in runs for one in run["findings"]
    ]
    if found:
        yield "\nThe findings of these runs, by seed (each was mended before the next seed ran; see CHANGELOG.md):\n"
        yield table(["seed", "outcome", "what", "inputs"], found)


def _row(name: str, counts: list[dict[str, Any]]) -> list[str]:
    total = sum(sum(each.values()) for each in counts)
    fine = [sum(each.get(outcome, 0) for each in counts) for outcome in FINE]
    return [name, f"{total:,}", *(f"{count:,}" for count in fine), str(total - sum(fine))]


def bombs() -> Iterable[str]:
    """Yield the section on files that are large when they are read; nothing if there is no result."""
    path = files.RESULTS / "bombs.json"
    if not path.exists():
        return
    yield "\n## Files that are small on disk and large in memory\n"
    yield (
        "*file*: what is read. *fault*: number in the list of faults. *bytes*: size on disk. *before* and *after*:\n"
        "outcome, memory above that of the imports, and CPU time, by the version before the limits and by this one.\n"
        "*aborted*: the process ended because 6 GiB were not enough, *no end*: 60 seconds of CPU time were not.\n"
        "`python -m benchmarks.measure.bombs` repeats the measurement of this version.\n"
    )
    found = {name: one for name, one in json.loads(path.read_text()).items() if name != "measured_on"}
    rows = [
        [name, one["fault"], f"{one['bytes']:,}", *(_cost(one[when]) for when in ("before", "after"))]
        for name, one in found.items()
    ]
    yield table(["file", "fault", "bytes", "before", "after"], rows)


def _cost(one: dict[str, Any] | None) -> str:
    return "not measured" if one is None else f"{one['outcome']}, {one['mib']:,} MiB, {one['seconds']:.1f} s"
