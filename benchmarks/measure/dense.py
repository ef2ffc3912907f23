"""Networks of dense layers alone: the twelve networks and the modules of the fully connected predecessor (FCNN-D).

Source of the networks and of the published figures: Pan and Rajan, ESEC/FSE 2020, and their release. Inputs are
pixels / 255 / 255, as in the release. Fashion-MNIST has its training images; of MNIST and KMNIST, modules are made
with the even rows of the test images and measured on the odd rows.
"""

from __future__ import annotations

import csv
import gzip
import time
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.training.classifiers import Model
from unbraid import Decomposition, DecompositionConfig, Network, compose, decompose, evaluate, load
from unbraid.data.targets import Targets
from unbraid.decomposition.fcnn.strategy import FcnnRelease, PreparedFcnn
from unbraid.evaluation.metrics import detection
from unbraid.modules.module import ConcernModule
from unbraid.progress import silent

SETS, DEPTHS = ("MNIST", "FMNIST", "KMNIST"), (1, 2, 3, 4)
KEEPS = (0.5, 0.3, 0.15)
BASELINES = ("paper", "random")  # at equal size
GIVEN = 20_000  # training images of Fashion-MNIST that are given
PAIR_LAYERS = 4  # the networks of the pairs
BEHIND = [Model(data, "LSTM", 1, rows=8_000, hidden=64) for data in ("clinc", "mathqa", "toxic", "brown")]
Images = tuple[np.ndarray, np.ndarray]


def run(again: bool) -> None:
    """Measure each network without a result, then the pairs of classes of two networks."""
    torch.set_num_threads(1)
    names = [f"{name}-{depth}" for name in SETS for depth in DEPTHS]
    for name in track([n for n in names if again or not path(n).exists()], "dense"):
        files.write(path(name), measured(name))
    if again or not path("pairs").exists():
        files.write(path("pairs"), pairs())
    for model in track([m for m in BEHIND if again or not path(m.name).exists()], "dense layers behind an LSTM"):
        files.write(path(model.name), behind(model))


def path(name: str) -> Path:
    """Return the path of the result of a network."""
    return files.RESULTS / "dense" / f"{name}.json"


def network(name: str) -> Network:
    """Load one of the networks of the release."""
    return load(files.shared() / "reference" / "fcnn" / "parents" / f"{name}.h5")


@cache
def images(name: str) -> tuple[Images, Images]:
    """Return the images (N, 28, 28, 1) and labels for decomposing and for measuring."""
    folder = files.shared() / "data" / "images"
    if name == "FMNIST":
        parts = [
            (_idx(folder / f"fashion-mnist-{part}-images-idx3-ubyte.gz"),
             _idx(folder / f"fashion-mnist-{part}-labels-idx1-ubyte.gz"))
            for part in ("train", "t10k")
        ]  # fmt: skip
        given, held = parts
        return _scaled(given), _scaled(held)
    if name == "MNIST":
        both = _idx(folder / "mnist-t10k-images.gz"), _idx(folder / "mnist-t10k-labels.gz")
    else:
        arrays = [np.load(folder / f"kmnist-test-{part}.npz")["arr_0"] for part in ("imgs", "labels")]
        both = arrays[0], arrays[1]
    even, odd = (tuple(array[start::2] for array in both) for start in (0, 1))
    return _scaled(even), _scaled(odd)  # type: ignore[arg-type]  # two arrays each


def _idx(file: Path) -> np.ndarray:
    content = gzip.decompress(file.read_bytes())
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, 4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def _scaled(both: Images) -> Images:
    pixels = both[0].astype(np.float32) / 255 / 255
    return pixels.reshape(-1, 28, 28, 1), both[1].astype(np.int64)


