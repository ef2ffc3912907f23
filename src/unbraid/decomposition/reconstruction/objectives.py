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
        losses: (margins of the modules, values to imitate), both (K, M) -> the losses of distillation, (K, M).
        errors: the same arguments -> sizes of the gradients of these losses, (K, M).
        scaled: whether errors and losses are relative to the standard deviation of the values and to their variance.
    """

    probabilities: bool
    wanted: Callable[[Tensor], Tensor]
    losses: Callable[[Tensor, Tensor], Tensor]
    errors: Callable[[Tensor, Tensor], Tensor]
    scaled: bool


def _cross_entropies(given: Tensor, wanted: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(given, wanted, reduction="none")


_OF_CLASSES = Objective(
    True, torch.sigmoid, _cross_entropies, lambda given, wanted: (given.sigmoid() - wanted).abs(), scaled=False
)
_OF_NUMBERS = Objective(
    False,
    torch.clone,
    lambda given, wanted: (given - wanted).square(),
    lambda given, wanted: (given - wanted).abs(),
    scaled=True,
)
OBJECTIVES: Mapping[Task, Objective] = {
    "classification": _OF_CLASSES,
    "labels": _OF_CLASSES,
    "regression": _OF_NUMBERS,
}
