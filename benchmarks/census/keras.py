"""Census of Keras constructions: read each file, compare predictions, decompose, save, load and compose.

``python -m benchmarks.census.keras FOLDER`` reads what :mod:`benchmarks.census.keras_models` wrote and writes
``benchmarks/results/census_keras.json``.
"""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

import unbraid
from unbraid.errors import UnbraidError
from unbraid.networks.network import Network

RESULT = Path(__file__).parents[1] / "results" / "census_keras.json"
TOLERANCE = 1e-4


def check_predictions(path: Path) -> tuple[Network, Any]:
    """Load a file and compare its predictions with those of Keras; returns the network and its inputs."""
    stored = np.load(path.with_suffix(".npz"))
    output = {"output": "last"} if "two_outputs" in path.name else {}
    network = unbraid.load(path, **output)
    arrays = [stored[name] for name in sorted(stored.files) if name != "y"]
    x = tuple(arrays) if len(arrays) > 1 else arrays[0]
    apart = float(np.abs(network.predict_proba(x) - stored["y"]).max())
    if not apart <= TOLERANCE:
        raise AssertionError(f"predictions differ by {apart:.2g}")
    return network, x


def targets(network: Network, x: Any) -> np.ndarray:
    """Every label in turn: an untrained network may decide for one class alone."""
    shape = network.logits(x).shape
    turn = np.arange(np.prod(shape[:-1])).reshape(shape[:-1])
    if network.independent:
        return (turn[..., None] + np.arange(shape[-1])) % 2 == 0
    return np.asarray(turn % network.classes)


def check_decomposition(network: Network, x: Any, strategy: str) -> None:
    """Decompose, compose, save and load; what is loaded must predict as what was saved."""
    x = (
        tuple(np.tile(part, (5, *[1] * (part.ndim - 1))) for part in x)
        if isinstance(x, tuple)
        else np.tile(x, (5, *[1] * (x.ndim - 1)))
    )
    parts = unbraid.decompose(network, (x, targets(network, x)), strategy=strategy)
    expected = unbraid.compose(parts).predict_proba(x)
    with tempfile.TemporaryDirectory() as folder:
        parts.save(Path(folder) / "parts")
        loaded = unbraid.load_decomposition(Path(folder) / "parts")
    found = unbraid.compose(loaded).predict_proba(x)
    if not np.allclose(found, expected, atol=1e-6, equal_nan=True):
        raise AssertionError(f"{strategy}: a loaded composition predicts otherwise")


def tried(path: Path, whole: bool = True) -> dict[str, str]:
    """Outcome of each step for one file."""
    found: dict[str, str] = {}
    try:
        step = "predict"
        network, x = check_predictions(path)
        found[step] = "ok"
        for step in ("reconstruct", "paper") if whole else ():
            check_decomposition(network, x, step)
            found[step] = "ok"
    except (UnbraidError, AssertionError) as error:
        found[step] = f"{type(error).__name__}: {error}"
    except Exception as error:
        found[step] = f"CRASH {type(error).__name__}: {error}: {traceback.format_exc().splitlines()[-3].strip()}"
    return found


def main(folder: str, only: str = "", decomposed: str = "") -> None:
    """Try all files of a folder.

    Args:
        folder: where they are.
        only: part of the names of the files to try.
        decomposed: part of the names of those that are also decomposed.
    """
    warnings.simplefilter("ignore")
    paths = sorted(p for p in Path(folder).iterdir() if p.suffix in (".keras", ".h5") and only in p.name)
    results = {}
    for path in paths:
        results[path.name] = tried(path, decomposed in path.name)
        wrong = {step: text for step, text in results[path.name].items() if text != "ok"}
        if wrong:
            print(path.name, wrong, flush=True)
    passed = Counter(step for found in results.values() for step, text in found.items() if text == "ok")
    constructions = sorted({name.split("-")[1] for name in results})
    summary = {"files": len(results), "constructions": len(constructions), **passed}
    summary["decomposed files"] = sum(decomposed in name for name in results)
    summary["all steps"] = sum(all(text == "ok" for text in found.values()) for found in results.values())
    print(json.dumps(summary))
    if not only:
        refused = {n: found for n, found in results.items() if any(text != "ok" for text in found.values())}
        RESULT.write_text(
            json.dumps({"summary": summary, "constructions": constructions, "not passed": refused}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
