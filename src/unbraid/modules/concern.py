"""A concern: the hidden units that a module keeps. Shapes: H hidden units, T timesteps, G gates, K modules."""

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
    """The nodes (or gates) of each layer that a module keeps.

    Attributes:
        kept: layer name -> booleans, (H,) rolled or (T, H) unrolled. With ``by_gates``, gated layers have (G, H) or
            (T, G, H). A dense layer that is not named is whole, and its weights are those of the parent.
        steps: layer name -> number of timesteps in the sample.
        mode: rolled or unrolled.
        by_gates: whether the masks of gated layers have a gate axis.
        edges: the edges of an unrolled node that are removed with it.
    """

    kept: Mapping[str, np.ndarray]
    steps: Mapping[str, int]
    mode: Mode
    by_gates: bool = False
    edges: Edges = Edges.ALL

    def nodes(self, layer: Layer) -> np.ndarray:
        """Return the kept nodes of a layer, (H,) or (T, H). A node is kept if one of its gates is kept."""
        if layer.name not in self.kept:
            return np.ones(layer.units, bool)
        mask = self.kept[layer.name]
        return np.asarray(mask.any(axis=-2)) if self.has_gates(layer) else mask

    def has_gates(self, layer: Layer) -> bool:
        """Return whether the mask of the layer has a gate axis."""
        return self.by_gates and layer.cell is not None and len(layer.cell.gates) > 1


def kept_units(concern: Concern, layers: Mapping[str, Layer], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return layer name -> indices of the nodes that the layer computes, of the layers that a rolled concern names."""
    return {name: kept_indices(concern, layers[name]).to(device) for name in layers if name in concern.kept}


def kept_indices(concern: Concern, layer: Layer) -> Tensor:
    """Return the indices of the nodes that a rolled layer computes, (H',).

    These are the kept nodes. They are all nodes if masks have a gate axis and act(0) is not 0, because a node without
    gates then still has an output.
    """
    not_zero = layer.cell is not None and float(ACTIVATIONS[layer.cell.activation](torch.zeros(()))) != 0
    if not_zero and concern.has_gates(layer):
        return torch.arange(layer.units)
    return torch.from_numpy(np.flatnonzero(concern.nodes(layer)))


def removals(concerns: list[Concern], layers: Mapping[str, Layer], device: torch.device) -> dict[str, Removal | Tensor]:
    """Make the masks of K modules of one parent, as a scan (or a dense layer) applies them.

    Args:
        concerns: concerns of the K modules, with the same mode, layers, ``by_gates`` and ``edges``.
        layers: layers of the parent.
        device: device of the masks.

    Returns:
        layer name -> a Removal for K modules, or for dense layers a mask (K, T or 1, H).
    """
    found: dict[str, Removal | Tensor] = {}
    for name, layer in layers.items():
        if name not in concerns[0].kept:
            continue
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
