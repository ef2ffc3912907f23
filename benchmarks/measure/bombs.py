"""Measure memory and time of files that are small on disk and large when they are read.

``python -m benchmarks.measure.bombs`` stores ``results/bombs.json``. ``--before SOURCE`` also measures another version
of the package, given by the folder that holds its ``unbraid``. Without it, older figures of that version stay. Each
file is read in a process of its own with 6 GiB of address space and 60 seconds of CPU time.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import files

PATH = files.RESULTS / "bombs.json"
SPACE, SECONDS = 6 * 2**30, 60
ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
CASES = Path(os.environ.get("UNBRAID_SHARED") or ROOT.parent / "shared") / "cases" / "attack"

READ = {
    "data": "import importlib.util as u; name = 'unbraid.data.files' if u.find_spec('unbraid.data') and "
    "u.find_spec('unbraid.data').submodule_search_locations else 'unbraid.data_files'; "
    "import importlib; importlib.import_module(name).read_examples(path)",
    "model": "unbraid.load(path)",
    "folder": "unbraid.load_decomposition(path)",
    "compose": "unbraid.compose([unbraid.load_module(path)])",
    "vocabulary": "unbraid.Vocabulary.from_file(path).encode(['aaa'])",
}
CHILD = """
import resource, sys, time
path = sys.argv[1]
import numpy, h5py, tokenizers, unbraid
space, seconds = int(sys.argv[2]), int(sys.argv[3])
base, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
resource.setrlimit(resource.RLIMIT_AS, (space, space))
resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
try:
    {read}
    outcome = "read"
except BaseException as error:
    outcome = "refused" if isinstance(error, unbraid.UnbraidError) else type(error).__name__
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(outcome, max(0, peak - base) // 1024, round(time.process_time() - start, 2))
"""


def tokenizer(folder: Path) -> Path:
    """Normalizers that multiply the text by ten, eight times."""
    path = folder / "tokenizer.json"
    grow = [{"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 10}] * 8
    model = {"type": "WordLevel", "vocab": {"[UNK]": 0, "a": 1}, "unk_token": "[UNK]"}
    path.write_text(
        json.dumps({"version": "1.0", "normalizer": {"type": "Sequence", "normalizers": grow}, "model": model})
    )
    return path


def wide_csv(folder: Path) -> Path:
    """100,000 columns and 1,000 rows that leave them empty."""
    path = folder / "wide.csv"
    path.write_text("x,y," + ",".join(f"{n:x}" for n in range(100_000)) + "\n" + "a,0\n" * 1_000)
    return path


def npz(folder: Path) -> Path:
    """An array of 1.2 GB of zeros, compressed a thousand times."""
    path = folder / "zeros.npz"
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<i8", "fortran_order": False, "shape": (150 * 2**20,)})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as file:
            file.write(header.getvalue())
            for _ in range(1_200):  # 150 random bytes, for a ratio of less than 1,000
                file.write(os.urandom(150) + bytes(2**20 - 150))
        labels = io.BytesIO()
        np.save(labels, np.zeros(3, int))
        archive.writestr("y.npy", labels.getvalue())
    return path


def keras(folder: Path) -> Path:
    """A .keras archive whose weights unpack to 1 GB of zeros."""
    path = folder / "zeros.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        layers = [
            {"class_name": "LSTM", "config": {"name": "lstm", "units": 4, "batch_input_shape": [None, 5, 3]}},
            {"class_name": "Dense", "config": {"name": "out", "units": 3, "activation": "softmax"}},
        ]
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": layers}}))
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.5.0"}))
        with archive.open("model.weights.h5", "w", force_zip64=True) as file:
            file.write(b"\x89HDF\r\n\x1a\n")
            for _ in range(1_024):
                file.write(bytes(2**20))
    return path


def manifest(folder: Path) -> Path:
    """A folder whose manifest lists a million parents."""
    source = next(path for path in sorted((DATA / "format1").iterdir()) if (path / "unbraid.json").exists())
    target = folder / "parts"
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    found = json.loads((target / "unbraid.json").read_text())
    found["parents"] = [0] * 10**6
    (target / "unbraid.json").write_text(json.dumps(found, separators=(",", ":")))
    return target


def byte(folder: Path) -> Path:
    """A Keras file with one changed byte, which makes the library HDF5 ask for 4 GiB."""
    return Path(shutil.copy(CASES / "11-vlen-4-GiB.h5", folder / "byte.h5"))


def index(folder: Path) -> Path:
    """A module whose vocabulary gives the index 2^31 to unknown words."""
    return Path(shutil.copytree(CASES / "15-unknown-index-hang", folder / "index"))


BOMBS: dict[str, tuple[str, str, Callable[[Path], Path]]] = {
    "tokenizer.json, eight normalizers that multiply the text": ("F09", "vocabulary", tokenizer),
    ".csv, 100,000 columns and 1,000 short rows": ("F13", "data", wide_csv),
    ".npz, 1.2 GB of zeros": ("F14", "data", npz),
    ".keras, 1 GB of zeros": ("-", "model", keras),
    "manifest with a million parents": ("F12", "folder", manifest),
    ".h5, one byte changed": ("F11", "model", byte),
    "vocabulary with the index 2^31": ("F15", "compose", index),
}


def measured(path: Path, read: str, source: Path | None) -> dict[str, Any]:
    """Read a file in a new process.

    Args:
        path: the file or folder.
        read: a key of :data:`READ`.
        source: folder that holds the package ``unbraid``; None for this version.

    Returns:
        outcome, MiB of memory above that of the imports, and seconds of CPU time.
    """
    command = [sys.executable, "-c", CHILD.format(read=READ[read]), str(path), str(SPACE), str(SECONDS)]
    here = str(source or ROOT / "src")
    environment = {**os.environ, "PYTHONPATH": here, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    words = done.stdout.split()
    if len(words) != 3:
        most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        return {"outcome": "no end" if done.returncode == -24 else "aborted", "mib": most, "seconds": SECONDS}
    return {"outcome": words[0], "mib": int(words[1]), "seconds": float(words[2])}


def main(given: list[str] | None = None) -> None:
    """Measure all files and store the result."""
    parser = argparse.ArgumentParser(description="Measure memory and time of files that are large when they are read.")
    parser.add_argument("--before", type=Path, metavar="SOURCE", help="folder of another version's package")
    options = parser.parse_args(given)
    stored = json.loads(PATH.read_text()) if PATH.exists() else {}
    found: dict[str, Any] = {}
    for name, (fault, read, make) in BOMBS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = make(Path(folder))
            size = sum(p.stat().st_size for p in ([path] if path.is_file() else path.iterdir()))
            before = stored.get(name, {}).get("before")
            if options.before is not None:
                before = measured(path, read, options.before)
            found[name] = {"fault": fault, "bytes": size, "before": before, "after": measured(path, read, None)}
        print(name, found[name], file=sys.stderr, flush=True)
        files.write(PATH, {**stored, **found})


if __name__ == "__main__":
    main()
