"""The paper's Tables II to IV, ours beside the published figures, from the stored results alone.

All differences in points. Where a cell has no number it says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from statistics import fmean

from benchmarks.experiments import experiment
from benchmarks.experiments.experiment import Scale
from benchmarks.experiments.ways import published_way
from benchmarks.report import published
from benchmarks.report.cells import (
    DECIDED,
    NOT_PUBLISHED,
    Result,
    difference,
    earlier,
    figures,
    grouped,
    published_of,
    ways_in,
)
from benchmarks.report.means import means
from benchmarks.report.tables import interval, table

NOT_RUN, ONE_STEP, NO_GATES = "not run", "one timestep", "no gates"


def sections(scale: Scale) -> Iterable[str]:
    """All of it; nothing without results."""
    if not any((scale.folder / kind).is_dir() for kind in ("decompose", "reuse", "replace")):
        return
    planned = experiment.runs(scale, list(experiment.read().values()))
    missing = [f"{run.kind} {run.name}" for run in planned if not run.path.exists()]
    yield f"\n## The paper's evaluation ({scale.name} scale)\n"
    yield (
        "Ours are networks with the paper's architectures, trained by this benchmark; differences in points, means\n"
        "over layers, seeds, classes, with the 95 % interval over models where there are several (bootstrap).\n"
        f"{len(planned) - len(missing)} of {len(planned)} experiments have been run"
        + (f"; missing: {', '.join(missing[:8])}{' and others' if len(missing) > 8 else ''}.\n" if missing else ".\n")
    )
    yield from _table_two(_read(scale, "decompose"), _read(scale, "refine"))
    yield from _table_three(_read(scale, "reuse"), _read(scale, "reuse_inter"))
    yield from _table_four(_read(scale, "replace"), _read(scale, "replace_inter"))


def _read(scale: Scale, kind: str) -> list[Result]:
    return [json.loads(path.read_text()) for path in sorted((scale.folder / kind).glob("*.json"))]


def _table_two(results: list[Result], refined: list[Result]) -> Iterable[str]:
    if not results:
        return
    yield "### Table II: cost of decomposition, all modules composed against the network\n"
    yield (
        "*published*: the authors' figures, gates by hidden state (their rolled figures with many outputs are of\n"
        "evaluations that never loaded the modules' weights; their Brown counts padding; LSTM and GRU were evaluated\n"
        "with other activations than they were trained with). *cap 20 %*: the paper's text. *cap 5 %*: the release's\n"
        "usual cap. *calibrated* and *softmax head*: the same modules at 5 %, calibrated on 20 held-out examples a\n"
        "class, and with the other output layer. *each gate*: by the gates' own activations at 5 %, published / ours.\n"
        "*reconstruct*: half of the nodes. J: Jaccard index. Toxicity data are a sample of the original's. Of deeper\n"
        "networks *each gate* and, rolled, the softmax head were left out.\n"
    )
    columns = ["data", "cell", "mode", "models", "whole", "published", "cap 20 %", "cap 5 %", "published J", "J, 5 %"]
    columns += ["softmax head", "calibrated", "each gate", "reconstruct"]
    rows = [
        _cost(data, cell, mode, some)
        for (data, cell), some in grouped(results).items()
        for mode in ("rolled", "unrolled")
    ]
    yield table(columns, rows)
    yield earlier(results)
    yield _mean_costs(results, refined)


def _cost(data: str, cell: str, mode: str, some: list[Result]) -> list[str]:
    theirs = published.mean(question="RQ1", data=data, cell=cell, mode=mode, gates="hidden")
    gates = published.mean(question="RQ1", data=data, cell=cell, mode=mode, gates="each")
    small = f"{mode}, cap 5 %"
    row = [data, cell, mode, str(len(some)), f"{100 * fmean(r['monolithic'] for r in some):.1f}"]
    if mode == "unrolled" and some[0]["io"] == "1:1":
        return [*row, *[ONE_STEP] * 9]
    row += [difference(theirs), _ours(some, mode), _ours(some, small)]
    row += [f"{theirs['ji']:.2f}" if theirs and theirs["ji"] else NOT_PUBLISHED, _jaccard(some, small)]
    row += [_ours(some, f"{small}, softmax head"), _ours(some, small, "calibrated")]
    each = f"{difference(gates)} / {_ours(some, f'{small}, each gate')}" if cell in ("LSTM", "GRU") else NO_GATES
    return [*row, each, _ours(some, "reconstruct, 50 %")]


def _mean_costs(results: list[Result], refined: list[Result]) -> str:
    """Over all models, each with the paper's mode: unrolled, but rolled where there is one timestep."""
    rows = []
    for cells in (("vanilla", "LSTM", "GRU"), ("ReLU",)):
        some = [r for r in results if r["cell"] in cells]
        if not some:
            continue
        chosen: dict[str, Callable[[Result], str]] = {
            "the paper's method, cap 20 %": lambda r: published_way(r["io"]).removesuffix(", cap 5 %"),
            "the paper's method, cap 5 %": lambda r: published_way(r["io"]),
            "cap 5 %, rolled": lambda r: "rolled, cap 5 %",
            "cap 5 %, softmax head": lambda r: f"{published_way(r['io'])}, softmax head",
            "reconstruct, half of the nodes": lambda r: "reconstruct, 50 %",
        }
        for name, way in chosen.items():
            values = [100 * r["ways"][way(r)]["delta"] for r in some if way(r) in r["ways"]]
            shown = f"{fmean(values):+.2f} {interval(values)}" if values else NOT_RUN
            rows.append([", ".join(cells), name, str(len(values)), shown])
        apart = [100 * r["delta"] for r in refined if r["cell"] in cells]
        if apart:
            name = f"half of the nodes, {refined[0]['settings']['refine']} gradient steps behind, no labels"
            rows.append([", ".join(cells), name, str(len(apart)), f"{fmean(apart):+.2f} {interval(apart)}"])
        theirs = [100 * d for d in (_published_cost(data, cell) for data, cell in grouped(some)) if d is not None]
        if theirs:
            rows.append([", ".join(cells), "published, mean over data and cells", "", f"{fmean(theirs):+.2f}"])
    return table(["cells", "modules (unrolled, but for one timestep)", "models", "mean cost"], rows)


