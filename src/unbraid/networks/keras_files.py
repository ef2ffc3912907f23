"""Opening Keras model files: what they claim is checked before anything is read or allocated for it.

A ``.h5`` is one HDF5 file; a ``.keras`` is a zip of JSON and an HDF5 file, and is read in memory.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import Any

import h5py

from unbraid.errors import FormatError
from unbraid.networks.keras_config import Config, shown
from unbraid.networks.keras_hdf5 import Store, reading
from unbraid.networks.keras_heap import SIGNATURE, check_heaps
from unbraid.networks.keras_weights import ArchiveWeights, LegacyWeights, Weights

WEIGHTS = "model.weights.h5"
MAX_JSON = 2**24
MAX_INFLATION = 20  # trained weights hardly compress; a member that grows more than this is a bomb
_SPARE = 2**20
_MAX_MEMBERS = 10_000
_WHOLE = "save the whole model with model.save('model.keras')"
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class SavedModel:
    """What a file holds.

    Attributes:
        file: its name, for messages.
        model: the model's configuration, with ``class_name`` and ``config``.
        keras: major version of the Keras that wrote it.
        weights: where its layers' variables are.
    """

    file: str
    model: Config
    keras: int
    weights: Weights


@contextmanager
def open_keras(path: str | PathLike[str]) -> Iterator[SavedModel]:
    """Open a ``.h5`` or ``.keras`` file by what it holds, whatever its name.

    Raises:
        FormatError: it is neither, or damaged.
    """
    where = Path(path)
    if where.is_dir():
        raise FormatError(f"{where} is a folder, expected one Keras file (.h5 or .keras): {_WHOLE}.")
    if not where.is_file():
        raise FormatError(f"{where} does not exist; expected a Keras model file (.h5 or .keras).")
    try:
        with where.open("rb") as stream:
            start = stream.read(len(SIGNATURE))
    except OSError as error:
        raise FormatError(f"{where} cannot be read: {error.strerror}.") from None
    is_zip = start.startswith(b"PK\x03\x04")
    if not is_zip and start != SIGNATURE:
        raise FormatError(f"{where.name} is neither an HDF5 file nor a .keras archive (damaged?): {_WHOLE}.")
    with _open_archive(where) if is_zip else _open_legacy(where) as saved:
        yield saved


@contextmanager
def _open_legacy(path: Path) -> Iterator[SavedModel]:
    with reading(path.name, "the file"):
        check_heaps(path)
        opened = h5py.File(path, "r")
    with opened:
        store = Store(path.name, opened, path.stat().st_size)
        root = store.root()
        text = store.text_attribute(root, "model_config")
        if text is None:
            found = "weights alone" if store.has(root, "layer_names") or store.has(root, "layers") else "no model"
            raise FormatError(f"{path.name} holds {found}: field 'model_config' is missing; {_WHOLE}.")
        model = Config(path.name, "'model_config'", parse_json(path.name, "'model_config'", text))
        version = major_version(path.name, store.text_attribute(root, "keras_version"))
        yield SavedModel(path.name, model, version, LegacyWeights(store))


@contextmanager
def _open_archive(path: Path) -> Iterator[SavedModel]:
    name, size = path.name, path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(name, archive, size)
            metadata = _json_member(name, archive, members, "metadata.json")
            model = _json_member(name, archive, members, "config.json")
            weights = _read_member(name, archive, members, WEIGHTS)
    except _ZIP_ERRORS as error:
        raise FormatError(f"{name} is a damaged .keras archive ({shown(str(error))}); save the model again.") from None
    version = metadata.get("keras_version")
    if version is not None and not isinstance(version, str):
        raise FormatError(f"{name}: field 'keras_version' is {shown(version)}, expected a version such as '3.5.0'.")
    with reading(name, WEIGHTS):
        opened = h5py.File(BytesIO(weights), "r")
    with opened:
        store = Store(f"{name}: {WEIGHTS}", opened, len(weights))
        yield SavedModel(name, model, major_version(name, version), ArchiveWeights(store))


def _members(name: str, archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The archive's members by name, once none of them points outside, repeats or inflates."""
    infos = archive.infolist()
    if len(infos) > _MAX_MEMBERS:
        raise FormatError(f"{name} has {len(infos)} members, expected a few: this is no .keras archive.")
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        member = info.filename
        if member.startswith(("/", "\\")) or "\\" in member or ":" in member or ".." in member.split("/"):
            raise FormatError(f"{name}: member {shown(member)} points outside the archive; expected plain names.")
        if member in members:
            raise FormatError(f"{name}: member {shown(member)} is there twice; expected once.")
        if info.file_size > MAX_INFLATION * min(info.compress_size, size) + _SPARE:
            raise FormatError(
                f"{name}: member {shown(member)} claims {info.file_size} bytes from {info.compress_size} stored ones, "
                f"expected at most {MAX_INFLATION} times as many: a zip bomb or a damaged file."
            )
        members[member] = info
    return members


def _read_member(name: str, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], member: str) -> bytes:
    if member not in members:
        raise FormatError(f"{name}: member {member!r} is missing, found {shown(sorted(members))}; {_WHOLE}.")
    info = members[member]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise FormatError(f"{name}: member {member!r} is encrypted or compressed otherwise than by deflate.")
    return archive.read(info)  # stops at file_size, which _members has bounded


def _json_member(name: str, archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], member: str) -> Config:
    return Config(name, repr(member), parse_json(name, repr(member), _read_member(name, archive, members, member)))


def parse_json(name: str, field: str, text: str | bytes) -> Any:
    """JSON from a stranger: its size and depth are limited."""
    if len(text) > MAX_JSON:
        raise FormatError(f"{name}: {field} has {len(text)} characters, expected at most {MAX_JSON}.")
    try:
        return json.loads(text)
    except RecursionError:
        raise FormatError(f"{name}: {field} is nested too deeply; expected the configuration of a model.") from None
    except ValueError as error:
        raise FormatError(f"{name}: {field} is not valid JSON ({shown(str(error))}): the file is damaged.") from None


def major_version(name: str, version: str | None) -> int:
    """2 or 3: which Keras wrote the file. They differ in hard_sigmoid; a file that does not say is an old one."""
    if version is None:
        return 2
    major = version.split(".")[0]
    if not (major.isascii() and major.isdigit() and len(major) < 4):
        raise FormatError(f"{name}: field 'keras_version' is {shown(version)}, expected a version such as '2.12.0'.")
    return 3 if int(major) >= 3 else 2
