"""Run the modules of a group as one joined body, for batches so small that calls cost more than arithmetic.

Shapes: N examples, T timesteps, F features, R rows of an output layer, K modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unbraid.modules.module import ConcernModule
from unbraid.networks.heads import Head, margin
from unbraid.networks.joined import JoinedWeights, holds, joined
from unbraid.networks.layers import decomposable_layers
from unbraid.networks.pytorch import joining  # noqa: F401  # registers how PyTorch modules are joined

WORK = 50_000  # examples times squared units of a layer, above which K fused kernels are faster than one joined scan


class SmallBatches(nn.Module):
    """K modules of one parent as one joined body and one joined output layer.

    The weights are copies; :meth:`holds` compares them with those of the modules.

    Args:
        body: the joined body, see :func:`unbraid.networks.joined.joined`.
        heads: K output layers of equal shapes.
        largest: largest number of examples of a batch for which this is faster.
    """

    def __init__(self, body: nn.Module, heads: Sequence[Head], largest: int) -> None:
        super().__init__()
        self.body, self.heads, self.largest = body, JoinedWeights(heads), largest

    def holds(self) -> bool:
        """Return whether the weights of the modules are unchanged."""
        return self.heads.holds() and holds(self.body)

    def features(self, signal: Any) -> Tensor:
        """Compute the inputs of each output layer, (K, N, [T,] F), from the result of the parent's opening."""
        features: Tensor = self.body.rest(signal)  # type: ignore[operator]  # every body has one
        return features.unflatten(0, (len(self.heads.get_buffer("weight")), -1))

    def margins(self, features: Tensor) -> Tensor:
        """Compute the margins (N, [T,] K) from :meth:`features`."""
        weight, bias = self.heads.get_buffer("weight"), self.heads.get_buffer("bias")
        rows = torch.baddbmm(bias.unsqueeze(1), features.flatten(1, -2), weight.transpose(1, 2))
        return margin(rows.view(*features.shape[:-1], -1)).movedim(0, -1)


def small_batches(modules: Sequence[ConcernModule]) -> SmallBatches | None:
    """Join modules of one parent; None if their structures or sizes do not allow it, or if it is never faster."""
    heads = [module.head for module in modules]
    largest = WORK // max(layer.units**2 for layer in decomposable_layers(modules[0].body).values())
    plain = all(head.idle == 0 and head.words is None and head.weight.dtype == torch.float32 for head in heads)
    if largest == 0 or not plain or len({tuple(head.weight.shape) for head in heads}) > 1:
        return None
    body = joined(modules[0].body, [module.body for module in modules])
    return None if body is None else SmallBatches(body, heads, largest)
