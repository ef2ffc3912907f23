"""Record values of layers while a network runs. Shapes: N examples, T timesteps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.networks.layers import Layer
from unbraid.networks.passes import Pass, current

View = Callable[[Layer, tuple, tuple], Any]  # (layer, inputs, outputs) -> recorded value
Leaves = list[Tensor | None]


class Seen(Mapping[str, Any]):
    """Layer name -> recorded value of the last pass.

    A layer can run several times in a pass. Its value then has the calls in order along the second axis, and the parts
    of the batch along the first axis.
    """

    def __init__(self) -> None:
        self._calls: dict[str, tuple[Pass | None, list[tuple[int, Any]]]] = {}

    def add(self, name: str, value: Any) -> None:
        """Add the value of one call."""
        here = current()
        known, calls = self._calls.get(name, (None, []))
        part = 0 if here is None else here.part
        if here is None or known is not here:
            calls = []
        calls.append((part, value))
        self._calls[name] = (here, calls)

    def __getitem__(self, name: str) -> Any:
        here, calls = self._calls[name]
        if here is None or (len(calls) == 1 and len(here.picked) == 1 and here.picked[0] is None):
            return calls[0][1]
        joined = _joined(here, calls)
        self._calls[name] = (None, [(0, joined)])
        return joined

    def __iter__(self) -> Iterator[str]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)


@contextmanager
def watched(layers: Mapping[str, Layer], view: View) -> Iterator[Seen]:
    """Record the value of ``view`` for every layer that runs within the context.

    Args:
        layers: name -> layer.
        view: computes the value to record from the layer, its inputs and its outputs. Tensors are (N, T, ...), alone or
            in a tuple, a dict or a dataclass. A mask (N, T) may be None if no timestep is masked.
    """
    seen = Seen()

    def hook_of(layer: Layer) -> Callable[[nn.Module, tuple, tuple], None]:
        def hook(module: nn.Module, inputs: tuple, output: tuple) -> None:
            seen.add(layer.name, view(layer, inputs, output))

        return hook

    handles = [layer.module.register_forward_hook(hook_of(layer)) for layer in layers.values()]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _joined(here: Pass, calls: list[tuple[int, Any]]) -> Any:
    """Join the values of all calls of a pass."""
    if not _leaves(calls[0][1]):
        return calls[0][1]
    parts: list[Leaves] = []
    for part, rows in enumerate(here.picked):
        own = [_leaves(value) for number, value in calls if number == part and part not in here.dropped]
        if own:
            leaves = _along(own, 1)
            parts.append(leaves if rows is None else [leaf if leaf is None else leaf[rows] for leaf in leaves])
    return _like(calls[0][1], _along(_padded(parts), 0))


def _along(values: list[Leaves], axis: int) -> Leaves:
    """Join leaves along an axis. If only some of the masks are None, these become masks that are all true."""
    if len(values) == 1:
        return values[0]
    found: Leaves = []
    for place in range(len(values[0])):
        some = [leaves[place] for leaves in values]
        if all(leaf is None for leaf in some):
            found.append(None)
            continue
        found.append(
            torch.cat(
                [_mask(leaves) if leaf is None else leaf for leaf, leaves in zip(some, values, strict=True)], axis
            )
        )
    return found


def _padded(parts: list[Leaves]) -> list[Leaves]:
    """Pad parts to the same number of timesteps with zeros; a mask is False at the new timesteps."""
    sizes = [_mask(leaves).shape[1] for leaves in parts]
    steps = max(sizes)
    if min(sizes) == steps:
        return parts
    return [[_longer(_mask(leaves) if leaf is None else leaf, steps) for leaf in leaves] for leaves in parts]


def _longer(leaf: Tensor, steps: int) -> Tensor:
    longer = leaf.new_zeros(leaf.shape[0], steps, *leaf.shape[2:])
    longer[:, : leaf.shape[1]] = leaf
    return longer


def _mask(leaves: Leaves) -> Tensor:
    """Make a mask (N, T), all true, for the tensors of one call."""
    like = next(leaf for leaf in leaves if leaf is not None)
    return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)


def _leaves(value: Any) -> Leaves:
    if value is None or isinstance(value, Tensor):
        return [value]
    return [leaf for part in _parts(value) for leaf in _leaves(part)]


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name) for field in dataclasses.fields(value)]
    return list(value)


def _like(value: Any, leaves: Leaves) -> Any:
    """Build the same structure with other leaves, taken from the front of the list."""
    rest = list(leaves)

    def build(old: Any) -> Any:
        if old is None or isinstance(old, Tensor):
            return rest.pop(0)
        parts = [build(part) for part in _parts(old)]
        if isinstance(old, Mapping):
            return dict(zip(old, parts, strict=True))
        if dataclasses.is_dataclass(old):
            names = [field.name for field in dataclasses.fields(old)]
            return dataclasses.replace(old, **dict(zip(names, parts, strict=True)))  # type: ignore[type-var]
        return type(old)(parts)

    return build(value)
