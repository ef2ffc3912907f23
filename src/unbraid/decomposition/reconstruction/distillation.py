"""Gradient steps that move a compact module towards its parent.

They are off by default and reported separately, because modules need no training. Source: Hinton et al. 2015.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TypeVar

from torch import Tensor, nn

from unbraid.decomposition.adam import Adam
from unbraid.networks.layers import decomposable_layers

LEARNING_RATE = 2e-3
LONGEST = 1.0  # largest Euclidean norm of the gradient
SLOWER = 0.1  # factor of the rate of parameters that read a whole state: each value depends on hundreds of weights

Batch = TypeVar("Batch")


def descended(
    body: nn.Module,
    names: Collection[str],
    rows: Tensor,
    batches: Iterable[Batch],
    loss: Callable[[Batch, Tensor], Tensor],
    rates: Iterable[float],
    more: Sequence[nn.Parameter] = (),
) -> Tensor:
    """Take one Adam step per batch, on the layers of a sliced body (in place) and on output rows.

    Args:
        body: a sliced body.
        names: names of the layers whose parameters the body owns. The parent has the others.
        rows: output rows.
        batches: batches that ``loss`` accepts.
        loss: computes the loss of a batch and the rows; it runs the body.
        rates: learning rate of each step. Training ends when there are no more rates or no more batches.
        more: further parameters, which are trained with smaller steps.

    Returns:
        the new rows, in the shape of the old ones.
    """
    layers = decomposable_layers(body)
    parameters = [p for name in layers if name in names for p in layers[name].module.parameters()]
    rows = nn.Parameter(rows.clone())
    fast, slow = Adam([*parameters, rows]), Adam(more)
    parameters += more
    for parameter in parameters:
        parameter.requires_grad_(True)
    for rate, batch in zip(rates, batches, strict=False):
        fast.clear()
        slow.clear()
        loss(batch, rows).backward()
        nn.utils.clip_grad_norm_([*parameters, rows], LONGEST)
        fast.step(rate)
        slow.step(SLOWER * rate)
    for parameter in parameters:
        parameter.requires_grad_(False)
    return rows.detach()
