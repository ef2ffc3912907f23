"""What a report needs besides the scores: which units modules keep, confusions, and reliability.

Shapes: M decisions, K modules, H hidden units, T timesteps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unbraid.config import DecompositionConfig
from unbraid.data.targets import Label
from unbraid.evaluation.metrics import Reliability
from unbraid.modules.module import ConcernModule
from unbraid.modules.retention import Retention
from unbraid.networks.network import Network
from unbraid.networks.spec import EncoderDecoderSpec
from unbraid.networks.titles import layers_text


@dataclass(frozen=True)
class Part:
    """One module of a structure.

    Attributes:
        label: label of the module.
        there: its class in the parent.
        parent: number of the parent, from 0.
        mode: ``rolled`` or ``unrolled``.
        retention: shares of the parent that the module keeps.
        kept: layer -> booleans, (H,), or (T, H) of an unrolled module.
        config: the settings that the module was made with.
    """

    label: Label
    there: Label
    parent: int
    mode: str
    retention: Retention
    kept: Mapping[str, np.ndarray]
    config: DecompositionConfig


@dataclass(frozen=True)
class ParentNetwork:
    """One parent network of a structure.

    Attributes:
        sha256: digest of its weights.
        io: its input/output type.
        layers: its recurrent layers, as text.
        labels: its classes; empty for one that was saved with a single module.
    """

    sha256: str
    io: str
    layers: str
    labels: tuple[Label, ...]


@dataclass(frozen=True)
class Structure:
    """Modules and their parent networks, without weights.

    Attributes:
        parts: the modules, in order.
        parents: the parents, in the order of their first module.
    """

    parts: tuple[Part, ...]
    parents: tuple[ParentNetwork, ...]

    def alike(self) -> list[list[Part]]:
        """Group the modules whose layers have the same names and shapes. Only their units can be compared."""
        groups: dict[object, list[Part]] = {}
        for part in self.parts:
            shapes = tuple((name, mask.shape) for name, mask in part.kept.items())
            groups.setdefault(shapes, []).append(part)
        return list(groups.values())


@dataclass(frozen=True)
class Confusion:
    """Decisions by true and decided module, for the pairs that occur.

    Attributes:
        pairs: positions of the true and of the decided module, int (P, 2).
        counts: number of decisions, int (P,).
    """

    pairs: np.ndarray
    counts: np.ndarray

    @staticmethod
    def count(true: np.ndarray, decided: np.ndarray) -> Confusion:
        """Count decisions from positions (M,) each."""
        pairs, counts = np.unique(np.stack([true, decided], axis=-1), axis=0, return_counts=True)
        return Confusion(pairs, counts)

    def matrix(self, size: int) -> np.ndarray:
        """Return the counts as a matrix, int (K, K): row true, column decided."""
        found = np.zeros((size, size), int)
        found[tuple(self.pairs.T)] = self.counts
        return found


@dataclass(frozen=True)
class Details:
    """What a report shows besides the scores of an evaluation.

    Attributes:
        structure: the modules that were evaluated.
        confusion: None for independent labels and for numbers.
        reliability: None for numbers.
    """

    structure: Structure
    confusion: Confusion | None = None
    reliability: Reliability | None = None


def structure_of(modules: Mapping[Label, ConcernModule]) -> Structure:
    """Describe modules and their parents.

    Args:
        modules: label -> module.
    """
    numbers: dict[str, int] = {}
    parts, parents = [], []
    for label, module in modules.items():
        digest = module.parent_sha256
        if digest not in numbers:
            numbers[digest] = len(numbers)
            parents.append(_parent(digest, module.parent))
        there = module.parent.labels[module.index]
        kept, mode = module.kept_nodes, str(module.concern.mode)
        parts.append(Part(label, there, numbers[digest], mode, module.retention(), kept, module.config))
    return Structure(tuple(parts), tuple(parents))


def overlap(parts: list[Part]) -> np.ndarray:
    """Compute the Jaccard index of the kept units of each pair of modules.

    Args:
        parts: K modules with layers of the same shapes, see :meth:`Structure.alike`.

    Returns:
        floats (K, K), in [0, 1]. Two modules without units have the index 0, with themselves too.
    """
    sets = np.stack([np.concatenate([mask.ravel() for mask in part.kept.values()]) for part in parts])
    ones = sets.astype(np.float32)
    shared, sizes = (ones @ ones.T).astype(np.float64), ones.sum(1, dtype=np.float64)
    return np.asarray(shared / np.maximum(sizes[:, None] + sizes - shared, 1))


def _parent(digest: str, network: Network) -> ParentNetwork:
    layers = "" if isinstance(network.spec, EncoderDecoderSpec) else layers_text(network.spec)
    return ParentNetwork(digest, str(network.io), layers, tuple(network.labels))
