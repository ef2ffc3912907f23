"""Mutation of bytes without regard to their structure."""

import struct

INTEGERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def mutate(rng, content, other=b"", times=None):
    """Other bytes: flipped, cut, moved, overwritten; ``other`` is a file that parts are taken from."""
    found = bytearray(content)
    for _ in range(times or rng.choice([1, 1, 1, 2, 3, 8])):
        place = rng.randrange(len(found) + 1)
        if len(found) > 512 and rng.random() < 0.3:
            place = rng.randrange(512)  # headers are more interesting
        rng.choice(CHANGES)(rng, found, place, other or content)
    return bytes(found)


def _flip(rng, found, place, other):
    if found:
        found[min(place, len(found) - 1)] ^= 1 << rng.randrange(8)


def _byte(rng, found, place, other):
    if found:
        found[min(place, len(found) - 1)] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def _integer(rng, found, place, other):
    width = rng.choice([1, 2, 4, 8])
    value = rng.choice(INTEGERS) % 2 ** (8 * width)
    found[place : place + width] = struct.pack("<Q", value)[:width]


def _cut(rng, found, place, other):
    del found[place:]


def _remove(rng, found, place, other):
    del found[place : place + rng.choice([1, 2, 4, 16, 100])]


def _insert(rng, found, place, other):
    start = rng.randrange(len(other) + 1)
    found[place:place] = other[start : start + rng.choice([1, 4, 64, 1000])]


def _overwrite(rng, found, place, other):
    start, length = rng.randrange(len(other) + 1), rng.choice([4, 32, 256])
    found[place : place + length] = other[start : start + length]


def _repeat(rng, found, place, other):
    found[place:place] = bytes(found[place : place + rng.choice([1, 8, 64])]) * rng.choice([1, 2, 100])


CHANGES = [_flip, _flip, _byte, _byte, _integer, _integer, _cut, _remove, _insert, _overwrite, _repeat]