def measured(name: str) -> dict[str, Any]:
    """Measure one network: our sizes, baselines of equal size, the paper's method, and the release's modules."""
    parent, (given, held) = network(name), images(name.split("-")[0])
    some = given[0][:GIVEN], given[1][:GIVEN]
    parts = decompose(parent, some, strategy="paper")
    return {
        "network": name,
        "layers": int(name.split("-")[1]),
        "accuracy": float((parent.predict(held[0]) == held[1]).mean()),
        "parent_f1": _alone(parent, held),
        "sizes": [_size(parent, some, held, keep) for keep in KEEPS],
        "paper": {
            **_figures(parent, parts, held),
            "jaccard": similarity([removed_kernels(module) for module in parts.values()]),
        },
        "release": {way: _release(parent, given, held, merge) for way, merge in (("CM-C", False), ("CM-RIE", True))},
        "published": published(name),
    }


def published(name: str) -> dict[str, float]:
    """Return the figures of Table 1 of the paper for a network."""
    with (files.shared() / "reference" / "fcnn" / "published_lineage.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["table"] == "Table 1" and row["item"] == name]
    return {row["metric"]: float(row["value"]) for row in rows}


def _alone(parent: Network, held: Images) -> float:
    """Compute the mean one-vs-rest F1 of the parent. It detects a class if its probability exceeds one half."""
    claimed = parent.predict_proba(held[0]) > 0.5
    return float(np.mean([detection(claimed[:, j], held[1] == j).f1 for j in range(parent.classes)]))


def _size(parent: Network, given: Images, held: Images, keep: float) -> dict[str, Any]:
    started = time.process_time()
    parts = decompose(parent, given, keep=keep)
    seconds = time.process_time() - started
    others = {way: decompose(parent, given, strategy=way, keep=keep, head="softmax") for way in BASELINES}
    baselines = {way: _figures(parent, other, held) for way, other in others.items()}
    return {"keep": keep, "seconds": seconds, **_figures(parent, parts, held), "baselines": baselines}


def _figures(parent: Network, parts: Decomposition, held: Images) -> dict[str, float]:
    found = evaluate(compose(parts), held, against=parent)
    assert found.delta is not None
    return {
        "delta": found.delta,
        "f1": found.detection.f1,
        "nodes": found.retention.nodes,
        "weights": found.retention.recurrent_weights,
    }


def _release(parent: Network, given: Images, held: Images, merge: bool) -> dict[str, float]:
    """Measure modules of the release with the vote of the release."""
    config = DecompositionConfig.release(paper="fcnn", merge=merge)
    targets = Targets(given[1], parent.labels, False, False)
    prepared = FcnnRelease().prepare(parent, parent.check(given[0]), targets, config, silent)
    modules = {parent.labels[index]: prepared.module(index, None) for index in prepared.classes}
    whole = float((parent.predict(held[0]) == held[1]).mean())
    return {
        "delta": float((vote(modules, held[0]) == held[1]).mean()) - whole,
        "jaccard": similarity([release_kernels(prepared, index) for index in prepared.classes]),
        "nodes": fmean(module.retention().nodes for module in modules.values()),
    }


def vote(parts: Mapping[Any, ConcernModule], x: np.ndarray) -> np.ndarray:
    """Decide as the release: a module votes where its class has the largest score; one vote decides.

    Without a vote, or with several, the largest probability of its class decides among all or among those that voted.
    """
    chances, claims = [], []
    for module in parts.values():
        with torch.inference_mode():
            rows = module.head(module.body(torch.from_numpy(x)))
        scores = torch.cat([rows, rows.new_zeros(len(rows), module.head.idle)], 1)
        chances.append(torch.softmax(scores, 1)[:, 0].numpy())
        claims.append((scores.argmax(1) == 0).numpy())
    chance, claimed = np.stack(chances, 1), np.stack(claims, 1)
    chance = np.where(claimed | ~claimed.any(1, keepdims=True), chance, -1)
    return np.asarray(list(parts))[chance.argmax(1)]


def similarity(kernels: list[np.ndarray]) -> float:
    """Compute the mean Jaccard index of all pairs of modules, as the release: of their sets of kernel values."""
    distinct = [np.unique(values) for values in kernels]
    found = []
    for i, one in enumerate(distinct):
        for j, two in enumerate(distinct):
            if i != j:
                shared = len(np.intersect1d(one, two, assume_unique=True))
                found.append(shared / (len(kernels[i]) + len(kernels[j]) - shared))
    return fmean(found)


def removed_kernels(module: ConcernModule) -> np.ndarray:
    """Return the kernel values of a module of the paper's method in the sizes of the parent, 0 for removed units."""
    found = []
    for name, layer in module.parent.layers.items():
        kept = module.kept_nodes[name][:, None]
        found.append(np.where(kept, layer.kernel.detach().numpy(), 0).ravel())
    return np.concatenate([*found, _columns(module.parent, module.whole_head.weight)])


def release_kernels(prepared: PreparedFcnn, index: int) -> np.ndarray:
    """Return the kernel values of a module of the release."""
    hidden, output = prepared.weights(index)
    return np.concatenate([*(layer.weight.numpy().ravel() for layer in hidden),
                           _columns(prepared.network, output.weight)])  # fmt: skip


def _columns(parent: Network, weight: torch.Tensor) -> np.ndarray:
    """Return the values of an output layer, with zeros for the columns that a module does not have."""
    whole = np.zeros((parent.classes, parent.spec.features), np.float32)
    whole[: len(weight)] = weight.detach().numpy()
    return whole.ravel()


def pairs() -> dict[str, Any]:
    """Compose one class of MNIST and one of KMNIST, for all 100 pairs (Table 3), without labels.

    Modules vote by their margins alone, and with domain evidence.
    """
    sides = {}
    for name in ("MNIST", "KMNIST"):
        given, held = images(name)
        parent = network(f"{name}-{PAIR_LAYERS}")
        sides[name] = decompose(parent, given, keep=0.5), held
    reference = _published_pairs()
    rows = []
    for i in range(10):
        for j in range(10):
            both = {f"MN{i}": sides["MNIST"][0][i], f"KM{j}": sides["KMNIST"][0][j]}
            parts = [(held[0][held[1] == c], label) for (_, held), c, label in
                     zip(sides.values(), (i, j), both, strict=True)]  # fmt: skip
            x = np.concatenate([part for part, _ in parts])
            y = np.concatenate([[label] * len(part) for part, label in parts])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that margins of two parents are not calibrated
                alone, domain = compose(both).without_domain(), compose(both)
                found = {
                    name: float((c.predict(x) == y).mean()) for name, c in (("margins", alone), ("domain", domain))
                }
            rows.append({"pair": list(both), **found, **reference.get(f"MN{i},KM{j}", {})})
    return {"layers": PAIR_LAYERS, "pairs": rows}


def behind(model: Model) -> dict[str, Any]:
    """Compare the modules of a recurrent network with a hidden dense layer, with and without pruning that layer."""
    data, parent = model.examples, model.network()
    sizes = []
    for keep in KEEPS:
        found: dict[str, Any] = {"keep": keep}
        for layers in ("recurrent", "all"):
            parts = decompose(parent, data.train, keep=keep, layers=layers)
            found[layers] = _figures(parent, parts, data.test)
        sizes.append(found)
    counted = data.test[1] >= 0
    claimed, true = parent.predict_proba(data.test[0])[counted] > 0.5, data.test[1][counted]
    return {
        "data": model.data,
        "io": str(parent.io),
        "hidden": model.hidden,
        "accuracy": float((parent.predict_index(data.test[0])[counted] == true).mean()),
        "parent_f1": float(np.mean([detection(claimed[:, j], true == j).f1 for j in range(parent.classes)])),
        "sizes": sizes,
    }


def _published_pairs() -> dict[str, dict[str, float]]:
    names = {"composed accuracy %": "published", "trained-from-scratch accuracy %": "scratch"}
    found: dict[str, dict[str, float]] = {}
    with (files.shared() / "reference" / "fcnn" / "published_lineage.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            if row["table"] == "Table 3" and row["metric"] in names:
                found.setdefault(row["item"], {})[names[row["metric"]]] = float(row["value"]) / 100
    return found
