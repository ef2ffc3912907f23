"""Opening Keras model files: what they declare is checked before anything is read or allocated for it.

A ``.h5`` is one HDF5 file; a ``.keras`` is a zip of JSON and an HDF5 file, and is read in memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import FormatError, quoted
from unbraid.limits import parse_json, read_regular
from unbraid.networks.keras.archive import Archive, open_archive
from unbraid.networks.keras.config import Config, shown
from unbraid.networks.keras.content import WHOLE, content_of
from unbraid.networks.keras.hdf5 import Store, reading
from unbraid.networks.keras.heap import check_heaps
from unbraid.networks.keras.text import read_text
from unbraid.networks.keras.weights import ArchiveWeights, LegacyWeights, Weights
from unbraid.paths import user_path

WEIGHTS = "model.weights.h5"
MAX_JSON = 2**24  # bytes of a configuration


@dataclass(frozen=True)
class SavedModel:
    """What a file holds.

    Attributes:
        file: its name, for messages.
        model: the model's configuration, with ``class_name`` and ``config``.
        keras: major version of the Keras that wrote it.
        weights: where its layers' variables are.
        compiled: how the model was compiled, its loss among it, as parsed JSON; None where that was not stored.
        flipped: whether convolutions were computed by Theano, which reads kernels from their ends.
        vocabulary: of a model that has a ``TextVectorization``, which is taken out of ``model``.
        live: the Keras model in memory that the file was made from; None for a file of the user.
    """

    file: str
    model: Config
    keras: int
    weights: Weights
    compiled: Any = None
    flipped: bool = False
    live: Any = None
    vocabulary: Vocabulary | None = None


@contextmanager
def open_keras(path: str | PathLike[str]) -> Iterator[SavedModel]:
    """Open a ``.h5`` or ``.keras`` file by its content; its name does not matter.

    Raises:
        FormatError: it is neither, or damaged.
    """
    where = user_path(path)
    with _OPEN[content_of(where)](where) as saved:
        yield saved


@contextmanager
def open_parts(config: str | PathLike[str], weights: str | PathLike[str]) -> Iterator[SavedModel]:
    """Open the JSON of ``model.to_json()`` and the weights that ``model.save_weights()`` wrote.

    Raises:
        FormatError: one of them is something else, or damaged.
    """
    source, where = user_path(config), user_path(weights)
    name = source.name
    model = Config(name, "the model", _json(name, "the model", read_regular(source, "json_bytes")))
    if model.get("config") is None and isinstance(model.get("model_config"), dict):
        model = model.child("model_config")
    version = model.get("keras_version")
    keras = 3 if version is None and model.get("module") is not None else major_version(name, version)
    if content_of(where) != "hdf5":
        raise FormatError(f"weights={quoted(where.name)!r}: expected an HDF5 file that model.save_weights wrote.")
    with _open_hdf5(where) as store:
        root = store.root()
        if store.has(root, "model_weights"):
            raise FormatError(f"weights={quoted(where.name)!r} holds a whole model: pass it alone.")
        legacy = store.has(root, "layer_names")
        yield SavedModel(name, model, keras, LegacyWeights(store, "") if legacy else ArchiveWeights(store))


@contextmanager
def _open_hdf5(path: Path) -> Iterator[Store]:
    """Open an HDF5 file whose texts are checked."""
    name = path.name
    with reading(name, "the file"):
        stream = path.open("rb")
    with stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        with reading(name, "the file"):
            check_heaps(name, content)
            opened = h5py.File(path, "r")
        with opened:
            yield Store(name, opened, content)


@contextmanager
def _open_legacy(path: Path) -> Iterator[SavedModel]:
    name = path.name
    with _open_hdf5(path) as store:
        root = store.root()
        text = store.text_attribute(root, "model_config")
        if text is None:
            alone = store.has(root, "layer_names") or store.has(root, "layers")
            found = "weights alone, without the structure" if alone else "no model"
            advice = f", or pass the JSON of model.to_json(): unbraid.load('config.json', weights={name!r})"
            raise FormatError(
                f"{name} holds {found}: field 'model_config' is missing; {WHOLE}{advice if alone else ''}."
            )
        model = Config(name, "'model_config'", _json(name, "model_config", text))
        version = major_version(name, store.text_attribute(root, "keras_version"))
        training = store.text_attribute(root, "training_config")
        compiled = None if training is None else _json(name, "training_config", training)
        theano = store.text_attribute(root, "backend") == "theano"
        yield SavedModel(name, model, version, LegacyWeights(store), compiled, theano)


@contextmanager
def _open_archive(path: Path) -> Iterator[SavedModel]:
    name = path.name
    with open_archive(path) as archive:
        metadata, model = _json_member(archive, "metadata.json"), _json_member(archive, "config.json")
        weights = archive.read(WEIGHTS)
        version = metadata.get("keras_version")
        text = read_text(model, 3 if str(version).startswith("3") else 2, archive)
    if version is not None and not isinstance(version, str):
        raise FormatError(f"{name}: field 'keras_version' is {shown(version)}, expected a version such as '3.5.0'.")
    with reading(name, WEIGHTS):
        check_heaps(f"{name}: {WEIGHTS}", weights)
        opened = h5py.File(BytesIO(weights), "r")
    with opened:
        store = Store(f"{name}: {WEIGHTS}", opened, weights)
        compiled = model.get("compile_config")
        whole = model if text is None else text.model
        words = None if text is None else text.vocabulary
        keras = major_version(name, version)
        yield SavedModel(name, whole, keras, ArchiveWeights(store), compiled, vocabulary=words)


_OPEN = {"hdf5": _open_legacy, "zip": _open_archive}


def _json_member(archive: Archive, member: str) -> Config:
    return Config(archive.name, repr(member), _json(archive.name, member, archive.read(member)))


def _json(name: str, field: str, text: str | bytes) -> Any:
    if len(text) > MAX_JSON:
        raise FormatError(f"{name}: {field!r} has {len(text)} characters, expected at most {MAX_JSON}.")
    return parse_json(text, f"{name}: {field!r}")


def major_version(name: str, version: str | None) -> int:
    """Return the major version of Keras, 2 or 3, which differ in hard_sigmoid; 2 for a file without a version."""
    if version is None:
        return 2
    major = version.split(".")[0]
    if not (major.isascii() and major.isdigit() and len(major) < 4):
        raise FormatError(f"{name}: field 'keras_version' is {shown(version)}, expected a version such as '2.12.0'.")
    return 3 if int(major) >= 3 else 2
