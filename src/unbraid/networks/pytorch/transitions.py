"""Find the transition scores of a conditional random field (CRF) in a user's module. Shapes: C classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch import Tensor, nn

from unbraid.networks.pytorch.answer import Answer

_NAMED = re.compile("crf|trans(?!f)", re.IGNORECASE)  # of transitions, not of a transformer


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
    """Return whether a module has a square matrix of transition scores.

    It is a parameter or buffer with "transition" in its name, of at least the size of the classes. Own names are found
    for a matrix of the size of the classes: with "trans" or "crf" in its path or class, or with vectors beside it.
    """
    return any(tuple(tensor.shape) == (classes, classes) for tensor in _own_tensors(module, "", classes)) or any(
        "transition" in name.rpartition(".")[2].lower()
        and tensor.dim() == 2
        and tensor.shape[0] == tensor.shape[1] >= classes
        for name, tensor in module.state_dict().items()
        if isinstance(tensor, Tensor)
    )


def _own_tensors(part: nn.Module, path: str, classes: int) -> Iterator[Tensor]:
    """Yield what may be transition scores: tensors of parts that are no layers of torch or of this package."""
    package = type(part).__module__.partition(".")[0]
    if package == "unbraid":
        return
    own = {name: t for name, t in {**part._parameters, **part._buffers}.items() if t is not None}
    called = f"{path} {type(part).__name__}"
    beside = any(tuple(tensor.shape) == (classes,) for tensor in own.values())
    for name, tensor in own.items():
        if package != "torch" and (beside or _NAMED.search(f"{called} {name}")):
            yield tensor
    for name, child in part.named_children():
        yield from _own_tensors(child, f"{path}.{name}", classes)


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
