"""Call a user's nn.Module with inputs of any structure, and quote its errors."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.errors import DataError, quoted


def call(module: nn.Module, x: Any) -> Any:
    """Call a module. A tuple or list holds its arguments, a dict its arguments by name if the names fit."""
    if isinstance(x, dict):
        return module(**x) if _binds(module, kwargs=x) else module(x)
    if isinstance(x, tuple | list):
        return module(*x) if _binds(module, args=x) else module(x)
    return module(x)


def said(error: Exception) -> str:
    """Return the first line of an error, shortened for a message."""
    return quoted((str(error).strip() or type(error).__name__).splitlines()[0])


def check_tree(tree: Any, what: str) -> None:
    """Refuse inputs that cannot be split into examples.

    Args:
        tree: nested tuples, lists and dicts.
        what: name of the inputs in the message.

    Raises:
        DataError: the inputs hold a packed sequence.
    """
    if isinstance(tree, PackedSequence):
        raise DataError(
            f"{what} hold a PackedSequence, which cannot be split into examples: pass padded sequences and lengths, "
            "and call pack_padded_sequence in forward."
        )
    for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, tuple | list) else ():
        check_tree(part, what)


def _binds(module: nn.Module, args: Any = (), kwargs: Any = None) -> bool:
    try:
        inspect.signature(module.forward).bind(*args, **(kwargs or {}))
    except TypeError:
        return False
    return True
