"""Opening whatever a path holds: a model file, or a folder that Unbraid saved; and picking modules out of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from unbraid.data.targets import Label
from unbraid.decomposition.decomposition import Decomposition
from unbraid.errors import DataError, FormatError, IncompatibleModules, quoted, unknown_label
from unbraid.modules.compose import compose
from unbraid.modules.composition import Composition
from unbraid.modules.module import ConcernModule
from unbraid.networks.keras.loss import Task
from unbraid.networks.loading import load
from unbraid.networks.network import Network
from unbraid.storage.folders import consistently, recover
from unbraid.storage.loading import composition_of, load_modules
from unbraid.translation.translator import Translator

Opened = Network | Decomposition | ConcernModule | Composition | Translator


def open_any(path: str | os.PathLike[str], labels: list[str] | None = None, task: Task | None = None) -> Opened:
    """Open a model file or a saved folder, by its content.

    Args:
        path: a ``.h5`` or ``.keras`` file under any name, or a folder that Unbraid saved.
        labels: names for a model file's classes.
        task: of a model file, see :func:`unbraid.load`.

    Raises:
        FormatError: neither, or damaged.
        UnsupportedLayer: a model with a layer that cannot be run exactly, or one that may be a regressor.
        ConfigError: a task that is not supported.
    """
    if not _exists(path):
        raise FormatError(
            f"{quoted(path)}: no such file or folder; expected a .h5 or .keras model, or a folder Unbraid saved."
        )
    if not os.path.isdir(path):
        return load(path, labels, task=task)
    return consistently(path, lambda: _open_folder(path))


def _exists(path: str | os.PathLike[str]) -> bool:
    """Whether there is a file or folder, also after a save of it was killed; False for a name that cannot be one."""
    try:
        recover(Path(path))
        return Path(path).exists()
    except (OSError, ValueError):  # a name that is too long, or holds a NUL
        return False


def _open_folder(path: str | os.PathLike[str]) -> Opened:
    manifest, parents, modules = load_modules(path)
    if manifest.kind == "module":
        return modules[0]
    named = {m.label: m for m in modules}
    if manifest.kind == "composition":
        return composition_of(path, manifest, modules)
    if manifest.kind == "translator":
        return Translator({str(label): module for label, module in named.items()})
    return Decomposition(parents[0], named, modules[0].config, manifest.skipped)


def open_classifier(path: str | os.PathLike[str]) -> tuple[Composition, Network | None]:
    """A composition to run, and the network it came from where that is one; raises as :func:`open_any`."""
    opened = open_any(path)
    if isinstance(opened, Decomposition):
        return compose(opened), opened.network
    if isinstance(opened, Composition):
        return opened, None
    if isinstance(opened, ConcernModule):
        return compose([opened]), None
    if isinstance(opened, Translator):
        raise FormatError(f"{path} is a translator, which gives no labels: run 'unbraid translate' on it.")
    raise FormatError(f"{path} is a whole network, expected modules: run 'unbraid decompose' on it first.")


def open_translator(path: str | os.PathLike[str]) -> Translator:
    """A translator, or languages' modules as one; raises as :func:`open_any`, and IncompatibleModules for others."""
    opened = open_any(path)
    if isinstance(opened, Translator):
        return opened
    if isinstance(opened, Decomposition):
        return Translator(opened)
    if isinstance(opened, ConcernModule):
        return Translator([opened])
    raise FormatError(f"{path} holds no languages' modules, expected a translator, a decomposition of one or a module.")


def pick(source: str, calibrated: list[str] | None = None) -> dict[Label, ConcernModule]:
    """Modules named as ``FOLDER`` (all of them) or ``FOLDER:LABEL[,LABEL...]``, each ``LABEL`` also ``NEW=LABEL``.

    Args:
        source: the text.
        calibrated: where to add the folder's name if it holds a calibrated composition: its modules come without that.

    Raises:
        IncompatibleModules: a label that the folder does not have.
        FormatError, DataError: as :func:`open_any`.
    """
    folder, _, wanted = (source, "", "") if _exists(source) else source.partition(":")
    have = modules_in(folder, calibrated)
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


def modules_in(folder: str, calibrated: list[str] | None = None) -> Mapping[Label, ConcernModule]:
    """All modules of a folder, by label; raises as :func:`open_any`, and FormatError for a whole network.

    Args:
        folder: where.
        calibrated: as for :func:`pick`.
    """
    opened = open_any(folder)
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
    """The label written ``text``; raises UnknownLabel, naming the known ones."""
    for label in labels:
        if str(label) == text:
            return label
    raise unknown_label(text, [str(label) for label in labels], quoted(where))


def merged(sources: list[str], calibrated: list[str] | None = None) -> dict[Label, ConcernModule]:
    """Modules of several sources; the arguments are those of :func:`pick`.

    Raises:
        DataError: no source.
        IncompatibleModules: two modules of one label.
    """
    if not sources:
        raise DataError("name at least one folder of modules.")
    found: dict[Label, ConcernModule] = {}
    for source in sources:
        for label, module in pick(source, calibrated).items():
            if str(label) in map(str, found):
                raise IncompatibleModules(f"label {label!r} comes twice: rename one, as in FOLDER:new={label}.")
            found[label] = module
    return found
