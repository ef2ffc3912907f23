"""A concern: the nodes of a network that answer for one class. Shapes: H units, T timesteps, G gates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unbraid.config import Edges, Mode
from unbraid.networks.cells import ACTIVATIONS
from unbraid.networks.layers import Layer
from unbraid.networks.removal import GatesGone, NodesGone, ReleaseEdges, Removal


@dataclass(frozen=True)
class Concern:
    """Which nodes (or gates) of each layer a module keeps.

    Attributes:
        kept: layer name -> booleans: (H,) rolled, (T, H) unrolled; by gates (G, H) or (T, G, H) for gated layers.
        steps: layer name -> timesteps it ran over when it was observed.
        mode: rolled or unrolled.
        by_gates: whether gated layers' masks have a gate axis.
        edges: which edges of an unrolled node go.
    """

    kept: Mapping[str, np.ndarray]
    steps: Mapping[str, int]
    mode: Mode
    by_gates: bool = False
    edges: Edges = Edges.ALL

    def nodes(self, layer: Layer) -> np.ndarray:
        """Kept nodes of a layer, (H,) or (T, H): a node stays while one of its gates does."""
        mask = self.kept[layer.name]
        return np.asarray(mask.any(axis=-2)) if self.has_gates(layer) else mask

    def has_gates(self, layer: Layer) -> bool:
        """Whether the layer's mask has a gate axis."""
        return self.by_gates and layer.cell is not None and len(layer.cell.gates) > 1


def kept_indices(concern: Concern, layer: Layer) -> Tensor:
    """Indices of a rolled layer's nodes that have to run, (H',): the kept ones.

    Where a node without gates would still say act(0), that is all of them.
    """
    speaks = layer.cell is not None and float(ACTIVATIONS[layer.cell.activation](torch.zeros(()))) != 0
    if speaks and concern.has_gates(layer):
        return torch.arange(layer.units)
    return torch.from_numpy(np.flatnonzero(concern.nodes(layer)))


def removals(concerns: list[Concern], layers: Mapping[str, Layer], device: torch.device) -> dict[str, Removal | Tensor]:
    """The masks of K modules of one parent, layer by layer, as a scan (or a dense layer) applies them.

    Args:
        concerns: of the K modules, all of one mode, view of gates and edges.
        layers: the parent's.
        device: where the masks go.

    Returns:
        layer name -> a Removal over K modules, or a (K, T or 1, H) mask for dense layers.
    """
    found: dict[str, Removal | Tensor] = {}
    for name, layer in layers.items():
        masks = np.stack([c.kept[name] for c in concerns]).astype(np.float32)
        rolled_shape = 3 if concerns[0].has_gates(layer) else 2
        if masks.ndim == rolled_shape:
            masks = masks[:, None]
        kept = torch.from_numpy(masks.reshape(*masks.shape[:2], -1)).to(device)  # gate after gate
        if layer.cell is None:
            found[name] = kept
        elif concerns[0].has_gates(layer):
            found[name] = GatesGone(kept)
        elif concerns[0].edges is Edges.RELEASE and concerns[0].mode is Mode.UNROLLED:
            found[name] = ReleaseEdges(kept)
        else:
            found[name] = NodesGone(kept)
    return found
