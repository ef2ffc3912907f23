"""Valid folders and files that inputs are made from, made once and kept in memory."""

import json
import tempfile
from functools import cache
from pathlib import Path

from tests import factory
from tests.fuzz import own_module, trees
from tests.fuzz.library import About
from tests.locations import DATA
from tests.translation import talking
from unbraid import Network, Vocabulary, compose, decompose

DATA = DATA
PAPER = {"strategy": "paper", "max_removed": 0.4, "samples_per_class": 8}
RECIPE = "title: Parts\nvote: margin\nmodules:\n  - from: parts\n"


def read(folder):
    """File name -> content."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@cache
def folders():
    """Name -> files of a saved folder; one of every kind."""
    found = {path.name: read(path) for path in sorted((DATA / "format1").iterdir()) if path.is_dir()}
    with tempfile.TemporaryDirectory() as place:
        for name, save in _made().items():
            save(Path(place) / name)
            found[name] = read(Path(place) / name)
    return found


@cache
def manifests():
    """The pool of valid values of manifests, see :func:`trees.pool`."""
    return trees.pool([json.loads(files["unbraid.json"]) for files in folders().values()])


def _parts(cells=("lstm",), io="M:1", settings=PAPER, words=False, **network):
    net = factory.network(cells, io, **network)
    if words:
        net.with_vocabulary(Vocabulary.from_words([f"w{n}" for n in range(20)], steps=factory.WORDS))
    return decompose(net, factory.examples(net, 30), **settings)


def _calibrated(folder):
    parts = _parts(("gru",), words=True, labels=["a", "b", "c"])
    net = parts.network
    composition = compose([parts["a"], parts["c"]]).with_calibration(*_of(factory.examples(net, 24), (0, 2)))
    composition.about = About("Parts", "Two modules", "mit", {"accuracy": 0.5}, RECIPE)
    composition.save(folder)


def _of(examples, classes):
    x, y = examples
    rows = [n for n, label in enumerate(y) if label in classes]
    return x[rows], ["abc"[y[n]] for n in rows]


def _languages(**settings):
    net = talking.network()
    return decompose(net, factory.sentence_pairs(net), **settings)


def _own(mode):
    x, y = own_module.inputs(24)
    return decompose(Network.from_torch(own_module.fresh(), x), (x, y), mode=mode, **PAPER)


def _made():
    """Name -> what saves it."""
    gates = {**PAPER, "gates": "each", "mode": "unrolled"}
    return {
        "sliced": lambda at: _parts(("lstm", "gru"), words=True)[0].save(at),
        "sliced-both-ways": lambda at: _parts(("gru",), bidirectional=True, hidden=((3, "relu"),))[1].save(at),
        "unrolled-by-gates": lambda at: _parts(settings=gates).save(at),
        "by-gates-alone": lambda at: _parts(("gru-before",), "M:N", {**PAPER, "gates": "each"})[0].save(at),
        "flat-unrolled": lambda at: _parts(settings={**PAPER, "mode": "unrolled"}, flat=True)[0].save(at),
        "one-to-many": lambda at: _parts(("vanilla",), "1:N").save(at),
        "compact-alone": lambda at: _parts(settings={"keep": 0.5}, hidden=((4, "tanh"),))[0].save(at),
        "compact-features": lambda at: _parts(settings={"keep": 0.5}, inputs="features", mask=True).save(at),
        "binary": lambda at: _parts(output="sigmoid", classes=1).save(at),
        "calibrated": _calibrated,
        "language-alone": lambda at: talking.modules()["fr"].save(at),
        "languages-compact": lambda at: _languages(keep=0.5, words="own").save(at),
        "own-decomposition": lambda at: _own("rolled").save(at),
        "own-module": lambda at: _own("unrolled")[1].save(at),
    }
