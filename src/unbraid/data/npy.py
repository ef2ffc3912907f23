"""Read arrays of an ``.npz`` file, with a header parser that accepts plain numbers and text only.

The parser of NumPy evaluates the header as a Python literal, and raises errors of many kinds on a damaged header.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from typing import IO

import numpy as np

from unbraid import limits
from unbraid.errors import DataError, FormatError, quoted

MAGIC = b"\x93NUMPY"
HEADER_BYTES = 64 * 1024
AXES = 32
CHUNK = 2**24  # bytes read at a time
_FIELDS = {
    "descr": re.compile(r"""(['"])descr\1\s*:\s*(['"])([<>|=]?)([a-zA-Z])([0-9]{1,9})\2"""),
    "fortran_order": re.compile(r"""(['"])fortran_order\1\s*:\s*(True|False)"""),
    "shape": re.compile(r"""(['"])shape\1\s*:\s*\(((?:\s*[0-9]{1,18}\s*,)*\s*(?:[0-9]{1,18})?\s*)\)"""),
}
_OBJECTS = re.compile(r"""descr['"]\s*:\s*['"]\|?O""")
_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8)}


def read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, archive_bytes: int, where: str) -> np.ndarray:
    """Read one array of an ``.npz`` file; check its declared size before memory is allocated.

    Args:
        archive: the open file.
        info: the entry of the array in the file.
        archive_bytes: size of the whole file.
        where: the file, for messages.

    Raises:
        DataError: the array is not plain, is damaged, or declares a far larger size than is stored.
        Exception: any error of zipfile for a damaged archive.
    """
    where = f"{where}: {quoted(info.filename, 60)}"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{where} is compressed in a way that NumPy does not use: save it with np.savez_compressed.")
    with archive.open(info) as file:
        dtype, order, shape, header_bytes = _header(file, where)
        count = math.prod(shape)
        declared = count * dtype.itemsize
        if declared > info.file_size - header_bytes or (dtype.itemsize == 0 and count):
            raise DataError(f"{where} declares {declared} bytes, more than the file holds.")
        try:
            limits.check_size(declared, "file_bytes", where, "size in memory")
            limits.check_expansion(declared, min(info.compress_size, archive_bytes), where)
        except FormatError as error:
            raise DataError(str(error)) from None
        return _values(file, dtype, order, shape, where)


def _header(file: IO[bytes], where: str) -> tuple[np.dtype, str, tuple[int, ...], int]:
    """Return type, order and shape of the array, and the size of its header."""
    start = file.read(len(MAGIC) + 2)
    if start[:-2] != MAGIC or start[-2:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise DataError(f"{where} is not a NumPy array.")
    width, kind = (2, "<H") if start[-2:] == b"\1\0" else (4, "<I")
    size = file.read(width)
    length = struct.unpack(kind, size)[0] if len(size) == width else HEADER_BYTES + 1
    if length > HEADER_BYTES:
        raise DataError(f"{where} has a header that is damaged or larger than {HEADER_BYTES} bytes.")
    text = file.read(length).decode("latin-1")
    found = {name: pattern.search(text) for name, pattern in _FIELDS.items()}
    rest = text.strip()
    whole = rest.startswith("{") and rest.endswith("}")
    for match in found.values():
        rest = rest.replace(match.group(), "", 1) if match else rest
    if _OBJECTS.search(text):
        raise DataError(f"{where} holds Python objects, which are never loaded: save plain arrays.")
    descr, fortran, shape = (found[name] for name in _FIELDS)
    if descr is None or fortran is None or shape is None or not whole or rest.strip("{}, \t"):
        raise DataError(f"{where} has a header that does not belong to a plain array: {quoted(text.strip(), 100)}.")
    axes = tuple(int(size) for size in shape.group(2).split(",") if size.strip())
    if len(axes) > AXES:
        raise DataError(f"{where} has {len(axes)} axes, expected at most {AXES}.")
    dtype = _dtype(descr.group(3), descr.group(4), int(descr.group(5)), where)
    return dtype, "F" if fortran.group(2) == "True" else "C", axes, len(start) + width + length


def _dtype(byte_order: str, kind: str, size: int, where: str) -> np.dtype:
    if kind not in "US" and size not in _SIZES.get(kind, ()):
        raise DataError(f"{where} holds values of type {kind}{size}, expected numbers or text.")
    return np.dtype(f"{byte_order}{kind}{size}")


def _values(file: IO[bytes], dtype: np.dtype, order: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """Read the values after the header; the checksum of the archive is compared at the end."""
    flat = np.empty(math.prod(shape), dtype)
    room, place = memoryview(flat.view(np.uint8).data if flat.nbytes else b""), 0
    while place < flat.nbytes:
        part = file.read(min(CHUNK, flat.nbytes - place))
        if not part:
            raise DataError(f"{where} ends after {place} of {flat.nbytes} bytes.")
        room[place : place + len(part)] = part
        place += len(part)
    if file.read(1):
        raise DataError(f"{where} holds more bytes than its header declares.")
    return flat.reshape(shape, order="F" if order == "F" else "C")
