"""Copy modules of torch."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel
from torch import nn

EMPTY = (OrderedDict, dict, set, list)

M = TypeVar("M", bound=nn.Module)


def deep_copy(module: M, memo: Mapping[int, Any] | None = None) -> M:
    """Copy a module as :func:`copy.deepcopy` does, in a part of the time.

    Most of the time of ``deepcopy`` goes into the empty tables of hooks, of which each module has ten, and into
    descriptions of layers. The latter are frozen, so the copy shares them.

    Args:
        module: the module to copy.
        memo: id of a part -> its replacement.
    """
    made = dict(memo or {})
    for part in module.modules():
        for value in vars(part).values():
            if type(value) in EMPTY and not value:
                made.setdefault(id(value), type(value)())
            for own in value if type(value) is list else (value,):
                if isinstance(own, BaseModel) and own.model_config.get("frozen"):
                    made.setdefault(id(own), own)
    return copy.deepcopy(module, made)
