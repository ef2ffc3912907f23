"""RESULTS.md from the stored results alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.experiments.experiment import Scale
from benchmarks.report import cluster as report_cluster
from benchmarks.report import durability as report_durability
from benchmarks.report import paper as report_paper
from benchmarks.report import reconstruct as report_reconstruct
from benchmarks.report import translation as report_translation
from benchmarks.report.tables import table

HEADER = """# Results

Made by `python -m benchmarks` from the files in `results/`; every figure is a mean over the runs in its file.
Accuracies and their differences in percent and percentage points.
"""


def write(scale: Scale) -> Path:
    """Rebuild RESULTS.md, of the quick scale beside its results; returns where it lies."""
    parts, path = [HEADER, *report_paper.sections(scale)], scale.folder / "RESULTS.md"
    parts += report_translation.sections(scale.folder)
    if scale.folder == files.RESULTS:
        parts += [*_clinc(), *report_reconstruct.sections(), *_speed(), *_fusing(), *_torch()]
        parts += [*report_cluster.sections(), *report_durability.sections()]
        path = files.ROOT / "RESULTS.md"
    path.write_text("\n".join(parts) + "\n")
    return path


def _clinc() -> Iterable[str]:
    results = {(r["model"], r["mode"], r["settings"], r["head"], r["strategy"]): r for r in files.read_all("clinc")}
    if not results:
        return
    release = json.loads((files.ROOT / "release.json").read_text())["runs"]
    yield "## CLINC (M:1), the authors' own models, ten modules composed\n"
    yield (
        "*paper*: the paper's text (cap 20 %, all timesteps observed). *release*: the settings of the authors'\n"
        "release (cap 5 %), run with each network's true equations; *theirs* is what the release itself reaches so.\n"
        "*random* and *magnitude*: difference with as many nodes, chosen otherwise. P, R, F1: means of the modules\n"
        "alone; the parent's own one-vs-rest F1 beside them.\n"
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
    release = json.loads((files.ROOT / "release.json").read_text())
    usual = " to ".join(map(str, release["peak_megabytes"]))
    yield "\n## Speed, size and memory (paper settings, one thread; CLINC, ten modules, and Brown)\n"
    yield (
        "*decompose / pass*: all classes, against one monolithic pass over the sampled examples (to hold: 3).\n"
        "*composed / passes*: all modules on the test examples (Brown: 650 sentences, as the release), against a\n"
        "monolithic pass for each (to hold: rolled 1.0, unrolled 2.0). *disk*: all modules beside their parent, as a\n"
        "share of it (to hold: 5 %). *process*: load, decompose, evaluate with every measure; beside it the release's\n"
        "figures for the same job (decompose / whole evaluation, files, memory), some with two threads; its Brown\n"
        "model is not ours, and what it takes to evaluate is told apart.\n"
    )
    rows = []
    for r in results:
        theirs = release["runs"][f"{r['model']}-{r['mode']}"]
        whole = theirs.get("total_seconds") or f"{theirs.get('evaluate_seconds', 'not told')} alone"
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
                f"{theirs['decompose_seconds']} / {whole} s",
                f"{theirs['megabytes']} MB",
                f"{theirs.get('peak_megabytes', usual)} MB",
            ]
        )
    columns = ["model", "mode", "decompose / pass", "composed / passes", "disk", "decompose", "process", "peak memory"]
    columns += ["peak of loading alone", "folder", "release: time", "release: files", "release: memory"]
    yield table(columns, rows)


def _fusing() -> Iterable[str]:
    results = files.read_all("fusing")
    if not results:
        return
    yield "\n## Compact and fused modules against one pass of the whole network (4,500 CLINC examples, one thread)\n"
    yield (
        "Ratios of the thread's CPU seconds, on a machine that other jobs shared. *ten compact*: ten modules of 30 %\n"
        "of the nodes side by side (to hold: 3 at H = 100, 1.2 at H = 512). *fused k*: k of ten classes fused at the\n"
        "default size (to hold: 1.0). *points*: accuracy fused minus that of the same classes untouched (several\n"
        "draws: mean, worst); the default size was chosen with these test examples in view. Of untrained networks\n"
        "only the speed says anything.\n"
    )
    sizes = sorted(results[0]["nodes"], key=int)
    rows = []
    for r in results:
        ratios = [f"{r['over_pass'][name]:.2f}" for name in ("compact", *(f"fused {k}" for k in sizes))]
        points = [r["delta"].get(k) for k in sizes[1:]]
        shown = ["" if p is None else f"{_points(p['mean'])}, {_points(p['worst'])}" for p in points]
        rows.append([r["model"], f"{r['seconds']['pass']:.2f} s", *ratios, *shown])
    columns = ["model", "one pass", "ten compact", *(f"fused {k}" for k in sizes), *(f"points, {k}" for k in sizes[1:])]
    yield table(columns, rows)


def _torch() -> Iterable[str]:
    results = {r["model"]: r for r in files.read_all("torch") if "model" in r}
    if results:
        yield "\n## Users' own PyTorch models (random weights, cap 30 %, one thread)\n"
        yield (
            "Rolled / unrolled. *different*: decisions of untouched modules that are not the model's own in plain\n"
            "PyTorch (to hold: 0). *kept*, *agree*: nodes kept at the cap, and decisions as before; weights are\n"
            "random, so *agree* says nothing of what trained networks lose. *loaded*: saved modules that give the\n"
            "same bits in a fresh process. *module*: one on disk, with its parent. *ONNX*: the file answers as torch.\n"
        )
        columns = ["model", "weights", "decisions", "different", "kept", "agree", "seconds", "loaded", "module", "ONNX"]
        yield table(columns, [_torch_row(r) for r in results.values()])
        failed = [
            [f"{name}, {mode}", r["modes"][mode]["onnx"].replace("|", "\\|")]
            for name, r in results.items()
            for mode in r["modes"]
            if r["modes"][mode]["onnx"] != "verified"
        ]
        if failed:
            yield "\nNo ONNX file:\n"
            yield table(["model", "because"], failed)
    for refusals in (r["sentences"] for r in files.read_all("torch") if "sentences" in r):
        yield "\nWhat is refused, and how:\n"
        yield table(["given", "said"], [[name, said.replace("|", "\\|")] for name, said in refusals.items()])


def _torch_row(result: dict[str, Any]) -> list[str]:
    modes = list(result["modes"].values())
    return [
        result["model"],
        f"{result['weights']:,}",
        f"{result['decisions']:,}",
        " / ".join(str(m["untouched_differences"]) for m in modes),
        " / ".join(_percent(m["kept_nodes"]) for m in modes),
        " / ".join(_percent(m["agreement"]) for m in modes),
        " / ".join(f"{m['decompose_seconds']:.2f}" for m in modes),
        " / ".join(f"{m['loaded']} of {m['loaded']}" if m["loaded_equal"] else "differ" for m in modes),
        " / ".join(f"{m['module_bytes'] / 1000:.0f} kB" for m in modes),
        " / ".join("yes" if m["onnx"] == "verified" else "no" for m in modes),
    ]


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
