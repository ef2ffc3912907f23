"""Refining a compact module by gradient steps from what its parent says, without labels (distillation).

Off by default and reported apart: the promise is a module without retraining. Source: Hinton et al. 2015.
Shapes: M decisions, F features, R rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice, repeat
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, linear

from unbraid.decomposition.reconstruction.parent_decisions import ParentDecisions
from unbraid.networks.heads import Head, margin
from unbraid.networks.layers import decomposable_layers

LEARNING_RATE = 2e-3
LONGEST = 1.0  # gradient, by Euclidean norm
SLOWER = 0.1  # steps of what reads a whole state: each of its values moves with hundreds of weights

Batch = TypeVar("Batch")


def refined(
    body: nn.Module,
    features: Callable[[object], Tensor],
    rows: Tensor,
    own: Sequence[Sequence[int]],
    heads: Sequence[Head],
    decisions: ParentDecisions,
    steps: int,
) -> Tensor:
    """Change a sliced body's layers in place, and its output rows, so that margins give the parent's probabilities.

    Args:
        body: whose recurrent and dense layers are its own.
        features: inputs -> what the rows read, ([T,] F) for every example.
        rows: over [features, 1], (R, F + 1).
        own: which of the rows are each of the K classes', the dominant one first.
        heads: the parent's own for these classes.
        decisions: of the parent.
        steps: of Adam, a batch each, above 0.

    Returns:
        the new rows.
    """

    def loss(batch: tuple[object, Tensor, Tensor], rows: Tensor) -> Tensor:
        inputs, used, parents = batch
        with torch.no_grad():
            wanted = torch.stack([torch.sigmoid(head.margin(parents)) for head in heads])
        scores = linear(features(inputs)[used], rows[:, :-1], rows[:, -1])
        said = torch.stack([margin(scores[..., list(places)]) for places in own])
        return binary_cross_entropy_with_logits(said, wanted)

    return descended(body, rows, islice(cycle(decisions.batches(rows.device)), steps), loss, repeat(LEARNING_RATE))


def descended(
    body: nn.Module,
    rows: Tensor,
    batches: Iterable[Batch],
    loss: Callable[[Batch, Tensor], Tensor],
    rates: Iterable[float],
    more: Sequence[nn.Parameter] = (),
) -> Tensor:
    """Take a step of Adam with each batch: change a sliced body's layers in place, and rows.

    Args:
        body: whose recurrent and dense layers are its own.
        rows: of its output layer.
        batches: what ``loss`` knows to read.
        loss: of a batch and the rows; it runs the body.
        rates: of learning, one a step; steps end with them or with the batches.
        more: parameters that change as well, by smaller steps.

    Returns:
        the new rows, in the shape of the old ones.
    """
    parameters = [p for layer in decomposable_layers(body).values() for p in layer.module.parameters()]
    rows = rows.clone().requires_grad_(True)
    optimizer = torch.optim.Adam([{"params": [*parameters, rows]}])
    if more:
        optimizer.add_param_group({"params": list(more)})
    parameters += more
    for parameter in parameters:
        parameter.requires_grad_(True)
    for rate, batch in zip(rates, batches, strict=False):
        for group, share in zip(optimizer.param_groups, (1.0, SLOWER), strict=False):
            group["lr"] = share * rate
        optimizer.zero_grad()
        loss(batch, rows).backward()
        nn.utils.clip_grad_norm_([*parameters, rows], LONGEST)
        optimizer.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
    return rows.detach()
