"""Open any path, a model file or a folder that Unbraid saved, and select modules of it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unbraid.cli.unused import refuse
from unbraid.cli.vocabularies import shown_vocabulary
from unbraid.data.targets import Label
from unbraid.data.vocabulary import Vocabulary
from unbraid.decomposition.decomposition import Decomposition
from unbraid.errors import ConfigError, DataError, FormatError, IncompatibleModules, quoted, unknown_label
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.loading import load
from unbraid.networks.network import Network
from unbraid.networks.outputs import GivenTask
from unbraid.networks.spec import needs_module
from unbraid.networks.torch_spec import TorchSpec
from unbraid.paths import user_path
from unbraid.storage.folders import consistently, recover
from unbraid.storage.loading import composition_of, compositions_of, load_modules
from unbraid.translation.translator import Translator

Opened = Network | Decomposition | ConcernModule | Composition | Translator


@dataclass(frozen=True)
class Beside:
    """Further information from the user about a path, which the path itself does not store.

    Attributes:
        modules: instances or factories for PyTorch modules, as for ``module=`` of the load functions.
        runs: whether the networks must run. If not, PyTorch modules without an instance are opened without code.
        vocabularies: key -> vocabulary file. A key is the number, name or class name of a parent. The key None means
            all networks without a vocabulary, or the only network.
        labels: names of the classes of a model file.
        task: task of a model file, see :func:`unbraid.load`.
        output: output layer of a Keras model with several outputs.
        weights: weights of a Keras model, of which the path holds the structure alone.
        several: whether several paths are opened with it, so that a key or a setting may belong to another path.
    """

    modules: Any = None
    runs: bool = False
    vocabularies: Mapping[str | None, Path] = field(default_factory=dict)
    labels: Sequence[str] | None = None
    task: GivenTask | None = None
    output: str | None = None
    weights: Path | None = None
    several: bool = False


PLAIN = Beside()


def parse_vocabularies(options: Sequence[str]) -> dict[str | None, Path]:
    """Parse ``--vocabulary``: each ``FILE``, or ``KEY=FILE`` for one of several networks; raise ConfigError."""
    found: dict[str | None, Path] = {}
    for option in options:
        before, equals, after = option.partition("=")
        key, file = (before, after) if equals and not os.path.exists(user_path(option)) else (None, option)
        if key in found:
            raise ConfigError(f"--vocabulary is given twice for {'all networks' if key is None else repr(key)}.")
        found[key] = user_path(file)
    return found


def open_any(path: str | os.PathLike[str], beside: Beside = PLAIN) -> Opened:
    """Open a model file or a saved folder; its content determines the kind.

    Args:
        path: a ``.h5`` or ``.keras`` file of any name, or a folder that Unbraid saved.
        beside: further information about the path.

    Raises:
        FormatError: another kind of file, a damaged one, or a folder that needs code.
        UnsupportedLayer: a model with a layer that cannot be computed exactly, or one that may be a regressor.
        ConfigError: an unsupported task, or a vocabulary for a network that the path does not have.
        DataError: labels or a vocabulary that do not fit.
    """
    path = user_path(path)
    if not _exists(path):
        raise FormatError(
            f"{quoted(path)}: no such file or folder; expected a .h5 or .keras model, or a folder that Unbraid saved."
        )
    if os.path.isdir(path):
        if not beside.several:
            reason = f"is for model files, and {quoted(path)} is a saved folder: leave it out."
            refuse({"--task": beside.task, "--weights": beside.weights}, reason)
        return consistently(path, lambda: _open_folder(path, beside))
    if beside.modules is not None and not beside.several:
        raise ConfigError(f"--module is for folders with PyTorch networks, and {quoted(path)} is none: leave it out.")
    network = load(path, beside.labels, task=beside.task, output=beside.output, weights=beside.weights)
    _set_vocabularies(path, {0: network}, beside)
    return network


def _exists(path: str | os.PathLike[str]) -> bool:
    """Return whether a file or folder exists, also after a save was killed; False for an invalid name."""
    try:
        recover(Path(path))
        return Path(path).exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _open_folder(path: str | os.PathLike[str], beside: Beside) -> Opened:
    manifest, parents, modules = load_modules(path, module=beside.modules, codeless=not beside.runs)
    if not beside.several:
        _check_used(path, manifest.kind, dict(enumerate(parents)), beside)
    _set_vocabularies(path, dict(enumerate(parents)), beside)
    if manifest.kind == "module":
        return modules[0]
    named = {m.label: m for m in modules}
    if manifest.kind == "composition":
        return composition_of(path, manifest, modules)
    if manifest.kind == "heads":
        return _head(path, {str(head): one for head, one in compositions_of(path, manifest, modules).items()}, beside)
    if manifest.kind == "translator":
        return Translator({str(label): module for label, module in named.items()})
    return Decomposition(parents[0], named, modules[0].config, manifest.skipped)


def _check_used(path: str | os.PathLike[str], kind: str, parents: Mapping[int, Network], beside: Beside) -> None:
    """Raise ConfigError for information that no network of a folder needs."""
    if kind != "heads":
        refuse({"--output": beside.output}, f"chooses one of several output layers, and {quoted(path)} has one.")
    if beside.modules is None:
        return
    own = {number: network for number, network in parents.items() if needs_module(network.spec)}
    if not own:
        raise ConfigError(f"--module: {quoted(path)} has no PyTorch network of your own: leave it out.")
    known = [key for number, network in own.items() for key in _keys(number, network)]
    given = list(beside.modules) if isinstance(beside.modules, Mapping) else []
    unknown = [key for key in given if str(key) not in known]
    if unknown:
        raise ConfigError(
            f"--module: {quoted(path)} has no network {quoted(unknown[0], 60)!r}; it has {sorted(set(known))}."
        )


def _head(path: str | os.PathLike[str], heads: Mapping[str, Composition], beside: Beside) -> Composition:
    """Return the composition of the output layer that the user chose."""
    if beside.output is not None and beside.output in heads:
        return heads[beside.output]
    names = ", ".join(map(repr, map(quoted, heads)))
    found = "nothing" if beside.output is None else repr(quoted(beside.output))
    raise ConfigError(f"{quoted(path)} has the output layers {names}, found {found}: choose one with --output.")


def _set_vocabularies(path: str | os.PathLike[str], parents: Mapping[int, Network], beside: Beside) -> None:
    """Set the vocabularies of the user. They replace stored vocabularies if a key names the network."""
    for key, file in beside.vocabularies.items():
        chosen = [network for number, network in parents.items() if key in _keys(number, network)]
        if key is None:
            chosen = [n for n in parents.values() if n.vocabulary is None] or list(parents.values())
            if len(chosen) > 1 and all(n.vocabulary is not None for n in chosen):
                raise ConfigError(
                    f"{quoted(path)}: its {len(chosen)} networks have vocabularies. To replace one, name the network: "
                    f"--vocabulary NUMBER={quoted(file)}, NUMBER from 0."
                )
        for network in chosen:
            network.with_vocabulary(_read(file, network), network.target_vocabulary)
    named = {key for number, network in parents.items() for key in _keys(number, network)}
    unknown = [key for key in beside.vocabularies if key is not None and key not in named]
    if unknown and not beside.several:
        raise ConfigError(
            f"--vocabulary: {quoted(path)} has no network {quoted(unknown[0], 60)!r}; it has {sorted(named)}."
        )


def _read(file: Path, network: Network) -> Vocabulary:
    """Read a vocabulary for a network; keep the length of the stored vocabulary that it replaces."""
    stored = None if network.vocabulary is None else network.vocabulary.padding.steps
    return shown_vocabulary(file, network.spec.steps or stored)


def _keys(number: int, network: Network) -> list[str]:
    """Return the keys of a network in options: its number, its name and the name of its class."""
    own = [network.spec.module] if isinstance(network.spec, TorchSpec) else []
    return [str(number), *([network.name] if network.name else []), *own]


def open_classifier(path: str | os.PathLike[str], beside: Beside = PLAIN) -> tuple[Composition, Network | None]:
    """Open a composition, and the network of its modules if there is only one; raise as :func:`open_any`."""
    opened = open_any(path, beside)
    if isinstance(opened, Decomposition):
        return compose(opened), opened.network
    if isinstance(opened, Composition):
        return opened, None
    if isinstance(opened, ConcernModule):
        return compose([opened]), None
    if isinstance(opened, Translator):
        raise FormatError(f"{path} is a translator, which has no labels: run 'unbraid translate' on it.")
    raise FormatError(f"{path} is a whole network, expected modules: run 'unbraid decompose' on it first.")


def open_translator(path: str | os.PathLike[str]) -> Translator:
    """Open a translator, or make one of modules of languages; raise as :func:`open_any`."""
    opened = open_any(path)
    if isinstance(opened, Translator):
        return opened
    if isinstance(opened, Decomposition):
        return Translator(opened)
    if isinstance(opened, ConcernModule):
        return Translator([opened])
    raise FormatError(
        f"{path} holds no modules of languages, expected a translator, a decomposition of one or a module."
    )


def pick(source: str, calibrated: list[str] | None = None, beside: Beside = PLAIN) -> dict[Label, ConcernModule]:
    """Select modules with ``FOLDER`` (all) or ``FOLDER:LABEL[,LABEL...]``; a ``LABEL`` may also be ``NEW=LABEL``.

    Args:
        source: the text.
        calibrated: list to which the folder is added if it holds a calibrated composition. Its modules lose that
            calibration.
        beside: further information about the folder.

    Raises:
        IncompatibleModules: a label that the folder does not have.
        FormatError, DataError: as :func:`open_any`.
    """
    folder, wanted = split_source(source)
    have = modules_in(folder, calibrated, beside)
    if not wanted:
        return dict(have)
    chosen: dict[Label, ConcernModule] = {}
    for part in wanted.split(","):
        new, _, old = part.rpartition("=")
        label = find_label(list(have), old, folder)
        if str(new or label) in map(str, chosen):
            raise IncompatibleModules(f"label {new or label!r} comes twice in {source}.")
        chosen[new or label] = have[label]
    return chosen


def split_source(source: str) -> tuple[str, str]:
    """Split ``FOLDER:LABELS``, with ``~`` expanded. If the whole text exists as a path, it is the folder."""
    folder, _, wanted = (source, "", "") if _exists(user_path(source)) else source.partition(":")
    return str(user_path(folder)), wanted


def modules_in(
    folder: str, calibrated: list[str] | None = None, beside: Beside = PLAIN
) -> Mapping[Label, ConcernModule]:
    """Return all modules of a folder by label; raise as :func:`open_any`, and FormatError for a whole network.

    Args:
        folder: path of the folder.
        calibrated: as for :func:`pick`.
        beside: further information about the folder.
    """
    opened = open_any(folder, beside)
    if calibrated is not None and isinstance(opened, Composition) and opened.is_calibrated:
        calibrated.append(folder)
    if isinstance(opened, Network):
        raise FormatError(f"{folder} is a whole network, expected modules: run 'unbraid decompose' on it first.")
    if isinstance(opened, ConcernModule):
        return {opened.label: opened}
    if isinstance(opened, Translator):
        return {label: module for label, module in opened.modules.items()}
    return opened.modules_by_label if isinstance(opened, Composition) else opened


def find_label(labels: list[Label], text: str, where: str) -> Label:
    """Find the label that is written as ``text``; raise UnknownLabel, which lists the existing labels."""
    for label in labels:
        if str(label) == text:
            return label
    raise unknown_label(text, [str(label) for label in labels], quoted(where))


def merged(
    sources: list[str], calibrated: list[str] | None = None, beside: Beside = PLAIN
) -> dict[Label, ConcernModule]:
    """Return the modules of several sources; the arguments are those of :func:`pick`.

    Raises:
        DataError: there is no source.
        IncompatibleModules: two modules have the same label.
    """
    if not sources:
        raise DataError("name at least one folder of modules.")
    found: dict[Label, ConcernModule] = {}
    for source in sources:
        for label, module in pick(source, calibrated, beside).items():
            if str(label) in map(str, found):
                raise IncompatibleModules(f"label {label!r} comes twice: rename one, as in FOLDER:new={label}.")
            found[label] = module
    return found
