"""Build the paper's Tables II to IV, our figures next to the published ones, from the stored results.

All differences are in points. A cell without a number gives the reason.
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
MEANS_CAPTION = (
    "*modules*: method of decomposition. The second column is the kind of problem and how the votes are\n"
    "combined: uncalibrated (*as they vote*), *calibrated*, or with a referee (*refereed*). *both* joins intra\n"
    "and inter. *cells*: number of cells of the table above. *published*: mean of the published figures of\n"
    "these cells. *ours*: our mean.\n"
)


def sections(scale: Scale) -> Iterable[str]:
    """Yield the sections; nothing if there are no results."""
    if not any((scale.folder / kind).is_dir() for kind in ("decompose", "reuse", "replace")):
        return
    planned = experiment.runs(scale, list(experiment.read().values()))
    missing = [f"{run.kind} {run.name}" for run in planned if not run.path.exists()]
    yield f"\n## The paper's evaluation ({scale.name} scale)\n"
    yield (
        "Our figures are of networks with the paper's architectures, trained by this benchmark. Differences are in\n"
        "points and are means over layers, seeds and classes. Brackets hold the 95 % interval of the mean over\n"
        "models (bootstrap).\n"
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
    yield "### Table II: cost of decomposition, the composition of all modules against the whole network\n"
    yield (
        "*data*, *cell* and *mode*: data set, recurrent cell, and rolled or unrolled modules. *models*: number of\n"
        "our trained networks. *whole*: their mean accuracy. The following columns, except those of J, are the\n"
        "accuracy of the composition of all modules minus that of the whole network. *published*: the authors'\n"
        "figures, nodes identified by the hidden state. Their rolled figures with many outputs come from\n"
        "evaluations that never loaded the modules' weights. Their Brown figures count padding. Their LSTM and GRU\n"
        "were evaluated with other activations than those they were trained with. *cap 20 %*: the method of the\n"
        "paper's text. *cap 5 %*: the usual cap of the authors' release. *published J* and *J, 5 %*: the paper's\n"
        "Jaccard index of modules and parent, published and ours at cap 5 %. *softmax head*: cap 5 % with the\n"
        "softmax output layer in the modules. *calibrated*: cap 5 % with margins calibrated on 20 held-out examples\n"
        "a class. *each gate*: nodes identified by the activations of each gate at cap 5 %, published / ours.\n"
        "*reconstruct*: the default strategy with half of the nodes. The toxicity data are a sample of the original\n"
        "data set. For networks of several layers, *each gate* was not run, and the softmax head of rolled modules\n"
        "only for one timestep. Networks of later seeds were run at cap 5 % and with *reconstruct* only.\n"
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
    yield (
        "Means over these models. *cells*: kinds of recurrent cells. *modules*: method of decomposition. *models*:\n"
        "number of models. *mean cost*: mean difference from the whole network, with its 95 % interval. The\n"
        "interval of a published mean is not available.\n"
    )
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
    """Build the table of mean costs, each model in the paper's mode: unrolled, or rolled for one timestep."""
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
            name = f"half of the nodes, then {refined[0]['settings']['refine']} gradient steps without labels"
            rows.append([", ".join(cells), name, str(len(apart)), f"{fmean(apart):+.2f} {interval(apart)}"])
        theirs = [100 * d for d in (_published_cost(data, cell) for data, cell in grouped(some)) if d is not None]
        if theirs:
            rows.append([", ".join(cells), "published, mean over data and cells", "", f"{fmean(theirs):+.2f}"])
    return table(["cells", "modules (unrolled; rolled for one timestep)", "models", "mean cost"], rows)


def _published_cost(data: str, cell: str) -> float | None:
    """Return the published cost in the paper's mode: unrolled, or rolled for one timestep."""
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
    yield "\n### Table III: reuse, the modules of two classes as a classifier of these two\n"
    yield (
        "*published*: the authors' figures. *modules*: method of decomposition. The third column is the kind of\n"
        "reuse. *intra*: all pairs of classes of one network. *inter*: one class of a network with one output, and\n"
        "one class of a network with many outputs, trained on another data set. The second module votes with its\n"
        "largest margin over the timesteps. With *separate words* each network has its own vocabulary; with *joint\n"
        "words* both share one. *own network*: accuracy minus that of a network trained for the two classes alone,\n"
        "on randomly drawn pairs. The published figures compare with such a network too; in 1:1 and M:1 its\n"
        "training started from the trained network. *restricted*: accuracy minus that of the parent with its argmax\n"
        "restricted to the two classes; there is no such network for *two parents*. Figures with slashes are\n"
        "uncalibrated / calibrated on 20 held-out examples a class / (inter) with a referee fitted on these\n"
        "examples / with a referee fitted on 100 a class.\n"
    )
    rows = []
    for (data, cell), some in grouped(intra).items():
        rows += _reuse(data, cell, "intra", some, "RQ2-intra")
    for (data, cell), some in grouped(inter).items():
        for words in ("separate", "joint"):
            rows += _reuse(data, cell, f"inter, {words} words", [r["vocabularies"][words] for r in some], "RQ2-inter")
    yield table(["data", "cell", "", "published", "modules", "own network", "restricted"], rows)
    yield earlier(intra)
    yield "Means over these cells, as differences from *own network*. Intra figures are uncalibrated.\n" + MEANS_CAPTION
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
    yield "\n### Table IV: replacement of a module by that of another network\n"
    yield (
        "*published*: the authors' figures. *modules*: method of decomposition. The third column is the kind of\n"
        "replacement. *intra*: four networks of one data set differ in depth. In the worst of them, one module at a\n"
        "time is replaced by that of the best. *ours* is the accuracy minus that of the worst network, uncalibrated\n"
        "/ calibrated. *inter*: a class of a network with one output is replaced by a class of a network with many\n"
        "outputs, trained on another data set. *ours* is the accuracy minus that of a network trained for the new\n"
        "problem, on randomly drawn replacements: uncalibrated / calibrated / with a referee. *separate words* and\n"
        "*joint words* are as in Table III.\n"
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
    yield "\nMeans over these cells. Intra figures are calibrated.\n" + MEANS_CAPTION
    yield means("RQ3", intra, inter, "calibrated")


def _pair(values: Sequence[float]) -> str:
    return " / ".join(f"{value:+.2f}" for value in values)
