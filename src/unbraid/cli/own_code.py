"""``--module``: the user's code for networks that are PyTorch modules.

Code is imported from a file that the user names, or from the user's Python path and the current folder. It is never
imported from a folder that is opened.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from unbraid.errors import ConfigError, DataError, quoted
from unbraid.limits import parse_json
from unbraid.paths import user_path

EXPECTED = "expected package.file:Factory or path/to/file.py:Factory, and NAME= before it for one of several networks"


def own_modules(options: Sequence[str], opened: Iterable[str | os.PathLike[str]]) -> Any:
    """Import the objects of ``--module``, for ``module=`` of the load functions.

    Args:
        options: each ``PLACE:FACTORY`` or ``KEY=PLACE:FACTORY``; KEY is the number, the name or the class name of a
            parent network.
        opened: folders that are opened; code inside them is refused.

    Returns:
        None without options; one factory or instance; or a dict of them by key.

    Raises:
        ConfigError: an option of another form, several without a key, or code that cannot be imported.
    """
    found: dict[int | str | None, Any] = {}
    for option in options:
        key, text = _split(option)
        if key in found:
            where = "for all networks" if key is None else f"for {key!r}"
            raise ConfigError(
                f"--module is given twice {where}: name the network, as --module NAME={quoted(text, 80)}."
            )
        found[key] = _imported(text, [Path(os.path.realpath(user_path(folder))) for folder in opened])
    if not found:
        return None
    if None in found and len(found) > 1:
        raise ConfigError("--module is given with and without NAME=: name the network in each of them.")
    return found.get(None, found)


def read_init(text: str | None) -> dict[str, Any] | None:
    """Read ``--init``, a JSON object of constructor arguments; raise DataError for another value."""
    if text is None:
        return None
    value = parse_json(text.encode("utf-8", "surrogatepass"), "--init", strict=True)
    if not isinstance(value, dict):
        raise DataError(
            f"--init: found {quoted(json.dumps(value), 40)}, expected a JSON object, as '{{\"hidden\": 64}}'."
        )
    return value


def _split(option: str) -> tuple[int | str | None, str]:
    before, equals, after = option.partition("=")
    if not equals:
        return None, option
    return int(before) if before.isascii() and before.isdigit() and len(before) < 10 else before, after


def _imported(text: str, opened: list[Path]) -> Any:
    """Import the object ``PLACE:FACTORY``."""
    place, colon, name = text.rpartition(":")
    if not colon or not place or not name:
        raise ConfigError(f"--module {quoted(text, 80)}: {EXPECTED}.")
    is_file = place.endswith(".py")
    found: Any = _file(place, opened) if is_file else _package(place, opened)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"--module {quoted(text, 80)}: {quoted(place, 60)} has no {quoted(part, 60)!r}.")
        found = getattr(found, part)
    if not isinstance(found, nn.Module) and not callable(found):
        raise ConfigError(f"--module {quoted(text, 80)}: is a {type(found).__name__}, expected a class or a function.")
    return found


def _file(place: str, opened: list[Path]) -> ModuleType:
    path = Path(os.path.realpath(user_path(place)))
    _check_outside(path, opened)
    if not path.is_file():
        raise ConfigError(f"--module: {quoted(place)}: no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"--module: {quoted(place)}: not a Python file.")
    module = importlib.util.module_from_spec(spec)
    previous = sys.modules.get(path.stem)
    sys.modules[path.stem] = module
    here = Path.cwd()
    inside = any(_contains(folder, here) for folder in opened)
    try:
        with _importable([path.parent, *([] if inside else [here])]):  # finds files beside it, as for a script
            _running(lambda: spec.loader.exec_module(module), place)
    finally:
        if previous is not None:  # keep an installed package of the same name
            sys.modules[path.stem] = previous
    return module


def _package(place: str, opened: list[Path]) -> ModuleType:
    here = Path.cwd()
    _check_outside(here, opened)
    with _importable([here]):
        _check_found(place, opened)
        found: ModuleType = _running(lambda: importlib.import_module(place), place)
    return found


@contextmanager
def _importable(folders: list[Path]) -> Iterator[None]:
    """Put folders at the start of the Python path."""
    before = sys.path[:]
    sys.path[:0] = [str(folder) for folder in folders]
    try:
        yield
    finally:
        sys.path[:] = before


def _check_found(place: str, opened: list[Path]) -> None:
    """Raise ConfigError if a package, or a part of it, is missing or inside an opened folder. Nothing is imported."""
    path: list[str] | None = None
    parts = place.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        spec = _spec(name, path)
        if spec is None:
            raise ConfigError(f"--module: there is no Python module {quoted(name, 80)!r} here or on the Python path.")
        path = list(spec.submodule_search_locations or [])
        for location in [spec.origin, *path]:
            if location not in (None, "built-in", "frozen"):
                _check_outside(Path(os.path.realpath(str(location))), opened)


def _spec(name: str, path: list[str] | None) -> ModuleSpec | None:
    loaded = sys.modules.get(name)
    try:
        return loaded.__spec__ if loaded is not None and loaded.__spec__ else PathFinder.find_spec(name, path)
    except (ValueError, ImportError):
        return None


def _check_outside(place: Path, opened: list[Path]) -> None:
    for folder in opened:
        if _contains(folder, place):
            raise ConfigError(
                f"--module: {quoted(place)} is inside {quoted(folder)}, and no code of an opened folder is run: keep "
                "your code elsewhere, and run the command in another folder."
            )


def _contains(folder: Path, place: Path) -> bool:
    return place == folder or folder in place.parents


def _running(call: Any, place: str) -> Any:
    try:
        return call()
    except (Exception, SystemExit) as error:  # a user's code may raise any error
        detail = quoted((str(error).splitlines() or [""])[0])
        raise ConfigError(f"--module: {quoted(place)} cannot be imported: {type(error).__name__}: {detail}.") from error
