"""Examples from files: ``.npz`` with ``x``, ``y`` and optional ``labels``. Nothing in a file is executed."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unbraid.errors import DataError


@dataclass(frozen=True)
class Examples:
    """What a data file holds.

    Attributes:
        x: inputs (N, ...).
        y: labels (N, ...), or None where the file has none.
        labels: names of the classes, or None.
    """

    x: np.ndarray
    y: np.ndarray | None
    labels: list[str] | None


def read_examples(path: str | os.PathLike[str], x: str = "x", y: str = "y", need_labels: bool = True) -> Examples:
    """Read a data file.

    Args:
        path: an ``.npz`` file.
        x: name of the inputs in it.
        y: name of the labels in it.
        need_labels: whether a file without labels is refused.

    Raises:
        DataError: the file is missing, damaged, of another kind, or lacks an array; the message says what it has.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise DataError(
            f"{path}: expected an .npz file with arrays {x!r} and {y!r}, found {path.suffix or 'no ending'}."
        )
    arrays = _arrays(path, [x, y, "labels"])
    if x not in arrays or (need_labels and y not in arrays):
        missing = x if x not in arrays else y
        raise DataError(f"{path}: no array {missing!r}; it holds {_names(path)}. Name it with --x and --y.")
    labels = arrays.get("labels")
    return Examples(arrays[x], arrays.get(y), None if labels is None else [str(v) for v in labels.tolist()])


def _names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist()]


def _arrays(path: Path, wanted: list[str]) -> dict[str, np.ndarray]:
    try:
        with zipfile.ZipFile(path) as archive:
            present = {info.filename: info for info in archive.infolist()}
            return {name: _array(archive, present[f"{name}.npy"], path) for name in wanted if f"{name}.npy" in present}
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.") from None
    except (OSError, zipfile.BadZipFile, ValueError, EOFError, MemoryError) as error:
        raise DataError(f"{path}: not a readable .npz file ({error}).") from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> np.ndarray:
    """One array, its declared size compared with its stored size before anything is allocated."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(file)
        declared = int(np.prod(shape, dtype=object)) * dtype.itemsize
        if dtype.hasobject:
            raise DataError(f"{path}: {info.filename} holds Python objects, which are never loaded: save plain arrays.")
        if declared > info.file_size or info.file_size > 1000 * info.compress_size + 2**20:
            raise DataError(f"{path}: {info.filename} declares {declared} bytes, far more than the file holds.")
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
