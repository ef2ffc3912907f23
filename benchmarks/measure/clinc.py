"""Measure the authors' models on CLINC (M:1): all cells, modes, settings and heads, and baselines of equal size."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks import files
from unbraid import DecompositionConfig, Network, compose, decompose, evaluate

MODELS = {
    "LSTM-1": "lstm_many_to_one_model1",
    "GRU-1": "gru_many_to_one_model1",
    "vanilla-1": "vanilla_rnn_many_to_one_model1",
    "ReLU-1": "relu_many_to_one_model1",
}
MODES, SETTINGS, HEADS = ("rolled", "unrolled"), ("paper", "release"), ("mean", "softmax")
STRATEGIES = ("paper", "magnitude", "random")
SEEDS = 3


def run(again: bool) -> None:
    """Measure each combination without a result."""
    data = files.clinc()
    networks: dict[str, Network] = {}
    wanted = list(product(MODELS, MODES, SETTINGS, HEADS, STRATEGIES))
    for model, mode, settings, head, strategy in track(wanted, "CLINC"):
        path = files.RESULTS / "clinc" / f"{model}-{mode}-{settings}-{head}-{strategy}.json"
        if path.exists() and not again:
            continue
        network = networks.setdefault(model, files.reference_model(MODELS[model]))
        key = {"model": model, "mode": mode, "settings": settings, "head": head, "strategy": strategy}
        files.write(path, {**key, "runs": [_measure(network, data, key, seed) for seed in _seeds(key)]})


def _seeds(key: dict[str, str]) -> range:
    fixed = key["settings"] == "release" and key["strategy"] != "random"  # the authors' code samples in file order
    return range(1 if fixed else SEEDS)


def _measure(network: Network, data: dict[str, np.ndarray], key: dict[str, str], seed: int) -> dict[str, Any]:
    make = DecompositionConfig.release if key["settings"] == "release" else DecompositionConfig.of
    config = make(mode=key["mode"], head=key["head"], strategy=key["strategy"], seed=seed)
    started = time.perf_counter()
    parts = decompose(network, (data["X"], data["Y"]), config=config)
    seconds = time.perf_counter() - started
    result = evaluate(compose(parts), (data["x"], data["y"]), against=network).to_dict()
    own = network.predict_index(data["x"])
    parent = [f1(own == j, data["y"] == j) for j in range(network.classes)]
    return {"seed": seed, "decompose_seconds": seconds, "parent_f1": float(np.mean(parent)), **result}


def f1(claimed: np.ndarray, true: np.ndarray) -> float:
    return float(2 * (claimed & true).sum() / max(claimed.sum() + true.sum(), 1))
