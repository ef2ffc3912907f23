"""Reuse (some classes of one network) and replacement (a module of another network) with small modules.

Source of the questions: Imtiaz et al. 2023, RQ2 and RQ3, intra: same data set. Every vote is taken from margins that
each composition gave once, as :meth:`unbraid.Composition.decide` takes it.
"""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import datasets, files
from benchmarks.calibrating import sample
from benchmarks.trained import Model
from unbraid import compose, decompose

PAIRS = [("LSTM", 1, "GRU", 1), ("GRU", 4, "LSTM", 1), ("vanilla", 1, "LSTM", 4)]  # network, the other one
KEEP = 0.3
DRAWS = 20  # of half of the classes
EXAMPLES = 20  # held-out ones for every class in the mean, for calibration


def run(again: bool) -> None:
    """Measure every pair that is trained and has no result yet."""
    for name in datasets.READERS:
        for pair in track(PAIRS, f"reuse, {name}"):
            models = Model(name, pair[0], pair[1], 0), Model(name, pair[2], pair[3], 0)
            path = files.RESULTS / "reuse" / f"{name}-{'-'.join(map(str, pair))}.json"
            if (again or not path.exists()) and all(m.path.exists() for m in models):
                files.write(path, {"data": name, "pair": pair, **_measured(*models)})


def _measured(model: Model, other: Model) -> dict[str, Any]:
    torch.set_num_threads(1)
    data = datasets.load(model.data)
    networks = model.network(), other.network()
    own, others = (decompose(network, data.train, keep=KEEP) for network in networks)
    (x, y), counted = data.test, data.test[1] >= 0
    true, logits = y[counted], networks[0].logits(x)[counted]
    margins, foreign = (compose(parts).margins(x)[counted] for parts in (own, others))
    return {
        "monolithic": float((logits.argmax(-1) == true).mean()),
        "composed": float((margins.argmax(-1) == true).mean()),
        **_reused(margins, logits, true),
        **_replaced(own, others, margins, foreign, data, true),
    }


def _reused(margins: np.ndarray, logits: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Half of the classes as a problem of their own, against the parent with its argmax restricted to them."""
    classes, rng, gaps = margins.shape[-1], np.random.default_rng(0), []
    for _ in range(DRAWS):
        used = np.sort(rng.choice(classes, max(2, classes // 2), replace=False))
        rows = np.isin(true, used)
        right = [(used[scores[rows][:, used].argmax(-1)] == true[rows]).mean() for scores in (margins, logits)]
        gaps.append(float(right[0] - right[1]))
    return {"reuse": statistics.fmean(gaps), "reuse_worst": min(gaps)}


def _replaced(
    own: Any, others: Any, margins: np.ndarray, foreign: np.ndarray, data: datasets.DataSet, true: np.ndarray
) -> dict[str, float]:
    """Each module in turn exchanged for the other network's, as it is and calibrated, against the whole network's."""
    before, plain, calibrated = float((margins.argmax(-1) == true).mean()), [], []
    few = sample(data, EXAMPLES, 0)
    for place, label in enumerate(own):
        changed = margins.copy()
        changed[:, place] = foreign[:, place]
        plain.append(float((changed.argmax(-1) == true).mean()) - before)
        scales = compose(own).replace(label, others[label]).calibrated(*few).calibration
        temperature, offset = (np.asarray([scales[n][k] for n in own], np.float32) for k in (0, 1))
        calibrated.append(float(((changed / temperature + offset).argmax(-1) == true).mean()) - before)
    return {"replaced": statistics.fmean(plain), "replaced_calibrated": statistics.fmean(calibrated)}
