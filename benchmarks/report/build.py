"""Build RESULTS.md from the stored results."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.experiments.experiment import Scale
from benchmarks.report import census as report_census
from benchmarks.report import cluster as report_cluster
from benchmarks.report import dense as report_dense
from benchmarks.report import durability as report_durability
from benchmarks.report import forecasting as report_forecasting
from benchmarks.report import fuzz as report_fuzz
from benchmarks.report import paper as report_paper
from benchmarks.report import reconstruct as report_reconstruct
from benchmarks.report import scaling as report_scaling
from benchmarks.report import serving as report_serving
from benchmarks.report import shrink as report_shrink
from benchmarks.report import translation as report_translation
from benchmarks.report import votes as report_votes
from benchmarks.report.tables import table

HEADER = """# Results

`python -m benchmarks` builds this file from the files in `results/`. Every figure is a mean over the runs in its
file. Accuracies are in percent, and differences between accuracies are in percentage points. A *node* is a hidden
unit of the network. *Cap* is the largest share of the nodes that the paper's method may remove from a module. *To
hold* is the target that was set before the measurement.
"""


def write(scale: Scale) -> Path:
    """Rebuild RESULTS.md and return its path; at the quick scale it is written next to the results."""
    parts, path = [HEADER, *report_paper.sections(scale)], scale.folder / "RESULTS.md"
    parts += report_translation.sections(scale.folder)
    if scale.folder == files.RESULTS:
        parts += [*_clinc(), *report_reconstruct.sections(), *_speed(), *_fusing(), *_torch()]
        parts += [
            *report_votes.sections(),
            *report_dense.sections(),
            *report_forecasting.sections(),
            *report_scaling.sections(),
            *report_serving.sections(),
            *report_shrink.sections(),
            *report_census.sections(),
        ]
        parts += [*report_cluster.sections(), *report_durability.sections()]
        parts += [*report_fuzz.sections(), *report_fuzz.bombs()]
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
        "Each row composes all ten modules of one of the authors' trained models. *settings*: *paper* are the\n"
        "settings in the paper's text (cap 20 %, all timesteps observed); *release* are those of the authors'\n"
        "released code (cap 5 %), run with the equations that the network was trained with. *head*: output layer of\n"
        "the modules, see the README. *monolithic*: accuracy of the whole network. *composed*: accuracy of the\n"
        "composition. *delta*: *composed* minus *monolithic*. *theirs*: accuracy that the release reaches with\n"
        "these equations. *random* and *magnitude*: *delta* when the same number of nodes is removed at random, or\n"
        "by the smallest weights. *Jaccard*: the paper's Jaccard index. *nodes* and *weights*: mean share of the\n"
        "nodes and of the recurrent weights that a module keeps. *P*, *R* and *F1*: mean precision, recall and F1\n"
        "of the modules, each used alone as a detector of its class. *parent's F1*: mean one-vs-rest F1 of the\n"
        "whole network.\n"
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
    yield "\n## Speed, size and memory (the paper's settings; ten modules of CLINC networks; one thread)\n"
    yield (
        "*decompose / pass*: time to decompose all classes, divided by the time of one pass of the whole network\n"
        "over the sampled examples (to hold: 3). *composed / passes*: time to run all modules on the test examples,\n"
        "divided by the time of one pass of the whole network for each module (to hold: rolled 1.0, unrolled 2.0).\n"
        "For Brown these are the 650 sentences that the release uses. *disk*: disk space of all modules, in percent\n"
        "of that of the parent network (to hold: 5 %). *decompose*: seconds to decompose. *process*: seconds of a\n"
        "process that loads, decomposes and evaluates with every metric. *peak memory*: largest memory of that\n"
        "process. *peak of loading alone*: largest memory of a process that only loads the network. *folder*: size\n"
        "of the saved modules. *release: time*, *files* and *memory*: figures of the authors' release for the same\n"
        "job; the time is that of decomposition / the whole evaluation. Some were measured with two threads. Where\n"
        "the whole time was not reported, the evaluation's is given (*alone*). The release's Brown model is not the\n"
        "one measured here.\n"
    )
    rows = []
    for r in results:
        theirs = release["runs"][f"{r['model']}-{r['mode']}"]
        whole = theirs.get("total_seconds") or f"{theirs.get('evaluate_seconds', 'not reported')} alone"
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
        "All ratios are of CPU seconds of one thread, measured on a machine with other load. *one pass*: seconds of\n"
        "one pass of the whole network. *ten compact*: time of ten modules that keep 30 % of the nodes and vote\n"
        "together, divided by *one pass* (to hold: 3 at H = 100, 1.2 at H = 512). *fused k*: the same for k of the\n"
        "ten modules fused into one network of the default size (to hold: 1.0). *points, k*: accuracy of the fused\n"
        "network minus that of the composition of the unpruned modules of the same classes, as mean, worst over\n"
        "several random choices of classes. The default size was chosen with these test examples. Untrained\n"
        "networks measure speed only.\n"
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
            "Each cell with a slash is rolled / unrolled. *weights*: number of weights of the model. *decisions*:\n"
            "number of decisions compared. *different*: decisions of the unpruned modules that differ from those of\n"
            "the model in plain PyTorch (to hold: 0). *kept*: share of the nodes kept at the cap. *agree*: share of\n"
            "the decisions that pruning leaves the same; weights are random, so it does not predict the loss of a\n"
            "trained network. *seconds*: time to decompose. *loaded*: number of saved modules that give bitwise equal\n"
            "outputs in a new process. *module*: size of one saved module, including its parent. *ONNX*: whether the\n"
            "exported file gives the same outputs as PyTorch.\n"
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
            yield "\nModels without an ONNX file. *error*: message of the error:\n"
            yield table(["model", "error"], failed)
    for refusals in (r["sentences"] for r in files.read_all("torch") if "sentences" in r):
        yield "\nInputs that are not supported. *error*: message of the error:\n"
        rows = [[name, error.replace("|", "\\|")] for name, error in refusals.items()]
        yield table(["given", "error"], rows)


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
