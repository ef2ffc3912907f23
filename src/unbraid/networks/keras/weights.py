"""Where the variables of each layer are: by the layer's name in ``.h5``, by its class and position in ``.keras``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import h5py
import numpy as np

from unbraid.errors import FormatError
from unbraid.networks.keras.config import shown
from unbraid.networks.keras.hdf5 import Shape, Store
from unbraid.networks.keras.names import snake_case

_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second: Keras 2.12 to 2.15


class Variable(NamedTuple):
    """One variable of a layer.

    Attributes:
        part: where inside the layer, as ``.keras`` files name it: ``cell``, ``forward_layer/cell``, or nothing.
        number: its place there.
        shape: None for a size that the file decides.
        used: whether it is read; if not, it only has to be there.
    """

    part: str
    number: int
    shape: Shape
    used: bool = True


class Place(NamedTuple):
    """Where the variables of a layer are: the layer itself, or a model or wrapper that holds it.

    Attributes:
        name: its name.
        kind: its class.
        turn: its position among the layers of its class in the model.
        of: how many of its class there are.
        wrapped: whether it is the one layer of a wrapper.
    """

    name: str
    kind: str
    turn: int = 0
    of: int = 1
    wrapped: bool = False


class Weights(Protocol):
    """Reads the variables of one layer."""

    def arrays(self, places: Sequence[Place], variables: Sequence[Variable]) -> list[np.ndarray]:
        """Return the variables as float32.

        Args:
            places: from a layer of the model down to the one whose variables are read.
            variables: all that the layer has, in Keras' order.
        """


class LegacyWeights:
    """``.h5``: the attribute ``weight_names`` of each layer's group lists its datasets.

    Args:
        store: the file.
        top: path of the group that holds the groups of the layers.
    """

    def __init__(self, store: Store, top: str = "model_weights/") -> None:
        self.store, self.top = store, top

    def arrays(self, places: Sequence[Place], variables: Sequence[Variable]) -> list[np.ndarray]:
        """See :class:`Weights`. The names of a nested model's weights have the name of the layer as a component."""
        group = self.store.group(self.store.root(), f"{self.top}{places[0].name}")
        inner = [place.name for place in places[1:] if not place.wrapped]
        if not inner:
            names = self.store.text_list(group, "weight_names", len(variables))
        else:
            names = [n for n in self.store.text_list(group, "weight_names") if inner[-1] in n.split("/")]
            if len(names) != len(variables):
                raise FormatError(
                    f"{self.store.file}: {len(names)} weights of layer {shown(inner[-1])} in {shown(places[0].name)}, "
                    f"expected {len(variables)}."
                )
        return [self.store.array(group, n, v.shape, v.used) for n, v in zip(names, variables, strict=True)]


class ArchiveWeights:
    """``.keras``: groups are called after the layers' classes, numbered in the order of the layers."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def arrays(self, places: Sequence[Place], variables: Sequence[Variable]) -> list[np.ndarray]:
        """See :class:`Weights`."""
        group = self.store.root()
        for place in places:
            group = self.store.group(group, "layer") if place.wrapped else self._group(group, place)
        return [self._array(group, v) for v in variables]

    def _array(self, group: h5py.Group, variable: Variable) -> np.ndarray:
        parts = [variable.part, f"_{variable.part}"] if variable.part else [""]  # Keras names some sublayers so
        part = next((p for p in parts if self.store.has(group, p)), parts[0]) if variable.part else ""
        path = "/".join([part, "vars", str(variable.number)])
        return self.store.array(group, path, variable.shape, variable.used)

    def _group(self, parent: h5py.Group, place: Place) -> h5py.Group:
        """Return the group of a layer; Keras 2.12 to 2.15 skips numbers, so only the order of the groups counts."""
        snake = snake_case(place.kind)
        pattern = re.compile(rf"{snake}(?:_(\d{{1,9}}))?")
        found = 0
        for container in [self.store.group(parent, path) for path in _CONTAINERS if self.store.has(parent, path)]:
            matches = [m for m in map(pattern.fullmatch, self.store.members(container)) if m]
            if len(matches) == place.of:
                matches.sort(key=lambda m: int(m[1] or 0))
                return self.store.group(container, matches[place.turn][0])
            found = max(found, len(matches))
        raise FormatError(
            f"{self.store.file}: {found} groups 'layers/{snake}...', expected {place.of}: one for each {place.kind}."
        )
