"""``.npz`` files of arrays."""

import struct
from contextlib import suppress
from io import BytesIO

import numpy as np

from tests.fuzz import raw_bytes, values, zip_files

TYPES = ["<i8", "<f4", "<f8", "|b1", "<u2", ">i4", "<f2", "<c16", "<U2", "|S3", "|O", "<M8[s]", "<m8", "|V4",
         "<U999999999",
         [("a", "<i4")], [["a", "<i4"]], "i", "", "<q8", "object", "<U0", 5, None, "<f16", ["<i8"], ("<i8", (2,)),
         "a" * 5_000]  # fmt: skip
SHAPES = [(), (0,), (3,), (3, 4), (-1,), (True,), (2**31,), (2**62, 2**62), (3, 2**40), [3], 3, None, "3", (3.0,),
          (None,),
          (10**400,), (0, 2**62), (1,) * 40, (3, -4), {}, ("3",)]  # fmt: skip
TEXTS = ["{", "", "()", "{'descr': }", "{" * 3_000, "9" * 9_000, "{'descr': '<i8', 'shape': (3,)}",
         "__import__('os').getcwd()",
         "{'descr': '<i8', 'fortran_order': False, 'shape': (3,), }" + " " * 30_000, "lambda: 0", "\t{", "'''",
         "{'a': [}"]  # fmt: skip


def array_file(array):
    """The ``.npy`` of an array."""
    file = BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return file.getvalue()


def build(arrays):
    """The ``.npz`` of name -> array."""
    return zip_files.build((f"{name}.npy", array_file(array)) for name, array in arrays.items())


def mutate(rng, arrays):
    """The ``.npz`` of name -> array, with a change of any kind."""
    arrays = dict(arrays)
    chance = rng.random()
    if chance < 0.3:
        for _ in range(rng.choice([1, 1, 2])):
            name = rng.choice(list(arrays))
            with suppress(Exception):  # what NumPy cannot make of an array that is unusual already
                arrays[name] = _array(rng, arrays[name])
        return build(arrays)
    members = {f"{name}.npy": array_file(array) for name, array in arrays.items()}
    if chance < 0.7:
        name = rng.choice(list(members))
        members[name] = _header(rng, members[name])
        return zip_files.build(members.items())
    if chance < 0.85:
        return zip_files.mutate(rng, members)
    return raw_bytes.mutate(rng, zip_files.build(members.items()))


def _array(rng, array):
    """An array of another type, shape or with other values."""
    flat = np.asarray(array).ravel()
    half = np.array(["\ud800", "a"], "U1")
    options = [
        lambda: flat, lambda: np.asarray(array)[None], lambda: np.asarray(array)[:0], lambda: np.asarray(array)[...,
                                                                                                                :0],
        lambda: np.asarray(array).astype(rng.choice(["U4", "S4", "U0"])), lambda: np.asarray(array, order="F"),
        lambda: np.full(np.shape(array), rng.choice([np.nan, np.inf, -1.0, 1e300, 0.5])), lambda: half,
        lambda: np.full(np.shape(array), rng.choice([-1, 2**31, 2**62, -(2**63), 119, 120])),
        lambda: np.zeros(np.shape(array), rng.choice(["?", "u1", "c8", "M8[s]", "m8", "f2", "V4", "i4,f4", "S0"])),
        lambda: np.array([values.string(rng, "w1 w2")[:3_000].replace("\0", "") for _ in range(3)]),
        lambda: np.array(7), lambda: np.resize(flat, 3) if flat.size else flat,
        lambda: np.frombuffer(np.full(max(flat.size, 1), 2**32 - 1, "<u4").tobytes(), "<U1"),
    ]  # fmt: skip
    return rng.choice(options)()


def _header(rng, content):
    """A ``.npy`` whose header is unusual."""
    start = 10 if content[6] == 1 else 12
    text = content[start : start + int.from_bytes(content[8:start], "little")].decode()
    data = content[start + len(text) :]
    version = rng.choice([(1, 0), (1, 0), (2, 0), (3, 0), (0, 0), (9, 9), (255, 255)])
    if rng.random() < 0.6:
        fields = {
            "descr": rng.choice(TYPES),
            "fortran_order": rng.choice([False, True, 1, None]),
            "shape": rng.choice(SHAPES),
        }
        own = {"descr": "<i8", "fortran_order": False, "shape": (3, 4)}
        name = rng.choice(list(fields))
        changed = {**own, name: fields[name]} if rng.random() < 0.7 else fields
        if rng.random() < 0.1:
            changed.pop(name)
        text = repr(changed) + "\n"
    elif rng.random() < 0.6:
        text = rng.choice(TEXTS)
    else:
        text = raw_bytes.mutate(rng, text.encode()).decode("latin-1")
    body = text.encode("latin-1", "replace")
    size = len(body) if rng.random() < 0.9 else rng.choice([0, 1, 2**16 - 1])
    length = struct.pack("<I" if version[0] >= 2 else "<H", min(size, 2**32 - 1 if version[0] >= 2 else 2**16 - 1))
    return b"\x93NUMPY" + bytes(version) + length + body + data
