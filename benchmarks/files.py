"""Where inputs come from and results go. One result is one JSON, written whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

import unbraid

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"


def shared() -> Path:
    """The folder with data sets and reference models: $UNBRAID_SHARED, or ``../shared`` beside the project."""
    place = Path(os.environ.get("UNBRAID_SHARED", ROOT.parent.parent / "shared"))
    if not place.is_dir():
        raise SystemExit(f"no data at {place}: set UNBRAID_SHARED to the folder with data/ and reference/.")
    return place


def data() -> Path:
    """The folder with the data sets: $UNBRAID_DATA, or ``data`` in the shared one."""
    place = Path(os.environ.get("UNBRAID_DATA") or shared() / "data")
    if not place.is_dir():
        raise SystemExit(
            f"no data sets at {place}: set UNBRAID_DATA to the folder with clinc/, brown/, mathqa/, toxic/."
        )
    return place


def clinc() -> dict[str, np.ndarray]:
    """CLINC domains in the reference models' vocabulary: X, Y to train and x, y to test."""
    with np.load(shared() / "reference" / "clinc_encoded.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def reference_model(name: str) -> unbraid.Network:
    """One of the authors' trained models."""
    return unbraid.load(shared() / "reference" / "models" / f"{name}.h5")


def write(path: Path, result: dict[str, Any]) -> None:
    """Store a result with what it was measured on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**result, "measured_on": _machine()}, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def read_all(folder: str) -> list[dict[str, Any]]:
    """All results of one kind, in the order of their file names."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / folder).glob("*.json"))]


def _machine() -> dict[str, Any]:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "unbraid": unbraid.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "commit": commit.stdout.strip(),
    }
