"""Checks of the objects that users pass to the public functions."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import nn

from unbraid.data.targets import Label
from unbraid.errors import ConfigError, DataError, IncompatibleModules, wrong_object
from unbraid.modules.module import ConcernModule
from unbraid.networks.checking import check_label
from unbraid.networks.network import Network


def check_network(network: Any, argument: str) -> None:
    """Raise ArgumentError for anything but a Network; the message explains how to get one."""
    if isinstance(network, Network):
        return
    advice = ""
    if isinstance(network, ConcernModule):
        advice = "pass its parent, as module.parent"
    elif isinstance(getattr(network, "network", None), Network):
        advice = "pass its network, as parts.network"
    elif isinstance(network, Mapping) and network and all(isinstance(one, Network) for one in network.values()):
        advice = "call its own method, as heads.decompose((x, y)), or pass one of its networks"
    elif isinstance(network, nn.Module):
        advice = "make one with unbraid.Network.from_torch(module, example)"
    elif isinstance(network, str | os.PathLike):
        advice = "load one with unbraid.load(path)"
    raise wrong_object(network, argument, "a Network", advice)


def check_pair(examples: Any, argument: str) -> None:
    """Raise ArgumentError for anything but a pair (x, y)."""
    if not isinstance(examples, tuple | list) or len(examples) != 2:
        raise wrong_object(examples, argument, "a pair (x, y) of inputs and labels")


def named_modules(modules: Any) -> dict[Label, ConcernModule]:
    """Return modules by label: the labels of a mapping, or the modules' own labels.

    Raises:
        ArgumentError, ConfigError: as for :func:`module_pairs`.
        IncompatibleModules: two modules with one label.
    """
    named: dict[Label, ConcernModule] = {}
    for label, module in module_pairs(modules):
        if label in named:
            raise IncompatibleModules(
                f"two modules have the label {label!r}, expected different labels: pass a mapping of labels "
                "to modules, or of names to the modules of each network, as {'a': parts, 'b': others}."
            )
        named[label] = module
    return named


def new_label(label: Label) -> Label:
    """Check a label for a module and return it; raise DataError also for "" and -1, which mean no label in data."""
    if check_label(label) in ("", -1):
        raise DataError(f"label {label!r} marks a missing label in data: give the module another one.")
    return label


def _several(name: Any, modules: Any) -> bool:
    """Return whether a value of a mapping holds several modules, such as those of one network."""
    return isinstance(name, str | int) and isinstance(modules, Mapping | list | tuple)


def check_module(module: Any) -> None:
    """Raise ArgumentError for anything but one ConcernModule."""
    if not isinstance(module, ConcernModule):
        raise wrong_object(module, "module", "a ConcernModule", "pass one module, as parts['travel']")


def module_pairs(modules: Any) -> list[tuple[Label, ConcernModule]]:
    """Return labels and modules: the labels of a mapping, or the modules' own labels.

    A mapping may have several modules under one name. Their labels are then ``name/label``.

    Raises:
        ArgumentError: ``modules`` is neither a mapping nor an iterable of modules.
        ConfigError: a label that is neither text nor an integer.
        DataError: a label that cannot be saved.
    """
    advice = "pass a Decomposition, a mapping of labels to modules, or a list of modules"
    if isinstance(modules, nn.Module | str | bytes) or not isinstance(modules, Iterable):
        raise wrong_object(modules, "modules", "several ConcernModules", advice)
    given: list[tuple[Any, Any]] = (
        list(modules.items()) if isinstance(modules, Mapping) else [(None, module) for module in modules]
    )
    found: list[tuple[Label, ConcernModule]] = []
    for name, module in given:
        if _several(name, module):
            found += [(f"{name}/{label}", one) for label, one in module_pairs(module)]
            continue
        if not isinstance(module, ConcernModule):
            raise wrong_object(module, "modules", "ConcernModules in it", advice)
        label = module.label if name is None else name.item() if isinstance(name, np.generic) else name
        if not isinstance(label, str | int):
            raise ConfigError(f"a label of modules is {type(label).__name__}, expected text or an integer.")
        found.append((new_label(label), module))
    return found
