"""Mutation of safetensors files: headers and tensors."""

import json
import struct

import numpy as np

from tests.fuzz import raw_bytes, trees, values

SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E5M2": 1, "F8_E4M3": 1, "F8_E8M0": 1, "I16": 2, "U16": 2, "F16": 2, "BF16": 2,
         "I32": 4, "U32": 4, "F32": 4, "F64": 8, "I64": 8, "U64": 8, "C64": 8}  # fmt: skip
NUMPY = {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
    "I8": "i1",
    "U8": "u1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "BOOL": "?",
}
UNUSUAL = [*SIZES, "F4", "F6_E2M3", "F6_E3M2", "f32", "F128", "", "O", "STRING"]


def split(content):
    """(header, data) of a valid file."""
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def parse(content):
    """Name -> [dtype, shape, bytes] of a valid file."""
    header, data = split(content)
    header.pop("__metadata__", None)
    return {name: [v["dtype"], v["shape"], data[slice(*v["data_offsets"])]] for name, v in header.items()}


def build(tensors):
    """A valid file."""
    header, start = {}, 0
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + len(content)]}
        start += len(content)
    return join(json.dumps(header).encode("utf-8", "surrogatepass"), b"".join(t[2] for t in tensors.values()))


def join(header, data, length=None):
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def mutate(rng, content):
    """Another file; most are valid safetensors with other tensors."""
    chance = rng.random()
    if chance < 0.05:
        return raw_bytes.mutate(rng, content)
    if chance < 0.25:
        return _header(rng, content)
    tensors = parse(content)
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        if tensors:
            rng.choice(CHANGES)(rng, tensors, rng.choice(list(tensors)))
    return build(tensors)


def _header(rng, content):
    header, data = split(content)
    if rng.random() < 0.15:
        text = json.dumps(header).encode()
        length = rng.choice([0, 1, len(text) - 1, len(text) + 1, 2**20, 10**8, 2**31, 2**63, 2**64 - 1])
        return join(text, data, length)
    if rng.random() < 0.5:
        entry = header[rng.choice([name for name in header if name != "__metadata__"])]
        field = rng.choice(["dtype", "shape", "data_offsets"])
        if field == "dtype":
            entry[field] = rng.choice(UNUSUAL)
        elif entry[field]:
            entry[field][rng.randrange(len(entry[field]))] = values.number(rng, 4)
        else:
            entry[field] = [0]
    else:
        header = trees.mutate(rng, header, {"dtype": UNUSUAL})
    return join(trees.write(header).encode("utf-8", "surrogatepass"), data)


def _dtype(rng, tensors, name):
    dtype, shape, content = tensors[name]
    new = rng.choice(list(SIZES))
    if dtype in NUMPY and new in NUMPY:
        with np.errstate(all="ignore"):
            array = np.frombuffer(content, NUMPY[dtype]).astype(NUMPY[new])
        tensors[name] = [new, shape, array.tobytes()]
    else:
        count = int(np.prod(shape, dtype=object))
        tensors[name] = [new, shape, (content * 8)[: count * SIZES[new]]]


def _shape(rng, tensors, name):
    dtype, shape, content = tensors[name]
    count = len(content) // SIZES.get(dtype, 1)
    options = [[count], shape[::-1], [1, *shape], [*shape, 1], [1] * 9 + shape, [0, *shape], [0, 2**40], []]
    new = list(rng.choice(options))
    if rng.random() < 0.4 and shape:
        new = list(shape)
        place = rng.randrange(len(new))
        new[place] = max(0, new[place] + rng.choice([-1, 1, 1, new[place], 100]))
    wanted = min(int(np.prod(new, dtype=object)) * SIZES.get(dtype, 1), 16 * len(content) + 1024)  # not 2**40 bytes
    tensors[name] = [dtype, new, (content * (wanted // max(len(content), 1) + 1) + bytes(wanted))[:wanted]]


def _values(rng, tensors, name):
    dtype, _, content = tensors[name]
    if dtype not in ("F16", "F32", "F64") or rng.random() < 0.3:
        tensors[name][2] = raw_bytes_of_same_length(rng, content)
        return
    array = np.frombuffer(content, NUMPY[dtype]).copy()
    value = rng.choice([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 1e-45, 0.0, -1.0, 6e4])
    with np.errstate(all="ignore"):
        array[slice(None) if rng.random() < 0.5 or not len(array) else rng.randrange(len(array))] = value
    tensors[name][2] = array.tobytes()


def raw_bytes_of_same_length(rng, content):
    found = bytearray(content)
    for _ in range(rng.choice([1, 1, 4, len(found)]) if found else 0):
        found[rng.randrange(len(found))] = rng.choice([0, 0xFF, rng.randrange(256)])
    return bytes(found)


def _delete(rng, tensors, name):
    del tensors[name]


def _rename(rng, tensors, name):
    new = rng.choice([values.string(rng, name), rng.choice(list(tensors)), _other_number(rng, name)])
    tensors[new] = tensors.pop(name)


def _other_number(rng, name):
    _, _, rest = name.partition("/")
    return f"{rng.choice([0, 1, 2, 3, 9, -1, 10**12])}/{rest}"


def _copy(rng, tensors, name):
    tensors[_other_number(rng, name)] = list(tensors[name])


def _exchange(rng, tensors, name):
    other = rng.choice(list(tensors))
    tensors[name], tensors[other] = tensors[other], tensors[name]


def _add(rng, tensors, name):
    tensors[values.string(rng, name)] = ["F32", [2], bytes(8)]


CHANGES = [_dtype, _dtype, _shape, _shape, _values, _values, _values, _delete, _rename, _copy, _exchange, _add]
