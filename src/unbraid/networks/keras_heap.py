"""The parts of an HDF5 file in which its texts lie, checked before the HDF5 library reads them.

A made-up global heap sends the library (1.14) into an endless loop: an object that says it is no bytes long is read
again and again. Layout: HDF5 file format specification 3.0, III.E.
"""

from __future__ import annotations

import mmap
from pathlib import Path
from struct import unpack_from

from unbraid.errors import FormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
_HEADER = 16  # bytes, of a heap and of an object in it


def check_heaps(path: Path) -> None:
    """Refuse a file whose heaps do not add up.

    Args:
        path: a file that starts with HDF5's signature.

    Raises:
        FormatError: a heap or an object in it has an impossible size.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if len(content) < 64 or _number_sizes(content) != (8, 8):
            raise FormatError(
                f"{path.name}: the start of the HDF5 file is damaged; expected 8-byte addresses and sizes."
            )
        start = content.find(_HEAP)
        while start >= 0:
            if not _adds_up(content, start):
                raise FormatError(f"{path.name}: the HDF5 heap at byte {start} does not add up: the file is damaged.")
            start = content.find(_HEAP, start + 1)


def _number_sizes(content: mmap.mmap) -> tuple[int, int]:
    """Bytes of an address and of a size, from the superblock, whose place depends on its version."""
    place = 13 if content[8] < 2 else 9
    return content[place], content[place + 1]


def _adds_up(content: mmap.mmap, start: int) -> bool:
    """Whether the heap's objects follow one another to its end."""
    if start + _HEADER > len(content):
        return False
    (size,) = unpack_from("<Q", content, start + 8)
    at, end = start + _HEADER, start + size
    if end > len(content):
        return False
    while at + _HEADER <= end:
        number, length = unpack_from("<H6xQ", content, at)
        taken = _HEADER + -(-length // 8) * 8 if number else length  # number 0 is what is free, header included
        if taken < _HEADER or at + taken > end:
            return False
        at += taken
    return True