def _published_cost(data: str, cell: str) -> float | None:
    """By the paper's mode: unrolled, but rolled where there is one timestep."""
    mode = "rolled" if data == "mathqa" else "unrolled"
    theirs = published.mean(question="RQ1", data=data, cell=cell, mode=mode, gates="hidden")
    return None if theirs is None else theirs["delta"]


def _ours(some: Sequence[Result], way: str, name: str = "delta") -> str:
    values = [100 * r["ways"][way][name] for r in some if way in r["ways"]]
    return _shown(values)


def _shown(values: list[float]) -> str:
    if not values:
        return NOT_RUN
    return f"{fmean(values):+.2f}" + (f" {interval(values)}" if len(values) > 1 else "")


def _jaccard(some: list[Result], way: str) -> str:
    values = [r["ways"][way]["jaccard"] for r in some if "jaccard" in r["ways"].get(way, {})]
    return f"{fmean(values):.2f}" if values else NOT_RUN


def _table_three(intra: list[Result], inter: list[Result]) -> Iterable[str]:
    if not intra and not inter:
        return
    yield "\n### Table III: reuse, two classes' modules as a problem of their own\n"
    yield (
        "Intra: two classes of one network, all pairs. Inter: one class of a one-output network and one of a\n"
        "many-output network of another data set (it votes with its best timestep). *own network*: accuracy less\n"
        "that of a network trained for the two classes alone (drawn pairs; the published figures compare with such\n"
        "a one, which in 1:1 and M:1 started from the trained network). *restricted*: less that of the parent, its\n"
        "argmax restricted to the two. Each: as it votes / calibrated on 20 held-out examples a class / inter: with\n"
        "a referee fitted on these / on 100.\n"
    )
    rows = []
    for (data, cell), some in grouped(intra).items():
        rows += _reuse(data, cell, "intra", some, "RQ2-intra")
    for (data, cell), some in grouped(inter).items():
        for words in ("separate", "joint"):
            rows += _reuse(data, cell, f"inter, {words} words", [r["vocabularies"][words] for r in some], "RQ2-inter")
    yield table(["data", "cell", "", "published", "modules", "own network", "restricted"], rows)
    yield earlier(intra)
    yield "Means over these cells, against networks of their own; intra as it votes.\n"
    yield means("RQ2", intra, inter, "composed")


def _reuse(data: str, cell: str, kind: str, some: list[Result], question: str) -> list[list[str]]:
    theirs = difference(published_of(question, data, cell))
    rows = []
    for way in ways_in(some):
        found = [figures(r)[way] for r in some if way in figures(r)]
        own = [fmean(100 * f[f"{name}_over_scratch"] for f in found) for name in DECIDED if name in found[0]]
        known = "restricted" in found[0]
        gaps = (
            [fmean(100 * (f[n] - f["restricted"]) for f in found) for n in ("composed", "calibrated")] if known else []
        )
        rows.append([data, cell, kind, theirs, way, _pair(own), _pair(gaps) if known else "two parents"])
    return rows


def _table_four(intra: list[Result], inter: list[Result]) -> Iterable[str]:
    if not intra and not inter:
        return
    yield "\n### Table IV: replacement, a module exchanged for another network's\n"
    yield (
        "Intra: the worst of four networks gets modules, one at a time, from the best; accuracy less the worst\n"
        "network's own. Inter: a class of a one-output network makes place for one of a many-output network of\n"
        "another data set; accuracy less that of a network trained for the new problem (drawn exchanges). As it\n"
        "votes / calibrated / with a referee.\n"
    )
    rows = []
    for (data, cell), some in grouped(intra).items():
        theirs = difference(published_of("RQ3-intra", data, cell))
        for way in ways_in(some):
            values = [fmean(100 * r["ways"][way][name] for r in some) for name in ("replaced", "calibrated")]
            rows.append([data, cell, "intra", theirs, way, _pair(values)])
    for (data, cell), some in grouped(inter).items():
        theirs = difference(published_of("RQ3-inter", data, cell))
        for words in ("separate", "joint"):
            found = [r["vocabularies"][words] for r in some]
            for way in ways_in(found):
                values = [
                    fmean(100 * f[way][f"{name}_over_scratch"] for f in found)
                    for name in DECIDED
                    if f"{name}_over_scratch" in found[0][way]
                ]
                rows.append([data, cell, f"inter, {words} words", theirs, way, _pair(values)])
    yield table(["data", "cell", "", "published", "modules", "ours"], rows)
    yield "\nMeans over these cells; intra calibrated.\n"
    yield means("RQ3", intra, inter, "calibrated")


def _pair(values: Sequence[float]) -> str:
    return " / ".join(f"{value:+.2f}" for value in values)
