"""Reset the tensors that a module keeps between calls, such as the states of a stateful network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from unbraid.networks.inputs import map_tree
from unbraid.networks.stack import RecurrentStack

_OWN = frozenset(vars(nn.Module())) | {"_flat_weights", "_flat_weight_refs"}  # views of parameters, in layers of torch


class Memory:
    """The current values of a module's attributes and buffers, apart from its parameters.

    Args:
        module: any module.
    """

    def __init__(self, module: nn.Module) -> None:
        stacks = [part for part in module.modules() if isinstance(part, RecurrentStack)]
        ours = {id(part) for stack in stacks for part in stack.modules()}
        parts = [part for part in module.modules() if id(part) not in ours]
        self._kept = [(part, _attributes(part), _cloned(dict(part._buffers))) for part in parts]

    def changed(self) -> bool:
        """Return whether a tensor was replaced or changed in place."""
        for part, attributes, buffers in self._kept:
            now = _attributes(part, clone=False)
            if now.keys() != attributes.keys() or any(not _same(now[name], old) for name, old in attributes.items()):
                return True
            if any(not _same(part._buffers.get(name), old) for name, old in buffers.items()):
                return True
        return False

    def restore(self) -> None:
        """Reset all attributes to the stored values."""
        for part, attributes, buffers in self._kept:
            own = vars(part)
            for name in set(own) - attributes.keys() - _OWN:
                del own[name]
            own.update({name: _cloned(value) for name, value in attributes.items()})
            for name, old in buffers.items():
                buffer = part._buffers.get(name)
                if torch.compiler.is_compiling() and buffer is not None and old is not None:
                    buffer.copy_(old)  # values cannot be compared in a graph, and buffers cannot be replaced
                elif not _same(buffer, old):
                    part._buffers[name] = _cloned(old)


def _attributes(part: nn.Module, clone: bool = True) -> dict[str, Any]:
    own = {name: value for name, value in vars(part).items() if name not in _OWN}
    return {name: _cloned(value) for name, value in own.items()} if clone else own


def _cloned(value: Any) -> Any:
    """Return the value with copies of its tensors; other objects are shared."""
    if isinstance(value, Tensor):
        return value.detach().clone() if type(value) is Tensor else value
    return map_tree(_cloned, value) if type(value) in (tuple, list, dict) else value


def _same(value: Any, old: Any) -> bool:
    if isinstance(old, Tensor) and isinstance(value, Tensor):
        return value is old or (value.shape == old.shape and value.dtype == old.dtype and torch.equal(value, old))
    if type(old) in (tuple, list, dict) and type(value) is type(old) and len(value) == len(old):
        if isinstance(old, dict):
            return value.keys() == old.keys() and all(_same(value[key], part) for key, part in old.items())
        return all(_same(mine, part) for mine, part in zip(value, old, strict=True))
    return value is old or (type(value) is type(old) and not isinstance(value, Tensor | tuple | list | dict))
