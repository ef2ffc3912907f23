"""Keras model files, ``.h5`` and ``.keras``."""

import json
from functools import cache

from tests.fuzz import bases, hdf5_edits, raw_bytes, trees, using, zip_files
from tests.fuzz.kinds import Kind
from unbraid import load

WEIGHTS = "model.weights.h5"


@cache
def files():
    """(archives, legacy files): content of valid ones."""
    keras = bases.DATA / "keras"
    found = [sorted([*keras.glob(f"*{end}"), *keras.glob(f"translators/*{end}")]) for end in (".keras", ".h5")]
    return tuple([path.read_bytes() for path in paths] for paths in found)


@cache
def configs():
    """The pool of valid values of model configurations, see :func:`trees.pool`."""
    return trees.pool([json.loads(zip_files.members(content)["config.json"]) for content in files()[0]])


def make_archive(rng, place):
    path = place / "model.keras"
    content = rng.choice(files()[0])
    (way,) = rng.choices(["config", "metadata", "weights", "zip", "bytes"], [50, 4, 25, 10, 11])
    if way == "bytes":
        path.write_bytes(raw_bytes.mutate(rng, content, rng.choice(files()[0])))
        return path
    members = zip_files.members(content)
    for name in [f"{way}.json"] if f"{way}.json" in members else []:
        text = trees.write(trees.mutate(rng, json.loads(members[name]), configs()))
        members[name] = text.encode("utf-8", "surrogatepass")
    if way == "weights":
        change = hdf5_edits.edit if rng.random() < 0.6 else raw_bytes.mutate
        members[WEIGHTS] = change(rng, members[WEIGHTS])
    path.write_bytes(zip_files.mutate(rng, members) if way == "zip" else zip_files.build(members.items()))
    return path


def make_legacy(rng, place):
    path = place / "model.h5"
    content = rng.choice(files()[1])
    if rng.random() < 0.6:
        path.write_bytes(hdf5_edits.edit(rng, content, configs()))
    else:
        path.write_bytes(raw_bytes.mutate(rng, content, rng.choice(files()[1])))
    return path


def use(network, place):
    """Describe and run."""
    using.show(network)
    using.run(network)


ARCHIVES = Kind(".keras files", 10, make_archive, load, use)
LEGACY = Kind(".h5 files", 8, make_legacy, load, use)
