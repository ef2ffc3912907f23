"""RQ1: cost of decomposition (Imtiaz et al. 2023, Table II), for each method of decomposition."""

from __future__ import annotations

import time
from statistics import fmean
from typing import Any

from benchmarks.experiments.calibration import sample
from benchmarks.experiments.experiment import Run
from benchmarks.experiments.voting import EXAMPLES, PRIORS, calibrated, right
from benchmarks.experiments.ways import REFINED, modules, settings, ways_of
from benchmarks.training.classifiers import Model
from unbraid import Decomposition, compose
from unbraid.config import HeadKind
from unbraid.evaluation.metrics import jaccard


def measure(run: Run) -> dict[str, Any]:
    """Compare the composition of all modules with the model, also with calibration on a few held-out examples."""
    model = Model(run.data, run.cell, run.layers, run.seed, rows=run.scale.rows)
    network, data, found = model.network(), model.examples, {}
    (x, y), counted = data.test, data.test[1] >= 0
    few, truth = sample(data, EXAMPLES, 0), y[counted]
    shown = few[1] >= 0
    monolithic = right(network.logits(x)[counted], truth)
    for way in ways_of(model):
        started = time.perf_counter()
        parts = modules(model, way)
        seconds = time.perf_counter() - started
        composition = compose(parts)
        margins, known = composition.margins(x)[counted], composition.margins(few[0])[shown]
        fair = calibrated(margins, (known, few[1][shown]), [0] * len(parts))
        found[way] = {
            "delta": right(margins, truth) - monolithic,
            "calibrated": right(fair, truth) - monolithic,
            **_sizes(parts),
            "decompose_seconds": seconds,
        }
        if (
            run.seed == 0 and parts.config.head is HeadKind.MEAN
        ):  # the other output layers keep more of the parent's values
            found[way]["jaccard"] = fmean(jaccard(module, network) for module in parts.values())
    return {"io": data.about.io, "monolithic": monolithic, "ways": found, "priors": PRIORS}


def measure_refined(run: Run) -> dict[str, Any]:
    """Measure modules with half of the nodes after a few gradient steps without labels, stored separately."""
    model = Model(run.data, run.cell, run.layers, run.seed, rows=run.scale.rows)
    network, data = model.network(), model.examples
    (x, y), counted = data.test, data.test[1] >= 0
    started = time.perf_counter()
    parts = modules(model, REFINED)
    seconds = time.perf_counter() - started
    monolithic = right(network.logits(x)[counted], y[counted])
    delta = right(compose(parts).margins(x)[counted], y[counted]) - monolithic
    return {
        "monolithic": monolithic,
        "delta": delta,
        "decompose_seconds": seconds,
        "settings": settings(model, REFINED),
    }


def _sizes(parts: Decomposition) -> dict[str, float]:
    """Return the mean shares of kept nodes and recurrent weights over the modules."""
    kept = [module.retention() for module in parts.values()]
    return {"nodes": fmean(r.nodes for r in kept), "recurrent_weights": fmean(r.recurrent_weights for r in kept)}
