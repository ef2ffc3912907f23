"""What every kind of graph layer defines: the settings that it reads, its weights, its values and its mask.

Shapes: N examples. The shape of a value has no axis of examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

Mask = Tensor | None
Shapes = list[tuple[int, ...]]
Weights = Mapping[str, Tensor]


class Weight(NamedTuple):
    """One weight of a layer.

    Attributes:
        name: its name in the layer.
        shape: its shape, as Keras stores it.
        part: path of the sublayer that has it, as ``.keras`` files write it.
        number: its position in that sublayer; None counts from the weight before it.
        used: whether the network needs it. Other weights are in the file only.
    """

    name: str
    shape: tuple[int, ...]
    part: str = ""
    number: int | None = None
    used: bool = True


class Settings:
    """Checked settings of a layer, with the defaults of Keras.

    Args:
        values: name -> value.
        keras: major version of Keras that wrote them.
    """

    def __init__(self, values: Mapping[str, Any], keras: int = 3) -> None:
        self.values, self.keras = values, keras

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value, or the default if it is missing or null."""
        value = self.values.get(name)
        return default if value is None else value

    def sizes(self, name: str, axes: int, default: int = 1) -> list[int]:
        """One size for each axis; a single number counts for all of them."""
        value = self.get(name, default)
        found = [int(v) for v in value] if isinstance(value, list) else [int(value)] * axes
        if len(found) != axes or not all(0 < size <= 2**20 for size in found):
            raise ValueError(f"{name} is {value!r}, expected {axes} sizes from 1 to {2**20}")
        return found


Run = Callable[[Settings, Weights, list[Tensor], list[Mask]], Tensor]
MaskRule = Callable[[Settings, list[Tensor], list[Mask]], Mask]


def keep_mask(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    """Pass on the mask of the first input."""
    return masks[0]


def drop_mask(settings: Settings, x: list[Tensor], masks: list[Mask]) -> Mask:
    """Pass on no mask."""
    return None


def no_weights(settings: Settings, shapes: Shapes) -> list[Weight]:
    """Return a layer without weights."""
    return []


@dataclass(frozen=True)
class Kind:
    """One kind of layer.

    Attributes:
        run: settings, weights, values and masks -> the result.
        settings: names of the settings that change the result.
        weights: settings and shapes of what it reads -> its weights, in Keras' order.
        mask: the mask of the result.
        activated: whether a setting ``activation`` is applied to the result.
        many: whether it reads several values.
    """

    run: Run
    settings: tuple[str, ...] = ()
    weights: Callable[[Settings, Shapes], list[Weight]] = no_weights
    mask: MaskRule = drop_mask
    activated: bool = False
    many: bool = False


def axis_of(settings: Settings, dims: int, default: int = -1) -> int:
    """Return the one axis of a setting, from 1 on; raise ValueError for several axes or the axis of examples."""
    value = settings.get("axis", default)
    values = value if isinstance(value, list) else [value]
    if len(values) != 1 or type(values[0]) is not int:
        raise ValueError(f"axis is {value!r}, expected one axis")
    axis = values[0] + (dims if values[0] < 0 else 0)
    if not 0 < axis < dims:
        raise ValueError(f"axis is {value!r} for values of {dims} axes")
    return axis


def along(values: Tensor, dims: int, axis: int) -> Tensor:
    """Reshape a vector so that it varies along one of ``dims`` axes."""
    shape = [1] * dims
    shape[axis] = -1
    return values.reshape(shape)


def masked_out(x: Tensor, mask: Mask) -> Tensor:
    """Values with zeros where the mask (N, T) is False."""
    if mask is None:
        return x
    return torch.where(mask.reshape(*mask.shape, *[1] * (x.dim() - mask.dim())), x, torch.zeros_like(x))
