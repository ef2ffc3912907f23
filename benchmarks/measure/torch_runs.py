"""Check that PyTorch models are decomposed exactly: all cases of torch_cases.py, rolled and unrolled.

For each model, decisions of unpruned modules are compared with those of the model in plain PyTorch. Saved modules are
loaded in a new process. ONNX files, sizes and seconds are measured too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track

from benchmarks import files
from benchmarks.measure import torch_refusals
from benchmarks.measure.clinc import MODES
from benchmarks.measure.torch_cases import CASES, Case
from unbraid import Network, UnbraidError, compose, decompose, load_module
from unbraid.decomposition.decomposition import Decomposition
from unbraid.export.onnx import export_onnx

INPUTS, EXAMPLES, CAP, SAMPLES = 1000, 8, 0.3, 50


def run(again: bool) -> None:
    """Measure each model without a result."""
    for name in track(CASES, "own PyTorch models"):
        path = files.RESULTS / "torch" / f"{name}.json"
        if not path.exists() or again:
            files.write(path, measure(name, CASES[name]))
    torch_refusals.run(again)


def measure(name: str, case: Case) -> dict[str, Any]:
    torch.set_num_threads(1)
    module = case.trained()
    x, y = inputs(case)
    own = case.decisions(module, x)
    started = time.perf_counter()
    network = Network.from_torch(module, example=case.make(np.random.default_rng(1), EXAMPLES)[0])
    seconds = time.perf_counter() - started
    with tempfile.TemporaryDirectory() as folder:
        modes = {mode: _one_mode(case, network, (x, y), own, mode, Path(folder)) for mode in MODES}
        again = _in_fresh_process(name, Path(folder))
        for mode in MODES:
            modes[mode]["loaded_equal"] = all(again[mode])
            modes[mode]["loaded"] = len(again[mode])
    return {
        "model": name,
        "does": (case.build.__doc__ or "").strip(),
        "weights": sum(p.numel() for p in module.parameters()),
        "bytes": sum(p.nbytes for p in module.parameters()),
        "layers": {n: layer.units for n, layer in network.layers.items()},
        "output": network.spec.output,
        "io": network.io.value,
        "labels": len(network.labels),
        "inputs": INPUTS,
        "decisions": int(own.size),
        "decided": np.unique(own, return_counts=True)[1].tolist(),
        "from_torch_seconds": seconds,
        "modes": modes,
    }


def inputs(case: Case) -> Any:
    """Make 1,000 inputs and labels; they are always the same."""
    return case.make(np.random.default_rng(0), INPUTS)


def decided(case: Case, parts: Decomposition, x: Any) -> np.ndarray:
    """Compute the decisions of modules in the shape of the model's decisions: the vote, or the claim of each label."""
    if case.labels:
        return np.stack([part.claims(x) for part in parts.values()], axis=-1)
    return compose(parts).predict_index(x)


def _one_mode(case: Case, network: Network, examples: Any, own: np.ndarray, mode: str, folder: Path) -> dict[str, Any]:
    x, _ = examples
    whole = decompose(network, examples, mode=mode, max_removed=0, samples_per_class=SAMPLES)
    started = time.perf_counter()
    parts = decompose(network, examples, mode=mode, max_removed=CAP, samples_per_class=SAMPLES)
    seconds = time.perf_counter() - started
    for place, part in enumerate(parts.values()):
        part.save(folder / f"{mode}-{place}")
        np.save(folder / f"{mode}-{place}.npy", part.margins(x))
    kept = [part.retention() for part in parts.values()]
    return {
        "untouched_differences": int((decided(case, whole, x) != own).sum()),
        "decompose_seconds": seconds,
        "agreement": float((decided(case, parts, x) == own).mean()),
        "kept_nodes": float(np.mean([r.nodes for r in kept])),
        "kept_recurrent_weights": float(np.mean([r.recurrent_weights for r in kept])),
        "module_bytes": sum(f.stat().st_size for f in (folder / f"{mode}-0").iterdir()),
        **_exported(case, next(iter(parts.values()))),
    }


def _exported(case: Case, part: Any) -> dict[str, Any]:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path, said = Path(folder) / "module.onnx", "verified"
        try:
            export_onnx(part, path, example=case.make(np.random.default_rng(1), EXAMPLES)[0], check=True)
        except UnbraidError as error:
            said = f"{type(error).__name__}: {error}"
        size = path.stat().st_size if path.exists() else None
    return {"onnx": said, "onnx_bytes": size, "onnx_seconds": time.perf_counter() - started}


def _in_fresh_process(name: str, folder: Path) -> dict[str, list[bool]]:
    """Return for each mode whether each saved module gives bitwise equal results in a new process."""
    command = [sys.executable, "-m", "benchmarks.measure.torch_runs", name, str(folder)]
    subprocess.run(command, check=True, capture_output=True, text=True, cwd=files.ROOT.parent)
    found: dict[str, list[bool]] = {mode: [] for mode in MODES}
    for path in sorted(folder.glob("*.again.npy")):
        before = np.load(path.with_name(path.name.replace(".again", "")))
        found[path.name.partition("-")[0]].append(np.array_equal(before, np.load(path), equal_nan=True))
    return found


def _alone(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    case = CASES[name]
    x, _ = inputs(case)
    for path in [f for f in folder.iterdir() if f.is_dir()]:
        np.save(folder / f"{path.name}.again.npy", load_module(path, module=case.build()).margins(x))


if __name__ == "__main__":
    _alone(sys.argv[1], Path(sys.argv[2]))
