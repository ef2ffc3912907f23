"""Census of Keras constructions: read, compare predictions, decompose, save, load, compose, shrink, and back to Keras.

``python -m benchmarks.census.keras FOLDER`` reads what :mod:`benchmarks.census.keras_models` wrote and writes
``benchmarks/results/census_keras.json``. Outcomes are kept in ``FOLDER/outcomes.jsonl``, so that a run can be resumed.
Keras 3 on torch loads the files that are written; it needs the extra keras.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

import unbraid
from unbraid.errors import UnbraidError
from unbraid.networks.network import Network

RESULT = Path(__file__).parents[1] / "results" / "census_keras.json"
TOLERANCE = 1e-4
os.environ.setdefault("KERAS_BACKEND", "torch")


def check_predictions(path: Path) -> tuple[Network, Any]:
    """Load a file and compare its predictions with those of Keras; returns the network and its inputs."""
    stored = np.load(path.with_suffix(".npz"))
    output = {"output": "last"} if "two_outputs" in path.name or "multi_task" in path.name else {}
    network = unbraid.load(path, **output)
    arrays = [stored[name] for name in sorted(stored.files) if name != "y"]
    x = tuple(arrays) if len(arrays) > 1 else arrays[0]
    found = predicted(network, x)
    wanted = np.exp(stored["y"]) if "log_softmax" in path.name else stored["y"]
    apart = float(np.abs(found.reshape(wanted.shape) - wanted).max())
    if not apart <= TOLERANCE:
        raise AssertionError(f"predictions differ by {apart:.2g}")
    return network, x


def predicted(model: Network | unbraid.Composition, x: Any) -> np.ndarray:
    """Return probabilities, or the numbers of a regression."""
    return np.asarray(model.predict(x) if model.task == "regression" else model.predict_proba(x))


def targets(network: Network, x: Any) -> np.ndarray:
    """Every label in turn: an untrained network may decide for one class alone."""
    shape = network.logits(x).shape
    turn = np.arange(np.prod(shape[:-1])).reshape(shape[:-1])
    if network.task == "regression":
        return np.sin(np.arange(np.prod(shape)).reshape(shape))
    if network.independent:
        return (turn[..., None] + np.arange(shape[-1])) % 2 == 0
    return np.asarray(turn % network.classes)


def repeated(x: Any, times: int = 5) -> Any:
    """Give the inputs several times."""
    if isinstance(x, tuple):
        return tuple(repeated(part, times) for part in x)
    return np.tile(x, (times, *[1] * (x.ndim - 1)))


def check_decomposition(network: Network, x: Any, strategy: str) -> unbraid.Composition:
    """Decompose, compose, save and load; what is loaded must predict as what was saved."""
    x = repeated(x)
    parts = unbraid.decompose(network, (x, targets(network, x)), strategy=strategy)
    composed = unbraid.compose(parts)
    expected = predicted(composed, x)
    unbraid.evaluate(composed, (x, targets(network, x)))
    with tempfile.TemporaryDirectory() as folder:
        parts.save(Path(folder) / "parts")
        loaded = unbraid.load_decomposition(Path(folder) / "parts")
    found = predicted(unbraid.compose(loaded), x)
    if not np.allclose(found, expected, atol=1e-6, equal_nan=True):
        raise AssertionError(f"{strategy}: a loaded composition predicts otherwise")
    return composed


def check_shrinking(network: Network, x: Any) -> Network:
    """Keep half of the hidden units; the smaller network has fewer weights and finite predictions of the same shape."""
    x = repeated(x)
    small = unbraid.shrink(network, x, keep=0.5)
    assert isinstance(small, Network)
    sizes = [sum(w.numel() for w in one.weights().values()) for one in (network, small)]
    found, whole = predicted(small, x), predicted(network, x)
    if found.shape != whole.shape or np.isinf(found).any() or not np.array_equal(np.isnan(found), np.isnan(whole)):
        raise AssertionError("the smaller network gives no probabilities of the same shape")
    units = [[layer.units for layer in one.layers.values()] for one in (network, small)]
    if units[0] == units[1] or sizes[0] <= sizes[1]:
        raise AssertionError(f"{sizes[0]} weights, afterwards {sizes[1]}; units {units[0]}, afterwards {units[1]}")
    return small


def check_export(models: dict[str, Network | unbraid.Composition], x: Any) -> None:
    """Write each model as a Keras file; Keras must load it and predict the same."""
    import keras

    for kind, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            unbraid.export_keras(model, Path(folder) / "model.keras")
            loaded = keras.models.load_model(Path(folder) / "model.keras")
        wanted = predicted(model, x)
        found = loaded.predict(list(x) if isinstance(x, tuple) else x, verbose=0).reshape(wanted.shape)
        apart = float(np.nanmax(np.abs(found - wanted)))
        if not apart <= TOLERANCE:
            raise AssertionError(f"the Keras file of the {kind} predicts otherwise, by {apart:.2g}")


def check_onnx(models: dict[str, Network | unbraid.Composition], x: Any) -> None:
    """Write each model as one ONNX file, which is compared with the model as it is written."""
    for model in models.values():
        if isinstance(model, unbraid.Composition) and model.uses_domain:
            model = model.without_domain()
        with tempfile.TemporaryDirectory() as folder:
            unbraid.export_onnx(model, Path(folder) / "model.onnx", example=repeated(x))


def tried(path: Path, whole: bool = True, portable: bool = False) -> dict[str, str]:
    """Outcome of each step for one file; ``portable`` adds the export to ONNX, which takes the longest."""
    found: dict[str, str] = {}
    kept: dict[str, Any] = {}

    def predict() -> None:
        kept["network"], kept["x"] = check_predictions(path)

    def reconstruct() -> None:
        kept["composition"] = check_decomposition(kept["network"], kept["x"], "reconstruct")

    def paper() -> None:
        if kept["network"].task == "regression":  # it compares classes
            return
        check_decomposition(kept["network"], kept["x"], "paper")

    def shrink() -> None:
        kept["smaller network"] = check_shrinking(kept["network"], kept["x"])

    def back() -> None:
        models = {name: kept[name] for name in ("network", "smaller network") if name in kept}
        if "composition" in kept:
            models["composition"] = kept["composition"].fuse()
        check_export(models, kept["x"])

    def onnx() -> None:
        check_onnx({name: kept[name] for name in ("network", "composition") if name in kept}, kept["x"])

    steps = {"predict": predict, "reconstruct": reconstruct, "paper": paper, "shrink": shrink, "back to Keras": back}
    steps |= {"ONNX": onnx} if portable else {}
    for step, check in steps.items() if whole else [("predict", predict)]:
        try:
            check()
            found[step] = "ok"
        except (UnbraidError, AssertionError) as error:
            found[step] = f"{type(error).__name__}: {error}"
        except Exception as error:
            found[step] = f"CRASH {type(error).__name__}: {error}: {traceback.format_exc().splitlines()[-3].strip()}"
        if found["predict"] != "ok":
            break
    return found


def main(folder: str, only: str = "", decomposed: str = ".keras", result: str = RESULT.name, onnx: str = "") -> None:
    """Try all files of a folder.

    Args:
        folder: where they are.
        only: part of the names of the files to try.
        decomposed: part of the names of those on which all steps are tried; of the others predictions are compared.
        result: name of the result file.
        onnx: part of the names of those that are exported to ONNX; none by default.
    """
    warnings.simplefilter("ignore")
    paths = [p for p in Path(folder).iterdir() if p.suffix in (".keras", ".h5") and only in p.name]
    paths.sort(key=lambda p: (decomposed not in p.name, p.name))
    kept = Path(folder) / "outcomes.jsonl"
    lines = kept.read_text().splitlines() if kept.exists() else []
    results: dict[str, dict[str, str]] = dict(map(json.loads, lines))
    for path in paths:
        if path.name in results:
            continue
        results[path.name] = tried(path, decomposed in path.name, bool(onnx) and onnx in path.name)
        with kept.open("a") as file:
            file.write(json.dumps([path.name, results[path.name]]) + "\n")
        wrong = {step: text for step, text in results[path.name].items() if text != "ok"}
        print(path.name, wrong or "ok", flush=True)
    write(results, RESULT.with_name(result), decomposed)


def write(results: dict[str, dict[str, str]], path: Path = RESULT, decomposed: str = ".keras") -> None:
    """Write the counts and each refusal to the result file; ``decomposed`` as for :func:`main`."""
    whole = [found for name, found in results.items() if decomposed in name]
    steps = ("predict", "reconstruct", "paper", "shrink", "back to Keras", "ONNX")
    passed = {step: sum(found.get(step) == "ok" for found in results.values()) for step in steps}
    constructions = sorted({name.split("-")[1] for name in results})
    summary = {
        "files": len(results),
        "constructions": len(constructions),
        "files with all steps": len(whole),
        **passed,
        "pass": sum(all(text == "ok" for text in found.values()) for found in results.values()),
        "pass of those with all steps": sum(all(text == "ok" for text in found.values()) for found in whole),
        "pass of these without ONNX": sum(
            all(text == "ok" for step, text in found.items() if step != "ONNX") for found in whole
        ),
    }
    print(json.dumps(summary))
    refused = {n: found for n, found in sorted(results.items()) if any(text != "ok" for text in found.values())}
    told = {name: {step: text for step, text in found.items() if text != "ok"} for name, found in refused.items()}
    found = {"summary": summary, "constructions": constructions, "not passed": told}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
