"""Answers "none of these": CLINC-150 with its out-of-scope queries.

The scores of the parent network (largest probability, energy, Mahalanobis distance) are compared with the typicality of
the composition of all its modules. The weights of the typicality were chosen on ``held_out`` and ``held_out_unknown``;
figures are of ``test`` and ``test_unknown``. Shapes: N queries, C classes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.training.intents import CELLS, IntentModel
from unbraid import Composition, Network, compose, decompose, evaluate
from unbraid.evaluation.unknown import auroc, false_positive_rate
from unbraid.modules.domain.gaussians import Gaussians, shrunk

KEEP = 0.5
PARTS = {"held_out": "held_out_unknown", "test": "test_unknown"}
UNKNOWN = "none of these"


def run(again: bool) -> None:
    """Measure each classifier without a result; it is trained first if it is missing."""
    wanted = [IntentModel(cell, domains) for domains in (False, True) for cell in CELLS]
    for model in track(wanted, "unknown inputs"):
        path = files.RESULTS / "unknown" / f"{model.name}.json"
        if again or not path.exists():
            files.write(path, {"cell": model.cell, "domains": model.domains, **_measured(model)})


def _measured(model: IntentModel) -> dict[str, Any]:
    torch.set_num_threads(1)
    network, data = model.network(), model.examples
    texts, y = data.parts["train"]
    started = time.perf_counter()
    composition = compose(decompose(network, (texts, y), keep=KEEP))
    seconds = time.perf_counter() - started
    gaussians = _class_gaussians(network, texts, y)
    known = {part: data.parts[part] for part in PARTS}
    scores = {
        part: {
            owner: [score(found) for found in (known[part][0], data.unknown[foreign])]
            for owner, score in (
                ("network", lambda found: _network_scores(network, gaussians, found)),
                ("modules", lambda found: _module_scores(composition, found)),
            )
        }
        for part, foreign in PARTS.items()
    }
    few = composition.with_threshold(known["held_out"][0], data.unknown["few_unknown"])
    own = composition.with_threshold(known["held_out"][0])
    truth = known["test"][1]
    return {
        "classes": len(data.labels),
        "seconds": seconds,
        "accuracy": float((network.predict_index(known["test"][0]) == truth).mean()),
        "detection": {
            part: {
                f"{owner}, {name}": {
                    "auroc": auroc(own[name], other[name]),
                    "fpr": false_positive_rate(own[name], other[name]),
                }
                for owner, (own, other) in owners.items()
                for name in own
            }
            for part, owners in scores.items()
        },
        "rejection": {
            name: _rejection(chosen, data, truth)
            for name, chosen in (("5 % of the sample", composition), ("5 % of held-out", own), ("100 unknown", few))
        },
    }


def _rejection(composition: Composition, data: Any, truth: np.ndarray) -> dict[str, Any]:
    texts = [*data.parts["test"][0], *data.unknown["test_unknown"]]
    y = [*(data.labels[place] for place in truth), *[UNKNOWN] * len(data.unknown["test_unknown"])]
    found = evaluate(composition, (texts, y), unknown=UNKNOWN)
    return dict(found.to_dict()["unknown"])


def _class_gaussians(network: Network, texts: list[str], y: np.ndarray) -> Gaussians:
    """Fit the class means and the covariance of the features of the network, with labels (Lee et al. 2018)."""
    features = _features(network, texts)[0]
    means = np.stack([features[y == label].mean(0) for label in range(network.classes)])
    return Gaussians(means, shrunk(features - means[y], len(features)))


def _features(network: Network, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        features = network.features(torch.from_numpy(network.check(texts).array))
        return features.double().numpy(), network.head(features).double().numpy()


def _network_scores(network: Network, gaussians: Gaussians, texts: list[str]) -> dict[str, np.ndarray]:
    features, logits = _features(network, texts)
    distances = np.stack([gaussians.distances(features, label) for label in range(network.classes)])
    return {
        "largest probability": torch.from_numpy(logits).softmax(1).amax(1).numpy(),
        "energy": torch.from_numpy(logits).logsumexp(1).numpy(),
        "Mahalanobis": -distances.min(0),
    }


def _module_scores(composition: Composition, texts: list[str]) -> dict[str, np.ndarray]:
    winners = composition.predict_index(texts)
    return {**composition.typicality_scores(texts, winners), "typicality": composition.typicality(texts, winners)}
