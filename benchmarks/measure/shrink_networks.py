"""The trained networks of the paper's comparison made smaller by ``unbraid.shrink``, beside magnitude pruning.

``python -m benchmarks.measure.shrink_networks --minutes 40`` takes networks with one layer first, trains those that are
not in the cache, and begins no other network after that time; it continues where it was interrupted. Accuracy is
measured on test data that is used nowhere else; times are CPU seconds of one thread, of plain modules of torch.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import Tensor, nn

from benchmarks import files
from benchmarks.measure.shrink import KEEPS, REFINE, SAMPLE, TIMED, latencies
from benchmarks.training.classifiers import SEEDS, Model, models
from unbraid import Network, shrink
from unbraid.decomposition.reconstruction.folding import source_indices
from unbraid.decomposition.reconstruction.importance import strongest
from unbraid.networks.layers import head_sources, sliced

PATH = "shrink_networks.json"


def run(again: bool, minutes: float = 0) -> None:
    """Measure the networks without a result; the file is written after each.

    Args:
        again: whether to measure those with a result as well.
        minutes: time in which missing networks are trained and measured; with 0 only those in the cache.
    """
    path, started = files.RESULTS / PATH, time.monotonic()
    found = [] if again or not path.exists() else json.loads(path.read_text())["networks"]
    torch.set_num_threads(1)
    known = {each["network"] for each in found}
    wanted = sorted(models(seeds=SEEDS[:1]), key=lambda model: (model.layers, not model.path.exists()))
    for model in track([model for model in wanted if model.name not in known], "shrink"):
        late = time.monotonic() - started > 60 * minutes
        if late and (minutes or not model.path.exists()):
            continue
        found.append(measured(model))
        files.write(path, {"networks": found})


def measured(model: Model) -> dict[str, Any]:
    """Make one network smaller in every way."""
    data, network = model.examples, model.network()
    x, test = data.train[0], data.test
    sample = x[np.sort(np.random.default_rng(0).permutation(len(x))[:SAMPLE])]
    sizes = []
    for keep in KEEPS:
        started = time.process_time()
        small = shrink(network, sample, keep)
        seconds = time.process_time() - started
        ways = {"small": small, "refined": shrink(network, sample, keep, refine=REFINE)}
        decided = {name: way.predict_index(test[0]) for name, way in ways.items()}
        decided["magnitude"] = by_magnitude(network, keep).predict_index(test[0])
        calls = {"full": network.to_torch(), "small": small.to_torch()}
        inputs = torch.as_tensor(test[0]).long()
        sizes.append(
            {
                "keep": keep,
                "seconds": seconds,
                "weights": _recurrent_weights(small) / _recurrent_weights(network),
                "accuracy": {name: _share(found, test[1]) for name, found in decided.items()},
                "same_decisions": float((decided["small"] == network.predict_index(test[0]))[test[1] >= 0].mean()),
                "latency": {str(n): latencies(calls, inputs[:n]) for n in (1, TIMED)},
            }
        )
    own = {name: getattr(model, name) for name in ("data", "cell", "layers")}
    return {"network": model.name, **own, "accuracy": _share(network.predict_index(test[0]), test[1]), "sizes": sizes}


def by_magnitude(network: Network, keep: float) -> Network:
    """Keep the units whose weights have the largest norm, as many as shrink keeps, without a fit."""
    layers = network.recurrent_layers()
    kept = strongest({name: norms(layer) for name, layer in layers.items()}, keep)
    body, features = sliced(network.body, kept)
    width = network.spec.features
    places = source_indices(network.layers, kept, head_sources(network.body), width) if features is None else features
    return _Cut(network, body, places)  # type: ignore[return-value]  # it decides as a network does


def norms(layer: nn.Module) -> np.ndarray:
    """Squared norms of all weights of each unit of a recurrent layer, (H,)."""
    units = layer.weight_hh.shape[1]  # type: ignore[union-attr,index]
    total = sum(
        getattr(layer, name).detach().view(-1, units, getattr(layer, name).shape[1]).square().sum((0, 2))
        for name in ("weight_ih", "weight_hh")
    )
    assert isinstance(total, Tensor)
    return total.double().numpy()


class _Cut:
    """A network whose body has fewer units, and whose output layer reads only these."""

    def __init__(self, network: Network, body: nn.Module, places: Tensor) -> None:
        self.network, self.body = copy.copy(network), body
        self.weight, self.bias = network.head.weight[:, places], network.head.bias

    @torch.no_grad()
    def predict_index(self, x: np.ndarray) -> np.ndarray:
        found = [
            nn.functional.linear(self.body(torch.as_tensor(part)), self.weight, self.bias)
            for part in np.array_split(x, -(-len(x) // 512))
        ]
        return self.network.decide(torch.cat(found).numpy())


def _share(found: np.ndarray, y: np.ndarray) -> float:
    return float((found == y)[y >= 0].mean())


def _recurrent_weights(network: Network) -> int:
    return sum(p.numel() for layer in network.recurrent_layers().values() for p in layer.parameters())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    run(given.again, given.minutes)
