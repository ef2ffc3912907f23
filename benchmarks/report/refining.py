"""Build the part of RESULTS.md about gradient steps without labels (``refine=``), separate from the default method."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from benchmarks import files
from benchmarks.report.tables import interval, table

TARGETS = {(0.5, 40): (0.0, None), (0.15, 40): (-0.5, -1.0), (0.15, 150): (-0.5, -1.0)}  # composed, F1 alone; points
PASSES = 10  # largest number of passes that 40 steps of ten modules may take
TEXT = """
Gradient steps towards the parent's outputs, without labels (`refine=`, off by default), on {count} models of the first
seed. The size is the share of nodes that modules keep. Each figure is *composed* / *F1 alone* as in the tables above.
All were measured with the version of today, except for *the paper's choice*, which is that of the tables above.
*passes*: CPU time of the steps on one thread, divided by that of one pass of the network over the sampled examples, as
mean and largest over the models of ten classes (to hold: {passes} for 40 steps). The machine had other load. Settings
were chosen on the held-out parts of five of the models.
"""


def parts() -> Iterable[str]:
    """Yield the tables; nothing if there are no results."""
    results = files.read_all("refined")
    if not results:
        return
    yield TEXT.format(count=len(results), passes=PASSES)
    yield _means(results)
    yield ""
    yield _by_group(results, lambda r: f"{r['data']} ({r['io']})")
    yield ""
    yield _by_group(results, lambda r: r["cell"])
    yield ""
    yield table(
        ["data", "model", *map(_name, _settings(results))],
        [
            [r["data"], f"{r['cell']}-{r['layers']}", *(_both([r], setting) for setting in _settings(results))]
            for r in sorted(results, key=lambda r: (r["data"], r["cell"], r["layers"]))
        ],
    )


def _settings(results: list[dict[str, Any]]) -> list[tuple[float, int]]:
    return sorted(((r["keep"], r["steps"]) for r in results[0]["runs"]), key=lambda s: (s[1] > 0, -s[0], s[1]))


def _name(setting: tuple[float, int]) -> str:
    keep, steps = setting
    return f"{100 * keep:.0f} %" + (f", {steps} steps" if steps else "")


def _found(results: list[dict[str, Any]], setting: tuple[float, int]) -> list[tuple[float, float]]:
    """Return what the setting loses, as (composed, F1 alone) of each model in points."""
    runs = [(r, next(s for s in r["runs"] if (s["keep"], s["steps"]) == setting)) for r in results]
    return [(100 * s["delta"], 100 * (s["f1"] - r["parent_f1"])) for r, s in runs]


def _both(results: list[dict[str, Any]], setting: tuple[float, int]) -> str:
    return " / ".join(f"{statistics.fmean(values):+.2f}" for values in zip(*_found(results, setting), strict=True))


def _means(results: list[dict[str, Any]]) -> str:
    rows = []
    for setting in _settings(results):
        row = [_name(setting)]
        for values, target in zip(
            zip(*_found(results, setting), strict=True), TARGETS.get(setting, (None, None)), strict=True
        ):
            mean = statistics.fmean(values)
            met = "" if target is None else f" ({target:+.1f}: {'met' if mean >= target else '**missed**'})"
            row.append(f"{mean:+.2f} {interval(list(values))}{met}")
        rows.append([*row, _passes(results, setting)])
    return table(["nodes kept", "composed", "F1 alone", "passes"], rows)


def _passes(results: list[dict[str, Any]], setting: tuple[float, int]) -> str:
    keep, steps = setting
    if not steps:
        return ""
    found = []
    for r in results:
        seconds = {(s["keep"], s["steps"]): s["seconds"] for s in r["runs"]}
        if r["classes"] == 10:
            found.append((seconds[setting] - seconds[keep, 0]) / r["pass"])
    return f"{statistics.fmean(found):.1f}, {max(found):.1f}" if found else ""


def _by_group(results: list[dict[str, Any]], group: Callable[[dict[str, Any]], str]) -> str:
    members = defaultdict(list)
    for r in results:
        members[group(r)].append(r)
    papers = {(r["data"], r["cell"], r["layers"], r["seed"]): r["sizes"][0] for r in files.read_all("reconstruct")}
    rows = []
    for name, some in sorted(members.items()):
        whole = f"{100 * statistics.fmean(r['runs'][0]['monolithic'] for r in some):.1f}"
        sizes = [papers[r["data"], r["cell"], r["layers"], r["seed"]] for r in some]
        chosen = f"{100 * statistics.fmean(s['baselines']['paper']['delta'] for s in sizes):+.1f}"
        rows.append([name, str(len(some)), whole, chosen, *(_both(some, setting) for setting in _settings(results))])
    columns = ["", "models", "whole network", "the paper's choice, 50 %"]
    return table([*columns, *map(_name, _settings(results))], rows)
