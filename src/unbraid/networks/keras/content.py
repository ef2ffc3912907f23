"""What a model file is, by its first bytes: its name plays no part."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from unbraid.errors import FormatError, quoted
from unbraid.limits import check_size
from unbraid.networks.keras.heap import SIGNATURE

TORCH_ADVICE = (
    "a torch file holds weights without the code that runs them: build the module, fill it with "
    "unbraid.load_weights(module, path), and pass it to unbraid.Network.from_torch(module, example=...)"
)
WHOLE = "save the whole model with model.save('model.keras')"
_ZIP = b"PK\x03\x04"
_MEMBERS = {"config.json", "metadata.json", "model.weights.h5"}  # of a .keras file
_HEAD = 512  # bytes that are looked at

_TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_FOREIGN = {  # first bytes -> what the file is and what to do
    b"version https://git-lfs": "a Git LFS pointer instead of the file: run 'git lfs pull' in its repository",
    b"\x80": f"a pickle, as torch writes it; {TORCH_ADVICE}",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\x93NUMPY": f"a NumPy array, not a model: {WHOLE}",
    b"<!DOCTYPE": "a web page, not a model: download the file itself",
    b"<html": "a web page, not a model: download the file itself",
    b"{": f"JSON text, which holds no weights: {WHOLE}",
}
_FOREIGN_MEMBERS = {  # end of a zip member's name -> the same
    "data.pkl": f"a torch file; {TORCH_ADVICE}",
    ".npy": f"a NumPy archive, not a model: {WHOLE}",
    ".keras": "a zip file with a model inside: unpack it first",
    ".h5": "a zip file with a model inside: unpack it first",
    "saved_model.pb": f"a zipped TensorFlow SavedModel: load it in Keras and {WHOLE}",
}


def content_of(path: Path) -> Literal["hdf5", "zip"]:
    """Return whether a file is HDF5 (``.h5``) or a zip (``.keras``).

    Raises:
        FormatError: it is missing, unreadable, too large, not a regular file, or neither of the two.
    """
    if os.path.isdir(path):  # unlike Path.is_dir, False for a name that is too long
        saved = os.path.exists(path / "saved_model.pb")
        what = (
            f"TensorFlow SavedModel: load it in Keras and {WHOLE}" if saved else f"folder, expected one file: {WHOLE}"
        )
        raise FormatError(f"{quoted(path)} is a {what}.")
    head = _first_bytes(path)
    if head.startswith(SIGNATURE):
        return "hdf5"
    if head.startswith(_ZIP):
        return "zip"
    what = next((known for start, known in _FOREIGN.items() if head.lower().startswith(start.lower())), "")
    if not what and (path.suffix.lower() == ".onnx" or (head[:1] == b"\x08" and b"unbraid" in head)):
        what = (
            "an ONNX file, which only 'unbraid predict FILE DATA' and ONNX Runtime run: pass the model file or the "
            "folder that it was exported from"
        )
    elif not what and path.suffix.lower() in _TORCH_ENDINGS:
        what = f"not a Keras file; {TORCH_ADVICE}"
    elif not what:
        what = f"neither an HDF5 file nor a .keras archive ({'empty' if not head else 'damaged?'}): {WHOLE}"
    raise FormatError(f"{quoted(path.name)} is {what}.")


def foreign_archive(name: str, members: list[str]) -> FormatError | None:
    """Return the error for a zip file of another program; None if its members are those of a ``.keras`` file."""
    if _MEMBERS & set(members):
        return None
    for end, what in _FOREIGN_MEMBERS.items():
        if any(member.endswith(end) for member in members):
            return FormatError(f"{quoted(name)} is {what}.")
    return None


def _first_bytes(path: Path) -> bytes:
    """Read the start of a regular file; pipes and devices are not read."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        with open(os.open(path, flags), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FormatError(f"{quoted(path)} is not a regular file, expected a Keras model file (.h5 or .keras).")
            check_size(status.st_size, "file_bytes", quoted(path))
            return stream.read(_HEAD)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a NUL in the name
        raise FormatError(f"{quoted(path)} does not exist; expected a Keras model file (.h5 or .keras).") from None
    except OSError as error:
        raise FormatError(f"{quoted(path)} cannot be read: {error.strerror}.") from None
