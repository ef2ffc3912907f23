"""Distillation: gradient steps that move a compact module towards the probabilities or numbers of its parent.

No labels are used.

It is off by default and reported separately, because modules need no training. Source: Hinton et al. 2015.
Shapes: M decisions, F features, R rows, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import cycle, islice, repeat
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from unbraid.decomposition.reconstruction.objectives import Objective
from unbraid.decomposition.reconstruction.parent_decisions import ParentDecisions
from unbraid.networks.heads import Head, margin
from unbraid.networks.layers import decomposable_layers

LEARNING_RATE = 2e-3
LONGEST = 1.0  # largest Euclidean norm of the gradient
SLOWER = 0.1  # factor of the rate of parameters that read a whole state: each value depends on hundreds of weights

Batch = TypeVar("Batch")


def refined(
    body: nn.Module,
    names: Collection[str],
    features: Callable[[object], Tensor],
    rows: Tensor,
    own: Sequence[Sequence[int]],
    heads: Sequence[Head],
    decisions: ParentDecisions,
    steps: int,
    objective: Objective,
) -> Tensor:
    """Train a sliced body in place and its output rows, so that its probabilities or numbers match those of the parent.

    Args:
        body: a sliced body.
        names: names of the layers whose parameters the body owns.
        features: maps inputs to the features of the output rows, (N, [T,] F).
        rows: output rows over [features, 1], (R, F + 1).
        own: indices of the rows of each of the K classes, the dominant row first.
        heads: K output layers of the parent, one for each of these classes.
        decisions: examples and features of the parent.
        steps: number of Adam steps, one batch each, at least 1.
        objective: the values that the margins give.

    Returns:
        the new rows, (R, F + 1).
    """

    def loss(batch: tuple[object, Tensor, Tensor], rows: Tensor) -> Tensor:
        inputs, used, parents = batch
        with torch.no_grad():
            wanted = objective.wanted(torch.stack([head.margin(parents) for head in heads]))
        scores = linear(features(inputs)[used], rows[:, :-1], rows[:, -1])
        said = torch.stack([margin(scores[..., list(places)]) for places in own])
        return objective.loss(said, wanted)

    return descended(
        body, names, rows, islice(cycle(decisions.batches(rows.device)), steps), loss, repeat(LEARNING_RATE)
    )


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
