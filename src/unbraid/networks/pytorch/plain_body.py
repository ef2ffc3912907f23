"""Copy the body of a user's module, or of a rolled module of it, with layers of torch.

Shapes: N examples, T timesteps, H units of the original layer, H' kept units, F features of the output layer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from unbraid.errors import UnsupportedLayer
from unbraid.networks.inputs import map_tree, padded, with_arrays
from unbraid.networks.own_stack import OwnStack
from unbraid.networks.passes import current
from unbraid.networks.pytorch.body import TorchBody
from unbraid.networks.pytorch.plain import narrow_stack, plain_layer, plain_linear
from unbraid.networks.pytorch.wrapped import ShrunkCell, ShrunkRecurrent
from unbraid.networks.recurrent import PrunedRecurrentLayer, RecurrentLayer
from unbraid.networks.stack import CellStack, RecurrentStack


class UserFeatures(nn.Module):
    """Run the forward of a user's module, and return what its output layer reads.

    Args:
        body: the body. Its recurrent layers are layers of torch.
    """

    def __init__(self, body: TorchBody) -> None:
        super().__init__()
        self.body = body

    def forward(self, *x: Any) -> Tensor:
        """Compute the features (N, F) or (N, T, F) from the arguments of the module, or from a dict of them."""
        alone = len(x) == 1 and (self.body.spec.run.whole or not isinstance(x[0], list))
        tree = padded(x[0] if alone else x)
        if self.body.spec.run.lists:
            tree, _ = with_arrays(tree)
        found: Tensor = self.body(map_tree(lambda v: torch.as_tensor(v) if isinstance(v, np.ndarray) else v, tree))
        return found


def user_features(body: TorchBody) -> UserFeatures:
    """Copy the body of a module with layers of torch where they compute the same.

    Layers with a projection, registered cells, and levels of different sizes stay as they are.

    Raises:
        UnsupportedLayer: an unrolled module.
    """
    if body.copies > 1 or any(isinstance(part, PrunedRecurrentLayer) for part in body.modules()):
        raise UnsupportedLayer("an unrolled module has masks of its own at each timestep: use unbraid.export_onnx.")
    parts: dict[str, nn.Module] = {}
    for path, stack in body.stacks().items():
        layer = _plain(path, stack)
        if layer is not None:
            layer.register_forward_hook(_note_packed)
            parts[path] = layer
    for path, site in body.sites().items():
        if site.kept is None:
            parts[path] = plain_linear(site)
    return UserFeatures(body.exchanged(parts, 1).requires_grad_(False).eval())


def _plain(path: str, stack: RecurrentStack) -> nn.Module | None:
    """Return layers of torch for a stack; None if torch has none."""
    layers = [layer for layer in stack.layers if isinstance(layer, RecurrentLayer)]
    sizes = {layer.units for layer in layers}
    if isinstance(stack, OwnStack) or stack.proj_size or len(layers) < len(stack.layers) or len(sizes) > 1:
        return None
    small = narrow_stack(stack, list(layers), layers[0].inputs)
    layer = plain_layer(path, small, layers[0].weight_ih)
    units = stack.hidden_size
    if layer.hidden_size == units:
        return layer
    if any(kept is None for kept in stack.kept):
        return None
    kept = torch.stack([kept for kept in stack.kept if kept is not None]).to(layers[0].weight_ih.device)
    rows = layers[0].weight_ih.new_zeros(len(kept), units, layer.hidden_size + 1)
    for row, places in zip(rows, kept, strict=True):
        row[places, torch.arange(len(places), device=places.device)] = 1
    frame = ShrunkCell if isinstance(stack, CellStack) else ShrunkRecurrent
    return frame(layer, units, kept, rows, rows.clone() if stack.cell.kind == "lstm" else None)


def _note_packed(layer: nn.Module, args: tuple, result: Any) -> None:
    """Keep the packed outputs of a layer, from which the features of an example are found."""
    here = current()
    if here is not None and isinstance(result, tuple) and isinstance(result[0], PackedSequence):
        here.packed = result[0]
