"""RQ3: replacement of a module by a module of another network (Imtiaz et al. 2023, Table IV), intra and inter.

Intra: in the worst of four networks of different depth, one module at a time is replaced by that of the best network.
The best and the worst network are chosen by held-out accuracy. Inter: a class of a network with one output is replaced
by a class of a network with many outputs for another data set.
"""

from __future__ import annotations

from statistics import fmean
from typing import Any

from benchmarks.experiments.calibration import sample
from benchmarks.experiments.experiment import Run
from benchmarks.experiments.mixing import Mixture
from benchmarks.experiments.table3 import chosen_ways, summary
from benchmarks.experiments.voting import EXAMPLES, calibrated, right
from benchmarks.experiments.ways import modules
from benchmarks.training.classifiers import LAYERS, Model
from unbraid import compose


def measure(run: Run) -> dict[str, Any]:
    """Replace each class in turn by that of the best network; measure differences from the worst network."""
    depths = LAYERS if run.scale.layers is None else (*run.scale.layers, 2)
    models = [Model(run.data, run.cell, depth, run.seed, rows=run.scale.rows) for depth in depths]
    models.sort(key=_held_out)
    worst, best = models[0], models[-1]
    data = worst.examples
    (x, y), counted, few = data.test, data.test[1] >= 0, sample(data, EXAMPLES, 0)
    truth, shown = y[counted], few[1] >= 0
    monolithic = float((worst.network().predict_index(x)[counted] == truth).mean())
    ways = {}
    for way in chosen_ways(data.about.io):
        both = [compose(modules(model, way)) for model in (worst, best)]
        margins = [c.margins(x)[counted] for c in both]
        known = [c.margins(few[0])[shown] for c in both]
        plain, fair = [], []
        for place in range(len(data.labels))[: run.scale.problems]:
            own, seen = margins[0].copy(), known[0].copy()
            own[:, place], seen[:, place] = margins[1][:, place], known[1][:, place]
            parents = [int(k == place) for k in range(len(data.labels))]
            plain.append(right(own, truth) - monolithic)
            fair.append(right(calibrated(own, (seen, few[1][shown]), parents), truth) - monolithic)
        before = right(margins[0], truth) - monolithic
        ways[way] = {"before": before, "replaced": fmean(plain), "calibrated": fmean(fair)}
    return {"io": data.about.io, "worst": worst.name, "best": best.name, "monolithic": monolithic, "ways": ways}


def _held_out(model: Model) -> float:
    x, y = model.examples.held_out
    return float((model.network().predict_index(x) == y)[y >= 0].mean())


def measure_inter(run: Run) -> dict[str, Any]:
    """Measure random replacements; for some of them a network is trained for the new problem."""
    result: dict[str, Any] = {}
    for joint in (False, True):
        mixture = Mixture(run, joint)
        pairs, classes = mixture.pairs(), range(mixture.sizes[0])
        rest = {i: [k for k in classes if k != i] for i in classes}
        drawn = pairs[: run.scale.draws]
        if not result:
            found = [mixture.scratch(rest[i], j) for i, j in drawn]
            result = {"pairs": len(pairs), "scratch": found, "vocabularies": {}}
        scratch = dict(zip(drawn, result["scratch"], strict=True))
        ways = {}
        for way in mixture.ways(chosen_ways):
            votes = mixture.votes(way)
            ways[way[-1]] = summary({(i, j): votes.problem(rest[i], j).accuracies() for i, j in pairs}, scratch)
        result["vocabularies"]["joint" if joint else "separate"] = ways
    return result
