"""What the output layer of a compact module imitates: probabilities of a classifier, or numbers of a regression.

Shapes: K modules, M decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from unbraid.networks.outputs import Task


@dataclass(frozen=True)
class Objective:
    """The target of an output layer.

    Attributes:
        probabilities: whether the rows are fitted to probabilities after the ridge regression to the parent's scores.
        wanted: margins of the parent -> the values to imitate.
        loss: (margins of the modules, values to imitate), both (K, M) -> the loss of distillation.
    """

    probabilities: bool
    wanted: Callable[[Tensor], Tensor]
    loss: Callable[[Tensor, Tensor], Tensor]


def squared_error(given: Tensor, wanted: Tensor) -> Tensor:
    """Mean squared error (K, M), in units of the variance of each of the K numbers."""
    scale = wanted.var(1, correction=0, keepdim=True).clamp(min=1e-12)
    return ((given - wanted).square() / scale).mean()


_OF_CLASSES = Objective(True, torch.sigmoid, binary_cross_entropy_with_logits)
OBJECTIVES: Mapping[Task, Objective] = {
    "classification": _OF_CLASSES,
    "labels": _OF_CLASSES,
    "regression": Objective(False, torch.clone, squared_error),
}
