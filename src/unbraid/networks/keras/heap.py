"""The global heaps of an HDF5 file, where its texts are stored, checked before the HDF5 library reads them.

A crafted global heap sends the library (1.14) into an endless loop: an object that declares a size of 0 is read again
and again. Layout: HDF5 file format specification 3.0, III.E.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from struct import unpack_from

from unbraid.errors import FormatError
from unbraid.limits import check_size

Content = bytes | mmap.mmap

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_HEAP = b"GCOL\x01"
_HEADER = 16  # bytes, of a heap and of an object in it


def check_heaps(name: str, content: Content) -> None:
    """Refuse a file with an inconsistent heap, in time proportional to the size of the file.

    Args:
        name: of the file, for messages.
        content: the whole file; it starts with HDF5's signature.

    Raises:
        FormatError: a heap or an object in it has an impossible size, or heaps overlap.
    """
    if len(content) < 64 or _number_sizes(content) != (8, 8):
        raise FormatError(f"{name}: the start of the HDF5 file is damaged; expected 8-byte addresses and sizes.")
    total, start = 0, content.find(_HEAP)
    while start >= 0:
        total += _size(content, start)
        if total > len(content):  # only heaps that overlap, or end behind the file, are larger than it
            raise FormatError(f"{name}: the HDF5 heap at byte {start} does not add up: the file is damaged.")
        check_size(total, "json_bytes", name, "size of the texts in the file")
        if not _adds_up(content, start):
            raise FormatError(f"{name}: the HDF5 heap at byte {start} does not add up: the file is damaged.")
        start = content.find(_HEAP, start + 1)


def heap_text(content: Content, reference: bytes) -> str:
    """Return the text that a 16-byte reference (length, address, object) points to.

    The HDF5 library allocates the length of the reference before it compares it with the object. This function
    compares first.

    Raises:
        ValueError, struct.error: there is no such object, it is shorter, or it is not UTF-8.
    """
    length, address, wanted = unpack_from("<IQI", reference)
    if length == 0:
        return ""
    if content[address : address + len(_HEAP)] != _HEAP:
        raise ValueError(f"there is no heap at byte {address}")
    for number, at, size in _objects(content, address):
        if number == wanted and number:
            if length > size:
                raise ValueError(f"a text of {length} bytes is stored in {size}")
            return bytes(content[at : at + length]).rstrip(b"\0").decode("utf-8")
    raise ValueError(f"the heap at byte {address} has no object {wanted}")


def _number_sizes(content: Content) -> tuple[int, int]:
    """Bytes of an address and of a size, from the superblock, whose place depends on its version."""
    place = 13 if content[8] < 2 else 9
    return content[place], content[place + 1]


def _size(content: Content, start: int) -> int:
    """Size that a heap declares; larger than any file where its header is cut off."""
    size: int = unpack_from("<Q", content, start + 8)[0] if start + _HEADER <= len(content) else 2**64
    return size


def _adds_up(content: Content, start: int) -> bool:
    """Return whether the objects of the heap are contiguous up to its end."""
    end = start + _size(content, start)
    if not start + _HEADER <= end <= len(content):
        return False
    return all(at >= 0 for _, at, _ in _objects(content, start))


def _objects(content: Content, start: int) -> Iterator[tuple[int, int, int]]:
    """Number, place and size of each object of a heap; a place of -1 marks an object of an impossible size."""
    at, end = start + _HEADER, start + _size(content, start)
    while at + _HEADER <= min(end, len(content)):
        number, length = unpack_from("<H6xQ", content, at)
        taken = _HEADER + -(-length // 8) * 8 if number else length  # number 0 is free space, header included
        if taken < _HEADER or at + taken > end:
            yield number, -1, length
            return
        yield number, at + _HEADER, length
        at += taken
