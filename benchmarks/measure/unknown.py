"""Answers "none of these": CLINC-150 with its out-of-scope queries.

The scores of the parent network (largest probability, energy, Mahalanobis distance) are compared with the typicality of
the composition of all its modules. The weights of the typicality were chosen on ``held_out`` and ``held_out_unknown``;
figures are of ``test`` and ``test_unknown``. Shapes: N queries, C classes.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.training.intents import CELLS, IntentModel
from unbraid import Composition, Network, compose, decompose
from unbraid.decomposition.domain import gather
from unbraid.evaluation.unknown import auroc, false_positive_rate, unknown_scores
from unbraid.modules.domain.gaussians import Gaussians, shrunk
from unbraid.modules.domain.typicality import REJECTED, best_threshold

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
    moments = [time.process_time()]
    network.logits(texts)
    moments.append(time.process_time())
    parts = decompose(network, (texts, y), keep=KEEP, domain=False)
    moments.append(time.process_time())
    gather(parts, texts)
    moments.append(time.process_time())
    composition, gaussians = compose(parts), _class_gaussians(network, texts, y)
    cost = dict(zip(("pass", "modules", "evidence"), np.diff(moments).tolist(), strict=True))
    asked = {**{part: data.parts[part][0] for part in PARTS}, **data.unknown}
    return scored(
        model, composition, {name: seen(network, gaussians, composition, x) for name, x in asked.items()}, cost
    )


def scored(
    model: IntentModel, composition: Composition, found: dict[str, dict[str, np.ndarray]], cost: dict[str, float]
) -> dict[str, Any]:
    """Compute the result from what :func:`seen` gives for each part."""
    truth = model.examples.parts["test"][1]
    known, few = found["held_out"]["modules, typicality"], found["few_unknown"]["modules, typicality"]
    thresholds = {
        "5 % of the sample": REJECTED,
        "5 % of held-out": best_threshold(known, None, REJECTED),
        "100 unknown": best_threshold(known, few, REJECTED),
    }
    test, foreign = found["test"], found["test_unknown"]["modules, typicality"]
    right = _right(composition, model, test["decided"], truth)
    return {
        "classes": len(model.examples.labels),
        "cost": cost,
        "accuracy": float((test["network decided"] == truth).mean()),
        "detection": {
            part: {
                name: {
                    "auroc": auroc(found[part][name], found[other][name]),
                    "fpr": false_positive_rate(found[part][name], found[other][name]),
                }
                for name in found[part]
                if "decided" not in name
            }
            for part, other in PARTS.items()
        },
        "rejection": {
            name: asdict(unknown_scores(UNKNOWN, threshold, test["modules, typicality"], right, foreign))
            for name, threshold in thresholds.items()
        },
    }


def _right(composition: Composition, model: IntentModel, decided: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return which decisions of a composition are right, booleans (N,)."""
    labels = [model.examples.labels.index(label) for label in composition.labels]
    return np.asarray(np.asarray(labels)[decided] == truth)


def seen(network: Network, gaussians: Gaussians, composition: Composition, texts: list[str]) -> dict[str, np.ndarray]:
    """Compute all scores of texts, and the decisions of the network and of the composition."""
    features, logits = _features(network, texts)
    winners = composition.predict_index(texts)
    own = composition.typicality_scores(texts, winners)
    return {
        "decided": winners,
        "network decided": logits.argmax(1),
        **{f"network, {name}": values for name, values in _network_scores(gaussians, features, logits).items()},
        **{f"modules, {name}": values for name, values in own.items()},
        "modules, typicality": composition.typicality(texts, winners),
    }


def _class_gaussians(network: Network, texts: list[str], y: np.ndarray) -> Gaussians:
    """Fit the class means and the covariance of the features of the network, with labels (Lee et al. 2018)."""
    features = _features(network, texts)[0]
    means = np.stack([features[y == label].mean(0) for label in range(network.classes)])
    return Gaussians(means, shrunk(features - means[y], len(features)))


def _features(network: Network, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        features = network.features(torch.from_numpy(network.check(texts).array))
        return features.double().numpy(), network.head(features).double().numpy()


def _network_scores(gaussians: Gaussians, features: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    distances = np.stack([gaussians.distances(features, label) for label in range(logits.shape[1])])
    return {
        "largest probability": torch.from_numpy(logits).softmax(1).amax(1).numpy(),
        "energy": torch.from_numpy(logits).logsumexp(1).numpy(),
        "Mahalanobis": -distances.min(0),
    }
