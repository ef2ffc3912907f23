"""Where each layer's variables lie: by the layer's name in ``.h5``, by its class and turn in ``.keras``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import h5py
import numpy as np

from unbraid.errors import FormatError
from unbraid.networks.keras.hdf5 import Shape, Store

SNAKE_CASE = {
    "Embedding": "embedding",
    "SimpleRNN": "simple_rnn",
    "LSTM": "lstm",
    "GRU": "gru",
    "Bidirectional": "bidirectional",
    "Dense": "dense",
    "TimeDistributed": "time_distributed",
}
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")  # the second: Keras 2.12 to 2.15


class Variable(NamedTuple):
    """One variable of a layer.

    Attributes:
        part: where inside the layer, as ``.keras`` files name it: ``cell``, ``forward_layer/cell``, or nothing.
        number: its place there.
        shape: None for a size that the file decides.
    """

    part: str
    number: int
    shape: Shape


class Weights(Protocol):
    """Reads one layer's variables."""

    def arrays(self, name: str, kind: str, turn: tuple[int, int], variables: Sequence[Variable]) -> list[np.ndarray]:
        """The variables as float32.

        Args:
            name: the layer's.
            kind: its class.
            turn: the how-manieth of its class it is in the model, and how many there are.
            variables: all that the layer has, in Keras' order.
        """


class LegacyWeights:
    """``.h5``: each layer's group says in ``weight_names`` which datasets it has."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def arrays(self, name: str, kind: str, turn: tuple[int, int], variables: Sequence[Variable]) -> list[np.ndarray]:
        """See :class:`Weights`."""
        group = self.store.group(self.store.root(), f"model_weights/{name}")
        names = self.store.text_list(group, "weight_names", len(variables))
        return [self.store.array(group, n, v.shape) for n, v in zip(names, variables, strict=True)]


class ArchiveWeights:
    """``.keras``: groups are called after the layers' classes, numbered in the order of the layers."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def arrays(self, name: str, kind: str, turn: tuple[int, int], variables: Sequence[Variable]) -> list[np.ndarray]:
        """See :class:`Weights`."""
        group = self._groups(kind, turn[1])[turn[0]]
        paths = ["/".join([v.part, "vars", str(v.number)]) for v in variables]
        return [self.store.array(group, p, v.shape) for p, v in zip(paths, variables, strict=True)]

    def _groups(self, kind: str, count: int) -> list[h5py.Group]:
        """The groups of all layers of a class; Keras 2.12 to 2.15 skips numbers, so only their order counts."""
        pattern = re.compile(rf"{SNAKE_CASE[kind]}(?:_(\d{{1,9}}))?")
        found = 0
        root = self.store.root()
        for container in [self.store.group(root, path) for path in _CONTAINERS if self.store.has(root, path)]:
            matches = [m for m in map(pattern.fullmatch, self.store.members(container)) if m]
            if len(matches) == count:
                matches.sort(key=lambda m: int(m[1] or 0))
                return [self.store.group(container, m[0]) for m in matches]
            found = max(found, len(matches))
        raise FormatError(
            f"{self.store.file}: {found} groups 'layers/{SNAKE_CASE[kind]}...', expected {count}: one for each {kind}."
        )
