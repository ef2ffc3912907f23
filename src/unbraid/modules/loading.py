"""Reading folders back; nothing in them is believed before it is checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from unbraid.errors import ConfigError, DataError, FormatError
from unbraid.modules.card import CARD
from unbraid.modules.commit import current
from unbraid.modules.composition import Composition
from unbraid.modules.folders import MANIFEST, consistently, read_file, recover
from unbraid.modules.layout import MODULES, PARENTS, REFEREE, Folder, vocabulary_file
from unbraid.modules.layout import is_known as is_known
from unbraid.modules.manifest import Kind, Manifest, parse_manifest
from unbraid.modules.module import ConcernModule
from unbraid.modules.rebuilding import (
    OwnModules,
    rebuilt_concern,
    rebuilt_modules,
    rebuilt_parent,
    rebuilt_referee,
    rebuilt_words,
)
from unbraid.networks.network import Network
from unbraid.networks.spec import TorchSpec
from unbraid.vocabulary import Padding, Vocabulary


def load_modules(
    folder: Folder, kind: Kind | None = None, module: OwnModules = None
) -> tuple[Manifest, list[Network], list[ConcernModule]]:
    """Read any saved folder.

    Args:
        folder: what a ``save`` wrote.
        kind: what is expected there; None: anything.
        module: a fresh instance of the user's own module that a parent is; several parents' by class name.

    Returns:
        the manifest, the parents and the modules.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the others.
    """
    return consistently(folder, lambda: _read_modules(folder, kind, module))


def _read_modules(
    folder: Folder, kind: Kind | None, module: OwnModules
) -> tuple[Manifest, list[Network], list[ConcernModule]]:
    place = Path(os.path.abspath(folder))
    recover(place)
    where = str(place / MANIFEST)
    manifest = parse_manifest(read_file(place, MANIFEST).decode("utf-8", "replace"), where, kind)
    tensors = _tensors(place, manifest, PARENTS)
    bits = _tensors(place, manifest, MODULES)
    try:
        concerns = [rebuilt_concern(entry, manifest, bits, number) for number, entry in enumerate(manifest.entries)]
        words = {n: rebuilt_words(m, n, manifest, bits) for n, m in enumerate(manifest.entries) if m.words is not None}
        parents = [rebuilt_parent(p, n, tensors, concerns, module, words) for n, p in enumerate(manifest.parents)]
        for number, (entry, parent) in enumerate(zip(manifest.parents, parents, strict=True)):
            said = _vocabulary(place, manifest, vocabulary_file(number, target=True), entry.target_vocabulary)
            parent.read_with(_vocabulary(place, manifest, vocabulary_file(number), entry.vocabulary), said)
        modules = rebuilt_modules(manifest, parents, concerns, bits, words)
    except (FormatError, DataError) as error:
        raise FormatError(f"{place}: {error}") from None
    return manifest, parents, modules


def load_module(folder: Folder, module: OwnModules = None) -> ConcernModule:
    """Read a module that was saved alone.

    Args:
        folder: what its ``save`` wrote.
        module: where its parent is a user's own module: a fresh instance of that class (no code is ever stored).

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the instance.
    """
    return load_modules(folder, "module", module)[2][0]


def load_composition(folder: Folder, module: OwnModules = None) -> Composition:
    """Read a composition.

    Args:
        folder: what its ``save`` wrote.
        module: where a parent is a user's own module: a fresh instance of that class; of several, by class name.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the instance.
    """

    def read() -> Composition:
        manifest, _, modules = load_modules(folder, "composition", module)
        return composition_of(folder, manifest, modules)

    return consistently(folder, read)


def composition_of(folder: Folder, manifest: Manifest, modules: Sequence[ConcernModule]) -> Composition:
    """The composition that a folder holds; raises FormatError for numbers out of range or a referee of others."""
    place, named = Path(os.path.abspath(folder)), {m.label: m for m in modules}
    scales = {entry.label: (entry.temperature, entry.offset) for entry in manifest.modules}
    tensors = _tensors(place, manifest, REFEREE) if REFEREE in manifest.files else None
    at = MANIFEST
    try:
        plain = Composition(named, manifest.vote, scales)
        at = REFEREE
        return plain if tensors is None else Composition(named, manifest.vote, scales, rebuilt_referee(tensors))
    except (ConfigError, FormatError) as error:
        raise FormatError(f"{place / at}: {error}") from None


def check_folder(folder: Folder) -> list[str]:
    """Make sure that a folder is whole; of a user's own module, whose code it does not hold, its files alone.

    Returns:
        the names of its files.

    Raises:
        FormatError: it is no Unbraid folder, a file is missing or damaged, or one has a name that none of ours has.
    """
    return consistently(folder, lambda: _check_folder(folder))


def _check_folder(folder: Folder) -> list[str]:
    place = Path(os.path.abspath(folder))
    recover(place)
    manifest = parse_manifest(read_file(place, MANIFEST).decode("utf-8", "replace"), str(place / MANIFEST))
    for name, sha256 in manifest.files.items():
        if not is_known(name):
            raise FormatError(f"{place / MANIFEST}: field files: found {name[:60]!r}, which is no file of ours.")
        read_file(place, name, sha256)
    if any(isinstance(parent.spec, TorchSpec) for parent in manifest.parents):
        _tensors(place, manifest, PARENTS)
        _tensors(place, manifest, MODULES)
        if REFEREE in manifest.files:
            rebuilt_referee(_tensors(place, manifest, REFEREE))
    else:
        manifest, _, modules = load_modules(place)
        if manifest.kind == "composition":
            composition_of(place, manifest, modules)
    return [MANIFEST, *manifest.files, *([CARD] if current(place, CARD).is_file() else [])]


def _tensors(place: Path, manifest: Manifest, name: str) -> dict[str, Tensor]:
    try:
        return load(read_file(place, name, _digest(place, manifest, name)))
    except SafetensorError as error:
        raise FormatError(f"{place / name}: not a safetensors file ({error}).") from None


def _digest(place: Path, manifest: Manifest, name: str) -> str:
    if name not in manifest.files:
        raise FormatError(f"{place / MANIFEST}: field files: expected {name!r}, found {sorted(manifest.files)}.")
    return manifest.files[name]


def _vocabulary(place: Path, manifest: Manifest, name: str, padding: Padding | None) -> Vocabulary | None:
    if padding is None:
        return None
    text = read_file(place, name, _digest(place, manifest, name)).decode("utf-8", "replace")
    return Vocabulary.from_json(text, padding, name)
