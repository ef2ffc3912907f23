"""RESULTS.md from the stored results alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from typing import Any

from benchmarks import files

HEADER = """# Results

Made by `python -m benchmarks` from the files in `results/`; every figure is a mean over the runs in its file.
Accuracies and their differences in percent and percentage points.
"""


def write() -> None:
    """Rebuild RESULTS.md."""
    parts = [HEADER, *_clinc(), *_speed()]
    (files.ROOT / "RESULTS.md").write_text("\n".join(parts) + "\n")


def _clinc() -> Iterable[str]:
    results = {(r["model"], r["mode"], r["settings"], r["head"], r["strategy"]): r for r in files.read_all("clinc")}
    if not results:
        return
    release = json.loads((files.ROOT / "release.json").read_text())["runs"]
    yield "## CLINC (M:1), the authors' own models, ten modules composed\n"
    yield (
        "*paper*: the paper's text (cap 20 %, all timesteps observed). *release*: the settings of the authors' release\n"
        "(cap 5 %), run with each network's true equations; *theirs* is what the release itself reaches so. *random*\n"
        "and *magnitude*: difference with as many nodes, chosen otherwise. P, R, F1: means of the modules alone; the\n"
        "parent's own one-vs-rest F1 beside them.\n"
    )
    rows = []
    for (model, mode, settings, head, strategy), result in results.items():
        if strategy != "paper":
            continue
        others = {s: results.get((model, mode, settings, head, s)) for s in ("random", "magnitude")}
        alone = {name: _mean(result, "detection", name) for name in ("precision", "recall", "f1")}
        theirs = release[f"{model}-{mode}"]["true_accuracy"] if settings == "release" and head == "mean" else None
        rows.append(
            [
                model,
                mode,
                settings,
                head,
                _percent(_mean(result, "monolithic_accuracy")),
                _percent(_mean(result, "accuracy")),
                _points(_mean(result, "delta")),
                "" if theirs is None else _percent(theirs),
                *("" if other is None else _points(_mean(other, "delta")) for other in others.values()),
                f"{_mean(result, 'jaccard'):.3f}",
                _percent(_mean(result, "retention", "nodes")),
                _percent(_mean(result, "retention", "recurrent_weights")),
                *(f"{value:.3f}" for value in alone.values()),
                f"{_mean(result, 'parent_f1'):.3f}",
            ]
        )
    columns = "model mode settings head monolithic composed delta theirs random magnitude Jaccard nodes weights P R F1"
    yield table([*columns.split(), "parent's F1"], rows)


def _speed() -> Iterable[str]:
    results = files.read_all("speed")
    if not results:
        return
    release = json.loads((files.ROOT / "release.json").read_text())["runs"]
    yield "\n## Speed, size and memory (paper settings, one thread, CLINC, ten modules)\n"
    yield (
        "*decompose / pass*: all ten classes, against one monolithic pass over the sampled examples (to hold: 3).\n"
        "*composed / passes*: ten modules on 4,500 examples, against ten monolithic passes (to hold: rolled 1.0,\n"
        "unrolled 2.0). *disk*: all modules beside their parent, as a share of it (to hold: 5 %). *process*: load,\n"
        "decompose, evaluate with every measure; the release's figures for the same job (decompose / whole evaluation,\n"
        "files) beside it.\n"
    )
    rows = []
    for r in results:
        theirs = release[f"{r['model']}-{r['mode']}"]
        rows.append(
            [
                r["model"],
                r["mode"],
                f"{r['decompose_over_pass']:.2f}",
                f"{r['composed_over_passes']:.2f}",
                _percent(r["modules_over_parent"]),
                f"{r['seconds']['decompose']:.2f} s",
                f"{r['all_process']['seconds']:.1f} s",
                f"{r['all_process']['peak_megabytes']:.0f} MB",
                f"{r['load_process']['peak_megabytes']:.0f} MB",
                f"{r['folder_bytes'] / 1e6:.1f} MB",
                f"{theirs['decompose_seconds']} / {theirs['total_seconds']} s",
                f"{theirs['megabytes']} MB",
            ]
        )
    columns = ["model", "mode", "decompose / pass", "composed / passes", "disk", "decompose", "process", "peak memory"]
    columns += ["peak of loading alone", "folder", "release: time", "release: files"]
    yield table(columns, rows)


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean(result: dict[str, Any], *path: str) -> float:
    values = []
    for run in result["runs"]:
        for name in path:
            run = run[name]
        values.append(run)
    return statistics.fmean(values)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _points(delta: float) -> str:
    return f"{100 * delta:+.1f}"
