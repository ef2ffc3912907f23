"""Names of output layers, and of modules of several output layers: ``head/label``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, UnknownLabel, quoted, unknown_label, wrong_object
from unbraid.networks.checking import check_label

Value = TypeVar("Value")


def check_names(names: Iterable[Any]) -> None:
    """Check the names of output layers; they hold no slash, so that ``head/label`` has one meaning.

    Raises:
        ConfigError: no name, or one that is empty, not text, or has a slash.
        DataError: a name that cannot be saved.
    """
    names = list(names)
    if not names:
        raise ConfigError("found no output layer, expected at least one: name them, as {'kind': ..., 'amount': ...}.")
    for name in names:
        if not isinstance(name, str) or not name or "/" in name:
            raise ConfigError(f"output layer {quoted(repr(name))}: expected a name, which is text without a slash.")
        check_label(name)


def check_keys(given: Mapping[Any, Any], known: Iterable[str], argument: str) -> None:
    """Raise ConfigError for a key of an argument that is no output layer, ArgumentError for another object."""
    if not isinstance(given, Mapping):
        raise wrong_object(given, argument, "a mapping of output layers", "pass a dict, as {'kind': ...}")
    known = list(known)
    strange = [key for key in given if key not in known]
    if strange:
        raise ConfigError(f"{argument} names the output layer {quoted(repr(strange[0]))}, expected one of {known}.")


def by_head(given: Any, names: Iterable[str], argument: str) -> dict[str, Any]:
    """Return the value of each output layer: of a mapping by name, or of a tuple or list in their order.

    Raises:
        DataError: a value is missing, or their number differs.
        ConfigError, ArgumentError: as :func:`check_keys`.
    """
    names = list(names)
    if isinstance(given, tuple | list) and len(given) == len(names):
        return dict(zip(names, given, strict=True))
    check_keys(given, names, argument)
    missing = [name for name in names if name not in given]
    if missing:
        raise DataError(f"{argument} has nothing for the output layer {quoted(missing[0])!r}, expected {names}.")
    return {name: given[name] for name in names}


def joined_name(head: str, label: Label) -> str:
    """Return the name of a module: ``head/label``."""
    return f"{head}/{label}"


def split_name(name: Any, labels: Mapping[str, Iterable[Label]]) -> tuple[str, Label]:
    """Return output layer and label of a name ``head/label``; raise UnknownLabel if there is no such module.

    Args:
        name: the name.
        labels: output layer -> labels of its modules.
    """
    head, slash, rest = str(name).partition("/")
    for label in labels.get(head, ()) if slash else ():
        if str(label) == rest:
            return head, label
    every = [joined_name(one, label) for one, own in labels.items() for label in own]
    raise unknown_label(name, every, "the output layers") if every else UnknownLabel("there are no modules.")
