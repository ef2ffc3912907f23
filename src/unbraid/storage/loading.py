"""Load saved folders. All content is checked before it is used."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unbraid.data.padding import Padding
from unbraid.data.vocabulary import Vocabulary
from unbraid.errors import FormatError, ModuleNeeded, UnbraidError
from unbraid.modules.compatibility import check_compatible
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.modules.voting.calibration import check_scale
from unbraid.networks.network import Network
from unbraid.paths import user_path
from unbraid.storage.card import CARD
from unbraid.storage.commit import current
from unbraid.storage.domains import read_domains
from unbraid.storage.folders import MANIFEST, consistently, read_file, recover
from unbraid.storage.layout import REFEREE, Folder, vocabulary_file
from unbraid.storage.layout import is_known as is_known
from unbraid.storage.manifest import Kind, Manifest
from unbraid.storage.manifest_checks import parse_manifest
from unbraid.storage.own_modules import OwnModules, ParentModules
from unbraid.storage.rebuilding import read_content, rebuilt_modules, rebuilt_parents, rebuilt_referee


def load_modules(
    folder: Folder, kind: Kind | None = None, module: OwnModules = None, codeless: bool = False
) -> tuple[Manifest, list[Network], list[ConcernModule]]:
    """Read any saved folder.

    Args:
        folder: path of a folder that a ``save`` method wrote.
        kind: the expected kind; None accepts all.
        module: instances for parents that are PyTorch modules, see :class:`unbraid.storage.own_modules.ParentModules`.
        codeless: whether to open parents without code if ``module`` has no instance for them. They keep their weights
            and can be saved again. They cannot run.

    Returns:
        the manifest, the parents and the modules.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the others.
    """
    return consistently(folder, lambda: _read_modules(folder, kind, module, codeless))


def _read_modules(
    folder: Folder, kind: Kind | None, module: OwnModules, codeless: bool
) -> tuple[Manifest, list[Network], list[ConcernModule]]:
    place = Path(os.path.abspath(user_path(folder)))
    recover(place)
    manifest, files = _read_files(place, kind)
    own = ParentModules(manifest, os.fspath(folder), module, codeless)
    with _named(place):
        content = read_content(manifest, files)
        parents = rebuilt_parents(content, own)
        for number, (entry, parent) in enumerate(zip(manifest.parents, parents, strict=True)):
            source = _vocabulary(files, vocabulary_file(number), entry.vocabulary)
            target = _vocabulary(files, vocabulary_file(number, target=True), entry.target_vocabulary)
            parent.with_vocabulary(source, target)
        modules = rebuilt_modules(content, parents, read_domains(manifest, files))
    return manifest, parents, modules


def load_module(folder: Folder, module: OwnModules = None) -> ConcernModule:
    """Load a module that was saved alone.

    Args:
        folder: path of a folder that :meth:`unbraid.ConcernModule.save` wrote.
        module: for a parent that is a PyTorch module of your own, an instance of its class, the class itself, or a
            factory, as for :func:`unbraid.load_composition`. Folders hold no code.

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or does not fit the instance.

    Example:
        >>> import tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     parts["travel"].save(f"{folder}/travel")
        ...     unbraid.load_module(f"{folder}/travel").label
        'travel'
    """
    return load_modules(folder, "module", module)[2][0]


def load_composition(folder: Folder, module: OwnModules = None) -> Composition:
    """Load a composition.

    Args:
        folder: path of a folder that :meth:`unbraid.Composition.save` wrote.
        module: for parents that are PyTorch modules of your own. Folders hold no code. One of:

            - an instance of your class, used for all of these parents
            - your class, called for each of them with the ``init`` argument of :meth:`unbraid.Network.from_torch`
            - another callable, called for each with a :class:`unbraid.ParentFacts`; it returns an instance
            - a list of these, in the order of the parents
            - a dict of these, keyed by number of the parent (from 0), by the ``name`` argument of ``from_torch``, or by
              class name if one parent has that class

    Raises:
        FormatError: a file is missing, damaged, of a newer format, or ``module`` is missing or does not fit. The
            message then shows the call that the folder needs.

    Example:
        >>> import tempfile
        >>> import unbraid
        >>> from unbraid.demo.small import small_examples, small_network
        >>> network = small_network()
        >>> parts = unbraid.decompose(network, small_examples(network))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     unbraid.compose(parts).save(f"{folder}/topics")
        ...     unbraid.load_composition(f"{folder}/topics").labels
        ['travel', 'banking', 'weather']
    """

    def read() -> Composition:
        manifest, _, modules = load_modules(folder, "composition", module)
        return composition_of(folder, manifest, modules)

    return consistently(folder, read)


def composition_of(folder: Folder, manifest: Manifest, modules: Sequence[ConcernModule]) -> Composition:
    """Build the composition of a folder; raise FormatError for a wrong calibration or referee."""
    place, named = Path(os.path.abspath(user_path(folder))), {m.label: m for m in modules}
    scales = {entry.label: (entry.temperature, entry.offset) for entry in manifest.modules}
    with _named(place / MANIFEST):
        check_compatible(list(modules))
        for label, scale in scales.items():
            check_scale(label, scale)
    if REFEREE not in manifest.files:
        with _named(place / MANIFEST):
            return Composition(named, manifest.vote, scales, None, manifest.domain, manifest.threshold)
    with _named(place):
        referee = rebuilt_referee(read_file(place, REFEREE, manifest.files[REFEREE]), REFEREE)
    with _named(place / REFEREE):
        return Composition(named, manifest.vote, scales, referee, manifest.domain, manifest.threshold)


def compositions_of(
    folder: Folder, manifest: Manifest, modules: Sequence[ConcernModule]
) -> dict[str | None, Composition]:
    """Build the compositions of a folder: by output layer, one under None, or none in a folder of another kind.

    Raises:
        FormatError: a wrong calibration or referee, or modules that cannot be combined.
    """
    if manifest.kind not in ("composition", "heads"):
        return {}
    groups: dict[str | None, list[int]] = {}
    for number, entry in enumerate(manifest.modules):
        groups.setdefault(entry.head, []).append(number)
    found: dict[str | None, Composition] = {}
    for head, numbers in groups.items():
        own = [modules[n] for n in numbers]
        update: dict[str, Any] = {"modules": [manifest.modules[n] for n in numbers]}
        if head is not None and own[0].task == "regression":
            update["vote"] = "margin"  # of the heads that vote
        found[head] = composition_of(folder, manifest.model_copy(update=update), own)
    return found


def check_folder(folder: Folder) -> list[str]:
    """Check that a folder is complete and loads. Parents that are PyTorch modules are opened without code.

    Returns:
        the names of its files.

    Raises:
        FormatError: it is not an Unbraid folder, or a file is missing, damaged, or has an unknown name.
    """
    return consistently(folder, lambda: _check_folder(folder))


def _check_folder(folder: Folder) -> list[str]:
    place = Path(os.path.abspath(user_path(folder)))
    recover(place)
    manifest, _, modules = load_modules(place, codeless=True)
    compositions_of(place, manifest, modules)
    return [MANIFEST, *manifest.files, *([CARD] if current(place, CARD).is_file() else [])]


def _read_files(place: Path, kind: Kind | None = None) -> tuple[Manifest, dict[str, bytes]]:
    """Read the manifest, and the content of every file that it lists."""
    manifest = parse_manifest(read_file(place, MANIFEST), str(place / MANIFEST), kind)
    return manifest, {name: read_file(place, name, sha256) for name, sha256 in manifest.files.items()}


@contextmanager
def _named(place: Path) -> Iterator[None]:
    """Convert an error about the content of a folder to a FormatError that begins with its path."""
    try:
        yield
    except ModuleNeeded:
        raise
    except UnbraidError as error:
        raise FormatError(f"{place}: {error}") from None


def _vocabulary(files: Mapping[str, bytes], name: str, padding: Padding | None) -> Vocabulary | None:
    if padding is None:
        return None
    try:
        text = files[name].decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError(f"{name}: is not UTF-8 text, expected a tokenizer.json.") from None
    return Vocabulary.from_json(text, padding, name)
