"""Distillation of a smaller module: gradient steps towards the scores of its parent, without labels.

Source: Hinton et al. 2015. Shapes: C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from itertools import cycle, islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from unbraid.decomposition.adam import Adam
from unbraid.decomposition.reconstruction.distillation import LEARNING_RATE, LONGEST
from unbraid.decomposition.shrinking.running import runs
from unbraid.decomposition.shrinking.sources import Source, linear_outputs


def distil(
    small: nn.Module,
    changed: Sequence[str],
    sources: Sequence[Source],
    batches: Sequence[Any],
    scores: Sequence[Sequence[Tensor]],
    steps: int,
) -> None:
    """Train the changed parts of a module in place.

    Args:
        small: the smaller module.
        changed: paths of the parts to train.
        sources: where its scores are.
        batches: inputs.
        scores: scores of the parent, of each batch and source.
        steps: number of Adam steps, one batch each.
    """
    parameters = list({id(p): p for path in changed for p in small.get_submodule(path).parameters()}.values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = Adam(parameters)
    paths = [source.path for source in sources if source.path is not None]
    made = runs(small, cycle(batches), paths, linear_outputs)
    with torch.enable_grad(), closing(made):
        for (seen, results), wanted in zip(islice(made, steps), cycle(scores), strict=False):
            pairs = zip(sources, wanted, strict=True)
            loss = torch.stack([_loss(s, s.read(seen, results), target) for s, target in pairs]).sum()
            optimizer.clear()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, LONGEST)
            optimizer.step(LEARNING_RATE)
    for parameter in parameters:
        parameter.requires_grad_(False)


def _loss(source: Source, given: Tensor, wanted: Tensor) -> Tensor:
    if source.output == "sigmoid":
        return binary_cross_entropy_with_logits(given, torch.sigmoid(wanted))
    if source.output == "softmax" and wanted.shape[-1] > 1:
        classes = wanted.shape[-1]
        return cross_entropy(given.reshape(-1, classes), torch.softmax(wanted, -1).reshape(-1, classes))
    return mse_loss(given, wanted) / wanted.var().clamp(min=1e-12)
