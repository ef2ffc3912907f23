"""Paths of inputs and results. Each result is one JSON file; writes are atomic."""

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
from benchmarks.datasets import downloading

ROOT = Path(__file__).parent
RESULTS = ROOT / "results"


def shared() -> Path:
    """Return the folder with data sets and reference models: $UNBRAID_SHARED, or ``../shared`` next to the project."""
    place = _shared_place()
    if not place.is_dir():
        raise SystemExit(f"no data at {place}: set UNBRAID_SHARED to the folder with data/ and reference/.")
    return place


def _shared_place() -> Path:
    return Path(os.environ.get("UNBRAID_SHARED", ROOT.parent.parent / "shared"))


def cache_folder() -> Path:
    """Return $UNBRAID_CACHE, or ``unbraid`` in the cache folder of the user."""
    return Path(os.environ.get("UNBRAID_CACHE") or Path.home() / ".cache" / "unbraid")


def data_set(name: str) -> Path:
    """Return the folder of a data set: in $UNBRAID_DATA, in ``data`` of the shared folder, or downloaded.

    Data sets are downloaded only with UNBRAID_DOWNLOAD=1, because some licenses forbid some uses.
    """
    given, downloads = os.environ.get("UNBRAID_DATA"), cache_folder() / "data"
    places = [*([Path(given)] if given else []), _shared_place() / "data", downloads]
    for place in places:
        if (place / name).is_dir():
            return place / name
    if downloading.SOURCES[name].files and os.environ.get("UNBRAID_DOWNLOAD") == "1":
        return downloading.fetch(name, downloads / name)
    raise SystemExit(f"no data set {name} in {', '.join(map(str, places))}. {_advice(name)}")


def _advice(name: str) -> str:
    source = downloading.SOURCES[name]
    put = f"Set UNBRAID_DATA to a folder with {name}/: {source.form}."
    if source.files:
        return f"{put} Or set UNBRAID_DOWNLOAD=1 to download it from {source.publisher}; licence: {source.licence}."
    made = f"It was made from what {source.publisher} has; licence: {source.licence}."
    return f"{put} {made} There are no such files to download."


def clinc() -> dict[str, np.ndarray]:
    """Load the CLINC domains in the vocabulary of the reference models: X, Y for training and x, y for testing."""
    with np.load(shared() / "reference" / "clinc_encoded.npz") as arrays:
        return {name: arrays[name] for name in arrays}


def reference_model(name: str) -> unbraid.Network:
    """Load one of the authors' trained models."""
    return unbraid.load(shared() / "reference" / "models" / f"{name}.h5")


def write(path: Path, result: dict[str, Any]) -> None:
    """Store a result, with a description of the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**result, "measured_on": _machine()}, indent=1, sort_keys=True) + "\n")
    temporary.replace(path)


def read_all(folder: str, root: Path | None = None) -> list[dict[str, Any]]:
    """Return all results of one kind, in the order of their file names."""
    return [json.loads(path.read_text()) for path in sorted(((root or RESULTS) / folder).glob("*.json"))]


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
