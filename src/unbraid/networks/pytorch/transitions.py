"""Find the transition scores of a conditional random field (CRF) in a user's module. Shapes: C classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from unbraid.networks.pytorch.answer import Answer


class Transitions(NamedTuple):
    """Scores of a CRF beside its emissions.

    Attributes:
        matrix: score of each class (column) after each class (row), (C, C).
        start: score of each class at the first timestep, (C,).
        end: score of each class at the last timestep, (C,).
    """

    matrix: np.ndarray
    start: np.ndarray
    end: np.ndarray


def has_transitions(module: nn.Module, classes: int) -> bool:
    """Return whether a module has a square matrix of transition scores, of at least the size of its classes."""
    return any(
        "transition" in name.rpartition(".")[2].lower()
        and tensor.dim() == 2
        and tensor.shape[0] == tensor.shape[1] >= classes
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor)
    )


def without_paths(answer: Answer | None, module: nn.Module, classes: int) -> Answer | None:
    """Return None for decisions of a module with a CRF: its paths may equal the argmax of emissions by chance only."""
    if answer is not None and answer.relation == "argmax" and has_transitions(module, classes):
        return None
    return answer


def transitions_of(module: nn.Module, classes: int) -> Transitions | None:
    """Return the scores of a part that names them as the package pytorch-crf does; None if there is no such part."""
    for part in module.modules():
        own = [getattr(part, name, None) for name in ("transitions", "start_transitions", "end_transitions")]
        shapes = [tuple(tensor.shape) if isinstance(tensor, Tensor) else () for tensor in own]
        if shapes == [(classes, classes), (classes,), (classes,)]:
            return Transitions(*(t.detach().double().cpu().numpy() for t in own if isinstance(t, Tensor)))
    return None
