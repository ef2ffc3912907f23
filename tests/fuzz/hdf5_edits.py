"""Edits of HDF5 files through h5py: attributes, datasets and links."""

import json
from contextlib import suppress
from io import BytesIO

import h5py
import numpy as np

from tests.fuzz import trees, values

IMPOSSIBLE = (TypeError, ValueError, KeyError, OSError, RuntimeError)  # an edit that HDF5 cannot make is left out


def edit(rng, content, config=None):
    """The file with one to three edits.

    Args:
        rng: random.Random.
        content: a valid HDF5 file.
        config: of a ``.h5`` file, the pool of valid values of model configurations, see :func:`trees.pool`.
    """
    file = BytesIO(content)
    with h5py.File(file, "r+") as opened:
        if config is not None and rng.random() < 0.6:
            tree = json.loads(opened.attrs["model_config"])
            text = trees.write(trees.mutate(rng, tree, config))
            _attribute(opened, "model_config", text if len(text) < 60_000 else text[:60_000])
            if rng.random() < 0.7:
                return _closed(opened, file)
        for _ in range(rng.choice([1, 1, 2, 3])):
            names = _names(opened)
            with suppress(*IMPOSSIBLE):
                rng.choice(EDITS)(rng, opened, rng.choice(names) if names else "new")
        return _closed(opened, file)


def _closed(opened, file):
    opened.flush()
    return file.getvalue()


def _names(opened):
    """Every path below the root, without following links."""
    found, todo = [], [opened]
    while todo:
        group = todo.pop()
        for name in group:
            if isinstance(group.get(name, getlink=True), h5py.HardLink):
                found.append(f"{group.name}/{name}".replace("//", "/"))
                if isinstance(group[name], h5py.Group) and len(found) < 200:
                    todo.append(group[name])
    return found


def _attribute(place, name, value):
    with suppress(*IMPOSSIBLE):
        place.attrs[name] = value


def _datum(rng):
    """Arrays of other types and shapes."""
    shape = rng.choice([(), (0,), (1,), (2, 3), (3, 12), (12,), (1, 2, 3), (4096,)])
    kind = rng.choice(["f2", "f4", "f8", "i4", "u1", "?", "c8", "S3", "f4,i4"])
    return np.zeros(shape, kind)


def _edit_attribute(rng, opened, path):
    place = opened[path] if rng.random() < 0.6 else opened
    name = rng.choice([*place.attrs, "weight_names", "layer_names", "keras_version", "model_config", "backend"])
    texts = [values.string(rng, "kernel:0")[:1_000].replace("\0", "") for _ in range(rng.choice([1, 2, 3]))]
    _attribute(place, name, rng.choice([_datum(rng), texts[0], texts, b"kernel\xff", h5py.Empty("f4"), 3, 1.5]))


def _delete_attribute(rng, opened, path):
    names = list(opened[path].attrs) or [None]
    if (name := rng.choice(names)) is not None:
        del opened[path].attrs[name]


def _delete(rng, opened, path):
    del opened[path]


def _rename(rng, opened, path):
    name = values.string(rng, path.rpartition("/")[2])[:500].replace("\0", "").replace("/", "") or "x"
    opened.move(path, f"{path.rpartition('/')[0]}/{name}")


def _dataset(rng, opened, path):
    old = opened[path]
    small = isinstance(old, h5py.Dataset) and old.shape is not None and old.nbytes < 10**6
    array = old[()] if small else np.zeros((3, 12), "f4")
    del opened[path]
    number = rng.choice([np.nan, np.inf, 1e30, 1.0])
    options = [
        lambda: opened.create_dataset(path, data=_datum(rng)),
        lambda: opened.create_dataset(path, data=np.ravel(array)),
        lambda: opened.create_dataset(path, data=np.full_like(array, number)),
        lambda: opened.create_dataset(path, data=array.astype(rng.choice(["f2", "f8", ">f4", "i8"]))),
        lambda: opened.create_dataset(path, data=array[:-1] if array.ndim else array),
        lambda: opened.create_dataset(path, (2**20, 2**20), "f4", chunks=(64, 64)),
        lambda: opened.create_dataset(path, (2**16, 2**8), "f4", chunks=True, compression="gzip"),
        lambda: opened.create_dataset(path, (2**40,), "f4", external=[("/dev/zero", 0, 2**42)]),
        lambda: opened.create_dataset(path, (3, 12), "f4", external=[("outside", 0, 144)]),
        lambda: opened.create_dataset(path, (3,), h5py.string_dtype(), data=["a", "b", "c"]),
        lambda: opened.create_dataset(path, (3,), h5py.vlen_dtype("f4")),
        lambda: opened.create_virtual_dataset(path, _virtual()),
        lambda: opened.create_dataset(path, data=h5py.Empty("f4")),
    ]
    rng.choice(options)()


def _virtual():
    layout = h5py.VirtualLayout((4, 12), "f4")
    layout[:] = h5py.VirtualSource("outside", "x", (4, 12))
    return layout


def _link(rng, opened, path):
    del opened[path]
    parent = path.rpartition("/")[0] or "/"
    links = [
        h5py.SoftLink(parent),
        h5py.SoftLink(path),
        h5py.ExternalLink("outside", "/"),
        opened[parent],
    ]
    opened[path] = rng.choice(links)


EDITS = [_edit_attribute, _edit_attribute, _delete_attribute, _delete, _rename, _dataset, _dataset, _dataset, _link]
