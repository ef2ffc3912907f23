"""Texts of an HDF5 object's attributes, read from the bytes of the file.

The HDF5 library allocates the length that an attribute declares for a text: one changed byte costs 4 GB. So the library
only confirms type and shape, and the texts are read here. Layout: HDF5 file format specification 3.0, IV.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import unpack_from

from unbraid.networks.keras.heap import Content, heap_text

_CONTINUATION, _ATTRIBUTE = 0x10, 0x0C
_REFERENCE = 16  # bytes of a reference to a text
_SHARED = 2


def attribute_texts(content: Content, header: int, name: str, count: int) -> list[str]:
    """Texts of variable length in an attribute.

    Args:
        content: the whole file.
        header: address of the object that has the attribute.
        name: of the attribute.
        count: how many texts it has.

    Raises:
        ValueError, IndexError, struct.error: the bytes are not what the HDF5 library writes.
    """
    for at, size in _attributes(content, header):
        found, data, end = _named_data(content, at, size)
        if found == name.encode():
            if data + count * _REFERENCE > end:
                raise ValueError(f"the attribute has no {count} texts")
            places = range(data, data + count * _REFERENCE, _REFERENCE)
            return [heap_text(content, bytes(content[p : p + _REFERENCE])) for p in places]
    raise ValueError("the attribute is not stored in the header of its object")


def _named_data(content: Content, at: int, size: int) -> tuple[bytes, int, int]:
    """Return the name in an attribute message, and the start and the end of its data."""
    version, _, name, datatype, dataspace = unpack_from("<BBHHH", content, at)
    start = at + (9 if version == 3 else 8)
    step = 8 if version == 1 else 1  # version 1 pads each part
    padded = [-(-part // step) * step for part in (name, datatype, dataspace)]
    return bytes(content[start : start + name]).split(b"\0")[0], start + sum(padded), at + size


def _attributes(content: Content, header: int) -> Iterator[tuple[int, int]]:
    """Place and size of each attribute message of an object."""
    modern = content[header : header + 4] == b"OHDR"
    todo, left, extra = [_first_block(content, header, modern)], len(content), 0
    if modern and content[header + 5] & 4:
        extra = 2  # each message has its creation order
    while todo:
        at, end = todo.pop()
        left -= end - at
        if end > len(content) or left < 0:  # blocks that overlap, or a block that continues in itself
            raise ValueError("the object's header is damaged")
        prefix = 4 + extra if modern else 8
        while at + prefix <= end:
            if modern:
                kind, size, flags = unpack_from("<BHB", content, at)
            else:
                kind, size, flags = unpack_from("<HHB", content, at)
            at += prefix
            if at + size > end:
                break  # a gap at the end of a block
            if kind == _CONTINUATION:
                place, length = unpack_from("<QQ", content, at)
                todo.append((place + 4, place + length - 4) if modern else (place, place + length))
            elif kind == _ATTRIBUTE and not flags & _SHARED:
                yield at, size
            at += size


def _first_block(content: Content, header: int, modern: bool) -> tuple[int, int]:
    """Return the start and the end of the messages in the header of an object, of version 1 or 2."""
    if not modern:
        (size,) = unpack_from("<I", content, header + 8)
        return header + 16, header + 16 + size
    flags = content[header + 5]
    at = header + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    size = int.from_bytes(content[at : at + width], "little")
    return at + width, at + width + size
