"""Compact modules (strategy="reconstruct") of the authors' CLINC models, by share of nodes; plain removal beside."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

import numpy as np
from rich.progress import track

from benchmarks import files
from benchmarks.clinc import MODELS, f1
from unbraid import Network, compose, decompose, evaluate

ALL_MODELS = {**MODELS, "vanilla-2": "vanilla_rnn_many_to_one_model2"}
KEEPS = (0.5, 0.3, 0.15)
SEEDS = 3


def run(again: bool) -> None:
    """Measure every model and size that has no result yet."""
    data = files.clinc()
    for model, keep in track(list(product(ALL_MODELS, KEEPS)), "compact"):
        path = files.RESULTS / "compact" / f"{model}-{keep}.json"
        if path.exists() and not again:
            continue
        network = files.reference_model(ALL_MODELS[model])
        files.write(
            path, {"model": model, "keep": keep, "runs": [_measure(network, data, keep, s) for s in range(SEEDS)]}
        )


def _measure(network: Network, data: dict[str, np.ndarray], keep: float, seed: int) -> dict[str, Any]:
    examples, test = (data["X"], data["Y"]), (data["x"], data["y"])
    started = time.perf_counter()
    parts = decompose(network, examples, strategy="reconstruct", keep=keep, head="softmax", seed=seed)
    seconds = time.perf_counter() - started
    result = evaluate(compose(parts), test, against=network).to_dict()
    plain = {}
    for strategy in ("paper", "magnitude", "random"):
        others = decompose(network, examples, strategy=strategy, max_removed=1 - keep, head="softmax", seed=seed)
        plain[strategy] = evaluate(compose(others), test, against=network).to_dict()
    own = network.predict_index(data["x"])
    parent = [f1(own == j, data["y"] == j) for j in range(network.classes)]
    return {"seed": seed, "seconds": seconds, "parent_f1": float(np.mean(parent)), "plain": plain, **result}
