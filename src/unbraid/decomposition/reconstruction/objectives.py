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
class Steps:
    """How gradient steps are taken; see :mod:`unbraid.decomposition.reconstruction.joint_distillation`.

    Attributes:
        batch: examples of a module in a step.
        rate: learning rate of the first step.
        falls: whether the rate falls to 0 along a cosine; otherwise it stays.
        even: share of the examples that are drawn evenly, in (0, 1]; the others are drawn by the error of the module.
    """

    batch: int
    rate: float
    falls: bool
    even: float


@dataclass(frozen=True)
class Objective:
    """The target of an output layer.

    Attributes:
        probabilities: whether the rows are fitted to probabilities after the ridge regression to the parent's scores.
        wanted: margins of the parent -> the values to imitate.
        losses: (margins of the modules, values to imitate), both (K, M) -> the losses of distillation, (K, M).
        errors: the same arguments -> sizes of the gradients of these losses, (K, M).
        scaled: whether errors and losses are relative to the standard deviation of the values and to their variance.
        steps: how the gradient steps of distillation are taken.
    """

    probabilities: bool
    wanted: Callable[[Tensor], Tensor]
    losses: Callable[[Tensor, Tensor], Tensor]
    errors: Callable[[Tensor, Tensor], Tensor]
    scaled: bool
    steps: Steps


def _cross_entropies(given: Tensor, wanted: Tensor) -> Tensor:
    return binary_cross_entropy_with_logits(given, wanted, reduction="none")


# Chosen on held-out parts of the benchmark's data: CLINC, Brown and Toxic, LSTM with one layer, vanilla RNN with four.
_OF_CLASSES = Objective(
    probabilities=True,
    wanted=torch.sigmoid,
    losses=_cross_entropies,
    errors=lambda given, wanted: (given.sigmoid() - wanted).abs(),
    scaled=False,
    steps=Steps(batch=64, rate=2e-3, falls=True, even=0.3),
)
# Chosen on the parts for choosing of three forecasters: sunspots with an LSTM, CO2 with a GRU, El Nino with an RNN.
_OF_NUMBERS = Objective(
    probabilities=False,
    wanted=torch.clone,
    losses=lambda given, wanted: (given - wanted).square(),
    errors=lambda given, wanted: (given - wanted).abs(),
    scaled=True,
    steps=Steps(batch=512, rate=3e-3, falls=False, even=1.0),
)
OBJECTIVES: Mapping[Task, Objective] = {
    "classification": _OF_CLASSES,
    "labels": _OF_CLASSES,
    "regression": _OF_NUMBERS,
}
