"""RQ2: reuse of the modules of two classes as a new classifier (Imtiaz et al. 2023, Table III), intra and inter.

Intra: both modules are of one network. Inter: one module is of a network with one output, the other of a network with
many outputs for another data set, which votes with its largest margin over the timesteps. The classifier is compared
with a network trained for the two classes, and for intra also with the restricted parent.
Shapes: N examples, T timesteps, C classes.
"""

from __future__ import annotations

from itertools import combinations
from statistics import fmean
from typing import Any

import numpy as np

from benchmarks.experiments.calibration import sample
from benchmarks.experiments.experiment import Run
from benchmarks.experiments.mixing import Mixture
from benchmarks.experiments.voting import EXAMPLES, PRIORS, calibrated, right
from benchmarks.experiments.ways import modules, published_way
from benchmarks.training.classifiers import Model, trained_on
from unbraid import compose


def chosen_ways(io: str) -> list[str]:
    """Return the methods to compare: the paper's method, the same with the softmax head, and ours."""
    return [published_way(io), f"{published_way(io)}, softmax head", "reconstruct, 50 %"]


def measure(run: Run) -> dict[str, Any]:
    """Measure all pairs of classes of a network; for some pairs a new network is trained."""
    model = Model(run.data, run.cell, run.layers, run.seed, rows=run.scale.rows)
    network, data = model.network(), model.examples
    (x, y), counted = data.test, data.test[1] >= 0
    truth, logits, few = y[counted], network.logits(x)[counted], sample(data, EXAMPLES, 0)
    pairs = [p for p in combinations(range(len(data.labels)), 2) if np.isin(p, truth).all()]
    drawn = [pairs[n] for n in np.random.default_rng(run.seed).permutation(len(pairs))[: run.scale.draws]]
    scratch = {pair: _from_scratch(model, pair) for pair in drawn}
    ways = {}
    for way in chosen_ways(data.about.io):
        composition = compose(modules(model, way))
        margins = composition.margins(x)[counted]
        shown = few[1] >= 0
        known, labels = composition.margins(few[0])[shown], few[1][shown]
        found = {}
        for pair in pairs:
            rows, seen = np.isin(truth, pair), np.isin(labels, pair)
            places, target = list(pair), np.searchsorted(pair, truth[rows])
            own = margins[rows][:, places]
            few_own = (known[seen][:, places], np.searchsorted(pair, labels[seen]))
            found[pair] = {
                "composed": right(own, target),
                "calibrated": right(calibrated(own, few_own, [0, 0]), target),
                "restricted": right(logits[rows][:, places], target),
            }
        ways[way] = summary(found, scratch)
    return {"io": data.about.io, "pairs": len(pairs), "ways": ways, "priors": PRIORS}


def _from_scratch(model: Model, pair: tuple[int, ...]) -> float:
    """Train a network of the same architecture for these classes only; return its accuracy."""
    data = model.examples
    parts = [(x, np.where(np.isin(y, pair), np.searchsorted(pair, y), -1)) for x, y in (data.train, data.test)]
    (x, y), (x_test, y_test) = ((x[rows], y[rows]) for x, y in parts for rows in [_some(y)])
    network = trained_on(model, x, y, [data.labels[j] for j in pair])
    used = y_test >= 0
    return float((network.predict_index(x_test) == y_test)[used].mean())


def _some(y: np.ndarray) -> np.ndarray:
    """Return which examples have a labelled decision."""
    return np.asarray((y >= 0).reshape(len(y), -1).any(-1))


def summary(found: dict[Any, dict[str, float]], scratch: dict[Any, float]) -> dict[str, float]:
    """Compute means over all problems, and differences from new networks over the problems that have one."""
    names = list(next(iter(found.values())))
    means = {name: fmean(f[name] for f in found.values()) for name in names}
    over = {
        f"{name}_over_scratch": fmean(found[p][name] - accuracy for p, accuracy in scratch.items()) for name in names
    }
    return {**means, **over, "scratch": fmean(scratch.values())}


def measure_inter(run: Run) -> dict[str, Any]:
    """Measure pairs of a class of each network, with separate and with joint vocabularies."""
    result: dict[str, Any] = {}
    for joint in (False, True):
        mixture = Mixture(run, joint)
        pairs = mixture.pairs()
        drawn = pairs[: run.scale.draws]
        if not result:
            result = {"pairs": len(pairs), "scratch": [mixture.scratch([i], j) for i, j in drawn], "vocabularies": {}}
        scratch = dict(zip(drawn, result["scratch"], strict=True))
        ways = {}
        for way in mixture.ways(chosen_ways):
            votes = mixture.votes(way)
            found = {(i, j): votes.problem([i], j).accuracies(more=True) for i, j in pairs}
            ways[way[-1]] = summary(found, scratch)
        result["vocabularies"]["joint" if joint else "separate"] = ways
    return result
