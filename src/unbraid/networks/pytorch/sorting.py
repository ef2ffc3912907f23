"""Sort stably inside a user's forward, so that the copies of an example keep their order.

Several modules run in one batch, in which each example is repeated. A forward that sorts by length mixes the copies of
examples of equal length unless it sorts stably, and the masks of a module would remove units of another one.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_SORTS = (torch.sort, Tensor.sort, torch.argsort, Tensor.argsort)
_PLACES = ("dim", "descending")  # arguments behind the tensor; with stable= they are passed by name


class StableSorts(TorchFunctionMode):
    """Make torch.sort and torch.argsort stable within a context."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        plain = args and isinstance(args[0], Tensor) and not any(isinstance(part, str) for part in args)
        if plain and func in _SORTS and not torch.compiler.is_compiling():  # the operator of ONNX is stable
            named = {**dict(zip(_PLACES, args[1:], strict=False)), **named, "stable": True}
            args = args[:1]
        return func(*args, **named)
